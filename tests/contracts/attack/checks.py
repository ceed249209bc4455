"""What must hold after every call: the chain is as the model says, and the vault covers what is owed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .model import State
from .node import NodeError
from .world import DEPOSIT, ETH, Call

if TYPE_CHECKING:
    from .life import Life
    from .opening import Stage

GLOBALS: Final = (
    "root", "number", "last timestamp", "operator", "queued", "served", "last deadline", "frozen", "accounts", "tokens",
)  # fmt: skip


class Violation(AssertionError):
    """The contract did what it must not."""


def look(stage: Stage, address: str) -> tuple[Any, ...]:
    """Globals, and for each token vault, outstanding and claims."""
    data = stage.probing.call("look", address)
    return stage.probing.answer("look", stage.node.call(stage.probe, stage.probe, data))


def _look_at_all(life: Life) -> tuple[Any, ...]:
    stage = life.stage
    data = stage.probing.call("lookAtAll", life.address, life.cast.people)
    return stage.probing.answer("lookAtAll", stage.node.call(stage.probe, stage.probe, data))


def check_state(life: Life, full: bool) -> None:
    """Compare the chain with the model.

    Raises
    ------
    Violation
        If anything differs, or a vault does not cover accounts, queue and claims.
    """
    state = life.state
    globals_, money, *more = _look_at_all(life) if full else look(life.stage, life.address)
    _same(GLOBALS, globals_, _globals(state))
    expected, names = [], []
    for k, t in state.tokens.items():
        expected += [t.held.get(life.address, 0), t.outstanding, t.claims]
        names += [f"vault of token {k}", f"outstanding of token {k}", f"claims of token {k}"]
    _same(names, money, expected)
    _check_cover(life, money)
    if more:
        _check_people(life, *more)


def _globals(s: State) -> list[int]:
    return [
        s.root, s.number, s.last_timestamp, int(s.operator, 16), s.queued, s.served, s.last_deadline, int(s.frozen),
        len(s.accounts), len(s.tokens),
    ]  # fmt: skip


def _same(names: Any, found: Any, expected: Any) -> None:
    if list(found) != list(expected):
        pairs = zip(names, found, expected, strict=False)
        differ = [f"{n}: {f} on chain, {e} in the model" for n, f, e in pairs if f != e]
        raise Violation("; ".join(differ) or f"{len(found)} values on chain, {len(expected)} in the model")


def _check_cover(life: Life, money: Any) -> None:
    """The vault covers accounts, queue and claims: exactly, donations aside, for tokens that behave."""
    honest = {ETH} | {k for k, t in life.state.tokens.items() if t.address in life.cast.good_tokens}
    for k in honest:
        vault, outstanding, claims = money[3 * k - 3 : 3 * k]
        owed = (outstanding + claims) * life.state.tokens[k].quantum
        if vault != owed + life.donated[k]:
            raise Violation(f"token {k}: the vault has {vault}, owed are {owed}, {life.donated[k]} were given")
        if outstanding + claims >= 2**64:
            raise Violation(f"token {k}: more than 64 bits")


def _check_people(life: Life, theirs: Any, accounts: Any, hashes: Any) -> None:
    state, expected = life.state, []
    for k, t in state.tokens.items():
        for who in life.cast.people:
            expected += [t.held.get(who, 0), state.claims.get((who, k), 0)]
    names = [
        f"{what} of {who}, token {k}" for k in state.tokens for who in life.cast.people for what in ("has", "claim")
    ]
    _same(names, theirs, expected)
    flags = [int(a.owner, 16) | a.pending << 160 | a.exited << 161 for a in state.accounts]
    _same([f"account {i}" for i in range(len(flags))], accounts, flags)
    _same([f"request {i}" for i in range(state.queued)], hashes, [i in state.waiting for i in range(state.queued)])
    if not life.unsound:
        _check_inside(life)


def _check_inside(life: Life) -> None:
    """What is outstanding is what the accounts hold and the queue: the model's own books add up."""
    state = life.state
    if state.frozen:
        return
    inside: dict[int, int] = defaultdict(int)
    for held in state.balances.values():
        for k, amount in held.items():
            inside[k] += amount
    for q in state.waiting.values():
        inside[ETH] += q.fee
        inside[q.token] += q.amount if q.kind == DEPOSIT else 0
    for k, t in state.tokens.items():
        if t.outstanding != inside[k]:
            raise Violation(f"token {k}: {t.outstanding} are outstanding, accounts and queue have {inside[k]}")


def check_freezable(life: Life) -> None:
    """A request past its deadline can freeze the exchange, whoever asks.

    Raises
    ------
    Violation
        If it can't.
    """
    state = life.state
    oldest = state.waiting.get(state.served)
    if state.frozen or oldest is None:
        return
    late = max(oldest.deadline, state.time) + 1
    call = Call(life.cast.mallory, "freeze", (oldest.argument(),))
    try:
        life.node.call(call.sender, life.address, life.stage.codec.call(call.name, *call.args), 0, late)
    except NodeError as error:
        raise Violation(f"a late request can't freeze: {life.stage.codec.error_text(error.data)}") from None


@dataclass
class Entitlements:
    """What everybody is owed at the freeze, in quanta, by the last proven root, the queue and the claims.

    Attributes
    ----------
    owed : dict
        By owner and token.
    had : dict
        What they had outside, in the token's units.
    spent : dict
        Wei that went into gas and gifts until then.
    """

    owed: dict[tuple[str, int], int]
    had: dict[tuple[str, int], int]
    spent: dict[str, int]

    @classmethod
    def of(cls, state: State, spent: dict[str, int]) -> Entitlements:
        owed = defaultdict(int, state.claims)
        for index, held in state.balances.items():
            for k, amount in held.items():
                owed[state.accounts[index].owner, k] += amount
        for q in state.waiting.values():
            owner = state.accounts[q.account].owner
            owed[owner, ETH] += q.fee
            owed[owner, q.token] += q.amount if q.kind == DEPOSIT else 0
        had = {(who, k): amount for k, t in state.tokens.items() for who, amount in t.held.items()}
        return cls(dict(owed), had, spent)

    def check(self, life: Life) -> None:
        """Compare with what everybody has got; only tokens that behave pay what they promise.

        Raises
        ------
        Violation
            If anybody got less or more.
        """
        honest = [ETH, *(k for k, t in life.state.tokens.items() if t.address in life.cast.good_tokens)]
        for k in honest:
            t = life.state.tokens[k]
            for who in life.cast.people:
                got = t.held.get(who, 0) - self.had.get((who, k), 0)
                if k == ETH:
                    got += life.wei_spent[who] - self.spent.get(who, 0)
                due = self.owed.get((who, k), 0) * t.quantum
                if got != due:
                    raise Violation(f"{who} got {got} of token {k}, and was owed {due}")
            if (t.outstanding, t.claims) != (0, 0):
                raise Violation(f"token {k}: {t.outstanding} outstanding and {t.claims} claims stay behind")
