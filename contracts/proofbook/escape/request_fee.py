"""What a forced exit may cost: fees come from a node, which may lie, and whoever queues first raises them."""

from __future__ import annotations

import os
from typing import Final

from proofbook.escape.errors import EscapeSetting, FeeTooHigh
from proofbook.protocol.table import RequestKind
from proofbook.verifier.contract import Reader

VARIABLE: Final = "PROOFBOOK_MAX_REQUEST_FEE"
DEFAULT_LIMIT: Final = 10**8
"""Gwei: a tenth of an ETH."""
MAX_LIMIT: Final = 10**12


def fee_limit_from_environment() -> int:
    """Return the most that is paid with one request, in gwei; `EscapeSetting` if the variable is out of range."""
    text = os.environ.get(VARIABLE) or str(DEFAULT_LIMIT)
    if not (text.isascii() and text.isdigit() and len(text) <= 13 and 0 < int(text) <= MAX_LIMIT):
        raise EscapeSetting(f"{VARIABLE} is no fee", f"whole gwei, 1 to {MAX_LIMIT}")
    return int(text)


def fee_now(reader: Reader, limit: int) -> int:
    """Return a forced exit's fee at the reader's block, in gwei; `FeeTooHigh` above the limit."""
    fee = int(reader.read("requestFee(uint8)", "uint64", int(RequestKind.EXIT))[0])
    if fee > limit:
        raise FeeTooHigh(
            f"a forced exit costs {fee} gwei, the limit is {limit}",
            f"ask another node: it may be a lie; or allow more by {VARIABLE} (gwei)",
        )
    return fee


def fee_at_most(reader: Reader, limit: int) -> int:
    """Return the most that a forced exit can cost, or the limit if that is less; what is too much becomes a claim."""
    return min(limit, reader.number("exitFeeCap"))
