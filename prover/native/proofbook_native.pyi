"""Rust core of Proofbook: Groth16 set-up over BN254.

Every function releases the interpreter's lock while it works. Malformed input
raises `ValueError`, the file system's refusals raise `OSError`.
"""

from collections.abc import Callable
from os import PathLike

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
