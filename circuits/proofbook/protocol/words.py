"""The words D of a batch: packing, unpacking, and the page they stand for (docs/spec.md section 4).

Everything that comes from outside passes `check_page` or `page_from_words`: one page has exactly one list of words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NoReturn, TypeVar

from proofbook.protocol.errors import InvalidValue, NotCanonical, TooManyRows
from proofbook.protocol.field import R
from proofbook.protocol.table import (
    ACTION_CALLDATA_BYTES,
    ACTION_LAYOUT,
    COUNT_BITS,
    FEE_CALLDATA_BYTES,
    FEE_LAYOUT,
    FILL_LAYOUT,
    HEADER_LAYOUT,
    HEADER_WORDS,
    MAX_ACTIONS,
    OWNER_BITS,
    REQUEST_LAYOUT,
    ActionType,
    Layout,
    RequestKind,
    Size,
)

DOMAIN_BITS: Final = 248
_FILL_BYTES: Final = 24
_HEAD_BYTES: Final = ACTION_CALLDATA_BYTES - _FILL_BYTES
_Row = TypeVar("_Row")
MAX_ROWS: Final = 2**COUNT_BITS - 1


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the L1 queue.

    Attributes
    ----------
    kind : int
        A `RequestKind`.
    account : int
        Account index.
    token, amount : int
        Token id; amount in quanta, deposits only.
    owner, pub_x, pub_y : int
        L1 address and trading key, for the kinds that name them.
    """

    kind: int
    account: int
    token: int = 0
    amount: int = 0
    owner: int = 0
    pub_x: int = 0
    pub_y: int = 0


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request and what became of it.

    Attributes
    ----------
    request : Request
        As queued.
    outcome : int
        Deposit: 1 if bounced. Exit: the amount that leaves. Else 0.
    """

    request: Request
    outcome: int = 0


@dataclass(frozen=True, slots=True)
class ActionRow:
    """A signed action and what it did in this batch in total.

    Attributes
    ----------
    type, account, id, base, quote, side : int
        As signed.
    ex_base, ex_quote, aux : int
        Executed amounts, at least 0; aux is an order's fee or a transfer's receiver.
    """

    type: int
    account: int
    id: int
    base: int = 0
    quote: int = 0
    side: int = 0
    ex_base: int = 0
    ex_quote: int = 0
    aux: int = 0


@dataclass(frozen=True, slots=True)
class FeeRow:
    """What the fee account gets of one token, in quanta."""

    token: int
    amount: int


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a batch; the counts follow from the page.

    Attributes
    ----------
    domain : int
        Below 2**248.
    size_id, number, timestamp, fee_account : int
        16, 64, 32 and 24 bits.
    old_root, new_root : int
        Field elements.
    """

    domain: int
    size_id: int
    number: int
    timestamp: int
    fee_account: int
    old_root: int
    new_root: int


@dataclass(frozen=True, slots=True)
class Page:
    """One batch: header, requests, actions and fees, in the order of D."""

    header: Header
    requests: tuple[RequestRow, ...] = ()
    actions: tuple[ActionRow, ...] = ()
    fees: tuple[FeeRow, ...] = ()


# --- packing


def check_range(field: str, value: object, bits: int) -> int:
    """Return `value` if it is an integer of at most `bits` bits.

    Raises
    ------
    InvalidValue
        Otherwise.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0 or value >> bits:
        raise InvalidValue(field, value, f"not an integer of {bits} bits")
    return value


def check_element(field: str, value: object) -> int:
    """Return `value` if it is a field element in canonical form; `InvalidValue` otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < R:
        raise InvalidValue(field, value, "not a field element")
    return value


def layout_bits(layout: Layout) -> int:
    """Return the width of a layout's word."""
    return sum(bits for _, bits in layout)


def pack(layout: Layout, values: Mapping[str, int]) -> int:
    """Pack named values into a word, least significant field first.

    Raises
    ------
    InvalidValue
        If a value does not fit its field, or names do not match the layout's.
    """
    if len(values) != len(layout):
        raise InvalidValue("layout", sorted(values), "names differ from the layout's")
    word = shift = 0
    for name, bits in layout:
        if name not in values:
            raise InvalidValue(name, None, "missing")
        word |= check_range(name, values[name], bits) << shift
        shift += bits
    return word


def unpack(layout: Layout, word: int) -> dict[str, int]:
    """Split a word into its fields.

    Raises
    ------
    InvalidValue
        If the word has bits beyond the layout.
    """
    check_range("word", word, layout_bits(layout))
    fields: dict[str, int] = {}
    for name, bits in layout:
        fields[name] = word & ((1 << bits) - 1)
        word >>= bits
    return fields


def _pick(row: object, layout: Layout) -> dict[str, int]:
    return {name: getattr(row, name) for name, _ in layout}


# --- rows

# What a kind names besides kind and account; everything else is 0.
_REQUEST_FIELDS: Final = {
    RequestKind.OPEN: {"owner", "pub_x", "pub_y"},
    RequestKind.DEPOSIT: {"token", "amount", "outcome"},
    RequestKind.KEY: {"pub_x", "pub_y"},
    RequestKind.EXIT: {"token", "outcome"},
}
_ACTION_FIELDS: Final = {
    ActionType.ORDER: {"base", "quote", "side", "ex_base", "ex_quote", "aux"},
    ActionType.WITHDRAW: {"base", "ex_base"},
    ActionType.TRANSFER: {"base", "ex_base", "aux"},
    ActionType.CANCEL: set[str](),
}


def _refuse(where: str, reason: str) -> NoReturn:
    raise NotCanonical(where, reason)


def _check_unnamed(where: str, values: Mapping[str, int], named: set[str]) -> None:
    for name, value in values.items():
        if value and name not in named:
            _refuse(where, f"{name} is not 0, and its kind does not name it")


def request_row_words(row: RequestRow) -> list[int]:
    """Return the 4 words of a request row.

    Raises
    ------
    InvalidValue, NotCanonical
        For a value out of range; for kind 0 or a field that the kind does not name.
    """
    request = row.request
    head = {"outcome": row.outcome} | {n: getattr(request, n) for n, _ in REQUEST_LAYOUT if n != "outcome"}
    words = [
        pack(REQUEST_LAYOUT, head),
        check_range("owner", request.owner, OWNER_BITS),
        check_element("pub_x", request.pub_x),
        check_element("pub_y", request.pub_y),
    ]
    if request.kind not in _REQUEST_FIELDS:
        _refuse("request", f"kind {request.kind}")
    rest = {
        "token": request.token,
        "amount": request.amount,
        "outcome": row.outcome,
        "owner": request.owner,
        "pub_x": request.pub_x,
        "pub_y": request.pub_y,
    }
    _check_unnamed("request", rest, _REQUEST_FIELDS[RequestKind(request.kind)])
    if request.kind == RequestKind.DEPOSIT and row.outcome > 1:
        _refuse("request", "a deposit's outcome is 0 or 1")
    return words


def request_row_from_words(words: Sequence[int]) -> RequestRow:
    """Return the request row of 4 words; the inverse of `request_row_words`, with its errors."""
    head = unpack(REQUEST_LAYOUT, words[0])
    outcome = head.pop("outcome")
    row = RequestRow(Request(**head, owner=words[1], pub_x=words[2], pub_y=words[3]), outcome)
    request_row_words(row)
    return row


def action_row_words(row: ActionRow) -> list[int]:
    """Return the 2 words of an action row.

    Raises
    ------
    InvalidValue, NotCanonical
        For a value out of range; for type 0, a field that the type does not name, a token that may not be there.
    """
    words = [pack(ACTION_LAYOUT, _pick(row, ACTION_LAYOUT)), pack(FILL_LAYOUT, _pick(row, FILL_LAYOUT))]
    if row.type not in _ACTION_FIELDS:
        _refuse("action", f"type {row.type}")
    rest = {name: getattr(row, name) for name in ("side", "base", "quote", "ex_base", "ex_quote", "aux")}
    named = _ACTION_FIELDS[ActionType(row.type)]
    _check_unnamed("action", rest, named)
    if any(name in named and not rest[name] for name in ("base", "quote")) or row.base == row.quote != 0:
        _refuse("action", "its tokens are not 0, and an order's two are different")
    return words


def action_row_from_words(words: Sequence[int]) -> ActionRow:
    """Return the action row of 2 words; the inverse of `action_row_words`, with its errors."""
    row = ActionRow(**unpack(ACTION_LAYOUT, words[0]), **unpack(FILL_LAYOUT, words[1]))
    action_row_words(row)
    return row


def fee_row_word(row: FeeRow) -> int:
    """Return the word of a fee row; `InvalidValue` beyond a field's range, `NotCanonical` for some of token 0."""
    word = pack(FEE_LAYOUT, {"token": row.token, "amount": row.amount})
    # Nothing of token 0 is allowed: the circuit takes such a row, so refusing to read it would hide the whole page.
    if row.amount and not row.token:
        _refuse("fee", "token 0")
    return word


def fee_row_from_word(word: int) -> FeeRow:
    """Return the fee row of a word; `InvalidValue` for bits beyond it, `NotCanonical` for an amount of token 0."""
    row = FeeRow(**unpack(FEE_LAYOUT, word))
    fee_row_word(row)
    return row


# --- pages


def header_words(page: Page) -> list[int]:
    """Return H0 to H3; `InvalidValue` for a value out of range."""
    header = page.header
    counts = {"n_requests": len(page.requests), "n_actions": len(page.actions), "n_fees": len(page.fees)}
    packed = {name: getattr(header, name) for name in ("size_id", "number", "timestamp", "fee_account")}
    return [
        check_range("domain", header.domain, DOMAIN_BITS),
        pack(HEADER_LAYOUT, packed | counts),
        check_element("old_root", header.old_root),
        check_element("new_root", header.new_root),
    ]


def check_page(page: Page, size: Size | None = None) -> None:
    """Check the form of a page: ranges, kinds, unnamed fields and, with a size, counts.

    Raises
    ------
    InvalidValue, NotCanonical, TooManyRows
        Where one of them is wrong.
    """
    _check_count("actions", len(page.actions), MAX_ACTIONS)
    if size is not None:
        _check_count("requests", len(page.requests), size.requests)
        _check_count("actions", len(page.actions), size.actions)
        _check_count("fees", len(page.fees), size.fees)
    header_words(page)
    for request in page.requests:
        request_row_words(request)
    for action in page.actions:
        action_row_words(action)
    for fee in page.fees:
        fee_row_word(fee)


def _check_count(kind: str, rows: int, limit: int) -> None:
    if rows > limit:
        raise TooManyRows(kind, rows, limit)


def _padded(words: list[int], length: int) -> list[int]:
    return words + [0] * (length - len(words))


def page_words(page: Page, size: Size) -> list[int]:
    """Return D: all words of a batch of this size, absent rows being zeros in their places.

    Returns
    -------
    list of int
        `size.words` field elements.

    Raises
    ------
    InvalidValue, NotCanonical, TooManyRows
        As `check_page`.
    """
    check_page(page, size)
    requests = [word for row in page.requests for word in request_row_words(row)]
    actions = [word for row in page.actions for word in action_row_words(row)]
    fees = [fee_row_word(row) for row in page.fees]
    return [
        *header_words(page),
        *_padded(requests, 4 * size.requests),
        *_padded(actions, 2 * size.actions),
        *_padded(fees, size.fees),
    ]


def page_from_words(words: Sequence[int], size: Size) -> Page:
    """Return the page of a full list of words; the inverse of `page_words`.

    Raises
    ------
    InvalidValue
        For a word at or above the field's modulus, or beyond its packing.
    NotCanonical
        For a wrong number of words, a row beyond the count that is not zero, a request or action within it that is, a
        field that its kind does not name.
    TooManyRows
        For a count beyond the size.
    """
    if len(words) != size.words:
        _refuse("words", f"{len(words)} words, not {size.words}")
    for word in words:
        check_element("word", word)
    stream = iter(words)
    domain, packed, old_root, new_root = islice(stream, HEADER_WORDS)
    head = unpack(HEADER_LAYOUT, packed)
    counts = [head.pop(name) for name in ("n_requests", "n_actions", "n_fees")]
    page = Page(
        Header(domain=check_range("domain", domain, DOMAIN_BITS), old_root=old_root, new_root=new_root, **head),
        tuple(request_row_from_words(w) for w in _present(stream, "requests", counts[0], size.requests, 4)),
        tuple(action_row_from_words(w) for w in _present(stream, "actions", counts[1], size.actions, 2)),
        tuple(fee_row_from_word(w[0]) for w in _present(stream, "fees", counts[2], size.fees, 1)),
    )
    check_page(page, size)
    return page


def _present(stream: Iterator[int], kind: str, count: int, limit: int, width: int) -> list[list[int]]:
    """Take `limit` rows off the stream and return the first `count`; the others must be zero."""
    _check_count(kind, count, limit)
    rows = [list(islice(stream, width)) for _ in range(limit)]
    if any(any(row) for row in rows[count:]):
        _refuse(kind, "a row beyond the count is not zero")
    return rows[:count]


# --- calldata


def actions_calldata(rows: Sequence[ActionRow]) -> bytes:
    """Return the action rows as calldata, 40 bytes a row; errors as `action_row_words`."""
    _check_count("actions", len(rows), MAX_ACTIONS)
    pairs = (action_row_words(row) for row in rows)
    return b"".join(a0.to_bytes(_HEAD_BYTES, "big") + a1.to_bytes(_FILL_BYTES, "big") for a0, a1 in pairs)


def actions_from_calldata(data: bytes) -> tuple[ActionRow, ...]:
    """Return the action rows of calldata.

    Raises
    ------
    NotCanonical, InvalidValue, TooManyRows
        For a broken row, bits beyond the packing, more than `MAX_ACTIONS` rows.
    """

    def read(chunk: bytes) -> ActionRow:
        parts = chunk[:_HEAD_BYTES], chunk[_HEAD_BYTES:]
        return action_row_from_words([int.from_bytes(part, "big") for part in parts])

    return _from_calldata("actions", data, ACTION_CALLDATA_BYTES, MAX_ACTIONS, read)


def fees_calldata(rows: Sequence[FeeRow]) -> bytes:
    """Return the fee rows as calldata, 10 bytes a row; errors as `fee_row_word`."""
    return b"".join(fee_row_word(row).to_bytes(FEE_CALLDATA_BYTES, "big") for row in rows)


def fees_from_calldata(data: bytes) -> tuple[FeeRow, ...]:
    """Return the fee rows of calldata; `NotCanonical` for a broken row, `TooManyRows` beyond 16 bits of count."""

    def read(chunk: bytes) -> FeeRow:
        return fee_row_from_word(int.from_bytes(chunk, "big"))

    return _from_calldata("fees", data, FEE_CALLDATA_BYTES, MAX_ROWS, read)


def _from_calldata(kind: str, data: bytes, width: int, limit: int, read: Callable[[bytes], _Row]) -> tuple[_Row, ...]:
    rows, rest = divmod(len(data), width)
    if rest:
        _refuse(kind, f"{len(data)} bytes of calldata are no multiple of {width}")
    _check_count(kind, rows, limit)
    return tuple(read(data[i : i + width]) for i in range(0, len(data), width))
