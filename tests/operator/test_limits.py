"""What the operator takes on is never more than it can settle, and nobody is refused without a reason."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_struct

from proofbook.operator import commands as c
from proofbook.operator.engine import Engine
from proofbook.operator.limits import SHARES, Allowances, Limits
from proofbook.operator.sequencer import Sequencer
from proofbook.operator.settings import Settings
from proofbook.operator.settlement import ActionEntry
from proofbook.protocol.table import Flag, Side

COIN, CASH = 1, 2
NOW, HOUR = 1_700_000_000, 3600


@pytest.fixture
def clock():
    """The seconds that allowances are refilled by."""
    return [0.0]


@pytest.fixture
def gated(make_exchange, tmp_path, clock):
    """Makes an exchange behind a sequencer with these settings; accounts 1 to 4 have money, and nothing waits."""
    made: list[Sequencer] = []

    def make(**changes):
        world = make_exchange()
        settings = Settings(rpc_url="http://localhost", markets=list(world.config.markets.all), **changes)
        path = tmp_path / f"{len(made)}.sqlite"
        sequencer = Sequencer(
            world.config, path, lambda claims: [True] * len(claims), gate=Limits(settings, lambda: clock[0])
        )
        made.append(sequencer)
        world.engine, world.sequencer, world.group = sequencer.engine, sequencer, None

        def do(command):
            world.commands.append(command)
            if world.group is not None:
                world.group.append(command)
                return []
            return list(sequencer.submit([command])[0].events)

        world.do = do
        do(c.Tick(NOW))
        for account in range(5):
            world.open(account)
        world.fund((1, 2, 3, 4))
        settle(world)
        return world

    yield make
    for sequencer in made:
        sequencer.close()


def settle(world):
    while world.engine.settlement.log:
        world.seal()
        world.do(c.BatchConfirmed(world.engine.settlement.next_number - 1))


def waiting(world):
    return len(world.engine.settlement.log)


def rest(world, count, price=100):
    """Orders of one lot each, of accounts 1 and 2."""
    for k in range(count):
        assert world.codes(world.sell(1 + k % 2, price, 1)) == []


def test_an_order_that_meets_more_than_may_wait_is_refused(gated):
    world = gated(max_pending=13)  # of which a quarter is not for orders
    rest(world, 20)
    before = world.engine.command_seq
    assert world.codes(world.buy(3, 100, 11)) == ["busy"]
    assert (waiting(world), world.engine.command_seq) == (0, before)  # and not journaled
    assert world.codes(world.buy(3, 100, 10)) == []
    assert waiting(world) == 10
    # Now no order is taken, and soon nothing but cancels.
    assert [world.codes(world.withdraw(account, CASH, 1)) for account in (3, 1, 2)] == [[], [], []]
    assert world.codes(world.buy(3, 90, 1)) == world.codes(world.withdraw(4, CASH, 1)) == ["busy"]
    assert world.codes(world.transfer(4, CASH, 1, 3)) == world.codes(world.cancel(4, 99, hard=True)) == ["busy"]
    assert world.codes(world.cancel(1, 19 // 2 + 1)) == []
    settle(world)
    assert world.codes(world.buy(3, 100, 9)) == []


def test_what_stands_before_an_order_in_its_group_counts(gated):
    world = gated(max_pending=13)
    world.sell(4, 90, 40)  # who looks before all of them sees one order that fills any of them
    rest(world, 30)
    world.group = []
    for lots in (40, 12, 12, 9, 1):
        world.buy(3, 100, lots)
    receipts = world.sequencer.submit(world.group)
    assert [world.codes(receipt.events) for receipt in receipts] == [[], ["busy"], ["busy"], [], ["busy"]]
    assert waiting(world) == 10 and [bool(r.sequence) for r in receipts] == [True, False, False, True, False]


def test_what_is_one_entry_or_none_is_not_counted(gated):
    world = gated(max_pending=5)
    rest(world, 8)
    assert world.codes(world.buy(3, 100, 6)) == ["busy"]
    assert world.codes(world.buy(3, 100, 6, int(Flag.POST_ONLY))) == ["would_cross"]
    assert world.codes(world.buy(3, 100, 6, int(Flag.FOK))) == [] and waiting(world) == 1
    for _ in range(6):
        world.sell(3, 99, 1)
    # Its own orders are cancelled, not met; and two others are left.
    assert world.codes(world.buy(3, 100, 1000, int(Flag.IOC))) == [] and waiting(world) == 3


def test_trades_keep_nobodys_withdrawal_out(gated):
    """Two accounts that trade with each other for no fee can fill what orders may, and that only."""
    world = gated(max_pending=4 * SHARES)
    world.sell(1, 100, 4 * SHARES)
    told = [world.codes(world.buy(3, 100, 1)) for _ in range(4 * SHARES)]
    assert told == [[]] * 3 * SHARES + [["busy"]] * SHARES
    told = [world.codes(world.withdraw(account, CASH, amount)) for account in (1, 2, 4) for amount in (1, 2, 3, 4, 5)]
    assert told == [*[[]] * 4, ["busy"]] * 3


def count_actions(world):
    log = world.engine.settlement.log
    return Counter(entry.signed.action.account for entry in log if isinstance(entry, ActionEntry))


def test_what_an_account_has_waiting_is_counted_through_seals_and_busts(gated):
    world = gated()
    settlement = world.engine.settlement
    rest(world, 6)
    for k in range(12):
        world.withdraw(1 + k % 3, CASH, 1)
        world.buy(3, 100, 1) if k % 2 else world.transfer(4, CASH, 1, 1)
        assert settlement.actions_of == count_actions(world)
    world.seal()
    world.seal()
    assert settlement.actions_of == count_actions(world) and settlement.log
    first, second = (sealed.plan.number for sealed in settlement.in_flight)
    world.do(c.BatchDropped(second, NOW))
    assert len(settlement.in_flight) == 1 and settlement.actions_of == count_actions(world)
    world.do(c.BatchDropped(first, NOW + 2 * HOUR))  # later than all of it is valid: undone
    assert settlement.actions_of == count_actions(world) == Counter() and not settlement.log


def test_one_account_has_its_share_of_free_actions(gated):
    world = gated(max_pending=2 * SHARES)
    world.group = []
    for amount in (1, 2, 3, 4):
        world.withdraw(1, CASH, amount)
    world.withdraw(2, CASH, 1)
    receipts = world.sequencer.submit(world.group)
    assert [world.codes(receipt.events) for receipt in receipts] == [[], [], ["busy"], ["busy"], []]


@pytest.mark.parametrize("until", [NOW, NOW + HOUR], ids=["expired", "used"])
def test_a_hard_cancel_that_is_refused_leaves_nothing_however_often_it_comes(gated, until):
    """It names an order that rests, so no allowance bounds it: the same bytes can come for ever."""
    world = gated(order_burst=3, order_rate=1)
    world.sell(1, 100, 1, id=7)
    if until > NOW:
        assert world.codes(world.cancel(1, 7, hard=True)) == []
    before = world.engine.command_seq
    told = {code for _ in range(50) for code in world.codes(world.cancel(1, 7, hard=True, until=until))}
    assert (told, world.engine.command_seq) == ({"replayed" if until > NOW else "expired"}, before)


@pytest.mark.parametrize("seed", range(3))
def test_no_more_than_may_wait_ever_waits_and_nothing_is_refused_that_would_fit(gated, seed):
    world, rng, wide = gated(max_pending=8), random.Random(seed), 0
    taken = list(world.commands)
    for _ in range(200):
        world.group = []
        for _ in range(rng.randrange(1, 6)):
            flags = rng.choice((0, 0, 0, int(Flag.IOC), int(Flag.FOK), int(Flag.POST_ONLY)))
            side, lots = Side(rng.randrange(2)), rng.choice((1, 1, 2, 3, 40))
            world.order(rng.randrange(1, 5), side, 100 + rng.randrange(-3, 4), lots, flags)
        group, world.group = world.group, None
        for command, receipt in zip(group, world.sequencer.submit(group), strict=True):
            if world.codes(receipt.events) != ["busy"]:
                taken.append(command)
                continue
            twin = Engine(world.config)
            for earlier in taken:
                twin.handle(earlier)
            room = 6 - len(twin.settlement.log)
            otherwise = world.codes(twin.handle(command))
            assert room <= 0 or otherwise or len(twin.settlement.log) > 6
            wide += room > 0 and not otherwise
        assert waiting(world) <= 6
        if waiting(world) == 6 or rng.random() < 0.1:
            del world.commands[:]
            settle(world)
            taken += world.commands
    assert wide > 5 and world.engine.trading.trade_seq > 100


# --- what an account may send for nothing


def test_orders_that_do_not_trade_use_up_an_allowance_that_comes_back(gated, clock):
    world = gated(order_burst=5, order_rate=2)
    for id_ in range(1, 6):
        assert world.codes(world.sell(1, 100, 1)) == world.codes(world.cancel(1, id_)) == []
    before = world.engine.command_seq
    for _ in range(3):
        assert world.codes(world.sell(1, 100, 1, id=9)) == ["busy"]
    assert world.engine.command_seq == before  # nothing of it is kept
    assert world.codes(world.sell(2, 100, 1)) == [], "others have their own"
    clock[0] += 1.01
    assert [world.codes(world.sell(1, 100, 1, id=id_)) for id_ in (9, 10, 11)] == [[], [], ["busy"]]
    clock[0] += 1000
    codes = [world.codes(world.sell(1, 101, 1, id=id_)) for id_ in range(20, 26)]
    assert codes == [[]] * 5 + [["busy"]]


def test_refusals_by_the_engine_use_it_up_too(gated):
    world = gated(order_burst=4, order_rate=1)
    assert world.codes(world.sell(1, 100, 1, id=7)) == []
    assert world.codes(world.sell(1, 100, 1, id=7)) == ["replayed"]
    assert world.codes(world.withdraw(1, COIN, 10**9)) == ["insufficient_balance"]
    assert world.codes(world.transfer(1, COIN, 1, 0)) == ["receiver_lacks_token"]
    for events in (world.sell(1, 100, 1), world.withdraw(1, COIN, 1), world.transfer(1, COIN, 1, 2)):
        assert world.codes(events) == ["busy"]
    assert world.codes(world.cancel(1, 8, hard=True)) == ["busy"]
    assert world.codes(world.cancel(1, 7, hard=True)) == [], "but an order can be cancelled"


def test_orders_that_trade_and_actions_that_are_taken_cost_nothing_of_it(gated):
    world = gated(order_burst=10, order_rate=1)
    rest(world, 10)
    for _ in range(8):
        assert world.codes(world.buy(3, 100, 1)) == world.codes(world.withdraw(3, CASH, 1)) == []
    for _ in range(10):
        assert world.codes(world.buy(3, 50, 1)) == []
    assert world.codes(world.buy(3, 100, 1)) == ["busy"]  # nobody knows beforehand whether it would trade


def test_the_cancel_of_an_order_is_heard_and_of_none_answered_without_a_trace(gated):
    world = gated(order_burst=1, order_rate=1)
    world.sell(1, 100, 1, id=7)
    assert world.codes(world.sell(1, 100, 1)) == ["busy"]
    twin = Engine(world.config)
    for command in world.commands:
        twin.handle(command)
    for cancel in (lambda: world.cancel(1, 8), lambda: world.cancel(1, 7, until=NOW - 1)):
        before, (told,) = world.engine.state_hash(), cancel()
        (said,) = twin.handle(world.commands[-1])
        assert told == replace_struct(said, seq=0) and world.codes([told])
        assert world.engine.state_hash() == before
    assert world.codes(world.cancel(1, 7)) == [] and not world.engine.trading.live
    assert world.codes(world.cancel(1, 7)) == ["unknown_order"]


def test_nobody_uses_up_anothers_allowance(world_of_keys, tmp_path):
    world, settings = world_of_keys
    sequencer = Sequencer(world.config, tmp_path / "journal.sqlite", gate=Limits(settings))
    try:
        sequencer.submit(world.commands)
        good = [world.sell(1, 100, 1) and world.commands[-1] for _ in range(3)]
        forged = [c.PlaceOrder(replace(command.signed, signature=good[0].signed.signature)) for command in good[1:]]
        codes = [world.codes(receipt.events) for receipt in sequencer.submit([*forged * 5, *good])]
        assert codes == [["bad_signature"]] * 10 + [[], [], ["busy"]]
    finally:
        sequencer.close()


@pytest.fixture
def world_of_keys(make_exchange):
    """An exchange whose commands are signed, and settings that allow two orders."""
    world = make_exchange(accounts=3, real=True)
    world.fund((1, 2))
    markets = list(world.config.markets.all)
    return world, Settings(rpc_url="http://localhost", markets=markets, order_burst=2, order_rate=1)


def test_allowances_of_accounts_that_rest_take_no_memory():
    now = [0.0]
    allowances = Allowances(10, 1, lambda: now[0])
    for account in range(20_000):
        now[0] += 0.01
        allowances.take(account)
        assert len(allowances) <= 1024 + 3 * 100  # of those in the last second something is missing
    for _ in range(9):
        assert not allowances.is_empty(account)
        allowances.take(account)
    assert allowances.is_empty(account) and not allowances.is_empty(account - 1)


def test_a_restart_has_the_same_state_whatever_was_refused(gated, tmp_path):
    world = gated(order_burst=3, order_rate=1, max_pending=4)
    rest(world, 6)
    world.buy(3, 100, 6)
    world.cancel(1, 77)
    world.buy(3, 100, 4)
    state = world.engine.state_hash()
    world.sequencer.close()
    again = Sequencer(world.config, tmp_path / "0.sqlite")
    assert again.engine.state_hash() == state
    again.close()
