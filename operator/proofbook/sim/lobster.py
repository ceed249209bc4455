"""Replaying a LOBSTER message file: real orders of a real exchange, placed by simulated accounts.

A line is ``time, type, order id, size, price, direction``: seconds after midnight, 1 to 7, the exchange's order number,
shares, dollars times 10,000, and 1 for a buy or -1 for a sell. Types: 1 a new limit order, 2 a partial cancel, 3 a
deletion, 4 an execution of a visible order, 5 of a hidden one, 6 an auction, 7 a halt.

A share is a lot. New orders are placed and deletions cancelled. The exchange has no way to make an order smaller, so a
partial cancel is a cancel and a smaller order. An execution becomes an immediate-or-cancel order of another account at
the resting order's price, after which nothing is left of an order that was executed whole; a resting order from before
the file's start is placed first. Types 5 to 7 say nothing that could be placed, and are left out. What then trades is
decided by our own books.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ClassVar, Final

from proofbook.protocol.table import Flag, Side
from proofbook.sim.flow import Cancel, Intent, Place, Round, SimulationError

MAX_LINE: Final = 160
MAX_LINES: Final = 50_000_000
MAX_SIZE: Final = 10_000_000
MAX_PRICE: Final = 10**10
"""A million dollars a share."""
MAX_ID: Final = 2**63
MAX_ORDERS: Final = 100_000
ROUND: Final = 20
"""Intents in a round."""
NEW, SHRINK, DELETE, EXECUTE = 1, 2, 3, 4
_LAST_TYPE: Final = 7
_DAY_NS: Final = 86_400 * 10**9
_LINE: Final = re.compile(
    rb"(\d{1,5})(?:\.(\d{1,9})\d{0,9})?,([1-7]),(\d{1,19}),(-?\d{1,10}),(-?\d{1,11}),(-?1)", re.ASCII
)


class FlowError(SimulationError):
    """A message file that can't be replayed."""

    code: ClassVar[str] = "flow"


class FlowUnreadable(FlowError):
    """The file can't be opened or unpacked."""

    code: ClassVar[str] = "flow_unreadable"


class FlowMalformed(FlowError):
    """A line is no LOBSTER message, or out of range."""

    code: ClassVar[str] = "flow_malformed"


class FlowTooLarge(FlowError):
    """A line, or the file, is longer than any real one."""

    code: ClassVar[str] = "flow_too_large"


@dataclass(frozen=True, slots=True)
class Message:
    """A line.

    Attributes
    ----------
    time_ns : int
        Nanoseconds after midnight.
    type : int
        1 to 7.
    order : int
        The exchange's number of the order.
    size : int
        Shares; at least 1 for types 1 to 5.
    price : int
        Dollars times 10,000; at least 1 for types 1 to 5.
    side : Side
        Of the resting order.
    """

    time_ns: int
    type: int
    order: int
    size: int
    price: int
    side: Side


def read_messages(path: Path) -> Iterator[Message]:
    """Go through a file's messages, reading only as far as they are asked for.

    Parameters
    ----------
    path : Path
        Plain or gzip-compressed text; which of them shows in its first bytes.

    Raises
    ------
    FlowUnreadable
        If it can't be opened, or the compression is damaged.
    FlowMalformed
        For a line that is no message, is out of range or goes back in time.
    FlowTooLarge
        For a line above 160 bytes, or more than 50 million of them.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield from _messages(stream)  # type: ignore[arg-type]
            else:
                yield from _messages(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise FlowUnreadable(f"cannot read {path.name}: {error}", "name a LOBSTER message file, .csv or .gz") from error


def _messages(stream: BinaryIO) -> Iterator[Message]:
    before = 0
    for number in range(1, MAX_LINES + 2):
        line = stream.readline(MAX_LINE + 1)
        if not line:
            return
        if len(line) > MAX_LINE:
            raise FlowTooLarge(f"line {number} is longer than {MAX_LINE} bytes", "is this a LOBSTER message file?")
        message = parse_message(line, number)
        if message.time_ns < before:
            raise FlowMalformed(f"line {number} goes back in time")
        before = message.time_ns
        yield message
    raise FlowTooLarge(f"more than {MAX_LINES} lines")


def parse_message(line: bytes, number: int = 1) -> Message:
    """Return a line's message; `FlowMalformed`, with the line's number, for one that is none."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise FlowMalformed(f"line {number} is no message: {line[:60]!r}", "time,type,id,size,price,direction")
    seconds, fraction, kind, order, size, price, direction = found.groups()
    message = Message(
        time_ns=int(seconds) * 10**9 + int((fraction or b"0").ljust(9, b"0")),
        type=int(kind),
        order=int(order),
        size=int(size),
        price=int(price),
        side=Side.BUY if direction == b"1" else Side.SELL,
    )
    in_range = message.time_ns < _DAY_NS and message.order < MAX_ID
    if message.type <= 5:  # a halt says other things in these fields
        in_range = in_range and 1 <= message.size <= MAX_SIZE and 1 <= message.price <= MAX_PRICE
    if not in_range:
        raise FlowMalformed(f"line {number}: a value is out of range: {line[:60]!r}")
    return message


@dataclass(slots=True)
class _Resting:
    ref: int
    trader: int
    side: Side
    price: int
    left: int


class Replay:
    """Turns messages into intents.

    Parameters
    ----------
    symbol : str
        The market that plays the share's.
    tick : int
        Ticks (quote quanta a lot) of a ten-thousandth dollar.
    traders : sequence of int
        Positions in the list of traders, at least two; they take the orders by number.
    max_open : int
        Orders of one trader that rest at most (an account has few slots at the minimal preset); beyond that the
        oldest one is cancelled first.
    first_ref : int
        Number of the first placement.

    Attributes
    ----------
    seen : Counter
        Messages by type.
    """

    def __init__(self, symbol: str, tick: int, traders: Sequence[int], max_open: int, first_ref: int = 1) -> None:
        if len(set(traders)) < 2 or tick < 1 or max_open < 1:
            raise SimulationError("a replay needs two traders, a tick and an open order at least")
        self._symbol, self._tick, self._traders, self._max_open = symbol, tick, tuple(traders), max_open
        self._next_ref = first_ref
        self._resting: dict[int, _Resting] = {}
        self._open: dict[int, list[int]] = {trader: [] for trader in traders}
        self.seen: Counter[int] = Counter()

    def intents(self, messages: Iterable[Message]) -> Iterator[Intent]:
        """Go through what the messages come to."""
        for message in messages:
            self.seen[message.type] += 1
            if message.type == NEW:
                yield from self._rest(message.order, message.side, message.price, message.size)
            elif message.type in (SHRINK, DELETE):
                yield from self._shrink(message)
            elif message.type == EXECUTE:
                yield from self._execute(message)

    def _trader(self, order: int) -> int:
        return self._traders[order % len(self._traders)]

    def _place(self, trader: int, side: Side, price: int, lots: int, flags: int = 0) -> Place:
        ref, self._next_ref = self._next_ref, self._next_ref + 1
        return Place(ref, trader, self._symbol, side, price * self._tick, lots, flags)

    def _rest(self, order: int, side: Side, price: int, lots: int) -> Iterator[Intent]:
        trader = self._trader(order)
        if order in self._resting:
            yield self._drop(order)
        if len(self._open[trader]) >= self._max_open:
            yield self._drop(self._open[trader][0])
        placed = self._place(trader, side, price, lots)
        self._resting[order] = _Resting(placed.ref, trader, side, price, lots)
        self._open[trader].append(order)
        yield placed

    def _drop(self, order: int) -> Cancel:
        gone = self._forget(order)
        return Cancel(gone.ref, gone.trader)

    def _forget(self, order: int) -> _Resting:
        gone = self._resting.pop(order)
        self._open[gone.trader].remove(order)
        return gone

    def _shrink(self, message: Message) -> Iterator[Intent]:
        known = self._resting.get(message.order)
        if known is None:
            return
        yield self._drop(message.order)
        left = known.left - message.size
        if message.type == SHRINK and left > 0:
            yield from self._rest(message.order, known.side, known.price, left)

    def _execute(self, message: Message) -> Iterator[Intent]:
        known = self._resting.get(message.order)
        if known is None:
            yield from self._rest(message.order, message.side, message.price, message.size)
            known = self._resting[message.order]
        known.left -= message.size
        others = [trader for trader in self._traders if trader != known.trader]
        taker = others[message.order % len(others)]
        side = Side.SELL if known.side is Side.BUY else Side.BUY
        yield self._place(taker, side, message.price, message.size, Flag.IOC)
        if known.left <= 0:
            # In our books the taker may have met a better order; then this one would be left behind.
            yield self._drop(message.order)


def replay(path: Path, replayer: Replay, orders: int) -> list[Round]:
    """Return rounds of a file's first so many placements, fewer when it ends before.

    Raises
    ------
    FlowError
        As `read_messages`, or when it holds no placement at all.
    SimulationError
        For a number of orders not in [1, 100000].
    """
    if not 1 <= orders <= MAX_ORDERS:
        raise SimulationError(f"{orders} orders are not in [1, {MAX_ORDERS}]")
    kept: list[Intent] = []
    left = orders
    for intent in replayer.intents(read_messages(path)):
        kept.append(intent)
        left -= isinstance(intent, Place)
        if not left:
            break
    if left == orders:
        raise FlowMalformed(f"{path.name} holds no order", "name a LOBSTER message file")
    rest = iter(kept)
    return list(iter(lambda: tuple(islice(rest, ROUND)), ()))
