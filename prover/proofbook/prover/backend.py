"""Groth16 backends behind one small interface: snarkjs in a subprocess, and the native core."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from proofbook.prover.artifacts import Artifacts
from proofbook.prover.errors import ProofError
from proofbook.prover.process import snarkjs, tail
from proofbook.prover.workspace import Workspace, default_workspace

if TYPE_CHECKING:
    from proofbook_native import Prover

BASE_FIELD: Final = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""The base field of BN254, in which points' coordinates lie."""
PROVE_TIMEOUT_S: Final = 3600.0
VERIFY_TIMEOUT_S: Final = 300.0
_MAX_DIGITS: Final = 78
"""Of 2^256."""

G1 = tuple[int, int]
G2 = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Proof:
    """A Groth16 proof with its public inputs.

    Attributes
    ----------
    pi_a, pi_c : (int, int)
        Affine points of G1.
    pi_b : ((int, int), (int, int))
        Affine point of G2; each coordinate real part first, as snarkjs writes it.
    public : tuple of int
        Public inputs in the circuit's order.
    """

    pi_a: G1
    pi_b: G2
    pi_c: G1
    public: tuple[int, ...]

    @classmethod
    def from_snarkjs_json(cls, proof: Mapping[str, Any], public: list[Any]) -> Proof:
        """Read snarkjs's proof.json and public.json.

        Raises
        ------
        ProofError
            `proof/format` when they aren't of that form, or a point is at infinity.
        """
        try:
            if proof["protocol"] != "groth16" or proof["curve"] != "bn128":
                raise ValueError("not a Groth16 proof over bn128")
            b = proof["pi_b"]
            if len(b) != 3 or _integers(b[2]) != (1, 0):
                raise ValueError("a point is at infinity, or none")
            return cls(
                pi_a=_g1(proof["pi_a"]),
                pi_b=(_pair(b[0]), _pair(b[1])),
                pi_c=_g1(proof["pi_c"]),
                public=_integers(public),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ProofError("proof/format", f"not a snarkjs proof: {error}") from error

    def to_snarkjs_json(self) -> tuple[dict[str, Any], list[str]]:
        """Return proof.json and public.json as snarkjs reads them."""
        proof = {
            "pi_a": [str(self.pi_a[0]), str(self.pi_a[1]), "1"],
            "pi_b": [[str(part) for part in coordinate] for coordinate in (*self.pi_b, (1, 0))],
            "pi_c": [str(self.pi_c[0]), str(self.pi_c[1]), "1"],
            "protocol": "groth16",
            "curve": "bn128",
        }
        return proof, [str(value) for value in self.public]

    def to_solidity(self) -> tuple[int, int, int, int, int, int, int, int]:
        """Return the eight words of the contracts' `proof`, in EIP-197 order: G2's imaginary parts come first."""
        (x0, x1), (y0, y1) = self.pi_b
        return (*self.pi_a, x1, x0, y1, y0, *self.pi_c)


def _integers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list):
        raise TypeError("no list of numbers where one has to be")
    return tuple(_integer(value) for value in values)


def _integer(text: Any) -> int:
    # int() would also take floats, blanks, underscores and other scripts' digits.
    if not (isinstance(text, str) and 0 < len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit()):
        raise ValueError("a number that is no decimal string")
    return int(text)


def _pair(values: Any) -> tuple[int, int]:
    first, second = _integers(values)
    if not (0 <= first < BASE_FIELD and 0 <= second < BASE_FIELD):
        raise ValueError("a coordinate is out of range")
    return first, second


def _g1(values: Any) -> G1:
    if not isinstance(values, list) or _integers(values[2:]) != (1,):
        raise ValueError("a point is at infinity, or none")
    return _pair(values[:2])


class ProverBackend(Protocol):
    """Something that turns a witness into a proof."""

    name: str

    def prove(self, artifacts: Artifacts, wtns: Path) -> Proof:
        """Prove.

        Raises
        ------
        ProofError
            `proof/failed`.
        """
        ...


class SnarkjsBackend:
    """snarkjs, in a process of its own."""

    name = "snarkjs"

    def __init__(self, workspace: Workspace | None = None) -> None:
        self._workspace = workspace or default_workspace()

    def prove(self, artifacts: Artifacts, wtns: Path) -> Proof:
        """Prove with `snarkjs groth16 prove`; about 6 s for 67 k constraints.

        Raises
        ------
        ProofError
            `proof/failed`, `proof/format`.
        ToolError
            `tool/timeout`, `tool/missing`.
        """
        with tempfile.TemporaryDirectory(prefix="proofbook-") as name:
            proof, public = Path(name, "proof.json"), Path(name, "public.json")
            arguments = ("groth16", "prove", artifacts.zkey, wtns, proof, public)
            done = snarkjs(self._workspace, *arguments, timeout=PROVE_TIMEOUT_S)
            if done.code != 0 or not proof.is_file() or not public.is_file():
                raise ProofError("proof/failed", f"{artifacts.name}: snarkjs could not prove:\n{tail(done.output)}")
            try:
                documents = json.loads(proof.read_bytes()), json.loads(public.read_bytes())
            except (ValueError, RecursionError) as error:
                raise ProofError("proof/format", f"{artifacts.name}: snarkjs wrote no proof: {error}") from error
            return Proof.from_snarkjs_json(*documents)


class NativeBackend:
    """Our Rust core, in this process, on all cores; keys stay mapped between proofs, one a path."""

    name = "native"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._provers: dict[Path, tuple[tuple[int, ...], Prover]] = {}

    def open(self, zkey: Path) -> Prover:
        """Return the prover that has a key mapped; ImportError without the native core, ValueError, OSError as it."""
        from proofbook_native import Prover

        stat = zkey.stat()
        identity = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        with self._lock:
            known = self._provers.get(zkey)
            if known is None or known[0] != identity:
                # A key that was made anew is another file in the same place.
                known = self._provers[zkey] = identity, Prover(zkey)
            return known[1]

    def prove(self, artifacts: Artifacts, wtns: Path) -> Proof:
        """Prove in the native core, which checks the proof before it returns it.

        Raises
        ------
        ProofError
            `proof/failed`, `proof/format`, or `proof/backend` when the core isn't installed.
        """
        try:
            done = self.open(artifacts.zkey).prove(wtns)
        except ImportError as error:
            raise ProofError("proof/backend", "the native prover is not installed", "run `make setup`") from error
        except (ValueError, OSError) as error:
            raise ProofError("proof/failed", f"{artifacts.name}: the native core could not prove: {error}") from error
        return Proof.from_snarkjs_json(done["proof"], done["publicSignals"])


@cache
def _native() -> NativeBackend:
    # One for all of the process, so that they share the keys.
    return NativeBackend()


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that can be used here, the fastest last."""
    try:
        import proofbook_native
    except ImportError:
        return ("snarkjs",)
    return ("snarkjs", "native") if hasattr(proofbook_native, "Prover") else ("snarkjs",)


def get_backend(name: str = "auto", workspace: Workspace | None = None) -> ProverBackend:
    """Return a backend.

    Parameters
    ----------
    name : {"snarkjs", "native", "auto"}
        `auto` takes the fastest that is there.

    Raises
    ------
    ProofError
        `proof/backend` when it is unknown or not installed.
    """
    available = available_backends()
    if name == "auto":
        name = available[-1]
    if name not in available:
        raise ProofError("proof/backend", f"no backend {name!r}", f"available: {', '.join(available)}")
    return _native() if name == "native" else SnarkjsBackend(workspace)


_REFUSALS: Final = ("Invalid proof", "Proof commitments are not valid", "Public inputs are not valid")


def verify_snarkjs(artifacts: Artifacts, proof: Proof, workspace: Workspace | None = None) -> bool:
    """Return whether snarkjs accepts a proof under the artifacts' verifying key.

    Raises
    ------
    ProofError
        `proof/verify` when snarkjs can't tell, for instance because the key isn't readable.
    """
    try:
        inputs = json.loads(artifacts.vkey.read_bytes())["nPublic"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProofError("proof/verify", f"{artifacts.name}: the verifying key can't be read: {error}") from error
    if len(proof.public) != inputs:
        return False  # snarkjs itself takes missing inputs for zeros
    with tempfile.TemporaryDirectory(prefix="proofbook-") as name:
        paths = Path(name, "public.json"), Path(name, "proof.json")
        document, public = proof.to_snarkjs_json()
        paths[0].write_text(json.dumps(public))
        paths[1].write_text(json.dumps(document))
        arguments = ("groth16", "verify", artifacts.vkey, *paths)
        done = snarkjs(workspace or default_workspace(), *arguments, timeout=VERIFY_TIMEOUT_S)
    if done.code == 0 and "OK!" in done.output:
        return True
    if any(refusal in done.output for refusal in _REFUSALS):
        return False
    raise ProofError("proof/verify", f"{artifacts.name}: snarkjs could not check the proof:\n{tail(done.output)}")
