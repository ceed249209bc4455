"""Python's recursion limit, kept where it was.

py-ecc, which eth-account imports too, raises it to 100,000 for the whole process when it is imported. After that, an
answer of 100,000 brackets is no error of the JSON parser any more, but the end of the interpreter: any node could end
an escape, any operator a trader's command. It is imported here, once, and the limit put back; every error of ours
imports this module, so everything does.
"""

from __future__ import annotations

import sys
from typing import Final

PYTHONS_LIMIT: Final = 1000
_RAISED: Final = 100_000

_before = sys.getrecursionlimit()
import py_ecc  # noqa: E402, F401

# Imported before us by somebody else: what the limit was, nobody knows any more.
sys.setrecursionlimit(PYTHONS_LIMIT if _before == _RAISED else _before)
