"""docs/security.md against the tests: what it names exists and runs, each rule has its rows, no attack stands twice."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
PAGE = TESTS.parent / "docs" / "security.md"
HEAD = ("attack", "what stops it", "rule", "tests")
RULES = range(1, 26)
NAMED = re.compile(r"`([^`]+)`")
CONTROLS = TESTS / "soundness" / "test_controls.py"
SHORT, LONG = "", "1"


@dataclass(frozen=True)
class Row:
    """One attack of the page."""

    section: str
    attack: str
    answer: str
    rules: frozenset[int]
    tests: tuple[str, ...]


def rules_of(cell: str) -> frozenset[int]:
    """Return the rules of a cell such as ``M1-M15, M24``."""
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in cell.split(","))):
        match = re.fullmatch(r"M(\d+)(?:-M(\d+))?", part)
        assert match, f"{part!r} is no rule"
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def read_rows(text: str) -> list[Row]:
    """Return the rows of every table of attacks."""
    rows, section, inside = [], "", False
    for line in text.splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        if not line.startswith("|"):
            inside = False
            continue
        cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
        if cells == HEAD:
            inside = True
        elif inside and set(line) - set("|- "):
            assert len(cells) == len(HEAD), f"{line[:80]!r} has {len(cells)} cells"
            tests = tuple(NAMED.findall(cells[3]))
            assert not re.sub(r"[\s,]", "", NAMED.sub("", cells[3])), f"loose words among the tests of {cells[0]!r}"
            rows.append(Row(section, cells[0], cells[1], rules_of(cells[2]), tests))
    return rows


ROWS = read_rows(PAGE.read_text(encoding="utf-8"))


def is_marked(marks: list[ast.expr]) -> bool:
    """Tell whether one of these marks keeps a test from running, or from failing."""
    return any(word in ast.unparse(mark) for mark in marks for word in ("skip", "xfail"))


@cache
def functions_of(path: Path) -> dict[str, bool]:
    """Return the test functions of a file, and for each whether it always runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    marks = [node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            found[node.name] = not is_marked([*node.decorator_list, *marks])
    return found


@cache
def controls_run(form: str, path: Path = CONTROLS) -> frozenset[str]:
    """Return the names of the soundness harness's controls that a form (`SHORT`, `LONG`) hands to their test.

    As pytest sees it: the file is imported in that form, and the test's parameters are read. A skipped one has none.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROOFBOOK_LONG", form)
        spec = importlib.util.spec_from_file_location(f"security_page_controls_{path.parent.name}_{form}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    found: set[str] = set()
    for name, always in functions_of(path).items():
        for mark in getattr(getattr(module, name), "pytestmark", ()):
            if always and mark.name == "parametrize" and mark.args[0] == "control":
                found |= {control.name for control in mark.args[1]}
    return frozenset(found)


def problem_of(name: str) -> str:
    """Return what is wrong with the name of a test, nothing if it is one."""
    if name.startswith("trap: "):
        is_run = name.removeprefix("trap: ") in controls_run(SHORT) | controls_run(LONG)
        return "" if is_run else "there is no such control, or neither form runs it"
    path, _, function = name.partition("::")
    if not (TESTS / path).is_file() or not Path(path).name.startswith("test_"):
        return "there is no such file"
    if function not in functions_of(TESTS / path):
        return "there is no such test in it"
    return "" if functions_of(TESTS / path)[function] else "it may be skipped"


def test_every_attack_has_an_answer_and_tests_that_exist():
    assert len(ROWS) >= 90
    wrong = [f"{row.attack}: {name}: {why}" for row in ROWS for name in row.tests if (why := problem_of(name))]
    wrong += [f"{row.attack}: no tests" for row in ROWS if not row.tests]
    wrong += [f"{row.attack}: no answer" for row in ROWS if not row.answer]
    assert wrong == []


def test_no_attack_stands_twice():
    attacks = [row.attack.casefold() for row in ROWS]
    assert sorted(attacks) == sorted(set(attacks))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_rows_and_a_test_named_after_it(rule):
    mine = [row for row in ROWS if rule in row.rules]
    named = re.compile(rf"(?:^trap: |_)m0?{rule}(?:_| )", re.IGNORECASE)
    assert mine, f"no row for M{rule}"
    assert any(named.search(name) for row in mine for name in row.tests), f"no test named after M{rule} in its rows"


def test_no_row_is_of_a_rule_that_there_is_not():
    assert frozenset().union(*(row.rules for row in ROWS)) == set(RULES)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("contracts/test_claims.py::test_claim_reverts_NothingToClaim", ""),
        ("contracts/test_claims.py::test_of_nothing", "no such test"),
        ("contracts/test_nothing.py::test_of_nothing", "no such file"),
        ("conftest.py::settled", "no such file"),
        ("trap: M8 padding that writes", ""),
        ("trap: M26 nothing", "no such control"),
    ],
)
def test_this_test_notices(name, why):
    assert why in problem_of(name) and bool(why) == bool(problem_of(name))


def test_the_short_form_runs_some_controls_and_the_long_form_all():
    assert len(controls_run(SHORT)) >= 5 and controls_run(SHORT) < controls_run(LONG)


def test_a_control_that_is_only_written_down_is_noticed(tmp_path):
    """Registered and left out, run by the long form alone, or skipped."""
    text = """
import os
import pytest
class C:
    def __init__(self, name): self.name = name
ALL = [C("M1 short"), C("M2 long"), C("M3 never")]
CHOSEN = ALL[:2] if os.environ.get("PROOFBOOK_LONG") == "1" else ALL[:1]
{mark}
@pytest.mark.parametrize("control", CHOSEN)
def test_control(control): ...
@pytest.mark.parametrize("other", ALL)
def test_other(other): ...
"""
    found = []
    for name, mark in (("runs", "@pytest.mark.slow"), ("skipped", "@pytest.mark.skip")):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "test_x.py"
        path.write_text(text.format(mark=mark))
        found.append([controls_run(SHORT, path), controls_run(LONG, path)])
    assert found == [[{"M1 short"}, {"M1 short", "M2 long"}], [frozenset(), frozenset()]]


def test_a_test_that_may_be_skipped_is_noticed(tmp_path):
    path = tmp_path / "test_x.py"
    path.write_text("import pytest\n@pytest.mark.skipif(True, reason='')\ndef test_a(): ...\ndef test_b(): ...\n")
    assert functions_of(path) == {"test_a": False, "test_b": True}
    path = tmp_path / "test_y.py"
    path.write_text("import pytest\npytestmark = [pytest.mark.skip]\ndef test_a(): ...\n")
    assert functions_of(path) == {"test_a": False}
