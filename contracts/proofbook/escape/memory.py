"""What the watch remembers between two runs, in a small file."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from proofbook.escape.watch import Memory
from proofbook.verifier.history import Progress

MAX_BYTES: Final = 1 << 20
FORMAT: Final = "proofbook-watch-1"


def load_memory(path: Path, progress: Progress) -> Memory:
    """Return what a file holds, an empty memory without one; a damaged one is told of, and as good as none."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError("too large")
        return _read(json.loads(text))
    except FileNotFoundError:
        return Memory()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        progress(f"{path.name} is damaged and not used: {type(error).__name__}")
        return Memory()


def save_memory(path: Path, memory: Memory, progress: Progress) -> None:
    """Write it in one step; a disk that is full is told of, and stops nothing."""
    told = {
        "format": FORMAT,
        "seen_at": memory.seen_at,
        "code_hash": memory.code_hash,
        "keys_hash": memory.keys_hash,
        "bad_proofs": dict(memory.bad_proofs),
        "proofs_from": memory.proofs_from,
        "own_keys": {index: [str(x), str(y)] for index, (x, y) in memory.own_keys.items()},
        "balances": {index: dict(balances) for index, balances in memory.balances.items()},
        "exited": sorted(memory.exited),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(told, file)
        os.replace(name, path)
    except OSError as error:
        progress(f"{path.name} was not written: {error.strerror}")


def _read(told: Any) -> Memory:
    if told["format"] != FORMAT:
        raise ValueError("of another version")
    return Memory(
        seen_at=int(told["seen_at"]),
        code_hash=str(told["code_hash"]),
        keys_hash=str(told["keys_hash"]),
        bad_proofs={int(number): str(text) for number, text in told["bad_proofs"].items()},
        proofs_from=int(told["proofs_from"]),
        own_keys={int(index): (int(x), int(y)) for index, (x, y) in told["own_keys"].items()},
        balances={int(i): {int(token): int(n) for token, n in held.items()} for i, held in told["balances"].items()},
        exited=frozenset(int(index) for index in told["exited"]),
    )
