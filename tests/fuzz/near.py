"""What nobody meant, near to what somebody did: bytes, JSON and lines that are bent; and what was read is counted.

A fuzz test that reads nothing tells nothing: `each` asserts a share of examples that a decoder took.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.field import R

LONG = os.environ.get("PROOFBOOK_LONG") == "1"
EXAMPLES = 5000 if LONG else 120
WORST_S = 5.0
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=list(HealthCheck),
)
EDGES = [
    0,
    1,
    2,
    2**16 - 1,
    2**24,
    2**32,
    2**63,
    2**64 - 1,
    2**64,
    2**125,
    2**128,
    2**160,
    2**248,
    R - 1,
    R,
    2**256 - 1,
]
integers = st.sampled_from(EDGES) | st.integers(0, 2**64) | st.integers(0, 2**256 - 1) | st.integers(-5, 5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
junk = json_values.map(lambda value: json.dumps(value).encode())
DEEP = ["[" * 20_000, '{"a":' * 20_000, "a = " + "[" * 20_000, "a." * 2_000 + "b = 1", "9" * 5000, "a = " + "9" * 5000]
ODD = ["1e999", "-1e999", "1e15", "1.0", "NaN", "-0", "01", "9" * 5000, "9" * 4000, '"\\ud800"', '"\\u0000"', '"٣"']
ODD += [f'"{"f" * 5000}"', f'"{"9" * 5000}"', '""', '" 1"', '"1_0"', '"-1"', "true", "null", "{}", "[]", "[" * 20_000]
ODD += ["[" * 20_000 + "]" * 20_000, '{"a":' * 20_000 + "1" + "}" * 20_000, '"\xff"']


def read(decoder: Callable[..., Any], *values: Any, named: Sequence[type[Exception]] = ()) -> Any:
    """Return what a decoder reads, None if it refuses by name; anything else fails, slowness too."""
    started = time.process_time()
    try:
        return decoder(*values)
    except ProofbookError as error:
        assert error.code and len(str(error)) < 5000
        return None
    except tuple(named):
        return None
    finally:
        assert time.process_time() - started < WORST_S


def each(
    strategy: Any,
    check: Callable[[Any], bool],
    least: float,
    seeds: Iterable[Any] = (),
    examples: int = EXAMPLES,
    odd: Iterable[Any] = (),
) -> None:
    """Check seeds, each of which must be read, as ``check`` tells, and examples, of which a part of ``least`` must.

    ``odd`` are checked, and need not be read.
    """
    for seed in seeds:
        assert check(seed), f"not read: {seed!r:.500}"
    for one in odd:
        check(one)
    told: list[bool] = []

    @settings(fuzz, max_examples=examples, phases=[Phase.generate, Phase.shrink])
    @given(strategy)
    def run(example: Any) -> None:
        told.append(bool(check(example)))

    run()
    assert len(told) >= examples // 2, f"{len(told)} examples of {examples}"
    assert sum(told) >= least * len(told), f"{sum(told)} of {len(told)} were read"


@st.composite
def bent(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draw bytes near valid ones: cut, flipped, doubled, filled with ends of ranges."""
    made = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(made)))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            made = made[:at]
        elif kind == 1 and at < len(made):
            made[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 2:
            made[at:at] = draw(st.binary(max_size=40))
        elif kind == 3:
            made[at:at] = made[at : at + draw(st.integers(1, 64))]
        elif kind == 4:
            made[at : at + 32] = draw(st.sampled_from(EDGES)).to_bytes(32, "big")
        else:
            made[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\x00\x00\x00\x80"]))
    return bytes(made)


@st.composite
def overwritten(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draw a file of the same length, or cut off: some bytes of it are others."""
    made = bytearray(valid)
    for _ in range(draw(st.integers(0, 3))):
        at, more = draw(st.integers(0, len(made) - 1)), draw(st.binary(min_size=1, max_size=8))
        made[at : at + len(more)] = more[: len(made) - at]
    return bytes(made[: draw(st.integers(0, len(made)))] if draw(st.integers(0, 9)) == 0 else made)


def near(*valid: bytes) -> Any:
    """Draw bytes: a fifth as they are, most of them bent, some without any sense."""
    some = st.sampled_from(valid)
    return mixed(some, some.flatmap(bent), some.flatmap(bent), some.flatmap(bent), st.binary(max_size=400))


def mixed(*strategies: Any) -> Any:
    """Draw from each as often: `|` would count a strategy that has several in it several times."""
    return st.integers(0, len(strategies) - 1).flatmap(lambda k: strategies[k])


@st.composite
def bent_json(draw: st.DrawFn, document: Any) -> Any:
    """Draw the text of a document with a value, name or row other than it was; most have the kind they had."""
    made, odd = copy.deepcopy(document), ""
    for _ in range(draw(st.integers(1, 2))):
        holder, key = _place(draw, made)
        if holder is None:
            made = draw(json_values)
            continue
        kind = draw(st.integers(0, 9))
        if kind == 0:
            holder.pop(key)
        elif kind == 1 and isinstance(holder, dict):
            holder[draw(st.sampled_from(["x", key.upper(), "a" * 200]))] = holder[key]
        elif kind == 2:
            odd = draw(st.sampled_from(ODD))
            holder[key] = "@odd@"
        elif kind == 3:
            holder[key] = draw(json_values)
        elif kind == 4 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = draw(_like(holder[key]))
    return json.dumps(made).replace('"@odd@"', odd or "0")


def _place(draw: st.DrawFn, document: Any) -> tuple[Any, Any]:
    """Return one place inside a document: what holds it, and its key there; None for one that holds nothing."""
    holder, key = None, None
    at = document
    while isinstance(at, (dict, list)) and at:
        holder = at
        key = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
        at = holder[key]
        if draw(st.integers(0, 3)) == 0:
            break
    return holder, key


def _like(value: Any) -> Any:
    """Draw values of the kind that one has."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.sampled_from([value, value + 1, max(value - 1, 0)]) | integers
    if isinstance(value, float):
        return st.floats(0, 1000)
    if isinstance(value, str) and value.isdigit():
        return integers.map(str)
    if isinstance(value, str):
        return st.sampled_from([value[::-1], value.upper(), value[:-1], value + value[-1:]]) | st.text(max_size=20)
    return st.just(value) | st.just(type(value)())


def oddities(*valid: Any) -> Iterator[bytes]:
    """Yield documents with one odd value each: at every place, a few of them in CI, all in the long form."""
    for document in valid:
        for number, way in enumerate(_ways(document)):
            for k in range(len(ODD) if LONG else 5):
                made = copy.deepcopy(document)
                at = made
                for key in way[:-1]:
                    at = at[key]
                at[way[-1]] = "@odd@"
                odd = ODD[(5 * number + k) % len(ODD)]
                text = json.dumps(made).replace('"@odd@"', odd)
                yield text.encode("latin-1" if "\xff" in odd else "utf-8")
        yield as_json(document).replace(b'{"', b'{"\xff": 1, "', 1)
        yield from (odd.encode("latin-1" if "\xff" in odd else "utf-8") for odd in ODD)


def _ways(at: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the keys to every place inside a document."""
    keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
    for key in keys:
        yield (key,)
        yield from ((key, *way) for way in _ways(at[key]))


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


def documents(*valid: Any) -> Any:
    """Draw JSON as bytes: a fifth as it is, half with bent values, some with bent bytes, some without any sense."""
    some = st.sampled_from(valid)
    whole = some.map(as_json)
    values = some.flatmap(bent_json).map(lambda text: text.encode("latin-1" if "\xff" in text else "utf-8"))
    return mixed(whole, values, values, whole.flatmap(bent), junk)


@st.composite
def _bent_lines(draw: st.DrawFn, text: str) -> str:
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        name, mark, value = lines[at].partition(" = ")
        kind = draw(st.integers(0, 5))
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, draw(st.sampled_from(lines)))
        elif mark and kind > 2:
            new = st.sampled_from([*ODD, "0x" + "f" * 5000, "inf", "1979-05-27", "[[[]]]"]) | integers.map(str)
            lines[at] = name + mark + draw(new | st.just(value.replace("1", "2")))
        else:
            lines[at] += draw(st.text(max_size=10))
        lines = lines or [""]
    return "\n".join(lines)


def texts(*valid: str) -> Any:
    """Draw TOML: a fifth as it is, the others with other values, lines that are missing or twice, bent letters."""
    some = st.sampled_from(valid)
    letters = some.map(str.encode).flatmap(bent).map(lambda raw: raw.decode("utf-8", errors="replace"))
    return mixed(some, some.flatmap(_bent_lines), some.flatmap(_bent_lines), letters, st.text(max_size=300))
