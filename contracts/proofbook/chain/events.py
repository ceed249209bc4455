"""Typed events over plain JSON-RPC, the batches behind them, and reorganisations noticed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from eth_abi.exceptions import DecodingError
from requests.exceptions import ConnectionError, RequestException, Timeout
from web3 import Web3
from web3.exceptions import BlockNotFound, TransactionNotFound, Web3Exception

from proofbook.chain.client import Exchange, QueuedRequest
from proofbook.chain.errors import BatchDataError, ChainError, NodeBehind, ReorgDetected
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.messages import challenge, domain_of
from proofbook.protocol.sponge import horner
from proofbook.protocol.table import FEE_ACCOUNT, Size
from proofbook.protocol.words import (
    Header,
    Page,
    Request,
    RequestRow,
    actions_from_calldata,
    fees_from_calldata,
    page_words,
)

CHUNK_BLOCKS: Final = 5_000
"""Blocks asked for at once; halved whenever the node refuses."""
MAX_SILENT: Final = 2
"""Time-outs in a row after which less is asked for; each takes as long as a whole question."""
GROW_AFTER: Final = 8
"""Answers after which twice as much is asked for again: a hiccup does not make all that follows slow."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands: block number and hash (0x hex), its transaction's hash, its index in the block."""

    block: int
    block_hash: str
    tx: str
    log_index: int


@dataclass(frozen=True, slots=True)
class RequestEvent:
    """`RequestQueued`."""

    place: Place
    queued: QueuedRequest


@dataclass(frozen=True, slots=True)
class BatchEvent:
    """`BatchCommitted`; `first_request` is the id of the first request that the batch served."""

    place: Place
    number: int
    size_id: int
    timestamp: int
    old_root: int
    new_root: int
    first_request: int
    n_requests: int
    n_actions: int
    n_fees: int


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """A batch as its transaction carried it.

    Attributes
    ----------
    event : BatchEvent
        The event it was found by.
    page : Page
        Header, requests, actions, fees.
    requests : tuple of QueuedRequest
        The same requests with fee and deadline.
    words : tuple of int
        D in full layout.
    c, z, y : int
        The proof's public inputs; z and y computed here.
    proof : tuple of int
        8 words in EIP-197 order.
    data_bytes : int
        Length of the transaction's calldata.
    """

    event: BatchEvent
    page: Page
    requests: tuple[QueuedRequest, ...]
    words: tuple[int, ...]
    c: int
    z: int
    y: int
    proof: tuple[int, ...]
    data_bytes: int


class _Width:
    """How many blocks are asked for at once; kept from call to call, for what a node can't do in one."""

    def __init__(self) -> None:
        self.blocks, self._answers = CHUNK_BLOCKS, 0

    def shrink(self, asked: int) -> None:
        """Ask for half of what was not answered."""
        self.blocks, self._answers = max(1, asked // 2), 0

    def note_answer(self) -> None:
        """Ask for more after some answers in a row."""
        self._answers += 1
        if self._answers >= GROW_AFTER:
            self.blocks, self._answers = min(2 * self.blocks, CHUNK_BLOCKS), 0


_widths: WeakKeyDictionary[Exchange, _Width] = WeakKeyDictionary()


def get_events(exchange: Exchange, name: str, first: int, last: int) -> Iterator[Any]:
    """Yield web3's event data of one kind in blocks `first` to `last`, both included, in order.

    Raises
    ------
    ChainError
        If the node refuses even a single block, can't be reached, stays silent, or tells of what was not asked.
    """
    event, width = exchange.contract.events[name], _widths.setdefault(exchange, _Width())
    at, silent = first, 0
    while at <= last:
        upto = min(at + width.blocks - 1, last)
        try:
            found = event().get_logs(from_block=at, to_block=upto)
        except ConnectionError as error:
            raise ChainError(f"the node can't be asked for events of block {at}: {error}") from error
        except (DecodingError, OverflowError) as error:
            raise ChainError(f"the node's events from block {at} on make no sense: {error}") from error
        except (Web3Exception, ValueError, RequestException) as error:
            # Nodes limit the range or the number of results, each with words of its own: ask for less. One that says
            # nothing at all may be gone: then every question takes as long as it may.
            silent = silent + 1 if isinstance(error, Timeout) else 0
            width.shrink(upto - at + 1)
            if upto == at or silent > MAX_SILENT:
                raise ChainError(f"the node refuses events of block {at}: {error}") from error
            continue
        silent = 0
        width.note_answer()
        if not all(at <= e["blockNumber"] <= upto for e in found):
            raise ChainError(f"the node tells of events beyond blocks {at} to {upto}, which it was asked for")
        yield from sorted(found, key=lambda e: (e["blockNumber"], e["logIndex"]))
        at = upto + 1


def requests_since(exchange: Exchange, first: int, last: int) -> Iterator[RequestEvent]:
    """Yield the requests queued in blocks `first` to `last`."""
    for e in get_events(exchange, "RequestQueued", first, last):
        a = e["args"]
        request = Request(
            kind=a["kind"],
            account=a["account"],
            token=a["token"],
            amount=a["amount"],
            owner=int(a["owner"], 16),
            pub_x=a["pubX"],
            pub_y=a["pubY"],
        )
        queued = QueuedRequest(a["id"], request, a["fee"], a["deadline"], Web3.to_checksum_address(a["sender"]))
        yield RequestEvent(_place(e), queued)


def batches_since(exchange: Exchange, first: int, last: int) -> Iterator[BatchEvent]:
    """Yield the batches committed in blocks `first` to `last`."""
    for e in get_events(exchange, "BatchCommitted", first, last):
        a = e["args"]
        yield BatchEvent(
            place=_place(e),
            number=a["number"],
            size_id=a["sizeId"],
            timestamp=a["timestamp"],
            old_root=a["oldRoot"],
            new_root=a["newRoot"],
            first_request=a["firstRequest"],
            n_requests=a["nRequests"],
            n_actions=a["nActions"],
            n_fees=a["nFees"],
        )


def read_batch(exchange: Exchange, event: BatchEvent, size: Size) -> CommittedBatch:
    """Fetch a batch's transaction and decode its calldata.

    Parameters
    ----------
    exchange : Exchange
        The contract.
    event : BatchEvent
        From `batches_since`.
    size : Size
        The deployment's size with the event's id.

    Raises
    ------
    BatchDataError
        If the transaction is missing, is no plain commit to this contract, or does not fit the event.
    """
    where = f"batch {event.number}"
    try:
        tx = exchange.w3.eth.get_transaction(event.place.tx)  # type: ignore[arg-type]
        function, a = exchange.contract.decode_function_input(tx["input"])
    except (TransactionNotFound, DecodingError, ValueError, OverflowError, Web3Exception) as error:
        raise BatchDataError(f"{where}: its transaction can't be read: {error}", "try another node") from error
    if function.fn_name != "commit" or tx.get("to") != exchange.address:
        raise BatchDataError(f"{where}: its transaction is no commit to this contract")
    requests = tuple(_queued(event.first_request + k, q) for k, q in enumerate(a["requests"]))
    chain_id = exchange.w3.eth.chain_id
    try:
        page = Page(
            header=Header(
                domain=domain_of(chain_id, exchange.address),
                size_id=a["sizeId"],
                number=event.number,
                timestamp=a["timestamp"],
                fee_account=FEE_ACCOUNT,
                old_root=event.old_root,
                new_root=a["newRoot"],
            ),
            requests=tuple(
                RequestRow(q.request, data["outcome"]) for q, data in zip(requests, a["requests"], strict=True)
            ),
            actions=actions_from_calldata(a["actions"]),
            fees=fees_from_calldata(a["fees"]),
        )
        words = page_words(page, size)
        z = challenge(chain_id, exchange.address, event.size_id, words, a["c"])
        y = horner(words, z)
    except ProofbookError as error:
        raise BatchDataError(f"{where}: {error}") from error
    told = (event.size_id, event.timestamp, event.new_root, event.n_requests, event.n_actions, event.n_fees)
    found = (a["sizeId"], a["timestamp"], a["newRoot"], len(page.requests), len(page.actions), len(page.fees))
    if told != found:
        raise BatchDataError(f"{where}: the transaction says something else than the event")
    return CommittedBatch(event, page, requests, tuple(words), a["c"], z, y, tuple(a["proof"]), len(bytes(tx["input"])))


class ConfirmedBlocks:
    """Hands out ranges of confirmed blocks, each block once, and notices when the chain drops one of them.

    Parameters
    ----------
    w3 : Web3
        The chain.
    next_block : int
        The first block to hand out.
    confirmations : int
        Blocks that must lie above a block before it is handed out; 0 takes the latest.
    known : iterable of (int, str)
        Numbers and hashes of blocks used before, from an earlier `known`; rising.
    keep : int
        How many handed-out range ends are remembered.
    """

    def __init__(
        self,
        w3: Web3,
        next_block: int,
        confirmations: int,
        known: tuple[tuple[int, str], ...] = (),
        keep: int = 256,
    ) -> None:
        self.w3 = w3
        self.next_block = next_block
        self._start = min([next_block, *(number + 1 for number, _ in known)])
        self.confirmations = confirmations
        self._known: deque[tuple[int, str]] = deque(known, maxlen=keep)

    @property
    def known(self) -> tuple[tuple[int, str], ...]:
        """Numbers and hashes of used blocks, to go on from after a restart."""
        return tuple(self._known)

    def advance(self) -> tuple[int, int] | None:
        """Return the next range (first, last) of confirmed blocks, or None when there is no new one.

        Raises
        ------
        ReorgDetected
            If a block that was used is not on the chain any more. The reader has then gone back: what it hands out
            next starts after ``fork_block``.
        NodeBehind
            If the node does not have a block that was used: nothing says yet that the chain dropped it.
        """
        self._check()
        last = self.w3.eth.block_number - self.confirmations
        if last < self.next_block:
            return None
        span = self.next_block, last
        self._known.append((last, _hash_of(self.w3, last)))
        self.next_block = last + 1
        return span

    def _check(self) -> None:
        known = list(self._known)
        while known and _hash_of(self.w3, known[-1][0]) != known[-1][1]:
            known.pop()
        if len(known) < len(self._known):
            # Only now, or a node that fails in between would have it forgotten. Deeper than what is remembered: from
            # the very start again.
            fork = known[-1][0] if known else self._start - 1
            self._known = deque(known, maxlen=self._known.maxlen)
            self.next_block = fork + 1
            raise ReorgDetected(fork)


def _hash_of(w3: Web3, number: int) -> str:
    try:
        return Web3.to_hex(w3.eth.get_block(number)["hash"])
    except BlockNotFound as error:
        raise NodeBehind(number) from error


def _place(e: Any) -> Place:
    return Place(e["blockNumber"], Web3.to_hex(e["blockHash"]), Web3.to_hex(e["transactionHash"]), e["logIndex"])


def _queued(id: int, q: Any) -> QueuedRequest:
    request = Request(
        kind=q["kind"],
        account=q["account"],
        token=q["token"],
        amount=q["amount"],
        owner=int(q["owner"], 16),
        pub_x=q["pubX"],
        pub_y=q["pubY"],
    )
    return QueuedRequest(id, request, q["fee"], q["deadline"])
