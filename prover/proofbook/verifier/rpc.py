"""JSON-RPC over HTTP, and nothing else: size limits, retries, typed errors, event queries in pieces."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx

from proofbook.verifier.errors import RpcMalformed, RpcRefused, RpcUnavailable

MAX_ANSWER: Final = 64 << 20
MAX_TRIES: Final = 5
MAX_DEPTH: Final = 64
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_BUSY: Final = (429, 502, 503, 504)


class Rpc:
    """A node, asked one question at a time.

    Parameters
    ----------
    url : str
        http or https.
    timeout : float
        Seconds for one answer.
    """

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise RpcUnavailable(f"not an http address: {url[:100]}", "give it as http://host:port")
        self.url = url
        self._client = httpx.Client(timeout=timeout)
        self._id = 0

    def call(self, method: str, *parameters: Any) -> Any:
        """Call a method and return its result.

        Raises
        ------
        RpcUnavailable
            If the node does not answer, after some tries.
        RpcRefused
            If it answers with an error.
        RpcMalformed
            If its answer is too large or not JSON-RPC.
        """
        self._id += 1
        body = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": list(parameters)}
        for attempt in range(MAX_TRIES):
            try:
                return self._result(method, self._post(body))
            except (httpx.HTTPError, _BusyError) as error:
                if attempt == MAX_TRIES - 1:
                    told = f"{type(error).__name__}: {error}"
                    raise RpcUnavailable(f"the node does not answer {method}: {told}", "is it running?") from error
                time.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable")

    def _post(self, body: dict[str, Any]) -> bytes:
        with self._client.stream("POST", self.url, json=body) as response:
            if response.status_code in _BUSY:
                raise _BusyError(f"HTTP {response.status_code}")
            answer = bytearray()
            for piece in response.iter_bytes():
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise RpcMalformed(f"{body['method']}: an answer of more than {MAX_ANSWER} bytes")
        return bytes(answer)

    @staticmethod
    def _result(method: str, answer: bytes) -> Any:
        if _depth(answer) > MAX_DEPTH:
            raise RpcMalformed(f"{method}: the answer is nested too deeply")
        try:
            told = json.loads(answer)
        except ValueError as error:
            raise RpcMalformed(f"{method}: the answer is no JSON", "is this the address of a node?") from error
        if not isinstance(told, dict):
            raise RpcMalformed(f"{method}: the answer is no JSON-RPC", "is this the address of a node?")
        if told.get("error") is not None:
            refusal = told["error"]
            reason = refusal.get("message") if isinstance(refusal, dict) else refusal
            raise RpcRefused(f"{method}: {str(reason)[:500]}")
        if "result" not in told:
            raise RpcMalformed(f"{method}: the answer has no result", "is this the address of a node?")
        return told["result"]

    def logs(self, address: str, topic: str, first: int, last: int) -> Iterator[dict[str, Any]]:
        """Yield the contract's events of one kind in blocks `first` to `last`, both included, in order.

        Nodes limit range or results, each with words of its own: a refused range is asked for in smaller pieces.

        Raises
        ------
        RpcRefused
            If a single block is refused.
        """
        at, span = first, max(1, last - first + 1)
        while at <= last:
            upto = min(at + span - 1, last)
            query = {"address": address, "topics": [topic], "fromBlock": hex(at), "toBlock": hex(upto)}
            try:
                found = self.call("eth_getLogs", query)
            except (RpcRefused, RpcMalformed):
                if span == 1:
                    raise
                span = max(1, span // 4)
                continue
            yield from _sorted_logs(found, at, upto)
            at, span = upto + 1, span * 2

    def block_number(self) -> int:
        """Return the latest block's number."""
        return quantity(self.call("eth_blockNumber"))

    def chain_id(self) -> int:
        """Return the chain's id."""
        return quantity(self.call("eth_chainId"))

    def code(self, address: str, block: int) -> bytes:
        """Return a contract's runtime code."""
        return data(self.call("eth_getCode", address, hex(block)))

    def block_time(self, block: int) -> int:
        """Return a block's timestamp, Unix seconds."""
        found = self.call("eth_getBlockByNumber", hex(block), False)
        if not isinstance(found, dict):
            raise RpcMalformed(f"there is no block {block}")
        return quantity(found.get("timestamp"))


def _depth(text: bytes) -> int:
    """Return at least how deep JSON nests: where a library has raised Python's recursion limit, depth is a crash."""
    depth = deepest = 0
    for bracket in text.translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


class _BusyError(Exception):
    """The node asks for patience."""


def _sorted_logs(found: Any, first: int, last: int) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(log, dict) for log in found):
        raise RpcMalformed("eth_getLogs: not a list of events")
    for log in found:
        if not first <= quantity(log.get("blockNumber")) <= last:
            raise RpcMalformed("eth_getLogs: an event outside the blocks that were asked for")
    return sorted(found, key=lambda log: (quantity(log["blockNumber"]), quantity(log.get("logIndex"))))


def quantity(value: Any) -> int:
    """Return a JSON-RPC quantity as an integer; `RpcMalformed` if it is none of at most 256 bits."""
    if not isinstance(value, str) or not value.startswith("0x") or not 3 <= len(value) <= 66:
        raise RpcMalformed(f"not a quantity: {str(value)[:100]}")
    try:
        return int(value[2:], 16)
    except ValueError as error:
        raise RpcMalformed(f"not a quantity: {value}") from error


def data(value: Any) -> bytes:
    """Return JSON-RPC data as bytes; `RpcMalformed` if it is none."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise RpcMalformed(f"not data: {str(value)[:100]}")
    try:
        return bytes.fromhex(value[2:])
    except ValueError as error:
        raise RpcMalformed("not data: no hex digits") from error
