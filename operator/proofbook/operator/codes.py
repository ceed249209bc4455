"""The operator's refusals and errors: each has a stable code.

`Refused` answers a command that is not admitted; the engine turns it into an event. Everything derived from
`OperatorError` stops what was being done.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from proofbook.protocol.errors import ProofbookError


class Code(StrEnum):
    """Why a command was refused."""

    MALFORMED = "malformed"
    WRONG_DOMAIN = "wrong_domain"
    BAD_SIGNATURE = "bad_signature"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_MARKET = "unknown_market"
    UNKNOWN_ORDER = "unknown_order"
    ACCOUNT_PAUSED = "account_paused"
    EXIT_PENDING = "exit_pending"
    EXPIRED = "expired"
    REPLAYED = "replayed"
    STALE_ID = "stale_id"
    SLOT_TAKEN = "slot_taken"
    LOT_SIZE = "lot_size"
    ORDER_SIZE = "order_size"
    PRICE_TICK = "price_tick"
    PRICE_RANGE = "price_range"
    FEE_CAP = "fee_cap"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    POSITIONS_FULL = "positions_full"
    RECEIVER_LACKS_TOKEN = "receiver_lacks_token"
    WOULD_CROSS = "would_cross"
    NOT_FILLABLE = "not_fillable"
    TOO_WIDE = "too_wide"
    BAD_REQUEST = "bad_request"
    REQUEST_ORDER = "request_order"
    BATCH_ORDER = "batch_order"
    NOTHING_TO_SEAL = "nothing_to_seal"
    FROZEN = "frozen"
    BUSY = "busy"  # never the engine's, see `proofbook.operator.limits`


class Removal(StrEnum):
    """Why an order left the book (or, for the remainder of a taker, never entered it)."""

    FILLED = "filled"
    CANCELLED = "cancelled"
    HARD_CANCELLED = "hard_cancelled"
    EXPIRED = "expired"
    IMMEDIATE = "immediate"  # the unfilled rest of an IOC or market order
    SELF_TRADE = "self_trade"
    KEY_CHANGE = "key_change"
    FORCED_EXIT = "forced_exit"
    POSITIONS = "positions"  # a deposit took the place its token would have needed
    BUSTED = "busted"


class OperatorError(ProofbookError):
    """Base of the operator's errors; each class has a stable ``code``."""

    code: ClassVar[str] = "operator"


class InvariantError(OperatorError):
    """Something that cannot happen did: the program is wrong, and the operator must stop (code ``invariant``)."""

    code: ClassVar[str] = "invariant"


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """A command is not admitted.

    Attributes
    ----------
    code : Code
        Why.
    detail : str
        The same for people, with what would help.
    """

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def must(condition: bool, what: str) -> None:
    """Stop at a broken invariant.

    Raises
    ------
    InvariantError
        If ``condition`` is false.
    """
    if not condition:
        raise InvariantError(what)
