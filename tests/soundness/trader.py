"""Random pages: whatever the exchange takes, drawn so that each kind of row and effect comes up often."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proofbook.protocol.table import MAX_AMOUNT, POSITIONS, ActionType, Flag, RequestKind, Side
from proofbook.protocol.words import FeeRow

TOKENS = (1, 2, 3, 65535)
SEVERAL = range(100, 200)
"""Tokens that fill positions."""
FOK = int(Flag.FOK)


@dataclass
class Resting:
    """An order that has filled in part."""

    account: int
    id: int
    side: Side
    base: int
    quote: int
    limit: tuple[int, int]
    fee_bps: int
    filled: int

    @property
    def left(self) -> int:
        return self.limit[0] - self.filled


@dataclass
class Draft:
    """A page to be tried.

    Attributes
    ----------
    then : list of callable
        What the trader remembers if the exchange takes it.
    """

    requests: list[Any] = field(default_factory=list)
    acts: list[Any] = field(default_factory=list)
    fees: Counter[int] = field(default_factory=Counter)
    then: list[Callable[[], None]] = field(default_factory=list)
    spent: Counter[tuple[int, int]] = field(default_factory=Counter)
    keys: dict[int, int] = field(default_factory=dict)

    def rows(self) -> tuple[list[Any], list[Any], list[FeeRow]]:
        """Return requests, actions grouped by account, and fees."""
        acts = sorted(self.acts, key=lambda act: act[0].account)
        return self.requests, acts, [FeeRow(token, amount) for token, amount in sorted(self.fees.items())]


class Trader:
    """Draws pages for an exchange as it stands.

    Parameters
    ----------
    world : World
        The exchange.
    rng : random.Random
        Decides everything.
    rows : tuple of int
        Requests, actions, accounts and fees that there is room for.
    """

    def __init__(self, world: Any, rng: random.Random, rows: tuple[int, ...]) -> None:
        self.world, self.rng, self.rows = world, rng, rows
        self.last: dict[int, int] = {}
        self.keys: Counter[int] = Counter()
        self.resting: list[Resting] = []
        self.draft = Draft()

    def prepare(self) -> None:
        """Give accounts 0 to 2 enough of three tokens, and one of them no place for others, perhaps."""
        world, rng = self.world, self.rng
        amounts = (10**5, 10**9, 10**15, MAX_AMOUNT // 3)
        world.settle([world.deposit(i, token, rng.choice(amounts)) for i in (0, 1, 2) for token in TOKENS[:3]])
        if rng.random() < 0.6:
            full = rng.choice((1, 2))
            free = POSITIONS - len(world.state.account(full).positions)
            world.settle([world.deposit(full, token, token) for token in rng.sample(SEVERAL, free)])

    def page(self) -> tuple[list[Any], list[Any], list[FeeRow]]:
        """Return requests, actions and fees; `settled` if the exchange takes them."""
        self.draft = Draft()
        people = sorted(self.world.state.accounts)
        # Now and then there is a row left for an account to be opened.
        size = max(1, self.rows[2] - (self.rng.random() < 0.5))
        room = set(self.rng.sample(people, min(len(people), size)))
        if self.rng.random() < 0.8:
            room = {0, *sorted(room - {0})[: size - 1]}
        self._request(room)
        left = self.rng.choice((self.rows[1], self.rng.randint(0, self.rows[1])))
        while left >= 2 and self.rng.random() < 0.85:
            left -= self._trade(room)
        for _ in range(left):
            self._move(self.rng.choice(sorted(room)), room)
        return self.draft.rows()

    def settled(self) -> None:
        """Remember what the last page did."""
        for step in self.draft.then:
            step()

    # --- requests

    def _request(self, room: set[int]) -> None:
        world, rng = self.world, self.rng
        for _ in range(rng.randint(0, self.rows[0])):
            kind, account = rng.random(), rng.choice(sorted(room))
            token = rng.choice((*TOKENS, rng.choice(SEVERAL)))
            if kind < 0.3:
                self._open(room)
            elif kind < 0.45 and account not in self.draft.keys and account in world.state.accounts:
                self._rekey(account)
            elif kind < 0.62:
                self.draft.requests.append(world.leave(account, token))
                self.draft.spent[account, token] += MAX_AMOUNT
            else:
                most = (MAX_AMOUNT - self._held(account, token)) // 8
                amount = rng.choice((1, most, rng.randint(1, most))) if most > 1 else 1
                self.draft.requests.append(world.deposit(account, token, amount))

    def _open(self, room: set[int]) -> None:
        """Open the next account, if there is a row for it."""
        taken = {*self.world.state.accounts, *(r.account for r in self.draft.requests)}
        free = next((i for i in range(self.world.state.preset.accounts) if i not in taken), None)
        if free is not None and len(room) < self.rows[2]:
            self.draft.requests.append(self.world.opening(free))
            self.draft.keys[free] = 0
            room.add(free)

    def _rekey(self, account: int) -> None:
        """Change the key, seldom to the one that is there; this page's actions are under the new one."""
        new = self.keys[account] + (self.rng.random() < 0.9)
        self.draft.requests.append(self.world.rekey(account, new))
        self.draft.keys[account] = new
        self.draft.then.append(lambda: self.keys.update({account: new - self.keys[account]}))

    # --- actions

    def _held(self, account: int, token: int) -> int:
        return int(dict(self.world.state.account(account).positions).get(token, 0))

    def _amount(self, account: int, token: int) -> int:
        """Return something that the account has left of a token, at the ends now and then; 0 if it has none."""
        left = self._held(account, token) - self.draft.spent[account, token]
        return self.rng.choice((1, left, max(1, left - 1), self.rng.randint(1, left))) if left > 0 else 0

    def _id(self, account: int) -> int:
        """Return the next id: the slot after, the same slot once more, or far away."""
        slots = self.world.state.preset.slots
        step = self.rng.choice((1, 1, 2, slots, slots - 1, 3 * slots + 1))
        self.last[account] = self.last.get(account, 40) + step
        return self.last[account]

    def _act(self, row: Any, signed: Any) -> None:
        key = self.draft.keys.get(row.account, self.keys[row.account])
        self.draft.acts.append((row, self.world.sign(signed.action, key) if key else signed))

    def _move(self, account: int, room: set[int]) -> None:
        """Withdraw, transfer, cancel, or an order that fills nothing."""
        world, rng = self.world, self.rng
        token, kind = rng.choice(TOKENS), rng.random()
        amount = self._amount(account, token)
        others = [i for i in sorted(room) if self._held(i, token) and i in world.state.accounts]
        mine = [order for order in self.resting if order.account == account]
        if kind < 0.6 and amount:
            self.draft.spent[account, token] += amount
            if kind < 0.3 or not others:
                self._act(*world.withdraw(account, self._id(account), token, amount))
            else:
                self._act(*world.transfer(account, self._id(account), token, amount, rng.choice(others)))
        elif kind < 0.72:
            limit = (rng.randint(1, 1000), rng.choice((1, MAX_AMOUNT)))
            self._act(*world.order(account, self._id(account), rng.choice(list(Side)), (0, 0, 0), limit=limit))
        else:
            self._act(*world.cancel(account, rng.choice(mine).id if mine else self._id(account)))

    def _trade(self, room: set[int]) -> int:
        """Draw two orders that fill each other; return how many rows they take."""
        rng = self.rng
        old = [order for order in self.resting if order.account in room and self._stands(order)]
        order = rng.choice(old) if old and rng.random() < 0.7 else None
        base, quote = (order.base, order.quote) if order else rng.sample(TOKENS[:3], 2)
        sells = order.side == Side.SELL if order else rng.random() < 0.5
        has, wants = (base, quote) if sells else (quote, base)
        first = order.account if order else self._holder(room, has)
        other = self._holder(room - {first}, wants)
        if first is None or other is None:
            return 2
        seller, buyer = (first, other) if sells else (other, first)
        sold, paid = self._part(seller, base), self._part(buyer, quote)
        if order is not None:
            sold = min(sold, order.left)
            exact, rest = divmod(sold * order.limit[1], order.limit[0])
            paid = min(paid, exact + bool(rest and sells))
            if paid < exact + bool(rest and sells) and sells:
                return 2
        if not sold or not paid:
            return 2
        self.draft.spent[seller, base] += sold
        self.draft.spent[buyer, quote] += paid
        for account, side in ((seller, Side.SELL), (buyer, Side.BUY)):
            mine = order if account == first else None
            self._fill(account, side, (base, quote), (sold, paid), room, mine)
        return 2

    def _holder(self, room: set[int], token: int) -> int | None:
        found = [i for i in sorted(room) if self._held(i, token) > self.draft.spent[i, token]]
        return self.rng.choice(found) if found else None

    def _part(self, account: int, token: int) -> int:
        """Return what is traded: mostly a part, so that something is left for the next."""
        amount = self._amount(account, token)
        return amount if self.rng.random() < 0.3 else -(-amount // self.rng.choice((3, 10, 1000)))

    def _stands(self, order: Resting) -> bool:
        """Tell whether an order can fill again: its slot is still its own, and no row of this page is about it."""
        account = self.world.state.account(order.account)
        acted = any((row.account, row.id) == (order.account, order.id) for row, _ in self.draft.acts)
        held = account.slot(self.world.state.preset, order.id)
        return not acted and order.left > 0 and held == (order.id, order.filled)

    def _fill(
        self,
        account: int,
        side: Side,
        tokens: tuple[int, int],
        fill: tuple[int, int],
        room: set[int],
        order: Resting | None,
    ) -> None:
        """Put one order's row, an old one's or a new one's."""
        rng, flags = self.rng, 0
        if order is None:
            flags = FOK if rng.random() < 0.25 else 0
            limit = self._limit(side, fill, whole=bool(flags))
            order = Resting(account, self._id(account), side, *tokens, limit, rng.choice((0, 50, 10_000)), 0)
        most = min(order.fee_bps * fill[1] // 10_000, 1 << 40) if 0 in room else 0
        if side == Side.BUY:
            most = min(most, max(0, self._held(account, tokens[1]) - self.draft.spent[account, tokens[1]]))
        fee = rng.randint(0, most) if len(self.draft.fees.keys() | {tokens[1]}) <= self.rows[3] else 0
        if fee:
            self.draft.fees[tokens[1]] += fee
            self.draft.spent[account, tokens[1]] += fee if side == Side.BUY else 0
        names = {"base": order.base, "quote": order.quote, "fee_bps": order.fee_bps, "flags": flags}
        self._act(*self.world.order(account, order.id, side, (*fill, fee), limit=order.limit, **names))
        kept, filled = order, order.filled + fill[0]
        self.draft.then.append(lambda: self._remember(kept, filled))

    def _remember(self, order: Resting, filled: int) -> None:
        order.filled = filled
        if order.left and order not in self.resting:
            self.resting.append(order)

    def _limit(self, side: Side, fill: tuple[int, int], whole: bool) -> tuple[int, int]:
        """Return an order's size and limit: the fill itself, or larger, or at a much better price."""
        rng, (sold, paid) = self.rng, fill
        size = sold if whole else min(MAX_AMOUNT, sold * rng.choice((1, 2, 10)) + rng.randint(0, 5))
        exact, rest = divmod(paid * size, sold)
        if side == Side.SELL:
            worst = max(1, exact >> rng.choice((0, 0, 1, 20)))
            return (size, worst) if worst <= min(exact, MAX_AMOUNT) else fill
        worst = (exact + bool(rest)) * rng.choice((1, 1, 2, 1000))
        return (size, worst) if worst <= MAX_AMOUNT else fill


def seen_in(state: Any, page: Any, signed: list[Any]) -> Counter[str]:
    """Return what a page that a state takes is made of, told from page, signatures and state alone."""
    seen: Counter[str] = Counter()
    for row in page.requests:
        request, account = row.request, state.account(row.request.account)
        kind = RequestKind(request.kind)
        seen[kind.name.lower()] += 1
        seen["bounce"] += kind == RequestKind.DEPOSIT and row.outcome == 1
        seen["exit that pays"] += kind == RequestKind.EXIT and row.outcome > 0
        other = (account.pub_x, account.pub_y) != (request.pub_x, request.pub_y)
        seen["other key"] += kind == RequestKind.KEY and other
    for row, sign in zip(page.actions, signed, strict=True):
        action, (held, filled) = sign.action, state.account(row.account).slot(state.preset, row.id)
        seen[ActionType(row.type).name.lower()] += 1
        if row.type == ActionType.CANCEL:
            seen["cancel of an order that filled"] += held == row.id and filled > 0
        if row.type != ActionType.ORDER or not row.ex_base:
            continue
        again = held == row.id and filled > 0
        seen["fill"] += 1
        seen["second fill"] += again
        seen["fill or kill"] += bool(action.flags & FOK)
        seen["fill of account 0"] += row.account == 0
        seen["larger than its fill"] += action.base_amount > row.ex_base + (filled if again else 0)
        better = row.ex_quote * action.base_amount != row.ex_base * action.quote_amount
        seen["better than its limit"] += better
        seen["fee"] += row.aux > 0
    seen["empty"] += not page.requests and not page.actions
    seen["with a trade"] += any(row.type == ActionType.ORDER and row.ex_base for row in page.actions)
    return +seen
