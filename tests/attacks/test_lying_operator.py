"""A trader's commands against an operator that lies: nothing is signed that was not meant, and nothing it says harms.

The chain is real, the operator is not: it answers the commands' questions with what serves it.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from typer.testing import CliRunner

from proofbook.cli.main import app

pytestmark = pytest.mark.xdist_group("live")

COIN, OTHER, ETH = 2, 3, 1
ACCOUNT = 1
JUNK: list[Any] = [None, -1, "9" * 5000, {"a": 1}, "a\x1b[2J", [None]]
LONG = os.environ.get("PROOFBOOK_LONG") == "1"
if LONG:
    JUNK += [True, 10**30, 1.5, "", "x", [], [1], {}, [[]]]
BATCH: dict[str, Any] = {"number": 1, "state": "confirmed", "orders": 1, "trades": 1, "requests": 1, "gas": 1}
BATCH |= {"witness_s": 0.1, "prove_s": 0.1, "tx": "0x", "new_root": "0x"}
BUY = ("order", "buy", "COIN/ETH", "0.00001", "1")


NO_ACCOUNT = ("book", "operator", "batch")


@pytest.fixture
def told(live: Any, liar: Any) -> Any:
    """A liar that tells the truth so far: about the exchange, account 1 and its orders."""
    liar.truth = {
        "chain_id": 31337,
        "contract": live.address.lower(),
        "domain": str(live.domain),
        "preset": "minimal",
        "time": live.now(),
        "fee_account": 0,
        "margin_seconds": 60,
        "slots": 16,
        "root": "0x0",
        "batches": 0,
        "tokens": [
            {"id": ETH, "symbol": "ETH", "quantum": str(10**9), "decimals": 18},
            {"id": COIN, "symbol": "COIN", "quantum": str(10**12), "decimals": 18},
        ],
        "markets": [market("COIN/ETH", COIN, ETH)],
    }
    liar.account = {
        "index": ACCOUNT,
        "next_id": "5",
        "slots": 16,
        "open_orders": [order("3")],
        "balances": [],
        "pending": [],
        "paused": False,
    }
    liar.answers = {
        "/v1/info": liar.truth,
        f"/v1/accounts/{ACCOUNT}": liar.account,
        f"/v1/orders/{ACCOUNT}/3": order("3"),
        "/v1/orders": {"order": order("5"), "trades": [trade()]},
        "/v1/cancels": {"id": "3", "account": ACCOUNT, "hard": False, "remaining_base": "10"},
        "/v1/withdrawals": moved("withdraw"),
        "/v1/transfers": moved("transfer"),
        "/v1/markets/COIN-ETH/book": {"bids": [level()], "asks": [level()]},
        "/v1/health": {"status": "ok", "time": 1, "error": None},
        "/v1/accounts": {"accounts": [liar.account]},
        "/v1/batches": {"batches": [BATCH]},
        "/v1/batches/1": BATCH,
    }
    return liar


def market(symbol: str, base: int, quote: int, fee: int = 25) -> dict[str, Any]:
    made = {"symbol": symbol, "base": base, "quote": quote, "lot": "10", "maker_fee_bps": 10, "taker_fee_bps": fee}
    return made | {"max_lots": str(10**9), "max_price": str(10**9)}


def order(id_: str) -> dict[str, Any]:
    made: dict[str, Any] = {"id": id_, "account": ACCOUNT, "market": "COIN/ETH", "side": "buy", "base_amount": "10"}
    made |= {"price": "10000", "filled_base": "0", "filled_quote": "0", "fee": "0", "status": "open"}
    return made | {"valid_until": 2_000_000_000}


def trade() -> dict[str, Any]:
    made = {"market": "COIN/ETH", "price": "10000", "base_amount": "10", "quote_amount": "10000"}
    return made | {"taker_side": "buy", "time": 1}


def level() -> dict[str, Any]:
    return {"price": "10000", "lots": "3", "orders": 1}


def moved(kind: str) -> dict[str, Any]:
    return {"id": "5", "account": ACCOUNT, "type": kind, "token": COIN, "amount": "10"}


@pytest.fixture
def trader(live: Any, told: Any, tmp_path: Any, monkeypatch: Any) -> Any:
    """Runs a command as alice, and returns what came of it."""
    monkeypatch.setenv("PROOFBOOK_KEY", f"0x{0xB0B + 2:064x}")
    where = ["--wallet", str(tmp_path), "--contract", live.address, "--api", told.url]

    def run(*words: str, json_too: bool = True) -> Any:
        no_chain = words[:2] in (("order", "show"), ("order", "list")) or words[0] in (*NO_ACCOUNT, "account")
        chain = [] if no_chain else ["--rpc", live.anvil.url]
        account = [] if words[0] in (*NO_ACCOUNT, "account") else ["--account", str(ACCOUNT)]
        here = where[:2] + where[4:] if words[0] in ("operator", "batch") else where
        return CliRunner().invoke(app, [*words, *here, *chain, *account, *(["--json"] if json_too else [])])

    return run


def code_of(result: Any) -> str:
    assert result.exit_code == 1, result.output
    return str(json.loads(result.stdout)["error"]["code"])


def test_an_honest_operator_gets_what_was_written(told, trader):
    result = trader(*BUY)
    assert result.exit_code == 0, result.output
    ((path, body),) = told.posts
    assert path == "/v1/orders"
    assert (body["base"], body["quote"], body["base_amount"], body["quote_amount"]) == (COIN, ETH, "10", "10000")
    assert (body["account"], body["id"], body["max_fee_bps"]) == (ACCOUNT, "5", 25)


LIES: dict[str, dict[str, Any]] = {
    "another exchange": {"contract": "0x" + "ab" * 20},
    "another domain": {"domain": "1"},
    "another chain": {"chain_id": 1},
    "another quantum": {"tokens": [{"id": COIN, "symbol": "COIN", "quantum": str(10**11), "decimals": 18}]},
    "other decimals": {"tokens": [{"id": COIN, "symbol": "COIN", "quantum": str(10**12), "decimals": 17}]},
    "a token of that name": {"tokens": [{"id": ETH, "symbol": "COIN", "quantum": str(10**9), "decimals": 18}]},
    "a market turned round": {"markets": [market("COIN/ETH", ETH, COIN)]},
    "a market turned round under a dash": {"markets": [market("COIN-ETH", ETH, COIN)]},
    "a market turned round in small letters": {"markets": [market("coin-eth", ETH, COIN)]},
    "a huge fee": {"markets": [market("COIN/ETH", COIN, ETH, fee=9999)]},
    "an endless margin": {"margin_seconds": 2**31 - 1},
    "a clock years ahead": {"time": 2**32 - 1},
    "a clock a day ahead": {"time": None},
    "a name that clears the screen": {"markets": [market("COIN/ETH\x1b[2J", COIN, ETH), market("COIN/ETH", COIN, ETH)]},
    "a lot of nothing": {"markets": [market("COIN/ETH", COIN, ETH) | {"lot": "0"}]},
}


@pytest.mark.parametrize("lie", LIES)
def test_what_would_be_signed_wrongly_is_not_signed(lie, told, trader):
    changes = dict(LIES[lie])
    if "time" in changes and changes["time"] is None:
        changes["time"] = max(told.truth["time"], int(time.time())) + 86_400
    told.answers["/v1/info"] = told.truth | changes
    assert code_of(trader(*BUY)) in ("api_malformed", "other_exchange", "bad_order")
    assert told.posts == []


@pytest.mark.parametrize("next_id", [2**64 - 1, 2**64 - 16, 2**63, 2**48])
def test_an_operator_cannot_use_up_an_accounts_ids(next_id, told, trader):
    # A slot that a row with the last id went through is closed for ever, and an account has few.
    told.account["next_id"] = str(next_id)
    assert code_of(trader(*BUY)) == "bad_order"
    assert code_of(trader("withdraw", "COIN", "0.00001")) == "bad_order"
    assert told.posts == []
    # Who has used such ids himself says so.
    assert trader(*BUY, "--id", str(2**48)).exit_code == 0


COMMANDS: list[tuple[tuple[str, ...], str]] = [
    (BUY, "/v1/orders"),
    (BUY, f"/v1/accounts/{ACCOUNT}"),
    (BUY, "/v1/info"),
    (("order", "show", "3"), f"/v1/orders/{ACCOUNT}/3"),
    (("order", "list"), f"/v1/accounts/{ACCOUNT}"),
    (("book", "COIN/ETH"), "/v1/markets/COIN-ETH/book"),
    (("withdraw", "COIN", "0.00001"), "/v1/withdrawals"),
    (("transfer", "COIN", "0.00001", "2"), "/v1/transfers"),
    (("cancel", "3"), "/v1/cancels"),
    (("balance",), f"/v1/accounts/{ACCOUNT}"),
    (("account", "list"), "/v1/accounts"),
    (("batch", "list"), "/v1/batches"),
    (("batch", "show", "1"), "/v1/batches/1"),
    (("operator", "status"), "/v1/health"),
]
DEEP = b"[" * 20_000 + b"]" * 20_000


def spoiled(good: dict[str, Any]) -> list[Any]:
    """Return answers like a good one: a field left out, or with nonsense in it; and nonsense altogether."""
    made: list[Any] = [json.dumps(value).encode() for value in JUNK]
    made += [b"\xff", DEEP, b'{"a":' + DEEP + b"}"]
    for at, name in enumerate(good):
        made.append({other: value for other, value in good.items() if other != name})
        for value in JUNK if LONG else [JUNK[at % len(JUNK)]]:
            made.append({**good, name: value})
    return made


@pytest.mark.parametrize(("words", "path"), COMMANDS, ids=lambda part: part if isinstance(part, str) else part[0])
def test_an_answer_of_nonsense_is_the_operators_fault_and_harms_nothing(words, path, told, trader):
    for answer in spoiled(told.answers[path]):
        told.answers[path] = answer
        result = trader(*words)
        assert result.exit_code in (0, 1), (answer, result.output)
        if result.exit_code:
            assert code_of(result) not in ("internal", "io"), (answer, result.output)
        if "\x1b[2J" in str(answer):
            assert "\x1b" not in trader(*words, json_too=False).output, answer


def test_what_an_operator_says_is_shown_and_not_obeyed(told, trader):
    said = "all well\r\x1b[2K\x1b]0;title\x07\u202e[link=https://example.org]click[/link]\nproofbook: send your key"
    told.answers[f"/v1/orders/{ACCOUNT}/3"] = {"error": {"code": "x\x1b[2J", "message": said, "hint": said}}
    result = trader("order", "show", "3", json_too=False)
    assert result.exit_code == 1
    assert not [ch for ch in result.output.rstrip("\n") if not ch.isprintable()]
    told.answers[f"/v1/orders/{ACCOUNT}/3"] = order("3") | {"status": said}
    shown = trader("order", "show", "3", json_too=False).output
    assert not [ch for ch in shown.replace("\n", "") if not ch.isprintable()]
    assert "[link=https://example.org]" in shown
