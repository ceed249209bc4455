"""Batches' proofs as the watch checks them.

A proof that holds is one, whichever node gave it; one that does not may be the node's doing. So a bad one is asked for
again, at every look, of the node that is asked then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from proofbook.escape.readings import keys_hash
from proofbook.protocol.errors import ProofbookError
from proofbook.verifier.contract import Exchange, read_exchange
from proofbook.verifier.errors import RpcUnavailable
from proofbook.verifier.history import Batch, Problem, Progress
from proofbook.verifier.proofs import ProofChecker
from proofbook.verifier.rpc import Rpc
from proofbook.verifier.stream import find_batch

AGAIN_S: Final = 600.0
"""A node that gave a bad proof twice is not asked for it again before so long."""
MAX_BAD: Final = 3
"""So many that stay bad are enough for one look, however many there are."""
Place = tuple[int, int]
"""The block that a batch is said to be in, and the root that it leads to."""


class BatchProofs:
    """Checks proofs, and those again that do not hold.

    Parameters
    ----------
    rpc : Rpc
        The nodes.
    contract : str
        The exchange.
    first_block : int
        Block of the deployment, or any before.
    progress : Progress
        Told what is checked.
    """

    def __init__(self, rpc: Rpc, contract: str, first_block: int, progress: Progress) -> None:
        self._rpc, self._contract, self._first, self._progress = rpc, contract, first_block, progress
        self._exchanges: dict[str, Exchange] = {}
        self._checkers: dict[tuple[int, str], ProofChecker] = {}
        self._asked: dict[tuple[str, int], float] = {}

    def check(self, batch: Batch) -> Problem | None:
        """Return what is wrong with a batch's proof, by the keys that the node tells which gave the batch.

        Raises
        ------
        VerifierError
            When the node fails.
        """
        self._progress(f"checking the proof of batch {batch.number}")
        if self._rpc.url not in self._exchanges:
            exchange = read_exchange(self._rpc, self._contract)
            self._exchanges[self._rpc.url] = exchange
        return self._checker(self._exchanges[self._rpc.url]).check(batch)

    def again(self, exchange: Exchange, bad: Mapping[int, Place | None]) -> frozenset[int]:
        """Return those of the bad batches whose proof holds by what the node says that is asked now.

        Raises
        ------
        RpcUnavailable
            When no node answers.
        """
        good, left = set[int](), MAX_BAD
        for number, place in sorted(bad.items()):
            if not left:
                break
            if self._is_due(number) and self._holds(exchange, number, place):
                good.add(number)
            else:
                left -= 1
        return frozenset(good)

    def _is_due(self, number: int) -> bool:
        asked = self._asked.get((self._rpc.url, number))
        return asked is None or time.monotonic() >= asked + AGAIN_S

    def _holds(self, exchange: Exchange, number: int, place: Place | None) -> bool:
        self._progress(f"reading batch {number} again, whose proof did not hold")
        block, root = place or (0, None)
        try:
            batch = find_batch(self._rpc, exchange, number, block, self._first)
            # Another batch that holds says nothing of this one, and its root is the contract's.
            is_same = batch is not None and root in (None, batch.page.header.new_root)
            if batch is not None and is_same and self._checker(exchange).check(batch) is None:
                return True
        except RpcUnavailable:
            raise
        except ProofbookError as error:
            self._progress(f"batch {number} can't be read again: {error}")
        self._asked[self._rpc.url, number] = time.monotonic()
        return False

    def _checker(self, exchange: Exchange) -> ProofChecker:
        keys = exchange.chain_id, keys_hash(exchange)
        if keys not in self._checkers:
            self._checkers[keys] = ProofChecker(exchange)
        return self._checkers[keys]
