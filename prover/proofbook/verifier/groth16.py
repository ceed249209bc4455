"""Groth16 over BN254 on py-ecc alone: verifying keys read and checked, proofs verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from proofbook.protocol.field import R
from proofbook.verifier.bn128 import (
    FQ,
    FQ2,
    FQ12,
    Z1,
    Z2,
    add,
    b,
    b2,
    curve_order,
    eq,
    field_modulus,
    final_exponentiate,
    is_inf,
    is_on_curve,
    multiply,
    neg,
    pairing,
)

FIXED_WORDS: Final = 14
"""Words of a verifying key before its IC points."""
PROOF_WORDS: Final = 8

Point = Any
"""A point in py-ecc's projective form."""


class BadPoint(ValueError):
    """Words that are no point of the group."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key, its points checked.

    Attributes
    ----------
    beta, gamma, delta : Point
        Of G2.
    ic : tuple of Point
        Of G1, one more than public inputs.
    alpha_beta : FQ12
        Miller loop of alpha and beta, the same for every proof.
    """

    beta: Point
    gamma: Point
    delta: Point
    ic: tuple[Point, ...]
    alpha_beta: Any


def read_key(data: bytes, inputs: int) -> VerifyingKey:
    """Return the key of the contract's words: alpha, beta, gamma, delta, IC, in EIP-197 order.

    Raises
    ------
    BadPoint
        For a wrong length, a point off its curve or subgroup or at infinity, gamma equal to delta or -delta.
    """
    if len(data) != 32 * (FIXED_WORDS + 2 * (inputs + 1)):
        raise BadPoint(f"a key of {len(data)} bytes is not for {inputs} public inputs")
    words = [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32)]
    alpha = _g1(words[0:2])
    beta, gamma, delta = (_g2(words[at : at + 4]) for at in (2, 6, 10))
    ic = tuple(_g1(words[at : at + 2]) for at in range(FIXED_WORDS, len(words), 2))
    if is_inf(alpha) or any(is_inf(point) for point in (beta, gamma, delta)):
        raise BadPoint("a key point is at infinity")
    if eq(gamma, delta) or eq(gamma, neg(delta)):
        raise BadPoint("gamma equals delta or its negative: with this key anyone proves anything")
    return VerifyingKey(beta, gamma, delta, ic, pairing(beta, alpha, final_exponentiate=False))


def verify(key: VerifyingKey, words: Sequence[int], inputs: Sequence[int]) -> bool:
    """Tell whether a proof holds: e(A, B) = e(alpha, beta) e(sum, gamma) e(C, delta), in one final exponentiation.

    Parameters
    ----------
    key : VerifyingKey
        Of the circuit.
    words : sequence of int
        A, B, C in EIP-197 order, 8 words.
    inputs : sequence of int
        Public inputs, as many as the key has.
    """
    if len(words) != PROOF_WORDS or len(inputs) + 1 != len(key.ic) or any(not 0 <= x < R for x in inputs):
        return False
    try:
        a, c, g2 = _g1(words[0:2]), _g1(words[6:8]), _g2(words[2:6])
    except BadPoint:
        return False
    total = key.ic[0]
    for value, point in zip(inputs, key.ic[1:], strict=True):
        total = add(total, multiply(point, value))
    product = key.alpha_beta
    for q, p in ((g2, neg(a)), (key.gamma, total), (key.delta, c)):
        product = product * pairing(q, p, final_exponentiate=False)
    return bool(final_exponentiate(product) == FQ12.one())


def _coordinates(words: Sequence[int]) -> None:
    if any(not 0 <= word < field_modulus for word in words):
        raise BadPoint("a coordinate at or above the base field's modulus")


def _g1(words: Sequence[int]) -> Point:
    _coordinates(words)
    if not any(words):
        return Z1
    point = (FQ(words[0]), FQ(words[1]), FQ.one())
    if not is_on_curve(point, b):
        raise BadPoint("a point off the curve")
    return point


def _g2(words: Sequence[int]) -> Point:
    _coordinates(words)
    if not any(words):
        return Z2
    # EIP-197 puts the imaginary part first.
    point = (FQ2([words[1], words[0]]), FQ2([words[3], words[2]]), FQ2.one())
    if not is_on_curve(point, b2) or not is_inf(multiply(point, curve_order)):
        raise BadPoint("a point off the curve or outside the subgroup")
    return point
