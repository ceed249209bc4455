"""Counting constraints: the report of `proofbook circuits`, slopes per row, and budgets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypedDict

from proofbook.prover.compile import Compiled, compile_circuit
from proofbook.prover.errors import BudgetError, CircuitError
from proofbook.prover.registry import load_circuits
from proofbook.prover.workspace import Progress, Workspace, default_workspace, silent

SLOPE_KINDS: Final = {"action": "actions", "account": "accounts", "request": "requests"}
"""Kind of row, and the field of a registry entry that counts such rows."""


class CircuitRow(TypedDict):
    """One circuit of the report; `constraints` and `budget` are non-linear constraints, `r1cs` a path."""

    name: str
    preset: str
    constraints: int
    budget: int
    requests: int
    actions: int
    accounts: int
    r1cs: str


class Slopes(TypedDict):
    """Non-linear constraints that one more row of a kind costs, rounded up."""

    per_action: int
    per_account: int
    per_request: int


class CircuitReport(TypedDict):
    """What `proofbook circuits --json` prints."""

    circuits: list[CircuitRow]
    slopes: dict[str, Slopes]


def _row(compiled: Compiled) -> CircuitRow:
    circuit = compiled.circuit
    return {
        "name": compiled.name,
        "preset": circuit.preset,
        "constraints": compiled.info.nonlinear,
        "budget": circuit.budget,
        "requests": circuit.requests,
        "actions": circuit.actions,
        "accounts": circuit.accounts,
        "r1cs": str(Path(compiled.r1cs)),
    }


def slope_name(preset: str, kind: str) -> str:
    """Return the registry's name of a circuit that slopes are measured with."""
    return f"slope-{preset}-{kind}"


def _slope(base: Compiled, grown: Compiled, kind: str) -> int:
    """Return constraints per further row between two compiled sizes, rounded up so as never to flatter."""
    rows: dict[str, int] = {
        field: getattr(grown.circuit, field) - getattr(base.circuit, field) for field in SLOPE_KINDS.values()
    }
    added = rows.pop(SLOPE_KINDS[kind])
    if added <= 0 or any(rows.values()) or grown.circuit.fees != base.circuit.fees:
        message = f"{grown.name} must have more {SLOPE_KINDS[kind]} than {base.name}, and the same of all else"
        raise CircuitError("circuit/slope", message, "mend circuits.json")
    return -(-(grown.info.nonlinear - base.info.nonlinear) // added)


def measure_slopes(preset: str, progress: Progress = silent, workspace: Workspace | None = None) -> Slopes:
    """Measure what a row of each kind costs, between compiled circuits that differ in that kind alone.

    Parameters
    ----------
    preset : str
        `minimal` or `mainnet`.

    Raises
    ------
    CircuitError
        `circuit/slope` when the registry's sizes can't be compared; and see `compile_circuit`.
    """
    workspace = workspace or default_workspace()
    base = compile_circuit(slope_name(preset, "base"), progress, workspace)
    slopes = {
        kind: _slope(base, compile_circuit(slope_name(preset, kind), progress, workspace), kind) for kind in SLOPE_KINDS
    }
    return {
        "per_action": slopes["action"],
        "per_account": slopes["account"],
        "per_request": slopes["request"],
    }


def circuit_report(
    names: Iterable[str] | None = None, progress: Progress = silent, workspace: Workspace | None = None
) -> CircuitReport:
    """Compile what is missing and report every circuit's constraints and the slopes.

    Parameters
    ----------
    names : iterable of str, optional
        Circuits to list; default all of the registry but the large ones. Slopes are measured for each preset that
        the registry has slope circuits of.

    Raises
    ------
    CircuitError, ToolError
        See `compile_circuit`, `measure_slopes`.
    """
    workspace = workspace or default_workspace()
    registry = load_circuits(workspace)
    chosen = [name for name in registry if not registry[name].is_large] if names is None else list(names)
    rows = [_row(compile_circuit(name, progress, workspace)) for name in chosen]
    presets = [preset for preset in ("mainnet", "minimal") if slope_name(preset, "base") in registry]
    slopes = {preset: measure_slopes(preset, progress, workspace) for preset in presets}
    return {"circuits": rows, "slopes": slopes}


def check_budgets(report: CircuitReport) -> None:
    """Check that no circuit has more constraints than its budget.

    Raises
    ------
    BudgetError
        `circuit/budget`, naming every circuit that has.
    """
    over = [row for row in report["circuits"] if row["constraints"] > row["budget"]]
    if over:
        text = ", ".join(f"{row['name']} has {row['constraints']} of {row['budget']}" for row in over)
        raise BudgetError("circuit/budget", f"over budget: {text}", "make the circuit smaller, or argue for more")
