"""The journal: every command the engine handled, in order, durable before anybody is told.

One SQLite file (WAL, every commit synced) and one writer, held off by a file lock. Each row carries a digest of itself
and all rows before it, so a damaged or edited journal is noticed. How far batches are on their way to L1 stands in the
batcher's store and not here: it can be found out again, commands can't.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from proofbook.operator.codes import OperatorError
from proofbook.operator.commands import Command, decode_command, encode_command
from proofbook.operator.disk import DATABASE_ERRORS, is_disk_error

SCHEMA_VERSION = 2
_DIGEST_BYTES = 16
_GENESIS = bytes(_DIGEST_BYTES)
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE commands (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, chain BLOB NOT NULL);
CREATE TABLE checkpoints (seq INTEGER PRIMARY KEY, state TEXT NOT NULL);
"""


class JournalError(OperatorError):
    """The journal can't be used (code ``journal``)."""

    code: ClassVar[str] = "journal"


class JournalDisk(JournalError):
    """The disk is full or fails: nothing was written (code ``disk``)."""

    code: ClassVar[str] = "disk"


class JournalLocked(JournalError):
    """Another operator runs on this journal (code ``journal_locked``)."""

    code: ClassVar[str] = "journal_locked"


class JournalMismatch(JournalError):
    """The journal is of another exchange, other settings, or another version (code ``journal_mismatch``)."""

    code: ClassVar[str] = "journal_mismatch"


class JournalCorrupt(JournalError):
    """The journal's content is damaged (code ``journal_corrupt``)."""

    code: ClassVar[str] = "journal_corrupt"


def _link(chain: bytes, seq: int, body: bytes) -> bytes:
    return hashlib.blake2b(chain + seq.to_bytes(8, "big") + body, digest_size=_DIGEST_BYTES).digest()


class Journal:
    """An open journal; close it, or use it in a ``with``.

    Parameters
    ----------
    path : Path
        The file, made when missing; ``<path>.lock`` beside it is the lock.
    identity : str
        Names what replaying depends on: `EngineConfig.get_identity`.
    start : str
        What else replaying starts from, kept when the file is made.

    Raises
    ------
    JournalLocked
        If another process (or this one) has it open.
    JournalMismatch
        If it was made with another identity or version.
    JournalCorrupt
        If it is no journal.
    JournalDisk
        If the disk is full or fails.
    JournalError
        If it can't be opened.

    Attributes
    ----------
    last : int
        Sequence number of the last committed command, 0 if there is none.
    start : str
        As it was given when the file was made.
    """

    def __init__(self, path: Path, identity: str, start: str = "") -> None:
        self._mutex = threading.RLock()
        self._lock = _lock_file(path.with_name(path.name + ".lock"))
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise JournalError(f"cannot open {path.name}: {error}") from error
        try:
            self.start = self._prepare(identity, start)
            row = self._db.execute("SELECT seq, chain FROM commands ORDER BY seq DESC LIMIT 1").fetchone()
            self.last, self._chain = (int(row[0]), bytes(row[1])) if row else (0, _GENESIS)
        except (sqlite3.DatabaseError, JournalError, TypeError, ValueError) as error:
            # A damaged file may hold any type in any column.
            self.close()
            if isinstance(error, JournalError):
                raise
            kind = JournalDisk if is_disk_error(error) else JournalCorrupt
            raise kind(f"{path.name}: {error}") from error

    def _prepare(self, identity: str, start: str) -> str:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        if not self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._db.execute(statement)
            values = (("version", str(SCHEMA_VERSION)), ("identity", identity), ("start", start))
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", values)
            self._db.execute("COMMIT")
        meta = dict(self._db.execute("SELECT name, value FROM meta"))
        if meta.get("version") != str(SCHEMA_VERSION):
            raise JournalMismatch(f"the journal is of version {meta.get('version')}, this program of {SCHEMA_VERSION}")
        if meta.get("identity") != identity:
            raise JournalMismatch("the journal was made for another exchange, other sizes or another margin")
        return str(meta.get("start", ""))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let go of the lock; again does nothing."""
        with self._mutex:
            self._db.close()
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def append(self, commands: Sequence[Command]) -> list[int]:
        """Write commands, all or none, and return their sequence numbers once they are on disk.

        Raises
        ------
        JournalError
            If they could not be written; then none is. `JournalDisk` when the disk is the reason.
        """
        with self._mutex:
            seq, chain, rows = self.last, self._chain, []
            for command in commands:
                body = encode_command(command)
                seq += 1
                chain = _link(chain, seq, body)
                rows.append((seq, body, chain))
            self._write("INSERT INTO commands VALUES (?, ?, ?)", rows)
            first, self.last, self._chain = self.last + 1, seq, chain
            return list(range(first, seq + 1))

    def add_checkpoint(self, state: str) -> None:
        """Note the digest of the engine's state after the last command, for `get_checkpoints` to compare on replay."""
        with self._mutex:
            self._write("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", [(self.last, state)])

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")
        except DATABASE_ERRORS as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            kind = JournalDisk if is_disk_error(error) else JournalError
            raise kind(f"nothing was written: {error}") from error

    def get_checkpoints(self) -> dict[int, str]:
        """Return the digests noted, by sequence number; `JournalCorrupt` if they can't be read."""
        with self._mutex:
            try:
                return {int(seq): str(state) for seq, state in self._db.execute("SELECT seq, state FROM checkpoints")}
            except (sqlite3.DatabaseError, TypeError, ValueError) as error:
                raise JournalCorrupt(f"checkpoints: {error}") from error

    def replay(self) -> Iterator[tuple[int, Command]]:
        """Go through all commands with their sequence numbers, checking each row.

        Raises
        ------
        JournalCorrupt
            At the first row that is missing, was changed, or is no command.
        """
        chain, expected = _GENESIS, 0
        try:
            for seq, body, stated in self._db.execute("SELECT seq, body, chain FROM commands ORDER BY seq"):
                expected += 1
                chain = _link(chain, expected, body)
                if seq != expected or chain != stated:
                    raise JournalCorrupt(f"command {expected} is missing or was changed")
                yield seq, decode_command(body)
        except JournalError:
            raise
        except (sqlite3.DatabaseError, OperatorError, TypeError, ValueError) as error:
            raise JournalCorrupt(f"command {expected}: {error}") from error


def _lock_file(path: Path) -> int:
    """Take a lock that the system lets go of when this process ends, however it ends."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        kind = JournalDisk if is_disk_error(error) else JournalError
        raise kind(f"cannot open {path.name}: {error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise JournalLocked("another operator runs on this journal; stop it first") from error
    return handle
