"""The last resort: where the data lead to no state, no exit can be proven, but much can be done without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from proofbook.escape.owned import Owned
from proofbook.escape.session import Done, Escape
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.table import RequestKind
from proofbook.verifier.contract import Reader
from proofbook.verifier.errors import RpcUnavailable

Filed = Mapping[tuple[int, int], int]
"""Forced exits filed without a state: the contract's last batch then, by account and token."""
_Attempt = Callable[[], Done]


def last_resort(escape: Escape, what: Owned, filed: Filed, on_step: Callable[[Done], None]) -> None:
    """Ask for all that the last good state shows, freeze when that is due, and have claims paid.

    What is refused holds back nothing else.

    Parameters
    ----------
    escape : Escape
        The way out; its history has problems.
    what : Owned
        What the last good state shows.
    filed : mapping of (int, int) to int
        What was asked for already: the chain is told by a node that may hide it, and each request costs a fee.
    on_step : callable
        Given each step when it is done.

    Raises
    ------
    ProofbookError
        The first of the steps that failed, when all were tried; `RpcUnavailable` at once.
    """
    first: ProofbookError | None = None
    for attempt in (*_claims(escape, what), *_requests(escape, what, filed), *_freeze(escape, what)):
        try:
            done = attempt()
        except RpcUnavailable:
            raise
        except ProofbookError as error:
            first = first or error
        else:
            on_step(done)
    if first is not None:
        raise first


def _claims(escape: Escape, what: Owned) -> Iterator[_Attempt]:
    """Yield the claims that the contract itself tells of."""
    exchange = what.exchange
    reader = Reader(escape.rpc, exchange.address, exchange.block)
    owner = f"0x{what.owner:040x}"
    for token in exchange.tokens:
        if reader.read("claims(address,uint16)", "uint64", owner, token.id)[0]:
            yield partial(escape.claim, token.id, owner)


def _requests(escape: Escape, what: Owned, filed: Filed) -> Iterator[_Attempt]:
    if what.exchange.frozen:
        return
    asked = {(q.request.account, q.request.token) for q in what.waiting if q.request.kind == RequestKind.EXIT}
    for account in what.accounts:
        for token in account.balances:
            key = (account.index, token)
            # Once more only for what a later batch left there or brought.
            if key not in asked and escape.history.number > filed.get(key, -1):
                yield partial(escape.request, *key)


def _freeze(escape: Escape, what: Owned) -> Iterator[_Attempt]:
    """Yield the freeze by the oldest request; whether it is that, and late, the contract checks."""
    oldest = escape.history.requests.get(what.exchange.served)
    stuck = what.waiting or any(account.balances for account in what.accounts)
    if not what.exchange.frozen and stuck and oldest is not None and escape.now() > oldest.deadline:
        yield escape.freeze
