"""The verifier against snarkjs: a real circuit, real keys, a real proof; and everything near it refused."""

import json

import pytest
from eth_abi import encode  # type: ignore[attr-defined]
from web3 import Web3

from proofbook.chain.compile import contract_artifact
from proofbook.chain.deploy import read_verifying_key
from proofbook.chain.errors import KeyFormatError, ManifestMismatch
from proofbook.chain.proofs import Q, decode_proof, decode_verifying_key, encode_proof, encode_verifying_key
from proofbook.protocol.field import R
from proofbook.prover.artifacts import build
from proofbook.prover.backend import SnarkjsBackend
from proofbook.prover.calculator import calculate_witness
from proofbook.prover.workspace import Workspace, repository_root

# One worker: the circuit is compiled and set up once a module.
pytestmark = pytest.mark.xdist_group("groth16")

MULTIPLIER = """
pragma circom 2.1.6;
template Multiplier() {
    signal input a;
    signal input b;
    signal input s;
    signal output c;
    signal t;
    t <== s * a;
    c <== t * s + b;
}
"""


@pytest.fixture(scope="module")
def proven(tmp_path_factory):
    """Artifacts of a small circuit, its proof as snarkjs gives it, and the public values."""
    folder = tmp_path_factory.mktemp("multiplier")
    (folder / "src").mkdir()
    (folder / "src" / "multiplier.circom").write_text(MULTIPLIER)
    entry = {"file": "multiplier.circom", "template": "Multiplier", "params": [], "public": ["a", "b"], "budget": 100}
    (folder / "circuits.json").write_text(json.dumps({"circuits": {"multiplier": entry}}))
    root = repository_root()
    workspace = Workspace(root, folder / "build", folder / "circuits.json", (folder / "src", root / "node_modules"))
    artifacts = build("multiplier", workspace=workspace)
    calculate_witness(artifacts, {"a": 3, "b": R - 1, "s": 12345}, folder / "w.wtns")
    proof = SnarkjsBackend(workspace).prove(artifacts, folder / "w.wtns")
    assert proof.public == ((3 * 12345**2 - 1) % R, 3, R - 1)
    return artifacts, proof.to_snarkjs_json()[0], list(proof.public)


@pytest.fixture(scope="module")
def verifier(proven, deployed, tools):
    artifacts, _, _ = proven
    key = read_verifying_key(artifacts.dir, artifacts.manifest.circuit_hash, 3)
    made = tools.deploy_contract(deployed.w3, deployed.deployer, "Groth16Harness", key.data, 3)
    return made.contract.functions


def test_the_proof_of_snarkjs_is_accepted(proven, verifier):
    _, proof, public = proven
    assert verifier.verify(public, encode_proof(proof)).call()


@pytest.mark.parametrize("k", range(3))
def test_every_public_input_is_bound(proven, verifier, k):
    _, proof, public = proven
    for other in (0, (public[k] + 1) % R, R - 1 - public[k]):
        changed = [*public[:k], other, *public[k + 1 :]]
        assert verifier.verify(changed, encode_proof(proof)).call() == (changed == public)


@pytest.mark.parametrize("k", range(3))
def test_inputs_beyond_the_field_are_false(proven, verifier, k):
    """x and x + r give the same point: without the check, one proof would serve two statements."""
    _, proof, public = proven
    changed = [*public[:k], public[k] + R, *public[k + 1 :]]
    assert not verifier.verify(changed, encode_proof(proof)).call()


@pytest.mark.parametrize("k", range(8))
def test_coordinates_are_bound_and_in_range(proven, verifier, k):
    _, proof, public = proven
    words = encode_proof(proof)
    for other in (0, words[k] ^ 1, words[k] + Q, 2**256 - 1):
        assert not verifier.verify(public, [*words[:k], other, *words[k + 1 :]]).call()


def test_points_of_another_proof_or_at_infinity_are_false(proven, verifier):
    _, proof, public = proven
    a, b, c = encode_proof(proof)[:2], encode_proof(proof)[2:6], encode_proof(proof)[6:]
    minus_a = [a[0], Q - a[1]]
    minus_b = [b[0], b[1], Q - b[2], Q - b[3]]
    for words in ([0] * 8, [*c, *b, *a], [*minus_a, *b, *c], [*a, 0, 0, 0, 0, *c], [0, 0, *b, *c], [*a, *b, 0, 0]):
        assert not verifier.verify(public, words).call()
    # The same proof written otherwise is still a proof of the same statement; nothing may be keyed by its bytes (M18).
    assert verifier.verify(public, [*minus_a, *minus_b, *c]).call()


def test_swapped_imaginary_and_real_parts_are_false(proven, verifier):
    _, proof, public = proven
    w = encode_proof(proof)
    assert not verifier.verify(public, [w[0], w[1], w[3], w[2], w[5], w[4], w[6], w[7]]).call()


def test_the_key_on_chain_is_the_key_of_the_file(proven, verifier, deployed):
    artifacts, _, _ = proven
    key = json.loads(artifacts.vkey.read_bytes())
    code = bytes(deployed.w3.eth.get_code(verifier.key().call()))
    assert code == b"\0" + encode_verifying_key(key, 3)
    decoded = decode_verifying_key(code[1:])
    assert decoded == {name: key[name] for name in decoded}


# --- reading keys and proofs


def test_a_key_of_another_circuit_is_refused(proven):
    artifacts, _, _ = proven
    with pytest.raises(ManifestMismatch):
        read_verifying_key(artifacts.dir, "0" * 64, 3)
    with pytest.raises(KeyFormatError):
        read_verifying_key(artifacts.dir, artifacts.manifest.circuit_hash, 9)


def test_a_key_that_is_not_its_manifests_is_refused(proven, tmp_path):
    artifacts, _, _ = proven
    circuit = artifacts.manifest.circuit_hash
    manifest = json.loads((artifacts.dir / "manifest.json").read_bytes())
    key = artifacts.vkey.read_bytes()
    with pytest.raises(ManifestMismatch):
        read_verifying_key(tmp_path, circuit, 3)
    for changed, text in (({}, key + b" "), ({"kind": "toy"}, key), ({"vkey_sha256": "1" * 64}, key)):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, **changed}))
        (tmp_path / "vkey.json").write_bytes(text)
        with pytest.raises(ManifestMismatch):
            read_verifying_key(tmp_path, circuit, 3)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "vkey.json").write_bytes(key)
    assert read_verifying_key(tmp_path, circuit, 3).kind == "development"


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": "plonk"},
        {"curve": "bls12381"},
        {"nPublic": 2},
        {"IC": []},
        {"vk_alpha_1": ["1", "2"]},
        {"vk_alpha_1": ["1", "-2", "1"]},
        {"vk_alpha_1": [str(Q), "2", "1"]},
        {"vk_alpha_1": ["1", "2", "5"]},
        {"vk_alpha_1": [1, 2, 1]},
        {"vk_beta_2": [["1", "2"], ["3", "4"], ["1", "1"]]},
        {"vk_beta_2": [["1", "2"], ["3"], ["1", "0"]]},
        {"vk_delta_2": None},
    ],
)
def test_malformed_keys_are_refused(proven, change):
    key = json.loads(proven[0].vkey.read_bytes())
    with pytest.raises(KeyFormatError):
        encode_verifying_key({**key, **change}, 3)


def test_proofs_go_back_and_forth(proven):
    _, proof, _ = proven
    assert decode_proof(encode_proof(proof)) == proof
    assert encode_proof({**proof, "pi_a": ["0", "1", "0"]})[:2] == [0, 0]
    with pytest.raises(KeyFormatError):
        decode_proof([1] * 7)
    with pytest.raises(KeyFormatError):
        decode_verifying_key(bytes(100))


def test_store_reverts_DataContractFailed(proven, deployed, attack):
    """With too little gas for the key's data contract there is no exchange, not one without a key."""
    artifacts, _, _ = proven
    key = read_verifying_key(artifacts.dir, artifacts.manifest.circuit_hash, 3)
    harness = contract_artifact("Groth16Harness")
    code = harness.bytecode + encode(["bytes", "uint256"], [key.data, 3])
    selector = "0x" + Web3.keccak(text="DataContractFailed()")[:4].hex()
    node = attack.node.Node(deployed.anvil)

    def failure(gas):
        try:
            node.rpc("eth_call", {"from": deployed.deployer, "data": "0x" + code.hex(), "gas": hex(gas)}, "latest")
        except attack.node.NodeError as error:
            return "0x" + error.data.hex()
        return None

    low, high = 100_000, 3_000_000
    assert failure(low) is not None and failure(high) is None
    while high - low > 100:
        middle = (low + high) // 2
        low, high = (middle, high) if failure(middle) is not None else (low, middle)
    seen = {failure(gas) for gas in range(low - 600_000, low, 5_000)}
    assert selector in seen
    # Where the gas does not last for the precompiles, the points can't be checked.
    assert seen <= {selector, "0x" + Web3.keccak(text="VerifyingKeyPoint()")[:4].hex(), "0x"}
