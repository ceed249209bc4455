"""snarkjs JSON to what the contract takes: verifying keys and proofs in EIP-197 order (imaginary part first)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from proofbook.chain.errors import KeyFormatError

Q: Final = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""The modulus of BN254's base field."""
KEY_WORDS: Final = 14
"""Words of a verifying key before its IC points."""


def encode_verifying_key(key: Mapping[str, Any], inputs: int) -> bytes:
    """Return a snarkjs ``verification_key.json`` as the contract's verifying key bytes.

    Parameters
    ----------
    key : mapping
        The parsed file.
    inputs : int
        The number of public inputs that the circuit has to have.

    Returns
    -------
    bytes
        alpha1 (2 words), beta2, gamma2, delta2 (4 words each), `inputs` + 1 IC points (2 words each).

    Raises
    ------
    KeyFormatError
        For another protocol, curve or number of inputs, or a malformed point.
    """
    if key.get("protocol") != "groth16" or key.get("curve") not in ("bn128", "bn254"):
        raise KeyFormatError("not a Groth16 key over BN254")
    ic = key.get("IC")
    if key.get("nPublic") != inputs or not isinstance(ic, list) or len(ic) != inputs + 1:
        raise KeyFormatError(f"the key is not for {inputs} public inputs", "is it another circuit's?")
    words = _g1(key, "vk_alpha_1") + _g2(key, "vk_beta_2") + _g2(key, "vk_gamma_2") + _g2(key, "vk_delta_2")
    words += [word for k in range(inputs + 1) for word in _g1_point(f"IC[{k}]", ic[k])]
    return b"".join(word.to_bytes(32, "big") for word in words)


def encode_proof(proof: Mapping[str, Any]) -> list[int]:
    """Return a snarkjs ``proof.json`` as the contract's 8 proof words.

    Raises
    ------
    KeyFormatError
        For a malformed point.
    """
    return _g1(proof, "pi_a") + _g2(proof, "pi_b") + _g1(proof, "pi_c")


def decode_verifying_key(data: bytes) -> dict[str, Any]:
    """Return the contract's verifying key bytes as snarkjs JSON; the inverse of `encode_verifying_key`.

    Raises
    ------
    KeyFormatError
        For a wrong length.
    """
    count, rest = divmod(len(data) - 32 * KEY_WORDS, 64)
    if rest or count < 1:
        raise KeyFormatError(f"{len(data)} bytes are no verifying key")
    w = [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32)]
    return {
        "protocol": "groth16",
        "curve": "bn128",
        "nPublic": count - 1,
        "vk_alpha_1": _g1_json(w[0:2]),
        "vk_beta_2": _g2_json(w[2:6]),
        "vk_gamma_2": _g2_json(w[6:10]),
        "vk_delta_2": _g2_json(w[10:14]),
        "IC": [_g1_json(w[KEY_WORDS + 2 * k :][:2]) for k in range(count)],
    }


def decode_proof(words: Sequence[int]) -> dict[str, Any]:
    """Return 8 proof words as snarkjs JSON; the inverse of `encode_proof`."""
    if len(words) != 8:
        raise KeyFormatError(f"a proof has 8 words, not {len(words)}")
    return {
        "protocol": "groth16",
        "curve": "bn128",
        "pi_a": _g1_json(words[0:2]),
        "pi_b": _g2_json(words[2:6]),
        "pi_c": _g1_json(words[6:8]),
    }


def _g1_json(words: Sequence[int]) -> list[str]:
    return [str(words[0]), str(words[1]), "1"]


def _g2_json(words: Sequence[int]) -> list[list[str]]:
    return [[str(words[1]), str(words[0])], [str(words[3]), str(words[2])], ["1", "0"]]


def _coordinate(where: str, text: Any) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 78:
        raise KeyFormatError(f"{where} is not a decimal string")
    value = int(text)
    if value >= Q:
        raise KeyFormatError(f"{where} is not below the base field's modulus")
    return value


def _g1(data: Mapping[str, Any], name: str) -> list[int]:
    return _g1_point(name, data.get(name))


def _g1_point(name: str, point: Any) -> list[int]:
    if not isinstance(point, list) or len(point) != 3:
        raise KeyFormatError(f"{name} is no point")
    x, y, z = (_coordinate(name, part) for part in point)
    if z == 1:
        return [x, y]
    if z == 0:  # snarkjs writes infinity as (0, 1, 0), the precompiles take (0, 0)
        return [0, 0]
    raise KeyFormatError(f"{name} is not affine")


def _g2(data: Mapping[str, Any], name: str) -> list[int]:
    point = data.get(name)
    if not isinstance(point, list) or len(point) != 3 or any(not isinstance(p, list) or len(p) != 2 for p in point):
        raise KeyFormatError(f"{name} is no point")
    (x0, x1), (y0, y1), z = ((_coordinate(name, a), _coordinate(name, b)) for a, b in point)
    if z == (1, 0):
        return [x1, x0, y1, y0]
    if z == (0, 0):
        return [0, 0, 0, 0]
    raise KeyFormatError(f"{name} is not affine")
