"""Steps and flushes behind the API: no failure is lost, nothing outlives the operator, one driver is enough."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proofbook.operator import commands as c
from proofbook.operator.background import Background
from proofbook.operator.batches import ReorgError
from proofbook.operator.codes import OperatorError
from proofbook.operator.journal import JournalDisk
from proofbook.operator.l1 import RpcUnavailable
from proofbook.protocol.errors import ProofbookError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("live")]


async def until(condition, seconds=240):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about")


class Told:
    """A background whose stop is noted, and what asyncio complains of."""

    def __init__(self):
        self.stops: list[ProofbookError] = []
        self.complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.complaints.append(context))
        self.background = Background(self.stops.append, lambda: bool(self.stops), 0.01)


@pytest.mark.parametrize(
    ("error", "code"),
    [(JournalDisk("full"), "disk"), (KeyError("unforeseen"), "operator"), (RpcUnavailable("away"), "rpc_unavailable")],
)
def test_a_flush_that_nobody_waits_for_fails_aloud(error, code):
    async def main():
        told = Told()

        async def flush():
            raise error

        task = told.background.begin(flush)
        await asyncio.wait([task])
        del task
        await asyncio.sleep(0)
        assert not told.complaints
        return told

    told = asyncio.run(main())
    if isinstance(error, RpcUnavailable):
        assert (told.stops, told.background.trouble) == ([], {"flush": code})
    else:
        assert [stop.code for stop in told.stops] == [code] and told.background.trouble == {}


def test_trouble_of_a_flush_ends_when_a_step_succeeds():
    async def main():
        told = Told()
        fates = [RpcUnavailable("away"), None]

        async def step():
            if fates and (fate := fates.pop(0)):
                raise fate

        async def flush():
            raise RpcUnavailable("away")

        with pytest.raises(RpcUnavailable):
            await told.background.begin(flush)
        told.background.repeat(step, 0.0)
        await asyncio.sleep(0)
        assert told.background.trouble == {"flush": "rpc_unavailable", "step": "rpc_unavailable"}
        await until(lambda: not told.background.trouble)
        assert told.background.is_running()
        await told.background.close()
        assert not told.background.is_running() and not told.stops

    asyncio.run(main())


def test_nothing_is_left_after_the_end():
    async def main():
        told, ends = Told(), []

        async def forever():
            try:
                await asyncio.sleep(600)
            finally:
                ends.append(1)

        told.background.repeat(forever, 0.0)
        waited = asyncio.shield(told.background.begin(forever))
        told.background.begin(forever)
        await asyncio.sleep(0)
        await told.background.close()
        assert len(ends) == 3 and len(asyncio.all_tasks()) == 1
        with pytest.raises(asyncio.CancelledError):
            await waited
        assert not told.stops and not told.complaints

    asyncio.run(main())


def test_a_step_that_fails_for_an_unforeseen_reason_stops_the_operator():
    async def main():
        told = Told()

        async def step():
            raise KeyError("unforeseen")

        told.background.repeat(step, 0.0)
        await until(lambda: told.stops)
        assert isinstance(told.stops[0], OperatorError) and "KeyError" in str(told.stops[0])
        assert not told.background.is_running()
        await told.background.close()

    asyncio.run(main())


def test_a_flush_not_waited_for_is_told_in_the_health_and_ends_with_the_operator(
    live, session, tmp_path, faults, caplog
):
    async def work(s):
        s.impatient()
        real = s.operator._l1.get_head
        s.operator._l1.get_head = lambda: (_ for _ in ()).throw(ConnectionError("gone"))
        await s.post("/v1/batches?wait=false", None, 202)
        await until(lambda: s.operator.get_health().trouble == ["rpc_unavailable"])
        s.operator._l1.get_head = real
        planned = faults(tmp_path, s.operator, batch_1=["hang"])
        await s.post("/v1/batches?wait=false", None, 202)
        await until(lambda: planned.events() == ["begin 1"])
        return s.operator

    operator = session(live.directory(tmp_path / "operator"), work)
    assert operator.stopped is None and "the operator stops" not in caplog.text
    assert "never retrieved" not in caplog.text and not operator.batcher.pool.running


def test_what_failed_half_way_is_not_gone_on_with_by_another_driver(live, session, tmp_path, faults):
    """The journal's disk fails for the very command that seals a batch: the engine has it, the journal does not."""

    async def work(s):
        planned = faults(tmp_path, s.operator)
        real = s.operator.batcher._submit

        async def submit(command):
            events = await real(command)
            if isinstance(command, c.SealBatch):
                await asyncio.sleep(2.0)  # until the others stand behind this one
                raise JournalDisk("nothing was written: disk I/O error")
            return events

        s.operator.batcher._submit = submit
        flushes = [asyncio.create_task(s.operator.flush()) for _ in range(3)]
        done = await asyncio.gather(*flushes, return_exceptions=True)
        assert [type(error) for error in done] == [JournalDisk] * 3
        assert s.operator.store.list_batches(9) == [] and planned.events() == []
        assert s.operator.stopped.code == "disk"

    session(live.directory(tmp_path / "operator"), work)


def test_a_flush_waits_for_all_that_was_there_also_while_a_batch_is_being_confirmed(populated, session, tmp_path):
    async def work(s):
        s.impatient()
        batcher, counts = s.operator.batcher, []
        real = batcher._submit

        async def submit(command):
            events = await real(command)
            if isinstance(command, c.BatchConfirmed):
                counts.append(batcher.want_all())  # what a flush would do that begins at this very moment
            return events

        batcher._submit = submit
        assert await s.operator.flush() == [1, 2]
        assert counts == [5, 5] and batcher._settled == 5

    session(populated.directory(tmp_path / "operator"), work)


def test_flushes_wait_for_the_background_and_do_not_drive_beside_it(populated, session, tmp_path):
    """Each client that went away would else ask the node on its own, for as long as a transaction waits."""
    live = populated

    async def work(s):
        s.impatient(poll_s=0.2)
        looks, real = [], s.operator.batcher._submitter.look

        async def look(confirmed):
            looks.append(confirmed)
            return await real(confirmed)

        s.operator.batcher._submitter.look = look
        s.operator.background.repeat(s.operator._batch, 0.0)
        live.anvil.rpc("evm_setAutomine", False)
        try:
            flushes = [asyncio.create_task(s.operator.flush()) for _ in range(20)]
            await until(lambda: (r := s.operator.store.get_batch(1)) is not None and r.raw_tx)
            await asyncio.sleep(0.5)
            looks.clear()
            await asyncio.sleep(2.0)
            assert 2 <= len(looks) <= 15
            while not all(flush.done() for flush in flushes):
                live.anvil.mine(1)
                await asyncio.sleep(0.1)
            assert [await flush for flush in flushes] == [[1, 2]] * 20
        finally:
            live.anvil.rpc("evm_setAutomine", True)
        # A failure of the one that drives is theirs as well.
        live.deposit("bob", 2, 1, 5)
        await s.operator.poll()
        s.operator.batcher._submitter.look = lambda confirmed: (_ for _ in ()).throw(RpcUnavailable("gone"))
        with pytest.raises(RpcUnavailable, match="gone"):
            await s.operator.flush()

    session(live.directory(tmp_path / "operator"), work)


@pytest.mark.parametrize("driven", [True, False])
def test_a_flush_does_not_go_on_after_the_operator_has_stopped(live, session, tmp_path, faults, driven):
    """Whoever waits would else settle by itself what the operator stopped for: a lost request, a broken store."""

    async def work(s):
        s.impatient()
        planned = faults(tmp_path, s.operator, batch_1=["hang"])
        if driven:
            s.operator.background.repeat(s.operator._batch, 0.0)
        flush = asyncio.create_task(s.operator.flush())
        await until(lambda: planned.events() == ["begin 1"])
        s.operator.stop(ReorgError("request 2 was confirmed, and its block is no longer on the chain"))
        with pytest.raises(ReorgError):
            await asyncio.wait_for(flush, 30)
        assert s.operator.stopped.code == "reorg" and live.by("alice").batch_number() == 0

    session(live.directory(tmp_path / "operator"), work)
