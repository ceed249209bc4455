"""Signed actions: what a trader signs, and what ties it to chain and contract (docs/spec.md section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter, lshift, rshift
from typing import Final

from eth_utils.crypto import keccak

from proofbook.protocol.babyjub import Point
from proofbook.protocol.eddsa import Signature, sign, verify
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.field import R
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.table import (
    BPS,
    CHALLENGE_TAG,
    COUNT_BITS,
    DOMAIN_TAG,
    MESSAGE1_LAYOUT,
    MESSAGE2_LAYOUT,
    OWNER_BITS,
    ActionType,
    Flag,
    Layout,
    Side,
)
from proofbook.protocol.words import DOMAIN_BITS, check_element, check_range, pack

_KNOWN_FLAGS: Final = sum(Flag)
_POST_ONLY: Final = int(Flag.POST_ONLY)
_TAKES_ONLY: Final = Flag.IOC | Flag.FOK | Flag.MARKET
# Asked for once: an enum takes its time to answer.
_ORDER, _CANCEL = int(ActionType.ORDER), int(ActionType.CANCEL)
# What a type names besides domain, type, account, id, valid_until; everything else is 0.
_NAMED: Final = {
    ActionType.ORDER: {"base", "quote", "side", "base_amount", "quote_amount", "max_fee_bps", "flags"},
    ActionType.WITHDRAW: {"base", "base_amount"},
    ActionType.TRANSFER: {"base", "base_amount", "receiver"},
    ActionType.CANCEL: set[str](),
}
_MAY_BE_ZERO: Final = {"side", "max_fee_bps", "flags", "receiver"}
_OPTIONAL: Final = (
    "base",
    "quote",
    "side",
    "base_amount",
    "quote_amount",
    "max_fee_bps",
    "flags",
    "receiver",
)


# Admission checks every action several times, and replaying a journal once more: `_fits` and the packing below say the
# same as `words.pack`, with loops that run in C. What they don't take is looked at again, slowly, for the right error.
_LAYOUT: Final[Layout] = (*MESSAGE1_LAYOUT, *MESSAGE2_LAYOUT)
_BITS: Final = tuple(bits for _, bits in _LAYOUT)
_SPLIT: Final = len(MESSAGE1_LAYOUT)
_SHIFTS: Final = tuple(sum(_BITS[0 if i < _SPLIT else _SPLIT : i]) for i in range(len(_BITS)))
_get_values: Final = attrgetter(*(name for name, _ in _LAYOUT))
_get_optional: Final = attrgetter(*_OPTIONAL)
_INTEGERS: Final = {int}


def _fits(values: tuple[int, ...]) -> bool:
    """Tell whether the values of `_LAYOUT` are plain integers within their bits."""
    # A negative number shifted right stays negative, and is seen as well.
    return set(map(type, values)) == _INTEGERS and not any(map(rshift, values, _BITS))


@dataclass(frozen=True, slots=True)
class Action:
    """An action as it is signed. Constructing one checks nothing: see `check` and the functions that make each type.

    Attributes
    ----------
    domain : int
        Of chain and contract, 248 bits: see `domain_of`.
    type, account, id : int
        An `ActionType`; account index, 24 bits; action id, 64 bits.
    base, quote : int
        Token ids; base is the token of a withdrawal or transfer.
    side : int
        A `Side`, orders only.
    base_amount, quote_amount : int
        64 bits, in quanta; an order's limit price is their quotient.
    max_fee_bps : int
        Highest fee, in hundredths of a percent of the executed quote amount.
    valid_until : int
        Unix seconds, 32 bits.
    flags : int
        Bits of `Flag`.
    receiver : int
        Account index, transfers only.
    """

    domain: int
    type: int
    account: int
    id: int
    base: int = 0
    quote: int = 0
    side: int = 0
    base_amount: int = 0
    quote_amount: int = 0
    max_fee_bps: int = 0
    valid_until: int = 0
    flags: int = 0
    receiver: int = 0

    def words(self) -> tuple[int, int]:
        """Return the packed words w1, w2; `InvalidValue` for a field out of range."""
        values = _get_values(self)
        if _fits(values):
            parts = tuple(map(lshift, values, _SHIFTS))
            return sum(parts[:_SPLIT]), sum(parts[_SPLIT:])
        first = pack(MESSAGE1_LAYOUT, {name: getattr(self, name) for name, _ in MESSAGE1_LAYOUT})
        second = pack(MESSAGE2_LAYOUT, {name: getattr(self, name) for name, _ in MESSAGE2_LAYOUT})
        return first, second

    def message_inputs(self) -> tuple[int, int, int]:
        """Return the field elements that `message_hash` hashes; `InvalidValue` for a field out of range."""
        return (check_range("domain", self.domain, DOMAIN_BITS), *self.words())

    def message_hash(self) -> int:
        """Return the field element that is signed; `InvalidValue` for a field out of range."""
        return poseidon(self.message_inputs())

    def check(self) -> None:
        """Check everything that can be said of an action on its own; stricter than the circuit.

        Raises
        ------
        InvalidValue
            For a field out of range, one that the type does not name, an amount or token of 0, equal tokens, a fee
            above 100 %, unknown or contradictory flags, id 0.
        """
        if type(self.domain) is not int or self.domain >> DOMAIN_BITS:
            check_range("domain", self.domain, DOMAIN_BITS)
        if not _fits(_get_values(self)):
            self.words()
        is_order = self.type == _ORDER
        if not is_order or self.receiver or not (self.base and self.quote and self.base_amount and self.quote_amount):
            self._check_zeros()
        # Every slot starts as id 0, so id 0 counts as used.
        if not self.id:
            raise InvalidValue("id", self.id, "must not be 0")
        if is_order:
            self._check_order()

    def _check_zeros(self) -> None:
        if self.type == _CANCEL and not any(_get_optional(self)):
            return
        if self.type not in _NAMED:
            raise InvalidValue("type", self.type, "no action type")
        named = _NAMED[ActionType(self.type)]
        for name in _OPTIONAL:
            value = getattr(self, name)
            if name not in named and value:
                raise InvalidValue(name, value, "not 0, and the type does not name it")
            if name in named and name not in _MAY_BE_ZERO and not value:
                raise InvalidValue(name, value, "must not be 0")

    def _check_order(self) -> None:
        if self.base == self.quote:
            raise InvalidValue("quote", self.quote, "base and quote are the same token")
        if self.max_fee_bps > BPS:
            raise InvalidValue("max_fee_bps", self.max_fee_bps, f"above {BPS}")
        if self.flags & ~_KNOWN_FLAGS:
            raise InvalidValue("flags", self.flags, "unknown bit")
        if self.flags & _POST_ONLY and self.flags & _TAKES_ONLY:
            raise InvalidValue("flags", self.flags, "post-only excludes IOC, FOK and market")


def order(
    *,
    domain: int,
    account: int,
    id: int,
    base: int,
    quote: int,
    side: Side | int,
    base_amount: int,
    quote_amount: int,
    max_fee_bps: int,
    valid_until: int,
    flags: int = 0,
) -> Action:
    """Return a checked order; `InvalidValue` as `Action.check`."""
    made = Action(
        domain=domain,
        type=int(ActionType.ORDER),
        account=account,
        id=id,
        base=base,
        quote=quote,
        side=int(side),
        base_amount=base_amount,
        quote_amount=quote_amount,
        max_fee_bps=max_fee_bps,
        valid_until=valid_until,
        flags=int(flags),
    )
    made.check()
    return made


def withdraw(*, domain: int, account: int, id: int, token: int, amount: int, valid_until: int) -> Action:
    """Return a checked withdrawal of `amount` quanta to the account's owner; `InvalidValue` as `Action.check`."""
    made = Action(
        domain=domain,
        type=int(ActionType.WITHDRAW),
        account=account,
        id=id,
        base=token,
        base_amount=amount,
        valid_until=valid_until,
    )
    made.check()
    return made


def transfer(*, domain: int, account: int, id: int, token: int, amount: int, receiver: int, valid_until: int) -> Action:
    """Return a checked transfer of `amount` quanta to account `receiver`; `InvalidValue` as `Action.check`."""
    made = Action(
        domain=domain,
        type=int(ActionType.TRANSFER),
        account=account,
        id=id,
        base=token,
        base_amount=amount,
        valid_until=valid_until,
        receiver=receiver,
    )
    made.check()
    return made


def cancel(*, domain: int, account: int, id: int, valid_until: int) -> Action:
    """Return a checked cancel of the order with this id; `InvalidValue` as `Action.check`."""
    made = Action(domain=domain, type=int(ActionType.CANCEL), account=account, id=id, valid_until=valid_until)
    made.check()
    return made


@dataclass(frozen=True, slots=True)
class SignedAction:
    """An action and its signature; the signature identifies nothing (M3)."""

    action: Action
    signature: Signature


def sign_action(private32: bytes, action: Action) -> SignedAction:
    """Sign an action.

    Raises
    ------
    InvalidValue
        For a field out of range. Only that: `Action.check` is for those who make or admit actions.
    EddsaError
        For a private key that is not 32 bytes.
    """
    return SignedAction(action, sign(private32, action.message_hash()))


def verify_action(pub: Point, signed: SignedAction) -> bool:
    """Tell whether the circuit accepts the signature under this key; `InvalidValue` for a field out of range."""
    return verify(pub, signed.action.message_hash(), signed.signature)


# --- hashes shared with the contract


def keccak256(data: bytes) -> bytes:
    """Return Ethereum's Keccak-256, 32 bytes."""
    return bytes(keccak(data))


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def parse_address(contract: int | str) -> int:
    """Return an L1 address, given as a number or as 0x and 40 hex digits, as a number.

    Raises
    ------
    InvalidValue
        For anything else; checksums in the letters' case are not looked at.
    """
    if isinstance(contract, str):
        digits = contract[2:]
        if contract[:2] != "0x" or len(digits) != OWNER_BITS // 4 or not set(digits) <= set("0123456789abcdefABCDEF"):
            raise InvalidValue("contract", contract[:64], "not 0x and 40 hex digits")
        contract = int(digits, 16)
    return check_range("contract", contract, OWNER_BITS)


def domain_of(chain_id: int, contract: int | str) -> int:
    """Return the domain of an exchange: what ties signatures to one chain and contract (M4), 248 bits."""
    tag = keccak256(DOMAIN_TAG.encode())
    data = tag + _word(check_range("chain_id", chain_id, 256)) + _word(parse_address(contract))
    return int.from_bytes(keccak256(data), "big") >> 8


def challenge(chain_id: int, contract: int | str, size_id: int, words: Sequence[int], c: int) -> int:
    """Return the random point z of a batch.

    Parameters
    ----------
    chain_id, contract
        Of the exchange.
    size_id : int
        Position of the batch size.
    words : sequence of int
        D in full layout, field elements.
    c : int
        The sponge's commitment C.

    Returns
    -------
    int
        A field element.
    """
    packed = b"".join(_word(check_element("word", word)) for word in words)
    data = (
        keccak256(CHALLENGE_TAG.encode())
        + _word(check_range("chain_id", chain_id, 256))
        + _word(parse_address(contract))
        + _word(check_range("size_id", size_id, COUNT_BITS))
        + keccak256(packed)
        + _word(check_element("c", c))
    )
    return int.from_bytes(keccak256(data), "big") % R
