"""Check that the constants generated from the one table are fresh.

``proofbook.protocol.generate --check`` compares the committed circom and Solidity constants with what the table says.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

GENERATOR = "proofbook.protocol.generate"


def main() -> int:
    """Run the generator's check and return its exit status."""
    if importlib.util.find_spec(GENERATOR) is None:
        print(f"generated: {GENERATOR} is missing", file=sys.stderr)
        return 1
    return subprocess.run([sys.executable, "-m", GENERATOR, "--check"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
