"""Mutations of a batch's or exit's inputs: every place of every signal, other values of every kind, rows exchanged."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proofbook.protocol.field import R

Path = tuple[int, ...]
Place = tuple[str, Path]
PUBLIC: Final = ("C", "z", "y")
WIDTHS: Final = (1, 4, 7, 8, 14, 16, 24, 32, 64, 80, 128, 160, 248)
"""Widths of fields: an alias is a value that differs by a power of two at one of them."""
SWAPS: Final = 40
"""Exchanges of rows come in so many heaps, and each heap counts as one place."""


@dataclass(frozen=True)
class Mutation:
    """One other value for one place, or two rows or children swapped.

    Attributes
    ----------
    name : str
        The signal, or the kind of rows swapped.
    kind : str
        Where the other value comes from.
    places : tuple of Place
        What changes.
    what : str
        In words.
    make : callable
        Changes the inputs.
    signed : bool
        The trader is in on it and signs what the rows now say.
    """

    name: str
    kind: str
    places: tuple[Place, ...]
    what: str
    make: Callable[[dict[str, Any]], None]
    signed: bool


def cells(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the places of a signal with their values."""
    if isinstance(value, list):
        for i, part in enumerate(value):
            yield from cells(part, (*at, i))
    else:
        yield at, value


def places(inputs: dict[str, Any]) -> set[Place]:
    """Return all places of all signals."""
    return {(name, at) for name, value in inputs.items() for at, _ in cells(value)}


def put(inputs: dict[str, Any], name: str, at: Path, value: int) -> None:
    """Set one place of a signal."""
    if not at:
        inputs[name] = value
        return
    part = inputs[name]
    for i in at[:-1]:
        part = part[i]
    part[at[-1]] = value


def values_for(old: int, at: Path, others: dict[Path, int], rng: random.Random) -> list[tuple[str, int]]:
    """Return other values for a place, each with its kind, every value once.

    Ends, off by one, aliases, x + r as it stands (no field element: whoever reads it must refuse), what stands next to
    it and what stands there in other rows.
    """
    made = [("0", 0), ("1", 1), ("r - 1", R - 1), ("off by one", old + 1), ("off by one", old - 1)]
    made += [("r - x", R - old), ("2 x", 2 * old), ("2", 2), ("r / 2", R // 2), ("random", rng.randrange(R))]
    near = [others[p] for p in others if at and p[:-1] == at[:-1] and abs(p[-1] - at[-1]) == 1]
    made += [("neighbour", value) for value in near]
    rows = [others[p] for p in others if at and p[0] != at[0] and p[1:] == at[1:]]
    made += [("other row", value) for value in dict.fromkeys(rows)]
    made += [("alias", old + sign * (1 << width)) for width in WIDTHS for sign in (1, -1)]
    made += [("all ones", (1 << width) - 1) for width in WIDTHS]
    found: dict[int, str] = {}
    for kind, value in made:
        found.setdefault(value % R, kind)
    found.pop(old, None)
    return [("x + r", old + R), *((kind, value) for value, kind in found.items())]


def of_signal(name: str, value: Any, rng: random.Random, turn: int) -> list[list[Mutation]]:
    """Return the mutations of a signal by place; first a different kind at each, then one of every kind."""
    found = dict(cells(value))
    made = []
    for number, (at, old) in enumerate(found.items()):
        several = [
            Mutation(
                name, kind, ((name, at),), f"{name}{list(at)}: {old} -> {new}", _putter(name, at, new), signed(rng)
            )
            for kind, new in values_for(int(old), at, found, rng)
        ]
        after = (*at[:-1], at[-1] + 1) if at else at
        if at and found.get(after, old) != old:
            swap = _swapper(name, at, after, old, found[after])
            both = ((name, at), (name, after))
            several.append(
                Mutation(name, "siblings", both, f"{name}{list(at)} and the next swapped", swap, signed(rng))
            )
        made.append(by_kind(several, rng, turn + number))
    return made


def signed(rng: random.Random) -> bool:
    return rng.random() < 0.7


def by_kind(several: list[Mutation], rng: random.Random, turn: int) -> list[Mutation]:
    """Return mutations so that one of each kind comes first, the kinds starting at a turn."""
    rng.shuffle(several)
    kinds = sorted({mutation.kind for mutation in several})
    first: list[Mutation] = []
    for i in range(len(kinds)):
        kind = kinds[(turn + i) % len(kinds)]
        first.append(next(mutation for mutation in several if mutation.kind == kind))
    taken = set(map(id, first))
    return first + [mutation for mutation in several if id(mutation) not in taken]


def _putter(name: str, at: Path, new: int) -> Callable[[dict[str, Any]], None]:
    return lambda inputs: put(inputs, name, at, new)


def _swapper(name: str, at: Path, bt: Path, a: int, b: int) -> Callable[[dict[str, Any]], None]:
    def swap(inputs: dict[str, Any]) -> None:
        put(inputs, name, at, b)
        put(inputs, name, bt, a)

    return swap


def of_rows(inputs: dict[str, Any], kind: str, rng: random.Random) -> list[list[Mutation]]:
    """Return the exchanges of two rows of a kind, and of one signal alone between two rows."""
    names = [name for name in inputs if re.match(kind + "[A-Z]", name) and isinstance(inputs[name], list)]
    count = len(inputs[names[0]])
    made = []
    for a in range(count):
        for b in range(a + 1, count):
            for several in [names, *([name] for name in names)]:
                if any(inputs[name][a] != inputs[name][b] for name in several):
                    label = f"rows of {kind}" if len(several) > 1 else several[0]
                    what = f"{label}: rows {a} and {b} swapped"
                    made.append(Mutation(label, "rows", (), what, _rows(several, a, b), signed(rng)))
    rng.shuffle(made)
    # Whole rows before single signals, and both in every heap.
    made.sort(key=lambda mutation: not mutation.name.startswith("rows"))
    return [made[i::SWAPS] for i in range(min(SWAPS, len(made)))]


def _rows(names: Sequence[str], a: int, b: int) -> Callable[[dict[str, Any]], None]:
    def swap(inputs: dict[str, Any]) -> None:
        for name in names:
            inputs[name][a], inputs[name][b] = inputs[name][b], inputs[name][a]

    return swap


def of_inputs(inputs: dict[str, Any], rng: random.Random) -> dict[str, list[list[Mutation]]]:
    """Return all mutations of a circuit's inputs, by signal and place."""
    found = {name: of_signal(name, value, rng, turn) for turn, (name, value) in enumerate(inputs.items())}
    for kind in ("request", "action", "fee", "account"):
        if any(re.match(kind + "[A-Z]", name) for name in inputs):
            found[f"rows of {kind}"] = of_rows(inputs, kind, rng)
    for several in found.values():
        rng.shuffle(several)
    return {name: several for name, several in found.items() if several}


def sample(by_signal: dict[str, list[list[Mutation]]], count: int, whole: bool = False) -> list[Mutation]:
    """Return `count` mutations: one of each place, the signals in turn, then another of each place, and so on.

    With `whole` there are more if need be: at least one of each place, and one of each kind at each signal.
    """
    ordered = list(_ordered(by_signal))
    first = sum(len(several) for several in by_signal.values())
    if not whole:
        return ordered[:count]
    made, rest = ordered[:first], ordered[first:]
    tried = {(mutation.name, mutation.kind) for mutation in made}
    more = []
    for mutation in rest:
        if (mutation.name, mutation.kind) not in tried:
            tried.add((mutation.name, mutation.kind))
            made.append(mutation)
        else:
            more.append(mutation)
    return made + more[: max(0, count - len(made))]


def _ordered(by_signal: dict[str, list[list[Mutation]]]) -> Iterator[Mutation]:
    most = max(len(heap) for several in by_signal.values() for heap in several)
    widest = max(map(len, by_signal.values()))
    for turn in range(most):
        for place in range(widest):
            for several in by_signal.values():
                if place < len(several) and turn < len(several[place]):
                    yield several[place][turn]
