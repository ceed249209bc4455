"""Making Groth16 keys: the development set-up in our native core, and the steps of a ceremony by snarkjs."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

from proofbook.prover.errors import SetupError
from proofbook.prover.process import Finished, snarkjs, tail
from proofbook.prover.transcript import powers_contributions
from proofbook.prover.workspace import Progress, Workspace

CEREMONY_TIMEOUT_S: Final = 48 * 3600.0
EXPORT_TIMEOUT_S: Final = 900.0
_HEX: Final = re.compile(r"^[0-9a-fA-F]{2,512}\Z")
_NAME: Final = re.compile(r"^[\w .@+-]{1,64}\Z")


def _must(done: Finished, code: str, what: str) -> Finished:
    if done.code != 0 or "[ERROR]" in done.output:
        raise SetupError(code, f"{what} failed:\n{tail(done.output)}")
    return done


def _part(target: Path) -> Path:
    # Written beside its place and then renamed, so a broken-off step leaves nothing that looks finished.
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def development_key(r1cs: Path, zkey: Path, progress: Progress) -> None:
    """Compute keys from fresh randomness of this process: fast, and only as honest as this machine.

    Parameters
    ----------
    r1cs : Path
        The compiled constraints.
    zkey : Path
        Where the snarkjs proving key goes.
    progress : Progress
        Told the stages of the computation.

    Raises
    ------
    SetupError
        `setup/native` when the native core isn't installed, `setup/failed` when it refuses the circuit.
    """
    try:
        import proofbook_native
    except ImportError as error:
        raise SetupError("setup/native", "the native core is not installed", "run `make setup`") from error
    part = _part(zkey)
    try:
        proofbook_native.setup(str(r1cs), str(part), lambda stage, share: progress(stage, share))
    except (ValueError, OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise SetupError("setup/failed", f"development set-up of {r1cs.name}: {error}") from error
    part.rename(zkey)


def export_verifying_key(zkey: Path, vkey: Path, workspace: Workspace) -> None:
    """Write a proving key's verifying key as snarkjs JSON.

    Raises
    ------
    SetupError
        `setup/export`.
    """
    done = snarkjs(workspace, "zkey", "export", "verificationkey", zkey, vkey, timeout=EXPORT_TIMEOUT_S)
    _must(done, "setup/export", "exporting the verifying key")
    if not vkey.is_file():
        raise SetupError("setup/export", f"snarkjs wrote no verifying key:\n{tail(done.output)}")


def ceremony_new(r1cs: Path, ptau: Path, zkey: Path, workspace: Workspace) -> None:
    """Start phase 2: the first key of a circuit, without contributions, from a powers-of-tau file.

    Raises
    ------
    SetupError
        `setup/ceremony`, also when the file is too small for the circuit.
    """
    if not ptau.is_file():
        raise SetupError("setup/ptau", f"there is no powers-of-tau file {ptau.name}", "download one of a real ceremony")
    part = _part(zkey)
    done = snarkjs(workspace, "zkey", "new", r1cs, ptau, part, timeout=CEREMONY_TIMEOUT_S)
    try:
        # snarkjs exits with 0 when the file is too small, so what counts is that a key was written.
        _must(done, "setup/ceremony", "zkey new")
        if not part.is_file():
            raise SetupError("setup/ceremony", f"zkey new wrote no key:\n{tail(done.output)}")
        part.rename(zkey)
    finally:
        part.unlink(missing_ok=True)


def ceremony_contribute(old: Path, new: Path, contributor: str, workspace: Workspace, entropy: str = "") -> None:
    """Add one contribution to a key.

    Parameters
    ----------
    old, new : Path
        Key before and after.
    contributor : str
        Name that is written into the key: letters, digits and `_ .@+-`, 1 to 64.
    entropy : str
        Extra randomness; snarkjs and this function add the system's.

    Raises
    ------
    SetupError
        `setup/name`, `setup/ceremony`.
    """
    if not _NAME.match(contributor):
        raise SetupError("setup/name", "a contributor's name is 1 to 64 letters, digits and _ .@+-")
    part = _part(new)
    # Over standard input, because arguments can be read by every user of the machine.
    text = (entropy + secrets.token_hex(64)).replace("\n", " ") + "\n"
    arguments = ("zkey", "contribute", old, part, f"--name={contributor}")
    try:
        _must(
            snarkjs(workspace, *arguments, timeout=CEREMONY_TIMEOUT_S, stdin=text), "setup/ceremony", "zkey contribute"
        )
        part.rename(new)
    finally:
        part.unlink(missing_ok=True)


def ceremony_beacon(old: Path, new: Path, beacon: str, iterations: int, workspace: Workspace) -> None:
    """Apply a public random beacon as the last contribution.

    Parameters
    ----------
    old, new : Path
        Key before and after.
    beacon : str
        Value in hex that nobody could know when the last contribution was made.
    iterations : int
        The beacon is hashed 2^iterations times, 10 to 63.

    Raises
    ------
    SetupError
        `setup/beacon`, `setup/ceremony`.
    """
    if not _HEX.match(beacon) or len(beacon) % 2 or not 10 <= iterations <= 63:
        raise SetupError("setup/beacon", "a beacon is 1 to 256 bytes in hex, its iterations 2^10 to 2^63")
    part = _part(new)
    arguments = ("zkey", "beacon", old, part, beacon, str(iterations), "-n=beacon")
    try:
        _must(snarkjs(workspace, *arguments, timeout=CEREMONY_TIMEOUT_S), "setup/ceremony", "zkey beacon")
        part.rename(new)
    finally:
        part.unlink(missing_ok=True)


def ceremony_verify(r1cs: Path, ptau: Path, zkey: Path, workspace: Workspace) -> str:
    """Check that a key belongs to a circuit and a powers-of-tau file, and every contribution in it.

    Returns
    -------
    str
        snarkjs's account, with the contributions and their hashes.

    Raises
    ------
    SetupError
        `setup/unverified`.
    """
    done = snarkjs(workspace, "zkey", "verify", r1cs, ptau, zkey, timeout=CEREMONY_TIMEOUT_S)
    _must(done, "setup/unverified", "zkey verify")
    if "ZKey Ok!" not in done.output:
        raise SetupError("setup/unverified", f"zkey verify did not say Ok:\n{tail(done.output)}")
    return tail(done.output)


def powers_verify(ptau: Path, workspace: Workspace) -> None:
    """Check a powers-of-tau file and every contribution in it, and that there is one by somebody; slow for a large one.

    Raises
    ------
    SetupError
        `setup/ptau`.
    """
    done = snarkjs(workspace, "powersoftau", "verify", ptau, timeout=CEREMONY_TIMEOUT_S)
    _must(done, "setup/ptau", "powersoftau verify")
    if "Powers of Tau Ok!" not in done.output:
        raise SetupError("setup/ptau", f"powersoftau verify did not say Ok:\n{tail(done.output)}")
    if not powers_contributions(ptau).people:
        raise SetupError(
            "setup/ptau",
            f"nobody contributed to {ptau.name}, so anybody knows its secret",
            "download one of a real ceremony; a beacon is no contribution",
        )
