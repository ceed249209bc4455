"""What is refused although the engine would take it: more than can be settled in time.

The sequencer asks here when a command's signature has held, right before the engine would do it. So the answer is about
the books as the order finds them, nobody is refused for what others sent in their name, and a refusal is not journaled:
what is replayed was admitted once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from proofbook.operator import commands as c
from proofbook.operator.book import BUY, SELL, Order, crosses
from proofbook.operator.codes import Code, Refused
from proofbook.operator.engine import Engine
from proofbook.operator.settings import Settings
from proofbook.operator.settlement import ActionEntry
from proofbook.protocol.messages import Action
from proofbook.protocol.table import Flag

SHARES: Final = 16
"""One account's hard cancels, withdrawals and transfers may be one part in so many of what may wait."""
_SIDES: Final = (BUY, SELL)
_ONE_ENTRY: Final = int(Flag.POST_ONLY | Flag.FOK)
"""An order with one of these meets nobody, or is settled whole."""


class Limits:
    """A gate of the sequencer.

    Parameters
    ----------
    settings : Settings
        ``max_pending`` counts.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_pending = settings.max_pending

    def check(self, engine: Engine, command: c.Command) -> None:
        """Refuse what must not be done now.

        Raises
        ------
        Refused
            ``busy``.
        """
        check = _CHECKS.get(type(command))
        if check is not None:
            check(self, engine, command)

    def _check_order(self, engine: Engine, command: c.PlaceOrder) -> None:
        room, action = self._get_room(engine), command.signed.action
        # No order meets more than there are: mostly there is nothing to count.
        if len(engine.trading.live) > room and not action.flags & _ONE_ENTRY and _is_wide(engine, action, room):
            raise Refused(Code.BUSY, f"this order meets more than {room} others, and no more trades may wait now")

    def _check_free(self, engine: Engine, command: c.HardCancel | c.Withdraw | c.Transfer) -> None:
        """Refuse what costs its sender nothing where so much of an account waits that it crowds others out."""
        self._get_room(engine)
        limit, account = max(self._max_pending // SHARES, 1), command.signed.action.account
        mine = sum(type(e) is ActionEntry and e.signed.action.account == account for e in engine.settlement.log)
        if mine >= limit:
            raise Refused(Code.BUSY, f"{limit} actions of this account wait to be settled")

    def _get_room(self, engine: Engine) -> int:
        """Return how much may still come to wait: L1's requests, with their deadlines, wait behind it."""
        room = self._max_pending - len(engine.settlement.log)
        if room <= 0:
            raise Refused(Code.BUSY, f"{self._max_pending} trades and actions wait to be settled")
        return room


_CHECKS: Final[dict[type, Callable[[Limits, Engine, Any], None]]] = {
    c.PlaceOrder: Limits._check_order,
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
