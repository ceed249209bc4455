"""What an exchange's history consists of, and what remains of it; a batch read out of its transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from proofbook.protocol.state import State
from proofbook.protocol.table import FEE_ACCOUNT
from proofbook.protocol.words import (
    Header,
    Page,
    Request,
    RequestRow,
    actions_from_calldata,
    fees_from_calldata,
)
from proofbook.verifier.abi import decode_commit, log_transaction
from proofbook.verifier.contract import Exchange
from proofbook.verifier.errors import RpcMalformed
from proofbook.verifier.rpc import Rpc, data, quantity

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
    block : int
        That the node says it is in.
    """

    number: int
    tx: str
    first_request: int
    page: Page
    queued: tuple[Queued, ...]
    c: int
    proof: tuple[int, ...]
    block: int = 0


@dataclass(frozen=True, slots=True)
class Exit:
    """What an account took along when the exchange was frozen."""

    owner: int
    tokens: int
    amounts: tuple[int, ...]


@dataclass(slots=True)
class Ledger:
    """What came of everything that happened up to a block: as small as what it describes, however long it took.

    Attributes
    ----------
    state : State
        After the last batch that was applied.
    block : int
        Everything up to this block is in here; -1 for nothing yet.
    block_hash : str
        Of that block, "" where it was not asked for.
    number, served, timestamp : int
        Of the last batch: its number, requests served by then, its time (Unix seconds).
    batch_block : int
        Block of the last batch, 0 before the first.
    queued : int
        Requests ever queued.
    requests : dict of int to Queued
        Those that no batch served, by id, also those taken back.
    claims : Counter
        (owner, token) to quanta credited and not paid out; none is 0.
    exits : dict of int to Exit
        By account.
    reclaimed : set of int
        Ids of requests taken back.
    problems : list of Problem
        What does not fit together.
    """

    state: State
    block: int = -1
    block_hash: str = ""
    number: int = 0
    served: int = 0
    timestamp: int = 0
    batch_block: int = 0
    queued: int = 0
    requests: dict[int, Queued] = field(default_factory=dict)
    claims: Counter[tuple[int, int]] = field(default_factory=Counter)
    exits: dict[int, Exit] = field(default_factory=dict)
    reclaimed: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def note(self, code: str, text: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(code, text))

    def copy(self) -> Ledger:
        """Return an independent one; a state is never changed, so both may have it."""
        return replace(
            self,
            requests=dict(self.requests),
            claims=Counter(self.claims),
            exits=dict(self.exits),
            reclaimed=set(self.reclaimed),
            problems=list(self.problems),
        )

    def waiting(self) -> list[Queued]:
        """Return the requests that are neither served nor taken back, oldest first."""
        return [q for q in self.requests.values() if q.id not in self.reclaimed]

    def credit(self, owner: int, token: int, quanta: int) -> None:
        """Add to a claim, or take from it."""
        self.claims[owner, token] += quanta
        if not self.claims[owner, token]:
            del self.claims[owner, token]


def read_batch(rpc: Rpc, exchange: Exchange, event: tuple[Any, ...], log: dict[str, Any]) -> Batch:
    """Fetch a batch's transaction (M19: its calldata is all the data there is) and decode it.

    Parameters
    ----------
    rpc : Rpc
        The node.
    exchange : Exchange
        The contract.
    event : tuple
        Arguments of its `BatchCommitted`.
    log : dict
        That event as the node gave it.

    Raises
    ------
    RpcUnavailable, RpcRefused
        When the node fails.
    ProofbookError
        When the transaction is missing, or says something else than the event.
    """
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
    return Batch(number, tx, first_request, page, queued, told.c, told.proof, quantity(log.get("blockNumber")))


def _queued(id_: int, row: tuple[int, ...]) -> Queued:
    kind, account, token, amount, _, owner, pub_x, pub_y, fee, deadline = row
    return Queued(id_, Request(kind, account, token, amount, owner, pub_x, pub_y), fee, deadline)
