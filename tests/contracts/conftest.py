"""A real anvil with a deployed exchange, and keys with a known trapdoor.

A Groth16 key whose secrets are known proves any statement. That is what these tests need: real proofs, checked by the
real pairing, for whatever the contract's own rules are to be tried on, without waiting for the batch circuit.
"""

import importlib
import itertools
import random
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from py_ecc.optimized_bn128 import G1, G2, multiply, normalize  # type: ignore[attr-defined]
from web3 import Web3

from proofbook.chain.anvil import Anvil
from proofbook.chain.client import Exchange, QueuedRequest, commit_arguments, request_rows
from proofbook.chain.deploy import DeployConfig, deploy, deploy_contract
from proofbook.chain.errors import ContractRevert
from proofbook.chain.events import requests_since
from proofbook.chain.transactions import Sender
from proofbook.protocol.field import R
from proofbook.protocol.messages import challenge, domain_of
from proofbook.protocol.sponge import horner
from proofbook.protocol.table import MINIMAL, SIZES, Size
from proofbook.protocol.words import Header, Page, actions_calldata, fees_calldata, page_words

NAMES = ("deployer", "operator", "owner", "fee_owner", "alice", "bob", "carol", "mallory")
GAS: dict[str, int] = {}


def g1_words(point) -> list[int]:
    x, y = normalize(point)
    return [int(x.n), int(y.n)]


def g2_words(point) -> list[int]:
    x, y = normalize(point)
    return [int(c) for c in (x.coeffs[1], x.coeffs[0], y.coeffs[1], y.coeffs[0])]


class Trapdoor:
    """A verifying key with its secrets, for `inputs` public inputs."""

    def __init__(self, inputs: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.alpha, self.beta, self.gamma, self.delta = (self.scalar() for _ in range(4))
        self.ic = [self.scalar() for _ in range(inputs + 1)]
        self._words = g1_words(multiply(G1, self.alpha))
        for secret in (self.beta, self.gamma, self.delta):
            self._words += g2_words(multiply(G2, secret))
        self._words += [w for s in self.ic for w in g1_words(multiply(G1, s))]

    def scalar(self) -> int:
        return self.random.randrange(1, R)

    def key_words(self) -> list[int]:
        return list(self._words)

    def key(self) -> bytes:
        return words_bytes(self.key_words())

    def prove(self, inputs) -> list[int]:
        """Return a fresh proof of any statement."""
        a, b = self.scalar(), self.scalar()
        total = self.ic[0] + sum(s * x for s, x in zip(self.ic[1:], inputs, strict=True))
        c = (a * b - self.alpha * self.beta - self.gamma * total) * pow(self.delta, -1, R) % R
        return g1_words(multiply(G1, a)) + g2_words(multiply(G2, b)) + g1_words(multiply(G1, c))


def words_bytes(words) -> bytes:
    return b"".join(w.to_bytes(32, "big") for w in words)


class World:
    """One deployed exchange and everybody around it; people by name are addresses that the node has keys of."""

    deployer: str
    operator: str
    owner: str
    fee_owner: str
    alice: str
    bob: str
    carol: str
    mallory: str

    def __init__(self, anvil: Anvil, batch: list[Trapdoor], exit_key: Trapdoor) -> None:
        self.anvil, self.w3 = anvil, anvil.w3
        self.batch_keys, self.exit_key = batch, exit_key
        accounts = self.w3.eth.accounts
        for name, address in zip(NAMES, accounts, strict=False):
            setattr(self, name, address)
        self.sizes: tuple[Size, ...] = SIZES["minimal"]
        self.chain_id = self.w3.eth.chain_id
        self.deployment = deploy(self.w3, self.deployer, self.config())
        self.harness = deploy_contract(self.w3, self.deployer, "PageHarness").contract
        self.contract = self.deployment.contract
        self.address = self.deployment.address
        self._as: dict[str, Exchange] = {}
        self._roots = itertools.count(1)
        GAS["deploy"] = self.deployment.gas

    def config(self, **changes) -> DeployConfig:
        fields: dict[str, Any] = {
            "preset": MINIMAL,
            "sizes": [(s, k.key()) for s, k in zip(self.sizes, self.batch_keys, strict=True)],
            "exit_key": self.exit_key.key(),
            "exit_zkey_hash": b"\x11" * 32,
            "exit_wasm_hash": b"\x22" * 32,
            "operator": self.operator,
            "owner": self.owner,
            "fee_owner": self.fee_owner,
            "fee_key": (1, 2),
            "request_window": 3600,
            "request_spacing": 10,
            "max_lag": 600,
            "base_fee": 1_000,
            "fee_step": 100,
            "fee_cap": 5_000,
            "exit_fee_cap": 1_500,
        }
        return DeployConfig(**{**fields, **changes})

    def by(self, who: str) -> Exchange:
        """The exchange as somebody, by name."""
        if who not in self._as:
            self._as[who] = Exchange(self.w3, self.address, getattr(self, who, who))
        return self._as[who]

    @property
    def exchange(self) -> Exchange:
        return self.by("operator")

    def token(self, kind: str = "TestToken", quantum: int = 1000, to=("alice", "bob"), amount: int = 10**12):
        """Deploy a token, add it, hand out `amount` quanta and approve them; returns its id and contract."""
        arguments = ("Test", "TST", 18) if kind == "TestToken" else ()
        made = deploy_contract(self.w3, self.deployer, kind, *arguments)
        token, _ = self.by("owner").add_token(made.address, quantum)
        for who in to:
            self.call(made.contract.functions.mint(getattr(self, who), amount * quantum))
            self.by(who).approve(self.exchange.token(token), amount)
        return token, made.contract

    def call(self, function, sender: str = "deployer", value: int = 0):
        """Send a call of any contract; the node refuses what reverts."""
        tx = function.transact({"from": getattr(self, sender, sender), "value": value})
        return self.w3.eth.wait_for_transaction_receipt(tx)

    def open(self, who: str, pub=(7, 8)) -> int:
        index, receipt = self.by(who).open(*pub)
        GAS["open"] = receipt["gasUsed"]
        return index

    def queue(self) -> list[QueuedRequest]:
        """Unserved requests, from the events."""
        served, _ = self.exchange.queue()
        events = requests_since(self.exchange, self.deployment.block, self.w3.eth.block_number)
        return [e.queued for e in events if e.queued.id >= served]

    def now(self) -> int:
        return self.w3.eth.get_block("latest")["timestamp"]

    def page(self, requests=(), actions=(), fees=(), size_id: int = 0, **header) -> Page:
        fields = {
            "domain": domain_of(self.chain_id, self.address),
            "size_id": size_id,
            "number": self.exchange.batch_number() + 1,
            "timestamp": self.now(),
            "fee_account": 0,
            "old_root": self.exchange.state_root(),
            "new_root": 1_000 + next(self._roots),
        }
        return Page(Header(**{**fields, **header}), request_rows(requests), tuple(actions), tuple(fees))

    def prove(self, words, size_id: int = 0, c: int = 5, address: str | None = None) -> list[int]:
        """A proof for words D, as the circuit would give it."""
        z = challenge(self.chain_id, address or self.address, size_id, words, c)
        return self.batch_keys[size_id].prove([c, z, horner(words, z)])

    def on_chain(self, page: Page, requests=(), c: int = 5, actions: bytes | None = None, fees: bytes | None = None):
        """D, z and y of a batch as the contract computes them; `actions` and `fees` in place of the page's."""
        h, size = page.header, self.sizes[page.header.size_id]
        return self.harness.functions.pageOf(
            (h.domain, h.size_id, h.number, h.timestamp, h.old_root, h.new_root),
            (size.requests, size.actions, size.accounts, size.fees),
            [q.argument(outcome) for q, outcome in requests],
            actions_calldata(page.actions) if actions is None else actions,
            fees_calldata(page.fees) if fees is None else fees,
            c,
        ).call()

    def arguments(self, requests=(), page: Page | None = None, c: int = 5, **rows):
        """Arguments of a commit that the contract accepts."""
        page = page or self.page(requests, **rows)
        size_id = page.header.size_id
        proof = self.prove(page_words(page, self.sizes[size_id]), size_id, c)
        return self.with_proof(page, requests, proof, c)

    @staticmethod
    def with_proof(page: Page, requests, proof, c: int = 5):
        return commit_arguments(
            page.header.size_id,
            page.header.timestamp,
            page.header.new_root,
            requests,
            actions_calldata(page.actions),
            fees_calldata(page.fees),
            c,
            proof,
        )

    def commit(self, requests=(), **rows):
        """Prove and commit a batch; returns its page and receipt."""
        page = self.page(requests, **rows)
        receipt = self.exchange.send("commit", *self.arguments(requests, page))
        return page, receipt

    def serve(self, outcomes=None):
        """Serve everything that waits, in batches, with outcomes by request id."""
        outcomes = outcomes or {}
        while waiting := self.queue():
            self.commit([(q, outcomes.get(q.id, 0)) for q in waiting[: self.sizes[1].requests]], size_id=1)

    def freeze(self) -> QueuedRequest:
        """Let the oldest request's deadline pass and freeze."""
        if not self.queue():
            self.by("fee_owner").force_exit(0, 1)
        oldest = self.queue()[0]
        self.anvil.increase_time(max(1, oldest.deadline + 1 - self.now()))
        GAS["freeze"] = self.by("mallory").freeze(oldest)["gasUsed"]
        return oldest

    def exit_arguments(self, index: int, owner: str, holdings=(), root: int | None = None):
        """Arguments of an exit that the contract accepts; `holdings` are (token, amount)."""
        padded = [(0, 0)] * (15 - len(holdings)) + sorted(holdings)
        tokens = sum(t << (16 * j) for j, (t, _) in enumerate(padded))
        amounts = [sum(padded[3 * k + i][1] << (64 * i) for i in range(3)) for k in range(5)]
        root = self.exchange.state_root() if root is None else root
        proof = self.exit_key.prove([root, index, int(owner, 16), tokens, *amounts])
        return index, owner, tokens, amounts, proof

    def check_solvent(self) -> None:
        for t in self.exchange.tokens():
            vault = self.exchange.vault(t)
            assert vault >= (t.outstanding + t.claims) * t.quantum, f"token {t.id}: {vault} < {t}"


@pytest.fixture(scope="session")
def anvil():
    with Anvil() as running:
        yield running


@pytest.fixture(scope="session")
def deployed(anvil):
    return World(anvil, [Trapdoor(3, 1), Trapdoor(3, 2)], Trapdoor(9, 3))


@pytest.fixture
def world(deployed):
    """The exchange as deployed; what a test does to it is undone."""
    snapshot = deployed.anvil.snapshot()
    yield deployed
    deployed.anvil.revert(snapshot)


@pytest.fixture
def funded(world):
    """Alice's account, served, with 10,000 gwei and 500 quanta of a token."""
    a = world.open("alice")
    token, erc20 = world.token()
    world.by("alice").deposit(a, 1, 10_000)
    world.by("alice").deposit(a, token, 500)
    world.serve()
    return a, token, erc20


@pytest.fixture
def reverts():
    """``with reverts("Name", field=value):`` - the contract refuses by that very error."""

    class Reverts:
        def __init__(self, name: str, **arguments) -> None:
            self.name, self.arguments = name, arguments

        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            assert error is not None, f"{self.name} was expected, but the call went through"
            if not isinstance(error, ContractRevert):
                return False
            assert error.name == self.name, str(error)
            for field, value in self.arguments.items():
                assert error.args_by_name[field] == value, str(error)
            return True

    return Reverts


@pytest.fixture(scope="session")
def gas():
    return GAS


@pytest.fixture(scope="session")
def tools():
    """Helpers that tests can't import from here."""
    return SimpleNamespace(
        Trapdoor=Trapdoor,
        words_bytes=words_bytes,
        deploy=deploy,
        deploy_contract=deploy_contract,
        Sender=Sender,
        Web3=Web3,
    )


@pytest.fixture(scope="session")
def attack():
    """The modules of the folder ``attack``, which is no package for pytest."""
    if "contract_attack" not in sys.modules:
        package = types.ModuleType("contract_attack")
        package.__path__ = [str(Path(__file__).resolve().parent / "attack")]
        sys.modules["contract_attack"] = package
    names = ("world", "node", "batches", "opening", "life", "driver", "mutants")
    return SimpleNamespace(**{name: importlib.import_module(f"contract_attack.{name}") for name in names})


def pytest_terminal_summary(terminalreporter):
    if GAS:
        terminalreporter.write_sep("-", "gas")
        for name, used in sorted(GAS.items()):
            terminalreporter.write_line(f"{name:<28} {used:>9,}")
