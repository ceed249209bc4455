"""Single templates, fed with what no honest witness program would compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from proofbook.protocol.babyjub import SUBGROUP_ORDER
from proofbook.protocol.field import R
from proofbook.prover.calculator import shared_worker
from proofbook.prover.compile import compile_circuit
from proofbook.prover.errors import WitnessError
from proofbook.prover.workspace import Workspace, default_workspace

WRAPPERS = """
pragma circom 2.1.6;
include "lib/merkle.circom";
include "lib/range.circom";
template CanonicalBits() { signal input in[254]; AtMostConstant(254, -1)(in); }
template BelowOrder() {
    signal input in[253];
    var ORDER = 2736030358979909402780800718157159386076813972158567259200215660948447373041;
    AtMostConstant(253, ORDER - 1)(in);
}
template PickPlace() {
    signal input in[8];
    signal input bits[3];
    signal input value;
    signal input picked;
    signal input placed[8];
    signal pick <== Pick(3)(in, bits);
    signal place[8] <== Place(3)(value, bits);
    pick === picked;
    for (var i = 0; i < 8; i++) { place[i] === placed[i]; }
}
"""


@pytest.fixture(scope="module")
def accepts(tmp_path_factory: Any) -> Callable[..., bool]:
    """Return a function that tells whether a wrapper's witness exists."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "parts.circom").write_text(WRAPPERS)
    names = {"canonical-bits": "CanonicalBits", "below-order": "BelowOrder", "pick-place": "PickPlace"}
    entries = {name: {"file": "parts.circom", "template": template, "budget": 200} for name, template in names.items()}
    (folder / "circuits.json").write_text(json.dumps({"circuits": entries}))
    base = default_workspace()
    workspace = Workspace(base.root, folder / "build", folder / "circuits.json", (folder, *base.includes))

    def told(name: str, **inputs: Any) -> bool:
        compiled = compile_circuit(name, workspace=workspace)
        assert compiled.info.nonlinear <= compiled.circuit.budget
        try:
            shared_worker().calculate(compiled.wasm, inputs, folder / "out.wtns")
        except WitnessError as error:
            assert error.code == "witness/unsatisfied", error
            return False
        return True

    return told


@pytest.mark.parametrize(("name", "bits", "bound"), [("canonical-bits", 254, R), ("below-order", 253, SUBGROUP_ORDER)])
def test_m03_bits_write_the_one_number_below_the_bound(accepts: Any, name: str, bits: int, bound: int) -> None:
    half = 1 << 128
    high, low = divmod(bound - 1, half)
    # Around the bound, both halves at their ends, and aliases: the same field element, written with r or l more.
    values = {0, 1, bound - 1, bound, bound + 1, 5 + bound, (1 << bits) - 1, half - 1, half}
    values |= {h * half + lo for h in (high - 1, high, high + 1) for lo in (0, low - 1, low, low + 1, half - 1)}
    for value in values:
        written = [value >> i & 1 for i in range(bits)]
        assert accepts(name, **{"in": written}) == (value < bound), value


def test_pick_and_place_agree_with_the_index(accepts: Any) -> None:
    children = [100 + k for k in range(8)]
    for index in range(8):
        bits = [index >> i & 1 for i in range(3)]
        placed = [7 if k == index else 0 for k in range(8)]
        honest = {"in": children, "bits": bits, "value": 7, "picked": children[index], "placed": placed}
        assert accepts("pick-place", **honest)
        assert not accepts("pick-place", **{**honest, "picked": children[index - 1]})
        assert not accepts("pick-place", **{**honest, "placed": placed[::-1]})
