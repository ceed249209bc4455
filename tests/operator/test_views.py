"""The read side agrees with the engine, whatever happens."""

from __future__ import annotations

import random
import time

import pytest

from proofbook.operator import commands as c
from proofbook.operator import events as ev
from proofbook.operator import views as views_module
from proofbook.operator.views import MAX_TRADES, OPEN, Views


def follow(exchange):
    """Views that took in everything so far, and do so for all that is to come."""
    views = Views()
    views.process(exchange.events, exchange.engine.now)
    real = exchange.engine.handle

    def handle(command):
        events = real(command)
        views.process(events, exchange.engine.now)
        return events

    exchange.engine.handle = handle
    return views


@pytest.mark.parametrize("seed", range(4))
def test_open_orders_are_the_engines(make_exchange, seed):
    exchange = make_exchange(accounts=5)
    exchange.fund((1, 2, 3, 4))
    views, rng = follow(exchange), random.Random(seed)
    for _ in range(400):
        exchange.play(tuple(rng.randrange(100) for _ in range(5)))
        for account in range(7):
            told = {(o.id, o.remaining) for o in views.get_open_orders(account)}
            assert told == {(order.id, order.remaining) for order, _ in exchange.engine.get_orders(account)}
    for order in views.orders.values():
        lot = exchange.config.markets.by_symbol[order.symbol].lot
        assert order.filled_base + order.remaining * lot == order.lots * lot
        assert (order.status == OPEN) == (order.id in views.open_of[order.account])


def test_a_busted_trade_never_happened(exchange):
    views = follow(exchange)
    exchange.sell(1, 100, 5)
    exchange.buy(2, 100, 3)
    exchange.buy(2, 90, 7)
    assert len(views.get_trades("COIN/CASH", 10)) == 1
    assert views.orders[(1, 1)].filled_base == 30 and views.orders[(1, 1)].status == OPEN
    exchange.do(c.Freeze())
    assert views.frozen and views.get_trades("COIN/CASH", 10) == []
    for key, lots in (((1, 1), 5), ((2, 1), 3), ((2, 2), 7)):
        order = views.orders[key]
        assert (order.status, order.remaining) == ("busted", lots)
        assert order.filled_base == order.filled_quote == order.fee == 0


def test_history_is_bounded(exchange, monkeypatch):
    monkeypatch.setattr(views_module, "MAX_DONE_ORDERS", 3)
    views = follow(exchange)
    for _ in range(6):
        exchange.sell(1, 100, 1)
        exchange.buy(2, 100, 1)
    assert len(views.orders) == 3 and not any(views.open_of.values())
    assert [t.event.number for t in views.get_trades("COIN/CASH", 2)] == [6, 5]


def made(number, symbol):
    return ev.Trade(number, number, symbol, 100, 1, 1, 100, 0, 1, number, 0, 0, 2, number, 0, 0)


def test_a_bust_of_thousands_takes_no_time():
    views, symbols = Views(), ("COIN/CASH", "GEM/CASH", "GEM/COIN")
    views.process((made(number, symbols[number % 3]) for number in range(3 * MAX_TRADES)), 7)
    gone = range(0, 3 * MAX_TRADES, 2)
    began = time.process_time()
    views.process((ev.TradeBusted(number, number) for number in gone), 8)
    assert time.process_time() - began < 1  # looking through every history takes a minute
    for k, symbol in enumerate(symbols):
        left = [number for number in range(k, 3 * MAX_TRADES, 3) if number % 2]
        assert [t.event.number for t in views.get_trades(symbol, MAX_TRADES)] == left[::-1]


def test_a_trade_that_is_forgotten_can_be_busted(monkeypatch):
    monkeypatch.setattr(views_module, "MAX_TRADES", 3)
    views = Views()
    views.process((made(number, "COIN/CASH") for number in range(1, 9)), 7)
    views.process((ev.TradeBusted(number, number) for number in (1, 7, 1)), 8)
    assert [t.event.number for t in views.get_trades("COIN/CASH", 9)] == [8, 6]
    assert views.get_trades("GEM/CASH", 9) == []
