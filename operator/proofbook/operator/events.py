"""What comes out of the engine: a deterministic stream, numbered from 1. Amounts are quanta, prices ticks."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class _Event(msgspec.Struct, frozen=True, tag=True, tag_field="event", gc=False):
    """Base of all events. ``seq`` is the place in the stream; 0 for a refusal that never reached the engine.

    They hold nothing but numbers and text, so the collector of reference cycles need not look at them.
    """

    seq: int


class OrderAccepted(_Event, frozen=True):
    """An order was admitted and its cost reserved; its trades, if any, follow."""

    symbol: str
    account: int
    id: int
    side: int
    price: int
    lots: int
    flags: int
    valid_until: int


class OrderRejected(_Event, frozen=True):
    """An order was not admitted."""

    account: int
    id: int
    code: str
    detail: str


class Trade(_Event, frozen=True):
    """Two orders met, at the resting one's price.

    Attributes
    ----------
    number : int
        Rising from 1.
    base_amount, quote_amount : int
        lots times lot, lots times price, in quanta.
    taker_side : int
        The incoming order's `Side`.
    maker_fee, taker_fee : int
        Quote quanta; a buyer pays it on top, a seller out of what comes in.
    maker_left, taker_left : int
        Lots unfilled afterwards.
    """

    number: int
    symbol: str
    price: int
    lots: int
    base_amount: int
    quote_amount: int
    taker_side: int
    maker_account: int
    maker_id: int
    maker_fee: int
    maker_left: int
    taker_account: int
    taker_id: int
    taker_fee: int
    taker_left: int


class OrderRemoved(_Event, frozen=True):
    """An order is done; ``lots`` of it were unfilled. ``reason`` is a `Removal`."""

    symbol: str
    account: int
    id: int
    lots: int
    reason: str


class ActionAccepted(_Event, frozen=True):
    """A withdrawal, transfer or hard cancel will be a row of a batch. ``type`` is an `ActionType`."""

    type: int
    account: int
    id: int
    token: int
    amount: int
    receiver: int


class ActionRejected(_Event, frozen=True):
    """A withdrawal, transfer or cancel was not admitted."""

    type: int
    account: int
    id: int
    code: str
    detail: str


class BalanceChanged(_Event, frozen=True):
    """A balance after a command."""

    account: int
    token: int
    available: int
    reserved: int


class RequestNoted(_Event, frozen=True):
    """A request was seen on L1 (``seen``), or vanished again before it was confirmed (``unseen``)."""

    number: int
    stage: str
    kind: int
    account: int
    token: int
    amount: int


class RequestApplied(_Event, frozen=True):
    """A confirmed request took effect. ``outcome`` as in a batch: 1 for a bounced deposit, the amount of an exit."""

    number: int
    kind: int
    account: int
    token: int
    amount: int
    outcome: int


class CommandRejected(_Event, frozen=True):
    """A command from the operator's own machinery did not fit the engine's state; nothing changed."""

    command: str
    code: str
    detail: str


class BatchSealed(_Event, frozen=True):
    """A batch is closed; `Engine.get_plan` has its rows.

    Attributes
    ----------
    number, size_id, timestamp : int
        As in the batch's header.
    requests, actions, accounts, fees : int
        Rows used.
    trades : int
        Trades in it.
    left : int
        Entries that wait for the next batch.
    """

    number: int
    size_id: int
    timestamp: int
    requests: int
    actions: int
    accounts: int
    fees: int
    trades: int
    left: int


class BatchSettled(_Event, frozen=True):
    """A batch is final on L1, and with it everything in it."""

    number: int


class BatchUnsealed(_Event, frozen=True):
    """A batch will not be; what it held waits to be sealed again, or is busted by the events that follow."""

    number: int


class TradeBusted(_Event, frozen=True):
    """A trade that can't be proven any more never happened."""

    number: int


class ActionBusted(_Event, frozen=True):
    """A withdrawal, transfer or hard cancel that can't be proven any more never happened."""

    type: int
    account: int
    id: int


class ExchangeFrozen(_Event, frozen=True):
    """The exchange is frozen; what accounts have is what the last settled batch says, and leaves by exit proofs."""


Event: TypeAlias = (
    OrderAccepted
    | OrderRejected
    | Trade
    | OrderRemoved
    | ActionAccepted
    | ActionRejected
    | BalanceChanged
    | RequestNoted
    | RequestApplied
    | CommandRejected
    | BatchSealed
    | BatchSettled
    | BatchUnsealed
    | TradeBusted
    | ActionBusted
    | ExchangeFrozen
)


class Stream:
    """Numbers events, and collects those of one command.

    Attributes
    ----------
    seq : int
        Of the newest event.
    append : callable
        Takes an event numbered by `next_seq`.
    """

    __slots__ = ("append", "events", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self.clear()

    def clear(self) -> None:
        """Begin a new list of events."""
        self.events: list[Event] = []
        self.append = self.events.append

    def next_seq(self) -> int:
        """Return the number of the next event, which must then be appended."""
        self.seq += 1
        return self.seq


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Return an event as a JSON object whose ``event`` is its class."""
    return _encoder.encode(event)


def decode_event(body: bytes) -> Event:
    """Return the event of `encode_event`'s bytes; msgspec.MsgspecError for anything else."""
    try:
        return _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
