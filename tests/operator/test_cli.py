"""The command line without an exchange: every command's form, and errors that are one line and say how to mend them."""

from __future__ import annotations

import json
import shlex
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import requests
import typer.main
from eth_account import Account
from typer.testing import CliRunner

from proofbook.cli import output
from proofbook.cli.accounts import _remember
from proofbook.cli.deployment import Added, check_new, example_markets, parse_token
from proofbook.cli.main import app
from proofbook.cli.output import CliError, describe_error
from proofbook.cli.session import WalletFile, load_wallet, read_deployment, save_wallet
from proofbook.client.errors import ApiError
from proofbook.operator.markets import Markets
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.table import ETH_TOKEN

KEY = f"0x{0xB0B:064x}"
CONTRACT = "0x" + "ab" * 20
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing answers there


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command of the tree, as the words that call it."""
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        words = (*path, name)
        found += commands(command, words) if hasattr(command, "commands") else [words]
    return found


ALL = commands(typer.main.get_command(app))
ISSUE = ["setup", "deploy", "deposit", "cancel", "withdraw", "claim", "balance", "circuits", "verify", "demo"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command line in a folder of its own; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("RPC", "CONTRACT", "API", "KEY", "PASSWORD"):
        monkeypatch.delenv(f"PROOFBOOK_{name}", raising=False)
    monkeypatch.setenv("PROOFBOOK_WALLET", str(tmp_path / "wallet"))

    def call(line: str, **environment: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, shlex.split(line), env=environment)
        return result.exit_code, result.stdout, result.stderr

    return call


def refused(answer: tuple[int, str, str], code: str, status: int = 1) -> dict[str, Any]:
    """Check that a command with --json failed as it should, and return the error."""
    exit_code, out, err = answer
    assert exit_code == status, err
    (line,) = out.splitlines()
    body = json.loads(line)
    assert list(body) == ["error"] and body["error"]["code"] == code, body
    assert {"code", "message", "hint"} <= set(body["error"]) and "\n" not in body["error"]["message"]
    assert "Traceback" not in err and body["error"]["message"] in err
    return dict(body["error"])


# --- the form of every command


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_help_and_json(words, run):
    code, out, _ = run(" ".join([*words, "--help"]))
    assert code == 0 and "--json" in out and "Usage:" in out


def test_the_commands_of_the_issue_are_there():
    assert {(name,) for name in ISSUE} <= set(ALL)
    assert {("operator", "run"), ("account", "new"), ("order", "buy"), ("order", "sell")} <= set(ALL)
    assert {("batch", "list"), ("batch", "show"), ("ceremony", "verify"), ("escape", "run")} <= set(ALL)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_wrong_usage_is_exit_code_2_and_one_object(words, run):
    error = refused(run(" ".join([*words, "--no-such-option", "--json"])), "usage", 2)
    assert error["hint"].endswith("--help`")


def test_keys_are_never_given_on_the_command_line():
    def options(group: Any) -> list[Any]:
        found: list[Any] = list(group.params)
        for command in getattr(group, "commands", {}).values():
            found += options(command)
        return found

    flags = {flag for option in options(typer.main.get_command(app)) for flag in option.opts}
    assert "--key-file" in flags and not flags & {"--key", "--private-key", "--password", "--secret"}


@pytest.mark.parametrize(
    ("line", "code", "status"),
    [
        ("nope", "usage", 2),
        ("blance", "usage", 2),
        ("order buy USD/ETH", "usage", 2),
        ("order buy USD/ETH 1 1 --tif gtc", "usage", 2),
        ("order buy USD/ETH 1 1 --tif ioc --post-only", "bad_order", 1),
        ("order buy USD/ETH 1 1 --max-fee-bps 10001", "usage", 2),
        ("cancel 0", "usage", 2),
        ("batch show x", "usage", 2),
        ("balance", "no_account", 1),
        ("verify", "no_contract", 1),
        ("verify --contract 0x12", "invalid_value", 1),
        (f"verify --contract {CONTRACT} --rpc {NOWHERE}", "rpc_unavailable", 1),
        ("verify --contract deployment.json", "file", 1),
        (f"escape status --contract {CONTRACT} --rpc {NOWHERE}", "l1_key", 1),
        (f"account new --contract {CONTRACT} --rpc {NOWHERE} --key-file missing", "rpc", 1),
        (f"claim --contract {CONTRACT} --rpc {NOWHERE}", "rpc", 1),
        (f"batch list --api {NOWHERE}", "api_unreachable", 1),
        ("batch list --api nonsense", "api_unreachable", 1),
        (f"operator status --api {NOWHERE}", "api_unreachable", 1),
        ("operator run --dir missing", "settings", 1),
        ("setup --preset huge", "preset", 1),
        ("setup --sizes 99", "preset", 1),
        ("setup --ceremony", "no_ptau", 1),
        ("deploy", "no_token", 1),
        ("deploy --token USD", "token", 1),
        ("deploy --test-token USD", "l1_key", 1),
        ("deploy --test-token USD --key-file missing", "l1_key", 1),
        ("ceremony start nope --ptau x", "circuit/unknown", 1),
        ("demo --flow missing.csv --out out", "flow_unreadable", 1),
    ],
)
def test_errors_have_a_code_and_say_how_to_mend_them(line, code, status, run):
    assert refused(run(line + " --json"), code, status)["hint"]


def test_people_get_one_line_and_a_hint(run):
    code, out, err = run("balance")
    assert (code, out) == (1, "")
    assert err == "proofbook: this wallet has no account (open one with `proofbook account new`)\n"
    assert "Did you mean 'balance'" in run("blance")[2]


def test_tracebacks_are_for_debug(run):
    assert "Traceback" not in run("verify")[2]
    assert "Traceback" in run("--debug verify")[2]


def test_without_a_command_there_is_help(run):
    code, out, err = run("")
    assert code == 2 and "Usage" in out + err
    assert run("--version")[1].startswith("proofbook ")


# --- keys


@pytest.mark.parametrize("text", ["", "12", "0x" + "0" * 64, KEY + "0", "{}", '{"crypto": 1}'])
def test_a_bad_key_is_refused_and_not_shown(text, run, tmp_path):
    (tmp_path / "l1.key").write_text(text)
    answer = run(f"account list --key-file l1.key --api {NOWHERE} --json", PROOFBOOK_PASSWORD="x", PROOFBOOK_KEY="")
    refused(answer, "l1_key")
    assert not text or len(text) < 10 or text not in answer[1] + answer[2]


def test_the_key_may_come_from_the_environment(run):
    refused(run(f"account list --api {NOWHERE} --json", PROOFBOOK_KEY=KEY), "api_unreachable")


def test_the_key_may_be_a_keystore(run, tmp_path):
    store = Account.encrypt(bytes.fromhex(KEY[2:]), "right", iterations=2)
    (tmp_path / "store.json").write_text(json.dumps(store))
    line = f"account list --key-file store.json --api {NOWHERE} --json"
    refused(run(line, PROOFBOOK_PASSWORD="right"), "api_unreachable")
    refused(run(line, PROOFBOOK_PASSWORD="wrong"), "l1_key")


# --- files


def test_wallets_survive_and_damage_is_told(tmp_path, run):
    wallet = WalletFile(rpc="http://x", contract=CONTRACT, chain_id=1, accounts=[3])
    save_wallet(tmp_path / "wallet", wallet)
    assert load_wallet(tmp_path / "wallet") == wallet and load_wallet(tmp_path / "none") == WalletFile()
    assert [path.name for path in (tmp_path / "wallet").iterdir()] == ["wallet.json"]
    for text in ("", "[]", '{"accounts": "x"}', '{"unknown": 1}'):
        (tmp_path / "wallet" / "wallet.json").write_text(text)
        refused(run("balance --json"), "wallet")
    (tmp_path / "wallet" / "wallet.json").write_bytes(b" " * (1 << 20) + b"{}")
    refused(run("balance --json"), "file")


def test_an_account_must_be_named_where_there_are_several(tmp_path, run):
    save_wallet(tmp_path / "wallet", WalletFile(contract=CONTRACT, accounts=[3, 4]))
    assert "--account" in refused(run("balance --json"), "no_account")["hint"]
    refused(run(f"balance --account 4 --api {NOWHERE} --json"), "api_unreachable")


def test_a_deployment_names_the_contract(tmp_path):
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps({"contract": CONTRACT, "block": 7}))
    assert read_deployment(path) == (CONTRACT, 7)
    path.write_text(json.dumps({"contract": CONTRACT}))
    assert read_deployment(path) == (CONTRACT, 0)
    for text in ("", "[]", "{}", "7", json.dumps({"contract": CONTRACT, "block": "x"})):
        path.write_text(text)
        with pytest.raises(CliError) as caught:
            read_deployment(path)
        assert caught.value.code == "deployment" and caught.value.hint


def test_tokens_are_printable(run, tmp_path):
    for wrong in (b"\xff" * 20, b"a\nb", b"x" * 257):
        (tmp_path / "api.token").write_bytes(wrong)
        refused(run(f"batch settle --token-file api.token --api {NOWHERE} --json"), "file")
    (tmp_path / "api.token").write_bytes(b"a token of this test\n")
    refused(run(f"batch settle --token-file api.token --api {NOWHERE} --json"), "api_unreachable")


# --- deploying


def test_tokens_are_read_strictly():
    assert parse_token(CONTRACT) == (CONTRACT, None) and parse_token(CONTRACT + ":1000") == (CONTRACT, 1000)
    for wrong in ("USD", CONTRACT[2:], CONTRACT + ":", CONTRACT + ":0", CONTRACT + ":-1", CONTRACT + ":1e3", "0x1:5"):
        if wrong == CONTRACT + ":":
            assert parse_token(wrong) == (CONTRACT, None)
            continue
        with pytest.raises(CliError) as caught:
            parse_token(wrong)
        assert caught.value.code == "token"


def test_example_markets_are_markets():
    tokens = [
        Added(2, CONTRACT, 10**9, "USD", 18),
        Added(3, CONTRACT, 1, "CENT", 2),
        Added(4, CONTRACT, 1, "WEI", 18),
        Added(5, CONTRACT, 1, "USD", 6),
        Added(6, CONTRACT, 10**30, "HUGE", 36),
    ]
    markets = Markets(example_markets(tokens))
    assert [market.symbol for market in markets.all] == ["USD/ETH", "CENT/ETH", "WEI/ETH", "USD#5/ETH", "HUGE/ETH"]
    assert all(market.quote == ETH_TOKEN for market in markets.all)
    assert [market.lot for market in markets.all] == [10**6, 1, 10**15, 1000, 1000]


def test_an_operator_that_is_there_is_not_overwritten(tmp_path):
    check_new(tmp_path)
    (tmp_path / "operator.key").write_text("x")
    with pytest.raises(CliError) as caught:
        check_new(tmp_path)
    assert caught.value.code == "exists"


# --- errors


def test_every_kind_of_error_is_described():
    told = describe_error(ApiError("expired", "too late", "later", 422, {"id": "7"}))
    assert told == {"code": "expired", "message": "too late", "hint": "later", "data": {"id": "7"}}
    told = describe_error(InvalidValue("id", 0, "must not be 0"))
    assert told == {"code": "invalid_value", "message": "id: 0: must not be 0", "hint": "check id"}
    assert describe_error(requests.exceptions.ConnectionError("x"))["code"] == "rpc"
    assert describe_error(PermissionError(13, "denied"))["code"] == "io"
    internal = describe_error(ZeroDivisionError("two\nlines"))
    assert internal["code"] == "internal" and "\n" not in internal["message"] and "--debug" in internal["hint"]
    assert describe_error(CliError("a", "b" * 10_000))["message"] == "b" * 2000


def test_progress_is_on_stderr_and_not_a_flood(capsys):
    steps = output.Steps()
    for share in range(100):
        steps("proving", share / 100)
    steps("done")
    out, err = capsys.readouterr()
    assert out == "" and err == "proving: 0 %\ndone\n"


def test_wallet_files_hold_no_secret():
    assert {field.name for field in msgspec.structs.fields(WalletFile)} == {
        "rpc",
        "api",
        "contract",
        "chain_id",
        "first_block",
        "key_file",
        "accounts",
        "key_numbers",
    }


def test_a_wallet_remembers_the_chain_of_its_trading_key(tmp_path):
    """A node that names another chain in between would have the wallet derive another key from then on."""
    session: Any = SimpleNamespace(
        wallet=WalletFile(), rpc="http://rpc", api_url="http://api", contract=CONTRACT, first_block=7, key_path=""
    )
    session.chain_id, session.directory = 31337, tmp_path / "wallet"
    session.w3 = SimpleNamespace(eth=SimpleNamespace(chain_id=5))
    _remember(session, 3)
    assert load_wallet(tmp_path / "wallet").chain_id == 31337
