"""Compiling circuits: circom by subprocess, its output kept by the hash of all that went in."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from proofbook.prover.errors import ArtifactError, CircuitError
from proofbook.prover.process import Finished, locked, new_directory, run, tail
from proofbook.prover.r1cs import R1csInfo, read_r1cs
from proofbook.prover.registry import Circuit, get_circuit
from proofbook.prover.workspace import Progress, Workspace, default_workspace, node, silent

FLAGS: Final = ("--r1cs", "--wasm", "--sym", "--O2")
TIMEOUT_S: Final = 3600.0

_INCLUDE: Final = re.compile(r'^\s*include\s+"([^"]+)"\s*;', re.MULTILINE)
_COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_RECORD: Final = "compile.json"
_MEMORY_SIGNS: Final = ("memory allocation", "out of memory", "unreachable", "out of bounds", "capacity overflow")


@dataclass(frozen=True, slots=True)
class Compiler:
    """A circom to call.

    Attributes
    ----------
    command : tuple of str
        Words in front of circom's own arguments.
    version : str
        Part of the cache's key.
    """

    command: tuple[str, ...]
    version: str


class _Record(msgspec.Struct, frozen=True):
    key: str
    constraints: int
    nonlinear: int
    wires: int
    outputs: int
    public_inputs: int
    private_inputs: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled circuit.

    Attributes
    ----------
    name : str
        Its name in the registry.
    circuit : Circuit
        Its entry.
    key : str
        Hash of sources, entry and compiler, hex.
    r1cs, wasm, sym : Path
        Constraints, witness program, names of the signals.
    info : R1csInfo
        Sizes.
    """

    name: str
    circuit: Circuit
    key: str
    r1cs: Path
    wasm: Path
    sym: Path
    info: R1csInfo


@lru_cache(maxsize=1)
def _native_compiler() -> Compiler | None:
    path = shutil.which("circom")
    if path is None:
        return None
    found = _VERSION.search(run([path, "--version"], timeout=30).output)
    if found is None or found[1] != "2":
        return None  # circom 1 is another language
    return Compiler((path,), f"circom-{found[0]}")


def find_compiler(workspace: Workspace) -> Compiler:
    """Return the native circom 2 on PATH, or else npm's WebAssembly build of it.

    Raises
    ------
    ToolError
        `tool/missing` when neither is there.
    """
    native = _native_compiler()
    if native is not None:
        return native
    program = workspace.module("circom2/circom.wasm")
    version = json.loads(workspace.module("circom2/package.json").read_bytes())["version"]
    return Compiler((node(), str(workspace.script("circom.mjs")), str(program)), f"circom2-wasm-{version}")


def main_source(circuit: Circuit) -> str:
    """Return the circom file that instantiates a registry entry."""
    public = f" {{public [{', '.join(circuit.public)}]}}" if circuit.public else ""
    params = ", ".join(str(value) for value in circuit.params)
    return (
        "// Generated from circuits.json.\n"
        "pragma circom 2.1.6;\n"
        f'include "{circuit.file}";\n'
        f"component main{public} = {circuit.template}({params});\n"
    )


def _resolve(name: str, folder: Path | None, includes: tuple[Path, ...]) -> Path:
    folders = includes if folder is None else (folder, *includes)
    for base in folders:
        if (base / name).is_file():
            return (base / name).resolve()
    raise CircuitError("circuit/include", f"included file {name} is not found", "run `make setup`, or mend the include")


def reachable_sources(circuit: Circuit, includes: tuple[Path, ...]) -> dict[str, str]:
    """Return every source that a circuit includes: SHA-256 in hex by file name and how it was first reached.

    Raises
    ------
    CircuitError
        `circuit/include` when one is missing.
    """
    hashes: dict[str, str] = {}
    seen: set[Path] = set()
    pending: list[tuple[str, Path]] = [(circuit.file, _resolve(circuit.file, None, includes))]
    while pending:
        label, path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        data = path.read_bytes()
        hashes[label] = hashlib.sha256(data).hexdigest()
        for name in _INCLUDE.findall(_COMMENT.sub("", data.decode(errors="replace"))):
            # Labels, unlike paths, are the same on every machine.
            pending.append((f"{label} > {name}", _resolve(name, path.parent, includes)))
    return hashes


def compile_key(circuit: Circuit, workspace: Workspace, compiler: Compiler) -> str:
    """Return the hash that a compiled circuit is kept under.

    Budgets and row counts are left out: they change nothing that is compiled.
    """
    content = {
        "main": main_source(circuit),
        "sources": reachable_sources(circuit, workspace.includes),
        "compiler": compiler.version,
        "flags": FLAGS,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _explain(name: str, done: Finished) -> CircuitError:
    text = tail(done.output) or "no output"
    if any(sign in text for sign in _MEMORY_SIGNS) and "error[" not in text:
        hint = "circom's WebAssembly build has 4 GiB of memory; put a native circom 2 on PATH"
        return CircuitError("circuit/memory", f"{name}: circom ran out of memory:\n{text}", hint)
    message = f"{name}: circom exited with {done.code}:\n{text}"
    return CircuitError("circuit/compile", message, "mend the circuit's source")


def _compile_into(directory: Path, name: str, circuit: Circuit, key: str, workspace: Workspace, tool: Compiler) -> None:
    source = directory / "circuit.circom"
    source.write_text(main_source(circuit))
    libraries = [word for include in workspace.includes if include.is_dir() for word in ("-l", str(include.resolve()))]
    command = [*tool.command, str(source), *FLAGS, *libraries, "-o", str(directory)]
    done = run(command, timeout=TIMEOUT_S, cwd=directory)
    made = directory / "circuit_js" / "circuit.wasm"
    if done.code != 0 or not made.is_file():
        raise _explain(name, done)
    made.rename(directory / "circuit.wasm")
    shutil.rmtree(directory / "circuit_js")
    info = read_r1cs(directory / "circuit.r1cs")
    _check_public(name, circuit, info, directory / "circuit.sym")
    record = _Record(
        key=key,
        constraints=info.constraints,
        nonlinear=info.nonlinear,
        wires=info.wires,
        outputs=info.outputs,
        public_inputs=info.public_inputs,
        private_inputs=info.private_inputs,
    )
    (directory / _RECORD).write_bytes(msgspec.json.encode(record))


def public_signals(sym: Path, info: R1csInfo) -> list[str]:
    """Return the names of the public inputs in the order that proofs carry them; an array's name stands once.

    Wires are numbered constant, outputs, public inputs, and `sym` names each: `label,wire,component,main.name[index]`.
    """
    wanted = range(1 + info.outputs, 1 + info.outputs + info.public_inputs)
    found: dict[int, str] = {}
    with sym.open() as lines:
        for line in lines:
            _, wire, _, name = line.rstrip("\n").split(",", 3)
            if int(wire) in wanted and name.count(".") == 1:
                found.setdefault(int(wire), name.removeprefix("main.").split("[", 1)[0])
            if len(found) == len(wanted):
                break
    return list(dict.fromkeys(found.get(wire, "?") for wire in wanted))


def _check_public(name: str, circuit: Circuit, info: R1csInfo, sym: Path) -> None:
    # circom orders public inputs as the template declares them, whatever the order of the list in `component main`.
    signals = public_signals(sym, info)
    if signals != list(circuit.public):
        message = f"{name}: public inputs are {', '.join(signals)}; circuits.json says {', '.join(circuit.public)}"
        raise CircuitError("circuit/public", message, "name them in the order of their declaration")


def _load(directory: Path, name: str, circuit: Circuit, key: str) -> Compiled | None:
    r1cs, wasm, sym = (directory / f"circuit.{kind}" for kind in ("r1cs", "wasm", "sym"))
    try:
        record = msgspec.json.decode((directory / _RECORD).read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
    if record.key != key or not (r1cs.is_file() and wasm.is_file() and sym.is_file()):
        return None
    info = R1csInfo(
        record.constraints,
        record.nonlinear,
        record.wires,
        record.outputs,
        record.public_inputs,
        record.private_inputs,
    )
    return Compiled(name, circuit, key, r1cs, wasm, sym, info)


def compile_circuit(name: str, progress: Progress = silent, workspace: Workspace | None = None) -> Compiled:
    """Compile a circuit of the registry, or return what was compiled before from the same sources.

    Parameters
    ----------
    name : str
        Its name in `circuits.json`.
    progress : Progress
        Told what is being done.
    workspace : Workspace, optional
        Default: the repository's.

    Raises
    ------
    CircuitError
        `circuit/unknown`, `circuit/registry`, `circuit/include`, `circuit/compile`, `circuit/memory`, `circuit/public`.
    ToolError
        `tool/missing`, `tool/timeout`.
    """
    workspace = workspace or default_workspace()
    circuit = get_circuit(workspace, name)
    tool = find_compiler(workspace)
    key = compile_key(circuit, workspace, tool)
    directory = workspace.circuits_dir / name / key[:16]
    found = _load(directory, name, circuit, key)
    if found is not None:
        return found
    lock = workspace.circuits_dir / name / "lock"
    with locked(lock, lambda: progress(f"{name}: waiting for another process", None)):
        found = _load(directory, name, circuit, key)
        if found is None:
            progress(f"{name}: compiling", None)
            with new_directory(directory) as staging:
                _compile_into(staging, name, circuit, key, workspace, tool)
            found = _load(directory, name, circuit, key)
    if found is None:
        raise ArtifactError("artifact/lost", f"{name}: the compiled circuit vanished", "build it again")
    return found
