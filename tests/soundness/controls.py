"""The named traps: for each the check that answers it, and the lie that survives where the check is missing.

A control is caught if the lie survives in the copy without the check (so the harness can see it) and the real circuit
refuses it. `test_traps` has the table of all named traps and rules, with those that no circuit check answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proofbook.protocol.state import State

Rows = tuple[int, int, int, int]
Edit = tuple[str, str, str]
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
        It runs in CI, too.
    template : str
        `Batch` or `Exit`.
    """

    name: str
    edits: tuple[Edit, ...]
    tell: Callable[..., Any]
    rows: Rows = SMALLEST
    line: str = ""
    short: bool = False
    template: str = "Batch"


CONTROLS: Final[list[Control]] = []


def without(file: str, line: str, put: str = "") -> Edit:
    """Return the edit that takes a line out."""
    return file, line, put


def control(
    name: str, *edits: Edit, rows: Rows = SMALLEST, line: str = "", short: bool = False, template: str = "Batch"
):
    """Register the decorated function as a control; `line` is the edit's text unless given."""

    def register(tell: Callable[..., Any]) -> Callable[..., Any]:
        CONTROLS.append(Control(name, edits, tell, rows, line or edits[0][1].strip(), short, template))
        return tell

    return register
