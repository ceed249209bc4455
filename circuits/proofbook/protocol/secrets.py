"""Which variables of the environment are secret: programs that are started have no need of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

KEY_VARIABLE: Final = "PROOFBOOK_KEY"
"""The L1 key, for commands that sign."""
PASSWORD_VARIABLE: Final = "PROOFBOOK_PASSWORD"
"""A keystore's password."""
SECRET: Final = frozenset({KEY_VARIABLE, PASSWORD_VARIABLE})


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for a child: compilers and provers are other people's code, and see no key."""
    return {name: value for name, value in environment.items() if name not in SECRET}
