"""Each step once: what was asked for, what was sent and what failed is remembered, whatever a node shows of it."""

from __future__ import annotations

import pytest

from proofbook.chain.errors import ContractRevert, TransactionFailed
from proofbook.chain.transactions import own_transaction
from proofbook.escape.asked import FIRST_S, Asked
from proofbook.escape.errors import ExitProofFailed
from proofbook.escape.owned import Done, Step
from proofbook.escape.session import Escape
from proofbook.verifier.errors import BuildUnavailable, RpcMalformed
from proofbook.verifier.rpc import Rpc

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2


class Node(Rpc):
    """A node that may change its answers; `lie` is given method, parameters and result."""

    def __init__(self, url, lie):
        super().__init__(url, pause=lambda seconds: None)
        self.lie = lie

    def call(self, method, *parameters):
        return self.lie(method, parameters, super().call(method, *parameters))


@pytest.fixture
def nodes(settled):
    return lambda lie: Node(settled.anvil.url, lie)


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr("proofbook.verifier.chain._BEHIND_PAUSE_S", 0.01)


def test_a_node_that_shows_the_chain_of_before_is_paid_for_no_request_twice(
    settled, nodes, quickly, monkeypatch, tmp_path
):
    """It sends, gives receipts and counts as it should, and its newest block is the one from before."""
    monkeypatch.setattr("proofbook.verifier.chain.BEHIND_S", 0.1)
    alice, still = settled.people["alice"], []

    def lie(method, parameters, result):
        if method == "eth_sendRawTransaction":
            still.append(hex(settled.w3.eth.block_number - 1))
        return still[0] if method == "eth_blockNumber" and still else result

    before = len(settled.queue())
    for _ in range(2):
        escape = Escape(nodes(lie), settled.address, alice, cache=tmp_path)
        for _ in range(2):
            assert escape.run()[1] == Step("wait") == escape.next_step()
    assert [(q.request.account, q.request.token) for q in settled.queue()[before:]] == [(1, ETH), (1, USD)]
    unaware = Escape(nodes(lie), settled.address, alice)
    assert unaware.next_step() == Step("request", account=1, token=ETH), "the lie is consistent"
    still.clear()
    assert Escape(nodes(lie), settled.address, alice, cache=tmp_path).run()[1].until is not None


def test_what_was_asked_for_is_asked_for_again_where_it_was_not_mined(settled, tmp_path, monkeypatch):
    """The chain dropped it, and its nonce is free; or something else has the nonce, which a node might only say."""
    alice, snapshot = settled.people["alice"], settled.anvil.snapshot()
    before = len(settled.queue())
    escape = Escape(settled.anvil.url, settled.address, alice, cache=tmp_path)
    for _ in range(2):
        assert [step.step.token for step in escape.run()[0]] == [ETH, USD] and len(settled.queue()) == before + 2
        settled.anvil.revert(snapshot)
        snapshot = settled.anvil.snapshot()
        escape = Escape(settled.anvil.url, settled.address, alice, cache=tmp_path)
    other = {"to": alice.address, "gas": 21_000, "gasPrice": 10**11, "chainId": settled.chain_id, "value": 0}
    for _ in range(2):
        nonce = settled.w3.eth.get_transaction_count(alice.address)
        settled.w3.eth.send_raw_transaction(alice.sign_transaction(other | {"nonce": nonce}).raw_transaction)
    assert escape.run() == ([], Step("wait")) and len(settled.queue()) == before
    monkeypatch.setattr("proofbook.escape.asked.FIRST_S", 0.0)  # the hour is over
    assert len(escape.run()[0]) == 2 and len(settled.queue()) == before + 2


def test_what_comes_after_a_request_was_served_is_asked_for_at_once(settled, monkeypatch):
    for name in ("state", "number"):
        monkeypatch.setattr(settled, name, getattr(settled, name))
    bob, exchange = settled.people["bob"], settled.by("bob")
    settled.settle()
    exchange.deposit(2, ETH, 7)
    settled.settle()
    escape = Escape(settled.anvil.url, settled.address, bob)
    asked = Step("request", account=2, token=ETH)
    assert asked in [step.step for step in escape.run()[0]]
    # A chain put back to a snapshot is late, and by its batches' time they came before.
    settled.anvil.increase_time(400)
    settled.settle()
    exchange.deposit(2, ETH, 7)
    settled.settle()
    escape.forget()
    assert asked in [step.step for step in escape.run()[0]]


@pytest.mark.parametrize("text", ["", "[]", '{"format": "proofbook-asked-1", "asked": [[1]]}', "[" * 100_000, "{1"])
def test_a_damaged_file_of_what_was_asked_for_is_as_good_as_none(tmp_path, text):
    made = Asked(tmp_path, "0x" + "11" * 20, "0x" + "22" * 20, print)
    made.note((1, ETH), 5)
    assert Asked(tmp_path, "0x" + "11" * 20, "0x" + "22" * 20, print).get_held(6) == {(1, ETH)}
    assert made.get_held(5) == frozenset()
    (path,) = tmp_path.iterdir()
    path.write_text(text)
    assert not Asked(tmp_path, "0x" + "11" * 20, "0x" + "22" * 20, print)


def test_each_time_it_takes_longer_until_it_is_asked_for_again(monkeypatch):
    clock = [1e9]
    monkeypatch.setattr("proofbook.escape.asked.time.time", lambda: clock[0])
    made, waits = Asked(None, "0x", "", print), []
    for nonce in range(9):
        made.note((1, ETH), nonce)
        made.note((1, ETH), nonce)  # outbid
        start = clock[0]
        while made.get_held(nonce + 1):
            clock[0] += FIRST_S / 2
        waits.append((clock[0] - start) / FIRST_S)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 64, 64]


# --- what failed, and what it holds back


def test_a_claim_that_was_put_aside_and_mined_all_the_same_is_no_failure(settled, monkeypatch):
    """Its receipt came too late; a later look sees that it is out."""
    escape = Escape(settled.anvil.url, settled.address, settled.operator)
    claim = escape.claim
    failed: list[Done] = []

    def late(token, owner):
        done = claim(token, owner)
        if not failed:
            failed.append(done)
            raise TransactionFailed("not mined within 300 s")
        return done

    monkeypatch.setattr(escape, "claim", late)
    assert escape.run()[1] == Step("done") and failed


@pytest.mark.parametrize("error", [RpcMalformed("nested too deeply"), ContractRevert("Unnamed", {})])
def test_m23_a_claim_that_no_node_can_estimate_holds_no_other_back(settled, monkeypatch, error):
    bob = settled.people["bob"]
    escape = Escape(settled.anvil.url, settled.address, bob)

    def refused(token, owner):
        raise error

    monkeypatch.setattr(escape, "claim", refused)
    assert escape.run()[1].name == "wait" and escape.aside == {Step("claim", token=ETH): error}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BuildUnavailable("no repository")])
def test_an_exit_that_this_machine_cannot_prove_holds_nothing_else_back(settled, stored, let_pass, monkeypatch, error):
    def failing(*_):
        raise error

    let_pass()
    monkeypatch.setattr("proofbook.escape.session.prove_exit", failing)
    taken: list[str] = []
    escape = Escape(settled.anvil.url, settled.address, settled.people["bob"], stored)
    with pytest.raises((ExitProofFailed, BuildUnavailable)):
        escape.run(on_step=lambda done: taken.append(done.step.name))
    assert taken == ["freeze", "reclaim", "claim"]


def test_the_nonce_that_was_looked_at_is_the_one_that_is_signed(settled, nodes, monkeypatch):
    """Another node knows of a transaction of ours, the first does not: nothing is signed to go behind it."""
    asked: list[str] = []
    alice = settled.people["alice"]
    count = settled.w3.eth.get_transaction_count(alice.address)

    def lie(method, parameters, result):
        if method != "eth_getTransactionCount":
            return result
        asked.append(parameters[1])
        return hex(count) if len(asked) <= 2 else hex(count + 1)

    sent: list[bytes] = []
    escape = Escape(nodes(lie), settled.address, alice)
    monkeypatch.setattr(escape._sent, "add", sent.append)
    escape.request(1, ETH)
    assert [own_transaction(raw, alice.address)["nonce"] for raw in sent] == [count]
