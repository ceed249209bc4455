"""Nodes and tokens that mean ill, between a trader and the way out."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

import pytest
from web3 import Web3

from proofbook.chain.deploy import deploy_contract
from proofbook.chain.errors import ContractRevert, TransactionFailed
from proofbook.chain.transactions import Sender
from proofbook.escape import webhook
from proofbook.escape.leave import leave
from proofbook.escape.provider import RpcProvider
from proofbook.escape.session import Escape
from proofbook.protocol.table import RequestKind
from proofbook.verifier.contract import MAX_AWAITED, TOKEN_GAS, read_exchange, vault_of
from proofbook.verifier.errors import RpcRefused, RpcUnavailable
from proofbook.verifier.rpc import MAX_TRIES, Rpc

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2
TRANSFER = bytes.fromhex("a9059cbb")


def impatient():
    """Return a pause that ends the test where somebody waits."""

    def pause(seconds):
        pytest.fail(f"it waits {seconds} s")

    return pause


def reverting(text: str) -> str:
    """Return code that reverts with `Error(text)`, whatever is called."""
    return "0x" + _revert_with(text, 0).hex()


def reverting_transfer(text: str) -> str:
    """Return code of which only `transfer` reverts; anything else returns a large number."""
    # selector == transfer ? go on behind : return 2^36 - 1
    head = (
        bytes.fromhex("5f3560e01c63")
        + TRANSFER
        + bytes([0x14, 0x60, 25, 0x57])
        + bytes.fromhex("640fffffffff5f5260205ff3")
    )
    assert len(head) == 26
    return "0x" + (head[:12] + bytes([len(head)]) + head[13:] + b"\x5b" + _revert_with(text, len(head) + 1)).hex()


def _revert_with(text: str, at: int) -> bytes:
    words = text.encode()
    head = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + len(words).to_bytes(32, "big")
    data = head + words + bytes(-len(words) % 32)
    size = len(data)
    # PUSH1 size, PUSH1 offset, PUSH0, CODECOPY, PUSH1 size, PUSH0, REVERT
    return bytes([0x60, size, 0x60, at + 10, 0x5F, 0x39, 0x60, size, 0x5F, 0xFD]) + data


@pytest.fixture
def dress(settled):
    """Give the exchange a token of some code."""

    def made(code: str) -> str:
        address = Web3.to_checksum_address("0x" + "77" * 20)
        settled.anvil.rpc("anvil_setCode", address, code)
        settled.by(settled.deployer).add_token(address, 1)
        return str(address).lower()

    return made


# --- tokens that mean ill


@pytest.mark.parametrize("words", ["try again", "[" * 65])
def test_a_token_whose_name_reads_like_a_busy_node_stops_nobody(settled, dress, words):
    """Nor does one whose brackets make the answer look nested without end."""
    address = dress(reverting(words))
    rpc = Rpc(settled.anvil.url, pause=impatient())
    exchange = read_exchange(rpc, settled.address)
    assert [token.symbol for token in exchange.tokens] == ["ETH", "USD", address]
    with pytest.raises(RpcRefused):
        vault_of(rpc, exchange, exchange.tokens[-1])
    alice = Escape(rpc, settled.address, settled.people["alice"])
    assert alice.owned().accounts[0].balances == {ETH: 890, USD: 30}
    assert alice.request(1, ETH).step.token == ETH


def test_a_token_is_asked_for_its_name_once_and_with_little_gas(settled, dress, proxy):
    """The exchange is read at every step; a token that burns all there is must not be in all of them."""
    address = dress("0x5b5f56")  # JUMPDEST, PUSH0, JUMP
    rpc = Rpc(proxy.url, pause=impatient())
    first = read_exchange(rpc, settled.address)
    assert [token.symbol for token in first.tokens] == ["ETH", "USD", address]
    assert read_exchange(rpc, settled.address) == first
    calls = [parameters[0] for method, parameters in proxy.asked if method == "eth_call"]
    named = [call for call in calls if call["to"] in (address, settled.token.address.lower())]
    assert len(named) == 2 and all(int(call["gas"], 16) == TOKEN_GAS for call in named)
    with pytest.raises(RpcRefused):
        vault_of(rpc, first, first.tokens[-1])
    assert int(proxy.asked[-1][1][0]["gas"], 16) == TOKEN_GAS


def test_a_node_that_is_away_while_a_token_tells_its_name_is_asked_again(settled, proxy, dress):
    dress(reverting("nope"))
    rpc = Rpc(proxy.url, pause=lambda s: None)
    usd = settled.token.address.lower()

    def names():
        return [token.symbol for token in read_exchange(rpc, settled.address).tokens][:2]

    def mood(n, method):
        return "broken" if method == "eth_call" and proxy.asked[-1][1][0]["to"] == usd else None

    proxy.mood = mood
    assert names() == ["ETH", usd]
    proxy.mood = lambda n, method: None
    assert names() == ["ETH", "USD"]


def test_tokens_that_no_node_answers_for_are_waited_for_a_few_times_in_all(settled, proxy):
    """Whatever a token does to a node: with a hundred of them, each step out would take half an hour."""
    count = MAX_AWAITED + 2
    for k in range(count):
        address = Web3.to_checksum_address("0x" + f"{0x77 + k:02x}" * 20)
        settled.anvil.rpc("anvil_setCode", address, reverting("nope"))
        settled.by(settled.deployer).add_token(address, 1)
    pauses: list[float] = []
    rpc = Rpc(proxy.url, pause=pauses.append)

    def mood(n, method):
        asks_token = method == "eth_call" and "gas" in proxy.asked[-1][1][0]
        return "broken" if asks_token and proxy.asked[-1][1][0]["to"] != settled.token.address.lower() else None

    proxy.mood = mood
    exchange = read_exchange(rpc, settled.address)
    assert len(exchange.tokens) == 2 + count and len(pauses) == (MAX_TRIES - 1) * MAX_AWAITED
    assert read_exchange(rpc, settled.address) == exchange
    for token in exchange.tokens[2:]:
        with pytest.raises(RpcUnavailable):
            vault_of(rpc, exchange, token)
    assert len(pauses) == (MAX_TRIES - 1) * MAX_AWAITED


def test_m23_a_token_that_reverts_like_a_busy_node_holds_no_other_claim_back(settled, let_pass):
    """Its `transfer` says "rate limit"; the claim behind it is paid."""
    bob, exchange = settled.people["bob"], settled.by("bob")
    good = deploy_contract(settled.w3, settled.deployer, "TestToken", "More", "MORE", 18).contract
    bad = deploy_contract(settled.w3, settled.deployer, "TestToken", "Less", "LESS", 18).contract
    for id_, token in enumerate((bad, good), USD + 1):
        settled.by(settled.deployer).add_token(token.address, 1)
        call = token.functions.mint(bob.address, 5).transact({"from": settled.deployer})
        settled.w3.eth.wait_for_transaction_receipt(call)
        exchange.approve(exchange.token(id_), 5)
        exchange.deposit(2, id_, 5)
    let_pass()
    settled.anvil.rpc("anvil_setCode", bad.address, reverting_transfer("rate limit"))
    escape = Escape(Rpc(settled.anvil.url, pause=impatient()), settled.address, bob)
    escape.freeze()
    for queued in escape.owned().waiting:
        escape.reclaim(queued.id)
    with pytest.raises(ContractRevert, match="rate limit"):
        escape.claim(USD + 1)
    escape.claim(USD + 2)
    assert good.functions.balanceOf(bob.address).call() == 5


# --- nodes that mean ill


@pytest.fixture
def hole(proxy):
    """A node that says yes to transactions, under another hash, and drops them."""
    honest = proxy.ask

    def ask(body):
        request = json.loads(body)
        if request["method"] != "eth_sendRawTransaction":
            return honest(body)
        return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": "0x" + "ab" * 32}).encode()

    proxy.ask = ask
    return proxy


def test_a_node_that_drops_transactions_holds_nobody_back_who_names_another(settled, hole):
    rpc = Rpc(f"{hole.url},{settled.anvil.url}", pause=impatient())
    done = Escape(rpc, settled.address, settled.people["alice"]).request(1, ETH)
    assert hole.count("eth_sendRawTransaction") == 1 and rpc.url == hole.url
    assert settled.w3.eth.get_transaction_receipt(done.tx)["status"] == 1


RECEIPT = {"status": "0x1", "blockNumber": "0x1", "transactionHash": "0x" + "ab" * 32}
ODD: dict[str, list[Any]] = {
    "eth_chainId": [None, {}],
    "eth_blockNumber": [None, {}],
    "eth_estimateGas": [None, []],
    "eth_getBlockByNumber": ["abc", [], {"baseFeePerGas": "x"}],
    "eth_getTransactionCount": [None],
    "eth_maxPriorityFeePerGas": [None],
    "eth_getTransactionReceipt": [{}, 5, "x", RECEIPT, {**RECEIPT, "status": None}, {"status": "0x1"}],
    "eth_getTransactionByHash": [{}, 5, {"from": None}, [1]],
}


@pytest.mark.parametrize(("name", "junk"), [(name, junk) for name in ODD for junk in ODD[name]])
def test_an_answer_of_no_form_is_a_typed_error_when_something_is_sent(settled, proxy, name, junk):
    """A traceback would end a watch that runs for years."""

    def lie(method, result):
        if name == "eth_getTransactionByHash" and method == "eth_getTransactionReceipt" and result:
            return {**result, "status": "0x0"}  # so that it is called again, to learn why
        return junk if method == name else result

    proxy.lie = lie
    w3 = Web3(RpcProvider(Rpc(proxy.url, pause=impatient())))
    alice, exchange = settled.people["alice"], settled.by("alice")
    sender = Sender(w3, alice, exchange.abi, timeout=3, patience=1)
    call = w3.eth.contract(address=exchange.address, abi=exchange.abi).functions.claimFor(settled.operator, ETH)
    with pytest.raises(TransactionFailed):
        sender.send(call)


class WaitsError(Exception):
    """Stands for the days until a deadline."""


def test_an_honest_node_that_lacks_a_block_or_a_state_now_and_then_ends_nothing(settled, proxy):
    """A null block, an error that is no limit: each is asked again, and the step is taken."""
    blocks, calls = iter([True, False, True]), iter([True, False, True])

    def lie(method, result):
        return None if method == "eth_getBlockByNumber" and next(blocks, False) else result

    def pause(seconds):
        if any(text.startswith("waiting: the deadline") for text in told):
            raise WaitsError

    proxy.lie = lie
    proxy.mood = lambda n, method: "range" if method == "eth_call" and next(calls, False) else None
    told: list[str] = []
    escape = Escape(Rpc(proxy.url, pause=impatient()), settled.address, settled.people["alice"])
    with pytest.raises(WaitsError):
        leave(escape, poll=0.01, progress=told.append, pause=pause)
    assert sum("trying again" in text for text in told) >= 3
    mine = [(q.request.account, q.request.token) for q in settled.queue() if q.request.kind == RequestKind.EXIT]
    assert mine[-2:] == [(1, ETH), (1, USD)]


# --- a webhook that means ill


def drip(connection: socket.socket) -> None:
    """Answer in drops that never become a head."""
    with connection, contextlib.suppress(OSError):
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Odd: ")
        while True:
            connection.sendall(b"a")
            time.sleep(0.1)


def test_a_webhook_that_answers_in_drops_holds_no_watch_up(monkeypatch):
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.5)
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        hook = webhook.Webhook(f"http://127.0.0.1:{server.getsockname()[1]}/", told.append, pause=lambda s: None)
        began = time.monotonic()
        hook.send({"exchange": "0x"}, [{"code": "silent"}])
    assert time.monotonic() - began < 5
    assert len(told) == 1 and "no answer within 0.5 s" in told[0]
