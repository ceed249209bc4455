"""Lies to every circuit: other values in every input and every hint, and whatever follows made anew."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from proofbook.protocol.errors import ProofbookError
from proofbook.prover.compile import Compiled, compile_circuit
from proofbook.prover.registry import load_circuits
from proofbook.prover.witness import exit_inputs
from proofbook.prover.workspace import default_workspace

LONG = os.environ.get("PROOFBOOK_LONG") == "1"
# In CI the circuits that other tests compile as well, in the long form all.
SLOPES = [f"slope-mainnet-{kind}" for kind in ("base", "action", "account", "request")]
SHORT = ["batch-minimal-0", "exit-minimal", "exit-mainnet", *SLOPES]
NAMES = list(load_circuits(default_workspace())) if LONG else SHORT
KINDS = {"0", "1", "r - 1", "off by one", "x + r", "alias", "neighbour", "siblings", "other row"}
"""What the other values of inputs must have been, each at least once; in CI not where there is hardly any."""


def effort(compiled: Compiled) -> tuple[int, bool, int, bool]:
    """Return how many inputs are bent, whether every place of them is, values for each hint, and whether all wires are.

    Circuits of one template differ in their numbers of rows only, and a lie costs the more the larger the circuit is.
    """
    exits, constraints = compiled.circuit.template == "Exit", compiled.info.nonlinear
    if not LONG:
        return 240 if exits else 100, False, 8 if exits else 1, exits
    if exits:
        return 4000, True, 9, True
    if constraints < 35_000:
        return 2500, True, 9, True
    if constraints < 130_000:
        return 1500, True, 2, True
    return 400, False, 1, True


# --- inputs


def lies_to_a_batch(honest: Any, scene: Any, compiled: Compiled, wanted: tuple[int, bool], tools: Any) -> Any:
    judge, mutations, following, forging, wires, pages = tools
    told = wires.Told()
    contract = judge.Contract(forging, scene.state, pages.size_of(compiled), honest.inputs, honest.draw)
    contract.bind(honest.inputs)
    assert judge.tell(contract, honest).verdict == "benign"
    by_signal = mutations.of_inputs(honest.inputs, random.Random(compiled.name))
    for mutation in mutations.sample(by_signal, *wanted):
        lie = scene._lie(scene.state, honest.inputs, honest.draw, honest.calculate)
        following.follow(lie, mutation, forging)
        finding = told_to_the_contract(contract, lie, mutation, judge, mutations)
        told.note(finding.verdict, mutation.kind, f"{mutation.what}: {finding.reason}")
        told.at.update(mutation.places)
    return told


def told_to_the_contract(contract: Any, lie: Any, mutation: Any, judge: Any, mutations: Any) -> Any:
    try:
        if mutation.name not in mutations.PUBLIC:
            contract.bind(lie.inputs)
    except (judge.ContractRefuses, ProofbookError) as error:
        return judge.Finding(judge.Verdict.REFUSED, f"contract: {error}")
    return judge.tell(contract, lie)


def lies_to_an_exit(scene: Any, compiled: Compiled, wanted: tuple[int, bool], tools: Any, calculate: Any) -> Any:
    judge, mutations, _, _, wires, _ = tools
    told = wires.Told()
    honest: dict[str, Any] = dict(exit_inputs(scene.state, 1))
    run = lambda inputs: calculate(compiled, inputs)  # noqa: E731
    assert judge.tell_exit(scene.state, honest, run).verdict == "benign"
    by_signal = mutations.of_inputs(honest, random.Random(compiled.name))
    for mutation in mutations.sample(by_signal, *wanted):
        bent = {name: list_copy(value) for name, value in honest.items()}
        mutation.make(bent)
        finding = judge.tell_exit(scene.state, bent, run)
        told.note(finding.verdict, mutation.kind, f"{mutation.what}: {finding.reason}")
        told.at.update(mutation.places)
    return told


def list_copy(value: Any) -> Any:
    return [list_copy(part) for part in value] if isinstance(value, list) else value


def exit_scene(scene: Any) -> Any:
    """Let account 1 have five tokens, one of them nearly all there can be."""
    scene.world.settle([scene.world.deposit(1, token, 2**64 - token) for token in range(10, 13)])
    return scene


# --- all together


@pytest.fixture(scope="module")
def tools(request: pytest.FixtureRequest) -> Any:
    return tuple(map(request.getfixturevalue, ("judge", "mutations", "following", "forging", "wires", "pages")))


def check_inputs(told: Any, places: set[Any], compiled: Compiled, whole: bool) -> None:
    """Check that lies were told where they should have been, with values of all kinds, and mostly refused."""
    assert {name for name, _ in told.at} == {name for name, _ in places}, "a signal nobody lied about"
    assert not whole or told.at == places, "a place nobody lied about"
    assert told.kinds.keys() >= (KINDS if whole else KINDS - {"other row", "siblings"})
    assert told.verdicts["refused"] > told.verdicts.total() // 2, told.verdicts


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_lie_survives(name: str, tools: Any, request: Any, report: Any) -> None:
    _, mutations, _, forging, wires, pages = tools
    make_scene, calculate = request.getfixturevalue("make_scene"), request.getfixturevalue("calculate")
    r1cs, solver = request.getfixturevalue("r1cs"), request.getfixturevalue("solver")
    compiled = compile_circuit(name)
    count, whole, per_hint, others = effort(compiled)
    if compiled.circuit.template == "Exit":
        minimal = compiled.circuit.preset == "minimal"
        scene, lie = exit_scene(make_scene("batch-minimal-0" if minimal else "slope-mainnet-base")), None
        inputs: dict[str, Any] = dict(exit_inputs(scene.state, 1))
        found = [lies_to_an_exit(scene, compiled, (count, whole), tools, calculate)]
        witness = r1cs.read_witness(calculate(compiled, inputs))
    else:
        scene = make_scene(name)
        lie, other = pages.pages(scene, pages.size_of(compiled))
        found = [lies_to_a_batch(lie, scene, compiled, (count, whole), tools)]
        found.append(lies_to_a_batch(other, scene, compiled, (count // 3, False), tools))
        inputs, witness = lie.inputs, r1cs.read_witness(lie.accepted())
    places = mutations.places(inputs)
    check_inputs(found[0], places, compiled, whole)
    liar = wires.Liar(r1cs.System.read(compiled.r1cs, compiled.sym), witness, inputs, lie, solver, forging)
    hints = wires.lies(liar, random.Random(name), [], per_hint, others)
    assert hints.at >= set(liar.inner if others else liar.plan.hints), "a hint nobody lied about"
    assert {"x + r", "no bits"} <= hints.kinds.keys()
    report("templates", entry_of(name, [*found, hints], found[0], places, liar, hints))
    assert [what for told in [*found, hints] for what in told.survivors] == []


def entry_of(name: str, found: list[Any], first: Any, places: set[Any], liar: Any, hints: Any) -> dict[str, Any]:
    """Return a circuit's entry in the report."""
    entry: dict[str, Any] = {"name": name, "mutations": sum(told.verdicts.total() for told in found)}
    entry["benign"] = sum(told.verdicts["benign"] for told in found)
    entry["survivors"] = sum(len(told.survivors) for told in found)
    entry["inputs"] = {"lied_at": len(first.at), "of": len(places), "lies": sum(t.verdicts.total() for t in found[:-1])}
    entry["hints"] = {"lied_at": len(set(liar.plan.hints) & hints.at), "of": len(liar.plan.hints)}
    entry["wires"] = {"lied_at": len(hints.at), "of": len(liar.inner), "lies": hints.verdicts.total()}
    kinds = sum((told.kinds for told in found[1:]), found[0].kinds)
    return entry | {"kinds": dict(sorted(kinds.items()))}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch-minimal-0"])
def test_what_follows_an_honest_page_is_that_page(name: str, tools: Any, make_scene: Any) -> None:
    _, mutations, following, forging, _, pages = tools
    scene = make_scene(name)
    for lie in pages.pages(scene, pages.size_of(compile_circuit(name))):
        before = list_copy(list(lie.inputs.items()))
        for signal in ("actionId", "requestAmount", "timestamp"):
            following.follow(lie, mutations.Mutation(signal, "none", (), "none", lambda inputs: None, True), forging)
            assert [(n, v) for n, v in before if n not in ("C", "z", "y")] == [
                (n, v) for n, v in lie.inputs.items() if n not in ("C", "z", "y")
            ]
