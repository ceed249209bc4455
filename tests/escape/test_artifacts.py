"""The stored exit artifacts, the key file, and the interface that is sent to."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import pytest
from eth_account import Account

from proofbook.chain.compile import contract_artifact
from proofbook.escape.artifacts import WASM, ZKEY, check_exit_artifacts, save_exit_artifacts
from proofbook.escape.errors import ArtifactsMismatch, ArtifactsMissing, KeyRefused
from proofbook.escape.interface import escape_abi
from proofbook.escape.keyfile import load_key

KEY = "0x" + "5e" * 32


@pytest.fixture
def made(tmp_path):
    """A set-up's folder, and a contract that holds its hashes."""
    source = tmp_path / "made"
    source.mkdir()
    (source / "circuit.zkey").write_bytes(b"zkey")
    (source / "circuit.wasm").write_bytes(b"wasm")
    digests = [hashlib.sha256(text).digest() for text in (b"zkey", b"wasm")]
    return source, SimpleNamespace(exit_zkey_hash=digests[0], exit_wasm_hash=digests[1])


def test_m25_stored_artifacts_must_be_the_contracts(made, tmp_path):
    source, contract = made
    stored = tmp_path / "stored"
    with pytest.raises(ArtifactsMissing):
        check_exit_artifacts(stored, contract)
    save_exit_artifacts(source, stored)
    found = check_exit_artifacts(stored, contract)
    assert (found.zkey.read_bytes(), found.wasm.read_bytes()) == (b"zkey", b"wasm")
    for name in (ZKEY, WASM):
        intact = (stored / name).read_bytes()
        (stored / name).write_bytes(intact + b"!")
        with pytest.raises(ArtifactsMismatch):
            check_exit_artifacts(stored, contract)
        (stored / name).unlink()
        with pytest.raises(ArtifactsMissing):
            check_exit_artifacts(stored, contract)
        (stored / name).write_bytes(intact)


def test_m25_any_copy_will_do(made, tmp_path):
    source, contract = made
    first = save_exit_artifacts(source, tmp_path / "first")
    save_exit_artifacts(first.zkey.parent, tmp_path / "second")
    check_exit_artifacts(tmp_path / "second", contract)


def test_half_a_set_of_artifacts_is_refused(made, tmp_path):
    source, _ = made
    (source / "circuit.wasm").unlink()
    with pytest.raises(ArtifactsMissing):
        save_exit_artifacts(source, tmp_path / "stored")
    assert not (tmp_path / "stored").exists()


@pytest.mark.parametrize("text", ["5e" * 32, KEY, KEY + "\n"])
def test_a_key_file_of_hex_digits(text, tmp_path):
    (tmp_path / "key").write_text(text)
    account = load_key(tmp_path / "key")
    assert account is not None and account.address == Account.from_key(KEY).address


def test_a_keystore(tmp_path, monkeypatch):
    sealed = Account.encrypt(bytes.fromhex(KEY[2:]), "secret", kdf="pbkdf2", iterations=1000)
    (tmp_path / "key").write_text(json.dumps(sealed))
    monkeypatch.setenv("PROOFBOOK_PASSWORD", "secret")
    account = load_key(tmp_path / "key")
    assert account is not None and account.address == Account.from_key(KEY).address
    monkeypatch.setenv("PROOFBOOK_PASSWORD", "guess")
    with pytest.raises(KeyRefused):
        load_key(tmp_path / "key")


@pytest.mark.parametrize("text", ["", "5e" * 31, "0" * 64, "f" * 64, "{", "words"])
def test_a_bad_key_is_refused_and_not_repeated(text, tmp_path, monkeypatch):
    monkeypatch.setenv("PROOFBOOK_PASSWORD", "secret")
    (tmp_path / "key").write_text(text)
    with pytest.raises(KeyRefused) as caught:
        load_key(tmp_path / "key")
    assert len(text) < 60 or text not in str(caught.value)


def test_the_key_out_of_the_environment(monkeypatch):
    monkeypatch.setenv("PROOFBOOK_KEY", KEY)
    account = load_key(None)
    assert account is not None and account.address == Account.from_key(KEY).address
    monkeypatch.delenv("PROOFBOOK_KEY")
    assert load_key(None) is None


def _shape(entry):
    return [(i["name"], i["type"], [(c["name"], c["type"]) for c in i.get("components", ())]) for i in entry["inputs"]]


def test_the_interface_written_out_is_the_contracts():
    compiled = {(e["type"], e.get("name")): e for e in contract_artifact("Proofbook").abi}
    for entry in escape_abi():
        theirs = compiled[entry["type"], entry["name"]]
        assert _shape(entry) == _shape(theirs), entry["name"]
        assert entry.get("stateMutability") == theirs.get("stateMutability")
