"""Operators that kill themselves, as ``kill -9`` would, at one point of their work.

Each line "DIRECTORY<tab>POINT" on standard input makes one, a process of its own; its id is told, and when it has
died by which signal. They are forked off, since importing everything would take longer than their lives.

A point is a stage of a batch's life, or ``before`` or ``after`` a step on disk or towards the node. ``none`` lives on.
"""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proofbook.operator import commands as c
from proofbook.operator import service
from proofbook.operator.disk import is_disk_error
from proofbook.operator.journal import Journal
from proofbook.operator.l1 import L1
from proofbook.operator.snapshots import SNAPSHOT, Snapshots
from proofbook.operator.store import STATES, BatchStore
from proofbook.protocol.errors import ProofbookError

STEPS: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "requests stored": (BatchStore, "put_requests", lambda *_: True),
    "blocks noted": (BatchStore, "set_meta", lambda *_: True),
    "request journaled as seen": (Journal, "append", lambda group: any(isinstance(x, c.RequestSeen) for x in group)),
    "request journaled as confirmed": (
        Journal,
        "append",
        lambda group: any(isinstance(x, c.RequestConfirmed) for x in group),
    ),
    "order journaled": (Journal, "append", lambda group: any(isinstance(x, c.PlaceOrder) for x in group)),
    "checkpoint noted": (Journal, "add_checkpoint", lambda *_: True),
    "snapshot written": (Snapshots, "_write", lambda *_: True),
    "transaction sent": (L1, "broadcast", lambda *_: True),
    **{
        f"batch stored as {state}": (BatchStore, "put_batch", lambda record, state=state: record.state == state)
        for state in STATES
    },
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: Any, name: str, is_meant: Callable[..., bool], when: str) -> None:
    """Have a method kill the process before or after it did its work."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def deadly(self: Any, *args: Any) -> Any:
        if when == "before" and is_meant(*args):
            die()
        done = real(self, *args)
        if when == "after" and is_meant(*args):
            die()
        return done

    setattr(owner, name, deadly)


class DeadlyConnection(sqlite3.Connection):
    """Dies where an order is to be committed: its row is written, and not committed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._inserted = False
        self.set_trace_callback(self._trace)

    def _trace(self, statement: str) -> None:
        self._inserted |= statement.startswith("INSERT INTO commands") and b"PlaceOrder".hex() in statement.lower()
        if statement == "COMMIT" and self._inserted:
            die()


def write_snapshots_always() -> None:
    """Have a snapshot follow every batch; otherwise it takes 64."""
    real = Snapshots.offer

    @functools.wraps(real)
    def offer(self: Snapshots, number: int, state: Any) -> None:
        self._every, self._due = 1, 0.0
        real(self, number, state)

    Snapshots.offer = offer  # type: ignore[method-assign]


def die_before_renaming(name: str) -> None:
    """Die where a file that is written in one step is complete, and not yet in its place."""
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == name:
            die()
        real(source, target)

    os.replace = replace  # type: ignore[assignment]


def arm(point: str) -> None:
    """Prepare the death."""
    when, _, step = point.partition(" ")
    if "snapshot" in step:
        write_snapshots_always()
    if point == "within snapshot":
        die_before_renaming(SNAPSHOT)
    elif step in STEPS:
        wrap(*STEPS[step], when)
    elif point == "within the journal's transaction":
        sqlite3.connect = functools.partial(sqlite3.connect, factory=DeadlyConnection)  # type: ignore[assignment]
    elif point != "none":
        die_there: Callable[[str], None] = lambda stage: die() if stage == point else None  # noqa: E731
        service.Operator = functools.partial(service.Operator, crash_at=die_there)  # type: ignore[assignment,misc]


def live(directory: Path, point: str) -> None:
    """Be an operator; end with 7 where the disk is the reason, with 8 for any other one that is named."""
    arm(point)
    try:
        service.run(directory)
    except (ProofbookError, OSError) as error:
        os._exit(7 if is_disk_error(error) or getattr(error, "code", "") == "disk" else 8)


def main() -> None:
    """Make operators, one after the other."""
    for line in sys.stdin:
        directory, point = line.rstrip("\n").split("\t")
        pid = os.fork()
        if not pid:
            os.setpgid(0, 0)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            live(Path(directory), point)
            os._exit(0)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
