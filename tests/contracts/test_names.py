"""Every error that the contract can give is named, and some test here expects it by that name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proofbook.chain.compile import contract_artifact
from proofbook.chain.paths import root

HERE = Path(__file__).resolve().parent
EXPECTS = r'(?:with reverts\(\s*"|keccak\(text=")(\w+)["(]'
SOURCES = sorted((root() / "contracts" / "src").glob("*.sol"))


def declared() -> set[str]:
    """Errors of our own sources and of what they are built on."""
    abi = {e["name"] for e in contract_artifact("Proofbook").abi if e["type"] == "error"}
    return abi | {name for path in SOURCES for name in re.findall(r"^\s*error (\w+)\(", path.read_text(), re.M)}


def expected() -> dict[str, set[str]]:
    """Names in `with reverts("...")` or a selector's text, and the tests that have them."""
    found: dict[str, set[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        for test in re.split(r"^(?=def )", path.read_text(), flags=re.M):
            title = re.match(r"def (test_\w+)", test)
            for name in re.findall(EXPECTS, test) if title else ():
                assert title is not None
                found.setdefault(name, set()).add(f"{path.name}::{title[1]}")
    return found


def test_every_error_is_expected_by_name_in_a_test():
    missing = declared() - set(expected())
    assert not missing, f"no test expects {sorted(missing)}"


def test_every_error_is_raised_by_the_sources():
    """No error is declared for nothing."""
    raised = {name for path in SOURCES for name in re.findall(r"\brevert (\w+)\(", path.read_text())}
    inherited = {"ReentrancyGuardReentrantCall", "SafeERC20FailedOperation"}
    assert declared() == raised | inherited


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_no_revert_is_without_a_name(path):
    """No `require`, no `assert`, no `revert()`, no revert in assembly: each would be a refusal that nobody can read."""
    code = re.sub(r"//[^\n]*", "", path.read_text())
    assert not re.search(r"\b(require|assert)\s*\(|\brevert\s*\(", code)
