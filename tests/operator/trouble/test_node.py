"""A node that is late, cut off, gone, behind, or lies: the operator works on, and settles everything once."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trouble")]

FAULTS = {
    "delay": lambda f: f.Delay(1.3),
    "cut before": lambda f: f.Cut(),
    "cut after": lambda f: f.Cut(after=True),
    "500": lambda f: f.Status(500),
    "429": lambda f: f.Status(429),
    "nonce too low": lambda f: f.Nonce(-1),
    "nonce too high": lambda f: f.Nonce(3),
    "lag": lambda f: f.Lag(3),
    "swallowed transaction": lambda f: f.Swallow(),
    "refused though taken: already known": lambda f: f.Refuse("already known", "eth_sendRawTransaction", though=True),
    "refused though taken: nonce": lambda f: f.Refuse("nonce too low", "eth_sendRawTransaction", though=True),
    "refused though taken: internal": lambda f: f.Refuse("internal error", "eth_sendRawTransaction", though=True),
    "refused: nonce too low": lambda f: f.Refuse("nonce too low", "eth_sendRawTransaction"),
    "no receipts": lambda f: f.Nothing("eth_getTransactionReceipt"),
    "no events": lambda f: f.Refuse("query timeout", "eth_getLogs"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_node_is_outlived(night, proxy, fault, report, name):
    wrong = FAULTS[name](fault)

    async def work(n):
        await n.trade(1)
        await n.settled()
        with proxy.use(wrong):
            await n.trade(2)
            await n.until(lambda: wrong.struck >= 1)
            await asyncio.sleep(1.5)
            await n.trade(3)  # orders are taken all the while
            assert n.operator.stopped is None
        await n.settled()
        await n.trade(4)
        await n.settled()

    night(work, rpc_url=proxy.url)
    report("faults", name)


def test_a_node_that_is_gone_for_a_while_is_waited_for(night, proxy, report):
    async def work(n):
        await n.trade(1)
        await n.settled()
        await n.trade(2)
        with proxy.gone():
            await n.trade(3)
            await asyncio.sleep(2)
            assert n.operator.stopped is None and not n.is_idle()
        await n.settled()

    night(work, rpc_url=proxy.url)
    report("faults", "gone")
