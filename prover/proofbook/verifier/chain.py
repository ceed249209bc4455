"""An exchange followed over time: read, rebuilt as far as it is new, from a checkpoint where there is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proofbook.protocol.state import State
from proofbook.verifier.abi import topic
from proofbook.verifier.checkpoint import Checkpoints
from proofbook.verifier.contract import Exchange, read_exchange
from proofbook.verifier.errors import HistoryBroken, RpcMalformed, RpcRefused, RpcUnavailable
from proofbook.verifier.held import Held
from proofbook.verifier.history import Ledger, Problem, Progress, silent
from proofbook.verifier.replay import book_problems, end_problems, genesis_problems
from proofbook.verifier.rpc import Rpc
from proofbook.verifier.stream import OnBatch, follow

MAX_ROUNDS: Final = 5
MAX_LAG: Final = 64
"""Blocks that may have come while the chain was read; after more, the new ones are read too."""
BEHIND_S: Final = 60.0
"""How long a node is waited for that is behind a block which was seen."""
AGAIN_S: Final = 600.0
"""What did not fit when all was read anew is believed of a node for so long at least."""
_BEHIND_PAUSE_S: Final = 0.5
WORTH_SEARCHING: Final = 1 << 16
"""Blocks before which looking for the deployment takes longer than reading them."""


class Chain:
    """The contract and its ledger, read when they are first used.

    Parameters
    ----------
    rpc : Rpc
        The nodes.
    contract : str
        The exchange.
    first_block : int
        Block of the deployment, or any before; 0 to look for it.
    progress : Progress
        Told the stages.
    cache : Path, optional
        Where checkpoints are kept; none without.
    on_batch : callable, optional
        Given every batch that is read. After a reorganization of the chain, batches come again.
    every : float
        Seconds at least between two checkpoints.
    accept : callable, optional
        Given the contract as a node tells it, before anything else is read; may raise.

    Attributes
    ----------
    problems : tuple of Problem
        What did not fit together when it was read last.
    """

    def __init__(
        self,
        rpc: Rpc,
        contract: str,
        first_block: int = 0,
        progress: Progress = silent,
        cache: Path | None = None,
        on_batch: OnBatch | None = None,
        every: float = 5.0,
        accept: Callable[[Exchange], object] = lambda exchange: None,
    ) -> None:
        self.rpc, self._contract, self._is_ours = rpc, contract, accept
        self._first: int | None = first_block or None
        self._progress, self._cache, self._on_batch, self._every = progress, cache, on_batch, every
        self._exchange: Exchange | None = None
        self._ledger: Ledger | None = None
        self._checkpoints: Checkpoints | None = None
        self._held = Held(rpc)
        self._owners: set[int] = set()
        self._seen, self._seen_until = 0, 0.0
        # By node: the codes of what did not fit when all was read from the beginning, and until when that is not done
        # again. Not the texts: roots and counters in them are others with each batch.
        self._broken: dict[str, tuple[set[str], float]] = {}
        self.problems: tuple[Problem, ...] = ()

    @property
    def exchange(self) -> Exchange:
        """The contract; errors as `read`."""
        self.ensure()
        assert self._exchange is not None
        return self._exchange

    def ensure(self) -> None:
        """Read the chain unless that was done; errors as `read`."""
        if self._exchange is None:
            self.read()

    @property
    def ledger(self) -> Ledger:
        """The ledger, up to the contract's block if there are no problems; errors as `read`."""
        self.ensure()
        assert self._ledger is not None
        return self._ledger

    def forget(self, seen: int = 0) -> None:
        """Have the chain read again before anything of it is used: up to a block at least that was seen."""
        self._exchange = None
        if seen > self._seen:
            self._seen, self._seen_until = seen, time.monotonic() + BEHIND_S

    def include(self, owner: int) -> None:
        """Have what the contract owes an address held against the ledger, too."""
        if owner not in self._owners:
            self._owners.add(owner)
            self.forget()

    def require(self) -> None:
        """Raise `HistoryBroken` if the data do not lead to what the contract has; errors as `read`."""
        self.ensure()
        if self.problems:
            raise HistoryBroken(tuple(str(problem) for problem in self.problems))

    def read(self) -> None:
        """Read the chain again. What does not fit together is among the problems then.

        Raises
        ------
        VerifierError
            When the node fails or there is no exchange.
        """
        self.forget()
        for _ in range(MAX_ROUNDS):
            exchange = self._fresh()
            start = self._start(exchange)
            exchange, ledger = self._reach(exchange, start or self._nothing(exchange))
            problems = self._problems(exchange, ledger)
            if problems and start is not None and self._may_be_kept(problems) and self._is_current(exchange):
                exchange, ledger, problems = self._anew(exchange)
            if self._is_current(exchange):
                self._accept(exchange, ledger, problems)
                if self.rpc.block_number() <= exchange.block + MAX_LAG:
                    return
            else:
                self._progress("the chain was reorganized while it was read: once more")
        if self._exchange is None:
            raise RpcUnavailable("the chain is reorganized again and again", "ask another node, or wait")

    def _head(self) -> int:
        """Return the newest block. One that lacks what was seen before would have us do the same again."""
        while True:
            head = self.rpc.block_number()
            if head >= self._seen or time.monotonic() >= self._seen_until:
                return head
            self._progress(f"the node is at block {head}, and {self._seen} was there already: waiting for it")
            self.rpc.advance()
            time.sleep(_BEHIND_PAUSE_S)

    def _may_be_kept(self, problems: list[Problem]) -> bool:
        """Tell whether what was kept of the chain may be to blame, and not the chain as this node tells it."""
        known, until = self._broken.get(self.rpc.url, (set(), 0.0))
        return not _codes(problems) <= known or time.monotonic() >= until

    def _anew(self, exchange: Exchange) -> tuple[Exchange, Ledger, list[Problem]]:
        """Read all from the beginning; nothing kept is in it."""
        self._progress("what was kept does not lead to the contract's state: from the beginning again")
        started = time.monotonic()
        exchange, ledger = self._reach(exchange, self._nothing(exchange))
        problems = self._problems(exchange, ledger)
        if not problems and self._checkpoints is not None:
            self._checkpoints.clear()
        now = time.monotonic()
        self._broken[self.rpc.url] = (_codes(problems), now + max(AGAIN_S, 10 * (now - started)))
        return exchange, ledger, problems

    def _fresh(self) -> Exchange:
        """Return the contract at the newest block."""
        exchange = read_exchange(self.rpc, self._contract, self._head())
        self._is_ours(exchange)
        return exchange

    def _reach(self, exchange: Exchange, start: Ledger) -> tuple[Exchange, Ledger]:
        return reach(self.rpc, exchange, start, self._follow, self._fresh)

    def _is_current(self, exchange: Exchange) -> bool:
        return self.rpc.has_block(exchange.block, exchange.block_hash)

    def _accept(self, exchange: Exchange, ledger: Ledger, problems: list[Problem]) -> None:
        self._exchange, self._ledger, self.problems = exchange, ledger, tuple(problems)
        ledger.block_hash = exchange.block_hash
        if not problems and self._checkpoints is not None:
            self._checkpoints.offer(self.rpc, exchange, ledger)

    def _nothing(self, exchange: Exchange) -> Ledger:
        if self._first is None:
            self._progress("looking for the block of the deployment")
            self._first = deployed_at(self.rpc, exchange)
        return Ledger(State(exchange.preset), block=self._first - 1)

    def _start(self, exchange: Exchange) -> Ledger | None:
        """Return what is known already and still holds."""
        if self._cache is not None and self._checkpoints is None:
            place = (self._cache, exchange.chain_id, exchange.address)
            self._checkpoints = Checkpoints(*place, self._progress, self._every)
        known = self._ledger
        if known is not None and not self.problems and known.block <= exchange.block:
            if self.rpc.has_block(known.block, known.block_hash):
                return known
            self._progress(f"block {known.block} is not the chain's any more")
        return self._checkpoints.load(self.rpc, exchange) if self._checkpoints is not None else None

    def _problems(self, exchange: Exchange, ledger: Ledger) -> list[Problem]:
        found = [*genesis_problems(exchange), *ledger.problems, *end_problems(exchange, ledger)]
        # What is not in the state - claims, the queue, exits - is held against what the contract keeps of it.
        found = found or [*book_problems(exchange, ledger), *self._held.request_problems(exchange, ledger)]
        if not found:
            found = [p for owner in sorted(self._owners) for p in self._held.owner_problems(exchange, ledger, owner)]
        return found

    def _follow(self, exchange: Exchange, start: Ledger) -> Ledger:
        def keep(ledger: Ledger) -> None:
            if self._checkpoints is not None:
                self._checkpoints.offer(self.rpc, exchange, ledger)

        return follow(self.rpc, exchange, start, self._progress, self._on_batch, keep)


def _codes(problems: list[Problem]) -> set[str]:
    return {problem.code for problem in problems}


def reach(
    rpc: Rpc,
    exchange: Exchange,
    start: Ledger,
    follow_to: Callable[[Exchange, Ledger], Ledger],
    fresh: Callable[[], Exchange],
) -> tuple[Exchange, Ledger]:
    """Return a ledger moved on until it is near the newest block, and the contract there.

    What the contract keeps is asked for next, at that block; and most nodes forget a state after some hundred blocks,
    which a long history is read in.

    Parameters
    ----------
    rpc : Rpc
        The nodes.
    exchange : Exchange
        The contract at the block to go to first.
    start : Ledger
        Where to start.
    follow_to : callable
        Moves a ledger on to a contract's block.
    fresh : callable
        Reads the contract at the newest block.

    Raises
    ------
    VerifierError
        When the node fails.
    """
    ledger = follow_to(exchange, start)
    for _ in range(MAX_ROUNDS):
        has_come_far = rpc.block_number() > exchange.block + MAX_LAG
        if ledger.problems or not has_come_far or not rpc.has_block(exchange.block, exchange.block_hash):
            break
        exchange = fresh()
        ledger = follow_to(exchange, ledger)
    return exchange, ledger


def deployed_at(rpc: Rpc, exchange: Exchange) -> int:
    """Return the block of the contract's deployment; 0 where it is not far, or the node does not remember that long.

    Parameters
    ----------
    rpc : Rpc
        The node.
    exchange : Exchange
        The contract.

    Raises
    ------
    RpcUnavailable
        When the node fails.
    """
    if exchange.block < WORTH_SEARCHING:
        return 0
    without, having = -1, exchange.block
    try:
        while having - without > 1:
            middle = (without + having) // 2
            if rpc.code(exchange.address, middle):
                having = middle
            else:
                without = middle
        # Nodes that forgot old states may say there was no code. The constructor's own request tells.
        block, first = hex(having), [topic("RequestQueued"), f"0x{0:064x}"]
        query = {"address": exchange.address, "topics": first, "fromBlock": block, "toBlock": block}
        return having if rpc.call("eth_getLogs", query) else 0
    except (RpcRefused, RpcMalformed):
        return 0
