"""Lies: a page's inputs, bent, with all that depends on the bend made anew, and what the circuit says to it.

The first half computes what the batch circuit computes from its inputs, straight from docs/spec.md and without any
check. A liar needs it; it is also a second opinion on `proofbook.prover.witness`, which packs the words from the page.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from proofbook.protocol.field import R
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.sponge import commitment, horner
from proofbook.protocol.state import Account, State, empty_leaf, slot_word
from proofbook.protocol.table import SLOT_CLOSED
from proofbook.protocol.tree import SparseTree
from proofbook.prover.errors import WitnessError

Inputs = dict[str, Any]


def column(inputs: Inputs, kind: str, row: int) -> dict[str, Any]:
    """Return a row's signals, names without the kind in front."""
    size = len(kind)
    return {name[size].lower() + name[size + 1 :]: inputs[name][row] for name in _columns(inputs, kind)}


def _columns(inputs: Inputs, kind: str) -> list[str]:
    # feeAccount is the header's.
    return [name for name in inputs if re.match(kind + "[A-Z]", name) and isinstance(inputs[name], list)]


def rows(inputs: Inputs, kind: str) -> list[dict[str, Any]]:
    some = {"request": "requestKind", "action": "actionType", "fee": "feeToken", "account": "accountIndex"}[kind]
    return [column(inputs, kind, i) for i in range(len(inputs[some]))]


def code(one_hot: list[int]) -> int:
    return sum(k * bit for k, bit in enumerate(one_hot, 1))


def packed_tokens(tokens: list[int]) -> int:
    return sum(token << (16 * j) for j, token in enumerate(tokens)) % R


def fold_root(path: list[list[int]], index: int, leaf: int) -> int:
    return SparseTree.root_from_path(index, leaf % R, path)


def action_words(row: dict[str, Any]) -> tuple[int, int]:
    shifted = [(code(row["type"]), 0), (row["side"], 4), (row["account"], 5), (row["id"], 29)]
    shifted += [(row["base"], 93), (row["quote"], 109)]
    first = sum(value << shift for value, shift in shifted)
    return first % R, (row["exBase"] + (row["exQuote"] << 64) + (row["aux"] << 128)) % R


def message(row: dict[str, Any], domain: int) -> int:
    w1 = action_words(row)[0] + (row["maxFeeBps"] << 125) + (row["validUntil"] << 139) + (row["flags"] << 171)
    w2 = row["baseAmount"] + (row["quoteAmount"] << 64) + (row["receiver"] << 128)
    return poseidon((domain, w1 % R, w2 % R))


def filled_after(row: dict[str, Any]) -> int:
    before = row["slotFilled"] if row["slotId"] == row["id"] else 0
    is_order = row["type"][0]
    return int((is_order * (before + row["exBase"]) + (sum(row["type"]) - is_order) * SLOT_CLOSED) % R)


def slot_roots(row: dict[str, Any]) -> tuple[int, int]:
    """Return the roots before and after; an id beyond 64 bits has no place, so its low bits count."""
    new = (row["id"] + (filled_after(row) << 64)) % R
    place = row["id"] % 4 ** len(row["path"])
    return poseidon(row["path"][-1]), fold_root(row["path"], place, new)


def leaf(row: dict[str, Any], side: str) -> int:
    positions = poseidon((packed_tokens(row[f"{side}Tokens"]), *row[f"{side}Amounts"]))
    return poseidon((row[f"{side}Owner"], *row[f"{side}Pub"], positions, row[f"{side}OrdersRoot"]))


def packed_account(row: dict[str, Any]) -> int:
    word = row["index"] + (row["enabled"] << 24) + (row["opened"] << 25) + (row["rekeyed"] << 26)
    word += (row["acted"] << 27) + (row["requestMult"] << 28)
    return int((word + sum(m << (36 + 7 * j) for j, m in enumerate(row["transferMult"]))) % R)


def words(inputs: Inputs) -> list[int]:
    """Return D as the circuit packs it."""
    requests, actions, fees = (rows(inputs, kind) for kind in ("request", "action", "fee"))
    counts = [sum(sum(row["kind"]) for row in requests), sum(sum(row["type"]) for row in actions)]
    counts.append(sum(row["enabled"] for row in fees))
    head = inputs["sizeAndNumber"] + (inputs["timestamp"] << 80) + (inputs["feeAccount"] << 112)
    head += sum(count << (136 + 16 * k) for k, count in enumerate(counts))
    made = [inputs["domain"], head % R, inputs["oldRoot"], inputs["newRoot"]]
    for row in requests:
        shifted = [(code(row["kind"]), 0), (row["account"], 4), (row["token"], 28), (row["amount"], 44)]
        shifted.append((row["outcome"], 108))
        made += [sum(value << shift for value, shift in shifted) % R, row["owner"], *row["pub"]]
    for row in actions:
        made += action_words(row)
    return made + [(row["token"] + (row["amount"] << 16)) % R for row in fees]


def elements(inputs: Inputs) -> list[int]:
    """Return everything that C is the sponge of."""
    made = words(inputs) + [packed_tokens(row["tokens"]) for row in rows(inputs, "request")]
    for row in rows(inputs, "action"):
        made += [poseidon((*row["r8"], *row["pub"], message(row, inputs["domain"]))), *slot_roots(row)]
    made.append(sum(bit << i for i, bit in enumerate(inputs["actionFirst"])))
    for row in rows(inputs, "account"):
        made += [leaf(row, "old"), leaf(row, "new"), packed_account(row)]
    return made


def bind(inputs: Inputs, draw: Any) -> None:
    """Set C, z and y to what follows from all else."""
    found = words(inputs)
    inputs["C"] = commitment(elements(inputs))
    inputs["z"] = draw(found, inputs["C"])
    inputs["y"] = horner(found, inputs["z"])


# --- lying

GENERIC = {"RangeCheck", "RangeChecks", "Boolean", "OneHot", "NonZeroExactlyWhen", "AtMostConstant"}
SOURCES = Path(__file__).resolve().parents[2] / "circuits" / "src"


@cache
def source_of(template: str) -> list[str]:
    """Return the lines of the file that holds one of our templates, or nothing for circomlib's."""
    for path in SOURCES.rglob("*.circom"):
        text = path.read_text()
        if re.search(rf"^template {template}\(", text, re.MULTILINE):
            return text.splitlines()
    return []


class Refusal:
    """Where a witness failed.

    Attributes
    ----------
    templates : list of str
        Names of the templates, the failing one first, its parents after it.
    line : str
        The failing line of the first template that is ours and no generic check.
    text : str
        The whole message.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        places = re.findall(r"in template (\w+?)_\d+ line: (\d+)", text)
        self.templates = [name for name, _ in places]
        self.line = ""
        for name, number in places:
            if name not in GENERIC and (lines := source_of(name)):
                self.line = lines[int(number) - 1].strip()
                break


def _signal(name: str) -> str:
    return "action" + "".join(part.capitalize() for part in name.split("_"))


class Lie:
    """A page's circuit inputs, free to be bent.

    Parameters
    ----------
    state : State
        Before the batch.
    inputs : dict
        Copied.
    draw : callable
        Draws z.
    calculate : callable
        Runs the circuit; raises `WitnessError`.
    """

    def __init__(
        self, state: State, inputs: dict[str, Any], draw: Any, calculate: Callable[[dict[str, Any]], Any]
    ) -> None:
        self.state, self.draw, self.calculate = state, draw, calculate
        self.inputs = copy.deepcopy(inputs)

    def set(self, name: str, row: int, value: Any) -> None:
        self.inputs[name][row] = value

    def act(self, row: int, act: tuple[Any, Any]) -> None:
        """Put another action with its signature into a row; its key stays."""
        said, signed = act
        action, signature = signed.action, signed.signature
        self.set("actionType", row, [int(said.type == kind) for kind in (1, 2, 3, 4)])
        for name in ("side", "account", "id", "base", "quote", "ex_base", "ex_quote", "aux"):
            self.set(_signal(name), row, getattr(said, name))
        for name in ("max_fee_bps", "valid_until", "flags", "base_amount", "quote_amount", "receiver"):
            self.set(_signal(name), row, getattr(action, name))
        self.set("actionR8", row, list(signature.r8))
        self.set("actionS", row, signature.s)

    def positions(self, row: int, side: str, held: dict[int, int]) -> None:
        """Write an account row's positions, empties first, in the order given."""
        tokens, amounts = list(held), list(held.values())
        self.set(f"account{side}Tokens", row, [0] * (15 - len(tokens)) + tokens)
        self.set(f"account{side}Amounts", row, [0] * (15 - len(tokens)) + amounts)

    def holder(self, row: int, side: str, account: Account) -> None:
        """Write an account row's side from an account."""
        self.set(f"account{side}Owner", row, account.owner)
        self.set(f"account{side}Pub", row, [account.pub_x, account.pub_y])
        self.set(f"account{side}OrdersRoot", row, account.orders_root(self.state.preset))
        self.positions(row, side, dict(account.positions))

    def swap(self, kind: str, a: int, b: int) -> None:
        """Let two rows of a kind change places."""
        for name in _columns(self.inputs, kind):
            values = self.inputs[name]
            values[a], values[b] = values[b], values[a]

    def settle_slots(self) -> None:
        """Let every row read and write its account's order tree, and the accounts end with what comes out."""
        preset, tree = self.state.preset, SparseTree(4, self.state.preset.order_depth, 0)
        index = {account: i for i, account in reversed(list(enumerate(self.inputs["accountIndex"])))}
        for i, row in enumerate(rows(self.inputs, "action")):
            if not sum(row["type"]):
                continue
            if row["first"]:
                tree = self.state.account(row["account"]).orders_tree(preset)
            place = row["id"] % preset.slots
            word = tree.get(place)
            self.set("actionPath", i, tree.path(place))
            self.set("actionSlotId", i, word % 2**64)
            self.set("actionSlotFilled", i, word >> 64)
            tree.set(place, slot_word((row["id"], filled_after(column(self.inputs, "action", i)))))
            self.set("accountNewOrdersRoot", index[row["account"]], tree.root)

    def settle_roots(self) -> None:
        """Let the state's root follow from the account rows as they stand."""
        preset = self.state.preset
        tree = SparseTree(8, preset.account_depth, empty_leaf(preset))
        tree.update_many({i: account.leaf(preset) for i, account in self.state.accounts.items()})
        for i, row in enumerate(rows(self.inputs, "account")):
            place = row["index"] % preset.accounts
            self.set("accountPath", i, tree.path(place))
            tree.set(place, leaf(row, "new"))
        self.inputs["newRoot"] = tree.root

    def idle_follows(self) -> None:
        """Let disabled account rows show account 0 as the batch leaves it."""
        for i, row in enumerate(rows(self.inputs, "account")):
            if row["enabled"] or row["index"]:
                continue
            shown = [r for r in rows(self.inputs, "account") if r["enabled"] and r["index"] == 0]
            for field in ("Owner", "Pub", "Tokens", "Amounts", "OrdersRoot"):
                source = shown[-1][f"new{field}"] if shown else row[f"new{field}"]
                for side in ("Old", "New"):
                    self.set(f"account{side}{field}", i, copy.deepcopy(source))

    def bind(self) -> Lie:
        bind(self.inputs, self.draw)
        return self

    def settle(self) -> Lie:
        """Make roots, C, z and y follow from the rows."""
        self.idle_follows()
        self.settle_roots()
        self.bind()
        return self

    def accepted(self) -> Any:
        return self.calculate(self.inputs)

    def words(self) -> list[int]:
        """Return D as the rows stand."""
        return words(self.inputs)

    def refused_at(self, line: str) -> None:
        """Check that the circuit refuses, and that this line of ours does."""
        refusal = self.refused()
        assert refusal.line == line, refusal.text

    def refused(self) -> Refusal:
        """Return where the circuit refuses; fails if it doesn't."""
        try:
            self.calculate(self.inputs)
        except WitnessError as error:
            assert error.code == "witness/unsatisfied", error
            return Refusal(str(error))
        raise AssertionError("the circuit accepts the lie")
