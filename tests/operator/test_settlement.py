"""Whatever happened, the batches cut from it are provable, and lead the protocol's state to what the engine says."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
