"""Binding of the published words: the commitment C and the evaluation y (docs/spec.md section 6)."""

from __future__ import annotations

from collections.abc import Sequence

from proofbook.protocol.field import R
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.table import SPONGE_RATE
from proofbook.protocol.words import check_element


def commitment(elements: Sequence[int]) -> int:
    """Return C, the sponge over a list of field elements.

    The first state is the number of elements, so lists of different length never share their padding.

    Raises
    ------
    FieldError
        For an element outside the field.
    """
    state = len(elements)
    for start in range(0, len(elements), SPONGE_RATE):
        block = list(elements[start : start + SPONGE_RATE])
        state = poseidon((state, *block, *[0] * (SPONGE_RATE - len(block))))
    return state


def horner(words: Sequence[int], z: int) -> int:
    """Return y = sum of words[i] * z**i modulo r; `InvalidValue` for an element outside the field (M17)."""
    check_element("z", z)
    y = 0
    for word in reversed(words):
        y = (y * z + check_element("word", word)) % R
    return y
