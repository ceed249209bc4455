"""Liars, the circuits they lie to, and the report of what became of it.

`PROOFBOOK_LONG=1` (make test-long) makes the same tests tell many more lies, to every circuit of the registry.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import proofbook_native
import pytest

from proofbook.protocol import poseidon
from proofbook.protocol.table import PRESETS
from proofbook.prover.calculator import shared_worker
from proofbook.prover.compile import Compiled
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
def following() -> Any:
    return load(HERE / "following.py")


@pytest.fixture(scope="session")
def pages() -> Any:
    return load(HERE / "pages.py")


@pytest.fixture(scope="session")
def wires() -> Any:
    return load(HERE / "wires.py")


@pytest.fixture(scope="session")
def hints() -> Any:
    return load(HERE / "hints.py")


@pytest.fixture(scope="session")
def telling() -> Any:
    return load(HERE / "telling.py")


@pytest.fixture(scope="session")
def tools(request: pytest.FixtureRequest) -> Any:
    """Return what lies at inputs need, in the order of `telling`."""
    return tuple(map(request.getfixturevalue, ("judge", "mutations", "following", "forging", "wires", "pages")))


@pytest.fixture(scope="session")
def trading() -> Any:
    return load(HERE / "trader.py")


@pytest.fixture(scope="session")
def solver() -> Any:
    return load(HERE / "solver.py")


@pytest.fixture(scope="session")
def patched() -> Any:
    return load(HERE / "patched.py")


@pytest.fixture
def scene_of(forging: Any, tmp_path: Path) -> Callable[[Compiled], Any]:
    """Return a function that sets the scene of `tests/circuits` for any circuit: (scene, witness file, forging)."""
    out = tmp_path / "witness.wtns"

    def run(compiled: Compiled, inputs: dict[str, Any]) -> Path:
        shared_worker().calculate(compiled.wasm, inputs, out)
        return out

    def made(compiled: Compiled) -> Any:
        world = load(HERE.parent / "protocol" / "conftest.py").World(PRESETS[compiled.circuit.preset])
        world.start({1: {1: 1000, 2: 1000}, 2: {1: 1000, 2: 1000}})
        return circuits.Scene(world, compiled, run, forging.Lie), out, forging

    return made


RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
"""The same in all workers: a report of another run is begun anew."""


def update(name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a report below build/test, whichever worker comes first."""
    path = default_workspace().build / "test" / name
    with locked(path.with_suffix(".lock"), lambda: None):
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            found = {}
        if found.get("run") != RUN:
            found = {"run": RUN, "long": LONG}
        change(found)
        path.write_text(json.dumps(found, indent=1) + "\n")


@pytest.fixture(scope="session")
def report() -> Callable[[str, dict[str, Any]], None]:
    """Return a function that puts an entry, by its name, into build/test/soundness.json."""

    def put(kind: str, entry: dict[str, Any]) -> None:
        def change(found: dict[str, Any]) -> None:
            found.setdefault("templates", [])
            found.setdefault("controls", [])
            found[kind] = [*(e for e in found.get(kind, []) if e["name"] != entry["name"]), entry]

        update("soundness.json", change)

    return put


@pytest.fixture(scope="session")
def report_random() -> Callable[..., None]:
    """Return a function that adds batches, by circuit, and limits to build/test/random.json."""

    def put(
        name: str,
        batches: int = 0,
        with_proofs: int = 0,
        limits: Sequence[str] = (),
        seen: Mapping[str, int] | None = None,
    ) -> None:
        def change(found: dict[str, Any]) -> None:
            of = found.setdefault("circuits", {}).setdefault(name, {"batches": 0, "with_proofs": 0, "limits": []})
            of["batches"] += batches
            of["with_proofs"] += with_proofs
            of["limits"] += [limit for limit in limits if limit not in of["limits"]]
            if seen is not None:
                of["seen"] = dict(sorted(seen.items()))
            every = found["circuits"].values()
            found["batches"] = sum(of["batches"] for of in every)
            found["with_proofs"] = sum(of["with_proofs"] for of in every)
            found["limits"] = sorted({limit for of in every for limit in of["limits"]})

        update("random.json", change)

    return put


@pytest.fixture(autouse=True)
def quick_hashes() -> Iterator[None]:
    """Let the long form hash natively, which other tests hold equal to the plain code that CI uses here."""
    if LONG:
        poseidon.use_backend(proofbook_native)
    yield
    poseidon.use_backend(None)
