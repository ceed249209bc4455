"""Poseidon against circomlibjs, against poseidon-hash, and its fast form against its definition."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofbook.protocol.field import FieldError, R, check_field_element, inverse, is_field_element
from proofbook.protocol.poseidon import (
    FULL_ROUNDS,
    MAX_INPUTS,
    PARTIAL_ROUNDS,
    mds,
    permute_reference,
    poseidon,
    round_constants,
    use_backend,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "poseidon.json").read_text())
COUNTS = range(1, MAX_INPUTS + 1)
elements = st.one_of(st.integers(0, R - 1), st.sampled_from([0, 1, R - 1]))


def cases(source: dict[str, Any], count: int) -> list[tuple[list[int], int]]:
    found = [
        ([int(x) for x in case["inputs"]], int(case["hash"]))
        for case in source["cases"]
        if len(case["inputs"]) == count
    ]
    assert len(found) >= 2
    return found


@pytest.mark.parametrize("count", COUNTS)
def test_equals_circomlibjs(count: int) -> None:
    for inputs, digest in cases(VECTORS, count):
        assert poseidon(inputs) == digest


@pytest.mark.parametrize("count", COUNTS)
def test_equals_the_independent_oracle(count: int) -> None:
    for inputs, digest in cases(VECTORS["oracle"], count):
        assert poseidon(inputs) == digest
        assert permute_reference([0, *inputs])[0] == digest


def test_known_values() -> None:
    assert poseidon([1, 2]) == 7853200120776062878684798364095072458815029376092732009249414926327459813530
    assert poseidon([1]) == 18586133768512220936620570745912940619677854269274689475585506675881198879027


@settings(max_examples=150, deadline=None)
@given(st.lists(elements, min_size=1, max_size=MAX_INPUTS))
def test_fast_form_equals_the_definition(inputs: list[int]) -> None:
    assert poseidon(inputs) == permute_reference([0, *inputs])[0]


@pytest.mark.parametrize("count", COUNTS)
def test_fast_form_equals_the_definition_at_the_extremes(count: int) -> None:
    for value in (0, R - 1):
        assert poseidon([value] * count) == permute_reference([0] + [value] * count)[0]


def test_takes_any_sequence_and_returns_a_plain_int() -> None:
    assert poseidon((1, 2)) == poseidon([1, 2])
    assert type(poseidon([1, 2])) is int
    assert {type(x) for x in (*round_constants(3), *mds(3)[0], *permute_reference([0, 1, 2]))} == {int}


@pytest.mark.parametrize("t", range(2, MAX_INPUTS + 2))
def test_parameters_have_the_shape_of_the_rounds(t: int) -> None:
    constants = round_constants(t)
    assert len(constants) == t * (FULL_ROUNDS + PARTIAL_ROUNDS[t - 2]) == len(set(constants))
    assert [len(row) for row in mds(t)] == [t] * t
    assert all(map(is_field_element, constants))
    # Cauchy: the inverses of any two rows differ by the same number everywhere.
    first, *others = ([inverse(x) for x in row] for row in mds(t))
    for row in others:
        assert len({(a - b) % R for a, b in zip(first, row, strict=True)}) == 1


@pytest.mark.parametrize("count", [0, 17, 1000])
def test_wrong_number_of_inputs_is_refused(count: int) -> None:
    with pytest.raises(FieldError) as caught:
        poseidon([1] * count)
    assert caught.value.code == "poseidon_input_count"


@pytest.mark.parametrize("t", [0, 1, 18])
def test_parameters_of_other_widths_are_refused(t: int) -> None:
    for function in (round_constants, mds):
        with pytest.raises(FieldError) as caught:
            function(t)
        assert caught.value.code == "poseidon_input_count"


@pytest.mark.parametrize("bad", [-1, R, R + 1, 2**256, 1.0, "1", None])
@pytest.mark.parametrize("place", [0, 2])
def test_input_outside_the_field_is_refused(bad: Any, place: int) -> None:
    inputs: list[Any] = [1, 2, 3]
    inputs[place] = bad
    with pytest.raises(FieldError) as caught:
        poseidon(inputs)
    assert caught.value.code == "field_out_of_range"
    with pytest.raises(FieldError):
        check_field_element(bad)


def test_inverse() -> None:
    assert all(x * inverse(x) % R == 1 for x in (1, 2, R - 1, R + 5, -3))
    for zero in (0, R, -R):
        with pytest.raises(FieldError) as caught:
            inverse(zero)
        assert caught.value.code == "field_not_invertible"


class Reference:
    """A backend that computes by the definition and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def poseidon(self, inputs: Sequence[int]) -> int:
        self.asked.append(list(inputs))
        return permute_reference([0, *inputs])[0]


@pytest.fixture
def backend() -> Iterator[Reference]:
    reference = Reference()
    use_backend(reference)
    yield reference
    use_backend(None)


def test_backend_is_asked_valid_input_only(backend: Reference) -> None:
    assert poseidon([1, 2]) == 7853200120776062878684798364095072458815029376092732009249414926327459813530
    for bad in ([], [R], [1] * 17):
        with pytest.raises(FieldError):
            poseidon(bad)
    assert backend.asked == [[1, 2]]
    use_backend(None)
    poseidon([3])
    assert backend.asked == [[1, 2]]
