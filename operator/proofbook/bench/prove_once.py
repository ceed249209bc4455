"""A proof in a process of its own: ``python -m proofbook.bench.prove_once CIRCUIT BACKEND WTNS``; prints JSON.

The first proof is what a fresh process needs, reading the key included; the second one has whatever the backend keeps.
The native one also tells how long it takes to open the key, and the second proof's steps.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from proofbook.bench.measure import anonymous_mib
from proofbook.prover.artifacts import load
from proofbook.prover.backend import NativeBackend, get_backend


class Watch(threading.Thread):
    """Notes the most anonymous memory seen, every 5 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = 0.0, threading.Event()

    def run(self) -> None:
        """See `threading.Thread.run`."""
        while not self._done.wait(0.005):
            self.peak = max(self.peak, anonymous_mib())

    def stop(self) -> float:
        """Return the peak in MiB."""
        self._done.set()
        self.join()
        return self.peak


def main(circuit: str, backend_name: str, wtns: str) -> int:
    """Prove twice and print the seconds, and the most anonymous memory beyond that before."""
    artifacts, before = load(circuit), anonymous_mib()
    watch = Watch()
    watch.start()
    seconds: list[float] = []
    found: dict[str, Any] = {}
    started = time.perf_counter()
    backend = get_backend(backend_name)
    native = backend if isinstance(backend, NativeBackend) else None
    if native is not None:
        native.open(artifacts.zkey)
        found["key_s"] = time.perf_counter() - started
    for _ in range(2 if native else 1):
        backend.prove(artifacts, Path(wtns))
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    if native is not None:
        found["steps_s"] = native.open(artifacts.zkey).steps
    print(json.dumps({"first_s": seconds[0], "warm_s": seconds[-1], "anon_mib": watch.stop() - before, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
