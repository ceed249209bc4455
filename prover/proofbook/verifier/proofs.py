"""Every batch's proof, checked against the data that its transaction published."""

from __future__ import annotations

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.messages import challenge
from proofbook.protocol.sponge import horner
from proofbook.protocol.words import page_words
from proofbook.verifier.contract import Exchange
from proofbook.verifier.groth16 import BadPoint, VerifyingKey, read_key, verify
from proofbook.verifier.history import Batch, Problem
from proofbook.verifier.keys import BATCH_INPUTS


class ProofChecker:
    """Checks batches' proofs under the verifying keys that the contract has.

    Parameters
    ----------
    exchange : Exchange
        The contract.

    Attributes
    ----------
    problems : tuple of Problem
        Keys that are none.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._keys: list[VerifyingKey | None] = []
        found: list[Problem] = []
        for size_id, size in enumerate(exchange.sizes):
            try:
                self._keys.append(read_key(size.key, BATCH_INPUTS))
            except BadPoint as error:
                self._keys.append(None)
                found.append(Problem("key", f"batch size {size_id}: {error}"))
        self.problems = tuple(found)

    def check(self, batch: Batch) -> Problem | None:
        """Return what is wrong with a batch's proof, None if it holds."""
        exchange, header = self._exchange, batch.page.header
        try:
            size = exchange.sizes[header.size_id].size
            words = page_words(batch.page, size)
            z = challenge(exchange.chain_id, exchange.address, header.size_id, words, batch.c)
            key = self._keys[header.size_id]
            holds = key is not None and verify(key, batch.proof, (batch.c, z, horner(words, z)))
        except (ProofbookError, IndexError) as error:
            return Problem("proof", f"batch {batch.number}: {error}")
        return None if holds else Problem("proof", f"batch {batch.number}: its proof does not hold for its data")
