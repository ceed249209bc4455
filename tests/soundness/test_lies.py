"""Lies to every circuit: other values in every input and every hint, and whatever follows made anew."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest

from proofbook.protocol.field import R, bigint
from proofbook.protocol.sponge import horner
from proofbook.protocol.table import Side, Size
from proofbook.protocol.words import FeeRow
from proofbook.prover.compile import Compiled, compile_circuit
from proofbook.prover.registry import load_circuits
from proofbook.prover.witness import exit_inputs
from proofbook.prover.workspace import default_workspace

SHORT = ("batch-minimal-0", "exit-minimal")
# Mutations of inputs and of hints, a circuit: 200 and more in CI, 10,000 and more in all in the long form.
COUNTS = {False: (120, 120), True: (500, 700)}
# Circuits of one template differ in numbers of rows only: the large ones are told fewer lies, which cost more each.
LARGE = 100_000


def names(long: bool) -> list[str]:
    return list(load_circuits(default_workspace())) if long else list(SHORT)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", names(os.environ.get("PROOFBOOK_LONG") == "1"))


def full_page(scene: Any, size: Size) -> Any:
    """Return an honest page with as many kinds of rows as the circuit holds."""
    world = scene.world
    requests = [world.deposit(1, 1, 7), world.opening(3), world.rekey(0), world.leave(2, 1)][: size.requests]
    sell, buy = world.order(1, 5, Side.SELL, (10, 20, 1), limit=(15, 30)), world.order(2, 5, Side.BUY, (10, 20, 2))
    if size.actions < 4 or size.accounts < 4:
        acts = [world.transfer(1, 6, 2, 10, to=2)]
        return scene.page(requests[:1], acts, [])
    acts = [sell, world.transfer(1, 6, 2, 10, to=2), buy, world.cancel(2, 6)]
    return scene.page(requests, acts, [FeeRow(2, 3)])


def size_of(compiled: Compiled) -> Size:
    entry = compiled.circuit
    return Size(entry.requests, entry.actions, entry.accounts, entry.fees)


def lies_to_a_batch(scene: Any, compiled: Compiled, count: int, tools: Any) -> tuple[Counter[str], list[str]]:
    judge, mutations, forging = tools
    rng = random.Random(compiled.name)
    honest = full_page(scene, size_of(compiled))
    contract = judge.Contract(forging, scene.state, size_of(compiled), honest.inputs, honest.draw)
    found: Counter[str] = Counter()
    survivors = []
    contract.bind(honest.inputs)
    assert judge.tell(contract, honest).verdict == "benign"
    for mutation in mutations.sample(mutations.of_inputs(honest.inputs, rng), count):
        lie = scene._lie(scene.state, honest.inputs, honest.draw, honest.calculate)
        mutations.follow(lie, mutation, forging)
        finding = told(contract, lie, mutation, judge, mutations)
        found[finding.verdict] += 1
        if finding.verdict == "survivor":
            survivors.append(f"{mutation.what}: {finding.reason}")
    return found, survivors


def told(contract: Any, lie: Any, mutation: Any, judge: Any, mutations: Any) -> Any:
    try:
        if mutation.name not in mutations.PUBLIC:
            contract.bind(lie.inputs)
        elif all(lie.inputs[name] == value for name, value in public_of(contract, lie).items()):
            return judge.Finding(judge.Verdict.BENIGN, "nothing changed")
        return judge.tell(contract, lie)
    except judge.ContractRefuses as error:
        return judge.Finding(judge.Verdict.REFUSED, f"contract: {error}")


def public_of(contract: Any, lie: Any) -> dict[str, int]:
    kept = {name: lie.inputs[name] for name in ("C", "z", "y")}
    other = dict(lie.inputs)
    contract.bind(other)
    assert kept.keys() <= other.keys()
    return {name: other[name] for name in kept}


def lies_to_an_exit(scene: Any, compiled: Compiled, count: int, tools: Any, calculate: Any) -> Any:
    judge, mutations, _ = tools
    rng = random.Random(compiled.name)
    scene.world.settle([scene.world.deposit(1, token, 2**64 - token) for token in range(10, 14)])
    honest: dict[str, Any] = dict(exit_inputs(scene.state, 1))
    found: Counter[str] = Counter()
    survivors = []
    run = lambda inputs: calculate(compiled, inputs)  # noqa: E731
    assert judge.tell_exit(scene.state, honest, run).verdict == "benign"
    for mutation in mutations.sample(mutations.of_inputs(honest, rng), count):
        bent = {name: list_copy(value) for name, value in honest.items()}
        mutation.make(bent)
        finding = judge.tell_exit(scene.state, bent, run)
        found[finding.verdict] += 1
        if finding.verdict == "survivor":
            survivors.append(f"{mutation.what}: {finding.reason}")
    return found, survivors


def list_copy(value: Any) -> Any:
    return [list_copy(part) for part in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_no_lie_survives(name: str, long: bool, request: Any, report: Any) -> None:
    judge, mutations, forging, solver, r1cs, calculate = (
        request.getfixturevalue(f) for f in ("judge", "mutations", "forging", "solver", "r1cs", "calculate")
    )
    compiled = compile_circuit(name)
    inputs_count, hints_count = COUNTS[long]
    if compiled.info.nonlinear > LARGE:
        inputs_count //= 5
    tools = (judge, mutations, forging)
    exits = compiled.circuit.template == "Exit"
    of_batch = "batch-minimal-0" if compiled.circuit.preset == "minimal" else "slope-mainnet-base"
    scene = request.getfixturevalue("make_scene")(of_batch if exits else name)
    if exits:
        found, survivors = lies_to_an_exit(scene, compiled, inputs_count, tools, calculate)
    else:
        found, survivors = lies_to_a_batch(scene, compiled, inputs_count, tools)
    hints, more = lies_in_hints(scene, compiled, hints_count, solver, r1cs, calculate, forging)
    found.update(hints)
    survivors += more
    entry = {"name": name, "mutations": found.total(), "benign": found["benign"], "survivors": len(survivors)}
    report("templates", entry)
    assert survivors == []
    assert found.total() >= (200 if not long else 1), entry
    assert found["refused"] > found.total() // 2, entry


# --- hints


def lies_in_hints(scene: Any, compiled: Compiled, count: int, solver: Any, r1cs: Any, calculate: Any, forging: Any):
    """Change wires that are no inputs, most of them hints, and solve for what follows: C, z, y and the new root too."""
    rng = random.Random(f"hints of {compiled.name}")
    system = r1cs.System.read(compiled.r1cs, compiled.sym)
    if compiled.circuit.template == "Exit":
        inputs: dict[str, Any] = dict(exit_inputs(scene.state, 1))
        path = calculate(compiled, inputs)
        free, derived, lie = None, [system.names["main.root"]], None
    else:
        lie = full_page(scene, size_of(compiled))
        inputs, path = lie.inputs, lie.accepted()
        free = system.names["main.z"]
        derived = [system.names[f"main.{name}"] for name in ("C", "y", "newRoot")]
    witness = [bigint(value) for value in r1cs.read_witness(path)]
    assert system.broken(witness) == []
    given = {w for n, w in system.names.items() if n.count(".") == 1 and n.split(".")[1].split("[")[0] in inputs}
    plan = solver.Plan.make(system, given - set(derived), derived, free)
    bits, others = groups(system, plan)
    found: Counter[str] = Counter()
    survivors = []
    for _ in range(count):
        changes = pick(rng, witness, plan, bits, others)
        refused, values = plan.lie(witness, changes, challenge_of(lie, inputs, system, forging))
        if refused is not None:
            found["refused"] += 1
            continue
        # The words are the inputs', the root aside: so only another root is another transition.
        root = system.names["main.newRoot" if lie is not None else "main.root"]
        same = values[root] == witness[root]
        found["benign" if same else "survivor"] += 1
        if not same:
            survivors.append(f"hints {changes}")
    return found, survivors


def challenge_of(lie: Any, inputs: dict[str, Any], system: Any, forging: Any) -> Any:
    """Return how the contract draws z, told the wires that C and the new root have come to."""

    def drawn(values: list[Any]) -> dict[int, int]:
        if lie is None:
            return {}
        wires = {name: system.names[f"main.{name}"] for name in ("C", "z", "y", "newRoot")}
        words = forging.words({**inputs, "newRoot": int(values[wires["newRoot"]])})
        z = lie.draw(words, int(values[wires["C"]]))
        return {wires["z"]: z, wires["y"]: horner(words, z)}

    return drawn


def groups(system: Any, plan: Any) -> tuple[list[list[int]], list[int]]:
    """Return the decompositions, as wires from the lowest bit, and all wires that are no inputs."""
    found: dict[str, dict[int, int]] = {}
    for name, wire in system.names.items():
        head, _, tail = name.rpartition("[")
        if head.endswith(".out") and wire not in plan.given:
            found.setdefault(head, {})[int(tail[:-1])] = wire
    bits = [[wires[i] for i in sorted(wires)] for wires in found.values() if len(wires) > 3]
    return bits, [w for w in range(1, len(system.uses)) if w not in plan.given and system.uses[w]]


def pick(rng: random.Random, witness: list[Any], plan: Any, bits: list[list[int]], others: list[int]) -> dict[int, int]:
    """Return wires with other values: a hint, any wire, or several bits that keep their sum."""
    turn = rng.random()
    if turn < 0.3:
        group = rng.choice(bits)
        value = sum(int(witness[w]) << i for i, w in enumerate(group))
        if rng.random() < 0.5:
            # The same number, not in bits: 2 less here, 1 more one place up.
            i = rng.randrange(len(group) - 1)
            return {group[i]: int(witness[group[i]]) - 2, group[i + 1]: int(witness[group[i + 1]]) + 1}
        alias = value + rng.choice((R, 1, -1, 1 << (len(group) - 1)))
        return {w: alias >> i & 1 for i, w in enumerate(group) if alias >> i & 1 != witness[w]} or {group[0]: 2}
    wire = rng.choice(plan.hints) if turn < 0.8 else rng.choice(others)
    old = int(witness[wire])
    near = witness[min(wire + 1, len(witness) - 1)]
    values = [v for v in (0, 1, R - 1, old + 1, old - 1, R - old, int(near), rng.randrange(R)) if v % R != old]
    return {wire: rng.choice(values)}
