"""What the model of the exchange is made of: calls, requests, tokens that misbehave, proofs and what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

ZERO: Final = "0x" + "00" * 20
ETH: Final = 1
GWEI: Final = 10**9
U64: Final = 2**64
R: Final = 21888242871839275222246405745257275088548364400416034343698204186575808495617
ACTION_BYTES: Final = 40
FEE_BYTES: Final = 10
OPEN, DEPOSIT, KEY, EXIT = 1, 2, 3, 4
WITHDRAW, CANCEL = 2, 4
UNGUARDED: Final = frozenset({"addToken", "rotateOperator", "receive", "fallback"})
"""What may be called while another call runs."""


class Refused(Exception):
    """The contract must refuse by this error; `name` "" means a revert without data."""

    def __init__(self, name: str, *args: Any) -> None:
        super().__init__(name, *args)
        self.name, self.arguments = name, args


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the exchange, or of a helper beside it.

    Attributes
    ----------
    sender : str
        Who calls; if that is an accomplice, it is told to by `origin`.
    name : str
        A function of the exchange; ``raw`` for data as it is; ``!...`` for what happens beside the exchange.
    args : tuple
        Its arguments, as the ABI takes them.
    value : int
        Wei.
    time : int
        Of its block.
    data : bytes
        For ``raw``.
    """

    sender: str
    name: str
    args: tuple[Any, ...] = ()
    value: int = 0
    time: int = 0
    data: bytes = b""

    def at(self, time: int) -> Call:
        return dataclasses.replace(self, time=time)


@dataclass(frozen=True, slots=True)
class Request:
    """As queued: everything that is hashed."""

    kind: int
    account: int
    token: int = 0
    amount: int = 0
    owner: str = ZERO
    pub_x: int = 0
    pub_y: int = 0
    fee: int = 0
    deadline: int = 0

    def argument(self, outcome: int = 0) -> tuple[Any, ...]:
        head = (self.kind, self.account, self.token, self.amount, outcome)
        return (*head, self.owner, self.pub_x, self.pub_y, self.fee, self.deadline)

    @classmethod
    def of(cls, argument: tuple[Any, ...]) -> Request:
        kind, account, token, amount, _, owner, x, y, fee, deadline = argument
        return cls(kind, account, token, amount, owner, x, y, fee, deadline)


class Mode(IntEnum):
    """Of AttackToken."""

    PLAIN, SILENT, STUCK, REFUSING, LIAR, TAXED, GENEROUS, BURNER, REENTERING, PASSING, PUFFED, GARBAGE, THIEF = range(
        13
    )


class Mood(IntEnum):
    """Of Accomplice."""

    ACCEPT, REFUSE, BURN, REENTER, PASS = range(5)


@dataclass
class Behaviour:
    """What a token or an accomplice has been told to do."""

    mode: int = 0
    inner: Call | None = None


@dataclass
class TokenModel:
    """A token's own books and the exchange's of it; amounts there in quanta."""

    address: str
    quantum: int
    outstanding: int = 0
    claims: int = 0
    held: dict[str, int] = field(default_factory=dict)
    puff: dict[str, int] = field(default_factory=dict)

    def shown(self, who: str) -> int:
        return self.held.get(who, 0) + self.puff.get(who, 0)

    def copy(self) -> TokenModel:
        return dataclasses.replace(self, held=dict(self.held), puff=dict(self.puff))


@dataclass
class AccountModel:
    owner: str
    pending: bool = True
    exited: bool = False


Balances = dict[int, dict[int, int]]


@dataclass(frozen=True, slots=True)
class BatchStatement:
    """What a batch proof proves, and what the accounts hold after it."""

    size_id: int
    c: int
    words: tuple[int, ...]
    after: Mapping[int, Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class ExitStatement:
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment fixed."""

    address: str
    domain: int
    owner: str
    fee_owner: str
    tree_size: int
    window: int
    spacing: int
    max_lag: int
    base_fee: int
    fee_step: int
    fee_cap: int
    exit_fee_cap: int
    sizes: tuple[tuple[int, int, int, int], ...]
    contracts: frozenset[str]
    """Addresses with code, besides the tokens."""
