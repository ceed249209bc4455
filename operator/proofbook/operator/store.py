"""What the operator knows of L1 and of its batches, beside the journal of commands: SQLite, every write durable.

The journal says what was matched and sealed; this store says how far each batch is on its way to L1, and which requests
L1 has. Losing power between the two is harmless: a sealed batch without a record here is at its beginning, and a
confirmed one here that the journal does not know as such is told to it again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, TypeVar

import msgspec

from proofbook.operator.codes import OperatorError
from proofbook.operator.disk import DATABASE_ERRORS, is_disk_error

BATCHES: Final = "batches.sqlite"
VERSION: Final = 1

BatchState = Literal["built", "witnessed", "proven", "submitted", "confirmed"]
STATES: Final[tuple[BatchState, ...]] = ("built", "witnessed", "proven", "submitted", "confirmed")
_Number = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,64}\Z")]
_Words = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})*\Z")]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (number INTEGER PRIMARY KEY, state TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS requests (number INTEGER PRIMARY KEY, account INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS requests_by_account ON requests (account, number);
"""


class StoreError(OperatorError):
    """The store is of another exchange, of another version, or damaged (code ``store``)."""

    code: ClassVar[str] = "store"


class StoreDisk(StoreError):
    """The disk is full or fails: nothing was written (code ``disk``)."""

    code: ClassVar[str] = "disk"


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch and everything that was made for it so far; what is not there yet is empty.

    Attributes
    ----------
    number, size_id, timestamp : int
        As in the header.
    state : str
        How far it is.
    words : str
        D in full layout, hex, 64 digits a word.
    orders, trades, accounts : int
        For people: order rows, trades, account rows.
    c : str
        The commitment, hex.
    proof : list of str
        The contract's eight words, hex.
    constraints, witness_s, prove_s
        Of the circuit; measured seconds.
    tx, raw_tx : str
        Hash and signed bytes of the last transaction sent for it, hex.
    sent : list of str
        Hashes of all transactions sent for it; they share one nonce, so one can be mined.
    nonce, block, gas, data_bytes : int
        Of the transaction; block and gas when mined.
    """

    number: int
    size_id: int
    timestamp: int
    state: BatchState
    words: _Words
    orders: int
    trades: int
    accounts: int
    c: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,64}\Z")] = ""
    proof: list[_Number] = []
    constraints: int = 0
    witness_s: float = 0.0
    prove_s: float = 0.0
    tx: str = ""
    raw_tx: str = ""
    sent: list[str] = []
    nonce: int = -1
    block: int = 0
    gas: int = 0
    data_bytes: int = 0

    def get_words(self) -> list[int]:
        """Return D."""
        return [int(self.words[i : i + 64], 16) for i in range(0, len(self.words), 64)]


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request as L1 queued it, and the block it stands in. Numbers of more than 64 bits are hex."""

    number: int
    kind: int
    account: int
    token: int
    amount: int
    owner: _Number
    pub_x: _Number
    pub_y: _Number
    fee: int
    deadline: int
    block: int
    block_hash: str


_Record = TypeVar("_Record", BatchRecord, RequestRecord)


class BatchStore:
    """The store of one operator.

    Parameters
    ----------
    path : Path
        The SQLite file, made when missing.
    identity : str
        Names chain and contract; a store made for another one is refused.

    Raises
    ------
    StoreError
        For a file of another exchange or version, or none of SQLite's; `StoreDisk` when the disk is full or fails.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._lock = threading.RLock()
        # Used from the service's thread and from the batcher's, one at a time.
        self._db = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            for name, value in (("version", str(VERSION)), ("identity", identity)):
                self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
                if (found := self.get_meta(name)) != value:
                    raise StoreError(f"{path.name} is of {name} {found}, not {value}")
        except (*DATABASE_ERRORS, StoreError) as error:
            self._db.close()
            if isinstance(error, StoreError):
                raise
            kind = StoreDisk if is_disk_error(error) else StoreError
            raise kind(f"{path.name}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock while something is read; `StoreError` when it can't be."""
        with self._lock:
            try:
                yield self._db
            except DATABASE_ERRORS as error:
                kind = StoreDisk if is_disk_error(error) else StoreError
                raise kind(f"it can't be read: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock while something is written; `StoreError` when it is not."""
        with self._lock:
            try:
                yield self._db
            except DATABASE_ERRORS as error:
                kind = StoreDisk if is_disk_error(error) else StoreError
                raise kind(f"nothing was written: {error}") from error

    # --- meta

    def get_meta(self, name: str) -> str | None:
        """Return a named value, None if it was never set."""
        with self._reading() as db:
            row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """Set a named value."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    # --- batches

    def put_batch(self, record: BatchRecord) -> None:
        """Write a batch's record over its last one."""
        body = msgspec.json.encode(record)
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?)", (record.number, record.state, body))

    def get_batch(self, number: int) -> BatchRecord | None:
        """Return a batch's record, None if there is none."""
        with self._reading() as db:
            row = db.execute("SELECT body FROM batches WHERE number = ?", (number,)).fetchone()
        return None if row is None else _decode(row[0], BatchRecord)

    def list_batches(self, limit: int, *, newest_first: bool = True, above: int = 0) -> list[BatchRecord]:
        """Return at most ``limit`` batches with numbers greater than ``above``."""
        order = "DESC" if newest_first else "ASC"
        query = f"SELECT body FROM batches WHERE number > ? ORDER BY number {order} LIMIT ?"
        with self._reading() as db:
            rows = db.execute(query, (above, limit)).fetchall()
        return [_decode(row[0], BatchRecord) for row in rows]

    def delete_batches(self, first: int) -> None:
        """Forget the batches from this number on; `StoreError` if one of them is confirmed."""
        with self._writing() as db:
            query = "SELECT number FROM batches WHERE number >= ? AND state = 'confirmed' LIMIT 1"
            if db.execute(query, (first,)).fetchone():
                raise StoreError("a confirmed batch is never forgotten")
            db.execute("DELETE FROM batches WHERE number >= ?", (first,))

    # --- requests

    def put_requests(self, records: list[RequestRecord]) -> None:
        """Write requests, all or none."""
        rows = [(r.number, r.account, msgspec.json.encode(r)) for r in records]
        with self._writing() as db, db:
            db.execute("BEGIN")
            db.executemany("INSERT OR REPLACE INTO requests VALUES (?, ?, ?)", rows)

    def delete_requests(self, first: int) -> None:
        """Forget the requests from this number on."""
        with self._writing() as db:
            db.execute("DELETE FROM requests WHERE number >= ?", (first,))

    def count_requests(self) -> int:
        """Return the number that the next request will have."""
        with self._reading() as db:
            return int(db.execute("SELECT COALESCE(MAX(number) + 1, 0) FROM requests").fetchone()[0])

    def list_requests(self, first: int, count: int) -> list[RequestRecord]:
        """Return at most ``count`` requests from number ``first`` on."""
        query = "SELECT body FROM requests WHERE number >= ? ORDER BY number LIMIT ?"
        with self._reading() as db:
            rows = db.execute(query, (first, count)).fetchall()
        return [_decode(row[0], RequestRecord) for row in rows]

    def list_requests_of(self, account: int, first: int, count: int) -> list[RequestRecord]:
        """Return at most ``count`` requests of an account, from number ``first`` on."""
        query = "SELECT body FROM requests WHERE account = ? AND number >= ? ORDER BY number LIMIT ?"
        with self._reading() as db:
            rows = db.execute(query, (account, first, count)).fetchall()
        return [_decode(row[0], RequestRecord) for row in rows]


def _decode(body: bytes, kind: type[_Record]) -> _Record:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, RecursionError) as error:
        # A damaged file may hold any type in any column.
        raise StoreError(f"a record is damaged: {str(error)[:500]}") from error
