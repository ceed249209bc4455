"""Add to tests/vectors/poseidon.json hashes computed by the PyPI package poseidon-hash, an implementation of its own.

It needs pytest ~= 7.1.2, which nothing else here may have, so it lives in a virtual environment used by this script
alone:

    make oracle
    .venv-oracle/bin/python tools/make_oracle_vectors.py

Run it after tools/make_vectors.py. The first field takes galois some minutes. This script imports nothing of Proofbook.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from importlib.metadata import version
from pathlib import Path

import galois  # type: ignore[import-not-found]
from poseidon import Poseidon, round_constants  # type: ignore[import-not-found]

TARGET = Path(__file__).parent.parent / "tests" / "vectors" / "poseidon.json"
PRIME = 21888242871839275222246405745257275088548364400416034343698204186575808495617
BITS = 254
FULL = 8
PARTIAL = [56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65, 70, 60, 64, 68]  # circomlib's, for 1 to 16 inputs

TAKEN = [
    "the Grain LFSR: init_state_for_grain and calc_next_bits",
    "the round constants: calc_round_constants",
    "field arithmetic (galois) and the permutation: Poseidon.run_hash",
]
GIVEN = [
    "prime, bit length, full and partial rounds",
    "alpha=3 to the LFSR and alpha=5 to the permutation: the package writes 1 for x^5 into the LFSR's seed, the "
    "paper's reference script and circomlib write 0 for every power, which is what the package writes for 3",
    "the MDS matrix: the package's is 1/(i + t + j), circomlib's is 1/(x_i + y_j) with x, y the next 2t LFSR values",
    "the input in state[1:], state[0] = 0 before and the hash in state[0] after: the package returns state[1]",
]


def mds(field: type, t: int, partial: int) -> list[list[str]]:
    """Return circomlib's matrix as hex, from the package's own LFSR run on past the round constants."""
    state = round_constants.init_state_for_grain(3, PRIME, BITS, t, FULL, partial)
    # Same discarding and rejection as calc_round_constants, which does not hand its state on.
    for _ in range(160):
        state = [*state[1:], state[62] ^ state[51] ^ state[38] ^ state[23] ^ state[13] ^ state[0]]
    left = t * (FULL + partial)
    points: list[int] = []
    while len(points) < 2 * t:
        state, bits = round_constants.calc_next_bits(state, BITS)
        value = int("".join(map(str, bits)), 2)
        if left:
            left -= value < PRIME
        else:
            points.append(value % PRIME)
    x, y = field(points[:t]), field(points[t:])
    return [[hex(int(field(1) / (a + b))) for b in y] for a in x]


def inputs_for(count: int) -> list[list[int]]:
    """Return the input lists hashed for one count: the numbers 1, 2, ... and some that fill the field."""
    wide = [int.from_bytes(hashlib.sha512(b"oracle %d %d" % (count, i)).digest(), "big") % PRIME for i in range(count)]
    return [list(range(1, count + 1)), wide]


def cases_for(field: type, count: int) -> list[dict[str, object]]:
    """Compute the hashes for one number of inputs."""
    t, partial = count + 1, PARTIAL[count - 1]
    constants = round_constants.calc_round_constants(t, FULL, partial, PRIME, field, 3, BITS)
    with contextlib.redirect_stdout(io.StringIO()):
        hasher = Poseidon(
            PRIME,
            128,
            5,
            input_rate=count,
            t=t,
            full_round=FULL,
            partial_round=partial,
            mds_matrix=mds(field, t, partial),
            rc_list=[hex(int(c)) for c in constants],
            prime_bit_len=BITS,
        )
    cases: list[dict[str, object]] = []
    for inputs in inputs_for(count):
        hasher.run_hash([0, *inputs])
        cases.append({"inputs": [str(x) for x in inputs], "hash": str(int(hasher.state[0]))})
    return cases


def main() -> None:
    """Compute all cases and put them under ``oracle`` in the vector file."""
    print("building the field; this takes minutes", flush=True)
    field = galois.GF(PRIME)
    cases: list[dict[str, object]] = []
    for count in range(1, len(PARTIAL) + 1):
        cases += cases_for(field, count)
        print(f"{count} inputs done", flush=True)
    document = json.loads(TARGET.read_text())
    document["oracle"] = {
        "source": {
            "tool": "poseidon-hash",
            "version": version("poseidon-hash"),
            "galois": version("galois"),
            "script": "tools/make_oracle_vectors.py",
        },
        "taken_from_it": TAKEN,
        "given_to_it": GIVEN,
        "cases": cases,
    }
    TARGET.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
