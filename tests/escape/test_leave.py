"""The whole way out by one command that is killed and started again wherever it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from proofbook.chain.errors import ContractRevert
from proofbook.escape import cli
from proofbook.escape.errors import NotNow
from proofbook.escape.leave import leave
from proofbook.escape.owned import Step
from proofbook.escape.session import Escape
from proofbook.verifier.errors import RpcUnavailable
from proofbook.verifier.rpc import Rpc

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2
KILLS = 60 if os.environ.get("PROOFBOOK_LONG") == "1" else 4


@pytest.fixture
def words(settled, tmp_path, stored):
    def made(who, *more):
        (tmp_path / "key").write_text(settled.people[who].key.hex())
        common = ["--rpc", settled.anvil.url, "--contract", settled.address, "--key-file", str(tmp_path / "key")]
        return ["run", *common, "--artifacts", str(stored), "--cache", str(tmp_path / "cache"), "--json", *more]

    return made


@contextmanager
def running(words):
    command = [sys.executable, "-m", "proofbook.escape.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def killed_after_a_line(words):
    """Run until it prints a line or waits, then kill it; returns the line, or "waiting"."""
    with running(words) as process:
        for line in process.stderr:
            if line.startswith("waiting: "):
                process.send_signal(signal.SIGKILL)
                return "waiting"
            if line.startswith("step: "):
                break
        line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        return json.loads(line)


def test_killed_after_every_step_it_takes_each_of_them_once(settled, words, let_pass):
    bob = settled.people["bob"]
    before = settled.w3.eth.get_transaction_count(bob.address)
    options = words("bob", "--wait", "--poll", "0.2")
    seen = [killed_after_a_line(options)]
    assert seen[0]["step"] == "claim" and seen[0]["token"] == ETH
    assert killed_after_a_line(options) == "waiting" == killed_after_a_line(options)
    let_pass()
    while seen[-1]["step"] != "claim" or seen[-1].get("token") != USD:
        seen.append(killed_after_a_line(options))
    assert [step["step"] for step in seen] == ["claim", "freeze", "exit", "reclaim", "claim", "claim"]
    done = subprocess.run([sys.executable, "-m", "proofbook.escape.cli", *options], capture_output=True, check=True)
    assert json.loads(done.stdout) == {"steps": [], "next": {"step": "done"}}
    assert settled.w3.eth.get_transaction_count(bob.address) == before + len(seen)
    assert settled.token.functions.balanceOf(bob.address).call() == 4969 * 1000


def test_killed_at_any_time_it_ends_with_all_the_money(settled, words, let_pass):
    """Killed after longer and longer times, wherever it is then; half of them after the deadline."""
    options = words("alice", "--wait", "--poll", "0.2")
    for run in range(KILLS):
        if run == KILLS // 2:
            let_pass()
        with running(options):
            time.sleep(1.0 + 6.0 * (run % (KILLS // 2)) / KILLS)
    assert subprocess.run([sys.executable, "-m", "proofbook.escape.cli", *options], check=True).returncode == 0
    assert settled.token.functions.balanceOf(settled.people["alice"].address).call() == (100 + 30) * 1000
    assert Escape(settled.anvil.url, settled.address, settled.people["alice"]).owned().claims == {}


def test_one_command_waits_for_the_deadline_and_ends_with_the_money(settled, words, let_pass):
    """Every step is a line when it is done, and the last line is the answer."""
    with running(words("alice", "--wait", "--poll", "0.2")) as process:
        lines = []
        for line in process.stderr:
            if line.startswith("waiting: "):
                let_pass()
                break
        told = process.communicate(timeout=200)[0]
        lines = [json.loads(line) for line in told.splitlines()]
        assert process.returncode == 0
    assert [line["step"] for line in lines[:3]] == ["request", "request", "freeze"]
    assert lines[-1] == {"steps": lines[:-1], "next": {"step": "done"}}
    assert settled.token.functions.balanceOf(settled.people["alice"].address).call() == (100 + 30) * 1000


def test_killed_while_its_transaction_is_on_its_way_it_sends_no_second_one(settled, words):
    """No block is made when it sends; the next run waits for what the first one sent."""
    alice = settled.people["alice"].address
    counts = [settled.w3.eth.get_transaction_count(alice, tag) for tag in ("latest", "pending")]
    assert counts[0] == counts[1]
    settled.anvil.rpc("evm_setAutomine", False)
    try:
        with running(words("alice")) as process:
            while settled.w3.eth.get_transaction_count(alice, "pending") == counts[0]:
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        with running(words("alice")) as process:
            for line in process.stderr:
                if "still on its way" in line:
                    break
            settled.anvil.rpc("evm_setAutomine", True)
            settled.anvil.mine()
            told = json.loads(process.communicate(timeout=100)[0])
    finally:
        settled.anvil.rpc("evm_setAutomine", True)
    # One of two requests was the first run's.
    assert [step["token"] for step in told["steps"]] == [USD] and told["next"]["step"] == "wait"
    assert [q.request.token for q in settled.queue()[2:]] == [ETH, USD]


def test_a_transaction_that_is_never_mined_is_said_to_be(settled, monkeypatch, stored):
    monkeypatch.setattr("proofbook.escape.session.PENDING_SECONDS", 1)
    settled.anvil.rpc("evm_setAutomine", False)
    try:
        settled.w3.eth.send_raw_transaction(
            settled.people["alice"]
            .sign_transaction(
                {
                    "to": settled.operator,
                    "value": 1,
                    "gas": 21000,
                    "gasPrice": 10**10,
                    "nonce": settled.w3.eth.get_transaction_count(settled.people["alice"].address),
                    "chainId": settled.chain_id,
                }
            )
            .raw_transaction
        )
        with pytest.raises(NotNow, match="not mined"):
            Escape(settled.anvil.url, settled.address, settled.people["alice"], stored).run()
    finally:
        settled.anvil.rpc("evm_setAutomine", True)


def test_served_in_time_it_ends_without_a_freeze(settled, words, monkeypatch):
    """The operator is alive after all: what was asked for is a claim, and paid out."""
    for name in ("state", "number"):
        monkeypatch.setattr(settled, name, getattr(settled, name))
    bob = settled.people["bob"]
    told: list[str] = []

    def pause(seconds):
        if settled.number == 4:
            settled.settle()

    done, rest = leave(Escape(settled.anvil.url, settled.address, bob), poll=0.1, progress=told.append, pause=pause)
    assert rest == Step("done") and [d.step for d in done] == [Step("claim", token=ETH), Step("claim", token=USD)]
    assert not settled.by("bob").is_frozen() and any(line.startswith("waiting") for line in told)


def test_a_node_that_goes_away_is_waited_for(settled, proxy, stored, let_pass, monkeypatch):
    monkeypatch.setattr("proofbook.verifier.rpc.MAX_TRIES", 1)
    let_pass()
    proxy.mood = lambda n, method: "broken" if n % 80 == 0 else None
    told: list[str] = []
    escape = Escape(Rpc(proxy.url), settled.address, settled.people["bob"], stored)
    _, rest = leave(escape, poll=0.1, progress=told.append, pause=lambda s: None)
    assert rest == Step("done") and sum("trying again" in line for line in told) >= 2
    assert settled.token.functions.balanceOf(settled.people["bob"].address).call() == 4969 * 1000
    proxy.mood = lambda n, method: "broken"
    with pytest.raises(RpcUnavailable):
        escape.refresh()


def test_what_no_patience_mends_is_raised(settled, let_pass, stored):
    let_pass()
    bob = settled.people["bob"]
    settled.anvil.rpc("anvil_setBalance", bob.address, "0x1")
    with pytest.raises(Exception, match="insufficient funds|Insufficient funds"):
        leave(Escape(settled.anvil.url, settled.address, bob, stored), pause=lambda s: None)
    with pytest.raises(ContractRevert):
        Escape(settled.anvil.url, settled.address, settled.people["alice"]).request(2, ETH)


def test_the_command_of_several_nodes(settled, words, capsys):
    assert cli.main([*words("alice"), "--rpc", "http://127.0.0.1:9", "--no-cache"]) == 0
    assert json.loads(capsys.readouterr().out)["next"]["step"] == "wait"
