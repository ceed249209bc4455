"""The sources and what they are built from, as an attacker of the supply chain would look at them."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for top in ("circuits", "prover", "contracts", "operator")
    for path in sorted((ROOT / top / "proofbook").rglob("*.py"))
]
# What runs text, makes objects of bytes, or starts a shell.
DANGEROUS = {"eval", "exec", "compile", "os.system", "os.popen", "pickle.loads", "pickle.load", "marshal.loads"}
DANGEROUS |= {"tempfile.mktemp", "yaml.load", "shelve.open", "input", "__import__"}
# Randomness that can be foretold has its place where a market is made up.
FORETOLD = ("operator/proofbook/sim/", "operator/proofbook/bench/")


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", node


CALLS = list(calls())


def test_nothing_runs_text_or_revives_objects():
    assert len(CALLS) > 5000
    assert [where for where, call in CALLS if ast.unparse(call.func) in DANGEROUS] == []


def test_no_shell_and_no_unverified_connection():
    odd = [
        where
        for where, call in CALLS
        for word in call.keywords
        if isinstance(word.value, ast.Constant)
        and (word.arg, word.value.value) in (("shell", True), ("verify", False), ("check_hostname", False))
    ]
    assert odd == []


def test_randomness_that_can_be_foretold_is_for_made_up_markets_only():
    users = []
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            users += [name for one in names if one in ("random", "numpy.random")]
    assert [name for name in users if not name.startswith(FORETOLD)] == []


def patterns() -> Iterator[tuple[str, str]]:
    for where, call in CALLS:
        given = [word.value for word in call.keywords if word.arg == "pattern"]
        if ast.unparse(call.func) in ("re.compile", "re.match", "re.search", "re.fullmatch"):
            given += call.args[:1]
        for node in given:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield where, node.value


def test_no_pattern_lets_a_line_break_through_at_its_end():
    found = list(patterns())
    assert len(found) > 15
    # `$` also stands before a last line break: "ETH\n" would be a name, and not ETH's.
    assert [where for where, pattern in found if pattern.endswith("$")] == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-bench.lock", "requirements-oracle.lock"])
def test_python_packages_are_pinned_by_hash(name):
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) > 3
    assert [
        line[:60] for line in lines if not re.match(r"^[\w.\[\]-]+==\S+( *;.*?)? +--hash=sha256:[0-9a-f]{64}", line)
    ] == []


def test_javascript_packages_are_pinned_by_hash_and_run_nothing_when_installed():
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(packages) > 3
    assert [name for name, entry in packages.items() if not str(entry.get("integrity", "")).startswith("sha512-")] == []
    own = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))
    asked = {**own.get("dependencies", {}), **own.get("devDependencies", {})}
    assert [name for name, wanted in asked.items() if not re.fullmatch(r"\d+\.\d+\.\d+", wanted)] == []
    assert "ignore-scripts=true" in (ROOT / ".npmrc").read_text(encoding="utf-8").splitlines()


def test_rust_crates_are_pinned_by_hash():
    lock = tomllib.loads((ROOT / "prover" / "native" / "Cargo.lock").read_text(encoding="utf-8"))
    strange = [crate["name"] for crate in lock["package"] if "source" in crate and len(crate.get("checksum", "")) != 64]
    own = [crate["name"] for crate in lock["package"] if "source" not in crate]
    assert strange == [] and own == ["proofbook-native"]


def test_what_is_installed_is_what_is_locked():
    script = (ROOT / "tools" / "setup.sh").read_text(encoding="utf-8")
    assert "--require-hashes -r requirements.lock" in script and "npm ci" in script and "--locked" in script
    assert re.search(r"npm (i|install|update)\b", script) is None
    assert re.search(r"\bcurl\b|\bwget\b", script) is None
