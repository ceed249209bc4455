"""A watch of several nodes, one of which lies: nobody flees because of it alone, and who has to leave does."""

from __future__ import annotations

import time

import pytest

from proofbook.escape.memory import load_memory, save_memory
from proofbook.escape.votes import Votes
from proofbook.escape.watch import EXIT_CODES, Memory, Severity
from proofbook.verifier.abi import decode_commit, selector
from proofbook.verifier.checkpoint import Checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

MONTH = 30 * 86400
NO_PROOFS = 1 << 40
DEAD = "http://127.0.0.1:9"


def called(proxy, name):
    """Tell whether the last question was a call of one function."""
    method, parameters = proxy.asked[-1]
    return method == "eth_call" and parameters[0]["data"].startswith("0x" + selector(name).hex())


def is_frozen(proxy, settled):
    return lambda method, result: f"0x{1:064x}" if called(proxy, "frozen()") else result


def has_money(proxy, settled, wei):
    """The exchange has as many wei."""

    def lie(method, result):
        is_asked = method == "eth_getBalance" and proxy.asked[-1][1][0].lower() == settled.address.lower()
        return hex(wei) if is_asked else result

    return lie


def has_no_money(proxy, settled):
    return has_money(proxy, settled, 1)


def is_of_the_future(proxy, settled):
    """Its newest block is."""

    def lie(method, result):
        if method == "eth_getBlockByNumber" and int(result["number"], 16) == settled.w3.eth.block_number:
            result["timestamp"] = hex(int(time.time()) + MONTH)
        return result

    return lie


def proves_nothing(proxy, settled):
    """One word of the proofs is another; what follows from the batches is the same."""

    def lie(method, result):
        if method == "eth_getTransactionByHash" and result:
            word = f"{decode_commit(bytes.fromhex(result['input'][2:])).proof[0]:064x}"
            result["input"] = result["input"].replace(word, f"{int(word, 16) ^ 1:064x}")
        return result

    return lie


LIES = {
    "deadline_passed": is_of_the_future,
    "frozen": is_frozen,
    "insolvent": has_no_money,
    "operator_gone": is_of_the_future,
    "proof": proves_nothing,
}


@pytest.fixture
def one_try(monkeypatch):
    """A node that fails is given up at once."""
    monkeypatch.setattr("proofbook.verifier.rpc.MAX_TRIES", 1)


@pytest.mark.parametrize("reason", sorted(LIES))
def test_a_reason_that_one_node_alone_tells_of_is_none(settled, eye, stored, proxy, monkeypatch, reason):
    """Look after look, or by a single one; it is told, and over when the next node is asked."""
    proxy.lie = LIES[reason](proxy, settled)
    options = {
        "artifacts": stored,
        "escape": True,
        "proofs_from": 4 if reason == "proof" else NO_PROOFS,
        "url": f"{proxy.url},{settled.anvil.url}",
    }
    for once in (False, True):
        watch = eye("alice", cache=False, once=once, **options)
        turns = iter([False] * 3)
        monkeypatch.setattr(watch.stop, "wait", lambda seconds, turns=turns: next(turns, True))
        assert watch.watch.run() == 0
        told = watch.told()
        assert ("raised", reason) in told and ("cleared", reason) in told
        assert not [code for state, code in told if state == "event"]
        assert len(settled.queue()) == 2 and not settled.by("alice").is_frozen()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("reason", ["insolvent", "proof"])
def test_a_node_that_is_away_is_no_word_against_a_reason(settled, eye, tamper, proxy, one_try, reason, first):
    """The only node that answers is right: the second look confirms the first."""
    if reason == "proof":
        tamper.take_any_proof()
        tamper.commit(0)
    else:
        settled.anvil.rpc("anvil_setBalance", settled.address, "0x1")
    urls = [settled.anvil.url, DEAD][:: 1 if first else -1]
    watch = eye("alice", url=",".join(urls), proofs_from=5)
    for count in (1, 2):
        assert reason in watch.look() and watch.watch._alarmed == count
    once = eye("alice", url=",".join(urls), proofs_from=5, once=True, escape=True)
    left: list[list[str]] = []

    def leave(reasons):
        left.append(reasons)
        return True

    once.watch._leave = leave
    assert once.watch.run() == 5 and left == [[reason]]


def test_a_node_that_stands_still_is_no_word_against_a_reason(settled, eye, proxy, let_pass):
    """Its block is of before the money went."""
    block, held = settled.w3.eth.get_block("latest"), settled.w3.eth.get_balance(settled.address)
    settled.anvil.rpc("anvil_setBalance", settled.address, "0x1")
    settled.anvil.mine(3)

    def lie(method, result):
        if method == "eth_blockNumber":
            return hex(block["number"])
        if method == "eth_getBlockByNumber" and int(result["number"], 16) == block["number"]:
            result["timestamp"] = hex(int(time.time()) - 5000)
        return hex(held) if method == "eth_getBalance" else result

    proxy.lie = lie
    url = f"{settled.anvil.url},{proxy.url}"
    watch, seen = eye("alice", url=url, cache=False), []
    for _ in range(3):
        watch.look()
        seen.append(watch.watch._alarmed)
    assert seen == [1, 1, 2]
    once = eye("alice", url=url, cache=False, once=True)
    assert once.watch.run() == EXIT_CODES[Severity.CRITICAL]


def test_of_three_nodes_two_decide(settled, eye, proxy):
    """One that says all is well keeps nobody there; the alarm of one is gone when both others say it is none."""
    held = settled.w3.eth.get_balance(settled.address)
    urls = f"{settled.anvil.url},{proxy.url},{settled.anvil.url}/"
    settled.anvil.rpc("anvil_setBalance", settled.address, "0x1")
    proxy.lie = has_money(proxy, settled, held)
    watch, seen = eye("alice", url=urls, cache=False), []
    for _ in range(4):
        watch.look()
        seen.append(watch.watch._alarmed)
    assert seen == [1, 0, 1, 2]
    assert eye("alice", url=urls, cache=False, once=True).watch.run() == EXIT_CODES[Severity.CRITICAL]
    settled.anvil.rpc("anvil_setBalance", settled.address, hex(held))
    proxy.lie = has_no_money(proxy, settled)
    watch = eye("alice", url=f"{proxy.url},{settled.anvil.url},{settled.anvil.url}/", cache=False)
    assert [set(watch.look()) for _ in range(5)] == [{"insolvent"}, set(), set(), set(), set()]


def test_votes():
    votes = Votes(3)
    votes.note("a", False)
    assert not votes.is_open
    for url, is_reason, is_open in (("a", True, True), ("b", False, True), ("c", False, False), ("a", True, True)):
        votes.note(url, is_reason)
        assert votes.is_open == is_open
    for url, is_reason in (("b", True), ("c", False), ("a", True)):
        votes.note(url, is_reason)
        assert votes.is_open
    votes.note("a", False)
    assert not votes.is_open


# --- a bad proof is asked for again


def test_an_alarm_about_a_proof_does_not_outlive_the_lie(settled, eye, proxy):
    proxy.lie = proves_nothing(proxy, settled)
    watch = eye("alice", url=proxy.url, proofs_from=4)
    assert watch.look() == {"proof": "critical"} and watch.watch.memory.bad_proofs.keys() == {4}
    proxy.lie = lambda method, result: result
    assert watch.look() == {} and watch.watch.memory.bad_at == {}
    assert eye("alice", proofs_from=4).look() == {}


def test_what_one_run_was_told_of_a_proof_the_next_one_asks_again(settled, eye, proxy, monkeypatch):
    """Of another node, from the checkpoint, though the first one named a transaction that nobody else has."""
    monkeypatch.setattr(Checkpoints, "offer", Checkpoints.save)
    other_proof = proves_nothing(proxy, settled)
    false = "0x" + "ab" * 32
    true: list[str] = []

    def lie(method, result):
        if method == "eth_getLogs":
            for log in result:
                if log["transactionHash"] in true or (int(log["topics"][1], 16) == 4 and len(log["topics"]) == 2):
                    true.append(log["transactionHash"])
                    log["transactionHash"] = false
        return other_proof(method, result)

    ask = proxy.ask
    proxy.ask = lambda body: ask(body.replace(false.encode(), true[0].encode()) if true else body)
    proxy.lie = lie
    watch = eye("alice", url=proxy.url, proofs_from=4)
    watch.look()
    assert watch.look()["proof"] == "critical"
    later = eye("alice", proofs_from=4)
    assert later.look() == {} and any(line.startswith("going on from") for line in later.said)


def test_where_a_bad_proof_is_is_remembered_in_the_file(tmp_path):
    path, kept = tmp_path / "memory.json", Memory(seen_at=5, bad_proofs={7: "bad"}, bad_at={7: (12, 1 << 250)})
    save_memory(path, kept, print)
    assert load_memory(path, print) == kept
