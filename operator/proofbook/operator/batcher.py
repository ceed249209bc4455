"""A batch's life: sealed, built, witnessed, proven, submitted, confirmed. One batch at a time.

Each step's result is in the store before the next step begins, so that a restart goes on with the step that was broken
off. A batch keeps its rows and its timestamp through all of it (M22). Nothing is settled twice: the contract takes each
batch number once, the operator looks there first, and whatever it sends for one batch has one nonce.

What can't go on stops the operator with a named error, because orders matched meanwhile could not be settled either: a
proof that fails again and again, a chain that dropped a block it was built on, a refusal by the contract. Two refusals
are foreseen: a batch that became too old is unsealed and made anew, and a frozen exchange ends the operator's work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from msgspec.structs import replace
from web3 import Web3
from web3.types import TxReceipt

from proofbook.chain.client import QueuedRequest
from proofbook.chain.errors import ContractRevert
from proofbook.operator import commands as c
from proofbook.operator import events as ev
from proofbook.operator.codes import OperatorError
from proofbook.operator.engine import Engine
from proofbook.operator.l1 import L1, RpcUnavailable, SignedTx, retry
from proofbook.operator.proving import BatchProver
from proofbook.operator.settlement import BatchPlan
from proofbook.operator.store import BatchRecord, BatchState, BatchStore, RequestRecord
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.messages import SignedAction
from proofbook.protocol.state import State
from proofbook.protocol.table import FEE_ACCOUNT, ActionType, Size
from proofbook.protocol.transition import Outcome, apply, build
from proofbook.protocol.words import Header, Page, Request, page_from_words, page_words

log = logging.getLogger(__name__)
MAX_PAUSE_S: Final = 30.0
REPLACE_AFTER_S: Final = 120.0
"""A transaction that waits longer is replaced by one that pays more."""
_TOO_OLD: Final = ("TimestampTooOld", "TimestampBeforePrevious")

Submit = Callable[[c.Command], Awaitable[Sequence[ev.Event]]]
CrashAt = Callable[[str], None]
"""Called at each stage's end with its name; tests raise there. Stages: sealed, built, witnessed, proven, signed, sent,
mined, confirmed, settled."""


class ProvingFailed(OperatorError):
    """A batch could not be proven, however often it was tried (code ``proving_failed``)."""

    code: ClassVar[str] = "proving_failed"


class CommitRefused(OperatorError):
    """The contract refused a batch for a reason that trying again does not mend (code ``commit_refused``)."""

    code: ClassVar[str] = "commit_refused"


class StateDiverged(OperatorError):
    """Chain, journal and store do not tell one story (code ``state_diverged``)."""

    code: ClassVar[str] = "state_diverged"


class Frozen(OperatorError):
    """The exchange is frozen on L1 (code ``frozen``)."""

    code: ClassVar[str] = "frozen"


@dataclass(frozen=True, slots=True)
class BatcherOptions:
    """How patient a batcher is; see `proofbook.operator.settings.Settings` for the first four."""

    prove_attempts: int
    rpc_attempts: int
    confirmations: int
    poll_s: float
    start_block: int = 0
    first_pause_s: float = 1.0
    replace_after_s: float = REPLACE_AFTER_S


def queued(record: RequestRecord) -> QueuedRequest:
    """Return a stored request as the contract queued it."""
    return QueuedRequest(record.number, request_of(record), record.fee, record.deadline)


def request_of(record: RequestRecord) -> Request:
    """Return what a stored request asks."""
    return Request(
        kind=record.kind,
        account=record.account,
        token=record.token,
        amount=record.amount,
        owner=int(record.owner, 16),
        pub_x=int(record.pub_x, 16),
        pub_y=int(record.pub_y, 16),
    )


def rebuild_state(state: State, store: BatchStore, sizes: Sequence[Size]) -> tuple[State, int]:
    """Return the state after all confirmed batches, and the last one's number.

    Parameters
    ----------
    state : State
        The genesis state.

    Raises
    ------
    StateDiverged
        When a stored batch does not follow from the ones before.
    """
    number = 0
    while True:
        records = store.list_batches(256, newest_first=False, above=number)
        for record in records:
            if record.state != "confirmed":
                return state, number
            try:
                page = page_from_words(record.get_words(), sizes[record.size_id])
                state = apply(state, page, size=sizes[record.size_id]).state
            except (ProofbookError, IndexError) as error:
                raise StateDiverged(f"stored batch {record.number}: {error}") from error
            if record.number != number + 1:
                raise StateDiverged(f"stored batch {number + 1} is missing")
            number = record.number
        if not records:
            return state, number


class Batcher:
    """Settles what the engine has matched.

    Parameters
    ----------
    engine : Engine
        Read only; changed through ``submit``.
    submit : callable
        Does a command durably.
    store, l1, prover
        Where batches are recorded, sent and proven.
    state : State
        Before all batches.
    sizes : sequence of Size
        The deployment's, by size id.
    domain : int
        Of the exchange.
    work : Path
        A directory for witnesses.
    options : BatcherOptions
        Attempts and pauses.
    crash_at : callable, optional
        Fault injection.

    Raises
    ------
    StateDiverged
        When the store's batches do not follow from one another.

    Attributes
    ----------
    state : State
        After the last confirmed batch.
    number : int
        Of the last confirmed batch.
    """

    def __init__(
        self,
        engine: Engine,
        submit: Submit,
        store: BatchStore,
        l1: L1,
        prover: BatchProver,
        state: State,
        sizes: Sequence[Size],
        domain: int,
        work: Path,
        options: BatcherOptions,
        crash_at: CrashAt = lambda stage: None,
    ) -> None:
        self._engine, self._submit, self._store, self._l1, self._prover = engine, submit, store, l1, prover
        self._sizes, self._domain, self._work, self._options = tuple(sizes), domain, work, options
        self._crash_at = crash_at
        self.state, self.number = rebuild_state(state, store, sizes)
        self._lock = asyncio.Lock()

    # --- the whole

    async def resume(self) -> None:
        """Tell the journal which batches were confirmed meanwhile; `StateDiverged` if it never sealed one of them."""
        for sealed in list(self._engine.settlement.in_flight):
            if sealed.plan.number <= self.number:
                await self._submit(c.BatchConfirmed(sealed.plan.number))
        if self._engine.settlement.next_number <= self.number:
            raise StateDiverged(f"batch {self.number} is confirmed, but the journal never sealed it")

    async def settle_all(self) -> list[int]:
        """Settle everything pending now, and return the numbers of the batches.

        Raises
        ------
        ProvingFailed, CommitRefused, StateDiverged, Frozen
            When it can't go on; the operator should stop.
        RpcUnavailable
            When the node does not answer; may be tried again.
        """
        async with self._lock:
            numbers = []
            while (number := await self._settle_next()) is not None:
                numbers.append(number)
            return numbers

    def is_pending(self) -> bool:
        """Tell whether there is anything to settle."""
        settlement = self._engine.settlement
        return bool(settlement.log or settlement.in_flight) and not self._engine.frozen

    async def _settle_next(self) -> int | None:
        """Bring the next batch from wherever it is to its end; None when nothing is pending."""
        if not self.is_pending():
            return None
        number = self.number + 1
        plan = self._engine.get_plan(number) or await self._seal(number)
        try:
            record, page, after = await self._built(plan)
            record = await self._proven(record, plan, page)
            record = await self._submitted(record, page)
            record = await self._confirmed(record, page)
        except ContractRevert as revert:
            await self._refused(number, revert)
            return await self._settle_next()
        await self._settled(record, after)
        return number

    # --- the stages

    async def _seal(self, number: int) -> BatchPlan:
        _, latest = await retry(self._options.rpc_attempts, self._l1.get_head)
        events = await self._submit(c.SealBatch(number, latest))
        plan = self._engine.get_plan(number)
        if plan is None:
            raise StateDiverged(f"batch {number} was not sealed: {events}")
        self._crash_at("sealed")
        return plan

    async def _built(self, plan: BatchPlan) -> tuple[BatchRecord, Page, State]:
        """Return the batch's record, page and the state after it, making what is not there."""
        size = self._sizes[plan.size_id]
        page, outcome = await asyncio.to_thread(self._build, plan, size)
        if page.requests != plan.requests:
            raise StateDiverged(f"batch {plan.number}: the engine and the protocol disagree on what requests do")
        words = "".join(f"{word:064x}" for word in page_words(page, size))
        record = self._store.get_batch(plan.number)
        if record is not None and record.timestamp < plan.timestamp:
            record = None  # of a batch that became too old: the crash came between the journal and the store
        if record is not None and record.words != words:
            raise StateDiverged(f"batch {plan.number}: the journal leads to another page than the stored one")
        if record is None:
            record = BatchRecord(
                number=plan.number,
                size_id=plan.size_id,
                timestamp=plan.timestamp,
                state="built",
                words=words,
                orders=sum(row.type == ActionType.ORDER for row in page.actions),
                trades=len(plan.trades),
                accounts=len(outcome.touched),
                constraints=self._prover.constraints[plan.size_id],
            )
            self._write(record, "built")
        return record, page, outcome.state

    def _build(self, plan: BatchPlan, size: Size) -> tuple[Page, Outcome]:
        header = Header(
            domain=self._domain,
            size_id=plan.size_id,
            number=plan.number,
            timestamp=plan.timestamp,
            fee_account=FEE_ACCOUNT,
            old_root=self.state.root,
            new_root=0,
        )
        rows, signed = [action.row for action in plan.actions], [action.signed for action in plan.actions]
        return build(self.state, header, [row.request for row in plan.requests], rows, plan.fees, signed, size)

    def _write(self, record: BatchRecord, stage: str) -> BatchRecord:
        self._store.put_batch(record)
        log.info("batch %d: %s", record.number, stage)
        self._crash_at(stage)
        return record

    async def _proven(self, record: BatchRecord, plan: BatchPlan, page: Page) -> BatchRecord:
        """Prove, again after growing pauses when it fails; `ProvingFailed` in the end."""
        if record.proof:
            return record
        pause = self._options.first_pause_s
        for attempt in range(1, self._options.prove_attempts + 1):
            try:
                return await self._prove_once(record, page, [action.signed for action in plan.actions])
            except (ProofbookError, OSError) as error:
                log.error("batch %d: proving failed (attempt %d): %s", record.number, attempt, error)
                if attempt == self._options.prove_attempts:
                    raise ProvingFailed(f"batch {record.number}: {error}") from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)
        raise AssertionError("unreachable")

    async def _prove_once(self, record: BatchRecord, page: Page, signed: Sequence[SignedAction]) -> BatchRecord:
        self._work.mkdir(parents=True, exist_ok=True)
        out = self._work / f"batch-{record.number}.wtns"
        try:
            # The witness is not used again after a restart: it is large, and its making takes seconds.
            witness = await asyncio.to_thread(self._prover.make_witness, self.state, page, signed, out)
            record = replace(record, state="witnessed", c=f"{witness.public[0]:064x}", witness_s=witness.seconds)
            record = self._write(record, "witnessed")
            proof, seconds = await asyncio.to_thread(self._prover.prove, record.size_id, witness)
        finally:
            out.unlink(missing_ok=True)
        proven = replace(record, state="proven", proof=[f"{word:064x}" for word in proof], prove_s=seconds)
        return self._write(proven, "proven")

    async def _submitted(self, record: BatchRecord, page: Page) -> BatchRecord:
        """Have a signed transaction in the store and with the node, unless the chain has the batch already."""
        # The nonce first: if it is used, the question after it tells whether that was for this batch.
        nonce = await retry(self._options.rpc_attempts, self._l1.get_nonce)
        on_chain = await retry(self._options.rpc_attempts, self._l1.exchange.batch_number)
        if on_chain >= record.number:
            return record
        if on_chain < self.number:
            raise StateDiverged(f"the chain has {on_chain} batches, {self.number} were confirmed: it was reorganised")
        if not record.raw_tx or nonce > record.nonce:
            record = await self._sign(record, page, None)
        await retry(self._options.rpc_attempts, self._l1.broadcast, record.raw_tx)
        self._crash_at("sent")
        return record

    async def _sign(self, record: BatchRecord, page: Page, replaces: SignedTx | None) -> BatchRecord:
        requests = self._requests_of(page)
        while True:
            try:
                signed = await retry(
                    self._options.rpc_attempts,
                    self._l1.sign_commit,
                    page,
                    requests,
                    int(record.c, 16),
                    [int(word, 16) for word in record.proof],
                    replaces,
                )
                break
            except ContractRevert as revert:
                if revert.name != "TimestampInFuture":
                    raise
            await asyncio.sleep(self._options.poll_s)  # the next block's clock has caught up
        state: BatchState = "submitted"
        sent = [*record.sent, signed.tx]
        return self._write(
            replace(record, state=state, tx=signed.tx, raw_tx=signed.raw, nonce=signed.nonce, sent=sent), "signed"
        )

    def _requests_of(self, page: Page) -> list[QueuedRequest]:
        first = self._served()
        records = self._store.list_requests(first, len(page.requests))
        if [request_of(record) for record in records] != [row.request for row in page.requests]:
            raise StateDiverged(f"requests from {first} on are not those of batch {page.header.number}")
        return [queued(record) for record in records]

    def _served(self) -> int:
        """Return how many requests confirmed batches have served."""
        in_flight = self._engine.settlement.in_flight
        return in_flight[0].plan.first_request if in_flight else self._engine.settlement.next_request

    async def _confirmed(self, record: BatchRecord, page: Page) -> BatchRecord:
        """Wait until the batch's block has its confirmations, and record it."""
        since = time.monotonic()
        while True:
            receipt = await self._get_receipt(record, page)
            if receipt is not None and await self._is_deep(receipt["blockNumber"]):
                break
            waits = receipt is None and time.monotonic() - since > self._options.replace_after_s
            if waits and not await self._is_on_chain(record):
                record = await self._sign(record, page, SignedTx(record.tx, record.raw_tx, record.nonce))
                await retry(self._options.rpc_attempts, self._l1.broadcast, record.raw_tx)
                since = time.monotonic()
            await asyncio.sleep(self._options.poll_s)
        self._crash_at("mined")
        sent = await retry(self._options.rpc_attempts, self._l1.w3.eth.get_transaction, receipt["transactionHash"])
        done = replace(
            record,
            state="confirmed",
            tx=Web3.to_hex(receipt["transactionHash"]),
            block=receipt["blockNumber"],
            gas=receipt["gasUsed"],
            data_bytes=len(sent["input"]),
        )
        return self._write(done, "confirmed")

    async def _is_on_chain(self, record: BatchRecord) -> bool:
        return await retry(self._options.rpc_attempts, self._l1.exchange.batch_number) >= record.number

    async def _is_deep(self, block: int) -> bool:
        head, _ = await retry(self._options.rpc_attempts, self._l1.get_head)
        return head - block >= self._options.confirmations

    async def _get_receipt(self, record: BatchRecord, page: Page) -> TxReceipt | None:
        """Return the receipt of the batch's transaction, checked; None while it waits.

        Raises
        ------
        ContractRevert
            When it was mined and refused, and the chain does not have the batch.
        StateDiverged
            When the chain has another batch of this number.
        """
        attempts = self._options.rpc_attempts
        if await self._is_on_chain(record):
            first = self._options.start_block
            if (last := self._store.get_batch(self.number)) is not None:
                first = max(first, last.block)
            event = await retry(attempts, self._l1.find_batch, record.number, first)
            if event is None:
                return None  # reorganised between the two questions
            if event.new_root != page.header.new_root or event.timestamp != record.timestamp:
                raise StateDiverged(f"the chain's batch {record.number} is not ours: another operator runs on this key")
            return await retry(attempts, self._l1.find_receipt, [event.place.tx])
        receipt = await retry(attempts, self._l1.find_receipt, record.sent)
        if receipt is not None and receipt["status"] == 0:
            await self._explain(receipt)
        return None

    async def _explain(self, receipt: TxReceipt) -> None:
        try:
            await retry(1, self._l1.explain, receipt)
        except RpcUnavailable as error:
            raise CommitRefused(str(error)) from error

    async def _settled(self, record: BatchRecord, after: State) -> None:
        """Tell the journal; from here on the batch is history."""
        self.state, self.number = after, record.number
        await self._submit(c.BatchConfirmed(record.number))
        self._crash_at("settled")

    # --- refusals

    async def _refused(self, number: int, revert: ContractRevert) -> None:
        """Act on a refusal by the contract: unseal a batch that is too old, stop at anything else."""
        log.error("batch %d: %s", number, revert)
        if revert.name == "IsFrozen":
            await self._submit(c.Freeze())
            raise Frozen("the exchange is frozen; what is not settled never will be") from revert
        if revert.name not in _TOO_OLD:
            raise CommitRefused(f"batch {number}: {revert}") from revert
        _, latest = await retry(self._options.rpc_attempts, self._l1.get_head)
        config = await retry(self._options.rpc_attempts, self._l1.exchange.config)
        with contextlib.suppress(OSError):
            (self._work / f"batch-{number}.wtns").unlink(missing_ok=True)
        # The journal first: a record of a batch that is sealed anew with other rows would not fit it.
        await self._submit(c.BatchDropped(number, latest - config.max_lag))
        self._store.delete_batches(number)
