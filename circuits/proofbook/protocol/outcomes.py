"""What becomes of requests: which deposits bounce, and how much each exit takes (M13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from proofbook.protocol.state import State
from proofbook.protocol.table import MAX_AMOUNT, POSITIONS, RequestKind
from proofbook.protocol.words import Request, RequestRow


def find_outcomes(
    state: State, requests: Sequence[Request], deltas: Mapping[tuple[int, int], int]
) -> tuple[RequestRow, ...]:
    """Return the requests with the outcomes that the rules ask for.

    Parameters
    ----------
    state : State
        Before the batch.
    requests : sequence of Request
        Of one batch, in order.
    deltas : mapping of (account, token) to int
        Sum of all postings of actions and fees.

    Notes
    -----
    Where no outcome obeys the rules (the batch spends a deposit that has to bounce) the result doesn't either.
    """
    balances: dict[int, Counter[int]] = {}
    bounced: dict[int, set[int]] = {}
    for index in {request.account for request in requests}:
        own = [request for request in requests if request.account == index]
        balances[index] = Counter(dict(state.account(index).positions))
        balances[index].update({token: delta for (account, token), delta in deltas.items() if account == index})
        bounced[index] = _bounced(own, balances[index])
    for request in requests:
        if request.kind == RequestKind.DEPOSIT and request.token not in bounced[request.account]:
            balances[request.account][request.token] += request.amount
    rows: list[RequestRow] = []
    for request in requests:
        outcome = 0
        if request.kind == RequestKind.DEPOSIT:
            outcome = int(request.token in bounced[request.account])
        elif request.kind == RequestKind.EXIT:
            left = balances[request.account]
            outcome = min(max(left[request.token], 0), MAX_AMOUNT)
            left[request.token] -= outcome
        rows.append(RequestRow(request, outcome))
    return tuple(rows)


def _bounced(requests: Sequence[Request], others: Mapping[int, int]) -> set[int]:
    """Return the tokens whose deposits bounce at one account: first come, first served with the places left.

    `others` are the balances that the batch leaves without deposits and exits. All deposits of a token share one fate.
    """
    exits = {request.token for request in requests if request.kind == RequestKind.EXIT}
    deposits: Counter[int] = Counter()
    for request in requests:
        if request.kind == RequestKind.DEPOSIT:
            deposits[request.token] += request.amount
    # A token with a balance even without its deposits keeps its place, unless it exits.
    settled = [token for token, balance in others.items() if balance and token not in exits]
    places = POSITIONS - sum(1 for token in settled if others[token] + deposits[token])
    bounced, homeless = set(), set()
    for token in [token for token in deposits if token not in settled]:
        if token in exits or not deposits[token]:
            homeless.add(token)
        elif places > 0:
            places -= 1
        else:
            bounced.add(token)
    # What takes no place in the end bounces exactly if all places are taken.
    return bounced | homeless if places <= 0 else bounced
