"""Requests of L1: noted, confirmed, taken back by a reorganisation; across restarts."""

from __future__ import annotations

from dataclasses import replace as replaced

import pytest

from proofbook.chain.events import requests_since
from proofbook.operator.batches import ReorgError
from proofbook.operator.l1 import RpcUnavailable
from proofbook.operator.watcher import BLOCKS
from proofbook.protocol.table import ETH_TOKEN

pytestmark = pytest.mark.xdist_group("live")

COIN = 2


def seen(s):
    """Numbers noted but not confirmed, and the number of the next request."""
    registry = s.operator.engine.registry
    return [number for number, _ in registry.seen], registry.next_request


def test_a_request_takes_effect_with_its_confirmations(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator", confirmations=3)
    live.anvil.mine(3)
    live.open("alice", 1)

    async def work(s):
        assert seen(s) == ([1], 2)  # the fee account's is deep enough
        health = await s.get("/v1/health")
        assert (health["next_unconfirmed"], health["next_request"]) == ("1", "2")
        assert s.operator.engine.get_account(1) is None
        live.anvil.mine(2)
        await s.operator.poll()
        assert s.operator.engine.get_account(1) is None
        live.anvil.mine(1)
        await s.operator.poll()
        assert seen(s) == ([], 2) and s.operator.engine.get_account(1) is not None
        assert (await s.get("/v1/health"))["next_unconfirmed"] == "2"

    session(directory, work)


def test_a_reorganisation_takes_back_what_was_only_noted(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator", confirmations=3)
    live.open("alice", 1)
    live.anvil.mine(4)

    async def work(s):
        before = live.anvil.snapshot()
        live.deposit("alice", 1, ETH_TOKEN, 500)
        await s.operator.poll()
        assert seen(s) == ([2], 3)
        live.anvil.revert(before)
        # Another history takes the block's place, with another request 2 in it.
        live.deposit("alice", 1, ETH_TOKEN, 700)
        live.anvil.mine(1)
        await s.operator.poll()
        assert seen(s) == ([2], 3)
        (record,) = s.operator.store.list_requests(2, 1)
        assert record.amount == 700
        live.anvil.mine(3)
        await s.operator.poll()
        assert s.operator.engine.get_balance(1, ETH_TOKEN).total == 700

    session(directory, work)


def test_a_request_can_vanish_for_good(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator", confirmations=3)
    live.open("alice", 1)
    live.anvil.mine(4)

    async def work(s):
        before = live.anvil.snapshot()
        live.deposit("alice", 1, ETH_TOKEN, 500)
        await s.operator.poll()
        live.anvil.revert(before)
        live.anvil.mine(3)
        await s.operator.poll()
        assert seen(s) == ([], 2) and s.operator.store.count_requests() == 2

    session(directory, work)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_reorganisation_of_what_was_used_stops_the_operator(live, session, tmp_path, stopped):
    directory = live.directory(tmp_path / "operator", confirmations=1)
    live.open("alice", 1)
    live.anvil.mine(2)
    before = live.anvil.snapshot()

    async def deposit(s):
        live.deposit("alice", 1, ETH_TOKEN, 500)
        live.anvil.mine(1)
        await s.operator.poll()
        assert s.operator.engine.get_balance(1, ETH_TOKEN).total == 500

    async def reorganise(s):
        if not stopped:
            await deposit(s)
        live.anvil.revert(before)
        live.anvil.mine(5)
        await s.operator.poll()

    if stopped:
        session(directory, deposit)
        live.anvil.revert(before)
        live.anvil.mine(5)
    with pytest.raises(ReorgError, match="request 2 was confirmed"):
        session(directory, reorganise)


def test_a_restart_goes_on_where_it_was(populated, session, tmp_path):
    live = populated
    directory = live.directory(tmp_path / "operator")

    async def look(s):
        return seen(s), s.operator.engine.get_balance(2, ETH_TOKEN).total, s.operator.engine.command_seq

    first = session(directory, look)
    assert first[:2] == (([], 5), 1_000_000)
    assert session(directory, look) == first  # nothing is fed twice
    live.deposit("bob", 2, ETH_TOKEN, 7)
    assert session(directory, look)[:2] == (([], 6), 1_000_007)


def test_a_kill_between_store_and_journal_is_caught_up_with(populated, session, tmp_path, crash):
    live = populated
    directory = live.directory(tmp_path / "operator")

    async def die(s):
        live.deposit("bob", 2, ETH_TOKEN, 7)
        real, left = s.operator.watcher._submit, [1]

        async def submit(command):
            if not left.pop():
                raise crash("in between")
            left.append(0)
            return await real(command)

        s.operator.watcher._submit = submit
        live.deposit("bob", 2, ETH_TOKEN, 8)
        await s.operator.poll()

    with pytest.raises(crash):
        session(directory, die)

    async def look(s):
        return seen(s), s.operator.engine.get_balance(2, ETH_TOKEN).total

    assert session(directory, look) == (([], 7), 1_000_015)


def test_a_node_that_does_not_answer_is_asked_again(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator")

    async def work(s):
        calls, real = [], s.operator._l1.get_head

        def failing():
            calls.append(1)
            if len(calls) < 3:
                raise ConnectionError("refused")
            return real()

        s.operator._l1.get_head = failing
        await s.operator.poll()
        assert len(calls) == 3
        s.operator._l1.get_head = lambda: (_ for _ in ()).throw(ConnectionError("refused"))
        with pytest.raises(RpcUnavailable):
            await s.operator.poll()
        assert s.operator.stopped is None

    session(directory, work)


def test_blocks_that_could_not_be_read_are_read_later(populated, session, tmp_path, monkeypatch):
    live = populated
    directory = live.directory(tmp_path / "operator")

    async def work(s):
        live.deposit("bob", 2, ETH_TOKEN, 7)
        place = "proofbook.operator.watcher.requests_since"
        monkeypatch.setattr(place, lambda *_: (_ for _ in ()).throw(ConnectionError("gone")))
        for _ in range(2):
            with pytest.raises(RpcUnavailable):
                await s.operator.poll()
            live.anvil.mine(1)
        monkeypatch.setattr(place, requests_since)
        await s.operator.poll()
        assert seen(s) == ([], 6) and s.operator.engine.get_balance(2, ETH_TOKEN).total == 1_000_007

    session(directory, work)


def test_a_reorganisation_that_could_not_be_looked_into_is_noticed_again(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator", confirmations=3)
    live.open("alice", 1)
    live.anvil.mine(4)

    async def work(s):
        before = live.anvil.snapshot()
        live.deposit("alice", 1, ETH_TOKEN, 500)
        await s.operator.poll()
        live.anvil.revert(before)
        live.anvil.mine(3)
        watcher = s.operator.watcher
        real = watcher._hash_of
        watcher._hash_of = lambda block: (_ for _ in ()).throw(ConnectionError("gone"))
        with pytest.raises(RpcUnavailable):
            await s.operator.poll()
        watcher._hash_of = real
        await s.operator.poll()
        assert seen(s) == ([], 2) and s.operator.store.count_requests() == 2

    session(directory, work)


def test_requests_that_a_node_leaves_out_are_read_later(populated, session, tmp_path, monkeypatch):
    live = populated
    directory = live.directory(tmp_path / "operator")
    place = "proofbook.operator.watcher.requests_since"

    async def work(s):
        # A node behind the one that told the newest block answers for blocks it lacks: with nothing.
        live.deposit("bob", 2, ETH_TOKEN, 7)
        monkeypatch.setattr(place, lambda *_: iter(()))
        with pytest.raises(RpcUnavailable, match="request 5"):
            await s.operator.poll()
        live.deposit("bob", 2, ETH_TOKEN, 5)
        monkeypatch.setattr(place, lambda *a: iter(list(requests_since(*a))[1:]))
        with pytest.raises(RpcUnavailable, match="request 5"):
            await s.operator.poll()
        monkeypatch.setattr(place, requests_since)
        await s.operator.poll()
        assert seen(s) == ([], 7) and s.operator.engine.get_balance(2, ETH_TOKEN).total == 1_000_012

    session(directory, work)


def test_a_request_that_is_known_is_not_another_when_it_is_told_again(populated, session, tmp_path, monkeypatch):
    """A crash has the same blocks read again, by then from any node: what was used stays what it was."""
    live = populated

    async def work(s):
        before = s.operator.store.list_requests(0, 9)
        assert len(before) == 5
        s.operator.store.set_meta(BLOCKS, "[]")
        s.operator.watcher._blocks = s.operator.watcher._reader()

        def changed(*blocks):
            for event in requests_since(*blocks):
                request = replaced(event.queued.request, amount=7)
                yield replaced(event, queued=replaced(event.queued, request=request))

        monkeypatch.setattr("proofbook.operator.watcher.requests_since", changed)
        await s.operator.poll()
        assert s.operator.watcher.block == live.w3.eth.block_number
        assert s.operator.store.list_requests(0, 9) == before
        # A new one is held against the contract.
        live.deposit("bob", 2, ETH_TOKEN, 5)
        with pytest.raises(RpcUnavailable, match="another request 5 than the contract has"):
            await s.operator.poll()
        monkeypatch.setattr("proofbook.operator.watcher.requests_since", requests_since)
        await s.operator.poll()
        assert s.operator.engine.get_balance(2, ETH_TOKEN).total == 1_000_005

    session(live.directory(tmp_path / "operator"), work)
