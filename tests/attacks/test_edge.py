"""The operator's API as a stranger finds it: what it tells, what a browser can be made to send, what questions cost."""

from __future__ import annotations

import math
import time
from dataclasses import replace as replace_data
from typing import Any

import pytest
from msgspec.structs import replace

from proofbook.operator.batcher import ProvingFailed
from proofbook.operator.codes import OperatorError
from proofbook.operator.settings import TokenName

pytestmark = pytest.mark.xdist_group("live")

COIN = 2
SECRET = "https://node.example/v3/0123456789abcdef"


@pytest.fixture
def directory(live: Any, tmp_path: Any) -> Any:
    return live.directory(tmp_path / "operator")


BROWSER: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:8080"},  # a name that was made to mean this machine sends its own origin
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-mode": "no-cors", "referer": "https://evil.example/"},
]


@pytest.mark.parametrize("headers", BROWSER, ids=lambda headers: " ".join(headers.values()))
def test_a_web_page_cannot_have_the_operators_browser_settle(headers, directory, session):
    async def work(s):
        answer = await s.client.post("/v1/batches?wait=false", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_operator")
        assert (await s.client.post("/v1/batches?wait=false")).status_code == 202

    session(directory, work)


def test_a_token_opens_from_wherever_it_comes(directory, session):
    (directory / "api.token").write_text("correct horse battery\n")

    async def work(s):
        headers = {"authorization": "Bearer correct horse battery", "origin": "https://console.example"}
        assert (await s.client.post("/v1/batches?wait=false", headers=headers)).status_code == 202
        for wrong in ("Bearer correct horse batter", "bearer correct horse battery", "Basic x", "Bearer \xff", ""):
            sent = {"authorization": wrong.encode("latin-1")}
            assert (await s.client.post("/v1/batches?wait=false", headers=sent)).status_code == 403

    session(directory, work, host="203.0.113.9")


@pytest.mark.parametrize(
    "error",
    [OperatorError(f"HTTPError: 401 for url: {SECRET}"), ProvingFailed(f"batch 1: no such file: {SECRET}")],
    ids=["unexpected", "proving"],
)
def test_why_it_stopped_is_told_to_the_operator_alone(error, populated, tmp_path, session):
    live, directory = populated, populated.directory(tmp_path / "operator")

    async def work(s):
        s.operator.stop(error)
        health = await s.client.get("/v1/health")
        assert health.status_code == 503 and health.json()["error"]["code"] == error.code
        refused = await s.client.post("/v1/orders", json=live.order(1, "sell", 1000, 10, 1))
        assert (refused.status_code, refused.json()["error"]["data"]) == (503, {"code": error.code})
        return [text for answer in (health, refused) if SECRET in (text := answer.text)]

    assert session(directory, work, host="203.0.113.9") == []
    assert len(session(directory, work)) == 1, "whoever sits at the machine may read it in the health, too"


def test_a_journal_that_fails_tells_no_stranger_where_it_is(populated, tmp_path, session):
    live, directory = populated, populated.directory(tmp_path / "operator")

    async def work(s):
        await s.client.post("/v1/batches", headers={})
        s.operator._sequencer.close()
        answer = await s.client.post("/v1/orders", json=live.order(1, "sell", 1000, 10, 1))
        assert answer.status_code == 503
        return answer.text

    assert str(tmp_path) not in session(directory, work)


QUESTIONS = (
    "/v1/batches?limit=100",
    "/v1/trades?market=COIN/ETH&limit=500",
    "/v1/markets/COIN-ETH/book?depth=200",
    "/v1/accounts/1",
    "/v1/accounts?owner=0x" + "00" * 19 + "01",
    "/v1/info",
    "/schema/openapi.json",
)


def test_no_question_takes_long(populated, tmp_path, session):
    many = [TokenName(id_, f"T{id_}") for id_ in range(COIN, 5000)]
    live, directory = populated, populated.directory(tmp_path / "operator", tokens=many)

    async def work(s):
        s.operator._note_tokens([replace_data(s.operator._tokens[-1], id=id_) for id_ in range(1, 5000)])
        s.operator._tokens_due = math.inf
        await s.client.post("/v1/batches")
        for id_ in range(1, 17):
            await s.post("/v1/orders", live.order(1, "sell", 1000 + id_, 10, id_), 201)
        record = s.operator.store.list_batches(1)[0]
        for number in range(record.number + 1, record.number + 600):  # as after a year
            s.operator.store.put_batch(replace(record, number=number, raw_tx="00" * 6000, words=record.words * 4))
        for path in QUESTIONS:
            spent = []
            for _ in range(5):
                began = time.process_time()
                answer = await s.client.get(path)
                spent.append(time.process_time() - began)
                assert answer.status_code == 200, answer.text
            # Seconds of a core: orders wait so long for each such question.
            assert min(spent) < 0.1 and len(answer.content) < 1 << 20, (path, spent)
        assert (await s.client.get("/v1/batches?limit=101")).status_code == 400

    session(directory, work)


def test_one_account_does_not_keep_others_out_for_nothing(populated, tmp_path, session):
    live, directory = populated, populated.directory(tmp_path / "operator")

    async def work(s):
        await s.client.post("/v1/batches")
        # Hard cancels of orders that never were cost nothing, and each has to be proven.
        for id_ in range(1, 4):
            await s.post("/v1/cancels", live.cancel(1, id_, hard=True), 201)
        for path, body in (
            ("/v1/cancels", live.cancel(1, 4, hard=True)),
            ("/v1/withdrawals", live.withdrawal(1, COIN, 5, 5)),
            ("/v1/transfers", live.transfer(1, COIN, 5, 1, 6)),
        ):
            assert await s.refused(path, body) == (429, "busy")
        await s.post("/v1/cancels", live.cancel(2, 1, hard=True), 201)
        await s.post("/v1/orders", live.order(2, "buy", 1000, 3, 2), 201)
        await s.post("/v1/orders", live.order(1, "sell", 1000, 3, 7), 201)

    session(directory, work, max_pending=48)


OTHER_FORMS = {
    "application/x-msgpack": b"\xdf\xff\xff\xff\xff",
    "application/msgpack": b"\xdd\xff\xff\xff\xff",
    "multipart/form-data; boundary=x": b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nb\r\n' * 2000
    + b"--x--",
    "multipart/form-data": b"--",
    "application/x-www-form-urlencoded": b"a=b&" * 20_000,
    "application/xml": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "text/plain": b"{}",
    "": b"{}",
    "application/json; charset=utf-16": "{}".encode("utf-16"),
    "application/json": b'{"account": 1, "account": 2}',
}


def test_other_forms_of_bodies_are_refused(directory, session):
    async def work(s):
        before = s.operator.engine.command_seq
        for path in ("/v1/orders", "/v1/orders/batch", "/v1/cancels", "/v1/withdrawals", "/v1/transfers"):
            for kind, body in OTHER_FORMS.items():
                for encoding in ({}, {"content-encoding": "gzip"}):
                    answer = await s.client.post(path, content=body, headers={"content-type": kind, **encoding})
                    assert 400 <= answer.status_code < 500, (path, kind, answer.text)
                    assert answer.json()["error"]["code"] and b"root:" not in answer.content
        assert s.operator.engine.command_seq == before

    session(directory, work)


def test_no_page_of_the_api_runs_scripts_of_other_hosts(directory, session):
    async def work(s):
        for path in ("/schema", "/schema/openapi.json", "/schema/swagger", "/schema/redoc", "/schema/elements", "/"):
            answer = await s.client.get(path)
            assert b"<script" not in answer.content and b"http" not in answer.content.replace(b'"http"', b""), path

    session(directory, work)


def test_a_path_cannot_forge_a_line_of_the_log(directory, session, caplog):
    def fail() -> None:
        raise RuntimeError("bug")

    async def work(s):
        s.operator.get_batch = lambda number: fail()
        s.operator.get_accounts_of = lambda owner: fail()
        answer = await s.client.get("/v1/markets/x%0aCRITICAL%20all%20is%20lost/book")
        assert answer.status_code == 404
        answer = await s.client.get("/v1/batches/7?x=%0aCRITICAL%20all%20is%20lost")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
        assert "bug" not in answer.text

    session(directory, work)
    assert "\nCRITICAL" not in caplog.text
