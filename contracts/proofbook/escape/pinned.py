"""On which chain an exchange is: a node says so too, but what is signed for another chain may be taken there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from proofbook.chain.errors import WrongChain
from proofbook.escape.aside import write_aside
from proofbook.escape.errors import EscapeSetting
from proofbook.verifier.history import Progress

VARIABLE: Final = "PROOFBOOK_CHAIN_ID"
MAX_CHAIN_ID: Final = 2**63 - 1


def chain_from_environment() -> int:
    """Return the chain that the environment names, 0 for none; `EscapeSetting` if that is no chain id."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return 0
    number = _number(text)
    if not number:
        raise EscapeSetting(f"{VARIABLE} is no chain id", f"a number, 1 to {MAX_CHAIN_ID}")
    return number


class Pinned:
    """The chain of an exchange: the one that was named, or else the one seen first.

    Parameters
    ----------
    folder : Path, optional
        Where the one seen first is kept; without, it is forgotten with the process.
    contract : str
        The exchange.
    chain_id : int
        The one that is named; 0 for none.
    progress : Progress
        Told of a file that can't be written.
    """

    def __init__(self, folder: Path | None, contract: str, chain_id: int, progress: Progress) -> None:
        self._path = None if folder is None else folder / f"chain-{contract[2:]}"
        self._progress = progress
        self.known = chain_id or self._load()

    def hold(self, chain_id: int) -> int:
        """Return the chain that a node says it is on; `WrongChain` if that is not the exchange's."""
        if not self.known:
            self.known = chain_id
            self._save()
        if chain_id != self.known:
            raise WrongChain(chain_id, self.known)
        return chain_id

    def _load(self) -> int:
        try:
            return 0 if self._path is None else _number(self._path.read_text()[:100].strip())
        except (OSError, ValueError):
            return 0

    def _save(self) -> None:
        if self._path is not None:
            write_aside(self._path, f"{self.known}\n", self._progress)


def _number(text: str) -> int:
    """Return a chain id, 0 for what is none."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 19
    return int(text) if is_number and int(text) <= MAX_CHAIN_ID else 0
