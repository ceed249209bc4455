"""The exit proof, made by snarkjs in a process of its own from the stored artifacts alone."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proofbook.escape.artifacts import ExitArtifacts
from proofbook.escape.errors import ExitProofFailed
from proofbook.protocol.secrets import without_secrets
from proofbook.protocol.state import State
from proofbook.verifier.code import repository_root
from proofbook.verifier.replay import exit_words

TIMEOUT_S: Final = 1800.0
_MAX_DIGITS: Final = 78
"""Of 2^256."""
_PUBLIC: Final = ("root", "index", "owner", "T", "a0", "a1", "a2", "a3", "a4")


@dataclass(frozen=True, slots=True)
class ExitCall:
    """The contract's ``exit`` arguments.

    Attributes
    ----------
    index : int
        Account.
    owner : int
        Who is paid.
    tokens : int
        T.
    amounts : tuple of int
        Five words, three amounts of 64 bits each.
    proof : tuple of int
        Eight words in EIP-197 order.
    """

    index: int
    owner: int
    tokens: int
    amounts: tuple[int, ...]
    proof: tuple[int, ...]


def exit_inputs(state: State, index: int) -> dict[str, Any]:
    """Return the exit circuit's inputs; names and shapes are those of `circuits/src/exit.circom`.

    Raises
    ------
    ExitProofFailed
        For an account that is not open.
    InvalidValue
        For an index beyond the tree (M24).
    """
    account = state.account(index)
    if not account.owner:
        raise ExitProofFailed(f"account {index} is not open in the last root", "its deposits can be reclaimed")
    tokens, words = exit_words(account)
    return {
        "root": state.root,
        "index": index,
        "owner": account.owner,
        "T": tokens,
        **{f"a{k}": word for k, word in enumerate(words)},
        "amounts": list(account.positions_words()[1]),
        "pub": [account.pub_x, account.pub_y],
        "ordersRoot": account.orders_root(state.preset),
        "path": state.path(index),
    }


def prove_exit(artifacts: ExitArtifacts, state: State, index: int) -> ExitCall:
    """Prove what an account holds in a state.

    Parameters
    ----------
    artifacts : ExitArtifacts
        Checked ones.
    state : State
        Rebuilt, with the contract's root.
    index : int
        Account.

    Raises
    ------
    ExitProofFailed
        If node or snarkjs is missing or fails, or the account is not open.
    """
    inputs = exit_inputs(state, index)
    with tempfile.TemporaryDirectory(prefix="proofbook-") as name:
        folder = Path(name)
        (folder / "input.json").write_text(json.dumps(_decimal(inputs)))
        _snarkjs(artifacts, folder)
        words, public = _read_proof(folder)
    if public != [inputs[signal] for signal in _PUBLIC]:
        raise ExitProofFailed("the proof is for other public inputs", "are these the exit circuit's artifacts?")
    amounts = tuple(inputs[f"a{k}"] for k in range(5))
    return ExitCall(index, inputs["owner"], inputs["T"], amounts, tuple(words))


def _read_proof(folder: Path) -> tuple[list[int], list[int]]:
    """Return a proof's eight words in EIP-197 order and its public inputs; `ExitProofFailed` for what is none."""
    try:
        proof = json.loads((folder / "proof.json").read_bytes())
        public = json.loads((folder / "public.json").read_bytes())
        (x0, x1), (y0, y1), _ = proof["pi_b"]
        words = [*proof["pi_a"][:2], x1, x0, y1, y0, *proof["pi_c"][:2]]
        if len(words) != 8:
            raise ValueError("a point without two coordinates")
        return [_number(word) for word in words], [_number(value) for value in public]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ExitProofFailed(f"snarkjs wrote no proof: {str(error)[:200]}", "try again") from error


def _number(text: Any) -> int:
    if not (isinstance(text, str) and 0 < len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit()):
        raise ValueError("a number that is no decimal string")
    return int(text)


def _snarkjs(artifacts: ExitArtifacts, folder: Path) -> None:
    cli = repository_root() / "node_modules" / "snarkjs" / "build" / "cli.cjs"
    files = [folder / name for name in ("input.json", "proof.json", "public.json")]
    words = ["node", cli, "groth16", "fullprove", files[0], artifacts.wasm, artifacts.zkey, *files[1:]]
    if not cli.is_file():
        raise ExitProofFailed("npm snarkjs is missing", "run `make setup`")
    try:
        command = [str(word) for word in words]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=without_secrets(os.environ),
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise ExitProofFailed(f"snarkjs did not run: {error}", "install Node.js 20 or later") from error
    if done.returncode != 0 or not all(path.is_file() for path in files):
        told = (done.stdout + done.stderr).strip()[-2000:]
        raise ExitProofFailed(f"snarkjs could not prove: {told}", "are these the exit circuit's artifacts?")


def _decimal(value: Any) -> Any:
    """Return the inputs with numbers as decimal strings: JSON's own would lose digits."""
    if isinstance(value, dict):
        return {name: _decimal(item) for name, item in value.items()}
    return [_decimal(item) for item in value] if isinstance(value, list) else str(value)
