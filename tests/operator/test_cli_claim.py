"""Claims by the command line, on the exchange of the tests."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from proofbook.chain.deploy import deploy_contract
from proofbook.cli.main import app

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

REV = 3


def test_m23_a_token_that_reverts_holds_no_claim_back(settled, tmp_path):
    """Bob has 10 gwei to claim, and a refund in a token that refuses to move."""
    bob, exchange = settled.people["bob"], settled.by("bob")
    token = deploy_contract(settled.w3, settled.deployer, "RevertingToken").contract
    settled.by(settled.deployer).add_token(token.address, 1)

    def call(function):
        settled.w3.eth.wait_for_transaction_receipt(function.transact({"from": settled.deployer}))

    call(token.functions.mint(bob.address, 5))
    exchange.approve(exchange.token(REV), 5)
    exchange.deposit(2, REV, 5)
    first, *_, refunded = settled.queue()
    settled.anvil.increase_time(max(1, first.deadline + 1 - settled.w3.eth.get_block("latest")["timestamp"]))
    exchange.freeze(first)
    exchange.reclaim(refunded)
    call(token.functions.setStuck(settled.address))

    key = tmp_path / "bob.key"
    key.write_text(bob.key.hex())
    words = ["claim", "--rpc", settled.anvil.url, "--contract", settled.address, "--key-file", str(key)]
    words += ["--wallet", str(tmp_path / "wallet"), "--json"]

    def claim(*more):
        done = CliRunner().invoke(app, [*words[:1], *more, *words[1:]])
        (line,) = done.stdout.splitlines()
        return done.exit_code, json.loads(line)

    code, told = claim()
    assert code == 0 and [row["token"] for row in told["paid"]] == ["ETH"]
    assert [(row["token"], row["amount"]) for row in told["refused"]] == [("REV", "0.000000000000000005")]
    assert exchange.claim_of(bob.address, 1) == 0 and exchange.claim_of(bob.address, REV) == 5
    for more in ((), ("REV",)):
        code, told = claim(*more)
        assert code == 1 and told["error"]["code"] == "contract_revert"
    call(token.functions.setStuck("0x" + "00" * 20))
    code, told = claim()
    assert code == 0 and [row["token"] for row in told["paid"]] == ["REV"] and told["refused"] == []
