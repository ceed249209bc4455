"""What follows from a change in a page is the page that would have been made with it, signatures and roots too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proofbook.protocol.table import Side
from proofbook.protocol.words import FeeRow

Page = tuple[list[Any], list[Any], list[Any]]
Pair = tuple[tuple[str, ...], Page, Page]
BINDING = ("C", "z", "y")


def withdrawal(world: Any) -> Pair:
    """Another amount; an exit of the same token takes less."""
    pages: list[Page] = [([world.leave(1, 1)], [world.withdraw(1, 5, 1, amount)], []) for amount in (10, 11)]
    return ("actionExBase", "actionBaseAmount"), pages[0], pages[1]


def id_of_a_withdrawal(world: Any) -> Pair:
    pages: list[Page] = [
        ([], [world.withdraw(1, id, 1, 10), world.cancel(2, 9)], []) for id in (5, 6 + world.state.preset.slots)
    ]
    return ("actionId",), pages[0], pages[1]


def token_of_a_withdrawal(world: Any) -> Pair:
    pages: list[Page] = [([world.rekey(2)], [world.withdraw(1, 5, token, 1000)], []) for token in (1, 2)]
    return ("actionBase",), pages[0], pages[1]


def whose_withdrawal(world: Any) -> Pair:
    """Account 2 has two actions then, which chain, and account 1 none."""
    pages: list[Page] = [
        ([world.deposit(1, 1, 7)], [world.withdraw(by, 5, 1, 10), world.cancel(2, 9)], []) for by in (1, 2)
    ]
    return ("actionAccount",), pages[0], pages[1]


def receiver(world: Any) -> Pair:
    world.settle([world.deposit(0, 2, 5)])
    pages: list[Page] = [
        ([world.rekey(2), world.deposit(0, 2, 1)], [world.transfer(1, 5, 2, 10, to=to)], []) for to in (0, 2)
    ]
    return ("actionReceiver", "actionAux"), pages[0], pages[1]


def fee(world: Any) -> Pair:
    def page(fee: int) -> Page:
        sell = world.order(1, 5, Side.SELL, (10, 200, fee), limit=(10, 20))
        return [], [sell, world.order(2, 5, Side.BUY, (10, 200, 0))], [FeeRow(2, fee)]

    return ("actionAux", "feeAmount"), page(1), page(2)


def deposit(world: Any) -> Pair:
    """What an exit takes follows from it."""
    pages: list[Page] = [([world.deposit(2, 1, amount), world.leave(2, 1)], [], []) for amount in (7, 8)]
    return ("requestAmount",), pages[0], pages[1]


def token_of_a_deposit(world: Any) -> Pair:
    pages: list[Page] = [([world.deposit(2, token, 7), world.rekey(2)], [], []) for token in (1, 9)]
    return ("requestToken",), pages[0], pages[1]


def whose_deposit(world: Any) -> Pair:
    acts = [world.withdraw(1, 5, 1, 10), world.cancel(2, 9)]
    pages: list[Page] = [([world.deposit(account, 1, 7)], acts, []) for account in (1, 2)]
    return ("requestAccount",), pages[0], pages[1]


def key(world: Any) -> Pair:
    pages: list[Page] = [([world.rekey(2, generation)], [], []) for generation in (1, 2)]
    return ("requestPub",), pages[0], pages[1]


PAIRS = (
    withdrawal, id_of_a_withdrawal, token_of_a_withdrawal, whose_withdrawal, receiver, fee, deposit,
    token_of_a_deposit, whose_deposit, key,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.__name__)
def test_what_follows_a_change_is_the_page_made_with_it(
    pair: Callable[[Any], Pair], make_scene: Any, mutations: Any, following: Any, forging: Any
) -> None:
    scene = make_scene("batch-minimal-0")
    names, one, other = pair(scene.world)
    lie, wanted = scene.page(*one), scene.page(*other).inputs

    def change(inputs: dict[str, Any]) -> None:
        inputs.update({name: wanted[name] for name in names})

    assert all(lie.inputs[name] != wanted[name] for name in names)
    stuck = following.follow(lie, mutations.Mutation(names[0], "page", (), "page", change, True), forging)
    assert stuck == ""
    differ = [name for name in wanted if name not in BINDING and lie.inputs[name] != wanted[name]]
    assert differ == []
