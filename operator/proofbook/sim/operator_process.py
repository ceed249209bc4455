"""The operator as a process of its own: ``python -m proofbook.sim.operator_process DIRECTORY``, and what starts it.

The process ends when its standard input does, so that nothing stays behind if whoever started it is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, ClassVar, Final

from proofbook.operator.service import URL_FILE, run
from proofbook.sim.flow import SimulationError

START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 20.0


class OperatorFailed(SimulationError):
    """The operator's process did not start, or ended by itself."""

    code: ClassVar[str] = "operator_failed"


class OperatorProcess:
    """An operator in a process of its own; use it in a ``with`` statement.

    Parameters
    ----------
    directory : Path
        The operator's, see `proofbook.operator.settings`.
    log : Path
        Where its log goes; outside of the directory, so that it outlives it.

    Attributes
    ----------
    url : str
        Its API, once started.
    """

    url: str

    def __init__(self, directory: Path, log: Path) -> None:
        self._directory, self._log_path = directory, log
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> OperatorProcess:
        try:
            self._start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()  # whoever pressed Ctrl-C does not want to wait for a proof

    def _start(self) -> None:
        self._log = self._log_path.open("wb")
        command = [sys.executable, "-m", "proofbook.sim.operator_process", str(self._directory)]
        # A session of its own: a Ctrl-C in the terminal is the demonstration's to handle.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, start_new_session=True
        )
        url_file, until = self._directory / URL_FILE, time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            self.check()
            if url_file.is_file() and (url := url_file.read_text(encoding="utf-8").strip()):
                self.url = url
                return
            time.sleep(0.05)
        raise OperatorFailed(f"the operator did not start within {START_SECONDS:.0f} s", f"see {self._log_path}")

    @property
    def pid(self) -> int:
        """The process's number; 0 when none runs."""
        return self._process.pid if self._process is not None else 0

    def check(self) -> None:
        """Raise `OperatorFailed`, with the end of the log, if the process has ended."""
        if self._process is not None and self._process.poll() is not None:
            tail = self._log_path.read_text(encoding="utf-8", errors="replace")[-1500:]
            raise OperatorFailed(f"the operator ended with status {self._process.returncode}:\n{tail}")

    def kill(self) -> None:
        """End it by SIGKILL: it has no last words. Does nothing when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._close()

    def stop(self) -> None:
        """End it cleanly, or by force if it takes too long; does nothing when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main(directory: str) -> int:
    """Run the operator of a directory until it is told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "web3", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    run(Path(directory))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
