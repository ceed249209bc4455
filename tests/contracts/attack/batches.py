"""Batches and exits, true and false: what an operator, honest or not, puts before the contract."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .model import State
from .prover import Prover
from .world import (
    ACTION_BYTES,
    DEPOSIT,
    EXIT,
    FEE_BYTES,
    OPEN,
    U64,
    WITHDRAW,
    Balances,
    BatchStatement,
    ExitStatement,
    R,
)

TRANSFER, ORDER, CANCEL = 3, 1, 4


def action_row(kind: int, account: int, id: int, token: int, amount: int) -> bytes:
    a0 = kind | account << 5 | id << 29 | token << 93
    return a0.to_bytes(16, "big") + amount.to_bytes(24, "big")


@dataclass(frozen=True)
class Base:
    """What a batch is built on: the contract's state, or another batch's result."""

    root: int
    number: int
    served: int
    timestamp: int
    balances: Mapping[int, Mapping[int, int]]

    @classmethod
    def of(cls, state: State) -> Base:
        return cls(state.root, state.number, state.served, state.last_timestamp, state.balances)


@dataclass(frozen=True)
class Batch:
    """Arguments of a commit, and what it leads to."""

    args: tuple[Any, ...]
    result: Base


class Batches:
    """Makes them; `unsound` stands for a broken circuit, which proves whatever the operator wants."""

    def __init__(self, chain_id: int, provers: Sequence[Prover], exits: Prover, rand: random.Random) -> None:
        self.chain_id, self.provers, self.exits, self.random = chain_id, provers, exits, rand
        self.ids = 0

    # ------------------------------------------------------------------ batches

    def make(self, state: State, base: Base, now: int, unsound: bool = False) -> Batch:
        """A batch on `base` that the circuit would prove; with `unsound` one it should not."""
        rand, rules = self.random, state.shared.rules
        size_id = rand.randrange(len(rules.sizes))
        rows, acts, _, n_fees = rules.sizes[size_id]
        held: Balances = {i: dict(h) for i, h in base.balances.items()}
        ids = range(base.served, base.served + rand.choice((0, 1, 2, rows, rows)))
        requests = []
        for id in ids:
            if id not in state.waiting:
                break
            q = state.waiting[id]
            requests.append(q.argument(self._serve(q, held) if not unsound else self._lie(q)))
        actions = b"".join(self._action(held, unsound) for _ in range(rand.choice((0, 0, 1, 2, acts))))
        fees = b"".join(self._fee(held) for _ in range(rand.randrange(n_fees + 1)))
        timestamp = max(base.timestamp, now - rand.choice((0, 0, 0, 1, rules.max_lag // 2, rules.max_lag)))
        args = (size_id, timestamp, rand.randrange(R), requests, actions, fees)
        return self.proven(state, base, args, held)

    def proven(self, state: State, base: Base, args: tuple[Any, ...], after: Balances, **header: int) -> Batch:
        """Prove a batch as it is; `header` are words in which the operator lies."""
        size_id, timestamp, root, requests, actions, fees = args
        said = {"number": base.number + 1, "old_root": base.root, **header}
        words = state.words(size_id, timestamp, root, requests, actions, fees, **said)
        c = self.random.randrange(R)
        statement = BatchStatement(size_id, c, words, after)
        proof = self.provers[size_id].prove_batch(self.chain_id, state.shared.rules.address, statement)
        state.shared.proofs[proof] = statement
        result = Base(root, base.number + 1, base.served + len(requests), timestamp, after)
        return Batch((*args, c, proof), result)

    def _serve(self, q: Any, held: Balances) -> int:
        if q.kind == OPEN:
            held.setdefault(q.account, {})
        elif q.kind == DEPOSIT:
            if self.random.random() < 0.15:
                return 1
            mine = held.setdefault(q.account, {})
            mine[q.token] = mine.get(q.token, 0) + q.amount
        elif q.kind == EXIT:
            return held.setdefault(q.account, {}).pop(q.token, 0)
        return 0

    def _lie(self, q: Any) -> int:
        return self.random.choice((0, 0, 0, 1, 2, 10**6, 10**12, U64 - 1))

    def _action(self, held: Balances, unsound: bool) -> bytes:
        rand = self.random
        self.ids += 1
        if unsound and rand.random() < 0.7:
            kind = rand.choice((WITHDRAW, WITHDRAW, WITHDRAW, WITHDRAW, ORDER, 0, 5))
            amount = rand.choice((0, 1, 10**5, 10**8, rand.randrange(U64)))
            return action_row(kind, rand.choice((0, 1, 2, 3, 63)), self.ids, rand.randrange(10), amount)
        rich = [(i, t) for i, h in held.items() for t, a in h.items() if a]
        if not rich or rand.random() < 0.1:
            return action_row(CANCEL, rand.choice([0, *held]), self.ids, 0, 0)
        index, token = rand.choice(rich)
        amount = rand.choice((held[index][token], rand.randrange(held[index][token] + 1)))
        held[index][token] -= amount
        if rand.random() < 0.5:
            return action_row(WITHDRAW, index, self.ids, token, amount)
        to = rand.choice(list(held))
        held[to][token] = held[to].get(token, 0) + amount
        return action_row(rand.choice((TRANSFER, ORDER)), index, self.ids, token, amount)

    def _fee(self, held: Balances) -> bytes:
        """Fees that account 0 gets; what they were taken from is the circuit's business."""
        rich = [(i, t) for i, h in held.items() for t, a in h.items() if a and i]
        if not rich or 0 not in held:
            return bytes(FEE_BYTES)
        index, token = self.random.choice(rich)
        amount = self.random.randrange(held[index][token] + 1)
        held[index][token] -= amount
        held[0][token] = held[0].get(token, 0) + amount
        return (token | amount << 16).to_bytes(FEE_BYTES, "big")

    # ------------------------------------------------------------------ tampering

    def tampered(self, args: tuple[Any, ...], state: State, now: int) -> tuple[Any, ...]:
        """The same commit with one thing changed, its proof as it was."""
        size_id, timestamp, root, requests, actions, fees, c, proof = args
        rand, requests, proof = self.random, list(requests), list(proof)
        what = rand.randrange(13)
        if what == 0:
            size_id = rand.choice((1 - size_id, 2, 65535)) % 65536
        elif what == 1:
            limits = (state.last_timestamp - 1, now + 1, now - state.shared.rules.max_lag - 1)
            timestamp = rand.choice((timestamp + 1, timestamp - 1, now + 10**6, 0, *limits, *limits)) % 2**32
        elif what == 2:
            root = rand.choice((root ^ 1, root + R, 2**256 - 1, state.root)) % 2**256
        elif what == 3:
            c = rand.choice((c ^ 1, c + R, 2**256 - 1)) % 2**256
        elif what in (4, 5, 6):
            requests = self._other_requests(requests, state)
        elif what in (7, 8):
            actions = self._other_bytes(actions, ACTION_BYTES, state.shared.rules.sizes[0][1])
        elif what == 9:
            fees = self._other_bytes(fees, FEE_BYTES, 2)
        elif what == 10:
            proof[rand.randrange(8)] = rand.choice((0, 1, 2**256 - 1, rand.randrange(2**256)))
        elif what == 11:
            proof = list(rand.choice([*state.shared.proofs] or [proof]))
        else:
            proof = [0] * 8
        return (size_id, timestamp, root, requests, actions, fees, c, tuple(proof))

    def _other_requests(self, requests: list[tuple[Any, ...]], state: State) -> list[tuple[Any, ...]]:
        rand, how = self.random, self.random.randrange(6)
        spare = [q.argument() for q in state.waiting.values()]
        if how == 0 and requests:
            return requests[1:]
        if how == 1 and requests:
            return requests[:-1]
        if how == 2 and len(requests) > 1:
            return [*requests[1:], requests[0]]
        if how == 3 and requests:
            k = rand.randrange(len(requests))
            return [*requests[:k], self.other_request(requests[k]), *requests[k + 1 :]]
        if how == 4 and requests:
            return [*requests, requests[-1]]
        return (requests + spare * 9)[: rand.choice((len(requests) + 1, 5, 9))]

    def other_request(self, q: tuple[Any, ...]) -> tuple[Any, ...]:
        """A request with one field changed."""
        k = self.random.randrange(10)
        if k == 5:
            value: Any = "0x" + self.random.randbytes(20).hex()
        else:
            value = self.random.choice((q[k] ^ 1, 0, 1, (1 << (8, 24, 16, 64, 64, 0, 256, 256, 64, 64)[k]) - 1))
        return (*q[:k], value, *q[k + 1 :])

    def _other_bytes(self, data: bytes, row: int, limit: int) -> bytes:
        rand, how = self.random, self.random.randrange(5)
        if how == 0:
            return data[row:]
        if how == 1:
            return data + bytes(row)
        if how == 2:
            return data + b"\1" * rand.randrange(1, row)
        if how == 3 or not data:
            return data + bytes(row * (limit + 1))
        k = rand.randrange(len(data))
        return data[:k] + bytes([data[k] ^ 1 << rand.randrange(8)]) + data[k + 1 :]

    # ------------------------------------------------------------------ exits

    def exit(self, state: State, index: int, owner: str, holdings: Mapping[int, int]) -> tuple[Any, ...]:
        """Arguments of an exit that the exit circuit would prove for these holdings."""
        rows = sorted((t, a) for t, a in holdings.items() if a)
        rows = [(0, 0)] * (15 - len(rows)) + rows
        tokens = sum(t << 16 * j for j, (t, _) in enumerate(rows))
        amounts = tuple(sum(rows[3 * k + i][1] << 64 * i for i in range(3)) for k in range(5))
        statement = ExitStatement((state.root, index, int(owner, 16), tokens, *amounts))
        proof = self.exits.prove_exit(statement)
        state.shared.proofs[proof] = statement
        return index, owner, tokens, amounts, proof

    def tampered_exit(self, args: tuple[Any, ...], state: State) -> tuple[Any, ...]:
        index, owner, tokens, amounts, proof = args
        rand, amounts, proof = self.random, list(amounts), list(proof)
        what = rand.randrange(6)
        if what == 0:
            index = rand.choice((index ^ 1, index + state.shared.rules.tree_size, 63, 2**24 - 1))
        elif what == 1:
            owner = rand.choice([*(a.owner for a in state.accounts), "0x" + "00" * 20])
        elif what == 2:
            tokens = rand.choice((tokens ^ 1 << rand.randrange(240), 2**240, tokens + 2**240))
        elif what == 3:
            k = rand.randrange(5)
            amounts[k] = rand.choice((amounts[k] ^ 1 << rand.randrange(192), 2**192, amounts[k] + 2**192))
        elif what == 4:
            proof = list(rand.choice([*state.shared.proofs] or [proof]))
        else:
            proof[rand.randrange(8)] ^= 1
        return index, owner, tokens, tuple(amounts), tuple(proof)
