"""Every named trap has a control that is run, every rule a control or tests named after it.

What a control shows: without the one check that answers the trap, a lie passes. Where no circuit and no one line
answers a rule (the contract's own words, deadlines, custody, the tools' refusals), tests named after it try the attack.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Final

import pytest

HERE = Path(__file__).resolve().parent
TRAPS: Final = {
    "aliasing of 254-bit decompositions": ["M3 aliasing of the challenge's 254 bits"],
    "comparators fed unranged values": ["M11 comparators fed unranged values", "M2 a slot's id is ranged"],
    "a flag that skips the signature": ["M3 a flag that skips the signature"],
    "padding that writes": ["M8 padding that writes", "M8 padding that answers"],
    "an id not under the signature": ["M3 an id not under the signature"],
    "products that overflow": ["M11 products that overflow: the price", "M11 products that overflow: the fee"],
    "a token id past 16 bits that is another account's key": [
        "M2 a token id past 16 bits is another account's key",
        "M2 a request's token past 16 bits is another account's",
    ],
    "an account opened with made-up old balances": ["M6 an account opened with made-up old balances"],
    "an account that is opened twice": ["M6 an account is opened from nothing"],
    "a slot chain that never ends": ["M8 a slot chain that never ends"],
    "an account row twice or out of order": ["M9 an account row twice", "M9 an account row out of order"],
    "a value chosen after z": ["M5 a value chosen after z", "M5 C is the sponge"],
    "S not reduced": ["M3 S not reduced"],
    "keys off the curve or of small order": ["M3 keys off the curve", "M3 keys of small order"],
    "words of D at or above 2^248 or r": ["M17 the header has one split", "M17 words of D at or above r"],
    "public inputs at or above r on chain": ["M17 public inputs at or above r on chain"],
    "gamma equal to delta in a key": ["gamma equal to delta in a key", "gamma equal to -delta in a key"],
    "a value assigned and not constrained": ["a value assigned and not constrained"],
    "a signal that no constraint binds": [f"a signal that no constraint binds, --O{k}" for k in (0, 2)],
}
OF_CIRCUITS: Final = {*range(1, 16), 17, 24}
RULES: Final = range(1, 26)


@pytest.fixture(scope="module")
def controls() -> set[str]:
    """Return the names that controls report."""
    spec = importlib.util.spec_from_file_location("soundness_tests_controls", HERE / "test_controls.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    if not hasattr(module, "CONTROLS"):
        spec.loader.exec_module(module)
    others = "".join((HERE / f"test_{name}.py").read_text() for name in ("chain_controls", "hints", "bound"))
    named = {control.name for control in module.CONTROLS}
    assert len(named) == len(module.CONTROLS)
    # One name is put together of the compiler's flag.
    others = "".join(others.replace("{flag}", flag) for flag in ("--O0", "--O2"))
    return named | set(re.findall(r'"((?:M1[67]|M20|gamma|a value|a signal) [^"]+)"', others))


@pytest.mark.parametrize("trap", list(TRAPS))
def test_every_named_trap_has_a_control(trap: str, controls: set[str]) -> None:
    assert TRAPS[trap] and set(TRAPS[trap]) <= controls


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_attacked(rule: int, controls: set[str]) -> None:
    if rule in OF_CIRCUITS:
        assert any(name.startswith(f"M{rule} ") for name in controls)
    tests = "".join(path.read_text() for path in HERE.parent.rglob("test_*.py"))
    assert re.search(rf"^def test(?:_m0?\d+)*_m0?{rule}_", tests, re.MULTILINE)
