"""What the operator offers for gas: more than rivals, never more than its limit, and what it waits for is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import traceback

import pytest
from msgspec.structs import replace
from web3.eth import Eth

from proofbook.chain.errors import TransactionFailed
from proofbook.chain.fees import GWEI
from proofbook.chain.transactions import prices_of
from proofbook.operator.l1 import GasTooDear, InsufficientFunds, RpcUnavailable, Underpriced
from proofbook.operator.submission import MAX_PATIENCE

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
    live.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(int(gwei * GWEI)))
    live.anvil.mine(1)


def is_sent(s, number=1):
    record = s.operator.store.get_batch(number)
    return record is not None and bool(record.raw_tx)


async def until(holds, seconds=240.0):
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
    """Else the price would grow without end; what waits stays with the node, and the operator goes on."""
    live = no_blocks
    set_base_fee(live, 2)

    async def work(s):
        s.impatient(replace_after_s=0.2)
        s.operator.background.repeat(s.operator._batch, 0.0)
        s.operator.batcher.want_all()
        for gwei, count in ((6, 1), (9.5, 2)):
            await until(lambda n=count: is_sent(s) and len(s.operator.store.get_batch(1).sent) == n)
            await until(lambda: int(live.anvil.rpc("txpool_status")["pending"], 16) == 1)
            set_base_fee(live, gwei)
        await until(lambda: s.operator.get_health().trouble == ["gas_too_dear"])
        sent = s.operator.store.get_batch(1).sent
        offered = [tx["maxFeePerGas"] for tx in live.w3.eth.get_block("pending", True)["transactions"]]
        assert len(sent) == 2 and offered == [9 * GWEI]
        assert prices(live, s)[0][0] == 9 * GWEI
        await asyncio.sleep(1.0)
        assert s.operator.store.get_batch(1).sent == sent and s.operator.stopped is None
        # Told at every look, what it waits for holds the frames of one.
        s.impatient(replace_after_s=100)
        (waits,) = [batch for batch in s.operator.batcher._flight if batch.dear]
        await asyncio.sleep(1.0)
        same = waits.dear
        await asyncio.sleep(1.5)
        assert waits.dear is same and len(list(traceback.walk_tb(same.__traceback__))) < 20
        s.impatient(replace_after_s=0.2)
        # Dropped, it is sent again as it is.
        live.anvil.rpc("anvil_dropAllTransactions")
        await until(lambda: int(live.anvil.rpc("txpool_status")["pending"], 16) == 1)
        set_base_fee(live, 2)
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


@pytest.mark.parametrize("restarts", [False, True])
def test_what_no_node_takes_is_priced_anew(gas, session, tmp_path, restarts):
    """Signed while gas was dear, for more than the key holds: no node takes it, also when gas is cheap again."""
    live = gas
    directory = live.directory(tmp_path / "operator")
    operator = live.people["operator"].address
    set_base_fee(live, 100)
    live.anvil.rpc("anvil_setBalance", operator, hex(GWEI * 20_000_000))

    async def dear(s):
        s.impatient(replace_after_s=0.2)
        for _ in range(3):
            with pytest.raises(InsufficientFunds):
                await s.operator.flush()
        # No block came: no price would be another.
        assert len(s.operator.store.get_batch(1).sent) == 1
        set_base_fee(live, 1)
        if not restarts:
            await cheap(s)

    async def cheap(s):
        s.impatient(replace_after_s=0.2)
        for _ in range(40):
            with contextlib.suppress(RpcUnavailable):
                await s.operator.flush()
                break
            live.anvil.mine(1)
            await asyncio.sleep(0.1)
        record = s.operator.store.get_batch(1)
        assert (record.state, len(record.sent), record.nonce) == ("confirmed", 2, 0)
        assert live.w3.eth.get_transaction(record.tx)["maxFeePerGas"] < 20 * GWEI

    session(directory, dear)
    if restarts:
        session(directory, cheap)


def test_what_no_node_takes_is_not_signed_at_every_look(live, session, tmp_path):
    """Each hash is kept and asked for: a key without money for a weekend must not make thousands."""

    async def work(s):
        s.impatient(replace_after_s=0.1)
        submitter, times, real = s.operator.batcher._submitter, [], s.operator._l1.sign_commit

        def sign(*args):
            times.append(time.monotonic())
            live.anvil.mine(1)
            return real(*args)

        def refuse(raw):
            raise TransactionFailed("tx fee exceeds the configured cap")

        s.operator._l1.sign_commit, s.operator._l1.broadcast = sign, refuse
        while len(times) < 5:
            with pytest.raises(RpcUnavailable, match="exceeds the configured cap"):
                await s.operator.flush()
            live.anvil.mine(1)
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert all(pause >= 0.1 * k for k, pause in enumerate(pauses, 1))
        # And the pause has an end.
        (batch,) = s.operator.batcher._flight
        batch.record = replace(batch.record, sent=["0x"] * 1000)
        batch.offered_at = time.monotonic() - 0.1 * MAX_PATIENCE
        assert submitter._is_stale(batch, await submitter.look(0))

    session(live.directory(tmp_path / "operator"), work)


def test_a_node_that_names_another_chain_has_nothing_signed_for_it(live, session, tmp_path, monkeypatch):
    """The transaction could be mined there, by whoever put a contract at the same address; here it never would."""

    async def work(s):
        monkeypatch.setattr(Eth, "chain_id", property(lambda eth: 5))
        assert await s.operator.flush() == [1]

    session(live.directory(tmp_path / "operator"), work)


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


def test_a_node_that_refuses_every_offer_gets_better_ones_after_growing_pauses(live, session, tmp_path):
    """It would else have the operator offer all it may within seconds."""

    async def work(s):
        s.impatient(poll_s=0.2)
        asked, real = [], s.operator._l1.broadcast

        def refuse(raw):
            asked.append(time.monotonic())
            raise Underpriced("transaction underpriced")

        s.operator._l1.broadcast = refuse
        flush = asyncio.create_task(s.operator.flush())
        await until(lambda: len(asked) == 5)
        assert s.operator.store.get_batch(1).sent and not flush.done()
        pauses = [after - before for before, after in itertools.pairwise(asked)]
        assert all(pause >= 0.2 * 1.5**k for k, pause in enumerate(pauses, 1))
        s.operator._l1.broadcast = real
        assert await flush == [1]

    session(live.directory(tmp_path / "operator"), work)


def test_an_offer_too_low_is_raised_on_a_chain_without_eip_1559_too(live, session, tmp_path):
    async def work(s):
        s.impatient()
        l1, eth = s.operator._l1, s.operator._l1.w3.eth
        get_block, broadcast, raws = eth.get_block, l1.broadcast, []

        def without_base_fee(*args):
            return {name: value for name, value in get_block(*args).items() if name != "baseFeePerGas"}

        def refuse_once(raw):
            raws.append(bytes.fromhex(raw))
            if len(raws) < 3:
                raise Underpriced("transaction underpriced")
            broadcast(raw)

        eth.get_block, l1.broadcast = without_base_fee, refuse_once
        assert await s.operator.flush() == [1]
        offers = [prices_of(raw)["gasPrice"] for raw in raws]
        assert [b * 100 >= a * 125 for a, b in itertools.pairwise(offers)] == [True, True]
        mined = live.w3.eth.get_transaction(s.operator.store.get_batch(1).tx)
        assert mined["gasPrice"] == offers[-1]

    session(live.directory(tmp_path / "operator"), work)


@pytest.mark.parametrize("price", [0, 1, 127, 128, 255, 256, 10**9, 2**64, 2**255])
@pytest.mark.parametrize("size", [0, 1, 40, 300, 100_000])
def test_what_a_signed_transaction_offers_can_be_read(live_exchange, price, size):
    key = live_exchange.people["operator"]
    tx = {"to": key.address, "value": 5, "gas": 21_000, "nonce": price, "chainId": 31337, "data": b"\x9a" * size}
    legacy = key.sign_transaction(tx | {"nonce": price % 2**63, "gasPrice": price}).raw_transaction
    assert prices_of(bytes(legacy)) == {"gasPrice": price}
    fees = {"maxFeePerGas": price, "maxPriorityFeePerGas": price // 2}
    assert prices_of(bytes(key.sign_transaction(tx | {"nonce": 1} | fees).raw_transaction)) == fees
    for damaged in (b"", bytes(legacy[:1]), b"\xf8\x20\xb8", b"\x02\xff"):
        with pytest.raises(TransactionFailed, match="no transaction"):
            prices_of(damaged)
