"""Several batches in flight: proven at once and sent in order, whatever happens to provers, transactions and blocks."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from proofbook.chain.events import batches_since
from proofbook.operator.batcher import Frozen, queued
from proofbook.protocol.table import ETH_TOKEN

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("live")]

COIN = 2
# Requests of `populated` fill two batches.
TWO = {"prover_workers": 2, "pipeline_depth": 2}


async def until(condition, seconds=240):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about")


def on_chain(live):
    """The numbers of the batches that the chain has, in the order in which it got them."""
    return [event.number for event in batches_since(live.by("alice"), 0, live.w3.eth.block_number)]


def count_sent(live):
    return live.w3.eth.get_transaction_count(live.people["operator"].address)


def mine_at(live, gwei):
    """Make a block with this base fee."""
    live.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * 10**9))
    live.anvil.mine(1)


async def stages(s):
    return [(b["number"], b["stage"]) for b in (await s.get("/v1/health"))["in_flight"]]


def test_two_batches_are_proven_at_once_and_sent_in_order(populated, session, tmp_path, faults):
    live = populated

    async def work(s):
        # The first batch's proof is begun only when the second one's is there.
        planned = faults(tmp_path, s.operator, batch_1=["wait:end 2"])
        flush = asyncio.create_task(s.operator.flush())
        await until(lambda: "end 2" in planned.events())
        await until(lambda: s.operator.store.get_batch(2).proof)
        assert await stages(s) == [(1, "proving"), (2, "proven")]
        assert on_chain(live) == []
        assert [(b["number"], b["state"]) for b in (await s.get("/v1/batches"))["batches"]][0] == (2, "proven")
        assert await flush == [1, 2]
        assert planned.events()[-2:] == ["end 2", "end 1"]
        assert await stages(s) == []
        return [s.operator.store.get_batch(number) for number in (1, 2)]

    first, second = session(live.directory(tmp_path / "operator", **TWO), work)
    assert on_chain(live) == [1, 2] and count_sent(live) == 2
    assert first.block < second.block and first.nonce < second.nonce


def test_orders_are_matched_and_the_next_batch_is_built_while_one_is_proven(populated, session, tmp_path, faults):
    live = populated

    async def trade(s, id_):
        await s.post("/v1/orders", live.order(1, "sell", 1000, 10, id_), 201)
        told = await s.post("/v1/orders", live.order(2, "buy", 1000, 10, id_), 201)
        assert told["order"]["status"] == "filled"

    async def work(s):
        await s.post("/v1/batches", None, 200)
        planned = faults(tmp_path, s.operator, batch_3=["wait:go"])
        s.operator.batcher.pool._idle.pop().discard()  # it is an honest one
        await trade(s, 1)
        first = asyncio.create_task(s.operator.flush())
        await until(lambda: "begin 3" in planned.events())
        await trade(s, 2)
        second = asyncio.create_task(s.operator.flush())
        await until(lambda: s.operator.store.get_batch(4) is not None)
        await trade(s, 3)
        third = asyncio.create_task(s.operator.flush())
        await asyncio.sleep(0.3)
        # One worker, and room for two: the fifth batch is not sealed yet, its trade is long acknowledged.
        assert await stages(s) == [(3, "proving"), (4, "built")]
        assert [b["state"] for b in (await s.get("/v1/batches?limit=2"))["batches"]] == ["built", "built"]
        assert len(s.operator.engine.settlement.log) == 1 and on_chain(live) == [1, 2]
        planned.tell("go")
        assert set(await first) | set(await second) | set(await third) == {3, 4, 5}
        assert s.operator.engine.get_balance(1, COIN).total == 10_000 - 300
        return s.operator.batcher.state.root

    root = session(live.directory(tmp_path / "operator", pipeline_depth=2), work)
    assert root == live.by("alice").state_root() and on_chain(live) == [1, 2, 3, 4, 5]


def test_a_free_worker_is_no_reason_to_seal_and_a_flush_waits_for_what_was_there(populated, session, tmp_path, faults):
    """What comes after a flush has begun does not keep it waiting: it would never end under a steady flow."""
    live = populated

    async def trade(s, id_):
        await s.post("/v1/orders", live.order(1, "sell", 1000, 10, id_), 201)
        await s.post("/v1/orders", live.order(2, "buy", 1000, 10, id_), 201)

    async def work(s):
        await s.post("/v1/batches", None, 200)
        planned = faults(tmp_path, s.operator, batch_4=["wait:go"])
        s.operator.batcher.pool._idle.pop().discard()  # it is an honest one
        await trade(s, 1)
        for _ in range(3):
            await s.operator._batch()
        assert await stages(s) == [] and s.operator.batcher.count_waiting() == 1
        flush = asyncio.create_task(s.operator.flush())
        await until(lambda: s.operator.engine.settlement.in_flight)
        for id_ in (2, 3):
            await trade(s, id_)
        # Two are enough.
        await s.operator._batch()
        await until(lambda: len(s.operator.engine.settlement.in_flight) == 2)
        assert await asyncio.wait_for(flush, 60) == [3]
        assert [number for number, _ in await stages(s)] == [4] and s.operator.batcher.count_waiting() == 0
        planned.tell("go")
        assert await s.operator.flush() == [4]

    session(live.directory(tmp_path / "operator", min_actions=2, batch_interval_s=7_200.0, pipeline_depth=2), work)


def test_a_worker_killed_in_the_middle_of_a_proof_is_replaced(populated, session, tmp_path, faults):
    live = populated

    async def work(s):
        s.impatient()
        planned = faults(tmp_path, s.operator, batch_1=["hang"], batch_2=["wait:killed"])
        flush = asyncio.create_task(s.operator.flush())
        await until(lambda: {"begin 1", "begin 2"} <= set(planned.events()))
        workers = {number: worker.pid for number, worker in s.operator.batcher.pool.running.items()}
        os.kill(workers[1], signal.SIGKILL)
        await until(lambda: planned.events().count("begin 1") == 2)
        assert s.operator.batcher.pool.running[2].pid == workers[2]
        planned.tell("killed")
        assert await flush == [1, 2]

    session(live.directory(tmp_path / "operator", **TWO), work)
    assert on_chain(live) == [1, 2] and count_sent(live) == 2


def test_whatever_comes_instead_of_a_proof_is_tried_again(live, session, tmp_path, faults):
    async def work(s):
        s.impatient(prove_attempts=6)
        planned = faults(tmp_path, s.operator, batch_1=["die", "nonsense", "damage", "other", "wrong", "honest"])
        assert await s.operator.flush() == [1]
        events = planned.events()
        # A damaged witness has no proof; with the other faults there is one, or something that looks like one.
        assert events.count("begin 1") == 6 and events[-2:] == ["begin 1", "end 1"]
        assert s.operator._error is None

    session(live.directory(tmp_path / "operator"), work)
    assert on_chain(live) == [1] and count_sent(live) == 1


def test_with_one_batch_too_old_those_built_on_it_are_made_anew(populated, session, tmp_path, crash):
    """Its transaction was signed when it was young enough: mined, it fails, and its nonce is used up."""
    live = populated
    directory = live.directory(tmp_path / "operator", **TWO)

    def at_signing(stage):
        if stage == "signed":
            raise crash(stage)

    async def work(s):
        before = {number: s.operator.store.get_batch(number) for number in (1, 2)}
        live.w3.eth.send_raw_transaction(bytes.fromhex(before[1].raw_tx))  # it was on its way when the kill came
        flushed = await s.operator.flush()
        return before, {number: s.operator.store.get_batch(number) for number in (1, 2)}, flushed

    with pytest.raises(crash):
        session(directory, lambda s: s.operator.flush(), crash_at=at_signing)
    live.anvil.increase_time(12_000)
    before, after, flushed = session(directory, work)
    assert flushed == [1, 2] == on_chain(live)
    assert before[1].raw_tx and before[2].state in ("built", "witnessed", "proven")
    assert all(after[n].timestamp > before[n].timestamp + 7_200 for n in (1, 2))
    (failed,) = before[1].sent
    assert live.w3.eth.get_transaction_receipt(failed)["status"] == 0
    assert count_sent(live) == 3


def test_a_nonce_that_something_else_used_is_not_waited_for(populated, session, tmp_path, crash):
    live = populated
    directory = live.directory(tmp_path / "operator", **TWO)
    operator = live.people["operator"].address

    def at_signing(stage):
        if stage == "signed":
            raise crash(stage)

    with pytest.raises(crash):
        session(directory, lambda s: s.operator.flush(), crash_at=at_signing)
    live.anvil.rpc("anvil_impersonateAccount", operator)
    live.w3.eth.wait_for_transaction_receipt(live.w3.eth.send_transaction({"from": operator, "to": operator}))

    async def work(s):
        s.impatient(replace_after_s=10_000)
        await asyncio.wait_for(s.operator.flush(), 120)
        return [s.operator.store.get_batch(number).nonce for number in (1, 2)]

    assert session(directory, work) == [1, 2]
    assert on_chain(live) == [1, 2] and count_sent(live) == 3


def test_a_batch_outbid_leaves_the_next_one_its_nonce(populated, session, tmp_path):
    live = populated

    async def work(s):
        s.impatient(replace_after_s=0.3)
        live.anvil.rpc("evm_setAutomine", False)
        mine_at(live, 1)
        try:
            flush = asyncio.create_task(s.operator.flush())
            for number in (1, 2):
                for count in (1, 2):
                    await until(lambda n=number, c=count: len(getattr(s.operator.store.get_batch(n), "sent", ())) >= c)
                    await until(lambda: int(live.anvil.rpc("txpool_status")["pending"], 16) == 1)
                    mine_at(live, 20 if count == 1 else 1)  # a block that is too dear for it; and one that takes it
            await until(flush.done)
            assert await flush == [1, 2]
        finally:
            live.anvil.rpc("evm_setAutomine", True)
            mine_at(live, 1)
        return [s.operator.store.get_batch(number) for number in (1, 2)]

    records = session(live.directory(tmp_path / "operator", **TWO), work)
    assert [record.nonce for record in records] == [0, 1]
    assert all(record.tx in record.sent for record in records)
    assert on_chain(live) == [1, 2] and count_sent(live) == 2


def test_confirmations_do_not_hold_up_the_next_batch_and_a_reorganisation_is_made_good(populated, session, tmp_path):
    live = populated
    live.anvil.mine(8)  # the requests are deep enough

    async def work(s):
        flush = asyncio.create_task(s.operator.flush())
        fork = live.w3.eth.block_number
        await until(lambda: on_chain(live) == [1, 2])
        await until(lambda: all(stage == "mined" for _, stage in s.operator.batcher.get_stages()))
        assert await stages(s) == [(1, "mined"), (2, "mined")]
        assert s.operator.batcher.number == 0 and not flush.done()
        sent = {number: s.operator.store.get_batch(number).sent for number in (1, 2)}
        # Both batches vanish, and somebody else's block takes their place.
        live.anvil.rpc("anvil_reorg", live.w3.eth.block_number - fork, [])
        assert on_chain(live) == []
        await until(lambda: on_chain(live) == [1, 2])
        assert {number: s.operator.store.get_batch(number).sent for number in (1, 2)} == sent
        live.anvil.mine(6)
        await until(flush.done)
        assert await flush == [1, 2]
        return s.operator.batcher.state.root

    root = session(live.directory(tmp_path / "operator", confirmations=4, **TWO), work)
    assert root == live.by("alice").state_root() and count_sent(live) == 2


def test_after_a_reorganisation_a_batch_outbids_what_is_left_of_the_next_one(populated, session, tmp_path):
    """The operator's first nonce goes elsewhere on the new chain, so batch 1 needs the one that batch 2 had."""
    live = populated
    live.anvil.mine(8)
    operator = live.people["operator"].address

    async def work(s):
        s.impatient(confirmations=4)
        flush = asyncio.create_task(s.operator.flush())
        fork = live.w3.eth.block_number
        await until(lambda: on_chain(live) == [1, 2])
        await until(lambda: all(stage == "mined" for _, stage in s.operator.batcher.get_stages()))
        stale = s.operator.store.get_batch(2)
        async with s.operator.batcher._lock:
            live.anvil.rpc("anvil_reorg", live.w3.eth.block_number - fork, [])
            live.anvil.rpc("anvil_dropAllTransactions")
            live.anvil.rpc("anvil_impersonateAccount", operator)
            live.w3.eth.wait_for_transaction_receipt(live.w3.eth.send_transaction({"from": operator, "to": operator}))
            live.anvil.rpc("evm_setAutomine", False)
            live.w3.eth.send_raw_transaction(bytes.fromhex(stale.raw_tx))
        assert count_sent(live) == 1 == stale.nonce
        try:
            await until(lambda: len(s.operator.store.get_batch(1).sent) == 2)
            await asyncio.sleep(0.3)
        finally:
            live.anvil.rpc("evm_setAutomine", True)
        live.anvil.mine(1)
        await until(lambda: on_chain(live) == [1, 2])
        live.anvil.mine(6)
        await until(flush.done)
        assert await flush == [1, 2]
        return [s.operator.store.get_batch(number).nonce for number in (1, 2)]

    assert session(live.directory(tmp_path / "operator", confirmations=4, **TWO), work) == [1, 2]
    assert count_sent(live) == 3


def test_what_is_mined_before_a_freeze_is_settled_and_the_rest_given_up(populated, session, tmp_path, crash):
    live = populated
    live.anvil.mine(8)
    directory = live.directory(tmp_path / "operator", confirmations=4, **TWO)

    def at_mined(stage):
        if stage == "mined":
            raise crash(stage)

    with pytest.raises(crash):
        session(directory, lambda s: s.operator.flush(), crash_at=at_mined)
    assert on_chain(live) == [1]
    live.anvil.increase_time(40_000)

    async def work(s):
        oldest = s.operator.store.list_requests(live.by("alice").queue()[0], 1)
        live.by("alice").freeze(queued(oldest[0]))
        s.impatient(confirmations=4)
        flush = asyncio.create_task(s.operator.flush())
        await until(lambda: s.operator.batcher.get_stages() == [(1, "mined"), (2, "proven")])
        await asyncio.sleep(0.5)  # time to ask for batch 2, and to be told that the exchange is frozen
        assert not flush.done() and not s.operator.engine.frozen
        live.anvil.mine(6)
        await asyncio.wait([flush])
        assert isinstance(flush.exception(), Frozen)

    session(directory, work)

    async def look(s):
        await s.client.post("/v1/batches")
        assert s.operator.engine.frozen and s.operator.batcher.number == 1
        assert not s.operator.engine.settlement.in_flight
        assert s.operator.engine.get_balance(2, ETH_TOKEN).total == 0  # its deposit was batch 2's
        return s.operator.batcher.state.root

    assert session(directory, look) == live.by("alice").state_root()
