"""The transition as a whole: what pages do, and random ones that keep the books balanced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proofbook.protocol import errors
from proofbook.protocol.table import (
    MAX_AMOUNT,
    MINIMAL,
    SLOT_CLOSED,
    ActionType,
    Flag,
    RequestKind,
    Side,
    Size,
)
from proofbook.protocol.transition import Credit, apply, build, build_page, group_actions
from proofbook.protocol.words import ActionRow, FeeRow, Page, Request, page_from_words, page_words

SIZE = Size(16, 32, 16, 4)


# --- examples


def test_a_trade_moves_both_tokens_and_pays_fees(world: Any) -> None:
    acts = [
        world.order(1, 5, Side.SELL, (100, 305, 1), limit=(200, 600), fee_bps=50),
        world.order(2, 6, Side.BUY, (100, 305, 5), limit=(100, 310), fee_bps=200),
    ]
    outcome = world.settle(acts=acts, fees=[FeeRow(2, 6)])
    assert outcome.state.account(1).positions == ((1, 900), (2, 1304))
    assert outcome.state.account(2).positions == ((1, 1100), (2, 690))
    assert outcome.state.account(0).positions == ((2, 6),)
    assert outcome.state.account(1).slot(MINIMAL, 5) == (5, 100)
    assert (outcome.touched, outcome.credits) == ((0, 1, 2), ())
    assert outcome.deltas == {(1, 1): -100, (1, 2): 304, (2, 1): 100, (2, 2): -310, (0, 2): 6}


def test_an_order_fills_over_many_batches_and_never_beyond_its_amount(world: Any) -> None:
    for filled in (40, 80):
        acts = [
            world.order(1, 5, Side.SELL, (40, 80, 0), limit=(100, 200)),
            world.order(2, 5 + filled, Side.BUY, (40, 80, 0)),
        ]
        assert world.settle(acts=acts).state.account(1).slot(MINIMAL, 5) == (5, filled)
    acts = [world.order(1, 5, Side.SELL, (21, 42, 0), limit=(100, 200)), world.order(2, 200, Side.BUY, (21, 42, 0))]
    with pytest.raises(errors.OverFilled):
        world.build(acts=acts)


def test_an_order_may_stand_in_two_rows_of_one_batch(world: Any) -> None:
    half = world.order(1, 5, Side.SELL, (40, 80, 0), limit=(80, 160))
    acts = [half, half, world.order(2, 5, Side.BUY, (80, 160, 0))]
    assert world.settle(acts=acts).state.account(1).slot(MINIMAL, 5) == (5, 80)


def test_limits_hold_to_the_last_quantum(world: Any) -> None:
    def settle(fill: int, sell: tuple[int, int], buy: tuple[int, int]) -> None:
        world.build(
            acts=[
                world.order(1, 5, Side.SELL, (10, fill, 0), limit=sell),
                world.order(2, 5, Side.BUY, (10, fill, 0), limit=buy),
            ]
        )

    settle(21, (100, 210), (100, 210))
    with pytest.raises(errors.WorseThanLimit):
        settle(21, (100, 211), (100, 210))
    with pytest.raises(errors.WorseThanLimit):
        settle(21, (100, 210), (100, 209))


def test_the_fee_cap_holds_to_the_last_quantum(world: Any) -> None:
    seller = world.order(1, 5, Side.SELL, (10, 199, 0))
    for fee, fine in ((1, True), (2, False)):
        acts = [seller, world.order(2, 5, Side.BUY, (10, 199, fee), fee_bps=100)]
        if fine:
            world.build(acts=acts, fees=[FeeRow(2, fee)])
        else:
            with pytest.raises(errors.FeeTooHigh):
                world.build(acts=acts, fees=[FeeRow(2, fee)])


def test_a_fee_above_what_a_seller_gets_is_provable_if_signed(world: Any) -> None:
    """14 bits allow more than 100 %; the API refuses to admit it, the proof does not mind."""
    row, signed = world.order(1, 5, Side.SELL, (10, 100, 150))
    action = replace(signed.action, max_fee_bps=15_000)
    with pytest.raises(errors.InvalidValue):
        action.check()
    acts = [(row, world.sign(action)), world.order(2, 5, Side.BUY, (10, 100, 0))]
    assert world.settle(acts=acts, fees=[FeeRow(2, 150)]).state.account(1).balance(2) == 950


def test_fill_or_kill_fills_whole_or_not_at_all(world: Any) -> None:
    sell = world.order(1, 5, Side.SELL, (10, 20, 0))
    world.build(acts=[sell, world.order(2, 5, Side.BUY, (10, 20, 0), flags=Flag.FOK)])
    with pytest.raises(errors.FillOrKillPartial):
        world.build(acts=[sell, world.order(2, 5, Side.BUY, (10, 20, 0), limit=(11, 22), flags=Flag.FOK)])


def test_actions_expire_after_their_second(world: Any) -> None:
    row, signed = world.cancel(1, 5)
    world.build(acts=[(row, signed)])
    late = replace(signed.action, valid_until=signed.action.valid_until - 1)
    with pytest.raises(errors.Expired):
        world.build(acts=[(row, world.sign(late))])


def test_a_row_says_what_was_signed(world: Any) -> None:
    sell, buy = world.trade(1, 2, (5, 5), (10, 20))
    page = world.build(acts=[sell, buy])
    signed = [sell[1], buy[1]]
    for change in ({"id": 6}, {"base": 3}, {"quote": 3}, {"side": 0}):
        forged = replace(page, actions=(replace(page.actions[0], **change), page.actions[1]))
        with pytest.raises(errors.RowMismatch):
            apply(world.state, forged, signed)
    receiver = world.sign(replace(sell[1].action, receiver=1))
    with pytest.raises(errors.RowMismatch):
        apply(world.state, page, [receiver, buy[1]])
    with pytest.raises(errors.BadSignature):
        apply(world.state, page, [sell[1], replace(buy[1], signature=sell[1].signature)])
    with pytest.raises(errors.InvalidValue):
        apply(world.state, page, [sell[1]])


def test_withdrawals_and_transfers(world: Any) -> None:
    acts = [world.withdraw(1, 5, 1, 1000), world.transfer(1, 6, 2, 300, to=2)]
    outcome = world.settle(acts=acts)
    assert outcome.credits == (Credit("withdraw", 1, 1001, 1, 1000),)
    assert outcome.state.account(1).positions == ((2, 700),)
    assert outcome.state.account(2).positions == ((1, 1000), (2, 1300))
    assert outcome.state.account(1).slot(MINIMAL, 5) == (5, SLOT_CLOSED)


def test_transfers_and_trades_with_oneself_change_nothing_but_slots(world: Any) -> None:
    sell, buy = world.trade(1, 1, (5, 6), (10, 20))
    outcome = world.settle(acts=[sell, buy, world.transfer(1, 7, 1, 10, to=1)])
    assert outcome.state.account(1).positions == ((1, 1000), (2, 1000))
    assert sorted(outcome.state.account(1).orders) == [5, 6, 7]


def test_sums_decide_and_not_running_balances(world: Any) -> None:
    """Spent before it came in, within one batch: that has no order in time."""
    acts = [world.withdraw(1, 5, 1, 1500), world.transfer(2, 5, 1, 600, to=1)]
    assert world.settle(acts=acts).state.account(1).balance(1) == 100
    with pytest.raises(errors.NegativeBalance):
        world.build(acts=[world.withdraw(1, 6, 1, 101)])


def test_open_deposit_and_act_in_one_batch(world: Any) -> None:
    requests = [world.deposit(9, 1, 70), world.opening(9)]
    outcome = world.settle(requests, [world.withdraw(9, 5, 1, 30)])
    assert outcome.state.account(9).positions == ((1, 40),)
    assert outcome.credits == (Credit("withdraw", 9, 1009, 1, 30),)


def test_credits_stand_in_the_order_of_rows(world: Any) -> None:
    world.settle([world.deposit(1, token, 5) for token in range(10, 23)])
    requests = [world.leave(2, 1), world.deposit(1, 30, 7), world.leave(2, 9)]
    outcome = world.settle(requests, [world.withdraw(1, 5, 1, 1), world.withdraw(2, 5, 2, 2)])
    assert outcome.credits == (
        Credit("exit", 2, 1002, 1, 1000),
        Credit("bounce", 1, 1001, 30, 7),
        Credit("withdraw", 1, 1001, 1, 1),
        Credit("withdraw", 2, 1002, 2, 2),
    )


def test_the_size_must_have_room_for_the_touched_accounts(world: Any) -> None:
    acts = [world.transfer(1, 5, 1, 1, to=2)]
    page = world.build(acts=acts)
    assert apply(world.state, page, size=Size(1, 1, 2, 1)).touched == (1, 2)
    with pytest.raises(errors.TooManyRows) as caught:
        apply(world.state, page, size=Size(1, 1, 1, 1))
    assert (caught.value.kind, caught.value.rows) == ("accounts", 2)
    with pytest.raises(errors.TooManyRows):
        build(world.state, world.header(), [], page.actions, [], size=Size(1, 1, 1, 1))


def test_counters_of_look_ups_do_not_overflow(world: Any) -> None:
    world.build([world.deposit(1, 1, 1)] * 255)
    with pytest.raises(errors.TooManyOfOneAccount):
        world.build([world.deposit(1, 1, 1)] * 256)
    rows = [ActionRow(ActionType.TRANSFER, 1, id, 1, ex_base=1, aux=2) for id in range(1, 129)]
    build_page(world.state, world.header(), [], rows[:127], [])
    with pytest.raises(errors.TooManyOfOneAccount):
        build_page(world.state, world.header(), [], rows, [])


def test_filled_never_wraps_without_signatures(world: Any) -> None:
    world.settle(acts=[world.cancel(1, 5)])
    rows = [ActionRow(ActionType.ORDER, 1, 5, 1, 2, side, 1, 2, 0) for side in (0, 1)]
    with pytest.raises(errors.OverFilled):
        build_page(world.state, world.header(), [], rows, [])


def test_id_0_counts_as_used(world: Any) -> None:
    with pytest.raises(errors.Replayed):
        build_page(world.state, world.header(), [], [ActionRow(ActionType.WITHDRAW, 1, 0, 1, ex_base=1)], [])


def test_grouping_keeps_the_order_within_an_account(world: Any) -> None:
    acts = [world.cancel(2, 5), world.cancel(1, 6), world.cancel(2, 7), world.cancel(1, 5)]
    rows, signed = group_actions([row for row, _ in acts], [sign for _, sign in acts])
    assert [(row.account, row.id) for row in rows] == [(1, 6), (1, 5), (2, 5), (2, 7)]
    assert signed is not None
    assert [(sign.action.account, sign.action.id) for sign in signed] == [(1, 6), (1, 5), (2, 5), (2, 7)]
    assert group_actions(rows)[1] is None


def test_the_input_never_changes(world: Any) -> None:
    before, accounts = world.state.root, dict(world.state.accounts)
    page = world.build([world.deposit(1, 1, 5), world.opening(9)], [world.withdraw(2, 5, 1, 10)])
    apply(world.state, page)
    with pytest.raises(errors.NegativeBalance):
        world.build(acts=[world.withdraw(2, 6, 1, 100_000)])
    assert (world.state.root, dict(world.state.accounts)) == (before, accounts)


def test_deposits_that_bounce_cannot_be_spent(world: Any) -> None:
    world.settle([world.deposit(1, token, 5) for token in range(10, 23)])
    with pytest.raises((errors.WrongOutcome, errors.NegativeBalance)):
        world.build([world.deposit(1, 30, 7)], [world.withdraw(1, 5, 30, 7)])


# --- random pages

TRADERS = (1, 2, 3)
amounts = st.integers(1, 60)


@st.composite
def orders(draw: st.DrawFn, world: Any, ids: dict[int, int]) -> tuple[list[Any], int]:
    """Draw both rows of a trade, and the fees they pay together."""

    def next_id(account: int) -> int:
        ids[account] = ids.get(account, 4) + draw(st.integers(1, 3))
        return ids[account]

    seller, buyer = draw(st.sampled_from(TRADERS)), draw(st.sampled_from(TRADERS))
    base, quote = draw(amounts), draw(amounts)
    fees = draw(st.integers(0, quote)), draw(st.integers(0, quote))
    sell = world.order(seller, next_id(seller), Side.SELL, (base, quote, fees[0]), limit=(2 * base, 2 * quote))
    buy = world.order(buyer, next_id(buyer), Side.BUY, (base, quote, fees[1]), limit=(base, quote + 1))
    return [sell, buy], sum(fees)


@st.composite
def moves(draw: st.DrawFn, world: Any, ids: dict[int, int]) -> Any:
    account, token = draw(st.sampled_from(TRADERS)), draw(st.sampled_from((1, 2)))
    ids[account] = id = ids.get(account, 4) + 1
    kind = draw(st.sampled_from(("withdraw", "transfer", "cancel")))
    if kind == "cancel":
        return world.cancel(account, id)
    if kind == "withdraw":
        return world.withdraw(account, id, token, draw(amounts))
    return world.transfer(account, id, token, draw(amounts), to=draw(st.sampled_from(TRADERS)))


def requests(world: Any) -> st.SearchStrategy[list[Request]]:
    account, token = st.sampled_from(TRADERS), st.integers(1, 4)
    one = st.one_of(
        st.builds(world.deposit, account, token, amounts),
        st.builds(world.leave, account, token),
    )
    opening = st.sampled_from([[], [world.opening(4)], [world.opening(4), world.deposit(4, 3, 7)]])
    return st.tuples(opening, st.lists(one, max_size=4)).map(lambda parts: parts[0] + parts[1])


def make_page(world: Any, data: st.DataObject) -> tuple[Page, list[Any]]:
    ids: dict[int, int] = {}
    acts: list[Any] = []
    fees = 0
    for _ in range(data.draw(st.integers(0, 3))):
        pair, paid = data.draw(orders(world, ids))
        acts += pair
        fees += paid
    for _ in range(data.draw(st.integers(0, 3))):
        acts.append(data.draw(moves(world, ids)))
    rows, signed = group_actions([row for row, _ in acts], [sign for _, sign in acts])
    fee_rows = [FeeRow(2, fees)] if fees else []
    try:
        page = build_page(world.state, world.header(), data.draw(requests(world)), rows, fee_rows, signed)
    except errors.NegativeBalance:
        assume(False)
    except errors.TokenNotHeld:
        assume(False)
    return page, list(signed or ())


@pytest.fixture(scope="module")
def rich(make_world: Any) -> Any:
    made = make_world()
    made.start({account: {1: 300, 2: 300} for account in TRADERS})
    return made


def money(state: Any) -> dict[int, int]:
    totals: dict[int, int] = {}
    for account in state.accounts.values():
        for token, amount in account.positions:
            totals[token] = totals.get(token, 0) + amount
    return totals


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_money_is_conserved(rich: Any, data: st.DataObject) -> None:
    page, signed = make_page(rich, data)
    outcome = apply(rich.state, page, signed)
    expected = money(rich.state)
    for row in page.requests:
        if row.request.kind == RequestKind.DEPOSIT:
            expected[row.request.token] = expected.get(row.request.token, 0) + row.request.amount
    for credit in outcome.credits:
        expected[credit.token] -= credit.amount
    assert {token: total for token, total in expected.items() if total} == money(outcome.state)
    for account in outcome.state.accounts.values():
        account.check(MINIMAL)
        assert all(1 <= amount <= MAX_AMOUNT for _, amount in account.positions)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_published_data_alone_gives_the_same_state(rich: Any, data: st.DataObject) -> None:
    page, signed = make_page(rich, data)
    with_signatures = apply(rich.state, page, signed, SIZE)
    read = page_from_words(page_words(page, SIZE), SIZE)
    replayed = apply(rich.state, read, size=SIZE)
    assert replayed.state.root == with_signatures.state.root == page.header.new_root
    assert dict(replayed.state.accounts) == dict(with_signatures.state.accounts)
    assert (replayed.credits, replayed.touched) == (with_signatures.credits, with_signatures.touched)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_bit_of_the_rows_matters(rich: Any, data: st.DataObject) -> None:
    page, _ = make_page(rich, data)
    words = page_words(page, SIZE)
    used = [i for i in range(4, SIZE.words) if words[i]]
    assume(used)
    words[data.draw(st.sampled_from(used))] ^= 1 << data.draw(st.integers(0, 255))
    with pytest.raises(errors.ProofbookError):
        apply(rich.state, page_from_words(words, SIZE))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_outcomes_exist_whenever_nothing_is_spent(make_world: Any, data: st.DataObject) -> None:
    """Whatever L1 queues for an open account can be served (M20), with any number of places taken before."""
    world = make_world()
    held = data.draw(st.integers(0, 15))
    world.start({1: dict.fromkeys(range(1, 1 + held), 10)})
    token = st.integers(1, 18)
    one = st.one_of(st.builds(world.deposit, st.just(1), token, amounts), st.builds(world.leave, st.just(1), token))
    queue = data.draw(st.lists(one, max_size=8))
    page = build_page(world.state, world.header(), queue, [], [])
    outcome = apply(world.state, page)
    left = {token for token, _ in outcome.state.account(1).positions}
    for row in page.requests:
        if row.request.kind == RequestKind.EXIT:
            assert row.request.token not in left
        elif row.outcome:
            assert len(left) == 15
            assert row.request.token not in left
