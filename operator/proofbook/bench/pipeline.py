"""Batches settled end to end, one at a time, with the next one built meanwhile, and with several provers.

A real operator in a process of its own, on a local chain that mines at once, so that what is measured is proving and
what it waits for. Every row settles the same orders, from their state on; the first batches, which warm the provers up,
are those of the traders' requests.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from proofbook.bench.measure import Json
from proofbook.chain.anvil import Anvil
from proofbook.client.http import ApiClient
from proofbook.client.keys import Trader
from proofbook.operator.settings import create_directory
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.messages import SignedAction, order
from proofbook.protocol.table import Side
from proofbook.prover.workspace import Progress
from proofbook.sim.operator_process import OperatorProcess
from proofbook.sim.stage import MARKETS, TOKENS, Person, Stage, build_keys, make_person

PRESET: Final = "minimal"
ORDERS: Final = 16
"""Orders in a batch: the larger of the preset's sizes, full."""
TRADERS: Final = 4
MODES: Final = ((1, 1), (1, 2), (2, 3))
"""Prover workers and pipeline depth; the first one is what the others are compared with."""
_PRICE: Final = 25_000_000
_ETH, _DOLLAR = TOKENS[0], TOKENS[1]


class PipelineFailed(ProofbookError):
    """Not everything was settled, or not in the batches expected."""

    code = "bench_pipeline"


@dataclass(frozen=True, slots=True)
class Party:
    """A trader with an account."""

    trader: Trader
    account: int

    def sign(self, id_: int, side: Side, valid_until: int) -> SignedAction:
        """Sign an order of one lot at the one price."""
        return self.trader.sign(
            order(
                domain=self.trader.domain,
                account=self.account,
                id=id_,
                base=MARKETS[0].base,
                quote=MARKETS[0].quote,
                side=side,
                base_amount=MARKETS[0].lot,
                quote_amount=_PRICE,
                max_fee_bps=100,
                valid_until=valid_until,
            )
        )


class Bench:
    """An exchange with traders whose deposits are queued, and operators for it, one after the other."""

    def __init__(self, stack: ExitStack, folder: Path, progress: Progress) -> None:
        self._folder, self._progress = folder, progress
        self._operator: Person = make_person("operator", 11)
        keys = build_keys(progress, PRESET)
        self._anvil = stack.enter_context(Anvil())
        self._stage = Stage(self._anvil, keys, self._operator, make_person("house", 11), PRESET)
        self.parties = [self._open(k) for k in range(TRADERS)]

    def _open(self, k: int) -> Party:
        self._progress("pipeline: opening accounts", k / TRADERS)
        person = make_person(f"trader {k}", 11)
        self._stage.fund([person])
        trader = self._stage.trader(person)
        account, _ = self._stage.exchange(person).open(*trader.public)
        token, whole = (_ETH, 100) if k % 2 == 0 else (_DOLLAR, 100_000)
        self._stage.deposit(person, account, token, token.units(whole))
        return Party(trader, account)

    def _make_orders(self, batches: int) -> list[SignedAction]:
        """Return orders that trade two by two, a batch's after the other's; each trader has the same share of each."""
        until, each = int(time.time()) + 86_400, ORDERS // TRADERS
        made = []
        for round_ in range(batches * each):
            for k, party in enumerate(self.parties):
                made.append(party.sign(round_ + 1, Side.SELL if k % 2 == 0 else Side.BUY, until))
        return made

    def measure(self, workers: int, depth: int, batches: int) -> Json:
        """Settle so many full batches with so many workers; the chain is as before afterwards."""
        name = f"prover workers {workers}, depth {depth}"
        snapshot, directory = self._anvil.snapshot(), self._folder / f"operator-{workers}-{depth}"
        settings = msgspec.structs.replace(
            self._stage.settings(),
            min_actions=240,
            batch_interval_s=86_400.0,
            poll_s=0.05,
            prover_workers=workers,
            pipeline_depth=depth,
        )
        create_directory(directory, settings, bytes(self._operator.key.key))
        with OperatorProcess(directory, directory.with_suffix(".log")) as operator, ApiClient(operator.url) as api:
            self._progress(f"pipeline: {name}: warming up", None)
            api.flush()
            orders = self._make_orders(batches)
            for at in range(0, len(orders), 100):
                api.place_many(orders[at : at + 100])
            self._progress(f"pipeline: {name}: settling", None)
            started = time.perf_counter()
            settled = api.flush()
            seconds = time.perf_counter() - started
        self._anvil.revert(snapshot)
        found = [int(batch["orders"]) for batch in settled]
        if found != [ORDERS] * batches:
            raise PipelineFailed(f"{name}: batches of {found} orders instead of {batches} of {ORDERS}")
        return {
            "prover_workers": workers,
            "pipeline_depth": depth,
            "batches": batches,
            "orders": sum(found),
            "seconds_per_batch": seconds / batches,
            "orders_settled_per_s": sum(found) / seconds,
            "witness_s": sum(float(batch["witness_s"]) for batch in settled) / batches,
            "prove_s": sum(float(batch["prove_s"]) for batch in settled) / batches,
        }


def run(folder: Path, batches: int, progress: Progress, modes: Sequence[tuple[int, int]] = MODES) -> Json:
    """Return the figures of ``pipeline.json``, each mode's with its ratio to the first one.

    Raises
    ------
    PipelineFailed
        If orders were not settled as they should be.
    """
    work = folder / "pipeline"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with ExitStack() as stack:
        bench = Bench(stack, work, progress)
        rows = [bench.measure(workers, depth, batches) for workers, depth in modes]
    for row in rows:
        row["times_as_fast_as_one_at_a_time"] = row["orders_settled_per_s"] / rows[0]["orders_settled_per_s"]
    shutil.rmtree(work, ignore_errors=True)
    return {"rows": rows}
