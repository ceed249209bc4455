"""What the engine admits, refuses and takes back."""

from __future__ import annotations

import tracemalloc
import weakref
from dataclasses import replace

import pytest

from proofbook.operator import commands as c
from proofbook.operator import events as e
from proofbook.operator.engine import Engine
from proofbook.operator.memory import without_collector
from proofbook.protocol.messages import cancel, withdraw
from proofbook.protocol.table import RequestKind
from proofbook.protocol.words import Request

COIN, CASH, GEM = 1, 2, 3
NOW, HOUR, MARGIN = 1_700_000_000, 3600, 60


def _removed(events):
    return [(v.account, v.id, v.reason) for v in events if isinstance(v, e.OrderRemoved)]


def _open_ids(exchange, account):
    return [order.id for order, _ in exchange.engine.get_orders(account)]


# --- the stream


def test_events_are_numbered_without_gaps_and_serialise(exchange):
    exchange.sell(1, 100, 1)
    exchange.buy(2, 100, 2)
    assert [v.seq for v in exchange.events] == list(range(1, len(exchange.events) + 1))
    for event in exchange.events:
        assert e.decode_event(e.encode_event(event)) == event


def test_commands_serialise(exchange):
    exchange.sell(1, 100, 1)
    exchange.cancel(1, 1, hard=True)
    exchange.withdraw(1, COIN, 5)
    exchange.transfer(1, COIN, 5, to=2)
    exchange.seal()
    commands = [*exchange.commands, c.BatchDropped(1, 2), c.BatchConfirmed(1), c.RequestUnseen(3), c.Freeze()]
    for command in commands:
        assert c.decode_command(c.encode_command(command)) == command
    for body in (b"", b"[]", b'["Nothing"]', b'["Tick","now"]', b"[" * 5000, c.encode_command(c.Tick(1)) * 2):
        with pytest.raises(c.CommandError):
            c.decode_command(body)


def test_balances_come_last_once_each(exchange):
    exchange.sell(1, 100, 1)
    events = exchange.buy(2, 100, 2)
    kinds = [type(v) for v in events]
    assert kinds.index(e.BalanceChanged) == len(kinds) - kinds.count(e.BalanceChanged)
    changed = [(v.account, v.token) for v in events if isinstance(v, e.BalanceChanged)]
    assert changed == sorted(set(changed))
    for v in events:
        if isinstance(v, e.BalanceChanged):
            balance = exchange.engine.get_balance(v.account, v.token)
            assert (v.available, v.reserved) == (balance.available, balance.reserved)


# --- refusals


def test_a_refused_order_changes_nothing(exchange):
    exchange.sell(1, 100, 1)
    before = exchange.engine.ledger.dump(), exchange.engine.registry.dump()
    assert exchange.codes(exchange.buy(2, 100, 10**6)) == ["insufficient_balance"]
    assert exchange.codes(exchange.buy(9, 100, 1)) == ["unknown_account"]
    assert exchange.codes(exchange.buy(2, 100, 1, until=NOW + MARGIN - 1)) == ["expired"]
    assert (exchange.engine.ledger.dump(), exchange.engine.registry.dump()) == before


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"domain": 5}, "wrong_domain"),
        ({"base": 9}, "unknown_market"),
        ({"base": CASH, "quote": COIN}, "unknown_market"),
        ({"base": CASH}, "malformed"),
        ({"flags": 16}, "malformed"),
        ({"flags": 5}, "malformed"),
        ({"id": 0}, "malformed"),
        ({"id": 2**64}, "malformed"),
        ({"base_amount": 2**64}, "malformed"),
        ({"max_fee_bps": 10_001}, "malformed"),
        ({"account": -1}, "malformed"),
        ({"account": "1"}, "malformed"),
        ({"receiver": 3}, "malformed"),
        ({"base_amount": 11}, "lot_size"),
        ({"quote_amount": 10**6 + 1}, "price_range"),
        ({"type": 2}, "malformed"),
    ],
)
def test_a_broken_order_is_refused_with_its_code(exchange, changes, code):
    assert exchange.codes(exchange.buy(1, 100, 1)) == []
    good = exchange.commands[-1].signed
    good = replace(good, action=replace(good.action, id=2))
    broken = replace(good, action=replace(good.action, **changes))
    assert exchange.codes(exchange.do(c.PlaceOrder(broken))) == [code]
    assert exchange.codes(exchange.do(c.PlaceOrder(good))) == []


def test_an_action_under_another_command_is_refused(exchange):
    domain = exchange.config.domain
    signed = exchange.sign(withdraw(domain=domain, account=1, id=1, token=1, amount=1, valid_until=NOW + HOUR))
    for kind in (c.PlaceOrder, c.Cancel, c.HardCancel, c.Transfer):
        assert exchange.codes(exchange.do(kind(signed))) == ["wrong_type"]
    signed = exchange.sign(cancel(domain=domain, account=1, id=1, valid_until=NOW + HOUR))
    assert exchange.codes(exchange.do(c.Withdraw(signed))) == ["wrong_type"]


def test_ids_rise_within_a_slot_and_live_orders_hold_it(exchange):
    slots = exchange.config.preset.slots
    assert exchange.codes(exchange.buy(1, 90, 1, id=slots + 3)) == []
    assert exchange.codes(exchange.buy(1, 90, 1, id=slots + 3)) == ["replayed"]
    assert exchange.codes(exchange.buy(1, 90, 1, id=3)) == ["stale_id"]
    assert exchange.codes(exchange.buy(1, 90, 1, id=2 * slots + 3)) == ["slot_taken"]
    assert exchange.codes(exchange.withdraw(1, COIN, 1, id=2 * slots + 3)) == ["slot_taken"]
    assert exchange.codes(exchange.cancel(1, 2 * slots + 3, hard=True)) == ["slot_taken"]
    assert exchange.codes(exchange.cancel(1, slots + 3)) == []
    assert exchange.codes(exchange.buy(1, 90, 1, id=slots + 3)) == ["replayed"]
    assert exchange.codes(exchange.withdraw(1, COIN, 1, id=2 * slots + 3)) == []
    assert exchange.codes(exchange.withdraw(1, COIN, 1, id=2 * slots + 3)) == ["replayed"]


def test_soft_cancel_is_immediate_and_makes_no_row(exchange):
    exchange.settle_all()
    exchange.buy(1, 90, 1)
    assert _removed(exchange.cancel(1, 1)) == [(1, 1, "cancelled")]
    assert not exchange.engine.settlement.log
    assert exchange.codes(exchange.cancel(1, 1)) == ["unknown_order"]
    assert exchange.codes(exchange.cancel(1, 1, until=NOW - 1)) == ["expired"]


def test_hard_cancel_makes_a_row_and_closes_the_id_for_ever(exchange):
    exchange.settle_all()
    exchange.buy(1, 90, 2)
    exchange.sell(2, 90, 1)
    assert _removed(exchange.cancel(1, 1, hard=True)) == [(1, 1, "hard_cancelled")]
    assert exchange.codes(exchange.cancel(1, 1, hard=True)) == ["replayed"]
    exchange.settle_all()
    assert exchange.state.account(1).slot(exchange.config.preset, 1) == (1, 2**64 - 1)
    # also for one that is long done, and one never seen
    exchange.sell(2, 120, 1)
    exchange.cancel(2, 2)
    assert exchange.codes(exchange.cancel(2, 2, hard=True)) == []
    assert exchange.codes(exchange.cancel(3, 77, hard=True)) == []
    assert exchange.codes(exchange.sell(3, 120, 1, id=77)) == ["replayed"]
    exchange.settle_all()


def test_withdraw_takes_free_money_only(exchange):
    exchange.buy(1, 100, 9000)
    assert exchange.codes(exchange.withdraw(1, CASH, 10**6)) == ["insufficient_balance"]
    assert exchange.codes(exchange.withdraw(1, CASH, 10**6 - 900_000 - 2250)) == []
    assert exchange.codes(exchange.withdraw(1, CASH, 1)) == ["insufficient_balance"]


def test_transfer_needs_a_receiver_that_holds_the_token(exchange):
    assert exchange.codes(exchange.transfer(1, COIN, 5, to=0)) == ["receiver_lacks_token"]
    assert exchange.codes(exchange.transfer(1, COIN, 5, to=44)) == ["receiver_lacks_token"]
    assert exchange.codes(exchange.transfer(1, COIN, 5, to=2)) == []
    assert exchange.codes(exchange.transfer(1, COIN, 10**6 - 5, to=1)) == []
    exchange.settle_all()


# --- time


def test_orders_leave_the_margin_before_they_expire(exchange):
    exchange.buy(1, 90, 1, until=NOW + MARGIN)
    exchange.buy(1, 90, 1, until=NOW + MARGIN + 1)
    assert _removed(exchange.do(c.Tick(NOW))) == []
    assert _removed(exchange.do(c.Tick(NOW + 1))) == [(1, 1, "expired")]
    assert _open_ids(exchange, 1) == [2]
    assert exchange.do(c.Tick(NOW - 5)) == []
    assert exchange.engine.now == NOW + 1
    assert exchange.codes(exchange.do(c.Tick(2**32))) == ["malformed"]


def test_orders_of_many_times_leave_nothing_behind_and_expire_in_their_turn(exchange):
    def trade(times):
        for k in times:
            exchange.sell(1, 100, 1, id=k + 1, until=NOW + HOUR + 7 * k)
            exchange.cancel(1, k + 1)
            exchange.commands.clear(), exchange.events.clear()

    for k in range(8):  # these stay: of other times, out of order
        exchange.sell(2, 100, 1, id=k + 1, until=NOW + HOUR + (k * 5 % 8) * 900)
    trade(range(3000))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        trade(range(3000, 9000))
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 500_000  # a thousand times at most; 300 bytes for each of the orders would be 1.8 million
    gone = []
    while exchange.engine.trading.live:
        gone += [(id_, exchange.engine.now) for _, id_, _ in _removed(exchange.do(c.Tick(exchange.engine.now + 100)))]
    due = [(k + 1, NOW + HOUR + (k * 5 % 8) * 900 - MARGIN) for k in range(8)]
    assert sorted(gone) == [(id_, now - (now - NOW) % 100 + 100) for id_, now in due]


# --- L1


def test_requests_come_in_order(exchange):
    queue = exchange.engine.registry
    request = Request(RequestKind.DEPOSIT, 1, token=COIN, amount=5)
    assert exchange.codes(exchange.do(c.RequestSeen(queue.next_request + 1, request))) == ["request_order"]
    first, second = exchange.see(request), exchange.see(request)
    assert exchange.codes(exchange.do(c.RequestConfirmed(second))) == ["request_order"]
    assert exchange.codes(exchange.do(c.RequestUnseen(first))) == ["request_order"]
    assert exchange.codes(exchange.do(c.RequestUnseen(second))) == []
    assert exchange.codes(exchange.do(c.RequestConfirmed(first))) == []
    assert exchange.codes(exchange.do(c.RequestConfirmed(first))) == ["request_order"]


@pytest.mark.parametrize(
    "request_",
    [
        Request(RequestKind.OPEN, 1, owner=5),
        Request(RequestKind.OPEN, 6, owner=0),
        Request(RequestKind.OPEN, 64, owner=5),
        Request(RequestKind.OPEN, 6, owner=2**160),
        Request(RequestKind.DEPOSIT, 9, token=1, amount=5),
        Request(RequestKind.DEPOSIT, 1, token=0, amount=5),
        Request(RequestKind.DEPOSIT, 1, token=1, amount=2**64),
        Request(RequestKind.KEY, 9, pub_x=1, pub_y=1),
        Request(RequestKind.EXIT, 9, token=1),
        Request(RequestKind.EXIT, 1, token=1, amount=5),
        Request(7, 1),
        Request(0, 0),
    ],
)
def test_what_l1_would_not_queue_is_refused(exchange, request_):
    before = exchange.engine.registry.dump()
    assert exchange.codes(exchange.do(c.RequestSeen(before[3], request_))) == ["bad_request"]
    assert exchange.engine.registry.dump() == before


def test_a_deposit_counts_when_it_is_confirmed(exchange):
    number = exchange.see(Request(RequestKind.DEPOSIT, 0, token=CASH, amount=5000))
    assert exchange.codes(exchange.buy(0, 100, 1)) == ["insufficient_balance"]
    exchange.do(c.RequestConfirmed(number))
    assert exchange.codes(exchange.buy(0, 100, 1)) == []


def test_an_account_opens_and_is_funded_in_one_group_of_requests(exchange):
    exchange.see(exchange.opening(5))
    exchange.see(Request(RequestKind.DEPOSIT, 5, token=CASH, amount=5000))
    exchange.see(Request(RequestKind.EXIT, 5, token=COIN))
    first = exchange.engine.registry.seen[0][0]
    exchange.do(c.RequestConfirmed(first))
    exchange.do(c.RequestConfirmed(first + 1))
    assert exchange.codes(exchange.buy(5, 100, 1)) == ["exit_pending"]
    exchange.do(c.RequestConfirmed(first + 2))
    assert exchange.codes(exchange.buy(5, 100, 1)) == []
    exchange.settle_all()


def test_a_key_change_pauses_the_account_until_it_is_confirmed(exchange):
    exchange.buy(1, 90, 1)
    exchange.sell(1, 110, 1)
    number = exchange.engine.registry.next_request
    request = exchange.rekeying(1)
    assert _removed(exchange.do(c.RequestSeen(number, request))) == [(1, 1, "key_change"), (1, 2, "key_change")]
    assert exchange.codes(exchange.do(c.RequestSeen(number + 1, request))) == ["bad_request"]
    for events in (exchange.buy(1, 90, 1), exchange.withdraw(1, COIN, 1), exchange.transfer(1, COIN, 1, to=2)):
        assert exchange.codes(events) == ["account_paused"]
    assert exchange.codes(exchange.cancel(1, 2, hard=True)) == ["account_paused"]
    old = exchange.engine.get_key(1)
    exchange.do(c.RequestConfirmed(number))
    assert exchange.engine.get_key(1) == (request.pub_x, request.pub_y) != old
    assert exchange.codes(exchange.buy(1, 90, 1)) == []


def test_a_vanished_request_lets_go(exchange):
    number = exchange.see(exchange.rekeying(1))
    exchange.do(c.RequestUnseen(number))
    assert exchange.codes(exchange.buy(1, 90, 1)) == []
    number = exchange.see(Request(RequestKind.EXIT, 1, token=COIN))
    assert exchange.codes(exchange.buy(1, 90, 1)) == ["exit_pending"]
    exchange.do(c.RequestUnseen(number))
    assert exchange.codes(exchange.buy(1, 90, 1)) == []


def test_a_forced_exit_takes_all_of_its_token_and_stops_what_needs_it(exchange):
    exchange.buy(1, 90, 1)
    exchange.sell(1, 110, 1)
    exchange.buy(1, 90, 1, symbol="GEM/COIN")
    exchange.buy(1, 90, 1, symbol="GEM/CASH")
    number = exchange.engine.registry.next_request
    events = exchange.do(c.RequestSeen(number, Request(RequestKind.EXIT, 1, token=COIN)))
    assert _removed(events) == [(1, 1, "forced_exit"), (1, 2, "forced_exit"), (1, 3, "forced_exit")]
    assert _open_ids(exchange, 1) == [4]
    for events in (exchange.buy(1, 90, 1), exchange.withdraw(1, COIN, 1), exchange.transfer(1, COIN, 1, to=2)):
        assert exchange.codes(events) == ["exit_pending"]
    assert exchange.codes(exchange.withdraw(1, CASH, 1)) == []
    exchange.transfer(2, COIN, 7, to=1)
    (applied,) = [v for v in exchange.do(c.RequestConfirmed(number)) if isinstance(v, e.RequestApplied)]
    assert applied.outcome == 10**6 + 7
    assert exchange.engine.get_balance(1, COIN).total == 0
    assert exchange.codes(exchange.buy(1, 90, 1)) == []
    exchange.settle_all()


def test_a_deposit_takes_the_place_of_an_order(exchange):
    exchange.fund((1,), range(10, 21), amount=1)  # 14 places
    exchange.withdraw(1, GEM, 10**6)
    exchange.fund((1,), (30,), amount=1)
    exchange.buy(1, 90, 1, symbol="GEM/CASH")
    exchange.buy(1, 90, 1)
    assert exchange.codes(exchange.buy(1, 90, 1, symbol="GEM/COIN")) == []
    number = exchange.engine.registry.next_request
    events = exchange.do(c.RequestSeen(number, Request(RequestKind.DEPOSIT, 1, token=40, amount=1)))
    assert _removed(events) == [(1, 4, "positions"), (1, 2, "positions")]
    assert exchange.codes(exchange.buy(1, 90, 1, symbol="GEM/CASH")) == ["positions_full"]
    assert exchange.codes(exchange.buy(1, 90, 1)) == []
    exchange.do(c.RequestConfirmed(number))
    exchange.settle_all()
    assert len(exchange.state.account(1).positions) == 15


def test_a_deposit_that_lands_in_a_crowd_still_finds_its_place(exchange):
    exchange.fund((1,), range(10, 22), amount=1)  # all 15
    exchange.buy(1, 90, 1, symbol="GEM/CASH")
    number = exchange.see(Request(RequestKind.DEPOSIT, 1, token=40, amount=1))
    assert _open_ids(exchange, 1) == [1]  # the token is held: the order needs no new place
    exchange.withdraw(1, GEM, 10**6)
    assert _removed(exchange.do(c.RequestConfirmed(number))) == [(1, 1, "positions")]
    exchange.sell(2, 90, 1, symbol="GEM/CASH")
    exchange.settle_all()


def test_a_deposit_without_a_place_bounces(exchange):
    exchange.fund((1,), range(10, 22), amount=1)
    (applied,) = [v for v in exchange.deposit(1, 40, 5) if isinstance(v, e.RequestApplied)]
    assert applied.outcome == 1
    assert exchange.engine.get_balance(1, 40).total == 0
    exchange.settle_all()


# --- batches


def test_batches_are_sealed_and_settled_in_order(exchange):
    exchange.settle_all()
    number = exchange.engine.settlement.next_number
    assert exchange.codes(exchange.seal()) == ["nothing_to_seal"]
    exchange.withdraw(1, COIN, 1)
    assert exchange.codes(exchange.do(c.SealBatch(number + 1, 2**32))) == ["batch_order"]
    assert exchange.codes(exchange.do(c.SealBatch(number, 2**32))) == []
    assert exchange.codes(exchange.do(c.SealBatch(number, 2**32))) == ["batch_order"]
    assert exchange.codes(exchange.do(c.BatchConfirmed(number + 1))) == ["batch_order"]
    assert exchange.codes(exchange.do(c.BatchDropped(number + 1, 0))) == ["batch_order"]
    exchange.confirm(number)
    assert exchange.codes(exchange.do(c.BatchConfirmed(number))) == ["batch_order"]


def test_a_dropped_batch_is_sealed_again_as_it_was(exchange):
    exchange.settle_all()
    exchange.sell(1, 100, 5)
    exchange.buy(2, 100, 5)
    exchange.seal()
    number = exchange.engine.settlement.next_number - 1
    plan = exchange.engine.get_plan(number)
    exchange.withdraw(3, COIN, 1)
    exchange.seal()
    assert [type(v) for v in exchange.do(c.BatchDropped(number, NOW))] == [e.BatchUnsealed, e.BatchUnsealed]
    exchange.seal()
    again = exchange.engine.get_plan(number)
    assert again.trades == plan.trades
    assert len(again.actions) == len(plan.actions) + 1
    exchange.settle_all()


def test_what_cannot_be_proven_any_more_is_busted_with_all_that_depends_on_it(exchange):
    exchange.settle_all()
    before = exchange.engine.ledger.dump()
    exchange.sell(1, 100, 5, until=NOW + MARGIN)
    exchange.buy(2, 100, 5)
    exchange.seal()
    exchange.withdraw(2, COIN, 10**6 + 50)  # spends what the trade brought
    exchange.buy(3, 90, 1)
    exchange.deposit(4, COIN, 77)
    events = exchange.do(c.BatchDropped(exchange.engine.settlement.next_number - 1, NOW + MARGIN + 1))
    kinds = [type(v).__name__ for v in events if not isinstance(v, e.BalanceChanged)]
    assert kinds == ["BatchUnsealed", "OrderRemoved", "TradeBusted", "ActionBusted", "RequestApplied"]
    exchange.withdraw(4, COIN, 77)
    after = exchange.engine.ledger.dump()
    assert after == before
    assert exchange.codes(exchange.sell(1, 100, 5, id=1)) == ["replayed"]
    exchange.settle_all()


def test_dropping_in_time_busts_nothing(exchange):
    exchange.settle_all()
    exchange.sell(1, 100, 5, until=NOW + MARGIN)
    exchange.buy(2, 100, 5)
    exchange.seal()
    events = exchange.do(c.BatchDropped(exchange.engine.settlement.next_number - 1, NOW + MARGIN))
    assert [type(v) for v in events] == [e.BatchUnsealed]
    exchange.settle_all()


def test_frozen_means_only_what_is_settled_counts(exchange):
    exchange.settle_all()
    before = exchange.engine.ledger.dump()
    exchange.sell(1, 100, 5)
    exchange.buy(2, 100, 9)
    exchange.deposit(3, COIN, 5)
    exchange.seal()
    events = exchange.do(c.Freeze())
    assert isinstance(events[0], e.ExchangeFrozen)
    assert exchange.engine.ledger.dump() == before
    assert exchange.codes(exchange.buy(2, 100, 9)) == ["frozen"]
    assert exchange.codes(exchange.seal()) == ["frozen"]
    assert exchange.codes(exchange.do(c.Freeze())) == ["frozen"]
    assert exchange.codes(exchange.do(c.Tick(NOW + 9))) == []


def test_state_hash_sees_what_differs(make_exchange):
    def hash_after(*steps):
        world = make_exchange(accounts=3)
        world.fund((1, 2), amount=1000)
        for name, *args in steps:
            getattr(world, name)(*args)
        world.engine.command_seq = world.engine._stream.seq = 0  # these alone would tell
        return world.engine.state_hash()

    steps = [(), (("buy", 1, 9, 1),), (("buy", 1, 8, 1),), (("withdraw", 1, 1, 5),), (("seal",),)]
    hashes = [hash_after(*s) for s in steps]
    assert len(set(hashes)) == len(hashes)
    assert hashes == [hash_after(*s) for s in steps]


def test_an_engine_is_freed_without_the_collector(make_exchange):
    """Replaying freezes what it made, so that a cycle would stay for good."""
    world = make_exchange(accounts=3)
    world.fund((1, 2))
    engine = Engine(world.config)
    with without_collector():
        for command in world.commands:
            engine.handle(command)
        known = [weakref.ref(part) for part in (engine, engine.trading, engine.ledger, engine.settlement)]
        del engine
        assert [ref() for ref in known] == [None] * 4
