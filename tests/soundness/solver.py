"""Lies at the constraints themselves: one wire says something else, all that follows from it is solved anew.

No witness program takes part. Reading a constraint system forwards gives, for each wire, the constraint that
determines it (linear in that wire, everything else known); what no constraint determines is a hint. The constraints
that determine nothing are the checks. After a change the determined wires are solved again in order, and a check that
fails refuses the lie.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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
    """

    system: Any
    given: set[int]
    hints: list[int] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    late: list[bool] = field(default_factory=list)
    at: dict[int, int] = field(default_factory=dict)

    @classmethod
    def make(cls, system: Any, given: Iterable[int], derived: Iterable[int], challenge: int | None) -> Plan:
        """Read a system: `given` wires are known, `derived` ones never taken for hints."""
        plan = cls(system, {0, *given})
        plan._order(set(derived))
        plan._mark(challenge)
        return plan

    def _order(self, derived: set[int]) -> None:
        system = self.system
        wires = [{w for part in c for w, _ in part} for c in system.constraints]
        left = [len(several - {0}) for several in wires]
        known = [False] * len(system.uses)
        ready: list[int] = []

        def learn(wire: int) -> None:
            known[wire] = True
            for number in system.uses[wire]:
                left[number] -= 1
                if left[number] <= 1:
                    ready.append(number)

        known[0] = True
        for wire in sorted(self.given - {0}):
            learn(wire)
        done = [False] * len(wires)
        candidates = iter(range(1, len(known)))
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
        return not (wire in a and wire in b)

    def _mark(self, challenge: int | None) -> None:
        late = {challenge} if challenge is not None else set()
        for number, wire in self.steps:
            depends = any(w in late for part in self.system.constraints[number] for w, _ in part if w != wire)
            self.late.append(depends)
            if depends and wire:
                late.add(wire)

    # --- lies

    def lie(
        self, witness: list[Any], changes: Mapping[int, int], challenge: Callable[[list[Any]], dict[int, int]]
    ) -> tuple[int | None, list[Any]]:
        """Return the constraint that refuses a change, None if none does, and the wires.

        Parameters
        ----------
        witness : list
            Satisfies all constraints; not changed.
        changes : mapping of int to int
            Values that wires are to keep.
        challenge : callable
            Told the wires once all before the challenge are solved; returns wires that change with it.
        """
        values = list(witness)
        fixed = set(changes)
        heap: list[int] = []
        queued: set[int] = set()

        def touch(wire: int) -> None:
            for number in self.system.uses[wire]:
                step = self.at[number]
                key = step + _LATER if self.late[step] else step
                if key not in queued:
                    queued.add(key)
                    heapq.heappush(heap, key)

        def change(wire: int, value: int) -> None:
            if values[wire] != value:
                values[wire] = value
                touch(wire)

        for wire, value in changes.items():
            change(wire, bigint(value % R))
        drawn = False
        while heap or not drawn:
            if not drawn and (not heap or heap[0] >= _LATER):
                drawn = True
                for wire, value in challenge(values).items():
                    fixed.add(wire)
                    change(wire, bigint(value))
                continue
            key = heapq.heappop(heap)
            queued.discard(key)
            number, wire = self.steps[key % _LATER]
            if not wire or wire in fixed or wire in self.given:
                if not self._holds(number, values):
                    return number, values
            else:
                found = self._solve(number, wire, values)
                if found is None:
                    return number, values
                change(wire, found)
        return None, values

    def _sums(self, number: int, values: list[Any], without: int = -1) -> list[Any]:
        return [sum(k * values[w] for w, k in part if w != without) % BIG_R for part in self.system.constraints[number]]

    def _holds(self, number: int, values: list[Any]) -> bool:
        a, b, c = self._sums(number, values)
        return bool(a * b % BIG_R == c)

    def _solve(self, number: int, wire: int, values: list[Any]) -> Any:
        """Return the value that a constraint gives its wire; its old one where any would do; None where none does."""
        a, b, c = self._sums(number, values, wire)
        of_a, of_b, of_c = (sum(k for w, k in part if w == wire) for part in self.system.constraints[number])
        # (a + of_a x)(b + of_b x) = c + of_c x, and of_a or of_b is 0.
        slope = (of_a * b + of_b * a - of_c) % BIG_R
        rest = (c - a * b) % BIG_R
        if not slope:
            return None if rest else values[wire]
        return rest * pow(slope, -1, BIG_R) % BIG_R
