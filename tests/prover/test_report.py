"""Counts, slopes and budgets."""

import dataclasses
import json

import pytest

from proofbook.prover.errors import BudgetError, CircuitError
from proofbook.prover.report import check_budgets, circuit_report, measure_slopes


@pytest.fixture(scope="module")
def compiled(tiny):
    """The shared workspace: these tests only read, so each circuit is compiled once."""
    return tiny[0]


def test_report_lists_circuits_and_slopes(compiled):
    report = circuit_report(workspace=compiled)
    first = report["circuits"][0]
    assert first | {"r1cs": ""} == {
        "name": "tiny",
        "preset": "",
        "constraints": 9,
        "budget": 100,
        "requests": 0,
        "actions": 0,
        "accounts": 0,
        "r1cs": "",
    }
    assert first["r1cs"].endswith("circuit.r1cs") and len(report["circuits"]) == 6
    # 3 more squarings for 2 actions (rounded up), 10 for one account, 1 for one request
    assert report["slopes"] == {"minimal": {"per_action": 2, "per_account": 10, "per_request": 1}}
    assert json.loads(json.dumps(report)) == report


def test_report_of_some(compiled):
    assert [row["name"] for row in circuit_report(["tiny"], workspace=compiled)["circuits"]] == ["tiny"]


def test_large_circuits_are_left_out_unless_named(compiled):
    circuits = json.loads(compiled.circuits_file.read_bytes())
    circuits["circuits"]["large"]["budget"] = 300_001
    registry = compiled.build / "with-large.json"
    registry.write_text(json.dumps(circuits))
    marked = dataclasses.replace(compiled, circuits_file=registry)
    assert "large" not in [row["name"] for row in circuit_report(workspace=marked)["circuits"]]
    assert [row["name"] for row in circuit_report(["large"], workspace=marked)["circuits"]] == ["large"]


def test_a_circuit_over_budget_is_named(compiled):
    check_budgets(circuit_report(["tiny"], workspace=compiled))
    with pytest.raises(BudgetError, match="large has 13 of 10") as caught:
        check_budgets(circuit_report(["tiny", "large"], workspace=compiled))
    assert caught.value.code == "circuit/budget" and "tiny" not in caught.value.message


def test_slopes_want_sizes_that_differ_in_one_kind(workspace):
    circuits = json.loads(workspace.circuits_file.read_bytes())
    circuits["circuits"]["slope-minimal-action"]["accounts"] = 2
    workspace.circuits_file.write_text(json.dumps(circuits))
    with pytest.raises(CircuitError) as caught:
        measure_slopes("minimal", workspace=workspace)
    assert caught.value.code == "circuit/slope"
