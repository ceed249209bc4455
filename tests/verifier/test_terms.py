"""Exchanges of the very same code that nobody can leave."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from proofbook.cli.main import app
from proofbook.verifier import cli
from proofbook.verifier.code import own_build
from proofbook.verifier.report import verify_exchange
from proofbook.verifier.terms import MAX_EXIT_FEE, MAX_LAG, MAX_SPACING, MAX_WINDOW, Terms

pytestmark = pytest.mark.xdist_group("settled")

AT_MOST = (MAX_WINDOW, MAX_SPACING, MAX_EXIT_FEE, MAX_LAG)


def test_each_of_the_terms_has_its_limit():
    assert Terms(*AT_MOST).beyond() == ()
    for place, word in enumerate(("may wait", "delay others", "forced exit", "a batch")):
        more = [number + (k == place) for k, number in enumerate(AT_MOST)]
        (told,) = Terms(*more).beyond()
        assert word in told


def test_terms_are_told_in_words():
    told = Terms(3 * 86_400, 60, 1_000_000, 5_400).describe()
    assert "waits 3 d" in told and "1 min more" in told and "0.001 ETH" in told and "1.5 h old" in told


def redeploy(settled, changes: dict[int, int]) -> None:
    """Give the exchange other numbers in the places that its constructor filled in."""
    code = bytearray(settled.w3.eth.get_code(settled.address))
    for start, length in own_build().immutables:
        found = int.from_bytes(code[start : start + length], "big")
        code[start : start + length] = changes.get(found, found).to_bytes(length, "big")
    settled.anvil.rpc("anvil_setCode", settled.address, "0x" + code.hex())


# Window, spacing, lag, and all fees, which are the same number in this exchange.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({3600: 2**32 - 1}, ["may wait 49710.3 d"]),
        ({10: 86_400}, ["delay others 1 d"]),
        ({600: 10**7}, ["115.741 d old"]),
        ({1000: 2**63}, ["forced exit may cost"]),
        ({3600: 10**7, 1000: 10**9}, ["may wait", "forced exit"]),
    ],
)
def test_an_exchange_that_nobody_can_leave_is_not_well(settled, changes, words):
    redeploy(settled, changes)
    report = verify_exchange(settled.anvil.url, settled.address)
    assert report.code_matches and not report.ok
    assert [problem.code for problem in report.problems] == ["terms"] * len(words)
    assert all(word in problem.text for word, problem in zip(words, report.problems, strict=True))


@pytest.mark.slow
def test_the_terms_are_shown(settled, capsys):
    assert cli.main(["--rpc", settled.anvil.url, "--contract", settled.address]) == 0
    assert "a request waits 1 h at most" in capsys.readouterr().out


@pytest.mark.slow
def test_no_account_is_opened_where_nobody_can_leave(settled, tmp_path):
    """Refused before the operator is asked for anything; who says so goes on."""
    key = tmp_path / "bob.key"
    key.write_text(settled.people["bob"].key.hex())
    key.chmod(0o600)
    words = ["account", "new", "--rpc", settled.anvil.url, "--contract", settled.address, "--wait", "0", "--json"]
    words += ["--api", "http://127.0.0.1:9", "--key-file", str(key), "--wallet", str(tmp_path / "wallet")]

    def code(*more):
        done = CliRunner().invoke(app, [*words, *more])
        (line,) = done.stdout.splitlines()
        assert done.exit_code == 1 and "terms: a request waits" in done.stderr
        return json.loads(line)["error"]["code"]

    assert code() == "api_unreachable"
    redeploy(settled, {3600: 2**32 - 1})
    assert (code(), code("--any-terms")) == ("terms", "api_unreachable")
    assert not (tmp_path / "wallet").exists()
