"""The circuit refuses the forgery that each rule answers.

Each lie is told as well as it can be: what depends on the bent value (roots, C, z, y) is made anew, and the test names
the line of the circuit that refuses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proofbook.protocol.babyjub import SUBGROUP_ORDER
from proofbook.protocol.eddsa import Signature
from proofbook.protocol.field import R
from proofbook.protocol.messages import Action
from proofbook.protocol.sponge import commitment, horner
from proofbook.protocol.state import EMPTY_ACCOUNT
from proofbook.protocol.table import MAX_AMOUNT, SLOT_CLOSED, ActionType, Flag, RequestKind, Side
from proofbook.protocol.words import ActionRow, FeeRow, Request
from proofbook.prover.witness import assemble_inputs

RISING = "RangeCheck(TOKEN_BITS())(tokens[j + 1] - tokens[j] - 1 + isEmpty[j]);"
AMOUNT = "RangeCheck(AMOUNT_BITS())(amounts[j]);"
SPLIT = "RangeChecks(POSITIONS(), TOKEN_BITS())(tokens);"
EQUATION = "enabled * (left[0] - right[0]) === 0;"
CHILD = "pick[h].out === before[h];"
ORDERED = "RangeCheck(bits)(step[i]);"
PREFIX = "enabled[i] * (1 - enabled[i - 1]) === 0;"
WORDS = "y === evaluated;"


def refuses(lie: Any, line: str) -> None:
    refusal = lie.refused()
    assert refusal.line == line, refusal.text


# --- the state


def test_m01_positions_have_one_form(scene: Any) -> None:
    honest = scene.page([scene.world.deposit(1, 1, 5)])
    lies = {
        "swapped": ([0] * 13 + [2, 1], [0] * 13 + [1000, 1005], RISING),
        "empty between": ([0] * 12 + [1, 0, 2], [0] * 12 + [1005, 0, 1000], RISING),
        "twice": ([0] * 12 + [1, 1, 2], [0] * 12 + [1000, 5, 1000], RISING),
        "empty last": ([0] * 12 + [1, 2, 0], [0] * 12 + [1005, 1000, 0], RISING),
        "nothing of a token": (
            [0] * 12 + [1, 2, 3],
            [0] * 12 + [1005, 1000, 0],
            "NonZeroExactlyWhen()(amounts[j], 1 - isEmpty[j]);",
        ),
        "something of no token": (
            [0] * 13 + [1, 2],
            [0] * 12 + [1, 1005, 1000],
            "NonZeroExactlyWhen()(amounts[j], 1 - isEmpty[j]);",
        ),
        "token beyond 16 bits": (
            [0] * 13 + [1, 1 << 16],
            [0] * 13 + [1005, 1000],
            "RangeCheck(TOKEN_BITS())(tokens[LAST]);",
        ),
        "first token beyond 16 bits": (
            [1 << 16] + [0] * 12 + [1, 2],
            [1] + [0] * 12 + [1005, 1000],
            "RangeCheck(TOKEN_BITS())(tokens[0]);",
        ),
    }
    for tokens, amounts, line in lies.values():
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.set("accountNewTokens", 0, tokens)
        lie.set("accountNewAmounts", 0, amounts)
        lie.set("requestTokens", 0, [token % (1 << 16) for token in tokens])
        refuses(lie.settle(), line)
    honest.settle().accepted()


def test_m01_old_leaves_and_roots_are_the_states(scene: Any) -> None:
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.positions(0, "Old", {1: 1_000_000, 2: 1000})
    lie.positions(0, "New", {1: 1_000_005, 2: 1000})
    refuses(lie.settle(), CHILD)
    for name, line in (
        ("oldRoot", "account[0].oldRoot === oldRoot;"),
        ("newRoot", "account[N - 1].newRoot === newRoot;"),
    ):
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.inputs[name] += 1
        refuses(lie.bind(), line)
    # The second row's path is of the state before the first row: the first row's change would be lost.
    lie = scene.page([scene.world.deposit(1, 1, 5), scene.world.deposit(2, 1, 5)])
    lie.set("accountPath", 1, scene.state.path(2))
    refuses(lie.bind(), "account[i].oldRoot === account[i - 1].newRoot;")


def test_m02_old_tokens_have_one_split(scene: Any) -> None:
    # Tokens (1, 2) in the places of 2^208 and 2^224: T is the same with (1 + 2^16, 1).
    for name in ("accountOldTokens", "requestTokens"):
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.set(name, 0, [0] * 13 + [1 + (1 << 16), 1])
        refuses(lie.settle(), SPLIT)


def test_m02_a_slot_and_an_index_have_one_split(scene: Any) -> None:
    world = scene.world
    world.settle(acts=world.trade(1, 2, (5, 5), (10, 20)))
    (slot_id, filled) = scene.state.account(1).slot(scene.state.preset, 21)
    assert (slot_id, filled) == (5, 10)
    for other in ((5 + (1 << 64), 9), ((5 - (1 << 64)) % R, 11)):
        lie = scene.page([], [world.withdraw(1, 21, 1, 10)])
        lie.set("actionSlotId", 0, other[0])
        lie.set("actionSlotFilled", 0, other[1])
        refuses(lie.bind(), "RangeCheck(ID_BITS())(slotId);")
    lie = scene.page([world.deposit(1, 1, 5)])
    lie.set("accountIndex", 0, 1 + scene.state.preset.accounts)
    refuses(lie.settle(), "signal bits[3 * depth] <== Num2Bits(3 * depth)(index);")


# --- signatures


def test_m03_forged_signatures(scene: Any) -> None:
    row, good = scene.world.withdraw(1, 5, 1, 10)
    (r8, s), others = good.signature, scene.world.withdraw(2, 5, 1, 10)[1].signature
    forged = {
        "s of the next period": (Signature(r8, s + SUBGROUP_ORDER), "AtMostConstant(253, ORDER - 1)(sBits);"),
        "wrong s": (Signature(r8, (s + 1) % SUBGROUP_ORDER), EQUATION),
        "negated R8": (Signature(r8._replace(x=R - r8.x), s), EQUATION),
        "of another account": (others, EQUATION),
        "R8 off the curve": (Signature(r8._replace(x=(r8.x + 1) % R), s), "BabyCheck()(r8[0], r8[1]);"),
    }
    for signature, line in forged.values():
        refuses(scene.unsigned([], [(row, replace(good, signature=signature))]), line)


def test_m03_s_beyond_253_bits(scene: Any) -> None:
    row, good = scene.world.withdraw(1, 5, 1, 10)
    beyond = Signature(good.signature.r8, good.signature.s + 7 * SUBGROUP_ORDER)
    refusal = scene.unsigned([], [(row, replace(good, signature=beyond))]).refused()
    assert refusal.line == "signal sBits[253] <== Num2Bits(253)(s);", refusal.text


@pytest.mark.parametrize(
    ("pub", "line"),
    [
        ((0, 1), "twice[2].xout * inverse === 1;"),
        ((0, R - 1), "twice[2].xout * inverse === 1;"),
        ((5, 5), "BabyCheck()(pub[0], pub[1]);"),
    ],
)
def test_m03_keys_under_which_anything_could_be_signed(scene: Any, pub: tuple[int, int], line: str) -> None:
    scene.world.settle([Request(RequestKind.KEY, 1, pub_x=pub[0], pub_y=pub[1])])
    row, good = scene.world.withdraw(1, 5, 1, 10)
    # S = 0 and R8 = the identity solve the equation under the identity as key.
    for signature in (good.signature, Signature(good.signature.r8._replace(x=0, y=1), 0)):
        refuses(scene.unsigned([], [(row, replace(good, signature=signature))]), line)


def test_m03_what_is_signed_is_what_is_done(scene: Any) -> None:
    row, good = scene.world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    changes = {"max_fee_bps": 5, "valid_until": good.action.valid_until + 1, "flags": 1, "base_amount": 11}
    changes |= {"quote_amount": 19}
    for name, value in changes.items():
        bent = replace(good, action=replace(good.action, **{name: value}))
        refuses(scene.unsigned([], [(row, bent)]), EQUATION)


def test_m04_a_signature_is_for_one_chain_and_contract(scene: Any) -> None:
    row, good = scene.world.withdraw(1, 5, 1, 10)
    elsewhere = scene.world.sign(replace(good.action, domain=good.action.domain + 1))
    refuses(scene.unsigned([], [(row, replace(elsewhere, action=good.action))]), EQUATION)
    # With the other domain as header the signature is good, but the contract's word is its own.
    lie = scene.unsigned([], [(row, replace(elsewhere, action=good.action))])
    honest = scene.page([], [(row, good)])
    lie.inputs["domain"] += 1
    lie.bind()
    lie.inputs["y"] = horner(words_of(honest), lie.inputs["z"])
    refuses(lie, WORDS)


def words_of(lie: Any) -> list[int]:
    drawn: list[list[int]] = []
    probe = type(lie)(lie.state, lie.inputs, lambda words, c: drawn.append(list(words)) or 0, lie.calculate)
    probe.bind()
    return drawn[0]


# --- binding


def test_m05_c_is_the_sponge_of_all_that_identities_use(scene: Any, forging: Any) -> None:
    world = scene.world
    acts = [world.withdraw(1, 5, 1, 10), world.transfer(1, 6, 2, 10, to=2)]
    lie = scene.page([world.deposit(2, 1, 5)], acts)
    elements = forging.elements(lie.inputs)
    lie.accepted()
    # 4 + 16 + 8 + 2 words, 4 copies of T, 3 an action, the first flags, 3 an account.
    assert len(elements) == 30 + 4 + 12 + 1 + 18
    for i in (0, 3, 4, 20, 29, 30, 34, 35, 36, 46, 47, 48, 49, 64):
        other = [*elements[:i], (elements[i] + 1) % R, *elements[i + 1 :]]
        lie.inputs["C"] = commitment(other)
        lie.inputs["z"] = lie.draw(forging.words(lie.inputs), lie.inputs["C"])
        lie.inputs["y"] = horner(forging.words(lie.inputs), lie.inputs["z"])
        refuses(lie, "C === sponge.out;")


def test_m16_m17_y_is_of_every_word_in_its_place(scene: Any, forging: Any) -> None:
    lie = scene.page([scene.world.deposit(2, 1, 5)], [scene.world.withdraw(1, 5, 1, 10)])
    words, z = forging.words(lie.inputs), lie.inputs["z"]
    lie.accepted()
    present = [word for word in words if word]
    forged = [[*words[:i], (words[i] + 1) % R, *words[i + 1 :]] for i in (0, 1, 2, 3, 4, 7, 8, 20, 21, 22, 29)]
    # Without the absent rows' zeros, and with the header's counts changed by one.
    forged += [present, words[:4] + words[8:], *([words[0], words[1] + (1 << k), *words[2:]] for k in (136, 152, 168))]
    for other in forged:
        lie.inputs["y"] = horner([word % R for word in other], z)
        refuses(lie, WORDS)


@pytest.mark.parametrize("name", ["C", "z", "y"])
def test_m17_public_inputs_are_field_elements(scene: Any, name: str) -> None:
    lie = scene.page()
    lie.inputs[name] += R
    with pytest.raises(Exception, match="not a field element") as caught:
        lie.accepted()
    assert getattr(caught.value, "code", "") == "witness/inputs"


# --- accounts


def test_m06_keys_change_only_by_request(scene: Any) -> None:
    world, other = scene.world, [7, 9]
    lie = scene.page([world.deposit(1, 1, 5)])
    lie.set("accountNewPub", 0, other)
    refuses(lie.settle(), "(1 - keyed) * (newPub[0] - oldPub[0]) === 0;")
    lie.set("accountNewPub", 0, [lie.inputs["accountOldPub"][0][0], 9])
    refuses(lie.settle(), "(1 - keyed) * (newPub[1] - oldPub[1]) === 0;")
    # Marked as re-keyed without a request, and with a request for another key, and for another account.
    lie.set("accountRekeyed", 0, 1)
    refuses(lie.settle(), "opened === 0;")
    lie = scene.page([world.rekey(1)])
    lie.set("accountNewPub", 0, other)
    refuses(lie.settle(), "opened === 0;")
    lie = scene.page([world.rekey(1), world.deposit(2, 1, 5)])
    lie.holder(0, "New", scene.state.account(1))
    lie.set("accountRekeyed", 0, 0)
    lie.set("accountRekeyed", 1, 1)
    lie.set("accountNewPub", 1, lie.inputs["requestPub"][0])
    refuses(lie.settle(), "opened === 0;")
    # A key request passed over.
    lie = scene.page([world.rekey(1)])
    lie.set("accountNewPub", 0, lie.inputs["accountOldPub"][0])
    lie.set("accountRekeyed", 0, 0)
    refuses(lie.settle(), "opened === 0;")


def test_m06_owners_are_those_of_open_requests(scene: Any) -> None:
    world = scene.world
    lie = scene.page([world.rekey(1)])
    lie.set("accountNewOwner", 0, 666)
    refuses(lie.settle(), "(1 - opened) * (newOwner - oldOwner) === 0;")
    lie = scene.page([world.opening(3)])
    lie.set("accountNewOwner", 0, 666)
    refuses(lie.settle(), "opened === 0;")
    # Marked as both.
    lie = scene.page([world.opening(3)])
    lie.set("accountRekeyed", 0, 1)
    refuses(lie.settle(), "signal keyed <== OneHot(2)([opened, rekeyed]);")
    # An open request may not be answered as a key request, which would keep the owner.
    lie = scene.page([world.opening(3)])
    lie.set("accountOpened", 0, 0)
    lie.set("accountRekeyed", 0, 1)
    lie.set("accountNewOwner", 0, 0)
    refuses(lie.settle(), "newOwner * inverse === enabled;")


def test_m06_an_open_account_is_not_opened_again(scene: Any) -> None:
    lie = scene.page([scene.world.opening(3)])
    lie.set("requestAccount", 0, 1)
    lie.set("accountIndex", 0, 1)
    lie.holder(0, "Old", scene.state.account(1))
    lie.positions(0, "New", dict(scene.state.account(1).positions))
    lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
    refuses(lie.settle(), "opened * (oldLeaf - EMPTY_LEAF(orderDepth)) === 0;")


def test_m06_an_opened_account_has_no_balances(scene: Any) -> None:
    lie = scene.page([scene.world.opening(3)])
    lie.positions(0, "New", {1: 500})
    lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
    refuses(lie.settle(), "ledger === 0;")
    # As if it had had them before.
    lie.positions(0, "Old", {1: 500})
    refuses(lie.settle(), "opened * (oldLeaf - EMPTY_LEAF(orderDepth)) === 0;")


def test_m06_order_trees_change_only_by_actions(scene: Any) -> None:
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.set("accountNewOrdersRoot", 0, 5)
    refuses(lie.settle(), "(1 - acted) * (newOrdersRoot - oldOrdersRoot) === 0;")
    lie.set("accountActed", 0, 1)
    refuses(lie.settle(), "first === 0;")
    # With an action, but another end than the action's.
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.set("accountNewOrdersRoot", 0, 5)
    refuses(lie.settle(), "last === 0;")
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.set("accountNewOrdersRoot", 0, lie.inputs["accountOldOrdersRoot"][0])
    lie.set("accountActed", 0, 0)
    refuses(lie.settle(), "first === 0;")


def test_m06_an_action_is_signed_by_the_accounts_key(scene: Any) -> None:
    """The row's key is tied to the account's: another's signature under another's key is good by itself."""
    row, good = scene.world.withdraw(1, 5, 1, 10)
    stranger = scene.world.sign(good.action, generation=9)
    lie = scene.unsigned([], [(row, stranger)])
    lie.set("actionPub", 0, list(public_of(9, 1)))
    refuses(lie.settle(), "first === 0;")


def public_of(generation: int, index: int) -> tuple[int, int]:
    from proofbook.protocol.eddsa import derive_public

    return tuple(derive_public(bytes([generation, index]) * 16))


def test_m07_accounts_that_are_not_open_do_not_change(scene: Any) -> None:
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.set("requestAccount", 0, 7)
    lie.set("accountIndex", 0, 7)
    for side in ("Old", "New"):
        lie.holder(0, side, EMPTY_ACCOUNT)
    lie.positions(0, "New", {1: 5})
    lie.set("requestTokens", 0, [0] * 14 + [1])
    refuses(lie.settle(), "newOwner * inverse === enabled;")
    # A transfer to nobody: the old positions that it needs are not there either.
    lie.set("accountEnabled", 0, 0)
    refuses(lie.settle(), "(1 - enabled) * packed === 0;")


# --- rows


def test_m08_rows_are_a_prefix(scene: Any) -> None:
    world = scene.world
    acts = world.trade(1, 2, (5, 5), (10, 20))
    fees = [FeeRow(2, 0)]
    for kind, rows in (("request", 2), ("action", 3), ("fee", 1), ("account", 3)):
        lie = scene.page([world.deposit(1, 1, 5), world.deposit(2, 1, 5)], [*acts, world.withdraw(2, 6, 1, 1)], fees)
        if kind == "account":
            lie = scene.page([world.deposit(1, 1, 5), world.deposit(2, 1, 5), world.rekey(0)])
        lie.swap(kind, rows - 1, rows)
        refuses(lie.settle(), PREFIX)


def test_m08_first_flags(scene: Any) -> None:
    world = scene.world
    two = [world.withdraw(1, 5, 1, 10), world.withdraw(1, 6, 1, 10), world.withdraw(2, 5, 1, 10)]

    def told(flags: list[int]) -> Any:
        lie = scene.page([], two)
        assert lie.inputs["actionFirst"] == [1, 0, 1, 0]
        lie.inputs["actionFirst"] = flags
        return lie.bind()

    told([1, 0, 1, 0]).accepted()
    refuses(told([0, 0, 1, 0]), "first[0] === enabled[0];")
    refuses(told([1, 0, 1, 1]), "first[i] * (1 - enabled[i]) === 0;")
    refuses(told([1, 0, 0, 0]), "goesOn[i] * (account[i] - account[i - 1]) === 0;")
    refuses(told([1, 1, 1, 0]), "first === 0;")
    refuses(told([1, 0, 2, 0]), "Boolean()(first[i]);")


def test_m08_a_group_is_a_chain(scene: Any) -> None:
    world = scene.world
    lie = scene.page([], [world.withdraw(1, 5, 1, 10), world.withdraw(1, 6, 1, 10)])
    # The second row reads the order tree before the first one: what the first wrote would be lost.
    tree = scene.state.account(1).orders_tree(scene.state.preset)
    lie.set("actionPath", 1, tree.path(6))
    refuses(lie.bind(), "goesOn[i] * (rootBefore[i] - rootAfter[i - 1]) === 0;")
    # Two groups of one account that both start from the old tree.
    lie.inputs["actionFirst"] = [1, 1, 0, 0]
    refuses(lie.bind(), "first === 0;")
    # A second row under another key.
    row, good = world.withdraw(1, 6, 1, 10)
    lie = scene.unsigned([], [world.withdraw(1, 5, 1, 10), (row, world.sign(good.action, generation=9))])
    lie.set("actionPub", 1, list(public_of(9, 1)))
    refuses(lie.bind(), "goesOn[i] * (pub[i][0] - pub[i - 1][0]) === 0;")


@pytest.mark.parametrize("kinds", [[0, 1, 1, 0], [0, R - 1, 0, 1], [0, 2, 0, 0]])
def test_m08_m10_types_are_one_hot(scene: Any, kinds: list[int]) -> None:
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.set("actionType", 0, kinds)
    refuses(lie.bind(), "enabled <== OneHot(4)(type);")
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.set("requestKind", 0, kinds)
    refuses(lie.bind(), "enabled <== OneHot(4)(kind);")


def test_m08_a_row_without_type_does_nothing(scene: Any) -> None:
    def action(**fields: int) -> Any:
        lie = scene.page()
        for name, value in fields.items():
            lie.set("action" + name, 0, value)
        return lie.bind()

    refuses(action(Account=1), "(1 - enabled) * words[0] === 0;")
    refuses(action(Id=1), "(1 - enabled) * words[0] === 0;")
    refuses(action(ExBase=1), "exBase * (1 - moves) === 0;")
    refuses(action(ExQuote=1), "exQuote * (1 - isOrder) === 0;")
    refuses(action(Aux=1), "aux * (1 - isOrder - isTransfer) === 0;")
    for name, value in (("Account", 1), ("Token", 1), ("Amount", 5), ("Owner", 5), ("Pub", [1, 2])):
        lie = scene.page()
        lie.set("request" + name, 0, value)
        refuses(lie.bind(), "(1 - enabled) * words[i] === 0;")
    lie = scene.page()
    lie.set("feeAmount", 0, 5)
    refuses(lie.bind(), "(1 - enabled) * word === 0;")


def test_m08_a_disabled_account_row_does_nothing(scene: Any) -> None:
    # Money out of nothing at account 0.
    lie = scene.page()
    for row in range(6):
        lie.positions(row, "New", {1: 5})
        if row:
            lie.positions(row, "Old", {1: 5})
    lie.settle_roots()
    refuses(lie.bind(), "(1 - enabled) * (newLeaf - oldLeaf) === 0;")
    # A disabled row answers no request and no transfer.
    for name, value in (("RequestMult", 1), ("TransferMult", [0] * 14 + [1]), ("Acted", 1), ("Index", 1)):
        lie = scene.page()
        if name == "Index":
            for side in ("Old", "New"):
                lie.holder(0, side, scene.state.account(1))
        lie.set("account" + name, 0, value)
        if name == "Index":
            lie.settle_roots()
        refuses(lie.bind(), "(1 - enabled) * packed === 0;")


def test_m09_an_account_stands_on_the_page_once(scene: Any) -> None:
    world = scene.world
    # Twice the same row: the second one once more with the state that the first leaves.
    lie = scene.page([world.deposit(1, 1, 5)])
    after = replace(scene.state.account(1), positions=((1, 1005), (2, 1000)))
    lie.set("accountEnabled", 1, 1)
    lie.set("accountIndex", 1, 1)
    for side in ("Old", "New"):
        lie.holder(1, side, after)
    refuses(lie.settle(), ORDERED)
    # And falling.
    lie = scene.page([world.deposit(1, 1, 5), world.deposit(2, 1, 5)])
    lie.swap("account", 0, 1)
    refuses(lie.settle(), ORDERED)


def test_m09_a_request_sees_the_final_positions(scene: Any) -> None:
    # The copy of T is the one before the batch.
    lie = scene.page([scene.world.deposit(1, 9, 5)])
    lie.set("requestTokens", 0, lie.inputs["accountOldTokens"][0])
    refuses(lie.settle(), "requests === 0;")
    lie = scene.page([scene.world.deposit(1, 9, 5)])
    lie.set("accountRequestMult", 0, 2)
    refuses(lie.settle(), "requests === 0;")


# --- actions


def test_m10_what_was_used_never_acts_again(scene: Any) -> None:
    world = scene.world
    world.settle(acts=[world.withdraw(1, 21, 1, 10), world.transfer(1, 22, 1, 10, to=2), world.cancel(1, 23)])
    assert scene.state.account(1).slot(scene.state.preset, 21) == (21, SLOT_CLOSED)
    for used in (world.withdraw(1, 21, 1, 10), world.withdraw(1, 23, 1, 10)):
        lie = scene.page([], [world.withdraw(1, 40, 1, 10)])
        lie.act(0, used)
        lie.settle_slots()
        refuses(lie.settle(), "(moves - isOrder) * same === 0;")
    lie = scene.page([], [world.transfer(1, 40, 1, 10, to=2)])
    lie.act(0, world.transfer(1, 22, 1, 10, to=2))
    lie.settle_slots()
    refuses(lie.settle(), "(moves - isOrder) * same === 0;")
    # A smaller id than the slot's.
    for stale in (world.withdraw(1, 5, 1, 10), world.cancel(1, 7), world.order(1, 6, Side.SELL, (0, 0, 0), (10, 20))):
        lie = scene.page([], [world.withdraw(1, 40, 1, 10)])
        lie.act(0, stale)
        lie.settle_slots()
        refuses(lie.settle(), "RangeCheck(ID_BITS())(id - slotId);")


def test_m10_an_id_has_64_bits(scene: Any) -> None:
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.set("actionId", 0, 5 + (1 << 64))
    refuses(lie.bind(), "idBits <== Num2Bits(ID_BITS())(id);")


def test_m10_a_cancelled_order_does_not_fill(scene: Any) -> None:
    world = scene.world
    world.settle(acts=[world.cancel(1, 5)])
    lie = scene.page([], world.trade(1, 2, (6, 5), (10, 20)))
    lie.act(0, world.order(1, 5, Side.SELL, (10, 20, 0)))
    lie.set("actionSlotId", 0, 5)
    lie.set("actionSlotFilled", 0, SLOT_CLOSED)
    refuses(lie.bind(), "RangeCheck(AMOUNT_BITS())(remaining);")
    # As if the slot were empty.
    lie.set("actionSlotId", 0, 0)
    lie.set("actionSlotFilled", 0, 0)
    refuses(lie.bind(), CHILD)


def test_m10_moves_do_what_was_signed(scene: Any) -> None:
    world = scene.world
    for row, signed in (world.withdraw(1, 5, 1, 10), world.transfer(1, 5, 1, 10, to=2)):
        for amount in (11, 9):
            lie = scene.unsigned([], [(replace(row, ex_base=amount), signed)])
            refuses(lie, "(moves - isOrder) * (exBase - baseAmount) === 0;")
    row, signed = world.transfer(1, 5, 1, 10, to=2)
    refuses(scene.unsigned([], [(replace(row, aux=1), signed)]), "isTransfer * (aux - receiver) === 0;")
    row, signed = world.withdraw(1, 5, 1, 10)
    bends = {
        "Quote": "NonZeroExactlyWhen()(quote, isOrder);",
        "QuoteAmount": "NonZeroExactlyWhen()(quoteAmount, isOrder);",
        "Side": "side * (1 - isOrder) === 0;",
        "ExQuote": "exQuote * (1 - isOrder) === 0;",
        "Aux": "aux * (1 - isOrder - isTransfer) === 0;",
        "Receiver": "receiver * (1 - isTransfer) === 0;",
    }
    for name, line in bends.items():
        lie = scene.page([], [(row, signed)])
        lie.set("action" + name, 0, 1)
        refuses(lie.bind(), line)


def test_m10_a_cancel_posts_nothing(scene: Any) -> None:
    bends = {
        "ExBase": "exBase * (1 - moves) === 0;",
        "Base": "NonZeroExactlyWhen()(base, moves);",
        "BaseAmount": "NonZeroExactlyWhen()(baseAmount, moves);",
        "ExQuote": "exQuote * (1 - isOrder) === 0;",
        "Aux": "aux * (1 - isOrder - isTransfer) === 0;",
    }
    for name, line in bends.items():
        lie = scene.page([], [scene.world.cancel(1, 5)])
        lie.set("action" + name, 0, 1)
        refuses(lie.bind(), line)


def test_m11_no_base_no_quote_and_no_fee(scene: Any) -> None:
    act = scene.world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    lie = scene.page([], [act])
    lie.set("actionExQuote", 0, 20)
    refuses(lie.bind(), "exBase * perBase === exQuote;")
    lie = scene.page([], [act])
    lie.set("actionAux", 0, 1)
    refuses(lie.bind(), "RangeCheck(AMOUNT_BITS() + FEE_BPS_BITS())(maxFeeBps * exQuote - BPS() * fee);")


def test_m11_signed_amounts_are_at_least_1(scene: Any) -> None:
    row, good = scene.world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    for name, line in (("base_amount", "baseAmount, moves"), ("quote_amount", "quoteAmount, isOrder")):
        signed = scene.world.sign(replace(good.action, **{name: 0}))
        refuses(scene.unsigned([], [(row, signed)]), f"NonZeroExactlyWhen()({line});")
    nothing = Action(good.action.domain, ActionType.WITHDRAW, 1, 5, base=1, valid_until=good.action.valid_until)
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.act(0, (ActionRow(ActionType.WITHDRAW, 1, 5, 1), scene.world.sign(nothing)))
    lie.positions(0, "New", {1: 1000, 2: 1000})
    refuses(lie.settle(), "NonZeroExactlyWhen()(baseAmount, moves);")


def test_m11_an_order_keeps_its_limits(scene: Any) -> None:
    world, price = scene.world, "RangeCheck(2 * AMOUNT_BITS())(surplus);"
    cap = "RangeCheck(AMOUNT_BITS() + FEE_BPS_BITS())(maxFeeBps * exQuote - BPS() * fee);"
    fill = "RangeCheck(AMOUNT_BITS())(remaining);"
    sell = {
        "worse price": (world.order(1, 5, Side.SELL, (10, 20, 0), (10, 21)), price),
        "over-filled": (world.order(1, 5, Side.SELL, (10, 20, 0), (9, 18)), fill),
        "fill or kill": (world.order(1, 5, Side.SELL, (10, 20, 0), (11, 22), flags=2), "fok * remaining === 0;"),
        "expired": (world.order(1, 5, Side.SELL, (10, 20, 0), until=5), "RangeCheck(TIME_BITS())(lifetime);"),
    }
    for act, line in sell.values():
        refuses(scene.unsigned([], [act, world.order(2, 5, Side.BUY, (10, 20, 0))]), line)
    dear = world.order(2, 5, Side.BUY, (10, 20, 0), (10, 19))
    refuses(scene.unsigned([], [world.order(1, 5, Side.SELL, (10, 20, 0)), dear]), price)
    fees = [world.order(1, 5, Side.SELL, (10, 20, 1), fee_bps=499), world.order(2, 5, Side.BUY, (10, 20, 0))]
    refuses(scene.unsigned([], fees, [FeeRow(2, 1)]), cap)
    fees[0] = world.order(1, 5, Side.SELL, (10, 20, 1), fee_bps=500, flags=int(Flag.FOK))
    scene.page([], fees, [FeeRow(2, 1)]).accepted()


def test_m11_fills_add_up_over_batches(scene: Any) -> None:
    world = scene.world
    world.settle(acts=[world.order(1, 5, Side.SELL, (6, 12, 0), (10, 20)), world.order(2, 5, Side.BUY, (6, 12, 0))])
    rest = [world.order(1, 5, Side.SELL, (4, 8, 0), (10, 20)), world.order(2, 6, Side.BUY, (4, 8, 0))]
    scene.page([], rest).accepted()
    more = [world.order(1, 5, Side.SELL, (5, 10, 0), (10, 20)), world.order(2, 6, Side.BUY, (5, 10, 0))]
    refuses(scene.unsigned([], more), "RangeCheck(AMOUNT_BITS())(remaining);")


def test_m11_an_order_has_two_tokens(scene: Any) -> None:
    row, good = scene.world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    for base, quote, line in (
        (1, 1, "(base - quote) * inverse === isOrder;"),
        (0, 2, "NonZeroExactlyWhen()(base, moves);"),
        (1, 0, "NonZeroExactlyWhen()(quote, isOrder);"),
    ):
        signed = scene.world.sign(replace(good.action, base=base, quote=quote))
        lie = scene.page([], [(row, good)])
        lie.act(0, (replace(row, base=base, quote=quote), signed))
        refuses(lie.bind(), line)


# --- sums


def test_m12_fees_are_what_orders_paid(scene: Any) -> None:
    world = scene.world
    acts = [world.order(1, 5, Side.SELL, (10, 20, 1)), world.order(2, 5, Side.BUY, (10, 20, 2))]
    lie = scene.page([], acts, [FeeRow(2, 3)])
    lie.set("feeAmount", 0, 4)
    lie.positions(0, "New", {2: 4})
    refuses(lie.settle(), "tokens === 0;")
    lie = scene.page([], acts, [FeeRow(2, 3)])
    lie.set("feeAmount", 0, 1 << 64)
    refuses(lie.bind(), "RangeCheck(AMOUNT_BITS())(amount);")
    # To an account of the operator's choice.
    lie = scene.page([], acts, [FeeRow(2, 3)])
    lie.holder(0, "New", scene.state.account(0))
    lie.positions(1, "New", {1: 990, 2: 1022})
    refuses(lie.settle(), "ledger === 0;")
    honest = words_of(lie)
    lie.inputs["feeAccount"] = 1
    lie.bind()
    lie.inputs["y"] = horner(honest, lie.inputs["z"])
    refuses(lie, WORDS)


def test_trading_makes_no_money(scene: Any) -> None:
    # The buyer gets more than the seller gives; the ledger agrees, the tokens don't.
    acts = [scene.world.order(1, 5, Side.SELL, (10, 20, 0)), scene.world.order(2, 5, Side.BUY, (10, 20, 0), (11, 22))]
    lie = scene.page([], acts)
    lie.set("actionExBase", 1, 11)
    lie.settle_slots()
    lie.positions(1, "New", {1: 1011, 2: 980})
    refuses(lie.settle(), "tokens === 0;")


def test_m13_an_exit_leaves_nothing(scene: Any) -> None:
    lie = scene.page([scene.world.leave(1, 1)])
    lie.set("requestOutcome", 0, 900)
    lie.positions(0, "New", {1: 100, 2: 1000})
    lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
    refuses(lie.settle(), "isExit * has === 0;")
    # With a copy of T that lacks the token.
    lie.set("requestTokens", 0, [0] * 14 + [2])
    refuses(lie.settle(), "requests === 0;")
    for outcome, line in ((1001, "ledger === 0;"), (1 << 64, "RangeCheck(AMOUNT_BITS())(outcome);")):
        lie = scene.page([scene.world.leave(1, 1)])
        lie.set("requestOutcome", 0, outcome)
        refuses(lie.settle(), line)


def test_m13_a_deposit_bounces_exactly_where_it_has_no_place(scene: Any) -> None:
    world, rule = scene.world, "outcome - leaving === bounced;"
    lie = scene.page([world.deposit(1, 1, 5)])
    lie.set("requestOutcome", 0, 1)
    lie.positions(0, "New", {1: 1000, 2: 1000})
    refuses(lie.settle(), rule)
    world.settle([world.deposit(1, token, 5) for token in range(10, 23)])
    scene.page([world.deposit(1, 30, 7)]).accepted()
    lie = scene.page([world.deposit(1, 30, 7)])
    lie.set("requestOutcome", 0, 0)
    refuses(lie.settle(), rule)
    # With a copy of T that makes room, or takes it.
    lie.set("requestTokens", 0, [0] * 14 + [2])
    refuses(lie.settle(), "ledger === 0;")
    lie = scene.page([world.deposit(1, 22, 7)])
    lie.set("requestOutcome", 0, 1)
    lie.set("requestTokens", 0, list(range(40, 55)))
    lie.positions(0, "New", dict(scene.state.account(1).positions))
    refuses(lie.settle(), "requests === 0;")


def test_m13_other_requests_have_no_outcome(scene: Any) -> None:
    for request in (scene.world.opening(3), scene.world.rekey(1)):
        lie = scene.page([request])
        lie.set("requestOutcome", 0, 1)
        refuses(lie.settle(), "outcome - leaving === bounced;")


def test_m14_a_transfer_lands_only_on_a_token_held_before(scene: Any) -> None:
    world = scene.world
    world.settle([world.deposit(1, 3, 50)])

    def dusting(requests: list[Any], mults: list[int], held: int) -> Any:
        lie = scene.page(requests, [world.transfer(1, 5, 1, 10, to=2)])
        lie.act(0, world.transfer(1, 5, 3, 10, to=2))
        lie.settle_slots()
        lie.positions(0, "New", {1: 1000, 2: 1000, 3: 40})
        lie.positions(1, "New", {1: 1000, 2: 1000, 3: held})
        if requests:
            lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][1])
        lie.set("accountTransferMult", 1, mults)
        return lie.settle()

    for mults in ([0] * 15, [0] * 14 + [1], [0] * 13 + [1, 0], [1] + [0] * 14):
        refuses(dusting([], mults, 10), "transfers === 0;")
    refuses(dusting([world.deposit(2, 3, 1)], [0] * 14 + [1], 11), "transfers === 0;")


def test_m14_counts_of_transfers_are_ranged(scene: Any) -> None:
    lie = scene.page([], [scene.world.transfer(1, 5, 1, 10, to=2)])
    lie.set("accountTransferMult", 1, [0] * 13 + [1 << 7, 0])
    refuses(lie.settle(), "RangeChecks(POSITIONS(), TRANSFER_MULT_BITS())(transferMult);")
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.set("accountRequestMult", 0, 1 << 8)
    refuses(lie.settle(), "RangeCheck(REQUEST_MULT_BITS())(requestMult);")


def test_m15_balances_have_64_bits(scene: Any) -> None:
    world = scene.world
    lie = scene.page([], [world.withdraw(1, 5, 1, 10)])
    lie.act(0, world.withdraw(1, 5, 1, 1001))
    lie.positions(0, "New", {1: R - 1, 2: 1000})
    refuses(lie.settle(), AMOUNT)
    world.settle([world.deposit(1, 3, MAX_AMOUNT)])
    lie = scene.page([world.deposit(1, 1, 1)])
    lie.set("requestToken", 0, 3)
    lie.positions(0, "New", {1: 1000, 2: 1000, 3: 1 << 64})
    refuses(lie.settle(), AMOUNT)


def test_m15_the_books_balance(scene: Any) -> None:
    # One quantum more than was deposited, than the receiver was sent, than is left after a withdrawal.
    world = scene.world
    pages = [
        (scene.page([world.deposit(1, 1, 5)]), 0, {1: 1006, 2: 1000}),
        (scene.page([], [world.transfer(1, 5, 1, 10, to=2)]), 1, {1: 1011, 2: 1000}),
        (scene.page([], [world.withdraw(1, 5, 1, 10)]), 0, {1: 991, 2: 1000}),
        (scene.page([], [world.withdraw(1, 5, 1, 10)]), 0, {1: 990, 2: 1001}),
    ]
    for lie, row, held in pages:
        lie.positions(row, "New", held)
        refuses(lie.settle(), "ledger === 0;")


def test_header_fields_are_ranged(scene: Any) -> None:
    for name, bits in (("sizeAndNumber", 80), ("timestamp", 32), ("feeAccount", 24)):
        lie = scene.page()
        lie.inputs[name] += 1 << bits
        refusal = lie.bind().refused()
        assert "HeaderWord" in refusal.templates, refusal.text


def test_row_fields_are_ranged(scene: Any) -> None:
    world = scene.world
    act = world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    bits = {"Account": 24, "Receiver": 24, "Base": 16, "Quote": 16, "MaxFeeBps": 14, "ValidUntil": 32, "Flags": 8}
    bits |= {name: 64 for name in ("BaseAmount", "QuoteAmount", "ExBase", "ExQuote", "Aux", "SlotFilled")}
    for name, width in bits.items():
        lie = scene.page([], [act])
        lie.inputs[f"action{name}"][0] += 1 << width
        refusal = lie.bind().refused()
        assert "Num2Bits" in refusal.templates, (name, refusal.text)
    for name, width in {"Account": 24, "Token": 16, "Amount": 64}.items():
        lie = scene.page([world.deposit(1, 1, 5)])
        lie.inputs[f"request{name}"][0] += 1 << width
        refusal = lie.bind().refused()
        assert "Num2Bits" in refusal.templates and "RequestRow" in refusal.templates, (name, refusal.text)


def test_assembling_checks_nothing_and_so_can_lie(scene: Any) -> None:
    """What the other tests rest on: the inputs of a lie differ from honest ones, and only honest ones are accepted."""
    assert assemble_inputs is not None
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    before = dict(lie.inputs)
    lie.settle()
    assert lie.inputs == before
    lie.accepted()
