"""Errors of the prover: each has a stable code, what happened, and how to mend it."""

from __future__ import annotations

from typing import Any

from proofbook.protocol.errors import HintedError


class ProverError(HintedError):
    """Base of everything that the prover raises on purpose.

    Parameters
    ----------
    code : str
        Stable identifier, `area/what`, for programs.
    message : str
        What happened, for people.
    hint : str, optional
        What to do about it.
    """

    # Here one class has many codes: callers catch by what they can do about it, programs read the code.
    code: str  # type: ignore[misc]

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code

    def data(self) -> dict[str, Any]:
        """Return code, message and hint by name."""
        return {"code": self.code, **super().data()}


class ToolError(ProverError):
    """A program we call (node, circom, snarkjs) is missing, failed or took too long."""


class CircuitError(ProverError):
    """A circuit is unknown, doesn't compile, or doesn't fit its description."""


class ArtifactError(ProverError):
    """Proving artifacts are missing, damaged, or don't belong together."""


class SetupError(ProverError):
    """Keys could not be made or a ceremony does not verify."""


class WitnessError(ProverError):
    """The inputs are malformed, or no witness satisfies the circuit with them."""


class ProofError(ProverError):
    """A proof could not be made or read."""


class BudgetError(ProverError):
    """A circuit has more constraints than its budget allows."""
