"""How an incoming order meets a book.

The steps of `match`, for a taker whose money is already reserved and a book without expired orders:

1. A post-only order that would meet any resting order at its price is refused. Its own account's orders count.
2. A fill-or-kill order is refused unless what rests at its price or better, its own account's orders left out, fills it
   whole, and the page of one batch has room for all of it: it is proven in one row. Nothing has changed yet.
3. While lots remain and the best opposite order is acceptable: if it is the taker's own, it is removed (self-trade
   prevention cancels the resting order); otherwise the two trade at the resting order's price.
4. What remains of an order that is not immediate rests in the book; of one that is (IOC, FOK, market), it is dropped.

Money is not touched here: every step is answered by the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from proofbook.operator.book import BUY, SELL, Book, Order, crosses
from proofbook.operator.codes import Code, Refused
from proofbook.operator.markets import Market
from proofbook.protocol.table import BPS, Flag, Side

IMMEDIATE = Flag.IOC | Flag.FOK | Flag.MARKET
_POST_ONLY, _FOK = int(Flag.POST_ONLY), int(Flag.FOK)


class Fill(msgspec.Struct, gc=False):
    """A trade: ``lots`` against ``maker`` at its price."""

    maker: Order
    lots: int


class SelfTrade(msgspec.Struct, gc=False):
    """A resting order of the taker's own account was taken out of the book."""

    maker: Order


@dataclass(frozen=True, slots=True)
class Width:
    """How many makers, and how many different maker accounts, a fill-or-kill order may meet."""

    makers: int
    accounts: int


def get_fee_bps(market: Market, flags: int) -> int:
    """Return the highest fee an order with these flags can be charged, in bps."""
    maker, taker = market.maker_fee_bps, market.taker_fee_bps
    if flags & _POST_ONLY:
        return maker
    return taker if flags & IMMEDIATE or taker > maker else maker


def get_fee(quote: int, bps: int) -> int:
    """Return the fee on a fill's quote quanta, rounded down: so a row's sum of fees is within the cap on its sum."""
    return quote * bps // BPS


def _check_whole(book: Book, taker: Order, side: Side, width: Width) -> None:
    """Refuse a fill-or-kill order that cannot be filled whole, and in one batch."""
    wanted, makers, accounts = taker.remaining, 0, {taker.account}
    for maker in book.orders(side):
        if wanted <= 0 or not crosses(taker, maker.price):
            break
        if maker.account == taker.account:
            continue
        wanted -= maker.remaining
        makers += 1
        accounts.add(maker.account)
        if makers > width.makers or len(accounts) - 1 > width.accounts:
            raise Refused(Code.TOO_WIDE, "filling this whole needs more rows than a batch has")
    if wanted > 0:
        raise Refused(Code.NOT_FILLABLE, "the book cannot fill this order whole")


def match(book: Book, taker: Order, width: Width) -> list[Fill | SelfTrade]:
    """Run an order against a book, as the module's text says; what of it rests is in the book afterwards.

    Raises
    ------
    Refused
        ``would_cross``, ``not_fillable`` or ``too_wide``; then nothing has changed.
    """
    side = SELL if taker.side is BUY else BUY
    if taker.flags & _POST_ONLY:
        best = book.best(side)
        if best is not None and crosses(taker, best.price):
            raise Refused(Code.WOULD_CROSS, f"a post-only order would meet an order at {best.price}")
    if taker.flags & _FOK:
        _check_whole(book, taker, side, width)
    steps: list[Fill | SelfTrade] = []
    left = taker.remaining
    while left and (maker := book.best(side)) is not None and crosses(taker, maker.price):
        if maker.account == taker.account:
            book.remove(maker)
            steps.append(SelfTrade(maker))
            continue
        lots = left if left < maker.remaining else maker.remaining
        book.fill(maker, lots)
        left -= lots
        steps.append(Fill(maker, lots))
    taker.remaining = left
    if left and not taker.flags & IMMEDIATE:
        book.add(taker)
    return steps
