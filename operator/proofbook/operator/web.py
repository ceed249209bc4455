"""The API's sockets: how many connections there may be, and how long a client may take.

uvicorn waits for ever for a request that never ends and for a reader that never reads. Each such connection holds a
file descriptor, and an operator without descriptors can neither ask its node nor start a prover: anybody could stop it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from dataclasses import dataclass
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)
_SPARE_FILES: Final = 256
"""Descriptors that connections never take: journal, store, keys, the node."""


@dataclass(frozen=True)
class Limits:
    """What one API bears.

    Attributes
    ----------
    connections : int
        At once; fewer where the process may not open so many files.
    of_one : int
        At once from one address. A proxy in front is one address.
    request_s : float
        Seconds from a request's first chance to come (connection, or the answer before) until all of it is there.
    reading_s : float
        Seconds that a client which reads its answer too slowly may let the operator wait.
    """

    connections: int = 1024
    of_one: int = 256
    request_s: float = 30.0
    reading_s: float = 60.0


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 with limits; `make_config` gives it those of its API."""

    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slow_request: asyncio.TimerHandle | None = None
        self._slow_reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or end it at once where there are too many."""
        super().connection_made(transport)
        mine = self.client[0] if self.client else ""
        others = [getattr(other, "client", None) for other in self.connections]
        of_one = sum(1 for other in others if other and other[0] == mine)
        if len(others) > self.limits.connections or of_one > self.limits.of_one:
            transport.abort()
            return
        self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        super().connection_lost(exc)
        for timer in (self._slow_request, self._slow_reading):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on, and see whether all of a request is there."""
        super().data_received(data)
        self._watch_request()

    def on_response_complete(self) -> None:
        """Wait for the next request, which may not take longer than the first."""
        super().on_response_complete()
        self._watch_request()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection without requests, even if its last answer is never read."""
        super().timeout_keep_alive_handler()
        self._watch_reading()

    def _watch_request(self) -> None:
        if self.transport.is_closing():
            self._watch_reading()
        waiting = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if not waiting and self._slow_request is not None:
            self._slow_request.cancel()
            self._slow_request = None
        elif waiting and self._slow_request is None:
            self._slow_request = self.loop.call_later(self.limits.request_s, self._end)

    def pause_writing(self) -> None:
        """Wait for a slow reader, for a while."""
        super().pause_writing()
        self._watch_reading()

    def _watch_reading(self) -> None:
        if self._slow_reading is None:
            self._slow_reading = self.loop.call_later(self.limits.reading_s, self._end)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        if self._slow_reading is not None:
            self._slow_reading.cancel()
            self._slow_reading = None

    def _end(self) -> None:
        log.debug("a connection of %s took too long", self.client)
        self.transport.abort()


def make_config(app: Any, limits: Limits | None = None) -> uvicorn.Config:
    """Return how an application is served.

    Parameters
    ----------
    app : ASGI application
        The API.
    limits : Limits, optional
        What it bears; the number of connections is cut to what the process may open.
    """
    asked = limits or Limits()
    room = _raise_files(asked.connections + _SPARE_FILES) - _SPARE_FILES
    kept = Limits(max(min(asked.connections, room), 1), asked.of_one, asked.request_s, asked.reading_s)
    protocol = type("Guarded", (GuardedProtocol,), {"limits": kept})
    # No websockets, and nobody's word about whom a connection is for: what is not used can't be attacked.
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        proxy_headers=False,
        server_header=False,
        log_config=None,
        log_level="error",  # or each line of nonsense would put one into the log
        access_log=False,
        timeout_graceful_shutdown=10,
    )


def _raise_files(wanted: int) -> int:
    """Let the process open so many files if it may, and return how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else soft
