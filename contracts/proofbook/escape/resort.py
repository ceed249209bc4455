"""The last resort: where the data lead to no state, no exit can be proven, but much can be done without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from proofbook.escape.errors import WatchStopped
from proofbook.escape.owned import Owned, Step, requests_of
from proofbook.escape.session import Done, Escape
from proofbook.protocol.errors import ProofbookError
from proofbook.verifier.contract import Reader
from proofbook.verifier.errors import RpcUnavailable

_Attempt = Callable[[], Done | None]


def last_resort(escape: Escape, what: Owned, on_step: Callable[[Done], None]) -> None:
    """Ask for all that the last good state shows, freeze when that is due, and have claims paid.

    What is refused holds back nothing else; what was asked for already is not asked for again.

    Parameters
    ----------
    escape : Escape
        The way out; its history has problems.
    what : Owned
        What the last good state shows.
    on_step : callable
        Given each step when it is done.

    Raises
    ------
    ProofbookError
        The first of the steps that failed, when all were tried; `RpcUnavailable` and `WatchStopped` at once.
    """
    first: ProofbookError | None = None
    for attempt in (*_claims(escape, what), *_requests(escape, what), *_freeze(escape, what)):
        try:
            done = attempt()
        except (RpcUnavailable, WatchStopped):
            raise
        except ProofbookError as error:
            first = first or error
        else:
            if done is not None:
                on_step(done)
    if first is not None:
        raise first


def _claims(escape: Escape, what: Owned) -> Iterator[_Attempt]:
    """Yield the claims that the contract itself tells of."""
    exchange = what.exchange
    reader = Reader(escape.rpc, exchange.address, exchange.block)
    owner = f"0x{what.owner:040x}"

    def claim(token: int) -> Done | None:
        held = reader.read("claims(address,uint16)", "uint64", owner, token)[0]
        return escape.take(Step("claim", token=token), owner) if held else None

    for token in exchange.tokens:
        yield partial(claim, token.id)


def _requests(escape: Escape, what: Owned) -> Iterator[_Attempt]:
    """Yield the forced exits that nobody asked for: no request of the chain's, and none that is remembered."""
    if what.exchange.frozen:
        return

    def request(step: Step) -> Done | None:
        return None if (step.account, step.token) in escape.get_held() else escape.take(step)

    for step in requests_of(what):
        yield partial(request, step)


def _freeze(escape: Escape, what: Owned) -> Iterator[_Attempt]:
    """Yield the freeze by the oldest request; whether it is that, and late, the contract checks."""
    oldest = escape.history.requests.get(what.exchange.served)
    stuck = what.waiting or any(account.balances for account in what.accounts)
    if not what.exchange.frozen and stuck and oldest is not None and escape.now() > oldest.deadline:
        yield escape.freeze
