"""One exchange from its deployment to its end: every call compared with the model, every state with its invariants."""

from __future__ import annotations

import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from proofbook.chain.compile import Artifact, contract_artifact
from proofbook.protocol.messages import domain_of
from proofbook.protocol.table import MINIMAL, SIZES

from .batches import Batches
from .checks import Entitlements, Violation, check_freezable, check_state, look
from .model import Shared, State
from .moves import Moves
from .node import RICH, Codec, Node, NodeError
from .prover import BATCH_INPUTS, EXIT_INPUTS, Prover
from .world import (
    ETH,
    EXIT,
    GWEI,
    OPEN,
    ZERO,
    AccountModel,
    Behaviour,
    Call,
    Mode,
    Refused,
    Request,
    Rules,
    TokenModel,
)

FULL_LOOK: Final = 8
"""Every so many accepted calls everything is compared; the money after each."""
SENT: Final = 10
"""About every so many refused calls one is mined as well."""


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


@dataclass
class Tally:
    """What was driven."""

    calls: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    called_back: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    frozen: int = 0
    exits: int = 0
    tokens: int = 0

    def add(self, other: Tally) -> None:
        for name in ("calls", "lives", "frozen", "exits", "tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("accepted", "refused", "called_back"):
            getattr(self, name).update(getattr(other, name))


class Stage:
    """A node with what all lives share: keys, helpers, code."""

    def __init__(self, node: Node, exchange: Artifact | None = None) -> None:
        self.node = node
        self.exchange = exchange or contract_artifact("Proofbook")
        self.provers = [Prover(BATCH_INPUTS, k + 1) for k in range(len(SIZES["minimal"]))]
        self.exits = Prover(EXIT_INPUTS, 99)
        names = ("AttackToken", "Accomplice", "Probe", "Donor")
        artifacts = {n: contract_artifact(n) for n in names}
        self.codec = Codec(self.exchange)
        self.codec.errors |= Codec(artifacts["AttackToken"]).errors
        self.token, self.accomplice, self.probing = (Codec(artifacts[n]) for n in names[:3])
        self.probe = node.deploy("Probe")


class Life:
    """A deployed exchange, its model, and the calls so far; `seed` decides everything."""

    def __init__(self, stage: Stage, seed: int, unsound: bool = False) -> None:
        self.stage, self.node, self.seed, self.unsound = stage, stage.node, seed, unsound
        self.random = random.Random(seed)
        self.tally, self.log = Tally(), list[Call]()
        self.looked = 0
        self.donated: dict[int, int] = defaultdict(int)
        self.entitled: Entitlements | None = None
        self.wei_spent: dict[str, int] = defaultdict(int)
        self.cast = _cast(seed)
        self.address = self._deploy()
        self.batches = Batches(self.node.chain_id, stage.provers, stage.exits, self.random)
        self.moves = Moves(self.cast, stage.codec, self.batches, self.random, unsound)
        self.look(full=True)
        self.start = (self.state, dict(self.state.shared.behaviour), dict(self.wei_spent))
        self.snapshot = self.node.snapshot()

    # ------------------------------------------------------------------ setting up

    def _deploy(self) -> str:
        rand, node, cast = self.random, self.node, self.cast
        cast.contracts = [node.deploy("Accomplice") for _ in range(2)]
        cast.people += cast.contracts
        for who in cast.people:
            node.rpc("anvil_setBalance", who, hex(RICH))
        base_fee = rand.choice((0, 1000, 10**6))
        fees = (base_fee, rand.choice((0, 100)), base_fee + rand.choice((0, 4000)), base_fee + 500)
        times = (rand.choice((600, 3600, 86400)), rand.choice((1, 10, 120)), rand.choice((60, 600)))
        sizes = SIZES["minimal"]
        stage, key = self.stage, (rand.randrange(2**250), rand.randrange(2**250))
        config = (
            MINIMAL.account_depth, MINIMAL.order_depth, cast.fee_owner, *key, cast.operators[0], cast.owner,
            *times, *fees,
            [((s.requests, s.actions, s.accounts, s.fees), p.key) for s, p in zip(sizes, stage.provers, strict=True)],
            stage.exits.key, b"\1" * 32, b"\2" * 32,
        )  # fmt: skip
        address = node.deploy(stage.exchange, config)
        now = node.now()
        rules = Rules(
            address, domain_of(node.chain_id, address), cast.owner, cast.fee_owner, 8**MINIMAL.account_depth,
            *times, *fees, tuple((s.requests, s.actions, s.accounts, s.fees) for s in sizes), frozenset(cast.contracts),
        )  # fmt: skip
        root = look(stage, address)[0][0]
        self.state = State(Shared(rules), root, cast.operators[0], now)
        eth = TokenModel(ZERO, GWEI, held=dict.fromkeys(cast.people, RICH) | {address: 0})
        self.state.tokens[ETH] = eth
        self.state.accounts.append(AccountModel(cast.fee_owner))
        deadline = now + times[0]
        self.state.waiting[0] = Request(OPEN, 0, owner=cast.fee_owner, pub_x=key[0], pub_y=key[1], deadline=deadline)
        self.state.queued, self.state.last_deadline = 1, deadline
        self._make_tokens(address)
        return address

    def _make_tokens(self, address: str) -> None:
        """Two good tokens and four bad ones; all but the last are added at once."""
        quanta = [1, 10**6, 10**18, 2**128 - 1]
        for k in range(6):
            made = self.node.deploy("AttackToken")
            mode = Mode.SILENT if k == 1 else Mode.PLAIN
            (self.cast.good_tokens if k < 2 else self.cast.bad_tokens).append(made)
            codec, people = self.stage.token, self.cast.people
            self._helper(self.cast.mallory, made, codec.call("mint", people, 2**200))
            self._helper(self.cast.mallory, made, codec.call("set", int(mode), ZERO, b""))
            self.state.shared.behaviour[made] = Behaviour(mode)
            token = TokenModel(made, 0, held=dict.fromkeys(people, 2**200) | {address: 0})
            self.state.shared.erc20s[made] = token
            if k == 5:
                continue
            token.quantum = quanta[k % 2] if k < 2 else self.random.choice(quanta)
            data = self.stage.codec.call("addToken", made, token.quantum)
            self._helper(self.cast.owner, address, data)
            self.state.tokens[len(self.state.tokens) + 1] = token.copy()
        self.tally.tokens += 6
        self.state.time = self.node.now()

    def _helper(self, sender: str, to: str | None, data: bytes, value: int = 0, time: int | None = None) -> None:
        receipt = self.node.send(sender, to, data, value, time)
        if receipt["status"] != "0x1":
            raise AssertionError(f"a helper's call failed: {receipt}")
        self._pay_gas(self.state, sender, receipt)

    def _pay_gas(self, state: State, sender: str, receipt: dict[str, Any]) -> None:
        paid = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        state.tokens[ETH].held[sender] -= paid
        self.wei_spent[sender] += paid

    # ------------------------------------------------------------------ living

    def live(self, steps: int) -> None:
        """So many random calls, a third of them after the freeze; then the end.

        Raises
        ------
        Violation
            If the contract does anything that it must not.
        """
        for k in range(steps):
            if k == 2 * steps // 3 and not self.state.frozen:
                self._freeze()
            self.step()
        self.end()

    def step(self) -> None:
        """Let time pass and somebody call something."""
        rand, window = self.random, self.state.shared.rules.window
        passes = rand.choice((1, 1, 1, 1, 1, 2, 5, rand.randrange(1, 60), max(1, window // rand.randrange(4, 40))))
        now = self.state.time + passes
        self.do(self.moves.next(self.state, now))

    def do(self, call: Call) -> None:
        """Do a call on the chain and in the model.

        Raises
        ------
        Violation
            If they differ.
        """
        if call.time <= self.state.time:  # in a replay, where other calls took the time
            call = call.at(self.state.time + 1)
        self.log.append(call)
        if call.name.startswith("!"):
            self._beside(call)
            return
        self.tally.calls += 1
        try:
            after = self.state.after(call)
        except Refused as refused:
            self._expect_refusal(call, refused)
            return
        receipt = self.node.send(*self._message(call), call.time)
        if receipt["status"] != "0x1":
            raise self._violation(call, f"refused by {self._reason(call)}, must be accepted")
        self._accepted(call, after, receipt)

    def _message(self, call: Call) -> tuple[str, str, bytes, int]:
        """Sender, receiver, data and value; an accomplice is told by Mallory to call."""
        data = call.data or (b"" if call.name == "receive" else self.stage.codec.call(call.name, *call.args))
        if call.sender not in self.cast.contracts:
            return call.sender, self.address, data, call.value
        return self.cast.mallory, call.sender, self.stage.accomplice.call("run", self.address, data), call.value

    def _accepted(self, call: Call, after: State, receipt: dict[str, Any]) -> None:
        sender, held = self._message(call)[0], after.tokens[ETH].held
        if sender != call.sender:
            held[sender] -= call.value
            held[call.sender] += call.value
        self._pay_gas(after, sender, receipt)
        frozen, self.state = self.state.frozen, after
        self.tally.accepted[call.name] += 1
        self.tally.exits += call.name == "exit"
        self.looked += 1
        if after.frozen and not frozen:
            self.tally.frozen += 1
            self.entitled = Entitlements.of(after, dict(self.wei_spent))
        self.look(full=self.looked % FULL_LOOK == 0)
        self._check_answers(after)
        if self.looked % 4 == 0:
            self._checked(lambda: check_freezable(self))

    def _check_answers(self, after: State) -> None:
        """Whoever called back while it was paid or asked for money was answered as the model says."""
        for who, refused in after.answers.items():
            codec = self.stage.accomplice if who in self.cast.contracts else self.stage.token
            seen = codec.answer("seen", self.node.call(who, who, codec.call("seen")))[0]
            expected = b"" if refused is None else self.stage.codec.error(refused.name, *refused.arguments)
            if refused is not None and seen != expected:
                found = self.stage.codec.error_text(seen)
                raise self._violation(self.log[-1], f"called back, answered {found}, must be {refused.args}")
            self.tally.called_back[refused.name if refused else "(accepted)"] += 1

    def _expect_refusal(self, call: Call, refused: Refused) -> None:
        expected = self.stage.codec.error(refused.name, *refused.arguments)
        try:
            self.node.call(*self._message(call), call.time)
        except NodeError as error:
            if error.data != expected:
                found = self.stage.codec.error_text(error.data)
                raise self._violation(call, f"refused by {found}, must be by {refused.args}") from None
        else:
            raise self._violation(call, f"accepted, must be refused by {refused.args}")
        self.tally.refused[refused.name or "(without data)"] += 1
        if zlib.crc32(repr(call.args).encode()) % SENT == 0:  # the same in a replay
            receipt = self.node.send(*self._message(call), call.time)
            if receipt["status"] != "0x0":
                raise self._violation(call, "refused when called, accepted when mined")
            self.state = self.state.copy()
            self.state.time = call.time
            self._pay_gas(self.state, self._message(call)[0], receipt)
            self.look()

    def _reason(self, call: Call) -> str:
        try:
            self.node.call(*self._message(call), call.time)
        except NodeError as error:
            return self.stage.codec.error_text(error.data)
        return "nothing when called again"

    def _beside(self, call: Call) -> None:
        """What happens beside the exchange: somebody changes behaviour, or gives it something."""
        self.state = self.state.copy()
        self.state.time = call.time
        if call.name == "!told":
            who, mode, inner = call.args
            codec = self.stage.accomplice if who in self.cast.contracts else self.stage.token
            data = b"" if inner is None else self._inner_data(inner)
            target = ZERO if inner is None else self.address
            self._helper(call.sender, who, codec.call("set", mode, target, data), time=call.time)
            self.state.shared.behaviour[who] = Behaviour(mode, inner)
            return
        token, amount = call.args
        if token == ETH:
            init = contract_artifact("Donor").bytecode + bytes(12) + bytes.fromhex(self.address[2:])
            self._helper(call.sender, None, init, amount, call.time)
        else:
            data = self.stage.token.call("mint", [self.address], amount)
            self._helper(call.sender, self.state.tokens[token].address, data, time=call.time)
        held = self.state.tokens[token].held
        held[self.address] = held.get(self.address, 0) + amount
        held[call.sender] -= amount if token == ETH else 0
        self.donated[token] += amount
        self.wei_spent[call.sender] += amount if token == ETH else 0

    def _inner_data(self, inner: Call) -> bytes:
        if inner.name in ("receive", "fallback"):
            return inner.data
        return self.stage.codec.call(inner.name, *inner.args)

    def look(self, full: bool = False) -> None:
        """Compare the chain with the model, and both with the invariants."""
        self._checked(lambda: check_state(self, full))

    def _checked(self, check: Callable[[], None]) -> None:
        try:
            check()
        except Violation as violation:
            last = self.log[-1] if self.log else None
            raise Violation(f"seed {self.seed}, after call {len(self.log)}: {last}: {violation}") from None

    def _violation(self, call: Call, what: str) -> Violation:
        return Violation(f"seed {self.seed}, call {len(self.log)}: {call} {what}")

    def replay(self, calls: list[Call]) -> Violation | None:
        """Start again, do these calls and no others, and return what went wrong."""
        self.node.back_to(self.snapshot)
        self.snapshot = self.node.snapshot()
        self.state = self.start[0].copy()
        self.state.shared.behaviour = dict(self.start[1])
        self.wei_spent = defaultdict(int, self.start[2])
        self.donated, self.entitled, self.log, self.tally = defaultdict(int), None, [], Tally()
        try:
            for call in calls:
                self.do(call)
            self.look(full=True)
        except Violation as violation:
            return violation
        return None

    # ------------------------------------------------------------------ the end

    def end(self) -> None:
        """Freeze if nobody did, let everybody leave in any order, each twice, and compare with what was owed.

        Raises
        ------
        Violation
            If anybody got less or more than the last proven root, the queue and the claims give.
        """
        if not self.state.frozen:
            self._freeze()
        calls = self._leaving()
        self.random.shuffle(calls)
        for make in [*calls, *self.random.sample(calls, len(calls) // 3)]:
            self._now(make())
        self._pay_out()
        self.look(full=True)
        if not self.unsound:
            assert self.entitled is not None
            entitled = self.entitled
            self._checked(lambda: entitled.check(self))
        self.tally.lives += 1

    def _now(self, call: Call) -> None:
        self.do(call.at(self.state.time + 1))

    def _freeze(self) -> None:
        state = self.state
        if state.served == state.queued:
            fee = state.request_fee(EXIT) * GWEI
            self._now(Call(self.cast.fee_owner, "forceExit", (0, ETH), fee))
        oldest = self.state.waiting[self.state.served]
        late = max(oldest.deadline, self.state.time) + 1
        self.do(Call(self.cast.mallory, "freeze", (oldest.argument(),), time=late))
        if not self.state.frozen:
            raise self._violation(self.log[-1], "a late request does not freeze")

    def _leaving(self) -> list[Callable[[], Call]]:
        """Exits and reclaims, to be made when their turn comes."""
        state, mallory = self.state, self.cast.mallory
        calls: list[Callable[[], Call]] = []
        for id, q in state.waiting.items():
            calls.append(lambda id=id, q=q: Call(mallory, "reclaim", (id, q.argument())))  # type: ignore[misc]
        for index in state.balances:
            made = self.moves.exit_at(state, index)
            calls.append(lambda made=made: Call(mallory, "exit", made))  # type: ignore[misc]
        return calls

    def _pay_out(self) -> None:
        """Everybody who misbehaves stops it, and all claims are paid, and not twice."""
        for who in (*self.cast.contracts, *self.cast.bad_tokens):
            self._now(Call(self.cast.mallory, "!told", (who, 0, None)))
        claims = [*self.state.claims]
        self.random.shuffle(claims)
        for to, token in claims:
            call = Call(self.cast.mallory, "claimFor", (to, token))
            self._now(call)
            self._now(call)


def _cast(seed: int) -> Cast:
    """Twelve people of their own for every life."""
    rand = random.Random(f"cast {seed}")
    people = ["0x" + rand.randbytes(20).hex() for _ in range(14)]
    return Cast(people, people[0], people[1], people[2], people[3:5])
