"""What time it is: the machine's clock and the chain's, held against each other.

The engine's time never goes back. One look at a clock that had jumped ahead would expire every order, and refuse new
ones for as long as it had jumped; so time runs ahead of the newest block by a little only. Nor does a block alone move
it: a node may say anything of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MAX_AHEAD_S: Final = 900
"""Time runs ahead of the newest block by so much at most, and stands still where no block comes for longer."""
MAX_APART_S: Final = 300
"""Clocks that differ by more are told of."""
CLOCK: Final = "clock"
STALLED: Final = "chain_stalled"


class Clock:
    """The operator's time.

    Parameters
    ----------
    follows_chain : bool
        The newest block alone tells the time, for tests.
    now, counter : callable
        The machine's clock, and seconds that never jump.
    """

    def __init__(
        self,
        follows_chain: bool,
        now: Callable[[], float] = time.time,
        counter: Callable[[], float] = time.monotonic,
    ) -> None:
        self._follows_chain, self._wall, self._counter = follows_chain, now, counter
        self._block, self._moved_at = -1, float("-inf")
        self.chain_time = 0

    def note(self, block: int, timestamp: int) -> None:
        """Take note of the newest block."""
        if block > self._block >= 0:
            self._moved_at = self._counter()
        self._block, self.chain_time = block, timestamp

    def get_now(self, at_least: int) -> int:
        """Return the time, unix seconds, which never goes back behind what it was."""
        now = self.chain_time if self._follows_chain else min(int(self._wall()), self.chain_time + MAX_AHEAD_S)
        return max(now, at_least)

    def get_latest(self) -> int:
        """Return the latest time that chain or machine tell, unix seconds: for what must not be missed."""
        return self.chain_time if self._follows_chain else max(self.chain_time, int(self._wall()))

    def find_trouble(self, engine_time: int) -> str | None:
        """Return the code of what is wrong with the time, None if nothing is.

        Parameters
        ----------
        engine_time : int
            What orders are judged by.
        """
        if self._follows_chain or not self.chain_time:
            return None
        wall = int(self._wall())
        if max(self.chain_time, engine_time) > wall + MAX_APART_S:
            return CLOCK
        if wall <= self.chain_time + MAX_APART_S:
            return None
        # Which of the two it is, blocks tell that came lately and are old nevertheless.
        return CLOCK if self._counter() - self._moved_at <= MAX_APART_S else STALLED
