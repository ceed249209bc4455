"""Batches on their way through L1: signed, stored, sent, mined, buried under confirmations.

One batch at a time is on its way into a block, the one after the newest that the chain has: so the contract itself can
be asked whether it would take it, and of all transactions that are out there one alone can settle something. Whoever
waits for confirmations does not hold up the next one.

The chain decides how far things are, anew at every look. When a reorganisation takes mined batches away they are simply
next again, and the very same bytes are sent again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, ParamSpec, TypeVar

from msgspec.structs import replace
from web3 import Web3
from web3.types import TxReceipt

from proofbook.chain.client import QueuedRequest
from proofbook.chain.errors import ContractRevert
from proofbook.operator.batches import (
    BatcherOptions,
    CommitRefused,
    CrashAt,
    ReorgError,
    StateDiverged,
    queued,
    request_of,
)
from proofbook.operator.l1 import L1, GasTooDear, RpcUnavailable, SignedTx, Underpriced, retry
from proofbook.operator.settlement import BatchPlan
from proofbook.operator.store import BatchRecord, BatchStore
from proofbook.protocol.state import State
from proofbook.protocol.words import Page

log = logging.getLogger(__name__)
MAX_FAILURES: Final = 3
"""Transactions of one batch that may be mined and fail, each paid for, before the operator stops."""
BACK_OFF: Final = 1.5
"""The pause after an offer that the node refused grows by this."""
MAX_PATIENCE: Final = 10
"""What no node took is priced anew after ``replace_after_s``, then after twice that, up to so many times.

Every hash is kept and asked for, and a key may be without money for days.
"""

_P = ParamSpec("_P")
_T = TypeVar("_T")
Stage = Literal["sealed", "built", "proving", "proven", "submitted", "mined"]


@dataclass(slots=True, eq=False)
class InFlight:
    """A batch between built and settled.

    Attributes
    ----------
    plan, page : BatchPlan, Page
        What it does.
    before, after : State
        What it is built on, and what it leads to.
    record : BatchRecord
        As in the store.
    proving : task, optional
        While it is being proven.
    proofs_refused : int
        By the contract.
    mined : bool
        The chain had it at the last look.
    block : int
        Where it was then; 0 before.
    offered_at : float, optional
        When this process first gave the node what is signed now, by the monotonic clock.
    sent_at : float, optional
        When the node last took it.
    sent_block : int
        The newest block when the node was first given what is signed now.
    dear : GasTooDear, optional
        Why it waits and is not outbid.
    refusals : int
        How many offers the node refused as too low, up to this one; 0 once it took one.
    """

    plan: BatchPlan
    page: Page
    before: State
    after: State
    record: BatchRecord
    proving: asyncio.Task[None] | None = field(default=None)
    proofs_refused: int = 0
    mined: bool = False
    block: int = 0
    offered_at: float | None = None
    sent_at: float | None = None
    sent_block: int = 0
    dear: GasTooDear | None = None
    refusals: int = 0

    @property
    def number(self) -> int:
        """The batch's number."""
        return self.plan.number

    def get_stage(self, is_running: bool) -> Stage:
        """Return how far it is; ``is_running`` tells whether a worker is at it."""
        if self.mined:
            return "mined"
        if self.record.raw_tx:
            return "submitted"
        if self.record.proof:
            return "proven"
        return "proving" if is_running else "built"


class Look(NamedTuple):
    """The chain at one moment: the operator's transactions and the contract's batches mined, and the newest block."""

    nonce: int
    batches: int
    head: int


class Submitter:
    """Gets batches into blocks, in order.

    Parameters
    ----------
    l1 : L1
        The chain.
    store : BatchStore
        Written before anything is sent.
    options : BatcherOptions
        Attempts and pauses.
    crash_at : callable
        Fault injection.
    """

    def __init__(self, l1: L1, store: BatchStore, options: BatcherOptions, crash_at: CrashAt) -> None:
        self._l1, self._store, self.options, self._crash_at = l1, store, options, crash_at

    async def _ask(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await retry(self.options.rpc_attempts, call, *args, **kwargs)

    # --- looking

    async def look(self, confirmed: int) -> Look:
        """Look at the chain, which must have all confirmed batches.

        Raises
        ------
        ReorgError
            When a reorganisation took a confirmed batch.
        RpcUnavailable
            Also when the node is behind the block of the last confirmed batch.
        """
        # All at one block: a nonce of before a batch was mined, and its number of after, would not fit each other.
        head, _ = await self._ask(self._l1.get_head)
        batches = await self._ask(self._l1.exchange.batch_number, head)
        nonce = await self._ask(self._l1.get_nonce, head)
        if batches < confirmed:
            last = self._store.get_batch(confirmed)
            if last is not None and head < last.block:
                raise RpcUnavailable(f"the node is at block {head}, batch {confirmed} was confirmed in {last.block}")
            raise ReorgError(f"the chain has {batches} batches, {confirmed} were confirmed: it was reorganised")
        return Look(nonce, batches, head)

    async def note(self, flight: Iterable[InFlight], look: Look, confirmed: int) -> None:
        """Note which batches the chain has, and which it has no more.

        Raises
        ------
        StateDiverged
            When the chain has another batch of one's number.
        """
        last = self._store.get_batch(confirmed)
        first = max(self.options.start_block, last.block if last else 0)
        for batch in flight:
            if batch.number > look.batches and batch.mined:
                log.warning("batch %d: no longer on the chain, which was reorganised", batch.number)
                batch.mined, batch.block, batch.sent_at, batch.offered_at = False, 0, None, None
            elif batch.number <= look.batches and not batch.mined:
                receipt = await self._find(batch, first)
                if receipt is None:
                    return  # reorganised between two questions
                batch.mined, batch.block = True, receipt["blockNumber"]
                log.info("batch %d: mined in block %d", batch.number, batch.block)
                self._crash_at("mined")
            first = max(first, batch.block)

    # --- sending

    async def send(self, batch: InFlight, look: Look, flight: Iterable[InFlight]) -> bool:
        """Have the transaction of the batch that the chain lacks next on its way; tell whether it was sent now.

        Raises
        ------
        ContractRevert
            When the contract would refuse it now.
        CommitRefused
            When it was mined and failed again and again.
        GasTooDear
            When it can't be sent, or outbid, for what the operator may pay.
        """
        record = batch.record
        waits = bool(record.raw_tx) and record.nonce == look.nonce
        if waits and (sent := await self._send_on(batch, look)) is not None:
            return sent
        if not waits and record.sent and await self._was_mined(record):
            return False
        # One nonce alone is the next. Another batch of ours may have had it before a reorganisation.
        rivals = [tx for other in flight for tx in other.record.sent if other.record.nonce == look.nonce]
        refused = record.raw_tx if waits and batch.refusals else ""
        try:
            if not await self._sign(batch, look.nonce, rivals, refused):
                return False
        except GasTooDear as error:
            if waits:
                batch.dear = error
                await self._broadcast(batch)  # it may have been dropped
                batch.refusals = 0
            raise
        batch.dear, batch.sent_at = None, None
        batch.offered_at, batch.sent_block = time.monotonic(), look.head
        return await self._broadcast(batch)

    async def _send_on(self, batch: InFlight, look: Look) -> bool | None:
        """Go on with what has the next nonce: tell whether it was sent now, None if it is to be outbid."""
        if batch.sent_at is None:
            # Signed in an earlier life or for a chain that is gone: mined too early, it would fail and be paid for.
            if not await self._is_welcome(batch):
                return False
            if batch.offered_at is None:
                batch.offered_at, batch.sent_block = time.monotonic(), look.head
            elif self._is_stale(batch, look):
                log.warning("batch %d: no node takes its transaction, which is priced anew", batch.number)
                return None
            return await self._broadcast(batch)
        waited = time.monotonic() - batch.sent_at
        if batch.refusals:
            return None if waited >= self._get_pause(batch.refusals) else False
        if waited >= self.options.replace_after_s:
            if look.head > batch.sent_block:
                log.warning("batch %d: its transaction waits too long and is outbid", batch.number)
                return None
            # No block came: no price would help, and each would be more than the last. It may have been dropped.
            await self._broadcast(batch)
        if batch.dear:
            raise batch.dear.with_traceback(None)  # else each look would make it longer
        return False

    def _get_pause(self, refusals: int) -> float:
        """Return the seconds until the next offer: a node that refuses all of them must not raise it in a moment."""
        return min(self.options.poll_s * BACK_OFF ** min(refusals, 100), self.options.replace_after_s)

    def _is_stale(self, batch: InFlight, look: Look) -> bool:
        """Tell whether what the node does not take was signed too long ago: for gas of another day, or by mistake."""
        since = time.monotonic() - (batch.offered_at or 0.0)
        patience = self.options.replace_after_s * min(len(batch.record.sent), MAX_PATIENCE)
        return since >= patience and look.head > batch.sent_block

    async def _is_welcome(self, batch: InFlight) -> bool:
        """Tell whether the contract would take it now; False while the newest block's clock is behind the batch's."""
        try:
            await self._ask(self._l1.try_commit, *self._arguments(batch))
        except ContractRevert as revert:
            if revert.name == "TimestampInFuture":
                return False
            raise
        return True

    def _arguments(self, batch: InFlight) -> tuple[Page, list[QueuedRequest], int, list[int]]:
        """Return what the contract takes of a batch."""
        record = batch.record
        return batch.page, self._requests_of(batch), int(record.c, 16), [int(word, 16) for word in record.proof]

    async def _broadcast(self, batch: InFlight) -> bool:
        """Give it to the node; False where that wants a better offer.

        Raises
        ------
        RpcUnavailable
            When the node does not take it for another reason: it is offered again, and priced anew after a while.
        """
        try:
            await self._ask(self._l1.broadcast, batch.record.raw_tx)
        except Underpriced as error:
            batch.sent_at = time.monotonic()
            batch.refusals += 1  # and signed anew after a pause
            log.warning("batch %d: %s", batch.number, error)
            return False
        batch.sent_at, batch.refusals = time.monotonic(), 0
        log.info("batch %d: sent as %s", batch.number, batch.record.tx)
        self._crash_at("sent")
        return True

    async def _was_mined(self, record: BatchRecord) -> bool:
        """Tell whether the chain moved on while it was asked; `CommitRefused` after too many failures."""
        receipts = await self._ask(self._l1.find_receipts, record.sent)
        failed = [receipt for receipt in receipts if receipt["status"] == 0]
        if len(failed) >= MAX_FAILURES:
            await self._explain(record.number, failed[-1])
        return len(receipts) > len(failed)

    async def _explain(self, number: int, receipt: TxReceipt) -> None:
        try:
            await retry(1, self._l1.explain, receipt)
        except (ContractRevert, RpcUnavailable) as error:
            raise CommitRefused(f"batch {number}, mined and failed {MAX_FAILURES} times: {error}") from error

    async def _sign(self, batch: InFlight, nonce: int, outbid: list[str], refused: str) -> bool:
        """Sign and store; False while the newest block's clock is behind the batch's."""
        record = batch.record
        arguments = self._arguments(batch)
        try:
            signed: SignedTx = await self._ask(self._l1.sign_commit, *arguments, nonce, outbid, refused)
        except ContractRevert as revert:
            if revert.name == "TimestampInFuture":
                return False
            raise
        sent = [*record.sent, signed.tx]
        record = replace(record, state="submitted", tx=signed.tx, raw_tx=signed.raw, nonce=signed.nonce, sent=sent)
        self._store.put_batch(record)
        batch.record = record  # only now: what is not stored must not be sent
        log.info("batch %d: signed with nonce %d", batch.number, signed.nonce)
        self._crash_at("signed")
        return True

    def _requests_of(self, batch: InFlight) -> list[QueuedRequest]:
        first, rows = batch.plan.first_request, batch.page.requests
        records = self._store.list_requests(first, len(rows))
        if [request_of(record) for record in records] != [row.request for row in rows]:
            raise StateDiverged(f"requests from {first} on are not those of batch {batch.number}")
        return [queued(record) for record in records]

    # --- confirming

    async def confirm(self, batch: InFlight, look: Look) -> bool:
        """Record the oldest batch, a mined one, as confirmed if its block is deep enough; tell whether it is.

        Raises
        ------
        StateDiverged
            When the chain has another batch of this number.
        """
        if look.head - batch.block < self.options.confirmations:
            return False
        # Again: a reorganisation may have put it into another block.
        receipt = await self._find(batch, batch.block)
        if receipt is None or look.head - receipt["blockNumber"] < self.options.confirmations:
            batch.mined, batch.block = False, 0
            return False
        sent = await self._ask(self._l1.w3.eth.get_transaction, receipt["transactionHash"])
        batch.record = replace(
            batch.record,
            state="confirmed",
            tx=Web3.to_hex(receipt["transactionHash"]),
            block=receipt["blockNumber"],
            gas=receipt["gasUsed"],
            data_bytes=len(sent["input"]),
        )
        self._store.put_batch(batch.record)
        log.info("batch %d: confirmed in block %d", batch.number, batch.record.block)
        self._crash_at("confirmed")
        return True

    async def _find(self, batch: InFlight, first: int) -> TxReceipt | None:
        """Return the receipt of the transaction that settled a batch, from a block on; it must be this very batch."""
        event = await self._ask(self._l1.find_batch, batch.number, first)
        if event is None:
            return None
        if event.new_root != batch.page.header.new_root or event.timestamp != batch.record.timestamp:
            raise StateDiverged(f"the chain's batch {batch.number} is not ours: another operator runs on this key")
        receipts = await self._ask(self._l1.find_receipts, [event.place.tx])
        return next((receipt for receipt in receipts if receipt["blockNumber"] == event.place.block), None)
