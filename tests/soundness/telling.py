"""Lies at the inputs, told one after another to a circuit and to the contract in front of it."""

from __future__ import annotations

import random
from typing import Any

from proofbook.protocol.errors import ProofbookError
from proofbook.prover.compile import Compiled
from proofbook.prover.witness import exit_inputs


def lies_to_a_batch(honest: Any, scene: Any, compiled: Compiled, wanted: tuple[int, bool], tools: Any) -> Any:
    judge, mutations, following, forging, wires, pages = tools
    told = wires.Told()
    contract = judge.Contract(forging, scene.state, pages.size_of(compiled), honest.inputs, honest.draw)
    contract.bind(honest.inputs)
    assert judge.tell(contract, honest).verdict == "benign"
    by_signal = mutations.of_inputs(honest.inputs, random.Random(compiled.name))
    for mutation in mutations.sample(by_signal, *wanted):
        lie = scene._lie(scene.state, honest.inputs, honest.draw, honest.calculate)
        if stuck := following.follow(lie, mutation, forging):
            told.stuck[stuck] += 1
        finding = told_to_the_contract(contract, lie, mutation, judge, mutations)
        told.note(finding.verdict, mutation.kind, f"{mutation.what}: {finding.reason}", finding.reached)
        told.at.update(mutation.places)
    return told


def told_to_the_contract(contract: Any, lie: Any, mutation: Any, judge: Any, mutations: Any) -> Any:
    try:
        if mutation.name not in mutations.PUBLIC:
            contract.bind(lie.inputs)
    except (judge.ContractRefuses, ProofbookError) as error:
        return judge.Finding(judge.Verdict.REFUSED, f"contract: {error}", reached=False)
    finding = judge.tell(contract, lie)
    if mutation.name in mutations.PUBLIC and finding.verdict != judge.Verdict.REFUSED:
        # All else stands as it was, so C, z and y are other ones than the contract's.
        return judge.Finding(judge.Verdict.SURVIVOR, "other public inputs for the same batch")
    return finding


def lies_to_an_exit(scene: Any, compiled: Compiled, wanted: tuple[int, bool], tools: Any, calculate: Any) -> Any:
    judge, mutations, following, _, wires, _ = tools
    told = wires.Told()
    honest: dict[str, Any] = dict(exit_inputs(scene.state, 1))
    run = lambda inputs: calculate(compiled, inputs)  # noqa: E731
    assert judge.tell_exit(scene.state, honest, run).verdict == "benign"
    by_signal = mutations.of_inputs(honest, random.Random(compiled.name))
    for mutation in mutations.sample(by_signal, *wanted):
        bent = {name: list_copy(value) for name, value in honest.items()}
        mutation.make(bent)
        following.follow_exit(bent, mutation)
        finding = judge.tell_exit(scene.state, bent, run)
        told.note(finding.verdict, mutation.kind, f"{mutation.what}: {finding.reason}", finding.reached)
        told.at.update(mutation.places)
    return told


def list_copy(value: Any) -> Any:
    return [list_copy(part) for part in value] if isinstance(value, list) else value
