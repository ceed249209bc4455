"""Check the rules that the source tree itself has to follow.

Run from anywhere: ``python tools/check_tree.py [ROOT]``. It prints a line per breach, and exits with 1 if there is one.

The rules:

* Container folders are no packages. An ``operator/__init__.py`` would shadow the standard library's ``operator`` for
  everything that runs from the root, and a ``proofbook/__init__.py`` would hide the namespace's other parts.
* Committed files name no registry host and no path of one particular machine; lock files hold no source.
* Nothing that is built or fetched is committed, nothing large, and no mark of unfinished work.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CONTAINERS = ("circuits", "prover", "contracts", "operator")
MAX_BYTES = 2 * 1024 * 1024

# The words are put together here so that this file passes its own check.
_HOSTS = (
    "pypi" + r"\.org",
    "python" + r"hosted\.org",
    "npm" + r"js\.(?:org|com)",
    "crates" + r"\.io(?!-index)",
    "proxy.go" + r"lang\.org",
)
_PATHS = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + r"me/\w", "/opt/wh" + "eels", "/tmp/" + "pb")
_MARKS = ("TO" + "DO", "FIX" + "ME", "X" * 3)

FORBIDDEN = (
    ("a registry host", re.compile("|".join(_HOSTS))),
    ("a path of one machine", re.compile(rf"(?<![\w.}})-])(?:{'|'.join(_PATHS)})")),
    ("a mark of unfinished work", re.compile(rf"\b(?:{'|'.join(_MARKS)})\b")),
)
FETCHED_FROM = (
    "a place to fetch from",
    re.compile(r'^\s*"resolved":|^-i |--(?:extra-)?index-url|--find-links|--trusted-host', re.M),
)
LOCKS = ("package-lock.json", "requirements.lock", "requirements-oracle.lock", "requirements-bench.lock")


def container_breaches(root: Path) -> Iterator[str]:
    """Yield a line for each ``__init__.py`` that makes a container folder or the namespace a package."""
    for container in CONTAINERS:
        for folder in (root / container, root / container / "proofbook"):
            if (folder / "__init__.py").exists():
                yield f"{(folder / '__init__.py').relative_to(root)}: a container folder must not be a package"
    for found in sorted((root / "tests").rglob("__init__.py")):
        yield f"{found.relative_to(root)}: tests are imported by path (importlib mode) and need no package"


def text_breaches(name: str, text: str) -> Iterator[str]:
    """Yield a line for each forbidden thing in the text of the committed file `name`."""
    rules = [*FORBIDDEN, FETCHED_FROM] if name.rsplit("/", 1)[-1] in LOCKS else list(FORBIDDEN)
    for what, pattern in rules:
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{name}:{line}: {what}: {match.group().strip()}"


def _git(root: Path, *args: str) -> list[str]:
    out = subprocess.run(["git", "-C", str(root), *args, "-z"], check=True, capture_output=True).stdout
    return [name for name in out.decode().split("\0") if name]


def committed_breaches(root: Path) -> Iterator[str]:
    """Yield a line for each breach in the files that git tracks under `root`.

    Raises
    ------
    subprocess.CalledProcessError
        If `root` is not in a git work tree.
    """
    for name in _git(root, "ls-files", "--cached", "--ignored", "--exclude-standard"):
        yield f"{name}: is tracked although .gitignore names it"
    for name in _git(root, "ls-files", "--cached"):
        path = root / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            yield f"{name}: larger than {MAX_BYTES} bytes"
        elif b"\0" not in data:
            yield from text_breaches(name, data.decode("utf-8", errors="replace"))


def main(argv: list[str]) -> int:
    """Print every breach and return the exit status."""
    root = Path(argv[1]) if len(argv) > 1 else Path(__file__).resolve().parent.parent
    breaches = [*container_breaches(root), *committed_breaches(root)]
    for line in breaches:
        print(line, file=sys.stderr)
    print(f"tree: {len(breaches)} breaches" if breaches else "tree: in order")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
