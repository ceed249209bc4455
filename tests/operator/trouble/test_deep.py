"""Reorganisations deeper than the confirmations: a named stop that loses nothing, and the way back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proofbook.operator.batches import ReorgError
from proofbook.operator.l1 import L1
from proofbook.operator.service import Operator
from proofbook.protocol.table import ETH_TOKEN

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trouble")]

CONFIRMATIONS = 1


@pytest.fixture
def miner(populated):
    """A chain that goes on by itself."""
    over = threading.Event()

    def mine():
        while not over.wait(0.3):
            populated.anvil.mine(1)

    thread = threading.Thread(target=mine, daemon=True)

    def begin():
        thread.start()

    yield begin
    over.set()
    if thread.ident:
        thread.join()


def resubmit(directory):
    """Run `proofbook operator resubmit`, and return its exit code and answer."""
    command = [
        str(Path(sys.executable).parent / "proofbook"),
        "operator",
        "resubmit",
        "--dir",
        str(directory),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def transactions(live, first, last):
    """The raw transactions of these blocks but for the operator's."""
    operator, found = live.people["operator"].address, []
    for number in range(first, last + 1):
        block = live.w3.eth.get_block(number, True)
        found += [tx["hash"] for tx in block["transactions"] if tx["from"] != operator]
    return [live.anvil.rpc("eth_getRawTransactionByHash", live.w3.to_hex(tx)) for tx in found]


async def settle_twice(n):
    """Two batches beyond those of the accounts, and the block before a deposit among them."""
    live = n.live
    await n.settled(mine=True)
    fork = live.w3.eth.block_number
    await n.trade(1)
    await n.settled(mine=True)
    live.deposit("alice", 1, ETH_TOKEN, 44)
    await n.until(lambda: n.operator.engine.registry.seen)
    await n.settled(mine=True)
    return fork


def start(directory):
    """Start an operator on a loop of its own, and return what stops it."""
    operator = Operator(directory)

    async def work():
        try:
            await operator.start()
        finally:
            await operator.close()

    with pytest.raises(ReorgError) as told:
        asyncio.run(work())
    return str(told.value)


def test_lost_batches_are_sent_again_by_one_command(populated, night, report, miner, monkeypatch):
    live, directory = populated, night.directory

    async def reorganised(n):
        fork = await settle_twice(n)
        head = live.w3.eth.block_number
        lost = transactions(live, fork + 1, head)
        live.anvil.rpc("anvil_reorg", head - fork, [])
        assert await n.stopped() == "reorg"
        assert (await n.get("/v1/health", 503))["status"] == "stopped"
        assert await n.refused("/v1/orders", live.order(1, "sell", 1000, 10, 9)) == (503, "stopped")
        report("reorg_depths", head - fork)
        return lost

    lost = night(reorganised, confirmations=CONFIRMATIONS)
    assert len(lost) == 1 and live.by("alice").batch_number() == 2
    assert "confirmed" in start(directory)
    # The deposit is not mined again yet: nothing is sent before it is.
    code, answer = resubmit(directory)
    assert (code, answer["error"]["code"]) == (1, "reorg_pending") and "request 5" in answer["error"]["message"]
    assert live.by("alice").batch_number() == 2
    live.anvil.increase_time(100)  # its deadline is another one now
    live.anvil.rpc("eth_sendRawTransaction", *lost)
    live.anvil.mine(CONFIRMATIONS)
    # Killed in the middle, it is begun again.
    miner()
    with monkeypatch.context() as patch:
        calls, real = [], L1.broadcast

        def broadcast(self, raw):
            calls.append(raw)
            if len(calls) == 2:
                raise KeyboardInterrupt
            real(self, raw)

        patch.setattr(L1, "broadcast", broadcast)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(Operator(directory).resubmit())
    assert live.by("alice").batch_number() == 3
    assert resubmit(directory) == (0, {"requests": [], "batches": [4]})
    assert resubmit(directory) == (0, {"requests": [], "batches": []})

    async def go_on(n):
        await n.settled()
        await n.trade(2)
        await n.settled()
        assert n.operator.batcher.number == 5

    night(go_on, confirmations=CONFIRMATIONS)


def test_another_request_in_the_place_of_a_used_one_is_the_end_unless_the_chain_comes_back(
    populated, night, report, miner
):
    live, directory = populated, night.directory

    async def reorganised(n):
        fork = await settle_twice(n)
        head = live.w3.eth.block_number
        theirs = transactions(live, fork + 1, head)
        live.anvil.rpc("anvil_reorg", head - fork, [])
        live.deposit("bob", 2, ETH_TOKEN, 44)
        live.anvil.mine(CONFIRMATIONS)
        assert await n.stopped() == "reorg"
        return fork, theirs

    fork, theirs = night(reorganised, confirmations=CONFIRMATIONS)
    code, answer = resubmit(directory)
    assert (code, answer["error"]["code"]) == (1, "reorg")
    assert "request 5 was used, and this chain has another one in its place" in answer["error"]["message"]
    assert live.by("alice").batch_number() == 2
    # The miners may yet prefer the deposit that was used.
    live.anvil.rpc("anvil_reorg", live.w3.eth.block_number - fork, [[tx, 0] for tx in theirs])
    live.anvil.increase_time(100)
    miner()
    assert resubmit(directory) == (0, {"requests": [5], "batches": [3, 4]})

    async def go_on(n):
        await n.settled()
        await n.trade(2)
        await n.settled()

    night(go_on, confirmations=CONFIRMATIONS)
    report("faults", "another request in the place of a used one")
