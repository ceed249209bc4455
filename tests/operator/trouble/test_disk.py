"""A disk that is full: what was not written was never acknowledged, and what was acknowledged is there afterwards."""

from __future__ import annotations

import pytest

from proofbook.operator import commands as c
from proofbook.operator.journal import Journal, JournalDisk
from proofbook.operator.store import BatchStore, RequestRecord, StoreDisk

ROWS = 200


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
            owner="",
            pub_x="",
            pub_y="",
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
