"""Reader of iden3's .r1cs files: the header, and how many constraints are not linear."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proofbook.prover.errors import ArtifactError

_MAX_BYTES: Final = 16 << 30
_HEADER: Final = 1
_CONSTRAINTS: Final = 2


@dataclass(frozen=True, slots=True)
class R1csInfo:
    """Sizes of a constraint system.

    Attributes
    ----------
    constraints : int
        All constraints.
    nonlinear : int
        Those that multiply two non-constant combinations; budgets count these.
    wires, outputs, public_inputs, private_inputs : int
        Wires (the constant one included) and signals of each kind.
    """

    constraints: int
    nonlinear: int
    wires: int
    outputs: int
    public_inputs: int
    private_inputs: int


def _sections(data: memoryview) -> dict[int, memoryview]:
    if bytes(data[:4]) != b"r1cs" or struct.unpack_from("<I", data, 4)[0] != 1:
        raise ArtifactError("artifact/r1cs", "not an r1cs file of version 1")
    (count,) = struct.unpack_from("<I", data, 8)
    at = 12
    sections: dict[int, memoryview] = {}
    for _ in range(count):
        kind, size = struct.unpack_from("<IQ", data, at)
        at += 12
        if at + size > len(data):
            raise ArtifactError("artifact/r1cs", "r1cs file is cut short")
        sections.setdefault(kind, data[at : at + size])
        at += size
    return sections


def _count_nonlinear(data: memoryview, constraints: int, bytes_each: int) -> int:
    """Count constraints a * b = c where neither a nor b is a constant."""
    unpack = struct.Struct("<I").unpack_from
    step = 4 + bytes_each
    at = 0
    found = 0
    for _ in range(constraints):
        varying = 0
        for part in range(3):
            (terms,) = unpack(data, at)
            # Wire 0 is the constant one, so a combination of it alone is a constant.
            if part < 2 and (terms > 1 or (terms == 1 and unpack(data, at + 4)[0] != 0)):
                varying += 1
            at += 4 + terms * step
        found += varying == 2
    if at != len(data):
        raise ArtifactError("artifact/r1cs", "r1cs constraints do not fill their section")
    return found


def read_r1cs(path: Path) -> R1csInfo:
    """Read a constraint system's sizes, about two seconds per million constraints.

    Raises
    ------
    ArtifactError
        `artifact/r1cs` when the file is missing or not an r1cs.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ArtifactError("artifact/r1cs", f"{path.name} is larger than {_MAX_BYTES} bytes")
        data = memoryview(path.read_bytes())
        sections = _sections(data)
        header = sections[_HEADER]
        (bytes_each,) = struct.unpack_from("<I", header, 0)
        wires, outputs, public, private = struct.unpack_from("<IIII", header, 4 + bytes_each)
        (constraints,) = struct.unpack_from("<I", header, 4 + bytes_each + 16 + 8)
        nonlinear = _count_nonlinear(sections[_CONSTRAINTS], constraints, bytes_each)
    except OSError as error:
        raise ArtifactError("artifact/r1cs", f"cannot read {path.name}: {error.strerror}") from error
    except (struct.error, KeyError) as error:
        raise ArtifactError("artifact/r1cs", f"{path.name} is not a whole r1cs file") from error
    return R1csInfo(constraints, nonlinear, wires, outputs, public, private)
