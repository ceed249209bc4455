"""The state rebuilt from the history, by the one transition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.state import Account, State, genesis_root
from proofbook.protocol.table import ETH_TOKEN, POSITIONS, RequestKind
from proofbook.protocol.transition import apply
from proofbook.verifier.contract import Exchange
from proofbook.verifier.errors import HistoryBroken
from proofbook.verifier.history import Batch, History, Problem, Progress, Queued, silent


class Replay:
    """The state, moved on batch by batch.

    Parameters
    ----------
    exchange : Exchange
        The contract; of later blocks, only `advance`'s history differs.

    Attributes
    ----------
    state : State
        After the last batch that was applied.
    number : int
        Of that batch, 0 before the first.
    served : int
        Requests that batches have served.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._timestamp = 0
        self.state = State(exchange.preset)
        self.number = 0
        self.served = 0

    def advance(self, history: History, progress: Progress = silent) -> list[Problem]:
        """Apply the batches that are new; stops at the first that does not follow, and says why."""
        for batch in history.batches[self.number :]:
            progress(f"rebuilding batch {batch.number} of {len(history.batches)}")
            problem = self._apply(batch, history)
            if problem is not None:
                return [problem]
        return []

    def _apply(self, batch: Batch, history: History) -> Problem | None:
        where = f"batch {batch.number}"
        header = batch.page.header
        if header.timestamp < self._timestamp:
            return Problem("batch_timestamp", f"{where}: its timestamp is before its predecessor's")
        if header.size_id >= len(self._exchange.sizes):
            return Problem("batch_size", f"{where}: there is no size {header.size_id}")
        if batch.first_request != self.served:
            return Problem("batch_requests", f"{where}: starts at request {batch.first_request}, not {self.served}")
        last = self.served + len(batch.queued)
        if list(batch.queued) != history.requests[self.served : last]:
            return Problem("batch_requests", f"{where}: its requests are not those of the queue")
        try:
            outcome = apply(self.state, batch.page, size=self._exchange.sizes[header.size_id].size)
        except ProofbookError as error:
            return Problem("batch_transition", f"{where}: {error}")
        self.state, self.number, self.served, self._timestamp = outcome.state, batch.number, last, header.timestamp
        return None


def rebuild(exchange: Exchange, history: History, progress: Progress = silent) -> State:
    """Return the state of a history, or refuse.

    Raises
    ------
    HistoryBroken
        If anything is missing or does not follow, or the result is not what the contract has.
    """
    replay = Replay(exchange)
    problems = [*history.problems, *genesis_problems(exchange), *replay.advance(history, progress)]
    problems += root_problems(exchange, replay)
    if problems:
        raise HistoryBroken(tuple(str(problem) for problem in problems))
    return replay.state


def genesis_problems(exchange: Exchange) -> list[Problem]:
    """Return what is wrong with where the contract starts from."""
    own = genesis_root(exchange.preset)
    return [] if own == exchange.genesis_root else [Problem("genesis_root", f"{exchange.genesis_root}, not {own}")]


def root_problems(exchange: Exchange, replay: Replay) -> list[Problem]:
    """Return where the rebuilt state differs from the contract's."""
    found = []
    if replay.state.root != exchange.state_root:
        found.append(Problem("root", f"rebuilt {replay.state.root}, on chain {exchange.state_root}"))
    if (replay.number, replay.served) != (exchange.batch_number, exchange.served):
        rebuilt, told = f"{replay.number} and {replay.served}", f"{exchange.batch_number} and {exchange.served}"
        found.append(Problem("counts", f"batches and served requests: rebuilt {rebuilt}, on chain {told}"))
    return found


def waiting(exchange: Exchange, history: History) -> list[Queued]:
    """Return the requests that are neither served nor taken back, oldest first."""
    return [q for q in history.requests[exchange.served :] if q.id not in history.reclaimed]


def outstanding(exchange: Exchange, history: History, state: State) -> Counter[int]:
    """Return the quanta of each token inside the exchange: accounts that have not left, waiting deposits and fees."""
    held = (account for index, account in state.accounts.items() if index not in history.exits)
    total: Counter[int] = _positions(held)
    for queued in waiting(exchange, history):
        if queued.request.kind == RequestKind.DEPOSIT:
            total[queued.request.token] += queued.request.amount
        total[ETH_TOKEN] += queued.fee
    return total


def _positions(accounts: Iterable[Account]) -> Counter[int]:
    total: Counter[int] = Counter()
    for account in accounts:
        total.update(dict(account.positions))
    return total


def exit_words(account: Account) -> tuple[int, tuple[int, ...]]:
    """Return T and the five words of amounts with which an account leaves."""
    tokens, amounts = account.positions_words()
    packed = (sum(amounts[k + j] << (64 * j) for j in range(3)) for k in range(0, POSITIONS, 3))
    return tokens, tuple(packed)


def exit_problems(history: History, state: State) -> list[Problem]:
    """Return the exits that took something else than the account had."""
    found = []
    for index, left in history.exits.items():
        account = state.accounts.get(index)
        if account is None or (account.owner, *exit_words(account)) != (left.owner, left.tokens, left.amounts):
            found.append(Problem("exit", f"account {index} left with something else than it had"))
    return found
