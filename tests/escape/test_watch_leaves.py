"""The escape that begins by itself: each of its reasons, on the chain, to the money or to the requests for it."""

from __future__ import annotations

import pytest

from proofbook.chain.events import batches_since
from proofbook.escape.session import Escape
from proofbook.escape.watch import ESCAPE_ON, EXIT_CODES, EXIT_ESCAPED, Limits, Severity
from proofbook.protocol.table import RequestKind

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2


def code_changes(settled, tamper):
    tamper.code(settled.address)


def keys_change(settled, tamper):
    *_, key = settled.by("bob").contract.functions.sizes(0).call()
    tamper.code(key)


def money_goes(settled, tamper):
    tamper.dollars()


def proof_is_none(settled, tamper):
    tamper.take_any_proof()
    tamper.commit(0)


def operator_goes(settled, tamper):
    settled.anvil.increase_time(2000)


def deadline_passes(settled, tamper):
    settled.anvil.increase_time(4000)


def somebody_freezes(settled, tamper):
    deadline_passes(settled, tamper)
    Escape(settled.anvil.url, settled.address, settled.people["alice"]).freeze()


def data_are_lost(settled, tamper):
    """The node does not have the last batch's transaction; see the proxy in the test."""


def root_is_another(settled, tamper):
    tamper.root()


def books_are_wrong(settled, tamper):
    tamper.books()


LEFT = {
    "code_changed": code_changes,
    "deadline_passed": deadline_passes,
    "frozen": somebody_freezes,
    "insolvent": money_goes,
    "keys_changed": keys_change,
    "operator_gone": operator_goes,
    "proof": proof_is_none,
}
"""The state is known: it leaves."""
ASKED = {"books": books_are_wrong, "data": data_are_lost, "root": root_is_another}
"""The state is not known, or in doubt: it asks."""


def test_every_reason_to_leave_is_tried():
    assert LEFT.keys() | ASKED.keys() == ESCAPE_ON and not LEFT.keys() & ASKED.keys()


@pytest.mark.parametrize("reason", sorted(LEFT))
def test_it_leaves_for_every_reason(settled, eye, tamper, stored, monkeypatch, reason):
    """Bob, whose forced exit waits already; where it waits for the deadline, time goes on."""
    bob = settled.people["bob"]
    watch = eye("bob", artifacts=stored, escape=True, once=True, proofs_from=5, limits=Limits(stale=10**9))
    watch.look()
    assert not {code for _, code in watch.told()} & ESCAPE_ON
    LEFT[reason](settled, tamper)
    waited: list[bool] = []

    def wait(seconds):
        waited.append(settled.by("bob").is_frozen())
        settled.anvil.increase_time(4000)
        return False

    monkeypatch.setattr(watch.stop, "wait", wait)
    assert watch.watch.run() == EXIT_ESCAPED
    (started,) = [row["text"] for row in watch.rows if row["code"] == "escape_started"]
    assert reason in started.removeprefix("leaving, because of ").split(", ")
    assert watch.told()[-1] == ("event", "escaped")
    # Not before the deadline; and when all is out, for some blocks.
    assert (False in waited) == (reason not in ("deadline_passed", "frozen")) and waited[-1]
    exchange = settled.by("bob")
    assert exchange.is_frozen() and [exchange.account(k).exited for k in (1, 2)] == [False, True]
    assert settled.token.functions.balanceOf(bob.address).call() == 4969 * 1000
    assert exchange.claim_of(bob.address, ETH) == exchange.claim_of(bob.address, USD) == 0


@pytest.mark.parametrize("reason", sorted(ASKED))
def test_where_the_state_is_in_doubt_it_asks(settled, eye, tamper, stored, proxy, reason):
    *_, last = batches_since(settled.by("alice"), settled.deployment.block, settled.w3.eth.block_number)
    watch = eye("alice", artifacts=stored, escape=True, once=True, url=proxy.url, cache=False)
    if reason == "data":
        lost = last.place.tx.lower()
        proxy.lie = lambda method, result: (
            None if method == "eth_getTransactionByHash" and result and result["hash"].lower() == lost else result
        )
    ASKED[reason](settled, tamper)
    assert watch.watch.run() == EXIT_CODES[Severity.CRITICAL]
    assert ("raised", reason) in watch.told() and ("event", "escape_failed") not in watch.told()
    asked = [(q.request.kind, q.request.account, q.request.token) for q in settled.queue()[2:]]
    assert asked == [(RequestKind.EXIT, 1, ETH), (RequestKind.EXIT, 1, USD)]
    assert [code for state, code in watch.told() if state == "event"] == ["escape_step"] * 2
