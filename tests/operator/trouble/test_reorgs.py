"""Reorganisations of several depths at several moments: nothing is built on a lost batch, nothing is settled twice."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from proofbook.chain.events import requests_since
from proofbook.protocol.table import ETH_TOKEN

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trouble")]

COIN = 2
CONFIRMATIONS = 6
PATIENCE = 60


def raw(live, block):
    """The raw transactions of a block."""
    hashes = live.w3.eth.get_block(block)["transactions"]
    return [live.anvil.rpc("eth_getRawTransactionByHash", live.w3.to_hex(tx)) for tx in hashes]


def reorganise(live, depth, transactions=()):
    """Replace the newest blocks by as many others, with these raw transactions in them, one a block."""
    before = live.w3.eth.block_number
    live.anvil.rpc("anvil_reorg", depth, [[tx, k % depth] for k, tx in enumerate(transactions)])
    assert live.w3.eth.block_number == before


def head(live):
    return live.w3.eth.block_number


DEPTHS = (1, 2, 5)


async def lose(n, depth, id_):
    """Have batches and requests mined, dropped, and mined again, the requests in another order."""
    live, operator = n.live, n.live.people["operator"].address
    before, batches = head(live), live.by("alice").batch_number()
    await n.trade(id_)
    await n.until(lambda: n.get_stages() == ["mined"])
    if depth > 1:
        await n.trade(id_ + 1)
        await n.until(lambda: n.get_stages() == ["mined", "mined"])
    again = []
    if depth > 2:
        live.deposit("bob", 2, ETH_TOKEN, 11)
        live.deposit("alice", 1, ETH_TOKEN, 22)
        again = [raw(live, head(live))[0], raw(live, head(live) - 1)[0]]
        await n.until(lambda: len(n.operator.engine.registry.seen) == 2)
    live.anvil.mine(depth - (head(live) - before))
    words = {k: n.operator.store.get_batch(k).words for k in range(1, batches + 2)}
    reorganise(live, depth, again)
    await n.settled(mine=True)
    # The very batches that were lost are there again, and each took one transaction.
    assert {k: n.operator.store.get_batch(k).words for k in words} == words
    assert live.w3.eth.get_transaction_count(operator) == live.by("alice").batch_number()
    if depth > 2:
        requests = n.operator.store.list_requests(5, 2)
        assert [(r.account, r.amount) for r in requests] == [(1, 22), (2, 11)]


def test_a_reorganisation_within_the_confirmations_is_outlived(populated, night, report):
    populated.anvil.mine(CONFIRMATIONS)

    async def work(n):
        await n.settled(mine=True)
        for k, depth in enumerate(DEPTHS):
            await lose(n, depth, 2 * k + 1)
            report("reorg_depths", depth)

    night(work, confirmations=CONFIRMATIONS)


def test_a_chain_that_becomes_shorter_first_is_waited_for(populated, night, report):
    live = populated
    live.anvil.mine(CONFIRMATIONS)

    async def work(n):
        await n.settled(mine=True)
        snapshot = live.anvil.snapshot()
        live.deposit("alice", 1, ETH_TOKEN, 33)
        await n.until(lambda: n.operator.engine.registry.seen)
        await n.trade(1)
        await n.until(lambda: n.get_stages() == ["mined"])
        live.anvil.revert(snapshot)
        live.anvil.increase_time(5)
        await n.trade(2)
        await n.settled(mine=True)
        assert n.operator.engine.get_balance(1, COIN).total == 10_000 - 200

    night(work, confirmations=CONFIRMATIONS)
    report("faults", "chain shorter after a reorganisation")


async def reached(n, stage):
    """Wait for a batch of this stage, or a mined one; a block comes now and then, as chains have it.

    After a reorganisation the newest block's clock may be behind a batch's, which the contract then refuses.
    """
    for _ in range(PATIENCE):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(n.until(lambda: stage in n.get_stages() or "mined" in n.get_stages()), 4)
            return
        n.live.anvil.mine(1)
    raise AssertionError(f"no batch was {stage}: {n.operator.batcher.get_stages()}")


def test_one_reorganisation_after_another(populated, night, report, long):
    """At random moments, of random depths; the traders' transactions are mined again, the operator's are lost."""
    live, draw = populated, random.Random(7)
    live.anvil.mine(CONFIRMATIONS)

    async def work(n):
        await n.settled(mine=True)
        operator = live.people["operator"].address
        for k in range(1, 40 if long else 4):
            await n.trade(k)
            live.deposit(*draw.choice((("alice", 1, ETH_TOKEN, k), ("bob", 2, ETH_TOKEN, k))))
            stage = draw.choice(("sealed", "built", "proving", "proven", "submitted", "mined"))
            await reached(n, stage)
            live.anvil.mine(draw.randrange(3))
            depth = draw.randint(1, CONFIRMATIONS)
            blocks = [live.w3.eth.get_block(head(live) - i, True) for i in reversed(range(depth))]
            again = [tx["hash"] for block in blocks for tx in block["transactions"] if tx["from"] != operator]
            again = [live.anvil.rpc("eth_getRawTransactionByHash", live.w3.to_hex(tx)) for tx in again]
            reorganise(live, depth, again)
            assert n.operator.stopped is None, n.operator.stopped
        await n.settled(mine=True)

    night(work, confirmations=CONFIRMATIONS)
    report("faults", "reorganisations one after another")


async def freeze(n):
    """Have a request miss its deadline, and freeze; returns when the operator has seen it."""
    live, alice = n.live, n.live.by("alice")
    live.deposit("alice", 1, ETH_TOKEN, 33)
    await n.until(lambda: n.operator.engine.registry.seen)
    *_, missed = requests_since(alice, live.deployment.block, head(live))
    live.anvil.increase_time(40_000)
    alice.freeze(missed.queued)
    assert await n.stopped() == "freeze_seen"
    assert n.operator.get_health().status == "stopped" and not n.operator.engine.frozen
    answer = await n.client.post("/v1/orders", json=live.order(1, "sell", 1000, 1, 900))
    assert answer.status_code == 503 and "frozen a moment ago" in answer.json()["error"]["message"]


def test_a_freeze_counts_when_it_has_its_confirmations(populated, night, report):
    """It is for good in the journal: taken from one block that was dropped, it ends an exchange that lives."""
    live = populated
    live.anvil.mine(CONFIRMATIONS)

    async def work(n):
        await n.settled(mine=True)
        await n.trade(1)
        await n.settled(mine=True)
        await freeze(n)
        reorganise(live, 1)
        assert not live.by("alice").is_frozen()
        for _ in range(PATIENCE * 10):
            if n.operator.stopped is None:
                break
            await asyncio.sleep(0.1)
        await n.trade(2)
        await n.settled(mine=True)
        report("faults", "freeze taken away by a reorganisation")
        await freeze(n)
        live.anvil.mine(CONFIRMATIONS - 1)
        await asyncio.sleep(1.0)
        assert n.operator.stopped.code == "freeze_seen" and not n.operator.engine.frozen
        live.anvil.mine(1)
        for _ in range(PATIENCE * 10):
            if n.operator.stopped.code == "frozen":
                break
            await asyncio.sleep(0.1)
        assert n.operator.engine.frozen and n.operator.get_health().trouble == []

    night(work, confirmations=CONFIRMATIONS)
