"""What an escape waits for, told when it is something else: it may take a month, and nobody looks meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from proofbook.escape.watch import Severity
from proofbook.verifier.history import Progress

AGAIN_S: Final = 3600.0
"""What is still waited for then is told again."""
MAX_KINDS: Final = 20
"""Told in that time, at most: some of the words are a node's."""
_FAILED: Final = "; trying again"
_WAITS: Final = ("waiting", "all is out")


class Waiting:
    """Takes an escape's progress, and has what it waits for told as an event.

    Parameters
    ----------
    tell : callable
        Given severity, code and text of an event.
    progress : Progress
        Told everything.
    clock : callable
        Seconds, never going back.
    """

    def __init__(
        self,
        tell: Callable[[Severity, str, str], None],
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._progress, self._clock = tell, progress, clock
        self._told: dict[str, float] = {}

    def __call__(self, text: str) -> None:
        """Take a line of progress."""
        self._progress(text)
        has_failed = text.endswith(_FAILED)
        if not (has_failed or text.startswith(_WAITS)):
            return
        # Times, prices and blocks are others at every look; what is waited for is the same.
        kind, now = re.sub(r"\d+[^,;:]*", "#", text), self._clock()
        self._told = {known: at for known, at in self._told.items() if now < at + AGAIN_S}
        if kind not in self._told and len(self._told) < MAX_KINDS:
            self._told[kind] = now
            self._tell(Severity.WARNING if has_failed else Severity.INFO, "escape_waiting", text[:1000])
