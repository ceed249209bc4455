"""The one transition: what a page does to a state (docs/spec.md section 5).

`apply` accepts exactly the pages that the batch circuit has a witness for. Without signatures it replays published data
alone, as a verifier does; what only a signature covers (limits, expiry) is then vouched for by the proof.

Sums over the whole batch decide, never running balances: rows of a page have no order in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from proofbook.protocol.babyjub import Point
from proofbook.protocol.errors import (
    AccountOpen,
    BadSignature,
    BalanceOverflow,
    EmptyFill,
    Expired,
    FeeTooHigh,
    FillOrKillPartial,
    InvalidValue,
    KeyChangedTwice,
    NegativeBalance,
    OldRootMismatch,
    OverFilled,
    PositionsFull,
    Replayed,
    RootMismatch,
    RowMismatch,
    RowsNotGrouped,
    SlotTaken,
    TokenNotHeld,
    TokensDoNotBalance,
    TooManyOfOneAccount,
    TooManyRows,
    UnknownAccount,
    WorseThanLimit,
    WrongAmount,
    WrongDomain,
    WrongOutcome,
)
from proofbook.protocol.messages import Action, SignedAction, verify_action
from proofbook.protocol.outcomes import find_outcomes
from proofbook.protocol.state import Account, Slot, State
from proofbook.protocol.table import (
    BPS,
    MAX_AMOUNT,
    POSITIONS,
    REQUEST_MULT_BITS,
    SLOT_CLOSED,
    TRANSFER_MULT_BITS,
    ActionType,
    Flag,
    RequestKind,
    Side,
    Size,
)
from proofbook.protocol.words import ActionRow, FeeRow, Header, Page, Request, RequestRow, check_page

CreditKind = Literal["withdraw", "exit", "bounce"]
_IDENTITY_KINDS: Final = (RequestKind.OPEN, RequestKind.KEY)
_MAX_REQUESTS: Final = 2**REQUEST_MULT_BITS - 1
_MAX_TRANSFERS: Final = 2**TRANSFER_MULT_BITS - 1


@dataclass(frozen=True, slots=True)
class Credit:
    """A claim on L1 that a batch records.

    Attributes
    ----------
    kind : {'withdraw', 'exit', 'bounce'}
        Where it comes from.
    account, owner : int
        The account, and the L1 address that may claim.
    token, amount : int
        In quanta, at least 1.
    """

    kind: CreditKind
    account: int
    owner: int
    token: int
    amount: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a page did.

    Attributes
    ----------
    state : State
        The state after it.
    credits : tuple of Credit
        In the order of requests, then actions.
    touched : tuple of int
        Accounts that need a row in the proof, ascending.
    deltas : mapping of (account, token) to int
        Sum of postings, those that cancel out to 0 included.
    """

    state: State
    credits: tuple[Credit, ...]
    touched: tuple[int, ...]
    deltas: Mapping[tuple[int, int], int]


def apply(state: State, page: Page, signed: Sequence[SignedAction] | None = None, size: Size | None = None) -> Outcome:
    """Apply a page to a state.

    Parameters
    ----------
    state : State
        Never changed.
    page : Page
        The batch.
    signed : sequence of SignedAction, optional
        One an action row, in their order; then everything that a signature covers is checked too.
    size : Size, optional
        The batch size whose numbers of rows must suffice.

    Raises
    ------
    InvalidValue, NotCanonical, TooManyRows
        For a page of wrong form.
    TransitionError
        For one that can't be proven: a named subclass for each reason.
    """
    check_page(page, size)
    outcome = _run(state, page, signed, size)
    if outcome.state.root != page.header.new_root:
        raise RootMismatch(page.header.new_root, outcome.state.root)
    return outcome


@dataclass(slots=True)
class _Work:
    """A page in progress. `accounts` holds every touched account as it becomes."""

    state: State
    page: Page
    accounts: dict[int, Account] = field(default_factory=dict)
    deltas: Counter[tuple[int, int]] = field(default_factory=Counter)

    def post(self, account: int, token: int, amount: int) -> None:
        self.deltas[account, token] += amount


def _run(state: State, page: Page, signed: Sequence[SignedAction] | None, size: Size | None) -> Outcome:
    """Do all of `apply` but for the form and the new root."""
    work = _begin(state, page, size)
    _process_actions(work, signed)
    _process_fees(work)
    _check_tokens(page)
    for row in page.requests:
        _post_request(work, row)
    for index, account in work.accounts.items():
        work.accounts[index] = replace(account, positions=_final_positions(work, index))
    _check_outcomes(work)
    after = state.copy()
    after.put(work.accounts)
    return Outcome(after, _credits(work), tuple(sorted(work.accounts)), dict(work.deltas))


# --- accounts


def _begin(state: State, page: Page, size: Size | None) -> _Work:
    """Find the touched accounts, give them their owners and keys, and check that all are open."""
    header = page.header
    if header.old_root != state.root:
        raise OldRootMismatch(header.old_root, state.root)
    touched = {row.request.account for row in page.requests} | {row.account for row in page.actions}
    touched |= {row.aux for row in page.actions if row.type == ActionType.TRANSFER}
    touched |= {header.fee_account for row in page.fees if row.amount}
    if size is not None and len(touched) > size.accounts:
        raise TooManyRows("accounts", len(touched), size.accounts)
    work = _Work(state, page)
    for index in sorted(touched):
        if index >= state.preset.accounts:
            raise UnknownAccount(index)
        work.accounts[index] = state.account(index)
    _process_identities(work)
    for index, account in work.accounts.items():
        if not account.owner:
            raise UnknownAccount(index)
    _check_multiplicities(work)
    return work


def _process_identities(work: _Work) -> None:
    """Open accounts and change keys: at most one of both an account, or the multisets of M6 can't be equal."""
    done: set[int] = set()
    for row in work.page.requests:
        request = row.request
        if request.kind not in _IDENTITY_KINDS:
            continue
        account = work.accounts[request.account]
        is_open = request.kind == RequestKind.OPEN
        if is_open and work.state.account(request.account).owner:
            raise AccountOpen(request.account)
        if request.account in done:
            raise KeyChangedTwice(request.account)
        done.add(request.account)
        owner = request.owner if is_open else account.owner
        work.accounts[request.account] = replace(account, owner=owner, pub_x=request.pub_x, pub_y=request.pub_y)


def _check_multiplicities(work: _Work) -> None:
    """Refuse what overflows the proof's counters of look-ups, and transfers to who does not hold the token (M14)."""
    for account, rows in Counter(row.request.account for row in work.page.requests).items():
        if rows > _MAX_REQUESTS:
            raise TooManyOfOneAccount("requests", account, rows, _MAX_REQUESTS)
    seen: Counter[tuple[int, int]] = Counter()
    for position, row in enumerate(work.page.actions):
        if row.type != ActionType.TRANSFER:
            continue
        if row.base not in _tokens(work.state.account(row.aux)):
            raise TokenNotHeld(position, row.account, row.id)
        seen[row.aux, row.base] += 1
        if seen[row.aux, row.base] > _MAX_TRANSFERS:
            raise TooManyOfOneAccount("transfers", row.aux, seen[row.aux, row.base], _MAX_TRANSFERS)


def _tokens(account: Account) -> list[int]:
    """Return the tokens of all 15 positions, 0 for an empty one: what the circuit looks tokens up in."""
    held = [token for token, _ in account.positions]
    return [0] * (POSITIONS - len(held)) + held


# --- actions


def _process_actions(work: _Work, signed: Sequence[SignedAction] | None) -> None:
    rows = work.page.actions
    if signed is not None and len(signed) != len(rows):
        raise InvalidValue("signed", len(signed), f"not one for each of {len(rows)} action rows")
    slots: dict[int, dict[int, Slot]] = {}
    for position, row in enumerate(rows):
        if row.account in slots and rows[position - 1].account != row.account:
            raise RowsNotGrouped(position, row.account, row.id)
        changes = slots.setdefault(row.account, {})
        place = row.id % work.state.preset.slots
        slot = changes.get(place) or work.accounts[row.account].slot(work.state.preset, row.id)
        changes[place] = _next_slot(position, row, slot)
        if signed is not None:
            _check_signed(work, position, signed[position], changes[place][1])
        _post_action(work, row)
    for index, changes in slots.items():
        work.accounts[index] = work.accounts[index].with_slots(work.state.preset, changes)


def _next_slot(position: int, row: ActionRow, slot: Slot) -> Slot:
    """Return what the row writes to its slot, checking all that published data shows."""
    at = (position, row.account, row.id)
    old_id, old_filled = slot
    if old_id > row.id:
        raise SlotTaken(*at)
    same = old_id == row.id
    if row.type == ActionType.CANCEL:
        return row.id, SLOT_CLOSED
    if row.type == ActionType.ORDER:
        if not row.ex_base and (row.ex_quote or row.aux):
            raise EmptyFill(*at)
        filled = (old_filled if same else 0) + row.ex_base
        if filled > MAX_AMOUNT:
            raise OverFilled(*at)
        return row.id, filled
    if same:
        raise Replayed(*at)
    if not row.ex_base:
        raise WrongAmount(*at)
    return row.id, SLOT_CLOSED


def _check_signed(work: _Work, position: int, signed: SignedAction, filled: int) -> None:
    """Check a row against what was signed; `filled` is the slot's after the row."""
    row, action, header = work.page.actions[position], signed.action, work.page.header
    at = (position, row.account, row.id)
    if action.domain != header.domain:
        raise WrongDomain(*at)
    if any(getattr(row, name) != getattr(action, name) for name in ("type", "account", "id", "base", "quote", "side")):
        raise RowMismatch(*at)
    account = work.accounts[row.account]
    if not verify_action(Point(account.pub_x, account.pub_y), signed):
        raise BadSignature(*at)
    if action.valid_until < header.timestamp:
        raise Expired(*at)
    if row.type == ActionType.ORDER:
        _check_limits(at, row, action, filled)
    else:
        _check_plain(at, row, action)


def _check_limits(at: tuple[int, int, int], row: ActionRow, action: Action, filled: int) -> None:
    if not action.base_amount or not action.quote_amount:
        raise WrongAmount(*at)
    if action.receiver:
        raise RowMismatch(*at)
    if filled > action.base_amount:
        raise OverFilled(*at)
    paid, limit = row.ex_quote * action.base_amount, row.ex_base * action.quote_amount
    if paid > limit if row.side == Side.BUY else paid < limit:
        raise WorseThanLimit(*at)
    if row.aux * BPS > action.max_fee_bps * row.ex_quote:
        raise FeeTooHigh(*at)
    if action.flags & Flag.FOK and filled != action.base_amount:
        raise FillOrKillPartial(*at)


def _check_plain(at: tuple[int, int, int], row: ActionRow, action: Action) -> None:
    """Check a withdrawal, transfer or cancel: it does exactly what was signed, and nothing else was."""
    if row.ex_base != action.base_amount:
        raise WrongAmount(*at)
    if action.quote_amount or row.aux != action.receiver:
        raise RowMismatch(*at)


def _post_action(work: _Work, row: ActionRow) -> None:
    if row.type == ActionType.ORDER:
        (_, base), (_, quote) = _order_deltas(row)
        work.post(row.account, row.base, base)
        work.post(row.account, row.quote, quote)
    elif row.type in (ActionType.WITHDRAW, ActionType.TRANSFER):
        work.post(row.account, row.base, -row.ex_base)
        if row.type == ActionType.TRANSFER:
            work.post(row.aux, row.base, row.ex_base)


def _order_deltas(row: ActionRow) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (token, delta) twice. A seller's fee may exceed what he gets, if he signed that."""
    if row.side == Side.BUY:
        return (row.base, row.ex_base), (row.quote, -(row.ex_quote + row.aux))
    return (row.base, -row.ex_base), (row.quote, row.ex_quote - row.aux)


# --- sums


def _process_fees(work: _Work) -> None:
    for row in work.page.fees:
        # An empty row touches no account: it is nothing, whatever its token.
        if row.amount:
            work.post(work.page.header.fee_account, row.token, row.amount)


def _check_tokens(page: Page) -> None:
    """Check that orders and fee rows neither make nor destroy any token."""
    sums: Counter[int] = Counter()
    for row in page.actions:
        if row.type == ActionType.ORDER:
            for token, delta in _order_deltas(row):
                sums[token] += delta
    for fee in page.fees:
        sums[fee.token] += fee.amount
    for token, excess in sums.items():
        if excess:
            raise TokensDoNotBalance(token, excess)


def _post_request(work: _Work, row: RequestRow) -> None:
    request = row.request
    if request.kind == RequestKind.DEPOSIT and not row.outcome:
        work.post(request.account, request.token, request.amount)
    elif request.kind == RequestKind.EXIT:
        work.post(request.account, request.token, -row.outcome)


def _final_positions(work: _Work, index: int) -> tuple[tuple[int, int], ...]:
    """Return an account's positions after all postings, in canonical form."""
    balances = Counter(dict(work.state.account(index).positions))
    for (account, token), delta in work.deltas.items():
        if account == index:
            balances[token] += delta
    for token, balance in balances.items():
        if balance < 0:
            raise NegativeBalance(index, token, balance)
        if balance > (MAX_AMOUNT if token else 0):
            raise BalanceOverflow(index, token, balance)
    held = tuple(sorted((token, balance) for token, balance in balances.items() if balance))
    if len(held) > POSITIONS:
        raise PositionsFull(index, len(held))
    return held


# --- requests' outcomes


def _check_outcomes(work: _Work) -> None:
    """Check bounces and exits against the final positions (M13)."""
    for position, row in enumerate(work.page.requests):
        request = row.request
        at = (position, request.account, request.token)
        tokens = _tokens(work.accounts[request.account])
        if request.kind == RequestKind.EXIT and request.token in tokens:
            raise WrongOutcome(*at, "the exit leaves something of the token")
        if request.kind == RequestKind.DEPOSIT:
            must_bounce = bool(tokens[0]) and request.token not in tokens
            if must_bounce != bool(row.outcome):
                raise WrongOutcome(*at, "must bounce" if must_bounce else "must not bounce")


def _credits(work: _Work) -> tuple[Credit, ...]:
    made: list[Credit] = []

    def add(kind: CreditKind, index: int, token: int, amount: int) -> None:
        if amount:
            made.append(Credit(kind, index, work.accounts[index].owner, token, amount))

    for request_row in work.page.requests:
        request = request_row.request
        if request.kind == RequestKind.DEPOSIT and request_row.outcome:
            add("bounce", request.account, request.token, request.amount)
        elif request.kind == RequestKind.EXIT:
            add("exit", request.account, request.token, request_row.outcome)
    for row in work.page.actions:
        if row.type == ActionType.WITHDRAW:
            add("withdraw", row.account, row.base, row.ex_base)
    return tuple(made)


# --- making pages


def group_actions(
    rows: Sequence[ActionRow], signed: Sequence[SignedAction] | None = None
) -> tuple[tuple[ActionRow, ...], tuple[SignedAction, ...] | None]:
    """Sort rows, and their signed actions with them, so that those of one account stand together.

    The order within an account stays, and so must be one in which the ids of a slot do not fall.
    """
    order = sorted(range(len(rows)), key=lambda i: rows[i].account)
    return tuple(rows[i] for i in order), None if signed is None else tuple(signed[i] for i in order)


def build_page(
    state: State,
    header: Header,
    requests: Sequence[Request],
    actions: Sequence[ActionRow],
    fees: Sequence[FeeRow],
    signed: Sequence[SignedAction] | None = None,
) -> Page:
    """Return the page of these rows, with the outcomes of requests and the new root; see `build`."""
    return build(state, header, requests, actions, fees, signed)[0]


def build(
    state: State,
    header: Header,
    requests: Sequence[Request],
    actions: Sequence[ActionRow],
    fees: Sequence[FeeRow],
    signed: Sequence[SignedAction] | None = None,
    size: Size | None = None,
) -> tuple[Page, Outcome]:
    """Return the page of these rows and what it does.

    Parameters
    ----------
    state : State
        Never changed; its root must be the header's old root.
    header : Header
        Its new root is ignored.
    requests : sequence of Request
        Outcomes are found here: exits take everything that the batch leaves, deposits bounce exactly where they must.
    actions, fees
        As `group_actions` leaves them.
    signed, size
        As for `apply`.

    Raises
    ------
    ProofbookError
        As `apply`. Also where no outcome would do: for a deposit into full positions that the same batch spends.
    """
    page = Page(
        replace(header, new_root=0), tuple(RequestRow(request) for request in requests), tuple(actions), tuple(fees)
    )
    check_page(page, size)
    work = _begin(state, page, size)
    _process_actions(work, None)
    _process_fees(work)
    page = replace(page, requests=find_outcomes(state, requests, work.deltas))
    check_page(page, size)
    outcome = _run(state, page, signed, size)
    return replace(page, header=replace(page.header, new_root=outcome.state.root)), outcome
