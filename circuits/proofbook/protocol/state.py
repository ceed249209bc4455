"""The state: accounts in one tree, each with its positions and its tree of order slots (docs/spec.md section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.table import (
    ACCOUNT_ARITY,
    AMOUNT_BITS,
    ID_BITS,
    ORDER_ARITY,
    OWNER_BITS,
    POSITIONS,
    TOKEN_BITS,
    Preset,
)
from proofbook.protocol.tree import SparseTree
from proofbook.protocol.words import check_element, check_range

Slot = tuple[int, int]
"""(id, filled) of an order slot."""


def slot_word(slot: Slot) -> int:
    """Return the raw leaf of an order slot; `InvalidValue` for a part out of range."""
    return check_range("id", slot[0], ID_BITS) | check_range("filled", slot[1], AMOUNT_BITS) << ID_BITS


@dataclass(frozen=True, slots=True)
class Account:
    """One account. A value: nothing about it ever changes.

    Attributes
    ----------
    owner : int
        L1 address; 0 exactly if the account is not open.
    pub_x, pub_y : int
        Trading key, any field elements.
    positions : tuple of (token, amount)
        At most 15, tokens strictly ascending in 1..65535, amounts in [1, 2**64).
    orders : mapping of slot to (id, filled)
        Slots that are not (0, 0).
    """

    owner: int = 0
    pub_x: int = 0
    pub_y: int = 0
    positions: tuple[tuple[int, int], ...] = ()
    orders: Mapping[int, Slot] = field(default_factory=dict)
    _tree: SparseTree | None = field(default=None, compare=False, repr=False)

    def check(self, preset: Preset) -> None:
        """Check the ranges and the canonical form stated above; `InvalidValue` where they do not hold."""
        check_range("owner", self.owner, OWNER_BITS)
        check_element("pub_x", self.pub_x)
        check_element("pub_y", self.pub_y)
        tokens = [token for token, _ in self.positions]
        if len(tokens) > POSITIONS or tokens != sorted(set(tokens)) or 0 in tokens:
            raise InvalidValue("positions", tokens, "not at most 15 ascending tokens")
        for token, amount in self.positions:
            check_range("token", token, TOKEN_BITS)
            if check_range("amount", amount, AMOUNT_BITS) == 0:
                raise InvalidValue("amount", amount, "an empty position")
        for slot, (action_id, filled) in self.orders.items():
            if slot_word((action_id, filled)) == 0 or action_id % preset.slots != slot:
                raise InvalidValue("slot", slot, "empty, or not the place of its id")

    def balance(self, token: int) -> int:
        """Return the amount held of a token, in quanta."""
        return dict(self.positions).get(token, 0)

    def slot(self, preset: Preset, action_id: int) -> Slot:
        """Return (id, filled) of the slot where an action with this id would act."""
        return self.orders.get(action_id % preset.slots, (0, 0))

    def positions_words(self) -> tuple[int, tuple[int, ...]]:
        """Return T and the 15 amounts, empties first."""
        padded = [(0, 0)] * (POSITIONS - len(self.positions)) + list(self.positions)
        packed = sum(token << (TOKEN_BITS * j) for j, (token, _) in enumerate(padded))
        return packed, tuple(amount for _, amount in padded)

    def positions_hash(self) -> int:
        """Return Poseidon(T, amounts)."""
        packed, amounts = self.positions_words()
        return poseidon((packed, *amounts))

    def orders_tree(self, preset: Preset) -> SparseTree:
        """Return the tree of order slots; a copy, so free to change."""
        if self._tree is None or self._tree.depth != preset.order_depth:
            tree = SparseTree(ORDER_ARITY, preset.order_depth, 0)
            tree.update_many({slot: slot_word(value) for slot, value in self.orders.items()})
            # A cache and no part of the value: whoever computes it gets the same tree.
            object.__setattr__(self, "_tree", tree)
            return tree.copy()
        return self._tree.copy()

    def orders_root(self, preset: Preset) -> int:
        """Return the root of the tree of order slots."""
        return self.orders_tree(preset).root

    def leaf(self, preset: Preset) -> int:
        """Return the account's leaf."""
        return poseidon((self.owner, self.pub_x, self.pub_y, self.positions_hash(), self.orders_root(preset)))

    def with_slots(self, preset: Preset, changes: Mapping[int, Slot]) -> Account:
        """Return the account with order slots set, by slot; `InvalidValue` beyond the tree or out of range."""
        if not changes:
            return self
        tree = self.orders_tree(preset)
        tree.update_many({slot: slot_word(value) for slot, value in changes.items()})
        orders = {slot: value for slot, value in {**self.orders, **changes}.items() if value != (0, 0)}
        return replace(self, orders=orders, _tree=tree)


EMPTY_ACCOUNT = Account()


@cache
def empty_leaf(preset: Preset) -> int:
    """Return the leaf of every account that is not open."""
    return EMPTY_ACCOUNT.leaf(preset)


@cache
def _empty_tree(preset: Preset) -> SparseTree:
    return SparseTree(ACCOUNT_ARITY, preset.account_depth, empty_leaf(preset))


def genesis_root(preset: Preset) -> int:
    """Return the root of the state with no account open."""
    return _empty_tree(preset).root


class State:
    """All accounts and their tree.

    Parameters
    ----------
    preset : Preset
        Depths of the trees.

    Attributes
    ----------
    preset : Preset
        As given.
    accounts : mapping of int to Account
        The open ones; a view, change it by `put`.
    """

    __slots__ = ("_accounts", "_tree", "preset")

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self._accounts: dict[int, Account] = {}
        self._tree = _empty_tree(preset).copy()

    @property
    def accounts(self) -> Mapping[int, Account]:
        """The open accounts by index, read-only."""
        return MappingProxyType(self._accounts)

    @property
    def root(self) -> int:
        """The state root."""
        return self._tree.root

    def account(self, index: int) -> Account:
        """Return an account, the empty one if it is not open; `InvalidValue` beyond the tree."""
        if not 0 <= index < self.preset.accounts:
            raise InvalidValue("account", index, "beyond the tree")
        return self._accounts.get(index, EMPTY_ACCOUNT)

    def put(self, accounts: Mapping[int, Account]) -> None:
        """Set accounts by index, hashing each inner node once; `InvalidValue` for a broken one, and nothing is set."""
        for index, account in accounts.items():
            self.account(index)
            account.check(self.preset)
        self._tree.update_many({index: account.leaf(self.preset) for index, account in accounts.items()})
        for index, account in accounts.items():
            if account == EMPTY_ACCOUNT:
                self._accounts.pop(index, None)
            else:
                self._accounts[index] = account

    def path(self, index: int) -> list[list[int]]:
        """Return an account's path: per level, from the leaf upward, all 8 children of the parent."""
        return self._tree.path(index)

    def copy(self) -> State:
        """Return an independent state; it shares all nodes and accounts with this one."""
        twin = State(self.preset)
        twin._accounts = dict(self._accounts)
        twin._tree = self._tree.copy()
        return twin
