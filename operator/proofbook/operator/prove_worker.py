"""A prover's process: ``python -m proofbook.operator.prove_worker``, one JSON line in and two out for each batch.

```
in   {"id", "artifacts": DIRECTORY, "inputs": {SIGNAL: VALUE}, "out": FILE}
out  {"id", "stage": "witnessed", "seconds"}
     {"id", "stage": "proven", "seconds", "public": [decimal], "proof": [eight decimals]}
     {"id", "stage": "failed", "code", "message"}, in place of either
```

Key and witness program stay mapped and compiled between batches. The process ends when its standard input does, in the
middle of a proof too: a worker never outlives its operator.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from proofbook.protocol.errors import ProofbookError
from proofbook.prover.artifacts import Artifacts, load_directory
from proofbook.prover.backend import Proof, get_backend
from proofbook.prover.calculator import calculate_witness

NICENESS: Final = 5
"""Orders come before proofs where both want the processor."""


class Prover:
    """Does the two long steps of a batch.

    Parameters
    ----------
    backend : str
        ``auto``, ``native`` or ``snarkjs``.
    """

    def __init__(self, backend: str) -> None:
        self._backend = get_backend(backend)
        self._artifacts: dict[Path, Artifacts] = {}

    def _load(self, directory: Path) -> Artifacts:
        if directory not in self._artifacts:
            self._artifacts[directory] = load_directory(directory)
        return self._artifacts[directory]

    def make_witness(self, directory: Path, inputs: Mapping[str, Any], out: Path) -> None:
        """Calculate a witness; errors as `calculate_witness`."""
        calculate_witness(self._load(directory), inputs, out)

    def prove(self, directory: Path, witness: Path) -> Proof:
        """Prove a witness; errors as `ProverBackend.prove`."""
        return self._backend.prove(self._load(directory), witness)


class Channel:
    """The operator's end of this process: lines in, from a thread that notices the end, and lines out."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._source:
            self._lines.put(line)
        # The operator has gone. What runs for it goes too: this process leads a group of its own.
        os.killpg(0, signal.SIGKILL)

    def receive(self) -> dict[str, Any]:
        """Wait for the next job."""
        job: dict[str, Any] = json.loads(self._lines.get())
        return job

    def send(self, answer: Mapping[str, Any]) -> None:
        """Answer."""
        self._sink.write(json.dumps(answer).encode() + b"\n")
        self._sink.flush()


def do(prover: Prover, channel: Channel, job: Mapping[str, Any]) -> None:
    """Do one job, and answer for it, whatever comes of it."""
    directory, out = Path(job["artifacts"]), Path(job["out"])
    try:
        started = time.perf_counter()
        prover.make_witness(directory, job["inputs"], out)
        witnessed = time.perf_counter()
        channel.send({"id": job["id"], "stage": "witnessed", "seconds": witnessed - started})
        proof = prover.prove(directory, out)
        answer = {
            "stage": "proven",
            "seconds": time.perf_counter() - witnessed,
            "public": [str(value) for value in proof.public],
            "proof": [str(word) for word in proof.to_solidity()],
        }
    except (ProofbookError, OSError) as error:
        answer = {"stage": "failed", "code": getattr(error, "code", "os"), "message": str(error)[:2000]}
    channel.send({"id": job["id"], **answer})


def run(prover: Prover) -> None:
    """Work until the operator goes."""
    os.nice(NICENESS)
    # Whatever else is printed here, by a library say, must not come between the answers.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    channel = Channel(sys.stdin.buffer, sink)
    while True:
        do(prover, channel, channel.receive())


if __name__ == "__main__":
    run(Prover(sys.argv[1]))
