"""What the operator reads of its own: journal, store, snapshots, settings, keys, and what its provers answer.

Files are damaged, moved between versions and edited by people; whatever stands in them is read, or refused by name.
"""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from proofbook.operator import events as ev
from proofbook.operator.batches import queued
from proofbook.operator.commands import (
    AddMarket,
    BatchConfirmed,
    BatchDropped,
    Cancel,
    Command,
    Freeze,
    HardCancel,
    PlaceOrder,
    RequestConfirmed,
    RequestSeen,
    RequestUnseen,
    SealBatch,
    Tick,
    Transfer,
    Withdraw,
    decode_command,
    encode_command,
)
from proofbook.operator.events import decode_event, encode_event
from proofbook.operator.journal import Journal
from proofbook.operator.markets import Market, load_markets, parse_markets
from proofbook.operator.settings import (
    DEPLOYMENT,
    KEY,
    TOKEN,
    Settings,
    TokenName,
    load_api_token,
    load_operator_key,
    load_settings,
    parse_settings,
    render_settings,
)
from proofbook.operator.snapshots import Snapshots
from proofbook.operator.store import BatchRecord, BatchStore, RequestRecord
from proofbook.operator.workers import Job, Worker, _check
from proofbook.protocol import messages
from proofbook.protocol.babyjub import Point
from proofbook.protocol.eddsa import Signature
from proofbook.protocol.field import R
from proofbook.protocol.messages import SignedAction
from proofbook.protocol.state import Account, State
from proofbook.protocol.table import MINIMAL, Side
from proofbook.protocol.words import Request


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
MARKET = Market("COIN/ETH", 2, 1, 10, 10, 25, 10**9, 10**6)


# --- the journal


def signed(action: messages.Action) -> SignedAction:
    return SignedAction(action, Signature(Point(R - 1, 2), 3))


def make_commands() -> list[Command]:
    """Return one of every kind, numbers at their ends."""
    head: dict[str, Any] = {"domain": 2**248 - 1, "account": 3, "id": 2**64 - 1, "valid_until": 2**32 - 1}
    amounts = {"base_amount": 30, "quote_amount": 2**64 - 1, "max_fee_bps": 25, "flags": 1}
    order = messages.order(**head, base=2, quote=1, side=Side.BUY, **amounts)
    return [
        PlaceOrder(signed(order)),
        Cancel(signed(messages.cancel(**head))),
        HardCancel(signed(messages.cancel(**head))),
        Withdraw(signed(messages.withdraw(**head, token=2, amount=2**64 - 1))),
        Transfer(signed(messages.transfer(**head, token=2, amount=5, receiver=4))),
        RequestSeen(7, Request(1, 5, owner=2**160 - 1, pub_x=R - 1, pub_y=1)),
        RequestConfirmed(7),
        RequestUnseen(7),
        AddMarket(MARKET),
        Tick(1_700_000_000),
        SealBatch(1, 1_700_000_000),
        BatchConfirmed(1),
        BatchDropped(1, 1_700_000_000),
        Freeze(),
    ]


COMMANDS = make_commands()


def bodies_of(encoded: list[bytes]) -> Any:
    return near.mixed(near.documents(*map(json.loads, encoded)), near.near(*encoded))


def test_commands() -> None:
    assert {type(command) for command in COMMANDS} == set(typing.get_args(Command))

    def check(raw: bytes) -> bool:
        found = read(decode_command, raw)
        assert found is None or decode_command(encode_command(found)) == found
        return found is not None

    encoded = [encode_command(command) for command in COMMANDS]
    each(bodies_of(encoded), check, 0.06, encoded, odd=near.oddities(*map(json.loads, encoded[::4])))


def make_events() -> list[ev.Event]:
    """Return one of every kind."""
    made = []
    for kind in typing.get_args(ev.Event):
        hints = {name: hint for name, hint in typing.get_type_hints(kind).items() if name in kind.__struct_fields__}
        made.append(kind(**{name: 2**64 - 1 if hint is int else "text" for name, hint in hints.items()}))
    return made


def test_events() -> None:
    def check(raw: bytes) -> bool:
        found = read(decode_event, raw, named=(msgspec.MsgspecError,))
        assert found is None or decode_event(encode_event(found)) == found
        return found is not None

    encoded = [encode_event(event) for event in make_events()]
    assert len(encoded) == 16
    each(bodies_of(encoded), check, 0.06, encoded, odd=near.oddities(json.loads(encoded[0])))


@pytest.mark.parametrize("text", near.DEEP, ids=lambda text: text[:12])
def test_deep_and_long_texts(text: str) -> None:
    assert read(decode_command, text.encode()) is None
    assert read(decode_event, text.encode(), named=(msgspec.MsgspecError,)) is None
    assert read(parse_settings, text) is None
    assert read(parse_markets, text, "toml") is None
    assert read(parse_markets, text, "json") is None


def closed(path: Path) -> bytes:
    """Return a database as one file."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path.read_bytes()


def fresh(path: Path, raw: bytes) -> None:
    """Write a database anew, with nothing left of the one before."""
    for name in (f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        path.with_name(name).unlink(missing_ok=True)
    path.write_bytes(raw)


def test_journals(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal(path, "id") as journal:
        journal.append([Tick(k) for k in range(1, 40)])
        journal.add_checkpoint("state")
    whole = closed(path)

    def replayed() -> list[Any]:
        with Journal(path, "id") as journal:
            journal.get_checkpoints()
            return list(journal.replay())

    def check(raw: bytes) -> bool:
        fresh(path, raw)
        found = read(replayed)
        # What is replayed is what was written, perhaps less of it at the end; never anything else.
        assert found is None or all(seq == k and command.now == k for k, (seq, command) in enumerate(found, 1))
        return bool(found)

    each(near.overwritten(whole), check, 0.04, [whole], near.EXAMPLES // 4)


# --- the store and the snapshots

BATCH = BatchRecord(
    number=1, size_id=0, timestamp=5, state="submitted", words="0f" * 64, orders=1, trades=1, accounts=2, c="0a" * 32
)
REQUEST = RequestRecord(
    number=0, kind=2, account=1, token=2, amount=5, owner="0" * 40, pub_x="1f", pub_y="2", fee=1, deadline=9, block=3,
    block_hash="0x" + "11" * 32,
)  # fmt: skip


def test_stores(tmp_path: Path) -> None:
    path = tmp_path / "batches.sqlite"
    store = BatchStore(path, "id")
    for k in range(1, 30):
        store.put_batch(msgspec.structs.replace(BATCH, number=k))
        store.put_requests([msgspec.structs.replace(REQUEST, number=k)])
    store.close()
    whole = closed(path)

    def everything() -> list[Any]:
        store = BatchStore(path, "id")
        try:
            batches = store.list_batches(100) + [record for k in range(40) if (record := store.get_batch(k))]
            requests = store.list_requests(0, 100) + store.list_requests_of(1, 0, 100)
            store.count_requests()
            return [record.get_words() for record in batches] + [queued(record) for record in requests]
        finally:
            store.close()

    def check(raw: bytes) -> bool:
        fresh(path, raw)
        return bool(read(everything))

    each(near.overwritten(whole), check, 0.04, [whole], near.EXAMPLES // 4)


def test_records_of_a_store(tmp_path: Path) -> None:
    path = tmp_path / "batches.sqlite"
    store = BatchStore(path, "id")
    store.put_batch(BATCH)
    store.put_requests([REQUEST])

    def put(table: str, body: Any) -> None:
        with sqlite3.connect(path) as db:
            db.execute(f"UPDATE {table} SET body = ?", (body,))
        db.close()

    def check(drawn: tuple[bool, Any]) -> bool:
        of_batch, body = drawn
        put("batches" if of_batch else "requests", body)
        if of_batch:
            batch = read(store.get_batch, 1)
            assert batch is None or all(0 <= word < 2**256 for word in batch.get_words())
            return batch is not None
        found = read(store.list_requests, 0, 5)
        assert found is None or all(queued(record).request.owner >= 0 for record in found)
        return bool(found)

    good = msgspec.to_builtins(BATCH), msgspec.to_builtins(REQUEST)
    bodies = near.mixed(
        near.documents(*good),
        near.documents(*good),
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=9),
        st.floats(allow_nan=False),
    )
    seeds = [(k == 0, near.as_json(one)) for k, one in enumerate(good)]
    odd = [(k == 0, raw) for k, one in enumerate(good) for raw in near.oddities(one)]
    each(st.tuples(st.booleans(), bodies), check, 0.015, seeds, odd=odd if near.LONG else odd[::3])
    store.close()


def test_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "state.snapshot"
    state = State(MINIMAL)
    state.put(
        {
            0: Account(owner=2**160 - 1, pub_x=R - 1, pub_y=1, positions=((1, 2**64 - 1),), orders={3: (3, 7)}),
            7: Account(owner=5, pub_x=0, pub_y=R - 2, positions=((1, 1), (2**16 - 1, 9)), orders={}),
        }
    )
    Snapshots(path, every=1).offer(4, state)
    good = json.loads(path.read_bytes())

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        found = read(Snapshots(path).load, MINIMAL)
        if found is not None:
            Snapshots(path, every=-(2**300)).offer(*found)
            again = Snapshots(path).load(MINIMAL)
            assert again is not None and (again[0], again[1].root) == (found[0], found[1].root)
        return found is not None

    each(near.documents(good), check, 0.04, [near.as_json(good)], near.EXAMPLES // 2, near.oddities(good))


# --- what people write

SETTINGS = Settings(
    rpc_url="http://127.0.0.1:8545",
    contract=CONTRACT,
    preset="minimal",
    markets=[MARKET],
    tokens=[TokenName(2, "COIN")],
)


def test_settings() -> None:
    def check(text: str) -> bool:
        found = read(parse_settings, text)
        assert found is None or parse_settings(render_settings(found)) == found
        return found is not None

    good = render_settings(SETTINGS)
    each(near.texts(good), check, 0.015, [good])


def test_markets(tmp_path: Path) -> None:
    path = tmp_path / "markets.json"

    def check(drawn: tuple[str, str]) -> bool:
        kind, text = drawn
        found = read(parse_markets, text, kind)
        if kind == "json":
            path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
            again = read(load_markets, path)
            assert (again is None) == (found is None)
        if found is not None:
            body = msgspec.json.encode({"markets": list(found.all)}).decode()
            assert parse_markets(body, "json").all == found.all
        return found is not None

    document = msgspec.to_builtins(MARKET)
    toml = "[[markets]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in document.items())
    as_json = near.documents({"markets": [document]}).map(lambda raw: raw.decode("utf-8", errors="surrogateescape"))
    written = near.mixed(as_json.map(lambda text: ("json", text)), near.texts(toml).map(lambda text: ("toml", text)))
    odd = [("json", raw.decode("utf-8", "surrogateescape")) for raw in near.oddities({"markets": [document]})]
    each(written, check, 0.04, [("toml", toml), ("json", json.dumps({"markets": [document]}))], odd=odd)


def test_deployments_of_an_operator(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(render_settings(msgspec.structs.replace(SETTINGS, contract="")))

    def check(raw: bytes) -> bool:
        (tmp_path / DEPLOYMENT).write_bytes(raw)
        found = read(load_settings, tmp_path)
        assert found is None or messages.parse_address(found.contract)
        return found is not None

    good = {"contract": CONTRACT, "tokens": {"ETH": "0x" + "00" * 20}, "chain_id": 1, "block": 5, "preset": "minimal"}
    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))


def test_secrets_of_an_operator(tmp_path: Path) -> None:
    for name in (KEY, TOKEN):
        (tmp_path / name).touch(mode=0o600)

    def check(raw: bytes) -> bool:
        (tmp_path / KEY).write_bytes(raw)
        (tmp_path / TOKEN).write_bytes(raw)
        key, token = read(load_operator_key, tmp_path), read(load_api_token, tmp_path)
        assert key is None or (len(key) == 32 and key.hex() in raw.decode().lower())
        assert not token or f"Bearer {token}".encode("ascii")
        return key is not None

    seeds = [b"0x" + b"ab" * 32, b"\n" + b"01" * 32 + b" \n"]
    each(near.near(*seeds), check, 0.01, seeds)


# --- what a prover's process says


def test_answers_of_a_worker(tmp_path: Path) -> None:
    path = tmp_path / "answer"
    job = Job(1, tmp_path, {}, (5, R - 1), tmp_path / "out")

    def ask(stage: str) -> Any:
        # `cat` is a program that answers what is in the file.
        worker = Worker(("cat", str(path)), 1)
        worker._id = 1
        try:
            answer = worker.receive(stage)
            return answer if stage == "witnessed" else _check(answer, job)
        finally:
            worker.discard()

    def check(drawn: tuple[str, bytes]) -> bool:
        stage, raw = drawn
        path.write_bytes(raw)
        found = read(ask, stage)
        if found is not None and stage == "witnessed":
            assert 0 <= found.seconds < float("inf")
        elif found is not None:
            assert len(found) == 8
        return found is not None

    witnessed = {"id": 1, "stage": "witnessed", "seconds": 0.5}
    proven = {"id": 1, "stage": "proven", "seconds": 0.5, "public": ["5", str(R - 1)], "proof": ["7"] * 8}
    pairs = near.mixed(
        near.documents(witnessed).map(lambda raw: ("witnessed", raw)),
        near.documents(proven).map(lambda raw: ("proven", raw)),
    )
    seeds = [("witnessed", near.as_json(witnessed)), ("proven", near.as_json(proven))]
    odd = [("witnessed", raw) for raw in near.oddities(witnessed)] + [("proven", raw) for raw in near.oddities(proven)]
    each(pairs, check, 0.04, seeds, near.EXAMPLES // 2, odd if near.LONG else odd[::3])
