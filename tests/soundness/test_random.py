"""Python against circuit: whatever page `transition.apply` takes has a witness, with the same words and the same root.

Short: 300 pages by witness, two of the drawn ones with proofs. Long: 2,200 and 30.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from proofbook.protocol.table import MAX_AMOUNT, SIZES, Side
from proofbook.protocol.transition import apply
from proofbook.protocol.words import FeeRow, page_from_words
from proofbook.prover.batch import prove_batch
from proofbook.prover.compile import compile_circuit

LONG = os.environ.get("PROOFBOOK_LONG") == "1"
# Pages at each circuit, one by one.
SHORT = {"batch-minimal-0": 100, "slope-mainnet-base": 200}
PAGES = {"batch-minimal-0": 300, "slope-minimal-base": 1000, "slope-mainnet-base": 900} if LONG else SHORT
PROOFS = 30 if LONG else 2
TOKENS = (1, 2, 3, 65535)


class Trader:
    """Draws pages that the exchange as it stands takes.

    Parameters
    ----------
    world : World
        The exchange.
    rng : random.Random
        Decides everything.
    rows : tuple of int
        Requests, actions, accounts and fees that there is room for.
    """

    def __init__(self, world: Any, rng: random.Random, rows: tuple[int, ...]) -> None:
        self.world, self.rng, self.rows = world, rng, rows
        self.last: dict[int, int] = {}

    def id_for(self, account: int) -> int:
        """Return the next id: the slot after, the same slot once more, or far away."""
        slots = self.world.state.preset.slots
        step = self.rng.choice((1, 1, 2, slots, slots - 1, 3 * slots + 1))
        self.last[account] = self.last.get(account, 40) + step
        return self.last[account]

    def amount(self, account: int, token: int) -> int:
        """Return something that the account has of a token, at the ends now and then; 0 if it has none."""
        held = dict(self.world.state.account(account).positions).get(token, 0)
        return held and self.rng.choice((1, held, max(1, held - 1), self.rng.randint(1, held)))

    def requests(self, room: set[int]) -> list[Any]:
        world, rng, made = self.world, self.rng, []
        accounts = sorted(set(world.state.accounts) & room)
        for _ in range(rng.randint(0, self.rows[0])):
            account, token = rng.choice(accounts), rng.choice((*TOKENS, rng.randint(1, 65535)))
            held = dict(world.state.account(account).positions).get(token, 0)
            most = min(MAX_AMOUNT - held, MAX_AMOUNT) // 8
            kind = rng.random()
            if kind < 0.55 and most:
                made.append(world.deposit(account, token, rng.choice((1, most, rng.randint(1, most)))))
            elif kind < 0.85:
                made.append(world.leave(account, token))
            elif not any(r.account == account and r.kind in (1, 3) for r in made):
                made.append(world.rekey(account, 0))
        return made

    def trade(self, seller: int, buyer: int) -> tuple[list[Any], list[Any]]:
        """Return two matching orders, and the fee row, where both have something to trade."""
        world, rng = self.world, self.rng
        base, quote = rng.sample(TOKENS[:3], 2)
        sold, paid = self.amount(seller, base) // 2, self.amount(buyer, quote) // 2
        if not sold or not paid:
            return [], []
        fee = rng.randint(0, min(paid // 20, 1 << 40))
        bps = 10_000
        limit = (sold + rng.randint(0, 5), 1)
        names = {"base": base, "quote": quote, "fee_bps": bps}
        acts = [
            world.order(seller, self.id_for(seller), Side.SELL, (sold, paid, fee), limit=limit, **names),
            world.order(buyer, self.id_for(buyer), Side.BUY, (sold, paid, 0), limit=(sold, paid + 3), **names),
        ]
        return acts, [FeeRow(quote, fee)] if fee else []

    def moves(self, account: int, room: set[int], count: int) -> list[Any]:
        """Return withdrawals, transfers and cancels of one account."""
        world, rng, made = self.world, self.rng, []
        for _ in range(count):
            token = rng.choice(TOKENS)
            amount = self.amount(account, token) // 4
            others = [i for i in sorted(room) if token in dict(world.state.account(i).positions)]
            kind = rng.random()
            if kind < 0.35 and amount:
                made.append(world.withdraw(account, self.id_for(account), token, amount))
            elif kind < 0.7 and amount and others:
                made.append(world.transfer(account, self.id_for(account), token, amount, rng.choice(others)))
            else:
                made.append(world.cancel(account, self.id_for(account)))
        return made

    def page(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Return requests, actions and fees."""
        rng, (_, actions, accounts, _) = self.rng, self.rows
        people = sorted(self.world.state.accounts)
        room = set(rng.sample(people, min(len(people), accounts)))
        acts: list[Any] = []
        fees: list[Any] = []
        if actions >= 2 and {0} < room and len(room) > 2 and rng.random() < 0.6:
            seller, buyer = rng.sample(sorted(room - {0}), 2)
            acts, fees = self.trade(seller, buyer)
        for account in rng.sample(sorted(room), min(2, len(room))):
            acts += self.moves(account, room, rng.randint(0, max(0, actions - len(acts))))
        acts.sort(key=lambda act: act[0].account)
        return self.requests(room), acts, fees


def check_page(scene: Any, forging: Any, trader: Trader, size: Any) -> None:
    """Draw a page; if Python takes it, so does the circuit, and both say the same of it."""
    requests, acts, fees = trader.page()
    try:
        page = scene.world.build(requests, acts, fees)
    except Exception as error:
        # A page that the exchange does not take, for a reason it names: nothing to compare.
        assert getattr(error, "code", ""), error
        return
    lie = scene.told(page, [signed for _, signed in acts])
    found = {name: lie.inputs[name] for name in ("C", "z", "y")}
    assert found == {name: lie.bind().inputs[name] for name in found}
    lie.accepted()
    read = page_from_words(forging.words(lie.inputs), size)
    assert read == page and apply(scene.state, read).state.root == lie.inputs["newRoot"]
    scene.world.settle(requests, acts, fees)
    COMPARED.append(1)


COMPARED: list[int] = []


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PAGES))
def test_random_pages_are_the_same_to_both(name: str, make_scene: Any, forging: Any, report_random: Any) -> None:
    entry = compile_circuit(name).circuit
    rows = (entry.requests, entry.actions, entry.accounts, entry.fees)
    COMPARED.clear()

    @settings(
        max_examples=PAGES[name],
        deadline=None,
        derandomize=not LONG,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**64 - 1), st.integers(1, 4))
    def run(seed: int, pages: int) -> None:
        if len(COMPARED) >= PAGES[name]:
            return
        scene = make_scene(name)
        scene.world.settle([scene.world.deposit(i, 3, MAX_AMOUNT // 3) for i in (1, 2)])
        trader = Trader(scene.world, random.Random(seed), rows)
        size = SIZES["minimal"][0] if name == "batch-minimal-0" else type(SIZES["minimal"][0])(*rows)
        for _ in range(pages):
            check_page(scene, forging, trader, size)

    run()
    report_random(name, batches=len(COMPARED))
    assert len(COMPARED) >= PAGES[name]


# --- limits


class Limits:
    """Pages at the limits, each compared; what one leaves the next starts from."""

    def __init__(self, scene: Any, forging: Any, size: Any) -> None:
        self.scene, self.forging, self.size = scene, forging, size
        self.world, self.preset = scene.world, scene.state.preset
        self.last, self.top = self.preset.accounts - 1, MAX_AMOUNT

    def same(self, requests: Any = (), acts: Any = (), fees: Any = ()) -> None:
        """Check that a page has one root in Python, in the circuit and for whoever reads it."""
        lie = self.scene.page(requests, acts, fees)
        lie.accepted()
        read = page_from_words(self.forging.words(lie.inputs), self.size)
        assert apply(self.scene.state, read).state.root == lie.inputs["newRoot"]
        assert self.world.settle(requests, acts, fees).state.root == lie.inputs["newRoot"]

    def held(self, account: int) -> dict[int, int]:
        return dict(self.scene.state.account(account).positions)

    def empty(self) -> None:
        self.same()

    def largest_amount_of_the_last_token_in_the_last_account(self) -> None:
        world, last = self.world, self.last
        self.same([world.opening(last), world.deposit(last, 65535, self.top), world.deposit(last, 1, 1)])
        assert self.held(last) == {1: 1, 65535: self.top}

    def last_id_and_last_slot(self) -> None:
        world, slots = self.world, self.preset.slots
        assert self.top % slots == slots - 1
        acts = [world.withdraw(self.last, self.top, 65535, self.top)]
        acts.append(world.transfer(self.last, slots - 2, 1, 1, to=1))
        self.same([], acts)
        assert self.held(self.last) == {}

    def largest_order(self) -> None:
        """Sells 2^64 - 1 for 1, the fee being all of it."""
        world = self.world
        self.same([world.deposit(1, 9, self.top)])
        sell = world.order(1, 90, Side.SELL, (self.top, 1, 1), base=9)
        self.same([], [sell, world.order(2, 90, Side.BUY, (self.top, 1, 0), base=9)], [FeeRow(2, 1)])
        assert self.held(2)[9] == self.top

    def full_positions_a_bounce_and_a_change_of_token(self) -> None:
        world, last = self.world, self.last
        for token in range(100, 115, 3):
            self.same([world.deposit(last, t, t) for t in range(token, token + 3)])
        assert len(self.held(last)) == 15
        self.same([world.deposit(last, 50, 5), world.deposit(last, 114, 5)])
        assert 50 not in self.held(last)
        self.same([world.leave(last, 114), world.deposit(last, 50, 5)])
        assert self.held(last)[50] == 5

    def nothing_left_and_an_exit_of_nothing(self) -> None:
        world = self.world
        self.same([world.leave(1, 1), world.leave(1, 2), world.leave(1, 7)])
        assert self.held(1) == {}

    def full(self) -> None:
        """All rows of each kind: four requests, four actions, six accounts, two fees."""
        world = self.world
        world.settle([world.opening(3), world.opening(4), world.deposit(1, 1, 100)])
        acts = [world.cancel(1, 5), world.withdraw(1, 7, 1, 1), world.cancel(2, 6), world.withdraw(2, 8, 2, 2)]
        requests = [*(world.deposit(i, 1, 1) for i in (0, 3, 4)), world.leave(self.last, 50)]
        self.same(requests, acts, [FeeRow(0, 0), FeeRow(7, 0)])

    def every_account_open(self) -> None:
        """The tree of the smallest preset has no free place, and its last leaf changes."""
        world = self.world
        if self.preset.accounts <= 64:
            free = [i for i in range(self.preset.accounts) if not self.scene.state.account(i).owner]
            world.settle([world.opening(i) for i in free])
        self.same([world.rekey(self.last), world.deposit(self.last, 50, 1)])


LIMITS = [name for name in vars(Limits) if not name.startswith("_") and name not in ("same", "held")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch-minimal-0", "batch-mainnet-0"] if LONG else ["batch-minimal-0"])
def test_limits_are_the_same_to_both(name: str, make_scene: Any, forging: Any, report_random: Any) -> None:
    entry = compile_circuit(name).circuit
    limits = Limits(make_scene(name), forging, SIZES[entry.preset][0])
    for limit in LIMITS:
        getattr(limits, limit)()
        report_random(name, limits=[limit.replace("_", " ")])


@pytest.mark.slow
def test_random_pages_can_be_proven(make_scene: Any, forging: Any, report_random: Any) -> None:
    scene = make_scene("batch-minimal-0")
    scene.world.settle([scene.world.deposit(i, 3, 10**6) for i in (1, 2)])
    rng = random.Random(4)
    trader = Trader(scene.world, rng, (4, 4, 6, 2))
    proven = tried = 0
    while proven < PROOFS:
        tried += 1
        assert tried < 20 * PROOFS
        requests, acts, fees = trader.page()
        try:
            page = scene.world.build(requests, acts, fees)
        except Exception as error:
            assert getattr(error, "code", ""), error
            continue
        page = replace(page, header=replace(page.header, size_id=0))
        # Proves, and verifies what came out.
        prove_batch(scene.state, page, [signed for _, signed in acts], 31337, "0x" + "ab" * 20)
        scene.world.settle(requests, acts, fees)
        proven += 1
    report_random("batch-minimal-0", with_proofs=proven)
