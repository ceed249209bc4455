"""The way back after a reorganisation deeper than `confirmations`: lost batches are sent again, in their order.

Orders were matched on what these batches did, so they must be the next ones on the new chain as well. They can be:
roots follow from one another, and a proof says nothing of blocks. But every request that was used must be in the queue
again, with the same number and content; fee and deadline may differ, they are the queue's alone. If another request
has its place, something was traded that never was, and there is no way back.

May be broken off and repeated at any time: the chain says what is missing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, ParamSpec, TypeVar

from msgspec.structs import replace

from proofbook.chain.client import QueuedRequest
from proofbook.chain.errors import ContractRevert
from proofbook.chain.events import batches_since, requests_since
from proofbook.operator.batches import CommitRefused, ReorgError, StateDiverged, queued, request_of
from proofbook.operator.codes import OperatorError
from proofbook.operator.l1 import L1, Underpriced, retry
from proofbook.operator.settings import Settings
from proofbook.operator.store import BatchRecord, BatchStore, RequestRecord
from proofbook.operator.watcher import record_of
from proofbook.protocol.table import Size
from proofbook.protocol.words import Page, page_from_words

log = logging.getLogger(__name__)
ATTEMPTS: Final = 10
PATIENCE_S: Final = 120.0
"""A transaction that waits longer is replaced by one that pays more."""
_CHUNK: Final = 512

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ReorgPending(OperatorError):
    """The new chain does not have every request that was used, yet (code ``reorg_pending``)."""

    code: ClassVar[str] = "reorg_pending"


@dataclass(frozen=True, slots=True)
class Resubmitted:
    """What was done.

    Attributes
    ----------
    requests : tuple of int
        Requests found again at another place of the chain.
    batches : tuple of int
        Batches sent again.
    """

    requests: tuple[int, ...]
    batches: tuple[int, ...]


class Resubmission:
    """One attempt at the way back. Nothing else may work on this store meanwhile.

    Parameters
    ----------
    store : BatchStore
        With the confirmed batches and the requests.
    l1 : L1
        The chain.
    used : int
        Requests below this number were used.
    sizes : sequence of Size
        The deployment's, by size id.
    settings : Settings
        Confirmations, the first block, attempts and pauses.
    """

    def __init__(self, store: BatchStore, l1: L1, used: int, sizes: Sequence[Size], settings: Settings) -> None:
        self._store, self._l1, self._used = store, l1, used
        self._sizes, self._settings = tuple(sizes), settings

    async def run(self) -> Resubmitted:
        """Do it, and return once all batches are buried under confirmations again.

        Raises
        ------
        ReorgPending
            When a request that was used is missing, or not confirmed; it may come back.
        ReorgError
            When there is no way back: another request has its place, or a batch is too old to be taken again.
        StateDiverged, CommitRefused
            When the chain has other batches, or refuses one.
        RpcUnavailable
            When the node does not answer.
        """
        head, _ = await self._ask(self._l1.get_head)
        moved = await self._match_requests(head)
        lost = await self._match_batches(head)
        for record, page, first in lost:
            await self._send(record, page, first)
        while lost and not await self._is_buried(lost[-1][0].number):
            await asyncio.sleep(self._settings.poll_s)
        return Resubmitted(tuple(moved), tuple(record.number for record, _, _ in lost))

    async def _ask(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await retry(self._settings.rpc_attempts, call, *args, **kwargs)

    # --- finding out

    async def _match_requests(self, head: int) -> list[int]:
        """Find every request that was used on the new chain, and store where it is now."""
        start, deep = self._settings.start_block, head - self._settings.confirmations
        events = await self._ask(lambda: list(requests_since(self._l1.exchange, start, deep)))
        found = {event.queued.id: record_of(event) for event in events}
        changed: list[RequestRecord] = []
        for first in range(0, self._used, _CHUNK):
            for old in self._store.list_requests(first, min(_CHUNK, self._used - first)):
                new = found.get(old.number)
                if new is None:
                    raise ReorgPending(
                        f"request {old.number} was used and is not in the queue of this chain with "
                        f"{self._settings.confirmations} confirmations; it may come back: try again later"
                    )
                if request_of(new) != request_of(old):
                    raise ReorgError(f"request {old.number} was used, and this chain has another one in its place")
                if new != old:
                    changed.append(new)
        self._store.put_requests(changed)
        return [record.number for record in changed]

    async def _match_batches(self, head: int) -> list[tuple[BatchRecord, Page, int]]:
        """Return the confirmed batches that the chain lacks, with the number of each one's first request."""
        start = self._settings.start_block
        events = await self._ask(lambda: list(batches_since(self._l1.exchange, start, head)))
        found = {event.number: event for event in events}
        lost: list[tuple[BatchRecord, Page, int]] = []
        first = number = 0
        while records := self._store.list_batches(_CHUNK, newest_first=False, above=number):
            for record in records:
                if record.state != "confirmed":
                    return lost
                page = page_from_words(record.get_words(), self._sizes[record.size_id])
                event = found.get(record.number)
                if event is None:
                    lost.append((record, page, first))
                elif event.new_root != page.header.new_root:
                    raise StateDiverged(f"the chain's batch {record.number} is not ours")
                elif event.place.block != record.block:
                    self._store.put_batch(replace(record, block=event.place.block, tx=event.place.tx))
                first, number = first + len(page.requests), record.number
        return lost

    # --- sending

    async def _send(self, record: BatchRecord, page: Page, first: int) -> None:
        """Have one batch mined."""
        requests = [queued(request) for request in self._store.list_requests(first, len(page.requests))]
        refused, block = "", -1
        for _ in range(ATTEMPTS):
            if await self._is_mined(record.number):
                break
            head, _ = await self._ask(self._l1.get_head)
            if head > block or refused or not await self._waits(record):
                # While no block comes, no price would help; what was signed may have been dropped.
                record, block = await self._sign(record, page, requests, refused), head
            refused = "" if await self._broadcast(record) else record.raw_tx
            until = time.monotonic() + (self._settings.poll_s if refused else PATIENCE_S)
            while time.monotonic() < until and await self._waits(record):
                await asyncio.sleep(self._settings.poll_s)
        else:
            if not await self._is_mined(record.number):
                raise CommitRefused(f"batch {record.number} was sent {ATTEMPTS} times and is not on the chain")
        event = await self._ask(self._l1.find_batch, record.number, self._settings.start_block)
        if event is None or event.new_root != page.header.new_root:
            raise StateDiverged(f"the chain's batch {record.number} is not ours, or was lost again")
        self._store.put_batch(replace(record, block=event.place.block, tx=event.place.tx))
        log.info("batch %d: mined in block %d", record.number, event.place.block)

    async def _broadcast(self, record: BatchRecord) -> bool:
        """Give it to the node; False where that wants a better offer."""
        try:
            await self._ask(self._l1.broadcast, record.raw_tx)
        except Underpriced as error:
            log.warning("batch %d: %s", record.number, error)
            return False
        log.info("batch %d: sent again as %s", record.number, record.tx)
        return True

    async def _sign(self, record: BatchRecord, page: Page, requests: list[QueuedRequest], refused: str) -> BatchRecord:
        proof = [int(word, 16) for word in record.proof]
        while True:
            nonce = await self._ask(self._l1.get_nonce)
            try:
                signed = await self._ask(
                    self._l1.sign_commit, page, requests, int(record.c, 16), proof, nonce, record.sent, refused
                )
                break
            except ContractRevert as revert:
                if revert.name == "TimestampTooOld":
                    raise ReorgError(f"batch {record.number} is too old to be taken again: {revert}") from revert
                if revert.name != "TimestampInFuture":
                    raise CommitRefused(f"batch {record.number}: {revert}") from revert
            await asyncio.sleep(self._settings.poll_s)
        record = replace(
            record, tx=signed.tx, raw_tx=signed.raw, nonce=signed.nonce, sent=[*record.sent, signed.tx], block=0
        )
        self._store.put_batch(record)
        return record

    async def _is_mined(self, number: int) -> bool:
        return await self._ask(self._l1.exchange.batch_number) >= number

    async def _waits(self, record: BatchRecord) -> bool:
        """Tell whether the transaction is neither mined nor overtaken."""
        return await self._ask(self._l1.get_nonce) <= record.nonce and not await self._is_mined(record.number)

    async def _is_buried(self, number: int) -> bool:
        record = self._store.get_batch(number)
        head, _ = await self._ask(self._l1.get_head)
        if not await self._is_mined(number):
            raise ReorgPending(f"batch {number} was lost again to another reorganisation: try again")
        return record is not None and head - record.block >= self._settings.confirmations
