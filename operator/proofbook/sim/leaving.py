"""The way out: everybody leaves a dead exchange, and what they get is compared with what they owned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from proofbook.escape.owned import Owned
from proofbook.escape.session import Done, Escape
from proofbook.prover.workspace import Progress
from proofbook.sim.flow import SimulationError
from proofbook.sim.stage import TOKENS, Person, Stage

Quanta = dict[int, int]
"""Amounts above 0 by token id."""


class Unequal(SimulationError):
    """Two accounts of the same thing differ: the exchange does not do what it promises."""

    code: ClassVar[str] = "unequal"


def require_equal(what: str, found: object, wanted: object) -> None:
    """Raise `Unequal` where two values differ."""
    if found != wanted:
        raise Unequal(f"{what}: {found}, but it has to be {wanted}")


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody who left.

    Attributes
    ----------
    name : str
        Who.
    owned, received : dict
        Base units by symbol: of accounts, claims and unserved requests before; and what L1 balances rose by, gas not
        counted.
    steps : tuple of str
        What they did.
    exits : tuple of int
        Accounts left by proof.
    """

    name: str
    owned: dict[str, int]
    received: dict[str, int]
    steps: tuple[str, ...]
    exits: tuple[int, ...]


def total_owned(what: Owned) -> Quanta:
    """Return all that is an address's: balances, claims, unserved deposits, and their fees."""
    total: Counter[int] = Counter(what.claims)
    for account in what.accounts:
        total.update(account.balances)
    for queued in what.waiting:
        total[1] += queued.fee
        if queued.request.amount:
            total[queued.request.token] += queued.request.amount
    return dict(+total)


def in_units(quanta: Quanta) -> dict[str, int]:
    """Return base units by symbol, zeros too."""
    return {token.symbol: quanta.get(token.id, 0) * token.quantum for token in TOKENS}


class Departure:
    """Everybody's leave.

    Parameters
    ----------
    stage : Stage
        The exchange.
    artifacts : Path
        The exit artifacts as the traders stored them.
    progress : Progress
        Told the steps.
    """

    def __init__(self, stage: Stage, artifacts: Path, progress: Progress) -> None:
        self._stage, self._artifacts, self._progress = stage, artifacts, progress

    def open(self, person: Person) -> Escape:
        """Return somebody's way out, rebuilt from the chain."""
        stage = self._stage
        return Escape(
            stage.anvil.url,
            stage.address,
            person.key,
            self._artifacts,
            stage.deployment.block,
            lambda text: self._progress(f"{person.name} reads the chain", None),
        )

    def leave(self, person: Person) -> Left:
        """Take every step out, and compare what came with what was owned.

        Raises
        ------
        Unequal
            If it is not exactly that.
        ProofbookError
            From the steps.
        """
        escape = self.open(person)
        owned = in_units(total_owned(escape.owned()))
        before = {token.symbol: self._stage.balance(person.address, token) for token in TOKENS}
        done, rest = escape.run()
        require_equal(f"{person.name}'s last step", rest.name, "done")
        received = {token.symbol: self._stage.balance(person.address, token) - before[token.symbol] for token in TOKENS}
        received["ETH"] += self._stage.gas_cost([step.tx for step in done])
        require_equal(f"what {person.name} took along", received, owned)
        exits = tuple(s.step.account for s in done if s.step.name == "exit" and s.step.account is not None)
        return Left(person.name, owned, received, tuple(_name(s) for s in done), exits)

    def pay_for(self, name: str, address: str, payer: Person) -> Left:
        """Have somebody's claims paid to their address by somebody else; errors as `leave`."""
        escape = self.open(payer)
        owned = escape.owned(address)
        before = {token.symbol: self._stage.balance(address, token) for token in TOKENS}
        done = [escape.claim(token, address) for token in owned.claims]
        received = {token.symbol: self._stage.balance(address, token) - before[token.symbol] for token in TOKENS}
        wanted = in_units(total_owned(owned))
        require_equal(f"what {name} was paid", received, wanted)
        return Left(name, wanted, received, tuple(_name(s) for s in done), ())


def _name(done: Done) -> str:
    step = done.step
    if step.token is not None:
        return f"{step.name} {next(token.symbol for token in TOKENS if token.id == step.token)}"
    return step.name if step.account is None else f"{step.name} account {step.account}"


def check_balances(what: Sequence[Owned], told: dict[int, Quanta]) -> None:
    """Compare what the chain's data gives accounts with the dead operator's last word; `Unequal` where it differs."""
    proven = {account.index: account.balances for owned in what for account in owned.accounts}
    for index, balances in sorted(told.items()):
        require_equal(f"account {index} in the last proven state", proven.get(index, {}), balances)
