"""What the watch remembers between two runs, in a small file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from proofbook.escape.aside import write_aside
from proofbook.escape.watch import Memory
from proofbook.verifier.history import Progress

MAX_BYTES: Final = 1 << 20
FORMAT: Final = "proofbook-watch-1"
_DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,77})\Z")


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
        "bad_at": {number: [block, str(root)] for number, (block, root) in memory.bad_at.items()},
        "proofs_from": memory.proofs_from,
        "own_keys": {index: [str(x), str(y)] for index, (x, y) in memory.own_keys.items()},
        "balances": {index: dict(balances) for index, balances in memory.balances.items()},
        "exited": sorted(memory.exited),
    }
    write_aside(path, json.dumps(told), progress)


def _read(told: Any) -> Memory:
    if told["format"] != FORMAT:
        raise ValueError("of another version")
    return Memory(
        seen_at=_number(told["seen_at"]),
        code_hash=_text(told["code_hash"]),
        keys_hash=_text(told["keys_hash"]),
        bad_proofs={_number(number): _text(text) for number, text in told["bad_proofs"].items()},
        bad_at={
            _number(number): (_number(block), _number(root)) for number, (block, root) in told.get("bad_at", {}).items()
        },
        proofs_from=_number(told["proofs_from"]),
        own_keys={_number(index): (_number(x), _number(y)) for index, (x, y) in told["own_keys"].items()},
        balances={
            _number(i): {_number(token): _number(n) for token, n in held.items()}
            for i, held in told["balances"].items()
        },
        exited=frozenset(_number(index) for index in told["exited"]),
    )


def _number(value: Any) -> int:
    """Return a number that `save_memory` could have written, as itself or in a name; ValueError for anything else."""
    if isinstance(value, str) and _DECIMAL.match(value):
        value = int(value)
    if type(value) is not int or not 0 <= value < 1 << 256:
        raise ValueError("no number where one has to be")
    return value


def _text(value: Any) -> str:
    """Return a text that can be printed; ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError("no text where one has to be")
    value.encode()  # half a surrogate pair is not: the error is a ValueError
    return value
