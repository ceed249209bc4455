"""What every operation costs, to the unit of gas, against the committed snapshot; `make gas` renews it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from proofbook.protocol.table import PRESETS, SIZES

SNAPSHOT = Path(__file__).resolve().parent / "gas-snapshot.json"
START = 2_000_000_000
KEY = (1 << 250, 1 << 249)
ETH, TOKEN = 1, 2
OPEN, DEPOSIT, CHANGE, LEAVE = 1, 2, 3, 4
GWEI = 10**9
ROOT = 1 << 252


class Meter:
    """An exchange without randomness, and the gas that its calls cost."""

    def __init__(self, attack: Any, stage: Any, preset: str) -> None:
        self.attack, self.gas, self.preset = attack, dict[str, int](), preset
        choice = attack.opening.Choice(
            (3600, 10, 600), (1000, 0, 1000, 1000), KEY, (1000, 1000), PRESETS[preset], SIZES[preset]
        )
        self.life = attack.life.Life(stage, 0, unsound=True, choice=choice)
        self.alice, self.bob = self.life.cast.people[8:10]
        self.roots = 0

    @property
    def state(self) -> Any:
        return self.life.state

    def do(self, sender: str, name: str, *args: Any, label: str = "", value: int = 0, late: int = 0) -> None:
        """A call that the contract must accept; its gas is kept under `label`."""
        time = late or self.state.time + 1
        call = self.attack.world.Call(sender, name, args, value, time)
        refused = self.life.tally.refused.total()
        self.life.do(call)
        assert self.life.tally.refused.total() == refused, f"{label or name} was refused"
        if label:
            self.gas[label] = self.life.last_gas

    def ask(self, who: str, name: str, *args: Any, kind: int, eth: int = 0, label: str = "") -> None:
        """A request."""
        self.do(who, name, *args, label=label, value=(self.state.request_fee(kind) + eth) * GWEI)

    def commit(self, size_id: int, requests: int, actions: bytes, fees: bytes, after: Any, label: str = "") -> None:
        """A batch of what waits and these rows."""
        batches, state = self.life.batches, self.state
        self.roots += 1
        served = [state.waiting[state.served + k].argument() for k in range(requests)]
        args = (size_id, state.time, ROOT + self.roots, served, actions, fees)
        batch = batches.proven(state, self.attack.batches.Base.of(state), args, after)
        self.do(state.operator, "commit", *batch.args, label=label)

    def serve(self) -> None:
        """Serve all that waits, without keeping what it costs."""
        while self.state.served < self.state.queued:
            count = min(self.state.queued - self.state.served, SIZES[self.preset][0].requests)
            self.commit(0, count, b"", b"", self.state.balances)


def requests(meter: Meter) -> None:
    """What users queue: the first of a kind writes fresh storage, the next do not."""
    alice, bob = meter.alice, meter.bob
    meter.ask(alice, "open", 7, 8, kind=OPEN, label="open")
    meter.serve()
    meter.ask(bob, "open", 7, 8, kind=OPEN)
    meter.serve()
    meter.ask(alice, "deposit", 1, ETH, 10**6, kind=DEPOSIT, eth=10**6, label="deposit ETH")
    for label in ("deposit ERC-20, first", "deposit ERC-20"):
        meter.ask(alice, "deposit", 1, TOKEN, 10**6, kind=DEPOSIT, label=label)
    meter.ask(alice, "changeKey", 1, 9, 9, kind=CHANGE, label="changeKey")
    meter.ask(alice, "forceExit", 1, TOKEN, kind=LEAVE, label="forceExit")
    meter.serve()


def batches(meter: Meter, size_id: int) -> None:
    """An empty batch, one full of each kind of row, and one full of everything."""
    size, row = SIZES[meter.preset][size_id], meter.attack.batches.action_row
    name = f"commit {meter.preset} {size.requests}+{size.actions}"
    order = row(1, 1, 5, ETH, 10**5)
    withdraw = row(2, 1, 5, ETH, 1)
    fee = (ETH | 5 << 16).to_bytes(10, "big")

    def deposits(count: int) -> None:
        for _ in range(count):
            meter.ask(meter.alice, "deposit", 1, ETH, 10**4, kind=DEPOSIT, eth=10**4)

    def batch(label: str, count: int = 0, actions: bytes = b"", fees: bytes = b"") -> None:
        deposits(count)
        meter.commit(size_id, count, actions, fees, {1: {}}, f"{name}, {label}")

    meter.commit(size_id, 0, b"", b"", {1: {}})
    batch("empty")
    batch("1 request", 1)
    batch("all requests", size.requests)
    batch("1 order", actions=order)
    batch("all orders", actions=order * size.actions)
    if not size_id:
        batch("1 withdrawal, first", actions=withdraw)
    batch("1 withdrawal", actions=withdraw)
    batch("all withdrawals", actions=withdraw * size.actions)
    batch("all requests, orders and fees", size.requests, order * size.actions, fee * size.fees)


def ways_out(meter: Meter) -> None:
    """Claims, freeze, exits and reclaims."""
    alice, bob = meter.alice, meter.bob
    held = {1: {ETH: 1000, TOKEN: 1000}, 2: {TOKEN: 5}}
    row = meter.attack.batches.action_row
    meter.commit(0, 0, row(2, 1, 6, ETH, 1) + row(2, 1, 6, TOKEN, 1), b"", held)
    meter.do(alice, "claim", ETH, label="claim ETH")
    meter.do(alice, "claim", TOKEN, label="claim ERC-20")
    meter.commit(0, 0, row(2, 1, 6, ETH, 1) + row(2, 1, 6, TOKEN, 1), b"", held)
    meter.do(bob, "claimFor", alice, ETH, label="claimFor ETH")
    meter.do(bob, "claimFor", alice, TOKEN, label="claimFor ERC-20")
    meter.ask(alice, "deposit", 1, TOKEN, 50, kind=DEPOSIT)
    meter.ask(alice, "open", 7, 8, kind=OPEN)
    first = meter.state.waiting[meter.state.served]
    meter.do(bob, "freeze", first.argument(), label="freeze", late=first.deadline + 1)
    for index, label in ((1, "exit, 2 tokens"), (2, "exit, 1 token")):
        owner = meter.state.accounts[index].owner
        meter.do(bob, "exit", *meter.life.batches.exit(meter.state, index, owner, held[index]), label=label)
    for id, label in zip([*meter.state.waiting], ("reclaim, deposit", "reclaim, open"), strict=True):
        meter.do(bob, "reclaim", id, meter.state.waiting[id].argument(), label=label)


def measure(attack: Any) -> dict[str, int]:
    """Everything, on fresh chains whose clock is ours: the same figures on every machine."""
    gas: dict[str, int] = {}
    for preset in ("minimal", "mainnet"):
        with attack.driver.stage() as stage:
            meter = Meter(attack, stage, preset)
            meter.gas[f"deploy {preset}, {len(SIZES[preset])} sizes"] = meter.state.shared.deploy_gas
            requests(meter)
            for size_id in range(len(SIZES[preset])):
                batches(meter, size_id)
            if preset == "minimal":
                ways_out(meter)
                operator = meter.state.operator
                meter.do(operator, "rotateOperator", meter.bob, label="rotateOperator")
                spare = list(meter.state.shared.erc20s)[-1]
                meter.do(meter.life.cast.owner, "addToken", spare, 1000, label="addToken")
                gas |= meter.gas
            gas |= {k: v for k, v in meter.gas.items() if preset in k}
    return dict(sorted(gas.items()))


@pytest.mark.slow
def test_gas_is_what_the_snapshot_says(attack):
    """Any change of cost, up or down, is to be seen in a review: it changes the committed file."""
    found = measure(attack)
    if os.environ.get("PROOFBOOK_RENEW_GAS") == "1":
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(SNAPSHOT.read_text()), "`make gas` renews the snapshot"
    assert max(used for name, used in found.items() if name.startswith("commit")) < 1_000_000
