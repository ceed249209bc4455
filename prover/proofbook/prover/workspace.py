"""Where things are: the repository's circuits and tools, and the directory that builds go to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from proofbook.prover.errors import ToolError

HOME_VARIABLE: Final = "PROOFBOOK_HOME"
"""Environment variable naming the directory of builds; default `build/` of the repository."""

Progress = Callable[[str, float | None], None]
"""Called with a stage's description and the share done in [0, 1], None where unknown."""


def silent(stage: str, share: float | None) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The directories that the prover reads and writes; tests make their own.

    Attributes
    ----------
    root : Path
        Repository root; holds `node_modules` and `prover/js`.
    build : Path
        Everything written goes below it.
    circuits_file : Path
        The registry, `circuits.json`.
    includes : tuple[Path, ...]
        Directories in which circom looks for included files, in order.
    """

    root: Path
    build: Path
    circuits_file: Path
    includes: tuple[Path, ...]

    @property
    def circuits_dir(self) -> Path:
        """Compiled circuits."""
        return self.build / "circuits"

    @property
    def keys_dir(self) -> Path:
        """Artifacts with keys."""
        return self.build / "keys"

    def module(self, path: str) -> Path:
        """Return a file of an npm package.

        Raises
        ------
        ToolError
            `tool/missing` when it isn't installed.
        """
        found = self.root / "node_modules" / path
        if not found.is_file():
            raise ToolError("tool/missing", f"npm package file {path} is not installed", "run `make setup`")
        return found

    def script(self, name: str) -> Path:
        """Return one of our node scripts, `prover/js/<name>`."""
        found = self.root / "prover" / "js" / name
        if not found.is_file():
            raise ToolError("tool/missing", f"script {name} is missing", "check out the whole repository")
        return found


def repository_root() -> Path:
    """Return the repository that this (editable) package belongs to.

    Raises
    ------
    ToolError
        `tool/no-repository` when the package was installed without it: circuits and tools are not in the wheel.
    """
    for parent in Path(__file__).resolve().parents:
        if (parent / "package.json").is_file() and (parent / "circuits").is_dir():
            return parent
    raise ToolError(
        "tool/no-repository",
        "the prover needs the repository's circuits and node_modules",
        "clone it and run `make setup`",
    )


def default_workspace() -> Workspace:
    """Return the repository's workspace; `PROOFBOOK_HOME` moves its build directory."""
    root = repository_root()
    home = os.environ.get(HOME_VARIABLE)
    return Workspace(
        root=root,
        build=Path(home).expanduser().resolve() if home else root / "build",
        circuits_file=root / "circuits" / "circuits.json",
        includes=(root / "circuits" / "src", root / "node_modules"),
    )


@lru_cache(maxsize=1)
def node() -> str:
    """Return the node executable.

    Raises
    ------
    ToolError
        `tool/missing` when there is none.
    """
    found = shutil.which("node")
    if found is None:
        raise ToolError("tool/missing", "node is not on PATH", "install Node.js 20 or later")
    return found
