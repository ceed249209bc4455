"""A node's answers, over a real socket: retried, limited, typed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from proofbook.verifier import rpc as module
from proofbook.verifier.errors import RpcMalformed, RpcRefused, RpcUnavailable
from proofbook.verifier.rpc import Rpc

MANY = 300_000


class Node(HTTPServer):
    """Gives the answers it was told, one a request, the last one for ever."""

    answers: list[tuple[int, bytes]]
    asked: int = 0
    headers: dict[str, str]
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
        for name, value in node.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def node() -> Iterator[Node]:
    server = Node(("127.0.0.1", 0), Handler)
    server.headers = {}
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


@pytest.mark.parametrize("after, pause", [("7", 7.0), ("100000", 30.0), ("soon", 0.2), ("", 0.2), ("-1", 0.2)])
def test_a_busy_node_says_when(node, after, pause):
    node.headers = {"Retry-After": after}
    assert ask(node, (429, b""), told(result="0x1")) == "0x1"
    assert node.pauses == [pause]


def test_a_date_to_wait_for(node):
    node.headers = {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)}
    assert ask(node, (503, b""), told(result="0x1")) == "0x1"
    assert 15 < node.pauses[0] <= 20


@pytest.mark.parametrize(
    "error",
    [
        {"code": -32005, "message": "limit exceeded"},
        {"code": 429, "message": "?"},
        {"code": -32000, "message": "header not found"},
        {"code": -32603, "message": "Too Many Requests, slow down"},
    ],
)
def test_a_limit_passes(node, error):
    assert ask(node, told(error=error), told(error=error), told(result="0x1")) == "0x1"
    assert node.pauses == [1.0, 1.0]


@pytest.mark.parametrize(
    "error",
    [
        {"code": 3, "message": "try again"},
        {"code": -32000, "message": "execution reverted: rate limit"},
        {
            "code": -32603,
            "message": "VM Exception while processing transaction: reverted with reason 'header not found'",
        },
        {"code": -32005, "message": "too many requests", "data": "0x08c379a0"},
    ],
)
def test_the_words_of_a_contract_that_reverts_are_not_the_nodes(node, error):
    """A token chooses them: were they believed, one of `try again` would be asked for ever."""
    with pytest.raises(RpcRefused, match=error["message"][-9:]):
        ask(node, told(error=error), told(result="0x1"))
    assert (node.asked, node.pauses) == (1, [])


def test_what_a_limit_says_of_itself_is_no_revert(node):
    error = {"code": -32005, "message": "request rate limited", "data": {"see": "https://example.org"}}
    assert ask(node, told(error=error), told(result="0x1")) == "0x1"


@pytest.mark.parametrize("words", ["[" * 65, '\\"' + "{" * 65, "\\" + "[" * 65, '"[' * 65])
def test_brackets_in_what_a_contract_says_are_no_depth(node, words):
    """A token chooses the text: its brackets would be a failure of the node, asked again and again."""
    with pytest.raises(RpcRefused):
        ask(node, told(error={"code": 3, "message": f"execution reverted: {words}"}), told(result="0x1"))
    assert (node.asked, node.pauses) == (1, [])
    assert ask(node, told(result=words)) == words


@pytest.mark.parametrize("before", ["", '["\\"",', '["\\\\",', '["\\\\\\"]",', '{"a":"]]","b":'])
def test_depth_behind_texts_is_refused(before):
    """A text that seemed longer than it is would hide a crash."""
    assert module._depth(f"{before}{'[' * 65}".encode()) > module.MAX_DEPTH


def test_a_text_without_an_end_takes_no_time():
    began = time.monotonic()
    assert module._depth(b'"' + b'\\"[' * MANY) == 0
    assert time.monotonic() - began < 5


def test_what_can_be_done_without_is_asked_for_once(node):
    node.answers, pauses = [(503, b"")], list[float]()
    rpc = Rpc(f"http://127.0.0.1:{node.server_port}", pause=pauses.append)
    with pytest.raises(RpcUnavailable), rpc.hasty():
        rpc.call("eth_call")
    assert (node.asked, pauses) == (1, [])
    node.answers, node.asked, rpc._id = [(503, b""), told(result="0x1")], 0, 0
    assert rpc.call("eth_call") == "0x1" and len(pauses) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_by_http_is_not_asked_again(node, status):
    with pytest.raises(RpcUnavailable, match=str(status)):
        ask(node, (status, b"go away"))
    assert node.asked == 1


def test_the_answer_to_another_question_is_refused(node):
    with pytest.raises(RpcMalformed, match="another question"):
        ask(node, (200, json.dumps({"jsonrpc": "2.0", "id": 77, "result": "0x1"}).encode()))


@pytest.mark.parametrize("seconds", [2**32, 2**62, 2**255])
def test_a_block_of_no_time_there_is_is_refused(node, seconds):
    """No calendar has it; what counts days from it would end."""
    block = {"hash": "0x" + "11" * 32, "number": "0x5", "timestamp": hex(seconds)}
    node.answers = [told(result=block)]
    rpc = Rpc(f"http://127.0.0.1:{node.server_port}")
    with pytest.raises(RpcMalformed, match="no time"):
        rpc.block(5)
    rpc._id = 0
    node.answers = [told(result=block | {"timestamp": "0xffffffff"})]
    assert rpc.block(5) == ("0x" + "11" * 32, 2**32 - 1)


@pytest.mark.parametrize(
    "text", ["", ",", "ftp://x", "http://a,b", "http://", "http://a:b", ",".join(["http://a"] * 17)]
)
def test_addresses_are_checked(text):
    with pytest.raises(RpcUnavailable):
        Rpc(text)


def test_several_addresses(node):
    assert Rpc([" http://a , http://b", "https://c"]).urls == ("http://a", "http://b", "https://c")
    node.answers = [told(error={"code": -32601, "message": "no such method"}), told(result="0x1")]
    url = f"http://127.0.0.1:{node.server_port}"
    assert Rpc([url, url]).call("eth_chainId") == "0x1"


FORGOT = {"code": -32000, "message": "missing trie node"}


def ask_two(node, method, *answers):
    """Ask two nodes in turn; return what comes of it."""
    node.answers, node.asked, node.pauses = list(answers), 0, []
    url = f"http://127.0.0.1:{node.server_port}"
    return Rpc([url, url], pause=node.pauses.append).call(method)


def test_where_one_refuses_the_busy_one_is_waited_for(node):
    """It may have what the other one forgot."""
    busy = told(error={"code": 429, "message": "slow down"})
    assert ask_two(node, "eth_call", told(error=FORGOT), busy, told(error=FORGOT), told(result="0x1")) == "0x1"
    assert (node.asked, node.pauses) == (4, [1.0])
    with pytest.raises(RpcRefused, match="missing trie node"):
        ask_two(node, "eth_call", *[told(error=FORGOT), (503, b"")] * 8)
    assert (node.asked, len(node.pauses)) == (8, 3)


@pytest.mark.parametrize(
    ("method", "refusal", "other"),
    [
        ("eth_getLogs", FORGOT, (503, b"")),
        ("eth_sendRawTransaction", FORGOT, (503, b"")),
        ("eth_call", {"code": 3, "message": "execution reverted"}, (503, b"")),
        ("eth_call", FORGOT, (200, b"no node at all")),
    ],
)
def test_where_waiting_helps_nobody_a_refusal_is_one_at_once(node, method, refusal, other):
    with pytest.raises(RpcRefused):
        ask_two(node, method, told(error=refusal), other, told(result="0x1"))
    assert (node.asked, node.pauses) == (2, [])


def test_going_on_goes_round():
    rpc, turns = Rpc("http://a,http://b,http://c"), []
    for _ in range(4):
        rpc.advance()
        turns.append(rpc.url[-1])
    assert turns == ["b", "c", "a", "b"]


@pytest.mark.parametrize("other", [told(error={"code": -32000, "message": "already known"}), (503, b""), (200, b"?")])
def test_a_transaction_goes_to_all_nodes_and_the_first_ones_answer_counts(node, other):
    node.answers = [told(result="0xaa"), other, other]
    urls = [f"http://127.0.0.1:{node.server_port}/{k}" for k in range(3)]
    pauses: list[float] = []
    rpc = Rpc([*urls, "http://127.0.0.1:9"], pause=pauses.append)
    assert rpc.broadcast("0x02") == "0xaa"
    assert (node.asked, pauses, rpc.url) == (3, [], urls[0])


def test_a_transaction_that_the_first_node_refuses_is_the_next_ones(node):
    node.answers = [told(error={"code": -32000, "message": "no"}), told(result="0xbb")]
    urls = [f"http://127.0.0.1:{node.server_port}/{k}" for k in range(2)]
    assert Rpc(urls).broadcast("0x02") == "0xbb"


class Stingy(Rpc):
    """Gives events of at most so many blocks, which may change."""

    def __init__(self, most: list[int]) -> None:
        super().__init__("http://x")
        self.most, self.spans = most, list[int]()

    def call(self, method: str, *parameters: Any) -> Any:
        first, last = (int(parameters[0][name], 16) for name in ("fromBlock", "toBlock"))
        self.spans.append(last - first + 1)
        if last - first + 1 > self.most[0]:
            raise RpcRefused("range too large")
        return []


def test_ranges_shrink_where_refused_and_grow_again():
    rpc = Stingy([1000])
    covered = [upto for upto, _ in rpc.ranges("0x", [], 0, 99_999)]
    assert covered == sorted(covered) and covered[-1] == 99_999
    assert len(rpc.spans) < 100_000 / 512 + 40  # it settles near the limit, and asks for too much now and then only
    rpc.most[0] = 1 << 30
    rpc.spans.clear()
    list(rpc.ranges("0x", [], 100_000, 2_000_000))
    assert max(rpc.spans) > 100_000 and len(rpc.spans) < 60


def test_a_single_block_that_is_refused_ends_it():
    with pytest.raises(RpcRefused):
        list(Stingy([0]).ranges("0x", [], 0, 99))


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
