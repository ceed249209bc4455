"""An end for all of an HTTP exchange: httpx limits each read, and a byte now and then is late for none of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, Final

_CONNECTED: Final = ("connect_tcp.complete", "start_tls.complete")


class Deadline:
    """Cuts the connection of a request that takes too long in all; for one client, one request at a time.

    Attributes
    ----------
    passed : bool
        Whether the last request was cut.
    """

    def __init__(self) -> None:
        self.passed = False
        self._lock = threading.Lock()
        # A client that asks one question at a time has one connection to each place, perhaps from earlier on.
        self._sockets: dict[str, socket.socket] = {}
        self._place = ""

    @contextlib.contextmanager
    def within(self, url: str, seconds: float) -> Iterator[dict[str, Any]]:
        """Give a request's ``extensions``; unless the block is left in time, what is read in it breaks off.

        What ends with the connection looks whole then: see `passed`.
        """
        self._place, self.passed = "/".join(url.split("/", 3)[:3]), False
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield {"trace": self._see}
        finally:
            timer.cancel()
            timer.join()  # or it could cut the next one

    def _see(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith(_CONNECTED):
            with self._lock:
                self._sockets[self._place] = info["return_value"].get_extra_info("socket")
                if self.passed:
                    self._shut()

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            self._shut()

    def _shut(self) -> None:
        found = self._sockets.get(self._place)
        # Closing would not wake who is reading.
        with contextlib.suppress(OSError):
            if found is not None:
                found.shutdown(socket.SHUT_RDWR)
