"""Connections that want nothing but to be there: idle, slow, endless, many. The operator goes on, others are served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from proofbook.operator.api import create_app
from proofbook.operator.service import _Server, bind
from proofbook.operator.web import Limits, make_config
from proofbook.prover.artifacts import build

pytestmark = pytest.mark.xdist_group("live")

COIN = 2
QUICK = Limits(connections=40, of_one=20, request_s=0.6, reading_s=0.8)
RUN = "import pathlib, sys; from proofbook.operator.service import run; run(pathlib.Path(sys.argv[1]))"


class Door:
    """The address of an API, for raw connections."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open: list[socket.socket] = []

    def knock(self, sent: bytes = b"", source: str = "127.0.0.2", small: bool = False) -> socket.socket:
        made = socket.socket()
        if small:  # so that little of an answer is on its way
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        made.settimeout(20)
        made.bind((source, 0))
        made.connect(("127.0.0.1", self.port))
        self.open.append(made)
        with contextlib.suppress(ConnectionError):
            made.sendall(sent)
        return made

    def ask(self, path: str = "/v1/health") -> int:
        """Ask as an honest client does."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20) as client:
            return client.get(path).status_code

    def close(self) -> None:
        for one in self.open:
            one.close()


def is_ended(one: socket.socket, within: float) -> bool:
    """Tell whether the other side ends a connection in time; what it says before is read."""
    one.settimeout(within)
    until = time.monotonic() + within
    try:
        while time.monotonic() < until:
            if not one.recv(1 << 16):
                return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return False


@pytest.fixture
def served(live: Any, session: Any, tmp_path: Any) -> Callable[..., None]:
    """Runs an attack against an operator's API on real sockets."""
    directory = live.directory(tmp_path / "operator")

    def run(attack: Callable[[Door], None], limits: Limits = QUICK) -> None:
        async def work(s: Any) -> None:
            listener = bind("127.0.0.1", 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)  # what waits, waits with the operator
            server = _Server(make_config(create_app(s.operator), limits))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            door = Door(listener.getsockname()[1])
            try:
                await asyncio.to_thread(attack, door)
                assert await asyncio.to_thread(door.ask) == 200
            finally:
                door.close()
                server.should_exit = True
                await serving

        session(directory, work)

    return run


HEAD = b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET",
        HEAD,
        HEAD + b"content-length: 9999\r\n\r\n{",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
    ids=["silent", "half a line", "half a head", "half a body", "half the chunks"],
)
def test_a_request_that_never_ends_is_not_waited_for(sent, served):
    def attack(door):
        began = time.monotonic()
        assert is_ended(door.knock(sent), 10)
        assert time.monotonic() - began >= 0.5

    served(attack)


def test_a_byte_now_and_then_does_not_help(served):
    def attack(door):
        one = door.knock(HEAD)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 10:
                one.sendall(b"x-a: b\r\n")
                time.sleep(0.05)
        assert time.monotonic() - began < 5

    served(attack)


def test_nor_does_a_good_request_before(served):
    def attack(door):
        one = door.knock(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200" in one.recv(1 << 16)
        one.sendall(HEAD)
        assert is_ended(one, 4)

    served(attack)


def test_an_endless_head_is_refused(served):
    def attack(door):
        one, sent = door.knock(HEAD), 0
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 24:
                sent += one.send(b"x-%d: " % sent + b"y" * 1000 + b"\r\n")
        assert sent < 1 << 23
        for many in (b"x: y\r\n" * 20_000, b"y" * 70_000, b"cookie: " + b"z" * 70_000):
            assert is_ended(door.knock(HEAD + many), 10)

    served(attack, Limits())


def test_who_does_not_read_is_not_waited_for(served):
    size = build("exit-minimal").zkey.stat().st_size

    def pull(door, pause):
        """Ask for the proving key, wait, and return how much of it still comes."""
        one, got = door.knock(b"GET /v1/artifacts/exit/zkey HTTP/1.1\r\nhost: x\r\n\r\n", small=True), 0
        time.sleep(pause)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while got < size and (part := one.recv(1 << 16)):
                got += len(part)
        return got

    def attack(door):
        assert pull(door, 3) < size <= pull(door, 0.2)

    served(attack)


def test_one_address_does_not_keep_others_out(served):
    def attack(door):
        crowd = [door.knock() for _ in range(QUICK.of_one + 5)]
        assert all(is_ended(one, 0.3) for one in crowd[QUICK.of_one :])
        assert door.ask() == 200

    served(attack)


def test_many_addresses_are_too_many_together(served):
    def attack(door):
        crowd = [door.knock(source=f"127.0.0.{2 + k % 8}") for k in range(QUICK.connections + 5)]
        assert all(is_ended(one, 0.3) for one in crowd[QUICK.connections :])
        # They have to ask for something in time, too; then there is room again.
        assert all(is_ended(one, 10) for one in crowd)

    served(attack)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /v1/health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}{}{}",
        b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffffffff\r\n",
        b"GET /v1/artifacts/exit/../../operator.key HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/artifacts/exit/..%2f..%2foperator.key HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/artifacts/exit/zkey%00.txt HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://127.0.0.1:1/ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda raw: raw[:24].decode("latin-1"),
)
def test_odd_requests_get_nothing(request_, served):
    def attack(door):
        one = door.knock(request_)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := one.recv(1 << 16):
                answer += part
                if len(answer) > 1 << 16:
                    break
        status = int(answer.split(b" ", 2)[1]) if answer else 400
        # A handshake for a websocket is answered as the plain request that it is, too.
        assert 400 <= status < 500 or (b"websocket" in request_ and status == 200), answer[:200]
        assert b"0x" not in answer or status == 200

    served(attack)


def test_nonsense_does_not_fill_the_log(served, caplog):
    caplog.set_level(logging.INFO)

    def attack(door):
        caplog.clear()
        for _ in range(20):
            assert is_ended(door.knock(b"\x00\r\n\r\n"), 10)
            is_ended(door.knock(HEAD + b"content-length: x\r\n\r\n"), 10)
            assert door.ask("/v1/nothing") == 404
        assert [record for record in caplog.records if record.name.startswith(("uvicorn", "proofbook"))] == []

    served(attack)


@pytest.fixture
def poor(live: Any, populated: Any, tmp_path: Any) -> Iterator[tuple[Any, Any, str]]:
    """An operator that may open few files: its process, its exchange and its address."""
    directory = populated.directory(tmp_path / "operator", batch_interval_s=2.0, poll_s=0.2)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))

    process = subprocess.Popen([sys.executable, "-c", RUN, str(directory)], preexec_fn=few)
    until = time.monotonic() + 240
    while not (directory / "operator.url").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    yield process, live, (directory / "operator.url").read_text().strip()
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_idle_connections_do_not_stop_the_operator(poor):
    process, live, url = poor
    door = Door(int(url.rsplit(":", 1)[1]))
    try:
        for k in range(600):
            door.knock(source=f"127.0.0.{2 + k % 8}")
        until = time.monotonic() + 240
        # The node is asked, a prover is started and a batch is settled, all of which needs files.
        while live.by("alice").batch_number() == 0:
            assert process.poll() is None and time.monotonic() < until, "nothing is settled"
            time.sleep(0.2)
    finally:
        door.close()
    assert door.ask() == 200
