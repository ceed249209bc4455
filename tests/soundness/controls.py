"""The named traps: for each the check that answers it, and the lie that survives where the check is missing.

A control is caught if the lie survives in the copy without the check (so the harness can see it) and the real circuit
refuses it. `test_traps` holds the table of named traps, and the rules, against what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proofbook.protocol.state import State

Rows = tuple[int, int, int, int]
Edit = tuple[str, str, str]
TRAPS: Final[dict[str, list[str]]] = {
    "aliasing of 254-bit decompositions": ["M3 aliasing of the challenge's 254 bits"],
    "comparators fed unranged values": ["M11 comparators fed unranged values", "M2 a slot's id is ranged"],
    "a flag that skips the signature": ["M3 a flag that skips the signature"],
    "padding that writes": ["M8 padding that writes", "M8 padding that answers"],
    "an id not under the signature": ["M3 an id not under the signature"],
    "products that overflow": [
        "M11 products that overflow: a limit that wraps",
        "M11 products that overflow: the price",
        "M11 products that overflow: the fee",
    ],
    "a token id past 16 bits that is another account's key": [
        "M2 a token id past 16 bits is another account's key",
        "M2 a request's token past 16 bits is another account's",
    ],
    "an account opened with made-up old balances, or twice": [
        "M6 an account opened with made-up old balances",
        "M6 an account is opened from nothing",
    ],
    "a slot chain that never ends": ["M8 a slot chain that never ends"],
    "an account row twice or out of order": ["M9 an account row twice", "M9 an account row out of order"],
    "a value chosen after z": ["M5 a value chosen after z", "M5 C is the sponge"],
    "S not reduced": ["M3 S not reduced"],
    "keys off the curve or of small order": ["M3 keys off the curve", "M3 keys of small order"],
    "words of D at or above 2^248 or r": ["M17 words of D at or above r", "M17 the header has one split"],
    "public inputs at or above r on chain": ["M17 public inputs at or above r on chain"],
    "gamma equal to delta in a key": ["gamma equal to delta in a key", "gamma equal to -delta in a key"],
    "a value assigned and not constrained": ["a value assigned and not constrained"],
    "a signal that no constraint binds": [f"a signal that no constraint binds, --O{k}" for k in (0, 2)],
}
"""By trap, the controls that show it; CI runs the first of each."""
SMALLEST: Final = (1, 1, 2, 1)
PAIR: Final = (1, 2, 2, 1)


@dataclass
class Attack:
    """A lie told to the end.

    Attributes
    ----------
    lie : Lie
        Its rows stand; C, z and y follow unless `bound`.
    words : sequence of int, optional
        What is published, where it is not what the rows say.
    elements : sequence of int, optional
        What C is of, where the missing check makes it another.
    state : State, optional
        The contract's, where it is not the scene's.
    bound : bool
        C, z and y stand already.
    """

    lie: Any
    words: Sequence[int] | None = None
    elements: Sequence[int] | None = None
    state: State | None = None
    bound: bool = False


@dataclass(frozen=True)
class Control:
    """One trap.

    Attributes
    ----------
    name : str
        Rule and trap.
    edits : tuple of Edit
        What takes the check out.
    rows : Rows
        Of the smallest circuit that holds the lie.
    line : str
        The line of the real circuit that refuses the lie; the line taken out, unless the lie fails earlier there.
    short : bool
        It runs in CI, too: as the first of a named trap, or asked to.
    template : str
        `Batch` or `Exit`.
    alone : bool
        The lies that the harness tells to any circuit find it, too.
    """

    name: str
    edits: tuple[Edit, ...]
    tell: Callable[..., Any]
    rows: Rows = SMALLEST
    line: str = ""
    short: bool = False
    template: str = "Batch"

    @property
    def alone(self) -> bool:
        return self.name in FOUND_ALONE


CONTROLS: Final[list[Control]] = []
FOUND_ALONE: Final = frozenset(
    {"M8 a slot chain that never ends", "M24 an exit's amounts are the packed ones"},
)
"""Controls that lies made up for no circuit in particular find as well; the long form holds them to it."""


def without(file: str, line: str, put: str = "") -> Edit:
    """Return the edit that takes a line out."""
    return file, line, put


def control(
    name: str, *edits: Edit, rows: Rows = SMALLEST, line: str = "", short: bool = False, template: str = "Batch"
):
    """Register the decorated function as a control; `line` is the edit's text unless given."""

    def register(tell: Callable[..., Any]) -> Callable[..., Any]:
        first = any(name == named[0] for named in TRAPS.values())
        said = line or edits[0][1].strip()
        CONTROLS.append(Control(name, edits, tell, rows, said, short or first, template))
        return tell

    return register
