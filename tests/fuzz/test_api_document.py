"""The operator's API against requests made from its own OpenAPI document, such as it allows and such as it does not.

No answer is a 500 or slow, each has a status and a form that the document names, and each route has answered well.
"""

from __future__ import annotations

import importlib.util
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from proofbook.operator.service import Operator
from proofbook.operator.settings import load_settings


def load(name: str) -> Any:
    """Import a helper beside this file: folders of tests are no packages."""
    spec = importlib.util.spec_from_file_location(f"fuzz_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


near, document = load("near"), load("document")
BY_SCHEMA = 200 if near.LONG else 8
"""Requests an operation, of each mode."""
MAX_S = 10.0
SETTLE = ("POST", "/v1/batches")
KNOWN: dict[str, list[str]] = {
    "symbol": ["COIN-ETH"],
    "index": ["1", "2"],
    "account": ["1"],
    "id_": ["11"],
    "number": ["1"],
    "kind": ["wasm"],
    "market": ["COIN/ETH"],
    "owner": [],
}
"""What some of the parameters are, so that there is something to answer with."""
HEADERS: list[dict[str, str]] = [{}] * 8 + [
    {"authorization": "Bearer " + "x" * 500},
    {"authorization": "é"},
    {"cookie": "a=b; c"},
    {"content-type": "text/plain"},
    {"content-type": "application/json; charset=utf-7"},
    {"content-encoding": "gzip"},
    {"accept": "text/html"},
    {"x-forwarded-for": "1.2.3.4"},
    {"origin": "http://elsewhere"},
    {"transfer-encoding": "identity"},
]

pytestmark = [pytest.mark.xdist_group("live"), pytest.mark.slow]


def drawn(strategy: Any, count: int) -> list[Any]:
    """Return examples of a strategy, drawn before there is a loop to send them on."""
    made: list[Any] = []

    @settings(near.fuzz, max_examples=count, phases=[Phase.generate])
    @given(strategy)
    def collect(example: Any) -> None:
        made.append(example)

    collect()
    return made


def cases_of(operation: Any, mode: GenerationMode) -> list[tuple[Any, dict[str, str]]]:
    """Return cases with headers; none where nothing can be against the document, as in a path of any text."""
    try:
        return drawn(st.tuples(operation.as_strategy(generation_mode=mode), st.sampled_from(HEADERS)), BY_SCHEMA)
    except Unsatisfiable:
        assert mode == GenerationMode.NEGATIVE
        return []


def requests_of(operation: Any, owner: str) -> list[tuple[str, dict[str, Any]]]:
    """Return requests of one operation: path, and the parts that httpx takes."""
    made = []
    cases = cases_of(operation, GenerationMode.POSITIVE)
    against = cases_of(operation, GenerationMode.NEGATIVE)
    assert cases and (against or operation.method.upper() == "GET"), operation.path
    cases += against
    for number, (case, headers) in enumerate(cases):
        path, query = case.path_parameters or {}, dict(case.query or {})
        if number % 3 == 0:
            path = {name: (KNOWN[name] or [owner])[number % len(KNOWN[name] or [owner])] for name in path}
            query = {name: (KNOWN[name] or [owner])[0] for name in query if name in KNOWN}
            headers = {}
        case.path_parameters = path
        cookies = "; ".join(f"{name}={value}" for name, value in (case.cookies or {}).items())
        sent = {**(case.headers or {}), **({"cookie": cookies} if cookies else {}), **headers}
        parts: dict[str, Any] = {"params": query}
        parts["headers"] = [(str(name).encode(), str(value).encode()) for name, value in sent.items()]
        if isinstance(case.body, (bytes, bytearray)):
            parts["content"] = bytes(case.body)
        elif isinstance(case.body, (dict, list, str, int, float, bool)) or case.body is None:
            parts["json"] = case.body
        made.append((case.formatted_path, parts))
    return made


def test_requests_made_from_the_document(populated: Any, session: Any, tmp_path: Path) -> None:
    directory = populated.directory(tmp_path / "operator")
    operator = Operator(directory, load_settings(directory))
    try:
        operations = document.operations_of(operator)
    finally:
        operator.abandon()
    assert len(operations) == 17
    owner = populated.people["alice"].address
    plan = {key: requests_of(operation, owner) for key, operation in operations.items()}
    good: Counter[tuple[str, str]] = Counter()
    refused: Counter[tuple[str, str]] = Counter()

    async def send(s: Any, key: tuple[str, str], path: str, parts: dict[str, Any]) -> Any:
        started = time.monotonic()
        answer = await s.client.request(key[0], path, **parts)
        assert answer.status_code < 500, (key, path, parts, answer.text[:500])
        # Settling proves, which takes as long as it takes.
        assert key == SETTLE or time.monotonic() - started < MAX_S
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert error["code"] and error["message"] and len(answer.text) < 5000, (key, path)
            refused[key] += 1
        else:
            good[key] += 1
        # A path that is another route's, or none's, has no place in this operation.
        if answer.status_code not in (404, 405):
            document.check_answer(operations[key], answer)
        return answer

    async def work(s: Any) -> None:
        orders = [populated.order(1, "sell", 1000, 3, 11), populated.order(2, "buy", 1000, 3, 12)]
        sent = [("/v1/orders", orders[0]), ("/v1/orders/batch", {"orders": [orders[1], {}]})]
        sent += [("/v1/withdrawals", populated.withdrawal(1, 2, 5, 21)), ("/v1/cancels", populated.cancel(1, 13, True))]
        for path, body in sent:
            await send(s, ("POST", path), path, {"json": body})
        # What was accepted is applied to the state, proven and committed.
        await send(s, SETTLE, SETTLE[1], {})
        await send(s, ("POST", "/v1/transfers"), "/v1/transfers", {"json": populated.transfer(2, 1, 7, 1, 22)})
        for key, requests in plan.items():
            for path, parts in requests:
                await send(s, key, path, parts)
        assert (await s.client.get("/v1/health")).json()["status"] == "ok"

    session(directory, work)
    assert set(good) == set(operations), set(operations) - set(good)
    # Every route that takes anything has refused something.
    takes = {key for key, one in operations.items() if one.definition.raw.get("parameters") or key[0] == "POST"}
    assert set(refused) >= takes, takes - set(refused)
