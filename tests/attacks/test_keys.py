"""Keys where they should not be: in programs that are started, in tracebacks, in logs, in files that others read."""

from __future__ import annotations

import ast
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from typer.testing import CliRunner

from proofbook.cli.main import app
from proofbook.cli.session import WalletFile, save_wallet
from proofbook.client.keys import Trader
from proofbook.operator.markets import Market
from proofbook.operator.settings import (
    Settings,
    SettingsError,
    create_directory,
    load_api_token,
    load_operator_key,
    write_private,
)
from proofbook.protocol.secrets import SECRET, without_secrets
from proofbook.prover.process import run

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = "0x" + "ab" * 20
# The key of nobody: made up for these tests.
KEY = "5ec3e7" * 10 + "abcd"
NOWHERE = "http://127.0.0.1:1"
# What is simulated and measured here has no keys of anybody's.
PLAY = ("operator/proofbook/sim", "operator/proofbook/bench")


def started_programs() -> list[tuple[str, str]]:
    """Return where programs are started, and the environment each gets."""
    found = []
    for top in ("circuits", "prover", "contracts", "operator"):
        for path in sorted((ROOT / top / "proofbook").rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("subprocess.run", "subprocess.Popen"):
                    given = [ast.unparse(word.value) for word in node.keywords if word.arg == "env"]
                    found += [] if name.startswith(PLAY) else [(f"{name}:{node.lineno}", " ".join(given))]
    return found


def test_programs_that_are_started_see_no_key(monkeypatch):
    programs = started_programs()
    assert len(programs) >= 6
    assert [where for where, env in programs if not env.startswith("without_secrets(os.environ)")] == []
    for name in SECRET:
        monkeypatch.setenv(name, KEY)
    shown = run([sys.executable, "-c", "import os; print(sorted(os.environ))"], timeout=60)
    assert "PATH" in shown.output and not any(name in shown.output for name in SECRET)
    assert without_secrets(os.environ).keys() == os.environ.keys() - SECRET


@pytest.fixture
def wallet(tmp_path: Path) -> Path:
    save_wallet(tmp_path / "wallet", WalletFile(contract=CONTRACT, chain_id=1, accounts=[1]))
    return tmp_path / "wallet"


def ask(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program itself, so that tracebacks and logs are the real ones."""
    command = [sys.executable, "-X", "dev", "-m", "proofbook.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=120)


@pytest.mark.parametrize("broken", [KEY + "00", KEY[:-2], "0" * 64, "f" * 64, "0x" + KEY[:-1] + "g", KEY + "\n" + KEY])
def test_a_broken_key_is_in_no_traceback(broken, wallet):
    shown = ask("--debug", "account", "list", "--wallet", str(wallet), "--api", NOWHERE, PROOFBOOK_KEY=broken)
    assert shown.returncode == 1 and "Traceback" in shown.stderr
    assert KEY[-12:-2] not in shown.stdout + shown.stderr and broken not in shown.stdout + shown.stderr


def test_a_good_key_is_in_no_traceback(wallet, tmp_path):
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    trader = Trader.from_l1(Account.from_key(KEY), 1, CONTRACT)
    words = (
        "withdraw",
        "ETH",
        "1",
        "--wallet",
        str(wallet),
        "--api",
        NOWHERE,
        "--rpc",
        NOWHERE,
    )
    for options, environment in ((("--key-file", str(tmp_path / "key")), {}), ((), {"PROOFBOOK_KEY": KEY})):
        shown = ask("--debug", *words, *options, **environment)
        assert shown.returncode == 1 and "Traceback" in shown.stderr
        assert KEY[-6:] not in shown.stdout + shown.stderr
        assert trader.private.hex() not in shown.stdout + shown.stderr
    assert KEY[-6:] not in repr(trader) and trader.private.hex() not in repr(trader)


def test_a_key_that_others_can_read_is_used_with_a_warning(wallet, tmp_path):
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o644)
    words = [
        "account",
        "list",
        "--wallet",
        str(wallet),
        "--api",
        NOWHERE,
        "--key-file",
        str(tmp_path / "key"),
    ]
    assert "can be read by others" in CliRunner().invoke(app, words).output
    (tmp_path / "key").chmod(0o600)
    assert "can be read by others" not in CliRunner().invoke(app, words).output


def test_a_key_file_without_end_is_not_read_whole(wallet):
    words = ["account", "list", "--wallet", str(wallet), "--key-file", "/dev/zero", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1 and json.loads(result.stdout)["error"]["code"] == "l1_key"


def test_a_symbolic_link_does_not_carry_a_key_elsewhere(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("old")
    elsewhere.chmod(0o644)
    (tmp_path / "operator.key").symlink_to(elsewhere)
    write_private(tmp_path / "operator.key", KEY)
    assert elsewhere.read_text() == "old" and not (tmp_path / "operator.key").is_symlink()
    assert stat.S_IMODE((tmp_path / "operator.key").stat().st_mode) == 0o600


def test_an_operators_key_is_not_read_where_others_may_read_or_write_it(tmp_path):
    write_private(tmp_path / "operator.key", KEY)
    assert load_operator_key(tmp_path) == bytes.fromhex(KEY)
    for mode in (0o640, 0o604, 0o620, 0o601):
        (tmp_path / "operator.key").chmod(mode)
        with pytest.raises(SettingsError) as caught:
            load_operator_key(tmp_path)
        assert KEY[-6:] not in str(caught.value)


def test_a_token_that_others_can_read_is_told(tmp_path, caplog):
    path = tmp_path / "api.token"
    for mode, told in ((0o600, False), (0o640, True), (0o604, True)):
        path.write_text("correct horse battery\n")
        path.chmod(mode)
        caplog.clear()
        assert load_api_token(tmp_path) == "correct horse battery"
        assert ("can be read by others" in caplog.text) == told and "correct" not in caplog.text


def test_an_operators_journal_is_not_for_other_users(tmp_path):
    market = Market("A/B", 2, 1, 1, 0, 0, 1, 1)
    create_directory(tmp_path / "new", Settings(rpc_url="http://127.0.0.1:1", markets=[market]), bytes.fromhex(KEY))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_wallets_keep_their_nodes_address_to_themselves(wallet: Any):
    # The address of a node often has a key in it.
    assert stat.S_IMODE((wallet / "wallet.json").stat().st_mode) == 0o600
