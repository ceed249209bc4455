"""From a deposit to a payment on L1 with real proofs, killed at every stage of a batch's life."""

from __future__ import annotations

from collections import Counter

import pytest

from proofbook.protocol.eddsa import derive_public
from proofbook.protocol.table import ETH_TOKEN

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("live")]

COIN = 2
STAGES = ("sealed", "built", "witnessed", "proven", "signed", "sent", "mined", "confirmed", "settled")


class Deaths:
    """Kills the operator once at each stage, in order."""

    def __init__(self, crash, stages):
        self.crash, self.left = crash, list(stages)

    def __call__(self, stage):
        if self.left and stage == self.left[0]:
            self.left.pop(0)
            raise self.crash(stage)


def orders_and_withdrawal(live):
    async def work(session):
        await session.post("/v1/orders", live.order(1, "sell", 1000, 100, 1), 201)
        bought = await session.post("/v1/orders", live.order(2, "buy", 1100, 60, 1), 201)
        assert bought["order"]["status"] == "filled" and bought["trades"][0]["price"] == "1000"
        await session.post("/v1/withdrawals", live.withdrawal(1, ETH_TOKEN, 5_000, 2), 201)
        return await session.post("/v1/batches", None, 200)

    return work


def final_state(live):
    """What is to be the same however often the operator was killed."""
    exchange = live.by("alice")
    operator = live.people["operator"].address
    return {
        "root": exchange.state_root(),
        "batches": exchange.batch_number(),
        "queue": exchange.queue(),
        "transactions": live.w3.eth.get_transaction_count(operator),
        "claim": exchange.claim_of(live.people["alice"].address, ETH_TOKEN),
        "tokens": [(t.id, t.outstanding, t.claims) for t in exchange.tokens()],
    }


async def balances(session):
    found = {}
    for account in (0, 1, 2):
        told = await session.get(f"/v1/accounts/{account}")
        assert told["pending_requests"] == []
        found[account] = {b["symbol"]: (b["available"], b["reserved"]) for b in told["balances"]}
    batches = (await session.get("/v1/batches"))["batches"]
    assert [b["state"] for b in batches] == ["confirmed"] * len(batches)
    return found, session.operator.batcher.state.root


def test_a_batch_survives_a_kill_at_every_stage(populated, session, tmp_path, crash):
    live = populated
    snapshot = live.anvil.snapshot()
    calm = live.directory(tmp_path / "calm")
    flushed = session(calm, orders_and_withdrawal(live))
    assert [b["number"] for b in flushed["batches"]] == [1, 2]
    assert sum(b["requests"] for b in flushed["batches"]) == 5
    assert sum(b["orders"] for b in flushed["batches"]) == 2
    assert all(b["gas"] > 200_000 and b["prove_s"] > 0 and b["data_bytes"] > 500 for b in flushed["batches"])
    expected, told = final_state(live), session(calm, balances)
    # Alice sold 600 coins for 60,000 less 10 bps; bob paid 25 bps on top; both fees are account 0's.
    assert told[0] == {
        0: {"ETH": ("210", "0")},
        1: {"ETH": ("54940", "0"), "COIN": ("9000", "400")},
        2: {"ETH": ("939850", "0"), "COIN": ("600", "0")},
    }
    assert expected["claim"] == 5_000 and expected["root"] == told[1]

    live.anvil.revert(snapshot)
    deaths = Deaths(crash, STAGES)
    hunted = live.directory(tmp_path / "hunted")
    started = False

    async def go_on(running):
        nonlocal started
        if not started:
            started = True
            await orders_and_withdrawal(live)(running)
        await running.post("/v1/batches", None, 200)

    for stage in STAGES:
        with pytest.raises(crash, match=stage):
            session(hunted, go_on, crash_at=deaths)
    session(hunted, go_on, crash_at=deaths)
    assert deaths.left == []
    assert final_state(live) == expected
    assert session(hunted, balances) == told


class DeathsOfTwo:
    """Kills the operator at the nth time in its life that a stage is reached, one after the other."""

    def __init__(self, crash, places):
        self.crash, self.left = crash, list(places)
        self.seen: Counter[str] = Counter()

    def __call__(self, stage):
        self.seen[stage] += 1
        if self.left and (stage, self.seen[stage]) == self.left[0]:
            self.left.pop(0)
            self.seen.clear()
            raise self.crash(stage)


BOTH = [
    *[("sealed", 1), ("built", 1), ("sealed", 1), ("built", 1)],
    # Witnesses are made anew in each life. The second batch's proof is there before the first one's.
    *[("witnessed", 1), ("witnessed", 2), ("proven", 1), ("proven", 1)],
    # The second batch is sent while the first one lacks its confirmation, which the second one's block is.
    *[("signed", 1), ("sent", 1), ("mined", 1), ("signed", 1), ("sent", 1), ("mined", 2)],
    # What is confirmed is settled by the next start itself.
    *[("settled", 1), ("confirmed", 1)],
]


def test_two_batches_in_flight_survive_a_kill_at_every_stage_of_either(populated, session, tmp_path, crash, faults):
    live = populated
    live.anvil.mine(2)
    snapshot = live.anvil.snapshot()
    calm = live.directory(tmp_path / "calm")
    assert [b["number"] for b in session(calm, orders_and_withdrawal(live))["batches"]] == [1, 2]
    expected, told = final_state(live), session(calm, balances)

    live.anvil.revert(snapshot)
    deaths = DeathsOfTwo(crash, BOTH)
    hunted = live.directory(tmp_path / "hunted", prover_workers=2, pipeline_depth=2, confirmations=1)
    started = False

    async def go_on(running):
        nonlocal started
        faults(tmp_path, running.operator, batch_1=["wait:end 2"] * 9)
        if not started:
            started = True
            await orders_and_withdrawal(live)(running)
        if len(deaths.left) <= 1:
            live.anvil.mine(1)  # no other batch confirms the last one
        await running.post("/v1/batches", None, 200)

    for stage, _ in BOTH:
        with pytest.raises(crash, match=stage):
            session(hunted, go_on, crash_at=deaths)
    session(hunted, go_on, crash_at=deaths)
    assert deaths.left == []
    assert final_state(live) == expected
    assert session(hunted, balances) == told


def test_every_kind_of_row_is_settled(populated, session, tmp_path):
    """Transfer, hard cancel, key change, forced exit, a deposit that trades in the batch it arrives in."""
    live = populated
    directory = live.directory(tmp_path / "operator")
    new_key = b"a new key of alice's, 32 bytes.."

    async def work(s):
        await s.post("/v1/batches", None, 200)
        await s.post("/v1/orders", live.order(1, "sell", 1000, 100, 1), 201)
        await s.post("/v1/orders", live.order(2, "buy", 1000, 10, 1), 201)
        await s.post("/v1/cancels", live.cancel(1, 1, hard=True), 201)
        await s.post("/v1/batches", None, 200)
        await s.post("/v1/transfers", live.transfer(2, COIN, 40, 1, 2), 201)
        live.by("alice").change_key(1, *derive_public(new_key))
        live.by("bob").force_exit(2, COIN)
        live.deposit("alice", 1, ETH_TOKEN, 77)
        await s.post("/v1/batches", None, 200)
        old = live.order(1, "sell", 900, 10, 3)
        assert await s.refused("/v1/orders", old) == (401, "bad_signature")
        await s.post("/v1/orders", live.order(1, "sell", 900, 10, 3, signer=new_key), 201)
        await s.post("/v1/orders", live.order(2, "buy", 900, 10, 3, flags=2), 201)
        flushed = (await s.post("/v1/batches", None, 200))["batches"]
        assert [b["trades"] for b in flushed] == [1]
        batches = (await s.get("/v1/batches"))["batches"]
        assert sum(b["requests"] for b in batches) == 8 and sum(b["actions"] for b in batches) == 6
        return s.operator.batcher.state

    state = session(directory, work)
    exchange = live.by("alice")
    assert state.root == exchange.state_root()
    assert exchange.claim_of(live.people["bob"].address, COIN) == 60  # what the forced exit found
    assert exchange.claim_of(live.people["alice"].address, COIN) == 0
    # 200 coins went from alice to bob in two trades, of which bob sent 40 back and took 60 out.
    assert dict(state.account(1).positions)[COIN] == 10_000 - 200 + 40
    assert dict(state.account(2).positions)[COIN] == 100
    assert (state.account(1).pub_x, state.account(1).pub_y) == derive_public(new_key)
    assert exchange.queue() == (8, 8)
