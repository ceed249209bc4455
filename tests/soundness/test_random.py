"""Python against circuit: whatever page `transition.apply` takes has a witness, with the same words and the same root.

Short: 300 pages by witness, two of the drawn ones with proofs. Long: 2,200 and 30, circuits with 16 and 32 actions too.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from proofbook.protocol.table import MAX_AMOUNT, SIZES, Side, Size
from proofbook.protocol.transition import apply
from proofbook.protocol.words import FeeRow, page_from_words
from proofbook.prover.batch import prove_batch
from proofbook.prover.compile import compile_circuit

LONG = os.environ.get("PROOFBOOK_LONG") == "1"
# Pages at each circuit, one by one; most where trades have room.
SHORT = {"batch-minimal-0": 250, "slope-mainnet-base": 50}
EVERY = {"batch-minimal-0": 1500, "batch-minimal-1": 250, "batch-mainnet-0": 150, "batch-mainnet-1": 50}
PAGES = EVERY | {"batch-mainnet-2": 20, "slope-minimal-base": 120, "slope-mainnet-base": 110} if LONG else SHORT
PROOFS = 30 if LONG else 2
SHARES = {
    "with a trade": 2.5, "fill": 1, "larger than its fill": 2, "better than its limit": 2, "fill of account 0": 4,
    "fill or kill": 6, "second fill": 6, "fee": 3, "cancel": 20, "cancel of an order that filled": 100, "withdraw": 25,
    "transfer": 25, "deposit": 2, "exit": 4, "exit that pays": 14, "open": 8, "key": 8, "other key": 8, "bounce": 120,
}  # fmt: skip
"""One of so many pages must have this; some have several."""
OF_ONE_ACTION = ("withdraw", "transfer", "cancel", "order", "deposit", "exit", "open", "other key")
"""Where two orders have no room, each of these comes up."""


@dataclass
class Compared:
    """Pages of one circuit: how many were drawn and compared, and what those were made of."""

    drawn: int = 0
    pages: int = 0
    seen: Counter[str] = field(default_factory=Counter)


def check_page(scene: Any, forging: Any, trader: Any, size: Any, compared: Compared) -> Any:
    """Draw a page; if Python takes it, so does the circuit, and both say the same of it."""
    requests, acts, fees = trader.page()
    signed = [sign for _, sign in acts]
    compared.drawn += 1
    try:
        page = scene.world.build(requests, acts, fees)
    except Exception as error:
        # A page that the exchange does not take, for a reason it names: nothing to compare.
        assert getattr(error, "code", ""), error
        return None
    lie = scene.told(page, signed)
    found = {name: lie.inputs[name] for name in ("C", "z", "y")}
    assert found == {name: lie.bind().inputs[name] for name in found}
    lie.accepted()
    read = page_from_words(forging.words(lie.inputs), size)
    assert read == page and apply(scene.state, read).state.root == lie.inputs["newRoot"]
    before = scene.state
    compared.pages += 1
    scene.world.settle(requests, acts, fees)
    trader.settled()
    return before, page, signed


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PAGES))
def test_random_pages_are_the_same_to_both(
    name: str, make_scene: Any, forging: Any, trading: Any, report_random: Any
) -> None:
    entry = compile_circuit(name).circuit
    rows = (entry.requests, entry.actions, entry.accounts, entry.fees)
    compared = Compared()

    @settings(
        max_examples=PAGES[name],
        deadline=None,
        derandomize=not LONG,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**64 - 1), st.integers(3, 8))
    def run(seed: int, pages: int) -> None:
        if compared.pages >= PAGES[name]:
            return
        scene = make_scene(name)
        trader = trading.Trader(scene.world, random.Random(seed), rows)
        trader.prepare()
        for _ in range(pages):
            taken = check_page(scene, forging, trader, Size(*rows), compared)
            compared.seen += trading.seen_in(*taken) if taken else Counter()

    run()
    report_random(name, batches=compared.pages, seen=compared.seen)
    assert compared.pages >= PAGES[name]
    assert compared.pages > compared.drawn // 2, "most pages are none that the exchange takes"
    check_seen(compared, entry.actions)


def check_seen(compared: Compared, actions: int) -> None:
    """Check that the pages had something in them: of few pages nothing rare is asked, and half as much of the rest."""
    seen, pages = compared.seen, compared.pages
    asked = {what: share for what, share in SHARES.items() if 2 * share <= pages}
    shares = asked if actions >= 4 else dict.fromkeys(OF_ONE_ACTION, pages)
    wanted = pages if pages >= 100 or actions < 4 else pages // 2
    few = {what: seen[what] for what, share in shares.items() if seen[what] * share < wanted}
    assert few == {}
    assert seen["empty"] * 5 < pages


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
def test_random_pages_can_be_proven(make_scene: Any, trading: Any, report_random: Any) -> None:
    scene = make_scene("batch-minimal-0")
    rng = random.Random(4)
    trader = trading.Trader(scene.world, rng, (4, 4, 6, 2))
    trader.prepare()
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
        trader.settled()
        proven += 1
    report_random("batch-minimal-0", with_proofs=proven)
