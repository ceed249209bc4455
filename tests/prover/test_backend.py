"""Witness, proof and check on a real circuit with real keys."""

import dataclasses
import os

import proofbook_native
import pytest

from proofbook.prover.backend import (
    BASE_FIELD,
    Proof,
    SnarkjsBackend,
    available_backends,
    get_backend,
    verify_snarkjs,
)
from proofbook.prover.calculator import FIELD, WitnessWorker, calculate_witness
from proofbook.prover.errors import ProofError, ToolError, WitnessError


@pytest.fixture(scope="module")
def witness(tiny, inputs, tmp_path_factory):
    _, artifacts = tiny
    path = tmp_path_factory.mktemp("witness") / "tiny.wtns"
    assert calculate_witness(artifacts, inputs, path) > 9
    return path


@pytest.fixture(scope="module")
def proof(tiny, witness):
    return SnarkjsBackend().prove(tiny[1], witness)


def test_snarkjs_proves_what_the_circuit_computes(proof, public):
    assert proof.public == public


def test_snarkjs_accepts_the_proof_and_refuses_forgeries(tiny, proof):
    _, artifacts = tiny
    assert verify_snarkjs(artifacts, proof)
    c, a = proof.public
    assert not verify_snarkjs(artifacts, dataclasses.replace(proof, public=(c + 1, a)))
    assert not verify_snarkjs(artifacts, dataclasses.replace(proof, public=(c,)))
    assert not verify_snarkjs(artifacts, dataclasses.replace(proof, public=(c + FIELD, a)))
    assert not verify_snarkjs(artifacts, dataclasses.replace(proof, pi_a=proof.pi_c))
    off_curve = (proof.pi_a[0], (proof.pi_a[1] + 1) % BASE_FIELD)
    assert not verify_snarkjs(artifacts, dataclasses.replace(proof, pi_a=off_curve))


@pytest.mark.parametrize("name", available_backends())
def test_every_backend_makes_accepted_proofs(tiny, witness, public, name):
    _, artifacts = tiny
    backend = get_backend(name)
    assert backend.name == name
    made = backend.prove(artifacts, witness)
    assert made.public == public
    assert verify_snarkjs(artifacts, made)
    # Groth16 proofs are randomised; two equal ones would mean a fixed blinding.
    assert backend.prove(artifacts, witness) != made


def test_the_native_backend_notices_that_a_key_was_made_anew(tiny, witness, tmp_path):
    _, artifacts = tiny
    moved = dataclasses.replace(artifacts, zkey=tmp_path / "circuit.zkey")
    moved.zkey.write_bytes(artifacts.zkey.read_bytes())
    backend = get_backend("native")
    assert verify_snarkjs(artifacts, backend.prove(moved, witness))
    other = tmp_path / "other.zkey"
    proofbook_native.setup(artifacts.r1cs, other)
    other.rename(moved.zkey)
    made = backend.prove(moved, witness)
    assert not verify_snarkjs(artifacts, made)
    moved.zkey.unlink()
    with pytest.raises(ProofError) as caught:
        backend.prove(moved, witness)
    assert caught.value.code == "proof/failed"


def test_backends_by_name():
    assert get_backend("native") is get_backend("native")
    assert get_backend("auto").name == available_backends()[-1]
    with pytest.raises(ProofError) as caught:
        get_backend("abacus")
    assert caught.value.code == "proof/backend"


@pytest.mark.parametrize("name", available_backends())
def test_a_witness_of_something_else_is_refused(tiny, tmp_path, name):
    wrong = tmp_path / "wrong.wtns"
    wrong.write_bytes(b"wtns" + bytes(40))
    with pytest.raises(ProofError) as caught:
        get_backend(name).prove(tiny[1], wrong)
    assert caught.value.code == "proof/failed"


def test_solidity_order_is_eip_197s(proof):
    words = proof.to_solidity()
    assert words[:2] == proof.pi_a and words[6:] == proof.pi_c
    assert words[2:6] == (proof.pi_b[0][1], proof.pi_b[0][0], proof.pi_b[1][1], proof.pi_b[1][0])


def test_proof_json_round_trip(proof):
    assert Proof.from_snarkjs_json(*proof.to_snarkjs_json()) == proof


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": "plonk"},
        {"curve": "bls12381"},
        {"pi_a": ["0", "1", "0"]},
        {"pi_a": [str(BASE_FIELD), "1", "1"]},
        {"pi_a": ["x", "1", "1"]},
        {"pi_b": [["0", "0"], ["1", "0"], ["0", "0"]]},
        {"pi_b": [["1"], ["1", "0"], ["1", "0"]]},
        {"pi_c": None},
    ],
)
def test_a_malformed_proof_is_refused(proof, change):
    document, public = proof.to_snarkjs_json()
    with pytest.raises(ProofError) as caught:
        Proof.from_snarkjs_json(document | change, public)
    assert caught.value.code == "proof/format"


def test_an_unsatisfied_circuit_names_its_line(tiny, inputs, tmp_path):
    out = tmp_path / "none.wtns"
    with pytest.raises(WitnessError, match=r"template Small_\d+ line: \d+") as caught:
        calculate_witness(tiny[1], {**inputs, "b": 4}, out)
    assert caught.value.code == "witness/unsatisfied"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"list": None},
        {"other": 1},
        {"list": [1, 2, 3]},
        {"a": [3, 3]},
        {"a": FIELD},
        {"a": -1},
        {"a": "0x3"},
        {"a": "9" * 79},
        {"a": True},
        {"a": 1.0},
        {"a": b"3"},
    ],
)
def test_malformed_inputs_are_refused(tiny, inputs, tmp_path, change):
    changed = {name: value for name, value in (inputs | change).items() if value is not None}
    with pytest.raises(WitnessError) as caught:
        calculate_witness(tiny[1], changed, tmp_path / "none.wtns")
    assert caught.value.code == "witness/inputs"


def test_the_worker_goes_on_after_refusals_and_after_its_death(tiny, inputs, tmp_path):
    workspace, artifacts = tiny
    worker = WitnessWorker(workspace)
    try:
        first = tmp_path / "1.wtns"
        worker.calculate(artifacts.wasm, inputs, first)
        process = worker._process
        assert process is not None
        with pytest.raises(WitnessError):
            worker.calculate(artifacts.wasm, {**inputs, "b": 4}, tmp_path / "2.wtns")
        assert worker._process is process
        process.kill()
        process.wait()
        worker.calculate(artifacts.wasm, inputs, tmp_path / "3.wtns")
        assert worker._process is not process
        assert (tmp_path / "3.wtns").read_bytes() == first.read_bytes()
    finally:
        worker.close()


def test_a_late_worker_is_killed_and_replaced(tiny, inputs, tmp_path):
    workspace, artifacts = tiny
    worker = WitnessWorker(workspace)
    try:
        with pytest.raises(ToolError) as caught:
            worker.calculate(artifacts.wasm, inputs, tmp_path / "1.wtns", timeout=0.001)
        assert caught.value.code == "tool/timeout" and worker._process is None
        worker.calculate(artifacts.wasm, inputs, tmp_path / "2.wtns")
    finally:
        worker.close()


def test_a_program_that_is_none_is_a_failure(tiny, inputs, tmp_path):
    workspace, _ = tiny
    program = tmp_path / "a" / "b.wasm"
    program.parent.mkdir()
    program.write_bytes(b"not wasm")
    worker = WitnessWorker(workspace)
    try:
        for path in (program, tmp_path / "absent.wasm"):
            with pytest.raises(WitnessError) as caught:
                worker.calculate(path, inputs, tmp_path / "1.wtns")
            assert caught.value.code == "witness/failed"
    finally:
        worker.close()


def test_a_forked_child_starts_its_own_worker(tiny, inputs, tmp_path):
    _, artifacts = tiny
    calculate_witness(artifacts, inputs, tmp_path / "parent.wtns")
    child = os.fork()
    if child == 0:
        try:
            calculate_witness(artifacts, inputs, tmp_path / "child.wtns")
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "child.wtns").read_bytes() == (tmp_path / "parent.wtns").read_bytes()
    calculate_witness(artifacts, inputs, tmp_path / "again.wtns")
