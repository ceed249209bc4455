"""The exchange in plain Python: what every call must do, or by which error it must be refused.

It follows docs/spec.md and docs/protocol.md, keeps its own books and knows nothing of the chain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .world import (
    ACTION_BYTES,
    CANCEL,
    DEPOSIT,
    ETH,
    EXIT,
    FEE_BYTES,
    GWEI,
    KEY,
    OPEN,
    U64,
    UNGUARDED,
    WITHDRAW,
    ZERO,
    AccountModel,
    Balances,
    BatchStatement,
    Behaviour,
    Call,
    ExitStatement,
    Mode,
    Mood,
    R,
    Refused,
    Request,
    Rules,
    TokenModel,
)


@dataclass
class Shared:
    """What a refused call does not undo: the rules, how others behave, which proofs were made."""

    rules: Rules
    deploy_gas: int = 0
    behaviour: dict[str, Behaviour] = field(default_factory=dict)
    erc20s: dict[str, TokenModel] = field(default_factory=dict)
    """Tokens that exist, added to the exchange or not; a state has copies."""
    proofs: dict[tuple[int, ...], BatchStatement | ExitStatement] = field(default_factory=dict)


@dataclass
class State:
    """All that the chain knows, and beside it what the accounts hold under the last proven root."""

    shared: Shared
    root: int
    operator: str
    time: int
    number: int = 0
    last_timestamp: int = 0
    queued: int = 0
    served: int = 0
    last_deadline: int = 0
    frozen: bool = False
    tokens: dict[int, TokenModel] = field(default_factory=dict)
    accounts: list[AccountModel] = field(default_factory=list)
    waiting: dict[int, Request] = field(default_factory=dict)
    claims: dict[tuple[str, int], int] = field(default_factory=dict)
    balances: Balances = field(default_factory=dict)
    inside: bool = False
    """A guarded call runs."""
    answers: dict[str, Refused | None] = field(default_factory=dict)
    """What those who called back during this call were answered."""

    def copy(self) -> State:
        return State(
            self.shared, self.root, self.operator, self.time, self.number, self.last_timestamp, self.queued,
            self.served, self.last_deadline, self.frozen, {k: t.copy() for k, t in self.tokens.items()},
            [AccountModel(a.owner, a.pending, a.exited) for a in self.accounts], dict(self.waiting),
            dict(self.claims), {i: dict(held) for i, held in self.balances.items()}, self.inside, dict(self.answers),
        )  # fmt: skip

    # ------------------------------------------------------------------ any call

    def after(self, call: Call) -> State:
        """Return the state after a call.

        Raises
        ------
        Refused
            If the contract must refuse it.
        """
        new = self.copy()
        new.time, new.answers = call.time, {}
        new.run(call)
        return new

    def run(self, call: Call) -> None:
        """Do a call, whose value has not been paid yet; a state that a refused call has touched is not to be used."""
        if self.inside and call.name not in UNGUARDED:
            raise Refused("ReentrancyGuardReentrantCall")
        was, self.inside = self.inside, self.inside or call.name not in UNGUARDED
        getattr(self, "_" + call.name)(call, *call.args)
        self.inside = was

    def _receive(self, call: Call) -> None:
        raise Refused("PlainTransferRefused")

    def _fallback(self, call: Call) -> None:
        raise Refused("UnknownFunction")

    def _malformed(self, call: Call) -> None:
        """The compiler's own checks: a value where none is taken, arguments too short or out of their type."""
        raise Refused("")

    # ------------------------------------------------------------------ tokens and claims

    def _addToken(self, call: Call, erc20: str, quantum: int) -> None:
        if call.sender != self.shared.rules.owner:
            raise Refused("NotOwner", call.sender)
        if quantum == 0:
            raise Refused("QuantumZero")
        if any(t.address == erc20 for k, t in self.tokens.items() if k != ETH):
            raise Refused("TokenExists", erc20)
        known, rules = self.shared.erc20s.get(erc20), self.shared.rules
        if known is None and erc20 not in rules.contracts and erc20 != rules.address:
            raise Refused("TokenHasNoCode", erc20)
        # What has code and is no token can be added, and never be deposited.
        self.tokens[len(self.tokens) + 1] = token = known.copy() if known else TokenModel(erc20, 0)
        token.quantum = quantum

    def _claim(self, call: Call, token: int) -> None:
        self._pay(call.sender, token)

    def _claimFor(self, call: Call, to: str, token: int) -> None:
        self._pay(to, token)

    def _pay(self, to: str, token: int) -> None:
        amount = self.claims.pop((to, token), 0)
        if amount == 0:
            raise Refused("NothingToClaim", to, token)
        t = self.tokens[token]
        t.claims -= amount
        units = amount * t.quantum
        if token == ETH:
            self._pay_eth(to, units)
        else:
            self._move(t, self.shared.rules.address, to, units)

    def _pay_eth(self, to: str, units: int) -> None:
        mood = self.shared.behaviour.get(to, Behaviour())
        held = self.tokens[ETH].held
        held[self.shared.rules.address] -= units
        held[to] = held.get(to, 0) + units
        if mood.mode in (Mood.REFUSE, Mood.BURN):
            raise Refused("EthTransferFailed", to)
        if mood.mode in (Mood.REENTER, Mood.PASS):
            refused = self._call_back(mood)
            if refused and mood.mode == Mood.PASS:
                raise Refused("EthTransferFailed", to)

    def _call_back(self, told: Behaviour) -> Refused | None:
        """Do a call inside this one; nothing of it stays if it is refused."""
        assert told.inner is not None
        trial = self.copy()
        try:
            trial.run(told.inner)
        except Refused as refused:
            self.answers[told.inner.sender] = refused
            return refused
        self.__dict__.update(trial.__dict__)
        self.answers[told.inner.sender] = None
        return None

    def _move(self, t: TokenModel, sender: str, to: str, units: int) -> None:
        """Let the token move something, in its own way; `SafeERC20` watches."""
        told = self.shared.behaviour.get(t.address, Behaviour())
        mode = Mode(told.mode)
        if mode == Mode.STUCK:
            raise Refused("Stuck")
        if mode == Mode.BURNER:
            raise Refused("")
        if mode in (Mode.REFUSING, Mode.GARBAGE):
            raise Refused("SafeERC20FailedOperation", t.address)
        if mode == Mode.LIAR:
            return
        if mode == Mode.PUFFED:
            t.puff[sender] = max(t.puff.get(sender, 0) - units, 0)
            t.puff[to] = t.puff.get(to, 0) + units
            return
        if mode == Mode.THIEF:
            t.held[to] = max(t.held.get(to, 0) - 1, 0)
            return
        if t.held.get(sender, 0) < units:
            raise Refused("Broke", sender)
        t.held[sender] -= units
        arrives = {Mode.TAXED: units - units // 100, Mode.GENEROUS: units + 1}.get(mode, units)
        t.held[to] = t.held.get(to, 0) + arrives
        if mode in (Mode.REENTERING, Mode.PASSING):
            refused = self._call_back(told)
            if refused and mode == Mode.PASSING:
                raise refused

    def _raise(self, token: int, amount: int) -> None:
        self._check_cap(token, amount)
        self.tokens[token].outstanding += amount

    def _check_cap(self, token: int, amount: int) -> None:
        t = self.tokens[token]
        if t.outstanding + t.claims + amount >= U64:
            raise Refused("TokenCapExceeded", token)

    def _credit(self, to: str, token: int, amount: int) -> None:
        """From what is outstanding to a claim."""
        outstanding = self.tokens[token].outstanding if token in self.tokens else 0
        if amount > outstanding:
            raise Refused("OutstandingExceeded", token, amount)
        if amount:
            self.tokens[token].outstanding -= amount
            self._record(to, token, amount)

    def _record(self, to: str, token: int, amount: int) -> None:
        if amount:
            self.tokens[token].claims += amount
            self.claims[to, token] = self.claims.get((to, token), 0) + amount

    # ------------------------------------------------------------------ requests

    def _live(self) -> None:
        if self.frozen:
            raise Refused("IsFrozen")

    def _owned(self, call: Call, index: int) -> None:
        if index >= len(self.accounts) or self.accounts[index].owner != call.sender:
            raise Refused("NotAccountOwner", index, call.sender)

    def _known(self, token: int) -> None:
        if token not in self.tokens:
            raise Refused("UnknownToken", token)

    @staticmethod
    def _key_fits(x: int, y: int) -> None:
        if x >= R or y >= R:
            raise Refused("KeyOutOfRange")

    def _open(self, call: Call, x: int, y: int) -> None:
        self._live()
        self._key_fits(x, y)
        if len(self.accounts) == self.shared.rules.tree_size:
            raise Refused("TreeFull")
        self.accounts.append(AccountModel(call.sender))
        request = Request(OPEN, len(self.accounts) - 1, owner=call.sender, pub_x=x, pub_y=y)
        self._enqueue(call, request, 0)

    def _deposit(self, call: Call, index: int, token: int, amount: int) -> None:
        self._live()
        self._owned(call, index)
        self._known(token)
        if amount == 0:
            raise Refused("AmountZero")
        if token != ETH:
            self._take(call.sender, self.tokens[token], amount)
        self._raise(token, amount)
        self._enqueue(call, Request(DEPOSIT, index, token, amount), amount if token == ETH else 0)

    def _take(self, sender: str, t: TokenModel, amount: int) -> None:
        vault, expected = self.shared.rules.address, amount * t.quantum
        if t.address not in self.shared.erc20s:
            raise Refused("UnknownFunction" if t.address == vault else "")
        before = t.shown(vault)
        self._move(t, sender, vault, expected)
        received = max(t.shown(vault) - before, 0)
        if received != expected:
            raise Refused("ReceivedMismatch", expected, received)

    def _changeKey(self, call: Call, index: int, x: int, y: int) -> None:
        self._live()
        self._owned(call, index)
        self._key_fits(x, y)
        if self.accounts[index].pending:
            raise Refused("KeyRequestPending", index)
        self.accounts[index].pending = True
        self._enqueue(call, Request(KEY, index, pub_x=x, pub_y=y), 0)

    def _forceExit(self, call: Call, index: int, token: int) -> None:
        self._live()
        self._owned(call, index)
        self._known(token)
        self._enqueue(call, Request(EXIT, index, token), 0)

    def request_fee(self, kind: int) -> int:
        rules = self.shared.rules
        cap = rules.exit_fee_cap if kind == EXIT else rules.fee_cap
        return min(rules.base_fee + rules.fee_step * (self.queued - self.served), cap)

    def _enqueue(self, call: Call, q: Request, eth: int) -> None:
        fee, rules = self.request_fee(q.kind), self.shared.rules
        if call.value % GWEI:
            raise Refused("NotWholeGwei", call.value)
        paid = call.value // GWEI
        if paid < fee + eth:
            raise Refused("ValueTooLow", fee + eth, paid)
        if paid >= U64:
            raise Refused("TokenCapExceeded", ETH)
        self._raise(ETH, fee)
        self._check_cap(ETH, paid - fee - eth)
        self._record(call.sender, ETH, paid - fee - eth)
        held = self.tokens[ETH].held
        held[rules.address] += call.value
        held[call.sender] = held.get(call.sender, 0) - call.value
        self.last_deadline = max(self.time + rules.window, self.last_deadline + rules.spacing)
        fields = (q.kind, q.account, q.token, q.amount, q.owner, q.pub_x, q.pub_y, fee, self.last_deadline)
        self.waiting[self.queued] = Request(*fields)
        self.queued += 1

    def _consume(self, id: int, argument: tuple[Any, ...]) -> Request:
        request = Request.of(argument)
        if self.waiting.get(id) != request:
            raise Refused("RequestMismatch", id)
        del self.waiting[id]
        return request

    # ------------------------------------------------------------------ batches

    def _rotateOperator(self, call: Call, to: str) -> None:
        if call.sender != self.operator:
            raise Refused("NotOperator", call.sender)
        if to == ZERO:
            raise Refused("ZeroAddress")
        self.operator = to

    def _uncanonical(self, call: Call) -> None:
        """A commit in another encoding than the plain one."""
        self._live()
        self._by_operator(call)
        raise Refused("CalldataNotCanonical")

    def _by_operator(self, call: Call) -> None:
        if call.sender != self.operator:
            raise Refused("NotOperator", call.sender)
        if call.sender in self.shared.rules.contracts:
            raise Refused("OperatorNotPlainAccount", call.sender)

    def _commit(
        self, call: Call, size_id: int, timestamp: int, root: int, requests: Any, actions: bytes, fees: bytes,
        c: int, proof: Any,
    ) -> None:  # fmt: skip
        self._live()
        self._by_operator(call)
        self._timely(timestamp)
        if root >= R:
            raise Refused("RootOutOfRange", root)
        if c >= R:
            raise Refused("CommitmentOutOfRange", c)
        self._fit(size_id, len(requests), len(actions), len(fees))
        words = self.words(size_id, timestamp, root, requests, actions, fees)
        self._serve(requests)
        said = self.shared.proofs.get(tuple(proof))
        if not isinstance(said, BatchStatement) or (said.size_id, said.c, said.words) != (size_id, c, words):
            raise Refused("InvalidProof")
        self._withdraw(actions)
        self.number, self.root, self.last_timestamp = self.number + 1, root, timestamp
        self.balances = {i: dict(held) for i, held in said.after.items()}

    def _timely(self, timestamp: int) -> None:
        if timestamp < self.last_timestamp:
            raise Refused("TimestampBeforePrevious", self.last_timestamp, timestamp)
        if timestamp > self.time:
            raise Refused("TimestampInFuture", self.time, timestamp)
        if timestamp + self.shared.rules.max_lag < self.time:
            raise Refused("TimestampTooOld", self.time, timestamp)

    def _fit(self, size_id: int, requests: int, action_bytes: int, fee_bytes: int) -> None:
        if size_id >= len(self.shared.rules.sizes):
            raise Refused("UnknownSize", size_id)
        size = self.shared.rules.sizes[size_id]
        for length, row in ((action_bytes, ACTION_BYTES), (fee_bytes, FEE_BYTES)):
            if length % row:
                raise Refused("RaggedRows", length)
        given = (requests, action_bytes // ACTION_BYTES, fee_bytes // FEE_BYTES)
        limits = (size[0], size[1], size[3])
        for name, count, limit in zip(("TooManyRequests", "TooManyActions", "TooManyFees"), given, limits, strict=True):
            if count > limit:
                raise Refused(name, count, limit)

    def words(
        self, size_id: int, timestamp: int, root: int, requests: Any, actions: bytes, fees: bytes,
        number: int = 0, old_root: int | None = None, domain: int | None = None, fee_account: int = 0,
    ) -> tuple[int, ...]:  # fmt: skip
        """The words D; number, old root and domain are the contract's own, unless a liar says others."""
        rows, acts, _, n_fees = self.shared.rules.sizes[size_id]
        counts = (len(requests), len(actions) // ACTION_BYTES, len(fees) // FEE_BYTES)
        header = size_id | (number or self.number + 1) << 16 | timestamp << 80 | fee_account << 112
        header |= counts[0] << 136 | counts[1] << 152 | counts[2] << 168
        d = [
            self.shared.rules.domain if domain is None else domain,
            header,
            self.root if old_root is None else old_root,
        ]
        d.append(root)
        for kind, account, token, amount, outcome, owner, x, y, _, _ in requests:
            packed = kind | account << 4 | token << 28 | amount << 44 | outcome << 108
            d += [packed, int(owner, 16), x, y]
        d += [0] * (4 + 4 * rows - len(d))
        for k in range(counts[1]):
            row = actions[ACTION_BYTES * k :][:ACTION_BYTES]
            d += [int.from_bytes(row[:16], "big"), int.from_bytes(row[16:], "big")]
        d += [0] * (4 + 4 * rows + 2 * acts - len(d))
        d += [int.from_bytes(fees[FEE_BYTES * k :][:FEE_BYTES], "big") for k in range(counts[2])]
        return (*d, *[0] * (4 + 4 * rows + 2 * acts + n_fees - len(d)))

    def _serve(self, requests: Any) -> None:
        fees = 0
        for argument in requests:
            id, outcome = self.served, argument[4]
            q = self._consume(id, argument)
            self.served += 1
            fees += q.fee
            owner = self.accounts[q.account].owner
            if q.kind == EXIT:
                self._credit(owner, q.token, outcome)
            elif outcome > (q.kind == DEPOSIT):
                raise Refused("BadOutcome", id, outcome)
            elif q.kind == DEPOSIT:
                self._credit(owner, q.token, q.amount * outcome)
            else:
                self.accounts[q.account].pending = False
        if fees:
            self._credit(self.operator, ETH, fees)

    def _withdraw(self, actions: bytes) -> None:
        for k in range(len(actions) // ACTION_BYTES):
            row = actions[ACTION_BYTES * k :][:ACTION_BYTES]
            a0, a1 = int.from_bytes(row[:16], "big"), int.from_bytes(row[16:], "big")
            kind, account, token, amount = a0 % 16, (a0 >> 5) % 2**24, (a0 >> 93) % 2**16, a1 % U64
            if not 0 < kind <= CANCEL:
                raise Refused("UnknownActionType", k, kind)
            if kind == WITHDRAW:
                if account >= len(self.accounts):
                    raise Refused("UnknownAccount", account)
                self._credit(self.accounts[account].owner, token, amount)

    # ------------------------------------------------------------------ escape

    def _freeze(self, call: Call, oldest: tuple[Any, ...]) -> None:
        self._live()
        if self.served == self.queued:
            raise Refused("NothingQueued")
        request = Request.of(oldest)
        if self.waiting[self.served] != request:
            raise Refused("RequestMismatch", self.served)
        if self.time <= request.deadline:
            raise Refused("DeadlineNotPassed", request.deadline)
        self.frozen = True

    def _exit(self, call: Call, index: int, owner: str, tokens: int, amounts: Any, proof: Any) -> None:
        if not self.frozen:
            raise Refused("NotFrozen")
        if index >= self.shared.rules.tree_size:
            raise Refused("IndexBeyondTree", index)
        account = self.accounts[index] if index < len(self.accounts) else AccountModel(ZERO, False)
        if account.exited:
            raise Refused("AlreadyExited", index)
        if owner == ZERO or owner != account.owner:
            raise Refused("NotAccountOwner", index, owner)
        if tokens >= 2**240 or any(a >= 2**192 for a in amounts):
            raise Refused("PositionsOutOfRange")
        said = self.shared.proofs.get(tuple(proof))
        inputs = (self.root, index, int(owner, 16), tokens, *amounts)
        if not isinstance(said, ExitStatement) or said.inputs != inputs:
            raise Refused("InvalidProof")
        account.exited = True
        for j in range(15):
            self._credit(owner, (tokens >> 16 * j) % 2**16, (amounts[j // 3] >> 64 * (j % 3)) % U64)

    def _reclaim(self, call: Call, id: int, argument: tuple[Any, ...]) -> None:
        if not self.frozen:
            raise Refused("NotFrozen")
        q = self._consume(id, argument)
        owner = self.accounts[q.account].owner
        if q.kind == DEPOSIT:
            self._credit(owner, q.token, q.amount)
        self._credit(owner, ETH, q.fee)
