"""How the operator is: what it waits for to get better, and what it must be in time for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from proofbook.operator.clock import Clock
from proofbook.operator.engine import Engine
from proofbook.operator.store import BatchStore

log = logging.getLogger(__name__)
NEAR: Final = "deadline_near"
NEAR_SHARE: Final = 4
"""A deadline is near when less than this part of the request window is left."""


class Condition:
    """Holds clock and deadlines against what is still to be done.

    Parameters
    ----------
    clock, engine, store
        The operator's.
    window : int
        Seconds that the contract gives for a request.
    waits : mapping
        What else waits, and the code of what it waits for.
    """

    def __init__(self, clock: Clock, engine: Engine, store: BatchStore, window: int, waits: Mapping[str, str]) -> None:
        self._clock, self._engine, self._store = clock, engine, store
        self._window, self._waits = window, waits
        self._told: list[str] = []

    def get_first_unserved(self) -> int:
        """Return the number of the oldest request that no confirmed batch serves."""
        settlement = self._engine.settlement
        return settlement.in_flight[0].plan.first_request if settlement.in_flight else settlement.next_request

    def get_oldest_deadline(self) -> int | None:
        """Return when the oldest unserved request may freeze the exchange, None if there is none; `StoreError`."""
        found = self._store.list_requests(self.get_first_unserved(), 1)
        return found[0].deadline if found else None

    def find_trouble(self, deadline: int | None) -> list[str]:
        """Return the codes of all that is wrong, in their order."""
        codes = set(self._waits.values())
        if (of_time := self._clock.find_trouble(self._engine.now)) is not None:
            codes.add(of_time)
        # Blocks decide, and go on where this node stands still: of two clocks the later one is the safer.
        now = self._clock.get_latest()
        if deadline is not None and not self._engine.frozen and (deadline - now) * NEAR_SHARE < self._window:
            codes.add(NEAR)
        return sorted(codes)

    def tell(self) -> None:
        """Log what is wrong, when that changes; `StoreError`."""
        found = self.find_trouble(self.get_oldest_deadline())
        if found != self._told:
            log.warning("trouble: %s", ", ".join(found) or "none any more")
            self._told = found
