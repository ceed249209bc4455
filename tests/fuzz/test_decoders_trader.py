"""What a trader's programs read: amounts, keys, wallets, what a watch or an escape kept, and an operator's answers."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from eth_account import Account as Wallet
from hypothesis import strategies as st
from web3 import Web3

from proofbook.cli.deployment import parse_token
from proofbook.cli.session import WALLET_FILE, load_wallet, read_deployment, save_wallet
from proofbook.client import answers
from proofbook.client.amounts import format_decimal, parse_amount, parse_decimal, parse_price, parse_size
from proofbook.client.http import ApiClient
from proofbook.client.models import Market, Token
from proofbook.escape.keyfile import load_key
from proofbook.escape.memory import load_memory, save_memory
from proofbook.escape.proof import _read_proof
from proofbook.escape.sent import Sent
from proofbook.escape.watch import Memory
from proofbook.protocol.messages import domain_of
from proofbook.protocol.state import Account, State
from proofbook.protocol.table import MINIMAL
from proofbook.protocol.words import Request
from proofbook.sim.lobster import parse_message, read_messages
from proofbook.verifier.checkpoint import Checkpoints
from proofbook.verifier.history import Exit, Ledger, Queued


def load(name: str) -> Any:
    """Import a helper beside this file: folders of tests are no packages."""
    spec = importlib.util.spec_from_file_location(f"fuzz_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


near = load("near")
read, each = near.read, near.each
CONTRACT = "0x" + "cd" * 20
KEY = "0x" + "11" * 32
SENDER = Wallet.from_key(KEY)


# --- amounts and files that people write

TOKEN = Token(id=2, symbol="COIN", quantum=10**12, decimals=18)
ETHER = Token(id=1, symbol="ETH", quantum=10**9, decimals=18)
MARKET = Market("COIN/ETH", 2, 1, 10, 10, 25, 10**9, 10**6)


def test_decimals() -> None:
    def check(text: str) -> bool:
        value = read(parse_decimal, "amount", text)
        if value is not None:
            assert text.isascii() and set(text) <= set("0123456789.")
            assert parse_decimal("x", format_decimal(value)) == value
        amount = read(parse_amount, text, TOKEN)
        assert amount is None or 1 <= amount < 2**64
        read(parse_size, text, MARKET, TOKEN)
        read(parse_price, text, MARKET, TOKEN, ETHER)
        return value is not None

    odd = ["1e9", "-1", "+1", " 1", "1\n", "٣", "1_000", "0x1", "NaN", "inf", ".5", "5.", "9" * 5000, "0." + "1" * 5000]
    numbers = st.from_regex(r"[0-9]{0,45}(\.[0-9]{0,40})?", fullmatch=True)
    each(near.mixed(numbers, numbers, st.text(max_size=30)), check, 0.08, ["1", "0.5", "12.000001"], odd=odd)


def test_lobster_lines() -> None:
    good = b"34200.017459617,5,0,1,2238200,-1"
    each(near.near(good), lambda line: read(parse_message, line) is not None, 0.015, [good])


def test_lobster_files(tmp_path: Path) -> None:
    path = tmp_path / "messages.csv"
    plain = b"".join(b"342%02d.5,%d,5,100,2238200,-1\n" % (k, kind) for k, kind in enumerate((1, 4, 1, 3)))

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        return bool(read(lambda: list(read_messages(path))))

    seeds = [plain, gzip.compress(plain, mtime=0)]
    each(near.near(*seeds), check, 0.015, seeds, near.EXAMPLES // 2)


def test_tokens_of_a_command() -> None:
    def check(text: str) -> bool:
        found = read(parse_token, text)
        assert found is None or (len(found[0]) == 42 and (found[1] is None or 1 <= found[1] < 10**40))
        return found is not None

    seeds = [CONTRACT, f"{CONTRACT}:1", f"{Web3.to_checksum_address(CONTRACT)}:1000000000"]
    drawn = near.near(*map(str.encode, seeds)).map(lambda raw: raw.decode("utf-8", errors="replace"))
    each(drawn, check, 0.01, seeds, odd=[f"{CONTRACT}:{value}" for value in (*near.ODD, "٣", "0", "+1")])


def test_deployments_of_a_command(tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        found = read(read_deployment, path)
        assert found is None or (type(found[0]) is str and 0 <= found[1] < 2**64)
        return found is not None

    good = {"contract": CONTRACT, "chain_id": 1, "block": 5}
    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))


def test_wallets(tmp_path: Path) -> None:
    def check(raw: bytes) -> bool:
        (tmp_path / WALLET_FILE).write_bytes(raw)
        found = read(load_wallet, tmp_path)
        if found is not None:
            save_wallet(tmp_path, found)
            assert load_wallet(tmp_path) == found
        return found is not None

    good: dict[str, Any] = {
        "rpc": "http://node",
        "api": "http://operator",
        "contract": CONTRACT,
        "chain_id": 1,
        "first_block": 5,
    }
    good |= {"key_file": "key", "accounts": [1, 2], "key_numbers": {"1": 2}}
    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))


# --- L1 keys


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROOFBOOK_PASSWORD", "secret")


KEYSTORE = Wallet.encrypt(bytes.fromhex(KEY[2:]), "secret", kdf="scrypt", iterations=2)
OTHERS = [Wallet.encrypt(bytes.fromhex(KEY[2:]), "secret", kdf="pbkdf2", iterations=3)]


def cost_of(**numbers: Any) -> bytes:
    crypto = KEYSTORE["crypto"] | {"kdfparams": KEYSTORE["crypto"]["kdfparams"] | numbers}
    return json.dumps(KEYSTORE | {"crypto": crypto}).encode()


@pytest.mark.usefixtures("password")
def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        found = read(load_key, path)
        return found is not None

    seeds = [KEY.encode(), b"11" * 32, *map(near.as_json, (KEYSTORE, *OTHERS))]
    odd = list(near.oddities(KEYSTORE, *OTHERS))
    files = near.mixed(near.near(KEY.encode()), near.documents(KEYSTORE, *OTHERS))
    each(files, check, 0.015, seeds, near.EXAMPLES // 2, odd if near.LONG else odd[::3])


@pytest.mark.parametrize(
    "numbers",
    [
        {"n": 2**20, "r": 8},
        {"n": 2**30, "r": 1},
        {"n": 2, "r": 2**30},
        {"n": 2, "p": 2**30},
        {"n": 2**18, "r": 8, "p": 4},
        {"dklen": 2**31},
        {"n": 2**4000},
        {"n": -2},
        {"n": 0},
        {"n": 2.0},
        {"n": True},
        {"n": "2"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("password")
def test_a_keystore_that_costs_too_much_is_refused_at_once(tmp_path: Path, numbers: dict[str, Any]) -> None:
    (tmp_path / "key").write_bytes(cost_of(**numbers))
    assert read(load_key, tmp_path / "key") is None


@pytest.mark.usefixtures("password")
def test_the_dearest_keystores_in_use_are_not_refused_for_it(tmp_path: Path) -> None:
    from proofbook.escape.keyfile import _check_cost

    for numbers in ({"n": 2**18, "r": 8, "p": 1}, {"n": 2**18, "r": 1, "p": 8}, {"n": 4096, "r": 8, "p": 6}):
        _check_cost(cost_of(**numbers).decode())


# --- what a watch and an escape kept

MEMORY = Memory(
    seen_at=1_700_000_000,
    code_hash="ab" * 32,
    keys_hash="cd" * 32,
    bad_proofs={3: "the proof does not hold"},
    proofs_from=1,
    own_keys={2: (2**253, 5)},
    balances={2: {1: 2**64 - 1, 2: 0}},
    exited=frozenset({4}),
)


def test_memories_of_a_watch(tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    told: list[str] = []

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        told.clear()
        found = read(load_memory, path, told.append)
        assert found is not None
        if not told:
            save_memory(path, found, told.append)
            assert load_memory(path, told.append) == found and not told
            assert f"for {1_800_000_000 - found.seen_at} s {found.bad_proofs}".encode()
        return not told

    save_memory(path, MEMORY, told.append)
    good = json.loads(path.read_bytes())
    assert load_memory(path, told.append) == MEMORY
    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))


TX = {"chainId": 1, "nonce": 3, "gas": 21_000, "to": Web3.to_checksum_address(CONTRACT), "value": 5, "data": b"\x01"}


def test_what_an_escape_has_sent(tmp_path: Path) -> None:
    raws = [
        bytes(SENDER.sign_transaction(TX | {"maxFeePerGas": fee, "maxPriorityFeePerGas": 2}).raw_transaction)
        for fee in (9, 12)
    ]
    first = Sent(tmp_path, CONTRACT, SENDER.address, print)
    for raw in raws:
        first.add(raw)
    (path,) = tmp_path.iterdir()
    good = json.loads(path.read_bytes())

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        found = read(Sent(tmp_path, CONTRACT, SENDER.address, print).get_all, 3, 1)
        # What another key has signed, or this one for something else, is never sent on.
        assert found is not None and set(found) <= set(raws)
        return bool(found)

    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))


def test_proofs_of_an_exit(tmp_path: Path) -> None:
    def check(raw: bytes) -> bool:
        try:
            told = json.loads(raw)
            parts = told["proof"], told["public"]
        except (ValueError, TypeError, KeyError, RecursionError):
            parts = raw, raw
        for name, part in zip(("proof", "public"), parts, strict=True):
            (tmp_path / f"{name}.json").write_bytes(part if isinstance(part, bytes) else near.as_json(part))
        found = read(_read_proof, tmp_path)
        if found is not None:
            assert len(found[0]) == 8 and all(type(word) is int and word >= 0 for word in (*found[0], *found[1]))
        return found is not None

    g1, g2 = ["1", "2", "1"], [["1", "2"], ["3", "4"], ["1", "0"]]
    good = {"proof": {"pi_a": g1, "pi_b": g2, "pi_c": g1}, "public": ["5", "6"]}
    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))


# --- a ledger that was kept: its digest fits, whatever stands in it


def make_ledger() -> Ledger:
    state = State(MINIMAL)
    state.put({1: Account(owner=5, pub_x=1, pub_y=2, positions=((1, 7), (2, 2**64 - 1)), orders={3: (3, 7)})})
    return Ledger(
        state,
        block=9,
        number=2,
        served=4,
        timestamp=5,
        batch_block=8,
        queued=6,
        block_hash="0x" + "11" * 32,
        requests={k: Queued(k, Request(2, 1, token=2, amount=5), 1, 99) for k in (4, 5)},
        exits={1: Exit(5, 1, (7, 0, 0, 0, 0))},
        reclaimed={1},
    )


class Place:
    """As much of an exchange as tells whose a checkpoint is."""

    chain_id, address, preset = 1, CONTRACT, MINIMAL


def test_checkpoints(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, 1, CONTRACT, every=0)
    exchange: Any = Place()
    kept.folder.mkdir(parents=True)
    kept._write(make_ledger())
    (path,) = kept.folder.iterdir()
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]

    def check(drawn: tuple[int, bytes]) -> bool:
        at, raw = drawn
        lines = [near.as_json(row) for row in rows[:-1]]
        lines[at % len(lines)] = raw.replace(b"\n", b" ")
        body = b"".join(line + b"\n" for line in lines)
        path.write_bytes(body + near.as_json(["end", hashlib.sha256(body).hexdigest()]) + b"\n")
        found = read(kept._read, path, exchange)
        if found is not None:
            assert list(found.requests) == list(range(found.served, found.queued))
            assert found.state.root >= 0
            if found.block < 2**64:  # it becomes a file's name; the chain's own is none above
                kept._write(replace(found))
        return found is not None

    places = st.integers(0, len(rows) - 2)
    drawn = places.flatmap(lambda at: near.documents(rows[at]).map(lambda raw: (at, raw)))
    odd = [(at, raw) for at, row in enumerate(rows[:-1]) for raw in near.oddities(row)]
    odd += [(0, near.as_json([*rows[0][:-1], 10**12])), (0, near.as_json([*rows[0][:-1], 10**4000]))]
    seeds = [(at, near.as_json(row)) for at, row in enumerate(rows[:-1])]
    each(drawn, check, 0.04, seeds, odd=odd if near.LONG else odd[::4] + odd[-2:])


# --- an operator's answers

INFO: dict[str, Any] = {
    "chain_id": 1,
    "contract": CONTRACT,
    "domain": str(domain_of(1, CONTRACT)),
    "preset": "minimal",
    "time": 1_700_000_000,
    "fee_account": 0,
    "margin_seconds": 60,
    "slots": 16,
    "batches": 3,
    "tokens": [{"id": 2, "symbol": "COIN", "erc20": CONTRACT, "quantum": "1000", "decimals": 18}],
    "markets": [
        {"symbol": "COIN/ETH", "base": 2, "quote": 1, "lot": "10", "maker_fee_bps": 1, "taker_fee_bps": 2}
        | {"max_lots": "9", "max_price": "9"}
    ],
}
REFUSAL = {"error": {"code": "busy", "message": "too much waits", "hint": "wait", "data": {"limit": "5"}}}


def test_answers_of_an_operator(tmp_path: Path) -> None:
    answer, status = b"", 200
    carrier = httpx.MockTransport(lambda _: httpx.Response(status, stream=httpx.ByteStream(answer)))
    api = ApiClient("http://operator", transport=carrier)

    def check(drawn: tuple[bytes, int]) -> bool:
        nonlocal answer, status
        answer, status = drawn
        told = read(api.call, "GET", "/v1/health")
        info = read(api.info)
        for ask in (api.trades, api.accounts_of):
            rows = read(ask, "x")
            assert rows is None or all(isinstance(row, dict) for row in rows)
        read(api.batches)
        read(api.download_exit, "zkey", tmp_path / "file")
        assert info is None or info.domain == domain_of(info.chain_id, info.contract)
        return told is not None

    bodies = near.documents(INFO, INFO, REFUSAL, {"trades": [{"seq": "1"}]})
    codes = st.sampled_from([200, 200, 200, 201, 400, 503, 302, 204])
    odd = [(raw, 200) for raw in near.oddities(INFO)] + [(raw, 400) for raw in near.oddities(REFUSAL)]
    each(st.tuples(bodies, codes), check, 0.06, [(near.as_json(INFO), 200)], odd=odd if near.LONG else odd[::3])
    answer, status = near.as_json(INFO), 200
    assert api.info().token("COIN").quantum == 1000


def test_values_of_an_answer() -> None:
    def check(raw: bytes) -> bool:
        try:
            told = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if not isinstance(told, dict):
            return False
        number = read(answers.get_number, told, "number")
        assert number is None or (type(number) is int and 0 <= number < 2**64)
        rows, text = read(answers.get_rows, told, "rows"), read(answers.get_text, told, "text")
        flag, inner = read(answers.get_flag, told, "flag"), read(answers.get_object, told, "object")
        assert flag in (None, True, False) and isinstance(inner, dict | None) and isinstance(text, str | None)
        return None not in (number, rows, text, flag, inner)

    good = {"number": str(2**64 - 1), "rows": [{"a": 1}], "text": "t", "flag": True, "object": {"a": 1}}
    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))
