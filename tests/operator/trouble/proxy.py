"""A node that misbehaves: an HTTP server in front of a real one, with faults that can be switched on and off."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

NULL = {"jsonrpc": "2.0", "id": None, "result": None}


class CutError(Exception):
    """The connection ends without an answer."""


class Fault(ABC):
    """One misbehaviour. ``struck`` counts the questions that met it."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods
        self.struck = 0

    def meets(self, method: str) -> bool:
        return not self.methods or method in self.methods

    @abstractmethod
    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        """Return an answer object, or a status code; ``ask`` puts a question to the real node."""


class Delay(Fault):
    """It answers after so many seconds: after the asker's patience."""

    def __init__(self, seconds: float, *methods: str) -> None:
        super().__init__(*methods)
        self.seconds = seconds

    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        time.sleep(self.seconds)
        return ask(call)


class Cut(Fault):
    """It hangs up; ``after`` having done what was asked."""

    def __init__(self, *methods: str, after: bool = False) -> None:
        super().__init__(*methods)
        self.after = after

    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        if self.after:
            ask(call)
        raise CutError


class Status(Fault):
    """It answers with an HTTP status and a page for people."""

    def __init__(self, status: int, *methods: str) -> None:
        super().__init__(*methods)
        self.status = status

    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        return self.status


class Nonce(Fault):
    """It is wrong about how many transactions an account has sent."""

    def __init__(self, offset: int) -> None:
        super().__init__("eth_getTransactionCount")
        self.offset = offset

    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        told = ask(call)
        return told | {"result": hex(max(0, int(told["result"], 16) + self.offset))}


class Swallow(Fault):
    """It takes a transaction, tells its hash, and forgets it."""

    def __init__(self) -> None:
        super().__init__("eth_sendRawTransaction")

    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        from eth_utils.crypto import keccak

        raw = bytes.fromhex(call["params"][0].removeprefix("0x"))
        return {"jsonrpc": "2.0", "id": call["id"], "result": "0x" + keccak(raw).hex()}


class Refuse(Fault):
    """It answers with an error; ``though`` it did what was asked."""

    def __init__(self, message: str, *methods: str, though: bool = False) -> None:
        super().__init__(*methods)
        self.message, self.though = message, though

    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        if self.though:
            ask(call)
        return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": self.message}}


class Nothing(Fault):
    """It knows nothing of what it is asked for."""

    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        return NULL | {"id": call["id"]}


class Change(Fault):
    """It changes what the real node says."""

    def __init__(self, change: Callable[[Any], Any], *methods: str) -> None:
        super().__init__(*methods)
        self.change = change

    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        told = ask(call)
        return told | {"result": self.change(told["result"])} if "result" in told else told


class Lag(Fault):
    """It is so many blocks behind the network, to which it passes transactions on."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks

    def answer(self, call: dict[str, Any], ask: Any) -> Any:
        head = max(0, int(ask({**call, "method": "eth_blockNumber", "params": []})["result"], 16) - self.blocks)
        method, none = call["method"], NULL | {"id": call["id"]}
        if method == "eth_blockNumber":
            return none | {"result": hex(head)}
        if method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
            told = ask(call)
            block = (told.get("result") or {}).get("blockNumber")
            return told if block is None or int(block, 16) <= head else none
        if method == "eth_getLogs":
            wanted = dict(call["params"][0])
            wanted["toBlock"] = hex(min(_number(wanted["toBlock"], head), head))
            if _number(wanted["fromBlock"], head) > head:
                return none | {"result": []}
            return ask({**call, "params": [wanted]})
        params = [hex(head) if p in ("latest", "pending") else p for p in call["params"]]
        if method == "eth_getBlockByNumber" and _number(params[0], head) > head:
            return none
        return ask({**call, "params": params})


def _number(block: Any, head: int) -> int:
    return int(block, 16) if isinstance(block, str) and block.startswith("0x") else head


class Proxy:
    """The server. ``url`` stays the same through `gone`."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self._client = httpx.Client(timeout=60)
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.back()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def back(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                proxy.handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """Those who lost patience are not there any more."""

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def leave(self) -> None:
        """Stop listening: whoever asks is refused the connection."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @contextmanager
    def gone(self) -> Iterator[None]:
        self.leave()
        try:
            yield
        finally:
            self.back()

    @contextmanager
    def use(self, *faults: Fault) -> Iterator[None]:
        self.faults = list(faults)
        try:
            yield
        finally:
            self.faults = []

    def ask(self, call: dict[str, Any]) -> Any:
        return self._client.post(self.upstream, json=call).json()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        call = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.asked.append(call["method"])
        fault = next((f for f in self.faults if f.meets(call["method"])), None)
        try:
            if fault is None:
                told = self.ask(call)
            else:
                fault.struck += 1
                told = fault.answer(call, self.ask)
        except CutError:
            handler.close_connection = True
            return
        status = told if isinstance(told, int) else 200
        body = b"<html>try later</html>" if isinstance(told, int) else json.dumps(told).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "text/html" if isinstance(told, int) else "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
