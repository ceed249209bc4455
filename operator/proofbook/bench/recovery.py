"""How fast a journal is replayed: every row's digest checked, decoded, and done again by a new engine.

Each journal is replayed twice: by the engine alone, and with the views that a starting operator makes meanwhile.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

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


def _replay(path: Path, views: Views | None) -> tuple[Clock, int, float]:
    """Open a copy of a journal, as closing it adds to it; return what that took, the events, and the MiB it needs."""
    twin, before = path.with_suffix(".twin"), anonymous_mib()
    shutil.copyfile(path, twin)
    with Clock() as clock:
        sequencer = Sequencer(make_config(), twin, listeners=[views.process] if views else [])
    events, memory = sequencer.engine.event_seq, anonymous_mib() - before
    sequencer.close()
    return clock, events, memory


def measure(path: Path, commands: int) -> Json:
    """Open a journal and return what replaying it took."""
    clock, events, memory = _replay(path, None)
    viewed, _, viewed_memory = _replay(path, Views())
    return {
        "commands": commands,
        "events": events,
        "journal_mib": path.stat().st_size / MIB,
        "seconds": clock.wall_s,
        "commands_per_wall_s": commands / clock.wall_s,
        "commands_per_cpu_s": commands / clock.cpu_s,
        "events_per_wall_s": events / clock.wall_s,
        "events_per_cpu_s": events / clock.cpu_s,
        "engine_mib": memory,
        "with_views_s": viewed.wall_s,
        "with_views_events_per_wall_s": events / viewed.wall_s,
        "with_views_events_per_cpu_s": events / viewed.cpu_s,
        "engine_and_views_mib": viewed_memory,
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
