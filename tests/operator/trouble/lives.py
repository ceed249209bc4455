"""Operators as processes of their own, one after another, and what their traders see of them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

VICTIM = Path(__file__).resolve().parent / "victim.py"
PATIENCE_S = 120  # of a machine that has much else to do


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Maker:
    """Makes operators, see victim.py; ``prefix`` is a command that runs it."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(VICTIM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.tell, self.told = self.process.stdin, self.process.stdout

    def make(self, directory: Path | str, point: str) -> int:
        """Return the process's id."""
        self.tell.write(f"{directory}\t{point}\n".encode())
        return int(self.told.readline())

    def get_end(self) -> int | None:
        """Return how the operator ended, None while it lives."""
        return int(self.told.readline()) if select.select([self.told], [], [], 0)[0] else None

    def close(self) -> None:
        self.tell.close()
        self.process.terminate()
        self.process.wait()


class Life:
    """One life of an operator. ``inside`` is its directory as it sees it, where that is not ours."""

    def __init__(self, maker: Maker, directory: Path, point: str = "none", inside: str = "") -> None:
        (directory / "operator.url").unlink(missing_ok=True)
        self.directory, self.maker = directory, maker
        self.code: int | None = None
        self.workers: set[int] = set()
        self.pid = maker.make(inside or directory, point)

    def is_over(self) -> bool:
        self.workers |= set(children(self.pid))
        self.code = self.maker.get_end() if self.code is None else self.code
        return self.code is not None

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until, what
            time.sleep(0.02)

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response | None:
        """Ask its API; None when it ended before it answered."""
        url = self.directory / "operator.url"
        self.wait_for(lambda: self.is_over() or (url.exists() and url.read_text().endswith("\n")), "it did not start")
        try:
            return httpx.request(method, url.read_text().strip() + path, json=body, timeout=PATIENCE_S)
        except (OSError, httpx.HTTPError):
            return None

    def end(self, with_signal: int = signal.SIGKILL) -> int | None:
        """Have it end, if it has not; returns its exit code."""
        if not self.is_over():
            os.kill(self.pid, with_signal)
            self.wait_for(self.is_over, "it lives on")
        self.wait_for(lambda: not any(map(is_running, self.workers)), "a prover outlived its operator")
        return self.code
