"""Lies at the constraints themselves: one wire says something else, all that follows from it is solved anew.

No witness program takes part. Reading a constraint system forwards gives, for each wire, the constraint that
determines it (linear in that wire, everything else known); what no constraint determines is a hint. The constraints
that determine nothing are the checks. After a change the determined wires are solved again in order, and a check that
fails refuses the lie.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from proofbook.protocol.field import BIG_R, R, bigint

_LATER: Final = 1 << 40


@dataclass
class Plan:
    """How a constraint system is solved.

    Attributes
    ----------
    system : System
        Of `tests/circuits/r1cs.py`.
    given : set of int
        Wires that are not solved for.
    hints : list of int
        Wires that no constraint determines, in the order met.
    steps : list of tuple
        (constraint, wire it determines, or 0 for a check), in order.
    late : list of bool
        By step: it depends on the challenge.
    at : dict
        The step of each constraint.
    may : callable, optional
        Whether a constraint may determine a wire; any may if there is none.
    formulas : list of tuple
        Hints that are calculated: (of which wire, which wires, how), numbered after the constraints.
    following : dict
        By wire, the formulas that follow from it.
    """

    system: Any
    given: set[int]
    hints: list[int] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    late: list[bool] = field(default_factory=list)
    at: dict[int, int] = field(default_factory=dict)
    may: Callable[[int, int], bool] | None = None
    formulas: list[tuple[int, list[int], str]] = field(default_factory=list)
    following: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        system: Any,
        given: Iterable[int],
        derived: Iterable[int],
        challenge: int | None,
        forwards: Any = None,
    ) -> Plan:
        """Read a system: `given` wires are known, `derived` ones never taken for hints; `forwards` is of `hints`."""
        plan = cls(system, {0, *given})
        if forwards is not None:
            plan.may, plan.formulas = forwards.may, forwards.formulas()
        plan._order(set(derived), () if forwards is None else sorted(forwards.hints))
        plan._mark(challenge)
        return plan

    def _order(self, derived: set[int], first: Sequence[int]) -> None:
        system = self.system
        wires = [tuple({w for part in c for w, _ in part}) for c in system.constraints]
        for source, _, _ in self.formulas:
            self.following.setdefault(source, []).append(len(wires))
            wires.append((source,))
        left = [len(several) - (0 in several) for several in wires]
        known = [False] * len(system.uses)
        # A signal that is a constant waits for nothing.
        ready = [number for number, several in enumerate(left[: len(system.constraints)]) if several <= 1]

        def learn(wire: int) -> None:
            known[wire] = True
            for number in self.uses(wire):
                left[number] -= 1
                if left[number] <= (number < len(system.constraints)):
                    ready.append(number)

        known[0] = True
        for wire in sorted(self.given - {0}):
            learn(wire)
        done = [False] * len(wires)
        candidates = chain(first, range(1, len(known)))
        while True:
            while ready:
                number = ready.pop()
                if done[number]:
                    continue
                unknown = [w for w in wires[number] if not known[w]]
                if unknown and not self._determines(number, unknown[0]):
                    continue
                done[number] = True
                self.at[number] = len(self.steps)
                if number >= len(system.constraints):
                    targets = self.formulas[number - len(system.constraints)][1]
                    self.steps.append((number, targets[0]))
                    for wire in targets:
                        if not known[wire]:
                            learn(wire)
                    continue
                self.steps.append((number, unknown[0] if unknown else 0))
                if unknown:
                    learn(unknown[0])
            hint = next((w for w in candidates if not known[w] and w not in derived and system.uses[w]), None)
            if hint is None:
                break
            self.hints.append(hint)
            learn(hint)
        assert all(done), "a constraint was never reached"

    def _determines(self, number: int, wire: int) -> bool:
        a, b, _ = ({w for w, _ in part} for part in self.system.constraints[number])
        return not (wire in a and wire in b) and (self.may is None or self.may(number, wire))

    def uses(self, wire: int) -> Sequence[int]:
        """Return the constraints that a wire stands in, and the formulas that follow from it, numbered after them."""
        found: Sequence[int] = self.system.uses[wire]
        return [*found, *self.following[wire]] if wire in self.following else found

    def calculated(self, number: int, values: list[Any]) -> Iterable[tuple[int, Any]]:
        """Yield what a formula gives its wires."""
        source, targets, how = self.formulas[number - len(self.system.constraints)]
        value = values[source]
        if how == "bits":
            return [(wire, value >> i & 1) for i, wire in enumerate(targets)]
        return [(targets[0], pow(value, -1, BIG_R) if value else bigint(0))]

    def _mark(self, challenge: int | None) -> None:
        late = {challenge} if challenge is not None else set()
        count = len(self.system.constraints)
        for number, wire in self.steps:
            if number >= count:
                source, targets, _ = self.formulas[number - count]
                self.late.append(source in late)
                late |= set(targets) if source in late else set()
                continue
            depends = any(w in late for part in self.system.constraints[number] for w, _ in part if w != wire)
            self.late.append(depends)
            if depends and wire:
                late.add(wire)

    # --- lies

    def lie(
        self, values: list[Any], changes: Mapping[int, int], challenge: Callable[[list[Any]], dict[int, int]]
    ) -> tuple[int | None, dict[int, Any]]:
        """Return the constraint that refuses a change, None if none does, and the wires that came out different.

        Parameters
        ----------
        values : list
            A witness that satisfies all constraints; the same again afterwards.
        changes : mapping of int to int
            Values that wires are to keep.
        challenge : callable
            Told the wires once all before the challenge are solved; returns wires that change with it.
        """
        told = _Telling(self, values)
        try:
            refused = told.run(changes, challenge)
            return refused, {wire: values[wire] for wire, old in told.before.items() if values[wire] != old}
        finally:
            for wire, old in told.before.items():
                values[wire] = old

    def _sums(self, number: int, values: list[Any], without: int = -1) -> list[Any]:
        return [sum(k * values[w] for w, k in part if w != without) % BIG_R for part in self.system.constraints[number]]

    def holds(self, number: int, values: list[Any]) -> bool:
        a, b, c = self._sums(number, values)
        return bool(a * b % BIG_R == c)

    def solve(self, number: int, wire: int, values: list[Any]) -> Any:
        """Return the value that a constraint gives its wire; its old one where any would do; None where none does."""
        a, b, c = self._sums(number, values, wire)
        of_a, of_b, of_c = (sum(k for w, k in part if w == wire) for part in self.system.constraints[number])
        # (a + of_a x)(b + of_b x) = c + of_c x, and of_a or of_b is 0.
        slope = (of_a * b + of_b * a - of_c) % BIG_R
        rest = (c - a * b) % BIG_R
        if not slope:
            return None if rest else values[wire]
        return rest * pow(slope, -1, BIG_R) % BIG_R


class _Telling:
    """One lie on its way through the constraints, in their order.

    Attributes
    ----------
    before : dict
        Wires written so far, with what they said.
    """

    def __init__(self, plan: Plan, values: list[Any]) -> None:
        self.plan, self.values = plan, values
        self.before: dict[int, Any] = {}
        self._heap: list[int] = []
        self._queued: set[int] = set()

    def change(self, wire: int, value: Any) -> None:
        """Write a wire and queue the constraints it stands in."""
        if self.values[wire] == value:
            return
        self.before.setdefault(wire, self.values[wire])
        self.values[wire] = value
        plan = self.plan
        for number in plan.uses(wire):
            step = plan.at[number]
            key = step + _LATER if plan.late[step] else step
            if key not in self._queued:
                self._queued.add(key)
                heapq.heappush(self._heap, key)

    def run(self, changes: Mapping[int, int], challenge: Callable[[list[Any]], dict[int, int]]) -> int | None:
        plan, values, heap = self.plan, self.values, self._heap
        fixed = set(changes)
        for wire, value in changes.items():
            self.change(wire, bigint(value % R))
        drawn = False
        while heap or not drawn:
            if not drawn and (not heap or heap[0] >= _LATER):
                drawn = True
                for wire, value in challenge(values).items():
                    fixed.add(wire)
                    self.change(wire, bigint(value))
                continue
            key = heapq.heappop(heap)
            self._queued.discard(key)
            number, wire = plan.steps[key % _LATER]
            if number >= len(plan.system.constraints):
                for target, value in plan.calculated(number, values):
                    if target not in fixed:
                        self.change(target, value)
            elif not wire or wire in fixed or wire in plan.given:
                if not plan.holds(number, values):
                    return number
            else:
                found = plan.solve(number, wire, values)
                if found is None:
                    return number
                self.change(wire, found)
        return None
