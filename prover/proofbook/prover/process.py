"""Subprocesses, file locks, hashes and atomic directories: the prover's edge to the machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from proofbook.protocol.secrets import without_secrets
from proofbook.prover.errors import ToolError
from proofbook.prover.workspace import Workspace, node

_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")
_TAIL: Final = 4000


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program said: its exit code and its output without colours."""

    code: int
    output: str


def run(command: Sequence[str | Path], *, timeout: float, cwd: Path | None = None, stdin: str = "") -> Finished:
    """Run a program to its end; its exit code is the caller's to judge.

    Parameters
    ----------
    command : sequence of str or Path
        Program and arguments, never a shell line.
    timeout : float
        Seconds until it is killed.
    cwd : Path, optional
        Working directory.
    stdin : str
        What it reads.

    Raises
    ------
    ToolError
        `tool/missing` or `tool/timeout`.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=without_secrets(os.environ),
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise ToolError("tool/missing", f"{words[0]} is not installed", "run `make setup`") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError("tool/timeout", f"{Path(words[0]).name} took longer than {timeout:.0f} s") from error
    return Finished(done.returncode, _ANSI.sub("", done.stdout.decode(errors="replace")))


def snarkjs(workspace: Workspace, *arguments: str | Path, timeout: float, stdin: str = "") -> Finished:
    """Run the snarkjs command line in a process of its own (it is GPL: called, never linked)."""
    cli = workspace.module("snarkjs/build/cli.cjs")
    # A large heap: set-up commands read whole sections of a ptau file.
    return run([node(), "--max-old-space-size=8192", cli, *arguments], timeout=timeout, stdin=stdin)


def tail(output: str) -> str:
    """Return the last part of a program's output, for an error message."""
    return output.strip()[-_TAIL:]


def sha256_file(path: Path) -> str:
    """Return a file's SHA-256 in hex.  Remembered by size and time, since keys are large."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on a file, so that two processes never build the same.

    Parameters
    ----------
    path : Path
        The lock file; made when missing, never removed (removing it would let two holders in).
    waiting : callable
        Called once when another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Fill a temporary directory and move it to its place in one step, or leave no trace.

    What stood at `target` is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    staging.chmod(0o755)  # mkdtemp makes it private; what is built here is not secret
    try:
        yield staging
        if target.exists():
            old = staging.with_name(staging.name + ".old")
            os.rename(target, old)
            os.rename(staging, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the file system can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
