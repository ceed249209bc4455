"""Prover workers that do not work: small programs in their place, and the pool that has to cope."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from proofbook.operator.workers import Job, ProverPool, Worker, WorkerFailed

READ = "import json, os, sys, time; job = json.loads(sys.stdin.readline()); n = job['id']; "
SAY = "print(json.dumps({{'id': n, {}}}), flush=True); "
WITNESSED = SAY.format("'stage': 'witnessed', 'seconds': 0.5")
PROVEN = SAY.format("'stage': 'proven', 'seconds': 1.5, 'public': ['1', '2', '3'], 'proof': [str(k) for k in range(8)]")


def job(tmp_path, number=1):
    return Job(number, tmp_path, {"C": 1}, (1, 2, 3), tmp_path / f"batch-{number}.wtns")


def pool_of(program, workers=1, timeout_s=30.0):
    pool = ProverPool("auto", workers, 1, timeout_s)
    pool.command = (sys.executable, "-c", program)
    return pool


def has_ended(pid):
    """Tell whether a process is gone; one that nobody waited for is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")
    except FileNotFoundError:
        return True


def run(pool, *jobs):
    async def main():
        try:
            return await asyncio.gather(*(pool.prove(j, lambda seconds: None) for j in jobs), return_exceptions=True)
        finally:
            pool.close()

    return asyncio.run(main())


def test_an_honest_answer_is_taken(tmp_path):
    (proven,) = run(pool_of(READ + WITNESSED + PROVEN), job(tmp_path))
    assert (proven.proof, proven.witness_s, proven.prove_s) == (tuple(range(8)), 0.5, 1.5)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("", "died"),
        (READ, "died"),
        (READ + WITNESSED, "died"),
        (READ + "print('hello')", "nonsense"),
        (READ + "print('[' * 200_000)", "nonsense"),
        (READ + SAY.format("'stage': 'done'"), "nonsense"),
        (READ + "n += 1; " + WITNESSED, "out of turn"),
        (READ + PROVEN, "out of turn"),
        (READ + WITNESSED + PROVEN.replace("'3'", "'4'"), "other public inputs"),
        (READ + WITNESSED + PROVEN.replace("'3'", "'-3'"), "nonsense"),
        (READ + WITNESSED + PROVEN.replace("range(8)", "range(7)"), "eight elements"),
        (READ + WITNESSED + PROVEN.replace("str(k)", "str(k * 10**76)"), "eight elements"),
        (READ + SAY.format("'stage': 'failed', 'code': 'witness/unsatisfied', 'message': 'line 7'"), "line 7"),
    ],
)
def test_what_is_no_answer_is_an_error(tmp_path, program, told):
    (error,) = run(pool_of(program), job(tmp_path))
    assert isinstance(error, WorkerFailed) and told in str(error)


def test_a_program_that_is_not_there_is_an_error(tmp_path):
    pool = ProverPool("auto", 1)
    pool.command = (str(tmp_path / "nothing"),)
    (error,) = run(pool, job(tmp_path))
    assert isinstance(error, WorkerFailed) and "can be started" in str(error)


def test_a_worker_that_hangs_is_ended_with_all_it_started(tmp_path):
    child = (
        "import subprocess; p = subprocess.Popen(['sleep', '600']); open('pids', 'w').write(f'{os.getpid()} {p.pid}'); "
    )
    program = f"import os; os.chdir({str(tmp_path)!r}); " + child + READ + WITNESSED + "time.sleep(600)"
    (error,) = run(pool_of(program, timeout_s=4.0), job(tmp_path))
    assert isinstance(error, WorkerFailed)
    pids = (tmp_path / "pids").read_text().split()
    until = time.monotonic() + 20
    while not all(map(has_ended, pids)):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_next_job_gets_another_worker_and_an_idle_one_is_used_again(tmp_path):
    loop = "import json, os, sys, time\nfor line in sys.stdin:\n    n = json.loads(line)['id']; "
    pool = pool_of(loop + WITNESSED + PROVEN)

    async def main():
        pids = []

        def note(seconds):
            pids.append(pool.running[1].pid)

        await pool.prove(job(tmp_path), note)
        await pool.prove(job(tmp_path), note)
        os.kill(pids[-1], 9)
        while not has_ended(pids[-1]):
            await asyncio.sleep(0.01)
        # Its death while it had nothing to do fails no job.
        await pool.prove(job(tmp_path), note)
        pool.close()
        return pids

    first, second, third = asyncio.run(main())
    assert first == second != third and has_ended(third)


def test_of_the_jobs_that_wait_the_oldest_batch_goes_first(tmp_path):
    loop = "import json, os, sys, time\nfor line in sys.stdin:\n    n = json.loads(line)['id']; "
    pool = pool_of(loop + WITNESSED + PROVEN)
    order = []

    async def prove(number):
        await pool.prove(job(tmp_path, number), lambda seconds: order.append(number))

    async def main():
        tasks = [asyncio.create_task(prove(number)) for number in (5, 9, 8, 6, 7)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pool.close()

    asyncio.run(main())
    assert order == [5, 6, 7, 9]


def test_a_job_called_off_frees_its_worker(tmp_path):
    pool = pool_of(READ + WITNESSED + "time.sleep(600)")

    async def main():
        at_work = asyncio.Event()
        task = asyncio.create_task(pool.prove(job(tmp_path), lambda seconds: at_work.set()))
        await at_work.wait()
        pid = pool.running[1].pid
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert has_ended(pid) and not pool.running
        pool.command = (sys.executable, "-c", READ + WITNESSED + PROVEN)
        assert (await pool.prove(job(tmp_path), lambda seconds: None)).prove_s == 1.5
        pool.close()
        with pytest.raises(WorkerFailed, match="closing"):
            await pool.prove(job(tmp_path), lambda seconds: None)

    asyncio.run(main())


def test_several_workers_work_at_once_and_share_the_cores(tmp_path):
    # Each waits for the other.
    meet = (
        "open(os.path.join({0!r}, str(os.getpid())), 'w').write(os.environ['RAYON_NUM_THREADS']); "
        "[time.sleep(0.01) for _ in iter(lambda: len(os.listdir({0!r})) < 2, False)]; "
    )
    folder = tmp_path / "met"
    folder.mkdir()
    pool = ProverPool("auto", 2, 0, 30.0)
    pool.command = (sys.executable, "-c", READ + WITNESSED + meet.format(str(folder)) + PROVEN)
    proven = run(pool, job(tmp_path, 1), job(tmp_path, 2))
    assert [p.prove_s for p in proven] == [1.5, 1.5]
    cores = len(os.sched_getaffinity(0))
    assert {path.read_text() for path in folder.iterdir()} == {str(max(cores // 2, 1))}


def test_a_number_that_may_be_anothers_is_not_killed_and_what_a_dead_worker_started_is(tmp_path, monkeypatch):
    child = "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL).pid, flush=True)"
    worker = Worker((sys.executable, "-c", child), 1)
    assert worker._process.stdout is not None
    left = int(worker._process.stdout.readline())
    until = time.monotonic() + 20
    while worker.is_alive():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not has_ended(left) and not worker.is_alive()
    worker.discard()
    while not has_ended(left):
        assert time.monotonic() < until
        time.sleep(0.01)
    killed = []
    monkeypatch.setattr("os.killpg", lambda *group: killed.append(group))
    worker.kill()
    worker.discard()
    assert killed == [] and not worker.is_alive()


def test_what_a_killed_worker_had_begun_to_write_is_removed(tmp_path):
    begun = "open(job['out'] + '.part', 'wb').write(bytes(1000)); "
    (error,) = run(pool_of(READ + begun), job(tmp_path))
    assert isinstance(error, WorkerFailed) and list(tmp_path.iterdir()) == []
