"""What the tests of leaving share: the stored exit files, a node's bad day, a watch and reasons for its alerts."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from eth_utils.crypto import keccak

from proofbook.escape.artifacts import save_exit_artifacts
from proofbook.escape.watching import Place, Watch, WatchOptions
from proofbook.protocol.transition import build
from proofbook.protocol.words import Header

USD = 2
MAX_AGE_S = 300
"""A chain put back to a snapshot is late, while deadlines are compared with this machine's clock too."""


@pytest.fixture
def settled(settled_exchange) -> Iterator[Any]:
    """The exchange as its history left it, not long ago."""
    anvil = settled_exchange.anvil
    if time.time() - anvil.w3.eth.get_block("latest")["timestamp"] > MAX_AGE_S:
        anvil.rpc("anvil_reset")
        anvil.rpc("evm_setTime", int(time.time()))
        type(settled_exchange).__init__(settled_exchange, anvil)
        settled_exchange.history()
    snapshot = anvil.snapshot()
    yield settled_exchange
    anvil.revert(snapshot)


@pytest.fixture(scope="session")
def stored(settled_exchange, tmp_path_factory):
    """Where the traders keep the exit artifacts."""
    folder = tmp_path_factory.mktemp("exit")
    save_exit_artifacts(settled_exchange.exit.dir, folder)
    return folder


def pass_deadline(settled):
    """Let the deadline of the oldest unserved request pass."""
    deadline = settled.queue()[0].deadline
    settled.anvil.increase_time(max(1, deadline + 1 - settled.w3.eth.get_block("latest")["timestamp"]))


@pytest.fixture
def let_pass(settled) -> Callable[[], None]:
    return lambda: pass_deadline(settled)


class Proxy(ThreadingHTTPServer):
    """Between us and a node. `mood` says of each request what goes wrong with it, None for nothing.

    Attributes
    ----------
    asked : list of (str, list)
        Every request's method and parameters, in order.
    max_range : int
        Blocks of events in one query.
    lie : callable
        What becomes of a method's result.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = urlsplit(target)
        self.asked: list[tuple[str, list[Any]]] = []
        self.mood: Callable[[int, str], str | None] = lambda n, method: None
        self.max_range = 1 << 40
        self.held = threading.Event()
        self.lie: Callable[[str, Any], Any] = lambda method, result: result

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def count(self, method: str) -> int:
        return sum(1 for name, _ in self.asked if name == method)

    def ask(self, body: bytes) -> bytes:
        connection = http.client.HTTPConnection(str(self.target.hostname), self.target.port or 80, timeout=60)
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        connection.close()
        return answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        proxy = self.server
        assert isinstance(proxy, Proxy)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = json.loads(body)
        method, parameters = request["method"], request["params"]
        proxy.asked.append((method, parameters))
        mood = proxy.mood(len(proxy.asked), method)
        if method == "eth_getLogs" and mood is None:
            query = parameters[0]
            if int(query["toBlock"], 16) - int(query["fromBlock"], 16) >= proxy.max_range:
                mood = "range"
        getattr(self, f"when_{mood}")(proxy, body, request["id"])

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, id_: int, code: int, message: str) -> None:
        self.reply(json.dumps({"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": message}}).encode())

    def when_None(self, proxy: Proxy, body: bytes, id_: int) -> None:
        told = json.loads(proxy.ask(body))
        if "result" in told:
            told["result"] = proxy.lie(json.loads(body)["method"], told["result"])
        self.reply(json.dumps(told).encode())

    def when_busy(self, proxy: Proxy, body: bytes, id_: int) -> None:
        self.reply(b"slow down", 429, Retry_After="1")

    def when_broken(self, proxy: Proxy, body: bytes, id_: int) -> None:
        self.reply(b"<html>oops", 500)

    def when_cut(self, proxy: Proxy, body: bytes, id_: int) -> None:
        """The connection ends in the middle of the answer."""
        answer = proxy.ask(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2])
        self.close_connection = True

    def when_short(self, proxy: Proxy, body: bytes, id_: int) -> None:
        """The answer ends in its middle, and claims to be whole."""
        answer = proxy.ask(body)
        self.reply(answer[: len(answer) // 2])

    def when_slow(self, proxy: Proxy, body: bytes, id_: int) -> None:
        time.sleep(1.5)
        self.reply(proxy.ask(body))

    def when_other(self, proxy: Proxy, body: bytes, id_: int) -> None:
        """The answer to another question."""
        self.reply(json.dumps({"jsonrpc": "2.0", "id": id_ + 1000, "result": "0x1"}).encode())

    def when_limit(self, proxy: Proxy, body: bytes, id_: int) -> None:
        self.refuse(id_, -32005, "limit exceeded")

    def when_rate(self, proxy: Proxy, body: bytes, id_: int) -> None:
        self.refuse(id_, -32000, "Your app has exceeded its compute units per second capacity")

    def when_range(self, proxy: Proxy, body: bytes, id_: int) -> None:
        self.refuse(id_, -32600, f"block range is limited to {proxy.max_range}")

    def when_held(self, proxy: Proxy, body: bytes, id_: int) -> None:
        """No answer, and whoever watches is told."""
        proxy.held.set()
        time.sleep(30)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True


@pytest.fixture
def proxy(settled) -> Iterator[Proxy]:
    server = Proxy(settled.anvil.url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


class Hook(HTTPServer):
    """Takes alerts, or not."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HookHandler)
        self.bodies: list[bytes] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/alerts"


class HookHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        hook = self.server
        assert isinstance(hook, Hook) and self.headers["Content-Type"] == "application/json"
        hook.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(hook.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


NO_PROOFS = 1 << 40


class Eye:
    """A watch, and all that it told."""

    def __init__(self, settled, tmp_path, who="alice", artifacts=None, url=None, cache=True, **options):
        self.rows: list[dict[str, Any]] = []
        self.said: list[str] = []
        place = Place(
            [url or settled.anvil.url],
            settled.address,
            settled.people.get(who),
            artifacts=artifacts,
            cache=tmp_path / "cache" if cache else None,
        )
        options = {"build": False, "proofs_from": NO_PROOFS, **options}
        self.stop = threading.Event()
        self.watch = Watch(place, WatchOptions(**options), self.rows.append, self.said.append, self.stop)

    def look(self) -> dict[str, str]:
        """Look, and return severities by code."""
        return {alert.code: alert.severity.name.lower() for alert in self.watch.look()}

    def told(self) -> list[tuple[str, str]]:
        return [(row["state"], row["code"]) for row in self.rows]


@pytest.fixture
def eye(settled, tmp_path) -> Callable[..., Eye]:
    return lambda who="alice", **options: Eye(settled, tmp_path, who, **options)


class Tamper:
    """What nobody can do to a contract, done to it."""

    def __init__(self, settled) -> None:
        self.settled, self.anvil, self.w3 = settled, settled.anvil, settled.w3

    def root(self) -> None:
        """The contract has another root than the data lead to."""
        of_root = self.settled.state.root
        read = self.w3.eth.get_storage_at
        slot = next(k for k in range(40) if int.from_bytes(read(self.settled.address, k), "big") == of_root)
        self.anvil.set_storage(self.settled.address, slot, of_root + 1)
        self.anvil.mine()

    def books(self) -> None:
        """One dollar more in the contract's books."""
        # tokens[USD]: outstanding and claims share the mapping's second slot or the third; whichever has 5055 in it.
        for base in range(20):
            at = int.from_bytes(keccak(USD.to_bytes(32, "big") + base.to_bytes(32, "big")), "big")
            for slot in (at, at + 1):
                word = int.from_bytes(self.w3.eth.get_storage_at(self.settled.address, slot), "big")
                for shift in range(0, 256, 64):
                    if word >> shift & (2**64 - 1) == 5055:
                        self.anvil.set_storage(self.settled.address, slot, word + (1 << shift))
        self.anvil.mine()

    def dollars(self) -> None:
        """One dollar less in the vault."""
        # Balances are the token's first mapping.
        slot = keccak(bytes.fromhex(self.settled.address[2:].lower().rjust(64, "0")) + bytes(32))
        self.anvil.set_storage(self.settled.token.address, int.from_bytes(slot, "big"), 5054 * 1000)

    def code(self, address: str) -> None:
        """The last byte of some code is another one."""
        code = bytearray(self.w3.eth.get_code(address))
        code[-1] ^= 1
        self.anvil.rpc("anvil_setCode", address, "0x" + code.hex())

    def take_any_proof(self) -> None:
        """Have the contract ask a contract that says yes in place of the pairing precompile."""
        code = self.w3.eth.get_code(self.settled.address).hex().removeprefix("0x")
        call, other = "60085afa", "60775afa"
        assert code.count(call) == 1
        self.anvil.rpc("anvil_setCode", self.settled.address, "0x" + code.replace(call, other))
        # PUSH1 1, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN
        self.anvil.rpc("anvil_setCode", "0x" + "77".rjust(40, "0"), "0x60015f5260205ff3")

    def commit(self, root_offset: int) -> None:
        """Commit an empty batch without a proof, to a root that is false by so much."""
        made = self.settled
        now = self.w3.eth.get_block("latest")["timestamp"]
        header = Header(made.domain, 0, made.number + 1, now, 0, made.state.root, 0)
        page, _ = build(made.state, header, [], [], (), [])
        made.by(made.operator).commit(0, now, page.header.new_root + root_offset, [], b"", b"", 0, [0] * 8)


@pytest.fixture
def tamper(settled) -> Tamper:
    return Tamper(settled)
