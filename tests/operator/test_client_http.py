"""The API's client against servers that answer as no operator would: a real server, real sockets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from proofbook.client import http
from proofbook.client.errors import ApiError, ApiMalformed, ApiUnreachable, ClientError
from proofbook.client.http import ApiClient
from proofbook.protocol.messages import domain_of

CONTRACT = "0x" + "ab" * 20
INFO: dict[str, Any] = {
    "chain_id": 1,
    "contract": CONTRACT,
    "domain": str(domain_of(1, CONTRACT)),
    "preset": "minimal",
    "time": 1,
    "fee_account": 0,
    "margin_seconds": 60,
    "slots": 16,
    "root": "0x0",
    "batches": 0,
    "tokens": [{"id": 1, "symbol": "ETH", "erc20": "", "quantum": str(10**9), "decimals": 18}],
    "markets": [],
}


class Server:
    """Answers everything with the same status and body."""

    def __init__(self) -> None:
        self.status, self.body, self.pause = 200, b"{}", 0.0
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                server.asked.append((f"{self.command} {self.path}", dict(self.headers), self.rfile.read(length)))
                time.sleep(server.pause)
                self.send_response(server.status)
                self.send_header("content-length", str(len(server.body)))
                if server.status == 302:
                    self.send_header("location", "/elsewhere")
                self.end_headers()
                try:
                    self.wfile.write(server.body)
                except ConnectionError:
                    self.close_connection = True  # the client has seen enough

            do_GET = do_POST = answer  # noqa: N815 - names of the standard library

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def says(self, body: Any, status: int = 200) -> None:
        self.status, self.body = status, body if isinstance(body, bytes) else json.dumps(body).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def client(server: Server) -> Iterator[ApiClient]:
    with ApiClient(server.url, timeout=5) as made:
        yield made


def test_info_is_read_with_its_numbers(server, client):
    server.says(INFO | {"new_field_of_a_later_version": 1})
    info = client.info()
    assert info.domain == domain_of(1, CONTRACT) and info.tokens[0].quantum == 10**9
    assert server.asked[0][0] == "GET /v1/info"


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "1"},
        {"domain": -1},
        {"contract": "0x12"},
        {"chain_id": "x"},
        {"slots": 0},
        {"time": 2**40},
        {"tokens": [{"id": 1, "symbol": "ETH", "quantum": "0"}]},
        {"tokens": [{"id": 70_000, "symbol": "ETH", "quantum": "1"}]},
        {"tokens": "none"},
        {"markets": [{"symbol": "A/B"}]},
    ],
)
def test_what_would_mislead_a_signature_is_refused(change, server, client):
    server.says(INFO | change)
    with pytest.raises(ApiMalformed):
        client.info()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'"x"', b"{" * 100_000, b"\xff\xfe"])
def test_answers_that_are_no_objects_are_malformed(body, server, client):
    server.says(body)
    with pytest.raises(ApiMalformed) as caught:
        client.health()
    assert caught.value.code == "api_malformed" and caught.value.hint


@pytest.mark.parametrize("body", [{}, {"batches": {}}, {"batches": [7]}, {"batches": None}])
def test_lists_that_are_none_are_malformed(body, server, client):
    server.says(body)
    with pytest.raises(ApiMalformed, match="no batches"):
        client.batches()


def test_refusals_are_typed(server, client):
    body = {"code": "expired", "message": "too late", "hint": "choose later", "data": {"id": "7"}}
    server.says({"error": body}, 422)
    with pytest.raises(ApiError) as caught:
        client.account(1)
    error = caught.value
    assert (error.code, error.message, error.hint, error.status) == ("expired", "too late", "choose later", 422)
    assert error.details == {"id": "7"}


@pytest.mark.parametrize("body", [{}, {"error": None}, {"error": "x"}, {"error": {"code": 7, "data": []}}])
@pytest.mark.parametrize("status", [302, 404, 500, 503])
def test_refusals_without_a_reason_are_refusals(body, status, server, client):
    server.says(body, status)
    with pytest.raises(ApiError) as caught:
        client.batches()
    assert caught.value.status == status and isinstance(caught.value.code, str)


def test_nobody_there(server):
    server.close()
    with ApiClient(server.url) as client, pytest.raises(ApiUnreachable) as caught:
        client.health()
    assert caught.value.code == "api_unreachable" and "PROOFBOOK_API" in caught.value.hint


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://x", "http://", "http://x:99999", "127.0.0.1:8080"])
def test_addresses_that_are_none(url):
    with pytest.raises(ApiUnreachable, match="no http address"):
        ApiClient(url)


def test_a_server_that_hangs_is_not_waited_for_long(server):
    server.pause = 2
    with ApiClient(server.url, timeout=0.2) as client:
        began = time.monotonic()
        with pytest.raises(ApiUnreachable):
            client.health()
        assert time.monotonic() - began < 1.5


def test_an_endless_answer_is_not_read(server, client, monkeypatch):
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 1000)
    server.says({"x": "y" * 200_000})
    with pytest.raises(ApiMalformed, match="more than 1000 bytes"):
        client.health()


def test_downloads_are_whole_or_not_there(server, client, tmp_path, monkeypatch):
    told: list[int] = []
    server.says(b"artifact" * 1000)
    client.download_exit("zkey", tmp_path / "exit" / "exit.zkey", told.append)
    assert (tmp_path / "exit" / "exit.zkey").read_bytes() == b"artifact" * 1000 and told[-1] == 8000
    server.says({"error": {"code": "not_found", "message": "no"}}, 404)
    with pytest.raises(ApiError, match="no"):
        client.download_exit("wasm", tmp_path / "exit" / "exit.wasm")
    monkeypatch.setattr(http, "MAX_FILE_BYTES", 100)
    server.says(b"x" * 101)
    with pytest.raises(ClientError, match="larger"):
        client.download_exit("wasm", tmp_path / "exit" / "exit.wasm")
    assert [path.name for path in (tmp_path / "exit").iterdir()] == ["exit.zkey"]


def test_the_operator_shows_its_token_and_others_do_not(server):
    server.says({"batches": []})
    with ApiClient(server.url, token="secret-of-the-operator") as operator, ApiClient(server.url) as trader:
        assert operator.flush(wait=False) == trader.flush() == []
    first, second = (headers for _, headers, _ in server.asked)
    assert first["authorization"] == "Bearer secret-of-the-operator" and "authorization" not in second
    assert [asked[0] for asked in server.asked] == ["POST /v1/batches?wait=false", "POST /v1/batches?wait=true"]


def test_names_stay_within_their_part_of_the_path(server, client):
    server.says({})
    client.book("../../x?y/Z")
    assert server.asked[0][0] == "GET /v1/markets/..-..-x%3Fy-Z/book?depth=20"
