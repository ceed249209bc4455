"""Money: what every account has, what of it is set aside for its orders, and which places its tokens take.

Everything is whole quanta. An account has 15 positions, so a token that may come in needs a place before it does. The
tokens that count are those held, those that open orders may bring in, and those of deposits seen on L1. Only deposits
let this set grow beyond 15, and for them orders are removed: what is held or may come in by orders never needs more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proofbook.operator.book import BUY, Order
from proofbook.operator.codes import Code, InvariantError, Refused, must
from proofbook.operator.markets import Market
from proofbook.operator.matching import get_fee, get_fee_bps
from proofbook.protocol.table import MAX_AMOUNT, POSITIONS

Holdings = dict[int, dict[int, int]]
"""Amounts above 0 by account and token."""


@dataclass(slots=True)
class Balance:
    """One account's quanta of one token: free, and set aside for open orders."""

    available: int = 0
    reserved: int = 0

    @property
    def total(self) -> int:
        """All of it: what the proven state says once everything so far is settled."""
        return self.available + self.reserved


@dataclass(slots=True)
class _Account:
    balances: dict[int, Balance] = field(default_factory=dict)
    incoming: dict[int, int] = field(default_factory=dict)
    """How many open orders may bring in each token."""
    deposits: dict[int, int] = field(default_factory=dict)
    """How many deposits of each token were seen."""

    def tokens(self) -> set[int]:
        return {*self.balances, *self.incoming, *self.deposits}


def get_reserve(market: Market, order: Order) -> int:
    """Return the most quanta of its outgoing token that the rest of an order can take.

    Fees are rounded down fill by fill, and a sum of such is never above the fee on the sum: any splitting is covered.
    """
    if order.side is not BUY:
        return order.remaining * market.lot
    quote = order.remaining * order.price
    return quote + get_fee(quote, get_fee_bps(market, order.flags))


def _lacks(token: int, amount: int, free: int) -> Refused:
    return Refused(Code.INSUFFICIENT_BALANCE, f"{amount} quanta of token {token} are needed, {free} are free")


def _count_down(counts: dict[int, int], token: int) -> None:
    left = counts.get(token, 0) - 1
    if left > 0:
        counts[token] = left
    elif left == 0:
        del counts[token]
    else:
        raise InvariantError("places are given up as often as taken")


class Ledger:
    """Balances and places of all accounts. Balances of 0 are not kept."""

    def __init__(self) -> None:
        self._accounts: dict[int, _Account] = {}
        self.touched: dict[tuple[int, int], Balance] = {}
        """Every balance changed since the caller last cleared it, by (account, token); to be read only."""

    def _get(self, account: int) -> _Account:
        known = self._accounts.get(account)
        if known is None:
            known = self._accounts[account] = _Account()
        return known

    def get(self, account: int, token: int) -> Balance:
        """Return a copy of a balance."""
        known = self._accounts.get(account)
        found = known.balances.get(token) if known else None
        return Balance(found.available, found.reserved) if found else Balance()

    def tokens(self, account: int) -> list[int]:
        """Return the tokens an account holds, ascending."""
        known = self._accounts.get(account)
        return sorted(known.balances) if known else []

    def _change(self, account: int, token: int, available: int, reserved: int) -> None:
        # The hottest function of the engine: messages are only made when something is wrong.
        known = self._accounts.get(account) or self._get(account)
        balance = known.balances.get(token)
        is_new = balance is None
        if balance is None:
            balance = known.balances[token] = Balance()
        free = balance.available = balance.available + available
        held = balance.reserved = balance.reserved + reserved
        if free < 0 or held < 0:
            raise InvariantError(f"account {account} overspent token {token}")
        if not 0 < free + held <= MAX_AMOUNT:
            must(free + held == 0, f"account {account}'s token {token} does not fit in 64 bits")
            del known.balances[token]
        elif is_new and len(known.balances) > POSITIONS:
            raise InvariantError(f"account {account} holds more than {POSITIONS} tokens")
        self.touched[account, token] = balance

    # --- movements

    def credit(self, account: int, token: int, amount: int) -> None:
        """Add free quanta."""
        if amount:
            self._change(account, token, amount, 0)

    def debit(self, account: int, token: int, amount: int) -> None:
        """Take free quanta.

        Raises
        ------
        Refused
            ``insufficient_balance``.
        """
        balance = self._get(account).balances.get(token)
        free = balance.available if balance else 0
        if free < amount:
            raise _lacks(token, amount, free)
        self._change(account, token, -amount, 0)

    def reserve(self, order: Order, market: Market) -> None:
        """Set aside what an order can cost, and a place for what it may bring in.

        Raises
        ------
        Refused
            ``positions_full`` or ``insufficient_balance``; then nothing has changed.
        """
        account, known = order.account, self._get(order.account)
        incoming, outgoing = (market.base, market.quote) if order.side is BUY else (market.quote, market.base)
        if incoming not in known.balances and not self.has_place(account, incoming):
            raise Refused(Code.POSITIONS_FULL, f"all {POSITIONS} places are taken, token {incoming} has none")
        amount = get_reserve(market, order)
        balance = known.balances.get(outgoing)
        if balance is None or balance.available < amount:
            raise _lacks(outgoing, amount, balance.available if balance else 0)
        balance.available -= amount
        balance.reserved += amount
        self.touched[account, outgoing] = balance
        known.incoming[incoming] = known.incoming.get(incoming, 0) + 1
        order.incoming, order.outgoing, order.reserved = incoming, outgoing, amount

    def settle(self, order: Order, market: Market, spent: int, received: int) -> None:
        """Book a fill after which ``order.remaining`` is up to date; what its reserve no longer needs becomes free."""
        needed = get_reserve(market, order) if order.remaining else 0
        freed = order.reserved - spent - needed
        if freed < 0:
            raise InvariantError("a fill costs no more than its reserve")
        self._change(order.account, order.outgoing, freed, needed - order.reserved)
        order.reserved = needed
        if received:
            self._change(order.account, order.incoming, received, 0)

    def release(self, order: Order) -> None:
        """Free the reserve and the place of an order that is done."""
        account, known = order.account, self._accounts[order.account]
        if amount := order.reserved:
            balance = known.balances[order.outgoing]
            if balance.reserved < amount:
                raise InvariantError(f"account {account} has less set aside than its orders need")
            balance.available += amount
            balance.reserved -= amount
            self.touched[account, order.outgoing] = balance
            order.reserved = 0
        _count_down(known.incoming, order.incoming)

    # --- places

    def has_place(self, account: int, token: int) -> bool:
        """Tell whether a token could come in: it is held, or all that counts has a place with it."""
        known = self._get(account)
        return token in known.balances or len(known.tokens() | {token}) <= POSITIONS

    def is_crowded(self, account: int) -> bool:
        """Tell whether more tokens count than there are places, as after a deposit was seen."""
        return len(self._get(account).tokens()) > POSITIONS

    def is_bounced(self, account: int, token: int) -> bool:
        """Tell whether a deposit landing now finds no position (rule M13)."""
        held = self._get(account).balances
        return token not in held and len(held) == POSITIONS

    def expect_deposit(self, account: int, token: int) -> None:
        """Keep a place for a deposit seen on L1."""
        deposits = self._get(account).deposits
        deposits[token] = deposits.get(token, 0) + 1

    def unexpect_deposit(self, account: int, token: int) -> None:
        """Give up the place of a deposit that has landed or vanished."""
        _count_down(self._get(account).deposits, token)

    # --- the whole

    def reset(self, holdings: Holdings) -> None:
        """Put all balances back to these, all of them free; orders must have been released."""
        for account, known in self._accounts.items():
            self.touched.update({(account, token): Balance() for token in known.balances})
            known.balances.clear()
        for account, amounts in holdings.items():
            for token, amount in amounts.items():
                self.credit(account, token, amount)

    def dump(self) -> list[tuple[int, int, int, int]]:
        """Return (account, token, available, reserved) of every balance, sorted."""
        return sorted(
            (account, token, b.available, b.reserved)
            for account, known in self._accounts.items()
            for token, b in known.balances.items()
        )
