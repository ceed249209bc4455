"""What an L1 address owns in an exchange, and what its next step out of it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from proofbook.protocol.messages import parse_address
from proofbook.protocol.table import RequestKind
from proofbook.verifier.contract import Exchange, read_exchange
from proofbook.verifier.history import Ledger, Progress, Queued, silent
from proofbook.verifier.rpc import Rpc
from proofbook.verifier.stream import rebuild

StepName = Literal["request", "wait", "freeze", "exit", "reclaim", "claim", "done"]


@dataclass(frozen=True, slots=True)
class Holding:
    """An account.

    Attributes
    ----------
    index : int
        Its place in the tree.
    balances : dict of int to int
        Quanta by token id in the last proven root; kept here after an exit, though they are claims then.
    exited : bool
        Whether it left by `exit`.
    """

    index: int
    balances: dict[int, int]
    exited: bool


@dataclass(frozen=True, slots=True)
class Owned:
    """All that is an address's, at one block.

    Attributes
    ----------
    exchange : Exchange
        The contract at that block.
    owner : int
        The address.
    accounts : tuple of Holding
        By index; those whose opening waits are among them, empty.
    waiting : tuple of Queued
        Unserved requests of these accounts, not taken back.
    claims : dict of int to int
        Quanta by token id that wait to be paid out.
    oldest : Queued or None
        The oldest unserved request of anybody: what a freeze takes.
    """

    exchange: Exchange
    owner: int
    accounts: tuple[Holding, ...]
    waiting: tuple[Queued, ...]
    claims: dict[int, int]
    oldest: Queued | None


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next.

    Attributes
    ----------
    name : str
        ``request``, ``wait``, ``freeze``, ``exit``, ``reclaim``, ``claim`` or ``done``.
    account, token, request : int or None
        What it is about, where it is about that.
    until : int or None
        For ``wait``: Unix time after which a freeze is possible. Without: for a request that was sent to be seen.
    """

    name: StepName
    account: int | None = None
    token: int | None = None
    request: int | None = None
    until: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it by name, without what it is not about."""
        parts = {"account": self.account, "token": self.token, "request": self.request, "until": self.until}
        return {"step": self.name, **{name: value for name, value in parts.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was taken.

    Attributes
    ----------
    step : Step
        Which.
    tx : str
        Hash of its transaction.
    """

    step: Step
    tx: str

    def as_json(self) -> dict[str, Any]:
        """Return it by name."""
        return {**self.step.as_json(), "tx": self.tx}


def owned(
    rpc_url: str | Rpc, contract: str, owner: int | str, first_block: int = 0, progress: Progress = silent
) -> Owned:
    """Return what an address owns, rebuilt from the chain alone.

    Parameters
    ----------
    rpc_url : str or Rpc
        A node.
    contract, owner : str, int or str
        Addresses.
    first_block : int
        Block of the deployment, or any before.
    progress : Progress
        Told the stages.

    Raises
    ------
    HistoryBroken
        If what the node tells does not lead to the contract's root.
    VerifierError
        When the node fails or there is no exchange.
    InvalidValue
        For a malformed address.
    """
    rpc = Rpc(rpc_url) if isinstance(rpc_url, str) else rpc_url
    exchange = read_exchange(rpc, contract)
    return owned_of(exchange, rebuild(rpc, exchange, first_block, progress), owner)


def owned_of(exchange: Exchange, ledger: Ledger, owner: int | str) -> Owned:
    """Return what an address owns, given all that happened."""
    address = parse_address(owner)
    accounts = ledger.state.accounts
    # Openings say who an account is, also while they wait: that is whom the contract pays.
    mine = {q.request.account for q in ledger.requests.values() if _opens(q) and q.request.owner == address}
    mine |= {index for index, account in accounts.items() if account.owner == address}
    return Owned(
        exchange=exchange,
        owner=address,
        accounts=tuple(
            Holding(index, dict(ledger.state.account(index).positions), index in ledger.exits) for index in sorted(mine)
        ),
        waiting=tuple(q for q in ledger.waiting() if q.request.account in mine),
        claims={token: n for (who, token), n in sorted(ledger.claims.items()) if who == address and n},
        oldest=next(iter(ledger.requests.values()), None),
    )


def _opens(queued: Queued) -> bool:
    return queued.request.kind == RequestKind.OPEN


def next_step(what: Owned, now: int, aside: Collection[Step] = (), held: Collection[tuple[int, int]] = ()) -> Step:
    """Return what brings the owner's money out next.

    Parameters
    ----------
    what : Owned
        What there is.
    now : int
        Unix time.
    aside : collection of Step
        Steps to pass over, because they were tried and failed.
    held : collection of (int, int)
        Forced exits not to ask for, by account and token, because that was done; they are waited for.
    """
    return next(step for step in steps_of(what, now, held) if step not in aside)


def steps_of(what: Owned, now: int, held: Collection[tuple[int, int]] = ()) -> Iterator[Step]:
    """Yield all that can be done, in the order in which it is to be; the last is ``wait`` or ``done``."""
    claims = (Step("claim", token=token) for token in what.claims)
    if what.exchange.frozen:
        yield from _when_frozen(what)
        yield from claims
        yield Step("done")
        return
    stuck = what.waiting or any(account.balances for account in what.accounts)
    if stuck and what.oldest is not None and now > what.oldest.deadline:
        yield Step("freeze", request=what.oldest.id)
    yield from claims
    wanted = {(step.account, step.token): step for step in requests_of(what)}
    yield from (step for key, step in wanted.items() if key not in held)
    if not wanted.keys().isdisjoint(held):
        yield Step("wait")
    # Deposits that wait are served or past their deadline before long; either way there is a step after it.
    if what.waiting and what.oldest is not None:
        yield Step("wait", until=what.oldest.deadline)
    yield Step("done")


def _when_frozen(what: Owned) -> Iterator[Step]:
    for account in what.accounts:
        if account.balances and not account.exited:
            yield Step("exit", account=account.index)
    for queued in what.waiting:
        if queued.fee or queued.request.kind == RequestKind.DEPOSIT:
            yield Step("reclaim", request=queued.id)


def requests_of(what: Owned) -> Iterator[Step]:
    """Yield a forced exit for all that an address holds and that none waits for."""
    asked = {(q.request.account, q.request.token) for q in what.waiting if q.request.kind == RequestKind.EXIT}
    for account in what.accounts:
        for token in account.balances:
            if (account.index, token) not in asked:
                yield Step("request", account=account.index, token=token)
