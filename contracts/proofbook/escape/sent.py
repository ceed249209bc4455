"""What was sent lately, kept in a small file: killed while it waits, the next run can outbid it.

The file is not believed. Only what this very key has signed for this contract is sent on, and nothing but its price is
changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from proofbook.chain.errors import TransactionFailed
from proofbook.chain.transactions import own_transaction
from proofbook.escape.aside import write_aside
from proofbook.verifier.history import Progress

FORMAT: Final = "proofbook-sent-1"
MAX_BYTES: Final = 1 << 20
MAX_KEPT: Final = 64


class Sent:
    """The last transactions of one key to one contract.

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
        self._contract, self._sender, self._progress = contract.lower(), sender.lower(), progress
        self._path = None if folder is None else folder / f"sent-{self._contract[2:]}-{self._sender[2:]}.json"
        self._kept: list[tuple[tuple[int, int], bytes]] | None = None

    def get_all(self, nonce: int, chain_id: int) -> list[bytes]:
        """Return those with a nonce on a chain, the oldest first."""
        return [raw for place, raw in self._all() if place == (nonce, chain_id)]

    def add(self, raw: bytes) -> None:
        """Keep one that is about to be sent. Which of those before it are mined, a node may tell wrong: they stay."""
        place = self._place(raw)
        if place is not None:
            self._kept = [*self._all(), (place, raw)][-MAX_KEPT:]
            self._save()

    def _all(self) -> list[tuple[tuple[int, int], bytes]]:
        if self._kept is None:
            self._kept = [(place, raw) for raw in self._load() if (place := self._place(raw)) is not None]
        return self._kept

    def _place(self, raw: bytes) -> tuple[int, int] | None:
        """Return a transaction's nonce and chain; None for what this key did not sign for this contract."""
        try:
            tx = own_transaction(raw, self._sender)
        except TransactionFailed:
            return None
        return (tx["nonce"], tx["chainId"]) if str(tx["to"]).lower() == self._contract else None

    def _load(self) -> list[bytes]:
        try:
            if self._path is None or self._path.stat().st_size > MAX_BYTES:
                return []
            told = json.loads(self._path.read_bytes())
            return [bytes.fromhex(text) for text in told["sent"][:MAX_KEPT]] if told["format"] == FORMAT else []
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return []

    def _save(self) -> None:
        if self._path is not None:
            told = {"format": FORMAT, "sent": [raw.hex() for _, raw in self._all()]}
            write_aside(self._path, json.dumps(told), self._progress)
