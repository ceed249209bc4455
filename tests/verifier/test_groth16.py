"""The verifier's own pairing check, on keys whose secrets are known."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from py_ecc.fields import optimized_bn128_FQ2 as FQ2
from py_ecc.optimized_bn128.optimized_curve import (
    G1,
    G2,
    b2,
    curve_order,
    field_modulus,
    is_inf,
    is_on_curve,
    multiply,
    normalize,
)

from proofbook.protocol.field import R
from proofbook.verifier.groth16 import BadPoint, read_key, verify
from proofbook.verifier.keys import key_bytes


def g1(scalar):
    x, y = normalize(multiply(G1, scalar))
    return [int(x.n), int(y.n)]


def g2(scalar):
    x, y = normalize(multiply(G2, scalar))
    return [int(c) for c in (x.coeffs[1], x.coeffs[0], y.coeffs[1], y.coeffs[0])]


def packed(words):
    return b"".join(word.to_bytes(32, "big") for word in words)


RANDOM = random.Random(7)
ALPHA, BETA, GAMMA, DELTA, *IC = (RANDOM.randrange(1, R) for _ in range(7))
WORDS = [*g1(ALPHA), *g2(BETA), *g2(GAMMA), *g2(DELTA), *(word for s in IC for word in g1(s))]
INPUTS = (5, R - 1)


def prove(inputs):
    """With the secrets known, any statement has a proof: e(A, B) = e(alpha, beta) e(sum, gamma) e(C, delta)."""
    a, b = 11, 13
    total = IC[0] + sum(s * x for s, x in zip(IC[1:], inputs, strict=True))
    return [*g1(a), *g2(b), *g1((a * b - ALPHA * BETA - GAMMA * total) * pow(DELTA, -1, R) % R)]


@pytest.fixture(scope="module")
def key():
    return read_key(packed(WORDS), 2)


def test_a_proof_holds_for_its_inputs_alone(key):
    proof = prove(INPUTS)
    assert verify(key, proof, INPUTS)
    assert not verify(key, proof, (6, R - 1))


def test_m17_inputs_and_coordinates_out_of_range_are_refused(key):
    proof = prove(INPUTS)
    assert not verify(key, proof, (5 + R, R - 1))
    assert not verify(key, proof, (5, -1))
    for k in range(8):
        assert not verify(key, [*proof[:k], proof[k] + field_modulus, *proof[k + 1 :]], INPUTS)


def test_wrong_numbers_of_words_or_inputs_are_refused(key):
    proof = prove(INPUTS)
    assert not verify(key, proof[:7], INPUTS) and not verify(key, [*proof, 0], INPUTS)
    assert not verify(key, proof, INPUTS[:1]) and not verify(key, proof, (*INPUTS, 0))


def test_points_off_the_curve_are_refused(key):
    proof = prove(INPUTS)
    for k in range(8):
        assert not verify(key, [*proof[:k], (proof[k] + 1) % field_modulus, *proof[k + 1 :]], INPUTS)


def outside_the_subgroup():
    """A point of G2's curve whose order is not r."""
    q = field_modulus
    for x in range(1, 200):
        square = FQ2([x, 0]) ** 3 + b2
        # q = 3 mod 4: a root in the quadratic extension, if there is one (Adj and Rodriguez-Henriquez, algorithm 9).
        a1 = square ** ((q - 3) // 4)
        alpha, x0 = a1 * a1 * square, a1 * square
        y = x0 * FQ2([0, 1]) if alpha == FQ2([q - 1, 0]) else (alpha + FQ2.one()) ** ((q - 1) // 2) * x0
        point = (FQ2([x, 0]), y, FQ2.one())
        if is_on_curve(point, b2) and not is_inf(multiply(point, curve_order)):
            return [0, x, int(y.coeffs[1]), int(y.coeffs[0])]
    raise AssertionError("no such point found")


def test_points_outside_the_subgroup_are_refused(key):
    bad, proof = outside_the_subgroup(), prove(INPUTS)
    assert not verify(key, [*proof[:2], *bad, *proof[6:]], INPUTS)
    with pytest.raises(BadPoint, match="subgroup"):
        read_key(packed([*WORDS[:2], *bad, *WORDS[6:]]), 2)


def test_degenerate_keys_are_refused():
    with pytest.raises(BadPoint, match="gamma equals delta"):
        read_key(packed([*WORDS[:10], *WORDS[6:10], *WORDS[14:]]), 2)
    negative = [*WORDS[6:8], *(field_modulus - word for word in WORDS[8:10])]
    with pytest.raises(BadPoint, match="its negative"):
        read_key(packed([*WORDS[:10], *negative, *WORDS[14:]]), 2)
    for at, width in ((0, 2), (2, 4), (6, 4), (10, 4)):
        with pytest.raises(BadPoint, match="infinity"):
            read_key(packed([*WORDS[:at], *[0] * width, *WORDS[at + width :]]), 2)
    with pytest.raises(BadPoint, match="public inputs"):
        read_key(packed(WORDS), 3)


def test_a_key_is_packed_as_the_contract_has_it():
    decimal = [str(word) for word in WORDS]

    def point2(at):
        x1, x0, y1, y0 = decimal[at : at + 4]
        return [[x0, x1], [y0, y1], ["1", "0"]]

    key = {
        "vk_alpha_1": [*decimal[0:2], "1"],
        "vk_beta_2": point2(2),
        "vk_gamma_2": point2(6),
        "vk_delta_2": point2(10),
        "IC": [[*decimal[at : at + 2], "1"] for at in range(14, len(decimal), 2)],
    }
    assert key_bytes(key) == packed(WORDS)


@pytest.mark.parametrize(
    "imported",
    [
        "proofbook.verifier.report",
        "proofbook.verifier.rpc",
        "proofbook.chain.transactions",
        "proofbook.escape.cli",
        "proofbook.client.http",
        "proofbook.cli.main",
        "proofbook.operator.service",
        "py_ecc, eth_account, proofbook.protocol.errors",
    ],
)
def test_py_ecc_does_not_raise_the_recursion_limit(imported):
    """Else 100,000 brackets from any node or operator end the process: eth-account imports it too."""
    program = f"import sys; n = sys.getrecursionlimit(); import {imported}; import eth_account"
    program += "; print(sys.getrecursionlimit() == n)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"
