"""The operator as one service: journal, engine, watcher, batcher and API together, from its start to its end.

Everything runs on one event loop; commands go through the sequencer there, all that wait in one group with one sync of
the disk. Only what takes long (the node's answers, witnesses, proofs) runs in threads. Nothing is kept but in journal
and store, so that a kill at any moment is a stop like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

import uvicorn
from eth_account import Account
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception

from proofbook.chain.client import Exchange, ExchangeConfig, TokenInfo
from proofbook.chain.fees import GWEI
from proofbook.chain.provider import CarefulProvider
from proofbook.operator import api_models as m
from proofbook.operator import commands as c
from proofbook.operator import events as ev
from proofbook.operator.api import create_app
from proofbook.operator.api_format import format_batch, format_market, format_plan
from proofbook.operator.background import Background
from proofbook.operator.batcher import Batcher, BatcherOptions, CrashAt, Frozen
from proofbook.operator.clock import Clock
from proofbook.operator.codes import OperatorError
from proofbook.operator.condition import Condition
from proofbook.operator.engine import EngineConfig
from proofbook.operator.l1 import L1, FreezeSeen, RpcUnavailable, retry
from proofbook.operator.limits import Limits
from proofbook.operator.memory import relax_collector
from proofbook.operator.native import use_native
from proofbook.operator.proving import BatchProver
from proofbook.operator.resubmit import Resubmission, Resubmitted
from proofbook.operator.sequencer import Sequencer
from proofbook.operator.settings import JOURNAL, Settings, check_times, load_api_token, load_operator_key, load_settings
from proofbook.operator.snapshots import SNAPSHOT, Snapshots
from proofbook.operator.store import BATCHES, BatchRecord, BatchStore, StoreError
from proofbook.operator.views import Views
from proofbook.operator.watcher import Watcher
from proofbook.operator.web import make_config
from proofbook.operator.workers import ProverPool
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.messages import domain_of
from proofbook.protocol.state import State
from proofbook.protocol.table import FEE_ACCOUNT, HEADER_LAYOUT, HEADER_WORDS
from proofbook.protocol.words import unpack
from proofbook.prover.workspace import Progress, silent

log = logging.getLogger(__name__)
URL_FILE: Final = "operator.url"
WORK: Final = "work"
RPC_TIMEOUT_S: Final = 30
TICK_S: Final = 60
FREEZE: Final = "freeze"
TOKENS_S: Final = 30.0
GROUP: Final = 1_000
"""Commands that are done in one turn of the loop, with one sync of the disk."""
"""Seconds between looks at the contract's list of tokens."""


class WrongExchange(OperatorError):
    """The contract, the settings and the operator's key do not fit together (code ``wrong_exchange``)."""

    code: ClassVar[str] = "wrong_exchange"


class Operator:
    """A whole operator. Construct it, `start` it on a running loop, and `close` it.

    Parameters
    ----------
    directory : Path
        See `proofbook.operator.settings`.
    settings : Settings, optional
        Default: those of the directory.
    crash_at : callable, optional
        Fault injection, see `proofbook.operator.batcher.CrashAt`.
    progress : Progress
        Told how far missing circuits and keys are.

    Raises
    ------
    SettingsError, WrongExchange, KeysMismatch
        When the directory, the contract and the keys do not fit together.
    JournalError, StoreError, StateDiverged
        When what was kept can't be gone on with.
    ProverError, ChainError
        From keys and chain.
    """

    def __init__(
        self,
        directory: Path,
        settings: Settings | None = None,
        crash_at: CrashAt = lambda stage: None,
        progress: Progress = silent,
    ) -> None:
        self.directory = directory
        self.settings = settings or load_settings(directory)
        self.api_token = load_api_token(directory)
        verify = use_native()
        try:
            exchange, config = self._connect()
            self.chain_id: int = exchange.w3.eth.chain_id
            tokens = exchange.tokens()
        except (Web3Exception, RequestException, TypeError) as error:
            raise RpcUnavailable(f"no sensible answer from {self.settings.rpc_url}: {str(error)[:300]}") from error
        self._note_tokens(tokens)
        self.domain = domain_of(self.chain_id, exchange.address)
        preset, sizes = self.settings.get_preset(), config.sizes
        self._prover = BatchProver(preset, sizes, self.chain_id, exchange.address, self.settings.backend, progress)
        self._prover.check_keys(exchange, config)
        engine_config = EngineConfig(self.domain, preset, self.settings.get_markets(), sizes, self.settings.margin_s)
        self.views = Views()
        listeners, gate = (self.views.process,), Limits(self.settings)
        self._sequencer = Sequencer(engine_config, directory / JOURNAL, verify, listeners, gate)
        self.engine = self._sequencer.engine
        self._sizes, self._exchange = sizes, exchange
        try:
            self.store = BatchStore(directory / BATCHES, f"{self.chain_id}:{exchange.address.lower()}")
            try:
                self._compose(exchange, State(preset), crash_at, config.max_lag)
            except BaseException:
                self.store.close()
                raise
        except BaseException:
            self._sequencer.close()
            raise
        self._error: OperatorError | ProofbookError | None = None
        self.background = Background(self.stop, lambda: self._error is not None, self.settings.poll_s)
        self.clock = Clock(self.settings.clock == "chain")
        window, waits = config.request_window, self.background.trouble
        self.condition = Condition(self.clock, self.engine, self.store, window, waits)
        self._waiting: list[tuple[c.Command, asyncio.Future[tuple[ev.Event, ...]]]] = []
        self._pending_since: float | None = None
        self._accounts_of: dict[int, set[int]] = {}
        self._accounts_found = 0
        self._tokens_due = 0.0

    def _connect(self) -> tuple[Exchange, ExchangeConfig]:
        """Return the contract with the operator's key, checked against the settings."""
        account = Account.from_key(load_operator_key(self.directory))
        # One attempt: `retry` makes more, and says so; web3's own would be silent and multiply with these.
        patience = {"timeout": RPC_TIMEOUT_S}
        w3 = Web3(CarefulProvider(self.settings.rpc_url, patience, exception_retry_configuration=None))
        exchange = Exchange(w3, self.settings.contract, account)
        config, preset = exchange.config(), self.settings.get_preset()
        if (config.account_depth, config.order_depth) != (preset.account_depth, preset.order_depth):
            raise WrongExchange(f"the contract was not deployed with preset {preset.name}: set the right one")
        if exchange.operator() != account.address:
            raise WrongExchange(
                f"the contract's operator is {exchange.operator()}, the key here is {account.address}'s"
            )
        check_times(self.settings, config.max_lag, config.request_window)
        self._account = account
        return exchange, config

    def _compose(self, exchange: Exchange, genesis: State, crash_at: CrashAt, max_lag: int) -> None:
        s = self.settings
        self._l1 = L1(exchange, self._account, self.chain_id, s.max_gas_price_gwei * GWEI)
        options = BatcherOptions(
            s.prove_attempts,
            s.rpc_attempts,
            s.confirmations,
            s.poll_s,
            max_lag,
            s.start_block,
            depth=s.get_depth(),
        )
        pool = ProverPool(s.backend, s.prover_workers, s.prover_threads, s.prove_timeout_s)
        self.batcher = Batcher(
            self.engine,
            self.do,
            self.store,
            self._l1,
            self._prover,
            pool,
            genesis,
            self._sizes,
            self.domain,
            self.directory / WORK,
            options,
            crash_at,
            Snapshots(self.directory / SNAPSHOT),
        )
        self.watcher = Watcher(
            self.engine, self.do, self.store, exchange, s.confirmations, s.start_block, s.rpc_attempts
        )

    # --- life

    async def start(self, background: bool = True) -> None:
        """Take in what happened on L1 meanwhile, and begin to work.

        Parameters
        ----------
        background : bool
            Watch and settle by itself; without that, only `poll` and `flush` do.
        """
        await self.batcher.resume()
        await self.poll()
        if background:
            self.background.repeat(self._watch, self.settings.poll_s)
            self.background.repeat(self._batch, 0.0)

    async def resubmit(self) -> Resubmitted:
        """Send lost batches again, instead of `start`, and close the files; errors as `Resubmission.run`."""
        used = self.engine.registry.next_unconfirmed
        try:
            return await Resubmission(self.store, self._l1, used, self._sizes, self.settings).run()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop working and close the files. What was under way is gone on with at the next start."""
        await self.background.close()
        await self.batcher.close()
        self.abandon()

    def abandon(self) -> None:
        """End the provers and close the files, and nothing else, as a kill would."""
        self.batcher.abandon()
        self._sequencer.close()
        self.store.close()

    def stop(self, error: ProofbookError) -> None:
        """Take no more orders, because of this error."""
        if self._error is None:
            log.critical("the operator stops: %s", error)
            self._error = error
            self.background.trouble.pop(FREEZE, None)

    async def poll(self) -> None:
        """Look at L1 once: time, frozen or not, requests. What is wrong is told also where the node is away."""
        try:
            await self._poll()
        finally:
            self.condition.tell()

    async def _poll(self) -> None:
        attempts = self.settings.rpc_attempts
        self.clock.note(*await retry(attempts, self._l1.get_head))
        if not self.engine.frozen:
            await self._look_for_freeze()
        if not (self.engine.frozen or self._is_freeze_seen()):
            await self.watcher.poll()
        self._tick()

    async def _look_for_freeze(self) -> None:
        """Take no orders once a freeze is seen, and freeze the engine, for good, when it has its confirmations."""
        s = self.settings
        if not await retry(s.rpc_attempts, self._exchange.is_frozen):
            self.background.trouble.pop(FREEZE, None)
            return
        self.background.trouble[FREEZE] = FreezeSeen.code
        confirmed = await retry(s.rpc_attempts, self._l1.is_frozen, s.confirmations, s.start_block)
        if confirmed and not await self._is_mined():
            await self.do(c.Freeze())
            self.stop(Frozen("the exchange is frozen on L1"))

    def _is_freeze_seen(self) -> bool:
        return FREEZE in self.background.trouble

    async def _is_mined(self) -> bool:
        """Tell whether the chain has the batch in flight: then it counts, and is settled before the engine freezes."""
        in_flight = self.engine.settlement.in_flight
        if not in_flight:
            return False
        return await retry(self.settings.rpc_attempts, self._exchange.batch_number) >= in_flight[0].plan.number

    def _tick(self) -> None:
        """Let time pass in the engine where that can mean something: orders expire."""
        now = self.get_now()
        if now > self.engine.now and (any(self.views.open_of.values()) or now >= self.engine.now + TICK_S):
            self._sequencer.submit([], now)

    async def _watch(self) -> None:
        await self.poll()
        if time.monotonic() >= self._tokens_due:
            self._note_tokens(await retry(self.settings.rpc_attempts, self._read_tokens))
            self._tokens_due = time.monotonic() + TOKENS_S

    def _read_tokens(self) -> list[TokenInfo]:
        """Return the contract's tokens: those known already if nobody added one, for they never change."""
        known = self._tokens
        count = self._exchange.token_count()
        if known and count == len(known) and self._exchange.token(count).address == known[-1].address:
            return known
        return self._exchange.tokens()

    def _note_tokens(self, tokens: list[TokenInfo]) -> None:
        s, self._tokens = self.settings, tokens
        self._tokens_out = [
            m.TokenOut(t.id, s.get_symbol(t.id), t.address.lower(), str(t.quantum), s.get_decimals(t.id))
            for t in tokens
        ]

    async def _batch(self) -> None:
        """Have settled what is due: enough, or waiting long enough. The batches in flight move on in any case."""
        if waiting := self.batcher.count_waiting():
            since = self._pending_since = self._pending_since or time.monotonic()
            late = time.monotonic() - since >= self.settings.batch_interval_s
            if late or waiting >= self.settings.min_actions:
                self.batcher.want_all()
                waiting = 0
        if not waiting:
            self._pending_since = None
        await self.batcher.step()

    # --- commands

    async def do(self, command: c.Command) -> tuple[ev.Event, ...]:
        """Do a command durably. Commands that come in the same turn of the loop share one sync of the disk."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[ev.Event, ...]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._do_waiting)
        self._waiting.append((command, future))
        return await future

    def _do_waiting(self) -> None:
        waiting, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        if self._waiting:  # whoever asks or waits for L1 has a turn in between
            asyncio.get_running_loop().call_soon(self._do_waiting)
        try:
            receipts = self._sequencer.submit([command for command, _ in waiting], self.get_now())
        except Exception as error:
            stopped = error if isinstance(error, ProofbookError) else OperatorError(f"{type(error).__name__}: {error}")
            if stopped is not error:
                log.exception("unexpected failure")
            self.stop(stopped)
            for _, future in waiting:
                if not future.done():
                    future.set_exception(stopped)
            return
        for (_, future), receipt in zip(waiting, receipts, strict=True):
            if not future.done():  # its client may have gone
                future.set_result(receipt.events)

    async def submit(self, command: c.SignedCommand) -> Sequence[ev.Event]:
        """See `proofbook.operator.api.Service`."""
        return await self.do(command)

    async def flush(self, wait: bool = True) -> list[int]:
        """Look at L1 and settle everything pending; returns the batches' numbers, none when not waited for.

        Raises
        ------
        OperatorError
            As `Batcher.settle_all`; then the operator has stopped, unless it is `RpcUnavailable`.
        """
        task = self.background.begin(self._flush)
        # A client that goes away does not break a batch off.
        return await asyncio.shield(task) if wait else []

    async def _flush(self) -> list[int]:
        await self.poll()
        return await self.batcher.settle_all(self._is_driven)

    def _is_driven(self) -> bool:
        """Tell whether the background settles; raises what stopped the operator: then nobody may go on."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self.background.is_running()

    # --- what the API asks

    @property
    def stopped(self) -> m.ErrorBody | None:
        """See `proofbook.operator.api.Service`."""
        if self._error is not None:
            return m.ErrorBody(self._error.code, str(self._error), "see the operator's log")
        if self._is_freeze_seen():
            # Nothing has stopped, but what is matched now would be void if it stays.
            text = "the exchange is frozen in the newest block"
            return m.ErrorBody(FreezeSeen.code, text, "wait until the freeze has its confirmations, or is gone")
        return None

    def get_now(self) -> int:
        """Return the time that orders are judged by, unix seconds."""
        return self.clock.get_now(self.engine.now)

    def get_info(self) -> m.Info:
        """See `proofbook.operator.api.Service`."""
        s, manifest = self.settings, self._prover.exit_artifacts.manifest
        return m.Info(
            chain_id=self.chain_id,
            contract=self._exchange.address.lower(),
            domain=str(self.domain),
            preset=s.preset,
            time=self.get_now(),
            fee_account=FEE_ACCOUNT,
            margin_seconds=s.margin_s,
            slots=s.get_preset().slots,
            root=f"0x{self.batcher.state.root:064x}",
            batches=self.batcher.number,
            tokens=self._tokens_out,
            markets=[format_market(market) for market in s.markets],
            exit_artifacts=m.ExitArtifacts(manifest.zkey_sha256, manifest.wasm_sha256),
        )

    def get_health(self) -> m.Health:
        """See `proofbook.operator.api.Service`."""
        in_flight, deadline = self.engine.settlement.in_flight, None
        try:
            deadline = self.condition.get_oldest_deadline()
        except StoreError as error:
            self.stop(error)
        return m.Health(
            status="ok" if self.stopped is None else "stopped",
            time=self.get_now(),
            block=max(self.watcher.block, 0),
            next_unconfirmed=str(self.engine.registry.next_unconfirmed),
            next_request=str(self.engine.registry.next_request),
            pending_batch=in_flight[0].plan.number if in_flight else None,
            in_flight=[m.BatchInFlight(number, stage) for number, stage in self.batcher.get_stages()],
            oldest_deadline=deadline,
            trouble=self.condition.find_trouble(deadline),
            error=self.stopped,
        )

    def get_batches(self, limit: int) -> list[m.BatchOut]:
        """See `proofbook.operator.api.Service`."""
        records = self.store.list_batches(limit)
        numbers = {record.number for record in records}
        sealed = [s.plan for s in self.engine.settlement.in_flight if s.plan.number not in numbers]
        found = [format_plan(plan) for plan in reversed(sealed)]
        return [*found, *map(_format_record, records)][:limit]

    def get_batch(self, number: int) -> m.BatchOut | None:
        """See `proofbook.operator.api.Service`."""
        if (record := self.store.get_batch(number)) is not None:
            return _format_record(record)
        plan = self.engine.get_plan(number)
        return None if plan is None else format_plan(plan)

    def get_accounts_of(self, owner: int) -> list[int]:
        """See `proofbook.operator.api.Service`."""
        for index in self.views.opened[self._accounts_found :]:
            state = self.engine.get_account(index)
            self._accounts_of.setdefault(state.owner if state else 0, set()).add(index)
        self._accounts_found = len(self.views.opened)
        return sorted(self._accounts_of.get(owner, ()))

    def get_exit_file(self, kind: str) -> Path:
        """See `proofbook.operator.api.Service`."""
        artifacts = self._prover.exit_artifacts
        return artifacts.zkey if kind == "zkey" else artifacts.wasm

    def get_first_unserved(self) -> int:
        """See `proofbook.operator.api.Service`."""
        return self.condition.get_first_unserved()


def _format_record(record: BatchRecord) -> m.BatchOut:
    # Of the header alone: anybody may ask, for hundreds at once, and orders wait meanwhile.
    _, packed, _, new_root = (int(record.words[64 * k : 64 * (k + 1)], 16) for k in range(HEADER_WORDS))
    head = unpack(HEADER_LAYOUT, packed)
    return format_batch(record, head["n_requests"], head["n_actions"], head["n_fees"], new_root)


# --- running


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process before the operator is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on the first signal, at once on a second interrupt."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; OSError says what is wrong with it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, answers wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    # From here on a client that comes early waits; it would be refused until the server is up.
    listener.listen(128)
    return listener


async def serve(
    directory: Path, on_ready: Callable[[str], None] = lambda url: None, progress: Progress = silent
) -> None:
    """Run an operator until SIGINT or SIGTERM, and close it cleanly.

    Parameters
    ----------
    directory : Path
        The operator's directory.
    on_ready : callable
        Called with the API's URL once it listens; it stands in the directory's ``operator.url`` as well.
    progress : Progress
        Told how far missing circuits and keys are.

    Raises
    ------
    ProofbookError
        As `Operator`.
    OSError
        When the address can't be listened on.
    """
    operator = Operator(directory, progress=progress)
    try:
        listener = bind(operator.settings.host, operator.settings.port)
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        await operator.start()
        relax_collector()
        server = _Server(make_config(create_app(operator)))
        part = directory / f"{URL_FILE}.part"
        part.write_text(url + "\n", encoding="utf-8")
        part.replace(directory / URL_FILE)  # whoever waits for it never reads half of it
        log.info("operator of %s on chain %d at %s", operator.settings.contract, operator.chain_id, url)
        on_ready(url)
        await server.serve(sockets=[listener])
    finally:
        (directory / URL_FILE).unlink(missing_ok=True)
        await operator.close()


def run(directory: Path, on_ready: Callable[[str], None] = lambda url: None, progress: Progress = silent) -> None:
    """Run an operator on a loop of its own, with its log on standard error; see `serve`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(serve(directory, on_ready, progress))
