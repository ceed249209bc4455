"""The operating page says of every error that can stop an operator what to do."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import proofbook.operator as package
from proofbook.operator.codes import OperatorError

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operating.md"
INSIDE = {"command"}  # never reach anybody: a damaged command is a damaged journal


def get_classes(base: type[Any]) -> set[type[Any]]:
    found = {base}
    for child in base.__subclasses__():
        found |= get_classes(child)
    return found


def test_every_stop_is_on_the_page():
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"proofbook.operator.{module.name}")
    classes = [found for found in get_classes(OperatorError) if found.__module__.startswith("proofbook.operator.")]
    codes = {found.code for found in classes if issubclass(found, OperatorError)} - INSIDE
    assert len(codes) > 20
    page = PAGE.read_text()
    section = page[page.index("## When something goes wrong") : page.index("## The operator's directory")]
    assert {code for code in codes if f"`{code}`" not in section} == set()
