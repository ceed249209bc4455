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
_INPUT: Final = re.compile(r"\bsignal\s+input\s+(\w+)")
_CALL: Final = re.compile(r"\b(\w+)\s*\(")
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
    calls : mapping of str to set of str
        By template, whatever it calls: templates without a name, and functions.
    inputs : mapping of str to set of str
        By template, its input signals.
    """

    hints: dict[str, set[str]] = field(default_factory=dict)
    parts: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=dict)
    inputs: dict[str, set[str]] = field(default_factory=dict)

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
            self.calls[name] = set(_CALL.findall(body))
            self.inputs[name] = set(_INPUT.findall(body))
            parts = self.parts.setdefault(name, {})
            for part, template in _PART.findall(body):
                parts.setdefault(part, set()).add(template)

    def site(self, signal: str, main: str) -> str | None:
        """Return the `<--` (template and signal) that assigns a signal, None where a constraint does."""
        head, name = parts_of(signal)
        for template in self.templates(head, main):
            if name in self.hints.get(template, ()):
                return f"{template}.{name}"
        return None

    def is_input(self, signal: str, main: str) -> bool:
        """Tell whether a signal is an input of its component, so that the component around it says what it is."""
        head, name = parts_of(signal)
        return any(name in self.inputs[template] for template in self.templates(head, main))

    def templates(self, head: str, main: str) -> frozenset[str]:
        """Return the templates that a component may be an instance of."""
        return self._templates(tuple(re.sub(r"\[\d+\]", "", head).split(".")[1:]), main)

    def below(self, template: str) -> set[str]:
        """Return a template and all that it is made of, parts without a name among them."""
        found, left = set(), [template]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                parts = self.parts.get(name, {})
                left += [t for several in parts.values() for t in several if t in self.hints]
                left += [t for t in self.calls[name] if t in self.hints]
        return found

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


def parts_of(signal: str) -> tuple[str, str]:
    """Return a signal's component and its own name without indices."""
    head, _, last = signal.rpartition(".")
    return head, last.partition("[")[0]


def sites(names: Mapping[str, int], sources: Sources, main: str) -> dict[str, list[int]]:
    """Return the wires of each `<--` that a circuit has, by template and signal."""
    found: dict[str, dict[int, None]] = {}
    for signal, wire in names.items():
        site = sources.site(signal, main)
        if site is not None and wire:
            found.setdefault(site, {})[wire] = None
    return {site: list(wires) for site, wires in found.items()}


def of_folders(ours: Path, *libraries: Path) -> Sources:
    """Return our sources and circomlib's."""
    files = sorted(ours.rglob("*.circom"))
    for folder in libraries:
        files += sorted((folder / "circomlib" / "circuits").glob("*.circom"))
    return Sources.read(files)


def of_workspace(workspace: Any) -> Sources:
    """Return the sources of a workspace."""
    return of_folders(*workspace.includes)


class Forwards:
    """How a circuit that nothing was simplified away from is solved in the direction its program runs.

    A wire is what its own component's `<==` says, an input what the component around it says; a hint follows from the
    constraint beside it; the bits of a number and the inverse of what may be 0 are calculated as the program does.
    All other constraints are checks: without this rule some would be read backwards, and lies go no further than there.

    Parameters
    ----------
    system : System
        Compiled with --O0.
    sources : Sources
    main : str
        The main component's template.
    derived : set of int
        Inputs of the main component that follow from the rest.
    """

    def __init__(self, system: Any, sources: Sources, main: str, derived: set[int]) -> None:
        self.system, self.derived = system, derived
        self.sites = sites(system.names, sources, main)
        self.hints = {wire for several in self.sites.values() for wire in several}
        self.homes = [""] * len(system.uses)
        self.entering = [False] * len(system.uses)
        for name, wire in system.names.items():
            self.homes[wire] = parts_of(name)[0]
            self.entering[wire] = sources.is_input(name, main)

    def may(self, number: int, wire: int) -> bool:
        """Tell whether a constraint says what a wire is."""
        if wire in self.derived:
            return True
        parts = self.system.constraints[number]
        if wire not in self.hints and any(w == wire for part in parts[:2] for w, _ in part):
            return False
        home = self.homes[wire]
        outside = [w for part in parts for w, _ in part if w and not (self.homes[w] + ".").startswith(home + ".")]
        if not self.entering[wire]:
            return not outside
        return bool(outside) or all(w in (0, wire) for part in parts for w, _ in part)

    def formulas(self) -> list[tuple[int, list[int], str]]:
        """Return what the program calculates where no constraint can: (of which wire, which wires, how)."""
        made: dict[str, list[int]] = {}
        for site, how in (("Num2Bits.out", "bits"), ("IsZero.inv", "inverse")):
            for wire in self.sites.get(site, []):
                made.setdefault(f"{how} {self.homes[wire]}", []).append(wire)
        names = self.system.names
        return [(names[key.split()[1] + ".in"], sorted(wires), key.split()[0]) for key, wires in made.items()]
