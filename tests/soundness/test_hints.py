"""The list of hints is all `<--` of the sources, and two lies that the harness has to find by itself."""

from __future__ import annotations

import random
from typing import Any

import pytest

from proofbook.prover.workspace import default_workspace

ROWS = (1, 1, 2, 1)
PLAIN = ("--r1cs", "--wasm", "--sym", "--O0")
ASSIGNED = ("lib/merkle.circom", "after[h + 1] <== hashAfter[h].out;", "after[h + 1] <-- hashAfter[h].out;")
UNBALANCED = ("batch.circom", "    ledger === 0;", "")


def test_every_hint_of_our_sources_is_in_a_circuit(hints: Any) -> None:
    """Each template below circuits/src that assigns without constraining is a part of the batch or of the exit."""
    ours = hints.Sources.read(sorted(default_workspace().includes[0].rglob("*.circom")))
    assigning = {template for template, signals in ours.hints.items() if signals}
    assert len(assigning) >= 6
    assert assigning <= ours.below("Batch") | ours.below("Exit")


@pytest.mark.slow
def test_an_assignment_that_nothing_constrains_is_found(
    scene_of: Any, report: Any, request: pytest.FixtureRequest
) -> None:
    """The classic: `<--` where `<==` should stand, in the tree's new nodes."""
    patched, hints, wires, pages, r1cs, solver, forging = map(
        request.getfixturevalue, ("patched", "hints", "wires", "pages", "r1cs", "solver", "forging")
    )
    copy = patched.compile_patched("assigned", patched.entry("Batch", ROWS), (ASSIGNED,), PLAIN)
    scene, path, _ = scene_of(copy)
    lie = pages.pages(scene, pages.size_of(copy))[0]
    lie.accepted()
    system = r1cs.System.read(copy.r1cs, copy.sym)
    libraries = default_workspace().includes[1:]
    sources = hints.of_folders(copy.r1cs.parent / "src", *libraries)
    forwards = hints.Forwards(system, sources, "Batch", wires.Liar.derived(system, lie))
    liar = wires.Liar(system, r1cs.read_witness(path), lie.inputs, lie, solver, forging, forwards)
    assigned = forwards.sites["Path.after"]
    told = wires.lies(liar, random.Random(1), assigned, 2, False)
    caught = bool(told.survivors)
    report("controls", {"name": "a value assigned and not constrained", "caught": caught})
    assert caught
    assert {what.rpartition(" ")[2] for what in told.survivors} <= {f"[{wire}]" for wire in assigned}


@pytest.mark.slow
def test_books_that_do_not_balance_are_found(
    patched: Any, telling: Any, tools: Any, pages: Any, scene_of: Any, report: Any
) -> None:
    """Without one identity, lies survive that nobody made up for it."""
    copy = patched.compile_copy(patched.entry("Batch", ROWS), (UNBALANCED,))
    scene, _, _ = scene_of(copy)
    lie = pages.pages(scene, pages.size_of(copy))[0]
    told = telling.lies_to_a_batch(lie, scene, copy, (240, False), tools)
    caught = bool(told.survivors)
    report("controls", {"name": "books that do not balance, found by trying", "caught": caught})
    assert caught
