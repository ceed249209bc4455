"""Many lives, and the shortest way to what goes wrong in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

from proofbook.chain.anvil import Anvil
from proofbook.chain.compile import Artifact

from .checks import Violation
from .life import Life, Tally
from .node import Node
from .opening import Stage
from .world import Call

STEPS = 280
"""Random calls in a life; its end adds about a quarter more."""
START = 2_000_000_000
"""Unix time at which every life begins, so that a seed always means the same calls."""
UNSOUND = 3
"""Every so many lives have a verifier that accepts whatever the operator wants."""


@contextmanager
def stage(exchange: Artifact | None = None) -> Any:
    """A node with helpers and keys; `exchange` stands in for the real contract."""
    with Anvil() as anvil:
        node = Node(anvil, START)
        try:
            yield Stage(node, exchange)
        finally:
            node.close()


def drive(on: Stage, seeds: Iterable[int], calls: int, shorten: bool = True) -> Tally:
    """Live lives until so many calls are driven.

    Raises
    ------
    Violation
        What went wrong, the seed, and the fewest calls that show it.
    """
    total = Tally()
    for seed in seeds:
        if total.calls >= calls:
            break
        before = on.node.snapshot()
        life = Life(on, seed, unsound=seed % UNSOUND == 0)
        try:
            life.live(STEPS)
        except Violation as violation:
            if not shorten:
                raise
            raise Violation(explain(life, violation)) from violation
        total.add(life.tally)
        on.node.back_to(before)
    return total


def explain(life: Life, violation: Violation) -> str:
    """Name the violation and the shortest list of calls found that leads to one."""
    calls = list(life.log)
    if life.replay(calls) is None:
        return f"{violation}\n(shown by the whole life of seed {life.seed} only)"
    calls = shrink(calls, lambda some: life.replay(some) is not None)
    lines = [f"  {k}: {call}" for k, call in enumerate(calls, 1)]
    return "\n".join([str(violation), f"{len(calls)} calls are enough:", *lines, f"there: {life.replay(calls)}"])


def shrink(calls: list[Call], fails: Callable[[list[Call]], bool], tries: int = 150) -> list[Call]:
    """Leave out ever smaller stretches of calls as long as what is left still fails."""
    size = len(calls) // 2
    while size and tries:
        at, shorter = 0, False
        while at < len(calls) and tries:
            some = calls[:at] + calls[at + size :]
            tries -= 1
            if fails(some):
                calls, shorter = some, True
            else:
                at += size
        size = size // 2 if not shorter or size > 1 else size
    return calls
