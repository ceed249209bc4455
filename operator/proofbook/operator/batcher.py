"""Batches' lives: sealed, built, witnessed, proven, submitted, confirmed; several at once, each at its own stage.

While a batch is proven, the next one is matched, sealed and built on top of it; prover workers prove as many at once as
there are workers (`proofbook.operator.workers`), and they reach L1 in their order (`proofbook.operator.submission`).

Each step's result is in the store before the next step begins, so that a restart goes on with the steps that were
broken off. A batch keeps its rows and its timestamp through all of it (M22). Nothing is settled twice: the contract
takes each batch number once, the operator looks there first, and the numbers' transactions are sent one by one.

What can't go on stops the operator with a named error, because orders matched meanwhile could not be settled either: a
proof that fails again and again, a chain that dropped a block it was built on, a refusal by the contract. Two refusals
are foreseen: a batch that became too old is unsealed and made anew, with all that were built on it, and a frozen
exchange ends the operator's work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from proofbook.chain.errors import ContractRevert
from proofbook.operator import commands as c
from proofbook.operator import events as ev
from proofbook.operator.batches import (
    BatcherOptions,
    CommitRefused,
    CrashAt,
    Frozen,
    ProvingFailed,
    StateDiverged,
    Submit,
    build_page,
    encode_words,
    make_record,
    queued,
    rebuild_state,
    request_of,
)
from proofbook.operator.codes import OperatorError
from proofbook.operator.engine import Engine
from proofbook.operator.l1 import L1, ClockBehind, FreezeSeen, RpcUnavailable, retry
from proofbook.operator.proving import BatchProver
from proofbook.operator.settlement import BatchPlan
from proofbook.operator.snapshots import Snapshots
from proofbook.operator.store import BatchRecord, BatchStore, StoreError
from proofbook.operator.submission import InFlight, Stage, Submitter
from proofbook.operator.workers import ProverPool
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.state import State
from proofbook.protocol.table import Size

__all__ = [
    "Batcher",
    "BatcherOptions",
    "CommitRefused",
    "CrashAt",
    "Frozen",
    "ProvingFailed",
    "StateDiverged",
    "Submit",
    "queued",
    "rebuild_state",
    "request_of",
]
log = logging.getLogger(__name__)
MAX_PAUSE_S: Final = 30.0
_TOO_OLD: Final = ("TimestampTooOld", "TimestampBeforePrevious")


class Batcher:
    """Settles what the engine has matched.

    Parameters
    ----------
    engine : Engine
        Read only; changed through ``submit``.
    submit : callable
        Does a command durably.
    store, l1, prover, pool
        Where batches are recorded, sent, prepared for proving, and proven.
    state : State
        Before all batches.
    sizes : sequence of Size
        The deployment's, by size id.
    domain : int
        Of the exchange.
    work : Path
        A directory for witnesses; what is left in it from an earlier run is removed.
    options : BatcherOptions
        Attempts and pauses.
    crash_at : callable, optional
        Fault injection.
    snapshots : Snapshots, optional
        Where states are kept, for a quick start.

    Raises
    ------
    StateDiverged
        When the store's batches do not follow from one another.

    Attributes
    ----------
    state : State
        After the last confirmed batch.
    number : int
        Of the last confirmed batch.
    """

    def __init__(
        self,
        engine: Engine,
        submit: Submit,
        store: BatchStore,
        l1: L1,
        prover: BatchProver,
        pool: ProverPool,
        state: State,
        sizes: Sequence[Size],
        domain: int,
        work: Path,
        options: BatcherOptions,
        crash_at: CrashAt = lambda stage: None,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._engine, self._submit, self._store, self._l1 = engine, submit, store, l1
        self._prover, self.pool = prover, pool
        self._sizes, self._domain, self._work = tuple(sizes), domain, work
        self._crash_at, self._snapshots = crash_at, snapshots
        self._submitter = Submitter(l1, store, options, crash_at)
        self.state, self.number = rebuild_state(state, store, sizes, snapshots)
        self._flight: list[InFlight] = []
        self._lock = asyncio.Lock()
        # Entries of the log, counted from the start on: settled, and wanted sealed as soon as there is room.
        self._settled = self._due = 0
        self._settling = 0, 0
        self._changes, self._changed = 0, asyncio.Event()
        self._failure: ProofbookError | None = None
        self._outage: RpcUnavailable | None = None

    @property
    def _options(self) -> BatcherOptions:
        return self._submitter.options

    @_options.setter
    def _options(self, options: BatcherOptions) -> None:
        self._submitter.options = options

    # --- the whole

    async def resume(self) -> None:
        """Bring journal and store together; `StateDiverged` if the journal never sealed what is confirmed."""
        for sealed in list(self._engine.settlement.in_flight):
            if sealed.plan.number <= self.number:
                await self._submit(c.BatchConfirmed(sealed.plan.number))
        if self._engine.settlement.next_number <= self.number:
            raise StateDiverged(f"batch {self.number} is confirmed, but the journal never sealed it")
        # Of batches unsealed since: the crash came between the journal and the store.
        self._store.delete_batches(self._engine.settlement.next_number)
        self._work.mkdir(parents=True, exist_ok=True)
        for left in self._work.glob("batch-*"):
            left.unlink(missing_ok=True)

    def _count_sealed(self) -> int:
        # The engine forgets a batch a moment before we hear of it.
        number, entries = self._settling
        told = 0 if any(sealed.plan.number == number for sealed in self._engine.settlement.in_flight) else entries
        return self._settled + told + sum(len(sealed.entries) for sealed in self._engine.settlement.in_flight)

    def _count_all(self) -> int:
        return self._count_sealed() + len(self._engine.settlement.log)

    def count_waiting(self) -> int:
        """Return how many entries of the log wait without being due."""
        return self._count_all() - max(min(self._due, self._count_all()), self._count_sealed())

    def want_all(self) -> int:
        """Have everything pending now sealed as soon as there is room; returns how many entries are settled then."""
        self._due = self._count_all()
        self._notify()
        return self._due

    def get_stages(self) -> list[tuple[int, Stage]]:
        """Return number and stage of every batch in flight, the oldest first."""
        running = self.pool.running
        stages = {batch.number: batch.get_stage(batch.number in running) for batch in self._flight}
        numbers = [sealed.plan.number for sealed in self._engine.settlement.in_flight]
        return [(number, stages.get(number, "sealed")) for number in numbers]

    async def settle_all(self, is_driven: Callable[[], bool] = lambda: False) -> list[int]:
        """Settle everything pending now, and return the numbers of the batches settled meanwhile.

        Parameters
        ----------
        is_driven : callable
            Tells whether somebody else goes from step to step: then it is waited for. What it raises ends this.

        Raises
        ------
        ProvingFailed, CommitRefused, StateDiverged, Frozen
            When it can't go on; the operator should stop.
        RpcUnavailable
            When the node does not answer; may be tried again.
        """
        first, outage = self.number + 1, self._outage
        goal = self.want_all()
        # What is busted meanwhile can't be waited for.
        while min(goal, self._count_all()) > self._settled and not self._engine.frozen:
            if self._failure:
                raise self._failure.with_traceback(None)  # found by whoever else drives the same batches
            if not is_driven():
                await self.step()
            elif self._outage is not outage and self._outage:
                raise self._outage.with_traceback(None)
            else:
                await self._wait(self._changes)
        return list(range(first, self.number + 1))

    async def step(self) -> None:
        """Do all that can be done now, or wait a moment when there is nothing; errors as `settle_all`."""
        changes = self._changes
        try:
            moved = await self._pass()
        except RpcUnavailable as error:
            self._outage = error
            self._notify()
            raise
        except Exception as error:
            named = error if isinstance(error, ProofbookError) else OperatorError(f"{type(error).__name__}: {error}")
            self._failure = self._failure or named
            self._notify()
            raise
        if moved:
            self._notify()
        else:
            await self._wait(changes)

    async def _wait(self, changes: int) -> None:
        """Wait until something changes that was not counted yet, but a moment only."""
        if changes == self._changes:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._options.poll_s)

    def _notify(self) -> None:
        self._changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _pass(self) -> bool:
        """Bring every batch in flight as far as it comes without waiting; tell whether anything moved."""
        async with self._lock:
            if self._failure:
                # What failed half-way is not gone on with, until the next start.
                raise self._failure.with_traceback(None)
            if self._engine.frozen:
                await self._forget(0)
                return False
            moved, behind = self._collect() | await self._build_sealed(), None
            try:
                moved |= await self._seal_wanted()
            except ClockBehind as error:
                behind = error  # what was sealed before goes on
            self._begin_proofs()
            moved |= await self._reach_l1()
            if behind:
                raise behind
            return moved

    async def close(self) -> None:
        """Stop. What was under way is gone on with at the next start."""
        await self._forget(0)
        self.pool.close()

    def abandon(self) -> None:
        """Stop at once, as a kill would."""
        for batch in self._flight:
            if batch.proving:
                batch.proving.cancel()
        self.pool.close()

    # --- sealing and building

    async def _build_sealed(self) -> bool:
        """Build what the journal has sealed, at the start and after a reorganisation."""
        sealed = list(self._engine.settlement.in_flight)[len(self._flight) :]
        for batch in sealed:
            await self._build(batch.plan)
        return bool(sealed)

    async def _seal_wanted(self) -> bool:
        """Seal and build what is wanted while there is room."""
        settlement, moved = self._engine.settlement, False
        while self._is_room() and settlement.log and self._due > self._count_sealed():
            plan = await self._seal()
            if plan is None:
                break
            await self._build(plan)
            moved = True
        return moved

    def _begin_proofs(self) -> None:
        for batch in self._flight:
            if not (batch.record.proof or batch.proving or batch.mined):
                batch.proving = asyncio.create_task(self._prove(batch))
                batch.proving.add_done_callback(lambda _: self._notify())

    def _is_room(self) -> bool:
        return sum(not batch.mined for batch in self._flight) < self._options.depth

    async def _seal(self) -> BatchPlan | None:
        settlement, latest = self._engine.settlement, await self._get_chain_time()
        number, before = settlement.next_number, len(settlement.log)
        events = await self._submit(c.SealBatch(number, latest))
        plan = self._engine.get_plan(number)
        if plan is None:
            if self._engine.frozen:
                return None
            raise StateDiverged(f"batch {number} was not sealed: {events}")
        log.info("batch %d: sealed, %d of %d entries", number, len(settlement.in_flight[-1].entries), before)
        self._crash_at("sealed")
        return plan

    async def _get_chain_time(self) -> int:
        """Return the newest block's time; `ClockBehind` where the operator's is too far behind it.

        A batch would be proven, refused and made anew, with the same old timestamp, without end. And by a node that
        names the day after tomorrow, all that is unsettled would be too old.
        """
        _, latest = await retry(self._options.rpc_attempts, self._l1.get_head)
        if (behind := latest - self._engine.now) > self._options.max_lag:
            raise ClockBehind(f"the operator's clock is {behind} s behind the newest block's: put it right")
        return latest

    async def _build(self, plan: BatchPlan) -> None:
        """Put a sealed batch on top of those in flight, with its record as it stands or a new one."""
        size = self._sizes[plan.size_id]
        before = self._flight[-1].after if self._flight else self.state
        page, outcome = await asyncio.to_thread(build_page, before, plan, size, self._domain)
        if page.requests != plan.requests:
            raise StateDiverged(f"batch {plan.number}: the engine and the protocol disagree on what requests do")
        record = self._store.get_batch(plan.number)
        if record is not None and record.words != encode_words(page, size):
            raise StateDiverged(f"batch {plan.number}: the journal leads to another page than the stored one")
        if record is None:
            record = make_record(plan, page, outcome, size, self._prover.constraints[plan.size_id])
            self._write(record, "built")
        self._flight.append(InFlight(plan, page, before, outcome.state, record))

    def _write(self, record: BatchRecord, stage: str) -> BatchRecord:
        self._store.put_batch(record)
        log.info("batch %d: %s", record.number, stage)
        self._crash_at(stage)
        return record

    # --- proving

    async def _prove(self, batch: InFlight) -> None:
        """Prove, again after growing pauses when it fails; `ProvingFailed` in the end."""
        pause, attempts = self._options.first_pause_s, self._options.prove_attempts
        for attempt in range(1, attempts + 1):
            try:
                return await self._prove_once(batch)
            except StoreError:
                raise
            except (ProofbookError, OSError) as error:
                log.error("batch %d: proving failed (attempt %d of %d): %s", batch.number, attempt, attempts, error)
                if attempt == attempts:
                    raise ProvingFailed(f"batch {batch.number}: {error}") from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)
        raise AssertionError("unreachable")

    async def _prove_once(self, batch: InFlight) -> None:
        out = self._work / f"batch-{batch.number}.wtns"
        signed, started = [action.signed for action in batch.plan.actions], time.perf_counter()
        job = await asyncio.to_thread(self._prover.make_job, batch.before, batch.page, signed, out)
        made = time.perf_counter() - started

        def on_witness(seconds: float) -> None:
            # The witness is not used again after a restart: it is large, and its making takes seconds.
            witnessed = replace(batch.record, state="witnessed", c=f"{job.public[0]:064x}", witness_s=made + seconds)
            batch.record = self._write(witnessed, "witnessed")

        proven = await self.pool.prove(job, on_witness)
        proof = [f"{word:064x}" for word in proven.proof]
        batch.record = self._write(replace(batch.record, state="proven", proof=proof, prove_s=proven.prove_s), "proven")

    def _collect(self) -> bool:
        """Take note of proofs that are done; errors as `_prove`."""
        moved = False
        for batch in self._flight:
            if batch.proving and batch.proving.done():
                task, batch.proving = batch.proving, None
                task.result()
                moved = True
        return moved

    # --- on the chain

    async def _reach_l1(self) -> bool:
        """Confirm what is deep enough, send what is next."""
        if not any(batch.record.proof or batch.mined for batch in self._flight):
            return False
        look, moved = await self._submitter.look(self.number), False
        await self._submitter.note(self._flight, look, self.number)
        while self._flight and self._flight[0].mined and await self._submitter.confirm(self._flight[0], look):
            await self._settle(self._flight[0])
            moved = True
        following = next((batch for batch in self._flight if not batch.mined), None)
        if following is None or following.number != look.batches + 1 or not following.record.proof:
            return moved
        try:
            return moved | await self._submitter.send(following, look, self._flight)
        except ContractRevert as revert:
            return await self._refused(following, revert) or moved

    async def _settle(self, batch: InFlight) -> None:
        """Tell the journal; from here on the batch is history."""
        self.state, self.number = batch.after, batch.number
        self._flight.remove(batch)
        entries = sum(len(s.entries) for s in self._engine.settlement.in_flight if s.plan.number == batch.number)
        self._settling = batch.number, entries
        if batch.proving:
            batch.proving.cancel()
        events = await self._submit(c.BatchConfirmed(batch.number))
        if any(isinstance(event, ev.CommandRejected) for event in events):
            raise StateDiverged(f"batch {batch.number} is confirmed, and the engine refused it: {events}")
        self._settled, self._settling = self._settled + entries, (0, 0)
        self._crash_at("settled")
        if self._snapshots:
            await asyncio.to_thread(self._snapshots.offer, batch.number, batch.after)

    # --- refusals

    async def _refused(self, batch: InFlight, revert: ContractRevert) -> bool:
        """Act on a refusal by the contract: prove anew, unseal a batch that is too old, stop at anything else."""
        attempts = self._options.rpc_attempts
        if await retry(attempts, self._l1.exchange.batch_number) != batch.number - 1:
            return False  # mined, or its predecessor lost, while the question was under way
        log.error("batch %d: %s", batch.number, revert)
        if revert.name == "IsFrozen":
            await self._freeze(revert)
            return False
        if revert.name == "InvalidProof" and batch.proofs_refused + 1 < self._options.prove_attempts:
            batch.proofs_refused += 1
            batch.record = self._write(replace(batch.record, state="built", proof=[], raw_tx="", tx=""), "built")
        elif revert.name in _TOO_OLD:
            await self._drop(batch.number, await self._get_chain_time() - self._options.max_lag)
        else:
            raise CommitRefused(f"batch {batch.number}: {revert}") from revert
        return True

    async def _freeze(self, revert: ContractRevert) -> None:
        """End all work, once the batches that the chain has are settled, since they count, and the freeze is confirmed.

        Raises
        ------
        FreezeSeen
            Before it is: what is frozen in the journal stays so, also where a reorganisation took the freeze away.
        """
        if any(batch.mined for batch in self._flight):
            return
        o = self._options
        if not await retry(o.rpc_attempts, self._l1.is_frozen, o.confirmations, o.start_block):
            raise FreezeSeen("the exchange is frozen in the newest block") from revert
        await self._forget(0)
        await self._submit(c.Freeze())
        raise Frozen("the exchange is frozen; what is not settled never will be") from revert

    async def _drop(self, number: int, min_timestamp: int) -> None:
        """Unseal a batch and all those built on it, and have what was in them sealed anew."""
        await self._forget(number)
        # The journal first: a record of a batch that is sealed anew with other rows would not fit it.
        await self._submit(c.BatchDropped(number, min_timestamp))
        self._store.delete_batches(number)
        self._due = min(self._due, self._count_all())
        log.warning("batches from %d on are unsealed and made anew", number)

    async def _forget(self, number: int) -> None:
        """Stop the work at batches from this number on."""
        gone = [batch for batch in self._flight if batch.number >= number]
        self._flight = self._flight[: len(self._flight) - len(gone)]
        tasks = [batch.proving for batch in gone if batch.proving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
