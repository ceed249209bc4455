"""Errors of the escape: each has a stable code, what happened, and how to mend it."""

from __future__ import annotations

from typing import Any, ClassVar

from proofbook.protocol.errors import ProofbookError


class EscapeError(ProofbookError):
    """Base of this package's errors.

    Attributes
    ----------
    message : str
        What happened.
    hint : str
        How to mend it; may be empty.
    """

    code: ClassVar[str] = "escape"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def data(self) -> dict[str, Any]:
        """Return message and hint by name."""
        return {"message": self.message, "hint": self.hint}

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ArtifactsMissing(EscapeError):
    """The exit circuit's proving key or witness program is not stored (M25)."""

    code: ClassVar[str] = "exit_artifacts_missing"


class ArtifactsMismatch(EscapeError):
    """What is stored is not what the contract holds the hashes of (M25)."""

    code: ClassVar[str] = "exit_artifacts_mismatch"


class ExitProofFailed(EscapeError):
    """The exit could not be proven."""

    code: ClassVar[str] = "exit_proof_failed"


class KeyRefused(EscapeError):
    """The L1 key is missing or malformed; it is never part of the message."""

    code: ClassVar[str] = "l1_key"


class NotNow(EscapeError):
    """The exchange is not in the state that the step needs."""

    code: ClassVar[str] = "not_now"
