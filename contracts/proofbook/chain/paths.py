"""Where the checkout's sources, Node tools and build folder are."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def root() -> Path:
    """Return the checkout's top folder.

    ``PROOFBOOK_ROOT`` names it; without that it is the nearest folder above this file that holds ``package.json``.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    named = os.environ.get("PROOFBOOK_ROOT")
    candidates = [Path(named)] if named else list(Path(__file__).resolve().parents)
    for folder in candidates:
        if (folder / "package.json").is_file() and (folder / "contracts" / "src").is_dir():
            return folder
    raise FileNotFoundError("no Proofbook checkout found: run from a checkout, or set PROOFBOOK_ROOT to one")
