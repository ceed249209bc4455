"""The operator as a process: it starts, serves, settles by itself, and ends on a signal or without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from proofbook.protocol.table import ETH_TOKEN

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("live")]

COIN = 2
MAIN = "from proofbook.cli.main import main; main()"
RUN = "import pathlib, sys; from proofbook.operator.service import run; run(pathlib.Path(sys.argv[1]))"


class Process:
    """An operator's process, ended at the end of the test."""

    def __init__(self, directory, program=(RUN,), log=None):
        self.directory = directory
        self.process = subprocess.Popen([sys.executable, "-c", *program, str(directory)], stderr=log)
        until = time.monotonic() + 240
        url = directory / "operator.url"
        while not (url.exists() and url.read_text().endswith("\n")):
            assert self.process.poll() is None, "it ended"
            assert time.monotonic() < until, "it did not start"
            time.sleep(0.05)
        self.url = url.read_text().strip()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def end(self, with_signal):
        os.kill(self.process.pid, with_signal)
        self.process.wait(60)
        self.client.close()
        return self.process.returncode


@pytest.fixture
def start():
    """Starts operators."""
    made = []

    def begin(directory, *options):
        made.append(Process(directory, *options))
        return made[-1]

    yield begin
    for process in made:
        if process.process.poll() is None:
            process.end(signal.SIGKILL)


def wait_until_settled(process, **rows):
    """Wait until confirmed batches have so many rows in all, and return them."""
    until = time.monotonic() + 240
    while True:
        batches = process.client.get("/v1/batches").json()["batches"]
        confirmed = [b for b in batches if b["state"] == "confirmed"]
        if all(sum(b[kind] for b in confirmed) >= count for kind, count in rows.items()):
            return confirmed
        assert time.monotonic() < until, batches
        time.sleep(0.1)


def test_it_settles_by_itself_and_survives_kills(populated, tmp_path, start):
    live = populated
    directory = live.directory(tmp_path / "operator", batch_interval_s=0.1, clock="wall")
    first = start(directory)
    wait_until_settled(first, requests=4)
    # Proving goes on while orders are taken: the API answers meanwhile.
    body = live.order(1, "sell", 1000, 10, 1, valid_until=int(time.time()) + 3600)
    answer = first.client.post("/v1/orders", json=body)
    assert answer.status_code == 201, answer.text
    assert first.end(signal.SIGKILL) == -signal.SIGKILL

    (directory / "operator.url").unlink()
    second = start(directory)
    assert second.client.get("/v1/accounts/1").json()["open_orders"][0]["id"] == "1"
    body = live.order(2, "buy", 1000, 10, 1, valid_until=int(time.time()) + 3600)
    assert second.client.post("/v1/orders", json=body).json()["order"]["status"] == "filled"
    wait_until_settled(second, requests=5, trades=1)
    assert second.client.get("/v1/health").json()["status"] == "ok"
    assert second.end(signal.SIGTERM) == 0
    assert not (directory / "operator.url").exists()

    third = start(directory)
    batches = third.client.get("/v1/batches").json()["batches"]
    assert sum(b["requests"] for b in batches) == 5 and sum(b["trades"] for b in batches) == 1
    assert third.client.get("/v1/info").json()["root"] == f"0x{live.by('alice').state_root():064x}"
    assert third.end(signal.SIGINT) == 0
    assert live.by("alice").batch_number() == len(batches)


def test_a_key_that_cannot_pay_is_told_in_the_health_until_it_can(populated, tmp_path, start):
    live = populated
    payer = live.people["operator"].address
    held = live.w3.eth.get_balance(payer)
    process = start(live.directory(tmp_path / "operator", batch_interval_s=0.1, clock="wall", rpc_attempts=1))
    try:
        live.anvil.rpc("anvil_setBalance", payer, "0x1")
        until = time.monotonic() + 240
        while (health := process.client.get("/v1/health").json())["trouble"] != ["insufficient_funds"]:
            assert time.monotonic() < until and health["status"] == "ok", health
            time.sleep(0.1)
    finally:
        live.anvil.rpc("anvil_setBalance", payer, hex(held))
    wait_until_settled(process, requests=4)
    while process.client.get("/v1/health").json()["trouble"]:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_the_log_has_a_line_for_each_step_of_a_batch(live, tmp_path, start):
    """Also without `--verbose`: it is what says why something went wrong, and what libraries say is not in it."""
    directory = live.directory(tmp_path / "operator", batch_interval_s=0.1)
    path = tmp_path / "log"
    with path.open("wb") as log:
        process = start(directory, (MAIN, "operator", "run", "--dir"), log)
        wait_until_settled(process, requests=1)
        assert process.end(signal.SIGTERM) == 0
    lines = path.read_text().splitlines()
    steps = [line.rpartition(" batch 1: ")[2] for line in lines if " batch 1: " in line]
    names = ("sealed", "built", "witnessed", "proven", "signed", "sent", "mined", "confirmed")
    assert [name for step, name in zip(steps, names, strict=True) if not step.startswith(name)] == []
    assert all(" proofbook." in line for line in lines if " INFO " in line)


def get_children(pid):
    """The processes that a process started and that still run."""
    listed = [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return [child for child in listed if not has_ended(child)]


def has_ended(pid):
    """Tell whether a process is gone; one that nobody waited for is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")
    except FileNotFoundError:
        return True


def test_no_prover_outlives_an_operator_that_is_killed(populated, tmp_path, start):
    live = populated
    directory = live.directory(tmp_path / "operator", batch_interval_s=0.05, clock="wall", prover_workers=2)
    process = start(directory)
    until = time.monotonic() + 240
    # In the middle of their work: the second process of a worker calculates witnesses.
    while len(found := [c for w in get_children(process.process.pid) for c in (w, *get_children(w))]) < 4:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert process.end(signal.SIGKILL) == -signal.SIGKILL
    while not all(map(has_ended, found)):
        assert time.monotonic() < until
        time.sleep(0.01)
    (directory / "operator.url").unlink()
    again = start(directory)
    wait_until_settled(again, requests=5)
    assert again.end(signal.SIGTERM) == 0
    assert live.by("alice").batch_number() == 2


def test_the_answer_is_quick_while_a_proof_is_made(populated, tmp_path, start):
    live = populated
    process = start(live.directory(tmp_path / "operator", batch_interval_s=7_200.0, min_actions=240))
    assert process.client.post("/v1/batches?wait=false").status_code == 202
    slowest, answers = 0.0, 0
    while not any(b["state"] == "confirmed" for b in process.client.get("/v1/batches").json()["batches"]):
        began = time.monotonic()
        assert process.client.get("/v1/accounts/2").status_code == 200
        slowest, answers = max(slowest, time.monotonic() - began), answers + 1
        time.sleep(0.02)
    assert answers > 5 and slowest < 1.5
    balance = process.client.get("/v1/accounts/2").json()["balances"][0]
    assert (balance["token"], balance["total"]) == (ETH_TOKEN, "1000000")
