"""The trading key: derived from the L1 key by one signature, so that there is one secret to keep (docs/adr/0003)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount

from proofbook.client.errors import KeyNotDeterministic
from proofbook.protocol.babyjub import Point
from proofbook.protocol.eddsa import derive_public
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.messages import Action, SignedAction, domain_of, keccak256, parse_address, sign_action

STATEMENT: Final = (
    "Derive my Proofbook trading key. Whoever holds this signature can trade and withdraw for my account: "
    "sign it only in software you trust, and never send it to anybody."
)
_ORDER_N: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_SIGNATURE_BYTES: Final = 65
MAX_KEY_NUMBER: Final = 2**32 - 1

Signer = Callable[[SignableMessage], bytes]
"""Signs an EIP-712 message and returns r, s, v in 65 bytes."""


def key_message(chain_id: int, contract: int | str, number: int = 0) -> SignableMessage:
    """Return the message whose signature the key is made of.

    Parameters
    ----------
    chain_id, contract
        Of the exchange.
    number : int
        Which of the L1 key's trading keys, from 0 to 2^32 - 1: 0 is an account's first, the next ones replace it.

    Raises
    ------
    InvalidValue
        For a malformed address or a number out of range.
    """
    if not 0 <= number <= MAX_KEY_NUMBER:
        raise InvalidValue("number", number, "a key's number is below 2^32")
    address = f"0x{parse_address(contract):040x}"
    numbered = [{"name": "number", "type": "uint32"}] if number else []
    message: dict[str, Any] = {
        "domain": {"name": "Proofbook", "version": "1", "chainId": chain_id, "verifyingContract": address},
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "TradingKey": [{"name": "statement", "type": "string"}, *numbered],
        },
        "primaryType": "TradingKey",
        "message": {"statement": STATEMENT, **({"number": number} if number else {})},
    }
    return encode_typed_data(full_message=message)


def _canonical(signature: bytes) -> bytes:
    """Return a signature with low s and v in {27, 28}: wallets write the same one in several ways."""
    if len(signature) != _SIGNATURE_BYTES:
        raise KeyNotDeterministic(f"the wallet returned {len(signature)} bytes, not {_SIGNATURE_BYTES}")
    s, v = int.from_bytes(signature[32:64], "big"), signature[64] % 27
    if s > _ORDER_N // 2:
        s, v = _ORDER_N - s, v ^ 1
    return signature[:32] + s.to_bytes(32, "big") + bytes([27 + v])


def derive_key(sign: Signer, chain_id: int, contract: int | str, number: int = 0) -> bytes:
    """Return the 32 bytes of the trading key of one exchange.

    Parameters
    ----------
    sign : callable
        Signs with the L1 key; called twice.
    chain_id, contract, number
        See `key_message`.

    Raises
    ------
    KeyNotDeterministic
        If the two signatures differ: the key could then not be recovered from the L1 key.
    """
    message = key_message(chain_id, contract, number)
    first, second = (_canonical(bytes(sign(message))) for _ in range(2))
    if first != second:
        raise KeyNotDeterministic(
            "the wallet's signatures are not deterministic, so the trading key could not be recovered from it",
            "use a wallet that signs by RFC 6979",
        )
    return keccak256(first)


@dataclass(frozen=True, slots=True)
class Trader:
    """Somebody who signs actions of one exchange.

    Attributes
    ----------
    private : bytes
        Trading key, 32 bytes; not shown by `repr`.
    domain : int
        Of chain and contract.
    """

    private: bytes = field(repr=False)
    domain: int

    @classmethod
    def from_l1(cls, key: LocalAccount, chain_id: int, contract: int | str, number: int = 0) -> Trader:
        """Derive a trader from an L1 key; `KeyNotDeterministic`, `InvalidValue` as `derive_key`."""

        def sign(message: SignableMessage) -> bytes:
            return bytes(key.sign_message(message).signature)

        return cls(derive_key(sign, chain_id, contract, number), domain_of(chain_id, contract))

    @property
    def public(self) -> Point:
        """The trading key that the account holds."""
        return derive_public(self.private)

    def sign(self, action: Action) -> SignedAction:
        """Sign an action; `InvalidValue` for a field out of range."""
        return sign_action(self.private, action)
