"""How an exchange begins: who is there, what its deployment fixes, and which tokens there are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from proofbook.chain.compile import Artifact, contract_artifact
from proofbook.protocol.messages import domain_of
from proofbook.protocol.table import MINIMAL, SIZES, Preset, Size

from .checks import look
from .model import Shared, State
from .node import RICH, Codec, Node
from .prover import BATCH_INPUTS, EXIT_INPUTS, Prover
from .world import ETH, GWEI, OPEN, ZERO, AccountModel, Behaviour, Mode, Request, Rules, TokenModel

QUANTA: Final = (1, 10**6, 10**18, 2**128 - 1)
MINTED: Final = 2**200
TOKENS: Final = 6
GOOD: Final = 2


@dataclass
class Cast:
    """Everybody; addresses in lower case."""

    people: list[str]
    owner: str
    fee_owner: str
    mallory: str
    operators: list[str]
    contracts: list[str] = field(default_factory=list)
    bad_tokens: list[str] = field(default_factory=list)
    good_tokens: list[str] = field(default_factory=list)

    @property
    def givable(self) -> list[str]:
        """ETH and what is a token."""
        return [ZERO, *self.good_tokens, *self.bad_tokens]


def make_cast(seed: int) -> Cast:
    """Fourteen people of their own for every life; two accomplices come later."""
    rand = random.Random(f"cast {seed}")
    people = ["0x" + rand.randbytes(20).hex() for _ in range(14)]
    return Cast(people, people[0], people[1], people[2], people[3:5])


@dataclass(frozen=True)
class Choice:
    """What a deployment fixes.

    Attributes
    ----------
    times : (int, int, int)
        Request window and spacing, and the largest lag of a batch, in seconds.
    fees : (int, int, int, int)
        Base, step, cap and cap of a forced exit, in gwei.
    key : (int, int)
        Of the fee account.
    quanta : tuple of int
        Of the tokens.
    """

    times: tuple[int, int, int]
    fees: tuple[int, int, int, int]
    key: tuple[int, int]
    quanta: tuple[int, ...]
    preset: Preset = MINIMAL
    sizes: tuple[Size, ...] = SIZES["minimal"]


def choose(rand: random.Random) -> Choice:
    base = rand.choice((0, 1000, 10**6))
    return Choice(
        times=(rand.choice((600, 3600, 86400)), rand.choice((1, 10, 120)), rand.choice((60, 600))),
        fees=(base, rand.choice((0, 100)), base + rand.choice((0, 4000)), base + 500),
        key=(rand.randrange(2**250), rand.randrange(2**250)),
        quanta=(*QUANTA[:GOOD], *(rand.choice(QUANTA) for _ in range(TOKENS - GOOD))),
    )


class Stage:
    """A node with what all lives share: keys, helpers, code."""

    def __init__(self, node: Node, exchange: Artifact | None = None) -> None:
        self.node = node
        self.exchange = exchange or contract_artifact("Proofbook")
        self.provers = [Prover(BATCH_INPUTS, k + 1) for k in range(max(map(len, SIZES.values())))]
        self.exits = Prover(EXIT_INPUTS, 99)
        names = ("AttackToken", "Accomplice", "Probe", "Donor")
        artifacts = {n: contract_artifact(n) for n in names}
        self.codec = Codec(self.exchange)
        self.codec.errors |= Codec(artifacts["AttackToken"]).errors
        self.token, self.accomplice, self.probing = (Codec(artifacts[n]) for n in names[:3])
        self.probe = node.deploy("Probe")


def open_exchange(stage: Stage, choice: Choice, cast: Cast) -> State:
    """Deploy an exchange with its tokens; `cast` learns of contracts and tokens."""
    node = stage.node
    cast.contracts = [node.deploy("Accomplice") for _ in range(2)]
    cast.people += cast.contracts
    for who in cast.people:
        node.rpc("anvil_setBalance", who, hex(RICH))
    address = node.deploy(stage.exchange, _config(stage, choice, cast))
    now, sizes = node.now(), _rows(choice.sizes)
    rules = Rules(
        address, domain_of(node.chain_id, address), cast.owner, cast.fee_owner, 8**choice.preset.account_depth,
        *choice.times, *choice.fees, sizes, frozenset(cast.contracts),
    )  # fmt: skip
    state = State(Shared(rules, node.last_gas), look(stage, address)[0][0], cast.operators[0], now)
    state.accounts.append(AccountModel(cast.fee_owner))
    x, y = choice.key
    deadline = now + rules.window
    state.waiting[0] = Request(OPEN, 0, owner=cast.fee_owner, pub_x=x, pub_y=y, deadline=deadline)
    state.queued, state.last_deadline = 1, deadline
    state.tokens[ETH] = TokenModel(ZERO, GWEI)
    _make_tokens(stage, choice, cast, state)
    balances = {who: int(node.rpc("eth_getBalance", who, "latest"), 16) for who in cast.people}
    state.tokens[ETH].held = balances | {address: 0}
    state.time = node.now()
    return state


def _rows(sizes: Sequence[Size]) -> tuple[tuple[int, int, int, int], ...]:
    return tuple((s.requests, s.actions, s.accounts, s.fees) for s in sizes)


def _config(stage: Stage, choice: Choice, cast: Cast) -> tuple[object, ...]:
    preset, keys = choice.preset, [p.key for p in stage.provers]
    return (
        preset.account_depth, preset.order_depth, cast.fee_owner, *choice.key, cast.operators[0], cast.owner,
        *choice.times, *choice.fees, list(zip(_rows(choice.sizes), keys, strict=False)),
        stage.exits.key, b"\1" * 32, b"\2" * 32,
    )  # fmt: skip


def _make_tokens(stage: Stage, choice: Choice, cast: Cast, state: State) -> None:
    """Two good tokens and four bad ones; all but the last are added at once."""
    node, codec, vault = stage.node, stage.token, state.shared.rules.address
    for k, quantum in enumerate(choice.quanta):
        made, mode = node.deploy("AttackToken"), Mode.SILENT if k == 1 else Mode.PLAIN
        (cast.good_tokens if k < GOOD else cast.bad_tokens).append(made)
        _send(node, cast.mallory, made, codec.call("mint", cast.people, MINTED))
        _send(node, cast.mallory, made, codec.call("set", int(mode), ZERO, b""))
        state.shared.behaviour[made] = Behaviour(mode)
        token = TokenModel(made, quantum, held=dict.fromkeys(cast.people, MINTED) | {vault: 0})
        state.shared.erc20s[made] = token
        if k + 1 < len(choice.quanta):
            _send(node, cast.owner, vault, stage.codec.call("addToken", made, quantum))
            state.tokens[len(state.tokens) + 1] = token.copy()


def _send(node: Node, sender: str, to: str, data: bytes) -> None:
    receipt = node.send(sender, to, data)
    assert receipt["status"] == "0x1", "setting up failed"
