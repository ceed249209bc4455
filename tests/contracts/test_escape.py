"""freeze, exit and reclaim: what each refuses, and the rules M24 and M25."""

import dataclasses
from typing import Any

import pytest

from proofbook.chain.proofs import Q
from proofbook.protocol.field import R


@pytest.fixture
def holder(world):
    """Alice's served account with 900 gwei and 500 quanta of a token, of which the contract knows the sum only."""
    a = world.open("alice")
    token, _ = world.token()
    world.by("alice").deposit(a, 1, 900)
    world.by("alice").deposit(a, token, 500)
    world.serve()
    return a, token


# --- freeze


def test_freeze_reverts_NothingQueued(world, reverts):
    (first,) = world.queue()
    world.serve()
    with reverts("NothingQueued"):
        world.by("mallory").freeze(first)


def test_freeze_reverts_RequestMismatch(world, reverts):
    world.open("alice")
    first, second = world.queue()
    world.anvil.increase_time(2 * 3600)
    for forged in (second, dataclasses.replace(first, deadline=1)):
        with reverts("RequestMismatch", id=0):
            world.by("mallory").freeze(forged)


def test_freeze_reverts_DeadlineNotPassed(world, reverts):
    (first,) = world.queue()
    with reverts("DeadlineNotPassed", deadline=first.deadline):
        world.by("mallory").freeze(first)


def test_freeze_reverts_IsFrozen(world, reverts):
    oldest = world.freeze()
    with reverts("IsFrozen"):
        world.by("mallory").freeze(oldest)


def test_a_batch_in_time_averts_the_freeze(world, reverts):
    (first,) = world.queue()
    world.anvil.increase_time(first.deadline + 1 - world.now())
    world.serve()
    with reverts("NothingQueued"):
        world.by("mallory").freeze(first)


# --- exit


def test_exit_turns_holdings_into_claims(world, holder, gas):
    a, token = holder
    world.freeze()
    receipt = world.by("mallory").exit(*world.exit_arguments(a, world.alice, [(1, 900), (token, 500)]))
    gas["exit"] = receipt["gasUsed"]
    assert world.exchange.claim_of(world.alice, 1) == 900
    assert world.exchange.claim_of(world.alice, token) == 500
    assert world.exchange.account(a).exited
    world.check_solvent()


def test_exit_reverts_NotFrozen(world, holder, reverts):
    with reverts("NotFrozen"):
        world.by("alice").exit(*world.exit_arguments(holder[0], world.alice))


def test_exit_reverts_IndexBeyondTree(world, reverts):
    world.freeze()
    for index in (64, 2**24 - 1):
        with reverts("IndexBeyondTree", account=index):
            world.by("alice").exit(*world.exit_arguments(index, world.alice))


def test_exit_reverts_AlreadyExited(world, holder, reverts):
    a, token = holder
    world.freeze()
    world.by("alice").exit(*world.exit_arguments(a, world.alice, [(1, 400)]))
    with reverts("AlreadyExited", account=a):
        world.by("alice").exit(*world.exit_arguments(a, world.alice, [(1, 400)]))


def test_exit_reverts_NotAccountOwner(world, holder, reverts):
    """Also for an account that nobody opened, whose owner in the tree is 0."""
    world.freeze()
    for index, owner in ((holder[0], world.mallory), (9, "0x" + "00" * 20), (9, world.mallory)):
        with reverts("NotAccountOwner", account=index):
            world.by("mallory").exit(*world.exit_arguments(index, owner))


def test_exit_reverts_PositionsOutOfRange(world, holder, reverts):
    world.freeze()
    index, owner, _, amounts, proof = world.exit_arguments(holder[0], world.alice)
    with reverts("PositionsOutOfRange"):
        world.by("alice").exit(index, owner, 2**240, amounts, proof)
    for k in range(5):
        wide = [2**192 if i == k else 0 for i in range(5)]
        with reverts("PositionsOutOfRange"):
            world.by("alice").exit(index, owner, 0, wide, proof)


def test_exit_reverts_InvalidProof(world, holder, reverts):
    """Each public input is bound: the same proof for another root, index, owner, token or amount is refused."""
    a, token = holder
    world.open("alice")
    world.serve()
    world.freeze()
    index, owner, tokens, amounts, proof = world.exit_arguments(a, world.alice, [(1, 900), (token, 400)])
    more = [*amounts[:4], amounts[4] + (1 << 128)]
    stale = world.exit_arguments(a, world.alice, [(1, 900), (token, 400)], root=12345)
    forged = [
        (index + 1, owner, tokens, amounts, proof),
        (index, owner, tokens ^ (3 << 224), amounts, proof),
        (index, owner, tokens, more, proof),
        (index, owner, tokens, amounts, [0] * 8),
        stale,
    ]
    for arguments in forged:
        with reverts("InvalidProof"):
            world.by("alice").exit(*arguments)
    world.by("alice").exit(index, owner, tokens, amounts, proof)


def test_exit_reverts_OutstandingExceeded(world, holder, reverts):
    a, token = holder
    world.freeze()
    for holdings, bad in (([(token, 501)], token), ([(77, 1)], 77)):
        with reverts("OutstandingExceeded", token=bad):
            world.by("alice").exit(*world.exit_arguments(a, world.alice, holdings))


# --- reclaim


def test_reclaim_gives_deposit_and_fee_back(world, holder, reverts, gas):
    a, token = holder
    world.by("alice").deposit(a, token, 70)
    world.by("bob").open(1, 2)
    deposit, opening = world.queue()
    world.freeze()
    gas["reclaim"] = world.by("mallory").reclaim(deposit)["gasUsed"]
    world.by("mallory").reclaim(opening)
    assert world.exchange.claim_of(world.alice, token) == 70
    assert world.exchange.claim_of(world.alice, 1) == deposit.fee
    assert world.exchange.claim_of(world.bob, 1) == opening.fee
    assert world.exchange.token(1).outstanding == 900
    world.check_solvent()


def test_reclaim_reverts_NotFrozen(world, reverts):
    (first,) = world.queue()
    with reverts("NotFrozen"):
        world.by("alice").reclaim(first)


def test_reclaim_reverts_RequestMismatch(world, holder, reverts):
    """Twice, served before, forged in amount, or under another id."""
    a, token = holder
    world.by("alice").deposit(a, token, 70)
    (deposit,) = world.queue()
    world.freeze()
    richer = dataclasses.replace(deposit, request=dataclasses.replace(deposit.request, amount=71))
    for forged in (richer, dataclasses.replace(deposit, id=deposit.id + 1), dataclasses.replace(deposit, id=0)):
        with reverts("RequestMismatch", id=forged.id):
            world.by("alice").reclaim(forged)
    world.by("alice").reclaim(deposit)
    with reverts("RequestMismatch", id=deposit.id):
        world.by("alice").reclaim(deposit)


# --- constructor


EMPTY = ("requests", "actions", "accounts", "fees")


def test_constructor_reverts_InvalidConfig(world, tools, reverts):
    size, key = world.config().sizes[0]
    zero = "0x" + "00" * 20
    wrong: dict[str, dict[str, Any]] = {
        "requestWindow": {"request_window": 0},
        "requestSpacing": {"request_spacing": 0},
        "feeCap": {"fee_cap": 999},
        "exitFeeCap": {"exit_fee_cap": 999},
        "feeOwner": {"fee_owner": zero},
        "operator": {"operator": zero},
        "maxLag": {"max_lag": 0},
        "sizes": {"sizes": []},
        "size": {"sizes": [(dataclasses.replace(size, fees=0), key)]},
        "actions": {"sizes": [(dataclasses.replace(size, actions=241), key)]},
        "exitZkeyHash": {"exit_zkey_hash": bytes(32)},
        "exitWasmHash": {"exit_wasm_hash": bytes(32)},
        "depth": {"preset": dataclasses.replace(world.config().preset, account_depth=3)},
    }
    changes = [*wrong.items(), ("sizes", {"sizes": [(size, b"")] * 65})]
    changes += [("size", {"sizes": [(dataclasses.replace(size, **{name: 0}), key)]}) for name in EMPTY]
    for field, change in changes:
        with reverts("InvalidConfig", field=field):
            tools.deploy(world.w3, world.deployer, world.config(**change))


def test_constructor_reverts_KeyOutOfRange(world, tools, reverts):
    with reverts("KeyOutOfRange"):
        tools.deploy(world.w3, world.deployer, world.config(fee_key=(R, 0)))


def test_constructor_reverts_VerifyingKeyLength(world, tools, reverts):
    key = world.exit_key.key()
    for bad in (b"", key[:-1], key[:-64], key + bytes(64)):
        with reverts("VerifyingKeyLength", length=len(bad), expected=34 * 32):
            tools.deploy(world.w3, world.deployer, world.config(exit_key=bad))


def test_constructor_reverts_VerifyingKeyDegenerate(world, tools, reverts):
    """With gamma = delta (as before any contribution) or -delta, anybody can make a proof of anything."""
    words = world.exit_key.key_words()
    same = words[:10] + words[6:10] + words[14:]
    negative = words[:10] + words[6:8] + [Q - words[8], Q - words[9]] + words[14:]
    infinite = [words[:a] + [0] * n + words[a + n :] for a, n in ((0, 2), (2, 4), (6, 4), (10, 4))]
    for bad in (same, negative, *infinite):
        with reverts("VerifyingKeyDegenerate"):
            tools.deploy(world.w3, world.deployer, world.config(exit_key=tools.words_bytes(bad)))


def test_constructor_reverts_VerifyingKeyPoint(world, tools, reverts):
    words = world.exit_key.key_words()
    for at in (1, 3, 7, 12, 15, 33):
        bad = [*words[:at], words[at] ^ 1, *words[at + 1 :]]
        with reverts("VerifyingKeyPoint"):
            tools.deploy(world.w3, world.deployer, world.config(exit_key=tools.words_bytes(bad)))


# --- rules


def test_m24_one_exit_an_index_and_none_beyond_the_tree(world, holder, reverts):
    """Index i and i + 64 have the same path in a tree of 64 leaves: only the first is an account."""
    a, _ = holder
    world.freeze()
    with reverts("IndexBeyondTree"):
        world.by("alice").exit(*world.exit_arguments(a + 64, world.alice, [(1, 100)]))
    world.by("alice").exit(*world.exit_arguments(a, world.alice, [(1, 100)]))
    with reverts("AlreadyExited"):
        world.by("alice").exit(*world.exit_arguments(a, world.alice, [(1, 100)]))


def test_m24_no_batch_after_the_freeze_and_no_escape_before(world, holder, reverts):
    a, token = holder
    world.by("alice").deposit(a, token, 5)
    (deposit,) = world.queue()
    with reverts("NotFrozen"):
        world.by("alice").reclaim(deposit)
    with reverts("NotFrozen"):
        world.by("alice").exit(*world.exit_arguments(a, world.alice))
    world.freeze()
    with reverts("IsFrozen"):
        world.commit([(deposit, 0)])


def test_m24_a_reclaimed_request_is_gone(world, holder, reverts):
    a, token = holder
    world.by("alice").deposit(a, token, 5)
    (deposit,) = world.queue()
    world.freeze()
    world.by("alice").reclaim(deposit)
    assert world.exchange.read("requestHash", deposit.id) == bytes(32)


def test_m25_the_exit_artifacts_hashes_are_on_chain(world, tools, reverts):
    config = world.exchange.config()
    assert (config.exit_zkey_hash, config.exit_wasm_hash) == (b"\x11" * 32, b"\x22" * 32)
    with reverts("InvalidConfig", field="exitZkeyHash"):
        tools.deploy(world.w3, world.deployer, world.config(exit_zkey_hash=bytes(32)))
