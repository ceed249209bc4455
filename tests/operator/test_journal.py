"""What was acknowledged is there after a restart, and what is there is what was written."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from proofbook.operator.commands import CommandError, Freeze, SealBatch, Tick
from proofbook.operator.journal import Journal, JournalCorrupt, JournalError, JournalLocked, JournalMismatch

TICKS = [Tick(n) for n in range(1, 8)]


def _read(path, identity="a"):
    with Journal(path, identity) as journal:
        return list(journal.replay())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def written(path):
    with Journal(path, "a") as journal:
        assert journal.append(TICKS[:3]) == [1, 2, 3]
        assert journal.append(TICKS[3:]) == [4, 5, 6, 7]
        assert journal.append([]) == []
    return path


def _edit(path, statement):
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()


def test_commands_come_back_in_order(written):
    assert _read(written) == list(enumerate(TICKS, 1))
    with Journal(written, "a") as journal:
        assert journal.last == 7
        assert journal.append([Freeze()]) == [8]
    assert _read(written)[-1] == (8, Freeze())


def test_every_commit_is_synced(path):
    with Journal(path, "a") as journal:
        assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_one_operator_at_a_time(written):
    with Journal(written, "a") as journal:
        with pytest.raises(JournalLocked) as caught:
            Journal(written, "a")
        assert caught.value.code == "journal_locked"
        journal.append([Freeze()])
    journal.close()
    assert len(_read(written)) == 8


def test_another_exchange_or_version_is_refused(written):
    with pytest.raises(JournalMismatch):
        Journal(written, "b")
    _edit(written, "UPDATE meta SET value = '99' WHERE name = 'version'")
    with pytest.raises(JournalMismatch):
        Journal(written, "a")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM commands WHERE seq = 3",
        "DELETE FROM commands WHERE seq = 1",
        "UPDATE commands SET body = '[\"Tick\",9]' WHERE seq = 4",
        "UPDATE commands SET body = CAST('[\"Tick\",9]' AS BLOB) WHERE seq = 4",
        "UPDATE commands SET body = NULL WHERE seq = 4",
        "UPDATE commands SET body = 5 WHERE seq = 4",
        "UPDATE commands SET chain = zeroblob(16) WHERE seq = 7",
        "UPDATE commands SET seq = 70 WHERE seq = 7",
        "DROP TABLE commands",
    ],
)
def test_damage_is_noticed(written, statement):
    try:
        _edit(written, statement)
    except sqlite3.IntegrityError:
        return  # the schema itself refuses it
    with pytest.raises(JournalCorrupt):
        _read(written)


def test_a_file_that_is_no_journal_is_refused(path):
    path.write_bytes(b"not a database, and long enough not to be taken for one" * 40)
    with pytest.raises(JournalCorrupt):
        Journal(path, "a")
    assert not _is_locked(path)


def test_a_place_that_cannot_be_written_is_a_typed_error(tmp_path):
    with pytest.raises(JournalError):
        Journal(tmp_path / "none" / "journal.sqlite", "a")


def _is_locked(path):
    path.unlink()
    try:
        Journal(path, "a").close()
    except JournalLocked:
        return True
    return False


def test_a_failed_write_leaves_nothing(written):
    with Journal(written, "a") as journal:
        journal._db.execute("PRAGMA query_only = ON")
        with pytest.raises(JournalError):
            journal.append([Freeze()])
        journal._db.execute("PRAGMA query_only = OFF")
        assert journal.last == 7
        assert journal.append([Tick(9)]) == [8]
    assert _read(written)[-1] == (8, Tick(9))


def test_what_could_not_be_read_again_is_not_written(written):
    with Journal(written, "a") as journal:
        for number in (10**4200, -(10**4200)):
            with pytest.raises(CommandError):
                journal.append([Tick(9), SealBatch(1, number)])
        assert journal.append([Tick(10)]) == [8]
    assert _read(written)[-1] == (8, Tick(10))


def test_checkpoints_belong_to_the_last_command(written):
    with Journal(written, "a") as journal:
        journal.add_checkpoint("x")
        journal.append([Freeze()])
        journal.add_checkpoint("y")
        journal.add_checkpoint("z")
        assert journal.get_checkpoints() == {7: "x", 8: "z"}


CHILD = """
import sys
from pathlib import Path
from proofbook.operator.commands import Tick
from proofbook.operator.journal import Journal
journal = Journal(Path(sys.argv[1]), "a")
n = 0
while True:
    journal.append([Tick(n + 1), Tick(n + 2)])
    n += 2
    print(n, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_was_told_of(path):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(20)]
    with pytest.raises(JournalLocked):
        Journal(path, "a")
    os.kill(child.pid, signal.SIGKILL)
    told += [int(line) for line in child.stdout.read().splitlines()]
    child.wait()
    child.stdout.close()
    found = _read(path)
    assert len(found) >= told[-1]
    assert len(found) % 2 == 0  # groups are whole
    assert found == [(n, Tick(n)) for n in range(1, len(found) + 1)]
