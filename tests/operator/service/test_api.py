"""The API on a real operator: what is admitted, what is refused and how, and that refusals change nothing."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from proofbook.chain.deploy import deploy_contract
from proofbook.operator import api as api_module
from proofbook.operator import api_format
from proofbook.operator import commands as c
from proofbook.operator import service as service_module
from proofbook.operator.api_models import MAX_BODY_BYTES
from proofbook.operator.batcher import ProvingFailed
from proofbook.operator.journal import JournalError
from proofbook.protocol.messages import domain_of
from proofbook.protocol.table import ETH_TOKEN, Flag

pytestmark = pytest.mark.xdist_group("live")

COIN = 2
ORDERS = "/v1/orders"


@pytest.fixture
def api(populated, session, tmp_path):
    """Runs some work on an operator with alice's (1) and bob's (2) deposits, and returns what it returns."""
    directory = populated.directory(tmp_path / "operator")
    return lambda work, **options: session(directory, work, **options)


def changed(body, **changes):
    return body | changes


# --- orders that are refused, each with its code


def test_malformed_orders_are_refused(populated, api):
    good = populated.order(1, "sell", 1000, 10, 1)
    cases = [
        {name: value for name, value in good.items() if name != "signature"},  # unsigned
        {name: value for name, value in good.items() if name != "base_amount"},
        changed(good, extra=1),
        changed(good, side="both"),
        changed(good, id=1.5),
        changed(good, id=True),
        changed(good, id=None),
        changed(good, account=[1]),
        changed(good, signature={"r8x": "1", "r8y": "2"}),
        [good],
        "order",
        None,
    ]

    async def work(s):
        for body in cases:
            assert await s.refused(ORDERS, body) == (400, "malformed"), body
        for raw in (b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"a":' * 5000, b'{"id": 1e999}', b"1" * 9999, b"NaN"):
            answer = await s.client.post(ORDERS, content=raw, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed"), raw[:20]
        return s.operator.engine.command_seq

    assert api(work) == api(lambda s: asyncio.sleep(0, s.operator.engine.command_seq))


def test_what_has_to_be_proven_waits_while_too_much_waits(populated, api):
    async def work(s):
        assert len(s.operator.engine.settlement.log) == 5
        before = s.operator.engine.command_seq
        order = populated.order(1, "sell", 1000, 10, 1)
        answer = await s.client.post(ORDERS, json=order)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert answer.json()["error"]["code"] == "busy" and "forced exit" in answer.json()["error"]["hint"]
        (item,) = (await s.post(ORDERS + "/batch", {"orders": [order]}, 200))["results"]
        assert item["error"]["code"] == "busy"
        assert await s.refused("/v1/withdrawals", populated.withdrawal(1, COIN, 5, 1)) == (429, "busy")
        assert await s.refused("/v1/transfers", populated.transfer(1, COIN, 5, 1, 1)) == (429, "busy")
        assert await s.refused("/v1/cancels", populated.cancel(1, 1, hard=True)) == (429, "busy")
        assert s.operator.engine.command_seq == before
        # What needs no proof is always heard.
        assert await s.refused("/v1/cancels", populated.cancel(1, 1)) == (404, "unknown_order")
        await s.post("/v1/batches", None, 200)
        await s.post(ORDERS, order, 201)
        # An order is not let in to make more trades than there is room for, and one that makes fewer is.
        for id_ in range(2, 7):
            await s.post(ORDERS, populated.order(1, "sell", 1000, 1, id_), 201)
        assert await s.refused(ORDERS, populated.order(2, "buy", 1000, 14, 1)) == (429, "busy")
        assert len((await s.post(ORDERS, populated.order(2, "buy", 1000, 13, 1), 201))["trades"]) == 4
        # Orders leave room to those who want to leave.
        assert await s.refused(ORDERS, populated.order(2, "buy", 1000, 1, 2)) == (429, "busy")
        await s.post("/v1/withdrawals", populated.withdrawal(2, ETH_TOKEN, 5, 3), 201)

    api(work, max_pending=5)


def test_values_out_of_range_are_refused(populated, api):
    good = populated.order(1, "sell", 1000, 10, 1)
    wrong: dict[str, list] = {
        "id": ["-1", "+1", "1e3", " 1", "1_0", "٣", "", "0x1", "01", "9" * 78, str(2**64), "1" * 200_000, -1, 2**64],
        "account": [2**24, "16777216"],
        "base": [0, 2**16, ETH_TOKEN],
        "base_amount": [0, 2**64],
        "quote_amount": [0],
        "max_fee_bps": [10_001, 2**14],
        "valid_until": [2**32],
        "flags": [16, 256, Flag.POST_ONLY | Flag.IOC],
        "signature": [changed(good["signature"], s=str(2**254)), changed(good["signature"], r8x="-5")],
    }

    async def work(s):
        assert await s.refused(ORDERS, changed(good, id="0")) == (400, "invalid_value")
        for field, values in wrong.items():
            for value in values:
                assert await s.refused(ORDERS, changed(good, **{field: value})) == (400, "invalid_value"), (
                    field,
                    value,
                )
        answer = await s.client.post(ORDERS, json=changed(good, id="-1"))
        assert answer.json()["error"]["data"]["field"] == "id"

    api(work)


def test_wrong_signatures_are_refused(populated, api):
    live = populated
    good = live.order(1, "sell", 1000, 10, 1)
    nothing = {"r8x": "0", "r8y": "1", "s": "0"}
    cases = [
        changed(good, signature=nothing),
        live.order(1, "sell", 1000, 10, 1, signer=b"x" * 32),
        live.order(1, "sell", 1000, 10, 1, domain=domain_of(1, live.address)),
        live.order(1, "sell", 1000, 10, 1, domain=domain_of(live.w3.eth.chain_id, "0x" + "11" * 20)),
        changed(good, id="2"),
        changed(good, quote_amount="9990"),
        changed(good, side="buy"),
        changed(good, account="2"),
        changed(good, flags=1),
        changed(good, signature=changed(good["signature"], s=str(int(good["signature"]["s"]) + 1))),
    ]

    async def work(s):
        for body in cases:
            assert await s.refused(ORDERS, body) == (401, "bad_signature"), body
        assert await s.refused("/v1/cancels", live.cancel(1, 1) | {"id": "9"}) == (401, "bad_signature")
        tampered = live.withdrawal(1, COIN, 5, 1) | {"amount": "6"}
        assert await s.refused("/v1/withdrawals", tampered) == (401, "bad_signature")
        tampered = live.transfer(1, COIN, 5, 2, 1) | {"receiver": 0}
        assert await s.refused("/v1/transfers", tampered) == (401, "bad_signature")

    api(work)


def test_orders_the_engine_refuses_have_their_codes(populated, api):
    live = populated
    cases = {
        "unknown_account": (404, live.order(7, "sell", 1000, 10, 1)),
        "unknown_market": (404, live.order(1, "sell", 1000, 10, 1, base=3)),
        "expired": (422, live.order(1, "sell", 1000, 10, 1, valid_until=live.now() + 30)),
        "fee_cap": (422, live.order(1, "sell", 1000, 10, 1, max_fee_bps=24)),
        "lot_size": (422, live.order(1, "sell", 1000, 10, 1, base_amount=105)),
        "price_tick": (422, live.order(1, "sell", 1000, 10, 1, quote_amount=10_001)),
        "price_range": (422, live.order(1, "sell", 10**6 + 1, 10, 1)),
        "order_size": (422, live.order(1, "sell", 1, 10**9 + 1, 1)),
        "insufficient_balance": (422, live.order(1, "sell", 1000, 1001, 1)),
        "not_fillable": (409, live.order(1, "sell", 1000, 10, 1, flags=int(Flag.FOK))),
    }

    async def work(s):
        for code, (status, body) in cases.items():
            assert await s.refused(ORDERS, body) == (status, code)
        poor = live.order(2, "buy", 1000, 998, 1)  # the price is there, the fee on top is not
        assert await s.refused(ORDERS, poor) == (422, "insufficient_balance")
        account = await s.get("/v1/accounts/1")
        assert account["balances"] == [
            {"token": COIN, "symbol": "COIN", "total": "10000", "available": "10000", "reserved": "0"}
        ]
        assert account["open_orders"] == []

    api(work)


def test_an_id_acts_once(populated, api):
    live = populated
    first = live.order(1, "sell", 1000, 10, 17)

    async def work(s):
        await s.post(ORDERS, first, 201)
        assert await s.refused(ORDERS, first) == (409, "replayed")
        assert await s.refused(ORDERS, live.order(1, "sell", 1001, 10, 17)) == (409, "replayed")
        assert await s.refused(ORDERS, live.order(1, "sell", 1000, 10, 33)) == (409, "slot_taken")
        assert await s.refused(ORDERS, live.order(1, "sell", 1000, 10, 1)) == (409, "stale_id")
        assert (await s.get("/v1/accounts/1"))["next_id"] == "18"
        # Filled whole, it can't be filled again: neither by the same order nor after a cancel.
        await s.post(ORDERS, live.order(2, "buy", 1000, 10, 1), 201)
        assert await s.refused(ORDERS, first) == (409, "replayed")
        assert await s.refused("/v1/cancels", live.cancel(1, 17)) == (404, "unknown_order")
        order = await s.get("/v1/orders/1/17")
        assert (order["status"], order["filled_base"], order["filled_quote"]) == ("filled", "100", "10000")

    api(work)


def test_post_only_and_cancels(populated, api):
    live = populated

    async def work(s):
        await s.post(ORDERS, live.order(1, "sell", 1000, 10, 1), 201)
        crossing = live.order(2, "buy", 1000, 5, 1, flags=int(Flag.POST_ONLY))
        assert await s.refused(ORDERS, crossing) == (409, "would_cross")
        resting = await s.post(ORDERS, live.order(2, "buy", 999, 5, 2, flags=int(Flag.POST_ONLY)), 201)
        assert resting["order"]["status"] == "open" and resting["trades"] == []
        book = await s.get("/v1/markets/COIN-ETH/book")
        assert book == {
            "market": "COIN/ETH",
            "bids": [{"price": "999", "lots": "5", "orders": 1}],
            "asks": [{"price": "1000", "lots": "10", "orders": 1}],
        }
        assert book == await s.get("/v1/markets/COIN-ETH/book?depth=1")
        cancelled = await s.post("/v1/cancels", live.cancel(1, 1), 201)
        assert (cancelled["remaining_base"], cancelled["hard"]) == ("100", False)
        hard = await s.post("/v1/cancels", live.cancel(2, 2, hard=True), 201)
        assert (hard["remaining_base"], hard["hard"]) == ("50", True)
        assert (await s.get("/v1/orders/2/2"))["status"] == "hard_cancelled"
        assert (await s.get("/v1/markets/COIN-ETH/book"))["bids"] == []
        return len([e for e in s.operator.engine.settlement.log if hasattr(e, "signed")])

    assert api(work) == 1  # only the hard one becomes a row


def test_withdrawals_and_transfers(populated, api):
    live = populated

    async def work(s):
        path = "/v1/withdrawals"
        assert await s.refused(path, live.withdrawal(1, COIN, 10_001, 1)) == (422, "insufficient_balance")
        assert await s.refused(path, live.withdrawal(1, ETH_TOKEN, 1, 1)) == (422, "insufficient_balance")
        until = live.now() + 59
        assert await s.refused(path, live.withdrawal(1, COIN, 1, 1, valid_until=until)) == (422, "expired")
        assert await s.refused("/v1/transfers", live.transfer(1, COIN, 5, 2, 1)) == (422, "receiver_lacks_token")
        assert await s.refused("/v1/transfers", live.transfer(1, COIN, 5, 9, 1)) == (422, "receiver_lacks_token")
        taken = await s.post(path, live.withdrawal(1, COIN, 4_000, 1), 201)
        assert taken == {"account": 1, "id": "1", "type": "withdraw", "token": COIN, "amount": "4000"}
        assert await s.refused(path, live.withdrawal(1, COIN, 4_000, 1)) == (409, "replayed")
        moved = await s.post("/v1/transfers", live.transfer(1, COIN, 6_000, 1, 2), 201)
        assert moved["type"] == "transfer"
        assert (await s.get("/v1/accounts/1"))["balances"][0]["available"] == "6000"

    api(work)


# --- groups


def test_a_batch_of_orders_is_judged_one_by_one(populated, api):
    live = populated
    orders = [
        live.order(1, "sell", 1000, 10, 1),
        live.order(1, "sell", 1000, 10, 1),
        {"account": 1},
        live.order(1, "sell", 1000, 10, 2, signer=b"y" * 32),
        "nothing",
        live.order(2, "buy", 1000, 4, 1),
        changed(live.order(1, "sell", 1000, 10, 3), id="-3"),
    ]

    async def work(s):
        told = (await s.post("/v1/orders/batch", {"orders": orders}, 200))["results"]
        codes = [item["error"]["code"] if item["error"] else None for item in told]
        assert codes == [None, "replayed", "malformed", "bad_signature", "malformed", None, "invalid_value"]
        assert [bool(item["result"]) for item in told] == [code is None for code in codes]
        assert told[5]["result"]["order"]["status"] == "filled"
        trades = (await s.get("/v1/trades?market=COIN-ETH"))["trades"]
        assert [(t["price"], t["lots"], t["taker_side"]) for t in trades] == [("1000", "4", "buy")]

    api(work)


def test_a_journal_that_fails_answers_a_batch_as_it_does_an_order(populated, api):
    orders = [populated.order(1, "sell", 1000, 10, id_) for id_ in (1, 2)]

    async def work(s):
        def fail(commands):
            raise JournalError("nothing was written: /srv/exchange/journal.sqlite")

        s.operator._sequencer._journal.append = fail
        answer = await s.client.post("/v1/orders/batch", json={"orders": orders})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "journal")
        assert "/srv" not in answer.text
        assert await s.refused(ORDERS, orders[0]) == (503, "stopped")

    api(work)


def test_a_hundred_orders_at_most(populated, api):
    live = populated
    small = [live.order(1, "sell", 2000 + k % 5, 1, 1 + k) for k in range(100)]

    async def work(s):
        many = {"orders": [*small, small[0]]}
        assert await s.refused("/v1/orders/batch", many) == (413, "too_many_orders")
        assert await s.refused("/v1/orders/batch", {"orders": []}) == (400, "malformed")
        assert await s.refused("/v1/orders/batch", {"orders": 5}) == (400, "malformed")
        told = (await s.post("/v1/orders/batch", {"orders": small}, 200))["results"]
        codes = [item["error"]["code"] if item["error"] else None for item in told]
        assert codes == [None] * 16 + ["slot_taken"] * 84  # an account has 16 slots at the minimal preset
        assert (await s.get("/v1/accounts/1"))["next_id"] == "17"

    api(work)


def test_a_large_body_is_refused(api):
    async def work(s):
        raw = b'{"orders": ["' + b"x" * MAX_BODY_BYTES + b'"]}'
        answer = await s.client.post("/v1/orders/batch", content=raw, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")

    api(work)


# --- questions


def test_answers_about_the_exchange(populated, api):
    live = populated

    async def work(s):
        info = await s.get("/v1/info")
        assert (info["chain_id"], info["contract"]) == (31337, live.address.lower())
        assert (info["domain"], info["preset"], info["slots"]) == (str(live.domain), "minimal", 16)
        assert [(t["symbol"], t["quantum"]) for t in info["tokens"]] == [("ETH", "1000000000"), ("COIN", str(10**12))]
        assert [m["symbol"] for m in (await s.get("/v1/markets"))["markets"]] == ["COIN/ETH"]
        health = await s.get("/v1/health")
        assert (health["status"], health["next_request"]) == ("ok", "5")
        mine = await s.get(f"/v1/accounts?owner={live.people['alice'].address}")
        assert [a["index"] for a in mine["accounts"]] == [1]
        pending = mine["accounts"][0]["pending_requests"]
        assert [(r["id"], r["kind"], r["amount"]) for r in pending] == [("1", "open", "0"), ("3", "deposit", "10000")]
        assert (await s.get("/v1/batches"))["batches"] == []
        for kind in ("zkey", "wasm"):
            content = (await s.client.get(f"/v1/artifacts/exit/{kind}")).content
            assert hashlib.sha256(content).hexdigest() == info["exit_artifacts"][f"{kind}_sha256"]
        schema = await s.get("/schema/openapi.json")
        assert "/v1/orders/batch" in schema["paths"]

    api(work)


def test_a_token_that_is_added_is_told_and_those_known_are_not_read_again(populated, api, monkeypatch):
    async def work(s):
        asked, read = [], s.operator._exchange.token

        def token(*args):
            asked.append(args[0])
            return read(*args)

        monkeypatch.setattr(s.operator._exchange, "token", token)

        async def look():
            asked.clear()
            s.operator._tokens_due = 0.0
            await s.operator._watch()
            return asked

        assert await look() == [COIN]
        made = deploy_contract(populated.w3, populated.deployer, "TestToken", "More", "MORE", 6)
        populated.by(populated.deployer).add_token(made.address, 7)
        assert await look() == [1, COIN, 3]
        assert await look() == [3]
        (told,) = (await s.get("/v1/info"))["tokens"][2:]
        assert told == {"id": 3, "symbol": "#3", "erc20": made.address.lower(), "quantum": "7", "decimals": 18}

    api(work)


def test_many_commands_are_done_in_order_and_others_have_their_turn_in_between(api, monkeypatch):
    monkeypatch.setattr(service_module, "GROUP", 3)

    async def work(s):
        seen: list[tuple[int, int]] = []
        turns = [0]

        async def count():
            while True:
                turns[0] += 1
                await asyncio.sleep(0)

        async def tick(k):
            await s.operator.do(c.Tick(s.operator.engine.now + 1))
            seen.append((k, turns[0]))

        other = asyncio.create_task(count())
        await asyncio.gather(*(tick(k) for k in range(10)))
        other.cancel()
        assert [k for k, _ in seen] == list(range(10)) and len({turn for _, turn in seen}) == 4

    api(work)


def test_a_long_answer_lets_others_have_their_turn(api, monkeypatch):
    turns, seen, formatted = [0], [], api_format.format_account

    def format_account(*args):
        seen.append(turns[0])
        return formatted(*args)

    async def work(s):
        async def count():
            while True:
                turns[0] += 1
                await asyncio.sleep(0)

        s.operator.get_accounts_of = lambda owner: [1, 2] * 3
        other = asyncio.create_task(count())
        told = await s.get("/v1/accounts?owner=0x" + "11" * 20)
        other.cancel()
        assert [account["index"] for account in told["accounts"]] == [1, 2] * 3

    monkeypatch.setattr(api_module, "format_account", format_account)
    api(work)
    assert len(set(seen)) == 6, "between two accounts whoever waits goes on"


def test_wrong_questions_are_refused(api):
    cases = {
        "/v1/accounts/9": (404, "unknown_account"),
        "/v1/accounts/x": (400, "invalid_value"),
        "/v1/accounts/-1": (400, "invalid_value"),
        f"/v1/accounts/{2**24}": (400, "invalid_value"),
        "/v1/accounts?owner=0x12": (400, "invalid_value"),
        "/v1/accounts": (400, "malformed"),
        "/v1/orders/1/77": (404, "unknown_order"),
        f"/v1/orders/1/{2**64}": (400, "invalid_value"),
        "/v1/markets/NO/book": (404, "unknown_market"),
        "/v1/markets/COIN-ETH/book?depth=0": (400, "malformed"),
        "/v1/markets/COIN-ETH/book?depth=201": (400, "malformed"),
        "/v1/markets/COIN-ETH/book?depth=x": (400, "malformed"),
        "/v1/trades?market=NO": (404, "unknown_market"),
        "/v1/trades?market=COIN-ETH&limit=501": (400, "malformed"),
        "/v1/batches/1": (404, "not_found"),
        f"/v1/batches/{2**63}": (400, "invalid_value"),
        "/v1/batches?limit=-1": (400, "malformed"),
        "/v1/artifacts/exit/r1cs": (404, "not_found"),
        "/v1/artifacts/exit/..%2Fmanifest.json": (404, "not_found"),
        "/nothing": (404, "not_found"),
    }

    async def work(s):
        for path, expected in cases.items():
            answer = await s.client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == expected, path
        answer = await s.client.delete("/v1/orders")
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")

    api(work)


# --- the operator's own call


def test_only_the_operator_flushes(live, session, tmp_path):
    directory = live.directory(tmp_path / "operator")
    (directory / "api.token").write_text("correct horse battery\n")

    async def far(s):
        for headers in ({}, {"authorization": "Bearer wrong horse battery"}, {"authorization": "Bearer "}):
            answer = await s.client.post("/v1/batches", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_operator")
        with_token = {"authorization": "Bearer correct horse battery"}
        return (await s.client.post("/v1/batches?wait=false", headers=with_token)).status_code

    async def near(s):
        answer = await s.client.post("/v1/batches", headers={"x-forwarded-for": "8.8.8.8"})
        assert answer.status_code == 403  # a proxy on the same machine
        # Or one that says nothing about itself: where there is a token, it alone counts.
        return (await s.client.post("/v1/batches")).json()["error"]["code"]

    assert session(directory, far, host="203.0.113.9") == 202
    assert session(directory, near) == "not_operator"
    (directory / "api.token").unlink()

    async def untold(s):
        forwarded = await s.client.post("/v1/batches?wait=false", headers={"forwarded": "for=8.8.8.8"})
        return forwarded.status_code, (await s.client.post("/v1/batches?wait=false")).status_code

    assert session(directory, untold) == (403, 202)


def test_a_stopped_operator_takes_nothing_and_says_why(populated, api):
    live = populated

    async def work(s):
        s.operator.stop(ProvingFailed("batch 1: out of memory"))
        assert await s.refused(ORDERS, live.order(1, "sell", 1000, 10, 1)) == (503, "stopped")
        assert await s.refused("/v1/orders/batch", {"orders": []}) == (503, "stopped")
        health = await s.get("/v1/health", 503)
        assert (health["status"], health["error"]["code"]) == ("stopped", "proving_failed")
        await s.get("/v1/accounts/1")

    api(work)
