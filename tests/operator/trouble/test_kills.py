"""``kill -9`` at every step: of a batch's life, of a request's, of an order's; as a real process with real proofs."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from proofbook.protocol.table import ETH_TOKEN

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trouble")]

VICTIM = Path(__file__).resolve().parent / "victim.py"
REQUESTS = (
    "after requests stored",
    "before blocks noted",
    "before request journaled as seen",
    "after request journaled as seen",
    "before request journaled as confirmed",
    "after request journaled as confirmed",
)
ORDERS = ("before order journaled", "within the journal's transaction", "after order journaled")
STAGES = ("sealed", "built", "witnessed", "proven", "signed", "before transaction sent", "after transaction sent")
ENDS = ("sent", "mined", "confirmed", "settled")
POINTS = (*REQUESTS, *ORDERS, *STAGES, *ENDS)


def children(pid):
    """The processes that a process started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Maker:
    """Makes operators, see victim.py."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(VICTIM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.tell, self.told = self.process.stdin, self.process.stdout

    def make(self, directory, point):
        """Return the process's id."""
        self.tell.write(f"{directory}\t{point}\n".encode())
        return int(self.told.readline())

    def get_end(self):
        """Return how the operator ended, None while it lives."""
        return int(self.told.readline()) if select.select([self.told], [], [], 0)[0] else None


@pytest.fixture
def maker():
    made = Maker()
    yield made
    made.tell.close()
    made.process.terminate()
    made.process.wait()


class Life:
    """One life of the operator, and what its traders saw of it."""

    def __init__(self, maker, directory, point):
        (directory / "operator.url").unlink(missing_ok=True)
        self.directory, self.maker, self.code = directory, maker, None
        self.pid = maker.make(directory, point)
        self.workers = set()

    def is_over(self):
        self.workers |= set(children(self.pid))
        self.code = self.maker.get_end() if self.code is None else self.code
        return self.code is not None

    def wait_for(self, condition, what):
        until = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < until, what
            time.sleep(0.02)

    def order(self, body):
        """Return whether an order was acknowledged, None when nobody knows."""
        url = self.directory / "operator.url"
        self.wait_for(lambda: self.is_over() or url.exists(), "it did not start")
        try:
            answer = httpx.post(f"{url.read_text().strip()}/v1/orders", json=body, timeout=30)
        except (OSError, httpx.HTTPError):
            return None
        assert answer.status_code == 201 or answer.json()["error"]["code"] in ("replayed", "slot_taken"), answer.text
        return True

    def die(self):
        self.wait_for(self.is_over, "it lived on")
        assert self.code == -signal.SIGKILL
        self.wait_for(lambda: not any(map(is_running, self.workers)), "a prover outlived its operator")

    def end(self):
        if not self.is_over():
            os.kill(self.pid, signal.SIGKILL)


def test_an_operator_killed_at_every_step_loses_nothing_and_does_nothing_twice(
    populated, session, check, tmp_path, report, maker
):
    live, workers = populated, 0
    unsure: list = []
    bodies: list = []
    directory = live.directory(tmp_path / "operator", batch_interval_s=0.1)
    for k, point in enumerate(POINTS, 1):
        if point in REQUESTS:
            live.deposit("bob", 2, ETH_TOKEN, 1)
        life = Life(maker, directory, point)
        try:
            if point not in REQUESTS:
                pair = [live.order(1, "sell", 1000, 10, k), live.order(2, "buy", 1000, 10, k)]
                bodies += pair
                # What nobody knows of is sent again: the same signed bytes, which count once.
                unsure = [body for body in (*unsure, *pair) if life.order(body) is None]
            life.die()
            workers += len(life.workers)
        except BaseException:
            print("at", point)
            raise
        finally:
            life.end()
        report("crash_points", point)
    assert workers

    async def finish(s):
        for body in unsure:
            await s.post("/v1/orders", body)
        await s.operator.flush()
        for body in bodies:
            order = await s.get(f"/v1/orders/{body['account']}/{body['id']}")
            assert (order["status"], order["filled_base"]) == ("filled", "100")
        check(live, s.operator)
        return s.operator.engine.get_balance(2, ETH_TOKEN).total

    traded = len(bodies) // 2
    # Each trade costs bob 10,000 and 25 bps; every deposit arrived once.
    assert session(directory, finish) == 1_000_000 + len(REQUESTS) - traded * 10_025
    assert session(directory, finish) == 1_000_000 + len(REQUESTS) - traded * 10_025
    assert os.listdir(directory / "work") == []
