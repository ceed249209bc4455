"""What a rebuilt ledger is held against: the contract, its books, and the exits that were taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from proofbook.protocol.state import Account, genesis_root
from proofbook.protocol.table import ETH_TOKEN, POSITIONS, RequestKind
from proofbook.verifier.contract import Exchange
from proofbook.verifier.history import Ledger, Problem


def genesis_problems(exchange: Exchange) -> list[Problem]:
    """Return what is wrong with where the contract starts from."""
    own = genesis_root(exchange.preset)
    return [] if own == exchange.genesis_root else [Problem("genesis_root", f"{exchange.genesis_root}, not {own}")]


def end_problems(exchange: Exchange, ledger: Ledger) -> list[Problem]:
    """Return where a ledger that is up to the contract's block differs from the contract."""
    found = []
    if ledger.state.root != exchange.state_root:
        found.append(Problem("root", f"rebuilt {ledger.state.root}, on chain {exchange.state_root}"))
    if (ledger.number, ledger.served) != (exchange.batch_number, exchange.served):
        rebuilt, told = f"{ledger.number} and {ledger.served}", f"{exchange.batch_number} and {exchange.served}"
        found.append(Problem("counts", f"batches and served requests: rebuilt {rebuilt}, on chain {told}"))
    return found


def book_problems(exchange: Exchange, ledger: Ledger) -> list[Problem]:
    """Return where the contract's own books differ from what the ledger says is owed."""
    inside, claims = outstanding(ledger), claimed(ledger)
    found = []
    for token in exchange.tokens:
        books, rebuilt = (token.outstanding, token.claims), (inside.pop(token.id, 0), claims.pop(token.id, 0))
        if books != rebuilt:
            text = f"{token.symbol}: (outstanding, claims) is {books} on chain, {rebuilt} rebuilt"
            found.append(Problem("books", text))
    for token_id in sorted({k for total in (inside, claims) for k, amount in total.items() if amount}):
        found.append(Problem("books", f"token {token_id} is owed and is none of the exchange's"))
    return found


def outstanding(ledger: Ledger) -> Counter[int]:
    """Return the quanta of each token inside the exchange: accounts that have not left, waiting deposits and fees."""
    held = (account for index, account in ledger.state.accounts.items() if index not in ledger.exits)
    total: Counter[int] = _positions(held)
    for queued in ledger.waiting():
        if queued.request.kind == RequestKind.DEPOSIT:
            total[queued.request.token] += queued.request.amount
        total[ETH_TOKEN] += queued.fee
    return total


def claimed(ledger: Ledger) -> Counter[int]:
    """Return the quanta of each token that wait to be paid out."""
    total: Counter[int] = Counter()
    for (_, token_id), amount in ledger.claims.items():
        total[token_id] += amount
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


def exit_problems(ledger: Ledger) -> list[Problem]:
    """Return the exits that took something else than the account had."""
    found = []
    for index, left in ledger.exits.items():
        account = ledger.state.accounts.get(index)
        if account is None or (account.owner, *exit_words(account)) != (left.owner, left.tokens, left.amounts):
            found.append(Problem("exit", f"account {index} left with something else than it had"))
    return found
