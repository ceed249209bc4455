"""The running operator of `tests/operator/service`, for the API's fuzzing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

SERVICE = Path(__file__).resolve().parent.parent / "operator" / "service" / "conftest.py"


def load(path: Path) -> Any:
    """Import a helper by its path: folders of tests are no packages."""
    name = f"fuzz_tests_{path.parent.name}_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


service = load(SERVICE)
live_exchange, live, populated, session = (
    service.live_exchange,
    service.live,
    service.populated,
    service.session,
)
