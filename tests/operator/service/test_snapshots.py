"""Snapshots of the state: a start begins at one that holds, and at nothing else."""

import itertools
import json
import logging

import pytest
from msgspec.structs import replace

from proofbook.operator.batches import rebuild_state
from proofbook.operator.snapshots import SNAPSHOT, Snapshots
from proofbook.operator.store import BATCHES, BatchStore
from proofbook.protocol.field import R
from proofbook.protocol.state import Account, State
from proofbook.protocol.table import ETH_TOKEN, MAINNET, MINIMAL

STATE = {
    0: Account(owner=2**160 - 1, pub_x=R - 1, pub_y=1, positions=((1, 2**64 - 1),), orders={3: (3, 2**64 - 1)}),
    7: Account(owner=5, pub_x=0, pub_y=R - 2, positions=((1, 1), (2**16 - 1, 9)), orders={}),
}


def some_state():
    state = State(MINIMAL)
    state.put(STATE)
    return state


class Clock:
    now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


def test_a_state_comes_back_as_it_was(tmp_path):
    snapshots = Snapshots(tmp_path / SNAPSHOT, every=1)
    assert snapshots.load(MINIMAL) is None
    snapshots.offer(4, some_state())
    found = Snapshots(tmp_path / SNAPSHOT).load(MINIMAL)
    assert found is not None
    number, state = found
    assert (number, state.root, dict(state.accounts)) == (4, some_state().root, STATE)
    assert [path.name for path in tmp_path.iterdir()] == [SNAPSHOT]


def test_snapshots_are_as_seldom_as_they_are_dear(tmp_path):
    snapshots = Snapshots(tmp_path / SNAPSHOT, every=3, clock=Clock())
    written = []
    for number in range(1, 120):
        snapshots.offer(number, some_state())
        if (tmp_path / SNAPSHOT).exists() and json.loads((tmp_path / SNAPSHOT).read_bytes())["number"] == number:
            written.append(number)
    # Writing took two seconds of this clock: 40 have to pass.
    assert written[0] == 3 and 2 <= len(written) <= 3
    assert all(40 <= later - before <= 43 for before, later in itertools.pairwise(written))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:-3],
        lambda data: data.replace(b'"version":1', b'"version":2'),
        lambda data: data.replace(b'"number"', b'"nummer"'),
        lambda data: data.replace(b"[[1,1],", b"[[1,-1],"),
        lambda data: data.replace(b"[[1,1],[65535,9]]", b"[[65535,9],[1,1]]"),
        lambda data: data.replace(f'"{R - 1:x}"'.encode(), f'"{R:x}"'.encode()),
        lambda data: data.replace(f'"{R - 1:x}"'.encode(), b'"no number"'),
    ],
)
def test_what_is_damaged_is_ignored(change, tmp_path, caplog):
    Snapshots(tmp_path / SNAPSHOT, every=1).offer(4, some_state())
    data = (tmp_path / SNAPSHOT).read_bytes()
    assert change(data) != data
    (tmp_path / SNAPSHOT).write_bytes(change(data))
    assert Snapshots(tmp_path / SNAPSHOT).load(MINIMAL) is None
    assert "ignored" in caplog.text


def test_of_another_preset_it_has_another_root(tmp_path):
    Snapshots(tmp_path / SNAPSHOT, every=1).offer(4, some_state())
    found = Snapshots(tmp_path / SNAPSHOT).load(MAINNET)
    assert found is not None and found[1].root != some_state().root


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path, caplog):
    snapshots = Snapshots(tmp_path / "missing" / SNAPSHOT, every=1)
    snapshots.offer(4, some_state())
    assert "no snapshot after batch 4" in caplog.text
    (tmp_path / "missing").mkdir()
    snapshots.offer(5, some_state())


def test_a_start_begins_at_the_snapshot_if_it_is_the_stored_batch_s(live, session, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    directory = live.directory(tmp_path / "operator")

    async def work(s):
        await s.post("/v1/batches", None, 200)
        live.open("alice", 1)
        live.deposit("alice", 1, ETH_TOKEN, 5)
        await s.post("/v1/batches", None, 200)
        return s.operator.batcher.state, s.operator.batcher.number, s.operator._sizes

    state, number, sizes = session(directory, work)
    store = BatchStore(directory / BATCHES, f"31337:{live.address.lower()}")
    snapshots = Snapshots(tmp_path / SNAPSHOT, every=1)
    snapshots.offer(number, state)

    def rebuild():
        caplog.clear()
        found, last = rebuild_state(State(MINIMAL), store, sizes, Snapshots(tmp_path / SNAPSHOT))
        return found.root, last, "going on from the snapshot" in caplog.text

    assert rebuild() == (state.root, number, True)
    other = state.copy()
    other.put({1: Account(owner=1, pub_x=2, pub_y=3, positions=((1, 10**18),), orders={})})
    for wrong in ((number, other), (number - 1, state), (number + 1, state)):
        Snapshots(tmp_path / SNAPSHOT, every=0).offer(*wrong)
        assert rebuild() == (state.root, number, False), "money out of nothing, or another batch's"
    Snapshots(tmp_path / SNAPSHOT, every=0).offer(number, state)
    record = store.get_batch(number)
    assert record is not None
    store.put_batch(replace(record, state="submitted"))
    assert rebuild()[1:] == (number - 1, False), "a batch that is not confirmed is no place to begin"
    store.close()


def test_an_operator_keeps_snapshots_by_itself(live, session, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    directory = live.directory(tmp_path / "operator")

    async def work(s):
        s.operator.batcher._snapshots._every = 1
        await s.post("/v1/batches", None, 200)
        return s.operator.batcher.state.root

    async def look(s):
        return s.operator.batcher.state.root

    root = session(directory, work)
    assert (directory / SNAPSHOT).exists()
    assert session(directory, look) == root
    assert "going on from the snapshot after batch 1" in caplog.text
