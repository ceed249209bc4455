"""A node that means ill by how it answers: in drops, packed, or with words to a terminal. Over real sockets."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest

from proofbook.verifier import cli
from proofbook.verifier import rpc as module
from proofbook.verifier.errors import RpcMalformed, RpcTooLarge, RpcUnavailable
from proofbook.verifier.rpc import Rpc

MIB = 1 << 20
GOOD = json.dumps({"jsonrpc": "2.0", "id": 1, "result": "0x7"}).encode()
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"

Answer = Callable[[socket.socket], None]


class Server:
    """Gives one answer to everybody."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked = answer, list[bytes]()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while request := connection.recv(1 << 16):
                self.asked.append(request)
                if b'"method"' in request:
                    self.answer(connection)


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    made: list[Server] = []

    def start(answer: Answer) -> Server:
        made.append(Server(answer))
        return made[-1]

    yield start
    for server in made:
        server.socket.close()


def drops(connection: socket.socket, start: bytes) -> None:
    """Begin like this, and go on with a byte now and then."""
    connection.sendall(start)
    for _ in range(300):
        connection.sendall(b" ")
        time.sleep(0.1)


def good(connection: socket.socket) -> None:
    connection.sendall(PLAIN % len(GOOD) + GOOD)


SLOW: dict[str, bytes] = {
    "head": b"HTTP/1.1 200 OK\r\nX-Odd: ",
    "line": b"HTTP/1.1 200 ",
    "body": PLAIN % 1000,
    "behind the answer": b"HTTP/1.1 200 OK\r\n\r\n" + GOOD,
}


@pytest.mark.parametrize("start", SLOW.values(), ids=SLOW)
def test_an_answer_in_drops_is_not_waited_for(serve, start, monkeypatch):
    """No single read is ever late; the next node is asked, and alone it is given up."""
    slow, other = serve(lambda connection: drops(connection, start)), serve(good)
    began = time.monotonic()
    assert Rpc(f"{slow.url},{other.url}", timeout=0.5).chain_id() == 7
    assert time.monotonic() - began < 3
    monkeypatch.setattr(module, "MAX_TRIES", 2)
    with pytest.raises(RpcUnavailable, match=r"longer than 0\.5 s"):
        Rpc(slow.url, timeout=0.5, pause=lambda seconds: None).chain_id()
    assert time.monotonic() - began < 6


def test_events_in_drops_are_too_many(serve):
    """Asked for in smaller pieces, they may come in time."""
    slow = serve(lambda connection: drops(connection, PLAIN % 1000))
    began = time.monotonic()
    with pytest.raises(RpcTooLarge):
        Rpc(slow.url, timeout=1.0).call("eth_getLogs", {})
    assert 0.9 < time.monotonic() - began < 5


def test_a_node_that_hangs_on_events_is_given_up_before_long(serve):
    """Each halving would wait for another time-out; instead the next read begins with small ranges."""
    spans: list[int] = []

    def hang(connection):
        query = json.loads(node.asked[-1].partition(b"\r\n\r\n")[2] or node.asked[-1])["params"][0]
        spans.append(int(query["toBlock"], 16) - int(query["fromBlock"], 16) + 1)
        drops(connection, PLAIN % 1000)

    node = serve(hang)
    rpc = Rpc(node.url, timeout=0.5, pause=lambda seconds: None)
    for _ in range(2):
        with pytest.raises(RpcUnavailable, match="3 times in a row"):
            list(rpc.ranges("0x" + "11" * 20, [], 0, 10**6))
    assert len(spans) == 6 and spans[0] == 65536 and spans[2] <= 1024 and spans[3] < spans[2]


def test_a_second_question_on_the_same_connection_has_an_end_too(serve):
    answers = iter([good, lambda connection: drops(connection, PLAIN % 1000), good])
    node = serve(lambda connection: next(answers)(connection))
    told: list[str] = []
    rpc = Rpc(node.url, timeout=0.5, pause=lambda seconds: None, tell=told.append)
    assert rpc.chain_id() == 7
    rpc._id = 0  # the answers are to question 1
    began = time.monotonic()
    assert rpc.chain_id() == 7
    assert 0.4 < time.monotonic() - began < 3


def packed(size: int) -> bytes:
    """Return a gzip file of so many zeros, made without having them all."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()


BOMBS = {"gzip": packed(256 * MIB), "gzip, gzip": gzip.compress(packed(256 * MIB))}


@pytest.mark.parametrize(("encoding", "bomb"), BOMBS.items(), ids=BOMBS)
def test_a_packed_answer_is_not_unpacked(serve, encoding, bomb):
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    node = serve(lambda connection: connection.sendall(head % (encoding.encode(), len(bomb)) + bomb))
    tracemalloc.start()
    try:
        with pytest.raises(RpcMalformed, match="packed"):
            Rpc(node.url, pause=lambda seconds: None).chain_id()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB
    assert all(b"accept-encoding: identity" in request.lower() for request in node.asked if b"HTTP/1.1" in request)


ORDERS = "\x1b[2J\x1b]0;all is well\x07\r\nproofbook-verify: all is well\u202e\x9b31m"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_what_a_node_says_is_shown_and_not_obeyed(serve, as_json, capsys):
    """It can't clear the terminal, name it, or put a line of its own there."""
    refusal = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": ORDERS}}).encode()
    node = serve(lambda connection: connection.sendall(PLAIN % len(refusal) + refusal))
    assert cli.main(["--rpc", node.url, "--contract", "0x" + "11" * 20, *as_json]) == 1
    out, err = capsys.readouterr()
    assert all(ch.isprintable() or ch == "\n" for ch in out + err)
    assert not any(line.startswith("proofbook-verify: all") for line in (out + err).splitlines())
    assert "\\x1b[2J" in err and "\\x9b31m" in err
