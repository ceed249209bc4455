"""Trading: admitted orders, the books they rest in, and what a match means for everybody's money.

An id counts as used when its order got as far as the book: also when it was refused there (post-only, fill-or-kill),
lest a signed order that its owner believes dead be played again.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from heapq import heappop, heappush

from proofbook.operator import events as e
from proofbook.operator.book import Book, Order, OrderKey
from proofbook.operator.codes import Code, Refused, Removal
from proofbook.operator.markets import Market, Markets
from proofbook.operator.matching import IMMEDIATE, Fill, SelfTrade, Width, get_fee, get_fee_bps, match
from proofbook.operator.registry import Registry, SlotState
from proofbook.operator.risk import Ledger, get_incoming
from proofbook.operator.settlement import Entry, Part, TradeEntry, TradeRecord
from proofbook.protocol.messages import Action, SignedAction
from proofbook.protocol.table import FEE_ACCOUNT, Flag, Side

_SIDES = (Side.BUY, Side.SELL)


@dataclass(slots=True)
class Live:
    """A resting order with what it was made from."""

    order: Order
    signed: SignedAction
    market: Market


def _get_flows(record: TradeRecord, side: Side, fee: int) -> tuple[int, int]:
    """Return what one side of a trade pays of its outgoing token, and gets of its incoming one."""
    if side is Side.BUY:
        return record.quote_amount + fee, record.base_amount
    return record.base_amount, record.quote_amount - fee


class Trading:
    """Books and resting orders.

    Parameters
    ----------
    markets, width, make_book
        What is traded, how wide a fill-or-kill order may be, and what makes an empty book.
    registry, ledger, log
        Where ids, money and what must be proven are kept.
    stream
        Where events go.

    Attributes
    ----------
    books : dict of str to Book
        By symbol.
    live : dict of OrderKey to Live
        Resting orders; ``by_account`` has them by account and id, oldest first.
    trade_seq : int
        Trades made.
    """

    def __init__(
        self,
        markets: Markets,
        width: Width,
        make_book: Callable[[], Book],
        registry: Registry,
        ledger: Ledger,
        log: MutableSequence[Entry],
        stream: e.Stream,
    ) -> None:
        self._width, self._registry, self._ledger = width, registry, ledger
        self._log, self._stream = log, stream
        self._make_book = make_book
        self.books: dict[str, Book] = {}
        self.use_markets(markets)
        self.live: dict[OrderKey, Live] = {}
        self.by_account: dict[int, dict[int, Live]] = {}
        self.trade_seq = 0
        self._expiries: list[tuple[int, int, int]] = []

    def use_markets(self, markets: Markets) -> None:
        """Trade in these markets, those so far among them."""
        self._markets = markets
        for market in markets.all:
            if market.symbol not in self.books:
                self.books[market.symbol] = self._make_book()

    def place(self, signed: SignedAction, action: Action) -> None:
        """Admit and match an order whose form was checked.

        Raises
        ------
        Refused
            With any code of an order; then nothing has changed, but for the id after `matching.match` refused.
        """
        market, order = self._make_order(action)
        state = self._registry.get(order.account)
        self._ledger.reserve(order, market)
        try:
            steps = match(self.books[market.symbol], order, self._width)
        except Refused:
            self._ledger.release(order, market)
            self._registry.use_id(state, order.id, SlotState.DONE)
            raise
        self._registry.use_id(state, order.id, SlotState.LIVE)
        self._stream.append(
            e.OrderAccepted(
                seq=self._stream.next_seq(),
                symbol=market.symbol,
                account=order.account,
                id=order.id,
                side=int(order.side),
                price=order.price,
                lots=order.lots,
                flags=order.flags,
                valid_until=action.valid_until,
            )
        )
        taker = Live(order, signed, market)
        self._book_steps(taker, steps)
        if not order.remaining:
            self._finish(taker, Removal.FILLED)
        elif order.flags & IMMEDIATE:
            self._finish(taker, Removal.IMMEDIATE)
        else:
            self.live[order.key] = taker
            self.by_account.setdefault(order.account, {})[order.id] = taker
            heappush(self._expiries, (action.valid_until, *order.key))

    def _make_order(self, action: Action) -> tuple[Market, Order]:
        """Return the order that an action is, with its market, or refuse it for what needs no money to be seen."""
        state = self._registry.get_active(action.account, action.base, action.quote)
        self._registry.check_id(state, action.id)
        market = self._markets.get(action.base, action.quote)
        price, lots = market.get_price_and_lots(action.base_amount, action.quote_amount)
        if action.max_fee_bps < (bps := get_fee_bps(market, action.flags)):
            raise Refused(Code.FEE_CAP, f"this order can be charged {bps} bps, and allows {action.max_fee_bps}")
        return market, Order(action.account, action.id, _SIDES[action.side], price, lots, action.flags, market.symbol)

    def _book_steps(self, taker: Live, steps: list[Fill | SelfTrade]) -> None:
        """Book what matching did. The taker's money moves once, for all its trades together."""
        left, spent, received = taker.order.lots, 0, 0
        records: list[TradeRecord] = []
        for step in steps:
            maker = self.live[step.maker.key]
            if isinstance(step, SelfTrade):
                self._finish(maker, Removal.SELF_TRADE)
                continue
            left -= step.lots
            record = self._trade(maker, taker, step.lots, left)
            records.append(record)
            pays, gets = _get_flows(record, taker.order.side, record.parts[1].fee)
            spent, received = spent + pays, received + gets
        if records:
            self._ledger.settle(taker.order, taker.market, spent, received)
            if taker.order.flags & Flag.FOK:
                self._log.append(TradeEntry(tuple(records)))
            else:
                self._log.extend([TradeEntry((record,)) for record in records])

    def _trade(self, maker: Live, taker: Live, lots: int, taker_left: int) -> TradeRecord:
        """Make a trade: the maker's money, the fees and the event; the record has the maker's part first."""
        market, price = maker.market, maker.order.price
        base, quote = lots * market.lot, lots * price
        # M12: where the fee account has no place for the token, there is no fee.
        charged = self._ledger.has_place(FEE_ACCOUNT, market.quote)
        maker_fee = get_fee(quote, market.maker_fee_bps) if charged else 0
        taker_fee = get_fee(quote, market.taker_fee_bps) if charged else 0
        self.trade_seq += 1
        parts = (Part(maker.signed, maker_fee), Part(taker.signed, taker_fee))
        record = TradeRecord(self.trade_seq, base, quote, parts)
        self._ledger.settle(maker.order, market, *_get_flows(record, maker.order.side, maker_fee))
        self._ledger.credit(FEE_ACCOUNT, market.quote, maker_fee + taker_fee)
        self._stream.append(
            e.Trade(
                seq=self._stream.next_seq(),
                number=record.number,
                symbol=market.symbol,
                price=price,
                lots=lots,
                base_amount=base,
                quote_amount=quote,
                taker_side=int(taker.order.side),
                maker_account=maker.order.account,
                maker_id=maker.order.id,
                maker_fee=maker_fee,
                maker_left=maker.order.remaining,
                taker_account=taker.order.account,
                taker_id=taker.order.id,
                taker_fee=taker_fee,
                taker_left=taker_left,
            )
        )
        if not maker.order.remaining:
            self._finish(maker, Removal.FILLED)
        return record

    def _finish(self, live: Live, reason: Removal) -> None:
        """Let go of an order that is not in the book any more."""
        order = live.order
        if self.live.pop(order.key, None):
            del self.by_account[order.account][order.id]
        self._ledger.release(order, live.market)
        self._registry.use_id(self._registry.accounts[order.account], order.id, SlotState.DONE)
        self._stream.append(
            e.OrderRemoved(
                seq=self._stream.next_seq(),
                symbol=order.symbol,
                account=order.account,
                id=order.id,
                lots=order.remaining,
                reason=reason.value,
            )
        )

    def remove(self, live: Live, reason: Removal) -> None:
        """Take a resting order out."""
        self.books[live.order.symbol].remove(live.order)
        self._finish(live, reason)

    def remove_where(self, account: int, reason: Removal, concerns: Callable[[Live], bool]) -> None:
        """Take those of an account's resting orders out that something concerns, oldest first."""
        for live in list(self.by_account.get(account, {}).values()):
            if concerns(live):
                self.remove(live, reason)

    def expire(self, before: int) -> None:
        """Remove the orders whose valid_until lies before a time."""
        while self._expiries and self._expiries[0][0] < before:
            _, account, id_ = heappop(self._expiries)
            if live := self.live.get((account, id_)):
                self.remove(live, Removal.EXPIRED)

    def make_room(self, account: int) -> None:
        """Remove orders that would bring in new tokens, newest first, until a deposit has its place."""
        for live in reversed(list(self.by_account.get(account, {}).values())):
            if not self._ledger.is_crowded(account):
                break
            if not self._ledger.get(account, get_incoming(live.market, live.order.side)).total:
                self.remove(live, Removal.POSITIONS)
