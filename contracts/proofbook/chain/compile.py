"""Compile the contracts with npm solc, cached by content hash.

The same sources and settings give the same code on every machine: solc is pinned, and the metadata hash, which would
depend on paths, is left out of the bytecode. `proofbook verify` relies on that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proofbook.chain.errors import CompileError
from proofbook.chain.paths import root
from proofbook.protocol.secrets import without_secrets

SETTINGS: Final[dict[str, Any]] = {
    "optimizer": {"enabled": True, "runs": 200},
    "viaIR": True,
    "evmVersion": "cancun",
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
}
_OUTPUTS: Final = [
    "abi",
    "evm.bytecode.object",
    "evm.deployedBytecode.object",
    "evm.deployedBytecode.immutableReferences",
]
MAX_RUNTIME_BYTES: Final = 24_576
"""The chain's limit on a contract's code (EIP-170)."""
_IMPORT = re.compile(r'^\s*import\s+(?:[^;"]*\sfrom\s+)?"([^"]+)"\s*;', re.MULTILINE)
_RUNNER = "const s=require('solc');process.stdout.write(s.compile(require('fs').readFileSync(0,'utf8')))"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract.

    Attributes
    ----------
    name : str
        The contract's name.
    abi : list of dict
        Its ABI.
    bytecode, deployed_bytecode : bytes
        Creation code without constructor arguments; runtime code with zeros in place of immutables.
    immutable_references : tuple of (int, int)
        (start, length) of every place in the runtime code that the constructor fills in, in order.
    source_hash : str
        SHA-256, in hex, of all sources, the settings and the compiler's version.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    deployed_bytecode: bytes
    immutable_references: tuple[tuple[int, int], ...]
    source_hash: str

    def masked(self, code: bytes) -> bytes:
        """Return `code` with zeros where immutables stand, to compare with `deployed_bytecode`."""
        masked = bytearray(code)
        for start, length in self.immutable_references:
            masked[start : start + length] = bytes(len(masked[start : start + length]))
        return bytes(masked)


def contract_artifact(name: str) -> Artifact:
    """Return a contract of contracts/src or contracts/test-src, compiled when its sources changed.

    Parameters
    ----------
    name : str
        Contract name, such as ``Proofbook``.

    Raises
    ------
    CompileError
        If the sources don't compile or there is no such contract.
    """
    unit = _unit_of(name)
    sources = _closure(unit)
    source_hash = _hash_sources(sources)
    compiled = _compiled(source_hash, unit, sources)
    if name not in compiled:
        raise CompileError(f"no contract named {name}", "the contracts are: " + ", ".join(sorted(compiled)))
    c = compiled[name]
    return Artifact(
        name=name,
        abi=c["abi"],
        bytecode=bytes.fromhex(c["bytecode"]),
        deployed_bytecode=bytes.fromhex(c["deployed"]),
        immutable_references=tuple((start, length) for start, length in c["immutables"]),
        source_hash=source_hash,
    )


_memory: dict[str, dict[str, dict[str, Any]]] = {}


def _compiled(source_hash: str, unit: str, sources: dict[str, str]) -> dict[str, dict[str, Any]]:
    key = f"{Path(unit).stem}-{source_hash}"
    if key not in _memory:
        _memory[key] = _from_cache(key) or _build(key, unit, sources)
    return _memory[key]


def _cached_file(key: str) -> Path:
    return root() / "build" / "contracts" / f"{key}.json"


def _from_cache(key: str) -> dict[str, dict[str, Any]] | None:
    try:
        found: dict[str, dict[str, Any]] = json.loads(_cached_file(key).read_text())
        return found
    except (FileNotFoundError, ValueError):
        return None  # a torn file is compiled again and replaced


def _build(key: str, unit: str, sources: dict[str, str]) -> dict[str, dict[str, Any]]:
    result = _contracts_of(_run_solc(unit, sources)["contracts"][unit])
    target = _cached_file(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed, so that two processes at once never see half a file.
    handle, temporary = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "w") as file:
        json.dump(result, file)
    os.replace(temporary, target)
    return result


def _read(unit: str) -> str:
    path = root() / "node_modules" / unit if unit.startswith("@") else root() / "contracts" / unit
    try:
        return path.read_text()
    except FileNotFoundError:
        raise CompileError(f"source {unit} is missing", "run make setup") from None


def _unit_of(name: str) -> str:
    """Return the source unit that declares a contract; ours first, so that test sources never change its hash."""
    declares = re.compile(rf"^(?:abstract contract|contract|interface|library) {re.escape(name)}\b", re.MULTILINE)
    base = root() / "contracts"
    for folder in ("src", "test-src"):
        for path in sorted((base / folder).glob("*.sol")):
            if declares.search(path.read_text()):
                return path.relative_to(base).as_posix()
    raise CompileError(f"no contract named {name}")


def _closure(unit: str) -> dict[str, str]:
    """Return a source unit and all it imports, by import name."""
    todo = [unit]
    sources: dict[str, str] = {}
    while todo:
        unit = todo.pop()
        if unit not in sources:
            sources[unit] = _read(unit)
            todo += [_resolve(unit, target) for target in _IMPORT.findall(sources[unit])]
    return dict(sorted(sources.items()))


def _resolve(unit: str, target: str) -> str:
    return os.path.normpath((Path(unit).parent / target).as_posix()) if target.startswith(".") else target


def _solc_version() -> str:
    package = root() / "node_modules" / "solc" / "package.json"
    try:
        return str(json.loads(package.read_text())["version"])
    except FileNotFoundError:
        raise CompileError("npm solc is missing", "run make setup") from None


def _hash_sources(sources: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps([_solc_version(), SETTINGS, sources], sort_keys=True).encode()).hexdigest()


def _run_solc(unit: str, sources: dict[str, str]) -> dict[str, Any]:
    request = {
        "language": "Solidity",
        "sources": {unit: {"content": text} for unit, text in sources.items()},
        # Only what was asked for: code of contracts that are merely imported takes as long again.
        "settings": {**SETTINGS, "outputSelection": {unit: {"*": _OUTPUTS}}},
    }
    try:
        run = subprocess.run(
            ["node", "-e", _RUNNER],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            cwd=root(),
            env=without_secrets(os.environ),
            check=False,
            timeout=600,
        )
    except FileNotFoundError:
        raise CompileError("node is missing", "install Node.js 20 or later") from None
    if run.returncode != 0:
        raise CompileError(f"solc did not run: {run.stderr[-2000:]}", "run make setup")
    output: dict[str, Any] = json.loads(run.stdout)
    problems = [e["formattedMessage"] for e in output.get("errors", []) if e["severity"] == "error"]
    if problems:
        raise CompileError("\n".join(problems))
    return output


def _contracts_of(contracts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Keep what we use of a source unit's contracts."""
    found: dict[str, dict[str, Any]] = {}
    for name, c in contracts.items():
        references = c["evm"]["deployedBytecode"].get("immutableReferences", {})
        found[name] = {
            "abi": c["abi"],
            "bytecode": c["evm"]["bytecode"]["object"],
            "deployed": c["evm"]["deployedBytecode"]["object"],
            "immutables": sorted((r["start"], r["length"]) for rs in references.values() for r in rs),
        }
    return found
