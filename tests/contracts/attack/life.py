"""One exchange from its deployment to its end: every call compared with the model, every state with its invariants."""

from __future__ import annotations

import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from proofbook.chain.compile import contract_artifact

from .batches import Batches
from .checks import Entitlements, Violation, check_freezable, check_state
from .model import State
from .moves import Moves
from .node import NodeError
from .opening import TOKENS, Choice, Stage, choose, make_cast, open_exchange
from .world import ETH, EXIT, GWEI, ZERO, Behaviour, Call, Refused

FULL_LOOK: Final = 8
"""Every so many accepted calls everything is compared; the money after each."""
SENT: Final = 10
"""About every so many refused calls one is mined as well."""


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


class Life:
    """A deployed exchange, its model, and the calls so far; `seed` decides everything."""

    def __init__(self, stage: Stage, seed: int, unsound: bool = False, choice: Choice | None = None) -> None:
        self.stage, self.node, self.seed, self.unsound = stage, stage.node, seed, unsound
        self.random = random.Random(seed)
        for prover in (*stage.provers, stage.exits):
            prover.random.seed(f"proofs {seed}")
        self.tally, self.log = Tally(), list[Call]()
        self.looked = 0
        self.donated: dict[int, int] = defaultdict(int)
        self.entitled: Entitlements | None = None
        self.wei_spent: dict[str, int] = defaultdict(int)
        self.cast = make_cast(seed)
        self.state = open_exchange(stage, choice or choose(self.random), self.cast)
        self.address = self.state.shared.rules.address
        self.tally.tokens = TOKENS
        self.last_gas = 0
        self.batches = Batches(self.node.chain_id, stage.provers, stage.exits, self.random)
        self.moves = Moves(self.cast, stage.codec, self.batches, self.random, unsound)
        self.look(full=True)
        self.start = (self.state, dict(self.state.shared.behaviour))
        self.snapshot = self.node.snapshot()

    # ------------------------------------------------------------------ living

    def _helper(self, sender: str, to: str | None, data: bytes, value: int = 0, time: int | None = None) -> None:
        receipt = self.node.send(sender, to, data, value, time)
        if receipt["status"] != "0x1":
            raise AssertionError(f"a helper's call failed: {receipt}")
        self._pay_gas(self.state, sender, receipt)

    def _pay_gas(self, state: State, sender: str, receipt: dict[str, Any]) -> None:
        paid = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        state.tokens[ETH].held[sender] -= paid
        self.wei_spent[sender] += paid

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
        self.last_gas = int(receipt["gasUsed"], 16)
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
        self.wei_spent = defaultdict(int)
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
        """All claims are paid, each tried twice; who misbehaves holds up nobody else, and stops it in the end."""
        self._try_claims()
        stuck = {(to, k) for to, k in self.state.claims if self._is_honest(k) and (to, k) not in self._own_fault()}
        if stuck:
            raise self._violation(self.log[-1], f"others' behaviour holds up the claims {sorted(stuck)}")
        for who in (*self.cast.contracts, *self.cast.bad_tokens):
            self._now(Call(self.cast.mallory, "!told", (who, 0, None)))
        self._try_claims()

    def _try_claims(self) -> None:
        claims = [*self.state.claims]
        self.random.shuffle(claims)
        for to, token in claims:
            call = Call(self.cast.mallory, "claimFor", (to, token))
            self._now(call)
            self._now(call)

    def _is_honest(self, token: int) -> bool:
        return token == ETH or self.state.tokens[token].address in self.cast.good_tokens

    def _own_fault(self) -> set[tuple[str, int]]:
        """Claims of accomplices, who may refuse to be paid in ETH."""
        return {(who, ETH) for who in self.cast.contracts}
