"""Proofs of anything, under keys whose secrets are known: the real pairing decides, and we choose what is true."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from py_ecc.optimized_bn128 import G1, G2, add, multiply, normalize  # type: ignore[attr-defined]

from proofbook.protocol.messages import challenge
from proofbook.protocol.sponge import horner

from .world import BatchStatement, ExitStatement, R

_WINDOW: Final = 6
BATCH_INPUTS: Final = 3
EXIT_INPUTS: Final = 9


def _table() -> list[list[Any]]:
    """Multiples of G1: entry [k][d] is d * 64^k."""
    rows, base = [], G1
    for _ in range(-(-254 // _WINDOW)):
        row = [multiply(base, 0)]
        for _ in range(1 << _WINDOW):
            row.append(add(row[-1], base))
        rows.append(row)
        base = row[-1]
    return rows


class Prover:
    """One key."""

    _multiples: list[list[Any]] = []

    def __init__(self, inputs: int, seed: int) -> None:
        if not Prover._multiples:
            Prover._multiples = _table()
        random_ = random.Random(seed)
        self.random = random_
        self.alpha, self.beta, self.gamma, self.delta, self.b = (random_.randrange(1, R) for _ in range(5))
        self.ic = [random_.randrange(1, R) for _ in range(inputs + 1)]
        self._b_words = _g2(self.b)
        words = [*_g1(self.alpha), *_g2(self.beta), *_g2(self.gamma), *_g2(self.delta)]
        self.key = b"".join(w.to_bytes(32, "big") for w in [*words, *(w for s in self.ic for w in _g1(s))])

    def prove(self, inputs: Sequence[int]) -> tuple[int, ...]:
        """A fresh proof, in the order that the contract takes."""
        a = self.random.randrange(1, R)
        total = self.ic[0] + sum(s * x for s, x in zip(self.ic[1:], inputs, strict=True))
        c = (a * self.b - self.alpha * self.beta - self.gamma * total) * pow(self.delta, -1, R) % R
        return (*_g1(a), *self._b_words, *_g1(c))

    def prove_batch(self, chain_id: int, address: str, said: BatchStatement) -> tuple[int, ...]:
        z = challenge(chain_id, address, said.size_id, said.words, said.c)
        return self.prove([said.c, z, horner(said.words, z)])

    def prove_exit(self, said: ExitStatement) -> tuple[int, ...]:
        return self.prove(said.inputs)


def _g1(scalar: int) -> list[int]:
    point = multiply(G1, 0)
    for k, row in enumerate(Prover._multiples):
        point = add(point, row[(scalar >> (_WINDOW * k)) % (1 << _WINDOW)])
    x, y = normalize(point)
    return [int(x.n), int(y.n)]


def _g2(scalar: int) -> list[int]:
    x, y = normalize(multiply(G2, scalar))
    return [int(c) for c in (x.coeffs[1], x.coeffs[0], y.coeffs[1], y.coeffs[0])]
