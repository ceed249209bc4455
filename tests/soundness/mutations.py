"""Mutations of a batch's or exit's inputs: every signal, other values, and what follows from them made anew."""

from __future__ import annotations

import copy
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.field import R

Path = tuple[int, ...]
PUBLIC: Final = ("C", "z", "y")
WIDTHS: Final = (1, 4, 7, 8, 14, 16, 24, 32, 64, 80, 128, 160, 248)
"""Widths of fields: an alias is a value that differs by a power of two at one of them."""


@dataclass(frozen=True)
class Mutation:
    """One other value for one place, or two rows or children swapped.

    Attributes
    ----------
    name : str
        The signal, or the kind of rows swapped.
    what : str
        In words.
    make : callable
        Changes the inputs.
    """

    name: str
    what: str
    make: Callable[[dict[str, Any]], None]


def cells(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the places of a signal with their values."""
    if isinstance(value, list):
        for i, part in enumerate(value):
            yield from cells(part, (*at, i))
    else:
        yield at, value


def put(inputs: dict[str, Any], name: str, at: Path, value: int) -> None:
    """Set one place of a signal."""
    if not at:
        inputs[name] = value
        return
    part = inputs[name]
    for i in at[:-1]:
        part = part[i]
    part[at[-1]] = value


def values_for(old: int, others: Sequence[int], rng: random.Random) -> list[int]:
    """Return other values for a place: ends, off by one, aliases, and what stands elsewhere in the signal."""
    made = [0, 1, 2, R - 1, R // 2, old + 1, old - 1, R - old, 2 * old, rng.randrange(R)]
    made += [old + sign * (1 << width) for width in WIDTHS for sign in (1, -1)]
    made += [(1 << width) - 1 for width in WIDTHS]
    near = list(others)
    rng.shuffle(near)
    made += near[:6]
    return [value for value in dict.fromkeys(value % R for value in made) if value != old]


def of_signal(name: str, value: Any, rng: random.Random, neighbours: Sequence[int] = ()) -> list[Mutation]:
    """Return all mutations of one signal, its own elements swapped among them."""
    found = list(cells(value))
    others = [v for _, v in found] + list(neighbours)
    made = []
    for at, old in found:
        for new in values_for(int(old), others, rng):
            made.append(Mutation(name, f"{name}{list(at)}: {old} -> {new}", _putter(name, at, new)))
    for (at, a), (bt, b) in zip(found, found[1:], strict=False):
        if a != b and at[:-1] == bt[:-1]:
            made.append(Mutation(name, f"{name}{list(at)} and the next swapped", _swapper(name, at, bt, a, b)))
    return made


def _putter(name: str, at: Path, new: int) -> Callable[[dict[str, Any]], None]:
    return lambda inputs: put(inputs, name, at, new)


def _swapper(name: str, at: Path, bt: Path, a: int, b: int) -> Callable[[dict[str, Any]], None]:
    def swap(inputs: dict[str, Any]) -> None:
        put(inputs, name, at, b)
        put(inputs, name, bt, a)

    return swap


def of_rows(inputs: dict[str, Any], kind: str) -> list[Mutation]:
    """Return the exchanges of two rows of a kind, and of one signal alone between two rows."""
    names = [name for name in inputs if re.match(kind + "[A-Z]", name) and isinstance(inputs[name], list)]
    count = len(inputs[names[0]])
    made = []
    for a in range(count):
        for b in range(a + 1, count):
            for swapped in [names, *([name] for name in names)]:
                if any(inputs[name][a] != inputs[name][b] for name in swapped):
                    label = kind if len(swapped) > 1 else swapped[0]
                    made.append(Mutation(label, f"{label}: rows {a} and {b} swapped", _rows(swapped, a, b)))
    return made


def _rows(names: Sequence[str], a: int, b: int) -> Callable[[dict[str, Any]], None]:
    def swap(inputs: dict[str, Any]) -> None:
        for name in names:
            inputs[name][a], inputs[name][b] = inputs[name][b], inputs[name][a]

    return swap


def of_inputs(inputs: dict[str, Any], rng: random.Random) -> dict[str, list[Mutation]]:
    """Return all mutations of a circuit's inputs by signal, in an order that takes something of every place early."""
    found = {name: of_signal(name, value, rng) for name, value in inputs.items()}
    for kind in ("request", "action", "fee", "account"):
        if any(re.match(kind + "[A-Z]", name) for name in inputs):
            found[f"rows of {kind}"] = of_rows(inputs, kind)
    for several in found.values():
        rng.shuffle(several)
    return {name: several for name, several in found.items() if several}


def sample(by_signal: dict[str, list[Mutation]], count: int) -> list[Mutation]:
    """Return `count` mutations, the signals in turn."""
    made: list[Mutation] = []
    for turn in range(max(map(len, by_signal.values()))):
        for several in by_signal.values():
            if turn < len(several) and len(made) < count:
                made.append(several[turn])
    return made


# --- what follows


def follow(lie: Any, mutation: Mutation, forging: Any) -> None:
    """Change a lie's inputs and let balances, order trees and roots follow as far as they can."""
    mutation.make(lie.inputs)
    if mutation.name in PUBLIC:
        return
    before = copy.deepcopy(lie.inputs)
    steps: list[Callable[[], None]] = []
    if mutation.name.startswith(("action", "rows of action")):
        steps.append(lie.settle_slots)
    if not mutation.name.startswith(("account", "requestTokens", "oldRoot")):
        steps.append(lambda: settle_balances(lie, forging))
    if mutation.name not in ("accountPath", "newRoot", "oldRoot"):
        steps += [lie.idle_follows, lie.settle_roots]
    for step in steps:
        try:
            step()
        except (ProofbookError, KeyError, IndexError, TypeError, ValueError, AssertionError):
            # What was said is beyond telling: so it stands alone, nothing following.
            lie.inputs.clear()
            lie.inputs.update(before)
            return


def settle_balances(lie: Any, forging: Any) -> None:
    """Let the accounts' new positions be the old ones and all postings, the copies of T likewise."""
    inputs = lie.inputs
    deltas = postings(inputs, forging)
    after: dict[int, dict[int, int]] = {}
    for i, row in enumerate(forging.rows(inputs, "account")):
        if not row["enabled"]:
            continue
        held = Counter(dict(zip(row["oldTokens"], row["oldAmounts"], strict=True)))
        held.update({token: delta for (account, token), delta in deltas.items() if account == row["index"]})
        kept = {token: amount for token, amount in sorted(held.items()) if amount}
        if len(kept) > 15 or any(amount < 0 or amount >> 64 for amount in kept.values()):
            raise ValueError("no such balances")
        lie.positions(i, "New", kept)
        after[row["index"]] = kept
    for i, row in enumerate(forging.rows(inputs, "request")):
        if sum(row["kind"]) and row["account"] in after:
            tokens = list(after[row["account"]])
            lie.set("requestTokens", i, [0] * (15 - len(tokens)) + tokens)


def postings(inputs: dict[str, Any], forging: Any) -> Counter[tuple[int, int]]:
    """Return the sum of postings by account and token."""
    made: Counter[tuple[int, int]] = Counter()
    for row in forging.rows(inputs, "request"):
        key = row["account"], row["token"]
        if row["kind"][1] and not row["outcome"]:
            made[key] += row["amount"]
        if row["kind"][3]:
            made[key] -= row["outcome"]
    for row in forging.rows(inputs, "action"):
        account, base, quote = row["account"], row["base"], row["quote"]
        if row["type"][0]:
            sign = 1 - 2 * row["side"]
            made[account, base] += sign * row["exBase"]
            made[account, quote] -= sign * row["exQuote"] + row["aux"]
        elif row["type"][1] or row["type"][2]:
            made[account, base] -= row["exBase"]
            if row["type"][2]:
                made[row["aux"], base] += row["exBase"]
    for row in forging.rows(inputs, "fee"):
        made[inputs["feeAccount"], row["token"]] += row["amount"]
    return made
