"""What a trader's side makes of words: keys, exact numbers, ids, signed actions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from proofbook.client.amounts import (
    format_amount,
    format_decimal,
    format_price,
    parse_amount,
    parse_decimal,
    parse_price,
    parse_size,
)
from proofbook.client.errors import (
    ApiError,
    ApiMalformed,
    BadNumber,
    BadOrder,
    ClientError,
    KeyNotDeterministic,
    NoFreeSlot,
    NotMultiple,
    UnknownName,
)
from proofbook.client.keys import Trader, derive_key, key_message
from proofbook.client.models import ExchangeInfo, Market, Token
from proofbook.client.orders import Desk, Ids, Terms, TimeInForce, to_body
from proofbook.operator.api_models import CancelIn, OrderIn, TransferIn, WithdrawIn
from proofbook.operator.api_parse import parse_cancel, parse_order, parse_transfer, parse_withdraw
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.messages import domain_of, verify_action
from proofbook.protocol.table import MAX_AMOUNT, Flag, Side

CONTRACT = "0x" + "ab" * 20
# The L1 key of nobody: made up for these tests.
L1 = Account.from_key(f"0x{0xB0B:064x}")
ETH = Token(1, "ETH", 10**9, 18)
COIN = Token(2, "COIN", 10**12, 18)
CENT = Token(3, "CENT", 1, 2)
MARKET = Market("COIN/ETH", 2, 1, 1000, 10, 25, 10**9, 10**9)
NOW = 1_700_000_000


def make_info(**changes):
    values: dict[str, Any] = {
        "chain_id": 31337,
        "contract": CONTRACT,
        "domain": domain_of(31337, CONTRACT),
        "preset": "minimal",
        "time": NOW,
        "fee_account": 0,
        "margin_seconds": 60,
        "slots": 16,
        "batches": 0,
        "tokens": [ETH, COIN, CENT],
        "markets": [MARKET],
    }
    return ExchangeInfo(**(values | changes))


@pytest.fixture(scope="module")
def trader():
    return Trader.from_l1(L1, 31337, CONTRACT)


@pytest.fixture(scope="module")
def desk(trader):
    return Desk(trader, make_info(), 5)


# --- keys


def test_the_l1_key_alone_recovers_the_trading_key(trader):
    again = Trader.from_l1(Account.from_key(f"0x{0xB0B:064x}"), 31337, CONTRACT.upper().replace("0X", "0x"))
    assert again == trader and len(trader.private) == 32
    assert trader.private.hex() not in repr(trader)


def test_the_trading_key_is_bound_to_key_chain_and_contract(trader):
    others = [
        Trader.from_l1(Account.from_key(f"0x{0xB0C:064x}"), 31337, CONTRACT),
        Trader.from_l1(L1, 31337, CONTRACT, 1),
        Trader.from_l1(L1, 31337, CONTRACT, 2**32 - 1),
        Trader.from_l1(L1, 1, CONTRACT),
        Trader.from_l1(L1, 31337, "0x" + "ac" * 20),
    ]
    assert len({t.private for t in (*others, trader)}) == 6
    for number in (-1, 2**32):
        with pytest.raises(InvalidValue):
            Trader.from_l1(L1, 31337, CONTRACT, number)


def test_one_signature_has_one_key_however_a_wallet_writes_it(trader):
    def sign(message):
        return bytes(L1.sign_message(message).signature)

    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

    def low_v(message):
        signed = sign(message)
        return signed[:64] + bytes([signed[64] - 27])

    def high_s(message):
        signed = sign(message)
        s = order - int.from_bytes(signed[32:64], "big")
        return signed[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - signed[64]])

    assert {derive_key(way, 31337, CONTRACT) for way in (sign, low_v, high_s)} == {trader.private}


def test_a_wallet_that_signs_at_random_is_refused():
    calls = iter((b"\1" * 65, b"\2" * 65, b"short"))
    with pytest.raises(KeyNotDeterministic) as caught:
        derive_key(lambda message: next(calls), 31337, CONTRACT)
    assert caught.value.code == "key_not_deterministic" and caught.value.hint
    with pytest.raises(KeyNotDeterministic):
        derive_key(lambda message: next(calls), 31337, CONTRACT)


def test_the_key_message_is_no_other_kind_of_message():
    message = key_message(31337, CONTRACT)
    assert message.version == b"\x01" and message != key_message(31338, CONTRACT)
    plain = encode_typed_data(
        {"name": "Proofbook", "version": "1", "chainId": 31337, "verifyingContract": CONTRACT},
        {"Other": [{"name": "statement", "type": "string"}]},
        {"statement": "x"},
    )
    assert plain.header == message.header and plain.body != message.body
    with pytest.raises(InvalidValue):
        key_message(1, "0x12")


# --- numbers


@pytest.mark.parametrize(
    "text", ["", "0", "0.0", "-1", "+1", "1e3", "1_000", " 1", "1 ", "1.", ".5", "0x10", "١", "1,5", "nan", "9" * 41]
)
def test_only_plain_positive_decimals_are_numbers(text):
    with pytest.raises(BadNumber):
        parse_decimal("amount", text)


@given(st.integers(0, 10**30), st.integers(0, 30))
def test_decimals_survive(digits, places):
    value = Fraction(digits, 10**places)
    text = format_decimal(value)
    assert Fraction(text) == value and "e" not in text
    if value:
        assert parse_decimal("x", text) == value


def test_a_decimal_without_end_is_cut():
    assert format_decimal(Fraction(1, 3)) == "0." + "3" * 18


@given(st.integers(1, MAX_AMOUNT), st.sampled_from([ETH, COIN, CENT]))
def test_amounts_survive(quanta, token):
    assert parse_amount(format_amount(quanta, token), token) == quanta


def test_amounts_are_exact():
    assert parse_amount("1.000000001", ETH) == 10**9 + 1
    assert parse_amount("0.01", CENT) == 1
    with pytest.raises(NotMultiple) as caught:
        parse_amount("1.0000000001", ETH)
    assert caught.value.hint == "the nearest are 1 and 1.000000001"
    with pytest.raises(NotMultiple) as caught:
        parse_amount("0.001", CENT)
    assert caught.value.hint == "the nearest are 0.01"
    with pytest.raises(BadNumber, match="too much"):
        parse_amount("18446744073.709551616", ETH)


def test_sizes_and_prices_stand_on_the_market_grid():
    # a lot is 1000 quanta of 10^-6 COIN: 0.001 COIN; a tick is one gwei a lot: 0.000001 ETH for a COIN
    assert parse_size("2.5", MARKET, COIN) == 2500
    assert parse_price("0.0125", MARKET, COIN, ETH) == 12_500
    assert format_price(12_500, MARKET, COIN, ETH) == "0.0125"
    with pytest.raises(NotMultiple, match="the lot, 0.001 COIN"):
        parse_size("0.0015", MARKET, COIN)
    with pytest.raises(NotMultiple, match="the price step, 0.000001 ETH"):
        parse_price("0.0000015", MARKET, COIN, ETH)
    with pytest.raises(BadNumber):
        parse_size("1000001", MARKET, COIN)
    with pytest.raises(BadNumber):
        parse_price("1001", MARKET, COIN, ETH)


# --- names


def test_tokens_and_markets_are_found_by_name():
    info = make_info()
    assert info.token("coin") is info.token("#2") is info.token(2) is info.token("2") is COIN
    assert info.market("coin-eth") is info.market("COIN/ETH") is MARKET
    for wrong in ("EUR", "#9", "", "99999999999"):
        with pytest.raises(UnknownName, match="no token"):
            info.token(wrong)
    with pytest.raises(UnknownName) as caught:
        info.market("ETH/COIN")
    assert "COIN/ETH" in caught.value.hint


def test_a_namesake_is_never_taken_for_a_token():
    info = make_info(tokens=[ETH, COIN, Token(7, "coin", 1), Token(8, "ETH", 1)])
    with pytest.raises(UnknownName, match="several") as caught:
        info.token("COIN")
    assert "#2" in caught.value.hint and "#7" in caught.value.hint
    assert info.token("eth") is ETH


def test_an_operator_of_another_exchange_is_not_signed_for(trader):
    with pytest.raises(ApiMalformed, match="domain"):
        make_info(domain=1).check()
    with pytest.raises(ApiMalformed):
        make_info(contract="0x12").check()
    with pytest.raises(ApiMalformed):
        make_info(tokens=[Token(1, "ETH", 0)]).check()
    other = make_info(chain_id=1, domain=domain_of(1, CONTRACT))
    other.check()
    with pytest.raises(BadOrder, match="another exchange"):
        Desk(trader, other, 5)


# --- ids


def test_ids_rise_and_leave_out_held_slots():
    ids = Ids(next_id=14, slots=4, live=(13, 10))  # slots 1 and 2 are held
    assert [ids.take(), ids.take()] == [15, 16]
    with pytest.raises(NoFreeSlot):
        ids.take()
    ids.release(10)
    assert ids.take() == 18
    ids.release(999)
    with pytest.raises(NoFreeSlot) as caught:
        ids.take()
    assert caught.value.hint


@given(st.integers(0, 2**40), st.integers(1, 16), st.lists(st.integers(0, 2**40), max_size=8), st.data())
def test_ids_are_always_larger_and_free(next_id, slots, live, data):
    ids = Ids(next_id, slots, live)
    held = {id_ % slots: id_ for id_ in live}
    last = next_id - 1
    for stays in data.draw(st.lists(st.booleans(), max_size=20)):
        if len(held) == slots:
            with pytest.raises(NoFreeSlot):
                ids.take(stays)
            break
        id_ = ids.take(stays)
        assert id_ > last and id_ >= 1 and id_ % slots not in held
        last = id_
        if stays:
            held[id_ % slots] = id_


def test_ids_end():
    with pytest.raises(NoFreeSlot):
        Ids(2**64, 4).take()


# --- actions


def test_orders_say_what_was_written(desk, trader):
    signed = desk.order(7, "coin-eth", Side.SELL, "2.5", "0.0125")
    action = signed.action
    assert (action.base, action.quote, action.side) == (2, 1, Side.SELL)
    assert (action.base_amount, action.quote_amount) == (2_500_000, 2500 * 12_500)
    assert (action.account, action.id, action.max_fee_bps, action.flags) == (5, 7, 25, 0)
    assert action.valid_until == NOW + 60 + 24 * 3600
    assert verify_action(trader.public, signed)


@pytest.mark.parametrize(
    ("terms", "flags", "fee"),
    [
        (Terms(), 0, 25),
        (Terms(tif=TimeInForce.IOC), Flag.IOC, 25),
        (Terms(tif=TimeInForce.FOK), Flag.FOK, 25),
        (Terms(post_only=True), Flag.POST_ONLY, 10),
        (Terms(market=True), Flag.MARKET, 25),
        (Terms(market=True, tif=TimeInForce.FOK, max_fee_bps=30), Flag.MARKET | Flag.FOK, 30),
    ],
)
def test_terms_become_flags_and_a_fee_cap(desk, terms, flags, fee):
    action = desk.order(1, "COIN/ETH", Side.BUY, "1", "1", terms).action
    assert (action.flags, action.max_fee_bps) == (flags, fee)


def test_a_high_fee_is_signed_only_by_name(trader):
    greedy = Market("COIN/ETH", 2, 1, 1000, 10, 10_000, 10**9, 10**9)
    desk = Desk(trader, make_info(markets=[greedy]), 5)
    with pytest.raises(BadOrder, match="fee"):
        desk.order(1, "COIN/ETH", Side.BUY, "1", "1")
    allowed = desk.order(1, "COIN/ETH", Side.BUY, "1", "1", Terms(max_fee_bps=10_000)).action
    posted = desk.order(1, "COIN/ETH", Side.BUY, "1", "1", Terms(post_only=True)).action
    assert (allowed.max_fee_bps, posted.max_fee_bps) == (10_000, 10)


def test_an_operator_cannot_ask_for_signatures_that_stay_valid_for_long():
    with pytest.raises(ApiMalformed):
        make_info(margin_seconds=2**31 - 1).check()
    make_info(margin_seconds=30 * 86_400).check()


@pytest.mark.parametrize(
    "told",
    [
        [ETH, Token(2, "COIN", 10**11, 18)],  # another quantum: amounts are ten times what was written
        [ETH, Token(2, "COIN", 10**12, 17)],
        [ETH, Token(3, "COIN", 1, 2)],  # another token's name
        [ETH, COIN, Token(4, "NEW", 1, 2)],
        [Token(1, "COIN", 10**9, 18)],
    ],
)
def test_what_an_operator_says_of_tokens_is_held_against_the_chain(told):
    with pytest.raises(ApiMalformed):
        make_info(tokens=told).check_tokens([ETH, COIN, CENT])


def test_a_market_is_of_the_tokens_it_is_named_after():
    for base, quote in ((1, 2), (3, 1), (2, 3)):
        with pytest.raises(ApiMalformed):
            make_info(markets=[Market("COIN/ETH", base, quote, 1000, 10, 25, 1, 1)]).check_tokens([ETH, COIN, CENT])
    make_info(markets=[Market("copper/gas", 2, 1, 1000, 10, 25, 1, 1)]).check_tokens([ETH, COIN, CENT])


def test_tokens_may_have_names_that_are_nobody_elses():
    make_info().check_tokens([ETH, COIN, CENT])
    make_info(tokens=[ETH, Token(3, "PENNY", 1, 2)]).check_tokens([ETH, COIN, CENT])
    # What a token does not say of itself can't be compared.
    make_info(tokens=[Token(3, "CENT", 1, 2)]).check_tokens([ETH, Token(3, "#3", 1, 0)])


def test_what_contradicts_itself_is_not_signed(desk):
    for terms in (Terms(post_only=True, market=True), Terms(post_only=True, tif=TimeInForce.IOC)):
        with pytest.raises(BadOrder):
            desk.order(1, "COIN/ETH", Side.BUY, "1", "1", terms)
    for until in (NOW, NOW + 59, 2**32):
        with pytest.raises(BadOrder) as caught:
            desk.order(1, "COIN/ETH", Side.BUY, "1", "1", Terms(valid_until=until))
        assert str(NOW + 60) in caught.value.hint
    with pytest.raises(InvalidValue):
        desk.order(0, "COIN/ETH", Side.BUY, "1", "1")
    with pytest.raises(InvalidValue):
        desk.order(1, "COIN/ETH", Side.BUY, "1", "1", Terms(max_fee_bps=10_001))


def test_the_api_reads_back_what_was_signed(desk, trader):
    made: list[Any] = [
        (desk.order(2**64 - 1, "COIN/ETH", Side.BUY, "1", "1", Terms(post_only=True)), OrderIn, parse_order),
        (desk.cancel(9), CancelIn, parse_cancel),
        (desk.withdraw(10, "ETH", "1.5"), WithdrawIn, parse_withdraw),
        (desk.transfer(11, "COIN", "0.25", 6, NOW + 100), TransferIn, parse_transfer),
    ]
    for signed, model, parse in made:
        body = msgspec.json.decode(msgspec.json.encode(to_body(signed)), type=model)
        read = parse(body, trader.domain)
        assert read == signed and verify_action(trader.public, read)


def test_errors_have_code_hint_and_one_line():
    error = ApiError("expired", "too late", "choose later", 422, {"id": "7"})
    again = error.__reduce__()
    assert again[0](*again[1]).details == {"id": "7"} and again[0](*again[1]).code == "expired"
    assert str(error) == "too late (choose later)" and "\n" not in str(error)
    assert ClientError("x").data() == {"message": "x", "hint": ""}
