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


def unbound(r1cs: Any, system_r1cs: Any, sym: Any) -> Counter[str]:
    """Return the signals whose wire stands in no constraint, indices left out."""
    used = {w for c in r1cs.read_constraints(system_r1cs) for part in c for w, _ in part}
    names = r1cs.read_names(sym)
    return Counter(re.sub(r"\[\d+\]", "[]", name) for name, wire in names.items() if wire not in used)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_wire_stands_in_a_constraint(name: str, r1cs: Any, report: Any) -> None:
    compiled = compile_circuit(name)
    found = unbound(r1cs, compiled.r1cs, compiled.sym)
    report("static", {"name": name, "wires": compiled.info.wires, "unbound": sorted(found)})
    assert found == Counter()


@pytest.mark.slow
@pytest.mark.parametrize("template", ["Exit", "Batch"][: 2 if LONG else 1])
def test_every_signal_of_the_source_stands_in_a_constraint(template: str, patched: Any, r1cs: Any, report: Any) -> None:
    """Before simplification, too, which leaves out signals that linear constraints replace."""
    rows = (1, 1, 2, 1) if template == "Batch" else (0, 0, 0, 0)
    flags = ("--r1cs", "--wasm", "--sym", "--O0")
    compiled = patched.compile_patched(f"plain-{template.lower()}", patched.entry(template, rows), (), flags)
    found = unbound(r1cs, compiled.r1cs, compiled.sym)
    report("static", {"name": f"{template} --O0", "wires": compiled.info.wires, "unbound": sorted(found)})
    assert found == Counter()
