"""A static pass: no signal is without a constraint that binds it."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

import pytest

from proofbook.prover.compile import compile_circuit
from proofbook.prover.registry import load_circuits
from proofbook.prover.workspace import default_workspace

LONG = os.environ.get("PROOFBOOK_LONG") == "1"
NAMES = list(load_circuits(default_workspace())) if LONG else ["batch-minimal-0", "exit-minimal"]
# Those that `test_lies` compiles without simplification, too.
PLAIN = list(load_circuits(default_workspace())) if LONG else ["exit-minimal", "exit-mainnet", "slope-mainnet-base"]
FLAGS = ("--r1cs", "--wasm", "--sym", "--O0")
LOOSE = (
    ("exit.circom", "root === found;", ""),
    ("exit.circom", "signal packed[5];", "signal spare <-- index + 1;\n    signal packed[5];"),
)


def bound(r1cs: Any, system_r1cs: Any) -> set[int]:
    """Return the wires that stand in a constraint."""
    return {w for c in r1cs.read_constraints(system_r1cs) for part in c for w, _ in part}


def unbound(r1cs: Any, system_r1cs: Any, sym: Any) -> Counter[str]:
    """Return the signals whose wire stands in no constraint, indices left out."""
    used, names = bound(r1cs, system_r1cs), r1cs.read_names(sym)
    return Counter(re.sub(r"\[\d+\]", "[]", name) for name, wire in names.items() if wire not in used)


def dropped(sym: Any) -> set[str]:
    """Return the signals that simplification has left without a wire."""
    return {line.rpartition(",")[2] for line in sym.read_text().splitlines() if line.split(",")[1] == "-1"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_wire_stands_in_a_constraint(name: str, r1cs: Any, report: Any) -> None:
    compiled = compile_circuit(name)
    found = unbound(r1cs, compiled.r1cs, compiled.sym)
    report("static", {"name": name, "wires": compiled.info.wires, "unbound": sorted(found)})
    assert found == Counter()


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_every_signal_of_the_source_stands_in_a_constraint(name: str, patched: Any, r1cs: Any, report: Any) -> None:
    """Before simplification, too: it drops what linear constraints replace, and would drop what nothing binds."""
    real = compile_circuit(name)
    plain = patched.compile_patched(f"plain-{name}", real.circuit, (), FLAGS)
    found = unbound(r1cs, plain.r1cs, plain.sym)
    gone = dropped(real.sym)
    used, names = bound(r1cs, plain.r1cs), r1cs.read_names(plain.sym)
    loose = sorted(signal for signal in gone if names.get(signal) not in used)
    entry = {"name": f"{name} --O0", "wires": plain.info.wires, "unbound": sorted(found), "dropped": len(gone)}
    report("static", entry)
    assert found == Counter()
    assert gone and loose == []


@pytest.mark.slow
@pytest.mark.parametrize(("flag", "seen"), [("--O0", {"main.root", "main.spare"}), ("--O2", {"main.root"})])
def test_a_signal_that_no_constraint_binds_is_found(
    flag: str, seen: set[str], patched: Any, r1cs: Any, report: Any
) -> None:
    """The control: an input that is never compared, and a signal that is only assigned."""
    copy = patched.compile_patched("loose", patched.entry("Exit"), LOOSE, (*FLAGS[:-1], flag))
    found = unbound(r1cs, copy.r1cs, copy.sym)
    report("controls", {"name": f"a signal that no constraint binds, {flag}", "caught": set(found) == seen})
    assert set(found) == seen
