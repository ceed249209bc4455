"""Counts, slopes and budgets."""

import json

import pytest
from proofbook.prover.errors import BudgetError, CircuitError
from proofbook.prover.report import check_budgets, circuit_report, measure_slopes


def test_report_lists_circuits_and_slopes(workspace):
    report = circuit_report(workspace=workspace)
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


def test_report_of_some(workspace):
    assert [row["name"] for row in circuit_report(["tiny"], workspace=workspace)["circuits"]] == ["tiny"]


def test_a_circuit_over_budget_is_named(workspace):
    check_budgets(circuit_report(["tiny"], workspace=workspace))
    with pytest.raises(BudgetError, match="large has 13 of 10") as caught:
        check_budgets(circuit_report(["tiny", "large"], workspace=workspace))
    assert caught.value.code == "circuit/budget" and "tiny" not in caught.value.message


def test_slopes_want_sizes_that_differ_in_one_kind(workspace):
    circuits = json.loads(workspace.circuits_file.read_bytes())
    circuits["circuits"]["slope-minimal-action"]["accounts"] = 2
    workspace.circuits_file.write_text(json.dumps(circuits))
    with pytest.raises(CircuitError) as caught:
        measure_slopes("minimal", workspace=workspace)
    assert caught.value.code == "circuit/slope"
