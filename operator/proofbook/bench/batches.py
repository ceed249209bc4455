"""Batches of 4, 8, 16 and 32 orders on a real contract: built, proven, committed, and measured on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eth_account import Account

from proofbook.bench.measure import Json
from proofbook.chain.anvil import Anvil
from proofbook.chain.client import QueuedRequest
from proofbook.chain.events import requests_since
from proofbook.client.keys import Trader
from proofbook.protocol.messages import SignedAction, order
from proofbook.protocol.state import State
from proofbook.protocol.table import FEE_ACCOUNT, PRESETS, SIZES, ActionType, Side, Size
from proofbook.protocol.transition import build, group_actions
from proofbook.protocol.words import ActionRow, FeeRow, Header, Page, actions_calldata, fees_calldata
from proofbook.prover.backend import ProverBackend, get_backend
from proofbook.prover.calculator import calculate_witness
from proofbook.prover.r1cs import read_r1cs
from proofbook.prover.witness import batch_inputs, challenge_for
from proofbook.prover.workspace import Progress
from proofbook.sim.stage import MARKETS, TOKENS, Keys, Person, Stage, make_person

PRESET: Final = "mainnet"
ORDERS_EACH: Final = 2
"""Orders of one account in a batch, where it has at least 8."""
_ETH, _USD = TOKENS[0], TOKENS[1]
_PRICE: Final = 25_000_000
_UNTIL: Final = 4_000_000_000
_DEPOSIT: Final = {Side.SELL: (_ETH, 10), Side.BUY: (_USD, 100_000)}


def get_sizes() -> tuple[Size, ...]:
    """Return the mainnet preset's batch sizes."""
    return SIZES[PRESET]


def order_counts(sizes: Sequence[Size]) -> list[int]:
    """Return the numbers of orders to measure: 4, 8, 16 and 32, as far as there is a size for them."""
    return [count for count in (4, 8, 16, 32) if count <= sizes[-1].actions]


def choose_size(sizes: Sequence[Size], orders: int) -> int:
    """Return the id of the smallest size with room for so many orders; `ValueError` if none has."""
    for size_id, size in enumerate(sizes):
        if orders <= size.actions and count_traders(orders) < size.accounts:
            return size_id
    raise ValueError(f"no size has room for {orders} orders")


def count_traders(orders: int) -> int:
    """Return how many accounts trade in a batch of so many orders: half as many from 8 on, an even number."""
    return orders if orders < 8 else orders // ORDERS_EACH


@dataclass(frozen=True, slots=True)
class Built:
    """A batch with its witness on disk, and what it took to get there."""

    page: Page
    signed: tuple[SignedAction, ...]
    size_id: int
    wtns: Path
    public: tuple[int, int, int]
    build_s: float
    witness_s: float


class Chain:
    """An exchange with funded traders on a local chain."""

    def __init__(self, anvil: Anvil, keys: Keys, work: Path, traders: int, progress: Progress) -> None:
        self._operator = Person("operator", Account.create())
        self.stage = Stage(anvil, keys, self._operator, make_person("house", 9), PRESET)
        self._keys, self._work, self._sizes = keys, work, get_sizes()
        self._contract = self.stage.exchange(self._operator)
        self.domain = self._contract.domain()
        self.state, self._number = State(PRESETS[PRESET]), 0
        self._backend: ProverBackend = get_backend("auto")
        self._ids: dict[int, int] = {}
        self.traders: list[tuple[int, Trader]] = [self._open(k, traders, progress) for k in range(traders)]
        self._settle_requests(progress)

    def _open(self, k: int, traders: int, progress: Progress) -> tuple[int, Trader]:
        progress("chain: opening accounts", k / traders)
        person = make_person(f"trader {k}", 9)
        self.stage.fund([person])
        trader = self.stage.trader(person)
        account, _ = self.stage.exchange(person).open(*trader.public)
        token, whole = _DEPOSIT[Side(k % 2)]
        self.stage.deposit(person, account, token, token.units(whole))
        return account, trader

    def _queue(self) -> list[QueuedRequest]:
        served, _ = self._contract.queue()
        events = requests_since(self._contract, self.stage.deployment.block, self.stage.w3.eth.block_number)
        return [event.queued for event in events if event.queued.id >= served]

    def _settle_requests(self, progress: Progress) -> None:
        queue, size_id = self._queue(), 0  # several small proofs take less than one large one
        step = self._sizes[size_id].requests
        for at in range(0, len(queue), step):
            progress("chain: proving the accounts' requests", at / len(queue))
            self.commit(self.build(size_id, (), (), (), queue[at : at + step]), queue[at : at + step])

    def build(
        self,
        size_id: int,
        rows: Sequence[ActionRow],
        signed: Sequence[SignedAction],
        fees: Sequence[FeeRow],
        served: Sequence[QueuedRequest] = (),
    ) -> Built:
        """Build a batch on the newest state and calculate its witness."""
        now = int(self.stage.w3.eth.get_block("latest")["timestamp"])
        size = self._sizes[size_id]
        header = Header(self.domain, size_id, self._number + 1, now, FEE_ACCOUNT, self.state.root, 0)
        started = time.perf_counter()
        page, outcome = build(self.state, header, [q.request for q in served], rows, fees, signed, size)
        built = time.perf_counter()
        draw = challenge_for(self.stage.chain_id, self.stage.address, size_id)
        inputs, c = batch_inputs(self.state, page, signed, size, draw)
        wtns = self._work / f"{page.header.number}.wtns"
        calculate_witness(self._keys.batch[size_id], inputs, wtns)
        witness_s = time.perf_counter() - built
        self.state, self._number = outcome.state, page.header.number
        z, y = inputs["z"], inputs["y"]
        assert isinstance(z, int) and isinstance(y, int)
        return Built(page, tuple(signed), size_id, wtns, (c, z, y), built - started, witness_s)

    def commit(self, built: Built, served: Sequence[QueuedRequest] = ()) -> Json:
        """Prove a batch and commit it; what the contract refuses is an error."""
        page = built.page
        started = time.perf_counter()
        proof = self._backend.prove(self._keys.batch[built.size_id], built.wtns)
        prove_s = time.perf_counter() - started
        requests = [(q, row.outcome) for q, row in zip(served, page.requests, strict=True)]
        receipt = self._contract.commit(
            built.size_id,
            page.header.timestamp,
            page.header.new_root,
            requests,
            actions_calldata(page.actions),
            fees_calldata(page.fees),
            built.public[0],
            proof.to_solidity(),
        )
        sent = self.stage.w3.eth.get_transaction(receipt["transactionHash"])
        return {"prove_s": prove_s, "gas": int(receipt["gasUsed"]), "calldata_bytes": len(bytes(sent["input"]))}

    def ask(self, openings: int) -> list[QueuedRequest]:
        """Queue the opening of so many accounts, and a trader's deposit; returns what waits."""
        for k in range(openings):
            person = make_person(f"newcomer {k}", 9)
            self.stage.fund([person])
            self.stage.exchange(person).open(*self.stage.trader(person).public)
        account, _ = self.traders[0]
        self.stage.deposit(make_person("trader 0", 9), account, _ETH, _ETH.units(1))
        return self._queue()

    def trade(self, orders: int, served: Sequence[QueuedRequest] = ()) -> tuple[Built, Json]:
        """Settle a batch in which so many orders trade, two a trade; returns it and its figures."""
        size_id = choose_size(self._sizes, orders)
        traders = count_traders(orders)
        made = [self._order(k % traders) for k in range(orders)]
        rows, signed = group_actions([row for row, _ in made], [sign for _, sign in made])
        assert signed is not None
        built = self.build(size_id, rows, signed, [FeeRow(_USD.id, orders // 2)], served)
        figures = self.commit(built, served)
        trades = orders // 2
        return built, {
            "orders": orders,
            "trades": trades,
            "circuit": self._keys.batch[size_id].name,
            "constraints": read_r1cs(self._keys.batch[size_id].r1cs).nonlinear,
            **figures,
            "gas_per_order": figures["gas"] / orders,
            "gas_per_trade": figures["gas"] / trades,
            "calldata_bytes_per_order": figures["calldata_bytes"] / orders,
            "calldata_bytes_per_trade": figures["calldata_bytes"] / trades,
            "state_update_ms_per_order": built.build_s / orders * 1000,
            "witness_s": built.witness_s,
        }

    def _order(self, k: int) -> tuple[ActionRow, SignedAction]:
        """Return trader k's next order of one lot, filled whole, buyers at even places; a buyer's fee is 1."""
        (account, trader), side, lot = self.traders[k], Side(k % 2), MARKETS[0].lot
        id_ = self._ids[account] = self._ids.get(account, 0) + 1
        action = order(
            domain=trader.domain,
            account=account,
            id=id_,
            base=_ETH.id,
            quote=_USD.id,
            side=side,
            base_amount=lot,
            quote_amount=_PRICE,
            max_fee_bps=100,
            valid_until=_UNTIL,
        )
        fee = int(side is Side.BUY)
        row = ActionRow(int(ActionType.ORDER), account, id_, _ETH.id, _USD.id, int(side), lot, _PRICE, fee)
        return row, trader.sign(action)
