"""What people ask about, read off the event stream: orders, also those that are done, and trades.

Made anew from the journal at every start, so nothing here is ever written. History is bounded: of orders that are done
and of each market's trades, the newest are kept.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

import msgspec

from proofbook.operator import events as ev
from proofbook.operator.book import OrderKey
from proofbook.operator.codes import Removal
from proofbook.protocol.table import RequestKind, Side

MAX_DONE_ORDERS: Final = 100_000
MAX_TRADES: Final = 10_000
OPEN: Final = "open"
_SIDES: Final = tuple(Side)
_OPENING: Final = int(RequestKind.OPEN)


class OrderView(msgspec.Struct, gc=False):
    """An order, open or done; sizes in lots, the rest in quanta."""

    account: int
    id: int
    symbol: str
    side: Side
    price: int
    lots: int
    flags: int
    valid_until: int
    remaining: int
    filled_base: int = 0
    filled_quote: int = 0
    fee: int = 0
    status: str = OPEN


class TradeView(msgspec.Struct, frozen=True, gc=False):
    """A trade and when it happened."""

    event: ev.Trade
    time: int


class Views:
    """The read side. Feed it every event in order, with the time at which it happened."""

    def __init__(self) -> None:
        self.orders: dict[OrderKey, OrderView] = {}
        self.open_of: dict[int, dict[int, OrderView]] = {}
        # Each market's newest numbers, and all trades by number but those that were busted, thousands at once perhaps.
        self._numbers: dict[str, deque[int]] = {}
        self._trades: dict[int, TradeView] = {}
        self.opened: list[int] = []
        """Accounts in the order in which they were opened; twice where a batch was undone."""
        self.frozen = False
        self._done: OrderedDict[OrderKey, None] = OrderedDict()

    def process(self, events: Iterable[ev.Event], now: int) -> None:
        """Take in events that happened at ``now``."""
        for event in events:
            process = _PROCESSES.get(type(event))
            if process is not None:
                process(self, event, now)

    def get_open_orders(self, account: int) -> list[OrderView]:
        """Return an account's open orders, oldest id first."""
        return sorted(self.open_of.get(account, {}).values(), key=lambda o: o.id)

    def get_trades(self, symbol: str, limit: int) -> list[TradeView]:
        """Return a market's newest trades, newest first."""
        trades = map(self._trades.get, reversed(self._numbers.get(symbol, ())))
        return list(islice((trade for trade in trades if trade is not None), limit))

    def _process_order(self, e: ev.OrderAccepted, now: int) -> None:
        account, id_, side = e.account, e.id, _SIDES[e.side]
        order = OrderView(account, id_, e.symbol, side, e.price, e.lots, e.flags, e.valid_until, e.lots)
        key = (account, id_)
        self.orders[key] = order
        self._done.pop(key, None)
        mine = self.open_of.get(account)
        if mine is None:
            mine = self.open_of[account] = {}
        mine[id_] = order

    def _process_request(self, e: ev.RequestApplied, now: int) -> None:
        if e.kind == _OPENING:
            self.opened.append(e.account)

    def _process_freeze(self, e: ev.ExchangeFrozen, now: int) -> None:
        self.frozen = True

    def _process_trade(self, e: ev.Trade, now: int) -> None:
        numbers = self._numbers.get(e.symbol)
        if numbers is None:
            numbers = self._numbers[e.symbol] = deque()
        numbers.append(e.number)
        self._trades[e.number] = TradeView(e, now)
        if len(numbers) > MAX_TRADES:
            self._trades.pop(numbers.popleft(), None)
        self._fill((e.maker_account, e.maker_id), e, e.maker_fee, e.maker_left, 1)
        self._fill((e.taker_account, e.taker_id), e, e.taker_fee, e.taker_left, 1)

    def _fill(self, key: OrderKey, e: ev.Trade, fee: int, left: int, sign: int) -> None:
        order = self.orders.get(key)
        if order is None:
            return  # done so long ago that it is forgotten
        order.filled_base += sign * e.base_amount
        order.filled_quote += sign * e.quote_amount
        order.fee += sign * fee
        order.remaining = left

    def _process_removal(self, e: ev.OrderRemoved, now: int) -> None:
        key = (e.account, e.id)
        order = self.orders.get(key)
        if order is None:
            return
        order.status, order.remaining = e.reason, e.lots
        if mine := self.open_of.get(e.account):
            mine.pop(e.id, None)
        self._done[key] = None
        self._done.move_to_end(key)
        while len(self._done) > MAX_DONE_ORDERS:
            self.orders.pop(self._done.popitem(last=False)[0], None)

    def _process_bust(self, event: ev.TradeBusted, now: int) -> None:
        trade = self._trades.pop(event.number, None)
        if trade is None:
            return  # so long ago that it is forgotten
        e = trade.event
        for key, fee in (
            ((e.maker_account, e.maker_id), e.maker_fee),
            ((e.taker_account, e.taker_id), e.taker_fee),
        ):
            order = self.orders.get(key)
            if order is not None:
                self._fill(key, e, fee, order.remaining + e.lots, -1)
                order.status = order.status if order.status == OPEN else Removal.BUSTED


_PROCESSES: Final[dict[type, Callable[[Views, Any, int], None]]] = {
    ev.OrderAccepted: Views._process_order,
    ev.Trade: Views._process_trade,
    ev.OrderRemoved: Views._process_removal,
    ev.RequestApplied: Views._process_request,
    ev.TradeBusted: Views._process_bust,
    ev.ExchangeFrozen: Views._process_freeze,
}
