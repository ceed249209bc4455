"""The exchange's history out of the chain's logs and the batches' calldata.

Nothing here trusts the node to be complete: requests and batches are numbered without gaps, so what is missing shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.table import FEE_ACCOUNT
from proofbook.protocol.words import (
    Header,
    Page,
    Request,
    RequestRow,
    actions_from_calldata,
    fees_from_calldata,
)
from proofbook.verifier.abi import address_number, decode_commit, decode_event, log_transaction, topic
from proofbook.verifier.contract import Exchange
from proofbook.verifier.errors import RpcMalformed, RpcRefused, RpcUnavailable
from proofbook.verifier.rpc import Rpc, data

Progress = Callable[[str], None]
"""Called with what is being done."""


def silent(stage: str) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it has to be.

    Attributes
    ----------
    code : str
        Stable name.
    text : str
        What was found.
    """

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


@dataclass(frozen=True, slots=True)
class Queued:
    """A request as it was queued.

    Attributes
    ----------
    id : int
        Its place in the queue, from 0.
    request : Request
        What is asked.
    fee : int
        Gwei (ETH quanta) paid with it.
    deadline : int
        Unix seconds; once past, and unserved, anyone may freeze.
    """

    id: int
    request: Request
    fee: int
    deadline: int

    def argument(self, outcome: int = 0) -> tuple[int | str, ...]:
        """Return the contract's ``RequestData`` of it."""
        q = self.request
        owner = f"0x{q.owner:040x}"
        return (q.kind, q.account, q.token, q.amount, outcome, owner, q.pub_x, q.pub_y, self.fee, self.deadline)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as its event and its transaction tell it.

    Attributes
    ----------
    number : int
        From 1.
    tx : str
        Hash of its transaction.
    first_request : int
        Id of the first request that it served.
    page : Page
        Its rows; number, old root and domain are the contract's own.
    queued : tuple of Queued
        The requests as the batch brought them along.
    c : int
        The circuit's commitment.
    proof : tuple of int
        Eight words.
    """

    number: int
    tx: str
    first_request: int
    page: Page
    queued: tuple[Queued, ...]
    c: int
    proof: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exit:
    """What an account took along when the exchange was frozen."""

    owner: int
    tokens: int
    amounts: tuple[int, ...]


@dataclass(slots=True)
class History:
    """Everything that happened up to a block.

    Attributes
    ----------
    requests : list of Queued
        By id.
    batches : list of Batch
        By number, without gaps from 1; ends where a batch can't be read.
    claims : Counter
        (owner, token) to quanta credited and not paid out.
    exits : dict of int to Exit
        By account.
    reclaimed : set of int
        Ids of requests taken back.
    problems : list of Problem
        What does not fit together.
    """

    requests: list[Queued] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    claims: Counter[tuple[int, int]] = field(default_factory=Counter)
    exits: dict[int, Exit] = field(default_factory=dict)
    reclaimed: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def note(self, code: str, text: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(code, text))


def read_history(
    rpc: Rpc, exchange: Exchange, first: int = 0, progress: Progress = silent, known: Sequence[Batch] = ()
) -> History:
    """Read the exchange's history up to its block.

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
    known : sequence of Batch
        From an earlier reading: a batch whose event is the same is not fetched again.

    Raises
    ------
    RpcUnavailable, RpcRefused, RpcMalformed
        When the node fails; what it leaves out or gets wrong becomes a problem.
    """
    history = History()
    progress("reading requests")
    _read_requests(history, exchange, _events(rpc, exchange, "RequestQueued", first))
    progress("reading claims and exits")
    for arguments, _ in _events(rpc, exchange, "ClaimCredited", first):
        history.claims[address_number(arguments[0]), arguments[1]] += arguments[2]
    for arguments, _ in _events(rpc, exchange, "ClaimPaid", first):
        history.claims[address_number(arguments[0]), arguments[1]] -= arguments[2]
    for (account, owner, tokens, amounts), _ in _events(rpc, exchange, "Exited", first):
        history.exits[account] = Exit(address_number(owner), tokens, tuple(amounts))
    for arguments, _ in _events(rpc, exchange, "Reclaimed", first):
        history.reclaimed.add(arguments[0])
    reader = _BatchReader(rpc, exchange, {batch.tx: batch for batch in known})
    _read_batches(reader, history, list(_events(rpc, exchange, "BatchCommitted", first)), progress)
    return history


def _events(rpc: Rpc, exchange: Exchange, name: str, first: int) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    for log in rpc.logs(exchange.address, topic(name), first, exchange.block):
        if str(log.get("address", "")).lower() != exchange.address:
            raise RpcMalformed("eth_getLogs: an event of another contract")
        yield decode_event(name, log), log


def _read_requests(
    history: History, exchange: Exchange, events: Iterator[tuple[tuple[Any, ...], dict[str, Any]]]
) -> None:
    for (id_, account, _, kind, token, amount, owner, pub_x, pub_y, fee, deadline), _ in events:
        if id_ != len(history.requests):
            history.note("requests_missing", f"request {id_} follows request {len(history.requests) - 1}")
            return
        request = Request(kind, account, token, amount, address_number(owner), pub_x, pub_y)
        history.requests.append(Queued(id_, request, fee, deadline))
    if len(history.requests) != exchange.queued:
        history.note("requests_missing", f"{len(history.requests)} of {exchange.queued} requests have an event")


@dataclass(frozen=True, slots=True)
class _BatchReader:
    rpc: Rpc
    exchange: Exchange
    known: dict[str, Batch]

    def read(self, event: tuple[Any, ...], log: dict[str, Any]) -> Batch:
        number, _, _, old_root, new_root, *_ = event
        known = self.known.get(log_transaction(log))
        if known is not None:
            header = known.page.header
            if (header.number, header.old_root, header.new_root) == (number, old_root, new_root):
                return known
        return _read_batch(self.rpc, self.exchange, event, log)


def _read_batches(
    reader: _BatchReader, history: History, events: list[tuple[tuple[Any, ...], dict[str, Any]]], progress: Progress
) -> None:
    for arguments, log in events:
        number = len(history.batches) + 1
        if arguments[0] != number:
            history.note("batches_missing", f"batch {arguments[0]} comes where batch {number} should")
            return
        progress(f"reading batch {number} of {len(events)}")
        try:
            history.batches.append(reader.read(arguments, log))
        except ProofbookError as error:
            if isinstance(error, (RpcUnavailable, RpcRefused)):
                raise
            history.note("batch_unreadable", f"batch {number}: {error}")
            return
    if len(history.batches) != reader.exchange.batch_number:
        told = reader.exchange.batch_number
        history.note("batches_missing", f"{len(history.batches)} of {told} batches have an event")


def _read_batch(rpc: Rpc, exchange: Exchange, event: tuple[Any, ...], log: dict[str, Any]) -> Batch:
    """Fetch a batch's transaction (M19: its calldata is all the data there is) and decode it."""
    number, size_id, timestamp, old_root, new_root, first_request, *counts = event
    tx = log_transaction(log)
    found = rpc.call("eth_getTransactionByHash", tx)
    if not isinstance(found, dict) or str(found.get("hash", "")).lower() != tx.lower():
        raise RpcMalformed(f"the node does not have transaction {tx}")
    if str(found.get("to") or "").lower() != exchange.address:
        raise RpcMalformed(f"transaction {tx} was not sent to the contract")
    told = decode_commit(data(found.get("input")))
    queued = tuple(_queued(first_request + k, row) for k, row in enumerate(told.requests))
    page = Page(
        Header(exchange.domain, told.size_id, number, told.timestamp, FEE_ACCOUNT, old_root, told.new_root),
        tuple(RequestRow(q.request, row[4]) for q, row in zip(queued, told.requests, strict=True)),
        actions_from_calldata(told.actions),
        fees_from_calldata(told.fees),
    )
    if (told.size_id, told.timestamp, told.new_root) != (size_id, timestamp, new_root):
        raise RpcMalformed("its transaction says something else than its event")
    if [len(page.requests), len(page.actions), len(page.fees)] != counts:
        raise RpcMalformed("its transaction has other rows than its event says")
    return Batch(number, tx, first_request, page, queued, told.c, told.proof)


def _queued(id_: int, row: tuple[int, ...]) -> Queued:
    kind, account, token, amount, _, owner, pub_x, pub_y, fee, deadline = row
    return Queued(id_, Request(kind, account, token, amount, owner, pub_x, pub_y), fee, deadline)
