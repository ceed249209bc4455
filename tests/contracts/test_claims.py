"""Claims: paid by pull, once, to the owner, behind the lock (M23)."""

import pytest

from proofbook.chain.errors import ContractRevert
from proofbook.protocol.table import ActionType, RequestKind
from proofbook.protocol.words import ActionRow

GWEI = 10**9


def withdraw(account: int, token: int, amount: int, id: int = 1) -> ActionRow:
    return ActionRow(type=int(ActionType.WITHDRAW), account=account, id=id, base=token, ex_base=amount)


def test_claim_reverts_NothingToClaim(world, reverts):
    for token in (0, 1, 9):
        with reverts("NothingToClaim", owner=world.alice, token=token):
            world.by("alice").claim(token)
        with reverts("NothingToClaim", owner=world.alice, token=token):
            world.by("bob").claim_for(world.alice, token)


def test_claims_are_paid_once_and_to_the_owner(world, funded, reverts, gas):
    a, token, erc20 = funded
    world.commit(actions=[withdraw(a, token, 200), withdraw(a, 1, 50, 2)])
    held, eth = erc20.functions.balanceOf(world.alice).call(), world.w3.eth.get_balance(world.alice)
    gas["claim ERC-20"] = world.by("mallory").claim_for(world.alice, token)["gasUsed"]
    gas["claim ETH"] = world.by("mallory").claim_for(world.alice, 1)["gasUsed"]
    assert erc20.functions.balanceOf(world.alice).call() == held + 200 * 1000
    assert world.w3.eth.get_balance(world.alice) == eth + 50 * GWEI
    assert world.exchange.token(token).claims == 0
    with reverts("NothingToClaim"):
        world.by("alice").claim(token)
    world.check_solvent()


def test_claim_reverts_EthTransferFailed(world, tools, reverts):
    owner = tools.deploy_contract(world.w3, world.deployer, "ReenteringOwner", world.address)
    _open_with_claim(world, owner)
    world.call(owner.contract.functions.set(True, b""))
    with reverts("EthTransferFailed", to=owner.address):
        world.by("alice").claim_for(owner.address, 1)


def _open_with_claim(world, owner) -> None:
    fee = world.exchange.request_fee(RequestKind.OPEN)
    data = world.contract.encode_abi("open", (1, 2))
    world.call(owner.contract.functions.run(data), value=(fee + 77) * GWEI)
    assert world.exchange.claim_of(owner.address, 1) == 77


def test_m23_payment_goes_out_by_pull_behind_the_lock(world, tools):
    """A receiver that calls back while it is paid gets nothing twice."""
    owner = tools.deploy_contract(world.w3, world.deployer, "ReenteringOwner", world.address)
    _open_with_claim(world, owner)
    again = world.contract.encode_abi("claimFor", (owner.address, 1))
    world.call(owner.contract.functions.set(False, again))
    before = world.w3.eth.get_balance(owner.address)
    world.by("alice").claim_for(owner.address, 1)
    assert world.w3.eth.get_balance(owner.address) == before + 77 * GWEI
    selector = tools.Web3.keccak(text="ReentrancyGuardReentrantCall()")[:4]
    assert owner.contract.functions.seen().call() == selector


def test_m23_one_tokens_revert_blocks_no_other(world, funded):
    a, token, _ = funded
    stuck, erc20 = world.token("RevertingToken")
    world.by("alice").deposit(a, stuck, 30)
    world.serve()
    world.call(erc20.functions.setStuck(world.address))
    world.commit(actions=[withdraw(a, stuck, 30), withdraw(a, token, 40, 2), withdraw(a, 1, 50, 3)])
    with pytest.raises(ContractRevert):
        world.by("alice").claim(stuck)
    world.by("alice").claim(token)
    world.by("alice").claim(1)
    assert world.exchange.claim_of(world.alice, stuck) == 30


def test_m23_outstanding_rises_at_enqueue_and_falls_when_a_claim_is_recorded(world, funded):
    a, token, _ = funded

    def amounts():
        t = world.exchange.token(token)
        return t.outstanding, t.claims

    assert amounts() == (500, 0)
    world.by("alice").deposit(a, token, 20)
    assert amounts() == (520, 0)
    world.commit([(world.queue()[0], 1)])
    assert amounts() == (500, 20)
    world.commit(actions=[withdraw(a, token, 100)])
    assert amounts() == (400, 120)
    world.by("alice").claim(token)
    assert amounts() == (400, 0)
