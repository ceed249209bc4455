"""A seeded market: makers who quote around a price that wanders, and takers who trade with them.

Everything follows from the seed, in whole numbers; what the exchange answers changes nothing. Makers take their quotes
out and quote anew each round. Takers send a mixture of all kinds of orders, a few of which must be refused: a post-only
order that crosses, a fill-or-kill order that is too large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from proofbook.protocol.table import Flag, Side
from proofbook.sim.flow import Cancel, Intent, Place, Round, SimulationError

MAX_ORDERS: Final = 100_000
LEVELS: Final = 2
"""Quotes of a maker on either side of a market."""
WALK: Final = 3
"""Steps that a price moves in a round, at most."""
TAKERS: Final = 5
"""Orders of takers in a round and market, at most."""
PATIENCE: Final = 3
"""Rounds until a taker's resting order is cancelled."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A market to simulate.

    Attributes
    ----------
    symbol : str
        Its name.
    mid : int
        Price in ticks to start at; at least 100 steps.
    step : int
        Ticks between two quotes.
    lots : int
        Lots of the largest usual order, at least 4.
    """

    symbol: str
    mid: int
    step: int
    lots: int


@dataclass(slots=True)
class _Market:
    scene: Scene
    mid: int
    quotes: dict[int, list[int]] = field(default_factory=dict)
    resting: list[tuple[int, Cancel]] = field(default_factory=list)


class Simulation:
    """The generator; see `simulate`."""

    def __init__(self, seed: int, scenes: Sequence[Scene], makers: Sequence[int], takers: Sequence[int]) -> None:
        self._random = Random(seed)
        self._markets = [_Market(scene, scene.mid) for scene in scenes]
        self._makers, self._takers = tuple(makers), tuple(takers)
        self._ref = 0
        self._round = 0

    def next_round(self) -> Round:
        """Return the next round's intents: cancels, quotes, takers."""
        self._round += 1
        for market in self._markets:
            scene, drift = market.scene, self._random.randint(-WALK, WALK)
            market.mid = max(100 * scene.step, market.mid + drift * scene.step)
        parts: list[Callable[[_Market], Iterator[Intent]]] = [self._withdrawn, self._quoted, self._taken]
        return tuple(intent for part in parts for market in self._markets for intent in part(market))

    def _place(self, trader: int, market: _Market, side: Side, price: int, lots: int, flags: int = 0) -> Place:
        self._ref += 1
        return Place(self._ref, trader, market.scene.symbol, side, price, lots, flags)

    def _withdrawn(self, market: _Market) -> Iterator[Intent]:
        for trader, refs in market.quotes.items():
            yield from (Cancel(ref, trader) for ref in refs)
        market.quotes.clear()
        for since, cancel in list(market.resting):
            if self._round - since >= PATIENCE:
                market.resting.remove((since, cancel))
                yield cancel

    def _quoted(self, market: _Market) -> Iterator[Intent]:
        scene = market.scene
        for nth, trader in enumerate(self._makers):
            for level in range(LEVELS):
                away = (1 + nth + 2 * level) * scene.step
                for side in (Side.BUY, Side.SELL):
                    price = market.mid - away if side is Side.BUY else market.mid + away
                    lots = self._random.randint(scene.lots // 2, 2 * scene.lots)
                    quote = self._place(trader, market, side, price, lots, Flag.POST_ONLY)
                    market.quotes.setdefault(trader, []).append(quote.ref)
                    yield quote

    def _taken(self, market: _Market) -> Iterator[Intent]:
        for _ in range(self._random.randint(1, TAKERS)):
            yield self._take(market, self._random.choice(self._takers), self._random.choice((Side.BUY, Side.SELL)))

    def _take(self, market: _Market, trader: int, side: Side) -> Intent:
        scene, dice = market.scene, self._random.randrange(100)
        sign = 1 if side is Side.BUY else -1
        across = market.mid + sign * 6 * scene.step
        lots = self._random.randint(1, scene.lots)
        if dice < 40:
            return self._place(trader, market, side, across, lots, Flag.IOC)
        if dice < 60:
            return self._place(trader, market, side, across + sign * 30 * scene.step, lots, Flag.MARKET)
        if dice < 75:
            # Sometimes more than all makers offer: then it must not be filled at all.
            return self._place(trader, market, side, across, lots * self._random.choice((1, 1, 40)), Flag.FOK)
        if dice < 80:
            return self._place(trader, market, side, across, lots, Flag.POST_ONLY)
        away = dice >= 90
        order = self._place(trader, market, side, market.mid - sign * 9 * scene.step if away else across, lots)
        market.resting.append((self._round, Cancel(order.ref, trader)))
        return order


def simulate(
    seed: int, scenes: Sequence[Scene], makers: Sequence[int], takers: Sequence[int], orders: int
) -> list[Round]:
    """Return rounds of a simulated market.

    Parameters
    ----------
    seed : int
        The same seed gives the same flow.
    scenes : sequence of Scene
        Markets, at least one.
    makers, takers : sequence of int
        Positions in the list of traders, at least one each; nobody is both.
    orders : int
        Placements in all, in [1, 100000]; the last round is cut off there.

    Raises
    ------
    SimulationError
        For arguments out of range.
    """
    if not 1 <= orders <= MAX_ORDERS:
        raise SimulationError(f"{orders} orders are not in [1, {MAX_ORDERS}]")
    if not scenes or not makers or not takers or set(makers) & set(takers):
        raise SimulationError("a simulation needs markets, makers and takers, and nobody is both")
    if any(scene.step < 1 or scene.lots < 4 or scene.mid < 100 * scene.step for scene in scenes):
        raise SimulationError("a scene needs a step of 1, 4 lots and a price of 100 steps at least")
    simulation, rounds, left = Simulation(seed, scenes, makers, takers), [], orders
    while left:
        kept: list[Intent] = []
        for intent in simulation.next_round():
            if isinstance(intent, Place):
                if not left:
                    break
                left -= 1
            kept.append(intent)
        rounds.append(tuple(kept))
    return rounds
