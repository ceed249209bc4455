"""The operator's API against requests made from its own OpenAPI document, and against bodies near to good ones.

No answer is a 500, every refusal has a code, a refusal changes nothing, and what is accepted can be settled: a batch of
it passes `transition.apply`.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok

from proofbook.operator.api import create_app
from proofbook.operator.service import Operator
from proofbook.operator.settings import load_settings

LONG = os.environ.get("PROOFBOOK_LONG") == "1"
BY_SCHEMA = 400 if LONG else 12
"""Requests an operation."""
NEAR = 5000 if LONG else 150
MAX_S = 10.0
SETTLE = "/v1/batches"
JUNK: list[Any] = [
    0,
    1,
    -1,
    2**16,
    2**24,
    2**32,
    2**64 - 1,
    2**64,
    2**256,
    10**400,
    0.5,
    1e308,
    True,
    None,
    "",
    "x",
    "0",
]
JUNK += ["00", "-1", "1e3", " 1", "٣", "\x00", "9" * 5000, "../..", "buy", [], [1], {}, {"r8x": "1"}, "1" * 77]

pytestmark = [pytest.mark.xdist_group("live"), pytest.mark.slow]
quick = settings(
    deadline=None,
    derandomize=not LONG,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def drawn(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """Return examples of a strategy, drawn before there is a loop to send them on."""
    made: list[Any] = []

    @settings(quick, max_examples=count)
    @given(strategy)
    def collect(example: Any) -> None:
        made.append(example)

    collect()
    return made


def cases(document: dict[str, Any]) -> list[Any]:
    """Return requests of every operation of an OpenAPI document."""
    schema = schemathesis.openapi.from_dict(document)
    made = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        made += drawn(result.ok().as_strategy(), BY_SCHEMA)
    return made


async def send(client: Any, method: str, path: str, **parts: Any) -> Any:
    """Send a request; check what is true of every answer."""
    started = time.monotonic()
    answer = await client.request(method, path, **parts)
    assert answer.status_code < 500 or answer.status_code == 503, (method, path, parts, answer.text[:500])
    # Settling proves, which takes as long as it takes.
    assert path == SETTLE or time.monotonic() - started < MAX_S
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["code"] and error["message"] and len(answer.text) < 5000, (method, path)
    return answer


@pytest.fixture
def directory(populated: Any, tmp_path: Any) -> Any:
    return populated.directory(tmp_path / "operator")


def test_requests_made_from_the_document(populated: Any, directory: Any, session: Any) -> None:
    operator = Operator(directory, load_settings(directory))
    try:
        document = create_app(operator).openapi_schema.to_schema()
    finally:
        operator.abandon()
    made = cases(document)
    assert len(made) > 15 * 5

    async def work(s: Any) -> None:
        for case in made:
            parts: dict[str, Any] = {"params": case.query or {}}
            if isinstance(case.body, (dict, list, str, int, float, bool)) or case.body is None:
                parts["json"] = case.body
            await send(s.client, case.method, case.formatted_path, **parts)
        await settled(s)

    session(directory, work)


async def settled(s: Any) -> None:
    """Settle what was accepted: the batcher applies it to the state, proves it and commits it."""
    answer = await s.client.post(SETTLE)
    assert answer.status_code == 200, answer.text
    assert (await s.client.get("/v1/health")).status_code == 200


def bodies(live: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return good requests."""
    return [
        ("/v1/orders", live.order(1, "sell", 1000, 3, 11)),
        ("/v1/orders", live.order(2, "buy", 1000, 3, 12)),
        ("/v1/cancels", live.cancel(1, 11)),
        ("/v1/cancels", live.cancel(1, 13, hard=True)),
        ("/v1/withdrawals", live.withdrawal(1, 2, 5, 21)),
        ("/v1/transfers", live.transfer(2, 1, 7, 1, 22)),
    ]


edits = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, len(JUNK) - 1), st.integers(0, 3)), min_size=1, max_size=3
)


def bend(body: dict[str, Any], changes: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Return a body with fields replaced, left out, added, or bent inside the signature."""
    made = {**body, "signature": dict(body["signature"])}
    for place, value, kind in changes:
        name = sorted(body)[place % len(body)]
        if kind == 0:
            made.pop(name, None)
        elif kind == 1 and isinstance(made.get("signature"), dict):
            made["signature"][("r8x", "r8y", "s")[place % 3]] = JUNK[value]
        elif kind == 2 and place > 25:
            made[f"x{value}"] = JUNK[value]
        else:
            made[name] = JUNK[value]
    return made


def test_bodies_near_to_good_ones(populated: Any, directory: Any, session: Any) -> None:
    plans = drawn(st.tuples(st.integers(0, 5), edits), NEAR)

    async def work(s: Any) -> None:
        good = bodies(populated)
        engine, refused = s.operator.engine, 0
        for which, changes in plans:
            path, body = good[which]
            made = bend(body, changes)
            before = engine.command_seq
            answer = await send(s.client, "POST", path, json=made)
            said = answer.json()
            if answer.status_code >= 400 and said["error"]["code"] in ("malformed", "invalid_value", "bad_signature"):
                refused += 1
                assert engine.command_seq == before, (path, made)
        assert refused > NEAR // 2
        for path, body in good:
            await send(s.client, "POST", path, json=body)
        await settled(s)

    session(directory, work)
