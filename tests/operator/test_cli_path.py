"""docs/operating.md, command by command, on a real chain with real proofs; then the same exchange asked with --json."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from web3 import HTTPProvider, Web3

from proofbook.chain.client import Exchange
from proofbook.cli.main import app

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cli_path")]

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "operating.md"
DOCUMENTED_PORTS = ("8545", "8080")


def documented_commands() -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), "console blocks hold commands only"
    return [line.removeprefix("$ ") for line in lines]


def free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Walk:
    """A folder in which the document's commands were run, and what each of them printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("node_modules", ".venv"):
            (folder / name).symlink_to(ROOT / name)
        self.ports = free_ports(2)
        self.rpc, self.api = (f"http://127.0.0.1:{port}" for port in self.ports)
        self.commands = documented_commands()
        self.shell: subprocess.Popen[bytes] | None = None
        self.operator: subprocess.Popen[str] | None = None

    def run(self) -> None:
        """Run all commands in one shell, which then stays until `stop`: its children are the chain and the operator."""
        script = ["set -e", "touch begun"]
        for k, command in enumerate(self.commands):
            for documented, port in zip(DOCUMENTED_PORTS, self.ports, strict=True):
                command = command.replace(documented, port)
            script += [f"echo {k} > at", f"{{ {command}\n}} > {k}.out 2> {k}.err"]
        script += ["touch finished", "wait"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PROOFBOOK_") or k == "PROOFBOOK_HOME"}
        self.shell = subprocess.Popen(
            ["bash", "-c", "\n".join(script)],
            cwd=self.folder,
            env=environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (self.folder / "finished").exists():
            assert self.shell.poll() is None, self.explain()
            time.sleep(0.1)

    def explain(self) -> str:
        at = (self.folder / "at").read_text().strip()
        return f"{self.commands[int(at)]}\n{self.out(int(at))}\n{(self.folder / f'{at}.err').read_text()}"

    def out(self, k: int) -> str:
        return (self.folder / f"{k}.out").read_text()

    def outputs(self, beginning: str) -> list[str]:
        """What the commands that begin so printed, in their order."""
        found = [self.out(k) for k, command in enumerate(self.commands) if command.startswith(beginning)]
        assert found, f"the document has no {beginning}"
        return found

    def start_operator(self) -> dict[str, Any]:
        command = [ROOT / ".venv" / "bin" / "proofbook", "operator", "run", "--dir", "exchange", "--json"]
        self.operator = subprocess.Popen(
            [str(word) for word in command],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.operator.stdout is not None
        return dict(json.loads(self.operator.stdout.readline()))

    def stop_operator(self) -> int:
        assert self.operator is not None
        self.operator.send_signal(signal.SIGTERM)
        return self.operator.wait(30)

    def stop(self) -> None:
        if self.operator is not None and self.operator.poll() is None:
            self.operator.kill()
            self.operator.wait()
        if self.shell is not None:
            os.killpg(self.shell.pid, signal.SIGTERM)
            self.shell.wait(30)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    made = Walk(tmp_path_factory.mktemp("path"))
    try:
        made.run()
        yield made
    finally:
        made.stop()


@pytest.fixture
def ask(path: Walk, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command with --json and return its object; `code` is the expected exit code."""
    monkeypatch.chdir(path.folder)
    monkeypatch.delenv("PROOFBOOK_KEY", raising=False)
    environment = {
        "PROOFBOOK_RPC": path.rpc,
        "PROOFBOOK_API": path.api,
        "PROOFBOOK_CONTRACT": "exchange/deployment.json",
    }

    def call(line: str, code: int = 0) -> dict[str, Any]:
        result = CliRunner().invoke(app, shlex.split(line) + ["--json"], env=environment)
        assert result.exit_code == code, result.output
        (only,) = result.stdout.splitlines()
        answer: dict[str, Any] = json.loads(only)
        assert isinstance(answer.get("error"), dict) == (code != 0)
        return answer["error"] if code else answer

    return call


def rows(text: str) -> list[list[str]]:
    """The cells of a printed table, without its lines."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


# --- the document


def test_the_document_leads_from_nothing_to_a_settled_trade_and_out(path):
    confirmed = [row for row in rows(path.outputs("proofbook batch list")[0]) if row[1] == "confirmed"]
    assert len(confirmed) == 2 and confirmed[0][2:4] == ["2", "1"]  # both orders, one trade
    traded, withdrawn = (rows(text) for text in path.outputs("proofbook balance --wallet alice"))
    # 40 USD for 0.02 ETH and the taker's 0.25 %
    assert [row[:2] for row in traded] == [["ETH", "4.97995"], ["USD", "40"]]
    assert [row[:2] for row in withdrawn] == [["ETH", "4.97995"], ["USD", "25"]]
    assert withdrawn[1][-1] == "15"  # on L1
    assert rows(path.outputs("proofbook claim")[0])[0][:2] == ["USD", "15"]
    verified = path.outputs("proofbook verify")[0]
    assert "all is well" in verified and "batches        3, proofs that hold: 3" in verified
    assert rows(path.outputs("proofbook order list")[0])[0] == ["1", "USD/ETH", "sell", "100", "0.0005", "40"]
    assert "step request, account 2" in path.outputs("proofbook escape run")[0]


def test_the_document_warns_of_development_keys(path):
    for k, command in enumerate(path.commands):
        if command.startswith(("proofbook setup", "proofbook deploy", "proofbook verify")):
            assert "DEVELOPMENT" in (path.folder / f"{k}.err").read_text()


def test_secrets_are_for_their_owner_alone(path):
    for name in ("exchange/operator.key", "alice.key"):
        assert (path.folder / name).stat().st_mode & 0o077 == 0
    key = (path.folder / "alice.key").read_text().strip().removeprefix("0x")
    told = [file.read_bytes() for file in path.folder.glob("*.out")] + [
        file.read_bytes() for file in (path.folder / "alice").rglob("*") if file.is_file()
    ]
    assert told and not any(key.encode() in data or bytes.fromhex(key) in data for data in told)


# --- the same exchange, asked by programs: the tests below go on from each other


def test_the_verifier_needs_no_operator(ask):
    report = ask("verify")
    wanted = "root_on_chain root_rebuilt batches proofs_checked code_matches keys vault liabilities"
    assert list(report) == wanted.split()
    assert report["root_on_chain"] == report["root_rebuilt"] and report["code_matches"] is True
    assert report["batches"] == report["proofs_checked"] == 4
    assert report["vault"] == report["liabilities"] and set(report["vault"]) == {"ETH", "USD"}
    assert ask("batch list", 1)["code"] == "api_unreachable"


def test_the_way_out_is_told_without_the_operator(ask):
    status = ask("escape status --wallet bob")
    assert status["accounts"] == [
        {"index": 2, "exited": False, "balances": {"ETH": "19980000000000000", "USD": "960000000000000000000"}}
    ]
    assert len(status["waiting"]) == 2 and status["next"]["step"] == "wait"
    assert ask("escape run --wallet bob") == {"steps": [], "next": status["next"]}
    assert ask("escape freeze --wallet bob", 1)["code"] == "not_now"
    assert ask("escape exit --account 2 --wallet bob", 1)["code"] == "not_now"
    assert ask("escape reclaim --id 5 --wallet bob", 1)["code"] == "not_now"


def test_the_exchange_is_watched_without_the_operator(path, ask):
    """All its proofs are checked; a wallet without a key watches no account."""
    assert ask("watch --once --wallet nobody") == {"result": "info", "alerts": []}
    words = shlex.split("watch --once --json --no-build --deadline 900000000 --wallet bob")
    environment = {"PROOFBOOK_RPC": path.rpc, "PROOFBOOK_CONTRACT": "exchange/deployment.json"}
    result = CliRunner().invoke(app, words, env=environment)
    alerts = {row["code"]: row["severity"] for row in json.loads(result.stdout)["alerts"]}
    assert (result.exit_code, alerts) == (3, {"deadline_near": "warning", "forced_exit_requested": "warning"})


def test_tokens_are_told_from_the_chain(ask):
    eth, usd = ask("token list")["tokens"]
    assert (eth["symbol"], usd["symbol"], usd["quantum"], usd["step"]) == ("ETH", "USD", str(10**9), "0.000000001")
    assert ask("token mint ETH 1 --wallet bob", 1)["code"] == "token"
    assert ask("token mint USD 0.5 --wallet alice")["amount"] == "0.5"
    assert ask(f"token add {usd['address']} --key-file bob.key", 1)["code"] == "contract_revert"
    assert ask(f"token add {'0x' + '12' * 20} --key-file deployer.key", 1)["code"] == "token"


def test_deploying_twice_into_one_directory_is_refused(ask):
    assert ask("deploy --dir exchange --test-token USD --key-file deployer.key", 1)["code"] == "exists"


def test_an_operator_goes_on_where_it_was_stopped(path, ask):
    assert path.start_operator() == {"url": path.api, "directory": "exchange"}
    assert ask("operator status --wait 30")["status"] == "ok"
    settled = ask("batch settle")["batches"]  # alice's new key, bob's two forced exits
    assert sum(batch["requests"] for batch in settled) == 3
    assert all(batch["state"] == "confirmed" and batch["prove_s"] > 0 for batch in settled)
    assert ask("batch list --limit 1")["batches"] == [ask(f"batch show {settled[-1]['number']}")]
    paid = ask("claim --wallet bob")["paid"]
    assert [(row["token"], row["amount"]) for row in paid] == [("ETH", "0.01998"), ("USD", "960")]
    assert ask("claim --wallet bob", 1)["code"] == "nothing_to_claim"
    assert ask("batch show 99", 1)["code"] == "not_found"


def test_a_trading_key_is_replaced_and_found_again(path, ask):
    wallet = path.folder / "alice" / "wallet.json"
    assert [text.split() for text in path.outputs("proofbook account find-key")[0].splitlines()][-1] == ["number", "1"]
    noted = wallet.read_text()
    assert json.loads(noted)["key_numbers"] == {"1": 1}
    wallet.write_text(json.dumps({**json.loads(noted), "key_numbers": {}}))
    assert ask("order buy USD/ETH 10 0.0004 --wallet alice", 1)["code"] == "bad_signature", "the old key's"
    assert ask("account find-key --wallet alice --key-file bob.key", 1)["code"] == "unknown_key"
    assert ask("account find-key --wallet alice") == {"account": 1, "number": 1}
    assert json.loads(wallet.read_text()) == json.loads(noted)


def test_orders_in_whole_tokens(ask):
    placed = ask("order buy usd-eth 10 0.0004 --post-only --wallet alice")
    assert placed["trades"] == []
    order = placed["order"]
    shown = {name: order[name] for name in ("market", "side", "size", "price", "filled", "status")}
    assert shown == {
        "market": "USD/ETH",
        "side": "buy",
        "size": "10",
        "price": "0.0004",
        "filled": "0",
        "status": "open",
    }
    assert ask("book USD/ETH")["bids"] == [{"price": "0.0004", "size": "10", "orders": 1}]
    assert ask("order list --wallet alice")["orders"] == [order]
    eth = ask("balance --wallet alice")["balances"][0]
    assert (eth["token"], eth["reserved"]) == ("ETH", "0.004004")  # the total and the maker's fee
    assert ask(f"cancel {order['id']} --wallet alice")["hard"] is False
    assert ask(f"order show {order['id']} --wallet alice")["order"]["status"] == "cancelled"
    assert ask("order list --wallet alice")["orders"] == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("order buy USD/EUR 10 0.0004", "unknown_name"),
        ("order buy USD/ETH 0.0001 0.0004", "not_multiple"),
        ("order buy USD/ETH 10 0.0000001", "not_multiple"),
        ("order buy USD/ETH 1e3 0.0004", "bad_number"),
        ("order buy USD/ETH 1000000 0.0004", "insufficient_balance"),
        ("order buy USD/ETH 10 0.0004 --max-fee-bps 0", "fee_cap"),
        ("order buy USD/ETH 10 0.0004 --valid-until 5", "bad_order"),
        ("order buy USD/ETH 10 0.0004 --id 1", "replayed"),
        ("order buy USD/ETH 10 0.0004 --tif fok", "not_fillable"),
        ("order buy USD/ETH 10 0.0004 --key-file bob.key", "bad_signature"),
        ("order buy USD/ETH 10 0.0004 --account 9", "unknown_account"),
        ("order show 77", "unknown_order"),
        ("cancel 77", "unknown_order"),
        ("withdraw USD 1000", "insufficient_balance"),
        ("withdraw EUR 1", "unknown_name"),
        ("transfer USD 1 9", "receiver_lacks_token"),
        ("deposit ETH 1000000", "insufficient_l1_balance"),
        ("deposit ETH 0.0000000001", "not_multiple"),
        ("balance --account 9", "unknown_account"),
    ],
)
def test_refusals_keep_their_code_and_say_how_to_mend_them(line, code, ask):
    error = ask(f"{line} --wallet alice", 1)
    assert error["code"] == code and error["message"]
    assert error["hint"]


def test_an_account_is_opened_at_an_exchange_only(ask):
    nothing = "account new --key-file alice.key --contract 0x00000000000000000000000000000000000000aa"
    assert ask(f"{nothing} --wallet alice", 1)["code"] == "wallet", "that wallet is for another exchange"
    assert ask(f"{nothing} --wallet dave", 1)["code"] == "not_proofbook"


def test_accounts_are_told_by_owner(ask):
    found = ask("account list --wallet alice")
    assert [account["account"] for account in found["accounts"]] == [1]
    assert ask(f"account list --owner {found['owner']}") == found


def test_a_transfer_and_a_second_account(ask, path):
    made = ask("account new --wallet alice")
    assert made["account"] == 3 and made["confirmed"] is True
    again = ask("account new --wallet carol --key-file alice.key --artifacts alice/exit")
    assert again["account"] == 4 and again["trading_key"] == made["trading_key"], "one L1 key, one trading key"
    assert ask("balance --wallet alice", 1)["code"] == "no_account", "it has to be said which"
    deposited = ask("deposit USD 0.5 --wallet alice --account 3")
    assert deposited["credited"] is True and deposited["amount"] == "0.5"
    ask("batch settle")
    assert ask("transfer USD 1 3 --wallet alice --account 1")["amount"] == "1"
    ask("batch settle")
    (usd,) = [row for row in ask("balance --wallet alice --account 3")["balances"] if row["token"] == "USD"]
    assert usd["total"] == "1.5"


def test_m25_without_the_exit_artifacts_no_money_goes_in(path, ask):
    before = Exchange(
        Web3(HTTPProvider(path.rpc)), json.loads((path.folder / "exchange/deployment.json").read_text())["contract"]
    )
    queued = before.queue()
    wrong = path.folder / "wrong"
    wrong.mkdir()
    (wrong / "exit.zkey").write_bytes(b"not a key")
    (wrong / "exit.wasm").write_bytes((path.folder / "bob/exit/exit.wasm").read_bytes())
    error = ask("account new --wallet dave --key-file bob.key --artifacts wrong", 1)
    assert error["code"] == "exit_artifacts_mismatch" and error["hint"]
    (wrong / "exit.zkey").unlink()
    assert ask("account new --wallet dave --key-file bob.key --artifacts wrong", 1)["code"] == "exit_artifacts_missing"
    (path.folder / "bob/exit/exit.zkey").write_bytes(b"damaged")
    # the operator could mend that, so it must be out of reach
    assert ask("deposit ETH 1 --wallet bob --wait 0 --api http://127.0.0.1:9", 1)["code"] == "api_unreachable"
    assert before.queue() == queued
    assert ask("deposit ETH 1 --wallet bob --wait 60")["credited"] is True, "fetched again, and right"


def test_the_operator_stops_cleanly(path, ask):
    assert path.stop_operator() == 0
    assert ask("operator status", 1)["code"] == "api_unreachable"
    report = ask("verify")
    assert report["root_on_chain"] == report["root_rebuilt"] and report["vault"] == report["liabilities"]


def test_where_the_operator_has_a_token_it_alone_settles(path, ask):
    token = path.folder / "exchange" / "api.token"
    token.write_text("a token of this test\n")
    path.start_operator()
    assert ask("batch settle", 1)["code"] == "not_operator"
    assert ask("batch settle --token-file alice.key", 1)["code"] == "not_operator"
    (batch,) = ask("batch settle --token-file exchange/api.token")["batches"]
    assert batch["requests"] == 1, "the deposit above"
    assert path.stop_operator() == 0
