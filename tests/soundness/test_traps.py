"""Every named trap has a control that is run, every rule a control or tests named after it.

What a control shows: without the one check that answers the trap, a lie passes. Where no circuit and no one line
answers a rule (the contract's own words, deadlines, custody, the tools' refusals), tests named after it try the attack.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest

HERE = Path(__file__).resolve().parent
OF_CIRCUITS: Final = {*range(1, 16), 17, 24}
RULES: Final = range(1, 26)


def table() -> Any:
    """Return the module that runs the controls."""
    spec = importlib.util.spec_from_file_location("soundness_tests_controls", HERE / "test_controls.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    if not hasattr(module, "CONTROLS"):
        spec.loader.exec_module(module)
    return module


TABLE = table()
TRAPS: Final[dict[str, list[str]]] = TABLE.TRAPS


@pytest.fixture(scope="module")
def controls() -> set[str]:
    """Return the names that controls report."""
    others = "".join(
        (HERE / f"test_{name}.py").read_text() for name in ("chain_controls", "exit_control", "hints", "bound")
    )
    named = {control.name for control in TABLE.CONTROLS}
    assert len(named) == len(TABLE.CONTROLS) and named >= TABLE.FOUND_ALONE
    # A name is put together of the compiler's flag.
    others = "".join(others.replace("{flag}", flag) for flag in ("--O0", "--O2"))
    return named | set(re.findall(r'"((?:M1[67]|M2[05]|gamma|a value|a signal) [^"]+)"', others))


@pytest.mark.parametrize("trap", list(TRAPS))
def test_every_named_trap_has_a_control(trap: str, controls: set[str]) -> None:
    assert TRAPS[trap] and set(TRAPS[trap]) <= controls


@pytest.mark.parametrize("trap", list(TRAPS))
def test_every_named_trap_has_a_control_in_ci(trap: str, controls: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the circuit costs a dozen seconds, so CI runs the first of each trap; the others run whenever asked."""
    monkeypatch.delenv("PROOFBOOK_LONG", raising=False)
    short, every = ({control.name for control in some} for some in (TABLE.chosen(), TABLE.CONTROLS))
    assert TRAPS[trap][0] in short | (controls - every)
    assert len(short) < 20


OF_COPIES: Final = {16, 17, 20, 25}
"""Rules whose control is a copy of the contract, or of the way out, without the check."""


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_attacked(rule: int, controls: set[str]) -> None:
    if rule in OF_CIRCUITS | OF_COPIES:
        assert any(name.startswith(f"M{rule} ") for name in controls)
    tests = "".join(path.read_text() for path in HERE.parent.rglob("test_*.py"))
    assert re.search(rf"^def test(?:_m0?\d+)*_m0?{rule}_", tests, re.MULTILINE)
