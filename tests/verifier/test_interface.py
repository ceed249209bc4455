"""What the verifier has of its own must be what the contract, its compiler and its keys have."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from eth_utils.abi import event_abi_to_log_topic

from proofbook.chain import compile as chain_compile
from proofbook.verifier import code
from proofbook.verifier.abi import COMMIT, EVENTS, decode_commit, selector, topic
from proofbook.verifier.code import SETTINGS, own_build
from proofbook.verifier.errors import RpcMalformed, RpcUnavailable
from proofbook.verifier.rpc import Rpc, data, quantity


def test_events_are_the_contracts():
    abi = chain_compile.contract_artifact("Proofbook").abi
    compiled: dict[str, Any] = {e["name"]: e for e in abi if e["type"] == "event"}
    for name, parameters in EVENTS.items():
        assert topic(name) == "0x" + bytes(event_abi_to_log_topic(compiled[name])).hex()
        assert [(i["type"], i["indexed"]) for i in compiled[name]["inputs"]] == list(parameters)


def test_the_own_build_is_what_is_deployed():
    assert {k: v for k, v in chain_compile.SETTINGS.items() if k != "outputSelection"} == SETTINGS
    built, deployed = own_build(), chain_compile.contract_artifact("Proofbook")
    assert built.code == deployed.deployed_bytecode and built.immutables == deployed.immutable_references
    filled = bytearray(built.code)
    start, length = built.immutables[0]
    filled[start : start + length] = b"\x77" * length
    assert built.matches(bytes(filled)) and not built.matches(bytes(filled[:-1]))
    filled[start - 1] ^= 1
    assert not built.matches(bytes(filled))


@pytest.mark.parametrize("trouble", ["no folder", "full disk"])
def test_a_build_that_can_not_be_kept_is_one_all_the_same(tmp_path, monkeypatch, trouble):
    """A checkout for reading only ends no check, and a full disk is left as it was."""
    built, root = own_build(), code.repository_root()
    for name in ("contracts", "node_modules", "package.json"):
        (tmp_path / name).symlink_to(root / name)
    references = {"7": [{"start": start, "length": length} for start, length in built.immutables]}
    made = {"evm": {"deployedBytecode": {"object": built.code.hex(), "immutableReferences": references}}}
    output = {"contracts": {"src/Proofbook.sol": {"Proofbook": made}}}
    monkeypatch.setattr(code, "_run_solc", lambda root, request: output)
    if trouble == "no folder":
        (tmp_path / "build").write_bytes(b"")
    else:
        (tmp_path / "build" / "verifier").mkdir(parents=True)
        monkeypatch.setattr(os, "replace", lambda source, target: os.stat("/dev/full/none"))
    assert own_build(tmp_path) == built
    assert not list(tmp_path.glob("build/verifier/*"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(32 * 14),
        # offsets beyond the calldata, a count that would need more than there is, numbers too large for their types
        (0).to_bytes(32, "big") * 3 + (2**255).to_bytes(32, "big") * 3 + bytes(32 * 9),
        (0).to_bytes(32, "big") * 3 + (32 * 15).to_bytes(32, "big") * 3 + bytes(32 * 9) + (2**64).to_bytes(32, "big"),
        (2**16).to_bytes(32, "big") + bytes(32 * 2) + (32 * 15).to_bytes(32, "big") * 3 + bytes(32 * 10),
    ],
)
def test_malformed_commits_are_refused(body):
    with pytest.raises(RpcMalformed):
        decode_commit(selector(COMMIT) + body)


def test_a_commit_without_rows_is_read():
    body = bytes(32 * 3) + (32 * 15).to_bytes(32, "big") * 3 + bytes(32 * 10)
    commit = decode_commit(selector(COMMIT) + body)
    assert commit.requests == () and commit.actions == commit.fees == b"" and commit.proof == (0,) * 8


@pytest.mark.parametrize("value", [None, 1, "", "0x", "1", "0xzz", "0x" + "1" * 65])
def test_malformed_quantities_are_refused(value):
    with pytest.raises(RpcMalformed):
        quantity(value)


@pytest.mark.parametrize("value", [None, 1, "", "00", "0x0", "0xzz"])
def test_malformed_data_is_refused(value):
    with pytest.raises(RpcMalformed):
        data(value)


def test_only_http_addresses_are_taken():
    with pytest.raises(RpcUnavailable):
        Rpc("ftp://127.0.0.1")


@pytest.mark.parametrize(
    "module, never",
    [
        ("verifier", ["proofbook_native", "proofbook.operator", "proofbook.prover", "proofbook.chain", "web3"]),
        ("escape", ["proofbook_native", "proofbook.operator", "proofbook.prover"]),
    ],
)
def test_what_matters_when_the_operator_is_gone_stands_alone(module, never):
    program = f"import sys, proofbook.{module}.cli; print([m for m in {never} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
