"""A node's answers, over a real socket: retried, limited, typed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from proofbook.verifier import rpc as module
from proofbook.verifier.errors import RpcMalformed, RpcRefused, RpcUnavailable
from proofbook.verifier.rpc import Rpc


class Node(HTTPServer):
    """Gives the answers it was told, one a request, the last one for ever."""

    answers: list[tuple[int, bytes]]
    asked: int = 0
    pauses: list[float]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        node = self.server
        assert isinstance(node, Node)
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = node.answers[min(node.asked, len(node.answers) - 1)]
        node.asked += 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def node() -> Iterator[Node]:
    server = Node(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def told(**answer: Any) -> tuple[int, bytes]:
    return 200, json.dumps({"jsonrpc": "2.0", "id": 1, **answer}).encode()


def ask(node: Node, *answers: tuple[int, bytes]) -> Any:
    node.answers = list(answers)
    node.pauses = []
    return Rpc(f"http://127.0.0.1:{node.server_port}", pause=node.pauses.append).call("eth_chainId")


def test_a_busy_node_is_asked_again(node):
    assert ask(node, (429, b"slow down"), (503, b""), told(result="0x1")) == "0x1"
    assert node.asked == 3


def test_a_node_that_stays_busy_is_given_up(node, monkeypatch):
    monkeypatch.setattr(module, "MAX_TRIES", 2)
    with pytest.raises(RpcUnavailable):
        ask(node, (429, b""))
    assert node.asked == 2


def test_an_error_is_not_asked_again(node):
    with pytest.raises(RpcRefused, match="no such method"):
        ask(node, told(error={"code": -32601, "message": "no such method"}))
    assert node.asked == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"1", b"{}", b"[" * 100_000])
def test_what_is_no_json_rpc_is_refused(node, body):
    with pytest.raises(RpcMalformed):
        ask(node, (200, body))


def test_an_endless_answer_is_cut_off(node, monkeypatch):
    monkeypatch.setattr(module, "MAX_ANSWER", 1000)
    with pytest.raises(RpcMalformed, match="1000 bytes"):
        ask(node, told(result="0" * 1000))


def test_events_that_nobody_asked_for_are_refused(node):
    node.answers = [told(result=[{"blockNumber": "0x9", "logIndex": "0x0"}])]
    with pytest.raises(RpcMalformed, match="outside"):
        list(Rpc(f"http://127.0.0.1:{node.server_port}").ranges("0x" + "00" * 20, ["0x"], 0, 5))
