"""EdDSA over BabyJubjub with Poseidon as the challenge hash, compatible with circomlibjs and @zk-kit/eddsa-poseidon.

`verify` is strict (rule M3): it accepts nothing that the circuit rejects. A signature is no identifier: whoever knows
the key can make many for one message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, TypeAlias

from proofbook.protocol.babyjub import SUBGROUP_ORDER, Point, is_on_curve, mul_base8, verify_equation
from proofbook.protocol.blake512 import blake512
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.field import check_field_element, is_field_element
from proofbook.protocol.poseidon import poseidon

__all__ = [
    "PRIVATE_KEY_BYTES",
    "EddsaBackend",
    "EddsaError",
    "PrivateKey",
    "Signature",
    "challenge",
    "derive_public",
    "sign",
    "use_backend",
    "verify",
]

PRIVATE_KEY_BYTES = 32
PrivateKey: TypeAlias = bytes
"""32 secret bytes, all values allowed."""


class Signature(NamedTuple):
    """A point ``r8`` and a scalar ``s``; any values, until `verify` says yes."""

    r8: Point
    s: int


@dataclass(eq=False)
class EddsaError(ProofbookError, ValueError):
    """A private key of the wrong length, in bytes."""

    code: ClassVar[str] = "eddsa_private_key_length"
    length: int


class EddsaBackend(Protocol):
    """A faster implementation, handed in from outside; it sees only values in range.

    It may also have ``eddsa_sign``, which takes a private key and a message and returns r8.x, r8.y and s.
    """

    def eddsa_verify(self, pub_x: int, pub_y: int, r8x: int, r8y: int, s: int, msg: int) -> bool:
        """Return what `verify` returns for coordinates and ``msg`` below ``R`` and ``s`` below ``SUBGROUP_ORDER``."""


_backend: EddsaBackend | None = None
_backend_sign: Callable[[bytes, int], tuple[int, int, int]] | None = None


def use_backend(backend: EddsaBackend | None) -> None:
    """Let `verify` and `sign` call ``backend`` from now on, or the code of this module again if None."""
    global _backend, _backend_sign
    _backend, _backend_sign = backend, getattr(backend, "eddsa_sign", None)


def _expand(private: PrivateKey) -> tuple[int, bytes]:
    """Return the secret scalar (a multiple of 8) and the secret prefix of the nonce."""
    if len(private) != PRIVATE_KEY_BYTES:
        raise EddsaError(len(private))
    digest = blake512(private)
    scalar = int.from_bytes(digest[:32], "little")
    scalar = scalar & ~7 & (1 << 255) - 1 | 1 << 254
    return scalar, digest[32:]


def derive_public(private: PrivateKey) -> Point:
    """Return the public key of a private key, a point of the subgroup.

    Raises
    ------
    EddsaError
        If ``private`` is not 32 bytes.
    """
    return mul_base8(_expand(private)[0] >> 3)


def challenge(r8: Point, public: Point, msg: int) -> int:
    """Return ``Poseidon(r8.x, r8.y, public.x, public.y, msg)``: it binds a signature to key and message.

    Raises
    ------
    OutOfField
        If a coordinate or ``msg`` is not in ``[0, R)``.
    """
    return poseidon((r8.x, r8.y, public.x, public.y, msg))


def sign(private: PrivateKey, msg: int) -> Signature:
    """Sign a field element. The same key and message always give the same signature.

    Raises
    ------
    EddsaError
        If ``private`` is not 32 bytes.
    OutOfField
        If ``msg`` is not in ``[0, R)``.
    """
    if _backend_sign is not None and len(private) == PRIVATE_KEY_BYTES:
        x, y, s = _backend_sign(private, check_field_element(msg))
        return Signature(Point(x, y), s)
    scalar, prefix = _expand(private)
    message = check_field_element(msg).to_bytes(32, "little")
    nonce = int.from_bytes(blake512(prefix + message), "little") % SUBGROUP_ORDER
    r8 = mul_base8(nonce)
    h = challenge(r8, mul_base8(scalar >> 3), msg)
    return Signature(r8, (nonce + h * scalar) % SUBGROUP_ORDER)


def verify(public: Point, msg: int, sig: Signature) -> bool:
    """Tell whether ``sig`` is ``public``'s signature of ``msg``: ``s * BASE8 == r8 + challenge * 8 * public``.

    False, and never an exception, for integers out of range, points off the curve, ``s`` not below `SUBGROUP_ORDER` and
    public keys of low order, under which anything could be signed.
    """
    (r8, s), (pub_x, pub_y) = sig, public
    if not all(map(is_field_element, (pub_x, pub_y, *r8, msg, s))) or s >= SUBGROUP_ORDER:
        return False
    if _backend is not None:
        return _backend.eddsa_verify(pub_x, pub_y, r8.x, r8.y, s, msg)
    if not (is_on_curve(public) and is_on_curve(r8)):
        return False
    return verify_equation(s, public, challenge(r8, public, msg), r8)
