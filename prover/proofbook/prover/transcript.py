"""Who contributed to a key or a powers-of-tau file: read from the file itself, not from what a program prints of it.

A beacon is a public value, and a contribution made of it alone hides nothing. So it does not count as one: of a file
with beacons only, everybody knows the secret.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from proofbook.prover.errors import SetupError

_G1: Final = 64
_G2: Final = 128
_BEACON: Final = 1
_MAX_SECTIONS: Final = 1000
_MAX_CONTRIBUTIONS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Contributions:
    """How many contributions people made, and how many are beacons."""

    people: int
    beacons: int


@dataclass(frozen=True, slots=True)
class _Form:
    """Where a kind of file keeps its contributions, and how many bytes stand before their list and type."""

    magic: bytes
    section: int
    before_list: int
    before_type: int


_KEY: Final = _Form(b"zkey", 10, 64, 3 * _G1 + _G2 + 64)
_POWERS: Final = _Form(b"ptau", 7, 0, 3 * _G1 + 2 * _G2 + 6 * _G1 + 3 * _G2 + 216 + 64)


def key_contributions(zkey: Path) -> Contributions:
    """Count a proving key's contributions; `SetupError` (``setup/unverified``) for a file that is none."""
    return _count(zkey, _KEY, "setup/unverified")


def powers_contributions(ptau: Path) -> Contributions:
    """Count a powers-of-tau file's contributions; `SetupError` (``setup/ptau``) for a file that is none."""
    return _count(ptau, _POWERS, "setup/ptau")


def _count(path: Path, form: _Form, code: str) -> Contributions:
    try:
        with path.open("rb") as stream:
            _find(stream, form)
            stream.seek(form.before_list, 1)
            (count,) = _read(stream, "<I")
            if count > _MAX_CONTRIBUTIONS:
                raise ValueError(f"{count} contributions")
            beacons = 0
            for _ in range(count):
                stream.seek(form.before_type, 1)
                kind, length = _read(stream, "<II")
                beacons += kind == _BEACON
                stream.seek(length, 1)
    except (OSError, ValueError, OverflowError, struct.error) as error:
        # A size may be beyond any file's.
        raise SetupError(code, f"{path.name} can't be read: {error}") from error
    return Contributions(count - beacons, beacons)


def _find(stream: BinaryIO, form: _Form) -> None:
    """Go to the beginning of the section with the contributions."""
    magic, _, count = _read(stream, "<4sII")
    if magic != form.magic or count > _MAX_SECTIONS:
        raise ValueError(f"no {form.magic.decode()} file")
    for _ in range(count):
        kind, size = _read(stream, "<IQ")
        if kind == form.section:
            return
        stream.seek(size, 1)
    raise ValueError("no contributions in it")


def _read(stream: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, stream.read(struct.calcsize(form)))
