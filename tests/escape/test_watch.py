"""Every alert, provoked on a real chain; told by exit code, lines and webhook; and the escape that begins by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest

from proofbook.chain.deploy import deploy_contract
from proofbook.escape import cli
from proofbook.escape.errors import WebhookRefused
from proofbook.escape.session import Escape
from proofbook.escape.watch import Alert, Limits, Memory, Severity, Sight, judge, worst
from proofbook.escape.watching import WatchOptions
from proofbook.escape.webhook import MAX_BODY, Webhook

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2


def later(settled, seconds):
    settled.anvil.increase_time(seconds)


def test_an_honest_exchange_is_no_reason_for_an_alert(eye, stored):
    """All proofs checked, the contract's code compared."""
    watch = eye(artifacts=stored, proofs_from=0, build=True)
    assert watch.look() == {} and watch.rows == []
    assert sum("checking the proof" in line for line in watch.said) == 4
    assert watch.watch.memory.bad_proofs == {} and watch.watch.memory.own_keys.keys() == {1}


def test_the_vault_without_its_money(settled, eye, tamper):
    watch = eye()
    assert watch.look() == {}
    settled.anvil.rpc("anvil_setBalance", settled.address, "0x1")
    assert watch.look() == {"insolvent": "critical"}
    tamper.dollars()  # these too
    watch.look()
    assert [(row["about"], row["state"]) for row in watch.rows] == [("ETH", "raised"), ("USD", "raised")]
    assert "5054000" in watch.rows[1]["text"] and "5055000" in watch.rows[1]["text"]
    settled.anvil.rpc("anvil_setBalance", settled.address, hex(10**20))
    watch.look()
    assert watch.told()[2:] == [("cleared", "insolvent")]


def test_a_token_that_does_not_say_what_it_has(settled, eye):
    watch = eye()
    settled.anvil.rpc("anvil_setCode", settled.token.address, "0xfe")
    assert watch.look() == {"token_silent": "warning"}


def test_an_operator_that_falls_silent_and_deadlines_that_come_and_pass(settled, eye):
    watch = eye()
    assert watch.look() == {}
    later(settled, 1000)
    assert watch.look() == {"operator_quiet": "warning"}
    later(settled, 900)
    assert watch.look() == {"operator_gone": "critical"}
    later(settled, 900)
    assert watch.look() == {"operator_gone": "critical", "deadline_near": "warning"}
    later(settled, 900)
    assert watch.look() == {"operator_gone": "critical", "deadline_passed": "critical"}
    # Alice's request is the oldest: it is told of once. Bob's is behind it.
    assert [row["about"] for row in watch.rows if row["code"] == "deadline_passed"] == ["6"]
    assert "(yours)" in next(row["text"] for row in watch.rows if row["code"] == "deadline_passed")
    mine = eye("bob")
    assert {alert.about for alert in mine.watch.look() if alert.code == "deadline_passed"} == {"6", "7"}


def test_thresholds_are_options(settled, eye):
    later(settled, 100)
    watch = eye(limits=Limits(quiet=10, gone=50, deadline=10**6))
    assert watch.look() == {"operator_gone": "critical", "deadline_near": "warning"}
    watch = eye(limits=Limits(quiet=10, gone=5000, deadline=0))
    assert watch.look() == {"operator_quiet": "warning"}


def test_a_frozen_exchange_and_everything_that_was_mine(settled, eye, let_pass, stored):
    watch = eye("bob")
    watch.look()
    let_pass()
    bob = Escape(settled.anvil.url, settled.address, settled.people["bob"], stored)
    bob.freeze()
    assert watch.look() == {"frozen": "critical", "claimable": "info", "forced_exit_requested": "warning"}
    bob.exit(2)
    watch.look()
    assert ("event", "exited") in watch.told()
    bob.run()
    assert watch.look() == {"frozen": "critical"}


def test_a_root_that_the_data_do_not_lead_to(settled, eye, tamper):
    watch = eye()
    watch.look()
    tamper.root()
    assert watch.look() == {"root": "critical"}
    assert watch.look() == {"root": "critical"} and watch.told() == [("raised", "root")]


def test_books_that_say_something_else(settled, eye, tamper):
    watch = eye()
    watch.look()
    tamper.books()
    assert watch.look() == {"books": "critical", "insolvent": "critical"}


def test_a_proof_that_proves_nothing(settled, eye, tamper):
    tamper.take_any_proof()
    watch = eye(proofs_from=5)
    assert watch.look() == {}
    tamper.commit(0)
    assert watch.look() == {"proof": "critical"} and watch.rows[-1]["about"] == "5"
    # It stays wrong, also for a watch that begins anew and goes on from the checkpoint.
    again = eye(proofs_from=5)
    assert again.look() == {"proof": "critical"}


def test_a_false_batch_accepted_by_the_contract(settled, eye, tamper):
    tamper.take_any_proof()
    watch = eye(proofs_from=5)
    watch.look()
    tamper.commit(1)
    assert watch.look() == {"proof": "critical", "root": "critical"}
    assert {row["about"] for row in watch.rows if row["code"] == "root"} >= {"batch_transition", "root"}


def test_proofs_that_no_run_checked_are_checked_by_the_next(settled, eye, tamper):
    """Whatever checkpoints say: of a run that began later, of another's watch, or without its memory."""
    tamper.take_any_proof()
    assert eye(proofs_from=6).look() == {}
    tamper.commit(0)
    late = eye(proofs_from=6)
    assert late.look() == {}
    assert eye("fee_owner", proofs_from=5).look()["proof"] == "critical"
    first = eye(proofs_from=5)
    assert first.look() == {"proof": "critical"}
    next(first.watch._file.parent.glob("*.json")).unlink()
    assert eye(proofs_from=5).look() == {"proof": "critical"}


def test_an_exit_that_took_something_else(settled, eye, let_pass, tamper):
    """Bob leaves with one dollar in place of all he has, by a contract that takes any proof."""
    tamper.take_any_proof()
    watch = eye()
    watch.look()
    let_pass()
    bob = Escape(settled.anvil.url, settled.address, settled.people["bob"])
    bob.freeze()
    exit_ = settled.by("bob").contract.functions.exit(
        2, settled.people["bob"].address, USD << 224, [0, 0, 0, 0, 1 << 128], [0] * 8
    )
    settled.w3.eth.wait_for_transaction_receipt(exit_.transact({"from": settled.operator}))
    found = watch.look()
    assert {found[code] for code in ("exit_wrong", "books", "frozen")} == {"critical"}


def test_a_batch_whose_data_a_node_does_not_have(settled, eye, proxy):
    watch = eye(url=proxy.url, cache=False)
    assert watch.look() == {}
    proxy.lie = lambda method, result: None if method == "eth_getTransactionByHash" else result
    found = eye(url=proxy.url, cache=False).look()
    assert found["data"] == found["root"] == "critical"


def test_other_code_and_other_keys_than_before(settled, eye, tamper):
    first = eye(build=True)
    assert first.look() == {}
    tamper.code(settled.address)
    assert first.look() == {"code_changed": "critical", "code_unknown": "warning"}
    # The watch remembers across runs; a memory that is damaged is as good as none.
    assert eye().look() == {"code_changed": "critical"}
    path = next(first.watch._file.parent.glob("*.json"))
    path.write_text(path.read_text()[:-5])
    again = eye()
    assert again.look() == {} and any("is damaged" in line for line in again.said)
    tamper.code(settled.by("alice").contract.functions.exitKey().call())
    assert again.look() == {"keys_changed": "critical"}


def test_what_happens_to_ones_own_accounts(settled, eye, monkeypatch):
    for name in ("state", "number"):  # what its operator knows is put back with the chain
        monkeypatch.setattr(settled, name, getattr(settled, name))
    watch = eye("bob")
    assert watch.look() == {"claimable": "info", "forced_exit_requested": "warning"}
    settled.by("bob").change_key(2, 123, 456)
    assert watch.look() == {"claimable": "info", "forced_exit_requested": "warning", "key_change_requested": "warning"}
    settled.settle()
    found = watch.look()
    assert found == {"key_changed": "critical", "balance_changed": "info", "claimable": "info"}
    assert "4969000 USD became nothing" in next(r["text"] for r in watch.rows if r["code"] == "balance_changed")
    assert watch.look() == {"claimable": "info"}
    cleared = {code for state, code in watch.told() if state == "cleared"}
    assert cleared == {"forced_exit_requested", "key_change_requested"}


def test_what_would_hold_up_the_way_out(settled, eye, tmp_path, stored):
    watch = eye(artifacts=tmp_path)
    assert watch.look() == {"artifacts": "warning"}
    for path in stored.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert watch.look() == {}
    settled.anvil.rpc("anvil_setBalance", settled.people["alice"].address, "0x1")
    assert watch.look() == {"gas_low": "warning"}


def test_a_node_that_is_gone_or_stands_still(settled, eye, proxy, monkeypatch):
    monkeypatch.setattr("proofbook.verifier.rpc.MAX_TRIES", 1)
    watch = eye(url=proxy.url)
    assert watch.look() == {}
    settled.anvil.rpc("anvil_setBalance", settled.address, "0x1")
    watch.look()
    proxy.mood = lambda n, method: "broken"
    assert watch.look() == {"node_unreachable": "warning"}
    watch.watch.options = WatchOptions(limits=Limits(grace=0, stale=0))
    watch.watch.memory = Memory(seen_at=1)
    assert watch.look() == {"node_unreachable": "critical"}
    # What can't be seen is not over.
    assert ("cleared", "insolvent") not in watch.told()
    proxy.mood = lambda n, method: None
    assert watch.look()["insolvent"] == "critical"
    assert watch.told()[-1][0] == "cleared" or watch.told()[-2][0] == "cleared"


def test_an_old_block_is_worth_a_word():
    exchange: Any = type("E", (), {"frozen": False, "time": 1000, "tokens": (), "batch_number": 0})
    alerts, _ = judge(Sight(now=2000, exchange=exchange), Memory(), Limits())
    assert [(alert.code, alert.severity) for alert in alerts] == [("chain_stale", Severity.WARNING)]
    assert worst(()) == Severity.INFO and worst((Alert("x", Severity.CRITICAL, ""), *alerts)) == Severity.CRITICAL


# --- how it is told


@pytest.fixture
def command(settled, tmp_path, stored, capsys):
    """Look once by the command; returns its exit code and what it printed."""
    key = tmp_path / "key"

    def call(who, *words):
        key.write_text(settled.people[who].key.hex())
        common = ["--rpc", settled.anvil.url, "--contract", settled.address, "--key-file", str(key), "--json"]
        common += ["--artifacts", str(stored), "--cache", str(tmp_path / "cache"), "--no-build", "--once"]
        code = cli.main(["watch", *common, "--proofs-from", "99", *words])
        return code, json.loads(capsys.readouterr().out)

    return call


def test_exit_codes_of_a_single_look(settled, command):
    assert command("alice") == (0, {"result": "info", "alerts": []})
    code, told = command("bob")
    assert (code, told["result"]) == (3, "warning")
    assert {(row["code"], row["severity"], row["state"]) for row in told["alerts"]} == {
        ("forced_exit_requested", "warning", "raised"),
        ("claimable", "info", "raised"),
    }
    settled.anvil.rpc("anvil_setBalance", settled.address, "0x1")
    code, told = command("alice")
    assert (code, told["result"]) == (4, "critical") and told["alerts"][0]["code"] == "insolvent"


def test_a_single_look_at_nothing_is_critical(settled, command, monkeypatch):
    monkeypatch.setattr("proofbook.verifier.rpc.MAX_TRIES", 1)
    monkeypatch.setattr(settled.anvil, "url", "http://127.0.0.1:9")
    code, told = command("alice")
    assert (code, [row["code"] for row in told["alerts"]]) == (4, ["node_unreachable"])


def test_what_can_not_begin_is_an_error(settled, capsys, monkeypatch):
    monkeypatch.delenv("PROOFBOOK_KEY", raising=False)
    words = ["watch", "--rpc", settled.anvil.url, "--no-cache", "--once", "--json"]
    assert cli.main([*words, "--contract", settled.token.address]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not_an_exchange"
    assert cli.main([*words, "--contract", settled.address, "--escape"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "l1_key"
    assert cli.main([*words, "--contract", settled.address, "--webhook", "ftp://x"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == WebhookRefused.code
    # Without a key, the exchange alone is watched.
    assert cli.main([*words, "--contract", settled.address, "--no-build", "--proofs-from", "9"]) == 0


def test_a_webhook_is_told_and_what_it_missed_comes_later(settled, eye, hook):
    watch = eye(webhook=hook.url)
    watch.look()
    assert hook.bodies == []
    settled.anvil.rpc("anvil_setBalance", settled.address, "0x1")
    watch.look()
    (told,) = [json.loads(body) for body in hook.bodies]
    assert (told["source"], told["contract"]) == ("proofbook-watch", settled.address.lower())
    assert [(row["code"], row["state"]) for row in told["alerts"]] == [("insolvent", "raised")]
    hook.status = 500
    settled.anvil.rpc("anvil_setBalance", settled.address, hex(10**20))
    watch.look()
    assert len(hook.bodies) == 4 and any("webhook did not take" in line for line in watch.said)
    hook.status = 200
    watch.look()
    assert [row["state"] for row in json.loads(hook.bodies[-1])["alerts"]] == ["cleared"]


def test_a_webhook_gets_no_more_than_it_can_take(hook):
    made = Webhook(hook.url)
    made.send({"source": "test"}, [{"text": "x" * 1000, "n": n} for n in range(150)])
    assert all(len(body) <= MAX_BODY for body in hook.bodies)
    assert [row["n"] for body in hook.bodies for row in json.loads(body)["alerts"]] == list(range(150))


def test_a_webhook_that_is_not_there_stops_nothing(settled, eye):
    watch = eye(webhook="http://127.0.0.1:9/")
    settled.anvil.rpc("anvil_setBalance", settled.address, "0x1")
    assert watch.look() == {"insolvent": "critical"}
    assert any("webhook did not take" in line for line in watch.said)


# --- leaving by itself


def test_it_leaves_by_itself_and_all_is_claimed(settled, tmp_path, stored, let_pass):
    """By the command, in a process of its own; the operator is gone, and time goes by."""
    bob = settled.people["bob"]
    (tmp_path / "key").write_text(bob.key.hex())
    words = ["watch", "--rpc", settled.anvil.url, "--contract", settled.address, "--key-file", str(tmp_path / "key")]
    words += ["--artifacts", str(stored), "--cache", str(tmp_path / "cache"), "--no-build", "--proofs-from", "99"]
    words += ["--json", "--escape", "--interval", "0.2", "--gone", "900"]
    command = [sys.executable, "-m", "proofbook.escape.cli", *words]
    seen = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()
        for line in process.stdout:
            seen.append(json.loads(line))
            if seen[-1]["code"] == "forced_exit_requested":
                later(settled, 1000)
            if seen[-1]["code"] == "escape_started":
                let_pass()
        assert process.wait(120) == 5
    codes = [row["code"] for row in seen]
    assert "operator_gone" in codes and codes[-1] == "escaped"
    assert codes.index("operator_gone") < codes.index("escape_started")
    steps = [row["text"].split(":")[0] for row in seen if row["code"] == "escape_step"]
    assert [step for step in steps if step not in ("claim", "reclaim")] == ["freeze", "exit"]
    assert settled.by("bob").account(2).exited
    assert settled.token.functions.balanceOf(bob.address).call() == 4969 * 1000
    assert Escape(settled.anvil.url, settled.address, bob).owned().claims == {}


def test_without_a_reason_it_stays(settled, eye, stored):
    watch = eye("bob", artifacts=stored, escape=True, once=True)
    assert watch.watch.run() == 3 and not settled.by("bob").is_frozen()
    assert not any(code == "escape_started" for _, code in watch.told())


def test_one_look_is_not_enough_to_leave(settled, eye, stored):
    later(settled, 2000)
    watch = eye("alice", artifacts=stored, escape=True, confirm=2)
    watch.stop.set()
    assert watch.watch.run() == 0
    assert not any(code == "escape_started" for _, code in watch.told()) and watch.watch._alarmed == 1


def test_where_nothing_can_be_rebuilt_it_still_asks_for_the_money(settled, eye, stored, tamper):
    """A false batch: no exit is provable any more, but a request needs no state."""
    watch = eye("alice", artifacts=stored, escape=True, once=True)
    watch.look()
    tamper.root()
    assert watch.watch.run() == 4
    assert [q.request.token for q in settled.queue()[-2:]] == [ETH, USD]
    # And asks once only.
    count = len(settled.queue())
    assert watch.watch.run() == 4 and len(settled.queue()) == count


def test_an_escape_that_fails_is_told_and_tried_again(settled, eye, tmp_path, stored, let_pass):
    """Without the exit files there is no exit; when they are there, there is."""
    let_pass()
    watch = eye("bob", artifacts=tmp_path / "none", escape=True, once=True, interval=0.1)
    assert watch.watch.run() == 4
    assert ("event", "escape_failed") in watch.told() and settled.by("bob").is_frozen()
    watch.watch.escape.artifacts = stored
    assert watch.watch.run() == 5
    assert settled.token.functions.balanceOf(settled.people["bob"].address).call() == 4969 * 1000


def test_a_token_added_with_a_strange_symbol_is_watched(settled, eye):
    made = deploy_contract(settled.w3, settled.deployer, "TestToken", "Odd", "USD", 18).contract
    settled.by(settled.deployer).add_token(made.address, 1)
    assert eye().look() == {}
