"""Errors of the disk, told apart from damaged files: what a full or failing disk did not take was never there."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

_SQLITE: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
DATABASE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises; the second where its own message names what a damaged file holds."""
_ERRNO: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def is_disk_error(error: BaseException) -> bool:
    """Tell whether an error says that the disk is full, failing or read-only."""
    if isinstance(error, sqlite3.Error):
        # Without a code it is Python's own, of wrong use. Extended codes have the kind in their lowest byte.
        return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _SQLITE
    return isinstance(error, OSError) and error.errno in _ERRNO
