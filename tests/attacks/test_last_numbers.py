"""The last numbers there are, through the whole path: amounts and ids of 2^64 - 1, times of 2^32 - 1.

First the engine and the protocol, in random flows with huge amounts; then everything with the chain and real proofs.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proofbook.operator import commands as c
from proofbook.operator.codes import InvariantError
from proofbook.operator.markets import Market, Markets
from proofbook.protocol.messages import order
from proofbook.protocol.table import ETH_TOKEN, MAX_AMOUNT, Flag, Side

LONG = os.environ.get("PROOFBOOK_LONG") == "1"
OPERATOR = Path(__file__).resolve().parent.parent / "operator" / "conftest.py"
LAST_TIME = 2**32 - 1
LAST_ID = 2**64 - 1
COIN, CASH, GEM = 1, 2, 3
# One lot is everything; one quantum a lot; and both in between. Prices up to whatever still fits.
MARKETS = (
    Market("A", COIN, CASH, MAX_AMOUNT, 10_000, 10_000, 1, MAX_AMOUNT),
    Market("B", GEM, COIN, 1, 0, 1, MAX_AMOUNT, 1),
    Market("C", CASH, GEM, 2**32, 1, 9_999, 2**32 - 1, 2**32),
)


def helper() -> Any:
    """Return the engine's playground."""
    name = "attack_tests_operator_conftest"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, OPERATOR)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


play = helper()


def world_of(real: bool = False) -> Any:
    """An exchange where accounts 1, 2 and 3 have all there can be of one token each."""
    world = play.Exchange(accounts=4, real=real, markets=Markets(list(MARKETS)))
    for account in (1, 2, 3):
        world.deposit(account, account, MAX_AMOUNT)
    return world


def place(world: Any, account: int, market: Market, side: Side, price: int, lots: int, id_: int, flags: int = 0) -> Any:
    action = order(
        domain=play.DOMAIN,
        account=account,
        id=id_,
        base=market.base,
        quote=market.quote,
        side=side,
        base_amount=lots * market.lot,
        quote_amount=lots * price,
        max_fee_bps=10_000,
        valid_until=LAST_TIME,
        flags=flags,
    )
    return world.codes(world.do(c.PlaceOrder(world.sign(action))))


def test_all_there_is_changes_hands_and_leaves():
    world = world_of(real=True)
    # Every GEM that there is for as many COIN as there can be with the fee, under the last id there is.
    assert place(world, 3, MARKETS[1], Side.SELL, 1, MAX_AMOUNT, LAST_ID) == []
    assert place(world, 1, MARKETS[1], Side.BUY, 1, MAX_AMOUNT, 1) == ["insufficient_balance"]
    spent = MAX_AMOUNT - MAX_AMOUNT // 10_001
    assert place(world, 1, MARKETS[1], Side.BUY, 1, spent, 1) == []
    world.settle_all()
    held = {token: [world.engine.get_balance(k, token).total for k in range(4)] for token in (COIN, GEM)}
    assert held[GEM] == [0, spent, 0, MAX_AMOUNT - spent] and held[COIN][3] == spent and held[COIN][0] > 0
    assert sum(held[GEM]) == sum(held[COIN]) == MAX_AMOUNT
    assert place(world, 1, MARKETS[0], Side.SELL, 1, 1, 5) == ["insufficient_balance"]
    world.cancel(3, LAST_ID)
    for token, amounts in held.items():
        for account, amount in enumerate(amounts):
            if amount:
                assert world.codes(world.withdraw(account, token, amount, id=LAST_ID - token, until=LAST_TIME)) == []
    world.settle_all()
    assert {account: entry.positions for account, entry in world.state.accounts.items() if entry.positions} == {
        2: ((CASH, MAX_AMOUNT),)
    }


def test_an_id_used_last_closes_its_slot_for_good():
    world = world_of(real=True)
    assert world.codes(world.withdraw(1, COIN, 1, id=LAST_ID)) == []
    for id_ in (LAST_ID, LAST_ID - 16, 15):
        assert world.codes(world.withdraw(1, COIN, 1, id=id_))[0] in ("replayed", "stale_id")
    assert world.codes(world.cancel(1, LAST_ID, hard=True)) == ["replayed"]
    assert world.codes(world.withdraw(1, COIN, 1, id=LAST_ID - 1)) == []
    world.settle_all()


def test_a_fee_of_everything_leaves_a_seller_nothing_and_the_books_straight():
    world = world_of(real=True)
    market = MARKETS[0]
    price = MAX_AMOUNT // 2
    assert place(world, 2, market, Side.BUY, price, 1, 1) == [], "all of it: as much for the fee as for the price"
    assert place(world, 1, market, Side.SELL, price, 1, 1, Flag.FOK) == []
    world.settle_all()
    assert world.engine.get_balance(1, CASH).total == 0 and world.engine.get_balance(0, CASH).total == 2 * price


def test_nothing_more_of_a_token_comes_in_than_there_can_be():
    # The contract's cap keeps this away; an engine that met it must not settle on a wrong sum.
    world = world_of()
    with pytest.raises(InvariantError):
        world.deposit(1, COIN, 1)


FLAGS = (0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 8, 9, 10, 11)
NUMBERS = st.one_of(
    st.integers(1, 4),
    st.integers(0, 3).map(lambda k: MAX_AMOUNT - k),
    st.integers(0, 3).map(lambda k: 2**63 + k - 2),
    st.integers(0, 3).map(lambda k: 2**32 + k - 2),
)
ACTS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 2), NUMBERS, NUMBERS, st.integers(0, 15)),
    min_size=5,
    max_size=40,
)


def act(world: Any, drawn: tuple[int, ...]) -> None:
    kind, account, which, a, b, flags = drawn
    id_ = [a, LAST_ID - b % 64, world.next_id(account)][flags % 3]
    if kind < 6:
        market = MARKETS[which]
        lots, price = min(a, market.max_lots), min(b, market.max_price)
        side = Side.BUY if account == market.quote else Side.SELL if account == market.base else Side(flags % 2)
        place(world, account, market, side, price, lots, id_, FLAGS[flags])
    elif kind == 6:
        world.withdraw(account, 1 + which, a, id=id_, until=LAST_TIME)
    elif kind == 7:
        world.transfer(account, 1 + which, b, flags % 4, id=id_)
    elif kind == 8:
        world.cancel(account, id_, hard=bool(flags % 2))
    else:
        world.seal()


@settings(
    max_examples=1500 if LONG else 120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not LONG
)
@given(acts=ACTS)
def test_any_flow_of_huge_amounts_is_provable(acts):
    world = world_of()
    for drawn in acts:
        act(world, drawn)
    world.settle_all()
    totals = [sum(world.engine.get_balance(k, token).total for k in range(4)) for token in (1, 2, 3)]
    assert all(total <= MAX_AMOUNT for total in totals)


# --- with everything


@pytest.mark.slow
@pytest.mark.xdist_group("live")
def test_the_largest_deposit_is_traded_proven_and_paid_out(live, session, tmp_path):
    coins, alice = MAX_AMOUNT, live.people["alice"].address
    live.open("alice", 1)
    live.open("bob", 2)
    live.deposit("bob", 2, ETH_TOKEN, 1_000_000)
    live.deposit("alice", 1, 2, coins)
    directory = live.directory(tmp_path / "operator")
    market = Market("COIN/ETH", 2, ETH_TOKEN, 1, 0, 0, MAX_AMOUNT, 1)
    settled = {"valid_until": LAST_TIME, "max_fee_bps": 0}

    async def work(s: Any) -> None:
        await s.client.post("/v1/batches")
        sell = live.order(1, "sell", 1, 1, LAST_ID, base_amount=coins, quote_amount=coins, **settled)
        assert (await s.post("/v1/orders", sell, 201))["order"]["status"] == "open"
        buy = live.order(2, "buy", 1, 1, 1, base_amount=7, quote_amount=7, **settled)
        assert (await s.post("/v1/orders", buy, 201))["order"]["status"] == "filled"
        await s.post("/v1/cancels", live.cancel(1, LAST_ID, hard=True), 201)
        rest = live.withdrawal(1, 2, coins - 7, LAST_ID - 1, valid_until=LAST_TIME)
        assert (await s.post("/v1/withdrawals", rest, 201))["amount"] == str(coins - 7)
        assert (await s.client.post("/v1/batches")).status_code == 200
        left = (await s.get("/v1/accounts/1"))["balances"]
        assert [(row["token"], row["total"]) for row in left] == [(ETH_TOKEN, "7")]

    session(directory, work, markets=[replace(market)])
    assert live.by("alice").claim_of(alice, 2) == coins - 7
    live.by("alice").claim(2)
    assert live.coin.functions.balanceOf(alice).call() == (coins - 7) * 10**12
