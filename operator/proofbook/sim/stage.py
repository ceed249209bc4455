"""The place of action: a local chain with tokens, people with L1 keys, and an exchange deployed on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from proofbook.chain.anvil import Anvil
from proofbook.chain.client import Exchange, TokenInfo
from proofbook.chain.deploy import (
    BATCH_INPUTS,
    EXIT_INPUTS,
    DeployConfig,
    Deployment,
    deploy,
    deploy_contract,
    read_verifying_key,
)
from proofbook.client.keys import Trader
from proofbook.operator.markets import Market
from proofbook.operator.settings import Settings, TokenName
from proofbook.protocol.eddsa import derive_public
from proofbook.protocol.messages import keccak256
from proofbook.protocol.table import ETH_TOKEN, PRESETS, SIZES
from proofbook.prover.artifacts import Artifacts, build_all
from proofbook.prover.sizes import batch_circuit, exit_circuit
from proofbook.prover.workspace import Progress

PresetName = Literal["minimal", "mainnet"]
PRESET: Final = "minimal"
USD, STOCK = 2, 3
GAS_MONEY: Final = 10**22
"""Wei that everybody starts with on L1."""
REQUEST_WINDOW: Final = 3 * 24 * 3600
_MARGIN_S: Final = 600


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the exchange: ``quantum`` base units a quantum, ``decimals`` of its base unit."""

    id: int
    symbol: str
    name: str
    decimals: int
    quantum: int

    def units(self, whole: int) -> int:
        """Return the quanta of so many whole tokens."""
        return int(whole * 10**self.decimals // self.quantum)


TOKENS: Final = (
    Token(ETH_TOKEN, "ETH", "Ether", 18, 10**9),
    Token(USD, "USD", "Demonstration dollar", 6, 1),
    Token(STOCK, "STK", "Demonstration share", 18, 10**12),
)
# A lot is a hundredth ether, and a share; a tick is a millionth dollar a lot.
MARKETS: Final = (
    Market("ETH/USD", ETH_TOKEN, USD, 10**7, 5, 15, 10**6, 10**12),
    Market("STK/USD", STOCK, USD, 10**6, 5, 15, 10**6, 10**12),
)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an L1 key; not shown by `repr`."""

    name: str
    key: LocalAccount = field(repr=False)

    @property
    def address(self) -> str:
        """Their L1 address."""
        return str(self.key.address)


def make_person(name: str, seed: int) -> Person:
    """Return somebody whose L1 key follows from name and seed: for a chain where nothing has value."""
    return Person(name, Account.from_key(keccak256(f"proofbook demonstration {seed} {name}".encode())))


@dataclass(frozen=True, slots=True)
class Keys:
    """The circuits' artifacts: batch sizes by size id, and the exit circuit."""

    batch: tuple[Artifacts, ...]
    exit: Artifacts


def build_keys(progress: Progress, preset: str = PRESET) -> Keys:
    """Build whatever artifacts of a preset are missing; `ProverError` when that fails."""
    names = [batch_circuit(preset, size_id) for size_id in range(len(SIZES[preset]))]
    *batch, leave = build_all([*names, exit_circuit(preset)], progress)
    return Keys(tuple(batch), leave)


class Stage:
    """An exchange on a chain.

    Parameters
    ----------
    anvil : Anvil
        Running.
    keys : Keys
        Of the circuits.
    operator, house : Person
        Who commits batches, and who owns the fee account.
    preset : str
        ``minimal`` or ``mainnet``, as the keys are.

    Raises
    ------
    ChainError
        When it can't be deployed.
    """

    def __init__(self, anvil: Anvil, keys: Keys, operator: Person, house: Person, preset: PresetName = PRESET) -> None:
        self.anvil, self.w3, self.preset = anvil, anvil.w3, preset
        self._deployer = self.w3.eth.accounts[0]
        self.chain_id: int = self.w3.eth.chain_id
        self.fund([operator, house])
        self.deployment = self._deploy(keys, operator, house)
        self.address = str(self.deployment.address)
        self.erc20: dict[int, Deployment] = {}
        owner = Exchange(self.w3, self.address, self._deployer)
        for token in TOKENS[1:]:
            made = deploy_contract(self.w3, self._deployer, "TestToken", token.name, token.symbol, token.decimals)
            self.erc20[token.id] = made
            owner.add_token(made.address, token.quantum)

    def _deploy(self, keys: Keys, operator: Person, house: Person) -> Deployment:
        sizes = [read_verifying_key(a.dir, a.manifest.circuit_hash, BATCH_INPUTS).data for a in keys.batch]
        leave = read_verifying_key(keys.exit.dir, keys.exit.manifest.circuit_hash, EXIT_INPUTS)
        # The fee account never trades here; a key that its owner's L1 key alone gives will do.
        fee_key = derive_public(keccak256(bytes(house.key.key)))
        config = DeployConfig(
            preset=PRESETS[self.preset],
            sizes=list(zip(SIZES[self.preset], sizes, strict=True)),
            exit_key=leave.data,
            exit_zkey_hash=bytes.fromhex(leave.zkey_hash),
            exit_wasm_hash=bytes.fromhex(leave.wasm_hash),
            operator=operator.address,
            owner=self._deployer,
            fee_owner=house.address,
            fee_key=(fee_key.x, fee_key.y),
            request_window=REQUEST_WINDOW,
        )
        return deploy(self.w3, self._deployer, config)

    def settings(self) -> Settings:
        """Return the settings of the exchange's operator."""
        return Settings(
            rpc_url=self.anvil.url,
            contract=self.address,
            preset=self.preset,
            markets=list(MARKETS),
            tokens=[TokenName(token.id, token.symbol, token.decimals) for token in TOKENS],
            port=0,
            poll_s=0.2,
            batch_interval_s=3600.0,
            min_actions=16,
            max_pending=100_000,  # of its thousands of orders, all are to be heard
            confirmations=0,  # a chain of one node never reorganises
            margin_s=_MARGIN_S,
            start_block=self.deployment.block,
        )

    def deployment_json(self) -> dict[str, Any]:
        """Return the contract's address and those of the tokens by symbol; ETH's is zero."""
        tokens = {t.symbol: str(self.erc20[t.id].address) if t.id in self.erc20 else f"0x{0:040x}" for t in TOKENS}
        return {"contract": self.address, "tokens": tokens}

    # --- people

    def fund(self, people: Sequence[Person]) -> None:
        """Give people ether for gas and deposits."""
        for person in people:
            self.anvil.rpc("anvil_setBalance", person.address, hex(GAS_MONEY))

    def exchange(self, person: Person | None = None) -> Exchange:
        """Return the contract, for somebody to send from."""
        return Exchange(self.w3, self.address, person.key if person else None)

    def trader(self, person: Person) -> Trader:
        """Return somebody's trading key."""
        return Trader.from_l1(person.key, self.chain_id, self.address)

    def deposit(self, person: Person, account: int, token: Token, quanta: int) -> None:
        """Deposit quanta; ERC-20s are minted and approved first."""
        exchange = self.exchange(person)
        if token.id != ETH_TOKEN:
            mint = self.erc20[token.id].contract.functions.mint(person.address, quanta * token.quantum)
            self.w3.eth.wait_for_transaction_receipt(mint.transact({"from": self._deployer}), poll_latency=0.05)
            exchange.approve(exchange.token(token.id), quanta)
        exchange.deposit(account, token.id, quanta)

    def balance(self, address: str, token: Token) -> int:
        """Return an address's base units of a token on L1."""
        checked = Web3.to_checksum_address(address)
        if token.id == ETH_TOKEN:
            return int(self.w3.eth.get_balance(checked))
        return int(self.erc20[token.id].contract.functions.balanceOf(checked).call())

    def gas_cost(self, txs: Sequence[str]) -> int:
        """Return the wei that transactions cost their sender."""
        receipts = [self.w3.eth.get_transaction_receipt(Web3.to_bytes(hexstr=tx)) for tx in txs]  # type: ignore[arg-type]
        return sum(int(receipt["gasUsed"]) * int(receipt["effectiveGasPrice"]) for receipt in receipts)

    # --- money of the exchange

    def amounts(self, measure: str) -> dict[str, str]:
        """Return ``vault`` or ``liabilities`` (accounts, queue and claims) in base units by symbol."""
        exchange, names = self.exchange(), {token.id: token.symbol for token in TOKENS}
        infos: list[TokenInfo] = exchange.tokens()
        if measure == "vault":
            return {names[info.id]: str(exchange.vault(info)) for info in infos}
        return {names[info.id]: str((info.outstanding + info.claims) * info.quantum) for info in infos}
