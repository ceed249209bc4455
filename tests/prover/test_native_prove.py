"""The native prover: snarkjs accepts its proofs; a false witness or a malformed file makes none."""

import json
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import proofbook_native
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent.parent
TOOLS = ROOT / "node_modules" / ".bin"
R = 21888242871839275222246405745257275088548364400416034343698204186575808495617
ROWS = 700
# Wires of every size: bits, bytes, -1, full-size; one that stands in A alone and one in B alone.
SOURCE = f"""
pragma circom 2.1.0;
template Mixed(n) {{
    signal input x;
    signal input y;
    signal output z;
    signal t[n + 1];
    signal bit[n];
    signal small[n];
    t[0] <== x;
    for (var i = 0; i < n; i++) {{
        t[i + 1] <== t[i] * (t[i] + 3 * y) + 7;
        bit[i] <-- (t[i] >> 5) & 1;
        bit[i] * (bit[i] - 1) === 0;
        small[i] <-- i % 3 == 0 ? -1 - i : i * i * i * i * i;
        (small[i] + i + 1) * (small[i] - i * i * i * i * i) === 0;
    }}
    z <== t[n];
}}
component main {{public [y]}} = Mixed({ROWS});
"""


def tool(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(TOOLS / name), *arguments], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a compiled circuit, its key and verification key, and two witnesses."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "mixed.circom").write_text(SOURCE)
    compiled = tool(folder, "circom2", "mixed.circom", "--r1cs", "--wasm", "--O2")
    assert "Everything went okay" in compiled.stdout, compiled.stdout + compiled.stderr
    proofbook_native.setup(folder / "mixed.r1cs", folder / "mixed.zkey")
    steps = [("zkey", "export", "verificationkey", "mixed.zkey", "vk.json")]
    for name, x in (("a", 3), ("b", R - 1)):
        (folder / f"{name}.json").write_text(json.dumps({"x": str(x), "y": "5"}))
        steps.append(("wtns", "calculate", "mixed_js/mixed.wasm", f"{name}.json", f"{name}.wtns"))
    for step in steps:
        done = tool(folder, "snarkjs", *step)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def snarkjs_verifies(circuit: Path, folder: Path, proof: object, public: list[str]) -> bool:
    (folder / "proof.json").write_text(json.dumps(proof))
    (folder / "public.json").write_text(json.dumps(public))
    vk = str(circuit / "vk.json")
    return tool(folder, "snarkjs", "groth16", "verify", vk, "public.json", "proof.json").returncode == 0


def output(x: int) -> int:
    for _ in range(ROWS):
        x = (x * (x + 15) + 7) % R
    return x


@pytest.mark.parametrize(("name", "x"), [("a", 3), ("b", R - 1)])
def test_snarkjs_accepts_the_proof(circuit: Path, tmp_path: Path, name: str, x: int) -> None:
    made = proofbook_native.prove(circuit / "mixed.zkey", circuit / f"{name}.wtns")
    assert made["publicSignals"] == [str(output(x)), "5"]
    assert snarkjs_verifies(circuit, tmp_path, made["proof"], made["publicSignals"])
    assert not snarkjs_verifies(circuit, tmp_path, made["proof"], [str(output(x)), "6"])


def test_proofs_have_the_shape_of_snarkjs_and_are_blinded(circuit: Path, tmp_path: Path) -> None:
    done = tool(
        circuit,
        "snarkjs",
        "groth16",
        "prove",
        "mixed.zkey",
        "a.wtns",
        str(tmp_path / "p.json"),
        str(tmp_path / "s.json"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = json.loads((tmp_path / "p.json").read_text())
    ours = [proofbook_native.prove(circuit / "mixed.zkey", circuit / "a.wtns")["proof"] for _ in range(2)]
    assert list(ours[0]) == list(theirs)
    for name in ("pi_a", "pi_b", "pi_c"):
        assert len(ours[0][name]) == len(theirs[name]) == 3
        assert ours[0][name] != ours[1][name]
        assert ours[0][name][2] == theirs[name][2]
    assert (theirs["protocol"], theirs["curve"]) == (ours[0]["protocol"], ours[0]["curve"])


def test_a_contributed_key_proves_too(circuit: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "next.zkey")
    done = tool(circuit, "snarkjs", "zkey", "contribute", "mixed.zkey", target, "-e=some", "--name=n")
    assert done.returncode == 0, done.stdout + done.stderr
    done = tool(tmp_path, "snarkjs", "zkey", "export", "verificationkey", "next.zkey", "vk.json")
    assert done.returncode == 0, done.stdout + done.stderr
    made = proofbook_native.prove(tmp_path / "next.zkey", circuit / "a.wtns")
    assert snarkjs_verifies(tmp_path, tmp_path, made["proof"], made["publicSignals"])


def test_a_kept_key_proves_again_and_again_also_from_threads(circuit: Path, tmp_path: Path) -> None:
    prover = proofbook_native.Prover(circuit / "mixed.zkey")
    info = prover.info
    assert info["public"] == 2 and info["wires"] > 2 * ROWS and info["domain_size"] & (info["domain_size"] - 1) == 0
    assert info["key_bytes"] == (circuit / "mixed.zkey").stat().st_size
    witnesses: list[bytes | Path] = [circuit / "a.wtns", (circuit / "b.wtns").read_bytes()]
    assert prover.steps == {}
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(prover.prove, witnesses * 2))
    assert list(prover.steps) == ["witness", "A", "B1", "B2", "C", "FFTs", "H", "check"]
    assert min(prover.steps.values()) >= 0
    assert [proof["publicSignals"][0] for proof in made] == [str(output(3)), str(output(R - 1))] * 2
    assert len({json.dumps(proof) for proof in made}) == 4
    for proof in made[:2]:
        assert snarkjs_verifies(circuit, tmp_path, proof["proof"], proof["publicSignals"])


def test_a_kept_key_outlives_a_refusal_and_its_file(circuit: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zkey"
    copy.write_bytes((circuit / "mixed.zkey").read_bytes())
    prover = proofbook_native.Prover(copy)
    with pytest.raises(ValueError, match="wtns"):
        prover.prove(b"wtns")
    with pytest.raises(FileNotFoundError, match="none.wtns"):
        prover.prove(tmp_path / "none.wtns")
    with pytest.raises(TypeError):
        prover.prove(5)  # type: ignore[arg-type]
    copy.unlink()
    assert prover.prove(circuit / "a.wtns")["publicSignals"] == [str(output(3)), "5"]


@pytest.mark.parametrize("content", [b"", b"zkey", b"wtns" * 100])
def test_what_is_no_key_is_not_opened(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.zkey").write_bytes(content)
    with pytest.raises(ValueError, match="zkey"):
        proofbook_native.Prover(tmp_path / "no.zkey")
    with pytest.raises(FileNotFoundError, match="none.zkey"):
        proofbook_native.Prover(tmp_path / "none.zkey")


def values_at(wtns: bytes) -> int:
    """Where the values begin: after magic, counts, the header's section and the head of the second."""
    assert struct.unpack_from("<IQ", wtns, 12) == (1, 40)
    assert struct.unpack_from("<I", wtns, 64) == (2,)
    return 76


@pytest.mark.parametrize("wire", [1, 2, 3, 500, -1])
def test_a_false_witness_is_refused(circuit: Path, tmp_path: Path, wire: int) -> None:
    wtns = bytearray((circuit / "a.wtns").read_bytes())
    start = values_at(bytes(wtns))
    place = start + 32 * (wire % ((len(wtns) - start) // 32))
    value = (int.from_bytes(wtns[place : place + 32], "little") + 1) % R
    wtns[place : place + 32] = value.to_bytes(32, "little")
    (tmp_path / "false.wtns").write_bytes(wtns)
    with pytest.raises(ValueError, match="does not satisfy"):
        proofbook_native.prove(circuit / "mixed.zkey", tmp_path / "false.wtns")


@pytest.mark.parametrize("value", [R, R + 1, 2**256 - 1])
def test_a_witness_value_out_of_range_is_refused(circuit: Path, tmp_path: Path, value: int) -> None:
    wtns = bytearray((circuit / "a.wtns").read_bytes())
    place = values_at(bytes(wtns)) + 64
    wtns[place : place + 32] = value.to_bytes(32, "little")
    (tmp_path / "bad.wtns").write_bytes(wtns)
    with pytest.raises(ValueError, match="wtns"):
        proofbook_native.prove(circuit / "mixed.zkey", tmp_path / "bad.wtns")


def test_the_first_value_must_be_one(circuit: Path, tmp_path: Path) -> None:
    wtns = bytearray((circuit / "a.wtns").read_bytes())
    wtns[values_at(bytes(wtns))] = 2
    (tmp_path / "bad.wtns").write_bytes(wtns)
    with pytest.raises(ValueError, match="first value"):
        proofbook_native.prove(circuit / "mixed.zkey", tmp_path / "bad.wtns")


def test_missing_files_are_os_errors(circuit: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.zkey"):
        proofbook_native.prove(tmp_path / "none.zkey", circuit / "a.wtns")
    with pytest.raises(FileNotFoundError, match="none.wtns"):
        proofbook_native.prove(circuit / "mixed.zkey", tmp_path / "none.wtns")


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_truncated_files_are_value_errors(circuit: Path, tmp_path: Path, share: float) -> None:
    for name in ("mixed.zkey", "a.wtns"):
        whole = (circuit / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match="zkey"):
        proofbook_native.prove(tmp_path / "mixed.zkey", circuit / "a.wtns")
    with pytest.raises(ValueError, match="wtns"):
        proofbook_native.prove(circuit / "mixed.zkey", tmp_path / "a.wtns")


HEADS = 12 + 12 + 4 + 12 + 2 * 36 + 12


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, HEADS - 1), st.integers(1, 255))
def test_a_corrupted_head_of_a_key_is_a_value_error(circuit: Path, place: int, change: int) -> None:
    key = bytearray((circuit / "mixed.zkey").read_bytes())
    key[place] ^= change
    (circuit / "spoilt.zkey").write_bytes(key)
    with pytest.raises(ValueError):
        proofbook_native.prove(circuit / "spoilt.zkey", circuit / "a.wtns")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_corrupted_key_makes_a_good_proof_or_a_value_error(circuit: Path, data: st.DataObject) -> None:
    """What is checked against the header is safe to publish: a damaged point or coefficient never gets out."""
    key = bytearray((circuit / "mixed.zkey").read_bytes())
    key[data.draw(st.integers(HEADS, len(key) - 1))] ^= data.draw(st.integers(1, 255))
    (circuit / "spoilt.zkey").write_bytes(key)
    try:
        made = proofbook_native.prove(circuit / "spoilt.zkey", circuit / "a.wtns")
    except ValueError:
        return
    assert made["publicSignals"] == [str(output(3)), "5"]
