"""The benchmarks' own logic: what they count, not how fast."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from proofbook.bench import batches, circuits, matching, recovery
from proofbook.bench.__main__ import FLOW_VARIABLE, parse
from proofbook.bench.depth import measure_depth
from proofbook.bench.flows import TRADERS, make_config, make_flow, make_flows, synthetic
from proofbook.bench.measure import Clock, get_machine, percentile, slope, tidy, write_json
from proofbook.bench.plot import Panel, draw, get_decades
from proofbook.bench.show import draw_growth, show
from proofbook.operator import events as ev
from proofbook.operator.engine import Engine
from proofbook.operator.sequencer import Sequencer
from proofbook.protocol.table import Size

PEERS = Path(matching.__file__).with_name("peers.py")
LOBSTER = """34200.1,1,11,100,1000000,1
34200.2,1,12,50,1000100,-1
34200.3,2,11,40,1000000,1
34200.4,4,12,20,1000100,-1
34200.5,3,12,30,1000100,-1
34200.6,5,0,10,1000050,1
"""


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers", PEERS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_percentile_is_the_nearest_rank():
    values = [float(v) for v in range(1, 1001)]
    assert [percentile(values, s) for s in (0.5, 0.99, 0.999, 1)] == [500, 990, 999, 1000]
    assert percentile([7.0], 0.01) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0), ([1.0], 1.01)])
def test_percentile_refuses(values, share):
    with pytest.raises(ValueError):
        percentile(values, share)


def test_slope_is_that_of_the_line():
    assert slope([4, 8, 16], [104, 108, 116]) == pytest.approx(1)
    with pytest.raises(ValueError):
        slope([4, 4], [1, 2])


def test_clock_measures_both_times():
    with Clock() as clock:
        sum(range(100_000))
    assert 0 < clock.cpu_s < clock.wall_s + 0.1


def test_write_json_rounds_and_names_the_machine(tmp_path):
    document = write_json(tmp_path, "x", {"rows": [{"a_s": 1.23456, "n": 123456}]})
    assert document["rows"] == [{"a_s": 1.235, "n": 123456}]
    assert json.loads((tmp_path / "x.json").read_text()) == document
    assert document["machine"]["cores"] == get_machine()["cores"] >= 1
    assert tidy((0.000123456, True)) == [0.0001235, True]


def test_synthetic_flow_follows_from_its_seed_and_is_never_refused():
    flow = make_flow("synthetic", synthetic(1), 1500)
    assert flow.ops == make_flow("synthetic", synthetic(1), 1500).ops
    assert flow.ops != make_flow("synthetic", synthetic(2), 1500).ops
    engine = Engine(make_config())
    for command in (*flow.opening, *flow.commands):
        events = engine.handle(command)
        assert not [e for e in events if isinstance(e, ev.OrderRejected | ev.ActionRejected | ev.CommandRejected)]
    assert engine.trading.trade_seq > 100
    assert sum(not op.lots for op in flow.ops) > 200  # cancels


def test_lobster_flow_is_replayed(tmp_path):
    path = tmp_path / "messages.csv"
    path.write_text(LOBSTER)
    first, second = make_flows(100, path)
    assert (first.name, second.name) == ("synthetic", "lobster")
    # New, new, smaller (a cancel and a new one), executed by an order that takes, and the rest deleted.
    assert [(op.lots, op.immediate) for op in second.ops] == [
        (100, False), (50, False), (0, False), (60, False), (20, True), (0, False),
    ]  # fmt: skip


def test_peers_fill_the_same_as_the_engine(peers):
    flow = make_flow("synthetic", synthetic(3), 3000)
    steps = [(o.ref, o.side, o.price, o.lots, int(o.immediate)) for o in flow.ops]
    engine = Engine(make_config())
    own = 0
    for command in (*flow.opening, *flow.commands):
        own += sum(isinstance(e, ev.OrderRemoved) and e.reason == "self_trade" for e in engine.handle(command))
    # A peer knows no accounts, so it lets an account trade with itself where the engine cancels.
    assert abs(peers.run_bare(steps) - engine.trading.trade_seq) <= 3 * own
    assert own < TRADERS


def test_bare_book_matches_by_price_then_time(peers):
    steps = [
        (1, 1, 10, 5, 0), (2, 1, 9, 5, 0), (3, 1, 9, 5, 0), (4, 0, 10, 12, 0),
        (5, 0, 8, 1, 1), (6, 1, 8, 1, 0), (1, 0, 0, 0, 0), (7, 0, 10, 9, 0),
    ]  # fmt: skip
    # 4 meets 2, 3 and two lots of 1; 5 finds nobody and does not rest; 7 meets 6 alone, as 1 is cancelled.
    assert peers.run_bare(steps) == 4


def test_peers_run_as_a_program_of_their_own(tmp_path):
    ops = tmp_path / "ops.txt"
    ops.write_text("1 0 100 5 0\n2 1 100 3 0\n")
    done = subprocess.run([sys.executable, "-I", str(PEERS), str(ops)], check=True, capture_output=True, cwd=tmp_path)
    assert json.loads(done.stdout)["bare dictionaries"]["fills"] == 1


def test_peer_that_fails_says_so(peers):
    def run(steps):
        raise RuntimeError("no")

    assert peers.measure([], run) == {"error": "RuntimeError: no"}


def test_matching_figures_and_their_table():
    flow = make_flow("synthetic", synthetic(1), 400)
    row = matching.measure_flow(flow, None)
    assert row["commands"] == 400 and row["events"] > 400 and row["trades"] > 0
    assert row["commands_of_ours_per_command_of_theirs"].keys() == {"bare dictionaries"}
    assert row["commands_of_our_book_per_command_of_theirs"].keys() == {"bare dictionaries"}
    assert len({peer["fills"] for peer in row["peers"].values()}) == 1 < len(row["peers"])
    assert row["state_hash"] == matching.measure_rate(flow)["state_hash"]
    out = StringIO()
    show(Console(file=out, width=240), "matching", {"rows": [row], "depth": measure_depth([10])})
    assert "bare dictionaries" in out.getvalue() and row["state_hash"] not in out.getvalue()


def test_depth_is_what_was_asked_for():
    rows = measure_depth([400, 1000])
    assert [row["resting_orders"] for row in rows] == [400, 1000]
    assert all(row["cpu_us_per_command"] > 0 for row in rows)


def test_recovery_replays_what_was_written(tmp_path):
    flow = make_flow("synthetic", synthetic(2), 300)
    path = tmp_path / "journal.sqlite"
    recovery.write_journal(path, [*flow.opening, *flow.commands])
    direct = Engine(make_config())
    for command in (*flow.opening, *flow.commands):
        direct.handle(command)
    sequencer = Sequencer(make_config(), path)
    assert sequencer.engine.state_hash() == direct.state_hash()
    sequencer.close()
    found = recovery.run([50, 100])
    assert [row["commands"] - len(flow.opening) for row in found["rows"]] == [50, 100]
    settled = found["with_batches"]
    assert settled["commands"] > len(flow.opening) + 50 and settled["events"] > found["rows"][0]["events"]
    out = StringIO()
    show(Console(file=out, width=240), "recovery", found)
    assert "recovery, with batches" in out.getvalue()


SIZES = (Size(4, 4, 6, 2), Size(4, 16, 12, 4))


def test_batches_fit_their_circuits():
    assert batches.order_counts(SIZES) == [4, 8, 16]
    assert [batches.choose_size(SIZES, n) for n in (4, 8, 16)] == [0, 1, 1]
    for orders in batches.order_counts(batches.get_sizes()):
        assert batches.count_traders(orders) % 2 == 0
        batches.choose_size(batches.get_sizes(), orders)
    with pytest.raises(ValueError):
        batches.choose_size(SIZES, 32)


def test_constraints_of_a_trade():
    slopes = {"per_action": 8000, "per_account": 10_000, "per_request": 900}
    assert [circuits.per_trade(slopes, n) for n in (1, 2, 4)] == [36_000, 26_000, 21_000]  # type: ignore[arg-type]


def test_plot_places_points_on_logarithmic_axes():
    svg = draw([Panel("A & B", "work", "cost", {"line": [(10.0, 1.0), (1000.0, 100.0)]})])
    assert "A &amp; B" in svg and svg.count("<circle") == 2
    (points,) = re.findall(r'points="([^"]+)"', svg)
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in points.split())
    assert x0 < x1 and y0 > y1
    assert get_decades([3, 20]) == (0, 2) and get_decades([10]) == (1, 2)
    with pytest.raises(ValueError):
        get_decades([0, 1])


def test_growth_shows_what_was_measured():
    found = {"recovery": {"rows": [{"commands": 100, "seconds": 0.1}, {"commands": 1000, "seconds": 1.0}]}}
    assert "Recovery" in draw_growth(found) and "Proving" not in draw_growth(found)
    depth = [{"resting_orders": 10, "cpu_us_per_command": 5.0}, {"resting_orders": 100, "cpu_us_per_command": 6.0}]
    assert "Matching" in draw_growth({"matching": {"rows": [], "depth": depth}})


def test_tables_of_proofs_and_circuits():
    steps = {"witness": 0.25, "H": 0.125}
    out = StringIO()
    show(Console(file=out, width=240), "prover", {"rows": [{"circuit": "some-circuit", "native_steps_s": steps}]})
    assert "some-circuit" in out.getvalue() and "0.125" in out.getvalue()
    document = {"rows": [{"circuit": "other"}], "constraints": {"per_action": 7}, "trades": [{"orders_per_account": 1}]}
    show(Console(file=out, width=240), "circuits", document)
    assert "per action" in out.getvalue() and "other" in out.getvalue()


def test_command_line(monkeypatch):
    monkeypatch.delenv(FLOW_VARIABLE, raising=False)
    assert parse([]).subjects == [] and parse([]).flow is None
    monkeypatch.setenv(FLOW_VARIABLE, "messages.csv")
    args = parse(["matching", "--events", "5"])
    assert (args.subjects, args.events, args.flow) == (["matching"], 5, Path("messages.csv"))
    with pytest.raises(SystemExit):
        parse(["nonsense"])
