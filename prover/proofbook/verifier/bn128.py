"""What we use of py-ecc, imported without its side effect.

Importing it raises Python's recursion limit to 100,000 for the whole process; after that, deeply nested input to any
parser is a crash of the interpreter and no error any more.
"""

from __future__ import annotations

import sys

_LIMIT = sys.getrecursionlimit()

from py_ecc.fields import optimized_bn128_FQ as FQ  # noqa: E402
from py_ecc.fields import optimized_bn128_FQ2 as FQ2  # noqa: E402
from py_ecc.fields import optimized_bn128_FQ12 as FQ12  # noqa: E402
from py_ecc.optimized_bn128.optimized_curve import (  # noqa: E402
    Z1,
    Z2,
    add,
    b,
    b2,
    curve_order,
    eq,
    field_modulus,
    is_inf,
    is_on_curve,
    multiply,
    neg,
)
from py_ecc.optimized_bn128.optimized_pairing import final_exponentiate, pairing  # noqa: E402

sys.setrecursionlimit(_LIMIT)

__all__ = [
    "FQ",
    "FQ2",
    "FQ12",
    "Z1",
    "Z2",
    "add",
    "b",
    "b2",
    "curve_order",
    "eq",
    "field_modulus",
    "final_exponentiate",
    "is_inf",
    "is_on_curve",
    "multiply",
    "neg",
    "pairing",
]
