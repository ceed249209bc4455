"""Small things that become large: packed answers, slow ones, and files that are not what they say."""

from __future__ import annotations

import contextlib
import gzip
import time
import tracemalloc
import zlib
from typing import Any

import pytest
from requests.exceptions import RequestException
from web3 import Web3

from proofbook.chain.provider import CarefulProvider
from proofbook.client import http
from proofbook.client.errors import ApiMalformed, ApiUnreachable
from proofbook.client.http import ApiClient

MIB = 1 << 20


def packed(size: int) -> bytes:
    """Return a gzip file of so many zeros, made without having them all."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join(parts) + packer.flush()


def say_packed(data: bytes, encoding: str) -> Any:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("content-encoding", encoding)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        with contextlib.suppress(ConnectionError):
            handler.wfile.write(data)

    return answer


@pytest.mark.parametrize(
    ("bomb", "encoding"), [(packed(256 * MIB), "gzip"), (gzip.compress(packed(256 * MIB)), "gzip, gzip")]
)
def test_a_packed_answer_is_not_unpacked(bomb, encoding, liar, tmp_path):
    liar.answers["/v1/info"] = liar.answers["/v1/artifacts/exit/zkey"] = say_packed(bomb, encoding)
    with ApiClient(liar.url) as api:
        tracemalloc.start()
        try:
            with pytest.raises(ApiMalformed):
                api.info()
            api.download_exit("zkey", tmp_path / "zkey")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # What came is kept as it came; that it is not the contract's is seen by its hash.
    assert peak < 16 * MIB and (tmp_path / "zkey").stat().st_size == len(bomb)


def test_an_answer_in_drops_is_not_waited_for(liar, tmp_path, monkeypatch):
    monkeypatch.setattr(http, "SLOW_S", 0.5)

    def drops(handler):
        handler.send_response(200)
        handler.send_header("content-length", "100000")
        handler.end_headers()
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                handler.wfile.write(b" ")
                time.sleep(0.05)

    liar.answers["/v1/info"] = liar.answers["/v1/artifacts/exit/wasm"] = drops
    with ApiClient(liar.url) as api:
        for call in (api.info, lambda: api.download_exit("wasm", tmp_path / "wasm")):
            began = time.monotonic()
            with pytest.raises((ApiUnreachable, ApiMalformed)):
                call()
            assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []


def say_long(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(ConnectionError):
        for _ in range(200):
            handler.wfile.write(b" " * MIB)


def say_slowly(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.1)


ANSWERS = {"packed": say_packed(packed(256 * MIB), "gzip"), "long": say_long, "slow": say_slowly}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_nodes_answer_has_its_limits(answer, liar):
    liar.answers["/"] = answer
    w3 = Web3(CarefulProvider(liar.url, {"timeout": 2}, exception_retry_configuration=None))
    tracemalloc.start()
    try:
        began = time.monotonic()
        with pytest.raises(RequestException):
            w3.eth.get_block("latest")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 160 * MIB and (answer is not say_slowly or time.monotonic() - began < 6)


def test_a_node_that_answers_as_it_should_is_heard(liar):
    liar.answers["/"] = {"jsonrpc": "2.0", "id": 0, "result": "0x7"}
    assert Web3(CarefulProvider(liar.url)).eth.chain_id == 7
