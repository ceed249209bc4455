"""One exchange with real batches, for the tests of those who only see the chain: verifier and escape.

Accounts 0 (fees), 1 (alice) and 2 (bob); four batches with openings, deposits, a trade, a withdrawal and a forced exit;
and two requests left unserved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from _pytest.nodeid import coerce_node_id
from eth_account import Account
from web3 import Web3

from proofbook.chain.anvil import Anvil
from proofbook.chain.client import Exchange, QueuedRequest
from proofbook.chain.deploy import DeployConfig, Deployment, deploy, deploy_contract, read_verifying_key
from proofbook.chain.events import requests_since
from proofbook.protocol.eddsa import derive_public
from proofbook.protocol.messages import SignedAction, domain_of, order, sign_action, withdraw
from proofbook.protocol.state import State
from proofbook.protocol.table import MINIMAL, SIZES, ActionType, Side
from proofbook.protocol.transition import apply, build
from proofbook.protocol.words import ActionRow, FeeRow, Header, actions_calldata, fees_calldata
from proofbook.prover.artifacts import build as build_artifacts
from proofbook.prover.batch import prove_batch

ETH, USD = 1, 2
QUANTUM = 1000
WINDOW = 3600
SIZE = SIZES["minimal"][0]
UNTIL = 4_000_000_000
# L1 keys of nobody: made up for these tests.
L1_KEYS = {name: "0x" + f"{0xA11CE + k:064x}" for k, name in enumerate(("fee_owner", "alice", "bob"))}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name each test's group, so that one worker gets all of it and makes its chain and circuits once.

    pytest-xdist 3.8 writes the group into an attribute that pytest 9.2 does not read any more.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        groups = sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")})
        if groups and "@" not in item.nodeid.rpartition("]")[2].rpartition("::")[2]:
            item._id = coerce_node_id(f"{item.nodeid}@{'_'.join(groups)}")


def trading_key(index: int) -> bytes:
    return bytes([index + 1]) * 32


class Settled:
    """A deployed exchange and what its operator knows of it."""

    def __init__(self, anvil: Anvil) -> None:
        self.anvil, self.w3 = anvil, anvil.w3
        rich: list[str] = list(self.w3.eth.accounts)
        self.deployer, self.operator = rich[:2]
        self.people = {name: Account.from_key(key) for name, key in L1_KEYS.items()}
        for person in self.people.values():
            anvil.rpc("anvil_setBalance", person.address, hex(10**20))
        self.batch, self.exit = build_artifacts("batch-minimal-0"), build_artifacts("exit-minimal")
        self.deployment = self.deploy("Proofbook")
        self.address = self.deployment.address
        self.chain_id = self.w3.eth.chain_id
        self.domain = domain_of(self.chain_id, self.address)
        self.state = State(MINIMAL)
        self.number = 0
        self.token = deploy_contract(self.w3, self.deployer, "TestToken", "Dollar", "USD", 18).contract
        self.by(self.deployer).add_token(self.token.address, QUANTUM)

    def deploy(self, contract: str) -> Deployment:
        batch = read_verifying_key(self.batch.dir, self.batch.manifest.circuit_hash, 3)
        leave = read_verifying_key(self.exit.dir, self.exit.manifest.circuit_hash, 9)
        fee_key = derive_public(trading_key(0))
        config = DeployConfig(
            preset=MINIMAL,
            sizes=[(SIZE, batch.data)],
            exit_key=leave.data,
            exit_zkey_hash=bytes.fromhex(leave.zkey_hash),
            exit_wasm_hash=bytes.fromhex(leave.wasm_hash),
            operator=self.operator,
            owner=self.deployer,
            fee_owner=self.people["fee_owner"].address,
            fee_key=(fee_key.x, fee_key.y),
            request_window=WINDOW,
            request_spacing=10,
            max_lag=600,
            base_fee=1_000,
            fee_step=0,
            fee_cap=1_000,
            exit_fee_cap=1_000,
        )
        return deploy(self.w3, self.deployer, config, contract)

    def by(self, who: Any) -> Exchange:
        """The exchange as a person, by name, or as an account of the node."""
        return Exchange(self.w3, self.address, self.people.get(who, who))

    def open(self, who: str, index: int) -> None:
        made, _ = self.by(who).open(*derive_public(trading_key(index)))
        assert made == index

    def fund(self, who: str, quanta: int) -> None:
        """Give somebody dollars and let the exchange take them."""
        call = self.token.functions.mint(self.people[who].address, quanta * QUANTUM)
        sender = Web3.to_checksum_address(self.deployer)
        self.w3.eth.wait_for_transaction_receipt(call.transact({"from": sender}))
        exchange = self.by(who)
        exchange.approve(exchange.token(USD), quanta)

    def queue(self) -> list[QueuedRequest]:
        served, _ = self.by("alice").queue()
        events = requests_since(self.by("alice"), self.deployment.block, self.w3.eth.block_number)
        return [e.queued for e in events if e.queued.id >= served]

    def settle(self, acts: tuple[tuple[ActionRow, SignedAction], ...] = (), fees: tuple[FeeRow, ...] = ()) -> None:
        """Prove and commit a batch of what waits and these actions."""
        served = self.queue()[: SIZE.requests]
        now = self.w3.eth.get_block("latest")["timestamp"]
        header = Header(self.domain, 0, self.number + 1, now, 0, self.state.root, 0)
        rows, signed = [row for row, _ in acts], [sign for _, sign in acts]
        page, _ = build(self.state, header, [q.request for q in served], rows, fees, signed, SIZE)
        proven = prove_batch(self.state, page, signed, self.chain_id, self.address)
        requests = [(q, row.outcome) for q, row in zip(served, page.requests, strict=True)]
        self.by(self.operator).commit(
            0,
            now,
            page.header.new_root,
            requests,
            actions_calldata(page.actions),
            fees_calldata(page.fees),
            proven.c,
            proven.proof.to_solidity(),
        )
        self.state, self.number = apply(self.state, page, signed, SIZE).state, page.header.number

    def order(self, account: int, side: Side, fill: tuple[int, int, int]) -> tuple[ActionRow, SignedAction]:
        action = order(
            domain=self.domain,
            account=account,
            id=1,
            base=ETH,
            quote=USD,
            side=side,
            base_amount=fill[0],
            quote_amount=fill[1],
            max_fee_bps=1000,
            valid_until=UNTIL,
        )
        row = ActionRow(int(ActionType.ORDER), account, 1, ETH, USD, int(side), *fill)
        return row, sign_action(trading_key(account), action)

    def withdrawal(self, account: int, id: int, token: int, amount: int) -> tuple[ActionRow, SignedAction]:
        action = withdraw(domain=self.domain, account=account, id=id, token=token, amount=amount, valid_until=UNTIL)
        row = ActionRow(int(ActionType.WITHDRAW), account, id, token, ex_base=amount)
        return row, sign_action(trading_key(account), action)

    def history(self) -> None:
        """Make the batches."""
        self.open("alice", 1)
        self.open("bob", 2)
        self.settle()
        self.fund("alice", 100)
        self.fund("bob", 5000)
        self.by("alice").deposit(1, ETH, 1000)
        self.by("bob").deposit(2, USD, 5000)
        self.settle()
        trade = (self.order(1, Side.SELL, (10, 30, 0)), self.withdrawal(1, 2, ETH, 100))
        self.settle((*trade, self.order(2, Side.BUY, (10, 30, 1))), (FeeRow(USD, 1),))
        self.by("alice").claim(ETH)
        self.by("bob").force_exit(2, ETH)
        self.settle()
        self.by("alice").deposit(1, USD, 55)
        self.by("bob").force_exit(2, USD)


@pytest.fixture(scope="session")
def settled_exchange() -> Iterator[Settled]:
    """The exchange; use `settled`, which undoes what a test does to it."""
    with Anvil() as anvil:
        made = Settled(anvil)
        made.history()
        yield made


@pytest.fixture
def settled(settled_exchange: Settled) -> Iterator[Settled]:
    """The exchange as its history left it."""
    snapshot = settled_exchange.anvil.snapshot()
    yield settled_exchange
    settled_exchange.anvil.revert(snapshot)
