"""What a command costs where much rests: every order at a price of its own, the most that a book can have to sort."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from proofbook.bench.flows import BASE, DOMAIN, LOT, QUOTE, UNSIGNED, UNTIL, make_config, open_accounts
from proofbook.bench.measure import Clock, Json
from proofbook.operator import commands as c
from proofbook.operator.engine import Engine
from proofbook.operator.memory import relax_collector
from proofbook.protocol.messages import SignedAction, cancel, order
from proofbook.protocol.table import MAINNET, Flag, Side

_MID: Final = 10**6
_PER_ACCOUNT: Final = 200
_ROUNDS: Final = 300


def _place(account: int, id_: int, side: Side, price: int, flags: int = 0) -> c.PlaceOrder:
    action = order(
        domain=DOMAIN,
        account=account,
        id=id_,
        base=BASE,
        quote=QUOTE,
        side=side,
        base_amount=LOT,
        quote_amount=price,
        max_fee_bps=100,
        valid_until=UNTIL,
        flags=flags,
    )
    return c.PlaceOrder(SignedAction(action, UNSIGNED))


def _rest(count: int) -> Iterator[c.Command]:
    """Go through orders that all rest, half of them on each side, from the middle outwards."""
    for i in range(count):
        away = 1 + i // 2
        price = _MID - away if i % 2 == Side.BUY else _MID + away
        yield _place(1 + i // _PER_ACCOUNT, 1 + i % _PER_ACCOUNT, Side(i % 2), price)


def _probe(account: int, count: int) -> Iterator[c.Command]:
    """Go through rounds of three: an order somewhere in the book, its cancel, and one that takes the best."""
    random = Random(1)
    for k in range(_ROUNDS):
        # Ids of two slots, again and again.
        id_, side = 1 + k * MAINNET.slots, Side(k % 2)
        away = random.randint(1, max(count // 2, 1))
        yield _place(account, id_, side, _MID - away if side is Side.BUY else _MID + away)
        yield c.Cancel(SignedAction(cancel(domain=DOMAIN, account=account, id=id_, valid_until=UNTIL), UNSIGNED))
        worst = 2 * _MID if side is Side.BUY else 1
        yield _place(account, id_ + 1, side, worst, int(Flag.IOC))


def measure_depth(counts: Sequence[int]) -> list[Json]:
    """Return what a command costs with so many orders resting."""
    rows = []
    for count in counts:
        engine = Engine(make_config())
        traders = 1 + -(-count // _PER_ACCOUNT)
        for command in (*open_accounts(traders), *_rest(count)):
            engine.handle(command)
        probes = tuple(_probe(traders, count))
        relax_collector()
        resting = len(engine.trading.live)
        with Clock() as clock:
            for command in probes:
                engine.handle(command)
        rows.append({"resting_orders": resting, "cpu_us_per_command": clock.cpu_s / len(probes) * 1e6})
    return rows
