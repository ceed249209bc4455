"""The registry of circuits, `circuits/circuits.json`.

The file is one object, `{"circuits": {NAME: ENTRY, ...}}`; see `Circuit` for an entry's fields.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from proofbook.prover.errors import CircuitError
from proofbook.prover.workspace import Workspace

LARGE: Final = 300_000
"""Constraints above which a circuit is not compiled unasked."""
_MAX_BYTES: Final = 1 << 20
_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,63}\Z"

Identifier = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class Circuit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the registry.

    Attributes
    ----------
    file : str
        The circom file that holds the template, relative to `circuits/src`.
    template : str
        Name of the template.
    params : tuple of int
        Its parameters, in order.
    public : tuple of str
        Its public input signals, in the template's order.
    budget : int
        Non-linear constraints it may have.
    preset : str
        `minimal` or `mainnet`; "" where it doesn't matter.
    requests, actions, accounts, fees : int
        Rows of each kind, 0 where it has none.
    """

    file: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,120}\.circom\Z")]
    template: Identifier
    params: tuple[Annotated[int, msgspec.Meta(ge=0, le=2**62)], ...] = ()
    public: tuple[Identifier, ...] = ()
    budget: Annotated[int, msgspec.Meta(ge=1, le=2**28)]
    preset: str = ""
    requests: Count = 0
    actions: Count = 0
    accounts: Count = 0
    fees: Count = 0

    @property
    def is_large(self) -> bool:
        """Whether compiling takes minutes and gigabytes, so that it is only done where it is asked for."""
        return self.budget > LARGE


class _Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    circuits: dict[Annotated[str, msgspec.Meta(pattern=_NAME)], Circuit]


def load_circuits(workspace: Workspace) -> dict[str, Circuit]:
    """Return the registry, by name in the file's order.

    Raises
    ------
    CircuitError
        `circuit/registry` when the file is missing, too large or not of its form.
    """
    path = workspace.circuits_file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CircuitError("circuit/registry", f"cannot read {path.name}: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise CircuitError("circuit/registry", f"{path.name} is larger than {_MAX_BYTES} bytes")
    try:
        registry = msgspec.json.decode(data, type=_Registry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CircuitError("circuit/registry", f"{path.name}: {str(error)[:500]}") from error
    for name, circuit in registry.circuits.items():
        if ".." in circuit.file.split("/"):
            raise CircuitError("circuit/registry", f"{name}: file must not leave circuits/src")
    return dict(registry.circuits)


def get_circuit(workspace: Workspace, name: str) -> Circuit:
    """Return one entry.

    Raises
    ------
    CircuitError
        `circuit/unknown`, or `circuit/registry`.
    """
    circuits = load_circuits(workspace)
    if name not in circuits:
        known = ", ".join(circuits) or "none"
        raise CircuitError("circuit/unknown", f"there is no circuit {name!r}", f"known: {known}")
    return circuits[name]
