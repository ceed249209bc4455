"""Who may act: open accounts, their keys and ids used, and the requests of L1 on their way."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from proofbook.operator.codes import Code, InvariantError, Refused
from proofbook.protocol.babyjub import Point
from proofbook.protocol.errors import InvalidValue, NotCanonical
from proofbook.protocol.table import Preset, RequestKind
from proofbook.protocol.words import Request, RequestRow, request_row_words


class SlotState(IntEnum):
    """What became of the last id of a slot."""

    LIVE = 1  # an order rests in a book
    DONE = 2  # an order is no longer matched; a hard cancel may still close it
    CLOSED = 3  # withdrawn, transferred or hard-cancelled


_LIVE: Final = SlotState.LIVE
_UNUSED: Final = (0, SlotState.DONE)


@dataclass(slots=True)
class AccountState:
    """An open account.

    Attributes
    ----------
    owner : int
        L1 address.
    key : Point
        Trading key, by the requests applied so far.
    slots : dict of int to (int, SlotState)
        The highest id admitted in each slot used.
    key_pending : bool
        A key request is seen but not applied: nothing of this account is admitted.
    exits : Counter of int
        Forced exits seen but not applied, by token: nothing with these is admitted.
    """

    owner: int
    key: Point
    slots: dict[int, tuple[int, SlotState]] = field(default_factory=dict)
    key_pending: bool = False
    exits: Counter[int] = field(default_factory=Counter)


class Registry:
    """Accounts and requests."""

    def __init__(self, preset: Preset) -> None:
        self._preset, self._slots = preset, preset.slots
        self.accounts: dict[int, AccountState] = {}
        self.opening: set[int] = set()
        self.seen: deque[tuple[int, Request]] = deque()
        self.next_request = 0
        """L1's number of the next request to be seen."""

    @property
    def next_unconfirmed(self) -> int:
        """L1's number of the next request to be confirmed."""
        return self.seen[0][0] if self.seen else self.next_request

    # --- accounts

    def get(self, account: int) -> AccountState:
        """Return an open account; refuses with ``unknown_account``."""
        state = self.accounts.get(account)
        if state is None:
            raise Refused(Code.UNKNOWN_ACCOUNT, f"account {account} is not open; deposits and keys need confirmations")
        return state

    def get_active(self, account: int, *tokens: int) -> AccountState:
        """Return an account that may act with these tokens; refuses also with ``account_paused``, ``exit_pending``."""
        state = self.accounts.get(account) or self.get(account)
        if state.key_pending:
            raise Refused(Code.ACCOUNT_PAUSED, "a key change is under way; go on with the new key when it is confirmed")
        if state.exits:
            for token in tokens:
                if state.exits[token]:
                    raise Refused(Code.EXIT_PENDING, f"a forced exit of token {token} is under way")
        return state

    def check_id(self, state: AccountState, id_: int) -> None:
        """Refuse an id that can't be used any more or whose slot is taken.

        Raises
        ------
        Refused
            ``replayed``, ``stale_id`` or ``slot_taken``.
        """
        slots = self._slots
        last, status = state.slots.get(id_ % slots, _UNUSED)
        if id_ == last:
            raise Refused(Code.REPLAYED, f"id {id_} was used")
        if id_ < last:
            raise Refused(Code.STALE_ID, f"id {id_} is below {last}, which took its slot; an id higher by {slots} does")
        if status is _LIVE:
            raise Refused(Code.SLOT_TAKEN, f"order {last} lives in the slot of id {id_} (id modulo {slots})")

    def check_cancel(self, state: AccountState, id_: int) -> None:
        """Refuse a hard cancel that could not or need not be proven; see `check_id` for the codes."""
        last, status = state.slots.get(id_ % self._preset.slots, (0, SlotState.DONE))
        if id_ != last or status is SlotState.CLOSED:
            self.check_id(state, id_)

    def use_id(self, state: AccountState, id_: int, status: SlotState) -> None:
        """Note what became of an id, the highest of its slot."""
        slot, slots = id_ % self._slots, state.slots
        if id_ < slots.get(slot, _UNUSED)[0]:
            raise InvariantError("ids of a slot rise")
        slots[slot] = (id_, status)

    # --- requests

    def see(self, number: int, request: Request) -> None:
        """Note a request of L1's queue.

        Raises
        ------
        Refused
            ``request_order`` for another number than the next; ``bad_request`` for what L1 would not have queued.
        """
        if number != self.next_request:
            raise Refused(Code.REQUEST_ORDER, f"request {self.next_request} comes next, not {number}")
        self._check(request)
        self.seen.append((number, request))
        self.next_request += 1
        if request.kind == RequestKind.OPEN:
            self.opening.add(request.account)
        elif request.kind == RequestKind.KEY:
            self.accounts[request.account].key_pending = True
        elif request.kind == RequestKind.EXIT and request.account in self.accounts:
            self.accounts[request.account].exits[request.token] += 1

    def _check(self, request: Request) -> None:
        try:
            request_row_words(RequestRow(request))
        except (InvalidValue, NotCanonical) as error:
            raise Refused(Code.BAD_REQUEST, str(error)) from error
        kind, account = request.kind, request.account
        known = self.accounts.get(account)
        if account >= self._preset.accounts:
            raise Refused(Code.BAD_REQUEST, f"account {account} is beyond the tree")
        if kind == RequestKind.OPEN and (known or account in self.opening or not request.owner):
            raise Refused(Code.BAD_REQUEST, f"account {account} is open already, or its owner is 0")
        if kind == RequestKind.KEY and (known is None or known.key_pending):
            raise Refused(Code.BAD_REQUEST, f"account {account} has no place for a key change now")
        if kind in (RequestKind.DEPOSIT, RequestKind.EXIT):
            if not request.token:
                raise Refused(Code.BAD_REQUEST, "token 0 is none")
            if known is None and account not in self.opening:
                raise Refused(Code.BAD_REQUEST, f"account {account} is not open")

    def unsee(self, number: int) -> Request:
        """Forget the newest request seen; refuses with ``request_order`` if it is not this one."""
        if not self.seen or self.seen[-1][0] != number:
            raise Refused(Code.REQUEST_ORDER, f"request {number} is not the newest unconfirmed one")
        _, request = self.seen.pop()
        self.next_request -= 1
        if request.kind == RequestKind.OPEN:
            self.opening.discard(request.account)
        self._done(request)
        return request

    def confirm(self, number: int) -> Request:
        """Take the oldest request seen out of waiting, and open or re-key its account.

        Raises
        ------
        Refused
            ``request_order`` if it is not this one.
        """
        if not self.seen or self.seen[0][0] != number:
            raise Refused(Code.REQUEST_ORDER, f"request {number} is not the oldest unconfirmed one")
        _, request = self.seen.popleft()
        self._done(request)
        if request.kind == RequestKind.OPEN:
            self.opening.discard(request.account)
            self.accounts[request.account] = self._open(request)
        elif request.kind == RequestKind.KEY:
            self.accounts[request.account].key = Point(request.pub_x, request.pub_y)
        return request

    def _open(self, request: Request) -> AccountState:
        state = AccountState(request.owner, Point(request.pub_x, request.pub_y))
        for _, waiting in self.seen:
            if waiting.account == request.account and waiting.kind == RequestKind.EXIT:
                state.exits[waiting.token] += 1
        return state

    def _done(self, request: Request) -> None:
        state = self.accounts.get(request.account)
        if state is None:
            return
        if request.kind == RequestKind.KEY:
            state.key_pending = False
        elif request.kind == RequestKind.EXIT:
            state.exits[request.token] -= 1
            if not state.exits[request.token]:
                del state.exits[request.token]

    def dump(self) -> tuple[object, ...]:
        """Return everything as plain sorted values, for hashing."""
        accounts = [
            (i, a.owner, tuple(a.key), sorted(a.slots.items()), a.key_pending, sorted(a.exits.items()))
            for i, a in sorted(self.accounts.items())
        ]
        return accounts, sorted(self.opening), list(self.seen), self.next_request
