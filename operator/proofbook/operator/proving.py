"""What the operator proves with: the deployment's circuits, keys checked against the contract, a batch's inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from proofbook.chain.client import Exchange, ExchangeConfig
from proofbook.chain.deploy import BATCH_INPUTS, EXIT_INPUTS
from proofbook.chain.proofs import encode_verifying_key
from proofbook.operator.codes import OperatorError
from proofbook.operator.workers import Job
from proofbook.protocol.messages import SignedAction
from proofbook.protocol.state import State
from proofbook.protocol.table import SIZES, Preset, Size
from proofbook.protocol.words import Page
from proofbook.prover.artifacts import Artifacts, build
from proofbook.prover.backend import get_backend
from proofbook.prover.errors import ProofError
from proofbook.prover.r1cs import read_r1cs
from proofbook.prover.sizes import batch_circuit, exit_circuit
from proofbook.prover.witness import batch_inputs, challenge_for
from proofbook.prover.workspace import Progress, Workspace, default_workspace, silent


class KeysMismatch(OperatorError):
    """The keys here are not the contract's: nothing proven here would be accepted (code ``keys``)."""

    code: ClassVar[str] = "keys"


class BatchProver:
    """What batches of one deployment are proven with.

    Parameters
    ----------
    preset : Preset
        Of the deployment.
    sizes : tuple of Size
        Its batch sizes, by size id; each is one of the preset's.
    chain_id, contract
        The exchange.
    backend : str
        ``auto``, ``native`` or ``snarkjs``.

    Raises
    ------
    KeysMismatch
        For a size that has no circuit.
    ProverError
        When artifacts are damaged, or the backend is not there.
    """

    def __init__(
        self,
        preset: Preset,
        sizes: tuple[Size, ...],
        chain_id: int,
        contract: str,
        backend: str = "auto",
        progress: Progress = silent,
        workspace: Workspace | None = None,
    ) -> None:
        self._workspace = workspace or default_workspace()
        self._sizes, self._chain_id, self._contract = sizes, chain_id, contract
        get_backend(backend, self._workspace)  # better now than at the first batch
        names = [self._name(preset, size) for size in sizes]
        self.artifacts: tuple[Artifacts, ...] = tuple(build(name, progress, self._workspace) for name in names)
        self.exit_artifacts: Artifacts = build(exit_circuit(preset.name), progress, self._workspace)
        self.constraints: tuple[int, ...] = tuple(read_r1cs(a.r1cs).nonlinear for a in self.artifacts)

    @staticmethod
    def _name(preset: Preset, size: Size) -> str:
        if size not in SIZES[preset.name]:
            raise KeysMismatch(f"the contract has a batch size {size} that preset {preset.name} has no circuit for")
        return batch_circuit(preset.name, SIZES[preset.name].index(size))

    def check_keys(self, exchange: Exchange, config: ExchangeConfig) -> None:
        """Compare every key with the contract's.

        Raises
        ------
        KeysMismatch
            Where they differ: keys were made anew since the deployment, or come from another machine.
        """
        for artifacts, address in zip(self.artifacts, config.size_keys, strict=True):
            self._check(artifacts, BATCH_INPUTS, exchange.verifying_key(address))
        self._check(self.exit_artifacts, EXIT_INPUTS, exchange.verifying_key(config.exit_key))
        manifest = self.exit_artifacts.manifest
        for digest, wanted in (
            (manifest.zkey_sha256, config.exit_zkey_hash),
            (manifest.wasm_sha256, config.exit_wasm_hash),
        ):
            if bytes.fromhex(digest) != wanted:
                raise KeysMismatch("the exit circuit's files here are not those the contract names")

    @staticmethod
    def _check(artifacts: Artifacts, inputs: int, wanted: bytes) -> None:
        if encode_verifying_key(json.loads(artifacts.vkey.read_bytes()), inputs) != wanted:
            raise KeysMismatch(f"{artifacts.name}: the key here is not the contract's; copy the deployment's keys here")

    def make_job(self, state: State, page: Page, signed: Sequence[SignedAction], out: Path) -> Job:
        """Return what a prover worker needs for a page; the witness will go to ``out``.

        Parameters
        ----------
        state : State
            Before the batch.
        page : Page
            Its header's size id is the deployment's.
        signed : sequence of SignedAction
            One an action row.
        out : Path
            A file's name in a directory that exists.

        Raises
        ------
        ProofbookError
            As `transition.apply`, for a page that can't be proven.
        """
        size_id = page.header.size_id
        draw = challenge_for(self._chain_id, self._contract, size_id)
        inputs, c = batch_inputs(state, page, signed, self._sizes[size_id], draw)
        public = tuple(value for name in ("C", "z", "y") if isinstance(value := inputs[name], int))
        if public[0] != c:
            raise ProofError("proof/public", "the commitment is not the circuit's input")
        return Job(page.header.number, self.artifacts[size_id].dir, inputs, public, out)
