"""Errors of the verifier: each has a stable code, what happened, and how to mend it."""

from __future__ import annotations

from typing import Any, ClassVar

from proofbook.protocol.errors import HintedError


class VerifierError(HintedError):
    """The check could not be made; what a check finds is a `Problem` and no error."""

    code: ClassVar[str] = "verifier"


class RpcUnavailable(VerifierError):
    """The node can't be reached, or answers nothing that is JSON-RPC."""

    code: ClassVar[str] = "rpc_unavailable"


class RpcRefused(VerifierError):
    """The node answered with an error.

    Attributes
    ----------
    answer : dict
        The error object: code, message and data, as the node gave them.
    reverted : bool
        Whether a contract refused, and not the node.
    """

    code: ClassVar[str] = "rpc_refused"
    # Not among the arguments: errors cross process borders by message and hint.
    answer: dict[str, Any] = {}
    reverted: bool = False


class RpcMalformed(VerifierError):
    """The node answered with something of a wrong form."""

    code: ClassVar[str] = "rpc_malformed"


class RpcTooLarge(RpcMalformed):
    """What was asked for is more than the node gives, or more than is taken.

    Attributes
    ----------
    late : bool
        Whether that is guessed, because no answer came in time.
    """

    code: ClassVar[str] = "rpc_too_large"
    late: bool = False


class AnswerMalformed(RpcMalformed):
    """A contract answered, but with something of another form than its interface has."""

    code: ClassVar[str] = "answer_malformed"


class NotAnExchange(VerifierError):
    """What lies at the address is no Proofbook contract."""

    code: ClassVar[str] = "not_an_exchange"


class BuildUnavailable(VerifierError):
    """The repository's own build of the contract can't be made here."""

    code: ClassVar[str] = "build_unavailable"


class HistoryBroken(VerifierError):
    """The chain's data, as this node tells it, does not fit together: nothing can be rebuilt from it.

    Attributes
    ----------
    problems : tuple of str
        What was found.
    """

    code: ClassVar[str] = "history_broken"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems)[:2000], "ask another node")
        self.problems = problems

    def __reduce__(self) -> tuple[type[HistoryBroken], tuple[Any, ...]]:
        return type(self), (self.problems,)
