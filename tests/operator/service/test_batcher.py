"""Batches that meet trouble: proofs that fail, transactions that are lost, refusals by the contract."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from proofbook.chain.errors import ContractRevert
from proofbook.chain.events import requests_since
from proofbook.operator.batcher import (
    CommitRefused,
    ProvingFailed,
    StateDiverged,
    queued,
    rebuild_state,
)
from proofbook.operator.codes import OperatorError
from proofbook.operator.l1 import FreezeSeen
from proofbook.operator.service import Operator, WrongExchange
from proofbook.operator.settings import SettingsError, load_settings
from proofbook.operator.store import BATCHES, BatchStore, StoreError
from proofbook.protocol.state import State
from proofbook.protocol.table import ETH_TOKEN, MINIMAL

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("live")]

COIN = 2


def test_proving_is_tried_again_and_then_an_error(live, session, tmp_path, faults):
    directory = live.directory(tmp_path / "operator")

    async def work(s):
        s.impatient()
        planned = faults(tmp_path, s.operator, batch_1=["fail", "fail", "fail"])
        told = await s.post("/v1/batches", None, 503)
        assert told["error"]["code"] == "proving_failed" and "no memory" in told["error"]["message"]
        assert planned.events() == ["begin 1", "begin 1"]
        assert not list((directory / "work").iterdir())
        assert isinstance(s.operator._error, ProvingFailed)
        assert live.by("alice").batch_number() == 0
        # Whoever comes next does not go on with what failed half-way.
        with pytest.raises(ProvingFailed):
            await s.operator.flush()
        assert planned.events() == ["begin 1", "begin 1"]
        # What is mended goes on from there.
        s.operator._error = s.operator.batcher._failure = None
        assert [b["number"] for b in (await s.post("/v1/batches", None, 200))["batches"]] == [1]
        assert planned.events()[2:] == ["begin 1", "begin 1", "end 1"]

    session(directory, work)


def price_out(live, gwei):
    """A block that what waits is too cheap for."""
    live.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * 10**9))
    live.anvil.mine(1)


def test_a_lost_transaction_is_sent_again_and_a_slow_one_outbid(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator")
    operator = live.people["operator"].address

    async def sent(s, count):
        for _ in range(400):
            await asyncio.sleep(0.05)
            record = s.operator.store.get_batch(1)
            if record is not None and len(record.sent) >= count:
                return record
        raise AssertionError("it was not sent")

    async def work(s):
        s.impatient(replace_after_s=0.3)
        live.anvil.rpc("evm_setAutomine", False)
        price_out(live, 1)
        try:
            flush = asyncio.create_task(s.operator.flush())
            first = await sent(s, 1)
            # No block comes: no price would help.
            await asyncio.sleep(1.0)
            assert s.operator.store.get_batch(1).sent == first.sent
            # Dropped, it is sent again as it is.
            live.anvil.rpc("anvil_dropAllTransactions")
            while int(live.anvil.rpc("txpool_status")["pending"], 16) < 1:
                await asyncio.sleep(0.05)
            assert s.operator.store.get_batch(1).sent == first.sent
            price_out(live, 20)
            record = await sent(s, 2)
            # The newest is stored before it is sent.
            while int(live.anvil.rpc("txpool_status")["pending"], 16) < 1:
                await asyncio.sleep(0.05)
            # The node forgets what waits; the operator notices only after its patience, and sends it again.
            live.anvil.rpc("anvil_dropAllTransactions")
            live.anvil.mine(1)
            while len(s.operator.store.get_batch(1).sent) == len(record.sent):
                await asyncio.sleep(0.05)
            while not flush.done():  # what was just signed may not be with the node yet
                live.anvil.mine(1)
                await asyncio.sleep(0.1)
            assert await flush == [1]
        finally:
            live.anvil.rpc("evm_setAutomine", True)
            price_out(live, 1)
        assert live.w3.eth.get_transaction_count(operator) == 1
        assert s.operator.store.get_batch(1).state == "confirmed"

    session(directory, work)


def test_m22_a_batch_that_became_too_old_is_made_anew(populated, session, tmp_path, crash):
    live = populated
    directory = live.directory(tmp_path / "operator")

    def at_proof(stage):
        if stage == "proven":
            raise crash(stage)

    async def trade(s):
        await s.post("/v1/orders", live.order(1, "sell", 1000, 10, 1), 201)
        await s.post("/v1/orders", live.order(2, "buy", 1000, 10, 1), 201)
        await s.post("/v1/batches", None)

    with pytest.raises(crash):
        session(directory, trade, crash_at=at_proof)
    before = BatchStore(directory / BATCHES, f"31337:{live.address.lower()}")
    old = before.get_batch(1)
    assert old is not None
    before.close()
    live.anvil.increase_time(12_000)  # MAX_LAG is 7,200, and the orders were valid for an hour

    async def go_on(s):
        await s.post("/v1/batches", None, 200)
        new = s.operator.store.get_batch(1)
        assert new.timestamp > old.timestamp + 7_200
        # The fill can't be proven any more, so it never happened; the deposits did.
        for account, id_ in ((1, 1), (2, 1)):
            order = await s.get(f"/v1/orders/{account}/{id_}")
            assert (order["status"], order["filled_base"]) == ("busted", "0")
        assert (await s.get("/v1/trades?market=COIN-ETH"))["trades"] == []
        assert s.operator.engine.get_balance(1, COIN).available == 10_000
        assert s.operator.engine.get_balance(2, ETH_TOKEN).available == 1_000_000
        return s.operator.batcher.state.root

    assert session(directory, go_on) == live.by("alice").state_root()


def test_a_frozen_exchange_ends_the_work(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator")
    live.open("alice", 1)

    async def work(s):
        live.anvil.increase_time(40_000)
        (first,) = s.operator.store.list_requests(0, 1)
        live.by("alice").freeze(queued(first))
        answer = await s.client.post("/v1/batches")
        assert (await s.get("/v1/health", 503))["error"]["code"] == "frozen"
        assert s.operator.engine.frozen
        assert answer.status_code in (200, 503)
        assert await s.refused("/v1/orders", live.order(1, "sell", 1000, 10, 1)) == (503, "stopped")

    session(directory, work)


def test_a_node_that_says_frozen_once_ends_nothing(live, session, tmp_path):
    async def work(s):
        l1, real = s.operator._l1, s.operator._l1.sign_commit

        def frozen(*args):
            raise ContractRevert("IsFrozen", {})

        l1.sign_commit = frozen
        with pytest.raises(FreezeSeen):
            await s.operator.flush()
        assert not s.operator.engine.frozen and s.operator.stopped is None
        l1.sign_commit = real
        assert await s.operator.flush() == [1]

    session(live.directory(tmp_path / "operator"), work)


def test_a_batch_mined_before_the_freeze_counts(live, session, tmp_path, crash):
    directory = live.directory(tmp_path / "operator")
    live.open("alice", 1)
    live.deposit("alice", 1, ETH_TOKEN, 500)

    def at_sending(stage):
        if stage == "sent":
            raise crash(stage)

    with pytest.raises(crash):
        session(directory, lambda s: s.operator.flush(), crash_at=at_sending)
    alice = live.by("alice")
    assert alice.batch_number() == 1
    live.deposit("alice", 1, ETH_TOKEN, 7)
    live.anvil.increase_time(40_000)
    *_, last = requests_since(alice, 0, live.w3.eth.block_number)
    alice.freeze(last.queued)

    async def look(s):
        if not s.operator.engine.frozen:
            assert await s.refused("/v1/orders", live.order(1, "sell", 1000, 10, 1)) == (503, "stopped")
            assert await s.operator.flush() == [1]
            await s.operator.poll()
        assert s.operator.engine.frozen and s.operator.batcher.number == 1
        assert s.operator.engine.get_balance(1, ETH_TOKEN).total == 500
        return s.operator.batcher.state.root

    for _ in range(2):
        assert session(directory, look) == alice.state_root()


def test_a_proof_the_contract_refuses_is_made_anew_or_stops_the_operator(live, session, tmp_path, faults):
    directory = live.directory(tmp_path / "operator")

    async def work(s):
        s.impatient()
        planned = faults(tmp_path, s.operator, batch_1=["wrong", "wrong", "wrong", "honest"])
        told = await s.post("/v1/batches", None, 503)
        assert told["error"]["code"] == "commit_refused" and "InvalidProof" in told["error"]["message"]
        assert isinstance(s.operator._error, CommitRefused)
        assert planned.events() == ["begin 1", "end 1"] * 2
        assert live.by("alice").batch_number() == 0
        assert live.w3.eth.get_transaction_count(live.people["operator"].address) == 0

    session(directory, work)

    async def again(s):
        s.impatient(prove_attempts=3)
        planned = faults(tmp_path, s.operator, batch_1=["wrong", "wrong", "wrong", "honest"])
        await s.post("/v1/batches", None, 200)
        assert planned.events() == ["begin 1", "end 1"] * 4

    session(directory, again)
    assert live.by("alice").batch_number() == 1
    assert live.w3.eth.get_transaction_count(live.people["operator"].address) == 1


def test_another_operator_on_the_same_key_is_noticed(live, session, tmp_path, crash):
    one, two = live.directory(tmp_path / "one"), live.directory(tmp_path / "two")
    live.open("alice", 1)

    def at_proof(stage):
        if stage == "proven":
            raise crash(stage)

    async def flush(s):
        return await s.post("/v1/batches", None)

    with pytest.raises(crash):
        session(one, flush, crash_at=at_proof)
    live.deposit("alice", 1, ETH_TOKEN, 5)
    assert [b["number"] for b in session(two, flush)["batches"]] == [1]
    assert session(one, flush)["error"]["code"] == "state_diverged"


def test_the_state_is_rebuilt_from_the_store_or_not_at_all(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator")

    async def work(s):
        await s.post("/v1/batches", None, 200)
        return s.operator.batcher.state.root, s.operator._sizes

    root, sizes = session(directory, work)
    store = BatchStore(directory / BATCHES, f"31337:{live.address.lower()}")
    state, number = rebuild_state(State(MINIMAL), store, sizes)
    assert (state.root, number) == (root, 1)
    record = store.get_batch(1)
    assert record is not None
    words = record.get_words()
    words[3] ^= 1
    store.put_batch(replace(record, words="".join(f"{word:064x}" for word in words)))
    with pytest.raises(StateDiverged):
        rebuild_state(State(MINIMAL), store, sizes)
    store.close()


def test_keys_contract_and_settings_must_fit(live, tmp_path):
    directory = live.directory(tmp_path / "operator")
    settings = load_settings(directory)
    with pytest.raises(WrongExchange):
        Operator(directory, replace(settings, preset="mainnet"))
    key = directory / "operator.key"
    text = key.read_text()
    key.chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by others"):
        Operator(directory)
    key.chmod(0o600)
    key.write_text(text[:-2] + ("1" if text[-2] != "1" else "2"))
    with pytest.raises(WrongExchange):
        Operator(directory)
    key.write_text(text)
    operator = Operator(directory)
    with pytest.raises(OperatorError, match="another operator runs"):
        Operator(directory)
    operator.abandon()


def test_files_are_closed_when_an_operator_can_not_be_made(live, tmp_path, monkeypatch):
    closed, close = [], BatchStore.close

    def note(store):
        closed.append(store)
        close(store)

    monkeypatch.setattr(BatchStore, "close", note)
    directory = live.directory(tmp_path / "operator")
    with monkeypatch.context() as patch:
        patch.setattr("proofbook.operator.service.Watcher", lambda *args: (_ for _ in ()).throw(StoreError("damaged")))
        with pytest.raises(StoreError):
            Operator(directory)
    assert len(closed) == 1
    Operator(directory).abandon()


def test_a_signed_transaction_names_its_nonce(live, tmp_path):
    operator = Operator(live.directory(tmp_path / "operator"))
    l1 = operator._l1
    call = live.by("operator").contract.functions["rotateOperator"](live.people["alice"].address)
    first = l1._sign(call, 0)
    assert (first.nonce, l1.get_nonce(), l1.find_receipts([first.tx])) == (0, 0, [])
    live.anvil.rpc("evm_setAutomine", False)
    l1.broadcast(first.raw)
    l1.broadcast(first.raw)  # known already: fine
    outbid = l1._sign(call, 0, l1._find_waiting([first.tx]))
    l1.broadcast(outbid.raw)
    live.anvil.rpc("evm_setAutomine", True)
    live.anvil.mine(1)
    assert l1.find_receipts([first.tx]) == []
    (receipt,) = l1.find_receipts([first.tx, outbid.tx])
    assert receipt["status"] == 1
    l1.broadcast(first.raw)  # its nonce is used: fine, and it never counts
    assert l1.get_nonce() == 1
    operator.abandon()
