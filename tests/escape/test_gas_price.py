"""A transaction of a trader that waits too long: outbid, also after a crash, and never above the limit."""

from __future__ import annotations

import json
import threading
import time

import pytest
from web3 import Web3

from proofbook.chain.errors import GasPriceLimit, GasPriceSetting, TransactionFailed
from proofbook.chain.fees import DEFAULT_LIMIT_GWEI, GWEI, LIMIT_VARIABLE, bid, limit_from_environment
from proofbook.chain.transactions import Sender, own_transaction
from proofbook.escape.leave import leave
from proofbook.escape.sent import Sent
from proofbook.escape.session import Escape

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2


@pytest.fixture
def gas(settled):
    """No block is made unless it is asked for; the base fee may be set."""
    settled.anvil.rpc("evm_setAutomine", False)
    set_base_fee(settled, 2)
    yield settled
    settled.anvil.rpc("evm_setAutomine", True)
    set_base_fee(settled, 1)


def set_base_fee(settled, gwei):
    settled.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))
    settled.anvil.mine(1)


def waiting(settled):
    """What alice has in the pool."""
    pool = settled.anvil.rpc("txpool_content")["pending"]
    mine = {a.lower(): txs for a, txs in pool.items()}.get(settled.people["alice"].address.lower(), {})
    return [dict(tx) for tx in mine.values()]


def until(holds, seconds=240.0):
    for _ in range(int(seconds / 0.05)):
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError("it never came")


def sender_of(settled, **options):
    exchange = settled.by("alice")
    call = exchange.contract.functions["claimFor"](settled.people["bob"].address, ETH)  # anybody may send it
    return Sender(settled.w3, settled.people["alice"], exchange.abi, **options), call


class Aside(threading.Thread):
    """Something done on another thread, whose result or error comes with `get`."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.result, self.error = work, None, None
        self.start()

    def run(self):
        try:
            self.result = self.work()
        except Exception as error:
            self.error = error

    def get(self):
        self.join(100)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.result


def test_priced_out_it_is_outbid_and_counts_once(gas, stored, monkeypatch):
    monkeypatch.setattr("proofbook.escape.session.OUTBID_SECONDS", 1.0)
    alice, queued = gas.people["alice"].address, len(gas.queue())
    before = gas.w3.eth.get_transaction_count(alice)
    run = Aside(lambda: Escape(gas.anvil.url, gas.address, gas.people["alice"], stored).run())
    (first,) = until(lambda: waiting(gas))
    set_base_fee(gas, 2 * int(first["maxFeePerGas"], 16) // GWEI)
    assert gas.w3.eth.get_transaction_count(alice) == before  # priced out
    until(lambda: waiting(gas) and waiting(gas)[0]["hash"] != first["hash"])
    for _ in range(100):
        gas.anvil.mine(1)
        time.sleep(0.1)
        if not run.is_alive():
            break
    done, rest = run.get()
    assert [step.step.token for step in done] == [ETH, USD] and rest.name == "wait"
    assert len(gas.queue()) == queued + 2 and gas.w3.eth.get_transaction_count(alice) == before + 2
    assert gas.w3.eth.get_transaction(done[0].tx)["nonce"] == before and done[0].tx != first["hash"]


def test_the_run_after_a_killed_one_outbids_what_that_left_waiting(gas, stored, tmp_path, monkeypatch):
    monkeypatch.setattr("proofbook.escape.session.OUTBID_SECONDS", 1.0)
    monkeypatch.setattr("proofbook.escape.session.SEND_SECONDS", 0.5)
    alice, queued = gas.people["alice"], len(gas.queue())
    before = gas.w3.eth.get_transaction_count(alice.address)

    def make():
        return Escape(gas.anvil.url, gas.address, alice, stored, cache=tmp_path)

    with pytest.raises(TransactionFailed, match="not mined within"):
        make().run()
    (first,) = waiting(gas)
    monkeypatch.setattr("proofbook.escape.session.SEND_SECONDS", 60)
    again = Aside(lambda: make().run())
    (second,) = until(lambda: [tx for tx in waiting(gas) if tx["hash"] != first["hash"]])
    assert (second["nonce"], second["input"], second["value"]) == (first["nonce"], first["input"], first["value"])
    for _ in range(100):
        gas.anvil.mine(1)
        time.sleep(0.1)
        if not again.is_alive():
            break
    done, rest = again.get()
    # The first request was the killed run's, and was not filed again.
    assert [step.step.token for step in done] == [USD] and rest.name == "wait"
    assert [q.request.token for q in gas.queue()[queued:]] == [ETH, USD]
    assert gas.w3.eth.get_transaction_count(alice.address) == before + 2


def test_what_is_kept_is_not_believed(settled, tmp_path):
    """Whoever can write the file can't have anything signed that the key did not sign for this contract."""
    alice, bob = settled.people["alice"], settled.people["bob"]
    fees = {"gas": 21_000, "maxFeePerGas": GWEI, "maxPriorityFeePerGas": 1, "chainId": 1, "data": b"", "value": 7}

    def signed(key, to, nonce=0):
        return bytes(key.sign_transaction({**fees, "to": Web3.to_checksum_address(to), "nonce": nonce}).raw_transaction)

    legacy = {"gas": 21_000, "gasPrice": GWEI, "nonce": 0, "to": Web3.to_checksum_address(settled.address), "value": 7}
    good, last = signed(alice, settled.address), signed(alice, settled.address, nonce=1)
    priced = bytes(alice.sign_transaction(legacy | {"chainId": 1, "data": b"\x07"}).raw_transaction)
    bad = [
        signed(bob, settled.address),
        signed(alice, bob.address),
        bytes(alice.sign_transaction(legacy).raw_transaction),  # of no chain, so of any
        good[:-1],
        b"",
        b"\x02" + b"\xff" * 64,
    ]
    told: list[str] = []
    sent = Sent(tmp_path, settled.address, alice.address, told.append)
    for raw in (*bad, good, priced, last):
        sent.add(raw)
    chain = 1
    for kept in (sent, Sent(tmp_path, settled.address, alice.address, told.append)):
        assert kept.get_all(0, chain) == [good, priced] and kept.get_all(1, chain) == [last]
    (path,) = tmp_path.iterdir()
    texts = [json.dumps({"format": "proofbook-sent-1", "sent": [raw.hex() for raw in bad]})]
    texts += ["", "[]", "null", '{"format": 1}', '{"format": "proofbook-sent-1", "sent": ["zz"]}', "[" * 100_000]
    texts += [" " * (1 << 20) + "{}", '{"format": "proofbook-sent-1", "sent": 5}']
    for text in texts:
        path.write_text(text)
        assert Sent(tmp_path, settled.address, alice.address, told.append).get_all(0, chain) == []
    read = own_transaction(priced, alice.address)
    assert own_transaction(good, alice.address)["value"] == read["value"] == 7
    assert (read["chainId"], read["data"], read["gasPrice"]) == (1, b"\x07", GWEI)
    assert told == []
    Sent(path, settled.address, alice.address, told.append).add(good)
    assert len(told) == 1 and "was not written" in told[0]


def test_no_more_than_the_limit_is_offered(gas, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "4")
    sender, call = sender_of(gas, timeout=3.0, patience=0.5)
    set_base_fee(gas, 40)
    with pytest.raises(GasPriceLimit, match="gas costs 40 gwei"):
        sender.send(call)
    assert waiting(gas) == []
    set_base_fee(gas, 2)
    with pytest.raises(GasPriceLimit, match="offers 4 gwei already, the limit is 4"):
        sender.send(call)
    (tx,) = waiting(gas)
    assert int(tx["maxFeePerGas"], 16) == 4 * GWEI


def test_a_node_that_names_a_mad_price_gets_the_limit_at_most(settled, proxy):
    """The tip goes to whoever makes the block: a node in league with one could ask for all that the key has."""
    proxy.lie = lambda method, result: hex(10**30) if method == "eth_maxPriorityFeePerGas" else result
    w3 = Web3(Web3.HTTPProvider(proxy.url))
    assert bid(w3, (), 50 * GWEI) == {"maxFeePerGas": 50 * GWEI, "maxPriorityFeePerGas": 50 * GWEI}
    for mad in (-1, 2**300):
        proxy.lie = lambda method, result, mad=mad: hex(mad) if method == "eth_maxPriorityFeePerGas" else result
        with pytest.raises(TransactionFailed, match="no sense"):
            bid(w3, (), 50 * GWEI)


def test_rivals_are_outbid_by_a_quarter_and_legacy_ones_too(settled, monkeypatch):
    wanted = bid(settled.w3, (), 500 * GWEI)
    high = {"maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": 8 * GWEI, "gasPrice": 9 * GWEI}
    assert bid(settled.w3, [high], 500 * GWEI) == {
        "maxFeePerGas": 125 * GWEI + 1,
        "maxPriorityFeePerGas": 10 * GWEI + 1,
    }
    assert set(bid(settled.w3, [{"gasPrice": 40 * GWEI}], 500 * GWEI).values()) == {50 * GWEI + 1}
    assert bid(settled.w3, [{"maxFeePerGas": 1, "maxPriorityFeePerGas": 1}], 500 * GWEI) == wanted
    # Both have to rise for nodes to take it, also from nothing.
    nothing = {"maxFeePerGas": 40 * GWEI, "maxPriorityFeePerGas": 0}
    monkeypatch.setattr(type(settled.w3.eth), "max_priority_fee", 0)
    assert bid(settled.w3, [nothing], 500 * GWEI) == {"maxFeePerGas": 50 * GWEI + 1, "maxPriorityFeePerGas": 1}
    assert bid(settled.w3, (), 500 * GWEI)["maxPriorityFeePerGas"] == 0
    # Within the limit a smaller step will do, as long as nodes take it.
    assert bid(settled.w3, [high], 115 * GWEI)["maxFeePerGas"] == 115 * GWEI
    with pytest.raises(GasPriceLimit, match="offers 100 gwei already, the limit is 109"):
        bid(settled.w3, [high], 109 * GWEI)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "²", "10000000000", "9" * 30])
def test_a_limit_out_of_range_is_refused(monkeypatch, text):
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    with pytest.raises(GasPriceSetting, match="whole gwei, 1 to 1000000000"):
        limit_from_environment()
    monkeypatch.setenv(LIMIT_VARIABLE, "")
    assert limit_from_environment() == DEFAULT_LIMIT_GWEI * GWEI


def test_a_limit_out_of_range_is_found_before_it_is_needed(settled, monkeypatch):
    """And not when a watch has to leave, after a year."""
    monkeypatch.setenv(LIMIT_VARIABLE, "none")
    with pytest.raises(GasPriceSetting):
        Escape(settled.anvil.url, settled.address, settled.people["alice"])


def test_what_else_took_the_nonce_is_said(gas):
    """Another program of the trader's uses the key, and outbids us."""
    alice = gas.people["alice"]
    sender, call = sender_of(gas, timeout=60.0, patience=1.0)
    sending = Aside(lambda: sender.send(call))
    (ours,) = until(lambda: waiting(gas))
    other = {"to": alice.address, "value": 0, "gas": 21_000, "nonce": int(ours["nonce"], 16)}
    other |= {"chainId": gas.w3.eth.chain_id, "maxFeePerGas": 90 * GWEI, "maxPriorityFeePerGas": 50 * GWEI}
    gas.w3.eth.send_raw_transaction(alice.sign_transaction(other).raw_transaction)
    gas.anvil.mine(1)
    with pytest.raises(TransactionFailed, match="took its place"):
        sending.get()


def test_an_offer_whose_answer_is_lost_is_looked_for_too(gas, proxy):
    """The better one arrived, and is mined; the node only says that it has it."""
    honest = proxy.ask

    def ask(body):
        request, answer = json.loads(body), honest(body)
        if request["method"] != "eth_sendRawTransaction" or proxy.count("eth_sendRawTransaction") < 2:
            return answer
        return json.dumps(
            {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": "already known"}}
        ).encode()

    proxy.ask = ask
    sender, call = sender_of(gas, timeout=60.0, patience=1.0)
    sender.w3 = Web3(Web3.HTTPProvider(proxy.url))
    sending = Aside(lambda: sender.send(call))
    (first,) = until(lambda: waiting(gas))
    set_base_fee(gas, 2 * int(first["maxFeePerGas"], 16) // GWEI)
    until(lambda: waiting(gas) and waiting(gas)[0]["hash"] != first["hash"])
    gas.anvil.mine(1)
    assert Web3.to_hex(sending.get()["transactionHash"]) != first["hash"]


def test_gas_that_is_too_dear_is_waited_for_without_end(settled, stored, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "20")
    bob = settled.people["bob"]
    set_base_fee(settled, 40)
    told: list[str] = []

    def pause(seconds):
        if len(told) == 25:
            for _ in range(8):
                set_base_fee(settled, 1)
        if len(told) > 40:
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            leave(Escape(settled.anvil.url, settled.address, bob, stored), progress=told.append, pause=pause)
    finally:
        set_base_fee(settled, 1)
    assert sum("gas costs 40 gwei" in line and "trying again" in line for line in told) >= 25
    assert any(line.startswith("waiting: the deadline") for line in told)
