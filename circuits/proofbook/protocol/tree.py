"""Sparse Merkle trees over Poseidon, of any arity and depth. Child k of a node at height h is digit h of the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.poseidon import MAX_INPUTS, poseidon, poseidon_many
from proofbook.protocol.words import check_element


class _Node:
    """An inner node that does not change once it is hashed, so that trees share what they have in common.

    Children are nodes or, at height 0, leaves; an untouched subtree is the one default node of its height.
    """

    __slots__ = ("children", "hash")

    def __init__(self, children: tuple[Any, ...]) -> None:
        self.children = children
        self.hash = -1  # until `_hash_all`


def _hash_all(levels: Sequence[Sequence[_Node]]) -> None:
    """Hash new nodes, those of height 0 first, each once and those of one height together."""
    for height, nodes in enumerate(levels):
        rows = [node.children if height == 0 else [child.hash for child in node.children] for node in nodes]
        for node, digest in zip(nodes, poseidon_many(rows), strict=True):
            node.hash = digest


@lru_cache(maxsize=64)
def _default_node(arity: int, height: int, leaf: int) -> _Node:
    child = leaf if height == 0 else _default_node(arity, height - 1, leaf)
    made = _Node((child,) * arity)
    _hash_all([*[()] * height, [made]])
    return made


def _updated(node: _Node, height: int, arity: int, changes: Mapping[int, int], made: list[list[_Node]]) -> _Node:
    """Return the node with leaves set, yet to be hashed like all in `made`; indices count from its own first leaf."""
    children = list(node.children)
    if height == 0:
        for index, leaf in changes.items():
            children[index] = leaf
    else:
        width = arity**height
        parts: dict[int, dict[int, int]] = {}
        for index, leaf in changes.items():
            parts.setdefault(index // width, {})[index % width] = leaf
        for digit, part in parts.items():
            children[digit] = _updated(children[digit], height - 1, arity, part, made)
    fresh = _Node(tuple(children))
    made[height].append(fresh)
    return fresh


class SparseTree:
    """A tree of `arity ** depth` leaves, all `default_leaf` at first.

    Parameters
    ----------
    arity : int
        2 to 16.
    depth : int
        At least 1.
    default_leaf : int
        A field element.
    """

    __slots__ = ("_top", "arity", "default_leaf", "depth")

    def __init__(self, arity: int, depth: int, default_leaf: int) -> None:
        if not 2 <= arity <= MAX_INPUTS:
            raise InvalidValue("arity", arity, f"not in 2 to {MAX_INPUTS}")
        if depth < 1:
            raise InvalidValue("depth", depth, "below 1")
        self.arity: Final = arity
        self.depth: Final = depth
        self.default_leaf: Final = check_element("leaf", default_leaf)
        self._top = _default_node(arity, depth - 1, default_leaf)

    @property
    def root(self) -> int:
        """The root, a field element."""
        return self._top.hash

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.arity**self.depth:
            raise InvalidValue("index", index, "beyond the tree")

    def _descend(self, index: int) -> list[_Node]:
        """Return the nodes above a leaf, from the root downward."""
        self._check_index(index)
        nodes = [self._top]
        for height in range(self.depth - 1, 0, -1):
            nodes.append(nodes[-1].children[index // self.arity**height % self.arity])
        return nodes

    def get(self, index: int) -> int:
        """Return a leaf; `InvalidValue` beyond the tree."""
        leaf: int = self._descend(index)[-1].children[index % self.arity]
        return leaf

    def set(self, index: int, leaf: int) -> None:
        """Set a leaf; `InvalidValue` beyond the tree or the field."""
        self.update_many({index: leaf})

    def update_many(self, changes: Mapping[int, int]) -> None:
        """Set leaves by index, hashing each inner node once; all or, with `InvalidValue`, none."""
        for index, leaf in changes.items():
            self._check_index(index)
            check_element("leaf", leaf)
        if changes:
            made: list[list[_Node]] = [[] for _ in range(self.depth)]
            top = _updated(self._top, self.depth - 1, self.arity, changes, made)
            _hash_all(made)
            self._top = top

    def path(self, index: int) -> list[list[int]]:
        """Return the Merkle path of a leaf.

        Returns
        -------
        list of list of int
            Per level, from the leaf upward, all `arity` children of the parent as they stand.
        """
        lowest, *upper = reversed(self._descend(index))
        return [list(lowest.children), *([child.hash for child in node.children] for node in upper)]

    def copy(self) -> SparseTree:
        """Return an independent tree with the same leaves, in constant time."""
        twin = SparseTree(self.arity, self.depth, self.default_leaf)
        twin._top = self._top
        return twin

    @staticmethod
    def root_from_path(index: int, leaf: int, path: Sequence[Sequence[int]]) -> int:
        """Return the root that a leaf has with the siblings of `path`, whatever stands at its own places there."""
        for level in path:
            index, digit = divmod(index, len(level))
            leaf = poseidon([*level[:digit], leaf, *level[digit + 1 :]])
        return leaf


def reference_root(arity: int, depth: int, default_leaf: int, leaves: Mapping[int, int], start: int = 0) -> int:
    """Return the root of a tree straight from its definition, visiting every leaf: slow, for comparison."""
    if depth == 0:
        return leaves.get(start, default_leaf)
    width = arity ** (depth - 1)
    return poseidon([reference_root(arity, depth - 1, default_leaf, leaves, start + k * width) for k in range(arity)])
