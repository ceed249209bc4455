"""BLAKE-512, the SHA-3 finalist (neither SHA-3 nor BLAKE2): circomlibjs derives EdDSA keys with it.

Not constant in time, as nothing in Python is.
"""

from __future__ import annotations

import struct

__all__ = ["blake512"]

_MASK = 2**64 - 1
_BLOCK = 128  # bytes
_ROUNDS = 16
# fmt: off
_IV = (  # SHA-512's
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
)
_PI = (  # the first digits of pi's fraction
    0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89,
    0x452821E638D01377, 0xBE5466CF34E90C6C, 0xC0AC29B7C97C50DD, 0x3F84D5B5B5470917,
    0x9216D5D98979FB1B, 0xD1310BA698DFB5AC, 0x2FFD72DBD01ADFB7, 0xB8E1AFED6A267E96,
    0xBA7C9045F12C7F99, 0x24A19947B3916CF7, 0x0801F2E2858EFC16, 0x636920D871574E69,
)
_SIGMA = tuple(tuple(int(digit, 16) for digit in row) for row in (
    "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
    "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
))
_LANES = (  # four columns, then four diagonals
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)
# fmt: on


def _rotate(x: int, count: int) -> int:
    return x >> count | x << (64 - count) & _MASK


def _compress(chain: list[int], block: bytes, bits_so_far: int) -> list[int]:
    words = struct.unpack(">16Q", block)
    low, high = bits_so_far & _MASK, bits_so_far >> 64
    v = [*chain, *_PI[:4], _PI[4] ^ low, _PI[5] ^ low, _PI[6] ^ high, _PI[7] ^ high]
    for number in range(_ROUNDS):
        order = _SIGMA[number % 10]
        for lane, (a, b, c, d) in enumerate(_LANES):
            i, j = order[2 * lane], order[2 * lane + 1]
            v[a] = (v[a] + v[b] + (words[i] ^ _PI[j])) & _MASK
            v[d] = _rotate(v[d] ^ v[a], 32)
            v[c] = (v[c] + v[d]) & _MASK
            v[b] = _rotate(v[b] ^ v[c], 25)
            v[a] = (v[a] + v[b] + (words[j] ^ _PI[i])) & _MASK
            v[d] = _rotate(v[d] ^ v[a], 16)
            v[c] = (v[c] + v[d]) & _MASK
            v[b] = _rotate(v[b] ^ v[c], 11)
    return [h ^ v[i] ^ v[i + 8] for i, h in enumerate(chain)]


def blake512(message: bytes) -> bytes:
    """Return the 64-byte BLAKE-512 digest of ``message`` (salt zero)."""
    bits = 8 * len(message)
    # A one bit, zeros, a one bit just before the 128-bit length.
    zeros = -(len(message) + 18) % _BLOCK
    tail = b"\x80" + bytes(zeros) + b"\x01" if zeros != _BLOCK - 1 else b"\x81"
    padded = message + tail + bits.to_bytes(16, "big")
    chain = list(_IV)
    for start in range(0, len(padded), _BLOCK):
        # The counter leaves padding out, and is 0 for a block of padding alone.
        counter = min(bits, 8 * (start + _BLOCK)) if 8 * start < bits else 0
        chain = _compress(chain, padded[start : start + _BLOCK], counter)
    return struct.pack(">8Q", *chain)
