"""How fast the engine matches, with reserves, fees, places and events; and others, on the same flow in the same run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from proofbook.bench.depth import measure_depth
from proofbook.bench.flows import Flow, make_config, make_flows
from proofbook.bench.measure import Clock, Json, peak_mib, percentile
from proofbook.operator.book import BUY, SELL, Order, SortedBook
from proofbook.operator.engine import Engine
from proofbook.operator.matching import Fill, Width, match
from proofbook.operator.memory import relax_collector
from proofbook.protocol.table import Flag
from proofbook.prover.workspace import repository_root

_OURS = "proofbook, book alone"
_DEPTHS = (1000, 10_000, 100_000)
_WIDE = Width(makers=1 << 30, accounts=1 << 30)


def _open(flow: Flow) -> Engine:
    engine = Engine(make_config())
    for command in flow.opening:
        engine.handle(command)
    relax_collector()  # as the service does before it takes orders
    return engine


def measure_rate(flow: Flow) -> Json:
    """Return commands, events and trades per second."""
    engine, handle = _open(flow), None
    handle = engine.handle
    before = engine.event_seq
    with Clock() as clock:
        for command in flow.commands:
            handle(command)
    events, commands = engine.event_seq - before, len(flow.commands)
    return {
        "commands": commands,
        "events": events,
        "trades": engine.trading.trade_seq,
        "resting_orders": len(engine.trading.live),
        "commands_per_wall_s": commands / clock.wall_s,
        "commands_per_cpu_s": commands / clock.cpu_s,
        "events_per_wall_s": events / clock.wall_s,
        "events_per_cpu_s": events / clock.cpu_s,
        "state_hash": engine.state_hash(),
    }


def measure_book(flow: Flow) -> Json:
    """Match a flow with our book and rules alone, as the peers do: no accounts, no money, no events."""
    book, resting, fills, ioc = SortedBook(), dict[int, Order](), 0, int(Flag.IOC)
    steps = [(o.ref, BUY if o.side == BUY else SELL, o.price, o.lots, o.immediate) for o in flow.ops]
    with Clock() as clock:
        for ref, side, price, lots, immediate in steps:
            if not lots:
                if ref in resting and (order := resting.pop(ref)).remaining:
                    book.remove(order)
                continue
            order = Order(ref, 1, side, price, lots, ioc if immediate else 0)
            fills += sum(isinstance(step, Fill) for step in match(book, order, _WIDE))
            if not immediate:
                resting[ref] = order
    return {
        "version": "",
        "per_wall_s": len(steps) / clock.wall_s,
        "per_cpu_s": len(steps) / clock.cpu_s,
        "fills": fills,
    }


def measure_latency(flow: Flow) -> Json:
    """Return percentiles of the time a command takes, reading the clock twice a command."""
    engine, times = _open(flow), []
    for command in flow.commands:
        started = time.perf_counter_ns()
        engine.handle(command)
        times.append((time.perf_counter_ns() - started) / 1000)
    return {f"{name}_us": percentile(times, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999))}


def run_peers(flow: Flow, python: Path | None) -> Json:
    """Run other engines on a flow, in their own environment; without one only the bare book of dictionaries."""
    script = Path(__file__).with_name("peers.py")
    with tempfile.TemporaryDirectory(prefix="proofbook-") as folder:
        path = Path(folder, "ops.txt")
        lines = (f"{o.ref} {o.side} {o.price} {o.lots} {int(o.immediate)}\n" for o in flow.ops)
        path.write_text("".join(lines), encoding="ascii")
        done = subprocess.run(
            [str(python or sys.executable), str(script), str(path)],
            check=True,
            capture_output=True,
            timeout=600,
            cwd=folder,
        )
    found: Json = json.loads(done.stdout)
    return found


def find_peers() -> Path | None:
    """Return the Python that has the other engines, made by ``make bench``; None if there is none."""
    python = repository_root() / ".venv-bench" / "bin" / "python"
    return python if python.is_file() else None


def measure_flow(flow: Flow, python: Path | None) -> Json:
    """Measure our engine and the others, one right after the other."""
    rate = measure_rate(flow)
    book = measure_book(flow)
    peers = run_peers(flow, python)
    fit = {name: peer["per_cpu_s"] for name, peer in peers.items() if "per_cpu_s" in peer}
    return {
        "flow": flow.name,
        **rate,
        "latency": measure_latency(flow),
        "peers": {_OURS: book, **peers},
        "commands_of_ours_per_command_of_theirs": {
            name: rate["commands_per_cpu_s"] / theirs for name, theirs in fit.items()
        },
        "commands_of_our_book_per_command_of_theirs": {
            name: book["per_cpu_s"] / theirs for name, theirs in fit.items()
        },
    }


def run(limit: int, flow_file: Path | None) -> Json:
    """Return the figures of ``matching.json``."""
    rows: list[Any] = [measure_flow(flow, find_peers()) for flow in make_flows(limit, flow_file)]
    return {"rows": rows, "depth": measure_depth(_DEPTHS), "peak_mib": peak_mib()}
