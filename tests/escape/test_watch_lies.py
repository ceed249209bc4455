"""A watch among nodes that lie, fail or stand still, and owners who play with it."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from proofbook.chain.deploy import deploy_contract
from proofbook.chain.errors import TransactionFailed
from proofbook.chain.transactions import Sender
from proofbook.escape import cli
from proofbook.escape.asked import Asked
from proofbook.escape.errors import WatchStopped
from proofbook.escape.memory import save_memory
from proofbook.escape.owned import owned_of
from proofbook.escape.pinned import Pinned
from proofbook.escape.readings import GAS_ACCOUNT, GAS_ONCE, GAS_TOKEN, gas_to_leave, queued_at
from proofbook.escape.resort import last_resort
from proofbook.escape.session import Escape
from proofbook.escape.watch import EXIT_ESCAPED, Limits, Memory, Severity, Sight, judge
from proofbook.escape.watching import Place, Watch, WatchOptions, describe_row
from proofbook.protocol.table import RequestKind
from proofbook.verifier.abi import selector, topic

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2
ALICE = 1
CLAIMS = selector("claims(address,uint16)").hex()
RUDE = "\x1b[2J\x1b]0;your key, please\x07\rall is well"


def later(settled, seconds):
    settled.anvil.increase_time(seconds)


@pytest.fixture
def one_try(monkeypatch):
    """A node that fails is given up at once."""
    monkeypatch.setattr("proofbook.verifier.rpc.MAX_TRIES", 1)


def hiding(id_, later=False):
    """A lie: there is no event of this request, nor of later ones if that is wanted."""

    def lie(method, result):
        if method != "eth_getLogs" or not result:
            return result
        kind = topic("RequestQueued")
        hidden = range(id_, 1 << 64 if later else id_ + 1)
        return [log for log in result if log["topics"][0] != kind or int(log["topics"][1], 16) not in hidden]

    return lie


def asked_of(settled, account):
    return Counter(
        q.request.token for q in settled.queue() if q.request.account == account and q.request.kind == RequestKind.EXIT
    )


# --- the last resort


def test_the_last_resort_asks_once_though_the_node_hides_that_it_did(settled, eye, stored, proxy):
    proxy.lie = hiding(settled.queue()[-1].id)
    for _ in range(2):  # it is remembered in one run, and from one to the next
        watch = eye("alice", artifacts=stored, escape=True, once=True, url=proxy.url)
        for _ in range(2):
            assert watch.watch.run() == 4
        assert ("raised", "data") in watch.told() and ("event", "escape_failed") not in watch.told()
        assert asked_of(settled, ALICE) == {ETH: 1, USD: 1}


@pytest.mark.parametrize("ends", ["hidden", "killed"])
def test_the_last_resort_pays_once_where_no_receipt_tells_of_it(settled, eye, stored, proxy, monkeypatch, ends):
    """Events and receipts are hidden; or the watch is killed when a request was sent, before any receipt."""
    monkeypatch.setattr("proofbook.chain.transactions._RECEIPT_LAG_SECONDS", 0.1)
    monkeypatch.setattr("proofbook.escape.session.OUTBID_SECONDS", 0.1)
    hide = hiding(settled.queue()[-1].id, later=True)
    proxy.lie = lambda method, result: None if method == "eth_getTransactionReceipt" else hide(method, result)

    def killed(*_):
        raise KeyboardInterrupt

    if ends == "killed":
        monkeypatch.setattr(Sender, "_see_through", killed)
    looks = 0
    for _ in range(3):
        watch = eye("alice", artifacts=stored, escape=True, once=True, url=proxy.url)
        for _ in range(2):
            with contextlib.suppress(KeyboardInterrupt):
                looks += watch.watch.run() == 4
    assert looks and asked_of(settled, ALICE) == {ETH: 1, USD: 1}


def test_a_watch_goes_on_with_what_a_run_sent_asked_for_and_saw(settled, eye, tmp_path):
    """All commands keep it in one folder; what the watch read of the chain is its own."""
    cache = tmp_path / "cache"
    run = Escape(settled.anvil.url, settled.address, settled.people["alice"], cache=cache)
    assert len(run.run()[0]) == 2
    settled.anvil.mine()
    watch = eye("alice").watch
    assert watch.escape._pinned.known == settled.chain_id
    nonce = settled.w3.eth.get_transaction_count(settled.people["alice"].address)
    assert watch.escape._asked.get_held(nonce) == {(ALICE, ETH), (ALICE, USD)}
    assert [len(watch.escape._sent.get_all(nonce - n, settled.chain_id)) for n in (0, 1, 2)] == [0, 1, 1]
    watch.look()
    assert {path.name for path in cache.iterdir() if path.is_dir()} >= {watch._file.parent.name}


def test_where_the_claims_cannot_be_read_it_asks_all_the_same(settled, eye, stored, proxy, tamper):
    def lie(method, result):
        is_claim = method == "eth_call" and proxy.asked[-1][1][0]["data"].startswith("0x" + CLAIMS)
        return "0x" if is_claim and watch.watch.memory.seen_at else result

    watch = eye("alice", artifacts=stored, escape=True, once=True, url=proxy.url)
    watch.look()
    tamper.root()
    proxy.lie = lie
    assert watch.watch.run() == 4
    assert asked_of(settled, ALICE) == {ETH: 1, USD: 1}
    assert ("event", "escape_failed") in watch.told()


def test_the_last_resort_ends_when_it_is_told_to(settled):
    escape = Escape(settled.anvil.url, settled.address, settled.people["bob"])
    what = escape.owned()

    def stopped(*_):
        raise WatchStopped("told to stop")

    escape.take = stopped  # type: ignore[method-assign]
    with pytest.raises(WatchStopped):
        last_resort(escape, what, print)


def test_a_claim_whose_refusal_costs_gas_is_left_alone_by_the_last_resort_too(settled):
    bob, alice = settled.people["bob"].address, settled.people["alice"]
    # Takes ETH where gas costs nothing, as in an estimate.
    settled.anvil.rpc("anvil_setCode", bob, "0x3a15600857" + "5f5ffd" + "5b00")
    escape = Escape(settled.anvil.url, settled.address, alice)
    before = settled.w3.eth.get_transaction_count(alice.address)
    for _ in range(3):
        with pytest.raises(TransactionFailed, match="reverted"):
            last_resort(escape, replace(escape.owned(bob), accounts=()), print)
    assert settled.w3.eth.get_transaction_count(alice.address) == before + 1


def test_a_full_disk_leaves_no_file_behind_at_every_look(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    told: list[str] = []
    monkeypatch.setattr("proofbook.escape.aside.os.fsync", full)
    for _ in range(3):
        save_memory(tmp_path / "memory.json", Memory(), told.append)
    Pinned(tmp_path, "0x11", 0, told.append).hold(5)
    Asked(tmp_path, "0x11", "0x22", told.append).note((1, 2), 3)
    assert list(tmp_path.iterdir()) == [] and len(told) == 5 and all("No space left" in text for text in told)


def test_without_a_state_claims_are_paid_and_the_freeze_is_made(settled, eye, stored, tamper, let_pass):
    bob, exchange = settled.people["bob"].address, settled.by("bob")
    watch = eye("bob", artifacts=stored, escape=True, once=True)
    watch.look()
    tamper.root()
    assert exchange.claim_of(bob, ETH) > 0
    assert watch.watch.run() == 4
    assert exchange.claim_of(bob, ETH) == 0 and not exchange.is_frozen()
    let_pass()
    assert watch.watch.run() == 4 and exchange.is_frozen()
    assert watch.watch.run() == 4
    steps = [row["text"].split(":")[0] for row in watch.rows if row["code"] == "escape_step"]
    assert steps == ["claim", "freeze"] and ("event", "escape_failed") not in watch.told()


def test_without_a_state_a_claim_that_is_refused_holds_no_freeze_back(settled, eye, stored, tamper, let_pass):
    watch = eye("bob", artifacts=stored, escape=True, once=True)
    watch.look()
    tamper.root()
    settled.anvil.rpc("anvil_setCode", settled.people["bob"].address, "0xfe")  # takes no ETH
    let_pass()
    assert watch.watch.run() == 4 and settled.by("bob").is_frozen()
    (failed,) = [row["text"] for row in watch.rows if row["code"] == "escape_failed"]
    assert "EthTransferFailed" in failed


# --- blind looks


def test_a_node_that_fails_every_second_time_does_not_stop_the_alarm(settled, eye, proxy, one_try):
    later(settled, 2000)
    watch = eye(url=proxy.url)
    seen = []
    for mood in (None, "broken", None, "broken"):
        proxy.mood = lambda n, method, mood=mood: mood
        watch.look()
        seen.append(watch.watch._alarmed)
    assert seen == [1, 1, 2, 2]


def test_nobody_leaves_in_a_look_that_saw_nothing(settled, eye, proxy, stored, one_try):
    later(settled, 2000)
    watch = eye(url=proxy.url, artifacts=stored, escape=True, confirm=1)
    watch.look()
    assert watch.watch._alarmed == 1
    proxy.mood = lambda n, method: "broken"
    watch.stop.set()
    assert watch.watch.run() == 0
    assert not [code for state, code in watch.told() if state == "event"]


@pytest.fixture
def from_the_future(proxy):
    def lie(method, result):
        if method == "eth_getBlockByNumber" and result:
            result["timestamp"] = hex(int(time.time()) + 30 * 86400)
        return result

    proxy.lie = lie
    return proxy


def test_a_block_of_the_future_is_told_of_and_survived(eye, from_the_future):
    watch = eye(url=from_the_future.url)
    watch.look()
    assert watch.rows and all(abs(row["time"] - time.time()) < 3600 for row in watch.rows)
    assert all(describe_row(row).startswith("20") for row in watch.rows)


def test_a_block_of_the_future_does_not_hide_that_no_node_answers(eye, from_the_future, one_try):
    proxy = from_the_future
    first = eye(url=proxy.url)
    first.look()
    proxy.mood = lambda n, method: "broken"
    for watch in (first, eye(url=proxy.url)):  # this run, and the next one
        watch.watch.options = WatchOptions(limits=Limits(grace=-1))
        assert watch.look() == {"node_unreachable": "critical"}
        assert "for -" not in watch.rows[-1]["text"]


def test_a_clock_that_was_ahead_is_made_good():
    limits = Limits(grace=10)
    (alert,), memory = judge(Sight(1000, 1000, "gone"), Memory(seen_at=2**62), limits)
    assert alert.severity == Severity.WARNING and memory.seen_at == 1000
    (alert,), _ = judge(Sight(1011, 1011, "gone"), memory, limits)
    assert alert.severity == Severity.CRITICAL


def test_an_account_beyond_the_tree_does_not_end_the_watch(settled, eye, proxy):
    """Whatever a node's answers lead to: something is told, and the next look is as good as any."""
    watch = eye(url=proxy.url)
    settled.by("alice").open(1, 2)
    id_ = settled.queue()[-1].id

    def lie(method, result):
        if method == "eth_getLogs":
            for log in result:
                if log["topics"][0] == topic("RequestQueued") and int(log["topics"][1], 16) == id_:
                    log["topics"][2] = f"0x{2**24 - 1:064x}"
        return result

    proxy.lie = lie
    assert watch.look().keys() & {"node_unreachable", "data", "root"}
    proxy.lie = lambda method, result: result
    assert watch.look() == {}


def test_a_node_that_changes_the_chain_does_not_end_the_watch(settled, eye, proxy):
    watch = eye(url=proxy.url)
    assert watch.look() == {}
    proxy.lie = lambda method, result: "0x1" if method == "eth_chainId" else result
    assert watch.look() == {"node_unreachable": "warning"}
    proxy.lie = lambda method, result: result
    assert watch.look() == {}


def test_what_can_not_be_deleted_does_not_end_the_watch(settled, eye, tmp_path):
    owner = settled.people["alice"].address.lower().removeprefix("0x")
    folder = tmp_path / "cache" / f"watch-{owner}" / f"{settled.chain_id}-{settled.address.lower()}"
    (folder / "000000000001.ledger").mkdir(parents=True)
    watch = eye("alice")
    assert watch.look() == {} and any("can't be deleted" in line for line in watch.said)


# --- several nodes


def test_a_node_that_leaves_something_out_is_not_asked_for_ever(settled, eye, proxy):
    proxy.lie = hiding(settled.queue()[-1].id)
    watch = eye(url=f"{proxy.url},{settled.anvil.url}", cache=False)
    assert watch.look()["data"] == "critical"
    assert watch.look() == {} and watch.look() == {}
    assert watch.told()[-1] == ("cleared", "data")


def test_a_node_that_stands_still_is_not_asked_for_ever(settled, eye, proxy):
    block = settled.w3.eth.get_block("latest")
    settled.anvil.mine(3)

    def lie(method, result):
        if method == "eth_blockNumber":
            return hex(block["number"])
        if method == "eth_getBlockByNumber" and int(result["number"], 16) == block["number"]:
            result["timestamp"] = hex(int(time.time()) - 5000)
        return result

    proxy.lie = lie
    watch = eye(url=f"{proxy.url},{settled.anvil.url}", cache=False, limits=Limits(gone=10**9, quiet=10**9))
    assert watch.look() == {"chain_stale": "warning"}
    assert watch.look() == {} == watch.look()


def test_a_single_look_asks_the_others_before_it_leaves(settled, eye, proxy, stored):
    proxy.lie = hiding(settled.queue()[-1].id)
    urls = f"{proxy.url},{settled.anvil.url}"
    watch = eye("alice", url=urls, cache=False, artifacts=stored, escape=True, once=True)
    assert watch.watch.run() == 0
    assert watch.told() == [("raised", "data"), ("cleared", "data")] and asked_of(settled, ALICE) == {}


# --- what is counted from when


def test_a_deadline_pushed_far_out_does_not_hide_the_silence(settled, eye, monkeypatch):
    """Requests filed one after the other space deadlines out; the silence is as long as it is."""
    for name in ("state", "number"):
        monkeypatch.setattr(settled, name, getattr(settled, name))
    last = settled.queue()[-1].deadline
    slot, shift = next(
        (slot, shift)
        for slot in range(40)
        for shift in range(0, 193, 8)
        if int.from_bytes(settled.w3.eth.get_storage_at(settled.address, slot), "big") >> shift & (2**64 - 1) == last
    )
    word = int.from_bytes(settled.w3.eth.get_storage_at(settled.address, slot), "big")
    settled.anvil.set_storage(settled.address, slot, word + (10**6 << shift))
    waiting = settled.queue()
    settled.by("alice").force_exit(ALICE, ETH)
    with monkeypatch.context() as some:
        some.setattr(settled, "queue", lambda: waiting)
        settled.settle()
    (far,) = settled.queue()
    assert far.deadline > last + 10**6
    watch = eye("bob", limits=Limits(quiet=10, gone=50, deadline=0))
    later(settled, 100)
    assert watch.look()["operator_gone"] == "critical"


def test_a_request_counts_from_its_own_block(settled, eye):
    """Not from an older batch, nor from its deadline."""
    escape = Escape(settled.anvil.url, settled.address)
    (event,) = [
        log
        for log in settled.w3.eth.get_logs(
            {"address": settled.address, "fromBlock": 0, "topics": [topic("RequestQueued")]}
        )
        if int(log["topics"][1].hex(), 16) == settled.queue()[0].id
    ]
    at = settled.w3.eth.get_block(event["blockNumber"])["timestamp"]
    assert queued_at(escape.rpc, escape.exchange, escape.history, 0) == at > escape.history.timestamp
    assert eye().watch._sight().queued_at == at


def test_silence_is_counted_from_the_batch_or_the_request_whichever_came_last():
    exchange: Any = type("E", (), {"frozen": False, "time": 5000, "tokens": (), "batch_number": 1})
    oldest: Any = type("Q", (), {"id": 1, "deadline": 10**9})
    limits = Limits(quiet=100, gone=1000)
    for last_batch, queued, found in (
        (1000, 4950, set()),
        (1000, 4000, {"operator_quiet"}),
        (1000, 0, {"operator_gone"}),
    ):
        sight = Sight(
            5000, 5000, exchange=exchange, window=3600, oldest=oldest, last_batch=last_batch, queued_at=queued
        )
        assert {alert.code for alert in judge(sight, Memory(), limits)[0]} == found


# --- money


def test_a_token_that_one_has_nothing_of_is_no_reason_to_flee(settled, eye, stored, monkeypatch):
    """An owner may add any token, which may say anything; who holds it is told, and leaves."""
    made = deploy_contract(settled.w3, settled.deployer, "TestToken", "Junk", "JUNK", 18).contract
    settled.by(settled.deployer).add_token(made.address, 1)
    bob = settled.people["bob"].address
    settled.w3.eth.wait_for_transaction_receipt(made.functions.mint(bob, 10).transact({"from": settled.deployer}))
    exchange = settled.by("bob")
    exchange.approve(exchange.token(3), 10)
    exchange.deposit(2, 3, 10)
    settled.anvil.rpc("anvil_setCode", made.address, "0x60206000f3")  # 32 bytes of zero to every question
    alice = eye("alice", artifacts=stored, escape=True, once=True)
    monkeypatch.setattr(alice.stop, "wait", lambda seconds: pytest.fail("it leaves"))
    assert alice.watch.run() == 3
    assert [(row["code"], row["severity"]) for row in alice.rows] == [("insolvent_other", "warning")]
    assert asked_of(settled, ALICE) == {}
    assert eye("bob").look()["insolvent"] == "critical"
    assert eye(None).look() == {"insolvent": "critical"}  # where nobody is watched, all of it matters


def test_the_gas_to_leave_with_counts_tokens_and_fees(settled):
    alice = settled.people["alice"]
    escape = Escape(settled.anvil.url, settled.address, alice)

    def needed():
        escape.forget()
        own = owned_of(escape.exchange, escape.history, alice.address)
        held, wei = gas_to_leave(escape.rpc, escape.exchange, own, alice.address)
        assert held == settled.w3.eth.get_balance(alice.address)
        return wei - (GAS_ONCE + GAS_ACCOUNT + 2 * GAS_TOKEN) * settled.w3.eth.gas_price

    cap = settled.by("alice").read("exitFeeCap") * 10**9
    assert cap > 0 and needed() == 2 * cap
    escape.request(ALICE, ETH)
    assert needed() == cap
    nobody = owned_of(escape.exchange, escape.history, "0x" + "77" * 20)
    assert gas_to_leave(escape.rpc, escape.exchange, nobody, alice.address) == (0, 0)


def test_the_gas_is_the_senders(settled, stored):
    """Somebody else's key leaves for alice: it pays."""
    bob, alice = settled.people["bob"], settled.people["alice"]
    place = Place([settled.anvil.url], settled.address, bob, alice.address, stored)
    rows: list[dict[str, Any]] = []
    watch = Watch(place, WatchOptions(build=False, proofs_from=1 << 40), rows.append, print, None)  # type: ignore[arg-type]
    assert watch.look() == ()
    settled.anvil.rpc("anvil_setBalance", bob.address, "0x1")
    assert [alert.code for alert in watch.look()] == ["gas_low"]
    assert "the sending address has 1 wei" in rows[-1]["text"]


# --- how it is told


def test_a_nodes_words_do_nothing_to_the_terminal(settled, proxy, monkeypatch, capsys):
    def refuse(body):
        return json.dumps(
            {"jsonrpc": "2.0", "id": json.loads(body)["id"], "error": {"code": 3, "message": RUDE}}
        ).encode()

    monkeypatch.setattr(proxy, "ask", refuse)
    words = ["--rpc", proxy.url, "--contract", settled.address, "--no-cache", "--owner", settled.address]
    assert cli.main(["status", *words]) == 1
    told = capsys.readouterr()
    assert "your key, please" in told.err
    assert not [ch for ch in told.err.removesuffix("\n") if not ch.isprintable()] and told.out == ""


def test_progress_answers_and_alerts_do_nothing_to_the_terminal():
    lines: list[str] = []
    cli.Say(lines.append)(RUDE)
    lines.append(cli.describe({"tokens": RUDE}))
    lines += cli.describe({"accounts": [{"name": RUDE}, {"name": {RUDE: 1}}]}).split("\n")
    row = {"time": 0, "state": "raised", "severity": "critical", "code": "data", "text": RUDE}
    lines.append(describe_row(row))
    assert sum("your key, please" in line for line in lines) == 5
    assert all(line.isprintable() for line in lines)


# --- after the escape


def test_what_a_reorganisation_puts_back_is_taken_out_again(settled, eye, stored, let_pass, monkeypatch):
    let_pass()
    bob = settled.people["bob"]
    watch = eye("bob", artifacts=stored, escape=True, confirm=1)
    before = settled.anvil.snapshot()
    waited: list[int] = []

    def wait(seconds):
        waited.append(settled.token.functions.balanceOf(bob.address).call())
        if len(waited) == 1:
            settled.anvil.revert(before)
        settled.anvil.mine(10)
        return False

    monkeypatch.setattr(watch.stop, "wait", wait)
    assert watch.watch.run() == EXIT_ESCAPED
    assert waited[0] == 4969 * 1000 == settled.token.functions.balanceOf(bob.address).call()
    assert settled.by("bob").claim_of(bob.address, USD) == 0
    steps = [row["text"].split(":")[0] for row in watch.rows if row["code"] == "escape_step"]
    assert steps.count("exit") == 2 and watch.told()[-1] == ("event", "escaped")


def test_it_says_escaped_also_where_the_end_failed(settled, eye, stored, let_pass, proxy, monkeypatch, one_try):
    """All is out, and no node tells whether it stays so; when one does, the watch is over, and not for ever idle."""
    monkeypatch.setattr("proofbook.escape.leave.MAX_FAILURES", 0)
    monkeypatch.setattr("proofbook.escape.leave._ENDLESS", ())
    let_pass()
    watch = eye("bob", artifacts=stored, escape=True, confirm=1, url=proxy.url)
    waited: list[float] = []

    def wait(seconds):
        waited.append(seconds)
        assert len(waited) < 50, "it does not end"
        settled.anvil.mine(10)
        proxy.mood = (lambda n, method: "broken") if len(waited) == 1 else (lambda n, method: None)
        return False

    monkeypatch.setattr(watch.stop, "wait", wait)
    assert watch.watch.run() == EXIT_ESCAPED
    events = [code for state, code in watch.told() if state == "event"]
    assert events.count("escape_failed") == 1 and events[-1] == "escaped" and events.count("escape_started") == 1
