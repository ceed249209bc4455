"""Deploy a Proofbook contract from keys whose manifests fit their circuits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.contract import Contract

from proofbook.chain.compile import contract_artifact
from proofbook.chain.errors import KeyFormatError, ManifestMismatch
from proofbook.chain.proofs import encode_verifying_key
from proofbook.chain.transactions import Sender
from proofbook.protocol.table import Preset, Size

BATCH_INPUTS: Final = 3
"""Public inputs of a batch circuit: C, z, y."""
EXIT_INPUTS: Final = 9
"""Public inputs of the exit circuit: root, index, owner, T, five words of amounts."""
_MAX_JSON: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A verifying key that is known to belong to its circuit.

    Attributes
    ----------
    data : bytes
        As the contract takes it.
    kind : str
        ``development`` or ``ceremony``.
    circuit_hash, zkey_hash, wasm_hash : str
        SHA-256 in hex of constraints, proving key and witness program.
    """

    data: bytes
    kind: str
    circuit_hash: str
    zkey_hash: str
    wasm_hash: str


@dataclass(frozen=True, slots=True)
class DeployConfig:
    """What a deployment fixes for ever; see ``IProofbook.Config``.

    Attributes
    ----------
    preset : Preset
        Depths of the trees; the contract knows the genesis root of each preset.
    sizes : sequence of (Size, bytes)
        Batch sizes with their verifying keys; the size id is the position.
    exit_key : bytes
        Verifying key of the exit circuit.
    exit_zkey_hash, exit_wasm_hash : bytes
        SHA-256 of the exit circuit's proving key and witness program, 32 bytes each, not zero.
    operator, owner : str
        Addresses; the owner can append tokens and nothing else.
    fee_owner : str
        Owner of account 0.
    fee_key : (int, int)
        Trading key of account 0, field elements.
    request_window, request_spacing, max_lag : int
        Seconds, at least 1.
    base_fee, fee_step, fee_cap, exit_fee_cap : int
        Request fees in gwei: in an empty queue, per waiting request, highest, highest of a forced exit.
    """

    preset: Preset
    sizes: Sequence[tuple[Size, bytes]]
    exit_key: bytes
    exit_zkey_hash: bytes
    exit_wasm_hash: bytes
    operator: str
    owner: str
    fee_owner: str
    fee_key: tuple[int, int]
    request_window: int = 3 * 24 * 3600
    request_spacing: int = 60
    max_lag: int = 24 * 3600
    base_fee: int = 100_000
    fee_step: int = 10_000
    fee_cap: int = 1_000_000_000
    exit_fee_cap: int = 1_000_000

    def argument(self) -> tuple[Any, ...]:
        """Return the constructor's argument, in the order of ``IProofbook.Config``."""
        return (
            self.preset.account_depth,
            self.preset.order_depth,
            Web3.to_checksum_address(self.fee_owner),
            *self.fee_key,
            Web3.to_checksum_address(self.operator),
            Web3.to_checksum_address(self.owner),
            self.request_window,
            self.request_spacing,
            self.max_lag,
            self.base_fee,
            self.fee_step,
            self.fee_cap,
            self.exit_fee_cap,
            [((s.requests, s.actions, s.accounts, s.fees), key) for s, key in self.sizes],
            self.exit_key,
            self.exit_zkey_hash,
            self.exit_wasm_hash,
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """A contract on a chain.

    Attributes
    ----------
    contract : Contract
        Bound to its address.
    address : str
        The same, with checksum.
    tx : str
        Hash of the deploying transaction, 0x and 64 hex digits.
    block : int
        Number of its block: where reading events starts.
    gas : int
        Gas used.
    """

    contract: Contract
    address: ChecksumAddress
    tx: str
    block: int
    gas: int


def read_verifying_key(folder: Path, circuit_hash: str, inputs: int) -> VerifyingKey:
    """Return the verifying key of a folder of proving artifacts.

    Parameters
    ----------
    folder : Path
        Holds ``manifest.json`` and ``vkey.json``.
    circuit_hash : str
        The circuit that it has to belong to (SHA-256 of its constraints, hex).
    inputs : int
        Number of public inputs, `BATCH_INPUTS` or `EXIT_INPUTS`.

    Raises
    ------
    ManifestMismatch
        If the manifest is missing or of another circuit, or the key is not the manifest's.
    KeyFormatError
        If the key is malformed.
    """
    manifest = json.loads(_read(folder / "manifest.json"))
    if not isinstance(manifest, dict) or manifest.get("kind") not in ("development", "ceremony"):
        raise ManifestMismatch(f"{folder.name}: the manifest names no kind of key", "set the circuit up again")
    if manifest.get("circuit_hash") != circuit_hash:
        raise ManifestMismatch(
            f"{folder.name}: the key was made for circuit {manifest.get('circuit_hash')}, not {circuit_hash}",
            "set the circuit up again",
        )
    text = _read(folder / "vkey.json")
    if manifest.get("vkey_sha256") != hashlib.sha256(text).hexdigest():
        raise ManifestMismatch(f"{folder.name}: the verifying key is not the manifest's", "set the circuit up again")
    key = json.loads(text)
    if not isinstance(key, dict):
        raise KeyFormatError("not a verifying key")
    return VerifyingKey(
        data=encode_verifying_key(key, inputs),
        kind=manifest["kind"],
        circuit_hash=circuit_hash,
        zkey_hash=str(manifest.get("zkey_sha256")),
        wasm_hash=str(manifest.get("wasm_sha256")),
    )


def deploy(w3: Web3, account: LocalAccount | str, config: DeployConfig, contract: str = "Proofbook") -> Deployment:
    """Deploy the contract and wait until it is mined.

    Parameters
    ----------
    w3 : Web3
        The chain.
    account : LocalAccount or str
        Pays; a string is an account that the node holds the key of.
    config : DeployConfig
        What is fixed.
    contract : str
        Another contract with the same constructor; for tests.

    Raises
    ------
    ContractRevert
        If the constructor refuses, for example a malformed key.
    TransactionFailed
        If it is not mined in time.
    """
    return deploy_contract(w3, account, contract, config.argument())


def deploy_contract(w3: Web3, account: LocalAccount | str, name: str, *arguments: Any) -> Deployment:
    """Deploy any of our contracts, test tokens among them; errors as `deploy`."""
    artifact = contract_artifact(name)
    factory = w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    receipt = Sender(w3, account, artifact.abi).send(factory.constructor(*arguments))
    address = receipt["contractAddress"]
    if address is None:
        raise ManifestMismatch("the node returned no contract address")
    return Deployment(
        contract=w3.eth.contract(address=address, abi=artifact.abi),
        address=address,
        tx=Web3.to_hex(receipt["transactionHash"]),
        block=receipt["blockNumber"],
        gas=receipt["gasUsed"],
    )


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ManifestMismatch(f"{path.name} is missing in {path.parent.name}", "set the circuit up first") from None
    if len(data) > _MAX_JSON:
        raise KeyFormatError(f"{path.name} is too large")
    return data
