"""The rules M1 to M20 as far as Python has a part in them: each test tries the forgery that its rule answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proofbook.protocol import errors
from proofbook.protocol.babyjub import SUBGROUP_ORDER, Point
from proofbook.protocol.eddsa import Signature
from proofbook.protocol.field import R
from proofbook.protocol.messages import Action, challenge
from proofbook.protocol.sponge import commitment, horner
from proofbook.protocol.state import Account, State, slot_word
from proofbook.protocol.table import (
    HEADER_LAYOUT,
    MAX_AMOUNT,
    MINIMAL,
    SLOT_CLOSED,
    ActionType,
    RequestKind,
    Side,
    Size,
)
from proofbook.protocol.transition import apply, build_page
from proofbook.protocol.words import (
    ActionRow,
    FeeRow,
    Page,
    Request,
    RequestRow,
    page_from_words,
    page_words,
    unpack,
)

SIZE = Size(4, 4, 6, 2)


def with_rows(page: Page, *rows: ActionRow) -> Page:
    return replace(page, actions=rows)


# --- the state


def test_m01_the_root_follows_from_old_state_and_published_data(world: Any) -> None:
    page = world.build(acts=world.trade(1, 2, (5, 5), (10, 20)))
    again = apply(world.state, page)
    assert again.state.root == page.header.new_root != world.state.root
    for forged in (page.header.new_root + 1, world.state.root):
        with pytest.raises(errors.RootMismatch) as caught:
            apply(world.state, replace(page, header=replace(page.header, new_root=forged)))
        assert caught.value.actual == page.header.new_root


def test_m02_a_hashed_value_has_one_split(world: Any) -> None:
    # The same field element as (id 1, filled 1), split otherwise.
    assert slot_word((1, 1)) == (1 << 64) + 1
    for slot in ((1 + (1 << 64), 0), (0, 1 << 64)):
        with pytest.raises(errors.InvalidValue):
            slot_word(slot)
    for positions in (((2, 5), (1, 5)), ((1, 5), (1, 6)), ((1, 0),), ((0, 5),), ((1 << 16, 1),), ((1, 1 << 64),)):
        with pytest.raises(errors.InvalidValue):
            world.state.copy().put({1: Account(owner=1, positions=positions)})
    with pytest.raises(errors.InvalidValue):
        unpack(HEADER_LAYOUT, 1 << sum(bits for _, bits in HEADER_LAYOUT))


# --- signatures


def test_m03_nothing_passes_that_the_circuit_rejects(world: Any) -> None:
    row, good = world.withdraw(1, 5, 1, 10)
    page = world.build(acts=[(row, good)])
    (r8, s), other = good.signature, world.sign(replace(good.action, account=2))
    forged = [
        Signature(r8, s + SUBGROUP_ORDER),
        Signature(r8, (s + 1) % SUBGROUP_ORDER),
        Signature(Point(r8.x + R, r8.y), s),
        Signature(Point(-r8.x % R, r8.y), s),
        Signature(Point(0, 1), 0),
        other.signature,
    ]
    for signature in forged:
        with pytest.raises(errors.BadSignature):
            apply(world.state, page, [replace(good, signature=signature)])


def test_m03_a_key_of_low_order_signs_nothing(world: Any) -> None:
    identity = Request(RequestKind.KEY, 1, pub_x=0, pub_y=1)
    world.settle([identity])
    row, good = world.withdraw(1, 5, 1, 10)
    # Under the identity as key, R = S * B8 would satisfy the plain equation for any message.
    forged = replace(good, signature=Signature(Point(0, 1), 0))
    with pytest.raises(errors.BadSignature):
        world.build(acts=[(row, forged)])


def test_m04_a_signature_is_for_one_chain_and_contract(world: Any) -> None:
    row, good = world.withdraw(1, 5, 1, 10)
    elsewhere = world.sign(replace(good.action, domain=good.action.domain + 1))
    with pytest.raises(errors.WrongDomain):
        world.build(acts=[(row, elsewhere)])
    # A liar who relabels it fails at the signature.
    relabelled = replace(elsewhere, action=good.action)
    with pytest.raises(errors.BadSignature):
        world.build(acts=[(row, relabelled)])


def test_m05_the_commitment_depends_on_every_element_and_on_their_number() -> None:
    elements = list(range(1, 32))
    c = commitment(elements)
    for i in range(len(elements)):
        assert commitment([*elements[:i], elements[i] + 1, *elements[i + 1 :]]) != c
    assert commitment([*elements, 0]) != c
    assert commitment(elements[:-1]) != c


# --- accounts


def test_m06_an_account_opens_once_and_changes_its_key_once_a_batch(world: Any) -> None:
    with pytest.raises(errors.AccountOpen):
        world.build([world.opening(1, owner=666)])
    for requests in (
        [world.opening(3), world.opening(3)],
        [world.opening(3), world.rekey(3)],
        [world.rekey(1), world.rekey(1)],
        [world.rekey(1, 1), world.rekey(1, 2)],
    ):
        with pytest.raises(errors.KeyChangedTwice):
            world.build(requests)


def test_m06_a_key_request_changes_the_key_alone_and_at_once(world: Any) -> None:
    row, old = world.withdraw(1, 5, 1, 10)
    with pytest.raises(errors.BadSignature):
        world.build([world.rekey(1)], [(row, old)])
    before = world.state.account(1)
    world.settle([world.rekey(1)], [(row, world.sign(old.action, generation=1))])
    after = world.state.account(1)
    assert after.owner == before.owner != 0
    assert (after.pub_x, after.pub_y) != (before.pub_x, before.pub_y)


def test_m07_accounts_that_are_not_open_do_not_change(world: Any) -> None:
    sells = world.order(1, 5, Side.SELL, (10, 20, 0))
    buys = world.order(7, 5, Side.BUY, (10, 20, 0))
    pages: list[tuple[list[Request], list[Any]]] = [
        ([world.deposit(7, 1, 5)], []),
        ([world.leave(7, 1)], []),
        ([world.rekey(7)], []),
        ([world.opening(7, owner=0)], []),
        ([], [world.transfer(1, 5, 1, 10, to=7)]),
        ([], [world.cancel(7, 5)]),
        ([], [sells, buys]),
        ([world.deposit(MINIMAL.accounts, 1, 5)], []),
        ([world.opening(MINIMAL.accounts)], []),
    ]
    for requests, acts in pages:
        with pytest.raises(errors.UnknownAccount):
            world.build(requests, acts)


def test_m08_the_type_is_the_only_switch_and_rows_are_a_prefix(world: Any) -> None:
    page = world.build(acts=[world.withdraw(1, 5, 1, 10)])
    words = page_words(page, SIZE)
    first_action = 4 + 4 * SIZE.requests
    without_type = [*words]
    without_type[first_action] &= ~0xF
    shifted = [*words]
    shifted[first_action : first_action + 4] = [0, 0, *words[first_action : first_action + 2]]
    more_counted, none_counted = [*words], [*words]
    more_counted[1] += 1 << 152
    none_counted[1] -= 1 << 152
    for forged in (without_type, shifted, more_counted, none_counted):
        with pytest.raises(errors.NotCanonical):
            page_from_words(forged, SIZE)
    for type_ in (0, 5, 15):
        with pytest.raises(errors.NotCanonical):
            apply(world.state, with_rows(page, replace(page.actions[0], type=type_)))


def test_m08_all_zero_padding_changes_nothing(world: Any) -> None:
    small, large = Size(1, 1, 2, 1), Size(9, 16, 10, 5)
    acts = [world.withdraw(1, 5, 1, 10)]
    page = world.build(acts=acts)
    # The same rows in more room: the same page, the same result.
    assert page_from_words(page_words(page, small), small) == page_from_words(page_words(page, large), large) == page
    assert apply(world.state, page, size=small).state.root == apply(world.state, page, size=large).state.root
    # And a page of nothing but padding.
    empty = build_page(world.state, world.header(), [], [], [])
    assert set(page_words(empty, large)[4:]) == {0}
    outcome = apply(world.state, empty, [], size=large)
    assert outcome.state.root == world.state.root
    assert (outcome.credits, outcome.touched, dict(outcome.deltas)) == ((), (), {})


def test_m09_an_account_stands_on_the_page_once(world: Any) -> None:
    a, b, c = world.withdraw(1, 5, 1, 10), world.withdraw(2, 5, 1, 10), world.withdraw(1, 6, 1, 10)
    with pytest.raises(errors.RowsNotGrouped):
        world.build(acts=[a, b, c])
    outcome = world.settle([world.deposit(2, 1, 1)], [a, c, b])
    assert outcome.touched == (1, 2)


def test_m09_a_second_row_does_not_see_a_stale_slot(world: Any) -> None:
    acts = [world.withdraw(1, 5, 1, 10)] * 2
    with pytest.raises(errors.Replayed):
        world.build(acts=acts)


# --- actions


def test_m10_what_was_used_never_acts_again(world: Any) -> None:
    moves = [world.withdraw(1, 21, 1, 10), world.transfer(1, 22, 1, 10, to=2), world.cancel(1, 23)]
    outcome = world.settle(acts=moves)
    for id in (21, 22, 23):
        assert outcome.state.account(1).slot(MINIMAL, id) == (id, SLOT_CLOSED)
    for act in moves[:2]:
        with pytest.raises(errors.Replayed):
            world.build(acts=[act])
    # The cancelled order, and one whose slot a later id took over.
    with pytest.raises(errors.OverFilled):
        world.build(acts=[world.order(1, 23, Side.SELL, (1, 2, 0)), world.order(2, 5, Side.BUY, (1, 2, 0))])
    for stale in (world.withdraw(1, 5, 1, 1), world.transfer(1, 6, 1, 1, to=2), world.cancel(1, 7)):
        with pytest.raises(errors.SlotTaken):
            world.build(acts=[stale])
    world.settle(acts=[world.cancel(1, 23)])


def test_m10_a_move_is_one_debit_of_what_was_signed(world: Any) -> None:
    for row, signed in (world.withdraw(1, 5, 1, 10), world.transfer(1, 5, 1, 10, to=2)):
        for amount, error in ((11, errors.WrongAmount), (9, errors.WrongAmount), (0, errors.WrongAmount)):
            with pytest.raises(error):
                world.build(acts=[(replace(row, ex_base=amount), signed)])
        for field in ("ex_quote", "quote", "side"):
            with pytest.raises(errors.NotCanonical):
                world.build(acts=[(replace(row, **{field: 1}), signed)])
    row, signed = world.transfer(1, 5, 1, 10, to=2)
    with pytest.raises(errors.RowMismatch):
        world.build(acts=[(replace(row, aux=1), signed)])
    row, signed = world.cancel(1, 5)
    for field in ("base", "quote", "side", "ex_base", "ex_quote", "aux"):
        with pytest.raises(errors.NotCanonical):
            world.build(acts=[(replace(row, **{field: 1}), signed)])


def test_m11_no_base_no_quote_and_no_fee(world: Any) -> None:
    sell, buy = world.trade(1, 2, (5, 5), (10, 20))
    for ex_quote, fee in ((20, 0), (0, 1), (20, 1)):
        row = replace(sell[0], ex_base=0, ex_quote=ex_quote, aux=fee)
        with pytest.raises(errors.EmptyFill):
            world.build(acts=[(row, sell[1])])
        with pytest.raises(errors.EmptyFill):
            build_page(world.state, world.header(), [], [row], [])
    world.build(acts=[(replace(buy[0], ex_base=0, ex_quote=0), buy[1])])


def test_m11_signed_amounts_are_at_least_1(world: Any) -> None:
    row, good = world.order(1, 5, Side.SELL, (10, 20, 0))
    for change in ({"base_amount": 0}, {"quote_amount": 0}):
        action = replace(good.action, **change)
        with pytest.raises(errors.InvalidValue):
            action.check()
        with pytest.raises(errors.WrongAmount):
            world.build(acts=[(replace(row, ex_base=0, ex_quote=0), world.sign(action))])
    nothing = Action(good.action.domain, ActionType.WITHDRAW, 1, 5, base=1, valid_until=good.action.valid_until)
    with pytest.raises(errors.WrongAmount):
        world.build(acts=[(ActionRow(ActionType.WITHDRAW, 1, 5, 1), world.sign(nothing))])


# --- sums


def test_m12_fees_are_what_orders_paid_and_go_to_an_open_account(make_world: Any) -> None:
    world = make_world()
    world.settle([world.opening(i) for i in (1, 2)])
    world.settle([world.deposit(1, 1, 100), world.deposit(2, 2, 100)])
    acts = [world.order(1, 5, Side.SELL, (10, 20, 1)), world.order(2, 5, Side.BUY, (10, 20, 2))]
    with pytest.raises(errors.UnknownAccount):
        world.build(acts=acts, fees=[FeeRow(2, 3)])
    world.settle([world.opening(0)])
    for fees in ([], [FeeRow(2, 2)], [FeeRow(2, 4)], [FeeRow(1, 3)], [FeeRow(2, 3), FeeRow(1, 1)]):
        with pytest.raises(errors.TokensDoNotBalance):
            world.build(acts=acts, fees=fees)
    for broken in (FeeRow(2, 1 << 64), FeeRow(2, -1)):
        with pytest.raises(errors.InvalidValue):
            world.build(acts=acts, fees=[broken])
    assert world.settle(acts=acts, fees=[FeeRow(2, 1), FeeRow(2, 2)]).state.account(0).balance(2) == 3


def test_m12_without_a_place_for_the_token_the_fee_is_0(world: Any) -> None:
    world.settle([world.deposit(0, token, 1) for token in range(10, 25)])
    acts = [world.order(1, 5, Side.SELL, (10, 20, 1)), world.order(2, 5, Side.BUY, (10, 20, 2))]
    with pytest.raises(errors.PositionsFull):
        world.build(acts=acts, fees=[FeeRow(2, 3)])
    world.build(acts=world.trade(1, 2, (5, 5), (10, 20)), fees=[FeeRow(2, 0)])


def test_m13_an_exit_takes_everything(world: Any) -> None:
    page = world.build([world.leave(1, 1)], [world.withdraw(1, 5, 1, 100)])
    assert page.requests[0].outcome == 900
    for outcome, error in (
        (899, errors.WrongOutcome),
        (0, errors.WrongOutcome),
        (901, errors.NegativeBalance),
        (1 << 64, errors.InvalidValue),
    ):
        forged = replace(page, requests=(replace(page.requests[0], outcome=outcome),))
        with pytest.raises(error):
            apply(world.state, forged)
    assert apply(world.state, page).credits[0].amount == 900


def test_m13_a_deposit_bounces_exactly_where_it_has_no_place(world: Any) -> None:
    world.settle([world.deposit(1, token, 5) for token in range(10, 23)])
    full = world.state.account(1)
    assert len(full.positions) == 15
    new, held = world.deposit(1, 30, 7), world.deposit(1, 22, 7)
    page = world.build([new, held])
    assert [row.outcome for row in page.requests] == [1, 0]
    assert [(c.kind, c.owner, c.token, c.amount) for c in apply(world.state, page).credits] == [("bounce", 1001, 30, 7)]
    with pytest.raises(errors.PositionsFull):
        apply(world.state, replace(page, requests=(RequestRow(new, 0), RequestRow(held, 0))))
    with pytest.raises(errors.WrongOutcome):
        apply(world.state, replace(page, requests=(RequestRow(new, 1), RequestRow(held, 1))))
    with pytest.raises(errors.WrongOutcome):
        apply(world.state, replace(page, requests=(RequestRow(world.deposit(2, 30, 7), 1),)))
    with pytest.raises(errors.NotCanonical):
        apply(world.state, replace(page, requests=(RequestRow(new, 2),)))


def test_m13_the_final_positions_decide(world: Any) -> None:
    world.settle([world.deposit(1, token, 5) for token in range(10, 23)])
    # A place becomes free by a withdrawal of the same batch: the first newcomer takes it.
    requests = [world.deposit(1, 30, 7), world.deposit(1, 31, 7), world.deposit(1, 30, 1)]
    page = world.build(requests, [world.withdraw(1, 5, 10, 5)])
    assert [row.outcome for row in page.requests] == [0, 1, 0]
    both_bounce = tuple(RequestRow(request, 1) for request in requests)
    with pytest.raises(errors.WrongOutcome):
        apply(world.state, replace(page, requests=both_bounce))
    # A token deposited and exited has no place in the end: it leaves if any is free, else it bounces.
    for acts, outcomes in (([], [1, 0]), ([world.withdraw(1, 5, 10, 5)], [0, 7])):
        page = world.build([world.deposit(1, 30, 7), world.leave(1, 30)], acts)
        assert [row.outcome for row in page.requests] == outcomes


def test_m14_a_transfer_lands_only_on_a_token_held_before(world: Any) -> None:
    world.settle([world.deposit(1, 3, 50)])
    gift = world.transfer(1, 5, 3, 10, to=2)
    with pytest.raises(errors.TokenNotHeld):
        world.build(acts=[gift])
    # A deposit of the same batch does not count: positions before the batch do.
    with pytest.raises(errors.TokenNotHeld):
        world.build([world.deposit(2, 3, 1)], [gift])
    world.settle([world.deposit(2, 3, 1)])
    assert world.settle(acts=[gift]).state.account(2).balance(3) == 11


def test_m15_balances_have_64_bits(world: Any) -> None:
    world.settle([world.deposit(1, 3, MAX_AMOUNT)])
    with pytest.raises(errors.BalanceOverflow):
        world.build([world.deposit(1, 3, 1)])
    # Sums over the batch decide: what leaves in the same batch makes room.
    world.settle([world.deposit(1, 3, 1)], [world.withdraw(1, 5, 3, 1)])
    assert world.state.account(1).balance(3) == MAX_AMOUNT
    with pytest.raises(errors.NegativeBalance):
        world.build(acts=[world.withdraw(2, 5, 1, 1001)])


# --- binding


def test_m16_z_depends_on_every_word(world: Any) -> None:
    words = page_words(world.build([world.deposit(1, 1, 5)], [world.withdraw(2, 5, 1, 10)]), SIZE)
    z = challenge(31337, 5, 0, words, 9)
    for i in range(len(words)):
        assert challenge(31337, 5, 0, [*words[:i], (words[i] + 1) % R, *words[i + 1 :]], 9) != z
    others = [(1, 5, 0, words, 9), (31337, 6, 0, words, 9), (31337, 5, 1, words, 9), (31337, 5, 0, words, 8)]
    assert all(challenge(*other) != z for other in others)
    assert challenge(31337, 5, 0, [*words, 0], 9) != z


def test_m17_words_are_field_elements_of_their_width_in_their_places(world: Any) -> None:
    words = page_words(world.build([world.deposit(1, 1, 5)], [world.withdraw(2, 5, 1, 10)], [FeeRow(1, 0)]), SIZE)
    packed = (0, 1, 4, 4 + 4 * SIZE.requests, 5 + 4 * SIZE.requests, SIZE.words - SIZE.fees)
    for i in range(len(words)):
        for forged in [words[i] + R, -1, *([words[i] + (1 << 248)] if i in packed else [])]:
            with pytest.raises(errors.InvalidValue):
                page_from_words([*words[:i], forged, *words[i + 1 :]], SIZE)
    for forged_words in ([*words, 0], words[:-1]):
        with pytest.raises(errors.NotCanonical):
            page_from_words(forged_words, SIZE)
    for bad in ([R], [-1]):
        with pytest.raises(errors.InvalidValue):
            horner(bad, 5)
        with pytest.raises(errors.InvalidValue):
            challenge(1, 1, 0, bad, 0)
    with pytest.raises(errors.InvalidValue):
        horner([1], R)
    # A word keeps its power of z, however many rows are absent before it.
    fees = [0] * (SIZE.words - 1) + [FeeRow(1, 1).amount << 16 | 1]
    assert horner(fees, 3) == (65537 * 3 ** (SIZE.words - 1)) % R


def test_m18_a_page_starts_from_the_state_it_says(world: Any) -> None:
    page = world.build([world.deposit(1, 1, 5)])
    with pytest.raises(errors.OldRootMismatch):
        apply(State(MINIMAL), page)
    with pytest.raises(errors.OldRootMismatch):
        apply(apply(world.state, page).state, page)


def test_m20_any_two_field_elements_are_a_key(world: Any) -> None:
    for x, y in ((0, 0), (R - 1, R - 1), (2, 3)):
        world.build([Request(RequestKind.OPEN, 5, owner=9, pub_x=x, pub_y=y)])
    with pytest.raises(errors.InvalidValue):
        world.build([Request(RequestKind.OPEN, 5, owner=9, pub_x=R, pub_y=0)])
    # An exit of what is not there, and of the same twice, is a proven no-op.
    page = world.build([world.leave(1, 9), world.leave(1, 1), world.leave(1, 1)])
    assert [row.outcome for row in page.requests] == [0, 1000, 0]
