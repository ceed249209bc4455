"""JSON-RPC for web3 with a limit on what a node may answer: a public node is somebody else's machine."""

from __future__ import annotations

import time
from typing import Any, Final

from requests import Response
from requests.exceptions import ContentDecodingError, ReadTimeout, RequestException
from urllib3.exceptions import HTTPError
from web3 import HTTPProvider
from web3._utils.http_session_manager import HTTPSessionManager

MAX_ANSWER_BYTES: Final = 64 << 20
_CHUNK: Final = 1 << 16


class _Careful(HTTPSessionManager):
    def make_post_request(self, endpoint_uri: Any, data: Any, **kwargs: Any) -> bytes:
        """Return an answer's body; `RequestException` for one that is too long, too slow or packed."""
        timeout = kwargs.get("timeout")
        headers = {**(kwargs.pop("headers", None) or {}), "accept-encoding": "identity"}
        with self.get_response_from_post_request(
            endpoint_uri, data=data, **{**kwargs, "stream": True, "headers": headers}
        ) as response:
            response.raise_for_status()
            return _read(response, timeout if isinstance(timeout, int | float) else None)


def _read(response: Response, timeout: float | None) -> bytes:
    # What was packed although nobody asked for it is not unpacked: it could become any size.
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ContentDecodingError("the node's answer is packed")
    until, data = None if timeout is None else time.monotonic() + timeout, bytearray()
    # Not `stream`, which waits until a whole piece is there.
    while chunk := _next(response):
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise RequestException(f"the node answers with more than {MAX_ANSWER_BYTES} bytes")
        if until is not None and time.monotonic() > until:
            raise ReadTimeout(f"the node's answer takes longer than {timeout} s")
    return bytes(data)


def _next(response: Response) -> bytes:
    try:
        return bytes(response.raw.read1(_CHUNK, decode_content=False))
    except HTTPError as error:
        raise RequestException(f"the node's answer breaks off: {error}") from error


class CarefulProvider(HTTPProvider):
    """web3's HTTP provider, with limits: 64 MiB and the time-out for all of an answer. Arguments are the same."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_session_manager = _Careful()
