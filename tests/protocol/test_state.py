"""Accounts, their leaves, and the state."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.field import R
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.state import EMPTY_ACCOUNT, Account, State, empty_leaf, genesis_root, slot_word
from proofbook.protocol.table import MAINNET, MINIMAL, PRESETS, Preset
from proofbook.protocol.tree import SparseTree, reference_root

POSITIONS = ((2, 10), (300, 20), (65535, 2**64 - 1))


def test_positions_stand_at_the_end_and_empties_first() -> None:
    packed, amounts = Account(positions=POSITIONS).positions_words()
    assert packed == 2 << 192 | 300 << 208 | 65535 << 224
    assert amounts == (0,) * 12 + (10, 20, 2**64 - 1)
    full = tuple((token, token) for token in range(1, 16))
    assert Account(positions=full).positions_words()[0] & 0xFFFF == 1
    assert EMPTY_ACCOUNT.positions_words() == (0, (0,) * 15)


@pytest.mark.parametrize("preset", PRESETS.values())
def test_a_leaf_is_the_hash_of_five(preset: Preset) -> None:
    orders = {3: (3, 7), 5: (5 + preset.slots, 2**64 - 1)}
    account = Account(1, 2, 3, POSITIONS, orders)
    raw = {slot: id | filled << 64 for slot, (id, filled) in orders.items()}
    root = reference_root(4, preset.order_depth, 0, raw)
    assert account.orders_root(preset) == root
    packed, amounts = account.positions_words()
    assert account.leaf(preset) == poseidon((1, 2, 3, poseidon((packed, *amounts)), root))


@pytest.mark.parametrize("preset", PRESETS.values())
def test_genesis_is_a_tree_of_empty_accounts(preset: Preset) -> None:
    leaf = poseidon((0, 0, 0, poseidon((0,) * 16), SparseTree(4, preset.order_depth, 0).root))
    assert empty_leaf(preset) == leaf
    node = leaf
    for _ in range(preset.account_depth):
        node = poseidon((node,) * 8)
    assert genesis_root(preset) == State(preset).root == node


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 15), st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3)))
def test_a_cached_order_tree_is_the_one_built_anew(steps: list[dict[int, tuple[int, int]]]) -> None:
    account = Account(owner=1)
    for step in steps:
        account = account.with_slots(MINIMAL, {slot: (slot + 16 * turn, left) for slot, (turn, left) in step.items()})
    fresh = Account(owner=1, orders=dict(account.orders))
    assert fresh == account
    assert fresh.leaf(MINIMAL) == account.leaf(MINIMAL)
    assert (0, 0) not in account.orders.values()
    account.check(MINIMAL)


def test_changing_slots_leaves_the_old_account_alone() -> None:
    old = Account(owner=1).with_slots(MINIMAL, {1: (1, 5)})
    root = old.orders_root(MINIMAL)
    new = old.with_slots(MINIMAL, {1: (17, 5), 2: (2, 0)})
    assert (old.slot(MINIMAL, 17), new.slot(MINIMAL, 17), new.slot(MINIMAL, 2)) == ((1, 5), (17, 5), (2, 0))
    assert old.orders_root(MINIMAL) == root != new.orders_root(MINIMAL)
    assert old.orders_root(MAINNET) != root
    tree = old.orders_tree(MINIMAL)
    tree.set(0, 1)
    assert old.orders_root(MINIMAL) == root


def test_state_holds_accounts_and_their_tree() -> None:
    state = State(MINIMAL)
    account = Account(1, 2, 3, POSITIONS)
    state.put({5: account, 6: Account(owner=2)})
    assert state.account(5) is account
    assert state.account(7) == EMPTY_ACCOUNT
    assert sorted(state.accounts) == [5, 6]
    leaves = {5: account.leaf(MINIMAL), 6: Account(owner=2).leaf(MINIMAL)}
    assert state.root == reference_root(8, 2, empty_leaf(MINIMAL), leaves)
    assert SparseTree.root_from_path(5, leaves[5], state.path(5)) == state.root
    state.put({5: EMPTY_ACCOUNT, 6: EMPTY_ACCOUNT})
    assert (state.root, dict(state.accounts)) == (genesis_root(MINIMAL), {})


def test_copies_are_independent() -> None:
    state = State(MINIMAL)
    state.put({1: Account(owner=1)})
    twin, root = state.copy(), state.root
    twin.put({1: Account(owner=2), 2: Account(owner=3)})
    assert (state.root, sorted(state.accounts)) == (root, [1])
    assert twin.account(1).owner == 2
    with pytest.raises(TypeError):
        state.accounts[3] = Account()  # type: ignore[index]


@pytest.mark.parametrize(
    "broken",
    [
        {"owner": 1 << 160},
        {"owner": -1},
        {"pub_x": R},
        {"pub_y": -1},
        {"positions": ((2, 1), (1, 1))},
        {"positions": ((1, 1), (1, 1))},
        {"positions": ((0, 1),)},
        {"positions": ((1, 0),)},
        {"positions": ((1, 1 << 64),)},
        {"positions": ((1 << 16, 1),)},
        {"positions": tuple((token, 1) for token in range(1, 17))},
        {"orders": {1: (2, 0)}},
        {"orders": {0: (0, 0)}},
        {"orders": {1: (1 + (1 << 64), 0)}},
        {"orders": {1: (1, 1 << 64)}},
        {"orders": {16: (16, 1)}},
    ],
)
def test_a_broken_account_is_refused_whole(broken: dict[str, Any]) -> None:
    state = State(MINIMAL)
    with pytest.raises(InvalidValue):
        state.put({1: Account(owner=1), 2: Account(**{"owner": 1, **broken})})
    assert (state.root, dict(state.accounts)) == (genesis_root(MINIMAL), {})


def test_indices_end_with_the_tree() -> None:
    state = State(MINIMAL)
    for index in (-1, MINIMAL.accounts):
        with pytest.raises(InvalidValue):
            state.account(index)
        with pytest.raises(InvalidValue):
            state.put({index: Account(owner=1)})
        with pytest.raises(InvalidValue):
            state.path(index)


def test_slot_words_are_id_and_filled() -> None:
    assert slot_word((5, 6)) == 5 + 6 * 2**64
