"""One market's resting orders in price-time priority.

`SortedBook` is the book in use; `proofbook.operator.book_reference.ReferenceBook` says the same in the plainest way,
and the tests run both side by side.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple, Protocol

import msgspec
from sortedcontainers import SortedList

from proofbook.operator.codes import InvariantError
from proofbook.protocol.table import Side

OrderKey = tuple[int, int]
"""(account, id): an order's name."""

# Asking an enum for a member takes longer than all else that a comparison does.
BUY: Final = Side.BUY
SELL: Final = Side.SELL


class Order(msgspec.Struct, eq=False, gc=False):
    """An admitted order, as the engine keeps it.

    Attributes
    ----------
    account, id : int
        Its name.
    side : Side
        Buy or sell, of the base token.
    price : int
        Limit in ticks (quote quanta per lot), at least 1.
    lots, remaining : int
        Size, and what of it is unfilled.
    flags : int
        The signed flags.
    symbol : str
        The market.
    reserved : int
        Quanta set aside for the rest: of quote, fee included, for a buy; of base for a sell.
    incoming, outgoing : int
        The tokens it brings in and spends, known when something is set aside.
    """

    account: int
    id: int
    side: Side
    price: int
    lots: int
    flags: int = 0
    symbol: str = ""
    remaining: int = -1
    reserved: int = 0
    incoming: int = 0
    outgoing: int = 0

    def __post_init__(self) -> None:
        if self.remaining < 0:
            self.remaining = self.lots

    @property
    def key(self) -> OrderKey:
        """The name."""
        return self.account, self.id


class Depth(NamedTuple):
    """One price level: its price in ticks, the lots there, and how many orders."""

    price: int
    lots: int
    orders: int


class Book(Protocol):
    """What matching needs of a book."""

    def add(self, order: Order) -> None:
        """Put an order behind all others of its price."""

    def remove(self, order: Order) -> None:
        """Take a resting order out."""

    def fill(self, order: Order, lots: int) -> None:
        """Reduce a resting order's ``remaining``; it leaves the book at 0 and keeps its place otherwise."""

    def best(self, side: Side) -> Order | None:
        """Return the order of a side that is matched first."""

    def orders(self, side: Side) -> Iterator[Order]:
        """Go through a side in priority. The book must not change meanwhile."""

    def depth(self, side: Side, levels: int) -> list[Depth]:
        """Return the best price levels of a side."""

    def state_hash(self) -> str:
        """Return a digest of all resting orders in their order."""


def crosses(taker: Order, price: int) -> bool:
    """Tell whether a taker accepts a resting order's price."""
    return price <= taker.price if taker.side is BUY else price >= taker.price


def hash_orders(sides: Iterable[Iterable[Order]]) -> str:
    """Return a digest of sequences of orders: names, prices and remaining lots."""
    digest = hashlib.sha256()
    for side in sides:
        for o in side:
            digest.update(b"%d %d %d %d;" % (o.account, o.id, o.price, o.remaining))
        digest.update(b"|")
    return digest.hexdigest()


class _Level:
    """The orders of one price, oldest first. An OrderedDict: first and any are O(1), also after many removals."""

    __slots__ = ("lots", "queue")

    def __init__(self) -> None:
        self.lots = 0
        self.queue: OrderedDict[Order, None] = OrderedDict()


class _Side:
    """Levels by rank, and their ranks ascending. The best one has the highest rank and is remembered.

    Ranks are a SortedList: however many prices somebody spreads orders over, a new one takes a few microseconds.
    """

    __slots__ = ("best", "levels", "ranks")

    def __init__(self) -> None:
        self.levels: dict[int, _Level] = {}
        self.ranks: SortedList[int] = SortedList()
        self.best: int | None = None

    def add(self, rank: int) -> _Level:
        level = self.levels[rank] = _Level()
        self.ranks.add(rank)
        if self.best is None or rank > self.best:
            self.best = rank
        return level

    def drop(self, rank: int) -> None:
        ranks = self.ranks
        del self.levels[rank]
        if rank == self.best:
            ranks.pop()
            self.best = ranks[-1] if ranks else None
        else:
            ranks.remove(rank)


class SortedBook:
    """Sides with sorted levels; cancelling is O(1) within a level."""

    def __init__(self) -> None:
        self._bids, self._asks = _Side(), _Side()

    def add(self, order: Order) -> None:
        """See `Book.add`."""
        # Bids rank by price, asks by the negated one.
        side, rank = (self._bids, order.price) if order.side is BUY else (self._asks, -order.price)
        level = side.levels.get(rank) or side.add(rank)
        if order in level.queue or order.remaining <= 0:
            raise InvariantError("an order enters the book once, and not empty")
        level.queue[order] = None
        level.lots += order.remaining

    def remove(self, order: Order) -> None:
        """See `Book.remove`."""
        side, rank = (self._bids, order.price) if order.side is BUY else (self._asks, -order.price)
        level = side.levels[rank]
        level.lots -= order.remaining
        del level.queue[order]
        if not level.queue:
            side.drop(rank)

    def fill(self, order: Order, lots: int) -> None:
        """See `Book.fill`."""
        if not 0 < lots <= order.remaining:
            raise InvariantError("a fill is within what remains")
        if lots == order.remaining:
            self.remove(order)
        else:
            side, rank = (self._bids, order.price) if order.side is BUY else (self._asks, -order.price)
            side.levels[rank].lots -= lots
        order.remaining -= lots

    def best(self, side: Side) -> Order | None:
        """See `Book.best`."""
        found = self._bids if side is BUY else self._asks
        if found.best is None:
            return None
        return next(iter(found.levels[found.best].queue))

    def _levels(self, side: Side) -> Iterator[_Level]:
        found = self._bids if side is BUY else self._asks
        return map(found.levels.__getitem__, reversed(found.ranks))

    def orders(self, side: Side) -> Iterator[Order]:
        """See `Book.orders`."""
        for level in self._levels(side):
            yield from level.queue

    def depth(self, side: Side, levels: int) -> list[Depth]:
        """See `Book.depth`."""
        return [
            Depth(next(iter(level.queue)).price, level.lots, len(level.queue))
            for level in islice(self._levels(side), levels)
        ]

    def state_hash(self) -> str:
        """See `Book.state_hash`."""
        return hash_orders((self.orders(BUY), self.orders(SELL)))
