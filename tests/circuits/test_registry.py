"""circuits.json is what the table says, within the budgets that the issue sets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proofbook.protocol.table import PRESETS, SIZES, Size
from proofbook.prover.compile import compile_circuit
from proofbook.prover.report import measure_slopes
from proofbook.prover.workspace import default_workspace

# Non-linear constraints allowed per request, action, account and fee row, and for all else; mainnet's are the issue's.
BUDGETS = {"mainnet": (1_000, 8_100, 10_500, 100), "minimal": (1_000, 6_900, 5_500, 100)}
REST = 1_000
EXITS = {"mainnet": 5_300, "minimal": 2_800}
# One sponge step more in each, so that slopes have no rounding: 15 elements are 3 actions, 5 accounts or 3 requests.
SLOPES = {
    "base": Size(1, 1, 2, 1),
    "action": Size(1, 4, 2, 1),
    "account": Size(1, 1, 7, 1),
    "request": Size(4, 1, 2, 1),
}


def expected() -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for preset in PRESETS.values():
        sizes = {f"batch-{preset.name}-{i}": size for i, size in enumerate(SIZES[preset.name])}
        sizes |= {f"slope-{preset.name}-{kind}": size for kind, size in SLOPES.items()}
        for name, size in sizes.items():
            rows = {"requests": size.requests, "actions": size.actions, "accounts": size.accounts, "fees": size.fees}
            params = [preset.account_depth, preset.order_depth, *rows.values()]
            made[name] = {"file": "batch.circom", "template": "Batch", "params": params, "public": ["C", "z", "y"]}
            made[name] |= {"preset": preset.name, **rows}
            rates = zip(BUDGETS[preset.name], rows.values(), strict=True)
            made[name]["budget"] = REST + sum(rate * count for rate, count in rates)
        public = ["root", "index", "owner", "T", "a0", "a1", "a2", "a3", "a4"]
        made[f"exit-{preset.name}"] = {"file": "exit.circom", "template": "Exit", "params": [preset.account_depth]}
        made[f"exit-{preset.name}"] |= {"public": public, "preset": preset.name, "budget": EXITS[preset.name]}
    return made


def test_circuits_are_those_of_the_table() -> None:
    assert json.loads(default_workspace().circuits_file.read_bytes())["circuits"] == expected()


@pytest.mark.parametrize("name", ["batch-minimal-0", "exit-minimal", "exit-mainnet", "slope-mainnet-base"])
def test_compiled_circuits_keep_their_budgets(name: str) -> None:
    compiled = compile_circuit(name)
    assert compiled.info.nonlinear <= compiled.circuit.budget
    assert compiled.info.public_inputs == len(compiled.circuit.public)


@pytest.mark.slow
def test_a_row_at_mainnet_keeps_its_budget() -> None:
    slopes, (per_request, per_action, per_account, _) = measure_slopes("mainnet"), BUDGETS["mainnet"]
    assert slopes["per_action"] <= per_action
    assert slopes["per_account"] <= per_account
    assert slopes["per_request"] <= per_request
