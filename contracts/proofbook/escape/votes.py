"""Several nodes, one of which may lie: what each says of a reason to leave, and whether another is to be asked."""

from __future__ import annotations


class Votes:
    """What nodes said since one of them saw a reason to leave; a node's later word replaces its earlier one.

    Parameters
    ----------
    count : int
        How many nodes there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._said: dict[str, bool] = {}
        self._looks = 0

    def note(self, url: str, is_reason: bool) -> None:
        """Count a look that saw something, at one node."""
        if is_reason or self._said:
            self._said[url] = is_reason
            self._looks += 1
            if not self.is_open:
                self._said.clear()
                self._looks = 0

    @property
    def is_open(self) -> bool:
        """Whether others are to be asked: until all had their turn, and as long as most see a reason."""
        reasons = sum(self._said.values())
        return reasons > 0 and (self._looks < self._count or 2 * reasons > len(self._said))
