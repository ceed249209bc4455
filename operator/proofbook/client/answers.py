"""What stands in an operator's answers, read with the caution due to somebody else's words."""

from __future__ import annotations

from typing import Any, Final

from proofbook.client.errors import ApiMalformed

Json = dict[str, Any]
_MAX_DIGITS: Final = 78
"""Of 2^256."""
_HINT: Final = "is the address right (--api or PROOFBOOK_API), and the operator's version?"


def get_number(found: Json, name: str, bits: int = 64) -> int:
    """Return an integer in [0, 2^bits), written as number or decimal string; `ApiMalformed` for anything else."""
    value = found.get(name)
    if isinstance(value, str) and 0 < len(value) <= _MAX_DIGITS and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise ApiMalformed(f"the operator's answer has no {name}, or none that can be", _HINT)
    return value


def get_text(found: Json, name: str) -> str:
    """Return a string; `ApiMalformed` if there is none."""
    value = found.get(name)
    if not isinstance(value, str):
        raise ApiMalformed(f"the operator's answer has no {name}", _HINT)
    return value


def get_flag(found: Json, name: str) -> bool:
    """Return yes or no; `ApiMalformed` if there is neither."""
    value = found.get(name)
    if not isinstance(value, bool):
        raise ApiMalformed(f"the operator's answer has no {name}", _HINT)
    return value


def get_object(found: Json, name: str) -> Json:
    """Return an object; `ApiMalformed` if there is none."""
    value = found.get(name)
    if not isinstance(value, dict):
        raise ApiMalformed(f"the operator's answer has no {name}", _HINT)
    return value


def get_rows(found: Json, name: str) -> list[Json]:
    """Return a list of objects; `ApiMalformed` if there is none."""
    rows = found.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ApiMalformed(f"the operator's answer has no {name}", _HINT)
    return rows
