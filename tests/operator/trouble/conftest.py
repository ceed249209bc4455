"""Operators in trouble: a node that misbehaves, chains that are reorganised, disks that are full, kills."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import tempfile
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from proofbook.chain.events import batches_since, read_batch
from proofbook.operator import service as service_module
from proofbook.operator.api import create_app
from proofbook.operator.service import Operator
from proofbook.operator.settings import load_settings
from proofbook.protocol.state import State
from proofbook.protocol.table import MINIMAL, ActionType
from proofbook.protocol.transition import apply
from proofbook.protocol.words import Page
from proofbook.prover.process import locked
from proofbook.prover.workspace import default_workspace

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
"""The same in all workers: a report of another run is begun anew."""
PATIENCE_S = 120  # of a machine that has much else to do
HERE = Path(__file__).resolve().parent


def load(path: Path) -> Any:
    """Import a helper by its path: folders of tests are no packages."""
    name = f"trouble_tests_{path.parent.name}_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


service = load(HERE.parent / "service" / "conftest.py")
faults = load(HERE / "proxy.py")
lives = load(HERE / "lives.py")
disks = load(HERE / "disks.py")
live_exchange, live, populated, session, crash = (
    service.live_exchange,
    service.live,
    service.populated,
    service.session,
    service.crash,
)
COIN = service.COIN


class Night(service.Session):  # type: ignore[name-defined,misc]
    """A whole operator at work, with its background tasks, and what happens to it."""

    live: Any

    async def trade(self, id_: int, lots: int = 10) -> None:
        """Alice sells, bob buys; both are told so."""
        await self.post("/v1/orders", self.live.order(1, "sell", 1000, lots, id_), 201)
        told = await self.post("/v1/orders", self.live.order(2, "buy", 1000, lots, id_), 201)
        assert told["order"]["status"] == "filled"

    def is_idle(self) -> bool:
        engine = self.operator.engine
        return not engine.settlement.log and not engine.settlement.in_flight and not engine.registry.seen

    def get_stages(self) -> list[str]:
        """How far the batches in flight are, the oldest first."""
        return [stage for _, stage in self.operator.batcher.get_stages()]

    async def until(
        self, condition: Callable[[], Any], name: str = "", seconds: float = 240, mine: bool = False
    ) -> None:
        """Wait for something, as long as the operator works; ``mine`` blocks meanwhile."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.operator.stopped is None, (name, self.operator.stopped)
            assert time.monotonic() < end, f"{name}: it did not come about"
            await asyncio.sleep(0.1 if mine else 0.02)
            if mine:
                await asyncio.to_thread(self.live.anvil.mine, 1)

    async def stopped(self) -> str:
        """Wait until the operator has stopped, and return the code."""
        end = time.monotonic() + PATIENCE_S
        while self.operator.stopped is None:
            assert time.monotonic() < end, "it works on"
            await asyncio.sleep(0.02)
        return str(self.operator.stopped.code)

    async def settled(self, name: str = "", mine: bool = False) -> None:
        """Wait until all is settled, and hold the operator against the chain."""
        await self.until(self.is_idle, name, mine=mine)
        check_settled(self.live, self.operator)


_replayed: dict[tuple[int, str], tuple[Page, State]] = {}
"""Batches replayed before, by root before and transaction."""


def read_chain(live: Any) -> tuple[State, Counter[tuple[int, int, int]], int]:
    """Replay the chain from its data alone: the state, what each action's rows moved, and requests served."""
    exchange, state, served = live.by("alice"), State(MINIMAL), 0
    moved: Counter[tuple[int, int, int]] = Counter()
    for event in batches_since(exchange, live.deployment.block, live.w3.eth.block_number):
        key = event.old_root, event.place.tx
        if key not in _replayed:
            page = read_batch(exchange, event, service.SIZE).page
            _replayed[key] = page, apply(state, page, size=service.SIZE).state
        assert (event.first_request, event.old_root) == (served, state.root)
        page, state = _replayed[key]
        served += len(page.requests)
        for row in page.actions:
            moved[(row.type, row.account, row.id)] += row.ex_base
    assert state.root == exchange.state_root()
    return state, moved, served


def check_settled(live: Any, operator: Operator) -> None:
    """Hold an idle operator against the chain: balances, every fill once, every request once."""
    state, moved, served = read_chain(live)
    engine = operator.engine
    assert not engine.settlement.log and not engine.settlement.in_flight
    assert operator.batcher.state.root == state.root
    for index, account in state.accounts.items():
        booked = {token: b.total for token, b in engine.get_balances(index).items() if b.total}
        assert booked == dict(account.positions), index
    filled = {(o.account, o.id): o.filled_base for o in operator.views.orders.values() if o.filled_base}
    assert filled == {key[1:]: base for key, base in moved.items() if key[0] == ActionType.ORDER}
    assert served == engine.registry.next_unconfirmed == engine.settlement.next_request


def make_impatient(operator: Operator) -> None:
    """Let it take transactions for lost after a moment."""
    operator.batcher._options = replaced(operator.batcher._options, replace_after_s=0.5, first_pause_s=0.01)


async def run_night(directory: Path, live: Any, work: Callable[[Night], Awaitable[Any]], **changes: Any) -> Any:
    """Start an operator as the service does, do some work, and close it."""
    operator = Operator(directory, replace(load_settings(directory), **changes))
    make_impatient(operator)
    transport = httpx.ASGITransport(create_app(operator))  # type: ignore[arg-type]
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
            await operator.start()
            night = Night(operator, client)
            night.live = live
            return await work(night)
    finally:
        await operator.close()


@pytest.fixture
def night(populated: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`run_night` on a loop of its own, on an exchange with accounts 1 and 2; settles at once, waits for nobody."""
    monkeypatch.setattr(service_module, "RPC_TIMEOUT_S", 1)
    directory = populated.directory(tmp_path / "operator", batch_interval_s=0.1, rpc_attempts=2)

    def run(work: Callable[[Night], Awaitable[Any]], **changes: Any) -> Any:
        return asyncio.run(run_night(directory, populated, work, **changes))

    run.directory = directory  # type: ignore[attr-defined]
    return run


@pytest.fixture
def run_beside() -> Any:
    """`run_night`, for a second operator on the same loop."""
    return run_night


@pytest.fixture
def proxy(live_exchange: Any) -> Iterator[Any]:
    made = faults.Proxy(live_exchange.anvil.url)
    yield made
    made.leave()


@pytest.fixture
def fault() -> Any:
    """The kinds of faults."""
    return faults


@pytest.fixture
def maker() -> Iterator[Any]:
    """Makes operators that are processes of their own."""
    made = lives.Maker()
    yield made
    made.close()


@pytest.fixture
def begin() -> Any:
    """The class `Life`."""
    return lives.Life


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try each kind of full disk that can be had here, under its own name; tell of one that can't."""
    if "disk_kind" in metafunc.fixturenames:
        kinds = ["files that can't grow"]
        with tempfile.TemporaryDirectory() as folder:
            if disks.can_mount(Path(folder)):
                kinds.insert(0, "a small disk")
            else:
                warnings.warn("nobody may mount anything here: a small disk is not tried", stacklevel=1)
        metafunc.parametrize("disk_kind", kinds)


@pytest.fixture
def disk(disk_kind: str, tmp_path: Path) -> Iterator[Any]:
    """A disk of a kind, which can be filled, and freed again."""
    if disk_kind == "a small disk":
        made = disks.SmallDisk(tmp_path, lives.Maker)
    else:
        made = disks.LimitedFiles(tmp_path, lives.Maker, lives.children)
    yield made
    made.maker.close()


@pytest.fixture
def check() -> Any:
    """`check_settled`."""
    return check_settled


@pytest.fixture(scope="session")
def report() -> Callable[[str, str | int], None]:
    """Return a function that adds an entry to one of the lists in build/test/trouble.json."""
    path = default_workspace().build / "test" / "trouble.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def put(kind: str, entry: str | int) -> None:
        with locked(path.with_suffix(".lock"), lambda: None):
            try:
                found = json.loads(path.read_bytes())
            except (OSError, ValueError):
                found = {}
            if found.get("run") != RUN:
                found = {"run": RUN, "crash_points": [], "faults": [], "reorg_depths": []}
            found[kind] = sorted({*found[kind], entry})
            path.write_text(json.dumps(found, indent=1) + "\n")

    return put


@pytest.fixture(scope="session")
def long() -> bool:
    return os.environ.get("PROOFBOOK_LONG") == "1"
