"""Write tests/vectors/poseidon.json and tests/vectors/eddsa.json with circomlibjs and @zk-kit/eddsa-poseidon.

    .venv/bin/python tools/make_vectors.py

It imports nothing of Proofbook: the inputs come from SHA-512 of a counter, the answers from tools/circomlibjs.mjs. What
tools/make_oracle_vectors.py put into the file before is kept.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "tests" / "vectors"
SCRIPT = "tools/make_vectors.py"
PRIME = 21888242871839275222246405745257275088548364400416034343698204186575808495617
MAX_INPUTS = 16
SIGNATURES = 12
# Around the block of 128 bytes, its last 17 with the padding, and one block more.
HASHED_LENGTHS = [0, 1, 31, 32, 64, 110, 111, 112, 127, 128, 129, 200, 239, 240, 256]


def wide(name: str) -> bytes:
    """Return 64 bytes that only ``name`` decides."""
    return hashlib.sha512(name.encode()).digest()


def element(name: str) -> int:
    """Return a field element that only ``name`` decides."""
    return int.from_bytes(wide(name), "big") % PRIME


def poseidon_inputs() -> list[list[int]]:
    """Return lists of 1 to 16 inputs: zeros, largest elements, small numbers, wide ones."""
    lists = []
    for count in range(1, MAX_INPUTS + 1):
        lists += [[0] * count, [PRIME - 1] * count, list(range(1, count + 1))]
        lists += [[element(f"poseidon {count} {k} {i}") for i in range(count)] for k in range(2)]
    return lists


def signing_questions() -> list[dict[str, str]]:
    """Return private keys and messages, the extremes of both among them."""
    keys = [bytes(32), b"\xff" * 32, *(wide(f"key {i}")[:32] for i in range(SIGNATURES - 2))]
    msgs = [0, PRIME - 1, 1, *(element(f"message {i}") for i in range(SIGNATURES - 3))]
    return [{"private": key.hex(), "msg": str(msg)} for key, msg in zip(keys, msgs, strict=True)]


def ask(questions: dict[str, Any]) -> dict[str, Any]:
    """Put questions to tools/circomlibjs.mjs; its head says which."""
    command = ["node", str(ROOT / "tools" / "circomlibjs.mjs")]
    done = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True, check=True, timeout=300)
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def source(*packages: str) -> list[dict[str, str]]:
    """Say which installed packages made a file."""
    manifests = [json.loads((ROOT / "node_modules" / name / "package.json").read_text()) for name in packages]
    return [{"tool": m["name"], "version": m["version"], "script": SCRIPT} for m in manifests]


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a vector file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    """Ask and write both files."""
    inputs = [[str(x) for x in row] for row in poseidon_inputs()]
    signing = signing_questions()
    hashed = [(wide("blake") * 4)[:length].hex() for length in HASHED_LENGTHS]
    answers = ask({"poseidon": inputs, "sign": signing, "blake512": hashed})

    target = VECTORS / "poseidon.json"
    before = json.loads(target.read_text()) if target.exists() else {}
    cases = [{"inputs": row, "hash": digest} for row, digest in zip(inputs, answers["poseidon"], strict=True)]
    oracle = {"oracle": before["oracle"]} if "oracle" in before else {}
    write(target, {"source": source("circomlibjs"), "cases": cases, **oracle})

    signatures: dict[str, Any] = {
        name: [q | a for q, a in zip(signing, answers[name]["sign"], strict=True)] for name in ("circomlibjs", "zkkit")
    }
    blake = [{"message": m, "digest": d} for m, d in zip(hashed, answers["blake512"], strict=True)]
    packages = source("circomlibjs", "@zk-kit/eddsa-poseidon", "blake-hash")
    write(VECTORS / "eddsa.json", {"source": packages, **signatures, "blake512": blake})


if __name__ == "__main__":
    main()
