"""Lies at wires that are no inputs, hints first; what follows is solved, C, z, y and the new root too."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from proofbook.protocol.field import R, bigint
from proofbook.protocol.sponge import horner

Changes = dict[int, int]
_ROW = re.compile(r"(main\.\w+)\[(\d+)\](.*)")


@dataclass
class Told:
    """What became of lies.

    Attributes
    ----------
    verdicts, kinds : Counter
        By verdict, and by the kind of the other value.
    survivors : list of str
        In words.
    at : set
        Places or wires that were given another value.
    reached : int
        Lies that constraints have judged: others are refused before, by the contract or as no field elements.
    stuck : Counter
        Lies at inputs that nothing follows, by what could not.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    survivors: list[str] = field(default_factory=list)
    at: set[Any] = field(default_factory=set)
    reached: int = 0
    stuck: Counter[str] = field(default_factory=Counter)

    def note(self, verdict: str, kind: str, what: str, reached: bool = True) -> None:
        self.verdicts[verdict] += 1
        self.kinds[kind] += 1
        self.reached += reached
        if verdict == "survivor":
            self.survivors.append(what)


class Relatives:
    """Which wires stand beside a wire: the next one of its array, and the same one of other rows.

    Parameters
    ----------
    names : dict of str to int
        Wires by signal.
    inner : set of int
        Wires that may be given another value.
    """

    def __init__(self, names: dict[str, int], inner: set[int]) -> None:
        self.inner = inner
        self._names: dict[int, str] = {}
        self._rows: dict[str, dict[int, int]] = defaultdict(dict)
        self._arrays: dict[str, dict[int, int]] = defaultdict(dict)
        for name, wire in names.items():
            if not wire:
                continue
            self._names.setdefault(wire, name)
            if row := _ROW.match(name):
                self._rows[f"{row[1]}[]{row[3]}"][int(row[2])] = wire
            head, _, tail = name.rpartition("[")
            if head and tail.endswith("]"):
                self._arrays[head][int(tail[:-1])] = wire

    def sibling(self, wire: int) -> int | None:
        """Return the wire of the next place of the signal's own array."""
        head, _, tail = self._names.get(wire, "").rpartition("[")
        if not head or not tail.endswith("]"):
            return None
        found = self._arrays[head].get(int(tail[:-1]) + 1)
        return found if found in self.inner and found != wire else None

    def rows(self, wire: int) -> list[int]:
        """Return the wires of the same signal in the other rows of its kind."""
        row = _ROW.match(self._names.get(wire, ""))
        if row is None:
            return []
        return [w for i, w in self._rows[f"{row[1]}[]{row[3]}"].items() if i != int(row[2])]


class Liar:
    """A satisfied constraint system and how it is solved.

    Parameters
    ----------
    system : System
        Of `tests/circuits/r1cs.py`.
    witness : list
        Satisfies it.
    inputs : dict
        What the witness is of.
    lie : Lie or None
        The honest page; None for an exit.
    solver, forging : module
    forwards : Forwards, optional
        Of `hints`, for a circuit that nothing was simplified away from.
    """

    def __init__(
        self, system: Any, witness: list[int], inputs: Any, lie: Any, solver: Any, forging: Any, forwards: Any = None
    ) -> None:
        self.system, self.inputs, self.lie, self.forging = system, inputs, lie, forging
        self.values = [bigint(value) for value in witness]
        assert system.broken(self.values) == []
        names = system.names
        self.root = names["main.root" if lie is None else "main.newRoot"]
        kept = {w for n, w in names.items() if n.count(".") == 1 and n.split(".")[1].split("[")[0] in inputs}
        outside = self.derived(system, lie)
        challenge = None if lie is None else names["main.z"]
        self.plan = solver.Plan.make(system, kept - outside, outside, challenge, forwards)
        self.inner = [w for w in range(1, len(system.uses)) if w not in self.plan.given and system.uses[w]]
        self.relatives = Relatives(system.names, set(self.inner))

    @staticmethod
    def derived(system: Any, lie: Any) -> set[int]:
        """Return the inputs that follow from the rest."""
        return {system.names[f"main.{name}"] for name in (["root"] if lie is None else ["C", "y", "newRoot"])}

    def drawn(self, values: list[Any]) -> Changes:
        """Draw z as the contract does, told the wires that C and the new root have come to."""
        if self.lie is None:
            return {}
        wires = {name: self.system.names[f"main.{name}"] for name in ("C", "z", "y", "newRoot")}
        words = self.forging.words({**self.inputs, "newRoot": int(values[wires["newRoot"]])})
        z = self.lie.draw(words, int(values[wires["C"]]))
        return {wires["z"]: z, wires["y"]: horner(words, z)}

    def tell(self, kind: str, changes: Changes, told: Told) -> None:
        """Tell a lie. The words are the inputs', the root aside: only another root is another transition."""
        refused, after = self.plan.lie(self.values, changes, self.drawn)
        told.at.update(changes)
        verdict = "refused" if refused is not None else "survivor" if self.root in after else "benign"
        told.note(verdict, kind, f"{kind} at wires {sorted(changes)}")

    def bits(self) -> list[dict[int, int]]:
        """Return the decompositions: by place, the wires that a constraint of their own makes 0 or 1."""
        boolean = set()
        for a, b, c in self.system.constraints:
            if not c and len(a) + len(b) == 3:
                of_a, of_b = {w for w, _ in a}, {w for w, _ in b}
                boolean |= {w for w in of_a & of_b if of_a | of_b == {0, w}}
        found: dict[str, dict[int, int]] = {}
        for name, wire in self.system.names.items():
            head, _, tail = name.rpartition("[")
            if wire in boolean and wire not in self.plan.given and tail.endswith("]"):
                found.setdefault(head, {})[int(tail[:-1])] = wire
        return [wires for wires in found.values() if len(wires) > 2]


def changes_at(wire: int, liar: Liar, rng: random.Random) -> list[tuple[str, Changes]]:
    """Return other values for a wire, each with its kind; swapped siblings are two wires."""
    values, relatives = liar.values, liar.relatives
    old = int(values[wire])
    # What rows say comes first: their values are often 0 or 1.
    made = [("other row", int(values[w])) for w in relatives.rows(wire)[:2]]
    made += [("0", 0), ("1", 1), ("r - 1", R - 1), ("off by one", old + 1), ("off by one", old - 1)]
    made += [("neighbour", int(values[w])) for w in (wire - 1, wire + 1) if 0 < w < len(values)]
    made += [("r - x", R - old), ("random", rng.randrange(R))]
    found: dict[int, str] = {}
    for kind, value in made:
        found.setdefault(value % R, kind)
    found.pop(old, None)
    several: list[tuple[str, Changes]] = [(kind, {wire: value}) for value, kind in found.items()]
    sibling = relatives.sibling(wire)
    if sibling is not None and int(values[sibling]) != old:
        several.append(("siblings", {wire: int(values[sibling]), sibling: old}))
    return several


def lies_in_bits(wires: dict[int, int], values: list[Any]) -> Iterator[tuple[str, Changes]]:
    """Yield bits of another number, x + r among them, and the same number in what are no bits."""
    number = sum(int(values[w]) << i for i, w in wires.items())
    for kind, other in (("x + r", number + R), ("off by one", number + 1), ("off by one", number - 1)):
        changes = {w: other >> i & 1 for i, w in wires.items() if other >> i & 1 != values[w]}
        if changes:
            yield kind, changes
    for i, wire in wires.items():
        if i + 1 in wires:
            # 2 less here, 1 more one place up.
            yield "no bits", {wire: int(values[wire]) - 2, wires[i + 1]: int(values[wires[i + 1]]) + 1}


def lies(liar: Liar, rng: random.Random, hints: list[int], per_hint: int, others: bool) -> Told:
    """Tell lies at all hints, at decompositions and, if asked for, at all other wires.

    Parameters
    ----------
    hints : list of int
        Wires; those that the plan takes for hints are told anyway.
    per_hint : int
        Values for each, the kinds in turn.
    others : bool
        One value for every wire besides.
    """
    told = Told()
    all_hints = list(dict.fromkeys([*liar.plan.hints, *hints]))
    for turn, wire in enumerate(all_hints):
        several = changes_at(wire, liar, rng)
        for k in range(min(per_hint, len(several))):
            kind, changes = several[(turn + k) % len(several)]
            liar.tell(kind, changes, told)
    for number, wires in enumerate(liar.bits()):
        for k, (kind, changes) in enumerate(lies_in_bits(wires, liar.values)):
            if per_hint > 1 or kind == "x + r" or (number + k) % 8 == 0:
                liar.tell(kind, changes, told)
    if others:
        for turn, wire in enumerate(liar.inner):
            if wire not in told.at:
                several = changes_at(wire, liar, rng)
                kind, changes = several[turn % len(several)]
                liar.tell(kind, changes, told)
    return told
