"""The queue: open, deposit, key change, forced exit; what each refuses, and the rules M20 to M23."""

import pytest
from web3 import Web3

from proofbook.chain.errors import ContractRevert
from proofbook.protocol.field import R
from proofbook.protocol.table import RequestKind

GWEI = 10**9


def test_constructor_queues_the_opening_of_the_fee_account(world):
    (first,) = world.queue()
    assert (first.id, first.request.kind, first.request.account, first.fee) == (0, RequestKind.OPEN, 0, 0)
    assert first.request.owner == int(world.fee_owner, 16)
    assert (first.request.pub_x, first.request.pub_y) == (1, 2)
    assert world.exchange.account(0).key_pending
    assert world.exchange.account_count() == 1


def test_every_request_is_in_its_event_and_serves_as_preimage(world, gas):
    a = world.open("alice")
    token, _ = world.token()
    gas["deposit ETH"] = world.by("alice").deposit(a, 1, 5_000)["gasUsed"]
    gas["deposit ERC-20"] = world.by("alice").deposit(a, token, 77)["gasUsed"]
    gas["forceExit"] = world.by("alice").force_exit(a, token)["gasUsed"]
    world.serve({4: 12})
    gas["changeKey"] = world.by("alice").change_key(a, 9, 10)["gasUsed"]
    (key,) = world.queue()
    assert (key.request.kind, key.request.pub_x, key.request.pub_y) == (RequestKind.KEY, 9, 10)
    assert key.sender == world.alice


# --- open


def test_open_reverts_KeyOutOfRange(world, reverts):
    for pub in ((R, 0), (0, R), (2**256 - 1, 0)):
        with reverts("KeyOutOfRange"):
            world.by("alice").open(*pub)


def test_open_reverts_TreeFull(world, reverts):
    for _ in range(63):
        world.open("alice")
    with reverts("TreeFull"):
        world.open("alice")


def test_open_reverts_ValueTooLow(world, reverts):
    fee = world.exchange.request_fee(RequestKind.OPEN)
    with reverts("ValueTooLow", required=fee, sent=fee - 1):
        world.by("alice").send("open", 1, 2, value=(fee - 1) * GWEI)


def test_open_reverts_NotWholeGwei(world, reverts):
    with reverts("NotWholeGwei", value=GWEI * 2000 + 1):
        world.by("alice").send("open", 1, 2, value=GWEI * 2000 + 1)


def test_open_reverts_TokenCapExceeded(world, reverts):
    world.anvil.rpc("anvil_setBalance", world.alice, hex(2**110))
    # Less the fee, the first does not fit 64 bits; the second fits, and is more than may be outstanding.
    for wei in ((2**64 + 10**6) * GWEI, (2**64 - 1) * GWEI):
        world.by("bob").open(1, 2)
        with reverts("TokenCapExceeded", token=1):
            world.by("alice").send("open", 1, 2, value=wei)


def test_surplus_becomes_a_claim(world):
    world.by("alice").open(1, 2, surplus=123)
    assert world.exchange.claim_of(world.alice, 1) == 123
    world.check_solvent()


# --- deposit


def test_deposit_reverts_NotAccountOwner(world, reverts):
    a = world.open("alice")
    for index, who in ((a, "bob"), (a + 1, "bob")):
        with reverts("NotAccountOwner", account=index, caller=world.bob):
            world.by(who).deposit(index, 1, 5)


def test_deposit_reverts_UnknownToken(world, reverts):
    a = world.open("alice")
    for token in (0, 2, 65535):
        with reverts("UnknownToken", token=token):
            world.by("alice").deposit(a, token, 5)


def test_deposit_reverts_AmountZero(world, reverts):
    a = world.open("alice")
    with reverts("AmountZero"):
        world.by("alice").deposit(a, 1, 0)


def test_deposit_reverts_ValueTooLow(world, reverts):
    a = world.open("alice")
    fee = world.exchange.request_fee(RequestKind.DEPOSIT)
    with reverts("ValueTooLow", required=fee + 50):
        world.by("alice").send("deposit", a, 1, 50, value=(fee + 49) * GWEI)


def test_deposit_reverts_ReceivedMismatch(world, reverts):
    a = world.open("alice")
    token, _ = world.token("FeeToken")
    with reverts("ReceivedMismatch", expected=500_000, received=495_000):
        world.by("alice").deposit(a, token, 500)


def test_deposit_reverts_SafeERC20FailedOperation(world, reverts):
    a = world.open("alice")
    token, erc20 = world.token("FalseToken")
    with reverts("SafeERC20FailedOperation", token=erc20.address):
        world.by("alice").deposit(a, token, 500)


def test_deposit_passes_the_tokens_own_error_on(world, reverts):
    a = world.open("alice")
    token, _ = world.token(to=())
    with reverts("ERC20InsufficientAllowance"):
        world.by("alice").deposit(a, token, 1)


def test_deposit_reverts_TokenCapExceeded(world, reverts):
    a = world.open("alice")
    token, _ = world.token(quantum=1, to=("alice",), amount=2**65)
    world.by("alice").deposit(a, token, 2**64 - 1)
    with reverts("TokenCapExceeded", token=token):
        world.by("alice").deposit(a, token, 1)


# --- changeKey, forceExit


def test_changeKey_reverts_NotAccountOwner(world, reverts):
    a = world.open("alice")
    world.serve()
    with reverts("NotAccountOwner"):
        world.by("bob").change_key(a, 1, 2)


def test_changeKey_reverts_KeyOutOfRange(world, reverts):
    a = world.open("alice")
    world.serve()
    with reverts("KeyOutOfRange"):
        world.by("alice").change_key(a, 1, R)


def test_changeKey_reverts_KeyRequestPending(world, reverts):
    a = world.open("alice")
    with reverts("KeyRequestPending", account=a):
        world.by("alice").change_key(a, 1, 2)


def test_forceExit_reverts_NotAccountOwner(world, reverts):
    a = world.open("alice")
    with reverts("NotAccountOwner"):
        world.by("bob").force_exit(a, 1)


def test_forceExit_reverts_UnknownToken(world, reverts):
    a = world.open("alice")
    for token in (0, 2):
        with reverts("UnknownToken", token=token):
            world.by("alice").force_exit(a, token)


@pytest.mark.parametrize("name", ["open", "deposit", "changeKey", "forceExit"])
def test_requests_revert_IsFrozen(world, reverts, name):
    a = world.open("alice")
    world.freeze()
    arguments = {"open": (1, 2), "deposit": (a, 1, 5), "changeKey": (a, 1, 2), "forceExit": (a, 1)}[name]
    with reverts("IsFrozen"):
        world.by("alice").send(name, *arguments, value=GWEI * 10_000)


# --- tokens, plain calls


def test_addToken_reverts_NotOwner(world, reverts):
    with reverts("NotOwner", caller=world.operator):
        world.by("operator").add_token(world.address, 1)


def test_addToken_reverts_QuantumZero(world, reverts):
    with reverts("QuantumZero"):
        world.by("owner").add_token(world.address, 0)


def test_addToken_reverts_TokenExists(world, reverts):
    _, erc20 = world.token()
    with reverts("TokenExists", erc20=erc20.address):
        world.by("owner").add_token(erc20.address, 1)


def test_addToken_reverts_TokenHasNoCode(world, reverts):
    for address in (world.bob, "0x" + "00" * 20):
        with reverts("TokenHasNoCode"):
            world.by("owner").add_token(address, 1)


def test_addToken_reverts_TooManyTokens(world, reverts):
    world.token()
    slot = next(k for k in range(32) if _stored(world, k) & 0xFFFF == 2)
    word = _stored(world, slot)
    world.anvil.set_storage(world.address, slot, word - 2 + 65535)
    assert world.exchange.read("tokenCount") == 65535
    with reverts("TooManyTokens"):
        world.by("owner").add_token(world.harness.address, 1)


def _stored(world, slot: int) -> int:
    return int.from_bytes(world.w3.eth.get_storage_at(world.address, slot), "big")


def test_receive_reverts_PlainTransferRefused(world):
    with pytest.raises(Exception, match=Web3.keccak(text="PlainTransferRefused()")[:4].hex()):
        world.w3.eth.call({"from": world.alice, "to": world.address, "value": 1})


def test_fallback_reverts_UnknownFunction(world):
    with pytest.raises(Exception, match=Web3.keccak(text="UnknownFunction()")[:4].hex()):
        world.w3.eth.call({"from": world.alice, "to": world.address, "data": "0x12345678"})


# --- rules


def test_m20_keys_need_only_be_field_elements(world):
    """A key that no signature fits (off the curve, or zero) is accepted: refusing it would need the curve on L1."""
    for pub in ((0, 0), (R - 1, R - 1), (3, 3)):
        world.open("alice", pub)
    world.serve()


def test_m20_indices_are_assigned_by_l1(world):
    assert [world.open(who) for who in ("alice", "bob", "alice")] == [1, 2, 3]
    owners = [world.exchange.account(i).owner for i in range(5)]
    assert owners == [world.fee_owner, world.alice, world.bob, world.alice, "0x" + "00" * 20]


def test_m20_a_second_key_request_waits_for_the_first(world, reverts):
    a = world.open("alice")
    world.serve()
    world.by("alice").change_key(a, 1, 2)
    with reverts("KeyRequestPending", account=a):
        world.by("alice").change_key(a, 3, 4)
    world.serve()
    world.by("alice").change_key(a, 3, 4)


def test_m21_fees_rise_with_the_queue_and_a_forced_exits_is_capped(world):
    kinds = (RequestKind.OPEN, RequestKind.DEPOSIT, RequestKind.KEY, RequestKind.EXIT)
    a = world.open("alice")
    for _ in range(45):
        waiting = len(world.queue())
        fees = [world.exchange.request_fee(kind) for kind in kinds]
        assert fees == [min(1_000 + 100 * waiting, cap) for cap in (5_000, 5_000, 5_000, 1_500)]
        world.by("bob").open(1, 2)
    world.by("alice").force_exit(a, 1)
    assert world.queue()[-1].fee == 1_500


def test_m21_a_flood_does_not_bring_the_freeze_nearer(world, reverts):
    """Deadlines of requests queued together keep their distance, so the operator has time for each."""
    for _ in range(12):
        world.open("alice")
    deadlines = [q.deadline for q in world.queue()]
    assert all(b - a >= 10 for a, b in zip(deadlines, deadlines[1:], strict=False))
    world.anvil.increase_time(deadlines[0] + 1 - world.now())
    world.commit([(q, 0) for q in world.queue()[:8]], size_id=1)
    with reverts("DeadlineNotPassed"):
        world.by("mallory").freeze(world.queue()[0])


def test_m21_requests_of_the_operators_own_put_a_deadline_off_by_their_spacing_and_no_more(world):
    """What docs/security.md says is not protected: each one it pays the gas for is worth `spacing` seconds."""
    a = world.open("alice")
    world.serve()
    for _ in range(30):
        world.by("operator").open(1, 2)
    world.serve()
    world.by("alice").force_exit(a, 1)
    (mine,) = world.queue()
    put_off = mine.deadline - world.now() - 3_600
    assert 0 < put_off <= 32 * 10


def test_m21_fees_are_outstanding_until_served(world):
    before = world.exchange.token(1)
    world.open("alice")
    fee = world.queue()[-1].fee
    assert world.exchange.token(1).outstanding == before.outstanding + fee
    world.serve()
    assert world.exchange.token(1).outstanding == before.outstanding
    assert world.exchange.claim_of(world.operator, 1) == fee


def test_m23_only_the_owner_deposits(world, reverts):
    """Dust from strangers would fill an account's positions."""
    a = world.open("alice")
    token, _ = world.token()
    with reverts("NotAccountOwner"):
        world.by("bob").deposit(a, token, 1)


def test_m23_what_arrives_is_exactly_what_is_booked(world, reverts):
    a = world.open("alice")
    token, erc20 = world.token(quantum=1_000)
    world.by("alice").deposit(a, token, 5)
    assert erc20.functions.balanceOf(world.address).call() == 5_000
    assert world.exchange.token(token).outstanding == 5
    taxed, _ = world.token("FeeToken")
    with reverts("ReceivedMismatch"):
        world.by("alice").deposit(a, taxed, 5)


@pytest.mark.parametrize("call", ["deposit", "claim", "claimFor", "open", "reclaim"])
def test_m23_one_lock_over_deposit_claim_and_reclaim(world, reverts, call):
    a = world.open("alice")
    token, erc20 = world.token("ReenteringToken")
    data = world.queue()[0].argument()
    arguments = {
        "deposit": (a, token, 1),
        "claim": (token,),
        "claimFor": (world.alice, token),
        "open": (1, 2),
        "reclaim": (0, data),
    }[call]
    world.call(erc20.functions.arm(world.address, world.contract.encode_abi(call, arguments)))
    with reverts("ReentrancyGuardReentrantCall"):
        world.by("alice").deposit(a, token, 5)


def test_an_error_that_nobody_declared_is_reported_as_unnamed(world):
    a = world.open("alice")
    token, erc20 = world.token("RevertingToken")
    world.call(erc20.functions.setStuck(world.alice))
    with pytest.raises(ContractRevert) as refused:
        world.by("alice").deposit(a, token, 5)
    assert refused.value.name == "Unnamed"
