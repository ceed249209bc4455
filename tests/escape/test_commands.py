"""Each step and option as a command of its own, of both programs, and what the chain says afterwards."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from typer.testing import CliRunner
from web3.exceptions import TransactionNotFound

from proofbook.chain.anvil import Anvil
from proofbook.chain.fees import GWEI
from proofbook.cli.main import app
from proofbook.cli.session import WalletFile, save_wallet
from proofbook.escape import cli
from proofbook.escape.watching import Watch
from proofbook.protocol.table import RequestKind

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2
FEE = 1_000
PROGRAMS = ("proofbook-escape", "proofbook escape")


class Trader:
    """Somebody at a terminal: with a key file, and a wallet for `proofbook`."""

    def __init__(self, program, exchange, who, folder, artifacts, capsys):
        self.program, self.exchange, self.capsys = program, exchange, capsys
        self.account = exchange.people[who]
        self.key, self.wallet = folder / f"{who}.key", folder / who
        self.key.write_text(self.account.key.hex())
        self.key.chmod(0o600)
        self.artifacts, self.cache = artifacts, folder / "cache"
        self.save_wallet()

    def save_wallet(self, first_block=0):
        place = {"rpc": self.exchange.anvil.url, "contract": self.exchange.address, "first_block": first_block}
        save_wallet(self.wallet, WalletFile(key_file=str(self.key), **place))
        if not (self.wallet / "exit").exists():
            (self.wallet / "exit").symlink_to(self.artifacts)

    def run(self, *words):
        """Return the exit code and what was printed; addresses and key are given by options or the wallet."""
        if self.program == "proofbook-escape":
            place = ["--rpc", self.exchange.anvil.url, "--contract", self.exchange.address]
            place += ["--key-file", str(self.key), "--cache", str(self.cache)]
            if "--artifacts" not in words:
                place += ["--artifacts", str(self.artifacts)]
            try:
                code: Any = cli.main([words[0], *place, *words[1:]])
            except SystemExit as wrong_usage:
                code = wrong_usage.code
            out, err = self.capsys.readouterr()
            return code, out, err
        group = () if words[0] == "watch" else ("escape",)
        done = CliRunner().invoke(app, [*group, *words, "--wallet", str(self.wallet)])
        return done.exit_code, done.stdout, done.stderr

    def take(self, as_json, step, *words):
        """Take a step; returns what was told of it, after its transaction was looked up."""
        code, out, err = self.run(step, *words, *(["--json"] if as_json else []))
        assert code == 0, err
        assert self.account.key.hex().removeprefix("0x") not in out + err
        told = json.loads(out) if as_json else dict(line.split(": ", 1) for line in out.splitlines())
        receipt = self.exchange.w3.eth.get_transaction_receipt(told.pop("tx"))
        assert (receipt["status"], receipt["from"]) == (1, self.account.address)
        assert receipt["to"] == self.exchange.address
        return {name: value if name == "step" else int(value) for name, value in told.items()}


@pytest.fixture
def trader(settled, tmp_path, stored, capsys, monkeypatch):
    for name in ("PROOFBOOK_KEY", "PROOFBOOK_RPC", "PROOFBOOK_CONTRACT", "PROOFBOOK_WALLET"):
        monkeypatch.delenv(name, raising=False)
    return lambda program, who, exchange=settled: Trader(program, exchange, who, tmp_path, stored, capsys)


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_step_is_a_command_that_does_what_it_says(settled, trader, let_pass, program, as_json):
    """Alice asks; after the freeze she leaves by her own hand, or bob takes every step for her."""
    exchange, alice = settled.by("alice"), settled.people["alice"].address
    bob = settled.people["bob"].address

    def claims(who):
        return exchange.claim_of(who, ETH), exchange.claim_of(who, USD)

    asking = trader(program, "alice")
    told = asking.take(as_json, "request", "--account", "1", "--token", "2")
    assert told == {"step": "request", "account": 1, "token": 2}
    *before, asked = settled.queue()
    assert [q.id for q in before] == [6, 7] and asked.id == 8
    request = asked.request
    assert (request.kind, request.account, request.token) == (RequestKind.EXIT, 1, USD)

    helper = asking if as_json else trader(program, "bob")
    let_pass()
    assert not exchange.is_frozen()
    assert helper.take(as_json, "freeze") == {"step": "freeze", "request": 6}
    assert exchange.is_frozen() and claims(alice) == (0, 0) and claims(bob) == (10, 0)

    assert helper.take(as_json, "exit", "--account", "1") == {"step": "exit", "account": 1}
    assert [exchange.account(index).exited for index in range(3)] == [False, True, False]
    assert claims(alice) == (890, 30) and claims(bob) == (10, 0)

    assert helper.take(as_json, "reclaim", "--id", "6") == {"step": "reclaim", "request": 6}
    assert claims(alice) == (890 + FEE, 30 + 55)
    assert helper.take(as_json, "reclaim", "--id", "8") == {"step": "reclaim", "request": 8}
    assert claims(alice) == (890 + 2 * FEE, 30 + 55) and claims(bob) == (10, 0)

    whose = [] if as_json else ["--owner", alice]
    ether = settled.w3.eth.get_balance(alice)
    assert helper.take(as_json, "claim", "--token", "2", *whose) == {"step": "claim", "token": 2}
    assert claims(alice) == (890 + 2 * FEE, 0) and claims(bob) == (10, 0)
    dollars = [settled.token.functions.balanceOf(who).call() for who in (alice, bob)]
    assert dollars == [(100 + 30) * 1000, 0]
    assert helper.take(as_json, "claim", "--token", "1", *whose) == {"step": "claim", "token": 1}
    assert claims(alice) == (0, 0) and claims(bob) == (10, 0)
    gained = settled.w3.eth.get_balance(alice) - ether
    # Whoever sends pays the gas.
    assert gained == (890 + 2 * FEE) * GWEI if not as_json else 0 <= (890 + 2 * FEE) * GWEI - gained < 10**16


@pytest.mark.parametrize("program", PROGRAMS)
def test_exit_files_may_lie_anywhere(settled, trader, let_pass, program, tmp_path, stored):
    let_pass()
    bob = trader(program, "bob")
    bob.take(True, "freeze")
    code, out, _ = bob.run("exit", "--account", "2", "--artifacts", str(tmp_path / "nothing"), "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "exit_artifacts_missing")
    (bob.wallet / "exit").unlink()
    assert bob.take(True, "exit", "--account", "2", "--artifacts", str(stored)) == {"step": "exit", "account": 2}
    assert settled.by("bob").account(2).exited


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    "words",
    [
        "request --account 16777216 --token 1",
        "request --account 1 --token 0",
        "request --account 1 --token 65536",
        "request --account 1",
        "exit --account -1",
        "exit --account 1 --owner 0x" + "22" * 20,
        "request --account 1 --token 1 --owner 0x" + "22" * 20,
        "freeze --owner 0x" + "22" * 20,
        "reclaim --id one",
        "reclaim --id 9223372036854775808",
        "claim --token 1e3",
        "watch --once --confirm 0",
        "watch --once --confirm 1001",
    ],
)
def test_what_can_not_be_meant_is_wrong_usage(settled, trader, program, words):
    before = settled.w3.eth.block_number
    code, out, err = trader(program, "alice").run(*words.split())
    assert code == 2 and out == "" and "Traceback" not in err and err
    assert settled.w3.eth.block_number == before


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_step_that_the_contract_refuses_is_said_by_name(settled, trader, program):
    alice = trader(program, "alice")
    for words, code in (
        ("request --account 2 --token 1", "contract_revert"),
        ("request --account 1 --token 3", "contract_revert"),
        ("claim --token 1", "contract_revert"),
        ("freeze", "not_now"),
        ("exit --account 1", "not_now"),
        ("reclaim --id 6", "not_now"),
    ):
        done, out, err = alice.run(*words.split(), "--json")
        assert (done, json.loads(out)["error"]["code"]) == (1, code), words
        assert err and "Traceback" not in err
    assert [q.id for q in settled.queue()] == [6, 7]


@pytest.mark.parametrize("program", PROGRAMS)
def test_status_tells_the_numbers_that_the_steps_take(settled, trader, program):
    code, out, _ = trader(program, "alice").run("status")
    assert code == 0 and "tokens: ETH 1, USD 2" in out.splitlines()
    assert "  index 1, exited False, balances ETH 890000000000, USD 30000" in out.splitlines()
    assert any(line.startswith("  id 6, kind deposit, account 1") for line in out.splitlines())
    assert "next: step request, account 1, token 1" in out.splitlines()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("same", [False, True])
def test_a_step_sees_through_what_an_earlier_one_left_waiting(settled, trader, program, same, monkeypatch):
    """Whatever comes behind one that is never mined waits for ever: so that one is outbid first.

    Where it was the same step, that was it: a second request would be paid for too.
    """
    monkeypatch.setattr("proofbook.escape.session.OUTBID_SECONDS", 0.5)
    monkeypatch.setattr("proofbook.escape.session.SEND_SECONDS", 0.2)
    bob, chain = trader(program, "bob"), settled.anvil
    before = settled.w3.eth.get_transaction_count(bob.account.address)
    ended = threading.Event()

    def waiting():
        return [tx["hash"] for txs in chain.rpc("txpool_content")["pending"].values() for tx in txs.values()]

    def mine(first):
        while not ended.wait(0.2):
            if waiting() != first:
                chain.mine(1)

    chain.rpc("evm_setAutomine", False)
    try:
        code, out, _ = bob.run("request", "--account", "2", "--token", "1", "--json")
        assert (code, json.loads(out)["error"]["code"]) == (1, "transaction_failed")
        first = waiting()
        assert len(first) == 1
        monkeypatch.setattr("proofbook.escape.session.SEND_SECONDS", 60)
        miner = threading.Thread(target=mine, args=[first])
        miner.start()
        words = ["request", "--account", "2"] if same else ["claim"]
        taken = {"step": words[0], "token": 1, **({"account": 2} if same else {})}
        assert bob.take(True, *words, "--token", "1") == taken
    finally:
        ended.set()
        chain.rpc("evm_setAutomine", True)
    miner.join()
    assert [q.request.token for q in settled.queue()[2:]] == [ETH]
    assert settled.w3.eth.get_transaction_count(bob.account.address) == before + (1 if same else 2)
    with pytest.raises(TransactionNotFound):
        settled.w3.eth.get_transaction_receipt(first[0])


@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_before_the_first_block_is_read(settled, trader, program, proxy, monkeypatch):
    monkeypatch.setattr(settled.anvil, "url", proxy.url)
    deployed = settled.deployment.block
    assert deployed > 0

    def first_read(block):
        bob, words = trader(program, "bob"), ["status", "--json"]
        if program == "proofbook-escape":
            words += ["--first-block", str(block), "--no-cache"]
        else:
            bob.save_wallet(block)
        proxy.asked.clear()
        code, out, _ = bob.run(*words)
        read = [int(query[0]["fromBlock"], 16) for method, query in proxy.asked if method == "eth_getLogs"]
        return code, json.loads(out), min(read)

    code, told, read = first_read(deployed)
    assert (code, read) == (0, deployed) and told["accounts"][0]["balances"] == {"USD": "4969000"}
    if program == "proofbook-escape":
        assert first_read(0)[::2] == (0, 0)
        # Later than the deployment, something is missing, and that is said.
        code, told, _ = first_read(settled.w3.eth.block_number)
        assert (code, told["error"]["code"]) == (1, "history_broken")


# --- options of the watch


@pytest.fixture
def look(trader, settled):
    """Look once; returns the exit code, and severities by code."""

    def made(program, *words, exchange=settled, who="alice"):
        common = ["--once", "--json", "--no-build", "--proofs-from", "99"]
        code, out, err = trader(program, who, exchange).run("watch", *common, *words)
        assert "Traceback" not in err
        return code, {row["code"]: row["severity"] for row in json.loads(out)["alerts"]}

    return made


@pytest.mark.parametrize("program", PROGRAMS)
def test_quiet_and_gone_are_thresholds(settled, look, program):
    settled.anvil.increase_time(100)
    assert look(program) == (0, {})
    assert look(program, "--quiet", "50") == (3, {"operator_quiet": "warning"})
    assert look(program, "--quiet", "50", "--gone", "90") == (4, {"operator_gone": "critical"})
    assert look(program, "--quiet", "5000") == (0, {})


@pytest.fixture(scope="module")
def young(settled_exchange):
    """An exchange in which nothing has happened, on a chain of its own that keeps to the clock of this machine."""
    with Anvil() as anvil:
        yield type(settled_exchange)(anvil)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_chain_that_stands_still(young, look, program):
    young.anvil.mine()
    assert look(program, "--stale", "600", exchange=young) == (0, {})
    until = young.w3.eth.get_block("latest")["timestamp"] + 2
    while time.time() < until:
        time.sleep(0.1)
    assert look(program, "--stale", "1", exchange=young) == (3, {"chain_stale": "warning"})
    young.anvil.mine()
    assert look(program, "--stale", "60", exchange=young) == (0, {})


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_node_may_fail_for_so_long(young, look, program, monkeypatch):
    monkeypatch.setattr("proofbook.verifier.rpc.MAX_TRIES", 1)
    assert look(program, exchange=young) == (0, {})
    monkeypatch.setattr(young.anvil, "url", "http://127.0.0.1:9")
    assert look(program, exchange=young) == (3, {"node_unreachable": "warning"})
    time.sleep(1.1)
    assert look(program, "--grace", "0", exchange=young) == (4, {"node_unreachable": "critical"})


@pytest.mark.parametrize(("program", "looks"), [(PROGRAMS[0], 1), (PROGRAMS[1], 3)])
def test_so_many_looks_must_say_so_before_it_leaves(settled, trader, let_pass, monkeypatch, program, looks):
    looked: list[bool] = []
    see = Watch.look

    def look(self):
        looked.append(settled.by("bob").is_frozen())
        return see(self)

    monkeypatch.setattr(Watch, "look", look)
    let_pass()
    bob = trader(program, "bob")
    options = ["--escape", "--confirm", str(looks), "--interval", "0.05", "--no-build", "--proofs-from", "99"]
    code, out, _ = bob.run("watch", *options, "--json")
    assert code == 5 and looked == [False] * looks
    assert [json.loads(line)["code"] for line in out.splitlines()][-1] == "escaped"
    assert settled.token.functions.balanceOf(bob.account.address).call() == 4969 * 1000
