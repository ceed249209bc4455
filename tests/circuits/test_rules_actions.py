"""The circuit refuses the forgery that each rule answers: signatures and actions.

Each lie is told as well as it can be: what depends on the bent value (roots, C, z, y) is made anew, and the test names
the line of the circuit that refuses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proofbook.protocol import eddsa
from proofbook.protocol.babyjub import SUBGROUP_ORDER, Point, add, mul_base8
from proofbook.protocol.eddsa import Signature
from proofbook.protocol.field import R
from proofbook.protocol.messages import Action
from proofbook.protocol.sponge import horner
from proofbook.protocol.table import SLOT_CLOSED, ActionType, Flag, RequestKind, Side
from proofbook.protocol.words import ActionRow, FeeRow, Request

EQUATION = "enabled * (left[0] - right[0]) === 0;"
CHILD = "pick[h].out === before[h];"
WORDS = "y === evaluated;"


# --- signatures


def test_m03_forged_signatures(scene: Any) -> None:
    row, good = scene.world.withdraw(1, 5, 1, 10)
    (r8, s), others = good.signature, scene.world.withdraw(2, 5, 1, 10)[1].signature
    forged = {
        "s of the next period": (Signature(r8, s + SUBGROUP_ORDER), "AtMostConstant(253, ORDER - 1)(sBits);"),
        "wrong s": (Signature(r8, (s + 1) % SUBGROUP_ORDER), EQUATION),
        "negated R8": (Signature(r8._replace(x=R - r8.x), s), EQUATION),
        "of another account": (others, EQUATION),
        "R8 off the curve": (Signature(r8._replace(x=(r8.x + 1) % R), s), "BabyCheck()(r8[0], r8[1]);"),
    }
    for signature, line in forged.values():
        scene.unsigned([], [(row, replace(good, signature=signature))]).refused_at(line)


def test_m03_a_half_right_point_by_the_owner_of_the_key(scene: Any) -> None:
    """R8 off the subgroup makes both sides agree in x alone: (x, y) plus the point of order 2 is (-x, -y)."""
    row, good = scene.world.withdraw(1, 5, 1, 10)
    scalar = eddsa._expand(bytes([0, 1]) * 16)[0]
    r8 = add(mul_base8(12345), Point(0, R - 1))
    h = eddsa.challenge(r8, scene.public(1, generation=0), good.action.message_hash())
    signature = Signature(r8, -(12345 + h * scalar) % SUBGROUP_ORDER)
    lie = scene.unsigned([], [(row, replace(good, signature=signature))])
    lie.refused_at("enabled * (left[1] - right[1]) === 0;")


def test_m03_s_beyond_253_bits(scene: Any) -> None:
    row, good = scene.world.withdraw(1, 5, 1, 10)
    beyond = Signature(good.signature.r8, good.signature.s + 7 * SUBGROUP_ORDER)
    refusal = scene.unsigned([], [(row, replace(good, signature=beyond))]).refused()
    assert refusal.line == "signal sBits[253] <== Num2Bits(253)(s);", refusal.text


@pytest.mark.parametrize(
    ("pub", "line"),
    [
        ((0, 1), "twice[2].xout * inverse === 1;"),
        ((0, R - 1), "twice[2].xout * inverse === 1;"),
        ((5, 5), "BabyCheck()(pub[0], pub[1]);"),
    ],
)
def test_m03_keys_under_which_anything_could_be_signed(scene: Any, pub: tuple[int, int], line: str) -> None:
    scene.world.settle([Request(RequestKind.KEY, 1, pub_x=pub[0], pub_y=pub[1])])
    row, good = scene.world.withdraw(1, 5, 1, 10)
    # S = 0 and R8 = the identity solve the equation under the identity as key.
    for signature in (Signature(good.signature.r8._replace(x=0, y=1), 0), good.signature):
        scene.unsigned([], [(row, replace(good, signature=signature))]).refused_at(line)


def test_m03_what_is_signed_is_what_is_done(scene: Any) -> None:
    row, good = scene.world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    changes = {"max_fee_bps": 5, "valid_until": good.action.valid_until + 1, "flags": 1, "base_amount": 11}
    changes |= {"quote_amount": 19}
    for name, value in changes.items():
        bent = replace(good, action=replace(good.action, **{name: value}))
        scene.unsigned([], [(row, bent)]).refused_at(EQUATION)


def test_m04_a_signature_is_for_one_chain_and_contract(scene: Any) -> None:
    row, good = scene.world.withdraw(1, 5, 1, 10)
    elsewhere = scene.world.sign(replace(good.action, domain=good.action.domain + 1))
    scene.unsigned([], [(row, replace(elsewhere, action=good.action))]).refused_at(EQUATION)
    # With the other domain as header the signature is good, but the contract's word is its own.
    lie = scene.unsigned([], [(row, replace(elsewhere, action=good.action))])
    honest = scene.page([], [(row, good)])
    lie.inputs["domain"] += 1
    lie.bind()
    lie.inputs["y"] = horner(honest.words(), lie.inputs["z"])
    lie.refused_at(WORDS)


# --- actions


def test_m10_what_was_used_never_acts_again(scene: Any) -> None:
    world = scene.world
    world.settle(acts=[world.withdraw(1, 21, 1, 10), world.transfer(1, 22, 1, 10, to=2), world.cancel(1, 23)])
    assert scene.state.account(1).slot(scene.state.preset, 21) == (21, SLOT_CLOSED)
    for used in (world.withdraw(1, 21, 1, 10), world.withdraw(1, 23, 1, 10)):
        lie = scene.page([], [world.withdraw(1, 40, 1, 10)])
        lie.act(0, used)
        lie.settle_slots()
        lie.settle().refused_at("(moves - isOrder) * same === 0;")
    lie = scene.page([], [world.transfer(1, 40, 1, 10, to=2)])
    lie.act(0, world.transfer(1, 22, 1, 10, to=2))
    lie.settle_slots()
    lie.settle().refused_at("(moves - isOrder) * same === 0;")
    # A smaller id than the slot's.
    for stale in (world.withdraw(1, 5, 1, 10), world.cancel(1, 7), world.order(1, 6, Side.SELL, (0, 0, 0), (10, 20))):
        lie = scene.page([], [world.withdraw(1, 40, 1, 10)])
        lie.act(0, stale)
        lie.settle_slots()
        lie.settle().refused_at("RangeCheck(ID_BITS())(id - slotId);")


def test_m10_an_id_has_64_bits(scene: Any) -> None:
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.set("actionId", 0, 5 + (1 << 64))
    lie.bind().refused_at("idBits <== Num2Bits(ID_BITS())(id);")


def test_m10_a_cancelled_order_does_not_fill(scene: Any) -> None:
    world = scene.world
    world.settle(acts=[world.cancel(1, 5)])
    lie = scene.page([], world.trade(1, 2, (6, 5), (10, 20)))
    lie.act(0, world.order(1, 5, Side.SELL, (10, 20, 0)))
    lie.set("actionSlotId", 0, 5)
    lie.set("actionSlotFilled", 0, SLOT_CLOSED)
    lie.bind().refused_at("RangeCheck(AMOUNT_BITS())(remaining);")
    # As if the slot were empty.
    lie.set("actionSlotId", 0, 0)
    lie.set("actionSlotFilled", 0, 0)
    lie.bind().refused_at(CHILD)


def test_m10_moves_do_what_was_signed(scene: Any) -> None:
    world = scene.world
    for row, signed in (world.withdraw(1, 5, 1, 10), world.transfer(1, 5, 1, 10, to=2)):
        for amount in (11, 9):
            lie = scene.unsigned([], [(replace(row, ex_base=amount), signed)])
            lie.refused_at("(moves - isOrder) * (exBase - baseAmount) === 0;")
    row, signed = world.transfer(1, 5, 1, 10, to=2)
    scene.unsigned([], [(replace(row, aux=1), signed)]).refused_at("isTransfer * (aux - receiver) === 0;")
    row, signed = world.withdraw(1, 5, 1, 10)
    bends = {
        "Quote": "NonZeroExactlyWhen()(quote, isOrder);",
        "QuoteAmount": "NonZeroExactlyWhen()(quoteAmount, isOrder);",
        "Side": "side * (1 - isOrder) === 0;",
        "ExQuote": "exQuote * (1 - isOrder) === 0;",
        "Aux": "aux * (1 - isOrder - isTransfer) === 0;",
        "Receiver": "receiver * (1 - isTransfer) === 0;",
    }
    for name, line in bends.items():
        lie = scene.page([], [(row, signed)])
        lie.set("action" + name, 0, 1)
        lie.bind().refused_at(line)


def test_m10_a_cancel_posts_nothing(scene: Any) -> None:
    bends = {
        "ExBase": "exBase * (1 - moves) === 0;",
        "Base": "NonZeroExactlyWhen()(base, moves);",
        "BaseAmount": "NonZeroExactlyWhen()(baseAmount, moves);",
        "ExQuote": "exQuote * (1 - isOrder) === 0;",
        "Aux": "aux * (1 - isOrder - isTransfer) === 0;",
    }
    for name, line in bends.items():
        lie = scene.page([], [scene.world.cancel(1, 5)])
        lie.set("action" + name, 0, 1)
        lie.bind().refused_at(line)


def test_m11_no_base_no_quote_and_no_fee(scene: Any) -> None:
    act = scene.world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    lie = scene.page([], [act])
    lie.set("actionExQuote", 0, 20)
    lie.bind().refused_at("exBase * perBase === exQuote;")
    lie = scene.page([], [act])
    lie.set("actionAux", 0, 1)
    lie.bind().refused_at("RangeCheck(AMOUNT_BITS() + FEE_BPS_BITS())(maxFeeBps * exQuote - BPS() * fee);")


def test_m11_signed_amounts_are_at_least_1(scene: Any) -> None:
    row, good = scene.world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    for name, line in (("base_amount", "baseAmount, moves"), ("quote_amount", "quoteAmount, isOrder")):
        signed = scene.world.sign(replace(good.action, **{name: 0}))
        scene.unsigned([], [(row, signed)]).refused_at(f"NonZeroExactlyWhen()({line});")
    nothing = Action(good.action.domain, ActionType.WITHDRAW, 1, 5, base=1, valid_until=good.action.valid_until)
    lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
    lie.act(0, (ActionRow(ActionType.WITHDRAW, 1, 5, 1), scene.world.sign(nothing)))
    lie.positions(0, "New", {1: 1000, 2: 1000})
    lie.settle().refused_at("NonZeroExactlyWhen()(baseAmount, moves);")


def test_m11_an_order_keeps_its_limits(scene: Any) -> None:
    world, price = scene.world, "RangeCheck(2 * AMOUNT_BITS())(surplus);"
    cap = "RangeCheck(AMOUNT_BITS() + FEE_BPS_BITS())(maxFeeBps * exQuote - BPS() * fee);"
    fill = "RangeCheck(AMOUNT_BITS())(remaining);"
    sell = {
        "worse price": (world.order(1, 5, Side.SELL, (10, 20, 0), (10, 21)), price),
        "over-filled": (world.order(1, 5, Side.SELL, (10, 20, 0), (9, 18)), fill),
        "fill or kill": (world.order(1, 5, Side.SELL, (10, 20, 0), (11, 22), flags=2), "fok * remaining === 0;"),
        "expired": (world.order(1, 5, Side.SELL, (10, 20, 0), until=5), "RangeCheck(TIME_BITS())(lifetime);"),
    }
    for act, line in sell.values():
        scene.unsigned([], [act, world.order(2, 5, Side.BUY, (10, 20, 0))]).refused_at(line)
    dear = world.order(2, 5, Side.BUY, (10, 20, 0), (10, 19))
    scene.unsigned([], [world.order(1, 5, Side.SELL, (10, 20, 0)), dear]).refused_at(price)
    fees = [world.order(1, 5, Side.SELL, (10, 20, 1), fee_bps=499), world.order(2, 5, Side.BUY, (10, 20, 0))]
    scene.unsigned([], fees, [FeeRow(2, 1)]).refused_at(cap)
    fees[0] = world.order(1, 5, Side.SELL, (10, 20, 1), fee_bps=500, flags=int(Flag.FOK))
    scene.page([], fees, [FeeRow(2, 1)]).accepted()


def test_m11_fills_add_up_over_batches(scene: Any) -> None:
    world = scene.world
    world.settle(acts=[world.order(1, 5, Side.SELL, (6, 12, 0), (10, 20)), world.order(2, 5, Side.BUY, (6, 12, 0))])
    rest = [world.order(1, 5, Side.SELL, (4, 8, 0), (10, 20)), world.order(2, 6, Side.BUY, (4, 8, 0))]
    scene.page([], rest).accepted()
    more = [world.order(1, 5, Side.SELL, (5, 10, 0), (10, 20)), world.order(2, 6, Side.BUY, (5, 10, 0))]
    scene.unsigned([], more).refused_at("RangeCheck(AMOUNT_BITS())(remaining);")


def test_m11_an_order_has_two_tokens(scene: Any) -> None:
    row, good = scene.world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    for base, quote, line in (
        (1, 1, "(base - quote) * inverse === isOrder;"),
        (0, 2, "NonZeroExactlyWhen()(base, moves);"),
        (1, 0, "NonZeroExactlyWhen()(quote, isOrder);"),
    ):
        signed = scene.world.sign(replace(good.action, base=base, quote=quote))
        lie = scene.page([], [(row, good)])
        lie.act(0, (replace(row, base=base, quote=quote), signed))
        lie.bind().refused_at(line)
