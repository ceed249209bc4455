"""`proofbook circuits --json` on the real circuits: its form, and what a row may cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proofbook.cli.main import app
from proofbook.prover.registry import load_circuits
from proofbook.prover.workspace import default_workspace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("circuits")]

MAINNET_LIMITS = {"per_action": 8100, "per_account": 10_500, "per_request": 1000}


def test_constraints_stay_within_their_budgets():
    result = CliRunner().invoke(app, ["circuits", "--json"])
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    report = json.loads(line)
    assert list(report) == ["circuits", "slopes"] and set(report["slopes"]) == {"mainnet", "minimal"}
    wanted = [name for name, circuit in load_circuits(default_workspace()).items() if not circuit.is_large]
    assert [row["name"] for row in report["circuits"]] == wanted
    for row in report["circuits"]:
        assert list(row) == ["name", "preset", "constraints", "budget", "requests", "actions", "accounts", "r1cs"]
        assert 0 < row["constraints"] <= row["budget"] and Path(row["r1cs"]).is_file()
    for slopes in report["slopes"].values():
        assert list(slopes) == list(MAINNET_LIMITS) and all(count > 0 for count in slopes.values())
    for kind, limit in MAINNET_LIMITS.items():
        assert report["slopes"]["mainnet"][kind] <= limit
