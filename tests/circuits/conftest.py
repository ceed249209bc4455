"""Compiled circuits, honest pages for them, and the means to lie."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proofbook.protocol.babyjub import Point
from proofbook.protocol.eddsa import derive_public
from proofbook.protocol.messages import SignedAction
from proofbook.protocol.state import State
from proofbook.protocol.table import PRESETS, Size
from proofbook.protocol.transition import apply, build_page
from proofbook.protocol.words import Page
from proofbook.prover.calculator import shared_worker
from proofbook.prover.compile import Compiled, compile_circuit
from proofbook.prover.witness import assemble_inputs, challenge_for

HERE = Path(__file__).resolve().parent
DRAW = challenge_for(31337, "0x" + "ab" * 20, 0)


def load(path: Path) -> ModuleType:
    """Import a helper by its path: folders of tests are no packages."""
    name = f"circuit_tests_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def forging() -> Any:
    return load(HERE / "forging.py")


@pytest.fixture(scope="session")
def r1cs() -> Any:
    return load(HERE / "r1cs.py")


@pytest.fixture(scope="session")
def batch() -> Compiled:
    return compile_circuit("batch-minimal-0")


@pytest.fixture(scope="session")
def exit_circuit() -> Compiled:
    return compile_circuit("exit-minimal")


@pytest.fixture(scope="session")
def calculate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Compiled, dict[str, Any]], Path]:
    """Return a function that calculates a witness and returns its file, the same each time."""
    out = tmp_path_factory.mktemp("witness") / "witness.wtns"

    def run(compiled: Compiled, inputs: dict[str, Any]) -> Path:
        shared_worker().calculate(compiled.wasm, inputs, out)
        return out

    return run


class Scene:
    """A world, and pages of it for the circuit."""

    def __init__(self, world: Any, batch: Compiled, calculate: Any, lie: Any) -> None:
        self.world, self._batch, self._calculate, self._lie = world, batch, calculate, lie

    @property
    def state(self) -> State:
        state: State = self.world.state
        return state

    def public(self, index: int, generation: int) -> Point:
        """Return a key that the world can sign with."""
        return derive_public(bytes([generation, index]) * 16)

    def page(self, requests: Sequence[Any] = (), acts: Sequence[Any] = (), fees: Sequence[Any] = ()) -> Any:
        """Return the inputs of an honest page as a `Lie` still to be told."""
        page = self.world.build(requests, acts, fees)
        return self.told(page, [signed for _, signed in acts])

    def unsigned(self, requests: Sequence[Any] = (), acts: Sequence[Any] = (), fees: Sequence[Any] = ()) -> Any:
        """Return the inputs of a page that keeps all but what its signatures say."""
        page = build_page(self.state, self.world.header(), requests, [row for row, _ in acts], fees)
        return self.told(page, [signed for _, signed in acts])

    def told(self, page: Page, signed: Sequence[SignedAction]) -> Any:
        outcome = apply(self.state, page)
        entry = self._batch.circuit
        size = Size(entry.requests, entry.actions, entry.accounts, entry.fees)
        inputs, _ = assemble_inputs(self.state, page, signed, outcome, size, DRAW)
        return self._lie(self.state, inputs, DRAW, lambda found: self._calculate(self._batch, found))


@pytest.fixture
def make_scene(calculate: Any, forging: Any) -> Callable[[str], Scene]:
    """Return a function that sets a scene for a circuit.

    Accounts 1 and 2 have 1000 of tokens 1 and 2 each; account 0 is for fees.
    """

    def made(name: str) -> Scene:
        compiled = compile_circuit(name)
        world = load(HERE.parent / "protocol" / "conftest.py").World(PRESETS[compiled.circuit.preset])
        world.start({1: {1: 1000, 2: 1000}, 2: {1: 1000, 2: 1000}})
        return Scene(world, compiled, calculate, forging.Lie)

    return made


@pytest.fixture
def scene(make_scene: Callable[[str], Scene]) -> Scene:
    """Return a scene of the smallest batch circuit that tests use."""
    return make_scene("batch-minimal-0")
