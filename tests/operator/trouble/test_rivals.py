"""Two operators on one journal or one key, and transactions that are outbid, dropped, or priced out."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from proofbook.operator.batches import StateDiverged
from proofbook.operator.service import Operator

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trouble")]

PATIENCE_S = 120


def test_a_second_operator_on_one_journal_is_refused(night, report):
    program = Path(sys.executable).parent / "proofbook"

    async def work(n):
        command = [str(program), "operator", "run", "--dir", str(night.directory), "--json"]
        second = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        told, _ = await asyncio.wait_for(second.communicate(), 120)
        assert second.returncode == 1 and json.loads(told)["error"]["code"] == "journal_locked"
        # The first one did not notice.
        await n.trade(1)
        await n.settled()

    night(work)
    report("faults", "two operators on one journal")


def test_of_two_operators_on_one_key_one_stops(populated, night, run_beside, tmp_path, report):
    live = populated
    other = live.directory(tmp_path / "other", batch_interval_s=0.1, rpc_attempts=2)

    async def fight(a):
        async def beside(b):
            # What they are told differs, so their batches do.
            await a.trade(1, lots=3)
            await b.trade(1, lots=7)
            end = time.monotonic() + PATIENCE_S
            while not (a.operator.stopped or b.operator.stopped):
                assert time.monotonic() < end, "both work on"
                await asyncio.sleep(0.05)
            loser = a if a.operator.stopped else b
            assert await loser.stopped() == "state_diverged"
            winner = b if loser is a else a
            await winner.trade(2)
            await winner.settled()
            # It stays stopped: nothing is fought over.
            sent = live.w3.eth.get_transaction_count(live.people["operator"].address)
            await asyncio.sleep(0.5)
            assert live.w3.eth.get_transaction_count(live.people["operator"].address) == sent

        await run_beside(other, live, beside)

    night(fight)
    report("faults", "two operators on one key")


def test_an_old_copy_of_the_directory_is_noticed_before_it_takes_orders(night, tmp_path, report):
    copy = tmp_path / "copy"

    async def settle(n, id_):
        await n.trade(id_)
        await n.settled()

    night(lambda n: settle(n, 1))
    shutil.copytree(night.directory, copy)
    night(lambda n: settle(n, 2))

    async def start(operator):
        try:
            await operator.start()
        finally:
            await operator.close()

    with pytest.raises(StateDiverged, match="an old copy"):
        asyncio.run(start(Operator(copy)))
    report("faults", "old copy of the directory")


def spend(live, nonce, price):
    """Have the operator's key send something else with a nonce of a batch."""
    sender = live.people["operator"]
    tx = {
        "to": live.deployer,
        "value": 1,
        "gas": 21_000,
        "nonce": nonce,
        "chainId": 31337,
        "maxFeePerGas": price,
        "maxPriorityFeePerGas": price,
    }
    live.w3.eth.send_raw_transaction(sender.sign_transaction(tx).raw_transaction)


KINDS = ("outbid by another transaction of the key", "priced out", "dropped")


async def lose(n, kind, id_):
    """Have a batch's transaction not mined in one way, and see it replaced."""
    live, pool, operator = n.live, n.live.anvil, n.live.people["operator"].address
    batches, sent = n.operator.batcher.number, live.w3.eth.get_transaction_count(operator)
    pool.rpc("evm_setAutomine", False)
    try:
        await n.trade(id_)
        # Stored before it is sent, so the pool is asked.
        await n.until(lambda: int(pool.rpc("txpool_status")["pending"], 16) == 1, kind)
        waiting = live.w3.eth.get_transaction(n.operator.store.get_batch(batches + 1).sent[0])
        if kind == "dropped":
            pool.rpc("anvil_dropAllTransactions")
        elif kind == "priced out":
            pool.rpc("anvil_setNextBlockBaseFeePerGas", hex(waiting["maxFeePerGas"] * 2))
            pool.mine(1)
        else:
            spend(live, waiting["nonce"], waiting["maxFeePerGas"] * 4)
            pool.mine(1)
            assert live.w3.eth.get_transaction_count(operator) == sent + 1
        assert live.by("alice").batch_number() == batches
        await n.settled(kind, mine=True)
    finally:
        pool.rpc("evm_setAutomine", True)
    assert live.by("alice").batch_number() == batches + 1
    assert live.w3.eth.get_transaction_count(operator) == sent + 1 + kind.startswith("outbid")


def test_a_transaction_that_is_not_mined_is_replaced(night, report):
    async def work(n):
        await n.settled()
        n.operator.batcher._options = replace(n.operator.batcher._options, replace_after_s=2.0)
        for k, kind in enumerate(KINDS, 1):
            await lose(n, kind, k)
            report("faults", f"transaction {kind}")

    night(work)
