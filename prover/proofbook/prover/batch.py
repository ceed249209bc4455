"""From a page to its proof: inputs, witness, Groth16."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proofbook.protocol.messages import SignedAction
from proofbook.protocol.state import State
from proofbook.protocol.table import SIZES
from proofbook.protocol.words import Page
from proofbook.prover.artifacts import Artifacts, build
from proofbook.prover.backend import Proof, ProverBackend, get_backend
from proofbook.prover.calculator import Value, calculate_witness
from proofbook.prover.compile import compile_circuit
from proofbook.prover.errors import ProofError
from proofbook.prover.sizes import batch_circuit, exit_circuit
from proofbook.prover.witness import batch_inputs, challenge_for, exit_inputs
from proofbook.prover.workspace import Progress, Workspace, default_workspace, silent


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall seconds of a proof's steps.

    Attributes
    ----------
    inputs_s : float
        Applying the page and computing the circuit's inputs, in Python.
    witness_s : float
        The circuit's witness program.
    prove_s : float
        The proof.
    """

    inputs_s: float
    witness_s: float
    prove_s: float


@dataclass(frozen=True, slots=True)
class ProvenBatch:
    """A batch that is ready for the contract.

    Attributes
    ----------
    page : Page
        What was proven.
    c, z, y : int
        The proof's public inputs: commitment, challenge, the words' polynomial at it.
    proof : Proof
        Its public inputs are (c, z, y).
    timings : Timings
        How long it took.
    constraints : int
        Non-linear constraints of the circuit.
    """

    page: Page
    c: int
    z: int
    y: int
    proof: Proof
    timings: Timings
    constraints: int


def _prove(
    artifacts: Artifacts, inputs: Mapping[str, Value], backend: ProverBackend, progress: Progress
) -> tuple[Proof, float, float]:
    """Return the proof, and the seconds that witness and proof took."""
    with tempfile.TemporaryDirectory(prefix="proofbook-") as folder:
        wtns = Path(folder, "witness.wtns")
        started = time.perf_counter()
        progress(f"{artifacts.name}: witness", None)
        calculate_witness(artifacts, inputs, wtns)
        calculated = time.perf_counter()
        progress(f"{artifacts.name}: proving with {backend.name}", None)
        proof = backend.prove(artifacts, wtns)
        return proof, calculated - started, time.perf_counter() - calculated


def _check_public(artifacts: Artifacts, proof: Proof, expected: tuple[int, ...]) -> None:
    # Nothing but a mix-up of files can get here; the contract would refuse it at the price of a transaction.
    if proof.public != expected:
        raise ProofError("proof/public", f"{artifacts.name}: the proof is for other public inputs")


def prove_batch(
    state: State,
    page: Page,
    signed: Sequence[SignedAction],
    chain_id: int,
    contract: int | str,
    *,
    backend: ProverBackend | None = None,
    progress: Progress = silent,
    workspace: Workspace | None = None,
) -> ProvenBatch:
    """Prove a batch with the circuit that its header's size id names, making missing artifacts first.

    Parameters
    ----------
    state : State
        Before the batch; never changed.
    page : Page
        As `transition.build` returns it.
    signed : sequence of SignedAction
        One an action row, in their order.
    chain_id, contract : int, int or str
        The exchange that the proof is for; the challenge depends on it.
    backend : ProverBackend, optional
        Default: the fastest that is there.

    Raises
    ------
    ProofbookError
        As `transition.apply`, for a page that can't be proven.
    ProverError
        From the steps.
    """
    workspace = workspace or default_workspace()
    size_id = page.header.size_id
    name = batch_circuit(state.preset.name, size_id)
    artifacts = build(name, progress, workspace)
    started = time.perf_counter()
    size = SIZES[state.preset.name][size_id]
    inputs, c = batch_inputs(state, page, signed, size, challenge_for(chain_id, contract, size_id))
    inputs_s = time.perf_counter() - started
    proof, witness_s, prove_s = _prove(artifacts, inputs, backend or get_backend("auto", workspace), progress)
    z, y = inputs["z"], inputs["y"]
    assert isinstance(z, int) and isinstance(y, int)
    _check_public(artifacts, proof, (c, z, y))
    constraints = compile_circuit(name, workspace=workspace).info.nonlinear
    return ProvenBatch(page, c, z, y, proof, Timings(inputs_s, witness_s, prove_s), constraints)


def prove_exit(
    state: State,
    index: int,
    *,
    backend: ProverBackend | None = None,
    progress: Progress = silent,
    workspace: Workspace | None = None,
) -> tuple[Proof, tuple[int, ...]]:
    """Prove what an account holds in a state.

    Returns
    -------
    proof : Proof
        For the exit circuit of the state's preset.
    public : tuple of int
        root, index, owner, T, a0 to a4.

    Raises
    ------
    InvalidValue
        For an index beyond the tree.
    WitnessError
        `witness/not-open`.
    ProverError
        From the steps.
    """
    workspace = workspace or default_workspace()
    artifacts = build(exit_circuit(state.preset.name), progress, workspace)
    inputs = exit_inputs(state, index)
    proof, _, _ = _prove(artifacts, inputs, backend or get_backend("auto", workspace), progress)
    names = ("root", "index", "owner", "T", "a0", "a1", "a2", "a3", "a4")
    expected = tuple(value for name in names if isinstance(value := inputs[name], int))
    _check_public(artifacts, proof, expected)
    return proof, expected
