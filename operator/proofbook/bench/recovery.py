"""How fast a journal is replayed: every row's digest checked, decoded, and done again by a new engine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from proofbook.bench.flows import make_config, make_flow, synthetic
from proofbook.bench.measure import MIB, Clock, Json, anonymous_mib
from proofbook.operator.commands import Command
from proofbook.operator.journal import Journal
from proofbook.operator.sequencer import Sequencer

_GROUP = 1000


def write_journal(path: Path, commands: Sequence[Command]) -> None:
    """Write a journal of these commands, 1000 a commit."""
    Sequencer(make_config(), path).close()  # which notes what a new journal starts from
    with Journal(path, make_config().get_identity()) as journal:
        for at in range(0, len(commands), _GROUP):
            journal.append(commands[at : at + _GROUP])


def measure(path: Path, commands: int) -> Json:
    """Open a journal and return what replaying it took."""
    before = anonymous_mib()
    with Clock() as clock:
        sequencer = Sequencer(make_config(), path)
    events = sequencer.engine.event_seq
    found = {
        "commands": commands,
        "events": events,
        "journal_mib": path.stat().st_size / MIB,
        "seconds": clock.wall_s,
        "commands_per_wall_s": commands / clock.wall_s,
        "commands_per_cpu_s": commands / clock.cpu_s,
        "events_per_wall_s": events / clock.wall_s,
        "events_per_cpu_s": events / clock.cpu_s,
        "engine_mib": anonymous_mib() - before,
    }
    sequencer.close()
    return found


def run(counts: Sequence[int]) -> Json:
    """Return the figures of ``recovery.json``: a journal of so many commands for each row."""
    rows: list[Json] = []
    flow = make_flow("synthetic", synthetic(2), max(counts))
    with tempfile.TemporaryDirectory(prefix="proofbook-") as folder:
        for count in counts:
            commands = [*flow.opening, *flow.commands[:count]]
            path = Path(folder, f"{count}.sqlite")
            write_journal(path, commands)
            rows.append(measure(path, len(commands)))
    return {"rows": rows}
