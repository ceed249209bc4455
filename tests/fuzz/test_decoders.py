"""What the chain carries, against bytes and texts that nobody meant: words, calldata, logs, a node's answers.

It is read, or it is said by name why not. What is read is written back the same wherever there is a writer, so nothing
has two forms. Each test asserts that it read a share of what it tried.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_abi.abi import encode
from eth_account import Account
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.providers.base import BaseProvider

from proofbook.chain.client import Exchange
from proofbook.chain.compile import contract_artifact
from proofbook.chain.events import BatchEvent, Place, read_batch
from proofbook.chain.proofs import (
    decode_proof,
    decode_verifying_key,
    encode_proof,
    encode_verifying_key,
)
from proofbook.chain.transactions import decode_revert, own_transaction, prices_of
from proofbook.protocol.errors import TransitionError
from proofbook.protocol.state import State
from proofbook.protocol.table import MINIMAL, SIZES, ActionType
from proofbook.protocol.transition import apply
from proofbook.protocol.words import (
    ActionRow,
    FeeRow,
    Request,
    RequestRow,
    actions_calldata,
    actions_from_calldata,
    fees_calldata,
    fees_from_calldata,
    page_from_words,
    page_words,
    request_row_from_words,
    request_row_words,
)
from proofbook.verifier.abi import COMMIT, EVENTS, decode_commit, selector, topic
from proofbook.verifier.abi import decode_event as decode_log
from proofbook.verifier.rpc import Rpc, data, quantity


def load(name: str) -> Any:
    """Import a helper beside this file: folders of tests are no packages."""
    spec = importlib.util.spec_from_file_location(f"fuzz_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


near = load("near")
read, each, integers, json_values = near.read, near.each, near.integers, near.json_values
SIZE = SIZES["minimal"][0]
ROOT = State(MINIMAL).root
CONTRACT = "0x" + "cd" * 20
ROWS = [
    ActionRow(ActionType.ORDER, 1, 2**64 - 1, base=2, quote=1, side=1, ex_base=10, ex_quote=20, aux=1),
    ActionRow(ActionType.CANCEL, 3, 17),
    ActionRow(ActionType.WITHDRAW, 3, 18, base=2, ex_base=5),
    ActionRow(ActionType.TRANSFER, 1, 19, base=2, ex_base=5, aux=2),
]
REQUESTS = [
    RequestRow(Request(1, 5, owner=7, pub_x=1, pub_y=2), 0),
    RequestRow(Request(2, 5, token=2, amount=2**64 - 1), 1),
    RequestRow(Request(3, 5, pub_x=1, pub_y=2), 0),
    RequestRow(Request(4, 5, token=2), 99),
]


# --- the protocol's words


@st.composite
def pages(draw: st.DrawFn) -> list[int]:
    """Draw D: rows that can be, with some words that can't."""
    rows = [word for row in draw(st.lists(st.sampled_from(REQUESTS), max_size=4)) for word in request_row_words(row)]
    counts = len(rows) // 4, draw(st.integers(0, 2))
    words = [5, counts[0] << 136 | counts[1] << 152 | 1 << 16, ROOT, ROOT, *rows]
    words += [0] * (SIZE.words - len(words))
    for place in draw(st.lists(st.integers(0, SIZE.words - 1), max_size=2)):
        words[place] = draw(integers)
    return words


def test_pages_of_words() -> None:
    def check(words: list[int]) -> bool:
        page = read(page_from_words, words, SIZE)
        if page is None:
            return False
        assert page_words(page, SIZE) == words
        assert read(apply, State(MINIMAL), page) is None or not any(words[4:])
        return True

    each(near.mixed(pages(), pages(), st.lists(integers, min_size=SIZE.words, max_size=SIZE.words)), check, 0.04)


def test_actions_of_calldata() -> None:
    def check(raw: bytes) -> bool:
        rows = read(actions_from_calldata, raw)
        assert rows is None or actions_calldata(rows) == raw
        return bool(rows)

    some = [actions_calldata(ROWS[k : k + n]) for k in range(4) for n in range(1, 5)]
    rows = st.lists(st.binary(min_size=40, max_size=40), max_size=6).map(b"".join)
    each(near.mixed(near.near(*some), rows), check, 0.015, some)


def test_fees_of_calldata() -> None:
    def check(raw: bytes) -> bool:
        rows = read(fees_from_calldata, raw)
        assert rows is None or fees_calldata(rows) == raw
        return bool(rows)

    rows = st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1)), max_size=5)
    some = rows.map(lambda found: b"".join((token | amount << 16).to_bytes(10, "big") for token, amount in found))
    each(some | near.near(fees_calldata([FeeRow(1, 5), FeeRow(2, 2**64 - 1)])), check, 0.06)


@st.composite
def request_words(draw: st.DrawFn) -> list[int]:
    words = request_row_words(draw(st.sampled_from(REQUESTS)))
    if draw(st.booleans()):
        words[draw(st.integers(0, 3))] = draw(integers)
    if draw(st.booleans()):
        words[0] ^= 1 << draw(st.integers(0, 130))
    return list(words)


def test_requests_of_words() -> None:
    def check(words: list[int]) -> bool:
        row = read(request_row_from_words, words)
        assert row is None or request_row_words(row) == words
        return row is not None

    seeds = [list(request_row_words(row)) for row in REQUESTS]
    each(near.mixed(request_words(), st.lists(integers, min_size=4, max_size=4)), check, 0.04, seeds)


def test_an_accepted_page_of_nothing_is_one() -> None:
    """The property above is no empty one: there are words that are read and applied."""
    words = [5, 1 << 16, ROOT, ROOT, *[0] * (SIZE.words - 4)]
    assert apply(State(MINIMAL), page_from_words(words, SIZE)).state.root == ROOT
    with pytest.raises(TransitionError):
        apply(State(MINIMAL), page_from_words([*words[:3], 0, *words[4:]], SIZE))


# --- verifying keys and proofs, as snarkjs and the contract write them

G1, G2 = ["1", "2", "1"], [["1", "2"], ["3", "4"], ["1", "0"]]
KEY: dict[str, Any] = {"protocol": "groth16", "curve": "bn128", "nPublic": 2, "IC": [G1] * 3, "vk_alpha_1": G1}
KEY |= dict.fromkeys(("vk_beta_2", "vk_gamma_2", "vk_delta_2"), G2)


def test_verifying_keys_and_proofs() -> None:
    def check(raw: bytes) -> bool:
        told = json_or_none(raw)
        if not isinstance(told, dict):
            return False
        made = read(encode_verifying_key, told, 2)
        assert made is None or encode_verifying_key(decode_verifying_key(made), 2) == made
        assert made is None or read(encode_verifying_key, told, 3) is None
        words = read(encode_proof, told)
        assert words is None or encode_proof(decode_proof(words)) == words
        return made is not None or words is not None

    some = KEY, {"pi_a": G1, "pi_b": G2, "pi_c": ["0", "1", "0"]}
    each(near.documents(*some), check, 0.06, map(near.as_json, some), odd=near.oddities(*some))


def json_or_none(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def test_verifying_key_bytes() -> None:
    def check(raw: bytes) -> bool:
        found = read(decode_verifying_key, raw)
        if found is None:
            return False
        inputs = found["nPublic"]
        again = read(encode_verifying_key, found, inputs)
        assert again is None or again == raw
        return again is not None

    good = encode_verifying_key(KEY, 2)
    each(near.near(good) | st.binary(max_size=2000), check, 0.04, [good])


def test_proof_words() -> None:
    def check(words: list[int]) -> bool:
        told = read(decode_proof, words)
        again = None if told is None else read(encode_proof, told)
        assert again is None or again == words
        return again is not None

    small = st.lists(st.integers(0, 2**253), min_size=8, max_size=8)
    each(small | st.lists(integers, min_size=7, max_size=9), check, 0.08)


# --- what a node says


def commit_calldata(requests: list[Any], actions: bytes, fees: bytes) -> bytes:
    types = [
        "uint16",
        "uint32",
        "uint256",
        "(uint8,uint24,uint16,uint64,uint64,address,uint256,uint256,uint64,uint64)[]",
    ]
    values = [0, 1_700_000_000, 7, requests, actions, fees, 5, list(range(8))]
    return selector(COMMIT) + encode([*types, "bytes", "bytes", "uint256", "uint256[8]"], values)


DEPOSIT = (2, 5, 2, 2**64 - 1, 1, "0x" + "00" * 20, 0, 0, 9, 9)
COMMITS = [
    commit_calldata([], b"", b""),
    commit_calldata([DEPOSIT], actions_calldata(ROWS[:1]), fees_calldata([FeeRow(1, 5)])),
    commit_calldata([DEPOSIT] * 4, actions_calldata(ROWS), b""),
]


def test_commits() -> None:
    def check(raw: bytes) -> bool:
        found = read(decode_commit, raw)
        assert found is None or len(found.proof) == 8
        return found is not None

    each(near.near(*COMMITS), check, 0.04, COMMITS)


class Node(BaseProvider):
    """A node that knows one transaction."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def make_request(self, method: Any, params: Any) -> Any:
        told = {"eth_getCode": "0x00", "eth_chainId": "0x7a69", "eth_getTransactionByHash": self.answer}[method]
        return {"jsonrpc": "2.0", "id": 1, "result": told}


def event_of(raw: bytes) -> BatchEvent:
    """Return the event that the contract would have logged for a commit."""
    told = decode_commit(raw)
    counts = len(told.requests), len(told.actions) // 40, len(told.fees) // 10
    place = Place(1, "0x" + "00" * 32, "0x" + "11" * 32, 0)
    return BatchEvent(place, 1, told.size_id, told.timestamp, ROOT, told.new_root, 0, *counts)


@pytest.mark.slow
def test_batches_out_of_a_node() -> None:
    node = Node(None)
    exchange = Exchange(Web3(node), CONTRACT)

    def check(drawn: tuple[bytes, bytes]) -> bool:
        good, raw = drawn
        node.answer = {"hash": "0x" + "11" * 32, "to": CONTRACT, "input": "0x" + raw.hex()}
        found = read(read_batch, exchange, event_of(good), SIZE)
        assert found is None or (found.page.header.new_root, found.data_bytes) == (7, len(raw))
        return found is not None

    pairs = st.sampled_from(COMMITS).flatmap(lambda good: st.tuples(st.just(good), near.near(good)))
    each(pairs, check, 0.015, [(good, good) for good in COMMITS])


def sample_of(kind: str) -> Any:
    others = {"string": "text", "bytes32": bytes(32), "bytes4": bytes(4), "bytes": b"raw", "bool": True}
    if kind in others or kind.endswith("]"):
        return others.get(kind, [3] * 5)
    return "0x" + "11" * 20 if kind == "address" else 2 ** int(kind.removeprefix("uint")) - 1


def log_of(event: str) -> dict[str, Any]:
    """Return a log of an event, every number at its end."""
    words = {flag: [kind for kind, f in EVENTS[event] if f == flag] for flag in (True, False)}
    heads = ["0x" + encode([kind], [sample_of(kind)]).hex() for kind in words[True]]
    body = encode(words[False], [sample_of(kind) for kind in words[False]])
    return {"topics": [topic(event), *heads], "data": "0x" + body.hex()}


def test_logs() -> None:
    def check(drawn: tuple[str, bytes]) -> bool:
        event, raw = drawn
        told = json_or_none(raw)
        if not isinstance(told, dict):
            return False
        found = read(decode_log, event, told)
        assert found is None or len(found) == len(EVENTS[event])
        return found is not None

    pairs = st.sampled_from(sorted(EVENTS)).flatmap(lambda e: st.tuples(st.just(e), near.documents(log_of(e))))
    each(pairs, check, 0.04, [(event, near.as_json(log_of(event))) for event in EVENTS])


def test_quantities() -> None:
    def check(value: Any) -> bool:
        number, raw = read(quantity, value), read(data, value)
        if number is not None:
            assert 0 <= number < 2**256 and int(hex(number), 16) == int(value, 16)
            assert set(value[2:].lower()) <= set("0123456789abcdef")
        assert raw is None or raw.hex() == value[2:].lower()
        return number is not None or raw is not None

    written = st.integers(0, 2**260).map(hex) | st.binary(max_size=40).map(lambda raw: "0x" + raw.hex())
    signs = st.text("0123456789abcdefABCDEF_+- xX", max_size=8).map(lambda text: "0x" + text)
    each(written | signs | json_values | st.text(max_size=80).map(lambda t: "0x" + t), check, 0.08)


@pytest.mark.parametrize("text", ["0x-1", "0x+1", "0x1_0", "0x 1", "0x1 ", "0x0x1", "0x\n1", "0x٣"])
def test_other_forms_of_a_number_are_none(text: str) -> None:
    assert read(quantity, text) is None and read(data, text) is None


ANSWERS: list[Any] = [
    {"jsonrpc": "2.0", "id": 1, "result": "0x1"},
    {"jsonrpc": "2.0", "id": 1, "result": {"hash": "0x" + "11" * 32, "number": "0x1", "timestamp": "0x5"}},
    {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "limit exceeded", "data": None}},
]


def test_answers_of_a_node() -> None:
    answer, status = b"", 200
    rpc = Rpc("http://node", pause=lambda seconds: None)
    rpc._client = httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(status, stream=httpx.ByteStream(answer)))
    )

    def check(drawn: tuple[bytes, int]) -> bool:
        nonlocal answer, status
        answer, status = drawn
        rpc._id = 0
        found = read(rpc.call, "eth_getBlockByNumber", "0x1", False)
        asks: list[Any] = [lambda: rpc.block(1), rpc.block_number, lambda: list(rpc.ranges(CONTRACT, [], 1, 1))]
        rpc._id = 0
        read(asks[len(answer) % 3])
        return found is not None

    odd = [(raw, 200) for raw in near.oddities(*ANSWERS)]
    drawn = st.tuples(near.documents(*ANSWERS), st.sampled_from([200, 200, 200, 429, 500]))
    each(drawn, check, 0.015, examples=near.EXAMPLES // 2, odd=odd)


# --- transactions and refusals

KEYS = Account.from_key("0x" + "11" * 32)
TX = {"chainId": 1, "nonce": 3, "gas": 21_000, "to": Web3.to_checksum_address(CONTRACT), "value": 5, "data": b"\x01"}
SIGNED = bytes(KEYS.sign_transaction(TX | {"maxFeePerGas": 9, "maxPriorityFeePerGas": 2}).raw_transaction)
LEGACY = bytes(KEYS.sign_transaction(TX | {"gasPrice": 9}).raw_transaction)


def test_transactions_that_were_kept() -> None:
    def check(raw: bytes) -> bool:
        found, prices = read(own_transaction, raw, KEYS.address), read(prices_of, raw)
        assert found is None or raw in (SIGNED, LEGACY)
        assert prices is None or all(type(price) is int and price >= 0 for price in prices.values())
        return found is not None or prices is not None

    each(near.near(SIGNED, LEGACY), check, 0.04, [SIGNED, LEGACY])


@pytest.mark.slow
def test_reverts() -> None:
    abi = contract_artifact("Proofbook").abi
    errors = [entry for entry in abi if entry["type"] == "error"]

    def raw_of(entry: Any) -> str:
        kinds = [i["type"] for i in entry["inputs"]]
        values = [sample_of(kind) for kind in kinds]
        return "0x" + (selector(f"{entry['name']}({','.join(kinds)})") + encode(kinds, values)).hex()

    known: SearchStrategy[Any] = st.sampled_from(errors).map(raw_of)
    bent: SearchStrategy[Any] = known.flatmap(lambda text: near.bent(text.encode())).map(
        lambda raw: raw.decode("utf-8", errors="replace")
    )

    def check(value: Any) -> bool:
        found = decode_revert(abi, ContractLogicError("refused", data=value))
        assert found.name and len(str(found)) < 5000
        return bool(found.name != "Unnamed")

    each(near.mixed(known, bent, bent, json_values), check, 0.04, map(raw_of, errors))
