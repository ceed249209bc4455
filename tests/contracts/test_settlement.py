"""commit: what it refuses, what a batch does, and the rules M4, M16 to M19, M22."""

import dataclasses
from typing import Any

import pytest

from proofbook.protocol.field import R
from proofbook.protocol.messages import challenge, domain_of
from proofbook.protocol.sponge import horner
from proofbook.protocol.table import ActionType
from proofbook.protocol.words import ActionRow, FeeRow, page_words

GWEI = 10**9
NO_PROOF = [0] * 8


def withdraw(account: int, token: int, amount: int, id: int = 1) -> ActionRow:
    return ActionRow(type=int(ActionType.WITHDRAW), account=account, id=id, base=token, ex_base=amount)


def order(account: int, **fields) -> ActionRow:
    return ActionRow(type=int(ActionType.ORDER), account=account, id=3, **{"base": 1, "quote": 2, **fields})


# --- what a batch does


def test_an_empty_batch_moves_the_root(world, gas):
    page, receipt = world.commit()
    gas["commit, empty, 4+4"] = receipt["gasUsed"]
    assert world.exchange.state_root() == page.header.new_root
    assert (world.exchange.batch_number(), world.exchange.last_timestamp()) == (1, page.header.timestamp)


def test_requests_are_served_in_order_and_forgotten(world, gas):
    a = world.open("alice")
    world.by("alice").deposit(a, 1, 700)
    waiting = world.queue()
    fees = sum(q.fee for q in waiting)
    _, receipt = world.commit([(q, 0) for q in waiting])
    gas["commit, 3 requests, 4+4"] = receipt["gasUsed"]
    assert world.exchange.queue() == (3, 3)
    assert all(world.exchange.read("requestHash", q.id) == bytes(32) for q in waiting)
    assert not world.exchange.account(a).key_pending
    assert world.exchange.claim_of(world.operator, 1) == fees
    assert world.exchange.token(1).outstanding == 700


def test_bounce_exit_and_withdrawal_become_claims_of_the_accounts_owner(world, funded):
    a, token, _ = funded
    world.by("alice").deposit(a, token, 40)
    world.by("alice").force_exit(a, token)
    bounced, leaving = world.queue()
    world.commit([(bounced, 1), (leaving, 300)], actions=[withdraw(a, 1, 2_500), order(a, ex_base=9), order(0)])
    assert world.exchange.claim_of(world.alice, token) == 340
    assert world.exchange.claim_of(world.alice, 1) == 2_500
    assert world.exchange.token(token).outstanding == 200
    assert world.exchange.token(1).outstanding == 7_500
    world.check_solvent()


def test_full_batch_of_the_larger_size(world, funded, gas):
    a, token, _ = funded
    for _ in range(8):
        world.by("alice").deposit(a, 1, 5)
    rows = [dataclasses.replace(order(a, ex_base=k), id=k + 1) for k in range(16)]
    arguments = world.arguments(
        [(q, 0) for q in world.queue()], size_id=1, actions=rows, fees=[FeeRow(1, 5), FeeRow(token, 6)]
    )
    receipt = world.exchange.send("commit", *arguments)
    gas["commit, full, 8+16"] = receipt["gasUsed"]
    assert receipt["gasUsed"] < 420_000


def test_contract_and_python_agree_on_every_word(world, funded, gas):
    """The harness shows D, z and y as the contract computes them, for a batch with something in every place."""
    a, token, _ = funded
    harness = world.harness.address
    assert world.harness.functions.domain().call() == domain_of(world.chain_id, harness)
    world.by("alice").deposit(a, token, 3)
    world.by("alice").force_exit(a, token)
    requests = [(world.queue()[0], 1), (world.queue()[1], 2**64 - 1)]
    full = 2**64 - 1
    actions = [
        ActionRow(1, 2**24 - 1, full, 65535, 65534, 1, full, full, full),
        withdraw(a, token, 8),
        ActionRow(3, 5, 6, 7, 0, 0, 8, 0, 9),
        ActionRow(4, a, full),
    ]
    for size_id in (0, 1):
        page = world.page(
            requests, actions, [FeeRow(65535, full)], size_id, domain=2**248 - 1, number=full,
            old_root=R - 2, new_root=R - 1, timestamp=2**32 - 1,
        )  # fmt: skip
        words = page_words(page, world.sizes[size_id])
        d, z, y = world.on_chain(page, requests, R - 1)
        assert d == words
        assert z == challenge(world.chain_id, harness, size_id, words, R - 1)
        assert y == horner(words, z)


# --- what commit refuses


def test_commit_reverts_IsFrozen(world, reverts):
    arguments = world.arguments()
    world.freeze()
    with reverts("IsFrozen"):
        world.exchange.send("commit", *arguments)


def test_commit_reverts_NotOperator(world, reverts):
    with reverts("NotOperator", caller=world.mallory):
        world.by("mallory").send("commit", *world.arguments())


def test_commit_reverts_OperatorNotPlainAccount(world, tools, reverts):
    forwarder = tools.deploy_contract(world.w3, world.deployer, "Forwarder")
    arguments = world.arguments()
    world.exchange.rotate_operator(forwarder.address)
    data = world.contract.encode_abi("commit", arguments)
    sender = tools.Sender(world.w3, world.operator, world.exchange.abi)
    with reverts("OperatorNotPlainAccount", caller=forwarder.address):
        sender.send(forwarder.contract.functions.forward(world.address, data))


def test_commit_reverts_TimestampBeforePrevious(world, reverts):
    now = world.now()
    world.commit(timestamp=now)
    with reverts("TimestampBeforePrevious", previous=now, timestamp=now - 1):
        world.commit(timestamp=now - 1)


def test_commit_reverts_TimestampInFuture(world, reverts):
    with reverts("TimestampInFuture"):
        world.commit(timestamp=world.now() + 1_000)


def test_commit_reverts_TimestampTooOld(world, reverts):
    with reverts("TimestampTooOld"):
        world.commit(timestamp=world.now() - 610)


def test_commit_reverts_RootOutOfRange(world, reverts):
    for root in (R, 2**256 - 1):
        with reverts("RootOutOfRange", root=root):
            world.exchange.send("commit", 0, world.now(), root, [], b"", b"", 5, NO_PROOF)


def test_commit_reverts_CommitmentOutOfRange(world, reverts):
    for c in (R, R + 5, 2**256 - 1):
        with reverts("CommitmentOutOfRange", c=c):
            world.exchange.send("commit", 0, world.now(), 1, [], b"", b"", c, NO_PROOF)


def test_commit_reverts_UnknownSize(world, reverts):
    for size_id in (2, 65535):
        with reverts("UnknownSize", sizeId=size_id):
            world.exchange.send("commit", size_id, world.now(), 1, [], b"", b"", 5, NO_PROOF)


@pytest.mark.parametrize("actions, fees", [(39, 0), (41, 0), (0, 9), (0, 11)])
def test_commit_reverts_RaggedRows(world, reverts, actions, fees):
    with reverts("RaggedRows", length=actions + fees):
        world.exchange.send("commit", 0, world.now(), 1, [], bytes(actions), bytes(fees), 5, NO_PROOF)


def test_commit_reverts_TooManyRequests(world, reverts):
    for _ in range(4):
        world.open("alice")
    requests = [(q, 0) for q in world.queue()]
    with reverts("TooManyRequests", given=5, limit=4):
        world.exchange.commit(0, world.now(), 1, requests, b"", b"", 5, NO_PROOF)


def test_commit_reverts_TooManyActions(world, reverts):
    with reverts("TooManyActions", given=5, limit=4):
        world.exchange.send("commit", 0, world.now(), 1, [], bytes(200), b"", 5, NO_PROOF)


def test_commit_reverts_TooManyFees(world, reverts):
    with reverts("TooManyFees", given=3, limit=2):
        world.exchange.send("commit", 0, world.now(), 1, [], b"", bytes(30), 5, NO_PROOF)


def test_commit_reverts_RequestMismatch(world, reverts):
    """Out of order, twice, not queued, or with any field of a queued one changed."""
    a = world.open("alice")
    world.by("alice").deposit(a, 1, 700)
    first, second, third = world.queue()
    forged = [
        dataclasses.replace(first, fee=1),
        dataclasses.replace(first, deadline=first.deadline + 1),
        *(dataclasses.replace(first, request=dataclasses.replace(first.request, **{f: 9})) for f in
          ("kind", "account", "token", "amount", "owner", "pub_x", "pub_y")),
    ]  # fmt: skip
    tried: list[tuple[list[Any], int]] = [
        ([second], 0),
        ([first, first], 1),
        ([first, third], 1),
        *(([q], 0) for q in forged),
    ]
    for requests, bad in tried:
        with reverts("RequestMismatch", id=bad):
            world.exchange.commit(0, world.now(), 1, [(q, 0) for q in requests], b"", b"", 5, NO_PROOF)
    world.serve()
    with reverts("RequestMismatch", id=3):
        world.exchange.commit(0, world.now(), 1, [(third, 0)], b"", b"", 5, NO_PROOF)


def test_commit_reverts_BadOutcome(world, reverts):
    a = world.open("alice")
    world.by("alice").deposit(a, 1, 700)
    opening, _, deposit = world.queue()
    with reverts("BadOutcome", id=0, outcome=1):
        world.exchange.commit(0, world.now(), 1, [(opening, 1)], b"", b"", 5, NO_PROOF)
    world.commit([(q, 0) for q in world.queue()[:2]])
    with reverts("BadOutcome", id=2, outcome=2):
        world.exchange.commit(0, world.now(), 1, [(deposit, 2)], b"", b"", 5, NO_PROOF)


def test_commit_reverts_OutstandingExceeded(world, funded, reverts):
    a, token, _ = funded
    with reverts("OutstandingExceeded", token=token, amount=501):
        world.commit(actions=[withdraw(a, token, 501)])
    world.by("alice").force_exit(a, token)
    with reverts("OutstandingExceeded", token=token, amount=501):
        world.commit([(world.queue()[0], 501)])


def test_commit_reverts_UnknownAccount(world, reverts):
    with reverts("UnknownAccount", account=17):
        world.commit(actions=[withdraw(17, 1, 1)])


@pytest.mark.parametrize("kind", [0, 5, 15])
def test_commit_reverts_UnknownActionType(world, reverts, kind):
    page = world.page()
    words = page_words(page, world.sizes[0])
    words[1] += 1 << 152  # one action row
    words[4 + 16] = kind
    row = kind.to_bytes(16, "big") + bytes(24)
    with reverts("UnknownActionType", row=0, actionType=kind):
        world.exchange.commit(0, page.header.timestamp, page.header.new_root, [], row, b"", 5, world.prove(words))


def test_commit_reverts_InvalidProof(world, reverts):
    """Nothing, a stranger's, another batch's, points off the curve, coordinates beyond the field."""
    page = world.page()
    good = world.with_proof(page, [], world.prove(page_words(page, world.sizes[0])))[-1]
    q = 21888242871839275222246405745257275088696311157297823662689037894645226208583
    forged = [NO_PROOF, [1] * 8, world.prove([7]), good[:6] + [1, 3], good[:2] + good[4:6] + good[2:4] + good[6:]]
    forged += [[*good[:k], good[k] + q, *good[k + 1 :]] for k in range(8) if good[k] + q < 2**256]
    for proof in forged:
        with reverts("InvalidProof"):
            world.exchange.send("commit", *world.with_proof(page, [], proof))
    world.exchange.send("commit", *world.with_proof(page, [], good))


def test_rotateOperator_reverts_NotOperator(world, reverts):
    for who in ("owner", "mallory"):
        with reverts("NotOperator"):
            world.by(who).rotate_operator(world.mallory)


def test_rotateOperator_reverts_ZeroAddress(world, reverts):
    with reverts("ZeroAddress"):
        world.exchange.rotate_operator("0x" + "00" * 20)


def test_the_operator_replaces_itself(world, reverts):
    world.exchange.rotate_operator(world.bob)
    with reverts("NotOperator"):
        world.commit()
    world.by("bob").send("commit", *world.arguments())


# --- rules


def test_m4_the_domain_is_chain_and_contract(world, reverts):
    assert world.exchange.domain() == domain_of(world.chain_id, world.address)
    for chain, address in ((world.chain_id + 1, world.address), (world.chain_id, world.harness.address)):
        with reverts("InvalidProof"):
            world.commit(domain=domain_of(chain, address))


def test_m16_every_word_moves_z(world, funded):
    """Were one word outside the hash, it could be chosen after z to make y come out as wanted."""
    a, token, _ = funded
    world.by("alice").deposit(a, token, 3)
    (queued,) = world.queue()
    page = world.page()
    seen = {world.on_chain(page, [(queued, 0)])[1]}
    for field in ("domain", "number", "timestamp", "old_root", "new_root", "size_id"):
        value = getattr(page.header, field)
        header = dataclasses.replace(page.header, **{field: value + 1})
        seen.add(world.on_chain(dataclasses.replace(page, header=header), [(queued, 0)])[1])
    for field in ("kind", "account", "token", "amount", "owner", "pub_x", "pub_y"):
        request = dataclasses.replace(queued.request, **{field: 9})
        seen.add(world.on_chain(page, [(dataclasses.replace(queued, request=request), 0)])[1])
    rows: list[dict[str, Any]] = [
        {"actions": bytes(15) + b"\1" + bytes(24)}, {"actions": bytes(39) + b"\1"}, {"actions": bytes(40)},
        {"actions": bytes(80)}, {"fees": bytes(9) + b"\1"}, {"fees": bytes(10)}, {"c": 6},
    ]  # fmt: skip
    for row in rows:
        seen.add(world.on_chain(page, [(queued, 0)], **row)[1])
    seen |= {world.on_chain(page, [(queued, 1)])[1], world.on_chain(page, [])[1]}
    assert len(seen) == 1 + 6 + 7 + len(rows) + 2


def test_m16_a_word_chosen_after_z_is_refused(world, reverts):
    """The forger proves y for its own list of words at z, then picks the new root so that Horner gives that y."""
    page = world.page()
    words = page_words(page, world.sizes[0])
    z = challenge(world.chain_id, world.address, 0, words, 5)
    wanted = 123_456_789
    root = (words[3] + (wanted - horner(words, z)) * pow(z, -3, R)) % R
    assert horner([*words[:3], root, *words[4:]], z) == wanted
    proof = world.batch_keys[0].prove([5, z, wanted])
    with reverts("InvalidProof"):
        world.exchange.commit(0, page.header.timestamp, root, [], b"", b"", 5, proof)


def test_m17_words_and_inputs_beyond_the_field_are_refused(world, reverts):
    """x and x + r are the same in the proof and different on chain."""
    page = world.page(new_root=12)
    proof = world.prove(page_words(page, world.sizes[0]))
    with reverts("RootOutOfRange"):
        world.exchange.commit(0, page.header.timestamp, 12 + R, [], b"", b"", 5, proof)
    with reverts("CommitmentOutOfRange"):
        world.exchange.commit(0, page.header.timestamp, 12, [], b"", b"", 5 + R, proof)
    with reverts("KeyOutOfRange"):
        world.by("alice").open(12 + R, 5)
    world.exchange.commit(0, page.header.timestamp, 12, [], b"", b"", 5, proof)


def test_m17_absent_rows_are_zeros_in_their_places(world, reverts):
    """A list without the zeros puts the fee rows elsewhere: another polynomial."""
    page = world.page(fees=[FeeRow(1, 5)])
    words = page_words(page, world.sizes[0])
    assert len(words) == world.sizes[0].words
    assert words[4:-2] == [0] * (world.sizes[0].words - 6)
    with reverts("InvalidProof"):
        world.exchange.send("commit", *world.with_proof(page, [], world.prove([*words[:4], words[-2]])))
    with reverts("InvalidProof"):
        world.exchange.send("commit", *world.with_proof(page, [], world.prove([*words, 0, 0])[:7] + [1]))
    world.exchange.send("commit", *world.with_proof(page, [], world.prove(words)))


@pytest.mark.parametrize("field, value", [("number", 7), ("old_root", 99), ("fee_account", 1), ("domain", 3)])
def test_m18_the_header_is_the_contracts_own(world, reverts, field, value):
    with reverts("InvalidProof"):
        world.commit(**{field: value})


def test_m18_size_id_is_in_the_words_and_in_z(world, reverts):
    """A proof under the other size's key does not serve for this one."""
    page = world.page(size_id=1)
    words = page_words(page, world.sizes[1])
    z = challenge(world.chain_id, world.address, 1, words, 5)
    with reverts("InvalidProof"):
        proof = world.batch_keys[0].prove([5, z, horner(words, z)])
        world.exchange.send("commit", *world.with_proof(page, [], proof))


def test_m18_a_batch_is_not_accepted_twice(world, reverts):
    arguments = world.arguments()
    world.exchange.send("commit", *arguments)
    with reverts("InvalidProof"):
        world.exchange.send("commit", *arguments)


def test_m18_nothing_depends_on_the_proofs_bytes(world):
    """The same statement under two different proofs does the same."""
    page = world.page()
    words = page_words(page, world.sizes[0])
    one, two = world.prove(words), world.prove(words)
    assert one != two
    roots = []
    for proof in (one, two):
        snapshot = world.anvil.snapshot()
        world.exchange.send("commit", *world.with_proof(page, [], proof))
        roots.append(world.exchange.state_root())
        world.anvil.revert(snapshot)
    assert roots == [page.header.new_root] * 2


def test_m19_a_contract_can_not_commit(world, tools, reverts):
    """Behind a contract, the batch's data would not be the transaction's calldata."""
    test_commit_reverts_OperatorNotPlainAccount(world, tools, reverts)


@pytest.mark.parametrize("how", ["appended", "padding of actions", "padding of fees", "tail moved", "tails swapped"])
def test_commit_reverts_CalldataNotCanonical(world, tools, reverts, how):
    world.open("alice")
    arguments = world.arguments([(world.queue()[0], 0)], actions=[order(0)], fees=[FeeRow(1, 5)])
    plain = bytes.fromhex(world.contract.encode_abi("commit", arguments)[2:])
    head, tails = plain[:484], plain[484:]
    requests, actions, fees = tails[:352], tails[352:448], tails[448:]
    dirty = {
        "appended": plain + bytes(32),
        "padding of actions": head + requests + actions[:-1] + b"\1" + fees,
        "padding of fees": plain[:-1] + b"\1",
        "tail moved": _moved(head, (0, 32, 32)) + requests + bytes(32) + actions + fees,
        "tails swapped": _moved(head, (0, 64, -96)) + requests + fees + actions,
    }[how]
    sender = tools.Sender(world.w3, world.operator, world.exchange.abi)
    with reverts("CalldataNotCanonical"):
        sender.send(RawCall(world, dirty))
    sender.send(RawCall(world, plain))


def _moved(head: bytes, by: tuple[int, int, int]) -> bytes:
    """Move the offsets of requests, actions and fees (words 3 to 5 of the head)."""
    words = [int.from_bytes(head[4 + 32 * k :][:32], "big") for k in range(15)]
    for k, distance in enumerate(by):
        words[3 + k] += distance
    return head[:4] + b"".join(w.to_bytes(32, "big") for w in words)


class RawCall:
    """Calldata as it is, with the two methods of web3's calls that sending needs."""

    def __init__(self, world, data: bytes) -> None:
        self.world, self.data = world, data

    def estimate_gas(self, tx):
        return self.world.w3.eth.estimate_gas(self.build_transaction(tx))

    def build_transaction(self, tx):
        return {**tx, "to": self.world.address, "data": self.data}


def test_m19_what_a_batch_carries_can_be_decoded_by_anybody(world, tools, reverts):
    """Data that only Solidity's lenient decoder understands would keep everybody from rebuilding the state."""
    for how in ("padding of actions", "tails swapped"):
        test_commit_reverts_CalldataNotCanonical(world, tools, reverts, how)


def test_m22_timestamps_never_go_back_nor_ahead_nor_far_behind(world, reverts):
    now = world.now()
    world.commit(timestamp=now - 300)
    world.commit(timestamp=now - 300)
    with reverts("TimestampBeforePrevious"):
        world.commit(timestamp=now - 301)
    with reverts("TimestampInFuture"):
        world.commit(timestamp=world.now() + 60)
    world.anvil.increase_time(700)
    with reverts("TimestampTooOld"):
        world.commit(timestamp=now)
    world.commit(timestamp=world.now() - 500)
