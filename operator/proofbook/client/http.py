"""The operator's HTTP API, for traders: typed refusals, time-outs, and limits on what is read."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal
from urllib.parse import quote

import httpx
import msgspec

from proofbook.client.answers import get_rows
from proofbook.client.errors import ApiError, ApiMalformed, ApiUnreachable
from proofbook.client.models import ExchangeInfo
from proofbook.client.orders import to_body
from proofbook.protocol.messages import SignedAction

TIMEOUT_S: Final = 30.0
SETTLE_TIMEOUT_S: Final = 1800.0
"""A flush is answered when its batches are proven and on the chain."""
MAX_ANSWER_BYTES: Final = 16 << 20
MAX_FILE_BYTES: Final = 1 << 30
SLOW_S: Final = 30.0
SLOW_BYTES_S: Final = 1024
"""An answer that takes longer than `SLOW_S` has to bring so many bytes a second."""
_UNREACHABLE: Final = "is the operator running, and is the address right (--api or PROOFBOOK_API)?"

Json = dict[str, Any]


class ApiClient:
    """A connection to an operator. Use it in a ``with`` statement, or `close` it.

    Parameters
    ----------
    base_url : str
        Such as ``http://127.0.0.1:8080``.
    token : str
        The operator's bearer token, for `flush` from elsewhere; usually empty.
    timeout : float
        Seconds for ordinary calls.
    transport : httpx.BaseTransport, optional
        Another way to the operator, such as straight into its application.

    Raises
    ------
    ApiUnreachable
        For an address that is none.
    """

    def __init__(
        self,
        base_url: str,
        token: str = "",
        timeout: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        # Nothing is unpacked: a few bytes could become any number before a limit is seen.
        headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {token}"} if token else {})
        try:
            url = httpx.URL(base_url)
            if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 65536:
                raise httpx.InvalidURL("no http address")
            # Environment proxies must not come between a trader and a local operator.
            self._http = httpx.Client(
                base_url=base_url, timeout=timeout, headers=headers, transport=transport, trust_env=False
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise ApiUnreachable(f"{base_url[:200]!r} is no http address", "write http://HOST:PORT") from error
        self.base_url = base_url

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    # --- calls

    def call(self, method: str, path: str, body: Any = None, timeout: float | None = None, **query: Any) -> Json:
        """Call a route and return its JSON object.

        Raises
        ------
        ApiError
            When the operator refuses.
        ApiUnreachable, ApiMalformed
            When it does not answer, or not as an operator would.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {"content-type": "application/json"} if content is not None else {}
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        try:
            with self._http.stream(
                method, path, content=content, headers=headers, params=query or None, timeout=limit
            ) as response:
                data = _read(response)
        except httpx.HTTPError as error:
            raise ApiUnreachable(f"the operator at {self.base_url} does not answer: {error}", _UNREACHABLE) from error
        try:
            answer = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ApiMalformed(
                f"{self.base_url} answered {path} with something else than JSON", _UNREACHABLE
            ) from error
        if not isinstance(answer, dict):
            raise ApiMalformed(f"{self.base_url} answered {path} with no JSON object", _UNREACHABLE)
        if response.is_success:
            return answer
        raise _refusal(response.status_code, answer)

    def info(self) -> ExchangeInfo:
        """Return what a client must know, checked; `ApiMalformed` for what can't be true."""
        try:
            info = msgspec.convert(self.call("GET", "/v1/info"), ExchangeInfo, strict=False)
        except msgspec.ValidationError as error:
            raise ApiMalformed(f"the operator's /v1/info is malformed: {str(error)[:500]}", _UNREACHABLE) from error
        info.check()
        return info

    def health(self) -> Json:
        """Return how the operator is."""
        return self.call("GET", "/v1/health")

    def book(self, market: str, depth: int = 20) -> Json:
        """Return the best levels of a book."""
        return self.call("GET", f"/v1/markets/{_part(market.replace('/', '-'))}/book", depth=depth)

    def trades(self, market: str, limit: int = 100) -> list[Json]:
        """Return a market's newest trades, newest first."""
        return get_rows(self.call("GET", "/v1/trades", market=market, limit=limit), "trades")

    def account(self, index: int) -> Json:
        """Return an account's balances, open orders, waiting requests and next id."""
        return self.call("GET", f"/v1/accounts/{index}")

    def accounts_of(self, owner: str) -> list[Json]:
        """Return the accounts of an L1 address."""
        return get_rows(self.call("GET", "/v1/accounts", owner=owner), "accounts")

    def order(self, account: int, id_: int) -> Json:
        """Return an order, open or done."""
        return self.call("GET", f"/v1/orders/{account}/{id_}")

    def place(self, signed: SignedAction) -> Json:
        """Place a signed order; returns it after matching, and its trades."""
        return self.call("POST", "/v1/orders", to_body(signed))

    def place_many(self, signed: Sequence[SignedAction]) -> list[Json]:
        """Place up to 100 signed orders; each has its own ``result`` or ``error``."""
        return get_rows(self.call("POST", "/v1/orders/batch", {"orders": [to_body(one) for one in signed]}), "results")

    def cancel(self, signed: SignedAction, hard: bool = False) -> Json:
        """Cancel an order by a signed cancel; ``hard`` makes it a proven action of the next batch."""
        return self.call("POST", "/v1/cancels", to_body(signed) | {"hard": hard})

    def withdraw(self, signed: SignedAction) -> Json:
        """Hand in a signed withdrawal."""
        return self.call("POST", "/v1/withdrawals", to_body(signed))

    def transfer(self, signed: SignedAction) -> Json:
        """Hand in a signed transfer."""
        return self.call("POST", "/v1/transfers", to_body(signed))

    def batches(self, limit: int = 50) -> list[Json]:
        """Return the newest batches, newest first."""
        return get_rows(self.call("GET", "/v1/batches", limit=limit), "batches")

    def batch(self, number: int) -> Json:
        """Return a batch."""
        return self.call("GET", f"/v1/batches/{number}")

    def flush(self, wait: bool = True) -> list[Json]:
        """Settle everything pending, for the operator; returns the batches."""
        answer = self.call("POST", "/v1/batches", timeout=SETTLE_TIMEOUT_S, wait="true" if wait else "false")
        return get_rows(answer, "batches")

    def download_exit(
        self, kind: Literal["zkey", "wasm"], destination: Path, progress: Callable[[int], None] = lambda done: None
    ) -> None:
        """Fetch one of the exit circuit's files; whoever stores it has to compare its hash with the contract's.

        Parameters
        ----------
        kind : str
            Proving key or witness program.
        destination : Path
            Written in one step when all of it is there.
        progress : callable
            Told the bytes so far.

        Raises
        ------
        ApiError, ApiUnreachable, ApiMalformed
            As `call`; the last for a file above 1 GiB.
        """
        destination.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=destination.parent)
        try:
            with os.fdopen(handle, "wb") as out, self._http.stream("GET", f"/v1/artifacts/exit/{kind}") as response:
                if not response.is_success:
                    raise _refusal(response.status_code, _object(_read(response)))
                done = 0
                for chunk in _chunks(response):
                    done += len(chunk)
                    if done > MAX_FILE_BYTES:
                        raise ApiMalformed(f"the exit {kind} is larger than {MAX_FILE_BYTES} bytes")
                    out.write(chunk)
                    progress(done)
            os.replace(name, destination)
        except httpx.HTTPError as error:
            raise ApiUnreachable(f"the operator at {self.base_url} does not answer: {error}", _UNREACHABLE) from error
        finally:
            Path(name).unlink(missing_ok=True)


def _part(text: str) -> str:
    return quote(text[:100], safe="")


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    """Yield an answer's bytes as they come; `ApiMalformed` when they come too slowly."""
    began, done = time.monotonic(), 0
    for chunk in response.iter_raw():
        done += len(chunk)
        took = time.monotonic() - began
        if took > SLOW_S and done < took * SLOW_BYTES_S:
            raise ApiMalformed(f"after {took:.0f} seconds there are {done} bytes of an answer", _UNREACHABLE)
        yield chunk


def _read(response: httpx.Response) -> bytes:
    data = bytearray()
    for chunk in _chunks(response):
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise ApiMalformed(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(data)


def _object(data: bytes) -> Json:
    try:
        answer = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _refusal(status: int, answer: Json) -> ApiError:
    """Return the operator's refusal; a 503 of `/v1/health` has its error in the same place."""
    body = answer.get("error")
    if not isinstance(body, dict):
        return ApiError("http", f"the operator answered with HTTP status {status}", _UNREACHABLE, status)
    told = {name: str(body.get(name, ""))[:1000] for name in ("code", "message", "hint")}
    told["code"] = told["code"] or "http"
    details = body.get("data")
    return ApiError(**told, status=status, details=details if isinstance(details, dict) else {})
