"""A seeded random life of an exchange: the vault always covers what is owed, and in the end everybody has left."""

import os
import random
from collections import defaultdict

import pytest

from proofbook.chain.errors import ContractRevert
from proofbook.protocol.table import ActionType, RequestKind
from proofbook.protocol.words import ActionRow

# A life through the typed client, whose calls are slow; test_attack.py drives thousands past it.
CALLS = 240 if os.environ.get("PROOFBOOK_LONG") == "1" else 80
PEOPLE = ("alice", "bob", "carol")


class Life:
    """Random calls, and beside them what every account must own."""

    def __init__(self, world, seed: int) -> None:
        self.world, self.random = world, random.Random(seed)
        self.balances: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.owner = {0: "fee_owner"}
        self.tokens = [1, *(world.token(quantum=q, to=PEOPLE)[0] for q in (1, 10**6))]
        self.refused = 0
        self.done = 0
        self.action_id = 0

    def step(self) -> None:
        # Every second call or so settles, or the queue would only grow.
        weights = {"deposit": 4, "commit": 4, "force_exit": 2, "claim": 2, "open": 1, "change_key": 1}
        name = self.random.choices(list(weights), list(weights.values()))[0]
        try:
            getattr(self, name)()
            self.done += 1
        except ContractRevert as error:
            assert error.name in ("TreeFull", "KeyRequestPending", "NothingToClaim"), str(error)
            self.refused += 1

    def _account(self) -> tuple[int, str]:
        index = self.random.choice(list(self.owner))
        return index, self.owner[index]

    def open(self) -> None:
        who = self.random.choice(PEOPLE)
        self.owner[self.world.open(who)] = who

    def deposit(self) -> None:
        index, who = self._account()
        token = 1 if who == "fee_owner" else self.random.choice(self.tokens)
        self.world.by(who).deposit(index, token, self.random.randrange(1, 10**6), surplus=self.random.randrange(3))

    def force_exit(self) -> None:
        index, who = self._account()
        self.world.by(who).force_exit(index, self.random.choice(self.tokens))

    def change_key(self) -> None:
        index, who = self._account()
        self.world.by(who).change_key(index, self.random.randrange(10**9), 5)

    def claim(self) -> None:
        owner = getattr(self.world, self.random.choice((*PEOPLE, "operator", "fee_owner")))
        self.world.by("mallory").claim_for(owner, self.random.choice(self.tokens))

    def commit(self) -> None:
        waiting = self.world.queue()
        size_id = self.random.randrange(2)
        take = self.random.randrange(min(len(waiting), self.world.sizes[size_id].requests) + 1)
        requests = [(q, self._serve(q.request)) for q in waiting[:take]]
        actions = [row for row in (self._withdraw() for _ in range(self.random.randrange(4))) if row]
        self.world.commit(requests, actions=actions, size_id=size_id)

    def _serve(self, q) -> int:
        held = self.balances[q.account]
        if q.kind == RequestKind.DEPOSIT:
            bounced = self.random.random() < 0.2
            held[q.token] += 0 if bounced else q.amount
            return int(bounced)
        if q.kind == RequestKind.EXIT:
            return held.pop(q.token, 0)
        return 0

    def _withdraw(self) -> ActionRow | None:
        index, _ = self._account()
        token = self.random.choice(self.tokens)
        if not self.balances[index][token]:
            return None
        amount = self.random.randrange(1, self.balances[index][token] + 1)
        self.balances[index][token] -= amount
        self.action_id += 1
        return ActionRow(int(ActionType.WITHDRAW), index, self.action_id, token, ex_base=amount)

    def check(self) -> None:
        """Vault, outstanding and the model agree, to the last quantum."""
        self.world.check_solvent()
        waiting = self.world.queue()
        for t in self.world.exchange.tokens():
            inside = sum(held[t.id] for held in self.balances.values())
            queued = sum(q.request.amount for q in waiting if q.request.token == t.id)
            fees = sum(q.fee for q in waiting) if t.id == 1 else 0
            assert t.outstanding == inside + queued + fees
            assert self.world.exchange.vault(t) == (t.outstanding + t.claims) * t.quantum

    def escape(self) -> None:
        """Freeze; every account leaves, every unserved request is reclaimed, every claim is paid."""
        self.world.freeze()
        for q in self.world.queue():
            self.world.by("mallory").reclaim(q)
        for index, who in self.owner.items():
            holdings = [(t, a) for t, a in self.balances[index].items() if a]
            arguments = self.world.exit_arguments(index, getattr(self.world, who), holdings)
            self.world.by("mallory").exit(*arguments)
        for who in (*PEOPLE, "operator", "fee_owner"):
            for token in self.tokens:
                if self.world.exchange.claim_of(getattr(self.world, who), token):
                    self.world.by("mallory").claim_for(getattr(self.world, who), token)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [20])
def test_the_vault_covers_what_is_owed_through_a_random_life(world, seed):
    life = Life(world, seed)
    for k in range(CALLS):
        life.step()
        if k % 12 == 0:
            life.check()
    life.check()
    assert life.done > CALLS // 2
    life.escape()
    for t in world.exchange.tokens():
        assert (t.outstanding, t.claims, world.exchange.vault(t)) == (0, 0, 0)
