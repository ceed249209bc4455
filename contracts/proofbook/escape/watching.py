"""The watch itself: looks at the chain again and again, tells what changed, and leaves where it was asked to."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from proofbook.escape.artifacts import check_exit_artifacts
from proofbook.escape.batch_proofs import BatchProofs
from proofbook.escape.errors import ArtifactsMismatch, ArtifactsMissing, WatchStopped
from proofbook.escape.leave import leave
from proofbook.escape.memory import load_memory, save_memory
from proofbook.escape.owned import Owned, next_step, owned_of
from proofbook.escape.readings import gas_to_leave, keys_hash, owed, queued_at, trading_keys
from proofbook.escape.resort import last_resort
from proofbook.escape.session import Done, Escape
from proofbook.escape.votes import Votes
from proofbook.escape.waiting import Waiting
from proofbook.escape.watch import (
    DOUBTFUL,
    EXIT_CODES,
    EXIT_ESCAPED,
    Alert,
    Limits,
    Memory,
    Severity,
    Sight,
    is_word,
    judge,
    reasons_of,
    worst,
)
from proofbook.escape.webhook import Webhook
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.messages import parse_address
from proofbook.protocol.printable import printable
from proofbook.verifier.checkpoint import delete
from proofbook.verifier.code import own_build
from proofbook.verifier.contract import Exchange, Reader, vault_of
from proofbook.verifier.errors import (
    BuildUnavailable,
    NotAnExchange,
    RpcMalformed,
    RpcRefused,
)
from proofbook.verifier.history import Batch, Ledger, Progress
from proofbook.verifier.replay import exit_problems
from proofbook.verifier.rpc import Rpc


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How to watch.

    Attributes
    ----------
    once : bool
        Look once and end, with the exit code that says what was found.
    interval : float
        Seconds between two looks.
    limits : Limits
        Thresholds of alerts.
    webhook : str
        Address that alerts are posted to; empty for none.
    escape : bool
        Whether to leave by itself.
    confirm : int
        Looks in a row that must see a reason before it leaves; one is enough with `once`.
    proofs_from : int
        The first batch whose proof is checked.
    build : bool
        Whether to compare the contract's code with what this checkout compiles to.
    trust_env : bool
        Whether the environment may name a proxy.
    """

    once: bool = False
    interval: float = 30.0
    limits: Limits = field(default_factory=Limits)
    webhook: str = ""
    escape: bool = False
    confirm: int = 2
    proofs_from: int = 0
    build: bool = True
    trust_env: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Which exchange is watched, for whom, by what means.

    Attributes
    ----------
    rpc : sequence of str
        Nodes.
    contract : str
        The exchange.
    account : LocalAccount or None
        The key that an escape sends with.
    owner : str
        Whose accounts are watched; empty for the key's, or nobody's.
    artifacts : Path or None
        Folder of the exit artifacts.
    first_block : int
        Block of the deployment, or any before.
    cache : Path or None
        Where checkpoints and the watch's memory are kept.
    chain_id : int
        The exchange's chain; 0 for the one seen first.
    """

    rpc: Sequence[str]
    contract: str
    account: LocalAccount | None = None
    owner: str = ""
    artifacts: Path | None = None
    first_block: int = 0
    cache: Path | None = None
    chain_id: int = 0


class Watch:
    """A watch over one exchange.

    Parameters
    ----------
    place : Place
        What is watched.
    options : WatchOptions
        How.
    out : callable
        Given every change as a JSON object, when it is seen.
    progress : Progress
        Told the stages.
    stop : threading.Event
        Set to end it.

    Raises
    ------
    WebhookRefused, RpcUnavailable, InvalidValue
        For malformed addresses.
    """

    def __init__(
        self,
        place: Place,
        options: WatchOptions,
        out: Callable[[dict[str, Any]], None],
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self.place, self.options = place, options
        self._out, self._progress, self._stop = out, progress, stop
        rpc = Rpc(place.rpc, trust_env=options.trust_env, pause=self._pause, tell=progress)
        self._owner = place.owner or (place.account.address if place.account is not None else "")
        # Checkpoints of its own: what others rebuilt had no proofs checked, or another memory knows of bad ones.
        whose = f"{parse_address(self._owner):040x}" if self._owner else "all"
        cache = None if place.cache is None else place.cache / f"watch-{whose}"
        which = (rpc, place.contract, place.account, place.artifacts, place.first_block)
        # What was sent, asked for and seen of the chain is the same for all commands.
        self.escape = Escape(*which, self._reads, cache, self._on_batch, place.chain_id, place.cache)
        if self._owner:
            self.escape.include(self._owner)
        self._webhook = Webhook(options.webhook, progress, options.trust_env, self._pause) if options.webhook else None
        self._file = None if cache is None else cache / f"{self.escape.address}.json"
        self.memory = self._remembered()
        self._proofs = BatchProofs(rpc, self.escape.address, place.first_block, progress)
        self._votes = Votes(len(rpc.urls))
        self._code_known: tuple[str, bool | None] | None = None
        self._artifacts_seen: tuple[object, str] | None = None
        self._raised: dict[tuple[str, str, Severity], Alert] = {}
        self._queued: tuple[tuple[int, int], int] | None = None
        self._alarmed = 0
        self._has_begun = False
        self._has_looked = False

    def _reads(self, text: str) -> None:
        """Tell how far a rebuild is; every later look reads a few blocks, and that is no news."""
        if not (self._has_looked and text.startswith("read block")):
            self._progress(text)

    def _remembered(self) -> Memory:
        """Return what earlier runs saw. Proofs that none of them checked are checked now, whatever was kept."""
        if self._file is None:
            return Memory(proofs_from=self.options.proofs_from)
        memory = load_memory(self._file, self._progress)
        if not memory.seen_at or self.options.proofs_from < memory.proofs_from:
            for path in self._file.parent.glob(f"*-{self.escape.address}/*.ledger"):
                delete(path, self._progress)
            memory = replace(memory, proofs_from=self.options.proofs_from)
        return memory

    # --- one look

    def look(self) -> tuple[Alert, ...]:
        """Look at the chain, tell what changed, and return all that is worth an alert now.

        Raises
        ------
        NotAnExchange
            If there is none at the address, and never was.
        """
        sight = self._sight()
        self._has_looked = self._has_looked or sight.exchange is not None
        alerts, self.memory = judge(sight, self.memory, self.options.limits)
        self._remember()
        self._tell(sight, alerts)
        if is_word(alerts):
            # Where nothing was seen, what was seen before is neither confirmed nor over.
            self._alarmed = self._alarmed + 1 if reasons_of(alerts) else 0
            self._votes.note(self.escape.rpc.url, bool(reasons_of(alerts)))
        if self._is_doubtful(alerts):
            self.escape.rpc.advance()
        return alerts

    def _is_doubtful(self, alerts: tuple[Alert, ...]) -> bool:
        """Tell whether it may be the node, this one or the one before: where there are several, another is next."""
        return self._votes.is_open or any(alert.code in DOUBTFUL for alert in alerts)

    def _sight(self) -> Sight:
        self.escape.forget()
        now = int(time.time())
        try:
            return replace(self._seen(), clock=now)
        except WatchStopped:
            raise
        except NotAnExchange as error:
            if not self.memory.seen_at:
                raise
            return Sight(now, now, str(error))
        except ProofbookError as error:
            # Whatever a node's answers lead to, the watch goes on.
            return Sight(now, now, str(error))

    def _seen(self) -> Sight:
        escape, bad = self.escape, self.memory.bad_proofs
        problems, exchange, ledger = escape.problems, escape.exchange, escape.history
        self._read_again(exchange, bad)
        reader = Reader(escape.rpc, exchange.address, exchange.block)
        code = escape.rpc.code(exchange.address, exchange.block)
        own = owned_of(exchange, ledger, self._owner) if self._owner else None
        sender = self.place.account.address if self.place.account is not None else self._owner
        gas, gas_needed = gas_to_leave(escape.rpc, exchange, own, sender) if own is not None else (0, 0)
        oldest = ledger.requests.get(exchange.served)
        return Sight(
            now=escape.now(),
            exchange=exchange,
            window=max(1, reader.number("requestWindow")),
            last_batch=ledger.timestamp,
            oldest=oldest,
            queued_at=self._queued_at(exchange, ledger) if oldest is not None else 0,
            problems=problems,
            exits=tuple(exit_problems(ledger)),
            vault={token.id: self._held(exchange, token.id) for token in exchange.tokens},
            owed=owed(exchange, ledger),
            code_hash=hashlib.sha256(code).hexdigest(),
            keys_hash=keys_hash(exchange),
            code_known=self._known(code),
            own=own,
            own_keys=trading_keys(ledger, own),
            artifacts=self._artifacts(exchange, own),
            gas=gas,
            gas_needed=gas_needed,
        )

    def _held(self, exchange: Exchange, token_id: int) -> int | None:
        token = next(token for token in exchange.tokens if token.id == token_id)
        try:
            return vault_of(self.escape.rpc, exchange, token)
        except (RpcRefused, RpcMalformed):
            return None

    def _known(self, code: bytes) -> bool | None:
        """Tell whether the code is our own build's; compiled once, compared when it is another one than before."""
        digest = hashlib.sha256(code).hexdigest()
        if self._code_known is None or self._code_known[0] != digest:
            known: bool | None = None
            if self.options.build:
                try:
                    self._progress("compiling the contract, to compare")
                    known = own_build().matches(code)
                except BuildUnavailable as error:
                    self._progress(f"the contract's code is not compared: {error}")
            self._code_known = (digest, known)
        return self._code_known[1]

    def _artifacts(self, exchange: Exchange, own: Owned | None) -> str:
        folder = self.place.artifacts
        if own is None or folder is None or not own.accounts:
            return ""
        try:
            state = [(p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.glob("exit.*"))]
        except OSError:
            state = []
        if self._artifacts_seen is None or self._artifacts_seen[0] != state:
            told = ""
            try:
                check_exit_artifacts(folder, exchange)
            except (ArtifactsMissing, ArtifactsMismatch) as error:
                told = str(error)
            except OSError as error:
                told = f"they can't be read: {error.strerror}"
            self._artifacts_seen = (state, told)
        return self._artifacts_seen[1]

    def _queued_at(self, exchange: Exchange, ledger: Ledger) -> int:
        """Return when the oldest request was queued, looked for once for each."""
        key = (exchange.served, ledger.batch_block)
        if self._queued is None or self._queued[0] != key:
            self._queued = (key, queued_at(self.escape.rpc, exchange, ledger, self.place.first_block))
        return self._queued[1]

    def _on_batch(self, batch: Batch) -> None:
        if batch.number < self.options.proofs_from:
            return
        problem = self._proofs.check(batch)
        bad = {number: text for number, text in self.memory.bad_proofs.items() if number != batch.number}
        at = dict(self.memory.bad_at)
        if problem is not None:
            bad[batch.number], at[batch.number] = problem.text, (batch.block, batch.page.header.new_root)
        self._remember_bad(bad, at)

    def _read_again(self, exchange: Exchange, bad: Mapping[int, str]) -> None:
        """Have bad proofs that an earlier look saw read again: this look may be another node's."""
        numbers = [n for n in bad if n in self.memory.bad_proofs and n <= exchange.batch_number]
        good = self._proofs.again(exchange, {n: self.memory.bad_at.get(n) for n in numbers})
        left = {number: text for number, text in self.memory.bad_proofs.items() if number not in good}
        self._remember_bad(left, self.memory.bad_at)

    def _remember_bad(self, bad: Mapping[int, str], at: Mapping[int, tuple[int, int]]) -> None:
        at = {number: place for number, place in at.items() if number in bad}
        if (bad, at) != (self.memory.bad_proofs, self.memory.bad_at):
            self.memory = replace(self.memory, bad_proofs=bad, bad_at=at)
            # At once: after a checkpoint this batch is not read with the others again.
            self._remember()

    def _remember(self) -> None:
        if self._file is not None:
            save_memory(self._file, self.memory, self._progress)

    # --- telling

    def _tell(self, sight: Sight, alerts: tuple[Alert, ...]) -> None:
        lasting = {(a.code, a.about, a.severity): a for a in alerts if not a.is_event}
        news = [("event", alert) for alert in alerts if alert.is_event]
        news += [("raised", alert) for key, alert in lasting.items() if key not in self._raised]
        # What can't be seen is not over.
        gone = {} if sight.exchange is None else self._raised
        news += [("cleared", alert) for key, alert in gone.items() if key not in lasting]
        self._raised = {**self._raised, **lasting} if sight.exchange is None else lasting
        self._emit(sight.clock, news)

    def _emit(self, now: int, news: list[tuple[str, Alert]]) -> None:
        rows = [{"time": now, "state": state, **alert.as_json()} for state, alert in news]
        for row in rows:
            self._out(row)
        if self._webhook is not None:
            # Also without news: what did not arrive is still to be sent.
            self._webhook.send({"source": "proofbook-watch", "contract": self.escape.address}, rows)

    def _event(self, severity: Severity, code: str, text: str) -> None:
        self._emit(int(time.time()), [("event", Alert(code, severity, text, is_event=True))])

    # --- again and again

    def run(self) -> int:
        """Watch until it is told to stop, looked once, or has left; returns the exit code."""
        while True:
            alerts = self._look_at_any() if self.options.once else self.look()
            needed = 0 if self.options.once else max(1, self.options.confirm)
            reasons = reasons_of(alerts)
            if self.options.escape and reasons and self._alarmed >= needed and self._leave(reasons):
                return EXIT_ESCAPED
            if self.options.once:
                return EXIT_CODES[worst(alerts)]
            if self._stop.wait(self.options.interval):
                return 0

    def _look_at_any(self) -> tuple[Alert, ...]:
        """Look once, and where it may be the node, at the others too; returns what most of them say."""
        told: dict[bool, list[tuple[Alert, ...]]] = {True: [], False: []}
        for _ in self.escape.rpc.urls:
            alerts = self.look()
            if is_word(alerts):
                told[bool(reasons_of(alerts))].append(alerts)
            if not self._is_doubtful(alerts):
                break
        most = told[len(told[True]) > len(told[False])]
        return (most or [alerts])[-1]

    def _leave(self, reasons: list[str]) -> bool:
        """Leave, and tell whether all that is owned is out; what fails is tried again at the next look."""
        try:
            what = owned_of(self.escape.exchange, self.escape.history, self._owner)
            if self.escape.problems:
                last_resort(self.escape, what, self._step)
                return False
            if next_step(what, self.escape.now()).name != "done":
                self._event(Severity.CRITICAL, "escape_started", f"leaving, because of {', '.join(reasons)}")
                self._has_begun = True
            elif not self._has_begun:
                return False
            # Also where nothing is left to do: it has to stay so while blocks come.
            waiting = Waiting(self._event, self._progress)
            leave(self.escape, self._owner, self.options.interval, self._step, waiting, self._pause)
        except WatchStopped:
            raise
        except (ProofbookError, OSError) as error:
            self._event(Severity.CRITICAL, "escape_failed", f"{error}; it is tried again"[:1000])
            return False
        self._event(Severity.INFO, "escaped", "all that was yours is at your address")
        return True

    def _step(self, done: Done) -> None:
        told = {name: value for name, value in done.as_json().items() if name != "step"}
        words = ", ".join(f"{name} {value}" for name, value in told.items())
        self._event(Severity.INFO, "escape_step", f"{done.step.name}: {words}")

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise WatchStopped("told to stop", "start it again to go on")


def watch(
    place: Place,
    options: WatchOptions,
    as_json: bool,
    say: Progress,
    echo: Callable[[str], None],
) -> int:
    """Watch until SIGINT or SIGTERM, or once; returns the exit code.

    Parameters
    ----------
    place, options
        As for `Watch`.
    as_json : bool
        Whether changes go to `echo` as JSON lines, else to `say` as text; a single look is one object.
    say : Progress
        Stderr.
    echo : callable
        Stdout, a line.

    Raises
    ------
    ProofbookError
        When it can't begin.
    """
    stop = threading.Event()
    rows: list[dict[str, Any]] = []

    def out(row: dict[str, Any]) -> None:
        rows.append(row)
        if as_json and not options.once:
            echo(json.dumps(row))
        elif not as_json:
            (echo if options.once else say)(describe_row(row))

    made = Watch(place, options, out, say, stop)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = made.run()
    except WatchStopped:
        code = 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if options.once and as_json:
        names = {code: severity.name.lower() for severity, code in EXIT_CODES.items()}
        echo(json.dumps({"result": "escaped" if code == EXIT_ESCAPED else names[code], "alerts": rows}))
    elif options.once and not rows:
        echo("all is well")
    return code


def describe_row(row: dict[str, Any]) -> str:
    """Return a change for people: a line."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["time"]))
    state = "" if row["state"] == "event" else f" {row['state']}"
    return printable(f"{when} {row['severity'].upper()} {row['code']}{state}: {row['text']}")
