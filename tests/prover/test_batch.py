"""Pages of the protocol through the real circuits: the smallest batch, and exits."""

import dataclasses

import pytest

from proofbook.protocol.eddsa import derive_public
from proofbook.protocol.messages import challenge, domain_of, order, sign_action
from proofbook.protocol.sponge import horner
from proofbook.protocol.state import Account, State
from proofbook.protocol.table import MINIMAL, SIZES, ActionType, RequestKind, Side
from proofbook.protocol.transition import build
from proofbook.protocol.words import ActionRow, FeeRow, Header, Request, page_words
from proofbook.prover import batch as proving
from proofbook.prover.artifacts import load
from proofbook.prover.backend import get_backend, verify_snarkjs
from proofbook.prover.errors import CircuitError, ProofError, WitnessError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("circuits")]

CHAIN, CONTRACT = 31337, "0x" + "5a" * 20
DOMAIN = domain_of(CHAIN, CONTRACT)
ETH, USD = 1, 2
KEYS = [bytes([seed]) * 32 for seed in (1, 2, 3)]


def account(seed, positions):
    pub = derive_public(KEYS[seed])
    return Account(owner=0xA000 + seed, pub_x=pub[0], pub_y=pub[1], positions=positions)


@pytest.fixture(scope="module")
def state():
    made = State(MINIMAL)
    made.put({0: account(0, ()), 1: account(1, ((ETH, 1000),)), 2: account(2, ((USD, 5000),))})
    return made


def trade(state):
    """A buy that meets a sell, 10 ETH at 3 USD with 1 USD of fee, and a deposit: (page, signed)."""
    header = Header(DOMAIN, 0, 7, 1_700_000_000, 0, state.root, 0)
    both = []
    for side, owner, fee in ((Side.SELL, 1, 0), (Side.BUY, 2, 1)):
        signed = sign_action(
            KEYS[owner],
            order(
                domain=DOMAIN,
                account=owner,
                id=16 + owner,
                base=ETH,
                quote=USD,
                side=side,
                base_amount=20,
                quote_amount=60,
                max_fee_bps=400,
                valid_until=1_800_000_000,
            ),
        )
        row = ActionRow(int(ActionType.ORDER), owner, 16 + owner, ETH, USD, int(side), 10, 30, fee)
        both.append((row, signed))
    rows, actions = [row for row, _ in both], [signed for _, signed in both]
    requests = [Request(int(RequestKind.DEPOSIT), 1, token=USD, amount=9)]
    return build(state, header, requests, rows, [FeeRow(USD, 1)], actions, SIZES["minimal"][0])[0], actions


@pytest.fixture(scope="module")
def proven(state):
    page, signed = trade(state)
    return proving.prove_batch(state, page, signed, CHAIN, CONTRACT, backend=get_backend("snarkjs"))


def test_a_batch_is_proven_and_accepted(state, proven):
    words = page_words(proven.page, SIZES["minimal"][0])
    assert proven.z == challenge(CHAIN, CONTRACT, 0, words, proven.c)
    assert proven.y == horner(words, proven.z)
    assert proven.proof.public == (proven.c, proven.z, proven.y)
    artifacts = load("batch-minimal-0")
    assert verify_snarkjs(artifacts, proven.proof)
    forged = dataclasses.replace(proven.proof, public=(proven.c, proven.z, proven.y + 1))
    assert not verify_snarkjs(artifacts, forged)
    assert proven.constraints > 10_000 and proven.timings.prove_s > 0 and proven.timings.witness_s > 0


def test_the_native_backend_proves_the_same_batch(state, proven):
    page, signed = trade(state)
    stages = []
    made = proving.prove_batch(
        state, page, signed, CHAIN, CONTRACT, backend=get_backend("native"), progress=lambda s, _: stages.append(s)
    )
    assert made.proof.public == proven.proof.public and made.proof != proven.proof
    assert verify_snarkjs(load("batch-minimal-0"), made.proof)
    assert stages[-2:] == ["batch-minimal-0: witness", "batch-minimal-0: proving with native"]


def test_a_batch_of_another_size_is_refused(state):
    page, signed = trade(state)
    for size_id in (2, 65535):
        other = dataclasses.replace(page, header=dataclasses.replace(page.header, size_id=size_id))
        with pytest.raises(CircuitError) as caught:
            proving.prove_batch(state, other, signed, CHAIN, CONTRACT)
        assert caught.value.code == "circuit/size"


def test_an_exit_is_proven_and_accepted(state):
    proof, public = proving.prove_exit(state, 1)
    assert public[:3] == (state.root, 1, 0xA001)
    # Positions stand at the end: amount_15 is the third part of a4.
    assert public[3] == ETH << (16 * 14) and public[4:] == (0, 0, 0, 0, 1000 << 128)
    artifacts = load("exit-minimal")
    assert verify_snarkjs(artifacts, proof)
    forged = dataclasses.replace(proof, public=(*public[:2], 0xBAD, *public[3:]))
    assert not verify_snarkjs(artifacts, forged)


def test_an_exit_of_nobody_is_refused(state):
    with pytest.raises(WitnessError) as caught:
        proving.prove_exit(state, 5)
    assert caught.value.code == "witness/not-open"


def test_a_proof_for_other_inputs_is_not_handed_out(state, proven, monkeypatch):
    class Swapped:
        name = "swapped"

        def prove(self, artifacts, wtns):
            return dataclasses.replace(proven.proof, public=(1, 2, 3))

    page, signed = trade(state)
    with pytest.raises(ProofError) as caught:
        proving.prove_batch(state, page, signed, CHAIN, CONTRACT, backend=Swapped())
    assert caught.value.code == "proof/public"
