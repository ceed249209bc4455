"""What we use of py-ecc, imported without its side effect (`proofbook.protocol.recursion`)."""

from __future__ import annotations

from py_ecc.fields import optimized_bn128_FQ as FQ
from py_ecc.fields import optimized_bn128_FQ2 as FQ2
from py_ecc.fields import optimized_bn128_FQ12 as FQ12
from py_ecc.optimized_bn128.optimized_curve import (
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
from py_ecc.optimized_bn128.optimized_pairing import final_exponentiate, pairing

import proofbook.protocol.recursion  # noqa: F401

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
