"""A local anvil (npm) as a context manager: start, stop, move its clock, dump and load its state."""

from __future__ import annotations

import gzip
import os
import platform
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from web3 import HTTPProvider, Web3

from proofbook.chain.errors import AnvilError
from proofbook.chain.paths import root
from proofbook.protocol.secrets import without_secrets

MNEMONIC: Final = "test test test test test test test test test test test junk"
"""Anvil's own development phrase: its accounts are public knowledge, never use them for money."""
_START_SECONDS: Final = 20.0
_MAX_LOG: Final = 1 << 20
_LISTENING: Final = re.compile(r"Listening on (127\.0\.0\.1:\d+)\s")
_MACHINES: Final = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class AnvilOptions:
    """How to start anvil.

    Attributes
    ----------
    port : int
        0 picks a free one.
    chain_id : int
        Chain id.
    accounts : int
        Number of rich development accounts, 1 to 1000.
    block_time : float or None
        Seconds between blocks; None mines a block for every transaction.
    load_state : Path or None
        A file of `Anvil.dump_state` to start from.
    timestamp : int or None
        Unix time of the first block.
    """

    port: int = 0
    chain_id: int = 31337
    accounts: int = 10
    block_time: float | None = None
    load_state: Path | None = None
    timestamp: int | None = None


class Anvil:
    """A running anvil process; use it in a ``with`` statement, or call `start` and `stop`.

    Attributes
    ----------
    url : str
        Where it listens, on this machine only; set by `start`.
    w3 : Web3
        A connection to it; set by `start`.
    """

    url: str
    w3: Web3

    def __init__(self, options: AnvilOptions | None = None) -> None:
        self.options = options or AnvilOptions()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Anvil:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises
        ------
        AnvilError
            If it does not.
        """
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        self._process = subprocess.Popen(
            [str(anvil_binary()), *_arguments(self.options)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=without_secrets(os.environ),
        )
        try:
            self.url = f"http://{self._wait_for_address()}"
            self.w3 = Web3(HTTPProvider(self.url, request_kwargs={"timeout": 60}))
            self.rpc("anvil_setLoggingEnabled", False)  # or the log would grow with every request
        except BaseException:
            self.stop()
            raise

    def _wait_for_address(self) -> str:
        """Return host and port, once the process says that it listens: only it knows which port it got."""
        assert self._process is not None and self._log is not None
        until = time.monotonic() + _START_SECONDS
        while True:
            ended = self._process.poll() is not None or time.monotonic() > until
            said = os.pread(self._log.fileno(), _MAX_LOG, 0).decode(errors="replace")
            found = _LISTENING.search(said)
            if found:
                return found[1]
            if ended:
                raise AnvilError(f"anvil did not start: {said[-1000:]}", "is the port in use?")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the process; does nothing when it is not running."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def rpc(self, method: str, *parameters: Any) -> Any:
        """Call a JSON-RPC method and return its result; `AnvilError` if anvil answers with an error."""
        return rpc(self.w3, method, *parameters)

    def increase_time(self, seconds: int) -> None:
        """Move the clock on and mine a block at the new time."""
        self.rpc("evm_increaseTime", seconds)
        self.mine()

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks."""
        self.rpc("anvil_mine", hex(blocks))

    def snapshot(self) -> str:
        """Remember the state; returns what `revert` takes."""
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Go back to a snapshot, which is used up."""
        if not self.rpc("evm_revert", snapshot):
            raise AnvilError(f"no snapshot {snapshot}")

    def dump_state(self, path: Path) -> None:
        """Write the whole chain (state, blocks, transactions, logs) to a JSON file that `load_state` takes."""
        dump_state(self.w3, path)

    def set_storage(self, address: str, slot: int, value: int) -> None:
        """Overwrite a storage word of a contract, for tests."""
        self.rpc("anvil_setStorageAt", address, hex(slot), f"0x{value:064x}")


def rpc(w3: Web3, method: str, *parameters: Any) -> Any:
    """Call a raw JSON-RPC method.

    Raises
    ------
    AnvilError
        If the answer is an error.
    """
    answer: dict[str, Any] = w3.provider.make_request(method, list(parameters))  # type: ignore[arg-type,assignment]
    if "error" in answer:
        raise AnvilError(f"{method}: {answer['error']}")
    return answer["result"]


def dump_state(w3: Web3, path: Path) -> None:
    """Write an anvil's whole chain to a JSON file that ``anvil --load-state`` takes."""
    packed = bytes.fromhex(str(rpc(w3, "anvil_dumpState")).removeprefix("0x"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)


def anvil_binary() -> Path:
    """Return the path of npm's anvil for this machine.

    Raises
    ------
    AnvilError
        If it is not installed.
    """
    system = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}.get(platform.system(), "unknown")
    machine = _MACHINES.get(platform.machine(), platform.machine())
    # The launcher script beside it would be one more process to stop.
    path = root() / "node_modules" / "@foundry-rs" / f"anvil-{system}-{machine}" / "bin" / "anvil"
    if not path.is_file():
        raise AnvilError(f"no anvil for {system} {machine}", "run make setup")
    return path


def _arguments(options: AnvilOptions) -> list[str]:
    words = ["--host", "127.0.0.1", "--port", str(options.port), "--chain-id", str(options.chain_id)]
    words += ["--accounts", str(options.accounts), "--mnemonic", MNEMONIC]
    if options.block_time is not None:
        words += ["--block-time", str(options.block_time)]
    if options.load_state is not None:
        words += ["--load-state", str(options.load_state)]
    if options.timestamp is not None:
        words += ["--timestamp", str(options.timestamp)]
    return words
