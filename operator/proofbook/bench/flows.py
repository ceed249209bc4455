"""Flows of orders for the benchmarks: the same for our engine and for those it is compared with.

A flow is made once, by an engine that is not measured: it chooses ids whose slot is free and leaves out cancels of
orders that are gone, so that what is measured is work and not refusals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final

from proofbook.operator import commands as c
from proofbook.operator.engine import Engine, EngineConfig
from proofbook.operator.markets import Market, Markets
from proofbook.operator.registry import SlotState
from proofbook.protocol.babyjub import SUBGROUP_ORDER, Point
from proofbook.protocol.eddsa import Signature
from proofbook.protocol.field import R
from proofbook.protocol.messages import SignedAction, cancel, order
from proofbook.protocol.table import MAINNET, Flag, RequestKind, Side
from proofbook.protocol.words import Request
from proofbook.sim.flow import Cancel, Intent, Place
from proofbook.sim.lobster import Replay, read_messages

BASE, QUOTE = 1, 2
LOT: Final = 1000
MARKET: Final = Market("BASE/QUOTE", BASE, QUOTE, LOT, 5, 15, 10**9, 10**9)
DOMAIN: Final = (1 << 248) - 1
NOW: Final = 1_700_000_000
UNTIL: Final = NOW + 10**6
TRADERS: Final = 256
_FUNDS: Final = 10**15
_MAX_OPEN: Final = 200
# The engine never looks at signatures, the sequencer has; but the journal keeps them, as long as real ones.
UNSIGNED: Final = Signature(Point(R - 1, R - 2), SUBGROUP_ORDER - 1)


@dataclass(frozen=True, slots=True)
class Op:
    """A step for any engine: place ``ref``, or cancel it where ``lots`` is 0."""

    ref: int
    side: int
    price: int
    lots: int
    immediate: bool


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow of orders.

    Attributes
    ----------
    name : str
        For people.
    opening : tuple of Command
        Opens and funds the accounts; not measured.
    commands : tuple of Command
        The flow, for our engine.
    ops : tuple of Op
        The flow, for any other.
    """

    name: str
    opening: tuple[c.Command, ...]
    commands: tuple[c.Command, ...]
    ops: tuple[Op, ...]


def make_config() -> EngineConfig:
    """Return the settings of an engine with the one market."""
    return EngineConfig(DOMAIN, MAINNET, Markets([MARKET]), margin=60)


def open_accounts(traders: int) -> Iterator[c.Command]:
    """Open account 0 for the fees and one for each trader, and give all of them both tokens."""
    yield c.Tick(NOW)
    number = 0
    for account in range(traders + 1):
        opened = Request(RequestKind.OPEN, account, owner=account + 1, pub_x=1, pub_y=account + 2)
        funded = [Request(RequestKind.DEPOSIT, account, token=token, amount=_FUNDS) for token in (BASE, QUOTE)]
        for request in (opened, *funded):
            yield c.RequestSeen(number, request)
            yield c.RequestConfirmed(number)
            number += 1


def synthetic(seed: int) -> Iterator[Intent]:
    """Go through an endless seeded flow: orders around a price that wanders, and as many cancels as real markets have.

    Of ten orders about three cross the spread; of those that rest, most are cancelled.
    """
    random, mid, ref = Random(seed), 100_000, 0
    resting: list[Cancel] = []
    while True:
        if len(resting) > 64 and random.random() < 0.5:
            at = random.randrange(len(resting))
            resting[at], resting[-1] = resting[-1], resting[at]
            yield resting.pop()
            continue
        ref += 1
        mid += random.randint(-2, 2)
        trader, side = random.randrange(TRADERS), Side(random.randrange(2))
        away = int(random.expovariate(0.05)) - 15
        price = mid - away if side is Side.BUY else mid + away
        yield Place(ref, trader, MARKET.symbol, side, price, random.randint(1, 200), 0)
        resting.append(Cancel(ref, trader))
        if len(resting) > 8 * TRADERS:
            del resting[0]  # stays in the book for good, as some do


def lobster(path: Path) -> Iterator[Intent]:
    """Go through what a LOBSTER message file comes to; `FlowError` for one that is none."""
    return Replay(MARKET.symbol, 1, range(TRADERS), _MAX_OPEN).intents(read_messages(path))


class _Maker:
    """Turns intents into commands and ops, with an engine that shows which of them make sense."""

    def __init__(self) -> None:
        self.engine = Engine(make_config())
        self.opening = tuple(open_accounts(TRADERS))
        for command in self.opening:
            self.engine.handle(command)
        self._ids = [0] * (TRADERS + 1)
        self._refs: dict[int, tuple[int, int]] = {}

    def take(self, intent: Intent) -> tuple[c.Command, Op] | None:
        """Return an intent's command and op, None for a cancel of what is gone."""
        made = self._place(intent) if isinstance(intent, Place) else self._cancel(intent)
        if made is not None:
            self.engine.handle(made[0])
        return made

    def _place(self, intent: Place) -> tuple[c.Command, Op]:
        account = intent.trader + 1
        action = order(
            domain=DOMAIN,
            account=account,
            id=self._next_id(account),
            base=BASE,
            quote=QUOTE,
            side=intent.side,
            base_amount=intent.lots * LOT,
            quote_amount=intent.lots * intent.price,
            max_fee_bps=100,
            valid_until=UNTIL,
            flags=intent.flags,
        )
        self._refs[intent.ref] = (account, action.id)
        op = Op(intent.ref, int(intent.side), intent.price, intent.lots, bool(intent.flags & Flag.IOC))
        return c.PlaceOrder(SignedAction(action, UNSIGNED)), op

    def _next_id(self, account: int) -> int:
        slots, state = MAINNET.slots, self.engine.registry.accounts[account]
        id_ = self._ids[account] + 1
        while state.slots.get(id_ % slots, (0, SlotState.DONE))[1] is SlotState.LIVE:
            id_ += 1
        self._ids[account] = id_
        return id_

    def _cancel(self, intent: Cancel) -> tuple[c.Command, Op] | None:
        key = self._refs.get(intent.ref)
        if key is None or self.engine.trading.find(*key) is None:
            return None
        action = cancel(domain=DOMAIN, account=key[0], id=key[1], valid_until=UNTIL)
        return c.Cancel(SignedAction(action, UNSIGNED)), Op(intent.ref, 0, 0, 0, False)


def make_flow(name: str, intents: Iterable[Intent], limit: int) -> Flow:
    """Return a flow of at most so many steps."""
    maker = _Maker()
    made = tuple(islice((pair for intent in intents if (pair := maker.take(intent)) is not None), limit))
    return Flow(name, maker.opening, tuple(pair[0] for pair in made), tuple(pair[1] for pair in made))


def make_flows(limit: int, flow_file: Path | None, seed: int = 1) -> list[Flow]:
    """Return the synthetic flow, and a LOBSTER file's if one is named."""
    flows = [make_flow("synthetic", synthetic(seed), limit)]
    if flow_file is not None:
        flows.append(make_flow("lobster", lobster(flow_file), limit))
    return flows


def with_batches(commands: Iterable[c.Command], in_flight: int = 3) -> Iterator[c.Command]:
    """Add to commands those of batches: sealed when full, and settled when so many others are under way."""
    engine = Engine(make_config())
    settlement = engine.settlement

    def do(command: c.Command) -> c.Command:
        engine.handle(command)
        return command

    for command in commands:
        yield do(command)
        while len(settlement.log) >= settlement.limits.actions:
            yield do(c.SealBatch(settlement.next_number, NOW))
            if len(settlement.in_flight) > in_flight:
                yield do(c.BatchConfirmed(settlement.in_flight[0].plan.number))
