"""BabyJubjub against the textbook formulas."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofbook.protocol.babyjub import (
    BASE8,
    COFACTOR,
    IDENTITY,
    SUBGROUP_ORDER,
    A,
    D,
    Point,
    add,
    double,
    in_subgroup,
    is_low_order,
    is_on_curve,
    mul,
    mul_base8,
    negate,
)
from proofbook.protocol.field import R

# EIP-2494's generator of the whole group.
GENERATOR = Point(
    995203441582195749578291179787384436505546430278305826713579947235728471134,
    5472060717959818805561601436314318772137091100104008585924551046643952123905,
)


def textbook_add(p: Point, q: Point) -> Point:
    """The affine addition law as EIP-2494 has it."""
    product = D * p.x * q.x * p.y * q.y
    x = (p.x * q.y + p.y * q.x) * pow(1 + product, -1, R)
    y = (p.y * q.y - A * p.x * q.x) * pow(1 - product, -1, R)
    return Point(x % R, y % R)


def textbook_mul(point: Point, scalar: int) -> Point:
    """Double and add."""
    result = IDENTITY
    for bit in f"{scalar:b}":
        result = textbook_add(result, result)
        if bit == "1":
            result = textbook_add(result, point)
    return result


TORSION = textbook_mul(GENERATOR, SUBGROUP_ORDER)  # of order 8
LOW_ORDER = [textbook_mul(TORSION, k) for k in range(COFACTOR)]

scalars = st.one_of(st.integers(0, COFACTOR * SUBGROUP_ORDER), st.integers(0, 40))
points = st.one_of(scalars.map(lambda k: textbook_mul(GENERATOR, k)), st.sampled_from(LOW_ORDER))


def test_constants() -> None:
    assert len(set(LOW_ORDER)) == COFACTOR
    assert textbook_mul(GENERATOR, COFACTOR) == BASE8
    assert mul(GENERATOR, COFACTOR * SUBGROUP_ORDER) == IDENTITY
    assert mul(BASE8, SUBGROUP_ORDER) == IDENTITY != BASE8


@settings(max_examples=60, deadline=None)
@given(points, points)
def test_addition_equals_the_textbook_for_every_pair(p: Point, q: Point) -> None:
    assert add(p, q) == textbook_add(p, q)
    assert double(p) == textbook_add(p, p)
    assert add(p, negate(p)) == IDENTITY


def test_addition_is_complete_on_the_torsion() -> None:
    for p in LOW_ORDER:
        for q in LOW_ORDER:
            assert add(p, q) == textbook_add(p, q)


@settings(max_examples=40, deadline=None)
@given(points, scalars)
def test_multiplication_equals_the_textbook(point: Point, scalar: int) -> None:
    expected = textbook_mul(point, scalar)
    assert mul(point, scalar) == expected
    assert mul(point, -scalar) == negate(expected)
    assert mul_base8(scalar) == textbook_mul(BASE8, scalar)


@pytest.mark.parametrize("scalar", [0, 1, SUBGROUP_ORDER - 1, SUBGROUP_ORDER, SUBGROUP_ORDER + 1, 2**256 - 1])
def test_multiplication_at_the_edges(scalar: int) -> None:
    assert mul(GENERATOR, scalar) == textbook_mul(GENERATOR, scalar)
    assert mul_base8(scalar) == textbook_mul(BASE8, scalar)


@settings(max_examples=40, deadline=None)
@given(points)
def test_results_are_canonical_points_of_plain_ints(point: Point) -> None:
    for result in (add(point, BASE8), double(point), mul(point, 3), negate(point)):
        assert is_on_curve(result)
        assert type(result.x) is int and type(result.y) is int


@settings(max_examples=60, deadline=None)
@given(st.integers(0, R - 1), st.integers(0, R - 1))
def test_is_on_curve_is_the_equation(x: int, y: int) -> None:
    assert is_on_curve(Point(x, y)) == ((A * x * x + y * y - 1 - D * x * x * y * y) % R == 0)


@pytest.mark.parametrize(
    "point",
    [
        Point(BASE8.x + R, BASE8.y),
        Point(BASE8.x, BASE8.y - R),
        Point(0, 1 + R),
        Point(0, 0),
        Point(1, 1),
        Point(BASE8.y, BASE8.x),
    ],
)
def test_other_pairs_are_not_on_the_curve(point: Point) -> None:
    assert not is_on_curve(point)
    assert not in_subgroup(point)


def test_low_order_and_subgroup() -> None:
    for point in LOW_ORDER:
        assert is_on_curve(point)
        assert is_low_order(point)
        assert in_subgroup(point) == (point == IDENTITY)
        mixed = add(BASE8, point)
        assert not is_low_order(mixed)
        assert in_subgroup(mixed) == (point == IDENTITY)
