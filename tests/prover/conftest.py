"""A workspace with tiny circuits of its own, so that these tests don't wait for the large ones."""

import json
from pathlib import Path

import pytest

from proofbook.prover.workspace import Workspace, repository_root

TINY = """
pragma circom 2.1.6;
include "helper.circom";
// A chain of squarings: c = the n-th square, and b may only be 0 to 3.
template Tiny(n) {
    signal input a;
    signal input b;
    signal input list[2][2];
    signal output c;
    signal s[n + 1];
    component small = Small();
    small.in <== b;
    s[0] <== a * b;
    for (var i = 0; i < n; i++) { s[i + 1] <== s[i] * s[i] + list[i % 2][1]; }
    c <== s[n] + list[0][0] + list[1][0];
}
"""
HELPER = """
pragma circom 2.1.6;
template Small() {
    signal input in;
    signal low;
    low <== in * (in - 1);
    signal high;
    high <== (in - 2) * (in - 3);
    low * high === 0;
}
"""


def entry(params, **fields):
    base = {"file": "tiny.circom", "template": "Tiny", "params": params, "public": ["a"], "budget": 100}
    return {**base, **fields}


def make_workspace(folder: Path) -> Workspace:
    root = repository_root()
    source = folder / "src"
    source.mkdir()
    (source / "tiny.circom").write_text(TINY)
    (source / "helper.circom").write_text(HELPER)
    sizes = {"requests": 1, "actions": 1, "accounts": 1, "fees": 1, "preset": "minimal"}
    circuits = {
        "tiny": entry([5]),
        "large": entry([9], budget=10),
        "slope-minimal-base": entry([5], **sizes),
        "slope-minimal-action": entry([8], **{**sizes, "actions": 3}),
        "slope-minimal-account": entry([15], **{**sizes, "accounts": 2}),
        "slope-minimal-request": entry([6], **{**sizes, "requests": 2}),
    }
    (folder / "circuits.json").write_text(json.dumps({"circuits": circuits}))
    return Workspace(root, folder / "build", folder / "circuits.json", (source, root / "node_modules"))


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The tiny circuit with development keys: (workspace, artifacts). Not to be changed."""
    from proofbook.prover.artifacts import build

    shared = make_workspace(tmp_path_factory.mktemp("tiny"))
    return shared, build("tiny", workspace=shared)


@pytest.fixture(scope="session")
def inputs():
    """Inputs that the tiny circuit accepts; as ints and as strings."""
    return {"a": 3, "b": 2, "list": [["10", 1], [20, 2]]}


@pytest.fixture(scope="session")
def public(inputs):
    """The tiny circuit's public values for `inputs`, in plain integers."""
    value = inputs["a"] * inputs["b"]
    for i in range(5):
        value = value * value + (1, 2)[i % 2]
    return (value + 30) % 21888242871839275222246405745257275088548364400416034343698204186575808495617, inputs["a"]
