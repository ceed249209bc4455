import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofbook.operator.book import Order
from proofbook.operator.codes import Code, InvariantError, Refused
from proofbook.operator.markets import Market
from proofbook.operator.matching import get_fee
from proofbook.operator.risk import Balance, Ledger, get_reserve
from proofbook.protocol.table import MAX_AMOUNT, POSITIONS, Side

MARKET = Market("A/B", 1, 2, 10, 5, 30, 10**6, 10**6)


def _refusal(call, *args):
    with pytest.raises(Refused) as caught:
        call(*args)
    return caught.value.code


def test_a_buy_reserves_its_limit_and_the_higher_fee():
    ledger = Ledger()
    order = Order(7, 1, Side.BUY, price=333, lots=4)
    ledger.credit(7, 2, 1332 + 2)
    assert _refusal(ledger.reserve, order, MARKET) == Code.INSUFFICIENT_BALANCE
    ledger.credit(7, 2, 1)
    ledger.reserve(order, MARKET)
    assert ledger.get(7, 2) == Balance(0, 1332 + 3)
    order.remaining = 3
    ledger.settle(order, MARKET, 300, 10)
    assert ledger.get(7, 2) == Balance(1335 - 300 - 999 - 2, 999 + 2)
    assert ledger.get(7, 1) == Balance(10, 0)
    ledger.release(order)
    assert ledger.get(7, 2) == Balance(1035, 0)


def test_a_sell_reserves_its_base():
    ledger = Ledger()
    order = Order(7, 1, Side.SELL, price=333, lots=4)
    ledger.credit(7, 1, 39)
    assert _refusal(ledger.reserve, order, MARKET) == Code.INSUFFICIENT_BALANCE
    ledger.credit(7, 1, 1)
    ledger.reserve(order, MARKET)
    assert ledger.get(7, 1) == Balance(0, 40)
    assert _refusal(ledger.debit, 7, 1, 1) == Code.INSUFFICIENT_BALANCE
    ledger.release(order)
    ledger.debit(7, 1, 40)
    assert ledger.dump() == []


@given(
    bps=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)),
    price=st.integers(1, 10**6),
    parts=st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 10**6), st.booleans()), min_size=1, max_size=8),
)
def test_a_reserve_covers_any_splitting(bps, price, parts):
    market = Market("A/B", 1, 2, 10, bps[0], bps[1], 10**6, 10**6)
    order = Order(7, 1, Side.BUY, price, lots=sum(lots for lots, _, _ in parts))
    ledger, cost = Ledger(), get_reserve(market, order)
    ledger.credit(7, 2, cost)
    ledger.reserve(order, market)
    spent = 0
    for lots, better, takes in parts:
        quote = lots * max(0, price - better)
        quote += get_fee(quote, bps[takes])
        order.remaining -= lots
        ledger.settle(order, market, quote, lots * 10)
        spent += quote
    ledger.release(order)
    assert ledger.get(7, 2) == Balance(cost - spent, 0)


def test_money_never_goes_below_zero_or_beyond_64_bits():
    ledger = Ledger()
    ledger.credit(7, 1, MAX_AMOUNT)
    with pytest.raises(InvariantError):
        ledger.credit(7, 1, 1)
    order = Order(8, 1, Side.SELL, price=1, lots=1)
    ledger.credit(8, 1, 10)
    ledger.reserve(order, MARKET)
    with pytest.raises(InvariantError):
        ledger.settle(order, MARKET, 1, 1)


def test_places_count_holdings_orders_and_deposits():
    ledger = Ledger()
    for token in range(100, 100 + POSITIONS - 1):
        ledger.credit(7, token, 1)
    ledger.credit(7, 2, 10**6)  # the last place
    order = Order(7, 1, Side.BUY, price=1, lots=1)
    assert _refusal(ledger.reserve, order, MARKET) == Code.POSITIONS_FULL
    ledger.debit(7, 100, 1)
    ledger.expect_deposit(7, 50)
    assert _refusal(ledger.reserve, order, MARKET) == Code.POSITIONS_FULL
    ledger.unexpect_deposit(7, 50)
    ledger.reserve(order, MARKET)
    assert not ledger.has_place(7, 51)
    assert ledger.has_place(7, 101)
    ledger.release(order)
    assert ledger.has_place(7, 51)
    assert not ledger.is_bounced(7, 51)
    ledger.credit(7, 51, 1)
    assert ledger.is_bounced(7, 52)
    assert not ledger.is_bounced(7, 51)


def test_a_token_that_only_a_deposit_brings_gives_no_place_to_orders():
    ledger = Ledger()
    for token in range(100, 100 + POSITIONS):
        ledger.credit(7, token, 10**6)
    ledger.expect_deposit(7, 1)
    assert ledger.is_crowded(7)
    market = Market("A/B", 1, 100, 10, 5, 30, 10**6, 10**6)
    assert _refusal(ledger.reserve, Order(7, 1, Side.BUY, price=1, lots=1), market) == Code.POSITIONS_FULL
