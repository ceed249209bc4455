"""Bodies that nest: each POST route refuses them by name, and the operator lives, as a process of its own, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from proofbook.operator.api_models import MAX_BODY_BYTES
from proofbook.sim.operator_process import OperatorProcess

pytestmark = [pytest.mark.xdist_group("live"), pytest.mark.slow]

DEPTHS = [900, 1_100, 40_000, 100_000]
ROUTES = ["/v1/orders", "/v1/orders/batch", "/v1/cancels", "/v1/withdrawals", "/v1/transfers"]
JSON = {"content-type": "application/json"}
SHAPES = {
    "lists": ("[", "]"),
    "objects": ('{"a":', "}"),
    "mixed": ('[{"":', "}]"),
    "open": ("[", ""),
}


def bodies(good: dict[str, Any], depth: int) -> dict[str, bytes]:
    """Return a body that nests in a field that is known, in one that is not, in a signature, and as a whole."""
    made = {}
    for shape, (head, tail) in SHAPES.items():
        count = depth // (2 if shape == "mixed" else 1)
        deep = head * count + ("1" if tail else "") + tail * count
        made[f"{shape} alone"] = deep
        text = json.dumps(good)
        made[f"{shape} in a known field"] = text.replace('"@"', deep, 1)
        made[f"{shape} in an unknown field"] = text.replace('"@"', '"1"').replace("{", f'{{"x": {deep}, ', 1)
        made[f"{shape} among orders"] = f'{{"orders": [{deep}]}}'
        made[f"{shape} as orders"] = f'{{"orders": {deep}}}'
        made[f"{shape} in an order"] = f'{{"orders": [{text.replace(chr(34) + "@" + chr(34), deep, 1)}]}}'
    return {name: text.encode() for name, text in made.items() if len(text) <= MAX_BODY_BYTES}


def check(answer: Any, path: str, name: str) -> bool:
    """Check that a body was refused by name; in a batch of orders that may be each order alone."""
    told = answer.json()
    if answer.status_code == 200 and path.endswith("batch"):
        items = told["results"]
        assert items and all(item["result"] is None and item["error"]["code"] == "malformed" for item in items), name
        return False
    assert (answer.status_code, told["error"]["code"]) == (400, "malformed"), (path, name, answer.text[:300])
    return True


def test_nested_bodies_are_refused_by_name(populated: Any, session: Any, tmp_path: Path) -> None:
    goods = {
        "/v1/orders": populated.order(1, "sell", 1000, 3, 11),
        "/v1/cancels": populated.cancel(1, 11),
        "/v1/withdrawals": populated.withdrawal(1, 2, 5, 21),
        "/v1/transfers": populated.transfer(2, 1, 7, 1, 22),
    }
    goods["/v1/orders/batch"] = goods["/v1/orders"]

    async def work(s: Any) -> None:
        sent = 0
        for path in ROUTES:
            for depth in DEPTHS:
                for field in ("id", "signature"):
                    for name, body in bodies(goods[path] | {field: "@"}, depth).items():
                        sent += check(await s.client.post(path, content=body, headers=JSON), path, f"{name} {depth}")
        assert sent > 300
        assert s.operator.stopped is None
        # A body's depth is nobody else's business: the same route takes a good one afterwards.
        assert (await s.client.post("/v1/orders", json=goods["/v1/orders"])).status_code == 201
        for name, body in bodies({"a": "@"}, 40_000).items():
            answer = await s.client.post("/v1/batches", content=body, headers=JSON)
            assert answer.status_code == 200, name

    session(populated.directory(tmp_path / "operator"), work)


def test_an_operators_process_lives_on(populated: Any, tmp_path: Path) -> None:
    directory = populated.directory(tmp_path / "operator", batch_interval_s=3600.0, min_actions=240)
    good = populated.order(1, "sell", 1000, 3, 11) | {"id": "@"}
    with OperatorProcess(directory, tmp_path / "log") as process, httpx.Client(timeout=60, trust_env=False) as client:
        for path in ROUTES:
            for depth in (40_000, 100_000):
                for name, body in bodies(good, depth).items():
                    check(client.post(process.url + path, content=body, headers=JSON), path, f"{name} {depth}")
        process.check()
        assert client.get(process.url + "/v1/health").json()["status"] == "ok"
        assert client.post(process.url + "/v1/orders", json=good | {"id": "11"}).status_code == 201
