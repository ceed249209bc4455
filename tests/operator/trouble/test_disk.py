"""A disk that is full: what was not written was never acknowledged, and what was acknowledged is there afterwards."""

from __future__ import annotations

import shutil
import signal

import pytest

from proofbook.operator import commands as c
from proofbook.operator.journal import Journal, JournalDisk
from proofbook.operator.store import BatchStore, RequestRecord, StoreDisk

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trouble")]

ROWS = 200
DISK = 7  # victim.py's exit code


def fill(database):
    """Let a database grow no further, by SQLite's own limit."""
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")


def free(database):
    database.execute("PRAGMA max_page_count = 1000000")


def test_a_full_journal_takes_a_whole_group_or_nothing(tmp_path, report):
    path = tmp_path / "journal.sqlite"
    with Journal(path, "a") as journal:
        journal.append([c.Tick(1), c.Tick(2)])
        fill(journal._db)
        group = [c.Tick(n) for n in range(3, 3 + ROWS)]
        with pytest.raises(JournalDisk, match="nothing was written: database or disk is full") as full:
            journal.append(group)
        assert full.value.code == "disk" and journal.last == 2
        free(journal._db)
        assert journal.append([c.Tick(3)]) == [3]
    with Journal(path, "a") as journal:
        assert list(journal.replay()) == [(n, c.Tick(n)) for n in (1, 2, 3)]
    report("faults", "disk full: journal, SQLite's limit")


def test_a_full_store_says_so_and_keeps_what_it_had(tmp_path, report):
    store = BatchStore(tmp_path / "batches.sqlite", "1:0xab")
    records = [
        RequestRecord(
            number=n,
            kind=1,
            account=1,
            token=1,
            amount=5,
            owner="1",
            pub_x="2",
            pub_y="3",
            fee=1,
            deadline=1,
            block=n,
            block_hash="",
        )
        for n in range(ROWS)
    ]
    store.put_requests(records[:2])
    store.set_meta("blocks", "[]")
    fill(store._db)
    for write in (
        lambda: store.put_requests(records),
        lambda: store.set_meta("blocks", "x" * 10_000),
    ):
        with pytest.raises(StoreDisk, match="full"):
            write()
    assert store.count_requests() == 2 and store.get_meta("blocks") == "[]"
    free(store._db)
    store.put_requests(records)
    assert store.list_requests(0, 2 * ROWS) == records
    store.close()
    report("faults", "disk full: store, SQLite's limit")


# --- the whole operator


def count_batches(life):
    return len([b for b in life.ask("GET", "/v1/batches").json()["batches"] if b["state"] == "confirmed"])


def get_code(life):
    """Why it stopped, "" while it works; "disk" also when it could not even start."""
    if life.is_over():
        return "disk" if life.code == DISK else f"exit {life.code}"
    answer = life.ask("GET", "/v1/health")
    return "" if answer is None or answer.status_code == 200 else answer.json()["error"]["code"]


def place_until_refused(life, live, first):
    """Place resting orders; return the ids acknowledged, and the refusal."""
    for id_ in range(first, first + 15):
        answer = life.ask("POST", "/v1/orders", live.order(1, "sell", 1000, 1, id_))
        if answer.status_code != 201:
            return list(range(first, id_)), id_, answer
    raise AssertionError("a full disk takes everything")


def test_an_operator_whose_disk_is_full_stops_and_goes_on_once_there_is_room(
    populated, session, check, begin, disk, disk_kind, tmp_path, report
):
    live = populated
    directory = live.directory(disk.directory, batch_interval_s=7_200.0, min_actions=240)

    def start():
        return begin(disk.maker, directory, inside=disk.inside)

    # An order that can't be kept is not acknowledged, and no other one is taken.
    life = start()
    assert life.ask("POST", "/v1/orders", live.order(1, "sell", 1000, 1, 1)).status_code == 201
    disk.fill()
    kept, refused, answer = place_until_refused(life, live, 2)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk")
    again = life.ask("POST", "/v1/orders", live.order(1, "sell", 1000, 1, refused + 1))
    assert (again.status_code, again.json()["error"]["code"]) == (503, "stopped")
    assert get_code(life) == "disk"
    assert life.end(signal.SIGTERM) == 0
    # It can't start like this, and says so: not that the files are damaged.
    life = start()
    life.wait_for(lambda: get_code(life), "it works on a full disk")
    assert get_code(life) == "disk"
    life.end()
    disk.free()

    # Every acknowledged order is there, and nothing else.
    life = start()
    orders = life.ask("GET", "/v1/accounts/1").json()["open_orders"]
    assert [int(order["id"]) for order in orders] == [1, *kept]
    assert life.ask("POST", "/v1/orders", live.order(1, "sell", 1000, 1, refused)).status_code == 201
    lots = len(kept) + 2
    bought = life.ask("POST", "/v1/orders", live.order(2, "buy", 1000, lots, 1))
    assert bought.json()["order"]["status"] == "filled"
    # In the middle of a batch.
    before = count_batches(life)
    assert life.ask("POST", "/v1/batches?wait=false").status_code == 202
    life.wait_for(lambda: life.ask("GET", "/v1/health").json()["in_flight"], "nothing is settled")
    disk.fill()
    life.wait_for(lambda: get_code(life), "it works on a full disk")
    assert get_code(life) in ("disk", "proving_failed")
    assert life.end(signal.SIGTERM) == 0
    disk.free()

    async def finish(s):
        await s.operator.flush()
        check(live, s.operator)
        return s.operator.batcher.number

    # Moved, as it may be while it is stopped.
    moved = shutil.copytree(directory, tmp_path / "moved")
    assert session(moved, finish) > before
    report("faults", f"disk full: {disk_kind}")
