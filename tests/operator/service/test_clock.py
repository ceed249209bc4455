"""The machine's clock and the chain's: neither moves the operator's time alone, and what is wrong with them is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from msgspec.structs import replace

from proofbook.chain.errors import ContractRevert
from proofbook.operator.clock import MAX_AHEAD_S, MAX_APART_S, Clock
from proofbook.operator.condition import NEAR
from proofbook.operator.l1 import ClockBehind, RpcUnavailable
from proofbook.operator.settings import SettingsError, check_times, load_settings
from proofbook.operator.store import StoreError
from proofbook.protocol.table import ETH_TOKEN

pytestmark = pytest.mark.xdist_group("live")

T = 1_800_000_000
YEAR = 365 * 86_400
COIN = 2


class World:
    """A clock whose hands are set by the test."""

    def __init__(self, follows_chain=False):
        self.wall = self.passed = float(T)
        self.clock = Clock(follows_chain, lambda: self.wall, lambda: self.passed)
        self.block, self.engine = 0, 0
        self.mine(T)

    def mine(self, timestamp):
        self.block += 1
        self.clock.note(self.block, timestamp)

    def look(self):
        self.engine = self.clock.get_now(self.engine)
        return self.engine - T

    def trouble(self):
        return self.clock.find_trouble(self.engine)


def test_a_clock_that_jumps_ahead_moves_time_by_a_little():
    world = World()
    assert (world.look(), world.trouble()) == (0, None)
    world.wall += YEAR
    assert (world.look(), world.trouble()) == (MAX_AHEAD_S, "chain_stalled")
    world.mine(T + 12)
    assert (world.look(), world.trouble()) == (MAX_AHEAD_S + 12, "clock")
    world.wall = T + 24.0
    world.mine(T + 24)
    assert (world.look(), world.trouble()) == (MAX_AHEAD_S + 12, "clock")  # the engine's is ahead now
    world.wall = T + MAX_AHEAD_S + 60.0
    world.mine(T + MAX_AHEAD_S + 60)
    assert (world.look(), world.trouble()) == (MAX_AHEAD_S + 60, None)


def test_a_node_alone_does_not_move_time():
    world = World()
    world.look()
    world.mine(T + YEAR)
    assert (world.look(), world.trouble()) == (0, "clock")
    world.mine(T - YEAR)
    assert (world.look(), world.trouble()) == (0, "clock")
    world.mine(T)
    assert (world.look(), world.trouble()) == (0, None)


def test_time_stands_still_with_the_chain_and_it_is_told():
    world = World()
    world.mine(T)
    for passed in range(0, 3600, 60):
        world.wall, world.passed = T + passed, T + passed
        assert world.look() == min(passed, MAX_AHEAD_S)
        assert world.trouble() == (None if passed <= MAX_APART_S else "chain_stalled")
    world.mine(T + 3540)
    assert (world.look(), world.trouble()) == (3540, None)


def test_a_clock_that_is_behind_is_told():
    world = World()
    world.wall -= MAX_APART_S
    assert world.trouble() is None
    world.wall -= 1
    assert world.trouble() == "clock"


def test_where_the_chain_tells_the_time_there_is_no_other_clock():
    world = World(follows_chain=True)
    world.mine(T + YEAR)
    assert (world.look(), world.trouble()) == (YEAR, None)
    world.mine(T)
    assert world.look() == YEAR
    assert Clock(False, lambda: T).get_now(5) == MAX_AHEAD_S  # before the first look at the chain
    assert Clock(False, lambda: T).find_trouble(0) is None


def test_an_operator_whose_clock_jumps_for_a_moment_takes_orders_on(populated, session, tmp_path):
    live = populated
    directory = live.directory(tmp_path / "operator", clock="wall")

    async def work(s):
        await s.post("/v1/orders", live.order(1, "sell", 1000, 10, 1), 201)
        s.operator.clock._wall = lambda: live.now() + YEAR
        live.anvil.mine(1)
        await s.operator.poll()
        # The deposits may wait for too long by that clock: nobody can tell which of the two is right.
        assert (await s.get("/v1/health"))["trouble"] in (["chain_stalled", NEAR], ["clock", NEAR])

    async def later(s):
        s.operator.clock._wall = live.now
        await s.operator.poll()
        assert (await s.get("/v1/orders/1/1"))["status"] == "open"
        await s.post("/v1/orders", live.order(2, "buy", 999, 10, 1), 201)

    session(directory, work)
    session(directory, later)


def test_nothing_is_sealed_by_a_clock_that_is_too_far_behind(populated, session, tmp_path, caplog, monkeypatch):
    """Each batch would be proven, refused as too old, and sealed anew with the same old timestamp, without end."""
    live = populated
    behind = 20_000  # MAX_LAG is 7,200
    place = "proofbook.operator.service.Clock"
    monkeypatch.setattr(place, lambda follows: Clock(follows, lambda: live.now() - behind))

    async def work(s):
        nonlocal behind
        with pytest.raises(ClockBehind, match="is 20000 s behind the newest block's: put it right"):
            await s.operator.flush()
        assert (await s.get("/v1/health"))["trouble"] == ["clock"] and s.operator.stopped is None
        assert s.operator.store.list_batches(5) == [] and not s.operator.engine.settlement.in_flight
        behind = 0
        assert await s.operator.flush() == [1, 2]
        assert s.operator.store.get_batch(1).timestamp > live.now() - 7_200
        assert (await s.get("/v1/health"))["trouble"] == []

    caplog.set_level(logging.WARNING)
    session(live.directory(tmp_path / "operator", clock="wall"), work)
    assert "trouble: clock" in caplog.text


def test_what_is_mined_is_confirmed_while_the_clock_is_behind(live, session, tmp_path):
    async def work(s):
        s.operator.clock._wall = live.now
        s.impatient(confirmations=1)
        batcher, l1 = s.operator.batcher, s.operator._l1
        batcher.want_all()
        while batcher.get_stages() != [(1, "mined")]:
            await batcher.step()
        live.open("alice", 1)
        await s.operator.poll()
        batcher.want_all()
        get_head = l1.get_head
        l1.get_head = lambda: (get_head()[0], get_head()[1] + 20_000)
        with pytest.raises(ClockBehind):
            await batcher.step()
        assert batcher.number == 1 and s.operator.store.get_batch(1).state == "confirmed"

    session(live.directory(tmp_path / "operator", clock="wall"), work)


def test_a_node_that_names_another_day_has_no_trade_undone(populated, session, tmp_path):
    """It says that the batch is too old, and that it is a day later: then nothing would be valid any more."""
    live = populated

    async def work(s):
        s.operator.clock._wall = live.now
        for body in (live.order(1, "sell", 1000, 10, 1), live.order(2, "buy", 1000, 10, 1)):
            await s.post("/v1/orders", body, 201)
        l1 = s.operator._l1
        get_head, sign_commit = l1.get_head, l1.sign_commit

        def too_old(*args):
            number, now = get_head()
            l1.get_head = lambda: (number, now + 86_400)
            raise ContractRevert("TimestampTooOld", {})

        l1.sign_commit = too_old
        with pytest.raises(ClockBehind, match=r"is 86\d{3} s behind the newest block's"):
            await s.operator.flush()
        assert s.operator.store.get_batch(1) is not None and s.operator.stopped is None
        l1.get_head, l1.sign_commit = get_head, sign_commit
        assert await s.operator.flush()
        assert (await s.get("/v1/orders/2/1"))["status"] == "filled"
        assert len((await s.get("/v1/trades?market=COIN-ETH"))["trades"]) == 1

    session(live.directory(tmp_path / "operator", clock="wall"), work)


# --- deadlines


def test_the_oldest_deadline_is_told_and_so_is_that_it_is_near(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator")
    live.open("alice", 1)
    live.deposit("alice", 1, ETH_TOKEN, 500)

    async def work(s):
        (first,) = s.operator.store.list_requests(0, 1)
        health = await s.get("/v1/health")
        assert (health["oldest_deadline"], health["trouble"]) == (first.deadline, [])
        live.anvil.increase_time(first.deadline - live.now() - 36_000 // 4 + 30)
        await s.operator.poll()
        health = await s.get("/v1/health")
        assert (health["oldest_deadline"], health["trouble"]) == (first.deadline, ["deadline_near"])
        assert await s.operator.flush() == [1]
        health = await s.get("/v1/health")
        assert (health["oldest_deadline"], health["trouble"]) == (None, [])

    session(directory, work)


@pytest.mark.parametrize("away", [True, False])
def test_a_deadline_comes_near_also_while_no_block_does(live, session, tmp_path, caplog, away):
    """The node is away, or stands still: the chain goes on without it, and so does the deadline."""
    caplog.set_level(logging.WARNING)
    start, passed = live.now(), 0

    async def work(s):
        nonlocal passed
        s.operator.clock._wall = lambda: start + passed
        (first,) = s.operator.store.list_requests(0, 1)
        if away:
            s.operator._l1.get_head = lambda: (_ for _ in ()).throw(ConnectionError("gone"))
        for seconds, near in (
            (0, False),
            (first.deadline - start - 9_000, False),
            (first.deadline - start - 8_990, True),
        ):
            passed = seconds
            with pytest.raises(RpcUnavailable) if away else contextlib.nullcontext():
                await s.operator.poll()
            assert (NEAR in s.operator.get_health().trouble) == (NEAR in caplog.text) == near

    session(live.directory(tmp_path / "operator", clock="wall", rpc_attempts=1), work)


def test_a_store_that_can_not_be_read_stops_the_operator_at_the_latest_when_it_is_asked(live, session, tmp_path):
    async def work(s):
        def broken(first, count):
            raise StoreError("it can't be read")

        s.operator.store.list_requests = broken
        health = await s.get("/v1/health", 503)
        assert (health["status"], health["error"]["code"]) == ("stopped", "store")

    session(live.directory(tmp_path / "operator"), work)


# --- a pace that the contract does not allow


def test_a_pace_that_the_contract_does_not_allow_is_refused_at_the_start(live, tmp_path, caplog):
    settings = load_settings(live.directory(tmp_path / "operator"))
    config = live.by("alice").config()
    check_times(settings, config.max_lag, config.request_window)
    assert caplog.text == ""
    for interval, lag, window in ((7_201.0, 7_200, 36_000), (60.5, 3_600, 121), (86_400.0, 3_600, 3 * 86_400)):
        with pytest.raises(SettingsError, match=f"batch_interval_s is {interval:g}.*set batch_interval_s to"):
            check_times(replace(settings, batch_interval_s=interval), lag, window)
    check_times(replace(settings, batch_interval_s=5_401.0), 7_200, 36_000)
    assert "a prover that hangs is given 1800 s after up to 5401 s" in caplog.text


def test_an_operator_that_would_be_too_slow_does_not_start(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator", batch_interval_s=8_000.0)
    with pytest.raises(SettingsError, match="no batch older than 7200 s"):
        session(directory, lambda s: asyncio.sleep(0))
