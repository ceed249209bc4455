"""A node that is late, cut off, gone, behind, or lies: the operator works on, and settles everything once."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from proofbook.protocol.table import ETH_TOKEN

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trouble")]

SEND = "eth_sendRawTransaction"
RECEIPT = "eth_getTransactionReceipt"
ABSENT = {
    "delay": lambda f: f.Delay(1.3),
    "connection cut before": lambda f: f.Cut(),
    "connection cut after": lambda f: f.Cut(after=True),
    "status 500": lambda f: f.Status(500),
    "status 429": lambda f: f.Status(429),
    "every answer an error": lambda f: f.Refuse("internal error"),
    "every answer null": lambda f: f.Nothing(),
    "no events": lambda f: f.Refuse("query timeout", "eth_getLogs"),
    "no receipts": lambda f: f.Nothing("eth_getTransactionReceipt"),
}
LIES = {
    "nonce too low": lambda f: f.Nonce(-1),
    "nonce too high": lambda f: f.Nonce(3),
    "behind by 3 blocks": lambda f: f.Lag(3),
    "behind by 40 blocks": lambda f: f.Lag(40),
    "transaction swallowed": lambda f: f.Swallow(),
    "transaction taken, answer: already known": lambda f: f.Refuse("already known", SEND, though=True),
    "transaction taken, answer: nonce too low": lambda f: f.Refuse("nonce too low", SEND, though=True),
    "transaction taken, answer: internal error": lambda f: f.Refuse("internal error", SEND, though=True),
    "transaction taken, connection cut": lambda f: f.Cut(SEND, after=True),
    "transaction refused: nonce too low": lambda f: f.Refuse("nonce too low", SEND),
    "transaction refused: already known": lambda f: f.Refuse("already known", SEND),
    "receipts without a status": lambda f: f.Change(lambda r: r and r | {"status": None}, RECEIPT),
    "receipts of another block": lambda f: f.Change(lambda r: r and r | {"blockNumber": hex(10**9)}, RECEIPT),
    "receipts of a block below zero": lambda f: f.Change(lambda r: r and r | {"blockNumber": "-0x5"}, RECEIPT),
}


@pytest.mark.parametrize("kinds", [ABSENT, LIES], ids=["absent", "lies"])
def test_a_node_that_fails_or_lies_is_outlived(night, proxy, fault, report, long, kinds):
    async def work(n):
        ids = itertools.count(1)
        with proxy.gone():
            await n.trade(next(ids))
            await asyncio.sleep(1.5)
            assert n.operator.stopped is None and not n.is_idle()
        report("faults", "gone")
        for k, (name, make) in enumerate(kinds.items()):
            wrong = make(fault)
            if long or k % 2:
                await n.trade(next(ids))
                await n.until(lambda: n.operator.engine.settlement.in_flight, name)
            with proxy.use(wrong):
                if long or not k % 2:
                    await n.trade(next(ids))  # orders are taken all the while
                await n.until(lambda wrong=wrong: wrong.struck, name)
                await asyncio.sleep(0.5)
                assert n.operator.stopped is None, name
            await n.settled(name)
            report("faults", name)

    night(work, rpc_url=proxy.url)


def cut(logs):
    return [entry | {"data": entry["data"][:-64]} for entry in logs]


def told_twice(logs):
    """The last event again, as one of the next request."""
    more = [
        entry | {"topics": [entry["topics"][0], hex_word(int(entry["topics"][1], 16) + 1), *entry["topics"][2:]]}
        for entry in logs[-1:]
    ]
    return logs + more


def enlarged(logs):
    """Deposits of more: the third word of the data."""
    return [entry | {"data": entry["data"][:130] + hex_word(10**6)[2:] + entry["data"][194:]} for entry in logs]


def hex_word(number):
    return f"0x{number:064x}"


EVENTS = {"cut short": cut, "of a request that is not there": told_twice, "of another content": enlarged}


def test_events_that_are_wrong_are_read_later(populated, night, proxy, fault, report):
    """Not one of them may be kept: what is stored is read again at every start."""
    live = populated

    async def work(n):
        await n.settled()
        total = n.operator.engine.get_balance(2, ETH_TOKEN).total
        for k, (name, change) in enumerate(EVENTS.items(), 1):
            with proxy.use(fault.Change(change, "eth_getLogs")):
                live.deposit("bob", 2, ETH_TOKEN, 9)
                await n.until(lambda: "rpc_unavailable" in n.operator.get_health().trouble, name, 30)
                assert n.operator.store.list_requests(n.operator.engine.registry.next_request, 9) == []
            now = total + 9 * k
            await n.until(lambda now=now: n.operator.engine.get_balance(2, ETH_TOKEN).total == now, name)
            report("faults", f"events {name}")
        await n.settled()

    night(work, rpc_url=proxy.url)


TIMES = {"before all time": "-0x5", "longer than the journal takes": "-0x" + "f" * 3500, "after all time": hex(2**62)}


def test_a_time_that_is_none_is_never_written_down(night, proxy, fault, report):
    """A batch sealed by it could not be read again at the next start, or would have all that is unsettled undone."""

    async def work(n):
        await n.settled()
        for k, (name, told) in enumerate(TIMES.items(), 1):
            wrong = fault.Change(lambda block, told=told: block | {"timestamp": told}, "eth_getBlockByNumber")
            with proxy.use(wrong):
                await n.trade(k)
                await n.until(lambda: "rpc_unavailable" in n.operator.get_health().trouble, name, 30)
                await asyncio.sleep(1.0)
                assert not n.operator.engine.settlement.in_flight and len(n.operator.engine.settlement.log) == 1
            await n.settled(name)
            report("faults", f"a block's time {name}")

    async def look(n):
        await n.settled()

    night(work, rpc_url=proxy.url, clock="wall")
    night(look)
