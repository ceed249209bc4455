"""The commitment C and the evaluation y."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofbook.protocol.field import FieldError, R
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.sponge import commitment, horner

elements = st.integers(0, R - 1)


def test_the_sponge_is_the_specifications() -> None:
    first = list(range(100, 115))
    assert commitment([]) == 0
    assert commitment([7]) == poseidon((1, 7, *[0] * 14))
    assert commitment(first) == poseidon((15, *first))
    assert commitment([*first, 8, 9]) == poseidon((poseidon((17, *first)), 8, 9, *[0] * 13))


def test_elements_beyond_the_field_are_refused() -> None:
    for bad in (R, -1):
        with pytest.raises(FieldError):
            commitment([1, bad])


@given(st.lists(elements, max_size=20), elements)
def test_horner_is_the_sum_of_powers(words: list[int], z: int) -> None:
    assert horner(words, z) == sum(word * pow(z, i, R) for i, word in enumerate(words)) % R


def test_absent_words_keep_their_places() -> None:
    assert horner([0, 0, 5], 2) == 20
    assert horner([5, 0, 0], 2) == horner([5], 2) == 5
