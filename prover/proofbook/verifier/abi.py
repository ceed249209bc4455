"""The part of the contract's interface that reading it takes, written out: no compiler is needed to read a chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_utils.crypto import keccak

from proofbook.verifier.errors import RpcMalformed
from proofbook.verifier.rpc import data

REQUEST: Final = "(uint8,uint24,uint16,uint64,uint64,address,uint256,uint256,uint64,uint64)"
"""RequestData: kind, account, token, amount, outcome, owner, pubX, pubY, fee, deadline."""
REQUEST_BITS: Final = (8, 24, 16, 64, 64, 160, 256, 256, 64, 64)
COMMIT: Final = f"commit(uint16,uint32,uint256,{REQUEST}[],bytes,bytes,uint256,uint256[8])"

EVENTS: Final[dict[str, tuple[tuple[str, bool], ...]]] = {
    # (type, indexed), in the order of the declaration
    "RequestQueued": (
        ("uint64", True),
        ("uint24", True),
        ("address", True),
        ("uint8", False),
        ("uint16", False),
        ("uint64", False),
        ("address", False),
        ("uint256", False),
        ("uint256", False),
        ("uint64", False),
        ("uint64", False),
    ),
    "BatchCommitted": (
        ("uint64", True),
        ("uint16", True),
        ("uint32", False),
        ("uint256", False),
        ("uint256", False),
        ("uint64", False),
        ("uint16", False),
        ("uint16", False),
        ("uint16", False),
    ),
    "ClaimCredited": (("address", True), ("uint16", True), ("uint64", False)),
    "ClaimPaid": (("address", True), ("uint16", True), ("uint64", False)),
    "Exited": (("uint24", True), ("address", True), ("uint256", False), ("uint256[5]", False)),
    "Reclaimed": (("uint64", True), ("uint24", True), ("address", True)),
}


def selector(signature: str) -> bytes:
    """Return a function's 4 bytes, from ``name(types)``."""
    return bytes(keccak(text=signature)[:4])


def topic(event: str) -> str:
    """Return an event's first topic, from its name in `EVENTS`."""
    types = ",".join(kind for kind, _ in EVENTS[event])
    return "0x" + bytes(keccak(text=f"{event}({types})")).hex()


def decode_event(event: str, log: dict[str, Any]) -> tuple[Any, ...]:
    """Return an event's arguments in the order of its declaration.

    Raises
    ------
    RpcMalformed
        If the log is not of that form.
    """
    parameters = EVENTS[event]
    indexed = [kind for kind, flag in parameters if flag]
    plain = [kind for kind, flag in parameters if not flag]
    topics = log.get("topics")
    if not isinstance(topics, list) or len(topics) != len(indexed) + 1 or topics[0] != topic(event):
        raise RpcMalformed(f"{event}: its topics are not of that form")
    head = iter(decode_types(event, indexed, b"".join(data(t) for t in topics[1:])))
    body = iter(decode_types(event, plain, data(log.get("data"))))
    return tuple(next(head) if flag else next(body) for _, flag in parameters)


def decode_types(what: str, types: Sequence[str], raw: bytes) -> tuple[Any, ...]:
    """Return ABI-encoded values; `RpcMalformed` where they are not of these types."""
    try:
        return tuple(decode(list(types), raw))
    except (DecodingError, ValueError, OverflowError, MemoryError) as error:
        raise RpcMalformed(f"{what}: {type(error).__name__}: {str(error)[:200]}") from error


def encode_call(signature: str, *arguments: Any) -> str:
    """Return a call's data, 0x and hex digits."""
    types = signature[signature.index("(") + 1 : -1]
    try:
        return "0x" + (selector(signature) + encode(types.split(",") if types else [], arguments)).hex()
    except EncodingError as error:
        raise RpcMalformed(f"{signature}: {error}") from error


@dataclass(frozen=True, slots=True)
class Commit:
    """``commit``'s arguments; each request row is 10 numbers, in the order of `REQUEST_BITS`."""

    size_id: int
    timestamp: int
    new_root: int
    requests: tuple[tuple[int, ...], ...]
    actions: bytes
    fees: bytes
    c: int
    proof: tuple[int, ...]


def decode_commit(raw: bytes) -> Commit:
    """Return ``commit``'s arguments out of a transaction's input.

    Written out, because it has to read whatever the contract accepts: Solidity lets offsets point anywhere within the
    calldata, and an operator who encodes oddly must not thereby hide a batch's data (M19).

    Raises
    ------
    RpcMalformed
        If it is no such call, or the contract would have refused it.
    """
    if raw[:4] != selector(COMMIT):
        raise RpcMalformed("the transaction is no commit")
    body = raw[4:]
    head = [_word(body, 32 * k) for k in range(15)]
    size_id, timestamp, new_root, requests_at, actions_at, fees_at, c, *proof = head
    if size_id >> 16 or timestamp >> 32:
        raise RpcMalformed("commit: a number out of range")
    count = _word(body, requests_at)
    width = 32 * len(REQUEST_BITS)
    rows = _bytes(body, requests_at + 32, count * width)
    requests = tuple(_request_row(rows[k * width : (k + 1) * width]) for k in range(count))
    actions = _bytes(body, actions_at + 32, _word(body, actions_at))
    fees = _bytes(body, fees_at + 32, _word(body, fees_at))
    return Commit(size_id, timestamp, new_root, requests, actions, fees, c, tuple(proof))


def _request_row(raw: bytes) -> tuple[int, ...]:
    row = tuple(_word(raw, 32 * k) for k in range(len(REQUEST_BITS)))
    if any(value >> bits for value, bits in zip(row, REQUEST_BITS, strict=True)):
        raise RpcMalformed("commit: a request's number out of range")
    return row


def _bytes(raw: bytes, at: int, length: int) -> bytes:
    if at + length > len(raw):
        raise RpcMalformed("commit: the calldata is too short")
    return raw[at : at + length]


def _word(raw: bytes, at: int) -> int:
    return int.from_bytes(_bytes(raw, at, 32), "big")


def address_number(address: str) -> int:
    """Return an address that eth_abi decoded as a number."""
    return int(address, 16)


def log_transaction(log: dict[str, Any]) -> str:
    """Return the hash of an event's transaction; `RpcMalformed` if there is none."""
    tx = log.get("transactionHash")
    if not isinstance(tx, str) or len(data(tx)) != 32:
        raise RpcMalformed("an event without a transaction")
    return tx
