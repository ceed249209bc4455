"""Sparse trees against the definition."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofbook.protocol import tree as tree_module
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.field import R
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.tree import SparseTree, reference_root

shapes = st.sampled_from([(4, 1), (4, 2), (8, 1), (8, 2), (2, 4)])
leaves = st.integers(0, R - 1)


@settings(max_examples=40, deadline=None)
@given(shapes, leaves, st.lists(st.dictionaries(st.integers(0, 15), leaves, max_size=6), max_size=3), st.data())
def test_a_tree_is_what_its_definition_says(
    shape: tuple[int, int], default: int, steps: list[dict[int, int]], data: st.DataObject
) -> None:
    arity, depth = shape
    tree = SparseTree(arity, depth, default)
    model: dict[int, int] = {}
    for step in steps:
        changes = {index % arity**depth: leaf for index, leaf in step.items()}
        tree.update_many(changes)
        model |= changes
    assert tree.root == reference_root(arity, depth, default, model)
    for index in range(arity**depth):
        assert tree.get(index) == model.get(index, default)
    index = data.draw(st.integers(0, arity**depth - 1))
    path = tree.path(index)
    assert [len(level) for level in path] == [arity] * depth
    assert path[0][index % arity] == tree.get(index)
    assert SparseTree.root_from_path(index, tree.get(index), path) == tree.root
    other = data.draw(leaves)
    moved = tree.copy()
    moved.set(index, other)
    assert SparseTree.root_from_path(index, other, path) == moved.root
    assert tree.root == reference_root(arity, depth, default, model)


def test_digit_h_of_the_index_picks_the_child_at_height_h() -> None:
    tree = SparseTree(4, 2, 0)
    tree.set(1 + 2 * 4, 5)
    lower = poseidon([0, 5, 0, 0])
    zero = poseidon([0] * 4)
    assert tree.root == poseidon([zero, zero, lower, zero])
    assert tree.path(1 + 2 * 4) == [[0, 5, 0, 0], [zero, zero, lower, zero]]


def test_each_inner_node_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = SparseTree(8, 3, 7)
    calls: list[int] = []

    def counted(rows: Sequence[Sequence[int]]) -> list[int]:
        calls.append(len(rows))
        return [poseidon(row) for row in rows]

    monkeypatch.setattr(tree_module, "poseidon_many", counted)
    tree.update_many({0: 1, 1: 2, 9: 3, 511: 4})
    # Lowest nodes 0, 1 and 63; above them 0 and 7; the root.
    assert calls == [3, 2, 1]


def test_copies_are_independent_both_ways() -> None:
    tree = SparseTree(8, 2, 1)
    tree.set(3, 9)
    twin = tree.copy()
    twin.set(3, 10)
    tree.set(4, 11)
    assert (tree.get(3), tree.get(4), twin.get(3), twin.get(4)) == (9, 11, 10, 1)


def test_deep_trees_cost_nothing_until_used() -> None:
    tree = SparseTree(8, 8, 5)
    tree.set(8**8 - 1, 6)
    assert tree.get(8**8 - 1) == 6
    assert tree.get(0) == 5


def test_refusals() -> None:
    tree = SparseTree(4, 2, 0)
    root = tree.root
    for index in (-1, 16):
        with pytest.raises(InvalidValue):
            tree.get(index)
        with pytest.raises(InvalidValue):
            tree.path(index)
        with pytest.raises(InvalidValue):
            tree.update_many({0: 1, index: 1})
    for leaf in (-1, R):
        with pytest.raises(InvalidValue):
            tree.update_many({0: 1, 1: leaf})
        with pytest.raises(InvalidValue):
            SparseTree(4, 2, leaf)
    assert tree.root == root
    for arity, depth in ((1, 2), (17, 2), (4, 0)):
        with pytest.raises(InvalidValue):
            SparseTree(arity, depth, 0)
