"""One market's resting orders in price-time priority.

`SortedBook` is the book in use; `proofbook.operator.book_reference.ReferenceBook` says the same in the plainest way,
and the tests run both side by side.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sortedcontainers import SortedDict

from proofbook.operator.codes import must
from proofbook.protocol.table import Side

OrderKey = tuple[int, int]
"""(account, id): an order's name."""


@dataclass(slots=True, eq=False)
class Order:
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
    reserved : int
        Quanta set aside for the rest: of quote, fee included, for a buy; of base for a sell.
    symbol : str
        The market.
    key : (int, int)
        The name, made once.
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
    key: OrderKey = field(init=False)

    def __post_init__(self) -> None:
        if self.remaining < 0:
            self.remaining = self.lots
        self.key = (self.account, self.id)


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
    return price <= taker.price if taker.side is Side.BUY else price >= taker.price


def opposite(side: Side) -> Side:
    """Return the other side."""
    return Side.SELL if side is Side.BUY else Side.BUY


def hash_orders(sides: Iterable[Iterable[Order]]) -> str:
    """Return a digest of sequences of orders: names, prices and remaining lots."""
    digest = hashlib.sha256()
    for side in sides:
        for o in side:
            digest.update(b"%d %d %d %d;" % (o.account, o.id, o.price, o.remaining))
        digest.update(b"|")
    return digest.hexdigest()


@dataclass(slots=True)
class _Level:
    """The orders of one price, oldest first. An OrderedDict: first and any are O(1), also after many removals."""

    lots: int = 0
    queue: OrderedDict[OrderKey, Order] = field(default_factory=OrderedDict)


class SortedBook:
    """Levels in a sorted dictionary, best first on both sides; cancelling is O(1) within a level."""

    def __init__(self) -> None:
        # Bids are kept under the negated price, so that the best level is the first one on either side.
        self._sides: tuple[SortedDict[int, _Level], SortedDict[int, _Level]] = (SortedDict(), SortedDict())
        # Almost every command asks for the best level; None where it must be looked up again.
        self._best: list[tuple[int, _Level] | None] = [None, None]

    @staticmethod
    def _rank(order: Order) -> int:
        return -order.price if order.side is Side.BUY else order.price

    def add(self, order: Order) -> None:
        """See `Book.add`."""
        levels, rank = self._sides[order.side], self._rank(order)
        level = levels.get(rank)
        if level is None:
            level = levels[rank] = _Level()
            best = self._best[order.side]
            if best is not None and rank < best[0]:
                self._best[order.side] = (rank, level)
        must(order.key not in level.queue and order.remaining > 0, "an order enters the book once, and not empty")
        level.queue[order.key] = order
        level.lots += order.remaining

    def _reduce(self, order: Order, lots: int, leave: bool) -> None:
        levels, rank = self._sides[order.side], self._rank(order)
        level = levels[rank]
        level.lots -= lots
        if leave:
            del level.queue[order.key]
            if not level.queue:
                del levels[rank]
                best = self._best[order.side]
                if best is not None and best[0] == rank:
                    self._best[order.side] = None

    def remove(self, order: Order) -> None:
        """See `Book.remove`."""
        self._reduce(order, order.remaining, leave=True)

    def fill(self, order: Order, lots: int) -> None:
        """See `Book.fill`."""
        must(0 < lots <= order.remaining, "a fill is within what remains")
        order.remaining -= lots
        self._reduce(order, lots, leave=order.remaining == 0)

    def best(self, side: Side) -> Order | None:
        """See `Book.best`."""
        best = self._best[side]
        if best is None:
            levels = self._sides[side]
            if not levels:
                return None
            best = self._best[side] = levels.peekitem(0)
        return next(iter(best[1].queue.values()))

    def orders(self, side: Side) -> Iterator[Order]:
        """See `Book.orders`."""
        for level in self._sides[side].values():
            yield from level.queue.values()

    def depth(self, side: Side, levels: int) -> list[Depth]:
        """See `Book.depth`."""
        found = self._sides[side].items()[:levels]
        return [Depth(abs(rank), level.lots, len(level.queue)) for rank, level in found]

    def state_hash(self) -> str:
        """See `Book.state_hash`."""
        return hash_orders((self.orders(Side.BUY), self.orders(Side.SELL)))
