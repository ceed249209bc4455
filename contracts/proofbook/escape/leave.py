"""The whole way out in one go: request, wait for the deadline, freeze, exit, claim.

What was done is on the chain, so it can be killed and started again at any point.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from proofbook.chain.errors import ContractRevert, GasPriceLimit, TransactionFailed
from proofbook.escape.errors import NotNow
from proofbook.escape.owned import Step
from proofbook.escape.session import Done, Escape
from proofbook.protocol.errors import ProofbookError
from proofbook.verifier.errors import HistoryBroken, RpcMalformed, RpcRefused, RpcUnavailable
from proofbook.verifier.history import Progress, silent

MAX_FAILURES: Final = 10
"""Of one kind or another in a row, before it is given up."""
_ENDLESS: Final = (RpcUnavailable, GasPriceLimit)
"""Waited for without end: a node that fails, and gas that costs too much."""
# What somebody else's transaction between our looking and ours may cause.
_RACES: Final = (
    "AlreadyExited",
    "DeadlineNotPassed",
    "IsFrozen",
    "NotFrozen",
    "NothingQueued",
    "NothingToClaim",
    "RequestMismatch",
    "ValueTooLow",
)


def leave(
    escape: Escape,
    owner: int | str | None = None,
    poll: float = 15.0,
    on_step: Callable[[Done], None] | None = None,
    progress: Progress = silent,
    pause: Callable[[float], object] = time.sleep,
) -> tuple[list[Done], Step]:
    """Take every step out, and wait where there is nothing else to do, until all is claimed.

    Parameters
    ----------
    escape : Escape
        The way out.
    owner : int or str, optional
        Whose money; by default the sender's.
    poll : float
        Seconds between two looks at the chain while waiting.
    on_step : callable, optional
        Given each step when it is done.
    progress : Progress
        Told what is waited for, and what failed and is tried again.
    pause : callable
        Waits some seconds.

    Returns
    -------
    done : list of Done
        The steps taken here; others may have been taken before.
    rest : Step
        ``done``.

    Raises
    ------
    ProofbookError
        What no patience mends: a claim that its token refuses, missing artifacts or ETH. Started again, it goes on.
    """
    done: list[Done] = []
    failures = 0

    def note(step: Done) -> None:
        done.append(step)
        if on_step is not None:
            on_step(step)

    while True:
        try:
            _, rest = escape.run(owner, note)
        except ProofbookError as error:
            failures += 0 if isinstance(error, _ENDLESS) else 1
            if not _passes(error) or failures > MAX_FAILURES:
                raise
            progress(f"{error}; trying again")
            pause(poll)
        else:
            if rest.name == "done":
                return done, rest
            failures = 0
            pause(_wait(rest, escape.now(), poll, progress))
        escape.forget()


def _passes(error: ProofbookError) -> bool:
    if isinstance(error, ContractRevert):
        return error.name in _RACES
    if isinstance(error, TransactionFailed):
        return "insufficient funds" not in str(error).lower()
    return isinstance(error, (RpcUnavailable, RpcRefused, RpcMalformed, HistoryBroken, NotNow))


def _wait(rest: Step, now: int, poll: float, progress: Progress) -> float:
    """Return the seconds to wait: until the deadline, but never longer than to the next look."""
    left = poll if rest.until is None else max(0, rest.until + 1 - now)
    if rest.until is not None:
        days, seconds = divmod(left, 86400)
        hours, minutes = seconds // 3600, seconds // 60 % 60
        told = f"{days:.0f} d {hours:.0f} h {minutes:.0f} min" if left >= 60 else f"{left:.0f} s"
        progress(f"waiting: the deadline is {rest.until}, in {told}")
    return max(0.2, min(poll, left))
