"""Words of a batch: one page, one list of words, and nothing else is read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofbook.protocol import errors
from proofbook.protocol.field import R
from proofbook.protocol.table import (
    ACTION_LAYOUT,
    FEE_LAYOUT,
    FILL_LAYOUT,
    HEADER_LAYOUT,
    MAX_ACTIONS,
    MESSAGE1_LAYOUT,
    MESSAGE2_LAYOUT,
    REQUEST_LAYOUT,
    ActionType,
    Layout,
    RequestKind,
    Size,
)
from proofbook.protocol.words import (
    ActionRow,
    FeeRow,
    Header,
    Page,
    Request,
    RequestRow,
    actions_calldata,
    actions_from_calldata,
    fees_calldata,
    fees_from_calldata,
    layout_bits,
    pack,
    page_from_words,
    page_words,
    unpack,
)

SIZE = Size(4, 5, 6, 3)
LAYOUTS = [
    HEADER_LAYOUT,
    REQUEST_LAYOUT,
    ACTION_LAYOUT,
    FILL_LAYOUT,
    FEE_LAYOUT,
    MESSAGE1_LAYOUT,
    MESSAGE2_LAYOUT,
]

elements = st.integers(0, R - 1)


def bits(width: int, least: int = 0) -> st.SearchStrategy[int]:
    return st.integers(least, 2**width - 1)


def requests() -> st.SearchStrategy[RequestRow]:
    account, token, amount, owner = bits(24), bits(16), bits(64), bits(160)
    kinds = [
        st.builds(Request, st.just(RequestKind.OPEN), account, owner=owner, pub_x=elements, pub_y=elements),
        st.builds(Request, st.just(RequestKind.DEPOSIT), account, token, amount),
        st.builds(Request, st.just(RequestKind.KEY), account, pub_x=elements, pub_y=elements),
        st.builds(Request, st.just(RequestKind.EXIT), account, token),
    ]
    outcomes = [st.just(0), st.integers(0, 1), st.just(0), amount]
    return st.one_of([st.builds(RequestRow, kind, outcome) for kind, outcome in zip(kinds, outcomes, strict=True)])


def actions() -> st.SearchStrategy[ActionRow]:
    account, id, token, amount = bits(24), bits(64), bits(16, 1), bits(64)
    orders = st.builds(
        ActionRow, st.just(ActionType.ORDER), account, id, token, token, bits(1), amount, amount, amount
    ).filter(lambda row: row.base != row.quote)
    return st.one_of(
        orders,
        st.builds(ActionRow, st.just(ActionType.WITHDRAW), account, id, token, ex_base=amount),
        st.builds(ActionRow, st.just(ActionType.TRANSFER), account, id, token, ex_base=amount, aux=account),
        st.builds(ActionRow, st.just(ActionType.CANCEL), account, id),
    )


fees = st.builds(FeeRow, bits(16, 1), bits(64))
headers = st.builds(Header, bits(248), bits(16), bits(64), bits(32), bits(24), elements, elements)


def up_to(rows: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(rows, max_size=most).map(tuple)


pages = st.builds(
    Page, headers, up_to(requests(), SIZE.requests), up_to(actions(), SIZE.actions), up_to(fees, SIZE.fees)
)


@given(st.data(), st.sampled_from(LAYOUTS))
def test_pack_and_unpack_are_inverse(data: st.DataObject, layout: Layout) -> None:
    values = {name: data.draw(bits(width), name) for name, width in layout}
    word = pack(layout, values)
    assert word < 1 << layout_bits(layout) <= 1 << 248
    assert unpack(layout, word) == values


@given(st.data(), st.sampled_from(LAYOUTS))
def test_every_word_of_the_width_is_some_values(data: st.DataObject, layout: Layout) -> None:
    word = data.draw(bits(layout_bits(layout)))
    assert pack(layout, unpack(layout, word)) == word


def test_pack_puts_the_first_field_lowest() -> None:
    values = {"type": 1, "side": 1, "account": 3, "id": 4, "base": 5, "quote": 6}
    expected = 1 + (1 << 4) + (3 << 5) + (4 << 29) + (5 << 93) + (6 << 109)
    assert pack(ACTION_LAYOUT, values) == expected
    assert layout_bits(ACTION_LAYOUT) == 125


@pytest.mark.parametrize("value", [-1, 1 << 16, True, 1.0, None, "1"])
def test_pack_refuses_what_does_not_fit(value: Any) -> None:
    with pytest.raises(errors.InvalidValue) as caught:
        pack(FEE_LAYOUT, {"token": value, "amount": 1})
    assert (caught.value.field, caught.value.value) == ("token", value)


def test_pack_refuses_other_names() -> None:
    for values in ({"token": 1}, {"token": 1, "amount": 1, "more": 0}, {"token": 1, "sum": 1}):
        with pytest.raises(errors.InvalidValue):
            pack(FEE_LAYOUT, values)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unpack_refuses_leftover_bits(layout: Layout) -> None:
    for word in (1 << layout_bits(layout), -1, 1 << 255):
        with pytest.raises(errors.InvalidValue):
            unpack(layout, word)


@given(pages)
def test_pages_and_words_are_inverse(page: Page) -> None:
    words = page_words(page, SIZE)
    assert len(words) == SIZE.words == 4 + 4 * 4 + 2 * 5 + 3
    assert page_from_words(words, SIZE) == page


@given(pages, st.data())
def test_whatever_is_read_is_written_the_same(page: Page, data: st.DataObject) -> None:
    """Change one bit: either it is refused, or it is the one writing of another page."""
    words = page_words(page, SIZE)
    place = data.draw(st.integers(0, SIZE.words - 1))
    words[place] ^= 1 << data.draw(st.integers(0, 255))
    try:
        read = page_from_words(words, SIZE)
    except errors.ProofbookError:
        return
    assert read != page
    assert page_words(read, SIZE) == words


@given(up_to(actions(), 6), up_to(fees, 6))
def test_calldata_and_rows_are_inverse(rows: tuple[ActionRow, ...], fee_rows: tuple[FeeRow, ...]) -> None:
    data, fee_data = actions_calldata(rows), fees_calldata(fee_rows)
    assert (len(data), len(fee_data)) == (40 * len(rows), 10 * len(fee_rows))
    assert actions_from_calldata(data) == rows
    assert fees_from_calldata(fee_data) == fee_rows


def test_calldata_is_big_endian_words() -> None:
    row = ActionRow(ActionType.ORDER, 3, 4, 5, 6, 1, 7, 8, 9)
    a0, a1 = page_words(Page(Header(0, 0, 0, 0, 0, 0, 0), actions=(row,)), Size(1, 1, 1, 1))[8:10]
    assert actions_calldata([row]) == a0.to_bytes(16, "big") + a1.to_bytes(24, "big")
    assert fees_calldata([FeeRow(1, 2)]) == bytes.fromhex("00000000000000020001")


def test_calldata_refusals() -> None:
    good = actions_calldata([ActionRow(ActionType.CANCEL, 3, 4)])
    for data in (good[:-1], good + b"\0", bytes(40)):
        with pytest.raises(errors.NotCanonical):
            actions_from_calldata(data)
    with pytest.raises(errors.InvalidValue):
        actions_from_calldata(bytes([0x20]) + good[1:])
    with pytest.raises(errors.TooManyRows):
        actions_from_calldata(good * (MAX_ACTIONS + 1))
    for data in (b"\1", bytes(7) + b"\1\0\0"):
        with pytest.raises(errors.NotCanonical):
            fees_from_calldata(data)
    with pytest.raises(errors.TooManyRows):
        fees_from_calldata(fees_calldata([FeeRow(1, 1)]) * (1 << 16))


def test_more_rows_than_the_size_has() -> None:
    header = Header(0, 0, 0, 0, 0, 0, 0)
    deposit = RequestRow(Request(RequestKind.DEPOSIT, 1, 1, 1))
    one = Size(1, 1, 1, 1)
    too_much = {
        "requests": Page(header, requests=(deposit,) * 2),
        "actions": Page(header, actions=(ActionRow(ActionType.CANCEL, 1, 1),) * 2),
        "fees": Page(header, fees=(FeeRow(1, 1),) * 2),
    }
    for kind, page in too_much.items():
        with pytest.raises(errors.TooManyRows) as caught:
            page_words(page, one)
        assert (caught.value.kind, caught.value.rows, caught.value.limit) == (kind, 2, 1)
        counted = page_words(page, Size(2, 2, 2, 2))
        with pytest.raises(errors.TooManyRows):
            page_from_words(counted[:4] + [0] * (one.words - 4), one)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (RequestKind.OPEN, "token"),
        (RequestKind.OPEN, "amount"),
        (RequestKind.DEPOSIT, "owner"),
        (RequestKind.DEPOSIT, "pub_x"),
        (RequestKind.KEY, "owner"),
        (RequestKind.KEY, "token"),
        (RequestKind.EXIT, "amount"),
        (RequestKind.EXIT, "pub_y"),
    ],
)
def test_a_request_has_only_the_fields_of_its_kind(kind: RequestKind, field: str) -> None:
    page = Page(Header(0, 0, 0, 0, 0, 0, 0), requests=(RequestRow(Request(kind, 1, **{field: 1})),))
    with pytest.raises(errors.NotCanonical):
        page_words(page, SIZE)


def test_errors_carry_their_data_and_cross_process_borders() -> None:
    import pickle

    error = errors.TooManyRows("fees", rows=2, limit=1)
    assert (error.code, error.data()) == ("too_many_rows", {"kind": "fees", "rows": 2, "limit": 1})
    assert str(error) == "too_many_rows: kind=fees, rows=2, limit=1"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.TooManyRows
    assert again.data() == error.data()


def test_every_error_has_a_code_of_its_own() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    found = {value for value in classes if issubclass(value, errors.ProofbookError)}
    assert len(found) > 30
    assert len({value.code for value in found}) == len(found)
