"""Generated constants: fresh, and the numbers that the Python code works with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from proofbook.protocol import generate
from proofbook.protocol.field import R
from proofbook.protocol.state import Account, genesis_root
from proofbook.protocol.table import HEADER_LAYOUT, MAINNET, MINIMAL, PRESETS, REQUEST_LAYOUT
from proofbook.protocol.words import pack


def circom_constants() -> dict[str, int]:
    return {
        name: int(n)
        for name, n in re.findall(r"^function (\w+)\(\) \{ return (\d+); \}$", generate.circom_text(), re.M)
    }


def solidity_constants() -> dict[str, int]:
    return {
        name: int(n) for name, n in re.findall(r"uint256 internal constant (\w+) = (\d+);", generate.solidity_text())
    }


def test_the_committed_files_are_fresh() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "proofbook.protocol.generate", "--check"], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_a_stale_or_missing_file_is_told(tmp_path: Path) -> None:
    files = generate.outputs(tmp_path)
    assert sorted(generate.stale(tmp_path)) == sorted(files)
    for path, text in files.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert generate.stale(tmp_path) == []
    first = next(iter(files))
    first.write_text(files[first].replace("24", "25"))
    assert generate.stale(tmp_path) == [first]


@pytest.mark.parametrize("read", [circom_constants, solidity_constants])
def test_both_languages_have_every_number(read: object) -> None:
    found = read()  # type: ignore[operator]
    assert generate.constants().items() <= found.items()
    assert (found["ACCOUNT_BITS"], found["KIND_EXIT"], found["TYPE_CANCEL"], found["FOK_BIT"]) == (24, 4, 4, 1)
    assert (found["BPS"], found["MAX_AMOUNT"], found["NUMBER_BITS"]) == (10_000, 2**64 - 1, 64)
    for preset in PRESETS.values():
        assert found[f"GENESIS_ROOT_{preset.name.upper()}"] == genesis_root(preset)


def test_the_modulus_and_tags_reach_the_contract() -> None:
    assert solidity_constants()["R"] == R
    assert 'string internal constant DOMAIN_TAG = "proofbook/domain/v1";' in generate.solidity_text()


@pytest.mark.parametrize(("name", "layout"), [("HEADER", HEADER_LAYOUT), ("REQUEST", REQUEST_LAYOUT)])
def test_shifts_are_where_pack_puts_the_fields(name: str, layout: tuple[tuple[str, int], ...]) -> None:
    constants = generate.constants()
    for field, _ in layout:
        word = pack(layout, {other: int(other == field) for other, _ in layout})
        assert word == 1 << constants[f"{name}_{field.upper()}_SHIFT"]


@pytest.mark.parametrize("preset", [MINIMAL, MAINNET])
def test_circom_has_the_empty_roots_by_depth(preset: object) -> None:
    assert preset in (MINIMAL, MAINNET)
    text = generate.circom_text()
    for name, values in (("roots", "orders_root"), ("leaves", "leaf")):
        listed = re.search(rf"var {name}\[\d+\] = \[([\d, ]+)\];", text)
        assert listed is not None
        numbers = [int(number) for number in listed[1].split(",")]
        for each in (MINIMAL, MAINNET):
            assert numbers[each.order_depth - 1] == getattr(Account(), values)(each)
