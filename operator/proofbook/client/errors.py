"""What goes wrong on the trader's side, each with a stable code and a hint."""

from __future__ import annotations

from typing import Any, ClassVar

from proofbook.protocol.errors import HintedError


class ClientError(HintedError):
    """Base of the client's errors."""

    code: ClassVar[str] = "client"


class KeyNotDeterministic(ClientError):
    """The wallet signs the same message differently each time, so its trading key could not be recovered."""

    code: ClassVar[str] = "key_not_deterministic"


class BadNumber(ClientError):
    """Not a plain decimal number, or out of range."""

    code: ClassVar[str] = "bad_number"


class NotMultiple(ClientError):
    """An amount that is no multiple of the token's quantum or the market's lot, or a price off the market's ticks."""

    code: ClassVar[str] = "not_multiple"


class BadOrder(ClientError):
    """Parts of an order that contradict each other."""

    code: ClassVar[str] = "bad_order"


class NoFreeSlot(ClientError):
    """Every order slot of the account is held by an open order."""

    code: ClassVar[str] = "no_free_slot"


class UnknownName(ClientError):
    """No token or market has this name, or more than one has."""

    code: ClassVar[str] = "unknown_name"


class ApiUnreachable(ClientError):
    """The operator's API does not answer."""

    code: ClassVar[str] = "api_unreachable"


class ApiMalformed(ClientError):
    """What answers is not a Proofbook operator, or not one of this version."""

    code: ClassVar[str] = "api_malformed"


class ApiError(ClientError):
    """The operator refused.

    Attributes
    ----------
    code : str
        The operator's code, such as ``insufficient_balance``.
    status : int
        HTTP status.
    details : dict
        Values concerned.
    """

    # One class for all of the operator's refusals: programs read the code.
    code: str  # type: ignore[misc]

    def __init__(
        self, code: str, message: str, hint: str = "", status: int = 0, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint)
        self.code = code
        self.status = status
        self.details = details or {}

    def __reduce__(self) -> tuple[type[ApiError], tuple[Any, ...]]:
        return type(self), (self.code, self.message, self.hint, self.status, self.details)
