"""From what happened to batches: the log of all that must be proven, and the prefix of it that is the next batch.

The log holds confirmed requests, trades and signed withdrawals, transfers and hard cancels in the order in which they
happened. Each entry was possible when it was made, so it is provable as a batch of its own; and a batch is a prefix of
the log, so both sides of a trade are in it and money is never spent before the request that brought it. Some rules look
at a batch's beginning or end rather than at the moment: `_Draft` finds the longest prefix that obeys them, and since a
single entry does, there always is one.

The timestamp is at most the least valid_until of all that waits, in the batch or after it. As an order only trades
while it is valid, what happens after a batch is sealed is valid at its timestamp too: timestamps never have to go back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias

import msgspec

from proofbook.operator.codes import must
from proofbook.operator.risk import Holdings
from proofbook.protocol.messages import SignedAction
from proofbook.protocol.table import (
    MAX_ACTIONS,
    POSITIONS,
    REQUEST_MULT_BITS,
    TRANSFER_MULT_BITS,
    ActionType,
    RequestKind,
    Side,
    Size,
)
from proofbook.protocol.words import ActionRow, FeeRow, Request, RequestRow

_MAX_REQUESTS = (1 << REQUEST_MULT_BITS) - 1
_MAX_TRANSFERS = (1 << TRANSFER_MULT_BITS) - 1


@dataclass(frozen=True, slots=True)
class RequestEntry:
    """A confirmed request: its number on L1 and what became of it."""

    number: int
    request: Request
    outcome: int


# These two are made for every trade: structs are made in a fifth of a named tuple's time, and hashed as the same array.
class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One order's part in a trade."""

    signed: SignedAction
    fee: int


class TradeRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A trade's number and amounts in quanta, and both orders' parts."""

    number: int
    base_amount: int
    quote_amount: int
    parts: tuple[Part, Part]


class TradeEntry(msgspec.Struct, frozen=True, gc=False):
    """Trades that must stand in one batch: one, or all of a fill-or-kill order."""

    trades: tuple[TradeRecord, ...]


@dataclass(frozen=True, slots=True)
class ActionEntry:
    """A withdrawal, transfer or hard cancel."""

    signed: SignedAction


Entry: TypeAlias = RequestEntry | TradeEntry | ActionEntry
RowKey: TypeAlias = tuple[int, int, int]
"""(account, id, type)"""


def get_actions(entry: Entry) -> Iterator[SignedAction]:
    """Go through the signed actions an entry needs."""
    if isinstance(entry, ActionEntry):
        yield entry.signed
    elif isinstance(entry, TradeEntry):
        for trade in entry.trades:
            for part in trade.parts:
                yield part.signed


def get_expiry(entries: Iterable[Entry]) -> int | None:
    """Return the least valid_until of the entries' actions, None if they have none."""
    return min((s.action.valid_until for e in entries for s in get_actions(e)), default=None)


def get_deltas(trade: TradeRecord) -> Iterator[tuple[int, int, int]]:
    """Go through (account, token, delta) of a trade's four order postings."""
    for part in trade.parts:
        a, fee = part.signed.action, part.fee
        base, quote = trade.base_amount, trade.quote_amount
        if a.side == Side.BUY:
            yield from ((a.account, a.base, base), (a.account, a.quote, -quote - fee))
        else:
            yield from ((a.account, a.base, -base), (a.account, a.quote, quote - fee))


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """A row and the signed action behind it."""

    signed: SignedAction
    row: ActionRow


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The rows of a batch, in the order of its page; roots are `transition.build_page`'s.

    Attributes
    ----------
    number, size_id, timestamp : int
        For the header.
    first_request : int
        L1's number of the first request, or of the next one if there is none.
    requests, actions, fees : tuple
        The rows; actions of one account stand together.
    accounts : int
        Account rows it needs.
    trades : tuple of int
        Numbers of the trades in it.
    """

    number: int
    size_id: int
    timestamp: int
    first_request: int
    requests: tuple[RequestRow, ...]
    actions: tuple[PlannedAction, ...]
    fees: tuple[FeeRow, ...]
    accounts: int
    trades: tuple[int, ...]


@dataclass(slots=True)
class _Needs:
    """What an entry adds to a page."""

    rows: dict[RowKey, SignedAction] = field(default_factory=dict)
    accounts: set[int] = field(default_factory=set)
    deltas: list[tuple[int, int, int]] = field(default_factory=list)
    fees: dict[int, int] = field(default_factory=dict)


def _get_needs(entry: Entry, fee_account: int) -> _Needs:
    needs = _Needs()
    for signed in get_actions(entry):
        a = signed.action
        needs.rows[(a.account, a.id, a.type)] = signed
        needs.accounts.add(a.account)
    if isinstance(entry, TradeEntry):
        for trade in entry.trades:
            needs.deltas.extend(get_deltas(trade))
            maker, taker = trade.parts
            if fee := maker.fee + taker.fee:
                quote = maker.signed.action.quote
                needs.fees[quote] = needs.fees.get(quote, 0) + fee
        if needs.fees:
            needs.deltas.extend((fee_account, token, amount) for token, amount in needs.fees.items())
            needs.accounts.add(fee_account)
    elif isinstance(entry, ActionEntry):
        a = entry.signed.action
        if a.type != ActionType.CANCEL:
            needs.deltas.append((a.account, a.base, -a.base_amount))
        if a.type == ActionType.TRANSFER:
            needs.deltas.append((a.receiver, a.base, a.base_amount))
            needs.accounts.add(a.receiver)
    else:
        r = entry.request
        needs.accounts.add(r.account)
        if r.kind == RequestKind.DEPOSIT and not entry.outcome:
            needs.deltas.append((r.account, r.token, r.amount))
        elif r.kind == RequestKind.EXIT:
            needs.deltas.append((r.account, r.token, -entry.outcome))
    return needs


def _is_bounce(entry: Entry) -> bool:
    return isinstance(entry, RequestEntry) and entry.request.kind == RequestKind.DEPOSIT and bool(entry.outcome)


class _Draft:
    """A page being filled, entry by entry, on top of the sealed holdings."""

    def __init__(self, sealed: Holdings, limits: Size, fee_account: int) -> None:
        self._sealed, self._limits, self._fee_account = sealed, limits, fee_account
        self.requests: list[RequestEntry] = []
        self.rows: dict[RowKey, list[int]] = {}
        self.signed: dict[RowKey, SignedAction] = {}
        self.accounts: set[int] = set()
        self.fees: dict[int, int] = {}
        self.trades: list[int] = []
        self.holdings: Holdings = {}
        self._acted: set[int] = set()
        self._rekeyed: set[int] = set()
        self._bounced: set[int] = set()
        self._request_count: Counter[int] = Counter()
        self._transfer_count: Counter[tuple[int, int]] = Counter()

    def add(self, entry: Entry) -> bool:
        """Add an entry, or return False, having changed nothing, when the page has no room for it."""
        needs = _get_needs(entry, self._fee_account)
        if not self._has_room(needs) or not self._obeys(entry, needs):
            return False
        for key, signed in needs.rows.items():
            if key not in self.rows:
                self.signed[key], self.rows[key] = signed, [0, 0, 0]
                self._acted.add(key[0])
        self.accounts |= needs.accounts
        for token, amount in needs.fees.items():
            self.fees[token] = self.fees.get(token, 0) + amount
        for account, token, delta in needs.deltas:
            amounts = self.holdings.get(account)
            if amounts is None:
                amounts = self.holdings[account] = dict(self._sealed.get(account, {}))
            amounts[token] = amounts.get(token, 0) + delta
        self._book(entry)
        return True

    def _has_room(self, needs: _Needs) -> bool:
        limits = self._limits
        rows = len(self.rows) + len(needs.rows) - len(self.rows.keys() & needs.rows.keys())
        accounts = len(self.accounts) + len(needs.accounts) - len(self.accounts & needs.accounts)
        fees = len(self.fees) + len(needs.fees) - len(self.fees.keys() & needs.fees.keys())
        return rows <= min(limits.actions, MAX_ACTIONS) and accounts <= limits.accounts and fees <= limits.fees

    def _obeys(self, entry: Entry, needs: _Needs) -> bool:
        """Tell whether rules that later entries can't mend allow this one in this batch."""
        if needs.accounts & self._bounced and not _is_bounce(entry):
            # Behind a bounce an account rests, so that first come, first served gives the same outcomes again.
            return False
        if isinstance(entry, RequestEntry):
            r = entry.request
            if len(self.requests) >= self._limits.requests or self._request_count[r.account] >= _MAX_REQUESTS:
                return False
            # A batch knows one key an account, the last: what was signed with another one comes first.
            rekeys = r.kind in (RequestKind.KEY, RequestKind.OPEN)
            return not (rekeys and r.account in self._acted | self._rekeyed)
        if isinstance(entry, ActionEntry) and entry.signed.action.type == ActionType.TRANSFER:
            a = entry.signed.action  # M14: the receiver held the token before the batch
            held = a.base in self._sealed.get(a.receiver, {})
            return held and self._transfer_count[(a.receiver, a.base)] < _MAX_TRANSFERS
        return True

    def _book(self, entry: Entry) -> None:
        if isinstance(entry, RequestEntry):
            r = entry.request
            self.requests.append(entry)
            self._request_count[r.account] += 1
            if _is_bounce(entry):
                self._bounced.add(r.account)
            if r.kind in (RequestKind.KEY, RequestKind.OPEN):
                self._rekeyed.add(r.account)
        elif isinstance(entry, ActionEntry):
            a = entry.signed.action
            row = self.rows[(a.account, a.id, a.type)]
            row[0] = a.base_amount
            if a.type == ActionType.TRANSFER:
                row[2] = a.receiver
                self._transfer_count[(a.receiver, a.base)] += 1
        else:
            for trade in entry.trades:
                self.trades.append(trade.number)
                for part in trade.parts:
                    a = part.signed.action
                    row = self.rows[(a.account, a.id, a.type)]
                    for i, amount in enumerate((trade.base_amount, trade.quote_amount, part.fee)):
                        row[i] += amount

    def is_complete(self) -> bool:
        """Tell whether the batch may end here: deposits and exits came out as the final positions demand (M13)."""
        for entry in self.requests:
            r = entry.request
            if r.kind in (RequestKind.DEPOSIT, RequestKind.EXIT):
                held = {t for t, amount in self._final(r.account).items() if amount}
                bounced = r.token not in held and len(held) == POSITIONS
                if r.kind == RequestKind.EXIT and r.token in held:
                    return False
                if r.kind == RequestKind.DEPOSIT and bounced != bool(entry.outcome):
                    return False
        return True

    def _final(self, account: int) -> dict[int, int]:
        return self.holdings.get(account) or self._sealed.get(account, {})

    def get_requests(self) -> tuple[RequestRow, ...]:
        """Return the request rows, with outcomes as `transition.build` finds them.

        A batch knows no order in time: the first exit of a token takes what the later ones found, too.
        """
        rows = [RequestRow(entry.request, entry.outcome) for entry in self.requests]
        first: dict[tuple[int, int], int] = {}
        for i, row in enumerate(rows):
            if row.request.kind == RequestKind.EXIT:
                at = first.setdefault((row.request.account, row.request.token), i)
                if at != i:
                    rows[at] = replace(rows[at], outcome=rows[at].outcome + row.outcome)
                    rows[i] = replace(row, outcome=0)
        return tuple(rows)

    def get_actions(self) -> tuple[PlannedAction, ...]:
        """Return the action rows by account, an account's rows in the order in which they came about."""
        planned = []
        for (account, id_, type_), (base, quote, aux) in sorted(self.rows.items(), key=lambda item: item[0][0]):
            signed = self.signed[(account, id_, type_)]
            a = signed.action
            planned.append(
                PlannedAction(signed, ActionRow(type_, account, id_, a.base, a.quote, a.side, base, quote, aux))
            )
        return tuple(planned)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A batch in flight: its plan, its entries, and the holdings it replaced, for undoing it."""

    plan: BatchPlan
    entries: tuple[Entry, ...]
    before: Holdings
    last_timestamp: int


class Settlement:
    """The log, the batches in flight, and what accounts hold by the last sealed batch."""

    def __init__(self, sizes: tuple[Size, ...], fee_account: int) -> None:
        self._sizes, self._fee_account = sizes, fee_account
        self.log: deque[Entry] = deque()
        self.actions_of: Counter[int] = Counter()
        """How many actions of an account are in the log; made of the log, so no state of its own."""
        self.in_flight: deque[Sealed] = deque()
        self.sealed: Holdings = {}
        self.next_number = 1
        self.next_request = 0
        self.last_timestamp = 0

    @property
    def limits(self) -> Size:
        """The largest size."""
        return self._sizes[-1]

    def admit(self, signed: SignedAction) -> None:
        """Append an action to the log."""
        self.log.append(ActionEntry(signed))
        self.actions_of[signed.action.account] += 1

    def clear(self) -> list[Entry]:
        """Empty the log and return what was in it."""
        entries = list(self.log)
        self.log.clear()
        self.actions_of.clear()
        return entries

    def _count(self, entries: Iterable[Entry], sign: int) -> None:
        counts = self.actions_of
        for entry in entries:
            if type(entry) is ActionEntry:
                account = entry.signed.action.account
                counts[account] += sign
                if not counts[account]:
                    del counts[account]

    def seal(self, latest: int) -> Sealed:
        """Take the longest prefix that fits off the log, which must not be empty. ``latest`` bounds the timestamp."""
        must(bool(self.log), "a batch has something in it")
        draft, added, count = self._draft(()), 0, 0
        for entry in self.log:
            if not draft.add(entry):
                break
            added += 1
            if draft.is_complete():
                count = added
        must(count > 0, "the first entry is provable alone")
        entries = tuple(islice(self.log, count))
        if count < added:
            draft = self._draft(entries)
        expiry = get_expiry(self.log)
        timestamp = max(self.last_timestamp, latest if expiry is None else min(latest, expiry))
        must(expiry is None or timestamp <= expiry, "timestamps never have to pass what waits")
        sealed = Sealed(self._plan(draft, timestamp), entries, self._replace(draft.holdings), self.last_timestamp)
        for _ in range(count):
            self.log.popleft()
        self._count(entries, -1)
        self.in_flight.append(sealed)
        self.next_number += 1
        self.next_request += len(draft.requests)
        self.last_timestamp = timestamp
        return sealed

    def _draft(self, entries: Iterable[Entry]) -> _Draft:
        draft = _Draft(self.sealed, self.limits, self._fee_account)
        for entry in entries:
            must(draft.add(entry), "a prefix of what fitted fits")
        return draft

    def _plan(self, draft: _Draft, timestamp: int) -> BatchPlan:
        used = (len(draft.requests), len(draft.rows), len(draft.accounts), len(draft.fees))
        shapes = [(s.requests, s.actions, s.accounts, s.fees) for s in self._sizes]
        size_id = next(i for i, shape in enumerate(shapes) if all(map(int.__le__, used, shape)))
        return BatchPlan(
            self.next_number,
            size_id,
            timestamp,
            self.next_request,
            draft.get_requests(),
            draft.get_actions(),
            tuple(FeeRow(token, amount) for token, amount in sorted(draft.fees.items())),
            len(draft.accounts),
            tuple(draft.trades),
        )

    def _replace(self, holdings: Holdings) -> Holdings:
        """Write new holdings of some accounts, and return what they replaced."""
        before = {account: self.sealed.get(account, {}) for account in holdings}
        for account, amounts in holdings.items():
            must(all(amount >= 0 for amount in amounts.values()), "a sealed balance is not negative")
            self.sealed[account] = {token: amount for token, amount in amounts.items() if amount}
        return before

    def settle(self) -> None:
        """Forget the oldest batch in flight: it is final."""
        self.in_flight.popleft()

    def unseal(self) -> Sealed:
        """Put the newest batch in flight back at the front of the log."""
        last = self.in_flight.pop()
        self.sealed.update(last.before)
        self.log.extendleft(reversed(last.entries))
        self._count(last.entries, 1)
        self.next_number -= 1
        self.next_request -= len(last.plan.requests)
        self.last_timestamp = last.last_timestamp
        return last
