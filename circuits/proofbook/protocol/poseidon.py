"""Poseidon over BN254's scalar field, the variant of circomlib and circomlibjs.

The S-box is ``x**5``; there are 8 full rounds and a number of partial ones that depends on the width ``t`` (the number
of inputs plus one). Round constants and the Cauchy MDS matrix come from the Grain LFSR, as in the reference generator
of the Poseidon paper, so no table of constants needs to be trusted. The first state element starts as 0 and comes out
as the hash.

`permute_reference` is the definition; `poseidon` runs an equivalent form with cheap partial rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import compress, islice
from operator import mul
from typing import ClassVar, NamedTuple, Protocol

from proofbook.protocol.field import BIG_R, FieldError, OutOfField, R, bigint, inverse, is_field_element

__all__ = [
    "FULL_ROUNDS",
    "InputCount",
    "MAX_INPUTS",
    "PARTIAL_ROUNDS",
    "PoseidonBackend",
    "mds",
    "permute_reference",
    "poseidon",
    "poseidon_many",
    "round_constants",
    "use_backend",
]

FULL_ROUNDS = 8
PARTIAL_ROUNDS = (56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65, 70, 60, 64, 68)
"""Partial rounds for 1, 2, ... 16 inputs."""
MAX_INPUTS = len(PARTIAL_ROUNDS)

_HALF = FULL_ROUNDS // 2
_FIELD_BITS = 254
_LFSR_STEP = 16  # bits made at a time: at most 80 - 62, even, and a divisor of the 160 thrown away first

Vector = tuple[int, ...]
Matrix = tuple[Vector, ...]


@dataclass(eq=False)
class InputCount(FieldError):
    """A number of inputs for which there is no Poseidon."""

    code: ClassVar[str] = "poseidon_input_count"
    count: int


class PoseidonBackend(Protocol):
    """A faster implementation, handed in from outside; it sees only valid input.

    It may also have ``poseidon_many``, which takes a list of such inputs and returns the list of their hashes.
    """

    def poseidon(self, inputs: Sequence[int]) -> int:
        """Return the hash of 1 to 16 field elements."""


_backend: PoseidonBackend | None = None
_backend_many: Callable[[list[Sequence[int]]], list[int]] | None = None


def use_backend(backend: PoseidonBackend | None) -> None:
    """Let `poseidon` and `poseidon_many` call ``backend`` from now on, or the code of this module again if None."""
    global _backend, _backend_many
    _backend, _backend_many = backend, getattr(backend, "poseidon_many", None)


def _check(inputs: Sequence[int]) -> None:
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise InputCount(len(inputs))
    for value in inputs:
        if not is_field_element(value):
            raise OutOfField("Poseidon input")


def poseidon(inputs: Sequence[int]) -> int:
    """Return the Poseidon hash of 1 to 16 field elements.

    Parameters
    ----------
    inputs : sequence of int
        Each in ``[0, R)``.

    Returns
    -------
    int
        In ``[0, R)``.

    Raises
    ------
    InputCount
        For no input or more than 16.
    OutOfField
        For a value outside ``[0, R)``.
    """
    _check(inputs)
    if _backend is not None:
        return _backend.poseidon(inputs)
    return _hash_fast(inputs)


def poseidon_many(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return the hash of each row, at once where the backend can; rows and errors as `poseidon`'s inputs."""
    if _backend_many is None or len(rows) < 2:
        return [poseidon(row) for row in rows]
    for row in rows:
        _check(row)
    return _backend_many(list(rows))


# The parameters, from the Grain LFSR.


def _keystream(t: int) -> Iterator[str]:
    """Yield the self-shrunk Grain bits as characters '0' and '1', for a prime field, the power S-box and width t."""
    rounds = ((FULL_ROUNDS, 10), (PARTIAL_ROUNDS[t - 2], 10))
    fields = ((1, 2), (0, 4), (_FIELD_BITS, 12), (t, 12), *rounds, (2**30 - 1, 30))
    seed = "".join(f"{value:0{width}b}" for value, width in fields)
    state = int(seed[::-1], 2)  # bit j is the j-th oldest
    mask = (1 << _LFSR_STEP) - 1
    produced = 0
    while True:
        # No tap is nearer than 18 bits to the end, so 16 new bits depend on old ones alone.
        new = (state ^ state >> 13 ^ state >> 23 ^ state >> 38 ^ state >> 51 ^ state >> 62) & mask
        state = (state | new << 80) >> _LFSR_STEP
        produced += _LFSR_STEP
        if produced > 160:
            bits = f"{new:0{_LFSR_STEP}b}"[::-1]
            # Of each pair of bits the first says whether the second is used.
            yield from compress(bits[1::2], map(int, bits[0::2]))


@cache
def _parameters(t: int) -> tuple[Vector, Matrix]:
    if not 2 <= t <= MAX_INPUTS + 1:
        raise InputCount(t - 1)
    stream = _keystream(t)

    def draw() -> int:
        return int("".join(islice(stream, _FIELD_BITS)), 2)

    constants: list[int] = []
    while len(constants) < (FULL_ROUNDS + PARTIAL_ROUNDS[t - 2]) * t:
        candidate = draw()
        if candidate < R:
            constants.append(candidate)
    # Unlike the constants, the matrix's coordinates are reduced, not drawn again: that is how the reference does it.
    points = [draw() % R for _ in range(2 * t)]
    matrix = tuple(tuple(inverse(x + y) for y in points[t:]) for x in points[:t])
    return tuple(constants), matrix


def round_constants(t: int) -> Vector:
    """Return the round constants for width ``t`` (2 to 17), round by round, ``t`` numbers a round."""
    return _parameters(t)[0]


def mds(t: int) -> Matrix:
    """Return the MDS matrix for width ``t`` (2 to 17) by rows: new state[i] = sum of row i times state."""
    return _parameters(t)[1]


# The permutation, as defined.


def permute_reference(state: Sequence[int]) -> Vector:
    """Return Poseidon's permutation of ``state`` (2 to 17 field elements), computed straight from the definition."""
    t = len(state)
    constants, matrix = round_constants(t), mds(t)
    partial_end = _HALF + PARTIAL_ROUNDS[t - 2]
    current = list(state)
    for number in range(FULL_ROUNDS + PARTIAL_ROUNDS[t - 2]):
        current = [(s + constants[number * t + i]) % R for i, s in enumerate(current)]
        boxed = 1 if _HALF <= number < partial_end else t
        current = [pow(s, 5, R) if i < boxed else s for i, s in enumerate(current)]
        current = [sum(m * s for m, s in zip(row, current, strict=True)) % R for row in matrix]
    return tuple(current)


# The same, faster.
#
# Split the matrix as M = [[m, v], [w, N]]: in a partial round only state[0] passes the S-box, so the rest u becomes
# w*x + N*u. Writing the rest after k of the P partial rounds as u = N^(k-P) * y + g_k turns that into
# y += N^(P-1-k) * w * x: 2t multiplications a round, not t*t. The constants g_k depend on no input; their effect
# goes into state[0]'s next constant. Entering the basis multiplies by N^P, which the matrix before absorbs.


class _Fast(NamedTuple):
    first: tuple[tuple[Vector, Matrix], ...]  # constants and matrix of each full round before the partial ones
    partial: tuple[tuple[int, Vector, Vector], ...]  # constant, row v * N^(k-P), column N^(P-1-k) * w
    corner: int
    last: tuple[tuple[Vector, Matrix], ...]


def _dot(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True)) % R


def _times(matrix: Matrix, vector: Vector) -> Vector:
    return tuple(_dot(row, vector) for row in matrix)


def _transpose(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _invert(matrix: Matrix) -> Matrix:
    """Invert by Gauss and Jordan; minors of a Cauchy matrix are never singular."""
    n = len(matrix)
    rows = [[*row, *(int(i == j) for j in range(n))] for i, row in enumerate(matrix)]
    for i in range(n):
        pivot = next(k for k in range(i, n) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        scale = inverse(rows[i][i])
        rows[i] = [x * scale % R for x in rows[i]]
        for k in range(n):
            if k != i:
                factor = rows[k][i]
                rows[k] = [(x - factor * y) % R for x, y in zip(rows[k], rows[i], strict=True)]
    return tuple(tuple(row[n:]) for row in rows)


def _big(vector: Sequence[int]) -> Vector:
    return tuple(bigint(x) for x in vector)


@cache
def _fast(t: int) -> _Fast:
    flat, matrix = round_constants(t), mds(t)
    count = PARTIAL_ROUNDS[t - 2]
    constants = [flat[i : i + t] for i in range(0, len(flat), t)]
    v, w, minor = matrix[0][1:], tuple(row[0] for row in matrix[1:]), tuple(row[1:] for row in matrix[1:])

    # Rows run backwards from v * N^-1, columns backwards from w; the loop ends at N^P * (the matrix before).
    transposed_inverse = _transpose(_invert(minor))
    rows, columns, entry = [_times(transposed_inverse, v)], [w], _transpose(tuple(matrix[1:]))
    for _ in range(count - 1):
        rows.append(_times(transposed_inverse, rows[-1]))
        columns.append(_times(minor, columns[-1]))
    for _ in range(count):
        entry = tuple(_times(minor, column) for column in entry)
    rows.reverse()
    columns.reverse()

    heads, head, rest = [], constants[_HALF][0], constants[_HALF][1:]
    for number in range(_HALF + 1, _HALF + count + 1):
        heads.append(head)
        head = (_dot(v, rest) + constants[number][0]) % R
        rest = tuple((a + b) % R for a, b in zip(_times(minor, rest), constants[number][1:], strict=True))
    constants[_HALF + count] = (head, *rest)

    big_matrix = tuple(_big(row) for row in matrix)
    into = (big_matrix[0], *(_big(row) for row in _transpose(entry)))
    full = [(_big(c), big_matrix) for c in constants]
    return _Fast(
        first=(*full[: _HALF - 1], (full[_HALF - 1][0], into)),
        partial=tuple((bigint(h), _big(a), _big(b)) for h, a, b in zip(heads, rows, columns, strict=True)),
        corner=bigint(matrix[0][0]),
        # Only state[0] is wanted in the end.
        last=(*full[-_HALF:-1], (full[-1][0], big_matrix[:1])),
    )


def _full_rounds(state: list[int], rounds: tuple[tuple[Vector, Matrix], ...]) -> list[int]:
    for constants, matrix in rounds:
        boxed = []
        for s, c in zip(state, constants, strict=True):
            x = s + c
            square = x * x % BIG_R
            boxed.append(square * square % BIG_R * x % BIG_R)
        state = [sum(map(mul, row, boxed)) % BIG_R for row in matrix]
    return state


def _hash_fast(inputs: Sequence[int]) -> int:
    """Return the same as ``permute_reference((0, *inputs))[0]``."""
    tables = _fast(len(inputs) + 1)
    head, *rest = _full_rounds([bigint(0), *map(bigint, inputs)], tables.first)
    corner = tables.corner
    for constant, row, column in tables.partial:
        x = head + constant
        square = x * x % BIG_R
        x = square * square % BIG_R * x % BIG_R
        # The rest is left unreduced: it gains a bit a doubling of rounds, and reducing costs more than that.
        head = corner * x
        for a, y in zip(row, rest, strict=True):
            head += a * y
        head %= BIG_R
        rest = [y + b * x for y, b in zip(rest, column, strict=True)]
    return int(_full_rounds([head, *(y % BIG_R for y in rest)], tables.last)[0])
