"""A real chain with a real contract, and operators on it: for all that is about more than the engine."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from msgspec.structs import replace

from proofbook.chain.anvil import Anvil
from proofbook.chain.client import Exchange
from proofbook.chain.deploy import DeployConfig, deploy, deploy_contract, read_verifying_key
from proofbook.operator.api import create_app
from proofbook.operator.markets import Market
from proofbook.operator.service import Operator
from proofbook.operator.settings import Settings, TokenName, create_directory, load_settings
from proofbook.protocol import messages
from proofbook.protocol.eddsa import derive_public
from proofbook.protocol.messages import Action, domain_of, sign_action
from proofbook.protocol.table import ETH_TOKEN, MINIMAL, SIZES, Side
from proofbook.prover.artifacts import build

COIN = 2
QUANTUM = 10**12
LOT = 10
SIZE = SIZES["minimal"][0]
MARKET = Market("COIN/ETH", COIN, ETH_TOKEN, LOT, 10, 25, 10**9, 10**6)
# L1 keys of nobody: made up for these tests.
KEYS = {name: f"0x{0xB0B + k:064x}" for k, name in enumerate(("operator", "fees", "alice", "bob", "carol"))}


class Crash(BaseException):
    """A kill: nothing that is meant for errors may catch it."""


def trading_key(index: int) -> bytes:
    return bytes([index + 17]) * 32


class Live:
    """A chain, the contract and everybody's keys."""

    def __init__(self, anvil: Anvil) -> None:
        self.anvil, self.w3 = anvil, anvil.w3
        self.deployer = self.w3.eth.accounts[0]
        self.people = {name: Account.from_key(key) for name, key in KEYS.items()}
        for person in self.people.values():
            anvil.rpc("anvil_setBalance", person.address, hex(10**21))
        batch, leave = build("batch-minimal-0"), build("exit-minimal")
        batch_key = read_verifying_key(batch.dir, batch.manifest.circuit_hash, 3)
        exit_key = read_verifying_key(leave.dir, leave.manifest.circuit_hash, 9)
        config = DeployConfig(
            preset=MINIMAL,
            sizes=[(SIZE, batch_key.data)],
            exit_key=exit_key.data,
            exit_zkey_hash=bytes.fromhex(exit_key.zkey_hash),
            exit_wasm_hash=bytes.fromhex(exit_key.wasm_hash),
            operator=self.people["operator"].address,
            owner=self.deployer,
            fee_owner=self.people["fees"].address,
            fee_key=derive_public(trading_key(0)),
            request_window=36_000,
            max_lag=7_200,
            base_fee=1_000,
            fee_step=0,
            fee_cap=1_000,
            exit_fee_cap=1_000,
        )
        self.deployment = deploy(self.w3, self.deployer, config)
        self.address = self.deployment.address
        self.domain = domain_of(self.w3.eth.chain_id, self.address)
        self.coin = deploy_contract(self.w3, self.deployer, "TestToken", "Coin", "COIN", 18).contract
        self.by(self.deployer).add_token(self.coin.address, QUANTUM)

    def by(self, who: Any) -> Exchange:
        return Exchange(self.w3, self.address, self.people.get(who, who))

    def open(self, who: str, index: int) -> None:
        assert self.by(who).open(*derive_public(trading_key(index)))[0] == index

    def deposit(self, who: str, index: int, token: int, amount: int) -> None:
        exchange = self.by(who)
        if token == COIN:
            mint = self.coin.functions.mint(self.people[who].address, amount * QUANTUM)
            self.w3.eth.wait_for_transaction_receipt(mint.transact({"from": self.deployer}))
            exchange.approve(exchange.token(COIN), amount)
        exchange.deposit(index, token, amount)

    def populate(self) -> None:
        """Accounts 1 (alice, coins) and 2 (bob, ETH); with the fee account that makes five requests."""
        self.open("alice", 1)
        self.open("bob", 2)
        self.deposit("alice", 1, COIN, 10_000)
        self.deposit("bob", 2, ETH_TOKEN, 1_000_000)

    def now(self) -> int:
        return int(self.w3.eth.get_block("latest")["timestamp"])

    # --- operators

    def directory(self, path: Path, **changes: Any) -> Path:
        settings = Settings(
            rpc_url=self.anvil.url,
            contract=self.address,
            preset="minimal",
            markets=[MARKET],
            tokens=[TokenName(COIN, "COIN")],
            port=0,
            poll_s=0.05,
            confirmations=0,
            margin_s=60,
            start_block=self.deployment.block,
            clock="chain",
            rpc_attempts=3,
        )
        create_directory(path, replace(settings, **changes), bytes.fromhex(KEYS["operator"][2:]))
        return path

    # --- what traders send, as the API takes it

    def sign(self, action: Action, key: bytes | None = None) -> dict[str, str]:
        (x, y), s = sign_action(key or trading_key(action.account), action).signature
        return {"r8x": str(x), "r8y": str(y), "s": str(s)}

    def order(self, account: int, side: str, price: int, lots: int, id: int, **changes: Any) -> dict[str, Any]:
        """An order's body. ``price`` in ticks; ``signer`` and ``domain`` may be given for wrong ones."""
        signer, domain = changes.pop("signer", None), changes.pop("domain", self.domain)
        values: dict[str, Any] = {
            "account": account,
            "id": id,
            "base": COIN,
            "quote": ETH_TOKEN,
            "base_amount": lots * LOT,
            "quote_amount": lots * price,
            "max_fee_bps": 25,
            "valid_until": self.now() + 3600,
            "flags": 0,
        } | changes
        action = Action(domain=domain, type=1, side=Side.BUY if side == "buy" else Side.SELL, **values)
        body = {name: str(value) for name, value in values.items()}
        return body | {"side": side, "signature": self.sign(action, signer)}

    def withdrawal(self, account: int, token: int, amount: int, id: int, **changes: Any) -> dict[str, Any]:
        values = {"account": account, "id": id, "valid_until": self.now() + 3600} | changes
        action = messages.withdraw(domain=self.domain, token=token, amount=amount, **values)
        body = {name: str(value) for name, value in values.items()}
        return body | {"token": token, "amount": str(amount), "signature": self.sign(action)}

    def transfer(self, account: int, token: int, amount: int, receiver: int, id: int) -> dict[str, Any]:
        values = {"account": account, "id": id, "valid_until": self.now() + 3600, "token": token, "amount": amount}
        action = messages.transfer(domain=self.domain, receiver=receiver, **values)
        return {n: str(v) for n, v in values.items()} | {"receiver": receiver, "signature": self.sign(action)}

    def cancel(self, account: int, id: int, hard: bool = False, **changes: Any) -> dict[str, Any]:
        values = {"account": account, "id": id, "valid_until": self.now() + 3600} | changes
        action = messages.cancel(domain=self.domain, **values)
        return {n: str(v) for n, v in values.items()} | {"hard": hard, "signature": self.sign(action)}


class Faults:
    """Has an operator's provers fail by plan, see `faulty_worker.py`."""

    def __init__(self, folder: Path, operator: Operator, **plan: list[str]) -> None:
        self.folder = folder / "faults"
        self.folder.mkdir(exist_ok=True)
        self.set(**plan)
        script = Path(__file__).with_name("faulty_worker.py")
        operator.batcher.pool.command = (sys.executable, "-P", str(script), "auto", str(self.folder))

    def set(self, **plan: list[str]) -> None:
        """What the attempts of ``batch_N`` do."""
        document = {name.removeprefix("batch_"): faults for name, faults in plan.items()}
        (self.folder / "plan.json").write_text(json.dumps(document))

    def tell(self, line: str) -> None:
        """Add a line that a prover may wait for."""
        with (self.folder / "events").open("a") as file:
            file.write(line + "\n")

    def events(self) -> list[str]:
        """What the provers did, in order."""
        path = self.folder / "events"
        return path.read_text().splitlines() if path.exists() else []


class Session:
    """A running operator without background tasks, and a client that talks to its API on the same loop."""

    def __init__(self, operator: Operator, client: httpx.AsyncClient) -> None:
        self.operator, self.client = operator, client

    def impatient(self, **changes: Any) -> None:
        """Make the batcher try again at once."""
        values = {"prove_attempts": 2, "rpc_attempts": 2, "confirmations": 0, "poll_s": 0.02, "first_pause_s": 0.01}
        self.operator.batcher._options = replaced(self.operator.batcher._options, **values | changes)

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, body: Any, status: int | None = None) -> Any:
        answer = await self.client.post(path, json=body)
        assert status is None or answer.status_code == status, answer.text
        return answer.json()

    async def refused(self, path: str, body: Any) -> tuple[int, str]:
        answer = await self.client.post(path, json=body)
        error = answer.json()["error"]
        assert set(error) == {"code", "message", "hint", "data"} and error["message"]
        return answer.status_code, error["code"]


async def run_session(
    directory: Path,
    work: Callable[[Session], Awaitable[Any]],
    crash_at: Callable[[str], None] = lambda stage: None,
    host: str = "127.0.0.1",
    **changes: Any,
) -> Any:
    """Start an operator, do some work with it, and close it; a `Crash` leaves it as a kill would."""
    settings = replace(load_settings(directory), **changes)
    operator = Operator(directory, settings, crash_at)
    app: Any = create_app(operator)
    transport = httpx.ASGITransport(app, client=(host, 4000))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
            await operator.start(background=False)
            result = await work(Session(operator, client))
    except BaseException:
        operator._sequencer._broken = True  # no last words in the journal
        operator.abandon()
        raise
    await operator.close()
    return result


@pytest.fixture(scope="session")
def live_exchange() -> Iterator[Live]:
    with Anvil() as anvil:
        yield Live(anvil)


@pytest.fixture
def live(live_exchange: Live) -> Iterator[Live]:
    """The exchange just deployed."""
    snapshot = live_exchange.anvil.snapshot()
    yield live_exchange
    live_exchange.anvil.revert(snapshot)
    # A base fee that a test has set is not taken back with the rest.
    live_exchange.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(10**9))


@pytest.fixture
def populated(live: Live) -> Live:
    """With alice's and bob's accounts and deposits queued."""
    live.populate()
    return live


@pytest.fixture
def session() -> Callable[..., Any]:
    """`run_session`, on a loop of its own."""

    def run(directory: Path, work: Callable[[Session], Awaitable[Any]], **options: Any) -> Any:
        return asyncio.run(run_session(directory, work, **options))

    return run


@pytest.fixture
def faults() -> type[Faults]:
    return Faults


@pytest.fixture
def crash() -> type[Crash]:
    return Crash
