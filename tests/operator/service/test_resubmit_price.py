"""Lost batches sent again: priced anew when blocks came without them or the node refused, and not while none came.

The chain is a stand-in: what it does at each question is the point. `trouble/test_deep.py` has a real one.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from proofbook.operator import resubmit
from proofbook.operator.l1 import SignedTx, Underpriced
from proofbook.operator.resubmit import Resubmission
from proofbook.operator.store import BatchRecord

RECORD = BatchRecord(
    number=1, size_id=0, timestamp=5, state="confirmed", words="", orders=0, trades=0, accounts=0, c="1"
)


class Chain:
    """An L1 whose node takes offers by plan: a word for each broadcast, and from then on the last one's."""

    def __init__(self, *fates):
        self.fates, self.head, self.done = list(fates), 10, False
        self.signed: list[str] = []
        self.given: list[str] = []
        self.exchange = self

    def get_head(self):
        return self.head, 0

    def batch_number(self):
        return int(self.done)

    def get_nonce(self):
        return int(self.done)

    def find_batch(self, number, first):
        return SimpleNamespace(new_root=7, place=SimpleNamespace(block=self.head, tx="0x"))

    def sign_commit(self, page, requests, c, proof, nonce, outbid=(), refused=""):
        self.signed.append(refused)
        return SignedTx(f"tx {len(self.signed)}", f"raw {len(self.signed)}", nonce)

    def broadcast(self, raw):
        self.given.append(raw)
        fate = self.fates.pop(0) if len(self.fates) > 1 else self.fates[0]
        if fate == "low":
            raise Underpriced("too low")
        self.head += fate == "block"
        self.done = fate == "mined"


def send(chain: Any, monkeypatch):
    monkeypatch.setattr(resubmit, "PATIENCE_S", 0.05)
    store: Any = SimpleNamespace(put_batch=lambda record: None, list_requests=lambda first, count: [])
    settings: Any = SimpleNamespace(rpc_attempts=1, poll_s=0.01, start_block=0)
    page: Any = SimpleNamespace(requests=(), header=SimpleNamespace(new_root=7))
    asyncio.run(Resubmission(store, chain, 0, (), settings)._send(RECORD, page, 0))
    return chain


@pytest.mark.parametrize(
    ("fates", "signed", "given"),
    [
        (("mined",), [""], ["raw 1"]),
        # Swallowed again and again, with no block: the very same bytes.
        (("lost", "lost", "lost", "mined"), [""], ["raw 1"] * 4),
        # A block came without it: outbid.
        (("block", "lost", "mined"), ["", ""], ["raw 1", "raw 2", "raw 2"]),
        # Refused: a better offer than that one.
        (("low", "low", "mined"), ["", "raw 1", "raw 2"], ["raw 1", "raw 2", "raw 3"]),
    ],
)
def test_a_lost_batch_is_priced_anew_only_where_that_can_help(monkeypatch, fates, signed, given):
    chain = send(Chain(*fates), monkeypatch)
    assert (chain.signed, chain.given) == (signed, given)
