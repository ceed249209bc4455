"""What all benchmarks share: clocks, percentiles, the machine's name, and where figures go.

Every figure of work done by one process is given twice: by the wall clock, and by the processor's time that the process
used. On a machine that does other things meanwhile, the second one is what the work costs.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from proofbook.prover.workspace import default_workspace

Json = dict[str, Any]
MIB: Final = 1 << 20


class Clock:
    """Measures a ``with`` block.

    Attributes
    ----------
    wall_s, cpu_s : float
        Seconds of the wall clock, and of the process on all its threads.
    """

    wall_s: float
    cpu_s: float

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = time.process_time() - self._cpu


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed.

    Raises
    ------
    ValueError
        Without values, or for a share not in (0, 1].
    """
    if not values or not 0 < share <= 1:
        raise ValueError("a percentile needs values and a share in (0, 1]")
    ordered = sorted(values)
    # In whole numbers: 0.999 * 1000 is a little more than 999 to a computer.
    rank = -(-len(ordered) * round(share * 10**6) // 10**6)
    return ordered[rank - 1]


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the least-squares slope of a line through points; `ValueError` for fewer than two different ``xs``."""
    if len(xs) != len(ys) or len(set(xs)) < 2:
        raise ValueError("a slope needs two different points")
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True)) / sum((x - x0) ** 2 for x in xs)


def peak_mib() -> float:
    """Return the most memory this process had resident, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def anonymous_mib(pid: int | str = "self") -> float:
    """Return a process's resident memory that is no mapped file, in MiB; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:")), 0.0)


def get_machine() -> Json:
    """Return what figures depend on: processor, cores, Python, and how busy the machine was when asked."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        cpu = ""
    return {
        "cpu": cpu or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
        "unix_time": int(time.time()),
    }


def get_folder() -> Path:
    """Return ``build/bench``, made when missing."""
    folder = default_workspace().build / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tidy(value: Any) -> Any:
    """Round the floats in a document to four significant digits: more is noise."""
    if isinstance(value, dict):
        return {key: tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write_json(folder: Path, subject: str, figures: Json) -> Json:
    """Write a subject's figures with the machine's name, and return the document."""
    document: Json = tidy({**figures, "machine": get_machine()})
    (folder / f"{subject}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document
