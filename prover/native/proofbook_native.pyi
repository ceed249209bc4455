"""Rust core of Proofbook: Groth16 set-up and proving, Poseidon and EdDSA over BN254.

Every function releases the interpreter's lock while it works. Malformed input
raises `ValueError`, the file system's refusals raise `OSError`.
"""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Self, final

def setup(
    r1cs_path: str | PathLike[str],
    zkey_path: str | PathLike[str],
    progress: Callable[[str, float], object] | None = None,
) -> dict[str, object]:
    """Make a development Groth16 key from circom's constraints.

    Parameters
    ----------
    r1cs_path : str or path
        An .r1cs file (iden3 format, version 1, BN254, no custom gates).
    zkey_path : str or path
        Where the snarkjs .zkey goes; it appears complete or not at all.
    progress : callable, optional
        Called with a stage's name and the share done, from 0 to 1. What it raises
        ends the set-up and reaches the caller.

    Returns
    -------
    dict
        `constraints`, `wires`, `public`, `domain_size`, `coefficients` (int) and
        `circuit_hash` (128 hex digits).

    Raises
    ------
    ValueError
        The .r1cs file is malformed or needs a domain above 2^27.
    OSError
        A file cannot be read or written.

    Notes
    -----
    tau, alpha, beta and delta come fresh from the operating system and are wiped
    afterwards; gamma is 1, as in every snarkjs key. The maker of such a key could
    forge proofs: it is for development only.
    """

def r1cs_info(path: str | PathLike[str]) -> dict[str, int]:
    """Count what an .r1cs file holds.

    Returns
    -------
    dict
        `constraints` (all in the file), `linear` (those whose A or B is empty or
        constant), `wires`, `public_outputs`, `public_inputs`, `private_inputs`,
        `labels`.

    Raises
    ------
    ValueError
        The file is malformed.
    OSError
        The file cannot be read.
    """

def poseidon(inputs: Sequence[int]) -> int:
    """Return circomlib's Poseidon hash of 1 to 16 integers in [0, r).

    Raises
    ------
    ValueError
        For another number of inputs, or one out of range.
    """

def poseidon_many(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return the Poseidon hash of each row, computed on all cores; as `poseidon`."""

def eddsa_sign(private: bytes, msg: int) -> tuple[int, int, int]:
    """Return the EdDSA-Poseidon signature (r8x, r8y, s) of `msg`, the same for the same key and message.

    Not constant in time.

    Raises
    ------
    ValueError
        `private` is not 32 bytes, or `msg` not in [0, r).
    """

def eddsa_verify(pub_x: int, pub_y: int, r8x: int, r8y: int, s: int, msg: int) -> bool:
    """Tell whether (r8x, r8y, s) is the EdDSA-Poseidon signature of `msg` by the key (pub_x, pub_y).

    Strict: False for any integer out of range (coordinates and `msg` in [0, r), `s`
    in [0, l)), for points off BabyJubjub and for keys of low order. Never raises for
    integers.
    """

def eddsa_verify_many(rows: Sequence[tuple[int, int, int, int, int, int]]) -> list[bool]:
    """Return `eddsa_verify` of each (pub_x, pub_y, r8x, r8y, s, msg), computed on all cores."""

def prove(zkey_path: str | PathLike[str], wtns_path: str | PathLike[str]) -> dict[str, Any]:
    """Prove with a snarkjs Groth16 key and a circom witness, on all cores.

    Returns
    -------
    dict
        `proof` and `publicSignals`, as snarkjs's `fullProve` returns them: all numbers
        are decimal strings.

    Raises
    ------
    ValueError
        A file is malformed, they do not belong together, or the witness does not
        satisfy the circuit: the proof is checked before it is returned.
    OSError
        A file cannot be read.
    """

@final
class Prover:
    """A Groth16 key that stays mapped between proofs; threads may share it.

    Parameters
    ----------
    zkey_path : str or path
        A snarkjs key. It must not be written to while it is in use; replacing it by
        renaming another one into its place is fine, and changes nothing here.

    Raises
    ------
    ValueError
        The key is malformed.
    OSError
        The file cannot be read.
    """

    def __new__(cls, zkey_path: str | PathLike[str]) -> Self: ...
    def prove(self, witness: bytes | str | PathLike[str]) -> dict[str, Any]:
        """Prove a witness, given as the bytes or the path of a .wtns file; as the function `prove`."""

    @property
    def steps(self) -> dict[str, float]:
        """Seconds that the steps of the last proof took: `witness`, `A`, `B1`, `B2`, `C`, `FFTs`, `H`, `check`."""

    @property
    def info(self) -> dict[str, int]:
        """`wires`, `public`, `domain_size` and `key_bytes`, the size of the mapped file."""
