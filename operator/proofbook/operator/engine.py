"""The exchange as a function: commands in, events out. No clock, no files, no randomness.

An order's way: checked (form, account, id, time, market, fee cap), its cost and its place reserved, matched, its trades
booked and appended to the settlement log, from which batches are cut (see `proofbook.operator.settlement`). All that a
command changes, it changes before `Engine.handle` returns; a refused one changes nothing but, where stated, the id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from proofbook.operator import commands as c
from proofbook.operator import events as e
from proofbook.operator.book import Book, Depth, Order, SortedBook
from proofbook.operator.codes import Code, Refused, Removal, must
from proofbook.operator.markets import MarketError, Markets
from proofbook.operator.matching import Width
from proofbook.operator.registry import AccountState, Registry, SlotState
from proofbook.operator.risk import Balance, Ledger
from proofbook.operator.settlement import BatchPlan, RequestEntry, Settlement, TradeEntry, get_expiry
from proofbook.operator.trading import Live, Trading
from proofbook.protocol.babyjub import Point
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.messages import Action, SignedAction
from proofbook.protocol.table import FEE_ACCOUNT, SIZES, TIME_BITS, ActionType, Preset, RequestKind, Side, Size
from proofbook.protocol.words import Request

DEFAULT_MARGIN = 600

# Asked for once: an enum takes its time to answer.
_ORDER, _CANCEL, _CANCELLED = ActionType.ORDER, ActionType.CANCEL, Removal.CANCELLED


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is made for.

    Attributes
    ----------
    domain : int
        Of chain and contract; actions signed for another one are refused.
    preset : Preset
        Depths of the trees.
    markets : Markets
        What can be traded at first; `AddMarket` adds to it.
    sizes : tuple of Size
        Batch sizes on offer, each at least as large as the one before in every part; the preset's if not given. The
        largest has room for one trade: 2 actions, 3 accounts.
    margin : int
        Seconds that an action must still be valid for: time to prove what it does.
    """

    domain: int
    preset: Preset
    markets: Markets
    sizes: tuple[Size, ...] = ()
    margin: int = DEFAULT_MARGIN

    def get_sizes(self) -> tuple[Size, ...]:
        """Return the batch sizes."""
        return self.sizes or SIZES[self.preset.name]

    def get_identity(self) -> str:
        """Return a digest of all of this but the markets: a journal is replayed with what it was made with."""
        parts = (self.domain, self.preset, self.get_sizes(), self.margin)
        return _digest(parts)


class Engine:
    """The exchange.

    Parameters
    ----------
    config : EngineConfig
        Fixed for the engine's life.
    make_book : callable
        Makes an empty book; the tests hand in the reference.

    Attributes
    ----------
    command_seq, event_seq : int
        Commands handled, events given out.
    now : int
        Unix seconds, by the last `Tick`.
    frozen : bool
        The exchange is frozen on L1.
    """

    def __init__(self, config: EngineConfig, make_book: Callable[[], Book] = SortedBook) -> None:
        self.config = config
        self.command_seq = self.now = 0
        self._stream = e.Stream()
        self.frozen = False
        self.registry = Registry(config.preset)
        self.ledger = Ledger()
        self.settlement = Settlement(config.get_sizes(), FEE_ACCOUNT)
        limits = self.settlement.limits
        must(limits.actions >= 2 and limits.accounts >= 3, "the largest batch has room for a trade")
        width = Width(makers=limits.actions - 1, accounts=limits.accounts - 2)
        self.trading = Trading(
            config.markets, width, make_book, self.registry, self.ledger, self.settlement.log, self._stream
        )

    # --- the entry

    def handle(self, command: c.Command) -> list[e.Event]:
        """Do a command and return what happened, balances last.

        Raises
        ------
        InvariantError
            If the program is wrong; the engine must not be used any more.
        """
        stream = self._stream
        stream.clear()
        self.command_seq += 1
        self.ledger.touched.clear()
        try:
            if self.frozen and not isinstance(command, c.Tick):
                raise Refused(Code.FROZEN, "the exchange is frozen: leave with an exit proof")
            _HANDLERS[type(command)](self, command)
        except Refused as refused:
            self.ledger.touched.clear()
            self._refuse(command, refused)
        append, seq = stream.append, stream.seq
        for (account, token), b in sorted(self.ledger.touched.items()):
            seq += 1
            append(e.BalanceChanged(seq, account, token, b.available, b.reserved))
        stream.seq = seq
        return stream.events

    @property
    def event_seq(self) -> int:
        """Number of the newest event."""
        return self._stream.seq

    def _emit(self, event: Callable[..., e.Event], /, **values: Any) -> None:
        self._stream.append(event(seq=self._stream.next_seq(), **values))

    def _refuse(self, command: c.Command, refused: Refused) -> None:
        self._stream.append(make_refusal(command, refused.code, refused.detail, self._stream.next_seq()))

    # --- what can be asked

    def get_balance(self, account: int, token: int) -> Balance:
        """Return an account's quanta of a token."""
        return self.ledger.get(account, token)

    def get_balances(self, account: int) -> dict[int, Balance]:
        """Return all balances of an account by token."""
        return {token: self.ledger.get(account, token) for token in self.ledger.tokens(account)}

    def get_account(self, account: int) -> AccountState | None:
        """Return an open account."""
        return self.registry.accounts.get(account)

    def get_key(self, account: int) -> Point | None:
        """Return the key that an account's actions are signed with now."""
        state = self.registry.accounts.get(account)
        return state.key if state else None

    def get_orders(self, account: int) -> list[tuple[Order, SignedAction]]:
        """Return an account's resting orders, oldest first."""
        return [(live, live.signed) for live in self.trading.by_account.get(account, {}).values()]

    def get_depth(self, symbol: str, levels: int) -> tuple[list[Depth], list[Depth]]:
        """Return the best bids and asks of a market; KeyError for an unknown symbol."""
        book = self.trading.books[symbol]
        return book.depth(Side.BUY, levels), book.depth(Side.SELL, levels)

    def get_plan(self, number: int) -> BatchPlan | None:
        """Return the plan of a batch in flight."""
        return next((s.plan for s in self.settlement.in_flight if s.plan.number == number), None)

    # --- signed commands

    def _check_action(self, signed: SignedAction, type_: ActionType, margin: int) -> Action:
        action = signed.action
        try:
            action.check()
        except InvalidValue as error:
            raise Refused(Code.MALFORMED, str(error)) from error
        if action.domain != self.config.domain:
            raise Refused(Code.WRONG_DOMAIN, "signed for another chain or contract")
        if action.type != type_:
            raise Refused(Code.WRONG_TYPE, f"a signed {type_.name.lower()} is needed")
        if action.valid_until < self.now + margin:
            raise Refused(Code.EXPIRED, f"must be valid until {self.now + margin} at least: time to prove it")
        return action

    def _place(self, command: c.PlaceOrder) -> None:
        action = self._check_action(command.signed, _ORDER, self.config.margin)
        self.trading.place(command.signed, action)

    def _add_market(self, command: c.AddMarket) -> None:
        try:
            markets = Markets([*self.config.markets.all, command.market])
        except MarketError as error:
            raise Refused(Code.MALFORMED, str(error)) from error
        self.config = replace(self.config, markets=markets)
        self.trading.use_markets(markets)

    def _tick(self, command: c.Tick) -> None:
        if not 0 <= command.now < 1 << TIME_BITS:
            raise Refused(Code.MALFORMED, f"time must be below 2^{TIME_BITS}")
        self.now = max(self.now, command.now)
        self.trading.expire(self.now + self.config.margin)

    def find_cancelled(self, signed: SignedAction) -> Live:
        """Return the order that a soft cancel takes out; changes nothing, and raises `Refused` where the command is."""
        action = self._check_action(signed, _CANCEL, 0)
        live = self.trading.find(action.account, action.id)
        if live is None:
            raise Refused(Code.UNKNOWN_ORDER, f"account {action.account} has no resting order {action.id}")
        return live

    def _cancel(self, command: c.Cancel) -> None:
        self.trading.remove(self.find_cancelled(command.signed), _CANCELLED)

    def find_hard_cancelled(self, signed: SignedAction) -> Live | None:
        """Return the order that a hard cancel takes out, if any; as `find_cancelled` for whatever is refused."""
        action = self._check_action(signed, _CANCEL, self.config.margin)
        self.registry.check_cancel(self.registry.get_active(action.account), action.id)
        return self.trading.find(action.account, action.id)

    def _hard_cancel(self, command: c.HardCancel) -> None:
        if live := self.find_hard_cancelled(command.signed):
            self.trading.remove(live, Removal.HARD_CANCELLED)
        self._admit(command.signed, self.registry.get(command.signed.action.account))

    def _withdraw(self, command: c.Withdraw) -> None:
        action = self._check_action(command.signed, ActionType.WITHDRAW, self.config.margin)
        state = self.registry.get_active(action.account, action.base)
        self.registry.check_id(state, action.id)
        self.ledger.debit(action.account, action.base, action.base_amount)
        self._admit(command.signed, state)

    def _transfer(self, command: c.Transfer) -> None:
        action = self._check_action(command.signed, ActionType.TRANSFER, self.config.margin)
        state = self.registry.get_active(action.account, action.base)
        self.registry.check_id(state, action.id)
        # M14, and the batch is cut so that "now" is also "before the batch" where that matters.
        if not self.ledger.get(action.receiver, action.base).total:
            raise Refused(Code.RECEIVER_LACKS_TOKEN, f"account {action.receiver} does not hold token {action.base}")
        self.ledger.debit(action.account, action.base, action.base_amount)
        self.ledger.credit(action.receiver, action.base, action.base_amount)
        self._admit(command.signed, state)

    def _admit(self, signed: SignedAction, state: AccountState) -> None:
        a = signed.action
        self.registry.use_id(state, a.id, SlotState.CLOSED)
        self.settlement.admit(signed)
        self._emit(
            e.ActionAccepted,
            type=a.type,
            account=a.account,
            id=a.id,
            token=a.base,
            amount=a.base_amount,
            receiver=a.receiver,
        )

    # --- requests of L1

    def _request_seen(self, command: c.RequestSeen) -> None:
        r = command.request
        self.registry.see(command.number, r)
        self._note(command.number, r, "seen")
        if r.kind == RequestKind.KEY:
            self.trading.remove_where(r.account, Removal.KEY_CHANGE, lambda live: True)
        elif r.kind == RequestKind.EXIT:
            self.trading.remove_where(
                r.account, Removal.FORCED_EXIT, lambda live: r.token in (live.market.base, live.market.quote)
            )
        elif r.kind == RequestKind.DEPOSIT:
            self.ledger.expect_deposit(r.account, r.token)
            self.trading.make_room(r.account)

    def _request_unseen(self, command: c.RequestUnseen) -> None:
        r = self.registry.unsee(command.number)
        if r.kind == RequestKind.DEPOSIT:
            self.ledger.unexpect_deposit(r.account, r.token)
        self._note(command.number, r, "unseen")

    def _note(self, number: int, r: Request, stage: str) -> None:
        self._emit(
            e.RequestNoted, number=number, stage=stage, kind=r.kind, account=r.account, token=r.token, amount=r.amount
        )

    def _request_confirmed(self, command: c.RequestConfirmed) -> None:
        request = self.registry.confirm(command.number)
        if request.kind == RequestKind.DEPOSIT:
            self.ledger.unexpect_deposit(request.account, request.token)
        self._apply_request(command.number, request)

    def _apply_request(self, number: int, r: Request) -> None:
        """Let a confirmed request move money, and append it to the log."""
        outcome = 0
        if r.kind == RequestKind.DEPOSIT:
            outcome = int(self.ledger.is_bounced(r.account, r.token))
            self.ledger.credit(r.account, r.token, 0 if outcome else r.amount)
            self.trading.make_room(r.account)
        elif r.kind == RequestKind.EXIT:
            balance = self.ledger.get(r.account, r.token)
            must(not balance.reserved, "orders with a token that exits were removed when the exit was seen")
            outcome = balance.available
            self.ledger.debit(r.account, r.token, outcome)
        self.settlement.log.append(RequestEntry(number, r, outcome))
        self._emit(
            e.RequestApplied,
            number=number,
            kind=r.kind,
            account=r.account,
            token=r.token,
            amount=r.amount,
            outcome=outcome,
        )

    # --- batches

    def _seal(self, command: c.SealBatch) -> None:
        s = self.settlement
        if command.number != s.next_number:
            raise Refused(Code.BATCH_ORDER, f"batch {s.next_number} comes next, not {command.number}")
        if not s.log:
            raise Refused(Code.NOTHING_TO_SEAL, "nothing happened since the last batch")
        plan = s.seal(min(self.now, command.max_timestamp)).plan
        self._emit(
            e.BatchSealed,
            number=plan.number,
            size_id=plan.size_id,
            timestamp=plan.timestamp,
            requests=len(plan.requests),
            actions=len(plan.actions),
            accounts=plan.accounts,
            fees=len(plan.fees),
            trades=len(plan.trades),
            left=len(s.log),
        )

    def _batch_confirmed(self, command: c.BatchConfirmed) -> None:
        in_flight = self.settlement.in_flight
        if not in_flight or in_flight[0].plan.number != command.number:
            raise Refused(Code.BATCH_ORDER, f"batch {command.number} is not the oldest in flight")
        self.settlement.settle()
        self._emit(e.BatchSettled, number=command.number)

    def _batch_dropped(self, command: c.BatchDropped) -> None:
        if self.get_plan(command.number) is None:
            raise Refused(Code.BATCH_ORDER, f"batch {command.number} is not in flight")
        self._unseal(command.number)
        expiry = get_expiry(self.settlement.log)
        if expiry is not None and expiry < command.min_timestamp:
            self._bust()

    def _unseal(self, down_to: int) -> None:
        in_flight = self.settlement.in_flight
        while in_flight and in_flight[-1].plan.number >= down_to:
            self._emit(e.BatchUnsealed, number=self.settlement.unseal().plan.number)

    def _bust(self) -> None:
        """Undo whatever is in no batch, requests excepted: these take effect anew.

        Everything, because later trades may have spent what earlier ones brought; and all orders leave the books,
        because their reserves may be gone.
        """
        for live in list(self.trading.live.values()):
            self.trading.remove(live, Removal.BUSTED)
        entries = self.settlement.clear()
        self.ledger.reset(self.settlement.sealed)
        for entry in entries:
            if isinstance(entry, RequestEntry):
                if not self.frozen:
                    self._apply_request(entry.number, entry.request)
            elif isinstance(entry, TradeEntry):
                for trade in entry.trades:
                    self._emit(e.TradeBusted, number=trade.number)
            else:
                a = entry.signed.action
                self._emit(e.ActionBusted, type=a.type, account=a.account, id=a.id)

    def _freeze(self, command: c.Freeze) -> None:
        self._emit(e.ExchangeFrozen)
        self.frozen = True
        self._unseal(0)
        self._bust()

    # --- the whole

    def state_hash(self) -> str:
        """Return a digest of everything that decides how the engine will go on."""
        s = self.settlement
        state = (
            (self.command_seq, self.event_seq, self.trading.trade_seq, self.now, self.frozen),
            self.ledger.dump(),
            self.registry.dump(),
            [(symbol, book.state_hash()) for symbol, book in sorted(self.trading.books.items())],
            sorted((live.key, live.reserved, live.signed) for live in self.trading.live.values()),
            (list(s.log), list(s.in_flight), s.next_number, s.next_request, s.last_timestamp),
            sorted((account, sorted(amounts.items())) for account, amounts in s.sealed.items() if amounts),
        )
        return _digest(state)


# Not in the engine: that would be a cycle of references, and only the collector could free it.
_HANDLERS: Final[dict[type, Callable[[Engine, Any], None]]] = {
    c.PlaceOrder: Engine._place,
    c.Cancel: Engine._cancel,
    c.HardCancel: Engine._hard_cancel,
    c.Withdraw: Engine._withdraw,
    c.Transfer: Engine._transfer,
    c.RequestSeen: Engine._request_seen,
    c.RequestUnseen: Engine._request_unseen,
    c.RequestConfirmed: Engine._request_confirmed,
    c.AddMarket: Engine._add_market,
    c.Tick: Engine._tick,
    c.SealBatch: Engine._seal,
    c.BatchConfirmed: Engine._batch_confirmed,
    c.BatchDropped: Engine._batch_dropped,
    c.Freeze: Engine._freeze,
}


def _digest(value: object) -> str:
    """Return a digest that is the same for equal values, enum members and plain numbers alike."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


def make_refusal(command: c.Command, code: Code, detail: str, seq: int = 0) -> e.Event:
    """Return the event that answers a refused command; ``seq`` 0 for one that never reached the engine."""
    if isinstance(command, c.PlaceOrder):
        a = command.signed.action
        return e.OrderRejected(seq=seq, account=a.account, id=a.id, code=code.value, detail=detail)
    if isinstance(command, c.SIGNED_COMMANDS):
        a = command.signed.action
        return e.ActionRejected(seq=seq, type=a.type, account=a.account, id=a.id, code=code.value, detail=detail)
    return e.CommandRejected(seq=seq, command=type(command).__name__, code=code.value, detail=detail)
