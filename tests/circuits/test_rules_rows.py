"""The circuit refuses the forgery that each rule answers: rows and binding.

Each lie is told as well as it can be: what depends on the bent value (roots, C, z, y) is made anew, and the test names
the line of the circuit that refuses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proofbook.protocol import eddsa
from proofbook.protocol.babyjub import SUBGROUP_ORDER, Point, mul_base8
from proofbook.protocol.field import R
from proofbook.protocol.sponge import commitment, horner
from proofbook.protocol.state import EMPTY_ACCOUNT
from proofbook.protocol.table import Side
from proofbook.protocol.words import FeeRow

ORDERED = "RangeCheck(bits)(step[i]);"
PREFIX = "enabled[i] * (1 - enabled[i - 1]) === 0;"
WORDS = "y === evaluated;"


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
        lie.refused_at("C === sponge.out;")


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
        lie.refused_at(WORDS)


@pytest.mark.parametrize("name", ["C", "z", "y"])
def test_m17_public_inputs_are_field_elements(scene: Any, name: str) -> None:
    lie = scene.page()
    lie.inputs[name] += R
    with pytest.raises(Exception, match="not a field element") as caught:
        lie.accepted()
    assert getattr(caught.value, "code", "") == "witness/inputs"


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
        lie.settle().refused_at(PREFIX)


def test_m08_first_flags(scene: Any) -> None:
    world = scene.world
    two = [world.withdraw(1, 5, 1, 10), world.withdraw(1, 6, 1, 10), world.withdraw(2, 5, 1, 10)]

    def told(flags: list[int]) -> Any:
        lie = scene.page([], two)
        assert lie.inputs["actionFirst"] == [1, 0, 1, 0]
        lie.inputs["actionFirst"] = flags
        return lie.bind()

    told([1, 0, 1, 0]).accepted()
    told([0, 0, 1, 0]).refused_at("first[0] === enabled[0];")
    told([1, 0, 1, 1]).refused_at("first[i] * (1 - enabled[i]) === 0;")
    told([1, 0, 0, 0]).refused_at("goesOn[i] * (account[i] - account[i - 1]) === 0;")
    told([1, 1, 1, 0]).refused_at("first === 0;")
    told([1, 0, 2, 0]).refused_at("Boolean()(first[i]);")


def test_m08_a_group_is_a_chain(scene: Any) -> None:
    world = scene.world
    lie = scene.page([], [world.withdraw(1, 5, 1, 10), world.withdraw(1, 6, 1, 10)])
    # The second row reads the order tree before the first one: what the first wrote would be lost.
    tree = scene.state.account(1).orders_tree(scene.state.preset)
    lie.set("actionPath", 1, tree.path(6))
    lie.bind().refused_at("goesOn[i] * (rootBefore[i] - rootAfter[i - 1]) === 0;")
    # Two groups of one account that both start from the old tree.
    lie.inputs["actionFirst"] = [1, 1, 0, 0]
    lie.bind().refused_at("first === 0;")
    # A second row under another key.
    row, good = world.withdraw(1, 6, 1, 10)
    lie = scene.unsigned([], [world.withdraw(1, 5, 1, 10), (row, world.sign(good.action, generation=9))])
    lie.set("actionPub", 1, list(scene.public(1, generation=9)))
    lie.bind().refused_at("goesOn[i] * (pub[i][0] - pub[i - 1][0]) === 0;")
    # Under (x, -y), which is minus the key plus the point of order 2: its owner can sign for it.
    x, y = scene.public(1, generation=0)
    r8, scalar = mul_base8(77), eddsa._expand(bytes([0, 1]) * 16)[0]
    h = eddsa.challenge(r8, Point(x, R - y), good.action.message_hash())
    half = replace(good, signature=eddsa.Signature(r8, (77 - h * scalar) % SUBGROUP_ORDER))
    lie = scene.unsigned([], [world.withdraw(1, 5, 1, 10), (row, half)])
    lie.set("actionPub", 1, [x, R - y])
    lie.bind().refused_at("goesOn[i] * (pub[i][1] - pub[i - 1][1]) === 0;")


def test_m08_switches_are_booleans(scene: Any) -> None:
    world = scene.world
    lie = scene.page([], world.trade(1, 2, (5, 5), (10, 20)), [FeeRow(2, 0)])
    for name, row, line in (
        ("actionSide", 0, "Boolean()(side);"),
        ("feeEnabled", 0, "Boolean()(enabled);"),
        ("accountEnabled", 0, "Boolean()(enabled);"),
        ("accountActed", 0, "Boolean()(acted);"),
    ):
        before = lie.inputs[name][row]
        for value in (2, R - 1):
            lie.set(name, row, value)
            lie.bind().refused_at(line)
        lie.set(name, row, before)
    lie.bind().accepted()


@pytest.mark.parametrize("kinds", [[0, 1, 1, 0], [0, R - 1, 0, 1], [0, 2, 0, 0]])
def test_m08_m10_types_are_one_hot(scene: Any, kinds: list[int]) -> None:
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.set("actionType", 0, kinds)
    lie.bind().refused_at("enabled <== OneHot(4)(type);")
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.set("requestKind", 0, kinds)
    lie.bind().refused_at("enabled <== OneHot(4)(kind);")


def test_m08_a_row_without_type_does_nothing(scene: Any) -> None:
    def action(**fields: int) -> Any:
        lie = scene.page()
        for name, value in fields.items():
            lie.set("action" + name, 0, value)
        return lie.bind()

    action(Account=1).refused_at("(1 - enabled) * words[0] === 0;")
    action(Id=1).refused_at("(1 - enabled) * words[0] === 0;")
    action(ExBase=1).refused_at("exBase * (1 - moves) === 0;")
    action(ExQuote=1).refused_at("exQuote * (1 - isOrder) === 0;")
    action(Aux=1).refused_at("aux * (1 - isOrder - isTransfer) === 0;")
    for name, value in (("Account", 1), ("Token", 1), ("Amount", 5), ("Owner", 5), ("Pub", [1, 2])):
        lie = scene.page()
        lie.set("request" + name, 0, value)
        lie.bind().refused_at("(1 - enabled) * words[i] === 0;")
    lie = scene.page()
    lie.set("feeAmount", 0, 5)
    lie.bind().refused_at("(1 - enabled) * word === 0;")


def test_m08_a_disabled_account_row_does_nothing(scene: Any) -> None:
    # Money out of nothing at account 0.
    lie = scene.page()
    for row in range(6):
        lie.positions(row, "New", {1: 5})
        if row:
            lie.positions(row, "Old", {1: 5})
    lie.settle_roots()
    lie.bind().refused_at("(1 - enabled) * (newLeaf - oldLeaf) === 0;")
    # A disabled row answers no request and no transfer.
    for name, value in (("RequestMult", 1), ("TransferMult", [0] * 14 + [1]), ("Acted", 1), ("Index", 1)):
        lie = scene.page()
        if name == "Index":
            for side in ("Old", "New"):
                lie.holder(0, side, scene.state.account(1))
        lie.set("account" + name, 0, value)
        if name == "Index":
            lie.settle_roots()
        lie.bind().refused_at("(1 - enabled) * packed === 0;")


def test_m08_a_disabled_row_takes_no_fees(scene: Any) -> None:
    """The books balance, but nobody checks that a disabled row's account is open."""
    world = scene.world
    acts = [world.order(1, 5, Side.SELL, (10, 20, 1)), world.order(2, 5, Side.BUY, (10, 20, 2))]
    lie = scene.page([], acts, [FeeRow(2, 3)])
    lie.swap("account", 0, 1)
    lie.swap("account", 1, 2)
    assert lie.inputs["accountIndex"][:3] == [1, 2, 0]
    lie.set("accountEnabled", 2, 0)
    for row in (3, 4, 5):
        for side in ("Old", "New"):
            lie.positions(row, side, {2: 3})
    lie.settle_roots()
    lie.bind().refused_at("(1 - enabled) * (newLeaf - oldLeaf) === 0;")


def test_m08_a_disabled_row_answers_no_request(scene: Any) -> None:
    """An exit of nothing from an account that was never opened; a row that is enabled would have to be open."""
    lie = scene.page([scene.world.leave(0, 1)])
    lie.set("requestAccount", 0, 7)
    lie.set("accountEnabled", 0, 0)
    lie.set("accountIndex", 0, 7)
    for side in ("Old", "New"):
        lie.holder(0, side, EMPTY_ACCOUNT)
    lie.settle_roots()
    lie.bind().refused_at("(1 - enabled) * packed === 0;")


def test_m09_an_account_stands_on_the_page_once(scene: Any) -> None:
    world = scene.world
    # Twice the same row: the second one once more with the state that the first leaves.
    lie = scene.page([world.deposit(1, 1, 5)])
    after = replace(scene.state.account(1), positions=((1, 1005), (2, 1000)))
    lie.set("accountEnabled", 1, 1)
    lie.set("accountIndex", 1, 1)
    for side in ("Old", "New"):
        lie.holder(1, side, after)
    lie.settle().refused_at(ORDERED)
    # And falling.
    lie = scene.page([world.deposit(1, 1, 5), world.deposit(2, 1, 5)])
    lie.swap("account", 0, 1)
    lie.settle().refused_at(ORDERED)


def test_m09_a_request_sees_the_final_positions(scene: Any) -> None:
    # The copy of T is the one before the batch.
    lie = scene.page([scene.world.deposit(1, 9, 5)])
    lie.set("requestTokens", 0, lie.inputs["accountOldTokens"][0])
    lie.settle().refused_at("requests === 0;")
    lie = scene.page([scene.world.deposit(1, 9, 5)])
    lie.set("accountRequestMult", 0, 2)
    lie.settle().refused_at("requests === 0;")
