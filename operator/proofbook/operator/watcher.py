"""L1's request queue, followed: what is seen keeps its place, what is confirmed takes effect (docs/adr/0002).

A request is noted as soon as it stands in a block (its account is paused or its position kept), and applied when enough
blocks lie on top. A reorganisation takes back what was only noted. One that reaches a request already applied, or a
batch already confirmed, can't be undone, because it may have been traded away: the operator stops with `ReorgError`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Final

from web3 import Web3

from proofbook.chain.client import Exchange, QueuedRequest
from proofbook.chain.errors import ReorgDetected
from proofbook.chain.events import ConfirmedBlocks, RequestEvent, requests_since
from proofbook.operator import commands as c
from proofbook.operator import events as ev
from proofbook.operator.batches import ReorgError, StateDiverged, request_of
from proofbook.operator.codes import OperatorError
from proofbook.operator.engine import Engine
from proofbook.operator.l1 import RpcUnavailable, retry
from proofbook.operator.store import BatchStore, RequestRecord, StoreError

log = logging.getLogger(__name__)
BLOCKS: Final = "blocks"
_CHUNK: Final = 512

Submit = Callable[[c.Command], Awaitable[Sequence[ev.Event]]]


class WatchError(OperatorError):
    """L1's queue and the journal do not fit together (code ``watch``)."""

    code: ClassVar[str] = "watch"


def record_of(event: RequestEvent) -> RequestRecord:
    """Return what is stored of a request."""
    q, r = event.queued, event.queued.request
    return RequestRecord(
        number=q.id,
        kind=r.kind,
        account=r.account,
        token=r.token,
        amount=r.amount,
        owner=f"{r.owner:040x}",
        pub_x=f"{r.pub_x:064x}",
        pub_y=f"{r.pub_y:064x}",
        fee=q.fee,
        deadline=q.deadline,
        block=event.place.block,
        block_hash=event.place.block_hash,
    )


class Watcher:
    """Feeds L1's requests to the engine, each once and in order, also across restarts.

    Parameters
    ----------
    engine : Engine
        Read only; changed through ``submit``.
    submit : callable
        Does a command durably.
    store : BatchStore
        Holds the requests and the blocks they were read from.
    exchange : Exchange
        The contract.
    confirmations : int
        Blocks on top of a request's before it takes effect.
    start_block : int
        The contract's block or an earlier one.
    rpc_attempts : int
        See `retry`.
    """

    def __init__(
        self,
        engine: Engine,
        submit: Submit,
        store: BatchStore,
        exchange: Exchange,
        confirmations: int,
        start_block: int = 0,
        rpc_attempts: int = 3,
    ) -> None:
        self._engine, self._submit, self._store, self._exchange = engine, submit, store, exchange
        self._confirmations, self._attempts = confirmations, rpc_attempts
        self._start_block = start_block
        self._blocks = self._reader()
        self._lock = asyncio.Lock()
        self.block = self._blocks.next_block - 1

    def _reader(self) -> ConfirmedBlocks:
        """Return a reader that goes on after the blocks that were taken in."""
        try:
            known = [(int(n), str(h)) for n, h in json.loads(self._store.get_meta(BLOCKS) or "[]")]
        except (ValueError, TypeError, RecursionError) as error:
            raise StoreError(f"the blocks that were read can't be: {error}") from error
        first = known[-1][0] + 1 if known else self._start_block
        # Every block is read at once; confirmations are counted here, because noting comes before confirming.
        return ConfirmedBlocks(self._exchange.w3, first, 0, tuple(known))

    async def poll(self) -> None:
        """Take in what is new on L1.

        Raises
        ------
        ReorgError, StateDiverged, WatchError
            The operator must stop.
        RpcUnavailable
            The node does not answer; may be tried again.
        """
        async with self._lock:
            try:
                await self._poll()
            except BaseException:
                # The reader has moved on; what it handed out was not taken in.
                self._blocks = self._reader()
                raise

    async def _poll(self) -> None:
        await self._catch_up()
        try:
            span = await retry(self._attempts, self._blocks.advance)
        except ReorgDetected as reorg:
            await self._undo(reorg.fork_block)
            span = await retry(self._attempts, self._blocks.advance)
        if span is not None:
            await self._check_ours()
            await self._read(*span)
        await self._confirm()

    async def _read(self, first: int, last: int) -> None:
        told = await retry(self._attempts, lambda: list(requests_since(self._exchange, first, last)))
        # What is known stays as it is: nothing that comes later of it is newer, unless its block was replaced.
        events = [event for event in told if event.queued.id >= self._engine.registry.next_request]
        await self._check([event.queued for event in events], last)
        if events:
            log.info("blocks %d to %d: %d requests", first, last, len(events))
            self._store.put_requests([record_of(event) for event in events])
            await self._catch_up()
        # Last: a crash before this reads the same blocks again, and what is known already is known.
        self._store.set_meta(BLOCKS, json.dumps(self._blocks.known))
        self.block = last

    async def _check(self, told: Sequence[QueuedRequest], last: int) -> None:
        """Refuse new requests that are not those of the contract: one too few, too many, or another.

        Of blocks that it does not have yet, a node may say there are none, and these blocks would never be read again;
        what was taken in stays. `RpcUnavailable` has them read later.
        """
        served, end = await retry(self._attempts, self._exchange.queue, last)
        first = self._engine.registry.next_request
        for number, request in zip(range(first, end), told, strict=False):
            if request.id != number:
                raise RpcUnavailable(f"the node does not tell of request {number}, queued up to block {last}")
            # Of what is served nothing is kept.
            if number >= served and await self._get_hash(number, last) != request.hash():
                raise RpcUnavailable(f"the node tells of another request {number} than the contract has")
        if (known := first + len(told)) < end:
            raise RpcUnavailable(f"the node does not tell of request {known}, queued up to block {last}")
        if told and known > end:
            raise RpcUnavailable(f"the node tells of request {told[-1].id}, {end} were queued up to block {last}")

    async def _get_hash(self, number: int, block: int) -> bytes:
        return await retry(self._attempts, self._exchange.request_hash, number, block)

    async def _catch_up(self) -> None:
        """Note every stored request that the engine has not seen."""
        while records := self._store.list_requests(self._engine.registry.next_request, _CHUNK):
            for record in records:
                if record.number != self._engine.registry.next_request:
                    raise WatchError(f"request {self._engine.registry.next_request} is missing in the store")
                self._must(await self._submit(c.RequestSeen(record.number, request_of(record))))

    async def _confirm(self) -> None:
        seen = self._engine.registry.seen
        while seen:
            number = seen[0][0]
            (record,) = self._store.list_requests(number, 1)
            if record.block > self.block - self._confirmations:
                return
            self._must(await self._submit(c.RequestConfirmed(number)))

    async def _undo(self, fork_block: int) -> None:
        """Forget all requests above a block; they come again if the new chain has them."""
        log.warning("L1 was reorganised above block %d", fork_block)
        await self._check_batches(fork_block)
        registry = self._engine.registry
        unconfirmed = registry.next_unconfirmed
        if unconfirmed and await self._is_gone(unconfirmed - 1, fork_block):
            raise ReorgError(f"request {unconfirmed - 1} was confirmed, and its block is no longer on the chain")
        while registry.seen and await self._is_gone(registry.seen[-1][0], fork_block):
            self._must(await self._submit(c.RequestUnseen(registry.seen[-1][0])))
        self._store.delete_requests(registry.next_request)
        self._store.set_meta(BLOCKS, json.dumps(self._blocks.known))
        self.block = min(self.block, fork_block)

    async def _check_ours(self) -> None:
        """Stop if the chain has a batch that was never sealed here: what is matched now could not be settled."""
        on_chain, sealed = await retry(self._attempts, self._exchange.batch_number), self._engine.settlement.next_number
        if on_chain >= sealed:
            raise StateDiverged(
                f"the chain has {on_chain} batches, {sealed - 1} were sealed here: another operator runs on this key, "
                "or this is an old copy of its directory"
            )

    async def _check_batches(self, fork_block: int) -> None:
        """Stop if a confirmed batch was lost, also while nothing is to be settled: orders would be matched on it."""
        newest = next((r for r in self._store.list_batches(_CHUNK) if r.state == "confirmed"), None)
        if newest is None or newest.block <= fork_block:
            return
        on_chain = await retry(self._attempts, self._exchange.batch_number)
        if on_chain < newest.number:
            raise ReorgError(f"batch {newest.number} was confirmed, and the chain has {on_chain} batches now")

    async def _is_gone(self, number: int, fork_block: int) -> bool:
        """Tell whether a request's block was replaced. The fork may lie above it: known blocks stand far apart."""
        (record,) = self._store.list_requests(number, 1)
        return (
            record.block > fork_block and await retry(self._attempts, self._hash_of, record.block) != record.block_hash
        )

    def _hash_of(self, block: int) -> str:
        """Return a block's hash. That the node lacks it proves nothing, and is an error like no answer."""
        return Web3.to_hex(self._exchange.w3.eth.get_block(block)["hash"])

    @staticmethod
    def _must(events: Sequence[ev.Event]) -> None:
        for event in events:
            if isinstance(event, ev.CommandRejected):
                raise WatchError(f"the engine refused {event.command}: {event.code}, {event.detail}")
