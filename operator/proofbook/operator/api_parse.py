"""From the API's loose numbers to checked values, and from refusals to answers: code, HTTP status and hint."""

from __future__ import annotations

from typing import Any, Final

from proofbook.operator.api_models import CancelIn, ErrorBody, Number, OrderIn, SignatureIn, TransferIn, WithdrawIn
from proofbook.operator.codes import Code
from proofbook.protocol import messages
from proofbook.protocol.babyjub import Point
from proofbook.protocol.eddsa import Signature
from proofbook.protocol.errors import InvalidValue, ProofbookError
from proofbook.protocol.messages import Action, SignedAction
from proofbook.protocol.table import (
    ACCOUNT_BITS,
    AMOUNT_BITS,
    FEE_BPS_BITS,
    FLAG_BITS,
    ID_BITS,
    TIME_BITS,
    TOKEN_BITS,
    Side,
)
from proofbook.protocol.words import check_element, check_range

_MAX_DIGITS: Final = 78  # of 2^256


class ApiError(Exception):
    """A refusal on its way to the client.

    Attributes
    ----------
    status : int
        HTTP status.
    body : ErrorBody
        What is sent.
    """

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(code, message, hint or HINTS.get(code, ""), data or {})


STATUS: Final[dict[str, int]] = {
    Code.MALFORMED: 400,
    Code.BAD_SIGNATURE: 401,
    Code.WRONG_TYPE: 400,
    Code.WRONG_DOMAIN: 400,
    Code.UNKNOWN_ACCOUNT: 404,
    Code.UNKNOWN_MARKET: 404,
    Code.UNKNOWN_ORDER: 404,
    Code.ACCOUNT_PAUSED: 409,
    Code.EXIT_PENDING: 409,
    Code.REPLAYED: 409,
    Code.STALE_ID: 409,
    Code.SLOT_TAKEN: 409,
    Code.WOULD_CROSS: 409,
    Code.NOT_FILLABLE: 409,
    Code.FROZEN: 410,
    Code.BUSY: 429,
}
"""HTTP status of refusals; 422 for all others."""

HINTS: Final[dict[str, str]] = {
    Code.MALFORMED: "see /schema for the form of every request",
    Code.BAD_SIGNATURE: "sign with the account's current trading key, for this exchange's domain (GET /v1/info)",
    Code.UNKNOWN_ACCOUNT: "open an account on L1 and wait for its confirmations",
    Code.UNKNOWN_MARKET: "GET /v1/markets lists them",
    Code.UNKNOWN_ORDER: "GET /v1/accounts/{index} lists open orders",
    Code.ACCOUNT_PAUSED: "a key change is pending: wait until it is applied, then sign with the new key",
    Code.EXIT_PENDING: "a forced exit of the token is pending: wait until it is served",
    Code.EXPIRED: "choose a later valid_until: at least now + margin_seconds (GET /v1/info)",
    Code.REPLAYED: "use a larger id: next_id of GET /v1/accounts/{index}",
    Code.STALE_ID: "use a larger id: next_id of GET /v1/accounts/{index}",
    Code.SLOT_TAKEN: "an open order holds this id's slot: use next_id of GET /v1/accounts/{index}",
    Code.LOT_SIZE: "the base amount must be a multiple of the market's lot",
    Code.ORDER_SIZE: "split the order: the market's max_lots is the limit",
    Code.PRICE_TICK: "the quote amount must be a whole number of quanta a lot",
    Code.PRICE_RANGE: "the market's max_price is the limit",
    Code.FEE_CAP: "set max_fee_bps to at least the market's fee",
    Code.INSUFFICIENT_BALANCE: "deposit more, or cancel open orders that reserve it",
    Code.POSITIONS_FULL: "an account holds at most 15 tokens: withdraw one first",
    Code.RECEIVER_LACKS_TOKEN: "the receiver must hold some of the token already",
    Code.WOULD_CROSS: "choose a price that does not cross the book, or drop post-only",
    Code.NOT_FILLABLE: "the book can't fill it whole now",
    Code.TOO_WIDE: "a fill-or-kill order must fit one batch: make it smaller",
    Code.FROZEN: "the exchange is frozen: leave with `proofbook escape`",
    Code.BUSY: "try again later, more slowly or with a smaller order; a forced exit on L1 is always possible",
    "invalid_value": "see /schema for the form and docs/spec.md for the ranges",
    "too_many_orders": "send at most 100 orders a request",
    "body_too_large": "send fewer orders a request",
    "not_operator": "flush from the operator's machine, or send its API token",
    "stopped": "the operator has to look at its log and start it again",
}


def error_from(error: ProofbookError) -> ApiError:
    """Return the answer to a protocol error that bad input raised."""
    data = {name: value if isinstance(value, int | None) else str(value)[:100] for name, value in error.data().items()}
    data = {name: str(value) if isinstance(value, int) else value for name, value in data.items()}
    message = f"{error.field}: {error.reason}" if isinstance(error, InvalidValue) else str(error)[:300]
    return ApiError(400, error.code, message, data=data)


def refusal(code: str, detail: str, **data: Any) -> ApiError:
    """Return the answer to an engine's refusal."""
    return ApiError(STATUS.get(code, 422), code, detail, data=data)


def parse_number(field: str, value: Number, bits: int) -> int:
    """Return an integer of at most ``bits`` bits.

    Raises
    ------
    InvalidValue
        For one out of range, or a string that is not its plain decimal digits.
    """
    return check_range(field, _parse_digits(field, value), bits)


def _parse_digits(field: str, value: Number) -> int:
    if isinstance(value, str):
        # int() would also take signs, blanks, underscores and other scripts' digits.
        if not (0 < len(value) <= _MAX_DIGITS and value.isascii() and value.isdigit()):
            raise InvalidValue(field, value[:_MAX_DIGITS], "not a decimal number")
        if value[0] == "0" and value != "0":
            raise InvalidValue(field, value, "a leading zero")
        return int(value)
    if value.bit_length() > 256:
        raise InvalidValue(field, 0, "more than 256 bits")
    return value


def parse_signature(signature: SignatureIn) -> Signature:
    """Return a signature; `InvalidValue` for a part that is no field element."""
    parts = {name: getattr(signature, name) for name in ("r8x", "r8y", "s")}
    x, y, s = (check_element(name, _parse_digits(name, value)) for name, value in parts.items())
    return Signature(Point(x, y), s)


def _head(body: OrderIn | CancelIn | WithdrawIn | TransferIn) -> dict[str, int]:
    return {
        "account": parse_number("account", body.account, ACCOUNT_BITS),
        "id": parse_number("id", body.id, ID_BITS),
        "valid_until": parse_number("valid_until", body.valid_until, TIME_BITS),
    }


def _signed(action: Action, signature: SignatureIn) -> SignedAction:
    return SignedAction(action, parse_signature(signature))


def parse_order(body: OrderIn, domain: int) -> SignedAction:
    """Return a signed order; `InvalidValue` where `messages.order` refuses it. The signature is not verified here."""
    action = messages.order(
        domain=domain,
        **_head(body),
        base=parse_number("base", body.base, TOKEN_BITS),
        quote=parse_number("quote", body.quote, TOKEN_BITS),
        side=Side.BUY if body.side == "buy" else Side.SELL,
        base_amount=parse_number("base_amount", body.base_amount, AMOUNT_BITS),
        quote_amount=parse_number("quote_amount", body.quote_amount, AMOUNT_BITS),
        max_fee_bps=parse_number("max_fee_bps", body.max_fee_bps, FEE_BPS_BITS),
        flags=parse_number("flags", body.flags, FLAG_BITS),
    )
    return _signed(action, body.signature)


def parse_cancel(body: CancelIn, domain: int) -> SignedAction:
    """Return a signed cancel; errors as `parse_order`."""
    return _signed(messages.cancel(domain=domain, **_head(body)), body.signature)


def parse_withdraw(body: WithdrawIn, domain: int) -> SignedAction:
    """Return a signed withdrawal; errors as `parse_order`."""
    action = messages.withdraw(
        domain=domain,
        **_head(body),
        token=parse_number("token", body.token, TOKEN_BITS),
        amount=parse_number("amount", body.amount, AMOUNT_BITS),
    )
    return _signed(action, body.signature)


def parse_transfer(body: TransferIn, domain: int) -> SignedAction:
    """Return a signed transfer; errors as `parse_order`."""
    action = messages.transfer(
        domain=domain,
        **_head(body),
        token=parse_number("token", body.token, TOKEN_BITS),
        amount=parse_number("amount", body.amount, AMOUNT_BITS),
        receiver=parse_number("receiver", body.receiver, ACCOUNT_BITS),
    )
    return _signed(action, body.signature)
