"""The operator's files: settings, keys, the store of batches and requests."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from proofbook.operator.markets import Market
from proofbook.operator.settings import (
    Settings,
    SettingsError,
    TokenName,
    create_directory,
    load_api_token,
    load_operator_key,
    load_settings,
    parse_settings,
    render_settings,
)
from proofbook.operator.store import BatchRecord, BatchStore, RequestRecord, StoreError

ADDRESS = "0x" + "ab" * 20
KEY = bytes(range(1, 33))
SETTINGS = Settings(
    rpc_url="http://127.0.0.1:8545",
    contract=ADDRESS,
    preset="minimal",
    markets=[Market("COIN/ETH", 2, 1, 10, 5, 25, 10**9, 10**6), Market("GEM/ETH", 3, 1, 2**63, 0, 0, 1, 2**64 - 1)],
    tokens=[TokenName(2, "COIN"), TokenName(3, "GEM", 6)],
)


def test_settings_come_back_as_they_were_written():
    assert parse_settings(render_settings(SETTINGS)) == SETTINGS
    assert (SETTINGS.get_symbol(1), SETTINGS.get_symbol(2), SETTINGS.get_symbol(9)) == ("ETH", "COIN", "#9")
    assert (SETTINGS.get_decimals(1), SETTINGS.get_decimals(3)) == (18, 6)


def test_one_batch_more_than_workers_is_on_its_way_unless_another_depth_is_set():
    assert [replace(SETTINGS, prover_workers=workers).get_depth() for workers in (1, 2, 16)] == [2, 3, 17]
    assert replace(SETTINGS, prover_workers=4, pipeline_depth=1).get_depth() == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('rpc_url = "http', 'rpc_url = "ftp'),
        ("port = 8080", "port = 65536"),
        ("port = 8080", "port = -1"),
        ("port = 8080", "prot = 8080"),
        ("port = 8080", 'port = "8080"'),
        ("poll_s = 2.0", "poll_s = 0"),
        ("poll_s = 2.0", "poll_s = nan"),
        ("confirmations = 12", "confirmations = 1.5"),
        ('clock = "wall"', 'clock = "mine"'),
        ('preset = "minimal"', 'preset = "tiny"'),
        ('backend = "auto"', 'backend = "magic"'),
        ("ab" * 20, "ab" * 19),
        ("ab" * 20, "00" * 20),
        ("id = 3", "id = 2"),
        ("id = 3", "id = 65536"),
        ('symbol = "GEM"', 'symbol = "COIN"'),
        ('symbol = "GEM"', 'symbol = ""'),
        ('symbol = "GEM/ETH"', 'symbol = "COIN/ETH"'),
        ("lot = 10", "lot = 0"),
        ("lot = 10", "lot = 10.0"),
        ("taker_fee_bps = 25", "taker_fee_bps = 10001"),
        ("min_actions = 12", "min_actions = 0"),
        ("prover_workers = 1", "prover_workers = 0"),
        ("prover_workers = 1", "prover_workers = 17"),
        ("prover_threads = 0", "prover_threads = -1"),
        ("prove_timeout_s = 1800.0", "prove_timeout_s = 0.5"),
        ("pipeline_depth = 0", "pipeline_depth = 65"),
        ("port = 8080", "port = "),
    ],
)
def test_settings_out_of_range_are_refused(old, new):
    text = render_settings(SETTINGS)
    assert old in text
    with pytest.raises(SettingsError) as caught:
        parse_settings(text.replace(old, new, 1))
    assert caught.value.code == "settings"


def test_settings_that_are_too_long_are_refused():
    with pytest.raises(SettingsError):
        parse_settings(render_settings(SETTINGS) + "#" * (1 << 20))


def test_a_directory_is_made_once_and_read_back(tmp_path):
    directory = tmp_path / "operator"
    create_directory(directory, SETTINGS, KEY)
    assert load_settings(directory) == SETTINGS and load_operator_key(directory) == KEY
    assert (directory / "operator.key").stat().st_mode & 0o077 == 0
    with pytest.raises(SettingsError, match="exists"):
        create_directory(directory, SETTINGS, KEY)


def test_the_contract_may_stand_in_the_deployment(tmp_path):
    create_directory(tmp_path, replace(SETTINGS, contract=""), KEY)
    for text in (None, "{", "[]", "{}", '{"contract": 5}', '{"contract": "0x12"}'):
        if text is not None:
            (tmp_path / "deployment.json").write_text(text)
        with pytest.raises(SettingsError):
            load_settings(tmp_path)
    (tmp_path / "deployment.json").write_text(json.dumps({"contract": ADDRESS, "tokens": {}}))
    assert load_settings(tmp_path).contract == ADDRESS


SECP256K1_ORDER = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"


@pytest.mark.parametrize(
    "text", ["", "0x12", "0x" + "g" * 64, "0x" + "1" * 65, "1" * 300, "0" * 64, f"0x{SECP256K1_ORDER}"]
)
def test_a_broken_key_is_refused_without_being_told(tmp_path, text):
    create_directory(tmp_path, SETTINGS, KEY)
    (tmp_path / "operator.key").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_operator_key(tmp_path)
    assert not text or text not in str(caught.value)


def test_a_missing_or_public_key_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="put the operator's L1 key there"):
        load_operator_key(tmp_path)
    create_directory(tmp_path, SETTINGS, KEY)
    (tmp_path / "operator.key").chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_operator_key(tmp_path)


def test_the_api_token_is_optional_and_not_too_short(tmp_path):
    assert load_api_token(tmp_path) == ""
    (tmp_path / "api.token").write_text("short")
    with pytest.raises(SettingsError):
        load_api_token(tmp_path)
    (tmp_path / "api.token").write_text("0123456789abcdef\n")
    assert load_api_token(tmp_path) == "0123456789abcdef"


# --- the store

BATCH = BatchRecord(
    number=1, size_id=0, timestamp=5, state="built", words=f"{7:064x}{8:064x}", orders=1, trades=2, accounts=3
)
REQUEST = RequestRecord(
    number=0,
    kind=2,
    account=4,
    token=1,
    amount=2**64 - 1,
    owner="ab" * 20,
    pub_x="0",
    pub_y="0",
    fee=2**64 - 1,
    deadline=2**64 - 1,
    block=5,
    block_hash="0x12",
)


@pytest.fixture
def store(tmp_path):
    made = BatchStore(tmp_path / "batches.sqlite", "1:0xab")
    yield made
    made.close()


def test_batches_are_kept(store, tmp_path):
    assert store.get_batch(1) is None and store.list_batches(5) == []
    store.put_batch(BATCH)
    done = replace(BATCH, state="confirmed", proof=["f" * 64] * 8, prove_s=1.5)
    store.put_batch(done)
    store.put_batch(replace(BATCH, number=2))
    store.close()
    again = BatchStore(tmp_path / "batches.sqlite", "1:0xab")
    assert again.get_batch(1) == done and done.get_words() == [7, 8]
    assert [r.number for r in again.list_batches(5)] == [2, 1]
    assert [r.number for r in again.list_batches(5, newest_first=False, above=1)] == [2]
    assert [r.number for r in again.list_batches(1)] == [2]
    again.delete_batches(2)
    assert again.get_batch(2) is None
    with pytest.raises(StoreError):
        again.delete_batches(1)
    again.close()


def test_requests_are_kept_and_forgotten(store):
    assert store.count_requests() == 0
    many = [replace(REQUEST, number=n, account=n % 2) for n in range(6)]
    store.put_requests(many)
    assert store.list_requests(2, 3) == many[2:5] and store.count_requests() == 6
    assert [r.number for r in store.list_requests_of(1, 2, 9)] == [3, 5]
    store.put_requests([replace(many[5], amount=1)])
    store.delete_requests(5)
    assert store.count_requests() == 5
    store.put_requests([])


def test_a_store_of_another_exchange_is_refused(store, tmp_path):
    with pytest.raises(StoreError, match="identity"):
        BatchStore(tmp_path / "batches.sqlite", "1:0xcd")


def test_a_damaged_store_is_refused(store, tmp_path):
    store.put_batch(BATCH)
    store._db.execute("UPDATE batches SET body = ? WHERE number = 1", (b'{"number": 1}',))
    with pytest.raises(StoreError, match="damaged"):
        store.get_batch(1)
    (tmp_path / "other.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 50)
    with pytest.raises(StoreError):
        BatchStore(tmp_path / "other.sqlite", "1:0xab")
