"""The one transition: what a page does to a state (docs/spec.md section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from proofbook.protocol.messages import SignedAction
from proofbook.protocol.state import State
from proofbook.protocol.table import Size
from proofbook.protocol.words import ActionRow, FeeRow, Header, Page, Request

CreditKind = Literal["withdraw", "exit", "bounce"]


@dataclass(frozen=True, slots=True)
class Credit:
    """A claim on L1 that a batch records, in quanta, at least 1."""

    kind: CreditKind
    account: int
    owner: int
    token: int
    amount: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a page did.

    Attributes
    ----------
    state : State
        The state after it.
    credits : tuple of Credit
        In the order of requests, then actions.
    touched : tuple of int
        Accounts that need a row in the proof, ascending.
    deltas : mapping of (account, token) to int
        Sum of postings, those that cancel out to 0 included.
    """

    state: State
    credits: tuple[Credit, ...]
    touched: tuple[int, ...]
    deltas: Mapping[tuple[int, int], int]


def apply(state: State, page: Page, signed: Sequence[SignedAction] | None = None, size: Size | None = None) -> Outcome:
    """Apply a page to a state."""
    raise NotImplementedError


def build_page(
    state: State,
    header: Header,
    requests: Sequence[Request],
    actions: Sequence[ActionRow],
    fees: Sequence[FeeRow],
    signed: Sequence[SignedAction] | None = None,
) -> Page:
    """Make the page that these rows allow."""
    raise NotImplementedError


def group_actions(
    rows: Sequence[ActionRow], signed: Sequence[SignedAction] | None = None
) -> tuple[tuple[ActionRow, ...], tuple[SignedAction, ...] | None]:
    """Sort rows (and their signed actions with them) so that those of one account stand together."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].account)
    return tuple(rows[i] for i in order), None if signed is None else tuple(signed[i] for i in order)
