"""A store whose file was damaged in the middle: every look into it says so by name, at the start and later."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from proofbook.operator.batches import StateDiverged, rebuild_state
from proofbook.operator.journal import Journal, JournalError
from proofbook.operator.store import BatchRecord, BatchStore, RequestRecord, StoreDisk, StoreError
from proofbook.operator.watcher import BLOCKS, Watcher
from proofbook.protocol.state import State
from proofbook.protocol.table import MINIMAL, SIZES

PAGE = 4096
READS = {
    "get_meta": lambda s: s.get_meta("name-150"),
    "get_batch": lambda s: [s.get_batch(number) for number in range(1, 200)],
    "list_batches": lambda s: s.list_batches(256),
    "count_requests": lambda s: s.count_requests(),
    "list_requests": lambda s: s.list_requests(0, 256),
    "list_requests_of": lambda s: s.list_requests_of(7, 0, 256),
    "rebuild_state": lambda s: rebuild_state(State(MINIMAL), s, SIZES["minimal"]),
    "set_meta": lambda s: [s.set_meta(f"name-{k}", "") for k in range(200)],
}


def fill(path):
    store = BatchStore(path, "x")
    for n in range(1, 200):
        words = "0" * 4_000
        store.put_batch(
            BatchRecord(
                number=n, size_id=0, timestamp=0, state="confirmed", words=words, orders=0, trades=0, accounts=0
            )
        )
        store.set_meta(f"name-{n}", "v" * 1_000)
    names = ("number", "kind", "account", "token", "amount", "fee", "deadline", "block")
    values: dict[str, Any] = dict.fromkeys(names, 7) | dict.fromkeys(("owner", "pub_x", "pub_y"), "0")
    store.put_requests([RequestRecord(**values | {"number": n, "block_hash": "0" * 3_000}) for n in range(200)])
    store.close()


@pytest.mark.parametrize("read", READS)
def test_what_was_overwritten_is_named(tmp_path, read):
    path = tmp_path / "batches.sqlite"
    fill(path)
    store = BatchStore(path, "x")
    data = bytearray(path.read_bytes())
    assert len(data) > 300 * PAGE
    data[20 * PAGE :] = b"\xff" * (len(data) - 20 * PAGE)
    path.write_bytes(data)
    with pytest.raises(StoreError) as told:
        READS[read](store)
    assert told.value.code == "store" and "malformed" in str(told.value)
    store.close()


@pytest.mark.parametrize("body", [None, 5, "text", b"\xff", b"[" * 100_000, b"{}"])
def test_a_record_that_is_none_is_named(tmp_path, body):
    store = BatchStore(tmp_path / "batches.sqlite", "x")
    store._db.execute("DROP TABLE batches")
    store._db.execute("CREATE TABLE batches (number INTEGER PRIMARY KEY, state, body)")
    store._db.execute("INSERT INTO batches VALUES (1, 'confirmed', ?)", (body,))
    for look in (lambda: store.get_batch(1), lambda: store.list_batches(5)):
        with pytest.raises(StoreError, match="a record is damaged"):
            look()
    store.close()


def test_a_failing_disk_is_told_from_a_damaged_file(tmp_path):
    store: Any = BatchStore(tmp_path / "batches.sqlite", "x")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    real = store._db

    def execute(*_):
        raise error

    store._db = SimpleNamespace(execute=execute)
    with pytest.raises(StoreDisk, match="can't be read"):
        store.get_batch(1)
    real.close()


@pytest.mark.parametrize("words", ["", "0" * 64])
def test_words_that_are_none_do_not_follow(tmp_path, words):
    store = BatchStore(tmp_path / "batches.sqlite", "x")
    store.put_batch(
        BatchRecord(number=1, size_id=0, timestamp=0, state="confirmed", words=words, orders=0, trades=0, accounts=0)
    )
    with pytest.raises(StateDiverged, match="stored batch 1"):
        rebuild_state(State(MINIMAL), store, SIZES["minimal"])
    store.close()


@pytest.mark.parametrize("text", ["", "[", "[1]", '[[1, "0x"], 5]', '[["x", "0x"]]', "[" * 100_000])
def test_blocks_that_were_read_can_be_read_again_or_not(tmp_path, text):
    store: Any = BatchStore(tmp_path / "batches.sqlite", "x")
    nobody: Any = SimpleNamespace(w3=None)
    store.set_meta(BLOCKS, text)
    make = lambda: Watcher(nobody, nobody, store, nobody, 0)  # noqa: E731
    if text:
        with pytest.raises(StoreError, match="blocks"):
            make()
    else:
        assert make().block == -1
    store.close()


@pytest.mark.parametrize("make", [lambda path: BatchStore(path, "x"), lambda path: Journal(path, "x")])
def test_a_damaged_name_is_named_as_damage(tmp_path, make):
    """Where SQLite's own message quotes bytes that are no text, Python's module raises no error of SQLite's."""
    path = tmp_path / "file.sqlite"
    make(path).close()
    whole, told = path.read_bytes(), 0
    for at in [at for at in range(100, len(whole)) if whole[at]][::7]:
        path.write_bytes(whole[:at] + b"\x80" + whole[at + 1 :])
        for extra in ("-wal", "-shm"):
            path.with_name(path.name + extra).unlink(missing_ok=True)
        try:
            make(path).close()
        except (StoreError, JournalError):
            told += 1
    assert told > 20
