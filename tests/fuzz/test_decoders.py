"""Every decoder against bytes and texts that nobody meant: it reads them, or says by name why not.

What is read is written back the same wherever there is a writer, so nothing has two forms.
"""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import proofbook_native
import pytest
from eth_abi.abi import encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proofbook.chain.proofs import decode_verifying_key, encode_proof, encode_verifying_key
from proofbook.client.amounts import format_decimal, parse_amount, parse_decimal, parse_price, parse_size
from proofbook.client.models import Market, Token
from proofbook.escape.keyfile import load_key
from proofbook.operator.commands import decode_command, encode_command
from proofbook.operator.events import decode_event, encode_event
from proofbook.operator.journal import Journal
from proofbook.operator.settings import parse_settings
from proofbook.protocol.errors import ProofbookError, TransitionError
from proofbook.protocol.field import R
from proofbook.protocol.state import State
from proofbook.protocol.table import MINIMAL, SIZES
from proofbook.protocol.transition import apply
from proofbook.protocol.words import (
    actions_calldata,
    actions_from_calldata,
    fees_calldata,
    fees_from_calldata,
    page_from_words,
    page_words,
    request_row_from_words,
    request_row_words,
)
from proofbook.prover.compile import compile_circuit
from proofbook.prover.r1cs import read_r1cs
from proofbook.sim.lobster import parse_message, read_messages
from proofbook.verifier.abi import COMMIT, EVENTS, decode_commit, selector, topic
from proofbook.verifier.abi import decode_event as decode_log
from proofbook.verifier.rpc import data, quantity

LONG = os.environ.get("PROOFBOOK_LONG") == "1"
EXAMPLES = 5000 if LONG else 120
SIZE = SIZES["minimal"][0]
WORST_S = 5.0
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=list(HealthCheck),
)
EDGES = [0, 1, 2, 2**16 - 1, 2**24, 2**32, 2**64 - 1, 2**64, 2**125, 2**128, 2**160, 2**248, R - 1, R, 2**256 - 1]
integers = st.sampled_from(EDGES) | st.integers(0, 2**64) | st.integers(0, 2**256 - 1) | st.integers(-5, 5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
DEEP = ["[" * 20_000, '{"a":' * 20_000, "a = " + "[" * 20_000, "a." * 2_000 + "b = 1", "9" * 5000, "a = " + "9" * 5000]


def read(decoder: Callable[[Any], Any], value: Any, *named: type[Exception]) -> Any:
    """Return what a decoder reads, None if it refuses by name; anything else fails, slowness too."""
    started = time.process_time()
    try:
        return decoder(value)
    except ProofbookError as error:
        assert error.code and len(str(error)) < 5000
        return None
    except named:
        return None
    finally:
        assert time.process_time() - started < WORST_S


@st.composite
def bent(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draw bytes near valid ones: cut, flipped, doubled, filled with ends of ranges."""
    made = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(made)))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            made = made[:at]
        elif kind == 1 and at < len(made):
            made[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 2:
            made[at:at] = draw(st.binary(max_size=40))
        elif kind == 3:
            made[at:at] = made[at : at + draw(st.integers(1, 64))]
        elif kind == 4:
            made[at : at + 32] = draw(st.sampled_from(EDGES)).to_bytes(32, "big")
        else:
            made[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\x00\x00\x00\x80"]))
    return bytes(made)


def near(valid: bytes) -> st.SearchStrategy[bytes]:
    return bent(valid) | st.binary(max_size=400)


# --- the protocol's words


@fuzz
@given(st.lists(integers, min_size=SIZE.words, max_size=SIZE.words), st.integers(0, 2**60), st.booleans())
def test_pages_of_words(words: list[int], counts: int, sensible: bool) -> None:
    if sensible:
        # A header that can be, and rows that are mostly nothing: so that more is read.
        kept = [w if (counts >> i) & 1 and i > 3 else 0 for i, w in enumerate(words)]
        words = [5, (counts % 3) << 136 | (counts % 2) << 152 | 1 << 16, State(MINIMAL).root, 0, *kept[4:]]
    page = read(lambda w: page_from_words(w, SIZE), words)
    if page is not None:
        assert page_words(page, SIZE) == words
        assert read(lambda p: apply(State(MINIMAL), p), page) is None or not any(words[4:])


@fuzz
@given(st.binary(max_size=200) | st.integers(1, 6).flatmap(lambda n: st.binary(min_size=40 * n, max_size=40 * n)))
def test_actions_of_calldata(raw: bytes) -> None:
    rows = read(actions_from_calldata, raw)
    assert rows is None or actions_calldata(rows) == raw


@fuzz
@given(st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1)), max_size=5), st.binary(max_size=12))
def test_fees_of_calldata(rows: list[tuple[int, int]], more: bytes) -> None:
    raw = b"".join((token | amount << 16).to_bytes(10, "big") for token, amount in rows) + more
    found = read(fees_from_calldata, raw)
    assert found is None or fees_calldata(found) == raw


@fuzz
@given(st.tuples(integers, integers, integers, integers), st.integers(0, 5), st.integers(0, 63))
def test_requests_of_words(words: tuple[int, ...], kind: int, account: int) -> None:
    for some in (
        list(words),
        [kind | account << 4 | 7 << 28 | (words[0] % 2**64 << 44 if words[0] > 0 else 0), 0, 0, 0],
    ):
        row = read(request_row_from_words, some)
        assert row is None or request_row_words(row) == some


# --- the operator's records


COMMANDS = [
    b'["PlaceOrder",1,[[1,1,1,5,1,2,0,10,20,25,1700000000,0,0],[[1,2],3]]]',
    b'["Tick",1700000000]',
    b'["RequestSeen",1,0,[2,1,1,5,0,0,0]]',
    b'["Freeze",1]',
    b'["SealBatch",1,0]',
]


@fuzz
@given(st.sampled_from(COMMANDS).flatmap(near) | json_values.map(lambda v: json.dumps(v).encode()))
def test_commands(raw: bytes) -> None:
    found = read(decode_command, raw)
    assert found is None or decode_command(encode_command(found)) == found


@fuzz
@given(
    near(b'{"event":"OrderRemoved","seq":1,"account":1,"id":"5"}') | json_values.map(lambda v: json.dumps(v).encode())
)
def test_events(raw: bytes) -> None:
    found = read(decode_event, raw, msgspec.MsgspecError)
    assert found is None or decode_event(encode_event(found)) == found


@pytest.mark.parametrize("text", DEEP, ids=lambda text: text[:12])
def test_deep_and_long_texts(text: str) -> None:
    assert read(decode_command, text.encode()) is None
    assert read(decode_event, text.encode(), msgspec.MsgspecError) is None
    assert read(parse_settings, text) is None


@pytest.fixture(scope="module")
def journal_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a journal of some commands as one file."""
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    with Journal(path, "id") as journal:
        journal.append([decode_command(b'["Tick",%d]' % k) for k in range(1, 40)])
        journal.add_checkpoint("state")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path.read_bytes()


@settings(fuzz, max_examples=EXAMPLES // 4)
@given(choice=st.data())
def test_journals(journal_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, choice: Any) -> None:
    raw = choice.draw(bent(journal_bytes))
    path = tmp_path_factory.mktemp("bent") / "journal.db"
    path.write_bytes(raw)

    def replayed(_: Any) -> list[Any]:
        with Journal(path, "id") as journal:
            journal.get_checkpoints()
            return list(journal.replay())

    found = read(replayed, None)
    # What is replayed is what was written, perhaps less of it at the end; never anything else.
    assert found is None or all(seq == k and command.now == k for k, (seq, command) in enumerate(found, 1))


# --- circuits and keys


@pytest.fixture(scope="module")
def r1cs_file() -> bytes:
    return compile_circuit("exit-minimal").r1cs.read_bytes()


@settings(fuzz, max_examples=EXAMPLES // 2)
@given(choice=st.data())
def test_constraint_files(r1cs_file: bytes, tmp_path_factory: pytest.TempPathFactory, choice: Any) -> None:
    # The first 160 bytes hold the header; the rest is cut off, else most changes hit one coefficient or other.
    whole = choice.draw(st.booleans())
    raw = choice.draw(bent(r1cs_file[:160])) + (r1cs_file[160:] if whole else r1cs_file[160:3000])
    path = tmp_path_factory.mktemp("r1cs") / "bent.r1cs"
    path.write_bytes(raw)
    read(read_r1cs, path)
    read(proofbook_native.r1cs_info, path, ValueError, OSError)


@settings(fuzz, max_examples=EXAMPLES // 4)
@given(choice=st.data())
def test_proving_keys(r1cs_file: bytes, tmp_path_factory: pytest.TempPathFactory, choice: Any) -> None:
    header = b"zkey" + (1).to_bytes(4, "little") + (10).to_bytes(4, "little")
    sections = b"".join(k.to_bytes(4, "little") + (40).to_bytes(8, "little") + bytes(40) for k in range(1, 11))
    path = tmp_path_factory.mktemp("zkey") / "bent.zkey"
    path.write_bytes(choice.draw(bent(header + sections)))
    assert read(lambda p: proofbook_native.prove(p, p), path, ValueError, OSError) is None


@fuzz
@given(json_values, st.sampled_from(["IC", "vk_alpha_1", "vk_beta_2", "nPublic", "pi_a", "pi_b"]), st.integers(0, 12))
def test_verifying_keys_and_proofs(value: Any, name: str, inputs: int) -> None:
    g1, g2 = ["1", "2", "1"], [["1", "2"], ["3", "4"], ["1", "0"]]
    key = {"protocol": "groth16", "curve": "bn128", "nPublic": 2, "IC": [g1] * 3, "vk_alpha_1": g1}
    key |= dict.fromkeys(("vk_beta_2", "vk_gamma_2", "vk_delta_2"), g2) | {name: value}
    assert read(lambda k: encode_verifying_key(k, inputs), key) is None or inputs == key["nPublic"]
    raw = read(lambda k: encode_verifying_key(k, 2), key)
    assert raw is None or encode_verifying_key(decode_verifying_key(raw), 2) == raw
    read(encode_proof, {"pi_a": g1, "pi_b": g2, "pi_c": g1} | {name: value})


@fuzz
@given(st.binary(max_size=2000))
def test_verifying_key_bytes(raw: bytes) -> None:
    read(decode_verifying_key, raw)


# --- what people write


SETTINGS = b"""
rpc_url = "http://127.0.0.1:8545"
contract = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
preset = "minimal"
port = 8080
poll_s = 0.5
[[markets]]
symbol = "COIN/ETH"
base = 2
quote = 1
lot = 10
maker_bps = 10
taker_bps = 25
max_lots = 1000
max_price = 1000
[[tokens]]
id = 2
symbol = "COIN"
"""


@fuzz
@given(near(SETTINGS).map(lambda raw: raw.decode("utf-8", errors="replace")) | st.text(max_size=300))
def test_settings(text: str) -> None:
    read(parse_settings, text)


@fuzz
@given(near(b"34200.017459617,5,0,1,2238200,-1"))
def test_lobster_lines(line: bytes) -> None:
    read(parse_message, line)


@settings(fuzz, max_examples=EXAMPLES // 2)
@given(choice=st.data(), packed=st.booleans())
def test_lobster_files(tmp_path_factory: pytest.TempPathFactory, choice: Any, packed: bool) -> None:
    plain = b"34200.01,1,5,100,2238200,-1\n34200.02,4,5,100,2238200,-1\n" * 3
    path = tmp_path_factory.mktemp("lobster") / "messages.csv"
    path.write_bytes(choice.draw(bent(gzip.compress(plain, mtime=0) if packed else plain)))
    read(lambda p: list(read_messages(p)), path)


TOKEN = Token(id=2, symbol="COIN", quantum=10**12, decimals=18)
ETHER = Token(id=1, symbol="ETH", quantum=10**9, decimals=18)
MARKET = Market("COIN/ETH", 2, 1, 10, 10, 25, 10**9, 10**6)
numbers = st.from_regex(r"[0-9]{0,45}(\.[0-9]{0,40})?", fullmatch=True) | st.text(max_size=30)


@fuzz
@given(numbers | st.sampled_from(["1e9", "-1", "+1", " 1", "1\n", "٣", "1_000", "0x1", "NaN", "inf", ".5", "5."]))
def test_decimals(text: str) -> None:
    value = read(lambda t: parse_decimal("amount", t), text)
    if value is not None:
        assert text.isascii() and set(text) <= set("0123456789.") and parse_decimal("x", format_decimal(value)) == value
    amount = read(lambda t: parse_amount(t, TOKEN), text)
    assert amount is None or 1 <= amount < 2**64
    read(lambda t: parse_size(t, MARKET, TOKEN), text)
    read(lambda t: parse_price(t, MARKET, TOKEN, ETHER), text)


@fuzz
@given(near(b"0x" + b"ab" * 32) | st.just(b'{"crypto": {}, "version": 3}'))
def test_key_files(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROOFBOOK_PASSWORD", "")
        read(load_key, path)


# --- what a node says


def commit_calldata() -> bytes:
    types = [
        "uint16",
        "uint32",
        "uint256",
        "(uint8,uint24,uint16,uint64,uint64,address,uint256,uint256,uint64,uint64)[]",
    ]
    request = (2, 1, 1, 5, 0, "0x" + "11" * 20, 0, 0, 9, 9)
    values = [0, 1_700_000_000, 7, [request], b"\x01" * 40, b"\x02" * 10, 5, list(range(8))]
    return selector(COMMIT) + encode([*types, "bytes", "bytes", "uint256", "uint256[8]"], values)


@fuzz
@given(near(commit_calldata()))
def test_commits(raw: bytes) -> None:
    found = read(decode_commit, raw)
    assert found is None or len(found.proof) == 8


@fuzz
@given(
    st.sampled_from(sorted(EVENTS)), st.lists(st.binary(max_size=40), max_size=4), st.binary(max_size=300), json_values
)
def test_logs(event: str, topics: list[bytes], body: bytes, other: Any) -> None:
    heads = [topic(event), *("0x" + t.hex() for t in topics)]
    for log in ({"topics": heads, "data": "0x" + body.hex()}, {"topics": other, "data": other}, {"topics": heads}):
        read(lambda found: decode_log(event, found), log)


@fuzz
@given(json_values | st.text(max_size=80).map(lambda t: "0x" + t))
def test_quantities(value: Any) -> None:
    number = read(quantity, value)
    assert number is None or 0 <= number < 2**256
    read(data, value)


def test_an_accepted_page_of_nothing_is_one() -> None:
    """The property above is no empty one: there are words that are read and applied."""
    words = [5, 1 << 16, State(MINIMAL).root, State(MINIMAL).root, *[0] * (SIZE.words - 4)]
    assert apply(State(MINIMAL), page_from_words(words, SIZE)).state.root == State(MINIMAL).root
    with pytest.raises(TransitionError):
        apply(State(MINIMAL), page_from_words([*words[:3], 0, *words[4:]], SIZE))


def test_the_samples_are_valid(tmp_path: Path) -> None:
    assert decode_commit(commit_calldata()).size_id == 0
    assert all(decode_command(raw) for raw in (b'["Tick",1]',))
    parse_message(b"34200.017459617,5,0,1,2238200,-1")
