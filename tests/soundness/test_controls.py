"""Where one check is missing, one lie survives: so the harness sees what it is to see."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from proofbook.protocol.table import MINIMAL, Size
from proofbook.prover.compile import Compiled, compile_circuit

HERE = Path(__file__).resolve().parent


def load(path: Path) -> Any:
    """Import a helper by its path, before there are fixtures."""
    name = f"soundness_controls_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def load_controls() -> Any:
    """Return the table of controls, filled."""
    controls = load(HERE / "controls.py")
    if not controls.CONTROLS:
        forging, following = load(HERE.parent / "circuits" / "forging.py"), load(HERE / "following.py")
        for name in ("traps_state", "traps_actions"):
            load(HERE / f"{name}.py").register(controls, forging, following)
    return controls


CONTROLS = load_controls().CONTROLS
TRAPS, FOUND_ALONE = load_controls().TRAPS, load_controls().FOUND_ALONE
ALONE = (300, 100)
"""Lies of no control's own that each copy is told in the long form, by page."""


def chosen() -> list[Any]:
    return [c for c in CONTROLS if c.short or os.environ.get("PROOFBOOK_LONG") == "1"]


@pytest.mark.slow
@pytest.mark.parametrize("control", chosen(), ids=lambda control: control.name)
def test_a_missing_check_lets_a_lie_survive(control: Any, report: Any, request: Any) -> None:
    judge, patched, r1cs, make = (request.getfixturevalue(f) for f in ("judge", "patched", "r1cs", "scene_of"))
    copy = patched.compile_copy(patched.entry(control.template, control.rows), control.edits)
    told = tell_exit if control.template == "Exit" else tell_batch
    name = "exit-minimal" if control.template == "Exit" else "batch-minimal-0"
    real, _ = told(control, make, compile_circuit(name), judge)
    finding, witness = told(control, make, copy, judge)
    caught = finding.verdict == "survivor" and real.verdict == "refused"
    entry: dict[str, Any] = {"name": control.name, "caught": caught}
    report("controls", entry)
    assert finding.verdict == "survivor", finding
    assert real.verdict == "refused", real
    line = request.getfixturevalue("forging").Refusal(real.reason).line
    assert line and (line in control.line or control.line in line), (line, control.line)
    # The program's word is not all: the constraints hold, one by one.
    wires = r1cs.read_witness(witness)
    assert all(holds(constraint, wires, r1cs.R) for constraint in r1cs.read_constraints(copy.r1cs))
    if os.environ.get("PROOFBOOK_LONG") == "1":
        told_alone, found = lies_alone(make(copy)[0], copy, request)
        report("controls", entry | {"told alone": told_alone, "found alone": bool(found), "survivors": found[:3]})
        assert found or not control.alone, "lies that nobody made up have found this before"


def lies_alone(scene: Any, copy: Compiled, request: Any) -> tuple[int, list[str]]:
    """Tell a copy the lies that any circuit is told, not made up for this one; return how many, and what survives.

    A copy that takes no honest page, because it says other things of it than the contract, is told none.
    """
    telling, judge, pages, forging = map(request.getfixturevalue, ("telling", "judge", "pages", "forging"))
    tools = request.getfixturevalue("tools")
    if copy.circuit.template == "Exit":
        run = request.getfixturevalue("calculate")
        several = [telling.lies_to_an_exit(scene, copy, (ALONE[0], False), tools, run)]
    else:
        size, several = pages.size_of(copy), []
        for lie, count in zip(pages.pages(scene, size), ALONE, strict=True):
            contract = judge.Contract(forging, scene.state, size, lie.inputs, lie.draw)
            contract.bind(lie.inputs)
            if judge.tell(contract, lie).verdict == "benign":
                several.append(telling.lies_to_a_batch(lie, scene, copy, (count, False), tools))
    return sum(told.verdicts.total() for told in several), [what for told in several for what in told.survivors]


def holds(constraint: Any, witness: list[int], r: int) -> bool:
    a, b, c = (sum(k * witness[w] for w, k in part) % r for part in constraint)
    return bool(a * b % r == c)


def tell_batch(control: Any, make: Any, compiled: Compiled, judge: Any) -> Any:
    scene, witness, forging = make(compiled)
    attack = control.tell(scene)
    entry = compiled.circuit
    size = Size(entry.requests, entry.actions, entry.accounts, entry.fees)
    state = attack.state or scene.state
    contract = judge.Contract(forging, state, size, attack.lie.inputs, attack.lie.draw)
    if not attack.bound:
        contract.bind(attack.lie.inputs, attack.elements, attack.words)
    return judge.tell(contract, attack.lie, attack.words), witness


def tell_exit(control: Any, make: Any, compiled: Compiled, judge: Any) -> Any:
    scene, witness, _ = make(compiled)
    assert scene.state.preset == MINIMAL
    return judge.tell_exit(scene.state, control.tell(scene), lambda inputs: scene._calculate(compiled, inputs)), witness
