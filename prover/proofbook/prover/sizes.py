"""Choosing the circuit of a batch."""

from __future__ import annotations

from proofbook.protocol.table import PRESETS, SIZES
from proofbook.prover.errors import CircuitError


def batch_circuit(preset: str, size_id: int) -> str:
    """Return the registry's name of a batch circuit.

    Raises
    ------
    CircuitError
        `circuit/size` when the preset has no such size.
    """
    if preset not in PRESETS or not 0 <= size_id < len(SIZES[preset]):
        raise CircuitError("circuit/size", f"preset {preset!r} has no size {size_id}")
    return f"batch-{preset}-{size_id}"


def exit_circuit(preset: str) -> str:
    """Return the registry's name of a preset's exit circuit; `circuit/size` when there is no such preset."""
    if preset not in PRESETS:
        raise CircuitError("circuit/size", f"there is no preset {preset!r}")
    return f"exit-{preset}"


def deployment_circuits(preset: str) -> list[str]:
    """Return the names of all circuits that a deployment needs keys for: its batches by size id, then the exit."""
    return [batch_circuit(preset, size_id) for size_id in range(len(SIZES.get(preset, ())))] + [exit_circuit(preset)]


def choose_size(preset: str, n_requests: int, n_actions: int, n_accounts: int, n_fees: int) -> int:
    """Return the id of the smallest batch size with enough rows of every kind.

    Parameters
    ----------
    preset : str
        `minimal` or `mainnet`.
    n_requests, n_actions, n_accounts, n_fees : int
        Rows needed; accounts are those touched.

    Raises
    ------
    CircuitError
        `circuit/size` when none is large enough.
    """
    if preset not in PRESETS:
        raise CircuitError("circuit/size", f"there is no preset {preset!r}")
    needed = (n_requests, n_actions, n_accounts, n_fees)
    for size_id, size in enumerate(SIZES[preset]):
        offered = (size.requests, size.actions, size.accounts, size.fees)
        if all(need <= offer for need, offer in zip(needed, offered, strict=True)):
            return size_id
    text = "{} requests, {} actions, {} accounts, {} fees".format(*needed)
    raise CircuitError("circuit/size", f"no {preset} batch has room for {text}", "split the batch")
