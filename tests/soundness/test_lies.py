"""Lies to every circuit: other values in every input and every hint, and whatever follows made anew."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from proofbook.prover.compile import Compiled, compile_circuit
from proofbook.prover.registry import load_circuits
from proofbook.prover.witness import exit_inputs
from proofbook.prover.workspace import default_workspace

LONG = os.environ.get("PROOFBOOK_LONG") == "1"
# In CI the circuits that other tests compile as well, in the long form all.
SLOPES = [f"slope-mainnet-{kind}" for kind in ("base", "action", "account", "request")]
SHORT = ["batch-minimal-0", "exit-minimal", "exit-mainnet", *SLOPES]
NAMES = list(load_circuits(default_workspace())) if LONG else SHORT
# Bent at every place; the others differ from these in their numbers of rows only, and lies cost more in large ones.
WHOLE = ("exit-minimal", "exit-mainnet", "slope-minimal-base", "slope-mainnet-base", "batch-minimal-0")
# Compiled without simplification, too, so that each `<--` stands by itself: all in the long form.
PLAIN = NAMES if LONG else ["exit-minimal", "exit-mainnet", "slope-mainnet-base"]
KINDS = {"0", "1", "r - 1", "off by one", "x + r", "alias", "neighbour"}
KINDS_OF_WIRES = {"0", "1", "r - 1", "off by one", "x + r", "neighbour", "no bits", "siblings"}
"""What the other values must have been, each at least once."""
LEAST = -(-10_000 // len(NAMES)) if LONG else 200
"""Lies to each circuit that its constraints judge: 200 in CI, 10,000 to all together in the long form."""
STUCK = 10
"""At most one of so many lies may stand alone because nothing can follow it."""


def effort(name: str, compiled: Compiled) -> tuple[int, bool, int]:
    """Return how many inputs are bent, whether every place of them is, and values for each hint."""
    exits, size = compiled.circuit.template == "Exit", compiled.info.nonlinear
    if not LONG:
        return 240 if exits else 100, False, 8 if exits else 1
    # Each signal has a turn in any case; a lie to the largest circuit takes a second.
    return 1500 if exits else 250 if size < 130_000 else 100, name in WHOLE, 9 if exits else 3 if size < 35_000 else 1


class Stand:
    """A circuit, an honest page for it, and the tools to lie."""

    def __init__(self, name: str, request: pytest.FixtureRequest) -> None:
        self.name, self.compiled = name, compile_circuit(name)
        get = request.getfixturevalue
        self.tools, self.telling, self.calculate = get("tools"), get("telling"), get("calculate")
        self.r1cs, self.solver, self.patched, self.hints = map(get, ("r1cs", "solver", "patched", "hints"))
        self.wires, self.pages = self.tools[4], self.tools[5]
        make_scene, circuit = get("make_scene"), self.compiled.circuit
        if circuit.template == "Exit":
            minimal = circuit.preset == "minimal"
            self.scene = make_scene("batch-minimal-0" if minimal else "slope-mainnet-base")
            # Five tokens, some with nearly all there can be.
            world = self.scene.world
            world.settle([world.deposit(1, token, 2**64 - token) for token in range(10, 11 + 2 * minimal)])
            self.lies: list[Any] = []
            self.inputs: dict[str, Any] = dict(exit_inputs(self.scene.state, 1))
        else:
            self.scene = make_scene(name)
            self.lies = self.pages.pages(self.scene, self.pages.size_of(self.compiled))
            self.inputs = self.lies[0].inputs
        self.places = self.tools[1].places(self.inputs)

    def bend_inputs(self, count: int, whole: bool) -> list[Any]:
        """Lie at the inputs of every page."""
        if not self.lies:
            return [self.telling.lies_to_an_exit(self.scene, self.compiled, (count, whole), self.tools, self.calculate)]
        some = [(count, whole), (count // 3, False)]
        several = zip(self.lies, some, strict=True)
        return [self.telling.lies_to_a_batch(lie, self.scene, self.compiled, w, self.tools) for lie, w in several]

    def liar(self, compiled: Compiled, sites: dict[str, list[int]] | None = None) -> Any:
        """Return a liar at the wires of this circuit, or of another form of it; fills `sites` with its hints."""
        system = self.r1cs.System.read(compiled.r1cs, compiled.sym)
        lie = self.lies[0] if self.lies else None
        forwards = None
        if sites is not None:
            sources, main = self.hints.of_workspace(default_workspace()), compiled.circuit.template
            forwards = self.hints.Forwards(system, sources, main, self.wires.Liar.derived(system, lie))
            sites.update(forwards.sites)
        witness = self.r1cs.read_witness(self.calculate(compiled, self.inputs))
        return self.wires.Liar(system, witness, self.inputs, lie, self.solver, self.tools[3], forwards)

    def plain(self) -> Compiled:
        flags = ("--r1cs", "--wasm", "--sym", "--O0")
        made: Compiled = self.patched.compile_patched(f"plain-{self.name}", self.compiled.circuit, (), flags)
        return made


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_lie_survives(name: str, request: pytest.FixtureRequest, report: Any) -> None:
    stand = Stand(name, request)
    count, whole, per_hint = effort(name, stand.compiled)
    bent = stand.bend_inputs(count, whole)
    check_inputs(bent[0], stand.places, whole)
    # As proven: every wire that no single constraint determines.
    liar = stand.liar(stand.compiled)
    wires = stand.wires.lies(liar, random.Random(name), [], per_hint, len(stand.lies) == 0)
    check_hints(wires, set(liar.plan.hints), stand)
    told, sites = [*bent, wires], dict[str, list[int]]()
    if name in PLAIN:
        liar = stand.liar(stand.plain(), sites)
        every = {wire for several in sites.values() for wire in several}
        # So the list of hints is complete: what they and the inputs leave open, constraints determine.
        assert set(liar.plan.hints) <= every, "something is free that is neither input nor hint"
        told.append(stand.wires.lies(liar, random.Random(name), sorted(every), 9 if LONG else 2, False))
        check_hints(told[-1], every, stand)
    entry = entry_of(stand, told, len(bent), sites)
    report("templates", entry)
    assert entry["reached"] >= LEAST, entry
    assert [what for several in told for what in several.survivors] == []


def check_inputs(told: Any, places: set[Any], whole: bool) -> None:
    """Check that lies were told where they should have been, with values of all kinds, and mostly refused."""
    assert {name for name, _ in told.at} == {name for name, _ in places}, "a signal nobody lied about"
    assert not whole or told.at == places, "a place nobody lied about"
    assert told.kinds.keys() >= (KINDS | {"other row", "siblings"} if whole else KINDS)
    assert told.verdicts["refused"] > told.verdicts.total() // 2, told.verdicts
    assert told.reached > told.verdicts.total() // 2, "most are refused before the circuit sees them"
    assert told.stuck.total() <= told.verdicts.total() // STUCK, told.stuck


def check_hints(told: Any, hints: set[int], stand: Stand) -> None:
    """Check that a lie was told at each hint, with values of all kinds; exits have no rows."""
    assert told.at >= hints
    assert told.kinds.keys() >= (KINDS_OF_WIRES | {"other row"} if stand.lies else KINDS_OF_WIRES)


def entry_of(stand: Stand, told: list[Any], pages: int, sites: dict[str, list[int]]) -> dict[str, Any]:
    """Return a circuit's entry in the report."""
    entry: dict[str, Any] = {"name": stand.name, "mutations": sum(several.verdicts.total() for several in told)}
    entry["benign"] = sum(several.verdicts["benign"] for several in told)
    entry["survivors"] = sum(len(several.survivors) for several in told)
    entry["reached"] = sum(several.reached for several in told)
    entry["stuck"] = dict(sum((several.stuck for several in told[1:]), told[0].stuck))
    lies = [sum(several.verdicts.total() for several in part) for part in (told[:pages], told[pages:])]
    entry["inputs"] = {"lies": lies[0], "lied_at": len(told[0].at), "of": len(stand.places)}
    entry["hints"] = {"lies": lies[1], "lied_at": sum(map(len, sites.values())), "sites": {}}
    entry["hints"]["sites"] = {site: len(sites[site]) for site in sorted(sites)}
    kinds = sum((several.kinds for several in told[1:]), told[0].kinds)
    return entry | {"kinds": dict(sorted(kinds.items()))}


@pytest.mark.slow
def test_what_follows_an_honest_page_is_that_page(request: pytest.FixtureRequest) -> None:
    stand = Stand("batch-minimal-0", request)
    _, mutations, following, forging, _, _ = stand.tools
    for lie in stand.lies:
        before = stand.telling.list_copy([[name, lie.inputs[name]] for name in lie.inputs])
        for signal in ("actionId", "requestAmount", "timestamp"):
            nothing = mutations.Mutation(signal, "none", (), "none", lambda inputs: None, True)
            assert following.follow(lie, nothing, forging) == ""
            after = [[name, lie.inputs[name]] for name in lie.inputs]
            assert [pair for pair in after if pair not in before] == []
