"""The state rebuilt from the chain as a stream: a range of blocks is read, applied, and forgotten.

Nothing here trusts the node to be complete: requests and batches are numbered without gaps, so what is missing shows.
What is changed shows in a root, or in what the contract keeps of a request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.state import State
from proofbook.protocol.transition import apply
from proofbook.protocol.words import Request
from proofbook.verifier.abi import EVENTS, address_number, decode_event, topic
from proofbook.verifier.contract import Exchange
from proofbook.verifier.errors import HistoryBroken, RpcMalformed, RpcRefused, RpcUnavailable
from proofbook.verifier.held import Held
from proofbook.verifier.history import Batch, Exit, Ledger, Progress, Queued, read_batch, silent
from proofbook.verifier.replay import end_problems, genesis_problems
from proofbook.verifier.rpc import Rpc

OnBatch = Callable[[Batch], None]
OnRange = Callable[[Ledger], None]
_NAMES: Final = {topic(name): name for name in EVENTS}


def rebuild(
    rpc: Rpc, exchange: Exchange, first: int = 0, progress: Progress = silent, on_batch: OnBatch | None = None
) -> Ledger:
    """Return what came of the history of an exchange up to its block, or refuse.

    Parameters
    ----------
    rpc : Rpc
        The node.
    exchange : Exchange
        The contract.
    first : int
        Block to start at: that of the deployment, or before.
    progress : Progress
        Told the stages.
    on_batch : callable, optional
        Given every batch, before it is applied.

    Raises
    ------
    HistoryBroken
        If anything is missing or does not follow, or the result is not what the contract has.
    RpcUnavailable, RpcRefused, RpcMalformed
        When the node fails.
    """
    ledger = follow(rpc, exchange, Ledger(State(exchange.preset), block=first - 1), progress, on_batch)
    problems = [*genesis_problems(exchange), *ledger.problems, *end_problems(exchange, ledger)]
    problems = problems or Held(rpc).request_problems(exchange, ledger)
    if problems:
        raise HistoryBroken(tuple(str(problem) for problem in problems))
    return ledger


def follow(
    rpc: Rpc,
    exchange: Exchange,
    ledger: Ledger,
    progress: Progress = silent,
    on_batch: OnBatch | None = None,
    on_range: OnRange | None = None,
) -> Ledger:
    """Return a ledger moved on to the contract's block; what does not fit together is among its problems.

    Parameters
    ----------
    rpc, exchange, progress, on_batch
        As for `rebuild`.
    ledger : Ledger
        Where to start; not changed.
    on_range : callable, optional
        Given the ledger after each range: one that is whole, whatever happens in the next.

    Raises
    ------
    RpcUnavailable, RpcRefused, RpcMalformed
        When the node fails.
    """
    follower = _Follower(rpc, exchange, ledger, progress, on_batch)
    for upto, events in rpc.ranges(exchange.address, list(_NAMES), ledger.block + 1, exchange.block):
        follower.ledger = ledger = ledger.copy()
        for log in events:
            follower.take(log)
        ledger.block, ledger.block_hash = upto, ""
        progress(f"read block {upto} of {exchange.block}, {ledger.number} of {exchange.batch_number} batches rebuilt")
        if on_range is not None and not ledger.problems:
            on_range(ledger)
    follower.finish()
    return follower.ledger


def find_batch(rpc: Rpc, exchange: Exchange, number: int, block: int, first: int) -> Batch | None:
    """Return a batch by its number, None where a node knows of none.

    Parameters
    ----------
    rpc, exchange, first
        As for `rebuild`.
    number : int
        The batch's.
    block : int
        Where to look for it first; another node may have said so.

    Raises
    ------
    RpcUnavailable, RpcRefused
        When the node fails.
    ProofbookError
        When what is there is none.
    """
    for start, end in ((block, block), (first, exchange.block)):
        for _, events in rpc.ranges(exchange.address, [topic("BatchCommitted")], start, end, number):
            for log in events:
                event = decode_event("BatchCommitted", log)
                if event[0] == number:
                    return read_batch(rpc, exchange, event, log)
    return None


class _Follower:
    """Applies events to a ledger. After a gap in requests, batches or states, that kind is not followed any more."""

    def __init__(
        self, rpc: Rpc, exchange: Exchange, ledger: Ledger, progress: Progress, on_batch: OnBatch | None
    ) -> None:
        self.rpc, self.exchange, self.ledger = rpc, exchange, ledger
        self.progress, self.on_batch = progress, on_batch
        self.read_number = ledger.number
        self.requests_fit = self.batches_fit = self.states_fit = not ledger.problems

    def finish(self) -> None:
        """Note what the contract counts and no event told of."""
        exchange, ledger = self.exchange, self.ledger
        if self.requests_fit and ledger.queued != exchange.queued:
            ledger.note("requests_missing", f"{ledger.queued} of {exchange.queued} requests have an event")
        if self.batches_fit and self.read_number != exchange.batch_number:
            ledger.note("batches_missing", f"{self.read_number} of {exchange.batch_number} batches have an event")

    def take(self, log: dict[str, Any]) -> None:
        if str(log.get("address", "")).lower() != self.exchange.address:
            raise RpcMalformed("eth_getLogs: an event of another contract")
        topics = log.get("topics")
        name = _NAMES.get(str(topics[0]).lower()) if isinstance(topics, list) and topics else None
        if name is None:
            raise RpcMalformed("eth_getLogs: an event that was not asked for")
        event = decode_event(name, log)
        if name == "RequestQueued":
            self._request(event)
        elif name == "BatchCommitted":
            self._batch(event, log)
        else:
            self._money(name, event)

    def _money(self, name: str, event: tuple[Any, ...]) -> None:
        ledger = self.ledger
        if name == "ClaimCredited":
            ledger.credit(address_number(event[0]), event[1], event[2])
        elif name == "ClaimPaid":
            ledger.credit(address_number(event[0]), event[1], -event[2])
        elif name == "Exited":
            account, owner, tokens, amounts = event
            ledger.exits[account] = Exit(address_number(owner), tokens, tuple(amounts))
        else:
            ledger.reclaimed.add(event[0])

    def _request(self, event: tuple[Any, ...]) -> None:
        id_, account, _, kind, token, amount, owner, pub_x, pub_y, fee, deadline = event
        ledger = self.ledger
        if not self.requests_fit:
            return
        if id_ != ledger.queued:
            self.requests_fit = False
            ledger.note("requests_missing", f"request {id_} follows request {ledger.queued - 1}")
            return
        if account >= self.exchange.preset.accounts:
            self.requests_fit = False
            ledger.note("request_changed", f"request {id_} is of account {account}, beyond the tree")
            return
        request = Request(kind, account, token, amount, address_number(owner), pub_x, pub_y)
        ledger.requests[id_] = Queued(id_, request, fee, deadline)
        ledger.queued += 1

    def _batch(self, event: tuple[Any, ...], log: dict[str, Any]) -> None:
        if not self.batches_fit:
            return
        number = self.read_number + 1
        if event[0] != number:
            self.batches_fit = False
            self.ledger.note("batches_missing", f"batch {event[0]} comes where batch {number} should")
            return
        self.progress(f"rebuilding batch {number} of {self.exchange.batch_number}")
        try:
            batch = read_batch(self.rpc, self.exchange, event, log)
        except ProofbookError as error:
            if isinstance(error, (RpcUnavailable, RpcRefused)):
                raise
            self.batches_fit = False
            self.ledger.note("batch_unreadable", f"batch {number}: {error}")
            return
        self.read_number = number
        if self.on_batch is not None:
            self.on_batch(batch)
        if self.states_fit and not self._apply(batch, int(log["blockNumber"], 16)):
            self.states_fit = False

    def _apply(self, batch: Batch, block: int) -> bool:
        """Move the state on by a batch; tells whether it follows."""
        ledger, header = self.ledger, batch.page.header
        where = f"batch {batch.number}"
        last = ledger.served + len(batch.queued)
        if header.timestamp < ledger.timestamp:
            ledger.note("batch_timestamp", f"{where}: its timestamp is before its predecessor's")
        elif header.size_id >= len(self.exchange.sizes):
            ledger.note("batch_size", f"{where}: there is no size {header.size_id}")
        elif batch.first_request != ledger.served:
            ledger.note("batch_requests", f"{where}: starts at request {batch.first_request}, not {ledger.served}")
        elif list(batch.queued) != [ledger.requests.get(id_) for id_ in range(ledger.served, last)]:
            ledger.note("batch_requests", f"{where}: its requests are not those of the queue")
        else:
            try:
                outcome = apply(ledger.state, batch.page, size=self.exchange.sizes[header.size_id].size)
            except ProofbookError as error:
                ledger.note("batch_transition", f"{where}: {error}")
                return False
            ledger.state, ledger.number, ledger.timestamp = outcome.state, batch.number, header.timestamp
            ledger.batch_block = block
            for id_ in range(ledger.served, last):
                del ledger.requests[id_]
            ledger.served = last
            return True
        return False
