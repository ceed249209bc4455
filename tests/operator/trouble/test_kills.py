"""``kill -9`` at every step: of a batch's life, of a request's, of an order's; as a real process with real proofs."""

from __future__ import annotations

import os
import signal

import pytest

from proofbook.operator.store import STATES
from proofbook.protocol.table import ETH_TOKEN

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trouble")]

REQUESTS = (
    "before requests stored",
    "after requests stored",
    "before blocks noted",
    "after blocks noted",
    "before request journaled as seen",
    "after request journaled as seen",
    "before request journaled as confirmed",
    "after request journaled as confirmed",
)
ORDERS = ("before order journaled", "within the journal's transaction", "after order journaled")
STAGES = ("sealed", "built", "witnessed", "proven", "signed", "before transaction sent", "after transaction sent")
ENDS = ("sent", "mined", "confirmed", "settled")
# After it is stored as one of these, the stages follow at once.
RECORDS = tuple(f"before batch stored as {state}" for state in STATES)
KEPT = (
    "before checkpoint noted",
    "after checkpoint noted",
    "before snapshot written",
    "within snapshot",
    "after snapshot written",
)
POINTS = (*REQUESTS, *ORDERS, *STAGES, *ENDS, *RECORDS, *KEPT)


def place(life, body):
    """Send an order; return True when it was acknowledged, None when nobody knows."""
    answer = life.ask("POST", "/v1/orders", body)
    if answer is None:
        return None
    # The second time it may be refused, because the first time counted.
    assert answer.status_code == 201 or answer.json()["error"]["code"] in ("replayed", "slot_taken"), answer.text
    return True


def test_an_operator_killed_at_every_step_loses_nothing_and_does_nothing_twice(
    populated, session, check, tmp_path, report, maker, begin
):
    live, workers = populated, 0
    unsure: list = []
    bodies: list = []
    directory = live.directory(tmp_path / "operator", batch_interval_s=0.1)
    for k, point in enumerate(POINTS, 1):
        if point in REQUESTS:
            live.deposit("bob", 2, ETH_TOKEN, 1)
        life = begin(maker, directory, point)
        try:
            if point not in REQUESTS:
                pair = [live.order(1, "sell", 1000, 10, k), live.order(2, "buy", 1000, 10, k)]
                bodies += pair
                # What nobody knows of is sent again: the same signed bytes, which count once.
                unsure = [body for body in (*unsure, *pair) if place(life, body) is None]
            life.wait_for(life.is_over, f"it lived on after {point}")
            assert life.end() == -signal.SIGKILL
            workers += len(life.workers)
        finally:
            life.end()
        report("crash_points", point)
    assert workers

    async def finish(s):
        for body in unsure:
            await s.post("/v1/orders", body)
        await s.operator.flush()
        for body in bodies:
            order = await s.get(f"/v1/orders/{body['account']}/{body['id']}")
            assert (order["status"], order["filled_base"]) == ("filled", "100")
        check(live, s.operator)
        return s.operator.engine.get_balance(2, ETH_TOKEN).total

    traded = len(bodies) // 2
    # Each trade costs bob 10,000 and 25 bps; every deposit arrived once.
    assert session(directory, finish) == 1_000_000 + len(REQUESTS) - traded * 10_025
    assert session(directory, finish) == 1_000_000 + len(REQUESTS) - traded * 10_025
    assert os.listdir(directory / "work") == []
