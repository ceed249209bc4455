"""Calculating witnesses: one node process kept alive, one JSON line a request."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any, Final, SupportsIndex, TypeAlias

from proofbook.protocol.secrets import without_secrets
from proofbook.prover.artifacts import Artifacts
from proofbook.prover.errors import ToolError, WitnessError
from proofbook.prover.workspace import Workspace, default_workspace, node

FIELD: Final = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""The scalar field of BN254."""
TIMEOUT_S: Final = 600.0
_MAX_REQUEST: Final = 256 << 20
_MAX_ANSWER: Final = 1 << 20

Value: TypeAlias = "SupportsIndex | str | Sequence[Value]"
"""A signal: a field element as an integer or decimal string, or nested lists of them."""


def encode_value(name: str, value: Value) -> Any:
    """Return a signal's value as JSON: decimal strings in lists of the same shape.

    Raises
    ------
    WitnessError
        `witness/inputs` when it is no field element in [0, r).
    """
    if isinstance(value, (str, SupportsIndex)) and not isinstance(value, bool):
        # Anything with an exact integer value will do, gmpy2's integers among them.
        text = value if isinstance(value, str) else str(index(value))
        if not (text.isascii() and text.isdecimal() and len(text) <= 78 and int(text) < FIELD):
            raise WitnessError("witness/inputs", f"input {name} is not a field element: {text[:90]}")
        return text
    if isinstance(value, (list, tuple)):
        return [encode_value(name, item) for item in value]
    raise WitnessError("witness/inputs", f"input {name} is a {type(value).__name__}, not a number or a list")


class WitnessWorker:
    """A node process that calculates witnesses, started on first use and again whenever it died.

    Safe to use from several threads: requests queue up.

    Parameters
    ----------
    workspace : Workspace
        Where the script is.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._number = 0

    def calculate(self, wasm: Path, inputs: Mapping[str, Value], out: Path, timeout: float = TIMEOUT_S) -> int:
        """Calculate a witness and write it as .wtns.

        Parameters
        ----------
        wasm : Path
            The circuit's witness program.
        inputs : mapping
            Every input signal by name.
        out : Path
            Written in one step, only on success.
        timeout : float
            Seconds; the process is killed after that.

        Returns
        -------
        int
            Number of elements of the witness.

        Raises
        ------
        WitnessError
            `witness/inputs`: missing, unknown, or out of range. `witness/unsatisfied`: the circuit refuses them; the
            message names template and line. `witness/failed`: anything else in the program.
        ToolError
            `tool/timeout`, `tool/died`, `tool/missing`.
        """
        encoded = {name: encode_value(name, value) for name, value in inputs.items()}
        with self._lock:
            self._number += 1
            request = {"id": self._number, "wasm": str(wasm.resolve()), "inputs": encoded, "out": str(out.resolve())}
            answer = self._ask(json.dumps(request).encode() + b"\n", timeout)
        if answer.get("ok") is True and type(elements := answer.get("elements")) is int:
            return elements
        kind = str(answer.get("kind"))
        code = f"witness/{kind}" if kind in ("inputs", "unsatisfied") else "witness/failed"
        raise WitnessError(code, f"{wasm.parent.parent.name}: {str(answer.get('message'))[:2000]}")

    def close(self) -> None:
        """End the process; the next request starts another one."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _alive(self) -> subprocess.Popen[bytes]:
        # A forked child must not share its parent's pipes.
        if self._process is not None and (self._owner != os.getpid() or self._process.poll() is not None):
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(
                [node(), str(self._workspace.script("witness.mjs"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=without_secrets(os.environ),
            )
            self._owner = os.getpid()
        return self._process

    def _ask(self, line: bytes, timeout: float) -> dict[str, Any]:
        if len(line) > _MAX_REQUEST:
            raise WitnessError("witness/inputs", f"inputs are larger than {_MAX_REQUEST} bytes")
        process = self._alive()
        try:
            assert process.stdin is not None
            process.stdin.write(line)
            process.stdin.flush()
            raw = self._read_line(process, time.monotonic() + timeout)
            answer = json.loads(raw)
        except (OSError, ValueError, RecursionError) as error:
            self.close()
            raise ToolError("tool/died", f"the witness calculator died: {error}", "run it again") from error
        except BaseException:
            # Timed out or interrupted: its answer would be taken for the next request's.
            self.close()
            raise
        if not isinstance(answer, dict) or answer.get("id") != self._number:
            self.close()
            raise ToolError("tool/died", "the witness calculator answered out of turn", "run it again")
        return answer

    def _read_line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        assert process.stdout is not None
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise ToolError("tool/timeout", "calculating the witness took too long")
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    raise OSError("its output ended")
                received += chunk
                if len(received) > _MAX_ANSWER:
                    raise OSError("its answer has no end")
        return bytes(received)


_workers: dict[Path, WitnessWorker] = {}
_workers_lock: Final = threading.Lock()


def shared_worker(workspace: Workspace | None = None) -> WitnessWorker:
    """Return this process's worker, ended when the process ends."""
    workspace = workspace or default_workspace()
    with _workers_lock:
        worker = _workers.get(workspace.root)
        if worker is None:
            worker = _workers[workspace.root] = WitnessWorker(workspace)
            atexit.register(worker.close)
        return worker


def calculate_witness(artifacts: Artifacts, inputs: Mapping[str, Value], out: Path, timeout: float = TIMEOUT_S) -> int:
    """Calculate a witness of a circuit with this process's worker; see `WitnessWorker.calculate`."""
    return shared_worker().calculate(artifacts.wasm, inputs, out, timeout)
