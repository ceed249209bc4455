"""How fast signed orders are taken: from HTTP to matched, journaled and acknowledged.

A real operator in a process of its own, on a local chain, at the mainnet preset; real signatures; real HTTP on the
loopback, with the sender on the same cores. The orders rest, so that no batch is proven meanwhile: matching and proving
have benchmarks of their own.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from proofbook.bench.measure import Json, anonymous_mib, percentile
from proofbook.chain.anvil import Anvil
from proofbook.client.http import ApiClient
from proofbook.client.keys import Trader
from proofbook.client.orders import to_body
from proofbook.operator.settings import JOURNAL, create_directory
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.messages import order
from proofbook.protocol.table import ETH_TOKEN, PRESETS, Side
from proofbook.prover.workspace import Progress
from proofbook.sim.operator_process import OperatorProcess
from proofbook.sim.stage import MARKETS, TOKENS, USD, Stage, build_keys, make_person

PRESET: Final = "mainnet"
PER_REQUEST: Final = 100
CONNECTIONS: Final = 4
_PRICE: Final = 25_000_000
_ETH, _DOLLAR = TOKENS[0], TOKENS[1]
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class AdmissionFailed(ProofbookError):
    """The operator did not take what it had to take."""

    code = "bench_admission"


@dataclass(frozen=True, slots=True)
class Signer:
    """One account's orders to make: sells above the market, or buys below it."""

    trader: Trader
    account: int
    side: Side
    count: int
    valid_until: int


def sign_orders(signer: Signer) -> list[bytes]:
    """Return a signer's orders as JSON objects."""
    market = MARKETS[0]
    bodies = []
    for id_ in range(1, signer.count + 1):
        price = _PRICE + (1000 + id_ if signer.side is Side.SELL else -1000 - id_)
        action = order(
            domain=signer.trader.domain,
            account=signer.account,
            id=id_,
            base=market.base,
            quote=market.quote,
            side=signer.side,
            base_amount=market.lot,
            quote_amount=price,
            max_fee_bps=100,
            valid_until=signer.valid_until,
        )
        bodies.append(msgspec.json.encode(to_body(signer.trader.sign(action))))
    return bodies


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Sender:
    """Sends requests over several connections, each waiting for one answer before the next request."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self.times_ms: list[float] = []
        self.accepted = 0
        self._lock = threading.Lock()

    def send(self, path: str, bodies: Sequence[bytes], connections: int) -> float:
        """Send all bodies and return the wall seconds."""
        threads = [threading.Thread(target=self._work, args=(path, bodies[i::connections])) for i in range(connections)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    def _work(self, path: str, bodies: Iterable[bytes]) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        for body in bodies:
            started = time.perf_counter()
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
            taken = (time.perf_counter() - started) * 1000
            accepted = self._count(json.loads(data)) if answer.status < 300 else 0
            with self._lock:
                self.times_ms.append(taken)
                self.accepted += accepted
        connection.close()

    @staticmethod
    def _count(answer: Any) -> int:
        results = answer.get("results")
        return sum(item.get("result") is not None for item in results) if results is not None else 1


class Bench:
    """A running operator, and orders to send to it."""

    def __init__(self, stack: ExitStack, folder: Path, accounts: int, each: int, progress: Progress) -> None:
        self._directory, self._sent = folder / "operator", 0
        operator, house = make_person("operator", 7), make_person("house", 7)
        keys = build_keys(progress, PRESET)
        self._stage = Stage(stack.enter_context(Anvil()), keys, operator, house, PRESET)
        settings = msgspec.structs.replace(
            self._stage.settings(), min_actions=240, batch_interval_s=86_400.0, max_pending=1_000_000
        )
        create_directory(self._directory, settings, bytes(operator.key.key))
        self.operator = stack.enter_context(OperatorProcess(self._directory, folder / "operator.log"))
        signers = self._open(accounts, each, progress)
        self._wait()
        progress("admission: signing", None)
        with ProcessPoolExecutor(2) as pool:
            made = list(pool.map(sign_orders, signers))
        # Account after account, an order each: as if all of them traded at once.
        self.orders = [body for bodies in zip(*made, strict=True) for body in bodies]

    def _open(self, accounts: int, each: int, progress: Progress) -> list[Signer]:
        now, signers = int(time.time()), []
        for k in range(accounts):
            progress("admission: opening accounts", k / accounts)
            person = make_person(f"trader {k}", 7)
            self._stage.fund([person])
            trader = self._stage.trader(person)
            account, _ = self._stage.exchange(person).open(*trader.public)
            side = Side(k % 2)
            token, whole = (_ETH, 100) if side is Side.SELL else (_DOLLAR, 100_000)
            self._stage.deposit(person, account, token, token.units(whole))
            signers.append(Signer(trader, account, side, each, now + 86_400))
        return signers

    def _wait(self) -> None:
        _, queued = self._stage.exchange().queue()
        api, until = ApiClient(self.operator.url), time.monotonic() + 120
        while int(api.health()["next_unconfirmed"]) < queued:
            if time.monotonic() > until:
                raise AdmissionFailed("the operator did not see the deposits")
            time.sleep(0.1)

    def measure(self, name: str, count: int, per_request: int, connections: int) -> Json:
        """Send the next so many orders and return what it took; `AdmissionFailed` unless all were accepted."""
        orders = self.orders[self._sent : self._sent + count]
        self._sent += count
        path = "/v1/orders" if per_request == 1 else "/v1/orders/batch"
        groups = [orders[at : at + per_request] for at in range(0, len(orders), per_request)]
        bodies = orders if per_request == 1 else [b'{"orders":[' + b",".join(group) + b"]}" for group in groups]
        sender, before = Sender(self.operator.url), _cpu_s(self.operator.pid)
        seconds = sender.send(path, bodies, connections)
        used = _cpu_s(self.operator.pid) - before
        if sender.accepted != len(orders):
            raise AdmissionFailed(f"{name}: {sender.accepted} of {len(orders)} orders were accepted")
        return {
            "name": name,
            "orders": len(orders),
            "orders_per_request": per_request,
            "connections": connections,
            "orders_per_s": len(orders) / seconds,
            "operator_cpu_us_per_order": used / len(orders) * 1e6,
            "request_p50_ms": percentile(sender.times_ms, 0.5),
            "request_p99_ms": percentile(sender.times_ms, 0.99),
        }

    def count_journaled(self) -> int:
        """Return how many orders the journal on the disk has."""
        database = sqlite3.connect(f"file:{self._directory / JOURNAL}?mode=ro", uri=True)
        try:
            start = b'["PlaceOrder"'
            query = "SELECT COUNT(*) FROM commands WHERE substr(body, 1, ?) = ?"
            row = database.execute(query, (len(start), start)).fetchone()
        finally:
            database.close()
        return int(row[0])


def run(folder: Path, orders: int, progress: Progress) -> Json:
    """Return the figures of ``admission.json``: single orders, and 100 a request.

    Raises
    ------
    AdmissionFailed
        If an order was refused, or one that was acknowledged is not in the journal.
    """
    slots = PRESETS[PRESET].slots
    accounts = -(-orders // (slots - 6))
    work = folder / "admission"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with ExitStack() as stack:
        bench = Bench(stack, work, accounts, -(-orders // accounts), progress)
        assert {ETH_TOKEN, USD} == {MARKETS[0].base, MARKETS[0].quote}
        tenth = max(orders // 10 // PER_REQUEST, 1) * PER_REQUEST
        rows = [
            bench.measure("one by one", tenth, 1, 1),
            bench.measure("one by one, several connections", tenth, 1, CONNECTIONS),
            bench.measure("100 a request", orders - 2 * tenth, PER_REQUEST, CONNECTIONS),
        ]
        memory, journaled = anonymous_mib(bench.operator.pid), bench.count_journaled()
    if journaled != orders:
        raise AdmissionFailed(f"{journaled} of {orders} acknowledged orders are in the journal")
    shutil.rmtree(work, ignore_errors=True)
    return {"rows": rows, "journaled_orders": journaled, "operator_anon_mib": memory}
