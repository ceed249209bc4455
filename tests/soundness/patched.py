"""Copies of the circuits with one check taken out, compiled as small as they go and kept by content."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from proofbook.prover.compile import Compiled, find_compiler, main_source
from proofbook.prover.process import locked, new_directory, run
from proofbook.prover.r1cs import read_r1cs
from proofbook.prover.registry import Circuit
from proofbook.prover.workspace import default_workspace

# --O1 is a quarter faster to compile than what is proven, and the same circuit.
FLAGS: Final = ("--r1cs", "--wasm", "--O1")
PUBLIC: Final = {
    "Batch": ("C", "z", "y"),
    "Exit": ("root", "index", "owner", "T", "a0", "a1", "a2", "a3", "a4"),
}
Edit = tuple[str, str, str]
"""A file below circuits/src, a text that stands in it exactly once, and what to put there."""


def entry(template: str, rows: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Circuit:
    """Return a circuit at minimal depths."""
    params = (2, 2, *rows) if template == "Batch" else (2,)
    counts = dict(zip(("requests", "actions", "accounts", "fees"), rows, strict=True))
    file = f"{template.lower()}.circom"
    public = PUBLIC[template]
    return Circuit(
        file=file, template=template, params=params, public=public, budget=1 << 20, preset="minimal", **counts
    )


def edited(edits: tuple[Edit, ...]) -> dict[str, str]:
    """Return our sources by name, edited."""
    source = default_workspace().includes[0]
    texts = {str(path.relative_to(source)): path.read_text() for path in sorted(source.rglob("*.circom"))}
    for file, old, new in edits:
        assert texts[file].count(old) == 1, (file, old)
        texts[file] = texts[file].replace(old, new)
    return texts


def compile_patched(name: str, circuit: Circuit, edits: tuple[Edit, ...], flags: Sequence[str] = FLAGS) -> Compiled:
    """Compile a copy, or return what was compiled before from the same text."""
    workspace = default_workspace()
    tool = find_compiler(workspace)
    texts = edited(edits)
    lock_file = (workspace.root / "package-lock.json").read_text()
    content = [texts, main_source(circuit), tool.version, list(flags), lock_file]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    target = workspace.build / "test" / "patched" / name / key[:16]
    with locked(target.parent / "lock", lambda: None):
        if not target.is_dir():
            with new_directory(target) as staging:
                _compile(staging, circuit, texts, (workspace.includes[1:], (*tool.command, *flags)))
    r1cs, wasm = target / "circuit.r1cs", target / "circuit.wasm"
    return Compiled(name, circuit, key, r1cs, wasm, target / "circuit.sym", read_r1cs(r1cs))


def compile_copy(circuit: Circuit, edits: tuple[Edit, ...], flags: Sequence[str] = FLAGS) -> Compiled:
    """Compile a copy that has no name of its own: controls that take out the same share one."""
    name = hashlib.sha256(json.dumps([edits, main_source(circuit)]).encode()).hexdigest()
    return compile_patched(f"copy-{name[:12]}", circuit, edits, flags)


def _compile(
    staging: Path, circuit: Circuit, texts: dict[str, str], tools: tuple[tuple[Path, ...], tuple[str, ...]]
) -> None:
    includes, command = tools
    for file, text in texts.items():
        path = staging / "src" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (staging / "circuit.circom").write_text(main_source(circuit))
    libraries = [word for folder in (staging / "src", *includes) for word in ("-l", str(folder.resolve()))]
    words = [*command, str(staging / "circuit.circom"), *libraries, "-o", str(staging)]
    done = run(words, timeout=1800, cwd=staging)
    made = staging / "circuit_js" / "circuit.wasm"
    assert done.code == 0 and made.is_file(), done.output
    made.rename(staging / "circuit.wasm")
    shutil.rmtree(staging / "circuit_js")
