"""Deploying an exchange: keys that fit their circuits, the fee account's key, tokens, the operator's directory.

The commands are in `proofbook.cli.operating`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.utils.address import get_create_address

from proofbook.chain.client import Exchange
from proofbook.chain.compile import contract_artifact
from proofbook.chain.deploy import (
    BATCH_INPUTS,
    EXIT_INPUTS,
    DeployConfig,
    Deployment,
    VerifyingKey,
    deploy,
    deploy_contract,
    read_verifying_key,
)
from proofbook.chain.transactions import Sender
from proofbook.cli.circuits import preset_circuits
from proofbook.cli.output import CliError
from proofbook.cli.tokens import describe_token
from proofbook.client.keys import Trader
from proofbook.operator.markets import Market
from proofbook.operator.settings import CONFIG, DEPLOYMENT, KEY, Settings, TokenName, create_directory
from proofbook.protocol.table import ETH_TOKEN, PRESETS, SIZES, Preset
from proofbook.prover.artifacts import load

LOCAL_CHAINS: Final = (1337, 31337)
"""Chain ids of development nodes: money there is worth nothing."""
DEFAULT_QUANTUM_DIGITS: Final = 9
_LOT_DIGITS: Final = 3
_MAX_LOTS: Final = 10**9
_MAX_PRICE: Final = 10**9
_MAKER_BPS, _TAKER_BPS = 10, 25

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Keys:
    """The verifying keys of a deployment.

    Attributes
    ----------
    preset : Preset
        Depths of the trees.
    batch : tuple of VerifyingKey
        By size id.
    exit : VerifyingKey
        Of the exit circuit.
    """

    preset: Preset
    batch: tuple[VerifyingKey, ...]
    exit: VerifyingKey

    @property
    def development(self) -> bool:
        """Whether any key is not from a ceremony."""
        return any(key.kind != "ceremony" for key in (*self.batch, self.exit))


def load_keys(preset: str, sizes: int | None, say: Say) -> Keys:
    """Load a preset's verifying keys, each checked against its circuit.

    Raises
    ------
    CliError
        For a preset or size that there is not.
    ArtifactError, ManifestMismatch
        When keys are missing, damaged or of another circuit.
    """
    found = []
    *batches, leave = preset_circuits(preset, sizes)
    for name in (*batches, leave):
        say(f"checking the keys of {name}")
        artifacts = load(name)
        inputs = EXIT_INPUTS if name == leave else BATCH_INPUTS
        found.append(read_verifying_key(artifacts.dir, artifacts.manifest.circuit_hash, inputs))
    return Keys(PRESETS[preset], tuple(found[:-1]), found[-1])


def check_new(directory: Path) -> None:
    """Refuse a directory that has an operator already, before anything is paid for; `CliError` (``exists``)."""
    for name in (CONFIG, KEY, DEPLOYMENT):
        if (directory / name).exists():
            raise CliError("exists", f"{directory / name} exists", "choose another --dir")


@dataclass(frozen=True, slots=True)
class Times:
    """What a deployment fixes besides its keys; see `DeployConfig`."""

    request_window: int
    max_lag: int
    base_fee: int


def deploy_exchange(w3: Web3, deployer: LocalAccount, operator: str, keys: Keys, times: Times) -> Deployment:
    """Deploy the contract; the deployer owns it and the fee account.

    Raises
    ------
    CliError
        ``address_moved`` if another transaction of the deployer came in between: the fee account's key is then
        another contract's, and the deployment useless.
    ContractRevert, TransactionFailed
        As `deploy`.
    """
    # The fee account's trading key is bound to the contract's address, which follows from the deployer's next nonce.
    nonce = w3.eth.get_transaction_count(deployer.address, "pending")
    address = get_create_address(deployer.address, nonce)
    fee_key = Trader.from_l1(deployer, w3.eth.chain_id, address).public
    sizes = SIZES[keys.preset.name]
    config = DeployConfig(
        preset=keys.preset,
        sizes=[(sizes[k], key.data) for k, key in enumerate(keys.batch)],
        exit_key=keys.exit.data,
        exit_zkey_hash=bytes.fromhex(keys.exit.zkey_hash),
        exit_wasm_hash=bytes.fromhex(keys.exit.wasm_hash),
        operator=operator,
        owner=deployer.address,
        fee_owner=deployer.address,
        fee_key=(fee_key.x, fee_key.y),
        request_window=times.request_window,
        max_lag=times.max_lag,
        base_fee=times.base_fee,
    )
    made = deploy(w3, deployer, config)
    if made.address != address:
        raise CliError("address_moved", "another transaction of the deployer came in between", "deploy again")
    return made


# --- tokens


@dataclass(frozen=True, slots=True)
class Added:
    """A token that was added: its id, address, quantum (in its own units), symbol and decimals."""

    id: int
    address: str
    quantum: int
    symbol: str
    decimals: int


def parse_token(text: str) -> tuple[str, int | None]:
    """Read ``ADDRESS`` or ``ADDRESS:QUANTUM``; `CliError` (``token``)."""
    address, _, quantum = text.partition(":")
    if not Web3.is_address(address) or not address.startswith("0x"):
        raise CliError("token", f"{text[:80]!r} is no token", "write ADDRESS or ADDRESS:QUANTUM")
    if not quantum:
        return address, None
    if not (quantum.isascii() and quantum.isdigit() and len(quantum) <= 40 and int(quantum)):
        raise CliError("token", f"{quantum[:40]!r} is no quantum", "a whole number of the token's units, at least 1")
    return address, int(quantum)


def add_token(exchange: Exchange, address: str, quantum: int | None) -> Added:
    """Append a token for ever; without a quantum, amounts get nine decimals.

    Raises
    ------
    CliError
        ``token`` for a contract that has no usable symbol or decimals.
    ContractRevert
        As the contract refuses.
    """
    symbol, decimals = describe_token(exchange.w3, address)
    if not symbol:
        raise CliError("token", f"{address} does not call itself anything", "is it an ERC-20 on this chain?")
    quantum = quantum or 10 ** max(decimals - DEFAULT_QUANTUM_DIGITS, 0)
    id_, _ = exchange.add_token(address, quantum)
    return Added(id_, Web3.to_checksum_address(address), quantum, symbol, decimals)


def make_test_token(w3: Web3, deployer: LocalAccount, symbol: str) -> str:
    """Deploy an ERC-20 that anybody can mint, and return its address."""
    if not (0 < len(symbol) <= 16 and symbol.isascii() and symbol.isalnum()):
        raise CliError("token", f"{symbol[:40]!r} is no symbol", "1 to 16 letters and digits")
    return str(deploy_contract(w3, deployer, "TestToken", f"Test {symbol}", symbol, 18).address)


def mint_test_token(w3: Web3, sender: LocalAccount, address: str, to: str, units: int) -> str:
    """Mint units of a test token and return the transaction's hash; a real token refuses."""
    abi = contract_artifact("TestToken").abi
    token = w3.eth.contract(address=Web3.to_checksum_address(address), abi=abi)
    call = token.functions.mint(Web3.to_checksum_address(to), units)
    return Web3.to_hex(Sender(w3, sender, abi).send(call)["transactionHash"])


# --- the operator's directory


def example_markets(tokens: list[Added]) -> list[Market]:
    """Return a market against ETH for each token, lots of a thousandth where the quantum allows it."""
    markets: list[Market] = []
    for token in tokens:
        digits = token.decimals - _LOT_DIGITS
        lot = max(10 ** max(digits, 0) // token.quantum, 1)
        symbol = f"{token.symbol}/ETH"[:32]
        if any(market.symbol == symbol for market in markets):
            symbol = f"{token.symbol[:20]}#{token.id}/ETH"
        max_lots = min(_MAX_LOTS, (2**64 - 1) // lot)
        markets.append(Market(symbol, token.id, ETH_TOKEN, lot, _MAKER_BPS, _TAKER_BPS, max_lots, _MAX_PRICE))
    return markets


def write_directory(
    directory: Path, made: Deployment, chain_id: int, settings: Settings, tokens: list[Added], key: bytes
) -> Path:
    """Write an operator's directory and its deployment.json; returns the latter's path."""
    create_directory(directory, settings, key)
    document: dict[str, Any] = {
        "contract": made.address,
        "tokens": {"ETH": "0x" + "00" * 20} | {token.symbol: token.address for token in tokens},
        "chain_id": chain_id,
        "block": made.block,
        "preset": settings.preset,
        "tx": made.tx,
        "gas": made.gas,
    }
    path = directory / DEPLOYMENT
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def make_settings(
    rpc: str, made: Deployment, preset: str, tokens: list[Added], port: int, confirmations: int
) -> Settings:
    """Return the settings of a new operator."""
    return Settings(
        rpc_url=rpc,
        contract=made.address,
        preset="minimal" if preset == "minimal" else "mainnet",
        markets=example_markets(tokens),
        tokens=[TokenName(token.id, token.symbol, token.decimals) for token in tokens],
        port=port,
        confirmations=confirmations,
        poll_s=0.5 if confirmations == 0 else 2.0,
        margin_s=60 if confirmations == 0 else 600,
        start_block=made.block,
    )
