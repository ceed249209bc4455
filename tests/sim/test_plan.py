"""What a demonstration's traders will want: both markets, with or without a file to replay."""

from __future__ import annotations

import pytest

from proofbook.sim.acts import CAST
from proofbook.sim.demo import plan_rounds
from proofbook.sim.flow import Place, SimulationError, count_orders


def placed(rounds):
    return [i for r in rounds for i in r if isinstance(i, Place)]


@pytest.fixture
def flow(tmp_path):
    path = tmp_path / "messages.csv"
    path.write_text("".join(f"34200.{k:03},1,{k},5,{5_850_000 + k},{-1 if k % 2 else 1}\n" for k in range(1, 301)))
    return path


def test_a_simulated_plan_has_both_markets_and_everybody():
    rounds = plan_rounds(1, None, 300)
    assert count_orders(rounds) == 300
    assert {p.symbol for p in placed(rounds)} == {"ETH/USD", "STK/USD"}
    assert {p.trader for p in placed(rounds)} == set(range(len(CAST)))


def test_a_file_plays_the_share_and_the_rest_is_simulated(flow):
    rounds = plan_rounds(1, flow, 300)
    orders = placed(rounds)
    assert len(orders) == 300 and len({p.ref for p in orders}) == 300
    shares = [p for p in orders if p.symbol == "STK/USD"]
    assert len(shares) == 200 and {p.price for p in shares} == {(5_850_000 + k) * 100 for k in range(1, 201)}
    # Those who play it have brought both shares and dollars, or at least one of them.
    assert all(3 in list(CAST.values())[p.trader] for p in shares)


def test_a_short_file_is_made_up_for(flow):
    flow.write_text("".join(flow.read_text().splitlines(keepends=True)[:10]))
    orders = placed(plan_rounds(1, flow, 300))
    assert len(orders) == 300 and sum(p.symbol == "STK/USD" for p in orders) == 10


@pytest.mark.parametrize("orders", [9, 0, -1, 5_001])
def test_a_number_of_orders_out_of_range_is_refused(orders):
    with pytest.raises(SimulationError):
        plan_rounds(1, None, orders)
