"""Errors of the escape: each has a stable code, what happened, and how to mend it."""

from __future__ import annotations

from typing import ClassVar

from proofbook.protocol.errors import HintedError


class EscapeError(HintedError):
    """Base of this package's errors."""

    code: ClassVar[str] = "escape"


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


class FeeTooHigh(EscapeError):
    """A request costs more than is allowed to be paid for it; nothing was sent."""

    code: ClassVar[str] = "request_fee"


class EscapeSetting(EscapeError):
    """A variable of the environment is out of range."""

    code: ClassVar[str] = "escape_setting"


class WebhookRefused(EscapeError):
    """What was given as a webhook is no web address."""

    code: ClassVar[str] = "webhook"


class WatchStopped(EscapeError):
    """The watch was told to stop while it was escaping; started again, it goes on."""

    code: ClassVar[str] = "stopped"
