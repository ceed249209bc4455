"""What the batcher's parts share: options, errors, and batches made again from journal and store."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from proofbook.chain.client import QueuedRequest
from proofbook.operator import commands as c
from proofbook.operator import events as ev
from proofbook.operator.codes import OperatorError
from proofbook.operator.settlement import BatchPlan
from proofbook.operator.snapshots import Snapshots
from proofbook.operator.store import BatchRecord, BatchStore, RequestRecord
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.state import State
from proofbook.protocol.table import FEE_ACCOUNT, ActionType, Size
from proofbook.protocol.transition import Outcome, apply, build
from proofbook.protocol.words import Header, Page, Request, page_from_words, page_words

log = logging.getLogger(__name__)
REPLACE_AFTER_S: Final = 120.0
"""A transaction that waits longer is replaced by one that pays more."""

Submit = Callable[[c.Command], Awaitable[Sequence[ev.Event]]]
CrashAt = Callable[[str], None]
"""Called at each stage's end of each batch with the stage's name; tests raise there. Stages: sealed, built, witnessed,
proven, signed, sent, mined, confirmed, settled."""


class ProvingFailed(OperatorError):
    """A batch could not be proven, however often it was tried (code ``proving_failed``)."""

    code: ClassVar[str] = "proving_failed"


class CommitRefused(OperatorError):
    """The contract refused a batch for a reason that trying again does not mend (code ``commit_refused``)."""

    code: ClassVar[str] = "commit_refused"


class StateDiverged(OperatorError):
    """Chain, journal and store do not tell one story (code ``state_diverged``)."""

    code: ClassVar[str] = "state_diverged"


class ReorgError(OperatorError):
    """L1 dropped a block with a request or a batch that was confirmed here (code ``reorg``).

    `proofbook.operator.resubmit` is the way back, where there is one.
    """

    code: ClassVar[str] = "reorg"


class Frozen(OperatorError):
    """The exchange is frozen on L1 (code ``frozen``)."""

    code: ClassVar[str] = "frozen"


@dataclass(frozen=True, slots=True)
class BatcherOptions:
    """How patient a batcher is, and how much it does at once; see `proofbook.operator.settings.Settings`.

    Attributes
    ----------
    prove_attempts, rpc_attempts, confirmations, poll_s, start_block, depth
        As the settings of these names; ``depth`` is ``pipeline_depth``.
    first_pause_s : float
        Seconds before proving is tried again; doubled each time.
    replace_after_s : float
        Seconds after which a transaction that waits is outbid.
    max_lag : int
        Seconds by which the contract takes a batch late.
    """

    prove_attempts: int
    rpc_attempts: int
    confirmations: int
    poll_s: float
    max_lag: int
    start_block: int = 0
    first_pause_s: float = 1.0
    replace_after_s: float = REPLACE_AFTER_S
    depth: int = 2


# --- requests


def queued(record: RequestRecord) -> QueuedRequest:
    """Return a stored request as the contract queued it."""
    return QueuedRequest(record.number, request_of(record), record.fee, record.deadline)


def request_of(record: RequestRecord) -> Request:
    """Return what a stored request asks."""
    return Request(
        kind=record.kind,
        account=record.account,
        token=record.token,
        amount=record.amount,
        owner=int(record.owner, 16),
        pub_x=int(record.pub_x, 16),
        pub_y=int(record.pub_y, 16),
    )


# --- pages


def build_page(state: State, plan: BatchPlan, size: Size, domain: int) -> tuple[Page, Outcome]:
    """Return a plan's page on top of a state, and what it does; errors as `transition.build`."""
    header = Header(
        domain=domain,
        size_id=plan.size_id,
        number=plan.number,
        timestamp=plan.timestamp,
        fee_account=FEE_ACCOUNT,
        old_root=state.root,
        new_root=0,
    )
    rows, signed = [action.row for action in plan.actions], [action.signed for action in plan.actions]
    return build(state, header, [row.request for row in plan.requests], rows, plan.fees, signed, size)


def make_record(plan: BatchPlan, page: Page, outcome: Outcome, size: Size, constraints: int) -> BatchRecord:
    """Return the record of a batch that was just built."""
    return BatchRecord(
        number=plan.number,
        size_id=plan.size_id,
        timestamp=plan.timestamp,
        state="built",
        words=encode_words(page, size),
        orders=sum(row.type == ActionType.ORDER for row in page.actions),
        trades=len(plan.trades),
        accounts=len(outcome.touched),
        constraints=constraints,
    )


def encode_words(page: Page, size: Size) -> str:
    """Return D in full layout as it is stored: hex, 64 digits a word."""
    return "".join(f"{word:064x}" for word in page_words(page, size))


def rebuild_state(
    state: State, store: BatchStore, sizes: Sequence[Size], snapshots: Snapshots | None = None
) -> tuple[State, int]:
    """Return the state after all confirmed batches, and the last one's number.

    Parameters
    ----------
    state : State
        The genesis state.
    snapshots : Snapshots, optional
        Where to begin, if its state is that of a stored batch.

    Raises
    ------
    StateDiverged
        When a stored batch does not follow from the ones before.
    """
    state, number = _get_start(state, store, sizes, snapshots)
    while True:
        records = store.list_batches(256, newest_first=False, above=number)
        for record in records:
            if record.state != "confirmed":
                return state, number
            try:
                page = page_from_words(record.get_words(), sizes[record.size_id])
                state = apply(state, page, size=sizes[record.size_id]).state
            except (ProofbookError, IndexError, ValueError) as error:
                raise StateDiverged(f"stored batch {record.number}: {error}") from error
            if record.number != number + 1:
                raise StateDiverged(f"stored batch {number + 1} is missing")
            number = record.number
        if not records:
            return state, number


def _get_start(
    genesis: State, store: BatchStore, sizes: Sequence[Size], snapshots: Snapshots | None
) -> tuple[State, int]:
    """Return the state of a snapshot that holds, and its batch's number; the genesis state and 0 without one."""
    found = snapshots.load(genesis.preset) if snapshots else None
    if found is None:
        return genesis, 0
    number, state = found
    record = store.get_batch(number)
    try:
        if record is not None and record.state == "confirmed":
            page = page_from_words(record.get_words(), sizes[record.size_id])
            if page.header.new_root == state.root:
                log.info("going on from the snapshot after batch %d", number)
                return state, number
    except (ProofbookError, IndexError, ValueError) as error:
        raise StateDiverged(f"stored batch {number}: {error}") from error
    log.warning("the snapshot after batch %d is not of the stored batches and ignored", number)
    return genesis, 0
