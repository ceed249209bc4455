"""What prover and verifier read: constraints, keys, witnesses, manifests, set-up files, a calculator's answers."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import proofbook_native
import pytest
from hypothesis import strategies as st

from proofbook.protocol.field import R
from proofbook.prover.artifacts import MANIFEST, Manifest, read_manifest
from proofbook.prover.backend import Proof
from proofbook.prover.calculator import WitnessWorker
from proofbook.prover.compile import compile_circuit
from proofbook.prover.r1cs import read_r1cs
from proofbook.prover.registry import load_circuits
from proofbook.prover.transcript import Contributions, key_contributions, powers_contributions
from proofbook.prover.workspace import default_workspace
from proofbook.verifier.code import RuntimeCode, _cached
from proofbook.verifier.groth16 import BadPoint, read_key
from proofbook.verifier.keys import _known_keys


def load(name: str) -> Any:
    """Import a helper beside this file: folders of tests are no packages."""
    spec = importlib.util.spec_from_file_location(f"fuzz_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


near = load("near")
read, each = near.read, near.each
bn128: Any = importlib.import_module("py_ecc.optimized_bn128")
FEW = near.EXAMPLES // 4
NATIVE = (ValueError, OSError)


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def u64(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def field(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "little") for number in numbers)


def container(magic: bytes, version: int, *sections: tuple[int, bytes]) -> bytes:
    """Return a file of iden3's form."""
    parts = [u32(kind) + u64(len(body)) + body for kind, body in sections]
    return magic + u32(version, len(sections)) + b"".join(parts)


# --- the smallest circuit: out = a * b, out public

R1CS = container(
    b"r1cs",
    1,
    (1, u32(32) + field(R) + u32(4, 1, 0, 2) + u64(4) + u32(1)),
    (2, b"".join(u32(1, wire) + field(1) for wire in (2, 3, 1))),
    (3, u64(0, 1, 2, 3)),
)
WTNS = container(b"wtns", 2, (1, u32(32) + field(R) + u32(4)), (2, field(1, 35, 5, 7)))


@pytest.fixture(scope="module")
def zkey(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("smallest")
    (folder / "r1cs").write_bytes(R1CS)
    proofbook_native.setup(folder / "r1cs", folder / "zkey")
    return (folder / "zkey").read_bytes()


def test_constraint_files(tmp_path: Path) -> None:
    real = compile_circuit("exit-minimal").r1cs.read_bytes()
    path = tmp_path / "bent.r1cs"

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        found = read(read_r1cs, path)
        told = read(proofbook_native.r1cs_info, path, named=NATIVE)
        assert found is None or told is None or found.constraints == told["constraints"]
        return found is not None and told is not None

    # A real file's header with little behind it, and the whole with other headers: each tries another limit.
    heads = near.bent(real[:160]).map(lambda head: head + real[160:3000])
    wholes = near.bent(real[:160]).map(lambda head: head + real[160:])
    each(near.mixed(near.near(R1CS), near.overwritten(R1CS), heads, wholes), check, 0.01, [R1CS, real], 2 * FEW)


def test_proving_keys(zkey: bytes, tmp_path: Path) -> None:
    key, witness = tmp_path / "bent.zkey", tmp_path / "wtns"
    witness.write_bytes(WTNS)

    def check(raw: bytes) -> bool:
        key.write_bytes(raw)
        done = read(proofbook_native.prove, key, witness, named=NATIVE)
        # The core checks a proof before it returns it: what a bent key gives holds, or is refused.
        assert done is None or done["publicSignals"] == ["35"]
        return done is not None

    header = b"zkey" + u32(1, 10) + b"".join(u32(k) + u64(40) + bytes(40) for k in range(1, 11))
    drawn = near.mixed(near.overwritten(zkey), near.overwritten(zkey), near.bent(zkey), near.bent(header))
    each(drawn, check, 0.015, [zkey], 2 * FEW)


def test_witnesses(zkey: bytes, tmp_path: Path) -> None:
    key, path = tmp_path / "zkey", tmp_path / "bent.wtns"
    key.write_bytes(zkey)
    prover = proofbook_native.Prover(key)

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        done = read(prover.prove, path, named=NATIVE)
        if done is not None:
            values = [int.from_bytes(raw[-128:][32 * k :][:32], "little") for k in range(4)]
            assert values[0] == 1 and values[2] * values[3] % R == values[1] < R
            assert read(Proof.from_snarkjs_json, done["proof"], done["publicSignals"]).public == (values[1],)
        return done is not None

    values = st.tuples(near.integers, near.integers).filter(lambda pair: min(pair) >= 0)
    other = values.map(lambda pair: WTNS[:-96] + field(pair[0] * pair[1] % R, *pair))
    each(near.mixed(other, near.near(WTNS), near.overwritten(WTNS)), check, 0.04, [WTNS], 2 * FEW)


# --- set-ups

MADE = Manifest("exit-minimal", "ab" * 32, "ceremony", "cd" * 32, "ef" * 32, "01" * 32, "snarkjs")


def test_manifests(tmp_path: Path) -> None:
    good = msgspec.to_builtins(MADE)

    def check(raw: bytes) -> bool:
        (tmp_path / MANIFEST).write_bytes(raw)
        found = read(read_manifest, tmp_path)
        if found is not None:
            assert all(len(bytes.fromhex(value)) == 32 for name, value in good.items() if name.endswith("sha256"))
            assert found.kind in ("development", "ceremony")
        return found is not None

    each(near.documents(good), check, 0.005, [near.as_json(good)], odd=near.oddities(good))


def test_a_manifest_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).mkdir()
    assert read(read_manifest, tmp_path) is None


def test_registries(tmp_path: Path) -> None:
    path = tmp_path / "circuits.json"
    workspace = replace(default_workspace(), circuits_file=path)

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        found = read(load_circuits, workspace)
        for name, circuit in (found or {}).items():
            # They become names of files.
            assert name.isascii() and not set(name) & set("/.\n\\ ") and not circuit.file.startswith("/")
            assert ".." not in Path(circuit.file).parts and circuit.template.isidentifier()
        return bool(found)

    entry = {"file": "exit.circom", "template": "Exit", "params": [2, 2], "public": ["root", "index"], "budget": 9}
    good = {"circuits": {"exit-minimal": entry | {"preset": "minimal", "requests": 4}}}
    named = [near.as_json({"circuits": {name: entry}}) for name in ("a\n", "../a", "a/b", "", "A", "a" * 65, "é")]
    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=[*near.oddities(good), *named])


def contribution(before: int, kind: int) -> bytes:
    return b"\x07" * before + u32(kind, 3) + b"abc"


KEYS = container(b"zkey", 1, (1, b"x"), (10, bytes(64) + u32(3) + b"".join(contribution(384, k) for k in (0, 1, 0))))
POWERS = container(b"ptau", 1, (1, b"x"), (7, u32(2) + b"".join(contribution(1496, k) for k in (1, 0))))


def test_contributions(zkey: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    sizes = container(b"zkey", 1, (1, b"")).replace(u64(0), u64(2**64 - 1)), KEYS[:12] + u32(1) + u64(2**63) + KEYS[24:]

    def count(raw: bytes, of_powers: bool) -> Any:
        path.write_bytes(raw)
        return read(powers_contributions if of_powers else key_contributions, path)

    def check(drawn: tuple[bytes, bool]) -> bool:
        found = count(*drawn)
        assert found is None or (found.people >= 0 and found.beacons >= 0)
        return found is not None

    seeds = [(KEYS, False), (POWERS, True), (zkey, False)]
    expected = [Contributions(2, 1), Contributions(1, 1), Contributions(0, 0)]
    assert [count(*seed) for seed in seeds] == expected
    files = near.mixed(near.near(KEYS, POWERS), near.overwritten(KEYS), near.overwritten(POWERS))
    each(st.tuples(files, st.booleans()), check, 0.04, seeds, odd=[(raw, False) for raw in sizes])


# --- proofs and keys

G1_JSON, G2_JSON = ["1", "2", "1"], [["1", "2"], ["3", "4"], ["1", "0"]]


def test_proofs_of_snarkjs() -> None:
    head = {"protocol": "groth16", "curve": "bn128"}
    good = {"proof": head | {"pi_a": G1_JSON, "pi_b": G2_JSON, "pi_c": G1_JSON}, "public": ["5", str(R - 1)]}

    def check(raw: bytes) -> bool:
        try:
            told = json.loads(raw)
            proof, public = told["proof"], told["public"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
        found = read(Proof.from_snarkjs_json, proof, public)
        if found is not None:
            again, inputs = found.to_snarkjs_json()
            assert Proof.from_snarkjs_json(again, inputs) == found
            assert all(type(word) is int and word >= 0 for word in (*found.to_solidity(), *found.public))
        return found is not None

    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))


def point(number: int) -> bytes:
    """Return a multiple of G2's generator in the contract's order."""
    x, y = bn128.normalize(bn128.multiply(bn128.G2, number))
    words = [int(part) for pair in (x, y) for part in reversed(pair.coeffs)]
    return b"".join(word.to_bytes(32, "big") for word in words)


def test_keys_of_the_chain() -> None:
    g1 = (1).to_bytes(32, "big") + (2).to_bytes(32, "big")
    good = g1 + point(1) + point(2) + point(3) + g1 * 2
    bad = [g1 + point(1) + point(2) * 2 + g1 * 2, bytes(len(good)), good[:-64] + bytes(64)]

    def check(raw: bytes) -> bool:
        return read(read_key, raw, 1, named=(BadPoint,)) is not None

    # A multiplication in G2 for each point that is on the curve.
    each(near.mixed(near.overwritten(good), near.near(good)), check, 0.005, [good], 300 if near.LONG else 12, bad)


def test_keys_on_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "exit-minimal" / "0123"
    folder.mkdir(parents=True)
    good: dict[str, Any] = {"IC": [G1_JSON] * 2, "vk_alpha_1": G1_JSON}
    good |= dict.fromkeys(("vk_beta_2", "vk_gamma_2", "vk_delta_2"), G2_JSON)

    def check(raw: bytes) -> bool:
        (folder / "vkey.json").write_bytes(raw)
        manifest = msgspec.to_builtins(MADE) | {"vkey_sha256": hashlib.sha256(raw).hexdigest()}
        (folder / MANIFEST).write_bytes(near.as_json(manifest))
        found = read(lambda: list(_known_keys(tmp_path)))
        assert all(len(words) % 32 == 0 and told == ("exit-minimal", "ceremony") for words, told in found)
        return bool(found)

    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))


def test_builds_that_were_kept(tmp_path: Path) -> None:
    path = tmp_path / "code.json"

    def check(raw: bytes) -> bool:
        path.write_bytes(raw)
        found = read(_cached, path)
        assert found is None or found.matches(b"\x01" * 40) in (True, False)
        return found is not None

    good = {"code": "01" * 8 + "00" * 32, "immutables": [[8, 32]]}
    assert RuntimeCode(bytes.fromhex(good["code"]), ((8, 32),)).matches(b"\x01" * 40)  # type: ignore[arg-type]
    each(near.documents(good), check, 0.04, [near.as_json(good)], odd=near.oddities(good))


# --- what the calculator says

SCRIPT = """
import fs from "node:fs";
import readline from "node:readline";
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, wasm } = JSON.parse(line);
  const answer = fs.readFileSync(wasm, "latin1").split("@id@").join(id);
  process.stdout.write(Buffer.from(answer, "latin1"));
}
"""


def test_answers_of_a_calculator(tmp_path: Path) -> None:
    workspace = replace(default_workspace(), root=tmp_path)
    script = tmp_path / "prover" / "js" / "witness.mjs"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)
    worker, path = WitnessWorker(workspace), tmp_path / "answer"
    starts = []

    def check(raw: bytes) -> bool:
        path.write_bytes(raw.replace(b'"@id@"', b"@id@").replace(b"\n", b" ") + b"\n")
        found = read(worker.calculate, path, {}, tmp_path / "out", 20.0)
        starts.append(worker._process)
        assert found is None or (type(found) is int and found >= 0)
        return found is not None

    good = {"id": "@id@", "ok": True, "elements": 12}
    other = {"id": "@id@", "ok": False, "kind": "inputs", "message": "too few"}
    odd = [*near.oddities(good), *near.oddities(other)]
    try:
        # A process that answers nonsense is ended, and there is another one for the next request.
        each(near.documents(good), check, 0.015, [near.as_json(good)], FEW // 2, odd if near.LONG else odd[::9])
        assert len(set(starts)) > 1
    finally:
        worker.close()
