"""The circuit refuses the forgery that each rule answers: state and accounts.

Each lie is told as well as it can be: what depends on the bent value (roots, C, z, y) is made anew, and the test names
the line of the circuit that refuses.
"""

from __future__ import annotations

from typing import Any

from proofbook.protocol.field import R
from proofbook.protocol.state import EMPTY_ACCOUNT

RISING = "RangeCheck(TOKEN_BITS())(tokens[j + 1] - tokens[j] - 1 + isEmpty[j]);"
SPLIT = "RangeChecks(POSITIONS(), TOKEN_BITS())(tokens);"
CHILD = "pick[h].out === before[h];"


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
        lie.settle().refused_at(line)
    honest.settle().accepted()


def test_m01_old_leaves_and_roots_are_the_states(scene: Any) -> None:
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.positions(0, "Old", {1: 1_000_000, 2: 1000})
    lie.positions(0, "New", {1: 1_000_005, 2: 1000})
    lie.settle().refused_at(CHILD)
    for name, line in (
        ("oldRoot", "account[0].oldRoot === oldRoot;"),
        ("newRoot", "account[N - 1].newRoot === newRoot;"),
    ):
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.inputs[name] += 1
        lie.bind().refused_at(line)
    # The second row's path is of the state before the first row: the first row's change would be lost.
    lie = scene.page([scene.world.deposit(1, 1, 5), scene.world.deposit(2, 1, 5)])
    lie.set("accountPath", 1, scene.state.path(2))
    lie.bind().refused_at("account[i].oldRoot === account[i - 1].newRoot;")


def test_m02_old_tokens_have_one_split(scene: Any) -> None:
    # Tokens (1, 2) in the places of 2^208 and 2^224: T is the same with (1 + 2^16, 1).
    for name in ("accountOldTokens", "requestTokens"):
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.set(name, 0, [0] * 13 + [1 + (1 << 16), 1])
        lie.settle().refused_at(SPLIT)


def test_m02_a_slot_and_an_index_have_one_split(scene: Any) -> None:
    world = scene.world
    world.settle(acts=world.trade(1, 2, (5, 5), (10, 20)))
    (slot_id, filled) = scene.state.account(1).slot(scene.state.preset, 21)
    assert (slot_id, filled) == (5, 10)
    for other in ((5 + (1 << 64), 9), ((5 - (1 << 64)) % R, 11)):
        lie = scene.page([], [world.withdraw(1, 21, 1, 10)])
        lie.set("actionSlotId", 0, other[0])
        lie.set("actionSlotFilled", 0, other[1])
        lie.bind().refused_at("RangeCheck(ID_BITS())(slotId);")
    lie = scene.page([world.deposit(1, 1, 5)])
    lie.set("accountIndex", 0, 1 + scene.state.preset.accounts)
    lie.settle().refused_at("signal bits[3 * depth] <== Num2Bits(3 * depth)(index);")


# --- accounts


def test_m06_keys_change_only_by_request(scene: Any) -> None:
    world, other = scene.world, [7, 9]
    lie = scene.page([world.deposit(1, 1, 5)])
    lie.set("accountNewPub", 0, other)
    lie.settle().refused_at("(1 - keyed) * (newPub[0] - oldPub[0]) === 0;")
    lie.set("accountNewPub", 0, [lie.inputs["accountOldPub"][0][0], 9])
    lie.settle().refused_at("(1 - keyed) * (newPub[1] - oldPub[1]) === 0;")
    # Marked as re-keyed without a request, and with a request for another key, and for another account.
    lie.set("accountRekeyed", 0, 1)
    lie.settle().refused_at("opened === 0;")
    lie = scene.page([world.rekey(1)])
    lie.set("accountNewPub", 0, other)
    lie.settle().refused_at("opened === 0;")
    lie = scene.page([world.rekey(1), world.deposit(2, 1, 5)])
    lie.holder(0, "New", scene.state.account(1))
    lie.set("accountRekeyed", 0, 0)
    lie.set("accountRekeyed", 1, 1)
    lie.set("accountNewPub", 1, lie.inputs["requestPub"][0])
    lie.settle().refused_at("opened === 0;")
    # A key request passed over.
    lie = scene.page([world.rekey(1)])
    lie.set("accountNewPub", 0, lie.inputs["accountOldPub"][0])
    lie.set("accountRekeyed", 0, 0)
    lie.settle().refused_at("opened === 0;")


def test_m06_owners_are_those_of_open_requests(scene: Any) -> None:
    world = scene.world
    lie = scene.page([world.rekey(1)])
    lie.set("accountNewOwner", 0, 666)
    lie.settle().refused_at("(1 - opened) * (newOwner - oldOwner) === 0;")
    lie = scene.page([world.opening(3)])
    lie.set("accountNewOwner", 0, 666)
    lie.settle().refused_at("opened === 0;")
    # Marked as both.
    lie = scene.page([world.opening(3)])
    lie.set("accountRekeyed", 0, 1)
    lie.settle().refused_at("signal keyed <== OneHot(2)([opened, rekeyed]);")
    # An open request may not be answered as a key request, which would keep the owner.
    lie = scene.page([world.opening(3)])
    lie.set("accountOpened", 0, 0)
    lie.set("accountRekeyed", 0, 1)
    lie.set("accountNewOwner", 0, 0)
    lie.settle().refused_at("newOwner * inverse === enabled;")


def test_m06_an_open_account_is_not_opened_again(scene: Any) -> None:
    lie = scene.page([scene.world.opening(3)])
    lie.set("requestAccount", 0, 1)
    lie.set("accountIndex", 0, 1)
    lie.holder(0, "Old", scene.state.account(1))
    lie.positions(0, "New", dict(scene.state.account(1).positions))
    lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
    lie.settle().refused_at("opened * (oldLeaf - EMPTY_LEAF(orderDepth)) === 0;")


def test_m06_an_opened_account_has_no_balances(scene: Any) -> None:
    lie = scene.page([scene.world.opening(3)])
    lie.positions(0, "New", {1: 500})
    lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
    lie.settle().refused_at("ledger === 0;")
    # As if it had had them before.
    lie.positions(0, "Old", {1: 500})
    lie.settle().refused_at("opened * (oldLeaf - EMPTY_LEAF(orderDepth)) === 0;")


def test_m06_order_trees_change_only_by_actions(scene: Any) -> None:
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.set("accountNewOrdersRoot", 0, 5)
    lie.settle().refused_at("(1 - acted) * (newOrdersRoot - oldOrdersRoot) === 0;")
    lie.set("accountActed", 0, 1)
    lie.settle().refused_at("first === 0;")
    # With an action, but another end than the action's.
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.set("accountNewOrdersRoot", 0, 5)
    lie.settle().refused_at("last === 0;")
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.set("accountNewOrdersRoot", 0, lie.inputs["accountOldOrdersRoot"][0])
    lie.set("accountActed", 0, 0)
    lie.settle().refused_at("first === 0;")


def test_m06_an_action_is_signed_by_the_accounts_key(scene: Any) -> None:
    """The row's key is tied to the account's: another's signature under another's key is good by itself."""
    row, good = scene.world.withdraw(1, 5, 1, 10)
    stranger = scene.world.sign(good.action, generation=9)
    lie = scene.unsigned([], [(row, stranger)])
    lie.set("actionPub", 0, list(scene.public(1, generation=9)))
    lie.settle().refused_at("first === 0;")


def test_m07_accounts_that_are_not_open_do_not_change(scene: Any) -> None:
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.set("requestAccount", 0, 7)
    lie.set("accountIndex", 0, 7)
    for side in ("Old", "New"):
        lie.holder(0, side, EMPTY_ACCOUNT)
    lie.positions(0, "New", {1: 5})
    lie.set("requestTokens", 0, [0] * 14 + [1])
    lie.settle().refused_at("newOwner * inverse === enabled;")
    # A transfer to nobody: the old positions that it needs are not there either.
    lie.set("accountEnabled", 0, 0)
    lie.settle().refused_at("(1 - enabled) * packed === 0;")
