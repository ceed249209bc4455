"""Others' words on a terminal: shown, and not obeyed."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text on one line that does nothing to a terminal: control characters are written out."""
    return "".join(ch if ch.isprintable() else " " if ch.isspace() else f"\\x{ord(ch):02x}" for ch in text)
