"""BabyJubjub: the twisted Edwards curve ``168700 x^2 + y^2 = 1 + 168696 x^2 y^2`` over BN254's scalar field.

Its group has ``8 * SUBGROUP_ORDER`` points and the addition law is complete: it holds for every pair of points.
Points are affine `Point` values outside; inside, arithmetic is in extended coordinates of the isomorphic curve with
``a = -1``, whose addition is cheapest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from proofbook.protocol.field import BIG_R, R, bigint, inverse, is_field_element

__all__ = [
    "A",
    "BASE8",
    "COFACTOR",
    "D",
    "IDENTITY",
    "SUBGROUP_ORDER",
    "Point",
    "add",
    "double",
    "in_subgroup",
    "is_low_order",
    "is_on_curve",
    "mul",
    "mul_base8",
    "negate",
    "verify_equation",
]

A = 168700
D = 168696
COFACTOR = 8
SUBGROUP_ORDER = 2736030358979909402780800718157159386076813972158567259200215660948447373041


class Point(NamedTuple):
    """An affine point; both coordinates in ``[0, R)``. Not every value is on the curve: see `is_on_curve`."""

    x: int
    y: int


IDENTITY = Point(0, 1)
BASE8 = Point(
    5299619240641551281634865583518297030282874472190772894086521144482721001553,
    16950150798460657717958625567821834550301663161624707787222815936182638968203,
)
"""The generator of the subgroup of order `SUBGROUP_ORDER` that circomlib uses (8 times the curve's own base)."""

_ROOT = 6360561867910373094066688120553762416144456282423235903351243436111059670888
"""A square root of ``-A``: ``(x, y) -> (_ROOT * x, y)`` maps to the curve ``-x^2 + y^2 = 1 - (D / A) x^2 y^2``."""

# (X, Y, Z, T): x = X/Z, y = Y/Z, T = XY/Z.
_Extended = tuple[int, int, int, int]
# (Y - X, Y + X, 2Z, 2dT): what an addition needs of its second operand.
_Cached = tuple[int, int, int, int]

_TWICE_D = bigint(-2 * D * inverse(A) % R)
_ZERO: _Extended = (bigint(0), bigint(1), bigint(1), bigint(0))
_BASE_WINDOW = 8  # its table is made once
_POINT_WINDOW = 5


def is_on_curve(point: Point) -> bool:
    """Tell whether both coordinates are in ``[0, R)`` and satisfy the curve's equation."""
    x, y = point
    if not (is_field_element(x) and is_field_element(y)):
        return False
    xx, yy = x * x % R, y * y % R
    return (A * xx + yy - 1 - D * xx * yy) % R == 0


def in_subgroup(point: Point) -> bool:
    """Tell whether ``point`` is on the curve and in the subgroup of prime order (the identity is)."""
    return is_on_curve(point) and _is_identity(_multiply(_enter(point), SUBGROUP_ORDER))


def is_low_order(point: Point) -> bool:
    """Tell whether 8 times a point of the curve is the identity."""
    return _is_identity(_times_cofactor(_enter(point)))


def negate(point: Point) -> Point:
    """Return the inverse of a point."""
    return Point(-point.x % R, point.y)


def add(p: Point, q: Point) -> Point:
    """Return the sum of two points of the curve, whichever they are."""
    return _leave(_add(_enter(p), _cache(_enter(q))))


def double(point: Point) -> Point:
    """Return twice a point of the curve."""
    return _leave(_double(_enter(point)))


def mul(point: Point, scalar: int) -> Point:
    """Return ``scalar`` times a point of the curve, for any integer ``scalar`` of reasonable length."""
    return _leave(_multiply(_enter(point), scalar))


def mul_base8(scalar: int) -> Point:
    """Return ``scalar * BASE8``; faster than `mul`."""
    return _leave(_straus([(_base_table(), _wnaf(scalar % SUBGROUP_ORDER, _BASE_WINDOW))]))


def verify_equation(s: int, public: Point, h: int, r8: Point) -> bool:
    """Tell whether ``s * BASE8 == r8 + h * 8 * public`` and 8 times ``public`` is not the identity.

    Parameters
    ----------
    s, h : int
        At least 0; ``h`` is taken modulo `SUBGROUP_ORDER`, which 8 times any point obeys.
    public, r8 : Point
        Points of the curve.
    """
    key = _times_cofactor(_enter(public))
    if _is_identity(key):
        return False
    difference = _straus(
        [
            (_base_table(), _wnaf(s % SUBGROUP_ORDER, _BASE_WINDOW)),
            (_odd_multiples(key, _POINT_WINDOW), _wnaf(-h % SUBGROUP_ORDER, _POINT_WINDOW)),
        ]
    )
    # Compare without dividing: (X/Z, Y/Z) with r8.
    x, y, z, _ = difference
    return bool((x - r8.x * _ROOT % R * z) % R == 0 and (y - r8.y * z) % R == 0)


# Extended coordinates on the curve with a = -1 (formulas: Hisil, Wong, Carter, Dawson 2008). -1 is a square and D / A
# is not, so they are complete here too.


def _enter(point: Point) -> _Extended:
    x, y = bigint(point.x) * _ROOT % BIG_R, bigint(point.y)
    return x, y, bigint(1), x * y % BIG_R


@cache
def _root_inverse() -> int:
    return inverse(_ROOT)


def _leave(point: _Extended) -> Point:
    x, y, z, _ = point
    scale = inverse(int(z))
    return Point(int(x * scale * _root_inverse() % BIG_R), int(y * scale % BIG_R))


def _is_identity(point: _Extended) -> bool:
    x, y, z, _ = point
    return x == 0 and y == z


def _cache(point: _Extended) -> _Cached:
    x, y, z, t = point
    return y - x, y + x, 2 * z, _TWICE_D * t % BIG_R


def _add(point: _Extended, other: _Cached) -> _Extended:
    x, y, z, t = point
    minus, plus, zz, dt = other
    a, b, c, d = (y - x) * minus % BIG_R, (y + x) * plus % BIG_R, t * dt % BIG_R, z * zz % BIG_R
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % BIG_R, g * h % BIG_R, f * g % BIG_R, e * h % BIG_R


def _subtract(point: _Extended, other: _Cached) -> _Extended:
    minus, plus, zz, dt = other
    return _add(point, (plus, minus, zz, -dt))


def _double(point: _Extended) -> _Extended:
    x, y, z, _ = point
    a, b, s = x * x % BIG_R, y * y % BIG_R, x + y
    h = a + b
    e, g = h - s * s % BIG_R, a - b
    f = 2 * z * z % BIG_R + g
    return e * f % BIG_R, g * h % BIG_R, f * g % BIG_R, e * h % BIG_R


def _times_cofactor(point: _Extended) -> _Extended:
    return _double(_double(_double(point)))


def _odd_multiples(point: _Extended, window: int) -> list[_Cached]:
    """Return 1, 3, 5, ... times the point: what signed digits of ``window`` bits pick from."""
    twice = _cache(_double(point))
    table = [_cache(point)]
    for _ in range(2 ** (window - 2) - 1):
        point = _add(point, twice)
        table.append(_cache(point))
    return table


@cache
def _base_table() -> list[_Cached]:
    return _odd_multiples(_enter(BASE8), _BASE_WINDOW)


def _wnaf(scalar: int, window: int) -> list[tuple[int, int]]:
    """Write ``scalar`` (at least 0) as a sum of ``digit * 2**position``, digits odd and below ``2**(window-1)``."""
    digits = []
    position = 0
    while scalar:
        skip = (scalar & -scalar).bit_length() - 1
        scalar >>= skip
        position += skip
        digit = scalar & (1 << window) - 1
        if digit >> (window - 1):
            digit -= 1 << window
        digits.append((position, digit))
        scalar -= digit
    return digits


def _straus(terms: Sequence[tuple[list[_Cached], list[tuple[int, int]]]]) -> _Extended:
    """Return the sum of scalar multiples, each given by its table and digits, with one chain of doublings."""
    steps = [(position, table, digit) for table, digits in terms for position, digit in digits]
    steps.sort(key=lambda step: step[0], reverse=True)
    result = _ZERO
    height = steps[0][0] if steps else 0
    for position, table, digit in steps:
        for _ in range(height - position):
            result = _double(result)
        height = position
        result = _add(result, table[digit >> 1]) if digit > 0 else _subtract(result, table[-digit >> 1])
    for _ in range(height):
        result = _double(result)
    return result


def _multiply(point: _Extended, scalar: int) -> _Extended:
    if scalar < 0:
        x, y, z, t = point
        point, scalar = (-x % BIG_R, y, z, -t % BIG_R), -scalar
    return _straus([(_odd_multiples(point, _POINT_WINDOW), _wnaf(scalar, _POINT_WINDOW))])
