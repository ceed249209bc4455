"""What of an exchange is worth an alert: a pure function from what was seen to what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Final

from proofbook.escape.owned import Owned
from proofbook.protocol.table import ETH_TOKEN, RequestKind
from proofbook.verifier.contract import Exchange
from proofbook.verifier.history import Problem, Queued

MIN_WINDOW: Final = 1


class Severity(IntEnum):
    """How bad it is; an alert of the highest gives the exit code."""

    INFO = 0
    WARNING = 1
    CRITICAL = 2


EXIT_CODES: Final = {Severity.INFO: 0, Severity.WARNING: 3, Severity.CRITICAL: 4}
EXIT_ESCAPED: Final = 5
ESCAPE_ON: Final = frozenset(
    {
        "books",
        "code_changed",
        "data",
        "deadline_passed",
        "frozen",
        "insolvent",
        "keys_changed",
        "operator_gone",
        "proof",
        "root",
    }
)
"""Alerts on which the escape begins by itself, where that was asked for."""
DOUBTFUL: Final = ESCAPE_ON | {"chain_stale", "exit_wrong", "node_unreachable"}
"""Alerts that a node alone can cause, by a lie or by standing still: the next look is at another, if any."""
_DATA: Final = ("requests_missing", "request_changed", "batches_missing", "batch_unreadable")


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to be told.

    Attributes
    ----------
    code : str
        Stable name.
    severity : Severity
        How bad.
    text : str
        For people.
    about : str
        Which one, where there may be several of a code.
    is_event : bool
        Whether it happened, once; anything else lasts until it is over.
    """

    code: str
    severity: Severity
    text: str
    about: str = ""
    is_event: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it by name."""
        told = {"code": self.code, "severity": self.severity.name.lower(), "text": self.text}
        return {**told, "about": self.about} if self.about else told


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on it is worth an alert, in seconds.

    Attributes
    ----------
    quiet, gone : int or None
        No batch for so long while requests wait: a warning, the operator is gone. Default: a quarter and a half of the
        contract's request window.
    deadline : int or None
        So long before a deadline. Default: a quarter of the window.
    grace : int
        A node may fail for so long before that is critical.
    stale : int
        A node's latest block may be so old.
    """

    quiet: int | None = None
    gone: int | None = None
    deadline: int | None = None
    grace: int = 300
    stale: int = 900


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen in one look.

    Attributes
    ----------
    now : int
        Unix time that the next block will have at least: what deadlines are held against.
    clock : int
        Unix time of the look, by this machine's clock: no node has a say in it.
    error : str
        Why nothing could be seen; all that follows is empty then.
    exchange : Exchange or None
        The contract.
    window : int
        Its request window, seconds.
    last_batch : int
        Timestamp of the last batch, 0 before the first.
    oldest : Queued or None
        The oldest unserved request.
    queued_at : int
        Timestamp of the block in which it was queued; 0 if that was before the last batch.
    problems : tuple of Problem
        Where the data of the chain do not lead to what the contract has.
    exits : tuple of Problem
        Exits that took something else than the account had.
    vault : mapping of int to (int or None)
        Base units the contract holds, by token id; None where the token does not say.
    owed : mapping of int to int
        Quanta that it owes, by token id, by its own books or the rebuilt ones, whichever is more.
    code_hash, keys_hash : str
        Of the contract's code, and of all that its proofs are checked with.
    code_known : bool or None
        Whether the code is what this checkout's sources compile to; None where that was not found out.
    own : Owned or None
        What the watched address owns.
    own_keys : mapping of int to (int, int)
        Trading keys of its accounts.
    artifacts : str
        What is wrong with the stored exit artifacts; empty if nothing is, or none were to be looked at.
    gas, gas_needed : int
        Wei that the sending address has, and that leaving takes about; 0 needed where that does not matter.
    """

    now: int
    clock: int = 0
    error: str = ""
    exchange: Exchange | None = None
    window: int = MIN_WINDOW
    last_batch: int = 0
    oldest: Queued | None = None
    queued_at: int = 0
    problems: tuple[Problem, ...] = ()
    exits: tuple[Problem, ...] = ()
    vault: Mapping[int, int | None] = field(default_factory=dict)
    owed: Mapping[int, int] = field(default_factory=dict)
    code_hash: str = ""
    keys_hash: str = ""
    code_known: bool | None = None
    own: Owned | None = None
    own_keys: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    artifacts: str = ""
    gas: int = 0
    gas_needed: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier looks saw, to compare with.

    Attributes
    ----------
    seen_at : int
        Unix time of the last look at which a node answered, 0 for never.
    code_hash, keys_hash : str
        As they were first seen.
    bad_proofs : mapping of int to str
        Batches whose proof does not hold, and why.
    bad_at : mapping of int to (int, int)
        Of those: the block that they are said to be in, and the root that they lead to.
    proofs_from : int
        The first batch whose proof was checked.
    own_keys : mapping of int to (int, int)
        By account.
    balances : mapping of int to (mapping of int to int)
        Quanta by account and token.
    exited : frozenset of int
        Accounts that had left.
    """

    seen_at: int = 0
    code_hash: str = ""
    keys_hash: str = ""
    bad_proofs: Mapping[int, str] = field(default_factory=dict)
    bad_at: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    proofs_from: int = 0
    own_keys: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    balances: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    exited: frozenset[int] = frozenset()


def judge(sight: Sight, memory: Memory, limits: Limits) -> tuple[tuple[Alert, ...], Memory]:
    """Return what is worth an alert, and what to remember for the next look.

    Parameters
    ----------
    sight : Sight
        This look.
    memory : Memory
        Of the earlier ones; ``Memory()`` before the first.
    limits : Limits
        Thresholds.
    """
    if sight.exchange is None:
        # A clock that was wrong, or is: what lies ahead of it was not seen.
        memory = replace(memory, seen_at=min(memory.seen_at, sight.clock))
        return (_blind(sight, memory, limits),), memory
    alerts = [*_chain(sight, sight.exchange, limits), *_truth(sight, sight.exchange, memory)]
    alerts += [*_money(sight, sight.exchange)]
    if not sight.exchange.frozen:
        alerts += [*_liveness(sight, limits), *_deadlines(sight, limits)]
    if sight.own is not None:
        alerts += [*_own(sight, sight.own, memory)]
    return tuple(alerts), _remember(sight, memory)


def worst(alerts: tuple[Alert, ...]) -> Severity:
    """Return the highest severity among alerts, that of nothing without any."""
    return max((alert.severity for alert in alerts), default=Severity.INFO)


def reasons_of(alerts: tuple[Alert, ...]) -> list[str]:
    """Return the codes of those that are reasons to leave."""
    return sorted({alert.code for alert in alerts if alert.code in ESCAPE_ON})


def is_word(alerts: tuple[Alert, ...]) -> bool:
    """Tell whether a look says anything of reasons to leave: neither a blind one nor an old block that shows none."""
    codes = {alert.code for alert in alerts}
    return "node_unreachable" not in codes and (bool(codes & ESCAPE_ON) or "chain_stale" not in codes)


def _blind(sight: Sight, memory: Memory, limits: Limits) -> Alert:
    blind = sight.clock - memory.seen_at
    severity = Severity.WARNING if blind <= limits.grace else Severity.CRITICAL
    since = f"for {blind} s" if memory.seen_at else "yet"
    return Alert("node_unreachable", severity, f"no node could be read {since}: {sight.error}"[:1000])


def _chain(sight: Sight, exchange: Exchange, limits: Limits) -> Iterator[Alert]:
    if exchange.frozen:
        yield Alert("frozen", Severity.CRITICAL, "the exchange is frozen: leave, by exit and claim")
    late = sight.now - exchange.time
    if late > limits.stale:
        yield Alert("chain_stale", Severity.WARNING, f"the node's latest block is {late} s old; ask another node too")


def _truth(sight: Sight, exchange: Exchange, memory: Memory) -> Iterator[Alert]:
    """Yield what is wrong with code, keys, data, state and proofs."""
    if memory.code_hash and sight.code_hash != memory.code_hash:
        yield Alert("code_changed", Severity.CRITICAL, "the contract's code is another one than before")
    if memory.keys_hash and sight.keys_hash != memory.keys_hash:
        yield Alert("keys_changed", Severity.CRITICAL, "the contract's verifying keys are others than before")
    if sight.code_known is False:
        yield Alert("code_unknown", Severity.WARNING, "the contract's code is not what this checkout compiles to")
    for problem in sight.problems:
        code = "data" if problem.code in _DATA else "books" if problem.code == "books" else "root"
        yield Alert(code, Severity.CRITICAL, f"{problem.text}; ask another node too", problem.code)
    for problem in sight.exits:
        yield Alert("exit_wrong", Severity.CRITICAL, problem.text)
    for number, text in sorted(memory.bad_proofs.items()):
        if number <= exchange.batch_number:
            yield Alert("proof", Severity.CRITICAL, text, str(number))


def _money(sight: Sight, exchange: Exchange) -> Iterator[Alert]:
    for token in exchange.tokens:
        held, owed = sight.vault.get(token.id), sight.owed.get(token.id, 0) * token.quantum
        if held is None:
            yield Alert("token_silent", Severity.WARNING, f"{token.symbol} does not tell its balance", token.symbol)
        elif held < owed:
            text = f"{token.symbol}: the vault holds {held}, owed are {owed} (base units)"
            if _concerns(sight.own, token.id):
                yield Alert("insolvent", Severity.CRITICAL, text, token.symbol)
            else:
                # A token may say anything, and an owner may add any: nobody else is to flee because of it.
                yield Alert("insolvent_other", Severity.WARNING, f"{text}; you have none of it", token.symbol)


def _concerns(own: Owned | None, token: int) -> bool:
    """Tell whether a token is money of the watched address; all is where none is watched."""
    if own is None or token == ETH_TOKEN or token in own.claims:
        return True
    held = any(token in account.balances for account in own.accounts)
    return held or any(queued.request.token == token for queued in own.waiting)


def _liveness(sight: Sight, limits: Limits) -> Iterator[Alert]:
    if sight.oldest is None:
        return
    # Not from its deadline: requests filed one after the other push that out as far as somebody cares to pay for.
    silence = sight.now - max(sight.last_batch, sight.queued_at)
    text = f"requests wait, and there was no batch for {silence} s"
    if silence > (sight.window // 2 if limits.gone is None else limits.gone):
        yield Alert("operator_gone", Severity.CRITICAL, text)
    elif silence > (sight.window // 4 if limits.quiet is None else limits.quiet):
        yield Alert("operator_quiet", Severity.WARNING, text)


def _deadlines(sight: Sight, limits: Limits) -> Iterator[Alert]:
    early = sight.window // 4 if limits.deadline is None else limits.deadline
    watched = {q.id: q for q in (sight.own.waiting if sight.own is not None else ())}
    for queued in {**({sight.oldest.id: sight.oldest} if sight.oldest else {}), **watched}.values():
        whose = "yours" if queued.id in watched else "the oldest"
        left = queued.deadline - sight.now
        if left < 0:
            text = f"request {queued.id} ({whose}) missed its deadline {-left} s ago: anyone may freeze"
            yield Alert("deadline_passed", Severity.CRITICAL, text, str(queued.id))
        elif left < early:
            text = f"request {queued.id} ({whose}) has {left} s left until its deadline"
            yield Alert("deadline_near", Severity.WARNING, text, str(queued.id))


def _own(sight: Sight, own: Owned, memory: Memory) -> Iterator[Alert]:
    """Yield what happened to the watched address's accounts, and what would hold it up."""
    for index, key in sight.own_keys.items():
        if memory.own_keys.get(index, key) != key:
            text = f"account {index} has another trading key than before: was that you?"
            yield Alert("key_changed", Severity.CRITICAL, text, str(index), is_event=True)
    for queued in own.waiting:
        where = f"account {queued.request.account}, request {queued.id}"
        if queued.request.kind == RequestKind.KEY:
            yield Alert("key_change_requested", Severity.WARNING, f"{where}: a change of its key", str(queued.id))
        if queued.request.kind == RequestKind.EXIT:
            yield Alert("forced_exit_requested", Severity.WARNING, f"{where}: a forced exit", str(queued.id))
    for account in own.accounts:
        index, before = account.index, memory.balances.get(account.index)
        if account.exited and index not in memory.exited:
            yield Alert("exited", Severity.INFO, f"account {index} left the exchange", str(index), is_event=True)
        if before is not None and dict(before) != account.balances:
            text = f"account {index}: {_quanta(sight, before)} became {_quanta(sight, account.balances)}"
            yield Alert("balance_changed", Severity.INFO, text, str(index), is_event=True)
    if own.claims:
        yield Alert("claimable", Severity.INFO, f"{_quanta(sight, own.claims)} can be claimed")
    if sight.artifacts:
        yield Alert("artifacts", Severity.WARNING, f"there is no way out without the exit files: {sight.artifacts}")
    if sight.gas < sight.gas_needed:
        text = f"the sending address has {sight.gas} wei, leaving may take {sight.gas_needed}"
        yield Alert("gas_low", Severity.WARNING, text)


def _quanta(sight: Sight, quanta: Mapping[int, int]) -> str:
    tokens = {token.id: token for token in (sight.exchange.tokens if sight.exchange else ())}
    parts = [f"{amount * tokens[k].quantum} {tokens[k].symbol}" for k, amount in quanta.items() if k in tokens]
    return ", ".join(parts) or "nothing"


def _remember(sight: Sight, memory: Memory) -> Memory:
    seen = replace(
        memory,
        seen_at=sight.clock,
        code_hash=memory.code_hash or sight.code_hash,
        keys_hash=memory.keys_hash or sight.keys_hash,
    )
    if sight.own is None:
        return seen
    return replace(
        seen,
        own_keys=dict(sight.own_keys),
        balances={account.index: account.balances for account in sight.own.accounts},
        exited=frozenset(account.index for account in sight.own.accounts if account.exited),
    )
