"""`verify_exchange`: everything that can be checked of an exchange over JSON-RPC alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from proofbook.protocol.state import State
from proofbook.verifier.chain import reach
from proofbook.verifier.code import own_build, repository_root
from proofbook.verifier.contract import Exchange, read_exchange, vault_of
from proofbook.verifier.errors import BuildUnavailable, RpcMalformed, RpcRefused
from proofbook.verifier.groth16 import BadPoint, read_key
from proofbook.verifier.held import Held
from proofbook.verifier.history import Batch, Ledger, Problem, Progress, silent
from proofbook.verifier.keys import EXIT_INPUTS, KeyReport, report_keys
from proofbook.verifier.proofs import ProofChecker
from proofbook.verifier.replay import (
    book_problems,
    claimed,
    end_problems,
    exit_problems,
    genesis_problems,
    outstanding,
)
from proofbook.verifier.rpc import Rpc
from proofbook.verifier.stream import follow
from proofbook.verifier.terms import Terms, read_terms


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes
    ----------
    root_on_chain, root_rebuilt : int
        The contract's state root, and that of the state rebuilt from the data (as far as that goes).
    batches, proofs_checked : int
        Batches that the contract counts, and proofs that hold.
    code_matches : bool
        Whether the deployed code is this checkout's build.
    batch_keys, exit_key
        What is known of the verifying keys.
    vault, liabilities : dict of str to int
        By token symbol, in base units (wei): what the contract holds, and what it owes to accounts, claims and queue.
    terms : Terms
        How long and how dear leaving may be.
    problems : tuple of Problem
        All that is not as it has to be; empty when all is well.
    """

    root_on_chain: int
    root_rebuilt: int
    batches: int
    proofs_checked: int
    code_matches: bool
    batch_keys: tuple[KeyReport, ...]
    exit_key: KeyReport
    vault: dict[str, int]
    liabilities: dict[str, int]
    terms: Terms
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def has_development_keys(self) -> bool:
        """Whether any verifying key is not known to be from a ceremony."""
        return any(key.kind != "ceremony" for key in (*self.batch_keys, self.exit_key))

    def as_json(self) -> dict[str, Any]:
        """Return the report as the command prints it; roots and amounts as decimal strings."""
        batch = [{"size_id": k, **key.as_json()} for k, key in enumerate(self.batch_keys)]
        return {
            "root_on_chain": str(self.root_on_chain),
            "root_rebuilt": str(self.root_rebuilt),
            "batches": self.batches,
            "proofs_checked": self.proofs_checked,
            "code_matches": self.code_matches,
            "keys": {"batch": batch, "exit": self.exit_key.as_json()},
            "vault": {symbol: str(amount) for symbol, amount in self.vault.items()},
            "liabilities": {symbol: str(amount) for symbol, amount in self.liabilities.items()},
        }


def verify_exchange(rpc_url: str | Rpc, contract: str, progress: Progress = silent, first_block: int = 0) -> Report:
    """Check code, terms, keys, history, proofs and solvency of an exchange.

    Parameters
    ----------
    rpc_url : str or Rpc
        A node, or several with commas between.
    contract : str
        The contract's address.
    progress : Progress
        Told the stages.
    first_block : int
        Where the history starts; the deployment's block or any before.

    Returns
    -------
    Report
        What is wrong is in its `problems`.

    Raises
    ------
    VerifierError
        When the check can't be made: the node fails, there is no exchange, the own build can't be made.
    InvalidValue
        For a malformed address.
    """
    rpc = Rpc(rpc_url, tell=progress) if isinstance(rpc_url, str) else rpc_url
    progress("reading the contract")
    exchange = read_exchange(rpc, contract)
    return _Check(rpc, exchange, progress, first_block).report()


class _Check:
    """One check; collects problems as it goes."""

    def __init__(self, rpc: Rpc, exchange: Exchange, progress: Progress, first_block: int) -> None:
        self.rpc, self.exchange, self.progress = rpc, exchange, progress
        self.first_block = first_block
        self.problems: list[Problem] = []
        self.proofs = ProofChecker(exchange)
        self.proofs_checked = 0

    def report(self) -> Report:
        code_matches = self._code()
        terms = self._terms()
        batch_keys, exit_key = self._keys()
        ledger = self._rebuild()
        vault, liabilities = self._money(ledger)
        return Report(
            root_on_chain=self.exchange.state_root,
            root_rebuilt=ledger.state.root,
            batches=self.exchange.batch_number,
            proofs_checked=self.proofs_checked,
            code_matches=code_matches,
            batch_keys=batch_keys,
            exit_key=exit_key,
            vault=vault,
            liabilities=liabilities,
            terms=terms,
            problems=tuple(self.problems),
        )

    def note(self, code: str, text: str) -> None:
        self.problems.append(Problem(code, text))

    def _code(self) -> bool:
        self.progress("compiling the contract")
        deployed = self.rpc.code(self.exchange.address, self.exchange.block)
        matches = own_build().matches(deployed)
        if not matches:
            self.note("code", "the deployed code is not what this checkout's sources compile to")
        return matches

    def _terms(self) -> Terms:
        terms = read_terms(self.rpc, self.exchange)
        for text in terms.beyond():
            self.note("terms", text)
        return terms

    def _keys(self) -> tuple[tuple[KeyReport, ...], KeyReport]:
        try:
            read_key(self.exchange.exit_key, EXIT_INPUTS)
        except BadPoint as error:
            self.note("key", f"exit circuit: {error}")
        return report_keys(self.exchange, _keys_dir())

    def _rebuild(self) -> Ledger:
        def follow_to(exchange: Exchange, ledger: Ledger) -> Ledger:
            return follow(self.rpc, exchange, ledger, self.progress, self._proof)

        start = Ledger(State(self.exchange.preset), block=self.first_block - 1)
        again = partial(read_exchange, self.rpc, self.exchange.address)
        self.exchange, ledger = reach(self.rpc, self.exchange, start, follow_to, again)
        exchange = self.exchange
        self.problems += [*self.proofs.problems, *ledger.problems, *genesis_problems(exchange)]
        self.problems += end_problems(exchange, ledger)
        if not self.problems:
            self.problems += Held(self.rpc).request_problems(exchange, ledger)
        return ledger

    def _proof(self, batch: Batch) -> None:
        self.progress(f"checking proof {batch.number} of {self.exchange.batch_number}")
        problem = self.proofs.check(batch)
        if problem is None:
            self.proofs_checked += 1
        else:
            self.problems.append(problem)

    def _money(self, ledger: Ledger) -> tuple[dict[str, int], dict[str, int]]:
        """Compare what is owed with what is there, and with the contract's own books."""
        self.progress("comparing vault and liabilities")
        self.problems += exit_problems(ledger) + book_problems(self.exchange, ledger)
        inside, claims = outstanding(ledger), claimed(ledger)
        vault: dict[str, int] = {}
        liabilities: dict[str, int] = {}
        for token in self.exchange.tokens:
            owed = inside[token.id] + claims[token.id]
            liabilities[token.symbol] = owed * token.quantum
            try:
                vault[token.symbol] = vault_of(self.rpc, self.exchange, token)
            except (RpcRefused, RpcMalformed) as error:
                self.note("token", f"{token.symbol} does not tell its balance: {error}")
                vault[token.symbol] = 0
            if vault[token.symbol] < max(owed, token.outstanding + token.claims) * token.quantum:
                self.note("insolvent", f"{token.symbol}: the vault holds less than is owed")
        return vault, liabilities


def _keys_dir() -> Path | None:
    """Return where set-ups of this checkout lie, None without a checkout."""
    home = os.environ.get("PROOFBOOK_HOME")
    if home:
        return Path(home).expanduser() / "keys"
    try:
        return repository_root() / "build" / "keys"
    except BuildUnavailable:
        return None
