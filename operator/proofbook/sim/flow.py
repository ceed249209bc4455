"""What traders want: placements and cancels, before anybody signed them. Whole numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import ClassVar, TypeAlias

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.table import Side


class SimulationError(ProofbookError):
    """Base of the simulation's errors.

    Attributes
    ----------
    message, hint : str
        What happened, and how to mend it.
    """

    code: ClassVar[str] = "simulation"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Place:
    """An order somebody wants to place.

    Attributes
    ----------
    ref : int
        Its number in the flow, by which it is cancelled.
    trader : int
        Who, as a position in the list of traders.
    symbol : str
        Market.
    side : Side
        Buy or sell.
    price, lots : int
        Ticks (quote quanta a lot) and lots, at least 1.
    flags : int
        Bits of `proofbook.protocol.table.Flag`.
    """

    ref: int
    trader: int
    symbol: str
    side: Side
    price: int
    lots: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """A cancel of the placement ``ref`` of the same trader."""

    ref: int
    trader: int


Intent: TypeAlias = Place | Cancel
Round: TypeAlias = tuple[Intent, ...]
"""Intents in their order; traders look at their accounts between rounds."""


def count_orders(rounds: list[Round]) -> int:
    """Return the number of placements."""
    return sum(isinstance(intent, Place) for intents in rounds for intent in intents)


def merge(first: list[Round], second: list[Round]) -> list[Round]:
    """Return two flows side by side, round by round; their refs must differ."""
    return [(*a, *b) for a, b in zip_longest(first, second, fillvalue=())]
