"""What is refused although the engine would take it: more than can be settled in time, or than an account may journal.

The sequencer asks here when a command's signature has held, right before the engine would do it. So the answer is about
the books as the order finds them, nobody pays for what others sent in their name, and a refusal is not journaled: what
is replayed was admitted once.

An account has an allowance of commands that come to nothing: orders that rest or are refused, withdrawals that are
refused. Orders that trade and actions that become rows cost it nothing here: room and its share bound them, and orders
leave a part of the room to actions, so that trades keep nobody's withdrawal out. The cancel of a resting order is
always heard, and one that is refused is answered from memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from proofbook.operator import commands as c
from proofbook.operator import events as ev
from proofbook.operator.book import BUY, SELL, Order, crosses
from proofbook.operator.codes import Code, Refused
from proofbook.operator.engine import Engine
from proofbook.operator.settings import Settings
from proofbook.protocol.messages import Action
from proofbook.protocol.table import Flag

_FREE: Final = (c.HardCancel, c.Withdraw, c.Transfer)
SHARES: Final = 16
"""One account's hard cancels, withdrawals and transfers may be one part in so many of what may wait."""
KEPT: Final = 4
"""One part in so many of what may wait is kept for these actions."""
_SIDES: Final = (BUY, SELL)
_ONE_ENTRY: Final = int(Flag.POST_ONLY | Flag.FOK)
"""An order with one of these meets nobody, or is settled whole."""


_SPARE_ACCOUNTS: Final = 1024
_TOO_FAST: Final = "this account sends more that does not trade, or is refused, than the operator takes"


class Allowances:
    """For each account a bucket of ``burst`` that is refilled by ``rate`` a second; full ones take no memory."""

    def __init__(self, burst: int, rate: int, clock: Callable[[], float]) -> None:
        self._pause, self._depth, self._clock = 1 / rate, (burst - 1) / rate, clock
        self._full_at: dict[int, float] = {}
        self._many = _SPARE_ACCOUNTS

    def __len__(self) -> int:
        return len(self._full_at)

    def is_empty(self, account: int) -> bool:
        """Tell whether an account has used up what it had."""
        full_at = self._full_at.get(account)
        return full_at is not None and full_at - self._clock() > self._depth

    def take(self, account: int) -> bool:
        """Take one from an account's bucket unless it is empty, and tell whether it was not."""
        now, buckets = self._clock(), self._full_at
        full_at = buckets.get(account)
        if full_at is None or full_at < now:
            full_at = now
        elif full_at - now > self._depth:
            return False
        buckets[account] = full_at + self._pause
        if len(buckets) > self._many:
            self._full_at = {account: full_at for account, full_at in buckets.items() if full_at > now}
            self._many = 2 * len(self._full_at) + _SPARE_ACCOUNTS
        return True

    def put_back(self, account: int) -> None:
        """Undo the latest `take`."""
        self._full_at[account] -= self._pause


class Limits:
    """A gate of the sequencer.

    Parameters
    ----------
    settings : Settings
        ``max_pending``, ``order_burst`` and ``order_rate`` count.
    clock : callable
        Seconds, never going back.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_pending = settings.max_pending
        self._allowances = Allowances(settings.order_burst, settings.order_rate, clock)
        self._trades = 0

    def check(self, engine: Engine, command: c.Command) -> None:
        """Refuse what must not be done now.

        Raises
        ------
        Refused
            ``busy``; a cancel that takes nothing out, as the engine would refuse it.
        """
        check = _CHECKS.get(type(command))
        if check is not None:
            check(self, engine, command)

    def note(self, engine: Engine, command: c.Command, events: Sequence[ev.Event]) -> None:
        """Let an account off that traded after all, or charge it for an action that was refused."""
        if isinstance(command, c.PlaceOrder):
            if engine.trading.trade_seq != self._trades:
                self._allowances.put_back(command.signed.action.account)
        elif isinstance(command, _FREE) and type(events[0]) is ev.ActionRejected:
            self._allowances.take(command.signed.action.account)

    def _check_order(self, engine: Engine, command: c.PlaceOrder) -> None:
        room = self._get_room(engine, self._max_pending // KEPT)
        action, trading = command.signed.action, engine.trading
        # No order meets more than there are: mostly there is nothing to count.
        if len(trading.live) > room and not action.flags & _ONE_ENTRY and _is_wide(engine, action, room):
            raise Refused(Code.BUSY, f"this order meets more than {room} others, and no more trades may wait now")
        if not self._allowances.take(action.account):
            raise Refused(Code.BUSY, _TOO_FAST)
        self._trades = trading.trade_seq

    def _check_cancel(self, engine: Engine, command: c.Cancel) -> None:
        action = command.signed.action
        if action.valid_until < engine.now or engine.trading.find(action.account, action.id) is None:
            engine.find_cancelled(command.signed)

    def _check_free(self, engine: Engine, command: c.HardCancel | c.Withdraw | c.Transfer) -> None:
        """Refuse what costs its sender nothing where so much of an account waits that it crowds others out."""
        account, limit = command.signed.action.account, max(self._max_pending // SHARES, 1)
        # What the engine would refuse is refused here, or it would be journaled each time the same cancel comes.
        frees = type(command) is c.HardCancel and engine.find_hard_cancelled(command.signed) is not None
        if not frees and self._allowances.is_empty(account):
            raise Refused(Code.BUSY, _TOO_FAST)
        self._get_room(engine)
        if engine.settlement.actions_of[account] >= limit:
            raise Refused(Code.BUSY, f"{limit} actions of this account wait to be settled")

    def _get_room(self, engine: Engine, kept: int = 0) -> int:
        """Return how much may still come to wait: L1's requests, with their deadlines, wait behind it."""
        room = self._max_pending - kept - len(engine.settlement.log)
        if room <= 0:
            raise Refused(Code.BUSY, f"{len(engine.settlement.log)} trades, actions and requests wait to be settled")
        return room


_CHECKS: Final[dict[type, Callable[[Limits, Engine, Any], None]]] = {
    c.PlaceOrder: Limits._check_order,
    c.Cancel: Limits._check_cancel,
    c.HardCancel: Limits._check_free,
    c.Withdraw: Limits._check_free,
    c.Transfer: Limits._check_free,
}


def _is_wide(engine: Engine, action: Action, room: int) -> bool:
    """Tell whether an order makes more trades than there is room for; each is settled as an entry of its own."""
    market = engine.config.markets.by_pair.get((action.base, action.quote))
    if market is None:
        return False  # the engine says so
    try:
        price, left = market.get_price_and_lots(action.base_amount, action.quote_amount)
    except Refused:
        return False
    if left <= room:
        return False
    side = _SIDES[action.side]
    taker, count = Order(action.account, action.id, side, price, left), 0
    for maker in engine.trading.books[market.symbol].orders(SELL if side is BUY else BUY):
        if left <= 0 or not crosses(taker, maker.price):
            return False
        if maker.account != action.account:
            left -= maker.remaining
            count += 1
            if count > room:
                return True
    return False
