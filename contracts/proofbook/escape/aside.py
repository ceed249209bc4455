"""Small files that are written in one step: whole, or as they were before."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from proofbook.verifier.history import Progress


def write_aside(path: Path, text: str, progress: Progress) -> bool:
    """Write a file beside its place, and put it there when it is on the disk.

    Parameters
    ----------
    path : Path
        The file; its folder is made when missing.
    text : str
        All that is to be in it.
    progress : Progress
        Told when it can't be written: a disk that is full stops nothing.

    Returns
    -------
    bool
        Whether it was written; nothing is left behind where it was not.
    """
    part = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        return True
    except OSError as error:
        progress(f"{path.name} was not written: {error.strerror}")
        if part:
            with contextlib.suppress(OSError):
                os.unlink(part)
        return False
