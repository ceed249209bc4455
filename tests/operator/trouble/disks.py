"""Disks that can be filled and freed while an operator works on them."""

from __future__ import annotations

import errno
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MOUNT = 'mount -t tmpfs -o size=24m tmpfs "$0" && exec "$@"'
OWN = ("unshare", "-Umr", "sh", "-c", MOUNT)
Make = Callable[[Sequence[str]], Any]


def can_mount(path: Path) -> bool:
    """Tell whether this system lets anybody have a small disk of their own."""
    try:
        return subprocess.run([*OWN, str(path), "true"], capture_output=True).returncode == 0
    except OSError:
        return False


class SmallDisk:
    """A disk of 24 MiB of an operator's own, and a file on it that takes what is left."""

    def __init__(self, path: Path, make: Make) -> None:
        self.maker = make((*OWN, str(path)))
        pid = self.maker.process.pid
        until = time.monotonic() + 30
        while str(path) not in Path(f"/proc/{pid}/mounts").read_text():
            assert time.monotonic() < until, "no disk"
            time.sleep(0.05)
        self.inside, self.directory = str(path / "operator"), Path(f"/proc/{pid}/root{path}/operator")
        self._ballast = self.directory.parent / "ballast"

    def fill(self) -> None:
        try:
            with self._ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC

    def free(self) -> None:
        self._ballast.unlink()


class LimitedFiles:
    """Files that can't grow, by the system's limit for the operators, those to come and their provers."""

    def __init__(self, path: Path, make: Make, children: Callable[[int], list[int]]) -> None:
        self.maker, self._children = make(()), children
        self.directory = path / "operator"
        self.inside = str(self.directory)

    def _limit(self, size: int) -> None:
        waiting = [self.maker.process.pid]
        while waiting:
            pid = waiting.pop()
            waiting += self._children(pid)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def fill(self) -> None:
        self._limit(1)

    def free(self) -> None:
        self._limit(resource.RLIM_INFINITY)
