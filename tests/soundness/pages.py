"""Honest pages to start lying from: as many kinds of rows as a circuit holds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from proofbook.protocol.eddsa import challenge
from proofbook.protocol.field import R
from proofbook.protocol.table import Side, Size
from proofbook.protocol.words import FeeRow


def pages(scene: Any, size: Size) -> list[Any]:
    """Return two honest pages of a scene as lies still to be told, the second with what the first has no room for."""
    world = scene.world
    alias = with_an_alias(scene, lambda id: world.transfer(1, id, 2, 10, to=2))
    if size.actions < 4 or size.accounts < 4:
        requests = [world.deposit(1, 1, 7), world.leave(2, 1), world.deposit(2, 3, 5), world.rekey(2)]
        acts = [alias, world.withdraw(1, 7, 1, 5), world.cancel(1, 8), world.transfer(1, 9, 1, 5, to=2)]
        other = scene.page([world.leave(1, 1)], [world.withdraw(1, 6, 2, 10)])
        return [scene.page(requests[: size.requests], acts[: size.actions]), other]
    requests = [world.deposit(1, 1, 7), world.opening(3), world.rekey(0), world.leave(2, 1)]
    sell = world.order(1, 5, Side.SELL, (10, 20, 1), limit=(15, 30))
    buy = world.order(2, 5, Side.BUY, (10, 20, 2), flags=2)
    first = scene.page(requests, [sell, alias, buy, world.cancel(2, 6)], [FeeRow(2, 3)])
    requests = [world.leave(1, 1), world.deposit(2, 3, 9), world.leave(1, 1)]
    acts = [world.withdraw(1, 5, 2, 10), world.withdraw(1, 6, 2, 5), world.transfer(2, 5, 1, 10, to=1)]
    return [first, scene.page(requests, [*acts, world.withdraw(2, 6, 2, 3)])]


def with_an_alias(scene: Any, act: Callable[[int], Any]) -> Any:
    """Return an action whose challenge h leaves room for h + r in 254 bits, so that this alias can be tried."""
    for id in count(20):
        row, signed = act(id)
        key = scene.public(row.account, generation=0)
        if challenge(signed.signature.r8, key, signed.action.message_hash()) + R < 1 << 254:
            return row, signed
    raise AssertionError


def size_of(compiled: Any) -> Size:
    entry = compiled.circuit
    return Size(entry.requests, entry.actions, entry.accounts, entry.fees)
