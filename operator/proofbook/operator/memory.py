"""The collector of reference cycles, kept out of the way.

The engine makes no cycles: what it lets go of is freed at once by counting references. The collector would still go
through everything it keeps, again and again as that grows: a third of the time of replaying a journal.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_THRESHOLDS: Final = (50_000, 50, 100)


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the collector off in a ``with`` block; where that made much, it never looks at what is there now."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if gc.get_count()[0] > _THRESHOLDS[0]:
                gc.freeze()  # or all of it would be gone through at once
            gc.enable()


def relax_collector() -> None:
    """Let the collector look seldom in this process, and never again at what is there now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
