"""The repository's own build of the contract, to compare what is deployed with (immutables masked).

It is made here, by npm solc and not by the code that deploys, so that a mistake there does not vouch for itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proofbook.protocol.secrets import without_secrets
from proofbook.verifier.errors import BuildUnavailable

CONTRACT: Final = "Proofbook"
SETTINGS: Final[dict[str, Any]] = {
    "optimizer": {"enabled": True, "runs": 200},
    "viaIR": True,
    "evmVersion": "cancun",
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
}
_WANTED: Final = ["evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"]
_IMPORT: Final = re.compile(r'^\s*import\s+(?:[^;"]*\sfrom\s+)?"([^"]+)"\s*;', re.MULTILINE)
_RUNNER: Final = "const s=require('solc');process.stdout.write(s.compile(require('fs').readFileSync(0,'utf8')))"
_TIMEOUT_S: Final = 600


@dataclass(frozen=True, slots=True)
class RuntimeCode:
    """The contract's runtime code.

    Attributes
    ----------
    code : bytes
        With zeros in place of immutables.
    immutables : tuple of (int, int)
        (start, length) of the places that the constructor fills in.
    """

    code: bytes
    immutables: tuple[tuple[int, int], ...]

    def matches(self, deployed: bytes) -> bool:
        """Tell whether deployed code is this one, whatever its immutables."""
        masked = bytearray(deployed)
        for start, length in self.immutables:
            masked[start : start + length] = bytes(len(masked[start : start + length]))
        return bytes(masked) == self.code


def repository_root() -> Path:
    """Return the checkout; `BuildUnavailable` when this package was installed without it."""
    named = os.environ.get("PROOFBOOK_ROOT")
    for folder in [Path(named)] if named else Path(__file__).resolve().parents:
        if (folder / "package.json").is_file() and (folder / "contracts" / "src").is_dir():
            return folder
    raise BuildUnavailable("no Proofbook checkout found", "run from a checkout, or set PROOFBOOK_ROOT to one")


def own_build(root: Path | None = None) -> RuntimeCode:
    """Return the contract's code as this checkout's sources give it, compiled when they changed.

    Parameters
    ----------
    root : Path, optional
        The checkout.

    Raises
    ------
    BuildUnavailable
        If sources or compiler are missing, or it refuses them.
    """
    root = root or repository_root()
    request = {"language": "Solidity", "sources": _sources(root), "settings": _settings()}
    text = json.dumps(request, sort_keys=True)
    name = hashlib.sha256(f"{_solc_version(root)} {text}".encode()).hexdigest()
    cached = root / "build" / "verifier" / f"{name}.json"
    found = _cached(cached)
    if found is None:
        found = _of_output(_run_solc(root, text))
        # Where it can't be kept - a checkout for reading only, a full disk - it is made again the next time.
        with suppress(OSError):
            _store(cached, found)
    return found


def _settings() -> dict[str, Any]:
    return SETTINGS | {"outputSelection": {f"src/{CONTRACT}.sol": {CONTRACT: _WANTED}}}


def _sources(root: Path) -> dict[str, dict[str, str]]:
    """Return the contract's source and all that it imports, by import name."""
    found: dict[str, dict[str, str]] = {}
    todo = [f"src/{CONTRACT}.sol"]
    while todo:
        unit = todo.pop()
        if unit in found:
            continue
        path = root / "node_modules" / unit if unit.startswith("@") else root / "contracts" / unit
        try:
            found[unit] = {"content": path.read_text()}
        except FileNotFoundError as error:
            raise BuildUnavailable(f"source {unit} is missing", "run `make setup`") from error
        for target in _IMPORT.findall(found[unit]["content"]):
            local = target.startswith(".")
            todo.append(os.path.normpath((Path(unit).parent / target).as_posix()) if local else target)
    return dict(sorted(found.items()))


def _solc_version(root: Path) -> str:
    package = root / "node_modules" / "solc" / "package.json"
    try:
        return str(json.loads(package.read_text())["version"])
    except FileNotFoundError as error:
        raise BuildUnavailable("npm solc is missing", "run `make setup`") from error


def _run_solc(root: Path, request: str) -> dict[str, Any]:
    command = ["node", "-e", _RUNNER]
    try:
        run = subprocess.run(
            command,
            input=request,
            capture_output=True,
            text=True,
            cwd=root,
            env=without_secrets(os.environ),
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise BuildUnavailable(f"node did not run: {error}", "install Node.js 20 or later") from error
    if run.returncode != 0:
        raise BuildUnavailable(f"solc did not run: {run.stderr[-2000:]}", "run `make setup`")
    output: dict[str, Any] = json.loads(run.stdout)
    problems = [e["formattedMessage"] for e in output.get("errors", []) if e["severity"] == "error"]
    if problems:
        raise BuildUnavailable("\n".join(problems)[:2000], "check the sources out again")
    return output


def _of_output(output: dict[str, Any]) -> RuntimeCode:
    made = output["contracts"][f"src/{CONTRACT}.sol"][CONTRACT]["evm"]["deployedBytecode"]
    references = made.get("immutableReferences", {})
    places = sorted((place["start"], place["length"]) for places in references.values() for place in places)
    return RuntimeCode(bytes.fromhex(made["object"]), tuple(places))


def _cached(path: Path) -> RuntimeCode | None:
    try:
        told = json.loads(path.read_text())
        places = tuple((start, length) for start, length in told["immutables"])
        if any(type(number) is not int or not 0 <= number < 1 << 32 for place in places for number in place):
            return None
        return RuntimeCode(bytes.fromhex(told["code"]), places)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # a torn file is made again


def _store(path: Path, made: RuntimeCode) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed, so that two processes at once never see half a file.
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump({"code": made.code.hex(), "immutables": made.immutables}, file)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
