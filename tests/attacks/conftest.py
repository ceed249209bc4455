"""The running exchange of `tests/operator/service`, and servers that lie: for attacks that fit nowhere else."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SERVICE = Path(__file__).resolve().parent.parent / "operator" / "service" / "conftest.py"


def load(path: Path) -> Any:
    """Import a helper by its path: folders of tests are no packages."""
    name = f"attack_tests_{path.parent.name}_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


service = load(SERVICE)
live_exchange, live, populated, session = (
    service.live_exchange,
    service.live,
    service.populated,
    service.session,
)


class Liar:
    """A server that answers as it is told to, and notes what was asked.

    Attributes
    ----------
    answers : dict
        Path without query to what is said: an object, or a function that takes the request's handler.
    posts : list
        Paths and bodies of what was sent: what a trader signed.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.posts: list[tuple[str, Any]] = []
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.partition("?")[0]
                if self.command == "POST":
                    liar.posts.append((path, json.loads(body)))
                said = liar.answers.get(path, {"error": {"code": "not_found", "message": "no"}})
                if callable(said):
                    said(self)
                    return
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(404 if "error" in said else 200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer  # noqa: N815 - names of the standard library

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = Liar()
    yield made
    made.close()


@pytest.fixture
def load_helper() -> Callable[[Path], Any]:
    return load
