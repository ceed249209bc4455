"""Out of an exchange whose operator is gone, on a real chain with real proofs."""

from __future__ import annotations

import json

import pytest

from proofbook.chain.deploy import deploy_contract
from proofbook.chain.errors import ContractRevert
from proofbook.escape import cli
from proofbook.escape.artifacts import save_exit_artifacts
from proofbook.escape.errors import ArtifactsMismatch, ArtifactsMissing, ExitProofFailed, NotNow
from proofbook.escape.owned import Step, owned
from proofbook.escape.session import Escape
from proofbook.protocol.errors import InvalidValue
from proofbook.verifier.report import verify_exchange

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2
GWEI = 10**9
FEE = 1_000


@pytest.fixture
def way_out(settled, stored):
    return lambda who: Escape(settled.anvil.url, settled.address, settled.people.get(who, who), stored)


def balances(what):
    return {account.index: account.balances for account in what.accounts}


def test_what_is_owned_is_rebuilt_from_the_chain(settled):
    alice, bob = (owned(settled.anvil.url, settled.address, settled.people[who].address) for who in ("alice", "bob"))
    assert balances(alice) == {1: {ETH: 890, USD: 30}} and balances(bob) == {2: {USD: 4969}}
    assert [(q.id, q.request.amount) for q in alice.waiting] == [(6, 55)] and alice.claims == {}
    assert [q.id for q in bob.waiting] == [7] and bob.claims == {ETH: 10}
    assert alice.oldest is not None and alice.oldest.id == 6
    nobody = owned(settled.anvil.url, settled.address, "0x" + "99" * 20)
    assert (nobody.accounts, nobody.waiting, nobody.claims) == ((), (), {})


def test_everybody_leaves_with_exactly_what_they_owned(settled, stored, way_out, tmp_path, capsys, let_pass):
    """Alice by the command, run again and again; the others by the same steps as functions."""
    people = settled.people
    before = {who: settled.w3.eth.get_balance(people[who].address) for who in people}
    key_file = tmp_path / "alice.key"
    key_file.write_text(people["alice"].key.hex())
    words = ["--rpc", settled.anvil.url, "--contract", settled.address, "--key-file", str(key_file)]
    words += ["--artifacts", str(stored), "--json"]

    def command(name):
        assert cli.main([name, *words]) == 0
        out, err = capsys.readouterr()
        assert people["alice"].key.hex().removeprefix("0x") not in out + err
        return json.loads(out)

    told = command("status")
    assert told["accounts"][0]["balances"] == {"ETH": str(890 * GWEI), "USD": "30000"}
    assert told["next"] == {"step": "request", "account": 1, "token": ETH} and not told["frozen"]
    told = command("run")
    assert [step["step"] for step in told["steps"]] == ["request", "request"]
    assert told["next"]["step"] == "wait"
    assert command("run") == {"steps": [], "next": told["next"]}

    let_pass()
    told = command("run")
    assert [step["step"] for step in told["steps"]] == ["freeze", "exit", *["reclaim"] * 3, "claim", "claim"]
    assert told["next"] == {"step": "done"} and command("status")["frozen"]

    for who, steps in (("bob", ["exit", "reclaim", "claim", "claim"]), ("fee_owner", ["exit", "claim"])):
        done, rest = way_out(who).run()
        assert [d.step.name for d in done] == steps and rest == Step("done")
    done, _ = way_out(settled.operator).run()
    assert [d.step for d in done] == [Step("claim", token=ETH)]

    dollars = {who: settled.token.functions.balanceOf(people[who].address).call() for who in people}
    # Alice had 100, put 55 into the queue; bob put all his in; 1 was the fee.
    assert dollars == {"alice": (100 + 30) * 1000, "bob": 4969 * 1000, "fee_owner": 1 * 1000}
    gained = {who: settled.w3.eth.get_balance(people[who].address) - before[who] for who in people}
    # Gas costs something, and forced exits' fees came back.
    assert 0 <= (890 + FEE) * GWEI - gained["alice"] < 10**17 and 0 <= (10 + FEE) * GWEI - gained["bob"] < 10**17
    report = verify_exchange(settled.anvil.url, settled.address)
    assert report.problems == () and set(report.vault.values()) == set(report.liabilities.values()) == {0}


def test_a_live_exchange_is_left_by_its_own_rules(settled, way_out):
    alice = way_out("alice")
    for step in (alice.freeze, lambda: alice.exit(1), lambda: alice.reclaim(6)):
        with pytest.raises(NotNow):
            step()
    with pytest.raises(ContractRevert) as caught:
        alice.request(2, ETH)
    assert caught.value.name == "NotAccountOwner"


def test_m24_an_account_exits_once_and_a_request_is_reclaimed_once(settled, way_out, let_pass):
    let_pass()
    bob = way_out("bob")
    bob.freeze()
    # Anyone may do it for anybody, and the owner gets the money.
    bob.exit(1)
    assert bob.owned(settled.people["alice"].address).claims == {ETH: 890, USD: 30}
    with pytest.raises(ContractRevert) as caught:
        bob.exit(1)
    assert caught.value.name == "AlreadyExited"
    bob.reclaim(6)
    assert bob.owned(settled.people["alice"].address).claims == {ETH: 890 + FEE, USD: 85}
    for request in (6, 0, 99):
        with pytest.raises(NotNow):
            bob.reclaim(request)
    with pytest.raises(NotNow):
        bob.freeze()


def test_m23_a_token_that_reverts_holds_no_other_back(settled, way_out, let_pass):
    bob, exchange = settled.people["bob"], settled.by("bob")
    w3, deployer = settled.w3, settled.deployer
    made = (
        deploy_contract(w3, deployer, "RevertingToken"),
        deploy_contract(w3, deployer, "TestToken", "More", "MORE", 18),
    )
    tokens = [deployed.contract for deployed in made]

    def call(function):
        settled.w3.eth.wait_for_transaction_receipt(function.transact({"from": settled.deployer}))

    for id_, token in enumerate(tokens, USD + 1):
        settled.by(settled.deployer).add_token(token.address, 1)
        call(token.functions.mint(bob.address, 5))
        exchange.approve(exchange.token(id_), 5)
        exchange.deposit(2, id_, 5)
    let_pass()
    escape = way_out("bob")
    call(tokens[0].functions.setStuck(settled.address))
    with pytest.raises(ContractRevert):
        escape.run()
    assert escape.owned().claims == {USD + 1: 5}
    assert tokens[1].functions.balanceOf(bob.address).call() == 5
    call(tokens[0].functions.setStuck("0x" + "00" * 20))
    done, rest = escape.run()
    assert ([d.step for d in done], rest) == ([Step("claim", token=USD + 1)], Step("done"))


def test_m24_there_is_no_exit_beyond_the_tree_or_of_nobody(settled, way_out, let_pass):
    let_pass()
    bob = way_out("bob")
    bob.freeze()
    with pytest.raises(InvalidValue):
        bob.exit(64)
    with pytest.raises(ExitProofFailed):
        bob.exit(63)


def test_m25_an_exit_is_refused_without_the_contracts_artifacts(settled, way_out, tmp_path, let_pass):
    let_pass()
    bob = settled.people["bob"]
    way_out("bob").freeze()
    with pytest.raises(ArtifactsMissing):
        Escape(settled.anvil.url, settled.address, bob, None).exit(2)
    with pytest.raises(ArtifactsMissing):
        Escape(settled.anvil.url, settled.address, bob, tmp_path).exit(2)
    save_exit_artifacts(settled.batch.dir, tmp_path)
    with pytest.raises(ArtifactsMismatch):
        Escape(settled.anvil.url, settled.address, bob, tmp_path).exit(2)


@pytest.mark.parametrize("words", [["freeze"], ["run"], ["status"]])
def test_the_command_asks_for_the_key(settled, words, capsys, monkeypatch):
    monkeypatch.delenv("PROOFBOOK_KEY", raising=False)
    assert cli.main([*words, "--rpc", settled.anvil.url, "--contract", settled.address, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "l1_key"


def test_looking_needs_no_key(settled, capsys, monkeypatch):
    monkeypatch.delenv("PROOFBOOK_KEY", raising=False)
    words = ["status", "--rpc", settled.anvil.url, "--contract", settled.address]
    assert cli.main([*words, "--owner", settled.people["bob"].address]) == 0
    assert "balances USD 4969000" in capsys.readouterr().out
