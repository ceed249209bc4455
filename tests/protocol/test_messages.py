"""Signed actions, and the hashes that tie things to chain and contract."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_abi.packed import encode_packed
from hypothesis import given, settings
from hypothesis import strategies as st

from proofbook.protocol.eddsa import derive_public
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.field import R
from proofbook.protocol.messages import (
    Action,
    cancel,
    challenge,
    domain_of,
    keccak256,
    order,
    parse_address,
    sign_action,
    transfer,
    verify_action,
    withdraw,
)
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.table import MESSAGE1_LAYOUT, MESSAGE2_LAYOUT, ActionType, Flag

ADDRESS = "0x" + "0123456789abcdef" * 2 + "01234567"
ORDER: dict[str, Any] = {
    "domain": 7,
    "account": 3,
    "id": 9,
    "base": 1,
    "quote": 2,
    "side": 1,
    "base_amount": 100,
    "quote_amount": 200,
    "max_fee_bps": 30,
    "valid_until": 1_700_000_000,
    "flags": 2,
}


def test_the_signed_words_are_those_of_the_specification() -> None:
    made = order(**ORDER)
    w1 = 1 | 1 << 4 | 3 << 5 | 9 << 29 | 1 << 93 | 2 << 109 | 30 << 125 | 1_700_000_000 << 139 | 2 << 171
    w2 = 100 | 200 << 64
    assert made.words() == (w1, w2)
    assert made.message_hash() == poseidon((7, w1, w2))
    sent = transfer(domain=7, account=3, id=9, token=4, amount=5, receiver=6, valid_until=8)
    assert sent.words() == (3 | 3 << 5 | 9 << 29 | 4 << 93 | 8 << 139, 5 | 6 << 128)


fields = [(name, bits) for name, bits in (*MESSAGE1_LAYOUT, *MESSAGE2_LAYOUT)]
actions = st.builds(
    Action, domain=st.integers(0, 2**248 - 1), **{name: st.integers(0, 2**bits - 1) for name, bits in fields}
)


@settings(max_examples=40)
@given(actions, st.sampled_from(["domain", *(name for name, _ in fields)]), st.data())
def test_every_field_is_signed(action: Action, field: str, data: st.DataObject) -> None:
    width = dict(fields).get(field, 248)
    other = replace(action, **{field: getattr(action, field) ^ 1 << data.draw(st.integers(0, width - 1))})
    assert other.message_hash() != action.message_hash()


def test_signatures_verify_under_their_key_alone() -> None:
    secret = b"\1" * 32
    signed = sign_action(secret, order(**ORDER))
    assert verify_action(derive_public(secret), signed)
    assert not verify_action(derive_public(b"\2" * 32), signed)
    assert not verify_action(derive_public(secret), replace(signed, action=order(**ORDER | {"id": 10})))


@pytest.mark.parametrize(
    "change",
    [
        {"domain": 1 << 248},
        {"domain": -1},
        {"account": 1 << 24},
        {"id": 0},
        {"id": 1 << 64},
        {"base": 0},
        {"quote": 0},
        {"base": 2},
        {"quote": 1 << 16},
        {"side": 2},
        {"base_amount": 0},
        {"quote_amount": 0},
        {"base_amount": 1 << 64},
        {"quote_amount": -1},
        {"max_fee_bps": 10_001},
        {"valid_until": 1 << 32},
        {"flags": 16},
        {"flags": 256},
        {"flags": Flag.POST_ONLY | Flag.IOC},
        {"flags": Flag.POST_ONLY | Flag.FOK},
        {"flags": Flag.POST_ONLY | Flag.MARKET},
    ],
)
def test_an_order_that_says_nothing_good_is_refused(change: dict[str, int]) -> None:
    order(**ORDER)
    with pytest.raises(InvalidValue) as caught:
        order(**ORDER | change)
    assert caught.value.field in {*change, "quote"}


def test_the_highest_values_are_allowed() -> None:
    top = {"domain": 2**248 - 1, "account": 2**24 - 1, "id": 2**64 - 1, "base": 65535, "max_fee_bps": 10_000}
    order(**ORDER | top | {"base_amount": 2**64 - 1, "quote_amount": 2**64 - 1, "valid_until": 2**32 - 1})


def test_moves_and_cancels_name_only_what_they_need() -> None:
    common = {"domain": 7, "account": 3, "id": 9, "valid_until": 8}
    out = withdraw(**common, token=1, amount=5)
    sent = transfer(**common, token=1, amount=5, receiver=0)
    none = cancel(**common)
    assert [made.type for made in (out, sent, none)] == [2, 3, 4]
    for made, names in (
        (out, ("quote", "side", "quote_amount", "max_fee_bps", "flags", "receiver")),
        (sent, ("quote", "side", "quote_amount", "max_fee_bps", "flags")),
        (none, ("base", "quote", "side", "base_amount", "quote_amount", "max_fee_bps", "flags", "receiver")),
    ):
        for name in names:
            with pytest.raises(InvalidValue) as caught:
                replace(made, **{name: 1}).check()
            assert caught.value.field == name
    for broken in ({"token": 0, "amount": 5}, {"token": 1, "amount": 0}):
        with pytest.raises(InvalidValue):
            withdraw(**common, **broken)
        with pytest.raises(InvalidValue):
            transfer(**common, receiver=4, **broken)
    for type_ in (0, 5):
        with pytest.raises(InvalidValue):
            Action(7, type_, 3, 9).check()


def test_keccak_is_ethereums() -> None:
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_domain_is_the_contracts_hash() -> None:
    tag = keccak256(b"proofbook/domain/v1")
    expected = int.from_bytes(keccak256(encode(["bytes32", "uint256", "address"], [tag, 31337, ADDRESS])), "big") >> 8
    assert domain_of(31337, ADDRESS) == domain_of(31337, int(ADDRESS, 16)) == expected < 1 << 248
    assert domain_of(31338, ADDRESS) != expected


def test_challenge_is_the_contracts_hash() -> None:
    words, c = [0, 1, R - 1], 12345
    types = ["bytes32", "uint256", "address", "uint16", "bytes32", "uint256"]
    hashed = keccak256(encode_packed(["uint256"] * 3, words))
    data = encode(types, [keccak256(b"proofbook/z/v1"), 31337, ADDRESS, 1, hashed, c])
    assert challenge(31337, ADDRESS, 1, words, c) == int.from_bytes(keccak256(data), "big") % R


@pytest.mark.parametrize("address", ["", "0x", ADDRESS[:-1], ADDRESS + "0", "0x" + "g" * 40, ADDRESS[2:], -1, 1 << 160])
def test_what_is_no_address_is_refused(address: Any) -> None:
    with pytest.raises(InvalidValue):
        parse_address(address)


def test_action_types_are_those_of_the_table() -> None:
    assert order(**ORDER).type == ActionType.ORDER
