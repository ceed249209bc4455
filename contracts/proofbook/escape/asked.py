"""Which forced exits this key paid for lately: a node may show the chain of before, and each of them costs a fee.

What is asked for with the nonce of an earlier try can't be paid for twice, so that is always free to be tried again.
With another nonce it is asked for again after a batch that came later, or after some time: not never, for a node may
also say that something was mined which was not, and a chain may drop it.
"""

from __future__ import annotations

import json
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

from proofbook.escape.aside import write_aside
from proofbook.verifier.history import Progress

FORMAT: Final = "proofbook-asked-1"
MAX_BYTES: Final = 1 << 20
FIRST_S: Final = 3600.0
MAX_DOUBLINGS: Final = 6
"""Each time that it is asked for again, the time until the next doubles: an hour, two, up to 64."""
_MAX: Final = 1 << 64

Key = tuple[int, int]
"""Account and token."""


@dataclass(frozen=True, slots=True)
class _Paid:
    """The last transaction that asked: its nonce, when by this machine's clock, the batch time then, and how often."""

    nonce: int
    at: int
    batch_time: int
    times: int


class Asked:
    """Forced exits of one key, by account and token.

    Parameters
    ----------
    folder : Path, optional
        Where the file is; without one they are forgotten with the process.
    contract, sender : str
        Addresses.
    progress : Progress
        Told of a file that can't be written.
    """

    def __init__(self, folder: Path | None, contract: str, sender: str, progress: Progress) -> None:
        name = f"asked-{contract.lower()[2:]}-{sender.lower()[2:]}.json"
        self._path = None if folder is None or not sender else folder / name
        self._progress = progress
        self._paid = self._load()
        self._batch_time = 0

    def see(self, batch_time: int) -> None:
        """Take note of the last batch's timestamp, as it is read off the chain."""
        self._batch_time = batch_time

    def note(self, key: Key, nonce: int) -> None:
        """Keep that one is about to be paid for, by the transaction with a nonce."""
        before = self._paid.get(key)
        if before is not None and before.nonce == nonce:
            return
        now, times = int(time.time()), 1 if before is None else before.times + 1
        self._paid[key] = _Paid(nonce, now, max(now, self._batch_time), min(times, MAX_DOUBLINGS + 1))
        if self._path is not None:
            rows = [[*key, *astuple(paid)] for key, paid in sorted(self._paid.items())]
            write_aside(self._path, json.dumps({"format": FORMAT, "asked": rows}), self._progress)

    def get_held(self, nonce: int) -> frozenset[Key]:
        """Return those that are not to be asked for again, for now, with a nonce."""
        now = time.time()
        return frozenset(
            key
            for key, paid in self._paid.items()
            if paid.nonce < nonce
            and self._batch_time <= paid.batch_time
            and abs(now - paid.at) < FIRST_S * 2 ** (paid.times - 1)
        )

    def __bool__(self) -> bool:
        return bool(self._paid)

    def _load(self) -> dict[Key, _Paid]:
        try:
            if self._path is None or self._path.stat().st_size > MAX_BYTES:
                return {}
            told = json.loads(self._path.read_bytes())
            rows = told["asked"] if told["format"] == FORMAT else []
            if any(type(number) is not int or not 0 <= number < _MAX for row in rows for number in row):
                return {}
            kept = {(account, token): _Paid(*rest) for account, token, *rest in rows}
            return kept if all(1 <= paid.times <= MAX_DOUBLINGS + 1 for paid in kept.values()) else {}
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return {}
