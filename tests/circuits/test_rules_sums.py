"""The circuit refuses the forgery that each rule answers: sums, exits, ranges.

Each lie is told as well as it can be: what depends on the bent value (roots, C, z, y) is made anew, and the test names
the line of the circuit that refuses.
"""

from __future__ import annotations

from typing import Any

from proofbook.protocol.field import R
from proofbook.protocol.sponge import horner
from proofbook.protocol.table import MAX_AMOUNT, Side
from proofbook.protocol.words import FeeRow

AMOUNT = "RangeCheck(AMOUNT_BITS())(amounts[j]);"
WORDS = "y === evaluated;"


# --- sums


def test_m12_fees_are_what_orders_paid(scene: Any) -> None:
    world = scene.world
    acts = [world.order(1, 5, Side.SELL, (10, 20, 1)), world.order(2, 5, Side.BUY, (10, 20, 2))]
    lie = scene.page([], acts, [FeeRow(2, 3)])
    lie.set("feeAmount", 0, 4)
    lie.positions(0, "New", {2: 4})
    lie.settle().refused_at("tokens === 0;")
    lie = scene.page([], acts, [FeeRow(2, 3)])
    lie.set("feeAmount", 0, 1 << 64)
    lie.bind().refused_at("RangeCheck(AMOUNT_BITS())(amount);")
    # To an account of the operator's choice.
    lie = scene.page([], acts, [FeeRow(2, 3)])
    lie.holder(0, "New", scene.state.account(0))
    lie.positions(1, "New", {1: 990, 2: 1022})
    lie.settle().refused_at("ledger === 0;")
    honest = lie.words()
    lie.inputs["feeAccount"] = 1
    lie.bind()
    lie.inputs["y"] = horner(honest, lie.inputs["z"])
    lie.refused_at(WORDS)


def test_trading_makes_no_money(scene: Any) -> None:
    # The buyer gets more than the seller gives; the ledger agrees, the tokens don't.
    acts = [scene.world.order(1, 5, Side.SELL, (10, 20, 0)), scene.world.order(2, 5, Side.BUY, (10, 20, 0), (11, 22))]
    lie = scene.page([], acts)
    lie.set("actionExBase", 1, 11)
    lie.settle_slots()
    lie.positions(1, "New", {1: 1011, 2: 980})
    lie.settle().refused_at("tokens === 0;")


def test_m13_an_exit_leaves_nothing(scene: Any) -> None:
    lie = scene.page([scene.world.leave(1, 1)])
    lie.set("requestOutcome", 0, 900)
    lie.positions(0, "New", {1: 100, 2: 1000})
    lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
    lie.settle().refused_at("isExit * has === 0;")
    # With a copy of T that lacks the token.
    lie.set("requestTokens", 0, [0] * 14 + [2])
    lie.settle().refused_at("requests === 0;")
    for outcome, line in ((1001, "ledger === 0;"), (1 << 64, "RangeCheck(AMOUNT_BITS())(outcome);")):
        lie = scene.page([scene.world.leave(1, 1)])
        lie.set("requestOutcome", 0, outcome)
        lie.settle().refused_at(line)


def test_m13_a_deposit_bounces_exactly_where_it_has_no_place(scene: Any) -> None:
    world, rule = scene.world, "outcome - leaving === bounced;"
    lie = scene.page([world.deposit(1, 1, 5)])
    lie.set("requestOutcome", 0, 1)
    lie.positions(0, "New", {1: 1000, 2: 1000})
    lie.settle().refused_at(rule)
    world.settle([world.deposit(1, token, 5) for token in range(10, 23)])
    scene.page([world.deposit(1, 30, 7)]).accepted()
    lie = scene.page([world.deposit(1, 30, 7)])
    lie.set("requestOutcome", 0, 0)
    lie.settle().refused_at(rule)
    # With a copy of T that makes room, or takes it.
    lie.set("requestTokens", 0, [0] * 14 + [2])
    lie.settle().refused_at("ledger === 0;")
    lie = scene.page([world.deposit(1, 22, 7)])
    lie.set("requestOutcome", 0, 1)
    lie.set("requestTokens", 0, list(range(40, 55)))
    lie.positions(0, "New", dict(scene.state.account(1).positions))
    lie.settle().refused_at("requests === 0;")


def test_m13_other_requests_have_no_outcome(scene: Any) -> None:
    for request in (scene.world.opening(3), scene.world.rekey(1)):
        lie = scene.page([request])
        lie.set("requestOutcome", 0, 1)
        lie.settle().refused_at("outcome - leaving === bounced;")


def test_m14_a_transfer_lands_only_on_a_token_held_before(scene: Any) -> None:
    world = scene.world
    world.settle([world.deposit(1, 3, 50)])

    def dusting(requests: list[Any], mults: list[int], held: int) -> Any:
        lie = scene.page(requests, [world.transfer(1, 5, 1, 10, to=2)])
        lie.act(0, world.transfer(1, 5, 3, 10, to=2))
        lie.settle_slots()
        lie.positions(0, "New", {1: 1000, 2: 1000, 3: 40})
        lie.positions(1, "New", {1: 1000, 2: 1000, 3: held})
        if requests:
            lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][1])
        lie.set("accountTransferMult", 1, mults)
        return lie.settle()

    for mults in ([0] * 15, [0] * 14 + [1], [0] * 13 + [1, 0], [1] + [0] * 14):
        dusting([], mults, 10).refused_at("transfers === 0;")
    dusting([world.deposit(2, 3, 1)], [0] * 14 + [1], 11).refused_at("transfers === 0;")


def test_m14_counts_of_transfers_are_ranged(scene: Any) -> None:
    lie = scene.page([], [scene.world.transfer(1, 5, 1, 10, to=2)])
    lie.set("accountTransferMult", 1, [0] * 13 + [1 << 7, 0])
    lie.settle().refused_at("RangeChecks(POSITIONS(), TRANSFER_MULT_BITS())(transferMult);")
    lie = scene.page([scene.world.deposit(1, 1, 5)])
    lie.set("accountRequestMult", 0, 1 << 8)
    lie.settle().refused_at("RangeCheck(REQUEST_MULT_BITS())(requestMult);")


def test_m15_balances_have_64_bits(scene: Any) -> None:
    world = scene.world
    lie = scene.page([], [world.withdraw(1, 5, 1, 10)])
    lie.act(0, world.withdraw(1, 5, 1, 1001))
    lie.positions(0, "New", {1: R - 1, 2: 1000})
    lie.settle().refused_at(AMOUNT)
    world.settle([world.deposit(1, 3, MAX_AMOUNT)])
    lie = scene.page([world.deposit(1, 1, 1)])
    lie.set("requestToken", 0, 3)
    lie.positions(0, "New", {1: 1000, 2: 1000, 3: 1 << 64})
    lie.settle().refused_at(AMOUNT)


def test_m15_the_books_balance(scene: Any) -> None:
    # One quantum more than was deposited, than the receiver was sent, than is left after a withdrawal.
    world = scene.world
    pages = [
        (scene.page([world.deposit(1, 1, 5)]), 0, {1: 1006, 2: 1000}),
        (scene.page([], [world.transfer(1, 5, 1, 10, to=2)]), 1, {1: 1011, 2: 1000}),
        (scene.page([], [world.withdraw(1, 5, 1, 10)]), 0, {1: 991, 2: 1000}),
        (scene.page([], [world.withdraw(1, 5, 1, 10)]), 0, {1: 990, 2: 1001}),
    ]
    for lie, row, held in pages:
        lie.positions(row, "New", held)
        lie.settle().refused_at("ledger === 0;")


def test_header_fields_are_ranged(scene: Any) -> None:
    for name, bits in (("sizeAndNumber", 80), ("timestamp", 32), ("feeAccount", 24)):
        lie = scene.page()
        lie.inputs[name] += 1 << bits
        refusal = lie.bind().refused()
        assert "HeaderWord" in refusal.templates, refusal.text


def test_row_fields_are_ranged(scene: Any) -> None:
    world = scene.world
    act = world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))
    bits = {"Account": 24, "Receiver": 24, "Base": 16, "Quote": 16, "MaxFeeBps": 14, "ValidUntil": 32, "Flags": 8}
    bits |= dict.fromkeys(("BaseAmount", "QuoteAmount", "ExBase", "ExQuote", "Aux", "SlotFilled"), 64)
    for name, width in bits.items():
        lie = scene.page([], [act])
        lie.inputs[f"action{name}"][0] += 1 << width
        refusal = lie.bind().refused()
        assert "Num2Bits" in refusal.templates, (name, refusal.text)
    for name, width in {"Account": 24, "Token": 16, "Amount": 64}.items():
        lie = scene.page([world.deposit(1, 1, 5)])
        lie.inputs[f"request{name}"][0] += 1 << width
        refusal = lie.bind().refused()
        assert "Num2Bits" in refusal.templates and "RequestRow" in refusal.templates, (name, refusal.text)
