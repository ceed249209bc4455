"""EdDSA-Poseidon: circomlibjs and zk-kit both ways, and the forgeries of rule M3."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofbook.protocol import eddsa
from proofbook.protocol.babyjub import BASE8, COFACTOR, SUBGROUP_ORDER, Point, add, mul
from proofbook.protocol.blake512 import blake512
from proofbook.protocol.eddsa import EddsaError, Signature, challenge, derive_public, sign, verify
from proofbook.protocol.field import FieldError, R

ROOT = Path(__file__).parent.parent.parent
VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "eddsa.json").read_text())
LIBRARIES = ("circomlibjs", "zkkit")
KEY = bytes(range(32))
PUBLIC = derive_public(KEY)
MSG = 123456789
SIGNED = sign(KEY, MSG)
GENERATOR = Point(
    995203441582195749578291179787384436505546430278305826713579947235728471134,
    5472060717959818805561601436314318772137091100104008585924551046643952123905,
)
LOW_ORDER = [mul(GENERATOR, k * SUBGROUP_ORDER) for k in range(COFACTOR)]

keys = st.binary(min_size=32, max_size=32)
elements = st.one_of(st.integers(0, R - 1), st.sampled_from([0, 1, R - 1]))


def secret_scalar(private: bytes) -> int:
    """What circomlibjs calls s: the pruned first half of the digest."""
    head = bytearray(blake512(private)[:32])
    head[0] &= 0xF8
    head[31] = head[31] & 0x7F | 0x40
    return int.from_bytes(head, "little")


def equation_holds(public: Point, msg: int, sig: Signature) -> bool:
    """The equation alone, with nothing checked, by affine operations."""
    reduced = Point(public.x % R, public.y % R)
    r8 = Point(sig.r8.x % R, sig.r8.y % R)
    h = challenge(r8, reduced, msg % R)
    return mul(BASE8, sig.s) == add(r8, mul(mul(reduced, 8), h))


def parse(case: dict[str, Any]) -> tuple[bytes, Point, int, Signature]:
    public, r8 = (Point(*map(int, case[name])) for name in ("public", "r8"))
    return bytes.fromhex(case["private"]), public, int(case["msg"]), Signature(r8, int(case["s"]))


def ask_node(questions: dict[str, Any]) -> dict[str, Any]:
    command = ["node", str(ROOT / "tools" / "circomlibjs.mjs")]
    done = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True, check=True, timeout=120)
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def question(public: Point, msg: int, sig: Signature) -> dict[str, Any]:
    return {"public": list(map(str, public)), "msg": str(msg), "r8": list(map(str, sig.r8)), "s": str(sig.s)}


# Both ways.


def test_blake512_equals_blake_hash() -> None:
    assert len(VECTORS["blake512"]) >= 10
    for case in VECTORS["blake512"]:
        assert blake512(bytes.fromhex(case["message"])).hex() == case["digest"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_keys_and_signatures_equal_those_of(library: str) -> None:
    assert len(VECTORS[library]) >= 10
    for case in VECTORS[library]:
        private, public, msg, sig = parse(case)
        assert derive_public(private) == public
        assert sign(private, msg) == sig
        assert verify(public, msg, sig)


@pytest.fixture(scope="module")
def judged() -> list[tuple[bool, bool, bool]]:
    """Python's signatures, sound and spoilt, as judged here, by circomlibjs and by zk-kit."""
    asked = []
    for i in range(6):
        private = blake512(b"to node %d" % i)[:32]
        public, msg = derive_public(private), int.from_bytes(blake512(private), "big") % R
        sig = sign(private, msg)
        asked.append((public, msg, sig))
        spoilt = [
            (public, (msg + 1) % R, sig),
            (public, msg, Signature(sig.r8, sig.s ^ 1)),
            (public, msg, Signature(add(sig.r8, LOW_ORDER[i + 1]), sig.s)),
            (PUBLIC, msg, sig),
            (public, msg, Signature(Point(sig.r8.y, sig.r8.x), sig.s)),
            (public, msg, Signature(sig.r8, sig.s + SUBGROUP_ORDER)),
        ]
        asked.append(spoilt[i])
    answers = ask_node({"verify": [question(*case) for case in asked]})
    theirs = [answers[name]["verify"] for name in LIBRARIES]
    return [(verify(*case), *rest) for case, rest in zip(asked, zip(*theirs, strict=True), strict=True)]


def test_others_accept_our_signatures(judged: list[tuple[bool, bool, bool]]) -> None:
    assert judged[0::2] == [(True, True, True)] * 6


def test_others_reject_what_we_reject(judged: list[tuple[bool, bool, bool]]) -> None:
    assert judged[1::2] == [(False, False, False)] * 6


@settings(max_examples=25, deadline=None)
@given(keys, elements)
def test_signed_is_verified(private: bytes, msg: int) -> None:
    public, sig = derive_public(private), sign(private, msg)
    assert verify(public, msg, sig)
    assert equation_holds(public, msg, sig)
    assert sign(private, msg) == sig
    assert {type(x) for x in (*public, *sig.r8, sig.s)} == {int}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.integers(1, 2**256))
def test_any_change_is_rejected(place: int, change: int) -> None:
    values = [*PUBLIC, MSG, *SIGNED.r8, SIGNED.s]
    values[place] += change
    assert not verify(Point(*values[:2]), values[2], Signature(Point(*values[3:5]), values[5]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, COFACTOR * SUBGROUP_ORDER), st.integers(0, SUBGROUP_ORDER - 1), elements, st.booleans())
def test_verify_is_the_equation_for_valid_encodings(k: int, s: int, msg: int, sound: bool) -> None:
    """Keys from the whole group, and signatures that solve the equation or are arbitrary."""
    public, r8 = mul(GENERATOR, k), mul(BASE8, s)
    if sound:
        s = (s + challenge(r8, public, msg) * k) % SUBGROUP_ORDER
    sig = Signature(r8, s)
    low_order = k % SUBGROUP_ORDER == 0
    assert verify(public, msg, sig) == (equation_holds(public, msg, sig) and not low_order)


# Rule M3: nothing is accepted that the circuit rejects.


@pytest.mark.parametrize("public", LOW_ORDER)
def test_m3_key_of_low_order_is_rejected(public: Point) -> None:
    forged = Signature(mul(BASE8, 7), 7)
    assert equation_holds(public, MSG, forged)
    assert not verify(public, MSG, forged)


def test_m3_key_with_a_torsion_part_is_a_key() -> None:
    """The circuit multiplies the key by 8 first, so it accepts this one, and so must a matched order's check."""
    public = add(PUBLIC, LOW_ORDER[1])
    r8 = mul(BASE8, 5)
    sig = Signature(r8, (5 + challenge(r8, public, MSG) * secret_scalar(KEY)) % SUBGROUP_ORDER)
    assert verify(public, MSG, sig)
    assert not verify(PUBLIC, MSG, sig)


@pytest.mark.parametrize("torsion", LOW_ORDER[1:])
def test_m3_r8_with_a_torsion_part_is_rejected(torsion: Point) -> None:
    """A cofactored check would accept it; the circuit's is not one."""
    r8 = add(mul(BASE8, 5), torsion)
    s = (5 + challenge(r8, PUBLIC, MSG) * secret_scalar(KEY)) % SUBGROUP_ORDER
    assert mul(mul(BASE8, s), 8) == mul(add(r8, mul(PUBLIC, 8 * challenge(r8, PUBLIC, MSG))), 8)
    assert not verify(PUBLIC, MSG, Signature(r8, s))


def test_m3_r8_right_in_one_coordinate_is_rejected() -> None:
    solution = mul(BASE8, 5)
    for r8 in (Point(R - solution.x, solution.y), Point(solution.x, R - solution.y)):
        s = (5 + challenge(r8, PUBLIC, MSG) * secret_scalar(KEY)) % SUBGROUP_ORDER
        assert not verify(PUBLIC, MSG, Signature(r8, s))


def test_m3_s_at_or_above_the_order_is_rejected() -> None:
    for multiple in range(1, 9):
        forged = Signature(SIGNED.r8, SIGNED.s + multiple * SUBGROUP_ORDER)
        assert equation_holds(PUBLIC, MSG, forged)
        assert not verify(PUBLIC, MSG, forged)
    assert not verify(PUBLIC, MSG, Signature(SIGNED.r8, SIGNED.s - SUBGROUP_ORDER))


@pytest.mark.parametrize("shift", [R, -R, 2 * R])
@pytest.mark.parametrize("place", range(5))
def test_m3_other_encodings_of_the_same_elements_are_rejected(place: int, shift: int) -> None:
    values = [*PUBLIC, MSG, *SIGNED.r8]
    values[place] += shift
    public, msg, sig = Point(*values[:2]), values[2], Signature(Point(*values[3:]), SIGNED.s)
    assert equation_holds(public, msg, sig)
    assert not verify(public, msg, sig)


@pytest.mark.parametrize(
    "point", [Point(0, 0), Point(1, 1), Point(PUBLIC.y, PUBLIC.x), Point(PUBLIC.x, R - PUBLIC.y - 1)]
)
def test_m3_points_off_the_curve_are_rejected(point: Point) -> None:
    assert not verify(point, MSG, SIGNED)
    assert not verify(PUBLIC, MSG, Signature(point, SIGNED.s))


@pytest.mark.parametrize(
    "y",
    [
        # The affine law multiplies the ys of points with x = 0; this is a 16th root of unity, so 8 times it is -1.
        pow(5, (R - 1) // 16, R),
        # Extended coordinates double them to y^2 / (2 - y^2); after three doublings these are -1.
        2541048906435087272602772284613950014676810710368410716114944361255758142072,
        13820878446217788737653427188698522564752279331891944913184799649138213797032,
    ],
)
def test_m3_key_off_the_curve_with_two_multiples_is_rejected(y: int) -> None:
    """Not checked for the curve, (0, -1) times any even challenge is (0, 1), and S = 0 would sign half the messages."""
    forged = Signature(Point(0, 1), 0)
    assert not any(verify(Point(0, y), msg, forged) for msg in range(20))


# Bad input to signing, and the backend.


@pytest.mark.parametrize("private", [b"", bytes(31), bytes(33)])
def test_private_key_of_another_length_is_refused(private: bytes) -> None:
    with pytest.raises(EddsaError) as caught:
        derive_public(private)
    assert caught.value.code == "eddsa_private_key_length"
    with pytest.raises(EddsaError):
        sign(private, 1)


@pytest.mark.parametrize("msg", [-1, R, 2**256])
def test_message_outside_the_field_is_refused(msg: int) -> None:
    with pytest.raises(FieldError) as caught:
        sign(KEY, msg)
    assert caught.value.code == "field_out_of_range"


class Textbook:
    """A backend that checks the equation, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def eddsa_verify(self, pub_x: int, pub_y: int, r8x: int, r8y: int, s: int, msg: int) -> bool:
        self.asked.append(msg)
        return equation_holds(Point(pub_x, pub_y), msg, Signature(Point(r8x, r8y), s))


@pytest.fixture
def backend() -> Iterator[Textbook]:
    textbook = Textbook()
    eddsa.use_backend(textbook)
    yield textbook
    eddsa.use_backend(None)


def test_backend_is_asked_about_values_in_range_only(backend: Textbook) -> None:
    assert verify(PUBLIC, MSG, SIGNED)
    assert not verify(PUBLIC, MSG + 1, SIGNED)
    assert not verify(PUBLIC, MSG + R, SIGNED)
    assert not verify(PUBLIC, MSG, Signature(SIGNED.r8, SIGNED.s + SUBGROUP_ORDER))
    assert not verify(Point(PUBLIC.x, -1), MSG, SIGNED)
    assert not verify(PUBLIC, MSG, Signature(Point(SIGNED.r8.x, SIGNED.r8.y + R), SIGNED.s))
    assert backend.asked == [MSG, MSG + 1]
    eddsa.use_backend(None)
    assert verify(PUBLIC, MSG, SIGNED)
    assert backend.asked == [MSG, MSG + 1]


def test_without_gmpy2_the_results_are_the_same() -> None:
    """The verifier promises to run on plain Python."""
    code = """
import sys
sys.modules["gmpy2"] = None
from proofbook.protocol import eddsa, field
assert field.bigint is int
signature = eddsa.sign(bytes(range(32)), 123456789)
public = eddsa.derive_public(bytes(range(32)))
assert eddsa.verify(public, 123456789, signature) and not eddsa.verify(public, 123456788, signature)
print(*public, *signature.r8, signature.s)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert tuple(map(int, done.stdout.split())) == (*PUBLIC, *SIGNED.r8, SIGNED.s)
