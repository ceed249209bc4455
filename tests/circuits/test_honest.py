"""Honest pages have a witness, and the circuit's C, z, y and roots are those of the protocol."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from proofbook.protocol.errors import BadSignature, TooManyRows
from proofbook.protocol.messages import challenge
from proofbook.protocol.state import EMPTY_ACCOUNT
from proofbook.protocol.table import MAINNET, SIZES, Flag, Side
from proofbook.protocol.transition import apply
from proofbook.protocol.words import FeeRow, fees_from_calldata, page_from_words
from proofbook.prover.errors import WitnessError
from proofbook.prover.witness import batch_inputs, challenge_for, exit_inputs


def same_by_both(lie: Any, forging: Any) -> None:
    """Check the packing from the page against the packing from the signals."""
    found = {name: lie.inputs[name] for name in ("C", "z", "y")}
    assert found == {name: lie.bind().inputs[name] for name in found}


def test_every_kind_of_row_at_once(scene: Any, forging: Any) -> None:
    world = scene.world
    requests = [world.opening(3), world.deposit(3, 1, 7), world.rekey(0), world.leave(2, 1)]
    acts = [
        world.order(1, 5, Side.SELL, (10, 20, 1), limit=(15, 30), flags=int(Flag.IOC)),
        world.transfer(1, 6, 2, 10, to=2),
        world.order(2, 5, Side.BUY, (10, 20, 2), flags=int(Flag.FOK)),
        world.cancel(2, 6),
    ]
    lie = scene.page(requests, acts, [FeeRow(2, 3)])
    same_by_both(lie, forging)
    lie.accepted()


def test_m08_all_zero_padding_changes_nothing(scene: Any, forging: Any) -> None:
    lie = scene.page()
    assert lie.inputs["newRoot"] == lie.inputs["oldRoot"] == scene.state.root
    assert set(forging.words(lie.inputs)[4:]) == {0}
    same_by_both(lie, forging)
    lie.accepted()


def test_m01_an_empty_fee_row_hides_no_page(scene: Any, forging: Any) -> None:
    """The circuit takes an enabled fee row of nothing, so everybody else has to read it, too."""
    lie = scene.page()
    lie.set("feeEnabled", 0, 1)
    lie.bind().accepted()
    page = page_from_words(forging.words(lie.inputs), SIZES["minimal"][0])
    assert page.fees == (FeeRow(0, 0),) == fees_from_calldata(bytes(10))
    assert apply(scene.state, page).state.root == lie.inputs["newRoot"]
    same_by_both(scene.page([], [], [FeeRow(0, 0), FeeRow(7, 0)]), forging)
    # Of nothing: an amount of no token has no place.
    lie = scene.page()
    lie.set("feeEnabled", 0, 1)
    lie.set("feeAmount", 0, 1)
    lie.bind().refused_at("ledger === 0;")


def test_batch_inputs_are_of_pages_that_the_transition_accepts(scene: Any, forging: Any) -> None:
    world, size, draw = scene.world, SIZES["minimal"][0], challenge_for(31337, 5, 0)
    row, good = world.withdraw(1, 5, 1, 10)
    page = world.build([], [(row, good)])
    inputs, c = batch_inputs(scene.state, page, [good], size, draw)
    assert inputs["C"] == c and inputs["newRoot"] == page.header.new_root
    assert inputs["z"] == challenge(31337, 5, 0, forging.words(inputs), c)
    bad = replace(good, signature=good.signature._replace(s=good.signature.s ^ 1))
    with pytest.raises(BadSignature):
        batch_inputs(scene.state, page, [bad], size, draw)
    with pytest.raises(TooManyRows):
        batch_inputs(scene.state, page, [good], replace(size, actions=0), draw)


def test_a_page_at_mainnet_depths(make_scene: Any) -> None:
    scene = make_scene("slope-mainnet-base")
    world, far = scene.world, MAINNET.accounts - 1
    # Slots 255 and 511 mod 256 are one; accounts at both ends of the tree.
    world.settle(acts=[world.withdraw(1, 255, 1, 10)])
    lie = scene.page([replace(world.opening(3), account=far)], [world.withdraw(1, 511, 1, 10)])
    lie.accepted()
    lie.set("accountIndex", 1, 1 + MAINNET.accounts)
    assert "AccountRow" in lie.bind().refused().templates


def random_acts(world: Any, rng: random.Random, next_id: Any) -> tuple[list[Any], list[Any]]:
    """Return up to four action rows that fit any state of accounts 1 and 2 with money, and their fees."""
    seller, buyer = rng.sample((1, 2), 2)
    base, quote, fee = rng.randint(1, 5), rng.randint(1, 9), rng.randint(0, 1)
    size = base + rng.randint(0, 3)
    limit = (size, quote * size // base)
    trade = [
        world.order(seller, next_id(), Side.SELL, (base, quote, fee), limit=limit),
        world.order(buyer, next_id(), Side.BUY, (base, quote, 0), limit=(base, quote + rng.randint(0, 4))),
    ]
    single = [
        lambda: world.withdraw(rng.choice((1, 2)), next_id(), rng.choice((1, 2)), rng.randint(1, 5)),
        lambda: world.transfer(rng.choice((1, 2)), next_id(), 1, rng.randint(1, 5), to=rng.choice((1, 2))),
        lambda: world.cancel(rng.choice((1, 2)), next_id()),
    ]
    traded = rng.random() < 0.7
    acts = (trade if traded else []) + [rng.choice(single)() for _ in range(rng.randint(0, 2))]
    acts.sort(key=lambda act: act[0].account)
    return acts, [FeeRow(2, 1)] if traded and fee else []


@pytest.mark.parametrize("seed", range(12))
def test_random_pages_have_the_roots_of_the_transition(scene: Any, forging: Any, seed: int) -> None:
    rng, world = random.Random(seed), scene.world
    ids = iter(range(100 + 37 * seed, 10_000))

    def next_id() -> int:
        # Steps over slots, so that rows meet fresh, used and shared ones; never falling.
        return [next(ids) for _ in range(rng.choice((1, 1, 5, 16)))][-1]

    for _ in range(2):
        acts, fees = random_acts(world, rng, next_id)
        choices = [
            world.deposit(rng.choice((0, 1, 2)), rng.randint(1, 40), rng.randint(1, 100)),
            world.rekey(0, rng.randint(0, 3)),
            world.leave(0, rng.randint(1, 3)),
            world.opening(rng.choice([i for i in range(64) if i not in world.state.accounts])),
        ]
        requests = rng.sample(choices, rng.randint(0, len(choices)))
        lie = scene.page(requests, acts, fees)
        same_by_both(lie, forging)
        lie.accepted()
        assert world.settle(requests, acts, fees).state.root == lie.inputs["newRoot"]


def test_exit_of_every_account(scene: Any, exit_circuit: Any, calculate: Any) -> None:
    scene.world.settle([scene.world.deposit(1, token, 2**64 - token) for token in range(10, 14)])
    for index in scene.state.accounts:
        calculate(exit_circuit, exit_inputs(scene.state, index))
    with pytest.raises(WitnessError) as caught:
        exit_inputs(scene.state, 9)
    assert caught.value.code == "witness/not-open"
    assert scene.state.account(9) == EMPTY_ACCOUNT
