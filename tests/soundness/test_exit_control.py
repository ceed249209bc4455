"""M25's control: a way out that does not check the stored files keeps a key that gets nothing out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proofbook.chain.errors import ContractRevert
from proofbook.escape import session
from proofbook.escape.artifacts import ExitArtifacts, save_exit_artifacts
from proofbook.escape.errors import ArtifactsMismatch
from proofbook.escape.session import Escape
from proofbook.prover.compile import compile_circuit
from proofbook.prover.keys import development_key
from proofbook.prover.workspace import silent

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

BOB = 2
"""His account, which has 4,969 USD in the last root."""


@pytest.fixture
def other_key(settled: Any, tmp_path: Path) -> Path:
    """The right circuit's files, whole and sound, from another set-up than the contract's."""
    made, stored = tmp_path / "made", tmp_path / "stored"
    made.mkdir()
    (made / "circuit.wasm").write_bytes((settled.exit.dir / "circuit.wasm").read_bytes())
    development_key(compile_circuit("exit-minimal").r1cs, made / "circuit.zkey", silent)
    save_exit_artifacts(made, stored)
    return stored


def test_m25_files_of_another_set_up(
    settled: Any, other_key: Path, monkeypatch: pytest.MonkeyPatch, report: Any
) -> None:
    way_out = Escape(settled.anvil.url, settled.address, settled.people["bob"], other_key)
    deadline = settled.queue()[0].deadline
    settled.anvil.increase_time(max(1, deadline + 1 - settled.w3.eth.get_block("latest")["timestamp"]))
    way_out.freeze()
    with pytest.raises(ArtifactsMismatch):
        way_out.exit(BOB)

    def unchecked(directory: Path, _contract: Any) -> ExitArtifacts:
        return ExitArtifacts(directory / "exit.zkey", directory / "exit.wasm")

    monkeypatch.setattr(session, "check_exit_artifacts", unchecked)
    with pytest.raises(ContractRevert) as stuck:
        way_out.exit(BOB)
    caught = stuck.value.name == "InvalidProof" and not settled.by("bob").account(BOB).exited
    report("controls", {"name": "M25 exit files of another set-up", "caught": caught})
    assert caught
