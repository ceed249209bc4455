"""Proving artifacts: a directory with a circuit's program, its keys and the manifest that ties them together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from proofbook.prover.compile import Compiled, compile_circuit
from proofbook.prover.errors import ArtifactError
from proofbook.prover.keys import development_key, export_verifying_key
from proofbook.prover.process import link_or_copy, locked, new_directory, sha256_file
from proofbook.prover.workspace import Progress, Workspace, default_workspace, silent

MANIFEST: Final = "manifest.json"
_MAX_MANIFEST: Final = 1 << 16

Kind = Literal["development", "ceremony"]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in an artifact directory, by SHA-256 in hex.

    Attributes
    ----------
    circuit : str
        Name in the registry.
    circuit_hash : str
        Hash of the r1cs file: the circuit's identity.
    kind : {"development", "ceremony"}
        How the keys were made.
    zkey_sha256, wasm_sha256, vkey_sha256 : str
        Proving key, witness program, verifying key.
    created_by : str
        The program that made the keys.
    """

    circuit: str
    circuit_hash: Digest
    kind: Kind
    zkey_sha256: Digest
    wasm_sha256: Digest
    vkey_sha256: Digest
    created_by: str


@dataclass(frozen=True, slots=True)
class Artifacts:
    """A circuit that can be proven with.

    Attributes
    ----------
    name : str
        Name in the registry.
    dir : Path
        The directory that holds everything below.
    r1cs, wasm, sym, zkey, vkey : Path
        Constraints, witness program, signal names, proving key, verifying key (snarkjs JSON).
    manifest : Manifest
        Checked against the files.
    """

    name: str
    dir: Path
    r1cs: Path
    wasm: Path
    sym: Path
    zkey: Path
    vkey: Path
    manifest: Manifest


def _paths(directory: Path) -> dict[str, Path]:
    names = {"r1cs": "circuit.r1cs", "wasm": "circuit.wasm", "sym": "circuit.sym"}
    names |= {"zkey": "circuit.zkey", "vkey": "vkey.json"}
    return {key: directory / name for key, name in names.items()}


def _mend(directory: Path) -> str:
    return f"remove {directory} and run `proofbook setup` again"


def read_manifest(directory: Path) -> Manifest:
    """Read an artifact directory's manifest.

    Raises
    ------
    ArtifactError
        `artifact/missing`, `artifact/manifest`.
    """
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError("artifact/missing", f"no keys in {directory}", "run `proofbook setup`") from error
    except OSError as error:
        raise ArtifactError("artifact/manifest", f"{MANIFEST}: {error.strerror}", _mend(directory)) from error
    try:
        if len(data) > _MAX_MANIFEST:
            raise msgspec.ValidationError("too large")
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError("artifact/manifest", f"{MANIFEST}: {str(error)[:500]}", _mend(directory)) from error


def load_directory(directory: Path) -> Artifacts:
    """Load artifacts and check every file's hash against the manifest.

    Raises
    ------
    ArtifactError
        `artifact/missing`, `artifact/manifest`, or `artifact/mismatch` when a file isn't the one that was made.
    """
    manifest = read_manifest(directory)
    paths = _paths(directory)
    wanted = {
        "r1cs": manifest.circuit_hash,
        "wasm": manifest.wasm_sha256,
        "zkey": manifest.zkey_sha256,
        "vkey": manifest.vkey_sha256,
    }
    for key, digest in wanted.items():
        path = paths[key]
        if not path.is_file():
            raise ArtifactError("artifact/missing", f"{manifest.circuit}: {path.name} is missing", _mend(directory))
        if sha256_file(path) != digest:
            message = f"{manifest.circuit}: {path.name} is not the file that its manifest names"
            raise ArtifactError("artifact/mismatch", message, _mend(directory))
    return Artifacts(name=manifest.circuit, dir=directory, manifest=manifest, **paths)


def artifact_directory(compiled: Compiled, workspace: Workspace) -> Path:
    """Return where a compiled circuit's keys belong.

    It is named after the constraints and the witness program, so an edit that changes neither keeps the keys.
    """
    digests = sha256_file(compiled.r1cs) + sha256_file(compiled.wasm)
    return workspace.keys_dir / compiled.name / hashlib.sha256(digests.encode()).hexdigest()[:16]


def load(name: str, workspace: Workspace | None = None) -> Artifacts:
    """Load the artifacts of a circuit as its sources stand now; compiles it when needed, makes no keys.

    Raises
    ------
    ArtifactError
        `artifact/missing`, `artifact/manifest`, `artifact/mismatch`.
    CircuitError, ToolError
        See `compile_circuit`.
    """
    workspace = workspace or default_workspace()
    compiled = compile_circuit(name, workspace=workspace)
    found = load_directory(artifact_directory(compiled, workspace))
    _check_belongs(found, compiled)
    return found


def _check_belongs(found: Artifacts, compiled: Compiled) -> None:
    if found.name != compiled.name or found.manifest.circuit_hash != sha256_file(compiled.r1cs):
        message = f"{compiled.name}: these keys belong to another circuit ({found.name})"
        raise ArtifactError("artifact/mismatch", message, _mend(found.dir))


def install(
    compiled: Compiled,
    kind: Kind,
    created_by: str,
    make_zkey: Callable[[Path], None],
    progress: Progress,
    workspace: Workspace,
) -> Artifacts:
    """Make keys and put them in place in one step, replacing what was there.  The caller holds the lock.

    Parameters
    ----------
    compiled : Compiled
        The circuit.
    kind, created_by : str
        For the manifest.
    make_zkey : callable
        Writes the proving key to the path it is given.
    progress : Progress
        Told the stages.
    workspace : Workspace
        Where it goes.

    Raises
    ------
    SetupError
        From `make_zkey` and the export.
    """
    target = artifact_directory(compiled, workspace)
    with new_directory(target) as staging:
        paths = _paths(staging)
        for key, source in (("r1cs", compiled.r1cs), ("wasm", compiled.wasm), ("sym", compiled.sym)):
            link_or_copy(source, paths[key])
        make_zkey(paths["zkey"])
        progress(f"{compiled.name}: exporting the verifying key", None)
        export_verifying_key(paths["zkey"], paths["vkey"], workspace)
        manifest = Manifest(
            circuit=compiled.name,
            circuit_hash=sha256_file(paths["r1cs"]),
            kind=kind,
            zkey_sha256=sha256_file(paths["zkey"]),
            wasm_sha256=sha256_file(paths["wasm"]),
            vkey_sha256=sha256_file(paths["vkey"]),
            created_by=created_by,
        )
        (staging / MANIFEST).write_text(json.dumps(msgspec.to_builtins(manifest), indent=2) + "\n")
    return load_directory(target)


def key_lock(name: str, workspace: Workspace) -> Path:
    """Return the lock file to hold while a circuit's keys are made."""
    return workspace.keys_dir / name / "lock"


def _present(compiled: Compiled, workspace: Workspace) -> Artifacts | None:
    directory = artifact_directory(compiled, workspace)
    if not directory.exists():
        return None
    found = load_directory(directory)
    _check_belongs(found, compiled)
    return found


def build(name: str, progress: Progress = silent, workspace: Workspace | None = None) -> Artifacts:
    """Return a circuit's artifacts, making what is missing: compiled circuit, development keys, verifying key.

    Keys that are there, development or ceremony, are checked and used; damaged ones are an error and never
    silently replaced, because a deployed contract may depend on them.

    Parameters
    ----------
    name : str
        Name in `circuits.json`.
    progress : Progress
        Told the stages.
    workspace : Workspace, optional
        Default: the repository's.

    Raises
    ------
    ArtifactError
        `artifact/manifest`, `artifact/mismatch`, `artifact/missing` (a file gone from a made directory).
    CircuitError, ToolError, SetupError
        From the steps.
    """
    workspace = workspace or default_workspace()
    compiled = compile_circuit(name, progress, workspace)
    found = _present(compiled, workspace)
    if found is not None:
        return found
    with locked(key_lock(name, workspace), lambda: progress(f"{name}: waiting for another process", None)):
        found = _present(compiled, workspace)
        if found is not None:
            return found

        def make(zkey: Path) -> None:
            development_key(compiled.r1cs, zkey, lambda stage, share: progress(f"{name}: set-up, {stage}", share))

        return install(compiled, "development", "proofbook_native", make, progress, workspace)


def build_all(
    names: Sequence[str], progress: Progress = silent, workspace: Workspace | None = None, workers: int = 2
) -> list[Artifacts]:
    """Build several circuits' artifacts side by side; see `build`.

    Parameters
    ----------
    names : sequence of str
        Names in `circuits.json`.
    progress : Progress
        Called from several threads; every stage begins with its circuit's name.
    workers : int
        How many at once, 1 to 16; circom takes up to 4 GiB each.

    Returns
    -------
    list of Artifacts
        In the order of `names`.

    Raises
    ------
    ProverError
        The first failure by that order; the others are finished first.
    """
    workspace = workspace or default_workspace()
    with ThreadPoolExecutor(max_workers=min(max(workers, 1), 16)) as pool:
        return list(pool.map(lambda name: build(name, progress, workspace), names))
