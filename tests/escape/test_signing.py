"""What is signed when a node, or node and operator together, want it: one chain's, and never more than a limit."""

from __future__ import annotations

import json

import pytest

from proofbook.chain.errors import ContractRevert, WrongChain
from proofbook.chain.transactions import Sender, own_transaction
from proofbook.cli.session import Session
from proofbook.escape import cli
from proofbook.escape.errors import EscapeSetting, FeeTooHigh
from proofbook.escape.pinned import Pinned, chain_from_environment
from proofbook.escape.request_fee import DEFAULT_LIMIT, fee_limit_from_environment
from proofbook.escape.sent import Sent
from proofbook.escape.session import Escape
from proofbook.verifier.abi import selector
from proofbook.verifier.rpc import Rpc

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2
OTHER = 1337
FEE = 1000


class Node(Rpc):
    """A node that changes answers, and what was sent to it."""

    def __init__(self, url, lie):
        super().__init__(url)
        self.lie, self.sent = lie, []

    def call(self, method, *parameters):
        if method == "eth_sendRawTransaction":
            self.sent.append(parameters[0])
        return self.lie(method, parameters, super().call(method, *parameters))


def after(calls):
    """Say another chain after so many times of telling the truth."""
    left = [calls]

    def lie(method, parameters, result):
        if method != "eth_chainId":
            return result
        left[0] -= 1
        return result if left[0] >= 0 else hex(OTHER)

    return lie


def returns(name, value):
    def lie(method, parameters, result):
        is_it = method == "eth_call" and parameters[0]["data"].startswith("0x" + selector(name).hex())
        return f"0x{value:064x}" if is_it else result

    return lie


def lies(*all_of_them):
    def lie(method, parameters, result):
        for one in all_of_them:
            result = one(method, parameters, result)
        return result

    return lie


@pytest.mark.parametrize("truths", [0, 1])
def test_nothing_is_signed_for_another_chain(settled, truths):
    """A thief has a contract at the same address there; the node asks for the signature, at any moment."""
    node = Node(settled.anvil.url, after(truths))
    with pytest.raises(WrongChain, match="on chain 1337"):
        Escape(node, settled.address, settled.people["alice"], chain_id=settled.chain_id).request(1, ETH)
    assert node.sent == []


def test_the_chain_seen_first_is_kept_and_no_other_is_believed(settled, tmp_path):
    alice = settled.people["alice"]
    Escape(settled.anvil.url, settled.address, alice, cache=tmp_path).refresh()
    node = Node(settled.anvil.url, after(0))
    later = Escape(node, settled.address, alice, cache=tmp_path)
    for look in (later.refresh, lambda: later.request(1, ETH), later.run):
        with pytest.raises(WrongChain):
            look()
    assert node.sent == []
    # Without a folder it is kept as long as the process lives; what is named goes before what was seen.
    alone = Escape(Node(settled.anvil.url, after(2)), settled.address, alice)
    alone.refresh()
    with pytest.raises(WrongChain):
        for _ in range(3):
            alone.refresh()
    assert Pinned(tmp_path, settled.address.lower(), OTHER, print).hold(OTHER) == OTHER
    with pytest.raises(WrongChain):
        Pinned(tmp_path, settled.address.lower(), 0, print).hold(OTHER)


def test_a_sender_signs_for_its_chain_alone(settled):
    call = settled.by("alice").contract.functions.claimFor(settled.operator, ETH)
    alice = settled.people["alice"]
    with pytest.raises(WrongChain):
        Sender(settled.w3, alice, [], chain_id=OTHER).send(call)
    # Also what was kept to be outbid.
    tx = call.build_transaction({"from": alice.address, "nonce": 9, "gas": 10**6, "gasPrice": 10**9})
    with pytest.raises(WrongChain):
        Sender(settled.w3, alice, [], chain_id=OTHER)._broadcast(tx, [])


def test_what_was_sent_on_another_chain_is_not_gone_on_with(settled, tmp_path):
    alice = settled.people["alice"]
    sent = Sent(tmp_path, settled.address, alice.address, print)
    tx = {"to": settled.address, "nonce": 3, "value": 0, "gas": 10**6, "chainId": OTHER, "data": "0x", "type": 2}
    raw = bytes(alice.sign_transaction({**tx, "maxFeePerGas": 1, "maxPriorityFeePerGas": 1}).raw_transaction)
    sent.add(raw)
    assert sent.get_all(3, OTHER) == [raw] and sent.get_all(3, settled.chain_id) == []


@pytest.mark.parametrize("by_variable", [False, True])
def test_the_command_takes_the_chain(settled, tmp_path, capsys, monkeypatch, by_variable):
    monkeypatch.setenv("PROOFBOOK_KEY", settled.people["alice"].key.hex())
    words = ["request", "--account", "1", "--token", "1", "--rpc", settled.anvil.url, "--contract", settled.address]
    words += ["--json", "--no-cache"]
    if by_variable:
        monkeypatch.setenv("PROOFBOOK_CHAIN_ID", str(OTHER))
    assert cli.main([*words, *([] if by_variable else ["--chain-id", str(OTHER)])]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "wrong_chain"
    assert cli.main([*words, "--chain-id", str(settled.chain_id)]) == 0


def test_the_trading_commands_sign_for_the_wallets_chain(settled, tmp_path, monkeypatch):
    monkeypatch.setenv("PROOFBOOK_KEY", settled.people["alice"].key.hex())
    wallet = {"rpc": settled.anvil.url, "contract": settled.address.lower(), "chain_id": OTHER}
    (tmp_path / "wallet.json").write_text(json.dumps(wallet))
    with pytest.raises(WrongChain):
        Session(tmp_path).signed_exchange.force_exit(1, ETH)
    monkeypatch.setenv("PROOFBOOK_CHAIN_ID", str(settled.chain_id))
    assert Session(tmp_path).signed_exchange.force_exit(1, ETH)["status"] == 1


def test_a_chain_id_that_is_none_is_refused(monkeypatch):
    monkeypatch.delenv("PROOFBOOK_CHAIN_ID", raising=False)
    assert chain_from_environment() == 0
    for text in ("0", "-1", "0x1", "1" * 40):
        monkeypatch.setenv("PROOFBOOK_CHAIN_ID", text)
        with pytest.raises(EscapeSetting):
            chain_from_environment()


# --- fees


def test_a_node_that_asks_for_a_fortune_gets_nothing(settled):
    alice = settled.people["alice"]
    node = Node(settled.anvil.url, returns("requestFee(uint8)", 99 * 10**9))
    with pytest.raises(FeeTooHigh, match="99000000000 gwei"):
        Escape(node, settled.address, alice).request(1, ETH)
    assert node.sent == []


def test_nor_by_the_highest_fee_where_the_fee_was_too_little(settled):
    alice = settled.people["alice"]
    node = Node(settled.anvil.url, lies(returns("requestFee(uint8)", FEE - 1), returns("exitFeeCap()", 2**63)))
    Escape(node, settled.address, alice).request(1, ETH)
    (raw,) = node.sent
    assert own_transaction(bytes.fromhex(raw[2:]), alice.address)["value"] == DEFAULT_LIMIT * 10**9
    assert settled.by("alice").claim_of(alice.address, ETH) == DEFAULT_LIMIT - FEE


def test_the_limit_of_fees_is_the_traders(settled, monkeypatch):
    alice = settled.people["alice"]
    monkeypatch.setenv("PROOFBOOK_MAX_REQUEST_FEE", str(FEE - 1))
    with pytest.raises(FeeTooHigh):
        Escape(settled.anvil.url, settled.address, alice).request(1, ETH)
    monkeypatch.setenv("PROOFBOOK_MAX_REQUEST_FEE", "")
    assert fee_limit_from_environment() == DEFAULT_LIMIT
    for text in ("0", "1e9", "9" * 20):
        monkeypatch.setenv("PROOFBOOK_MAX_REQUEST_FEE", text)
        with pytest.raises(EscapeSetting):
            Escape(settled.anvil.url, settled.address, alice)


def test_outbid_once_the_highest_fee_is_sent_and_the_rest_is_a_claim(settled):
    """Somebody queues before every one of ours, so what was the fee is too little."""
    alice = settled.people["alice"]
    node = Node(settled.anvil.url, lies(returns("requestFee(uint8)", FEE - 1), returns("exitFeeCap()", 5 * FEE)))
    Escape(node, settled.address, alice).request(1, ETH)
    assert len(node.sent) == 1, "the first was refused when it was estimated"
    last = settled.queue()[-1]
    assert (last.request.account, last.request.token, last.fee) == (1, ETH, FEE)
    assert settled.by("alice").claim_of(alice.address, ETH) == 4 * FEE
    node.lie = lies(returns("requestFee(uint8)", FEE - 2), returns("exitFeeCap()", FEE - 1))
    with pytest.raises(ContractRevert, match="ValueTooLow"):
        Escape(node, settled.address, alice).request(1, USD)
