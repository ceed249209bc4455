"""The book said plainly: a list in order of arrival, searched and sorted when asked. For the tests to compare with."""

from __future__ import annotations

from collections.abc import Iterator

from proofbook.operator.book import Depth, Order, hash_orders
from proofbook.operator.codes import must
from proofbook.protocol.table import Side


class ReferenceBook:
    """A `Book` of which every method is a definition."""

    def __init__(self) -> None:
        self._arrived: list[Order] = []

    def add(self, order: Order) -> None:
        """See `Book.add`."""
        must(all(o.key != order.key for o in self._arrived) and order.remaining > 0, "an order enters once, not empty")
        self._arrived.append(order)

    def remove(self, order: Order) -> None:
        """See `Book.remove`."""
        self._arrived = [o for o in self._arrived if o.key != order.key]

    def fill(self, order: Order, lots: int) -> None:
        """See `Book.fill`."""
        must(0 < lots <= order.remaining, "a fill is within what remains")
        order.remaining -= lots
        if order.remaining == 0:
            self.remove(order)

    def best(self, side: Side) -> Order | None:
        """See `Book.best`."""
        return next(self.orders(side), None)

    def orders(self, side: Side) -> Iterator[Order]:
        """See `Book.orders`."""
        mine = [o for o in self._arrived if o.side == side]
        # Sorting is stable: among equal prices the order of arrival stays.
        return iter(sorted(mine, key=lambda o: -o.price if side is Side.BUY else o.price))

    def depth(self, side: Side, levels: int) -> list[Depth]:
        """See `Book.depth`."""
        orders = list(self.orders(side))
        prices = list(dict.fromkeys(o.price for o in orders))[:levels]
        groups = [(p, [o.remaining for o in orders if o.price == p]) for p in prices]
        return [Depth(price, sum(lots), len(lots)) for price, lots in groups]

    def state_hash(self) -> str:
        """See `Book.state_hash`."""
        return hash_orders((self.orders(Side.BUY), self.orders(Side.SELL)))
