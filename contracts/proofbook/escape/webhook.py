"""Alerts sent to a web address. Whatever becomes of them, the watch goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from proofbook.escape.errors import WebhookRefused
from proofbook.verifier.deadline import Deadline
from proofbook.verifier.history import Progress, silent

MAX_TRIES: Final = 3
MAX_KEPT: Final = 200
MAX_BODY: Final = 64 << 10
TIMEOUT_S: Final = 10.0
"""For all of a try: a taker that answers in drops must not hold the watch up."""


class Webhook:
    """Posts JSON objects; those that did not arrive are kept, up to a number, and go along with the next.

    Parameters
    ----------
    url : str
        http or https.
    progress : Progress
        Told what did not arrive.
    trust_env : bool
        Whether the environment may name a proxy.
    pause : callable
        Waits some seconds between tries.

    Raises
    ------
    WebhookRefused
        If it is no such address.
    """

    def __init__(
        self,
        url: str,
        progress: Progress = silent,
        trust_env: bool = False,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        if not url.startswith(("http://", "https://")) or len(url) > 2000:
            raise WebhookRefused(f"not an http address: {url[:100]}", "give it as https://host/path")
        self._url, self._progress, self._pause = url, progress, pause
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=trust_env, follow_redirects=False)
        self._deadline = Deadline()
        self._kept: list[dict[str, Any]] = []

    def send(self, about: dict[str, Any], alerts: list[dict[str, Any]]) -> None:
        """Post ``{**about, "alerts": [...]}``; tells when that failed, and raises nothing."""
        self._kept = [*self._kept, *alerts][-MAX_KEPT:]
        while self._kept:
            body, count = self._body(about)
            if not self._post(body):
                return
            self._kept = self._kept[count:]

    def _body(self, about: dict[str, Any]) -> tuple[bytes, int]:
        """Return as many of the kept alerts as fit, at least one, and their number."""
        count = len(self._kept)
        while True:
            body = json.dumps({**about, "alerts": self._kept[:count]}).encode()
            if len(body) <= MAX_BODY or count == 1:
                return body, count
            count = (count + 1) // 2

    def _post(self, body: bytes) -> bool:
        told = ""
        for attempt in range(MAX_TRIES):
            try:
                status = self._status(body)
                if 200 <= status < 300:
                    return True
                told = f"HTTP {status}"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                late = f"no answer within {TIMEOUT_S:g} s" if self._deadline.passed else ""
                told = late or f"{type(error).__name__}: {str(error)[:200]}"
            if attempt < MAX_TRIES - 1:
                self._pause(0.5 * 2**attempt)
        self._progress(f"the webhook did not take {len(self._kept)} alerts, they are kept: {told}")
        return False

    def _status(self, body: bytes) -> int:
        headers = {"Content-Type": "application/json"}
        with (
            self._deadline.within(self._url, TIMEOUT_S) as extensions,
            self._client.stream("POST", self._url, content=body, headers=headers, extensions=extensions) as response,
        ):
            # The answer's body is nobody's business, however long it is.
            return response.status_code
