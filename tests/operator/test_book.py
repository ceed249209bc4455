"""The book in use and the plain one say the same, order by order, and hash the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofbook.operator.book import Book, Depth, Order, SortedBook
from proofbook.operator.book_reference import ReferenceBook
from proofbook.operator.codes import InvariantError
from proofbook.protocol.table import Side

BOOKS = pytest.mark.parametrize("make", [SortedBook, ReferenceBook])


def _order(account: int, side: Side, price: int, lots: int) -> Order:
    return Order(account, 1, side, price, lots)


@BOOKS
def test_best_is_by_price_then_time(make):
    book = make()
    assert book.best(Side.BUY) is None
    first, second, better = (_order(i, Side.BUY, p, 5) for i, p in ((1, 10), (2, 10), (3, 11)))
    for order in (first, second, better):
        book.add(order)
    assert [o.account for o in book.orders(Side.BUY)] == [3, 1, 2]
    sells = [_order(i, Side.SELL, p, 5) for i, p in ((4, 20), (5, 19), (6, 20))]
    for order in sells:
        book.add(order)
    assert [o.account for o in book.orders(Side.SELL)] == [5, 4, 6]
    assert book.depth(Side.BUY, 9) == [Depth(11, 5, 1), Depth(10, 10, 2)]
    assert book.depth(Side.SELL, 1) == [Depth(19, 5, 1)]


@BOOKS
def test_a_fill_keeps_the_place_and_an_empty_order_leaves(make):
    book = make()
    first, second = _order(1, Side.SELL, 10, 5), _order(2, Side.SELL, 10, 5)
    book.add(first)
    book.add(second)
    book.fill(first, 4)
    assert book.best(Side.SELL) is first
    assert first.remaining == 1
    assert book.depth(Side.SELL, 1) == [Depth(10, 6, 2)]
    book.fill(first, 1)
    assert book.best(Side.SELL) is second
    book.remove(second)
    assert book.best(Side.SELL) is None
    assert book.depth(Side.SELL, 1) == []


@BOOKS
def test_broken_uses_stop(make):
    book = make()
    order = _order(1, Side.SELL, 10, 5)
    book.add(order)
    with pytest.raises(InvariantError):
        book.add(order)
    with pytest.raises(InvariantError):
        book.fill(order, 6)


def test_hash_tells_every_difference():
    def hash_of(*orders: Order) -> str:
        book = SortedBook()
        for order in orders:
            book.add(order)
        return book.state_hash()

    hashes = {
        hash_of(),
        hash_of(Order(1, 1, Side.BUY, 10, 5)),
        hash_of(Order(1, 1, Side.SELL, 10, 5)),
        hash_of(Order(2, 1, Side.BUY, 10, 5)),
        hash_of(Order(1, 2, Side.BUY, 10, 5)),
        hash_of(Order(1, 1, Side.BUY, 11, 5)),
        hash_of(Order(1, 1, Side.BUY, 10, 4)),
        hash_of(Order(1, 1, Side.BUY, 10, 5), Order(2, 1, Side.BUY, 10, 5)),
        hash_of(Order(2, 1, Side.BUY, 10, 5), Order(1, 1, Side.BUY, 10, 5)),
    }
    assert len(hashes) == 9


STEPS = st.lists(
    st.tuples(st.sampled_from("aaaafr"), st.booleans(), st.integers(1, 6), st.integers(1, 9), st.integers(0, 99)),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_both_books_agree(steps):
    books: tuple[Book, Book] = (SortedBook(), ReferenceBook())
    live: list[tuple[Order, Order]] = []
    for number, (what, sells, price, lots, pick) in enumerate(steps):
        side = Side.SELL if sells else Side.BUY
        if what == "a":
            pair = (Order(number, 1, side, price, lots), Order(number, 1, side, price, lots))
            live.append(pair)
            for book, order in zip(books, pair, strict=True):
                book.add(order)
        elif live:
            pair = live.pop(pick % len(live))
            for book, order in zip(books, pair, strict=True):
                if what == "r":
                    book.remove(order)
                else:
                    book.fill(order, min(lots, order.remaining))
            if what == "f" and pair[0].remaining:
                live.append(pair)
        assert books[0].state_hash() == books[1].state_hash()
        for side in Side:
            assert books[0].depth(side, 3) == books[1].depth(side, 3)
            best = [book.best(side) for book in books]
            assert (best[0] and best[0].key) == (best[1] and best[1].key)


def _play_both(make_exchange, ops):
    worlds = [make_exchange(accounts=5, make_book=make) for make in (SortedBook, ReferenceBook)]
    for world in worlds:
        world.fund((1, 2, 3, 4), amount=100_000)
        for op in ops:
            world.play(op)
        world.settle_all()
    assert worlds[0].commands == worlds[1].commands
    assert worlds[0].events == worlds[1].events
    assert worlds[0].engine.state_hash() == worlds[1].engine.state_hash()
    return worlds[0]


@pytest.mark.parametrize("seed", range(4))
def test_engines_on_both_books_agree_over_long_flows(make_exchange, seed):
    draw = random.Random(seed)
    ops = [(draw.randrange(100), *(draw.randrange(2**10) for _ in range(4))) for _ in range(800)]
    world = _play_both(make_exchange, ops)
    assert world.engine.trading.trade_seq > 30


@settings(max_examples=25, deadline=None)
@given(ops=st.lists(st.tuples(st.integers(0, 99), *(st.integers(0, 2**10) for _ in range(4))), max_size=60))
def test_engines_on_both_books_agree(make_exchange, ops):
    _play_both(make_exchange, ops)
