"""Which wires a witness program only assigns: every `<--` of the sources, found among a compiled circuit's signals.

A hint's signal has a name like `main.account[3].CanonicalPositions_1_2.IsZero_3_4[0].inv`. Its path through the
templates that the sources declare tells whose `inv` it is, so no list of hints is written down anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

_COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TEMPLATE: Final = re.compile(r"\btemplate\s+(?:custom\s+|parallel\s+)?(\w+)\s*\(")
_HINT: Final = re.compile(r"(\w+)(?:\[[^\]]*\])*\s*<--")
_PART: Final = re.compile(r"\b(\w+)(?:\[[^\]]*\])*\s*=\s*(?:parallel\s+)?(\w+)\s*\(")
_ANONYMOUS: Final = re.compile(r"(\w+?)_\d+_\d+")


@dataclass
class Sources:
    """What the sources' templates are made of.

    Attributes
    ----------
    hints : mapping of str to set of str
        By template, the signals that stand left of a `<--`.
    parts : mapping of str to mapping of str to set of str
        By template and component, the templates that the component may be.
    """

    hints: dict[str, set[str]] = field(default_factory=dict)
    parts: dict[str, dict[str, set[str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, files: Iterable[Path]) -> Sources:
        made = cls()
        for path in files:
            made.add(path.read_text())
        return made

    def add(self, text: str) -> None:
        """Read the templates of one file."""
        bare = _COMMENT.sub("", text)
        assert "-->" not in bare, "a hint written the other way round is not looked for"
        starts = list(_TEMPLATE.finditer(bare))
        ends = [*(start.start() for start in starts[1:]), len(bare)]
        for start, end in zip(starts, ends, strict=bool(starts)):
            body, name = bare[start.end() : end], start[1]
            self.hints[name] = set(_HINT.findall(body))
            parts = self.parts.setdefault(name, {})
            for part, template in _PART.findall(body):
                parts.setdefault(part, set()).add(template)

    def site(self, signal: str, main: str) -> str | None:
        """Return the `<--` (template and signal) that assigns a signal, None where a constraint does."""
        head, _, last = signal.rpartition(".")
        name = last.partition("[")[0]
        for template in self._templates(tuple(re.sub(r"\[\d+\]", "", head).split(".")[1:]), main):
            if name in self.hints.get(template, ()):
                return f"{template}.{name}"
        return None

    def __hash__(self) -> int:
        return id(self)

    @cache  # noqa: B019 - one object lives as long as the tests
    def _templates(self, path: tuple[str, ...], main: str) -> frozenset[str]:
        if not path:
            return frozenset({main})
        anonymous = _ANONYMOUS.fullmatch(path[-1])
        if anonymous and anonymous[1] in self.hints:
            return frozenset({anonymous[1]})
        above = self._templates(path[:-1], main)
        return frozenset(t for name in above for t in self.parts.get(name, {}).get(path[-1], ()) if t in self.hints)


def sites(names: Mapping[str, int], sources: Sources, main: str) -> dict[str, list[int]]:
    """Return the wires of each `<--` that a circuit has, by template and signal."""
    found: dict[str, dict[int, None]] = {}
    for signal, wire in names.items():
        site = sources.site(signal, main)
        if site is not None and wire:
            found.setdefault(site, {})[wire] = None
    return {site: list(wires) for site, wires in found.items()}


def of_workspace(workspace: Any) -> Sources:
    """Return our sources and circomlib's."""
    ours, *libraries = workspace.includes
    files = sorted(ours.rglob("*.circom"))
    for folder in libraries:
        files += sorted((folder / "circomlib" / "circuits").glob("*.circom"))
    return Sources.read(files)
