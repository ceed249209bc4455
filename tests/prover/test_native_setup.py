"""The native set-up: snarkjs proves and verifies with its keys, and no malformed file gets past it."""

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import proofbook_native
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent.parent
TOOLS = ROOT / "node_modules" / ".bin"
R = 21888242871839275222246405745257275088548364400416034343698204186575808495617
SOURCE = """
pragma circom 2.1.0;
template Chain(n) {
    signal input x;
    signal input y;
    signal output z;
    signal output w;
    signal t[n + 1];
    t[0] <== x;
    for (var i = 0; i < n; i++) { t[i + 1] <== t[i] * (t[i] + 3 * y) + 7; }
    z <== t[n];
    w <== x + y;
}
component main {public [y]} = Chain(20);
"""


def tool(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(TOOLS / name), *arguments], cwd=folder, capture_output=True, text=True, timeout=300)


def verify(folder: Path, public: list[str]) -> bool:
    (folder / "asked.json").write_text(json.dumps(public))
    return tool(folder, "snarkjs", "groth16", "verify", "vk.json", "asked.json", "proof.json").returncode == 0


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the circuit compiled, a witness for x = 3, y = 5, and a key of the native set-up."""
    folder = tmp_path_factory.mktemp("circuit")
    (folder / "chain.circom").write_text(SOURCE)
    (folder / "input.json").write_text('{"x": "3", "y": "5"}')
    compiled = tool(folder, "circom2", "chain.circom", "--r1cs", "--wasm", "--O2")
    assert "Everything went okay" in compiled.stdout, compiled.stdout + compiled.stderr
    done = tool(folder, "snarkjs", "wtns", "calculate", "chain_js/chain.wasm", "input.json", "chain.wtns")
    assert done.returncode == 0, done.stdout + done.stderr
    proofbook_native.setup(folder / "chain.r1cs", folder / "chain.zkey")
    done = tool(folder, "snarkjs", "zkey", "export", "verificationkey", "chain.zkey", "vk.json")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def chain() -> list[str]:
    t = 3
    for _ in range(20):
        t = (t * (t + 15) + 7) % R
    return [str(t), "8", "5"]


def test_snarkjs_proves_and_verifies_with_the_key(circuit: Path) -> None:
    done = tool(circuit, "snarkjs", "groth16", "prove", "chain.zkey", "chain.wtns", "proof.json", "public.json")
    assert done.returncode == 0, done.stdout + done.stderr
    public = json.loads((circuit / "public.json").read_text())
    assert public == chain()
    assert verify(circuit, public)
    for place in range(3):
        tampered = [str((int(v) + (i == place)) % R) for i, v in enumerate(public)]
        assert not verify(circuit, tampered)


def test_snarkjs_takes_a_contribution_to_the_key(circuit: Path, tmp_path: Path) -> None:
    """The key's last section is one that snarkjs can go on from, to a key of another delta."""
    done = tool(
        circuit, "snarkjs", "zkey", "contribute", "chain.zkey", str(tmp_path / "next.zkey"), "-e=some", "--name=n"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for arguments in (
        ("groth16", "prove", "next.zkey", str(circuit / "chain.wtns"), "proof.json", "public.json"),
        ("zkey", "export", "verificationkey", "next.zkey", "vk.json"),
    ):
        done = tool(tmp_path, "snarkjs", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    assert verify(tmp_path, chain())


def test_info_counts_what_circom_counted(circuit: Path) -> None:
    info = proofbook_native.r1cs_info(circuit / "chain.r1cs")
    assert info["constraints"] - info["linear"] == 20
    named = (info["public_outputs"], info["public_inputs"], info["private_inputs"])
    assert named == (2, 1, 1)
    assert info["labels"] >= info["wires"] > sum(named)


def test_report_and_progress(circuit: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    report = proofbook_native.setup(
        circuit / "chain.r1cs", tmp_path / "k.zkey", lambda stage, share: told.append((stage, share))
    )
    info = proofbook_native.r1cs_info(circuit / "chain.r1cs")
    assert (report["constraints"], report["wires"], report["public"]) == (info["constraints"], info["wires"], 3)
    assert report["domain_size"] == 32
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] == 0 and told[-1] == ("done", 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["k.zkey"]


def test_every_key_is_fresh(circuit: Path, tmp_path: Path) -> None:
    keys = []
    for name in ("a", "b"):
        proofbook_native.setup(circuit / "chain.r1cs", tmp_path / name)
        keys.append((tmp_path / name).read_bytes())
    assert len(keys[0]) == len(keys[1])
    same = sum(a == b for a, b in zip(*keys, strict=True))
    assert keys[0] != keys[1] and same < len(keys[0]) * 0.75


def test_what_the_callback_raises_ends_the_set_up(circuit: Path, tmp_path: Path) -> None:
    def stop(stage: str, share: float) -> None:
        if stage == "h":
            raise KeyboardInterrupt

    (tmp_path / "k.zkey").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        proofbook_native.setup(circuit / "chain.r1cs", tmp_path / "k.zkey", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["k.zkey"]
    assert (tmp_path / "k.zkey").read_text() == "old"


def test_file_system_refusals_are_os_errors(circuit: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.r1cs"):
        proofbook_native.setup(tmp_path / "none.r1cs", tmp_path / "k.zkey")
    with pytest.raises(FileNotFoundError):
        proofbook_native.setup(circuit / "chain.r1cs", tmp_path / "none" / "k.zkey")
    with pytest.raises(OSError):
        proofbook_native.r1cs_info(tmp_path)


# Malformed files.

Side = list[tuple[int, int]]
Constraint = tuple[Side, Side, Side]
GOOD: list[Constraint] = [([(1, 1)], [(2, R - 1)], [(3, 5), (0, 2)]), ([(3, 1)], [(3, 1)], [(1, 1)])]


def section(kind: int, body: bytes) -> bytes:
    return struct.pack("<IQ", kind, len(body)) + body


def header(wires: int = 4, outputs: int = 1, inputs: int = 1, constraints: int = 2, prime: int = R) -> bytes:
    counts = struct.pack("<IIIIQI", wires, outputs, inputs, 0, wires, constraints)
    return struct.pack("<I", 32) + prime.to_bytes(32, "little") + counts


def body(constraints: list[Constraint]) -> bytes:
    out = b""
    for constraint in constraints:
        for side in constraint:
            out += struct.pack("<I", len(side))
            out += b"".join(struct.pack("<I", wire) + value.to_bytes(32, "little") for wire, value in side)
    return out


def r1cs(*sections: bytes, magic: bytes = b"r1cs", version: int = 1) -> bytes:
    return magic + struct.pack("<II", version, len(sections)) + b"".join(sections)


HEADER, BODY, LABELS = section(1, header()), section(2, body(GOOD)), section(3, bytes(32))
VALID = r1cs(HEADER, BODY, LABELS)
MALFORMED = {
    "empty": b"",
    "magic": r1cs(HEADER, BODY, LABELS, magic=b"wtns"),
    "version": r1cs(HEADER, BODY, LABELS, version=2),
    "trailing": VALID + b"\0",
    "many sections": b"r1cs" + struct.pack("<II", 1, 2**32 - 1),
    "huge section": b"r1cs" + struct.pack("<IIIQ", 1, 1, 1, 2**64 - 1),
    "no header": r1cs(BODY, LABELS),
    "no constraints": r1cs(HEADER, LABELS),
    "no labels": r1cs(HEADER, BODY),
    "two headers": r1cs(HEADER, HEADER, BODY, LABELS),
    "other prime": r1cs(section(1, header(prime=R - 2)), BODY, LABELS),
    "wires beyond the file": r1cs(section(1, header(wires=2**32 - 1)), BODY, LABELS),
    "constraints beyond the file": r1cs(section(1, header(constraints=2**32 - 1)), BODY, LABELS),
    "one constraint more": r1cs(section(1, header(constraints=3)), BODY, LABELS),
    "one constraint less": r1cs(section(1, header(constraints=1)), BODY, LABELS),
    "no wire at all": r1cs(section(1, header(wires=0, outputs=0, inputs=0)), BODY, section(3, b"")),
    "more public than wires": r1cs(section(1, header(outputs=2**32 - 1, inputs=2**32 - 1)), BODY, LABELS),
    "long header": r1cs(section(1, header() + b"\0"), BODY, LABELS),
    "wire out of range": r1cs(HEADER, section(2, body([GOOD[0], ([(4, 1)], [], [])])), LABELS),
    "coefficient out of range": r1cs(HEADER, section(2, body([GOOD[0], ([(1, R)], [], [])])), LABELS),
    "huge combination": r1cs(HEADER, section(2, struct.pack("<IIIIII", 2**32 - 1, 0, 0, 0, 0, 0)), LABELS),
    "custom gates": r1cs(HEADER, BODY, LABELS, section(5, struct.pack("<I", 1))),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_file_is_a_value_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "bad.r1cs").write_bytes(MALFORMED[name])
    with pytest.raises(ValueError, match="r1cs"):
        proofbook_native.setup(tmp_path / "bad.r1cs", tmp_path / "bad.zkey")
    with pytest.raises(ValueError, match="r1cs"):
        proofbook_native.r1cs_info(tmp_path / "bad.r1cs")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.r1cs"]


@pytest.mark.parametrize("cut", range(0, len(VALID), 7))
def test_truncated_file_is_a_value_error(cut: int, tmp_path: Path) -> None:
    (tmp_path / "cut.r1cs").write_bytes(VALID[:cut])
    with pytest.raises(ValueError, match="r1cs"):
        proofbook_native.setup(tmp_path / "cut.r1cs", tmp_path / "cut.zkey")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("scratch")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_corrupted_file_makes_a_key_or_a_value_error(scratch: Path, changes: list[tuple[int, int]]) -> None:
    spoilt = bytearray(VALID)
    for place, value in changes:
        spoilt[place] = value
    (scratch / "spoilt.r1cs").write_bytes(spoilt)
    (scratch / "spoilt.zkey").unlink(missing_ok=True)
    try:
        proofbook_native.setup(scratch / "spoilt.r1cs", scratch / "spoilt.zkey")
    except ValueError:
        assert os.listdir(scratch) == ["spoilt.r1cs"]
    else:
        assert (scratch / "spoilt.zkey").read_bytes()[:4] == b"zkey"


def test_linear_constraints_are_counted(tmp_path: Path) -> None:
    linear: list[Constraint] = [([], [], [(1, 1)]), ([(0, 3)], [(1, 1)], [(2, 1)]), ([(1, 1)], [(0, 1)], [])]
    content = r1cs(section(1, header(constraints=5)), section(2, body(GOOD + linear)), LABELS)
    (tmp_path / "linear.r1cs").write_bytes(content)
    info = proofbook_native.r1cs_info(tmp_path / "linear.r1cs")
    assert (info["constraints"], info["linear"]) == (5, 3)
