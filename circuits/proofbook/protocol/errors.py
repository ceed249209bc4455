"""The one exception tree of Proofbook. Every class has a stable `code` for the API, and its data as attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import proofbook.protocol.recursion  # noqa: F401

_MAX_TOLD: Final = 1000
_MAX_BITS: Final = 1024


def _told(value: object) -> str:
    """Return a value as it stands in a message; Python refuses to write long numbers, and nobody reads long texts."""
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return f"a number of {value.bit_length()} bits"
    text = str(value)
    return text if len(text) <= _MAX_TOLD else text[:_MAX_TOLD] + "..."


class ProofbookError(Exception):
    """Anything Proofbook refuses.

    Attributes
    ----------
    code : str
        Stable name of the failure, never reused for another one.
    """

    code: ClassVar[str] = "proofbook"

    def data(self) -> dict[str, Any]:
        """Return the attributes of this error by name."""
        return {name: value for name, value in vars(self).items() if not name.startswith("__")}

    def __str__(self) -> str:
        told = ", ".join(f"{name}={_told(value)}" for name, value in self.data().items())
        return f"{self.code}: {told}" if told else " ".join((self.code, *map(str, self.args)))

    def __reduce__(self) -> tuple[type[ProofbookError], tuple[Any, ...]]:
        """Let errors cross process borders, however they were constructed."""
        return type(self), tuple(self.data().values()) or self.args


class HintedError(ProofbookError):
    """What happened, told to people, with a hint how to mend it.

    Attributes
    ----------
    message : str
        What happened.
    hint : str
        How to mend it; may be empty.
    """

    code: ClassVar[str] = "hinted"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def data(self) -> dict[str, Any]:
        """Return message and hint by name."""
        return {"message": self.message, "hint": self.hint}

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(eq=False)
class InvalidValue(ProofbookError):
    """A value that is out of range or of the wrong kind, wherever it came from."""

    code: ClassVar[str] = "invalid_value"
    field: str
    value: object
    reason: str


@dataclass(eq=False)
class NotCanonical(ProofbookError):
    """Published data that is not written in the one allowed way (M2, M8, M17)."""

    code: ClassVar[str] = "not_canonical"
    where: str
    reason: str


class TransitionError(ProofbookError):
    """A page that no proof exists for; what `transition.apply` raises besides `InvalidValue` and `NotCanonical`."""

    code: ClassVar[str] = "transition"


@dataclass(eq=False)
class TooManyRows(TransitionError):
    """More rows (or touched accounts) than the batch size has."""

    code: ClassVar[str] = "too_many_rows"
    kind: str
    rows: int
    limit: int


@dataclass(eq=False)
class OldRootMismatch(TransitionError):
    """The page starts from another state (M18)."""

    code: ClassVar[str] = "old_root_mismatch"
    stated: int
    actual: int


@dataclass(eq=False)
class RootMismatch(TransitionError):
    """The page claims another result than it has (M1)."""

    code: ClassVar[str] = "root_mismatch"
    stated: int
    actual: int


# --- accounts and requests


@dataclass(eq=False)
class UnknownAccount(TransitionError):
    """An account that is not open at the end of the batch, or beyond the tree (M7)."""

    code: ClassVar[str] = "unknown_account"
    account: int


@dataclass(eq=False)
class AccountOpen(TransitionError):
    """An account opened that is open (M6)."""

    code: ClassVar[str] = "account_open"
    account: int


@dataclass(eq=False)
class KeyChangedTwice(TransitionError):
    """More than one open or key request of one account in a batch (M6, M20)."""

    code: ClassVar[str] = "key_changed_twice"
    account: int


@dataclass(eq=False)
class WrongOutcome(TransitionError):
    """A deposit bounced or not against the rule, or an exit that leaves something behind (M13)."""

    code: ClassVar[str] = "wrong_outcome"
    row: int
    account: int
    token: int
    reason: str


# --- actions


@dataclass(eq=False)
class ActionError(TransitionError):
    """An action row that can't be proven.

    Attributes
    ----------
    row : int
        Position among the batch's action rows.
    account, id : int
        The row's account and action id.
    """

    code: ClassVar[str] = "action"
    row: int
    account: int
    id: int


class WrongDomain(ActionError):
    """Signed for another chain or contract (M4)."""

    code: ClassVar[str] = "wrong_domain"


class RowMismatch(ActionError):
    """The row says something else than what was signed."""

    code: ClassVar[str] = "row_mismatch"


class BadSignature(ActionError):
    """The signature does not verify under the account's key after the batch (M3)."""

    code: ClassVar[str] = "bad_signature"


class Expired(ActionError):
    """valid_until lies before the batch's timestamp."""

    code: ClassVar[str] = "expired"


class SlotTaken(ActionError):
    """A larger id has taken the slot over: this one can never act again."""

    code: ClassVar[str] = "slot_taken"


class Replayed(ActionError):
    """A withdrawal or transfer whose id was used before (M10)."""

    code: ClassVar[str] = "replayed"


class OverFilled(ActionError):
    """More than the order's base amount in total."""

    code: ClassVar[str] = "over_filled"


class WorseThanLimit(ActionError):
    """An average price worse than the order's limit."""

    code: ClassVar[str] = "worse_than_limit"


class FeeTooHigh(ActionError):
    """A fee above the order's maximum."""

    code: ClassVar[str] = "fee_too_high"


class FillOrKillPartial(ActionError):
    """A fill-or-kill order filled in part."""

    code: ClassVar[str] = "fill_or_kill_partial"


class EmptyFill(ActionError):
    """A quote amount or fee without any base amount (M11)."""

    code: ClassVar[str] = "empty_fill"


class WrongAmount(ActionError):
    """A withdrawal or transfer of 0, or of another amount than signed (M10, M11)."""

    code: ClassVar[str] = "wrong_amount"


class RowsNotGrouped(ActionError):
    """Rows of one account that do not stand together."""

    code: ClassVar[str] = "rows_not_grouped"


class TokenNotHeld(ActionError):
    """A transfer of a token that its receiver did not hold before the batch (M14)."""

    code: ClassVar[str] = "token_not_held"


StaleId = SlotTaken
"""The other name of `SlotTaken`."""


# --- sums


@dataclass(eq=False)
class BalanceError(TransitionError):
    """A final balance that can't be written."""

    code: ClassVar[str] = "balance"
    account: int
    token: int
    balance: int


class NegativeBalance(BalanceError):
    """More spent than there was."""

    code: ClassVar[str] = "negative_balance"


class BalanceOverflow(BalanceError):
    """More than 64 bits (M15), or anything at all of token 0."""

    code: ClassVar[str] = "balance_overflow"


@dataclass(eq=False)
class PositionsFull(TransitionError):
    """More tokens than an account has places for."""

    code: ClassVar[str] = "positions_full"
    account: int
    tokens: int


@dataclass(eq=False)
class TokensDoNotBalance(TransitionError):
    """Orders and fees together make or destroy money."""

    code: ClassVar[str] = "tokens_do_not_balance"
    token: int
    excess: int


@dataclass(eq=False)
class TooManyOfOneAccount(TransitionError):
    """More requests of one account, or transfers of one token to it, than the proof can count."""

    code: ClassVar[str] = "too_many_of_one_account"
    kind: str
    account: int
    rows: int
    limit: int
