"""What goes into the engine. Commands are what the journal keeps: replaying them gives the same engine.

Encoded as JSON arrays, because they carry numbers of 254 bits.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import msgspec

from proofbook.operator.codes import OperatorError
from proofbook.operator.markets import Market
from proofbook.protocol.messages import SignedAction
from proofbook.protocol.words import Request

MAX_COMMAND_BYTES = 4096


class CommandError(OperatorError):
    """Bytes that stand for no command (code ``command``)."""

    code: ClassVar[str] = "command"


class _Command(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of all commands."""


class PlaceOrder(_Command, frozen=True):
    """A signed order, its signature verified."""

    signed: SignedAction


class Cancel(_Command, frozen=True):
    """A soft cancel: the signed cancel action takes the order out of the book, and no row is proven."""

    signed: SignedAction


class HardCancel(_Command, frozen=True):
    """A cancel that becomes a row of a batch, after which the id can never fill."""

    signed: SignedAction


class Withdraw(_Command, frozen=True):
    """A signed withdrawal, its signature verified."""

    signed: SignedAction


class Transfer(_Command, frozen=True):
    """A signed transfer, its signature verified."""

    signed: SignedAction


class RequestSeen(_Command, frozen=True):
    """L1's queue has a request, not yet confirmed. Numbers are L1's, rising by 1 from 0."""

    number: int
    request: Request


class RequestConfirmed(_Command, frozen=True):
    """The oldest request seen but unconfirmed has enough confirmations: it takes effect."""

    number: int


class RequestUnseen(_Command, frozen=True):
    """The newest request seen, unconfirmed, is gone: L1 reorganised."""

    number: int


class AddMarket(_Command, frozen=True):
    """From here on this can be traded as well."""

    market: Market


class Tick(_Command, frozen=True):
    """It is now this unix second. Time never goes back: an earlier one is ignored."""

    now: int


class SealBatch(_Command, frozen=True):
    """Close the next batch: the longest prefix of what happened that fits a batch.

    Attributes
    ----------
    number : int
        The batch's number; must be the next one, so that a repetition does nothing.
    max_timestamp : int
        The batch's timestamp is not later: L1's newest block time.
    """

    number: int
    max_timestamp: int


class BatchConfirmed(_Command, frozen=True):
    """The oldest batch in flight is final on L1."""

    number: int


class BatchDropped(_Command, frozen=True):
    """A batch and those after it can't be proven or submitted as they are: they are unsealed.

    If an action among what is unsettled expires before ``min_timestamp``, the least timestamp L1 still takes,
    everything unsettled but the requests is busted.
    """

    number: int
    min_timestamp: int


class Freeze(_Command, frozen=True):
    """The exchange is frozen on L1: what is unsettled is busted, and nothing is admitted ever again."""


SignedCommand: TypeAlias = PlaceOrder | Cancel | HardCancel | Withdraw | Transfer
Command: TypeAlias = (
    SignedCommand
    | RequestSeen
    | RequestConfirmed
    | RequestUnseen
    | AddMarket
    | Tick
    | SealBatch
    | BatchConfirmed
    | BatchDropped
    | Freeze
)
SIGNED_COMMANDS = (PlaceOrder, Cancel, HardCancel, Withdraw, Transfer)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def encode_command(command: Command) -> bytes:
    """Return a command as JSON bytes.

    Raises
    ------
    CommandError
        For one that `decode_command` would not take: a journal with it could not be read again.
    """
    body = _encoder.encode(command)
    if len(body) > MAX_COMMAND_BYTES:
        raise CommandError(f"{len(body)} bytes")
    return body


def decode_command(body: bytes) -> Command:
    """Return the command of `encode_command`'s bytes; ranges are the engine's business.

    Raises
    ------
    CommandError
        For more than 4096 bytes, or anything but one command.
    """
    if len(body) > MAX_COMMAND_BYTES:
        raise CommandError(f"{len(body)} bytes")
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(str(error)) from error
