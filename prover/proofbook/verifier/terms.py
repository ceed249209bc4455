"""On what terms an exchange can be left: fixed at deployment, and in no code that could be compared.

The same code with a window of a hundred years, or forced exits that cost a fortune, is an exchange nobody can leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proofbook.protocol.table import ETH_QUANTUM
from proofbook.verifier.contract import Exchange, Reader
from proofbook.verifier.rpc import Rpc

DAY: Final = 86_400
MAX_WINDOW: Final = 30 * DAY
MAX_SPACING: Final = 3_600
MAX_LAG: Final = 7 * DAY
MAX_EXIT_FEE: Final = 10**17 // ETH_QUANTUM
"""Gwei: a tenth of an ether."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What was fixed at deployment; times in seconds.

    Attributes
    ----------
    request_window, request_spacing : int
        Time that a request may wait, and what each that waits before it may add.
    exit_fee_cap : int
        Most that a forced exit costs, gwei.
    max_lag : int
        Age that a batch may have when it is committed: an order may be settled that long after it expired.
    """

    request_window: int
    request_spacing: int
    exit_fee_cap: int
    max_lag: int

    def describe(self) -> str:
        """Return it in a line, for people."""
        fee = f"{self.exit_fee_cap * ETH_QUANTUM / 10**18:.9g} ETH"
        window, spacing, lag = (_span(s) for s in (self.request_window, self.request_spacing, self.max_lag))
        return (
            f"a request waits {window} at most, and {spacing} more for each before it, then anybody may freeze; "
            f"a forced exit costs {fee} at most; a batch is {lag} old at most"
        )

    def beyond(self) -> tuple[str, ...]:
        """Return what is more than anybody should agree to."""
        found = []
        if self.request_window > MAX_WINDOW:
            found.append(f"a request may wait {_span(self.request_window)}, more than {_span(MAX_WINDOW)}")
        if self.request_spacing > MAX_SPACING:
            found.append(f"each request may delay others {_span(self.request_spacing)}, more than {_span(MAX_SPACING)}")
        if self.exit_fee_cap > MAX_EXIT_FEE:
            found.append(f"a forced exit may cost {self.exit_fee_cap} gwei, more than {MAX_EXIT_FEE}")
        if self.max_lag > MAX_LAG:
            found.append(f"a batch may be {_span(self.max_lag)} old, more than {_span(MAX_LAG)}")
        return tuple(found)


def read_terms(rpc: Rpc, exchange: Exchange) -> Terms:
    """Return an exchange's terms; errors as `Reader.read`."""
    number = Reader(rpc, exchange.address, exchange.block).number
    return Terms(number("requestWindow"), number("requestSpacing"), number("exitFeeCap"), number("maxLag"))


def _span(seconds: int) -> str:
    for unit, name in ((DAY, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.6g} {name}"
    return f"{seconds} s"
