"""The exit circuit's proving key and witness program, stored with the trader (M25).

The contract holds their SHA-256, so any copy from anywhere will do, and a wrong one is noticed before money goes in.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from proofbook.escape.errors import ArtifactsMismatch, ArtifactsMissing

ZKEY: Final = "exit.zkey"
WASM: Final = "exit.wasm"
MAX_BYTES: Final = 1 << 30
_MADE_AS: Final = {ZKEY: "circuit.zkey", WASM: "circuit.wasm"}
_HINT: Final = "fetch both from the operator or anybody else, then try again; without them there is no escape"


class ExitHashes(Protocol):
    """Whatever knows the contract's hashes of the exit artifacts."""

    @property
    def exit_zkey_hash(self) -> bytes:
        """SHA-256 of the proving key."""
        ...

    @property
    def exit_wasm_hash(self) -> bytes:
        """SHA-256 of the witness program."""
        ...


@dataclass(frozen=True, slots=True)
class ExitArtifacts:
    """Checked files; see `check_exit_artifacts`."""

    zkey: Path
    wasm: Path


def save_exit_artifacts(source: Path, destination: Path) -> ExitArtifacts:
    """Copy the exit artifacts to where the trader keeps them.

    Parameters
    ----------
    source : Path
        Holds ``exit.zkey`` and ``exit.wasm``, or ``circuit.zkey`` and ``circuit.wasm`` as a set-up makes them.
    destination : Path
        A folder, made when missing.

    Raises
    ------
    ArtifactsMissing
        If one of them is not in `source`.
    """
    found = {name: _find(source, name) for name in (ZKEY, WASM)}
    destination.mkdir(parents=True, exist_ok=True)
    for name, path in found.items():
        # Written aside and renamed: a copy that broke off must not look like one.
        handle, temporary = tempfile.mkstemp(dir=destination)
        os.close(handle)
        shutil.copyfile(path, temporary)
        os.replace(temporary, destination / name)
    return ExitArtifacts(destination / ZKEY, destination / WASM)


def check_exit_artifacts(directory: Path, contract: ExitHashes) -> ExitArtifacts:
    """Return the stored artifacts if they are those of the contract.

    Parameters
    ----------
    directory : Path
        As `save_exit_artifacts` fills it.
    contract : ExitHashes
        The contract as read from the chain.

    Raises
    ------
    ArtifactsMissing, ArtifactsMismatch
        Otherwise; then nobody should open an account or deposit.
    """
    wanted = {ZKEY: contract.exit_zkey_hash, WASM: contract.exit_wasm_hash}
    for name, digest in wanted.items():
        path = directory / name
        if not path.is_file():
            raise ArtifactsMissing(f"{name} is not stored in {directory}", _HINT)
        if path.stat().st_size > MAX_BYTES:
            raise ArtifactsMismatch(f"{name} is larger than {MAX_BYTES} bytes", _HINT)
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").digest() != digest:
                raise ArtifactsMismatch(f"{name} in {directory} is not the contract's", _HINT)
    return ExitArtifacts(directory / ZKEY, directory / WASM)


def _find(source: Path, name: str) -> Path:
    for path in (source / name, source / _MADE_AS[name]):
        if path.is_file():
            return path
    raise ArtifactsMissing(f"there is no {name} in {source}", _HINT)
