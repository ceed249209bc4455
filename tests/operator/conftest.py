"""An exchange to play with: an engine, real keys, and the protocol's own state to hold its batches against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from proofbook.operator import commands as c
from proofbook.operator import events as e
from proofbook.operator.book import SortedBook
from proofbook.operator.engine import Engine, EngineConfig
from proofbook.operator.markets import Market, Markets
from proofbook.protocol.babyjub import Point
from proofbook.protocol.eddsa import Signature, derive_public
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
from proofbook.protocol.table import MINIMAL, Flag, RequestKind, Side, Size
from proofbook.protocol.transition import Outcome, apply, build
from proofbook.protocol.words import Header, Request

DOMAIN = domain_of(31337, "0x" + "cd" * 20)
NOW = 1_700_000_000
HOUR = 3600
MARGIN = 60
COIN, CASH, GEM = 1, 2, 3
MARKETS = Markets(
    [
        Market("COIN/CASH", COIN, CASH, 10, 5, 25, 10**9, 10**6),
        Market("GEM/CASH", GEM, CASH, 7, 0, 333, 10**9, 10**6),
        Market("GEM/COIN", GEM, COIN, 1, 10, 10, 10**9, 10**6),
    ]
)
SIZES = (Size(4, 4, 6, 2), Size(6, 8, 8, 2))
Op = tuple[int, int, int, int, int]
"""A drawn command: what, and four numbers that mean what `Exchange.play` makes of them."""


def private(account: int, generation: int) -> bytes:
    return bytes([generation, account]) * 16


@cache
def public(account: int, generation: int) -> Point:
    return derive_public(private(account, generation))


def make_config(**changes: Any) -> EngineConfig:
    values: dict[str, Any] = {
        "domain": DOMAIN,
        "preset": MINIMAL,
        "markets": MARKETS,
        "sizes": SIZES,
        "margin": MARGIN,
    } | changes
    return EngineConfig(**values)


class Exchange:
    """An engine and short ways to use it. Unless ``real``, signatures are blank: the engine never looks at them."""

    def __init__(self, accounts: int = 0, real: bool = False, make_book: Any = SortedBook, **changes: Any) -> None:
        self.config = make_config(**changes)
        self.engine = Engine(self.config, make_book)
        self.real = real
        self.state = State(self.config.preset)
        self.pages = 0
        self.events: list[e.Event] = []
        self.commands: list[c.Command] = []
        self.ids: Counter[int] = Counter()
        self.generation: Counter[int] = Counter()
        self.do(c.Tick(NOW))
        for account in range(accounts):
            self.open(account)

    def do(self, command: c.Command) -> list[e.Event]:
        self.commands.append(command)
        events = self.engine.handle(command)
        self.events += events
        return events

    def codes(self, events: Sequence[e.Event]) -> list[str]:
        """The refusals among events."""
        return [v.code for v in events if isinstance(v, e.OrderRejected | e.ActionRejected | e.CommandRejected)]

    # --- L1

    def see(self, request: Request) -> int:
        number = self.engine.registry.next_request
        self.do(c.RequestSeen(number, request))
        return number

    def request(self, request: Request) -> list[e.Event]:
        """See and confirm."""
        return self.do(c.RequestConfirmed(self.see(request)))

    def opening(self, account: int) -> Request:
        key = public(account, 0)
        return Request(RequestKind.OPEN, account, owner=account + 1000, pub_x=key.x, pub_y=key.y)

    def open(self, account: int) -> None:
        self.request(self.opening(account))

    def deposit(self, account: int, token: int, amount: int) -> list[e.Event]:
        return self.request(Request(RequestKind.DEPOSIT, account, token=token, amount=amount))

    def rekeying(self, account: int) -> Request:
        key = public(account, self.generation[account] + 1)
        return Request(RequestKind.KEY, account, pub_x=key.x, pub_y=key.y)

    # --- signed

    def sign(self, action: Action) -> SignedAction:
        if not self.real:
            return SignedAction(action, Signature(Point(0, 1), 0))
        key = self.engine.get_key(action.account)
        generation = next((g for g in range(9) if public(action.account, g) == key), 0)
        return sign_action(private(action.account, generation), action)

    def next_id(self, account: int) -> int:
        self.ids[account] += 1
        return self.ids[account]

    def order(
        self,
        account: int,
        side: Side,
        price: int,
        lots: int,
        flags: int = 0,
        symbol: str = "COIN/CASH",
        id: int | None = None,
        until: int = NOW + HOUR,
        fee_bps: int = 400,
    ) -> list[e.Event]:
        market = MARKETS.by_symbol[symbol]
        action = order(
            domain=DOMAIN,
            account=account,
            id=self.next_id(account) if id is None else id,
            base=market.base,
            quote=market.quote,
            side=side,
            base_amount=lots * market.lot,
            quote_amount=lots * price,
            max_fee_bps=fee_bps,
            valid_until=until,
            flags=flags,
        )
        return self.do(c.PlaceOrder(self.sign(action)))

    def buy(self, account: int, price: int, lots: int, flags: int = 0, **more: Any) -> list[e.Event]:
        return self.order(account, Side.BUY, price, lots, flags, **more)

    def sell(self, account: int, price: int, lots: int, flags: int = 0, **more: Any) -> list[e.Event]:
        return self.order(account, Side.SELL, price, lots, flags, **more)

    def cancel(self, account: int, id: int, hard: bool = False, until: int = NOW + HOUR) -> list[e.Event]:
        signed = self.sign(cancel(domain=DOMAIN, account=account, id=id, valid_until=until))
        return self.do(c.HardCancel(signed) if hard else c.Cancel(signed))

    def withdraw(
        self, account: int, token: int, amount: int, id: int | None = None, until: int = NOW + HOUR
    ) -> list[e.Event]:
        id_ = self.next_id(account) if id is None else id
        action = withdraw(domain=DOMAIN, account=account, id=id_, token=token, amount=amount, valid_until=until)
        return self.do(c.Withdraw(self.sign(action)))

    def transfer(self, account: int, token: int, amount: int, to: int, id: int | None = None) -> list[e.Event]:
        id_ = self.next_id(account) if id is None else id
        action = transfer(
            domain=DOMAIN,
            account=account,
            id=id_,
            token=token,
            amount=amount,
            receiver=to,
            valid_until=NOW + HOUR,
        )
        return self.do(c.Transfer(self.sign(action)))

    # --- batches

    def seal(self) -> list[e.Event]:
        return self.do(c.SealBatch(self.engine.settlement.next_number, 2**32 - 1))

    def prove(self, number: int) -> Outcome:
        """Apply a sealed batch to the protocol's state, signatures checked when they are real."""
        plan = self.engine.get_plan(number)
        assert plan is not None
        header = Header(DOMAIN, plan.size_id, plan.number, plan.timestamp, 0, self.state.root, 0)
        rows, signed = [p.row for p in plan.actions], [p.signed for p in plan.actions]
        checked = signed if self.real else None
        size = self.config.get_sizes()[plan.size_id]
        requests = [row.request for row in plan.requests]
        page, outcome = build(self.state, header, requests, rows, plan.fees, checked, size)
        assert page.requests == plan.requests  # as strict as the batcher
        assert len(outcome.touched) == plan.accounts
        assert apply(self.state, page, checked, size).state.root == outcome.state.root
        self.state = outcome.state
        self.pages += 1
        return outcome

    def settle_all(self) -> None:
        """Seal, prove and confirm until nothing is left."""
        engine = self.engine
        for waiting in list(engine.settlement.in_flight):
            self.confirm(waiting.plan.number)
        while engine.settlement.log:
            self.seal()
            self.confirm(engine.settlement.next_number - 1)
        self.compare()

    def confirm(self, number: int) -> None:
        self.prove(number)
        self.do(c.BatchConfirmed(number))

    def compare(self) -> None:
        """The protocol's state is what the engine thinks it is, once everything is settled."""
        proven = {i: dict(a.positions) for i, a in self.state.accounts.items() if a.positions}
        sealed = {i: amounts for i, amounts in self.engine.settlement.sealed.items() if amounts}
        assert proven == sealed
        assert not self.engine.settlement.log and not self.engine.settlement.in_flight
        booked: dict[int, dict[int, int]] = {}
        for account, token, available, reserved in self.engine.ledger.dump():
            booked.setdefault(account, {})[token] = available + reserved
        assert proven == booked
        for account, entry in self.state.accounts.items():
            known = self.engine.get_account(account)
            assert known is not None and (known.owner, *known.key) == (entry.owner, entry.pub_x, entry.pub_y)

    # --- random play

    def play(self, op: Op) -> None:
        """Do what five drawn numbers mean."""
        kind, a, b, x, y = op
        accounts = len(self.engine.registry.accounts) or 1
        account = a % accounts
        symbol = ("COIN/CASH", "COIN/CASH", "GEM/CASH", "GEM/COIN")[b % 4]
        if kind < 50:
            account = account if a % 5 == 0 else 1 + a % 4
            flags = (0, 0, 0, 0, Flag.IOC, Flag.FOK, Flag.POST_ONLY, Flag.MARKET)[y % 8]
            until = self.engine.now + MARGIN - 1 + (b * 37) % 4000
            price, lots = 95 + x % 11, 1 + y % 23
            self.order(account, Side(b // 4 % 2), price, lots, flags, symbol, until=until, fee_bps=333 + x % 50)
        elif kind < 58:
            self.cancel(account, max(1, self.ids[account] - x % 4), hard=kind < 53)
        elif kind < 64:
            amount = self.engine.get_balance(account, 1 + b % 3).available
            some = amount + x // 8 % 2 if x % 8 == 0 else amount // (2 + x % 5)  # sometimes all, or one too many
            self.withdraw(account, 1 + b % 3, max(1, some))
        elif kind < 68:
            amount = self.engine.get_balance(account, 1 + b % 3).available
            self.transfer(account, 1 + b % 3, max(1, amount if x % 16 == 0 else x % 500), y % accounts)
        elif kind < 74:
            self.see(
                Request(RequestKind.DEPOSIT, account, token=1 + b % 4 + b // 4 % 2 * (9 + x % 9), amount=1 + 50 * x)
            )
        elif kind < 86:
            self._play_request(kind, account, b)
        elif kind < 89:
            self.do(c.Tick(self.engine.now + x % 150))
        elif kind < 93:
            self.seal()
        elif kind < 97:
            if self.engine.settlement.in_flight:
                self.confirm(self.engine.settlement.in_flight[0].plan.number)
        elif self.engine.settlement.in_flight and kind < 99:
            number = self.engine.settlement.in_flight[-1].plan.number
            self.do(c.BatchDropped(number, 0 if x % 4 else self.engine.now + HOUR + 500))

    def _play_request(self, kind: int, account: int, b: int) -> None:
        registry = self.engine.registry
        if kind < 83:
            if registry.seen and b % 9 == 0:
                self.do(c.RequestUnseen(registry.seen[-1][0]))
            elif registry.seen:
                number, request = registry.seen[0]
                self.do(c.RequestConfirmed(number))
                self.generation[request.account] += request.kind == RequestKind.KEY
        elif kind == 83 and self.generation[account] < 6:
            self.see(self.rekeying(account))
        elif kind == 84:
            self.see(Request(RequestKind.EXIT, account, token=1 + b % 3))
        elif kind == 85 and (fresh := len(registry.accounts) + len(registry.opening)) < 7:
            self.see(self.opening(fresh))

    def fund(self, accounts: Sequence[int], tokens: Sequence[int] = (COIN, CASH, GEM), amount: int = 10**6) -> None:
        for account in accounts:
            for token in tokens:
                self.deposit(account, token, amount)


@pytest.fixture(scope="session")
def make_exchange() -> Any:
    """The class `Exchange`."""
    return Exchange


@pytest.fixture
def exchange() -> Exchange:
    """Accounts 0 to 4 open; 1 to 4 have a million of each of the three tokens."""
    made = Exchange(accounts=5)
    made.fund((1, 2, 3, 4))
    return made
