"""The whole exchange on a local chain, from the first deposit to the last escape: `run`."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from proofbook.chain.anvil import Anvil
from proofbook.prover.workspace import Progress, silent
from proofbook.sim.acts import ADA, BEN, DAN, FINN, GUS, Demo
from proofbook.sim.flow import Round, SimulationError, count_orders, merge
from proofbook.sim.lobster import Replay, replay
from proofbook.sim.operator_process import OperatorProcess
from proofbook.sim.story import Story
from proofbook.sim.traders import Scene, simulate

MAKERS, TAKERS = (0, 1), (2, 3, 4, 5, 6)
SHARERS: Final = (ADA, BEN, DAN, FINN, GUS)
"""Who plays the accounts of a replayed market."""
# Dollars a hundredth ether and a share, in millionths; quotes stand cents apart.
ETH_SCENE: Final = Scene("ETH/USD", 25_000_000, 10_000, 60)
SHARE_SCENE: Final = Scene("STK/USD", 585_000_000, 10_000, 40)
TICK_OF_TENTHOUSANDTH: Final = 100
FLOW_OPEN: Final = 8
FLOW_REF: Final = 10**9
MIN_ORDERS, MAX_ORDERS = 10, 5_000
_FILES: Final = ("chain.json", "chain-final.json", "deployment.json", "summary.json", "operator.log")


def plan_rounds(seed: int, flow: Path | None, orders: int) -> list[Round]:
    """Return what the traders will want.

    Parameters
    ----------
    seed : int
        Of the simulated markets.
    flow : Path or None
        A LOBSTER message file, which then plays the share's market: two thirds of the orders are from it.
    orders : int
        Placements in all, in [10, 5000].

    Raises
    ------
    FlowError
        For a file that can't be replayed.
    SimulationError
        For a number out of range.
    """
    if not MIN_ORDERS <= orders <= MAX_ORDERS:
        raise SimulationError(f"{orders} orders are not in [{MIN_ORDERS}, {MAX_ORDERS}]")
    if flow is None:
        return simulate(seed, [ETH_SCENE, SHARE_SCENE], MAKERS, TAKERS, orders)
    replayer = Replay(SHARE_SCENE.symbol, TICK_OF_TENTHOUSANDTH, SHARERS, FLOW_OPEN, FLOW_REF)
    replayed = replay(flow, replayer, orders * 2 // 3)
    simulated = simulate(seed, [ETH_SCENE], MAKERS, TAKERS, orders - count_orders(replayed))
    return merge(replayed, simulated)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the demonstration as Ctrl-C does, so that no process stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _clear(out: Path) -> None:
    """Remove what an earlier demonstration left, and nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    for folder in ("operator", "wallets"):
        shutil.rmtree(out / folder, ignore_errors=True)
    for name in _FILES:
        (out / name).unlink(missing_ok=True)


def run(
    out: Path,
    seed: int = 1,
    flow: Path | None = None,
    orders: int = 300,
    as_json: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run the whole demonstration.

    Parameters
    ----------
    out : Path
        Where it writes ``chain.json``, ``chain-final.json``, ``deployment.json``, ``summary.json`` and the log of the
        operator; what an earlier run left there is removed.
    seed : int
        Of the simulated markets and everybody's keys.
    flow : Path, optional
        A LOBSTER message file to replay in the share's market.
    orders : int
        Orders to place, in [10, 5000].
    as_json : bool
        Whether stdout is for JSON alone; the story is told on stderr then.
    progress : Progress
        Told the steps, and the share done where it is known.

    Returns
    -------
    dict
        What ``summary.json`` holds; amounts in base units (wei) as decimal strings by symbol.

    Raises
    ------
    Unequal, DemoFailed
        If anything comes out as it must not.
    ProofbookError
        From any part.
    """
    out = out.resolve()
    rounds = plan_rounds(seed, flow, orders)
    _clear(out)
    demo = Demo(out, seed, rounds, Story(as_json), progress)
    with _terminable(), Anvil() as anvil:
        demo.deploy(anvil)
        with OperatorProcess(demo.directory, out / "operator.log") as operator:
            demo.greet(operator)
            demo.open_accounts()
            demo.trade(operator)
            demo.withdraw()
            demo.force_exit()
            report = demo.verify()
            demo.kill_operator(operator)
        demo.miss_deadline()
        demo.leave()
        return demo.summary(report)
