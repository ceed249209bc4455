"""Circuit inputs out of protocol objects: what a page and the state before it look like to the batch circuit.

The names and shapes are those of `circuits/src/batch.circom` and `exit.circom`. Everything is checked by
`transition.apply` first, so a page that goes through here has a witness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from proofbook.protocol.babyjub import BASE8, Point
from proofbook.protocol.eddsa import Signature
from proofbook.protocol.eddsa import challenge as signature_challenge
from proofbook.protocol.messages import Action, SignedAction, challenge
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.sponge import commitment, horner
from proofbook.protocol.state import EMPTY_ACCOUNT, Account, Slot, State, slot_word
from proofbook.protocol.table import (
    ACCOUNT_BITS,
    AMOUNT_BITS,
    COUNT_BITS,
    HEADER_LAYOUT,
    POSITIONS,
    REQUEST_MULT_BITS,
    SLOT_CLOSED,
    TOKEN_BITS,
    TRANSFER_MULT_BITS,
    ActionType,
    RequestKind,
    Size,
)
from proofbook.protocol.transition import Outcome, apply
from proofbook.protocol.tree import SparseTree
from proofbook.protocol.words import ActionRow, Page, Request, RequestRow, page_words
from proofbook.prover.errors import WitnessError

Value: TypeAlias = "int | Sequence[Value]"
Inputs: TypeAlias = dict[str, Value]
"""Signal name to a field element, or to nested lists of them in the signal's shape."""
Challenge: TypeAlias = Callable[[Sequence[int], int], int]
"""Draws z from the words D and the commitment C."""

_SIGNED: Final = ("max_fee_bps", "valid_until", "flags", "base_amount", "quote_amount", "receiver")
_DUMMY_SIGNATURE: Final = Signature(BASE8, 0)
_AMOUNTS_A_WORD: Final = 3


def challenge_for(chain_id: int, contract: int | str, size_id: int) -> Challenge:
    """Return the challenge of one exchange and batch size, as its contract computes it."""
    return lambda words, c: challenge(chain_id, contract, size_id, words, c)


def batch_inputs(
    state: State, page: Page, signed: Sequence[SignedAction], size: Size, draw: Challenge
) -> tuple[Inputs, int]:
    """Return the batch circuit's inputs, and C.

    Parameters
    ----------
    state : State
        Before the batch; never changed.
    page : Page
        The batch.
    signed : sequence of SignedAction
        One an action row, in their order.
    size : Size
        The circuit's rows; its trees have the state's depths.
    draw : Challenge
        See `challenge_for`.

    Returns
    -------
    inputs : dict
        Every input signal, the public C, z and y included.
    c : int
        The commitment that the contract is given.

    Raises
    ------
    ProofbookError
        As `transition.apply`, for a page that can't be proven.
    """
    return assemble_inputs(state, page, signed, apply(state, page, signed, size), size, draw)


def assemble_inputs(
    state: State, page: Page, signed: Sequence[SignedAction], outcome: Outcome, size: Size, draw: Challenge
) -> tuple[Inputs, int]:
    """Return what `batch_inputs` does, given what the page does; nothing is checked, so there may be no witness."""
    words = page_words(page, size)
    requests = _request_rows(page, outcome.state, size)
    actions = _action_rows(state, page, signed, outcome.state, size)
    accounts = _account_rows(state, page, outcome.state, outcome.touched, size)
    elements = [
        *words,
        *(row.packed for row in requests),
        *(element for row in actions for element in (row.h, row.root_before, row.root_after)),
        sum(row.first << i for i, row in enumerate(actions)),
        *(element for row in accounts for element in (row.old_leaf, row.new_leaf, row.packed())),
    ]
    c = commitment(elements)
    z = draw(words, c)
    inputs: Inputs = {"C": c, "z": z, "y": horner(words, z)}
    inputs |= _header_inputs(page, words)
    inputs |= _columns("request", [row.signals for row in requests])
    inputs |= _columns("action", [row.signals for row in actions])
    inputs |= _columns("fee", _fee_signals(page, size))
    inputs |= _columns("account", [row.signals() for row in accounts])
    return inputs, c


def exit_inputs(state: State, index: int) -> Inputs:
    """Return the exit circuit's inputs for an account of a state.

    Raises
    ------
    InvalidValue
        For an index beyond the tree.
    WitnessError
        `witness/not-open`: nobody could be paid.
    """
    account = state.account(index)
    if not account.owner:
        raise WitnessError("witness/not-open", f"account {index} is not open", "nothing is owed to it")
    packed, amounts = account.positions_words()
    inputs: Inputs = {"root": state.root, "index": index, "owner": account.owner, "T": packed}
    for k in range(POSITIONS // _AMOUNTS_A_WORD):
        three = amounts[_AMOUNTS_A_WORD * k : _AMOUNTS_A_WORD * (k + 1)]
        inputs[f"a{k}"] = sum(amount << (AMOUNT_BITS * i) for i, amount in enumerate(three))
    inputs["amounts"] = list(amounts)
    inputs["pub"] = [account.pub_x, account.pub_y]
    inputs["ordersRoot"] = account.orders_root(state.preset)
    inputs["path"] = state.path(index)
    return inputs


def _columns(prefix: str, rows: Sequence[Mapping[str, Value]]) -> Inputs:
    """Turn rows of signals into one array a signal, `prefix` and a capital in front."""
    return {prefix + name[0].upper() + name[1:]: [row[name] for row in rows] for name in rows[0]}


def _one_hot(code: int, kinds: int) -> list[int]:
    """Return `kinds` bits, the one of `code` (from 1) set; none for 0."""
    return [int(code == kind) for kind in range(1, kinds + 1)]


def _header_inputs(page: Page, words: Sequence[int]) -> Inputs:
    header = page.header
    low_bits = COUNT_BITS + dict(HEADER_LAYOUT)["number"]
    return {
        "domain": header.domain,
        "sizeAndNumber": words[1] & ((1 << low_bits) - 1),
        "timestamp": header.timestamp,
        "feeAccount": header.fee_account,
        "oldRoot": header.old_root,
        "newRoot": header.new_root,
    }


def _fee_signals(page: Page, size: Size) -> list[dict[str, Value]]:
    rows: list[dict[str, Value]] = [{"enabled": 1, "token": fee.token, "amount": fee.amount} for fee in page.fees]
    return rows + [{"enabled": 0, "token": 0, "amount": 0} for _ in range(size.fees - len(rows))]


# --- requests


@dataclass(frozen=True, slots=True)
class _Requested:
    packed: int
    signals: dict[str, Value]


def _tokens(account: Account) -> list[int]:
    """Return the 15 token ids, empties first."""
    packed = account.positions_words()[0]
    return [packed >> (TOKEN_BITS * j) & ((1 << TOKEN_BITS) - 1) for j in range(POSITIONS)]


def _request_rows(page: Page, after: State, size: Size) -> list[_Requested]:
    rows = [_request_row(row, after.account(row.request.account)) for row in page.requests]
    padding = RequestRow(Request(kind=int(RequestKind.NONE), account=0))
    return rows + [_request_row(padding, EMPTY_ACCOUNT) for _ in range(size.requests - len(rows))]


def _request_row(row: RequestRow, account: Account) -> _Requested:
    request = row.request
    signals: dict[str, Value] = {
        "kind": _one_hot(request.kind, len(RequestKind) - 1),
        "account": request.account,
        "token": request.token,
        "amount": request.amount,
        "outcome": row.outcome,
        "owner": request.owner,
        "pub": [request.pub_x, request.pub_y],
        "tokens": _tokens(account),
    }
    return _Requested(account.positions_words()[0], signals)


# --- actions


@dataclass(frozen=True, slots=True)
class _Acted:
    h: int
    root_before: int
    root_after: int
    first: int
    signals: dict[str, Value]


def _action_rows(state: State, page: Page, signed: Sequence[SignedAction], after: State, size: Size) -> list[_Acted]:
    rows: list[_Acted] = []
    tree = EMPTY_ACCOUNT.orders_tree(state.preset)
    slots: dict[int, Slot] = {}
    for position, (row, action) in enumerate(zip(page.actions, signed, strict=True)):
        first = position == 0 or page.actions[position - 1].account != row.account
        if first:
            before = state.account(row.account)
            tree, slots = before.orders_tree(state.preset), dict(before.orders)
        account = after.account(row.account)
        rows.append(_action_row(row, action, Point(account.pub_x, account.pub_y), tree, slots, first))
    nothing = ActionRow(type=int(ActionType.NONE), account=0, id=0)
    unsigned = SignedAction(Action(page.header.domain, 0, 0, 0), _DUMMY_SIGNATURE)
    empty = EMPTY_ACCOUNT.orders_tree(state.preset)
    return rows + [
        _action_row(nothing, unsigned, BASE8, empty, {}, False) for _ in range(size.actions - len(page.actions))
    ]


def _filled_after(row: ActionRow, slot: Slot) -> int:
    if row.type in (ActionType.NONE, ActionType.ORDER):
        return row.ex_base + (slot[1] if slot[0] == row.id else 0)
    return SLOT_CLOSED


def _action_row(
    row: ActionRow, signed: SignedAction, pub: Point, tree: SparseTree, slots: dict[int, Slot], first: bool
) -> _Acted:
    """Return a row's signals, and write its slot to `tree` and `slots`."""
    action, signature = signed.action, signed.signature
    place = row.id % tree.arity**tree.depth
    slot = slots.get(place, (0, 0))
    path, root_before = tree.path(place), tree.root
    slots[place] = (row.id, _filled_after(row, slot))
    tree.set(place, slot_word(slots[place]))
    signals: dict[str, Value] = {
        "type": _one_hot(row.type, len(ActionType) - 1),
        "side": row.side,
        "account": row.account,
        "id": row.id,
        "base": row.base,
        "quote": row.quote,
        "exBase": row.ex_base,
        "exQuote": row.ex_quote,
        "aux": row.aux,
        "first": int(first),
        "slotId": slot[0],
        "slotFilled": slot[1],
        "path": path,
        "pub": list(pub),
        "r8": list(signature.r8),
        "s": signature.s,
    }
    signals |= {_camel(name): getattr(action, name) for name in _SIGNED}
    h = signature_challenge(signature.r8, pub, action.message_hash())
    return _Acted(h, root_before, tree.root, int(first), signals)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


# --- accounts


@dataclass(frozen=True, slots=True)
class _Touched:
    """An account row; a disabled one is account 0 as the batch leaves it, unchanged."""

    index: int
    flags: dict[str, int]
    request_mult: int
    transfer_mult: list[int]
    before: Account
    after: Account
    roots: tuple[int, int]
    path: list[list[int]]

    def _leaf(self, account: Account, orders_root: int) -> int:
        return poseidon((account.owner, account.pub_x, account.pub_y, account.positions_hash(), orders_root))

    @property
    def old_leaf(self) -> int:
        return self._leaf(self.before, self.roots[0])

    @property
    def new_leaf(self) -> int:
        return self._leaf(self.after, self.roots[1])

    def packed(self) -> int:
        """Return index | enabled | opened | rekeyed | acted | request_mult | transfer_mult, as absorbed into C."""
        word, shift = self.index, ACCOUNT_BITS
        fields = [(value, 1) for value in self.flags.values()]
        fields += [(self.request_mult, REQUEST_MULT_BITS), *((m, TRANSFER_MULT_BITS) for m in self.transfer_mult)]
        for value, bits in fields:
            word |= value << shift
            shift += bits
        return word

    def signals(self) -> dict[str, Value]:
        made: dict[str, Value] = {
            "requestMult": self.request_mult,
            "transferMult": self.transfer_mult,
            "index": self.index,
            "path": self.path,
        }
        made |= self.flags
        for side, account, root in zip(("old", "new"), (self.before, self.after), self.roots, strict=True):
            made |= {
                f"{side}Owner": account.owner,
                f"{side}Pub": [account.pub_x, account.pub_y],
                f"{side}Tokens": _tokens(account),
                f"{side}Amounts": list(account.positions_words()[1]),
                f"{side}OrdersRoot": root,
            }
        return made


def _account_rows(state: State, page: Page, after: State, touched: Sequence[int], size: Size) -> list[_Touched]:
    kinds: dict[int, set[int]] = {}
    for row in page.requests:
        kinds.setdefault(row.request.account, set()).add(row.request.kind)
    asked = Counter(row.request.account for row in page.requests)
    acting = {row.account for row in page.actions}
    landed = Counter((row.aux, row.base) for row in page.actions if row.type == ActionType.TRANSFER)
    running = state.copy()
    rows: list[_Touched] = []
    for index in touched:
        before, own = state.account(index), kinds.get(index, set())
        flags = {
            "enabled": 1,
            "opened": int(RequestKind.OPEN in own),
            "rekeyed": int(RequestKind.KEY in own),
            "acted": int(index in acting),
        }
        mults = [landed[index, token] if token else 0 for token in _tokens(before)]
        rows.append(_touched(running, index, flags, asked[index], mults, after.account(index)))
        running.put({index: after.account(index)})
    idle = dict.fromkeys(("enabled", "opened", "rekeyed", "acted"), 0)
    for _ in range(size.accounts - len(rows)):
        rows.append(_touched(running, 0, idle, 0, [0] * POSITIONS, running.account(0)))
    return rows


def _touched(
    running: State, index: int, flags: dict[str, int], asked: int, mults: list[int], after: Account
) -> _Touched:
    before, preset = running.account(index), running.preset
    roots = (before.orders_root(preset), after.orders_root(preset))
    return _Touched(index, flags, asked, mults, before, after, roots, running.path(index))
