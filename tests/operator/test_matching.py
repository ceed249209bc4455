"""Orders meet: one behaviour a test, read off the events."""

import pytest

from proofbook.operator import events as e
from proofbook.protocol.table import Flag, Side

CASH, COIN = 2, 1


def _kinds(events, *kinds):
    return [v for v in events if isinstance(v, kinds)]


def _trades(events):
    return [(v.maker_account, v.price, v.lots) for v in events if isinstance(v, e.Trade)]


def _removed(events):
    return [(v.account, v.lots, v.reason) for v in events if isinstance(v, e.OrderRemoved)]


def test_trades_are_at_the_makers_price_best_and_oldest_first(exchange):
    exchange.sell(1, 101, 2)
    exchange.sell(2, 100, 2)
    exchange.sell(3, 100, 2)
    events = exchange.buy(4, 101, 5)
    assert _trades(events) == [(2, 100, 2), (3, 100, 2), (1, 101, 1)]
    assert _removed(events) == [(2, 0, "filled"), (3, 0, "filled"), (4, 0, "filled")]
    assert [(v.maker_left, v.taker_left) for v in _kinds(events, e.Trade)] == [(0, 3), (0, 1), (1, 0)]


def test_fees_are_rounded_down_fill_by_fill_and_go_to_account_0(exchange):
    exchange.sell(1, 333, 3)
    (trade,) = _kinds(exchange.buy(2, 400, 3), e.Trade)
    assert (trade.quote_amount, trade.maker_fee, trade.taker_fee) == (999, 0, 2)  # 5 and 25 bps
    assert exchange.engine.get_balance(0, CASH).total == 2
    assert exchange.engine.get_balance(1, CASH).total == 10**6 + 999
    assert exchange.engine.get_balance(2, CASH).total == 10**6 - 999 - 2
    assert exchange.engine.get_balance(2, COIN).total == 10**6 + 30


def test_a_resting_order_keeps_what_it_needs_reserved(exchange):
    exchange.buy(1, 100, 10)
    assert exchange.engine.get_balance(1, CASH).reserved == 1000 + 2
    exchange.sell(2, 90, 4)
    assert exchange.engine.get_balance(1, CASH).reserved == 600 + 1
    (order, _), *_ = exchange.engine.get_orders(1)
    assert order.remaining == 6
    exchange.cancel(1, order.id)
    assert exchange.engine.get_balance(1, CASH).reserved == 0


def test_ioc_drops_its_rest(exchange):
    exchange.sell(1, 100, 2)
    events = exchange.buy(2, 100, 5, Flag.IOC)
    assert _trades(events) == [(1, 100, 2)]
    assert _removed(events)[-1] == (2, 3, "immediate")
    assert exchange.engine.get_orders(2) == []
    assert exchange.engine.get_balance(2, CASH).reserved == 0


def test_market_order_stops_at_its_protection_price(exchange):
    exchange.sell(1, 100, 2)
    exchange.sell(1, 120, 2)
    events = exchange.buy(2, 110, 5, Flag.MARKET)
    assert _trades(events) == [(1, 100, 2)]
    assert _removed(events)[-1] == (2, 3, "immediate")


def test_fok_is_all_or_nothing(exchange):
    exchange.sell(1, 100, 2)
    exchange.sell(3, 101, 2)
    before = exchange.engine.trading.books["COIN/CASH"].state_hash()
    assert exchange.codes(exchange.buy(2, 101, 5, Flag.FOK)) == ["not_fillable"]
    assert exchange.codes(exchange.buy(2, 100, 3, Flag.FOK)) == ["not_fillable"]
    assert exchange.engine.trading.books["COIN/CASH"].state_hash() == before
    assert exchange.engine.get_balance(2, CASH).reserved == 0
    assert _trades(exchange.buy(2, 101, 4, Flag.FOK)) == [(1, 100, 2), (3, 101, 2)]


def test_fok_does_not_count_its_own_accounts_orders(exchange):
    exchange.sell(2, 99, 2)
    exchange.sell(1, 100, 2)
    assert exchange.codes(exchange.buy(2, 100, 3, Flag.FOK)) == ["not_fillable"]
    assert len(exchange.engine.get_orders(2)) == 1
    events = exchange.buy(2, 100, 2, Flag.FOK)
    assert _trades(events) == [(1, 100, 2)]
    assert _removed(events)[0] == (2, 2, "self_trade")


def test_fok_wider_than_a_batch_is_refused(exchange):
    for _ in range(8):
        exchange.sell(1, 100, 1)
    assert exchange.codes(exchange.buy(2, 100, 8, Flag.FOK)) == ["too_wide"]
    assert len(_trades(exchange.buy(2, 100, 7, Flag.FOK))) == 7


def test_fok_over_more_accounts_than_a_batch_is_refused(make_exchange):
    world = make_exchange(accounts=9)
    world.fund(range(1, 9))
    for account in range(1, 8):
        world.sell(account, 100, 1)
    assert world.codes(world.buy(8, 100, 7, Flag.FOK)) == ["too_wide"]
    assert len(_trades(world.buy(8, 100, 6, Flag.FOK))) == 6
    world.settle_all()


def test_post_only_never_takes(exchange):
    exchange.sell(1, 100, 2)
    assert exchange.codes(exchange.buy(2, 100, 1, Flag.POST_ONLY)) == ["would_cross"]
    assert exchange.codes(exchange.buy(1, 100, 1, Flag.POST_ONLY)) == ["would_cross"]
    assert exchange.codes(exchange.buy(2, 99, 1, Flag.POST_ONLY)) == []
    assert _trades(exchange.sell(1, 99, 1)) == [(2, 99, 1)]


def test_self_trade_cancels_the_resting_order_and_goes_on(exchange):
    exchange.sell(2, 99, 2)
    exchange.sell(1, 100, 2)
    events = exchange.buy(2, 100, 3)
    assert _removed(events)[0] == (2, 2, "self_trade")
    assert _trades(events) == [(1, 100, 2)]
    assert [o.remaining for o, _ in exchange.engine.get_orders(2)] == [1]


def test_an_order_refused_by_the_book_has_used_its_id(exchange):
    exchange.sell(1, 100, 1)
    assert exchange.codes(exchange.buy(2, 100, 1, Flag.POST_ONLY, id=5)) == ["would_cross"]
    assert exchange.codes(exchange.buy(2, 90, 1, Flag.POST_ONLY, id=5)) == ["replayed"]


@pytest.mark.parametrize(("flags", "fee_bps", "code"), [
    (0, 24, ["fee_cap"]),
    (0, 25, []),
    (Flag.POST_ONLY, 4, ["fee_cap"]),
    (Flag.POST_ONLY, 5, []),
    (Flag.IOC, 24, ["fee_cap"]),
    (Flag.IOC, 25, []),
])  # fmt: skip
def test_an_order_must_allow_the_fees_of_the_roles_it_may_have(exchange, flags, fee_bps, code):
    assert exchange.codes(exchange.buy(1, 100, 1, flags, fee_bps=fee_bps)) == code


def test_m12_no_fee_in_a_token_that_the_fee_account_has_no_place_for(exchange):
    exchange.fund((0,), range(10, 25), amount=1)
    exchange.sell(1, 1000, 10)
    (trade,) = _kinds(exchange.buy(2, 1000, 10), e.Trade)
    assert (trade.maker_fee, trade.taker_fee) == (0, 0)
    exchange.withdraw(0, 10, 1)
    exchange.sell(1, 1000, 10)
    (trade,) = _kinds(exchange.buy(2, 1000, 10), e.Trade)
    assert (trade.maker_fee, trade.taker_fee) == (5, 25)
    exchange.settle_all()


def test_m12_a_place_kept_for_an_order_of_the_fee_account_is_not_taken_by_fees(exchange):
    exchange.fund((0,), (COIN, *range(10, 23)), amount=1000)
    assert exchange.codes(exchange.order(0, Side.SELL, 5, 1, symbol="COIN/CASH")) == []
    exchange.fund((0,), (40,), amount=1)  # fills the last place, so the order has to go
    assert exchange.engine.get_orders(0) == []
    exchange.sell(1, 1000, 10)
    (trade,) = _kinds(exchange.buy(2, 1000, 10), e.Trade)
    assert trade.taker_fee == 0
    exchange.settle_all()
