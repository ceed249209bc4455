"""What is known of the verifying keys on the chain: their circuits' set-up, if this machine has a manifest of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proofbook.verifier.contract import Exchange

BATCH_INPUTS: Final = 3
EXIT_INPUTS: Final = 9
_MAX_JSON: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class KeyReport:
    """A verifying key and how it came about.

    Attributes
    ----------
    circuit : str
        Its name in this checkout's set-up, "" when no key here is the same.
    kind : str
        ``ceremony`` when this checkout holds it with a ceremony's manifest, else ``development``: whoever made it may
        be able to forge proofs.
    sha256 : str
        Of the key's words as the chain has them, hex.
    """

    circuit: str
    kind: str
    sha256: str

    def as_json(self) -> dict[str, Any]:
        """Return it by name."""
        return {"circuit": self.circuit, "kind": self.kind, "sha256": self.sha256}


def report_keys(exchange: Exchange, keys_dir: Path | None) -> tuple[tuple[KeyReport, ...], KeyReport]:
    """Return what is known of the batch sizes' keys and of the exit key.

    Parameters
    ----------
    exchange : Exchange
        The contract.
    keys_dir : Path or None
        A folder of artifact directories (`*/*/manifest.json`); whatever is damaged in it is as good as missing.
    """
    known = dict(_known_keys(keys_dir)) if keys_dir is not None else {}

    def report(key: bytes) -> KeyReport:
        circuit, kind = known.get(key, ("", "development"))
        return KeyReport(circuit, kind, hashlib.sha256(key).hexdigest())

    return tuple(report(size.key) for size in exchange.sizes), report(exchange.exit_key)


def _known_keys(keys_dir: Path) -> Iterator[tuple[bytes, tuple[str, str]]]:
    for path in sorted(keys_dir.glob("*/*/manifest.json")):
        try:
            manifest = _read_json(path.read_bytes())
            text = (path.parent / "vkey.json").read_bytes()
            if hashlib.sha256(text).hexdigest() != manifest["vkey_sha256"]:
                continue
            kind = "ceremony" if manifest["kind"] == "ceremony" else "development"
            yield key_bytes(_read_json(text)), (str(manifest["circuit"]), kind)
        except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
            continue


def _read_json(text: bytes) -> Any:
    if len(text) > _MAX_JSON:
        raise ValueError("too large")
    return json.loads(text)


def key_bytes(key: Any) -> bytes:
    """Return a snarkjs verifying key as the contract's words; any exception of indexing where it is none."""
    words = [int(x) for x in key["vk_alpha_1"][:2]]
    for name in ("vk_beta_2", "vk_gamma_2", "vk_delta_2"):
        (x0, x1), (y0, y1), _ = key[name]
        words += [int(x1), int(x0), int(y1), int(y0)]
    words += [int(part) for point in key["IC"] for part in point[:2]]
    return b"".join(word.to_bytes(32, "big") for word in words)
