"""How fast a journal is replayed: every row's digest checked, decoded, and done again by a new engine.

Each journal is replayed twice: by the engine alone, and with the views that a starting operator makes meanwhile. Each
time in a fresh process: what one needs of memory would otherwise be hidden by what was there before.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from proofbook.bench.flows import make_config, make_flow, synthetic, with_batches
from proofbook.bench.measure import MIB, Clock, Json, anonymous_mib
from proofbook.operator.commands import Command, SealBatch
from proofbook.operator.journal import Journal
from proofbook.operator.sequencer import Sequencer
from proofbook.operator.views import Views

_GROUP = 1000


def write_journal(path: Path, commands: Sequence[Command]) -> None:
    """Write a journal of these commands, 1000 a commit."""
    Sequencer(make_config(), path).close()  # which notes what a new journal starts from
    with Journal(path, make_config().get_identity()) as journal:
        for at in range(0, len(commands), _GROUP):
            journal.append(commands[at : at + _GROUP])


class Replay(NamedTuple):
    """What replaying a journal took, the events that came of it, and the memory it needs."""

    wall_s: float
    cpu_s: float
    events: int
    mib: float


def replay(path: Path, views: bool) -> Replay:
    """Open a copy of a journal, as closing it adds to it."""
    twin, made = path.with_suffix(".twin"), Views()
    shutil.copyfile(path, twin)
    before = anonymous_mib()
    with Clock() as clock:
        sequencer = Sequencer(make_config(), twin, listeners=[made.process] if views else [])
    found = Replay(clock.wall_s, clock.cpu_s, sequencer.engine.event_seq, anonymous_mib() - before)
    sequencer.close()
    return found


def measure(path: Path, commands: int) -> Json:
    """Replay a journal, and return what that took."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        alone, viewed = pool.map(replay, [path, path], [False, True])
    events = alone.events
    return {
        "commands": commands,
        "events": events,
        "journal_mib": path.stat().st_size / MIB,
        "seconds": alone.wall_s,
        "commands_per_wall_s": commands / alone.wall_s,
        "commands_per_cpu_s": commands / alone.cpu_s,
        "events_per_wall_s": events / alone.wall_s,
        "events_per_cpu_s": events / alone.cpu_s,
        "engine_mib": alone.mib,
        "with_views_s": viewed.wall_s,
        "with_views_events_per_wall_s": events / viewed.wall_s,
        "with_views_events_per_cpu_s": events / viewed.cpu_s,
        "engine_and_views_mib": viewed.mib,
    }


def run(counts: Sequence[int]) -> Json:
    """Return the figures of ``recovery.json``: a journal of so many commands for each row.

    The last journal but one is also measured as that of an exchange that settles its trades in batches: sealing takes
    time, and what is settled takes no memory.
    """
    rows: list[Json] = []
    flow = make_flow("synthetic", synthetic(2), max(counts))

    def row(count: int, settles: bool) -> Json:
        commands = [*flow.opening, *flow.commands[:count]]
        if settles:
            commands = list(with_batches(commands))
        with tempfile.TemporaryDirectory(prefix="proofbook-") as folder:
            path = Path(folder, "journal.sqlite")
            write_journal(path, commands)
            batches = {"batches": sum(isinstance(made, SealBatch) for made in commands)} if settles else {}
            return {**measure(path, len(commands)), **batches}

    rows = [row(count, settles=False) for count in counts]
    return {"rows": rows, "with_batches": row(sorted(counts)[-2:][0], settles=True)}
