"""Signatures in front, the disk behind: what is answered is true after a restart too."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from proofbook.operator import commands as c
from proofbook.operator import events as e
from proofbook.operator.codes import InvariantError
from proofbook.operator.engine import Engine
from proofbook.operator.journal import JournalCorrupt, JournalError, JournalMismatch
from proofbook.operator.markets import Market, Markets
from proofbook.operator.risk import Balance
from proofbook.operator.sequencer import Sequencer, SequencerBroken, make_verify, verify_each
from proofbook.protocol.babyjub import Point
from proofbook.protocol.eddsa import verify
from proofbook.protocol.table import Side

NOW = 1_700_000_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def world(make_exchange):
    """A twin that makes commands with real signatures, and says what the sequencer has to answer."""
    made = make_exchange(accounts=5, real=True)
    made.fund((1, 2, 3), amount=50_000)
    return made


@pytest.fixture
def sequencer(path, world):
    with_it = Sequencer(world.config, path)
    with_it.submit(world.commands)
    yield with_it
    with_it.close()


def _code(receipt):
    (event,) = receipt.events
    return event.code


def test_receipts_carry_the_engines_events(world, path):
    world.sell(1, 100, 5)
    world.buy(2, 100, 5)
    world.seal()
    heard: list[e.Event] = []
    sequencer = Sequencer(world.config, path, listeners=[lambda events, now: heard.extend(events)])
    receipts = sequencer.submit(world.commands)
    assert [v for r in receipts for v in r.events] == world.events == heard
    assert [r.sequence for r in receipts] == list(range(1, len(world.commands) + 1))
    assert sequencer.engine.state_hash() == world.engine.state_hash()
    sequencer.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_restart_at_any_point_leads_to_the_same_state(world, path, seed):
    draw = random.Random(seed)
    done = 0
    while done < len(world.commands) or len(world.commands) < 150:
        sequencer = Sequencer(world.config, path)
        for _ in range(draw.randrange(1, 30)):
            world.play((draw.randrange(100), *(draw.randrange(2**10) for _ in range(4))))
        while done < len(world.commands):
            group = world.commands[done : done + draw.randrange(1, 9)]
            sequencer.submit(group)
            done += len(group)
        before = sequencer.engine.state_hash()
        assert before == world.engine.state_hash()
        if draw.random() < 0.5:
            sequencer.close()
        else:  # as after a kill: nothing is noted at the end
            sequencer._journal.close()
    heard: list[e.Event] = []
    sequencer = Sequencer(world.config, path, listeners=[lambda events, now: heard.extend(events)])
    assert sequencer.engine.state_hash() == world.engine.state_hash()
    assert heard == world.events
    sequencer.close()


def test_m3_wrong_signatures_never_reach_the_engine(world, sequencer):
    world.sell(1, 100, 5)
    good = world.commands[-1].signed
    bad = [
        replace(good, action=replace(good.action, quote_amount=501)),
        replace(good, signature=good.signature._replace(s=good.signature.s + 1)),
        replace(good, signature=good.signature._replace(s=-1)),
        replace(good, signature=good.signature._replace(r8=Point(0, 1))),
        replace(good, action=replace(good.action, account=2)),
    ]
    before = sequencer.engine.state_hash()
    receipts = sequencer.submit([c.PlaceOrder(signed) for signed in bad])
    assert [_code(r) for r in receipts] == ["bad_signature"] * 5
    assert {(r.sequence, r.events[0].seq) for r in receipts} == {(0, 0)}
    unknown = replace(good, action=replace(good.action, account=9))
    broken = replace(good, action=replace(good.action, id=0))
    receipts = sequencer.submit([c.PlaceOrder(unknown), c.Withdraw(broken)])
    assert [_code(r) for r in receipts] == ["unknown_account", "malformed"]
    assert isinstance(receipts[1].events[0], e.ActionRejected)
    assert sequencer.engine.state_hash() == before
    assert isinstance(sequencer.submit([c.PlaceOrder(good)])[0].events[0], e.OrderAccepted)


def test_a_new_key_counts_within_the_same_group(world, sequencer):
    start = len(world.commands)
    world.sell(1, 100, 5)
    world.request(world.rekeying(1))
    world.sell(1, 101, 5)
    (old, seen, confirmed, new) = world.commands[start:]
    stale = c.PlaceOrder(replace(new.signed, signature=old.signed.signature))
    receipts = sequencer.submit([old, new, seen, confirmed, stale, new])
    codes = [getattr(r.events[0], "code", "") for r in receipts]
    assert codes == ["", "bad_signature", "", "", "bad_signature", ""]


def test_time_moves_with_the_group(world, sequencer):
    world.order(1, Side.SELL, 100, 5, until=NOW + 60)
    assert _code(sequencer.submit([world.commands[-1]], now=NOW + 1)[0]) == "expired"
    assert sequencer.engine.now == NOW + 1
    assert sequencer.submit([], now=NOW) == []
    assert sequencer.engine.now == NOW + 1


def test_verification_can_be_handed_in(world, path):
    seen = []

    def many(rows):
        seen.extend(rows)
        return [verify(Point(*row[:2]), row[5], _signature(row)) for row in rows]

    sequencer = Sequencer(world.config, path, verify=make_verify(many))
    sequencer.submit(world.commands)
    world.sell(1, 100, 5)
    world.sell(2, 100, 5)
    wrong = replace(world.commands[-1].signed, signature=world.commands[-2].signed.signature)
    receipts = sequencer.submit([world.commands[-2], c.PlaceOrder(wrong)])
    assert len(seen) == 2
    assert [getattr(r.events[0], "code", "") for r in receipts] == ["", "bad_signature"]
    claims: list[Any] = [(sequencer.engine.get_key(1), world.commands[-2].signed), (sequencer.engine.get_key(2), wrong)]
    assert verify_each(claims) == make_verify(many)(claims) == [True, False]
    sequencer.close()


def _signature(row):
    from proofbook.protocol.eddsa import Signature

    return Signature(Point(row[2], row[3]), row[4])


def test_a_failure_stops_everything_until_restart(world, path, sequencer):
    before = sequencer.engine.state_hash()
    sequencer._journal._db.execute("PRAGMA query_only = ON")
    world.sell(1, 100, 5)
    with pytest.raises(JournalError):
        sequencer.submit([world.commands[-1]])
    with pytest.raises(SequencerBroken) as caught:
        sequencer.submit([c.Tick(NOW + 5)])
    assert caught.value.code == "sequencer_broken"
    sequencer.close()
    again = Sequencer(world.config, path)
    assert again.engine.state_hash() == before
    assert isinstance(again.submit([world.commands[-1]])[0].events[0], e.OrderAccepted)
    again.close()


def test_a_broken_invariant_is_not_journaled(world, path, sequencer):
    world.sell(1, 100, 5)
    world.cancel(1, 1)
    placed, cancelled = world.commands[-2:]
    sequencer.submit([placed])
    sequencer.engine.ledger._get(1).balances[1].reserved = 0
    with pytest.raises(InvariantError):
        sequencer.submit([cancelled])
    sequencer.close()
    again = Sequencer(world.config, path)
    assert again.engine.get_balance(1, 1) == Balance(49_950, 50)
    again.close()


def test_a_journal_of_other_settings_is_refused(make_exchange, path, sequencer):
    sequencer.close()
    for changes in ({"margin": 61}, {"domain": 5}):
        with pytest.raises(JournalMismatch):
            Sequencer(make_exchange(**changes).config, path)


def test_markets_can_be_added_and_nothing_else_done_to_them(world, path, sequencer):
    world.sell(1, 100, 5)
    sequencer.submit(world.commands[-1:])
    order = world.order(1, Side.SELL, 7, 3, symbol="GEM/COIN")
    assert world.codes(order) == []
    sequencer.close()
    old = world.config.markets
    new = Market("CASH/NEW", 2, 9, 1, 0, 0, 10, 10)
    more = Markets([*old.all, new])
    for _ in range(2):
        again = Sequencer(replace(world.config, markets=more), path)
        assert again.engine.config.markets.all == more.all
        assert again.engine.get_depth("CASH/NEW", 5) == ([], [])
        assert len(again.engine.get_orders(1)) == 1
        hashed = again.engine.state_hash()
        again.close()
    again = Sequencer(replace(world.config, markets=more), path)
    assert again.engine.state_hash() == hashed
    again.close()
    dearer = Market("COIN/CASH", 1, 2, 10, 6, 25, 10**9, 10**6)
    namesake = Market("CASH/OLD", 2, 1, 1, 0, 0, 10, 10)  # the pair of COIN/CASH, the other way round
    for markets in (old.all, (dearer, *more.all[1:]), more.all[1:]):
        with pytest.raises(JournalMismatch):
            Sequencer(replace(world.config, markets=Markets(markets)), path)
    engine = Engine(world.config)
    (refused,) = engine.handle(c.AddMarket(namesake))
    assert isinstance(refused, e.CommandRejected) and refused.code == "malformed"


def test_a_replay_that_leads_elsewhere_is_noticed(world, path, sequencer):
    world.sell(1, 100, 5)
    sequencer.submit(world.commands[-1:])
    sequencer.close()
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE checkpoints SET state = 'x'")
    db.close()
    with pytest.raises(JournalCorrupt):
        Sequencer(world.config, path)


def test_a_journal_whose_end_is_missing_is_noticed(world, path, sequencer):
    world.sell(1, 100, 5)
    sequencer.submit(world.commands[-1:])
    sequencer.close()
    db = sqlite3.connect(path)
    with db:
        db.execute("DELETE FROM commands WHERE seq = (SELECT MAX(seq) FROM commands)")
    db.close()
    with pytest.raises(JournalCorrupt, match="there were"):
        Sequencer(world.config, path)


def test_states_are_noted_with_batches_but_not_with_every_one(world, path, sequencer):
    noted = []
    for _ in range(4):
        world.sell(1, 100, 5)
        world.buy(2, 100, 5)
        world.seal()
        sequencer.submit(world.commands[-3:])
        noted.append(max(sequencer._journal.get_checkpoints()))
    last, accounts = sequencer._journal.last, len(world.engine.registry.accounts)
    assert accounts == 5 and noted == [last - 9, last - 9, last - 3, last - 3]
    for _ in range(8):  # a digest takes time for each of these, too
        world.sell(1, 101, 1)
    sequencer.submit(world.commands[-8:])
    before = max(sequencer._journal.get_checkpoints())
    for _ in range(3):
        world.sell(1, 100, 5)
        world.buy(2, 100, 5)
        world.seal()
        sequencer.submit(world.commands[-3:])
        noted.append(max(sequencer._journal.get_checkpoints()))
    assert noted[4:] == [last + 11, last + 11, last + 11] and before < last
    sequencer.close()
    again = Sequencer(world.config, path)
    assert again.engine.state_hash() == world.engine.state_hash()
    again.close()
