"""What a transaction offers to pay: what the node suggests, more than a rival with its nonce, never above a limit.

The limit is there because prices come from a node, which may lie, and because outbidding again and again grows without
end while a chain stands still.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from web3 import Web3

from proofbook.chain.errors import GasPriceLimit, GasPriceSetting, TransactionFailed

BUMP_PERCENT: Final = 25
"""A replacement offers so much more."""
MIN_BUMP_PERCENT: Final = 10
"""Less, and nodes keep the transaction that they have."""
GWEI: Final = 10**9
DEFAULT_LIMIT_GWEI: Final = 500
MAX_LIMIT_GWEI: Final = 10**9
LIMIT_VARIABLE: Final = "PROOFBOOK_MAX_GAS_PRICE"
PRICES: Final = ("maxFeePerGas", "maxPriorityFeePerGas", "gasPrice")


def limit_from_environment() -> int:
    """Return the most that is paid for a unit of gas, in wei; `GasPriceSetting` if the variable is out of range."""
    text = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GWEI)
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) <= MAX_LIMIT_GWEI):
        raise GasPriceSetting(f"{LIMIT_VARIABLE} is no gas price", f"whole gwei, 1 to {MAX_LIMIT_GWEI}")
    return int(text) * GWEI


def bid(w3: Web3, rivals: Iterable[Mapping[str, Any]], limit: int) -> dict[str, int]:
    """Return the prices of a transaction.

    Parameters
    ----------
    w3 : Web3
        The chain.
    rivals : iterable of mapping
        Transactions with its nonce, which it must outbid.
    limit : int
        The most for a unit of gas, in wei.

    Returns
    -------
    dict
        ``maxFeePerGas`` and ``maxPriorityFeePerGas``, or ``gasPrice`` on a chain without EIP-1559; wei.

    Raises
    ------
    GasPriceLimit
        When the limit is below the base fee, or leaves no room to outbid the rivals.
    TransactionFailed
        When the node's prices make no sense.
    """
    base, wanted = _suggested(w3)
    paid = list(rivals)
    for name, price in wanted.items():
        before = max((int(rival.get(name, rival.get("gasPrice", 0))) for rival in paid), default=0)
        # Both prices have to rise, also from nothing: nodes take no replacement otherwise.
        offer = min(limit, max(price, before * (100 + BUMP_PERCENT) // 100 + bool(paid)))
        if offer * 100 < before * (100 + MIN_BUMP_PERCENT):
            raise _above(limit, f"a transaction that waits offers {_gwei(before)} gwei already")
        wanted[name] = offer
    if wanted.get("maxFeePerGas", wanted.get("gasPrice", 0)) < base:
        raise _above(limit, f"gas costs {_gwei(base)} gwei")
    return wanted


def _suggested(w3: Web3) -> tuple[int, dict[str, int]]:
    base = w3.eth.get_block("latest").get("baseFeePerGas")
    if base is None:
        price = _checked(w3.eth.gas_price)
        return price, {"gasPrice": price}
    tip = _checked(w3.eth.max_priority_fee)
    return _checked(base), {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip}


def _checked(price: Any) -> int:
    if not isinstance(price, int) or not 0 <= price < 2**128:
        raise TransactionFailed("the node's gas prices make no sense", "ask another node")
    return price


def _above(limit: int, why: str) -> GasPriceLimit:
    return GasPriceLimit(
        f"{why}, the limit is {_gwei(limit)}", f"wait until gas is cheaper, or allow more by {LIMIT_VARIABLE} (gwei)"
    )


def _gwei(wei: int) -> str:
    return f"{wei // GWEI}.{wei % GWEI:09d}".rstrip("0").rstrip(".")
