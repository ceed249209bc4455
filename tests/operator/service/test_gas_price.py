"""What the operator offers for gas: more than rivals, never more than its limit, and what it waits for is told."""

from __future__ import annotations

import asyncio

import pytest

from proofbook.chain.fees import GWEI
from proofbook.operator.l1 import GasTooDear

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("live")]


@pytest.fixture
def gas(populated):
    """An exchange whose base fee may be set; anvil does not take it back with the rest."""
    yield populated
    set_base_fee(populated, 1)


@pytest.fixture
def no_blocks(gas):
    """No block is made unless it is asked for."""
    gas.anvil.rpc("evm_setAutomine", False)
    yield gas
    gas.anvil.rpc("evm_setAutomine", True)


def set_base_fee(live, gwei):
    live.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))
    live.anvil.mine(1)


def is_sent(s, number=1):
    record = s.operator.store.get_batch(number)
    return record is not None and bool(record.raw_tx)


async def until(holds, seconds=60.0):
    for _ in range(int(seconds / 0.05)):
        if holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came")


async def mined(live, flush):
    """Make blocks until a flush is done; returns its batches."""
    for _ in range(600):
        if flush.done():
            return await flush
        live.anvil.mine(1)
        await asyncio.sleep(0.1)
    raise AssertionError("it was never settled")


def prices(live, s, number=1):
    """What those transactions of a batch offer that the node has."""
    hashes = s.operator.store.get_batch(number).sent
    found = [live.w3.eth.get_transaction(tx) for tx in hashes[-1:]]
    return [(tx["maxFeePerGas"], tx["maxPriorityFeePerGas"]) for tx in found]


def test_gas_above_the_limit_is_waited_for(no_blocks, session, tmp_path):
    live = no_blocks
    set_base_fee(live, 40)

    async def work(s):
        s.impatient()
        for _ in range(2):
            with pytest.raises(GasTooDear, match="gas costs 40 gwei.*limit is 30.*max_gas_price_gwei"):
                await s.operator.flush()
        assert not is_sent(s) and live.w3.eth.get_block("pending")["transactions"] == []
        set_base_fee(live, 20)
        flush = asyncio.create_task(s.operator.flush())
        await until(lambda: is_sent(s))
        await until(lambda: live.w3.eth.get_block("pending")["transactions"])
        assert prices(live, s)[0][0] == 30 * GWEI
        assert await mined(live, flush) == [1, 2]

    session(live.directory(tmp_path / "operator", max_gas_price_gwei=30), work)


def test_outbidding_ends_at_the_limit_and_the_health_says_so(no_blocks, session, tmp_path):
    """A chain that stands still would else have the price grow without end."""
    live = no_blocks
    set_base_fee(live, 2)

    async def work(s):
        s.impatient(replace_after_s=0.2)
        s.operator._tasks = [asyncio.create_task(s.operator._forever(s.operator._batch, 0.0))]
        s.operator.batcher.want_all()
        await until(lambda: s.operator.get_health().trouble == ["gas_too_dear"])
        sent = s.operator.store.get_batch(1).sent
        offered = [tx["maxFeePerGas"] for tx in live.w3.eth.get_block("pending", True)["transactions"]]
        assert 2 <= len(sent) <= 8 and len(offered) == 1 and 5 * GWEI < offered[0] <= 9 * GWEI
        await asyncio.sleep(1.0)
        assert s.operator.store.get_batch(1).sent == sent and s.operator.stopped is None
        # Dropped, it is sent again as it is.
        live.anvil.rpc("anvil_dropAllTransactions")
        await until(lambda: int(live.anvil.rpc("txpool_status")["pending"], 16) == 1)
        live.anvil.mine(1)
        await until(lambda: s.operator.batcher.number >= 1 and s.operator.get_health().trouble == [])

    session(live.directory(tmp_path / "operator", max_gas_price_gwei=9, confirmations=0), work)


def test_what_was_signed_when_gas_was_cheap_is_priced_anew(gas, session, tmp_path, crash):
    """Some nodes refuse an offer below the base fee; a restart must not offer it for ever."""
    live = gas
    directory = live.directory(tmp_path / "operator")
    set_base_fee(live, 1)

    def at_signing(stage):
        if stage == "signed":
            raise crash(stage)

    with pytest.raises(crash):
        session(directory, lambda s: s.operator.flush(), crash_at=at_signing)
    live.anvil.rpc("evm_setAutomine", False)
    set_base_fee(live, 100)

    async def work(s):
        s.impatient()
        flush = asyncio.create_task(s.operator.flush())
        await until(lambda: len(s.operator.store.get_batch(1).sent) == 2)
        await until(lambda: int(live.anvil.rpc("txpool_status")["pending"], 16) == 1)
        assert await mined(live, flush) == [1, 2]

    try:
        session(directory, work)
    finally:
        live.anvil.rpc("evm_setAutomine", True)


def test_an_unknown_rival_of_the_same_nonce_is_outbid(no_blocks, session, tmp_path):
    """Another use of the key waits in the pool for more than we would offer at first, and is never mined."""
    live = no_blocks
    operator = live.people["operator"]
    set_base_fee(live, 2)
    rival = {"to": operator.address, "value": 0, "gas": 21_000, "nonce": 0, "chainId": live.w3.eth.chain_id}
    rival |= {"maxFeePerGas": 20 * GWEI, "maxPriorityFeePerGas": 10 * GWEI}
    digest = live.w3.eth.send_raw_transaction(operator.sign_transaction(rival).raw_transaction)

    async def work(s):
        s.impatient()
        flush = asyncio.create_task(s.operator.flush())
        waiting = lambda: live.w3.eth.get_block("pending")["transactions"]  # noqa: E731
        await until(lambda: is_sent(s) and waiting() and waiting() != [digest])
        assert await mined(live, flush) == [1, 2]
        record = s.operator.store.get_batch(1)
        assert record.nonce == 0 and len(record.sent) > 2

    session(live.directory(tmp_path / "operator"), work)
