"""The constraints themselves, without the witness program: no value of a wire can be exchanged for another."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from proofbook.protocol.field import R
from proofbook.protocol.table import Side
from proofbook.protocol.words import FeeRow

# Whatever the inverse of 0 is said to be, in * inverse is 0: these hints alone are free, where their input is 0.
HINTS = re.compile(r"\.(inv|inverse|perBase)$")


@pytest.fixture(scope="module")
def system(r1cs: Any, batch: Any) -> Any:
    return r1cs.System.read(batch.r1cs, batch.sym)


@pytest.fixture
def witness(scene: Any, r1cs: Any) -> list[int]:
    """Return the witness of a page with every kind of row."""
    world = scene.world
    requests = [world.opening(3), world.deposit(3, 1, 7), world.rekey(0), world.leave(2, 1)]
    acts = [
        world.order(1, 5, Side.SELL, (10, 20, 1), limit=(15, 30)),
        world.transfer(1, 6, 2, 10, to=2),
        world.order(2, 5, Side.BUY, (10, 20, 2)),
        world.cancel(2, 6),
    ]
    values: list[int] = r1cs.read_witness(scene.page(requests, acts, [FeeRow(2, 3)]).accepted())
    return values


def test_no_wire_is_free_but_the_inverse_of_0(system: Any, witness: list[int]) -> None:
    assert system.broken(witness) == []
    assert len(witness) == len(system.uses)
    names = {wire: name for name, wire in system.names.items()}
    free = [w for w in range(1, len(witness)) if not system.broken_by(witness, {w: witness[w] + 1})]
    assert all(HINTS.search(names[wire]) for wire in free), Counter(names[wire] for wire in free)
    assert all(witness[wire] == 0 for wire in free)


def test_public_inputs_are_the_first_wires(system: Any, witness: list[int]) -> None:
    assert [system.names[f"main.{name}"] for name in ("C", "z", "y")] == [1, 2, 3]
    for wire in (1, 2, 3):
        for value in (0, witness[wire] - 1, R - witness[wire]):
            assert system.broken_by(witness, {wire: value})
