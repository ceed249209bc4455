"""The BN254 scalar field: the numbers that circuits compute with.

Everything here is a plain ``int`` at the interface. When gmpy2 happens to be installed its integers are used for
intermediate values, because they multiply and reduce faster; results are the same and are handed back as ``int``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

__all__ = ["BIG_R", "R", "FieldError", "bigint", "check_field_element", "inverse", "is_field_element"]

R = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""The modulus: the order of BN254's groups, a prime just below 2**254."""


class FieldError(ValueError):
    """A value that stands for no field element, or a list of them of the wrong length.

    Attributes
    ----------
    code : str
        Stable name of the failure: ``field_out_of_range``, ``field_not_invertible`` or ``poseidon_input_count``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


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
    FieldError
        ``field_out_of_range`` otherwise.
    """
    if not is_field_element(x):
        raise FieldError("field_out_of_range", "not an integer in [0, R)")
    return x


def inverse(x: int) -> int:
    """Return the multiplicative inverse of ``x`` modulo ``R``, in ``[1, R)``.

    Raises
    ------
    FieldError
        ``field_not_invertible`` if ``x`` is a multiple of ``R``.
    """
    if x % R == 0:
        raise FieldError("field_not_invertible", "zero has no inverse")
    return int(pow(x, -1, R))
