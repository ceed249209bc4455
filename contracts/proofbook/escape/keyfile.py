"""The L1 key: out of a file or the environment, never from the command line, never in a message."""

from __future__ import annotations

import getpass
import json
import os
import re
from pathlib import Path
from typing import Final

from eth_account import Account
from eth_account.signers.local import LocalAccount

from proofbook.escape.errors import KeyRefused
from proofbook.protocol.secrets import KEY_VARIABLE, PASSWORD_VARIABLE

_MAX_BYTES: Final = 1 << 16
_HEX: Final = re.compile(r"^(0x)?[0-9a-fA-F]{64}\Z")


def load_key(path: Path | None) -> LocalAccount | None:
    """Return the L1 key.

    Parameters
    ----------
    path : Path or None
        A file with 64 hex digits, or an Ethereum keystore (its password comes from ``PROOFBOOK_PASSWORD`` or is asked
        for). None takes 64 hex digits from ``PROOFBOOK_KEY``, if it is set.

    Raises
    ------
    KeyRefused
        If there is none in it.
    """
    if path is None:
        text = os.environ.get(KEY_VARIABLE, "")
        return _from_hex(text, KEY_VARIABLE) if text else None
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
    except OSError as error:
        raise KeyRefused(f"the key file can't be read: {error.strerror}", "check --key-file") from error
    text = data.decode("utf-8", errors="replace").strip()
    return _from_keystore(text) if text.startswith("{") else _from_hex(text, "the key file")


def _from_hex(text: str, where: str) -> LocalAccount:
    if not _HEX.match(text.strip()):
        raise KeyRefused(f"{where} holds no key", "a key is 64 hex digits, or an Ethereum keystore file")
    try:
        account: LocalAccount = Account.from_key(text.strip())
    except Exception:
        # From nothing: the cause's text might hold the key.
        raise KeyRefused(f"{where} holds no valid key", "a key is 64 hex digits") from None
    return account


def _from_keystore(text: str) -> LocalAccount:
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        password = getpass.getpass("password of the keystore: ")
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(json.loads(text), password))
    except Exception:
        raise KeyRefused("the keystore can't be opened", "is the password right?") from None
    return account
