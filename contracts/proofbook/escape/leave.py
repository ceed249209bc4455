"""The whole way out in one go: request, wait for the deadline, freeze, exit, claim.

What was done is on the chain, so it can be killed and started again at any point.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from proofbook.chain.errors import ChainError, ContractRevert, GasPriceLimit, TransactionFailed
from proofbook.escape.errors import ArtifactsMismatch, FeeTooHigh, NotNow
from proofbook.escape.owned import Step
from proofbook.escape.session import Done, Escape
from proofbook.protocol.errors import ProofbookError
from proofbook.verifier.errors import HistoryBroken, RpcMalformed, RpcRefused, RpcUnavailable, VerifierError
from proofbook.verifier.history import Progress, silent

MAX_FAILURES: Final = 10
"""Of one kind or another in a row, before it is given up."""
_ENDLESS: Final = (RpcUnavailable, GasPriceLimit, NotNow)
"""Waited for without end: a node that fails, gas that costs too much, and a clock that is ahead of the chain's."""
_OF_NODES: Final = (VerifierError, ChainError, NotNow, ArtifactsMismatch, FeeTooHigh)
"""What a node can cause: so another one is asked before it counts."""
STALE_SECONDS: Final = 900
"""A block so old is no newest one, if another node knows a newer."""
SETTLE_BLOCKS: Final = 3
"""The last blocks of a chain may be replaced: all is out when it still is after so many more."""
SETTLE_LOOKS: Final = 8
"""So often it is looked for them; a chain without traffic may make none."""
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
    return _Leaving(escape, owner, poll, on_step, progress, pause).run()


class _Leaving:
    """One way out, as far as it is; see `leave`."""

    def __init__(
        self,
        escape: Escape,
        owner: int | str | None,
        poll: float,
        on_step: Callable[[Done], None] | None,
        progress: Progress,
        pause: Callable[[float], object],
    ) -> None:
        self.escape, self.owner, self.poll = escape, owner, poll
        self.on_step, self.progress, self.pause = on_step, progress, pause
        self.done: list[Done] = []
        self.failures = self.asked = 0
        # Nodes whose word, since something went well, was that no patience mends it.
        self.final: set[str] = set()
        self.is_out = False

    def run(self) -> tuple[list[Done], Step]:
        while True:
            try:
                _, rest = self.escape.run(self.owner, self._note)
                if rest.name == "done" and self.is_out:
                    return self.done, rest
                self.failures = self.asked = 0
                self.final.clear()
                self._wait(rest)
            except ProofbookError as error:
                self._pass_or_raise(error)
            self.escape.forget()

    def _note(self, step: Done) -> None:
        self.done.append(step)
        self.is_out = False
        if self.on_step is not None:
            self.on_step(step)

    def _pass_or_raise(self, error: ProofbookError) -> None:
        """Go on to the next node, wait and have it tried again, or raise: only what every node leads to counts."""
        if not isinstance(error, _OF_NODES):
            raise error
        rpc = self.escape.rpc
        if not _passes(error):
            # Of each node itself: for one that is busy, another may have answered.
            self.final.add(rpc.url)
        self.asked += 1
        if self.asked % len(rpc.urls) == 0:
            self.failures += 0 if isinstance(error, _ENDLESS) else 1
        if self.final.issuperset(rpc.urls) or self.failures > MAX_FAILURES:
            raise error
        rpc.advance()
        self.progress(f"{error}; trying again")
        self.pause(self.poll)

    def _wait(self, rest: Step) -> None:
        if rest.name == "done":
            self._settle()
            self.is_out = True
        else:
            self.is_out = False
            self.pause(_until(rest, self.escape.now(), self.poll, self.progress))
        age = time.time() - self.escape.exchange.time
        # That all is out, a request is not there, or a step fails, is what one node says: the next look is another's.
        if rest.until is None or self.escape.aside or age > STALE_SECONDS:
            self.escape.rpc.advance()

    def _settle(self) -> None:
        """Wait until blocks have come on top of those that were seen."""
        escape, seen = self.escape, self.escape.exchange.block
        self.progress("all is out: waiting for more blocks, to be sure")
        for _ in range(SETTLE_LOOKS):
            if escape.rpc.block_number() >= seen + SETTLE_BLOCKS:
                return
            self.pause(self.poll)


def _passes(error: ProofbookError) -> bool:
    if isinstance(error, ContractRevert):
        return error.name in _RACES
    if isinstance(error, TransactionFailed):
        return "insufficient funds" not in str(error).lower()
    return isinstance(error, (RpcUnavailable, RpcRefused, RpcMalformed, HistoryBroken, NotNow))


def _until(rest: Step, now: int, poll: float, progress: Progress) -> float:
    """Return the seconds to wait: until the deadline, but never longer than to the next look."""
    left = poll if rest.until is None else max(0, rest.until + 1 - now)
    if rest.until is not None:
        days, seconds = divmod(left, 86400)
        hours, minutes = seconds // 3600, seconds // 60 % 60
        told = f"{days:.0f} d {hours:.0f} h {minutes:.0f} min" if left >= 60 else f"{left:.0f} s"
        progress(f"waiting: the deadline is {rest.until}, in {told}")
    return max(0.2, min(poll, left))
