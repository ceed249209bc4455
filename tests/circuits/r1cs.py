"""Readers of .r1cs, .wtns and .sym files, and a check of constraints one by one: independent of prover and compiler."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

R = 21888242871839275222246405745257275088548364400416034343698204186575808495617

Combination = tuple[tuple[int, int], ...]
"""(wire, coefficient) pairs; wire 0 is the constant 1."""


def _sections(data: bytes, magic: bytes) -> dict[int, bytes]:
    assert data[:4] == magic
    (count,) = struct.unpack_from("<I", data, 8)
    at, found = 12, {}
    for _ in range(count):
        kind, size = struct.unpack_from("<IQ", data, at)
        found[kind] = data[at + 12 : at + 12 + size]
        at += 12 + size
    return found


def read_constraints(path: Path) -> list[tuple[Combination, Combination, Combination]]:
    """Return every constraint as (a, b, c), meaning a * b = c."""
    sections = _sections(path.read_bytes(), b"r1cs")
    (count,) = struct.unpack_from("<I", sections[1], 4 + 32 + 16 + 8)
    body, at, made = sections[2], 0, []
    # Large circuits have millions of coefficients, nearly all of them the same few.
    seen: dict[bytes, int] = {}
    for _ in range(count):
        parts = []
        for _ in range(3):
            (terms,) = struct.unpack_from("<I", body, at)
            at += 4
            part = []
            for _ in range(terms):
                (wire,) = struct.unpack_from("<I", body, at)
                raw = body[at + 4 : at + 36]
                if raw not in seen:
                    seen[raw] = int.from_bytes(raw, "little")
                part.append((wire, seen[raw]))
                at += 36
            parts.append(tuple(part))
        made.append((parts[0], parts[1], parts[2]))
    assert at == len(body)
    return made


def read_witness(path: Path) -> list[int]:
    """Return the values of all wires."""
    body = _sections(path.read_bytes(), b"wtns")[2]
    return [int.from_bytes(body[i : i + 32], "little") for i in range(0, len(body), 32)]


def read_names(path: Path) -> dict[str, int]:
    """Return the wire of each signal that has one."""
    names = {}
    for line in path.read_text().splitlines():
        _, wire, _, name = line.split(",")
        if int(wire) >= 0:
            names[name] = int(wire)
    return names


@dataclass
class System:
    """A compiled circuit's constraints and the names of its signals.

    Attributes
    ----------
    constraints : list
        See `read_constraints`.
    names : dict
        See `read_names`.
    uses : list of list of int
        By wire, the constraints it stands in.
    """

    constraints: list[tuple[Combination, Combination, Combination]]
    names: dict[str, int]
    uses: list[list[int]]

    @classmethod
    def read(cls, r1cs: Path, sym: Path) -> System:
        constraints = read_constraints(r1cs)
        names = read_names(sym)
        wires = 1 + max([0, *names.values(), *(w for c in constraints for part in c for w, _ in part)])
        uses: list[list[int]] = [[] for _ in range(wires)]
        for number, constraint in enumerate(constraints):
            for wire in {w for part in constraint for w, _ in part}:
                uses[wire].append(number)
        return cls(constraints, names, uses)

    def holds(self, number: int, witness: list[int]) -> bool:
        """Tell whether one constraint holds."""
        a, b, c = (sum(k * witness[w] for w, k in part) % R for part in self.constraints[number])
        return a * b % R == c

    def broken(self, witness: list[int]) -> list[int]:
        """Return the constraints that do not hold."""
        return [number for number in range(len(self.constraints)) if not self.holds(number, witness)]

    def broken_by(self, witness: list[int], changes: dict[int, int]) -> list[int]:
        """Return the constraints that a satisfying witness breaks when these wires are set to these values."""
        kept = {wire: witness[wire] for wire in changes}
        try:
            for wire, value in changes.items():
                witness[wire] = value % R
            touched = sorted({number for wire in changes for number in self.uses[wire]})
            return [number for number in touched if not self.holds(number, witness)]
        finally:
            for wire, value in kept.items():
                witness[wire] = value
