"""A small exchange to try pages on: real keys, real signatures, the real transition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest

from proofbook.protocol.babyjub import Point
from proofbook.protocol.eddsa import derive_public
from proofbook.protocol.messages import (
    Action,
    SignedAction,
    cancel,
    domain_of,
    order,
    sign_action,
    transfer,
    withdraw,
)
from proofbook.protocol.state import State
from proofbook.protocol.table import MINIMAL, Preset, RequestKind, Side
from proofbook.protocol.transition import Outcome, apply, build
from proofbook.protocol.words import ActionRow, FeeRow, Header, Page, Request

DOMAIN = domain_of(31337, "0x" + "ab" * 20)
NOW = 1_700_000_000
Acts = Sequence[tuple[ActionRow, SignedAction]]


def private(index: int, generation: int = 0) -> bytes:
    return bytes([generation, index % 256]) * 16


@cache
def public(index: int, generation: int = 0) -> Point:
    return derive_public(private(index, generation))


class World:
    """A state, and short ways to write pages for it. `act` methods return a row and its signed action."""

    def __init__(self, preset: Preset = MINIMAL) -> None:
        self.state = State(preset)
        self.number = 1

    # --- pages

    def header(self) -> Header:
        return Header(DOMAIN, 1, self.number, NOW, 0, self.state.root, 0)

    def build(self, requests: Sequence[Request] = (), acts: Acts = (), fees: Sequence[FeeRow] = ()) -> Page:
        """Make a page, signatures checked."""
        rows, signed = [row for row, _ in acts], [sign for _, sign in acts]
        return build(self.state, self.header(), requests, rows, fees, signed)[0]

    def settle(self, requests: Sequence[Request] = (), acts: Acts = (), fees: Sequence[FeeRow] = ()) -> Outcome:
        """Make a page, apply it and keep what comes out."""
        outcome = apply(self.state, self.build(requests, acts, fees), [sign for _, sign in acts])
        self.state = outcome.state
        self.number += 1
        return outcome

    # --- requests

    def opening(self, index: int, owner: int | None = None) -> Request:
        key = public(index)
        return Request(
            RequestKind.OPEN, index, owner=1000 + index if owner is None else owner, pub_x=key.x, pub_y=key.y
        )

    def deposit(self, index: int, token: int, amount: int) -> Request:
        return Request(RequestKind.DEPOSIT, index, token=token, amount=amount)

    def rekey(self, index: int, generation: int = 1) -> Request:
        key = public(index, generation)
        return Request(RequestKind.KEY, index, pub_x=key.x, pub_y=key.y)

    def leave(self, index: int, token: int) -> Request:
        return Request(RequestKind.EXIT, index, token=token)

    def start(self, balances: Mapping[int, Mapping[int, int]]) -> None:
        """Open accounts 0 and those given, with these balances by token."""
        indices = sorted({0, *balances})
        requests = [self.opening(index) for index in indices]
        requests += [self.deposit(i, token, amount) for i in indices for token, amount in balances.get(i, {}).items()]
        self.settle(requests)

    # --- actions

    def sign(self, action: Action, generation: int = 0) -> SignedAction:
        return sign_action(private(action.account, generation), action)

    def order(
        self,
        account: int,
        id: int,
        side: Side,
        fill: tuple[int, int, int],
        limit: tuple[int, int] | None = None,
        fee_bps: int = 10_000,
        base: int = 1,
        quote: int = 2,
        until: int = NOW + 60,
        flags: int = 0,
    ) -> tuple[ActionRow, SignedAction]:
        """Fill is (base, quote, fee); the limit is what was filled unless given."""
        base_amount, quote_amount = limit or fill[:2]
        action = order(
            domain=DOMAIN,
            account=account,
            id=id,
            base=base,
            quote=quote,
            side=side,
            base_amount=base_amount,
            quote_amount=quote_amount,
            max_fee_bps=fee_bps,
            valid_until=until,
            flags=flags,
        )
        row = ActionRow(action.type, account, id, base, quote, int(side), *fill)
        return row, self.sign(action)

    def trade(self, seller: int, buyer: int, ids: tuple[int, int], amounts: tuple[int, int]) -> Acts:
        """Return both rows of a trade without fees."""
        return [
            self.order(seller, ids[0], Side.SELL, (*amounts, 0)),
            self.order(buyer, ids[1], Side.BUY, (*amounts, 0)),
        ]

    def withdraw(self, account: int, id: int, token: int, amount: int) -> tuple[ActionRow, SignedAction]:
        action = withdraw(domain=DOMAIN, account=account, id=id, token=token, amount=amount, valid_until=NOW)
        return ActionRow(action.type, account, id, token, ex_base=amount), self.sign(action)

    def transfer(self, account: int, id: int, token: int, amount: int, to: int) -> tuple[ActionRow, SignedAction]:
        action = transfer(
            domain=DOMAIN, account=account, id=id, token=token, amount=amount, receiver=to, valid_until=NOW
        )
        return ActionRow(action.type, account, id, token, ex_base=amount, aux=to), self.sign(action)

    def cancel(self, account: int, id: int) -> tuple[ActionRow, SignedAction]:
        action = cancel(domain=DOMAIN, account=account, id=id, valid_until=NOW)
        return ActionRow(action.type, account, id), self.sign(action)


@pytest.fixture
def world() -> Any:
    """Accounts 1 and 2 with 1000 of tokens 1 and 2 each, account 0 for fees."""
    made = World()
    made.start({1: {1: 1000, 2: 1000}, 2: {1: 1000, 2: 1000}})
    return made


@pytest.fixture(scope="session")
def make_world() -> Any:
    """The class of such exchanges, nothing open yet."""
    return World
