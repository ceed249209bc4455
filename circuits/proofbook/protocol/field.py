"""The BN254 scalar field: the numbers that circuits compute with.

Everything here is a plain ``int`` at the interface. When gmpy2 happens to be installed its integers are used for
intermediate values, because they multiply and reduce faster; results are the same and are handed back as ``int``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

from proofbook.protocol.errors import ProofbookError

__all__ = [
    "BIG_R",
    "R",
    "FieldError",
    "NotInvertible",
    "OutOfField",
    "bigint",
    "check_field_element",
    "inverse",
    "is_field_element",
]

R = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""The modulus: the order of BN254's groups, a prime just below 2**254."""


class FieldError(ProofbookError, ValueError):
    """Input to field arithmetic that makes no sense: the base of `OutOfField`, `NotInvertible` and `InputCount`."""

    code: ClassVar[str] = "field"


@dataclass(eq=False)
class OutOfField(FieldError):
    """A value that is no integer in ``[0, R)``; ``what`` says what it was to be, as it may itself be huge."""

    code: ClassVar[str] = "field_out_of_range"
    what: str


class NotInvertible(FieldError):
    """Zero, of which an inverse was asked."""

    code: ClassVar[str] = "field_not_invertible"


def _load_bigint() -> Callable[[int], int]:
    """Return gmpy2's integer type if it is there, else ``int``: both obey the same operators."""
    try:
        mpz: Callable[[int], int] = import_module("gmpy2").mpz
    except ImportError:
        return int
    return mpz


bigint = _load_bigint()
"""Converts an ``int`` to the type for intermediate values; callers turn what they return back with ``int``."""

BIG_R = bigint(R)
"""`R` in that type: reducing by an ``int`` would convert it every time."""


def is_field_element(x: object) -> bool:
    """Tell whether ``x`` is an ``int`` in ``[0, R)``: the canonical form, and the only one accepted anywhere."""
    return isinstance(x, int) and 0 <= x < R


def check_field_element(x: int) -> int:
    """Return ``x`` if it is in ``[0, R)``.

    Raises
    ------
    OutOfField
        Otherwise.
    """
    if not is_field_element(x):
        raise OutOfField("field element")
    return x


def inverse(x: int) -> int:
    """Return the multiplicative inverse of ``x`` modulo ``R``, in ``[1, R)``.

    Raises
    ------
    NotInvertible
        If ``x`` is a multiple of ``R``.
    """
    if x % R == 0:
        raise NotInvertible
    return int(pow(x, -1, R))
