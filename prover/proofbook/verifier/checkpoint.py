"""A ledger kept on disk, so that a rebuild that broke off goes on where it was.

Nothing in such a file is believed: its digest must fit, the state's root is computed from its leaves again and has to
be the one the contract logged for that batch, and its block must still be the chain's. Otherwise it is deleted.
What no root covers - queue, claims, exits - is held against the contract by whoever goes on from it (`Chain`).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ClassVar, Final

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.state import Account, State
from proofbook.protocol.words import Request
from proofbook.verifier.abi import decode_event, topic
from proofbook.verifier.contract import Exchange
from proofbook.verifier.errors import RpcMalformed, VerifierError
from proofbook.verifier.history import Exit, Ledger, Progress, Queued, silent
from proofbook.verifier.rpc import Rpc

FORMAT: Final = "proofbook-ledger-1"
MAX_LINE: Final = 16 << 20
_SUFFIX: Final = ".ledger"
_NEAR, _FAR = 64, 4096
_STALE_PART_S: Final = 3600
_PUT: Final = 1024
"""Accounts hashed together."""
_COUNTERS: Final = ("block", "number", "served", "timestamp", "batch_block", "queued")


class Damaged(VerifierError):
    """A checkpoint that is not what was written, or not of this chain any more."""

    code: ClassVar[str] = "checkpoint_damaged"


class Checkpoints:
    """The checkpoints of one exchange.

    Parameters
    ----------
    folder : Path
        Of all exchanges; each has a folder in it, by chain and contract.
    chain_id : int
        Its chain.
    contract : str
        Its address.
    progress : Progress
        Told when one is discarded.
    every : float
        Seconds at least between two that `offer` writes; 0 for all of them.
    clock : callable
        Seconds, never going back.
    """

    def __init__(
        self,
        folder: Path,
        chain_id: int,
        contract: str,
        progress: Progress = silent,
        every: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder / f"{chain_id}-{contract}"
        self._chain_id, self._contract = chain_id, contract
        self._progress, self._every, self._clock = progress, every, clock
        self._due = clock() + every

    def offer(self, rpc: Rpc, exchange: Exchange, ledger: Ledger) -> None:
        """Write a ledger if the last one is some time ago; see `save`."""
        if self._clock() >= self._due:
            self.save(rpc, exchange, ledger)

    def save(self, rpc: Rpc, exchange: Exchange, ledger: Ledger) -> None:
        """Write a ledger, in one step, and drop those that are of no more use.

        A disk that is full holds nobody back: there is no checkpoint then, and the reason is told.

        Raises
        ------
        RpcUnavailable, RpcRefused, RpcMalformed
            When the node fails.
        """
        # The contract's block is still the chain's, so all that was read before it is as well.
        if ledger.block < 0 or ledger.problems or not rpc.has_block(exchange.block, exchange.block_hash):
            return
        ledger.block_hash = rpc.block(ledger.block)[0]
        started = self._clock()
        try:
            self._write(ledger)
            self._prune()
        except OSError as error:
            self._progress(f"no checkpoint was written: {error.strerror}")
        if self._every:
            # However large the state is, writing it takes a small part of the time.
            self._due = self._clock() + max(self._every, 20 * (self._clock() - started))

    def load(self, rpc: Rpc, exchange: Exchange) -> Ledger | None:
        """Return the newest ledger that holds, None without one; the others are deleted, and it is told why.

        Raises
        ------
        RpcUnavailable, RpcRefused
            When the node fails.
        """
        for path in reversed(self._files()):
            try:
                self._progress(f"checking what was kept in {path.name}")
                ledger = self._read(path, exchange)
                # A node that lags behind says nothing about blocks to come.
                if ledger.block <= exchange.block:
                    _check(rpc, exchange, ledger)
                    self._progress(f"going on from block {ledger.block}, batch {ledger.number}, of {path.name}")
                    return ledger
            except (Damaged, RpcMalformed) as error:
                self._progress(f"checkpoint {path.name} is discarded: {error}")
                delete(path, self._progress)
        return None

    def clear(self) -> None:
        """Delete all checkpoints of this exchange."""
        for path in self._files():
            delete(path, self._progress)

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())

    def _write(self, ledger: Ledger) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{ledger.block:012d}.{os.getpid()}.part"
        digest = hashlib.sha256()
        try:
            with part.open("wb") as file:
                for row in self._rows(ledger):
                    line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
                    digest.update(line)
                    file.write(line)
                file.write(json.dumps(["end", digest.hexdigest()]).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.folder / f"{ledger.block:012d}{_SUFFIX}")
        finally:
            part.unlink(missing_ok=True)

    def _rows(self, ledger: Ledger) -> Iterator[list[Any]]:
        yield [FORMAT, self._chain_id, self._contract, ledger.block_hash, *(getattr(ledger, n) for n in _COUNTERS)]
        for index, a in ledger.state.accounts.items():
            orders = [[slot, *value] for slot, value in a.orders.items()]
            yield ["account", index, a.owner, a.pub_x, a.pub_y, [list(p) for p in a.positions], orders]
        for q in ledger.requests.values():
            r = q.request
            parts = (r.kind, r.account, r.token, r.amount, r.owner, r.pub_x, r.pub_y)
            yield ["request", q.id, *parts, q.fee, q.deadline]
        for (owner, token), quanta in ledger.claims.items():
            yield ["claim", owner, token, quanta]
        for index, left in ledger.exits.items():
            yield ["exit", index, left.owner, left.tokens, list(left.amounts)]
        for id_ in sorted(ledger.reclaimed):
            yield ["reclaimed", id_]

    def _prune(self) -> None:
        """Keep the newest, and older ones at growing distances for reorganizations of the chain."""
        newest: dict[tuple[int, int], Path] = {}
        for path in self._files():
            for width in (1, _NEAR, _FAR):
                newest[width, int(path.stem) // width] = path
        kept: set[Path] = set()
        for width, count in ((1, 1), (_NEAR, 2), (_FAR, 2)):
            kept.update(newest[key] for key in sorted(key for key in newest if key[0] == width)[-count:])
        for path in set(self._files()) - kept:
            path.unlink(missing_ok=True)
        for part in self.folder.glob("*.part"):  # of a process that was killed
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _STALE_PART_S:
                    part.unlink()

    def _read(self, path: Path, exchange: Exchange) -> Ledger:
        try:
            with path.open("rb") as file:
                lines = _lines(file)
                ledger = self._head(next(lines), exchange)
                _fill(ledger, lines)
        except (OSError, ValueError, TypeError, IndexError, StopIteration, RecursionError, ProofbookError) as error:
            raise Damaged(f"{type(error).__name__}: {str(error)[:200]}") from error
        # Their number first: the counters may tell of more than memory holds.
        waiting = ledger.queued - ledger.served
        if len(ledger.requests) != waiting or any(id_ != k for k, id_ in enumerate(ledger.requests, ledger.served)):
            raise Damaged("its requests have gaps")
        return ledger

    def _head(self, row: list[Any], exchange: Exchange) -> Ledger:
        form, chain_id, contract, block_hash, *counters = row
        if (form, chain_id, contract) != (FORMAT, exchange.chain_id, exchange.address):
            raise ValueError("of another exchange or version")
        ledger = Ledger(State(exchange.preset), block_hash=str(block_hash))
        for name, value in zip(_COUNTERS, _numbers(counters), strict=True):
            setattr(ledger, name, value)
        return ledger


def delete(path: Path, progress: Progress) -> None:
    """Delete a file. One that stays is told of, and stops nobody: what is in it is held against the chain again."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        progress(f"{path.name} can't be deleted: {error.strerror}")


def _lines(file: IO[bytes]) -> Iterator[list[Any]]:
    """Yield the rows of a file; ValueError unless it ends with its digest and nothing follows."""
    digest = hashlib.sha256()
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ValueError("a line too long")
        row = json.loads(line)
        if not isinstance(row, list) or not row:
            raise ValueError("no row")
        if row[0] == "end":
            if row != ["end", digest.hexdigest()] or file.read(1):
                raise ValueError("its digest does not fit")
            return
        digest.update(line)
        yield row
    raise ValueError("it ends too early")


def _fill(ledger: Ledger, rows: Iterator[list[Any]]) -> None:
    accounts: dict[int, Account] = {}
    for kind, *row in rows:
        if kind == "account":
            index, owner, pub_x, pub_y = _numbers(row[:4])
            positions = tuple((token, amount) for token, amount in map(_numbers, row[4]))
            orders = {slot: (id_, filled) for slot, id_, filled in map(_numbers, row[5])}
            accounts[index] = Account(owner, pub_x, pub_y, positions, orders)
            if len(accounts) == _PUT:
                ledger.state.put(accounts)
                accounts.clear()
        elif kind == "request":
            id_, *parts, fee, deadline = _numbers(row)
            ledger.requests[id_] = Queued(id_, Request(*parts), fee, deadline)
        elif kind == "claim":
            owner, token, quanta = _numbers(row)
            ledger.claims[owner, token] = quanta
        elif kind == "exit":
            index, owner, tokens = _numbers(row[:3])
            ledger.exits[index] = Exit(owner, tokens, tuple(_numbers(row[3])))
        elif kind == "reclaimed":
            ledger.reclaimed.add(*_numbers(row))
        else:
            raise ValueError(f"a row of {str(kind)[:40]}")
    ledger.state.put(accounts)


def _numbers(row: list[Any]) -> list[int]:
    if not all(type(value) is int and value >= 0 for value in row):
        raise ValueError("no number where one has to be")
    return row


def _check(rpc: Rpc, exchange: Exchange, ledger: Ledger) -> None:
    """Hold a ledger against the chain; `Damaged` where it differs."""
    if not rpc.has_block(ledger.block, ledger.block_hash):
        raise Damaged(f"its block {ledger.block} is not the chain's")
    root = ledger.state.root
    logged = _logged_root(rpc, exchange, ledger) if ledger.number else exchange.genesis_root
    if root != logged:
        raise Damaged(f"its root is {root}, the contract's after batch {ledger.number} {logged}")


def _logged_root(rpc: Rpc, exchange: Exchange, ledger: Ledger) -> int:
    """Return the root that the contract logged for the ledger's last batch; `Damaged` if it did not there."""
    block = hex(ledger.batch_block)
    topics = [topic("BatchCommitted"), f"0x{ledger.number:064x}"]
    query = {"address": exchange.address, "topics": topics, "fromBlock": block, "toBlock": block}
    found = rpc.call("eth_getLogs", query)
    if ledger.batch_block > ledger.block or not isinstance(found, list) or len(found) != 1:
        raise Damaged(f"the contract committed no batch {ledger.number} in block {ledger.batch_block}")
    number, _, _, _, root, *_ = decode_event("BatchCommitted", found[0])
    if number != ledger.number:
        raise Damaged(f"the node tells of batch {number}, not {ledger.number}")
    return int(root)
