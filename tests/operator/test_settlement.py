"""Whatever happened, the batches cut from it are provable, and lead the protocol's state to what the engine says."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proofbook.operator import commands as c
from proofbook.protocol.table import Flag, RequestKind, Size
from proofbook.protocol.words import Request

NOW = 1_700_000_000
OPS = st.lists(
    st.tuples(st.integers(0, 99), *(st.integers(0, 2**10) for _ in range(4))),
    min_size=5,
    max_size=80,
)


def _start(make_exchange, real, full=()):
    world = make_exchange(accounts=5, real=real)
    world.fund((1, 2, 3, 4), amount=50_000)
    for account in full:  # about all of its 15 places taken
        world.fund((account,), range(10, 22 + account % 2), amount=50)
    world.settle_all()
    return world


@pytest.mark.parametrize("seed", range(8))
def test_random_flow_with_signatures_is_provable(make_exchange, seed):
    draw = random.Random(seed)
    world = _start(make_exchange, real=True, full=(1, 2) if seed % 2 else ())
    for _ in range(150):
        world.play((draw.randrange(100), *(draw.randrange(2**10) for _ in range(4))))
    world.settle_all()
    assert world.pages > 3
    assert world.engine.trading.trade_seq > 0


@pytest.mark.parametrize("seed", range(25))
def test_random_flow_is_provable(make_exchange, seed):
    draw = random.Random(1000 + seed)
    world = _start(make_exchange, real=False, full=((), (0,), (1, 2), (0, 1, 3))[seed % 4])
    for _ in range(300):
        world.play((draw.randrange(100), *(draw.randrange(2**10) for _ in range(4))))
    world.settle_all()
    assert world.pages > 5


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ops=OPS, full=st.sampled_from([(), (0, 1), (2,)]))
def test_any_flow_is_provable(make_exchange, ops, full):
    world = _start(make_exchange, real=False, full=full)
    for op in ops:
        world.play(op)
    world.settle_all()


# --- where a batch has to end; `_cut` says how many batches a log needed


def _cut(world):
    before = world.pages
    world.settle_all()
    return world.pages - before


@pytest.fixture
def world(make_exchange):
    """Everything so far is settled, and signatures are real."""
    made = make_exchange(accounts=5, real=True)
    made.fund((1, 2, 3), amount=10_000)
    made.settle_all()
    return made


def test_rows_of_an_order_are_one_and_fit_the_smallest_size(world):
    world.sell(1, 300, 9)
    for _ in range(3):
        world.buy(2, 300, 3)
    world.seal()
    plan = world.engine.get_plan(world.engine.settlement.next_number - 1)
    rows = [(p.row.account, p.row.id, p.row.ex_base) for p in plan.actions]
    assert rows == [(1, 1, 90), (2, 1, 30), (2, 2, 30), (2, 3, 30)]
    assert (plan.size_id, plan.accounts, len(plan.trades)) == (0, 3, 3)
    world.settle_all()


def test_a_long_sweep_is_split_between_trades(world):
    for i in range(10):
        world.sell(1, 100 + i, 1)
    world.buy(2, 120, 10)
    assert _cut(world) == 2


def test_a_fill_or_kill_order_is_never_split(world):
    world.sell(3, 90, 3)
    for _ in range(3):
        world.buy(2, 90, 1)
    for i in range(5):
        world.sell(1, 100 + i, 1)
    world.buy(2, 120, 5, Flag.FOK)  # 4 rows and 6 rows: 8 are there
    assert _cut(world) == 2
    assert world.state.account(2).slot(world.config.preset, 4) == (4, 50)


def test_old_fills_are_proven_before_a_new_key(world):
    world.sell(1, 100, 1)
    world.buy(2, 100, 1)
    world.request(world.rekeying(1))
    world.sell(1, 100, 1)
    world.buy(2, 100, 1)
    assert _cut(world) == 2


def test_m13_an_exit_ends_before_the_token_comes_back(world):
    world.request(Request(RequestKind.EXIT, 1, token=1))
    world.deposit(1, 1, 5)
    assert _cut(world) == 2


def test_m13_the_first_of_two_exits_takes_what_came_between_them(world):
    world.request(Request(RequestKind.EXIT, 1, token=1))
    world.deposit(1, 1, 5)
    world.request(Request(RequestKind.EXIT, 1, token=1))
    world.seal()
    plan = world.engine.get_plan(world.engine.settlement.next_number - 1)
    assert [row.outcome for row in plan.requests] == [10_005, 0, 0]
    world.settle_all()
    assert world.state.account(1).balance(1) == 0


def test_m13_a_deposit_spent_by_one_whose_places_fill_up_is_cut_in_time(world):
    world.fund((1,), range(10, 21), amount=1)
    world.settle_all()
    world.deposit(1, 40, 5)  # the 15th place
    world.withdraw(1, 40, 5)  # free again
    world.deposit(1, 41, 5)  # taken by another: now 40 would have to bounce
    assert _cut(world) == 2


def test_m13_a_bounce_ends_before_a_place_is_free(world):
    world.fund((1,), range(10, 22), amount=1)
    world.settle_all()
    world.deposit(1, 40, 5)
    world.withdraw(1, 10, 1)
    assert _cut(world) == 2


def test_m13_behind_a_bounce_no_other_deposit_takes_its_turn(world):
    world.fund((1,), range(10, 22), amount=1)
    world.settle_all()
    world.deposit(1, 40, 5)  # bounces
    world.withdraw(1, 10, 1)
    world.deposit(1, 41, 5)  # finds the place that 40 did not
    world.settle_all()
    assert world.state.account(1).balance(40) == 0
    assert world.state.account(1).balance(41) == 5


def test_two_bounces_share_a_batch(world):
    world.fund((1,), range(10, 22), amount=1)
    world.settle_all()
    world.deposit(1, 40, 5)
    world.deposit(1, 41, 5)
    assert _cut(world) == 1


def test_m14_a_transfer_waits_until_the_receiver_held_the_token_before(world):
    world.deposit(4, 1, 5)
    world.transfer(1, 1, 7, to=4)
    assert _cut(world) == 2
    assert world.state.account(4).balance(1) == 12


def test_tokens_of_fees_are_counted(make_exchange):
    world = make_exchange(accounts=3, sizes=(Size(4, 8, 6, 1),))
    world.fund((1, 2), amount=50_000)
    world.settle_all()
    world.sell(1, 100, 10)
    world.buy(2, 100, 10)
    world.sell(1, 100, 50, symbol="GEM/COIN")
    world.buy(2, 100, 50, symbol="GEM/COIN")
    assert _cut(world) == 2


def test_requests_are_counted(world):
    for _ in range(13):
        world.deposit(1, 1, 1)
    assert _cut(world) == 3


def test_a_timestamp_never_outruns_what_waits(world):
    world.sell(1, 100, 1, until=NOW + 60)
    world.buy(2, 100, 1)
    for _ in range(9):
        world.withdraw(3, 1, 1)
    world.do(c.Tick(NOW + 500))
    world.seal()
    world.seal()
    stamps = [s.plan.timestamp for s in world.engine.settlement.in_flight]
    assert stamps == [NOW + 60, NOW + 500]
    world.settle_all()


def test_a_timestamp_is_not_later_than_l1(world):
    world.withdraw(3, 1, 1)
    world.do(c.SealBatch(world.engine.settlement.next_number, NOW - 100))
    # But never earlier than the last batch's.
    assert world.engine.settlement.in_flight[0].plan.timestamp == NOW
    world.settle_all()
