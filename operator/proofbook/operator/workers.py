"""Prover workers: processes that prove batches, several at once, replaced when they die, hang or answer nonsense.

A worker is a program (`proofbook.operator.prove_worker`) with a process group of its own: killing it takes along what
it started. It is started when it is first needed and stays, so that its key stays mapped.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from proofbook.operator.codes import OperatorError
from proofbook.protocol.secrets import without_secrets
from proofbook.prover.backend import BASE_FIELD

log = logging.getLogger(__name__)
MAX_ANSWER_BYTES: Final = 1 << 16
_Number = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,78}\Z")]


class WorkerFailed(OperatorError):
    """A worker died, hung or answered nonsense, or said that it could not prove (code ``worker``)."""

    code: ClassVar[str] = "worker"


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    stage: Literal["witnessed", "proven", "failed"]
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    public: Annotated[list[_Number], msgspec.Meta(max_length=64)] = []
    proof: Annotated[list[_Number], msgspec.Meta(max_length=8)] = []
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A batch to be proven.

    Attributes
    ----------
    number : int
        Of the batch; of several that wait, the least goes first.
    artifacts : Path
        The directory of the circuit's key and program.
    inputs : mapping
        Every input signal.
    public : tuple of int
        What the proof must be for.
    out : Path
        Where the witness goes; gone when the job is done.
    """

    number: int
    artifacts: Path
    inputs: Mapping[str, Any]
    public: tuple[int, ...]
    out: Path


@dataclass(frozen=True, slots=True)
class Proven:
    """The contract's eight words, and the seconds that witness and proof took."""

    proof: tuple[int, ...]
    witness_s: float
    prove_s: float


class Worker:
    """One process. Its methods block; `kill` may be called from any thread meanwhile, and ends them.

    Parameters
    ----------
    command : tuple of str
        The program.
    threads : int
        Cores that it uses.
    """

    def __init__(self, command: tuple[str, ...], threads: int) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=without_secrets(os.environ) | {"RAYON_NUM_THREADS": str(threads)},
            start_new_session=True,
        )
        self._id = 0

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Tell whether the process runs. One that has ended keeps its number until `discard`."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self._process.returncode is None and os.waitid(os.P_PID, self.pid, options) is None

    def send(self, job: Job) -> None:
        """Hand over a job; `WorkerFailed` when the process has died."""
        self._id += 1
        values = {"id": self._id, "artifacts": str(job.artifacts), "inputs": job.inputs, "out": str(job.out)}
        assert self._process.stdin is not None
        try:
            # Numbers of other libraries' kinds become whole ones.
            self._process.stdin.write(json.dumps(values, default=int).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerFailed(f"prover worker {self.pid} died: {error}") from error

    def receive(self, stage: str) -> _Answer:
        """Wait for the answer that a stage is done; `WorkerFailed` for any other one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline(MAX_ANSWER_BYTES)
        if not line:
            raise WorkerFailed(f"prover worker {self.pid} died")
        try:
            answer = msgspec.json.decode(line, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WorkerFailed(f"prover worker {self.pid} answered nonsense: {str(error)[:500]}") from error
        if answer.id == self._id and answer.stage == "failed":
            raise WorkerFailed(f"{answer.code}: {answer.message}")
        if answer.id != self._id or answer.stage != stage:
            raise WorkerFailed(f"prover worker {self.pid} answered out of turn")
        return answer

    def kill(self) -> None:
        """End the process and all that it started, at once."""
        if self._process.returncode is None:  # once waited for, the number may be another group's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def discard(self) -> None:
        """Kill it, and free what is left of it."""
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def default_command(backend: str) -> tuple[str, ...]:
    """Return the program of a worker."""
    return (sys.executable, "-P", "-m", "proofbook.operator.prove_worker", backend)


class ProverPool:
    """So many workers, and the jobs that wait for one.

    Parameters
    ----------
    backend : str
        ``auto``, ``native`` or ``snarkjs``.
    workers : int
        How many proofs are made at once.
    threads : int
        Cores each worker uses; 0 shares all cores among them.
    timeout_s : float
        A job that takes longer is taken for hung.

    Attributes
    ----------
    command : tuple of str
        The program of workers started from now on.
    running : dict of int to Worker
        Who is at which batch.
    """

    def __init__(self, backend: str, workers: int, threads: int = 0, timeout_s: float = 3600.0) -> None:
        self.command = default_command(backend)
        self.running: dict[int, Worker] = {}
        self._threads = threads or max(len(os.sched_getaffinity(0)) // workers, 1)
        self._timeout_s = timeout_s
        self._free = workers
        self._idle: list[Worker] = []
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._asked = 0
        self._executor = ThreadPoolExecutor(workers, "prover")
        self._closed = False

    async def prove(self, job: Job, on_witness: Callable[[float], None]) -> Proven:
        """Prove a batch as soon as a worker is free.

        Parameters
        ----------
        job : Job
            The batch.
        on_witness : callable
            Called with the seconds that the witness took, once it is there.

        Raises
        ------
        WorkerFailed
            Whatever went wrong; the next job gets another worker.
        """
        await self._acquire(job.number)
        try:
            return await self._prove(job, on_witness)
        finally:
            self.running.pop(job.number, None)
            for path in (job.out, job.out.with_name(f"{job.out.name}.part")):
                path.unlink(missing_ok=True)  # killed, a worker leaves what it had begun to write
            self._release()

    async def _acquire(self, number: int) -> None:
        if self._free:
            self._free -= 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked += 1
        heapq.heappush(self._waiting, (number, self._asked, future))
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._release()  # handed over and called off in the same moment
            raise

    def _release(self) -> None:
        while self._waiting:
            *_, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
                return
        self._free += 1

    async def _prove(self, job: Job, on_witness: Callable[[float], None]) -> Proven:
        worker = self._take()
        self.running[job.number] = worker
        late = asyncio.get_running_loop().call_later(self._timeout_s, worker.kill)
        usable = False
        try:
            await self._in_thread(worker.send, job)
            witnessed = await self._in_thread(worker.receive, "witnessed")
            on_witness(witnessed.seconds)
            proven = await self._in_thread(worker.receive, "proven")
            proof = _check(proven, job)
            usable = True
        finally:
            late.cancel()
            if usable:
                self._idle.append(worker)
            else:
                # Killed even where it only failed: what it still holds of the job is not known.
                worker.discard()
        return Proven(proof, witnessed.seconds, proven.seconds)

    def _take(self) -> Worker:
        if self._closed:
            raise WorkerFailed("the operator is closing")
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive():
                return worker
            log.warning("prover worker %d died while it had nothing to do", worker.pid)
            worker.discard()
        try:
            return Worker(self.command, self._threads)
        except OSError as error:
            raise WorkerFailed(f"no prover worker can be started: {error}") from error

    def _in_thread(self, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._executor, call, *args)

    def close(self) -> None:
        """End all workers, at once; jobs that run fail."""
        self._closed = True
        for worker in self._idle:
            worker.discard()
        self._idle = []
        for worker in self.running.values():
            worker.kill()
        self._executor.shutdown(wait=False, cancel_futures=True)


def _check(answer: _Answer, job: Job) -> tuple[int, ...]:
    """Return a proof's words; `WorkerFailed` unless it is one, for the job's public inputs."""
    proof = tuple(int(word) for word in answer.proof)
    if tuple(int(value) for value in answer.public) != job.public:
        raise WorkerFailed("the proof is for other public inputs: was a file replaced meanwhile?")
    if len(proof) != 8 or any(word >= BASE_FIELD for word in proof):
        raise WorkerFailed("the proof is not eight elements of the field")
    return proof
