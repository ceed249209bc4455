"""The L1 key: out of a file or the environment, never from the command line, never in a message."""

from __future__ import annotations

import getpass
import json
import os
import re
from pathlib import Path
from typing import Any, Final

from eth_account import Account
from eth_account.signers.local import LocalAccount

from proofbook.escape.errors import KeyRefused
from proofbook.protocol.secrets import KEY_VARIABLE, PASSWORD_VARIABLE

_MAX_BYTES: Final = 1 << 16
_HEX: Final = re.compile(r"^(0x)?[0-9a-fA-F]{64}\Z")
_MAX_MEMORY: Final = 1 << 29
_MAX_WORK: Final = 1 << 22
"""Blocks that scrypt mixes: twice of what the dearest keystores in use ask for."""
_MAX_ROUNDS: Final = 10_000_000
_MAX_DERIVED: Final = 64


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
    _check_cost(text)
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        password = getpass.getpass("password of the keystore: ")
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(json.loads(text), password))
    except Exception:
        raise KeyRefused("the keystore can't be opened", "is the password right?") from None
    return account


def _check_cost(text: str) -> None:
    """Refuse a keystore whose password takes more memory or time to try than any in use; `KeyRefused`.

    It is somebody's file: one number in it would hold the escape up for ever, or take all of the machine's memory.
    """
    try:
        kdf, cost = _kdf_of({name.lower(): value for name, value in json.loads(text).items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KeyRefused(
            "the key file is no keystore", "a key is 64 hex digits, or an Ethereum keystore file"
        ) from None
    if any(type(number) is not int or number < 1 for number in cost.values()):
        bearable = False
    elif kdf == "scrypt":
        n, r, p = (cost[name] for name in ("n", "r", "p"))
        bearable = 128 * n * r <= _MAX_MEMORY and 128 * r * p <= _MAX_MEMORY and n * r * p <= _MAX_WORK
    else:
        bearable = cost["c"] <= _MAX_ROUNDS
    if not bearable or cost["dklen"] > _MAX_DERIVED:
        raise KeyRefused(
            "opening the keystore would take more memory or time than is given to it",
            "write the key into a new keystore, with scrypt of n = 262144 and r = 8, or as 64 hex digits",
        )


def _kdf_of(keystore: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a keystore's way from password to key, and its numbers; any exception of indexing where it is none."""
    crypto = {name.lower(): value for name, value in keystore["crypto"].items()}
    if isinstance(kdf := crypto["kdf"], dict):  # version 4
        inner = {name.lower(): value for name, value in kdf.items()}
        kdf, given = inner["function"], inner["params"]
    else:
        given = crypto["kdfparams"]
    names = {"scrypt": ("n", "r", "p", "dklen"), "pbkdf2": ("c", "dklen")}[kdf]
    numbers = {name.lower(): value for name, value in given.items()}
    return kdf, {name: numbers[name] for name in names}
