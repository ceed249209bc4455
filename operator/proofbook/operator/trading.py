"""Trading: admitted orders, the books they rest in, and what a match means for everybody's money.

An id counts as used when its order got as far as the book: also when it was refused there (post-only, fill-or-kill),
lest a signed order that its owner believes dead be played again.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from heapq import heapify, heappop, heappush
from typing import Final

from proofbook.operator import events as e
from proofbook.operator.book import BUY, SELL, Book, Order
from proofbook.operator.codes import Code, Refused, Removal
from proofbook.operator.markets import Market, Markets
from proofbook.operator.matching import IMMEDIATE, Fill, SelfTrade, Width, get_fee, get_fee_bps, match
from proofbook.operator.registry import AccountState, Registry, SlotState
from proofbook.operator.risk import Ledger
from proofbook.operator.settlement import Entry, Part, TradeEntry, TradeRecord
from proofbook.protocol.messages import Action, SignedAction
from proofbook.protocol.table import FEE_ACCOUNT, Flag

# Asked for once: an enum takes its time to answer.
_SIDES: Final = (BUY, SELL)
_LIVE, _DONE = SlotState.LIVE, SlotState.DONE
_FILLED, _SELF_TRADE = Removal.FILLED, Removal.SELF_TRADE
_FOK: Final = int(Flag.FOK)
_SPARE_TIMES: Final = 1024
"""So many times without an order are kept before any are dropped: a market maker's one comes back at once."""


class Live(Order, eq=False, kw_only=True, gc=False):
    """An order with what it was made from, and whose it is."""

    signed: SignedAction
    market: Market
    state: AccountState


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
    live : dict of Order to Live
        Resting orders, oldest first; ``by_account`` has them by account and id.
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
        self.live: dict[Order, Live] = {}
        self.by_account: dict[int, dict[int, Live]] = {}
        self.trade_seq = 0
        # Of resting orders, by valid_until; and these times, some of which have no order left, as a heap.
        self._expiring: dict[int, dict[Order, Live]] = {}
        self._times: list[int] = []

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
        taker = self._make_order(signed, action)
        market = taker.market
        self._ledger.reserve(taker, market)
        try:
            steps = match(self.books[market.symbol], taker, self._width)
        except Refused:
            self._ledger.release(taker)
            self._registry.use_id(taker.state, taker.id, _DONE)
            raise
        self._stream.append(
            e.OrderAccepted(
                self._stream.next_seq(),
                market.symbol,
                taker.account,
                taker.id,
                action.side,
                taker.price,
                taker.lots,
                taker.flags,
                action.valid_until,
            )
        )
        if steps:
            self._book_steps(taker, steps)
        if not taker.remaining:
            self._finish(taker, _FILLED)
        elif taker.flags & IMMEDIATE:
            self._finish(taker, Removal.IMMEDIATE)
        else:
            self._rest(taker, action.valid_until)

    def _make_order(self, signed: SignedAction, action: Action) -> Live:
        """Return the order that an action is, or refuse it for what needs no money to be seen."""
        state = self._registry.get_active(action.account, action.base, action.quote)
        self._registry.check_id(state, action.id)
        market = self._markets.get(action.base, action.quote)
        price, lots = market.get_price_and_lots(action.base_amount, action.quote_amount)
        if action.max_fee_bps < (bps := get_fee_bps(market, action.flags)):
            raise Refused(Code.FEE_CAP, f"this order can be charged {bps} bps, and allows {action.max_fee_bps}")
        return Live(
            action.account,
            action.id,
            _SIDES[action.side],
            price,
            lots,
            action.flags,
            market.symbol,
            signed=signed,
            market=market,
            state=state,
        )

    def _rest(self, live: Live, valid_until: int) -> None:
        """Keep an order that rests in its book."""
        self._registry.use_id(live.state, live.id, _LIVE)
        self.live[live] = live
        mine = self.by_account.get(live.account)
        if mine is None:
            mine = self.by_account[live.account] = {}
        mine[live.id] = live
        expiring = self._expiring.get(valid_until)
        if expiring is None:
            if len(self._expiring) > 2 * len(self.live) + _SPARE_TIMES:
                self._forget_times()
            expiring = self._expiring[valid_until] = {}
            heappush(self._times, valid_until)
        expiring[live] = live

    def _forget_times(self) -> None:
        """Drop the times without an order, lest whoever places and cancels with ever another one fill the memory."""
        self._expiring = {time: orders for time, orders in self._expiring.items() if orders}
        self._times = list(self._expiring)
        heapify(self._times)

    def _book_steps(self, taker: Live, steps: list[Fill | SelfTrade]) -> None:
        """Book what matching did. The taker's money moves once, for all its trades together."""
        buys, left, spent, received = taker.side is BUY, taker.lots, 0, 0
        records: list[TradeRecord] = []
        for step in steps:
            maker = self.live[step.maker]
            if isinstance(step, SelfTrade):
                self._finish(maker, _SELF_TRADE)
                continue
            left -= step.lots
            record = self._trade(maker, taker, step.lots, left)
            records.append(record)
            fee = record.parts[1].fee
            spent += record.quote_amount + fee if buys else record.base_amount
            received += record.base_amount if buys else record.quote_amount - fee
        if records:
            self._ledger.settle(taker, taker.market, spent, received)
            if taker.flags & _FOK:
                self._log.append(TradeEntry(tuple(records)))
            else:
                self._log.extend([TradeEntry((record,)) for record in records])

    def _trade(self, maker: Live, taker: Live, lots: int, taker_left: int) -> TradeRecord:
        """Make a trade: the maker's money, the fees and the event; the record has the maker's part first."""
        market, price = maker.market, maker.price
        base, quote = lots * market.lot, lots * price
        # M12: where the fee account has no place for the token, there is no fee.
        charged = self._ledger.has_place(FEE_ACCOUNT, market.quote)
        maker_fee = get_fee(quote, market.maker_fee_bps) if charged else 0
        taker_fee = get_fee(quote, market.taker_fee_bps) if charged else 0
        self.trade_seq += 1
        if maker.side is BUY:
            self._ledger.settle(maker, market, quote + maker_fee, base)
        else:
            self._ledger.settle(maker, market, base, quote - maker_fee)
        self._ledger.credit(FEE_ACCOUNT, market.quote, maker_fee + taker_fee)
        self._stream.append(
            e.Trade(
                self._stream.next_seq(),
                self.trade_seq,
                market.symbol,
                price,
                lots,
                base_amount=base,
                quote_amount=quote,
                taker_side=taker.signed.action.side,
                maker_account=maker.account,
                maker_id=maker.id,
                maker_fee=maker_fee,
                maker_left=maker.remaining,
                taker_account=taker.account,
                taker_id=taker.id,
                taker_fee=taker_fee,
                taker_left=taker_left,
            )
        )
        if not maker.remaining:
            self._finish(maker, _FILLED)
        parts = (Part(maker.signed, maker_fee), Part(taker.signed, taker_fee))
        return TradeRecord(self.trade_seq, base, quote, parts)

    def _finish(self, live: Live, reason: Removal) -> None:
        """Let go of an order that is not in the book any more."""
        if self.live.pop(live, None):
            del self.by_account[live.account][live.id]
            del self._expiring[live.signed.action.valid_until][live]
        self._ledger.release(live)
        self._registry.use_id(live.state, live.id, _DONE)
        self._stream.append(
            e.OrderRemoved(
                self._stream.next_seq(),
                live.symbol,
                live.account,
                live.id,
                live.remaining,
                reason._value_,
            )
        )

    def find(self, account: int, id_: int) -> Live | None:
        """Return a resting order by its name."""
        mine = self.by_account.get(account)
        return mine.get(id_) if mine else None

    def remove(self, live: Live, reason: Removal) -> None:
        """Take a resting order out."""
        self.books[live.symbol].remove(live)
        self._finish(live, reason)

    def remove_where(self, account: int, reason: Removal, concerns: Callable[[Live], bool]) -> None:
        """Take those of an account's resting orders out that something concerns, oldest first."""
        for live in list(self.by_account.get(account, {}).values()):
            if concerns(live):
                self.remove(live, reason)

    def expire(self, before: int) -> None:
        """Remove the orders whose valid_until lies before a time."""
        while self._times and self._times[0] < before:
            expiring = self._expiring[self._times[0]]
            for live in sorted(expiring, key=lambda live: live.key):
                self.remove(expiring[live], Removal.EXPIRED)
            del self._expiring[heappop(self._times)]

    def make_room(self, account: int) -> None:
        """Remove orders that would bring in new tokens, newest first, until a deposit has its place."""
        for live in reversed(list(self.by_account.get(account, {}).values())):
            if not self._ledger.is_crowded(account):
                break
            if not self._ledger.get(account, live.incoming).total:
                self.remove(live, Removal.POSITIONS)
