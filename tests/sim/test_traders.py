"""The simulated market: everything from the seed, whole numbers, and nothing left to chance afterwards."""

from __future__ import annotations

import pytest

from proofbook.protocol.table import Flag, Side
from proofbook.sim.flow import Cancel, Place, SimulationError, count_orders, merge
from proofbook.sim.traders import Scene, simulate

SCENES = [Scene("A/USD", 25_000, 10, 60), Scene("B/USD", 7_000, 7, 8)]
MAKERS, TAKERS = (0, 1), (2, 3, 4)


def flow(seed=1, orders=400, scenes=SCENES):
    return simulate(seed, scenes, MAKERS, TAKERS, orders)


def test_the_same_seed_gives_the_same_flow_and_another_seed_another():
    assert flow() == flow()
    assert flow(seed=1) != flow(seed=2)


@pytest.mark.parametrize("orders", [1, 15, 16, 17, 400])
def test_it_has_as_many_orders_as_asked_for(orders):
    assert count_orders(flow(orders=orders)) == orders


def test_a_longer_flow_begins_as_a_shorter_one():
    short, long = ([i for r in flow(orders=n) for i in r] for n in (100, 300))
    assert long[: len(short)] == short


def test_every_kind_of_order_in_every_market_and_only_whole_positive_numbers():
    placed = [i for r in flow(orders=2_000) for i in r if isinstance(i, Place)]
    for scene in SCENES:
        here = [p for p in placed if p.symbol == scene.symbol]
        assert {p.flags for p in here} == {0, Flag.IOC, Flag.FOK, Flag.POST_ONLY, Flag.MARKET}
        assert {p.side for p in here} == {Side.BUY, Side.SELL}
        assert {p.trader for p in here} == {*MAKERS, *TAKERS}
        assert all(type(n) is int and n >= 1 for p in here for n in (p.price, p.lots))


def test_cancels_are_of_earlier_placements_of_the_same_trader_once_each():
    placed, cancelled = {}, set()
    for intent in (i for r in flow() for i in r):
        if isinstance(intent, Place):
            assert intent.ref not in placed
            placed[intent.ref] = intent.trader
        else:
            assert placed[intent.ref] == intent.trader and intent.ref not in cancelled
            cancelled.add(intent.ref)
    assert cancelled


def test_makers_take_their_quotes_out_before_they_quote_anew():
    live: set[int] = set()
    for intents in flow():
        for intent in intents:
            if intent.trader in MAKERS:
                live ^= {intent.ref}
        # Two markets, two makers, two levels, two sides.
        assert len(live) <= 16
    assert all(isinstance(i, Cancel) for i in flow()[1][:16])


@pytest.mark.parametrize(
    ("scenes", "makers", "takers", "orders"),
    [
        (SCENES, MAKERS, TAKERS, 0),
        (SCENES, MAKERS, TAKERS, 100_001),
        ([], MAKERS, TAKERS, 10),
        (SCENES, (), TAKERS, 10),
        (SCENES, MAKERS, (), 10),
        (SCENES, (0, 1), (1, 2), 10),
        ([Scene("A", 99, 1, 60)], MAKERS, TAKERS, 10),
        ([Scene("A", 100, 0, 60)], MAKERS, TAKERS, 10),
        ([Scene("A", 100, 1, 3)], MAKERS, TAKERS, 10),
    ],
)
def test_arguments_out_of_range_are_refused(scenes, makers, takers, orders):
    with pytest.raises(SimulationError) as caught:
        simulate(1, scenes, makers, takers, orders)
    assert caught.value.code == "simulation"


def test_flows_are_merged_round_by_round():
    a, b = Place(1, 0, "A", Side.BUY, 1, 1), Place(2, 1, "B", Side.SELL, 1, 1)
    assert merge([(a,), (a, a)], [(b,)]) == [(a, b), (a, a)]
    assert merge([], [(b,)]) == [(b,)]
