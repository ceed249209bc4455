"""Setting up keys: for development on one machine, or for production from a ceremony.

A ceremony's steps can be done by different people on different machines: `start_ceremony`, then each contributor's
`keys.ceremony_contribute`, then `keys.ceremony_beacon`, and at last `install_ceremony`, which verifies all of it.
`setup_ceremony` does all of them here, which is only as honest as this machine; it is for rehearsals.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from proofbook.prover.artifacts import Artifacts, artifact_directory, install, key_lock, load
from proofbook.prover.compile import Compiled, compile_circuit
from proofbook.prover.errors import SetupError
from proofbook.prover.keys import (
    ceremony_beacon,
    ceremony_contribute,
    ceremony_new,
    ceremony_verify,
    development_key,
    powers_verify,
)
from proofbook.prover.process import link_or_copy, locked
from proofbook.prover.transcript import key_contributions
from proofbook.prover.workspace import Progress, Workspace, default_workspace, silent


def setup_development(name: str, progress: Progress = silent, workspace: Workspace | None = None) -> Artifacts:
    """Make fresh development keys, replacing any that are there.

    Raises
    ------
    SetupError, CircuitError, ToolError
        From the steps.
    """
    workspace = workspace or default_workspace()
    compiled = compile_circuit(name, progress, workspace)

    def make(zkey: Path) -> None:
        development_key(compiled.r1cs, zkey, lambda stage, share: progress(f"{name}: set-up, {stage}", share))

    with locked(key_lock(name, workspace), lambda: progress(f"{name}: waiting for another process", None)):
        return install(compiled, "development", "proofbook_native", make, progress, workspace)


def _ceremony_directory(compiled: Compiled, workspace: Workspace) -> Path:
    directory = workspace.build / "ceremony" / compiled.name / artifact_directory(compiled, workspace).name
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def start_ceremony(name: str, ptau: Path, progress: Progress = silent, workspace: Workspace | None = None) -> Path:
    """Make the first phase-2 key of a circuit, or return the one that was made before.

    Parameters
    ----------
    name : str
        Name in `circuits.json`.
    ptau : Path
        A powers-of-tau file of a real ceremony, prepared for phase 2, with at least as many powers as the circuit
        has constraints.

    Returns
    -------
    Path
        The key without contributions, to hand to the first contributor.

    Raises
    ------
    SetupError
        `setup/ptau`, `setup/ceremony`.
    """
    workspace = workspace or default_workspace()
    compiled = compile_circuit(name, progress, workspace)
    first = _ceremony_directory(compiled, workspace) / "0000.zkey"
    if not first.is_file():
        progress(f"{name}: zkey new (hours for a large circuit)", None)
        ceremony_new(compiled.r1cs, ptau, first, workspace)
    return first


def install_ceremony(
    name: str,
    zkey: Path,
    ptau: Path,
    progress: Progress = silent,
    workspace: Workspace | None = None,
    *,
    check_ptau: bool = True,
) -> Artifacts:
    """Verify a ceremony's last key and put it in place, replacing any keys that are there.

    Parameters
    ----------
    name : str
        Name in `circuits.json`.
    zkey, ptau : Path
        The key, and the powers-of-tau file it was started from.
    check_ptau : bool
        Verify the powers-of-tau file too; leave it out only for one that was verified before.

    Raises
    ------
    SetupError
        `setup/unverified`, `setup/ptau`, or `setup/no-contribution` for a key to which nobody contributed.
    """
    workspace = workspace or default_workspace()
    compiled = compile_circuit(name, progress, workspace)
    _verify(compiled, zkey, ptau, progress, workspace, check_ptau)
    with locked(key_lock(name, workspace), lambda: progress(f"{name}: waiting for another process", None)):
        return install(compiled, "ceremony", "snarkjs", lambda to: link_or_copy(zkey, to), progress, workspace)


def _verify(
    compiled: Compiled, zkey: Path, ptau: Path, progress: Progress, workspace: Workspace, check_ptau: bool
) -> str:
    if check_ptau:
        progress(f"{compiled.name}: powersoftau verify", None)
        powers_verify(ptau, workspace)
    progress(f"{compiled.name}: zkey verify", None)
    account = ceremony_verify(compiled.r1cs, ptau, zkey, workspace)
    if not key_contributions(zkey).people:
        raise SetupError(
            "setup/no-contribution",
            f"{compiled.name}: nobody contributed to this key, so anybody knows its secret",
            "add at least one contribution; a beacon is none",
        )
    return account


def setup_ceremony(
    name: str,
    ptau: Path,
    contributors: Sequence[str],
    beacon: tuple[str, int] | None = None,
    progress: Progress = silent,
    workspace: Workspace | None = None,
    *,
    check_ptau: bool = True,
) -> Artifacts:
    """Run a whole ceremony on this machine and put its keys in place.

    Parameters
    ----------
    name : str
        Name in `circuits.json`.
    ptau : Path
        See `start_ceremony`.
    contributors : sequence of str
        A name for each contribution, at least one.
    beacon : (str, int), optional
        Public random value in hex and the exponent of its iterations, applied last.
    check_ptau : bool
        See `install_ceremony`.

    Raises
    ------
    SetupError
        From the steps; `setup/no-contribution` without contributors.
    """
    workspace = workspace or default_workspace()
    if not contributors:
        raise SetupError("setup/no-contribution", "a ceremony needs at least one contributor", "name one")
    key = start_ceremony(name, ptau, progress, workspace)
    directory = key.parent
    for number, contributor in enumerate(contributors, 1):
        progress(f"{name}: contribution {number}", (number - 1) / len(contributors))
        following = directory / f"{number:04d}.zkey"
        ceremony_contribute(key, following, contributor, workspace)
        key = following
    if beacon is not None:
        progress(f"{name}: beacon", None)
        final = directory / "final.zkey"
        ceremony_beacon(key, final, beacon[0], beacon[1], workspace)
        key = final
    artifacts = install_ceremony(name, key, ptau, progress, workspace, check_ptau=check_ptau)
    shutil.rmtree(directory)
    return artifacts


def verify_ceremony(
    name: str,
    ptau: Path,
    progress: Progress = silent,
    workspace: Workspace | None = None,
    *,
    check_ptau: bool = True,
) -> str:
    """Verify the keys in place against the circuit and a powers-of-tau file.

    Returns
    -------
    str
        snarkjs's account of the contributions.

    Raises
    ------
    SetupError
        `setup/unverified`, `setup/ptau`, `setup/no-contribution`.
    ArtifactError
        See `artifacts.load`.
    """
    workspace = workspace or default_workspace()
    artifacts = load(name, workspace)
    compiled = compile_circuit(name, progress, workspace)
    return _verify(compiled, artifacts.zkey, ptau, progress, workspace, check_ptau)
