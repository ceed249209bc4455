"""Other people's matching engines on a flow: run as a program, in a virtual environment that has them.

``python peers.py OPS`` reads steps, a line each: ``ref side price lots immediate`` (lots 0 cancels), and prints one
JSON object: for each engine installed, its steps per second by wall and processor time, and the fills it reported.
It uses nothing of Proofbook's, so that it runs where Proofbook is not installed. None of these engines keeps balances,
reserves, fees or a stream of events.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Steps = list[tuple[int, int, int, int, int]]
BUY = 0


def run_bare(steps: Steps) -> int:
    """Price levels in dictionaries, best prices in heaps: about the least that matching can be in Python."""
    levels: tuple[dict[int, dict[int, int]], ...] = ({}, {})
    heaps: tuple[list[int], ...] = ([], [])
    where: dict[int, tuple[int, int]] = {}
    fills: list[tuple[int, int, int]] = []
    for ref, side, price, lots, immediate in steps:
        if not lots:
            if ref in where:
                at, rank = where.pop(ref)
                del levels[at][rank][ref]
            continue
        other, heap, sign = levels[1 - side], heaps[1 - side], 1 if side == BUY else -1
        while lots and heap and (best := heap[0]) * sign * sign <= sign * price:
            queue = other[best]
            if not queue:
                heappop(heap)
                del other[best]
                continue
            maker = next(iter(queue))
            size = min(lots, queue[maker])
            fills.append((maker, ref, size))
            lots -= size
            if size == queue[maker]:
                del queue[maker], where[maker]
            else:
                queue[maker] -= size
        if lots and not immediate:
            # Ranks rise from the best on: prices of sellers, negated prices of buyers.
            rank = price if side != BUY else -price
            if rank not in levels[side]:
                levels[side][rank] = {}
                heappush(heaps[side], rank)
            levels[side][rank][ref] = lots
            where[ref] = (side, rank)
    return len(fills)


def run_liquibook(steps: Steps) -> int:
    """Liquibook (C++), which tells a listener of every fill."""
    import liquibook as lib  # type: ignore[import-not-found]

    class Listener(lib.OrderListener):  # type: ignore[misc]
        def __init__(self) -> None:
            lib.OrderListener.__init__(self)
            self.fills = 0

        def on_accept(self, *_: Any) -> None: ...

        def on_cancel(self, *_: Any) -> None: ...

        def on_cancel_reject(self, *_: Any) -> None: ...

        def on_fill(self, taker: Any, maker: Any, lots: int, cost: int) -> None:
            self.fills += 1

    book, listener = lib.DepthOrderBook(), Listener()
    book.set_order_listener(listener)
    resting: dict[int, Any] = {}
    for ref, side, price, lots, immediate in steps:
        if not lots:
            if ref in resting:
                book.cancel(resting.pop(ref))
            continue
        made = lib.SimpleOrder(side == BUY, price, lots)
        resting[ref] = made  # kept alive also when it is done: the book may still point to it
        if immediate:
            book.add(made, lib.oc_immediate_or_cancel)
        else:
            book.add(made)
    return int(listener.fills)


def run_lightmatching(steps: Steps) -> int:
    """The package lightmatchingengine (Python), which returns the trades of every order."""
    from lightmatchingengine.lightmatchingengine import LightMatchingEngine  # type: ignore[import-not-found]

    resting: dict[int, Any] = {}
    engine, fills = LightMatchingEngine(), 0
    for ref, side, price, lots, immediate in steps:
        if not lots:
            # Of an order that was filled it keeps the name but not the price level, and fails when that is cancelled.
            if ref in resting and (made := resting.pop(ref)).leaves_qty:
                engine.cancel_order(made.order_id, "X")
            continue
        made, trades = engine.add_order("X", price, lots, 1 if side == BUY else 2)
        # It reports what the taker got of each price, and then what each maker gave.
        fills += sum(trade.order_id != made.order_id for trade in trades)
        if not immediate:
            resting[ref] = made
        elif made.leaves_qty:
            engine.cancel_order(made.order_id, "X")
    return fills


def run_cython(steps: Steps) -> int:
    """The package cython-orderbook (Cython), which keeps a log of trades."""
    from cython_orderbook import Order, OrderBook, OrderSide  # type: ignore[import-not-found]

    ids: dict[int, Any] = {}
    book = OrderBook()
    sides = {True: OrderSide.BID, False: OrderSide.ASK}
    for ref, side, price, lots, immediate in steps:
        if not lots:
            if ref in ids and ids[ref].remaining_quantity:
                book.cancel_order(ids.pop(ref).order_id)
            continue
        made = ids[ref] = Order(side=sides[side == BUY], price=price, original_quantity=lots)
        book.add_limit_order(made)
        if immediate and made.remaining_quantity:
            book.cancel_order(made.order_id)
    return len(book.trade_log)


ENGINES: dict[str, tuple[str, Callable[[Steps], int]]] = {
    "bare dictionaries": ("", run_bare),
    "liquibook": ("liquibook", run_liquibook),
    "cython-orderbook": ("cython-orderbook", run_cython),
    "lightmatchingengine": ("lightmatchingengine", run_lightmatching),
}


def measure(steps: Steps, run: Callable[[Steps], int]) -> dict[str, Any]:
    """Return how an engine did; what it raises is part of the answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        fills = run(steps)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"per_wall_s": len(steps) / wall, "per_cpu_s": len(steps) / cpu, "fills": fills}


def main(path: str) -> int:
    """Measure every engine that is installed, each on the same steps."""
    with open(path, encoding="ascii") as lines:
        steps: Steps = [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]
    found: dict[str, Any] = {}
    for name, (package, run) in ENGINES.items():
        try:
            version = importlib.metadata.version(package) if package else ""
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = {"version": version, **measure(steps, run)}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
