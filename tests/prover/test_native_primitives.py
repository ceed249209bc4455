"""The native Poseidon and EdDSA against circomlibjs' vectors and, valid or not, against the defining Python."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import proofbook_native
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofbook.protocol import eddsa, poseidon
from proofbook.protocol.babyjub import BASE8, COFACTOR, SUBGROUP_ORDER, Point, add, mul
from proofbook.protocol.eddsa import Signature, challenge, derive_public, sign, verify
from proofbook.protocol.field import R
from proofbook.protocol.tree import SparseTree

VECTORS = Path(__file__).parent.parent / "vectors"
GENERATOR = Point(
    995203441582195749578291179787384436505546430278305826713579947235728471134,
    5472060717959818805561601436314318772137091100104008585924551046643952123905,
)
LOW_ORDER = [mul(GENERATOR, k * SUBGROUP_ORDER) for k in range(COFACTOR)]
KEY = bytes(range(32))

elements = st.one_of(st.integers(0, R - 1), st.sampled_from([0, 1, R - 1]))


def row(public: Point, msg: int, sig: Signature) -> tuple[int, int, int, int, int, int]:
    return (*public, *sig.r8, sig.s, msg)


def judged(public: Point, msg: int, sig: Signature) -> bool:
    """The native verdict, on its own and in a batch."""
    one = proofbook_native.eddsa_verify(*row(public, msg, sig))
    assert proofbook_native.eddsa_verify_many([row(public, msg, sig)] * 2) == [one, one]
    return one


@pytest.fixture(autouse=True)
def python_is_the_reference() -> Iterator[None]:
    poseidon.use_backend(None)
    eddsa.use_backend(None)
    yield
    poseidon.use_backend(None)
    eddsa.use_backend(None)


def vectors(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / name).read_text())
    return found


def test_poseidon_equals_circomlibjs() -> None:
    cases = vectors("poseidon.json")["cases"]
    rows = [[int(value) for value in case["inputs"]] for case in cases]
    assert {len(inputs) for inputs in rows} == set(range(1, 17))
    hashes = [int(case["hash"]) for case in cases]
    assert [proofbook_native.poseidon(inputs) for inputs in rows] == hashes
    assert proofbook_native.poseidon_many(rows) == hashes


@settings(max_examples=200, deadline=None)
@given(st.lists(elements, min_size=1, max_size=16))
def test_poseidon_equals_python(inputs: list[int]) -> None:
    assert proofbook_native.poseidon(inputs) == poseidon.poseidon(inputs)
    assert proofbook_native.poseidon_many([inputs, inputs[:1]])[0] == poseidon.poseidon(inputs)


@pytest.mark.parametrize("inputs", [[], [0] * 17, [R], [-1], [0, 2**256], [1, 2**4000], [-(2**4000)]])
def test_poseidon_refuses(inputs: list[int]) -> None:
    with pytest.raises(ValueError, match=r"(?i)poseidon"):
        proofbook_native.poseidon(inputs)
    with pytest.raises(ValueError, match=r"(?i)poseidon"):
        proofbook_native.poseidon_many([[1], inputs])


@pytest.mark.parametrize("inputs", ["12", [1.0], ["1"], None, [None], 5])
def test_poseidon_takes_integers_only(inputs: Any) -> None:
    with pytest.raises(TypeError):
        proofbook_native.poseidon(inputs)


def test_poseidon_many_of_nothing() -> None:
    assert proofbook_native.poseidon_many([]) == []
    assert proofbook_native.eddsa_verify_many([]) == []


@pytest.mark.parametrize("library", ["circomlibjs", "zkkit"])
def test_signatures_of_others_are_accepted(library: str) -> None:
    rows = []
    for case in vectors("eddsa.json")[library]:
        public, r8 = ([int(value) for value in case[name]] for name in ("public", "r8"))
        rows.append((public[0], public[1], r8[0], r8[1], int(case["s"]), int(case["msg"])))
    assert len(rows) >= 10
    assert proofbook_native.eddsa_verify_many(rows) == [True] * len(rows)
    assert all(proofbook_native.eddsa_verify(*values) for values in rows)
    other = [(*values[:5], (values[5] + 1) % R) for values in rows]
    assert proofbook_native.eddsa_verify_many(other) == [False] * len(rows)


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=32, max_size=32), elements)
def test_signed_is_verified(private: bytes, msg: int) -> None:
    assert judged(derive_public(private), msg, sign(private, msg))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, COFACTOR * SUBGROUP_ORDER), st.integers(0, SUBGROUP_ORDER - 1), elements, st.booleans())
def test_equals_python_for_keys_of_the_whole_group(k: int, s: int, msg: int, sound: bool) -> None:
    public, r8 = mul(GENERATOR, k), mul(BASE8, s)
    if sound:
        s = (s + challenge(r8, public, msg) * k) % SUBGROUP_ORDER
    sig = Signature(r8, s)
    verdict = judged(public, msg, sig)
    assert verdict == verify(public, msg, sig)
    if sound:
        assert verdict == (k % SUBGROUP_ORDER != 0)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(elements, st.integers(-(2**300), 2**300)), min_size=6, max_size=6))
def test_equals_python_for_any_integers(values: list[int]) -> None:
    sig = Signature(Point(values[2], values[3]), values[4])
    assert judged(Point(values[0], values[1]), values[5], sig) == verify(Point(values[0], values[1]), values[5], sig)


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("change", [1, -1, R, -R, SUBGROUP_ORDER, -SUBGROUP_ORDER, 2**256, 2**5000])
def test_any_change_is_rejected(place: int, change: int) -> None:
    values = list(row(derive_public(KEY), 7, sign(KEY, 7)))
    assert proofbook_native.eddsa_verify(*values)
    values[place] += change
    assert not proofbook_native.eddsa_verify(*values)


@pytest.mark.parametrize("k", range(COFACTOR))
def test_m3_low_order_points_are_rejected(k: int) -> None:
    """Under a key of low order s * BASE8 = r8 holds for every message; a low-order part of r8 breaks the equation."""
    assert not judged(LOW_ORDER[k], 7, Signature(mul(BASE8, 99), 99))
    assert not judged(LOW_ORDER[k], 7, Signature(LOW_ORDER[0], 0))
    public, sig = derive_public(KEY), sign(KEY, 7)
    shifted = Signature(add(sig.r8, LOW_ORDER[k]), sig.s)
    assert judged(public, 7, shifted) == (k == 0)


def test_a_key_with_a_low_order_part_is_judged_as_by_python() -> None:
    """8 times the key takes its low-order part away, so a signature made for the sum holds."""
    scalar = 12345
    for low in LOW_ORDER:
        public, r8 = add(mul(BASE8, scalar), low), mul(BASE8, 99)
        sig = Signature(r8, (99 + challenge(r8, public, 7) * 8 * scalar) % SUBGROUP_ORDER)
        assert judged(public, 7, sig)
        assert verify(public, 7, sig)


@pytest.mark.parametrize("value", ["1", 1.0, None, b"1"])
def test_verify_takes_integers_only(value: Any) -> None:
    with pytest.raises(TypeError):
        proofbook_native.eddsa_verify(value, 1, 1, 1, 1, 1)
    with pytest.raises(TypeError):
        proofbook_native.eddsa_verify_many([(1, 1, 1, 1, value, 1)])


def test_serves_as_the_protocol_s_backend() -> None:
    """The module itself fits both small interfaces, and what went in and comes out is the same."""
    public, sig = derive_public(KEY), sign(KEY, 7)
    hashed = poseidon.poseidon([1, 2, 3])
    poseidon.use_backend(proofbook_native)
    eddsa.use_backend(proofbook_native)
    assert poseidon.poseidon([1, 2, 3]) == poseidon.poseidon((1, 2, 3)) == hashed
    assert verify(public, 7, sig) and not verify(public, 8, sig)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=32, max_size=32), elements)
def test_signatures_equal_python_s(private: bytes, msg: int) -> None:
    r8, s = sign(private, msg)
    assert proofbook_native.eddsa_sign(private, msg) == (*r8, s)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=70), st.one_of(elements, st.integers(-(2**300), 2**300)))
def test_signing_refuses_what_python_refuses(private: bytes, msg: int) -> None:
    try:
        expected = sign(private, msg)
    except ValueError:
        with pytest.raises(ValueError, match="EdDSA"):
            proofbook_native.eddsa_sign(private, msg)
    else:
        assert proofbook_native.eddsa_sign(private, msg) == (*expected.r8, expected.s)


def test_signing_takes_bytes_and_an_integer_only() -> None:
    for private, msg in ((KEY.hex(), 1), (None, 1), (KEY, "1"), (KEY, None)):
        with pytest.raises(TypeError):
            proofbook_native.eddsa_sign(private, msg)  # type: ignore[arg-type]


def test_the_protocol_signs_by_its_backend() -> None:
    expected = [sign(KEY, msg) for msg in (0, 7, R - 1)]
    eddsa.use_backend(proofbook_native)
    assert [sign(KEY, msg) for msg in (0, 7, R - 1)] == expected
    for private, msg in ((KEY[1:], 7), (KEY, R), (KEY, -1)):
        with pytest.raises(ValueError):
            sign(private, msg)


shapes = st.sampled_from([(4, 4), (8, 8), (2, 1), (16, 2)])


@settings(max_examples=40, deadline=None)
@given(shapes, elements, st.lists(st.dictionaries(st.integers(0, 2**24 - 1), elements, max_size=12), max_size=3))
def test_trees_equal_python_s(shape: tuple[int, int], default: int, steps: list[dict[int, int]]) -> None:
    arity, depth = shape
    plain, native = SparseTree(arity, depth, default), SparseTree(arity, depth, default)
    for step in steps:
        changes = {index % arity**depth: leaf for index, leaf in step.items()}
        poseidon.use_backend(None)
        plain.update_many(changes)
        poseidon.use_backend(proofbook_native)
        native.update_many(changes)
        assert native.root == plain.root
        for index in changes:
            assert native.path(index) == plain.path(index)


def test_rows_are_checked_before_the_backend_sees_them() -> None:
    poseidon.use_backend(proofbook_native)
    assert poseidon.poseidon_many([[1], [1, 2], [3]]) == [poseidon.poseidon(row) for row in ([1], [1, 2], [3])]
    assert poseidon.poseidon_many([]) == []
    for bad in ([], [0] * 17, [R], [-1]):
        with pytest.raises(ValueError):
            poseidon.poseidon_many([[1], bad])
