"""The state after some confirmed batch, kept on disk, so that a start need not apply every batch again.

Nothing in it is believed: the root is computed from the accounts anew, and has to be that of the batch as it stands in
the store. A snapshot that does not hold is ignored; then all batches are applied.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.state import Account, State
from proofbook.protocol.table import Preset

log = logging.getLogger(__name__)
SNAPSHOT: Final = "state.snapshot"
VERSION: Final = 1
EVERY: Final = 64
"""Batches at least between two snapshots."""
_MAX_DIGITS: Final = 64
_SHARE: Final = 20
"""Writing takes at most one part in so many of the time, however large the state is."""


class _Account(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    index: int
    owner: str
    pub_x: str
    pub_y: str
    positions: list[tuple[int, int]]
    orders: list[tuple[int, int, int]]

    @classmethod
    def of(cls, index: int, a: Account) -> _Account:
        orders = [(slot, *value) for slot, value in a.orders.items()]
        return cls(index, f"{a.owner:x}", f"{a.pub_x:x}", f"{a.pub_y:x}", list(a.positions), orders)

    def decode(self) -> Account:
        if any(len(value) > _MAX_DIGITS for value in (self.owner, self.pub_x, self.pub_y)):
            # Python reads any number of hex digits, and then can't say in decimal what it refuses.
            raise ValueError("a number of more than 256 bits")
        owner, pub_x, pub_y = (int(value, 16) for value in (self.owner, self.pub_x, self.pub_y))
        return Account(
            owner, pub_x, pub_y, tuple(self.positions), {slot: (id_, fill) for slot, id_, fill in self.orders}
        )


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    number: int
    accounts: list[_Account]


class Snapshots:
    """The newest snapshot of one operator.

    Parameters
    ----------
    path : Path
        The file; written in one step.
    every : int
        Batches at least between two that `offer` writes.
    clock : callable
        Seconds, never going back.
    """

    def __init__(self, path: Path, every: int = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._every, self._clock = path, every, clock
        self._written, self._due = 0, clock()

    def offer(self, number: int, state: State) -> None:
        """Write the state after a batch, unless the last one is still good enough.

        A disk that is full stops nobody: there is no new snapshot then, and the log tells.
        """
        if number - self._written < self._every or self._clock() < self._due:
            return
        started = self._clock()
        try:
            self._write(number, state)
            self._written = number
        except OSError as error:
            log.warning("no snapshot after batch %d: %s", number, error)
        self._due = self._clock() + _SHARE * (self._clock() - started)

    def _write(self, number: int, state: State) -> None:
        rows = [_Account.of(index, account) for index, account in state.accounts.items()]
        part = self._path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                file.write(msgspec.json.encode(_File(VERSION, number, rows)))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self._path)
        finally:
            part.unlink(missing_ok=True)

    def load(self, preset: Preset) -> tuple[int, State] | None:
        """Return the snapshot's batch number and state; None if there is none, or none that can be read."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_File)
            if found.version != VERSION:
                raise ValueError(f"of version {found.version}")
            state = State(preset)
            state.put({row.index: row.decode() for row in found.accounts})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError, ProofbookError) as error:
            log.warning("%s is of no use and ignored: %s", self._path.name, str(error)[:200])
            return None
        self._written = found.number
        return found.number, state
