"""Liars, the circuits they lie to, and the report of what became of it.

`PROOFBOOK_LONG=1` (make test-long) makes the same tests tell many more lies, to every circuit of the registry.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proofbook.prover.process import locked
from proofbook.prover.workspace import default_workspace

HERE = Path(__file__).resolve().parent
LONG = os.environ.get("PROOFBOOK_LONG") == "1"


def load(path: Path) -> ModuleType:
    """Import a helper by its path: folders of tests are no packages."""
    name = f"{path.parent.name}_tests_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


circuits: Any = load(HERE.parent / "circuits" / "conftest.py")
calculate = circuits.calculate
make_scene = circuits.make_scene


@pytest.fixture(scope="session")
def long() -> bool:
    return LONG


@pytest.fixture(scope="session")
def forging() -> Any:
    return load(HERE.parent / "circuits" / "forging.py")


@pytest.fixture(scope="session")
def r1cs() -> Any:
    return load(HERE.parent / "circuits" / "r1cs.py")


@pytest.fixture(scope="session")
def judge() -> Any:
    return load(HERE / "judge.py")


@pytest.fixture(scope="session")
def mutations() -> Any:
    return load(HERE / "mutations.py")


@pytest.fixture(scope="session")
def solver() -> Any:
    return load(HERE / "solver.py")


@pytest.fixture(scope="session")
def report() -> Callable[[str, dict[str, Any]], None]:
    """Return a function that puts an entry, by its name, into build/test/soundness.json."""
    path = default_workspace().build / "test" / "soundness.json"

    def put(kind: str, entry: dict[str, Any]) -> None:
        with locked(path.with_suffix(".lock"), lambda: None):
            try:
                found = json.loads(path.read_bytes())
            except (OSError, ValueError):
                found = {"templates": [], "controls": []}
            found[kind] = [*(e for e in found[kind] if e["name"] != entry["name"]), entry]
            path.write_text(json.dumps(found, indent=1) + "\n")

    return put
