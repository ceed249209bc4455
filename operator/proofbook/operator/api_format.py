"""From what the operator knows to what the API says. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from proofbook.operator import events as ev
from proofbook.operator.api_models import (
    AccountOut,
    ActionResult,
    BalanceOut,
    BatchOut,
    BookOut,
    CancelResult,
    LevelOut,
    MarketOut,
    OrderOut,
    OrderResult,
    RequestOut,
    TradeOut,
)
from proofbook.operator.api_parse import ApiError, refusal
from proofbook.operator.book import Depth
from proofbook.operator.engine import Engine
from proofbook.operator.markets import Market, Markets
from proofbook.operator.registry import AccountState, SlotState
from proofbook.operator.settings import Settings
from proofbook.operator.settlement import BatchPlan
from proofbook.operator.store import BatchRecord, RequestRecord
from proofbook.operator.views import OrderView, TradeView, Views
from proofbook.protocol.table import ActionType, RequestKind, Side

_KINDS: dict[int, Literal["open", "deposit", "key", "exit"]] = {
    RequestKind.OPEN: "open",
    RequestKind.DEPOSIT: "deposit",
    RequestKind.KEY: "key",
    RequestKind.EXIT: "exit",
}


def format_side(side: int) -> Literal["buy", "sell"]:
    """Return a side's name."""
    return "buy" if side == Side.BUY else "sell"


def format_address(owner: int) -> str:
    """Return an L1 address as lower-case hex."""
    return f"0x{owner:040x}"


def format_market(market: Market) -> MarketOut:
    """Return a market."""
    return MarketOut(
        market.symbol,
        market.base,
        market.quote,
        str(market.lot),
        market.maker_fee_bps,
        market.taker_fee_bps,
        str(market.max_lots),
        str(market.max_price),
    )


def format_book(symbol: str, depth: tuple[Sequence[Depth], Sequence[Depth]]) -> BookOut:
    """Return the best levels of a book."""
    bids, asks = ([LevelOut(str(d.price), str(d.lots), d.orders) for d in side] for side in depth)
    return BookOut(symbol, bids, asks)


def format_trade(trade: TradeView) -> TradeOut:
    """Return a trade."""
    e = trade.event
    return TradeOut(
        seq=str(e.number),
        market=e.symbol,
        time=trade.time,
        price=str(e.price),
        lots=str(e.lots),
        base_amount=str(e.base_amount),
        quote_amount=str(e.quote_amount),
        taker_side=format_side(e.taker_side),
    )


def format_order(order: OrderView, lot: int) -> OrderOut:
    """Return an order; ``lot`` is its market's."""
    return OrderOut(
        account=order.account,
        id=str(order.id),
        market=order.symbol,
        side=format_side(order.side),
        price=str(order.price),
        base_amount=str(order.lots * lot),
        remaining_base=str(order.remaining * lot),
        filled_base=str(order.filled_base),
        filled_quote=str(order.filled_quote),
        fee=str(order.fee),
        flags=order.flags,
        valid_until=order.valid_until,
        status=order.status,
    )


def raise_refusal(events: Iterable[ev.Event]) -> None:
    """Raise the API's error for a refusal among a command's events."""
    for event in events:
        if isinstance(event, ev.OrderRejected | ev.ActionRejected):
            raise refusal(event.code, event.detail, account=event.account, id=str(event.id))
        if isinstance(event, ev.CommandRejected):
            raise refusal(event.code, event.detail)


def order_result(events: Sequence[ev.Event], lot: int, now: int) -> OrderResult:
    """Return an order's answer from its own command's events alone; `ApiError` for a refusal."""
    raise_refusal(events)
    accepted = next(e for e in events if isinstance(e, ev.OrderAccepted))
    views = Views()
    views.process(events, now)
    trades = [TradeView(e, now) for e in events if isinstance(e, ev.Trade)]
    order = views.orders[(accepted.account, accepted.id)]
    return OrderResult(format_order(order, lot), [format_trade(t) for t in trades])


def cancel_result(events: Sequence[ev.Event], account: int, id_: int, hard: bool, markets: Markets) -> CancelResult:
    """Return a cancel's answer; `ApiError` for a refusal."""
    raise_refusal(events)
    removed = next((e for e in events if isinstance(e, ev.OrderRemoved) and (e.account, e.id) == (account, id_)), None)
    left = removed.lots * markets.by_symbol[removed.symbol].lot if removed else 0
    return CancelResult(account, str(id_), hard, str(left))


def action_result(events: Sequence[ev.Event]) -> ActionResult:
    """Return a withdrawal's or transfer's answer; `ApiError` for a refusal."""
    raise_refusal(events)
    e = next(e for e in events if isinstance(e, ev.ActionAccepted))
    type_: Literal["withdraw", "transfer"] = "withdraw" if e.type == ActionType.WITHDRAW else "transfer"
    return ActionResult(e.account, str(e.id), type_, e.token, str(e.amount))


def get_next_id(state: AccountState, slots: int) -> int:
    """Return an id above all the account used whose slot no live order holds; the next one if all slots are held."""
    after = max((id_ for id_, _ in state.slots.values()), default=0) + 1
    for id_ in range(after, after + slots):
        _, status = state.slots.get(id_ % slots, (0, SlotState.DONE))
        if status is not SlotState.LIVE:
            return id_
    return after


def format_request(record: RequestRecord) -> RequestOut:
    """Return a queued request."""
    return RequestOut(
        id=str(record.number),
        kind=_KINDS[record.kind],
        account=record.account,
        token=record.token,
        amount=str(record.amount),
        deadline=record.deadline,
    )


def format_account(
    index: int, engine: Engine, views: Views, settings: Settings, pending: Sequence[RequestRecord]
) -> AccountOut:
    """Return an open account; `ApiError` (``unknown_account``) for another."""
    state = engine.get_account(index)
    if state is None:
        raise refusal("unknown_account", f"account {index} is not open", account=index)
    markets = engine.config.markets.by_symbol
    balances = [
        BalanceOut(token, settings.get_symbol(token), str(b.total), str(b.available), str(b.reserved))
        for token, b in sorted(engine.get_balances(index).items())
    ]
    slots = engine.config.preset.slots
    return AccountOut(
        index=index,
        owner=format_address(state.owner),
        pub_x=str(state.key.x),
        pub_y=str(state.key.y),
        paused=state.key_pending,
        balances=balances,
        open_orders=[format_order(o, markets[o.symbol].lot) for o in views.get_open_orders(index)],
        pending_requests=[format_request(r) for r in pending],
        next_id=str(get_next_id(state, slots)),
        slots=slots,
    )


def format_batch(record: BatchRecord, requests: int, actions: int, fees: int, new_root: int) -> BatchOut:
    """Return a batch that has a record."""
    return BatchOut(
        number=record.number,
        state="built" if record.state == "witnessed" else record.state,
        size_id=record.size_id,
        timestamp=record.timestamp,
        orders=record.orders,
        trades=record.trades,
        requests=requests,
        actions=actions,
        accounts=record.accounts,
        fees=fees,
        constraints=record.constraints,
        witness_s=record.witness_s,
        prove_s=record.prove_s,
        gas=record.gas,
        data_bytes=record.data_bytes,
        tx=record.tx,
        new_root=f"0x{new_root:064x}",
    )


def format_plan(plan: BatchPlan) -> BatchOut:
    """Return a batch that is sealed and nothing more yet."""
    return BatchOut(
        number=plan.number,
        state="sealed",
        size_id=plan.size_id,
        timestamp=plan.timestamp,
        orders=sum(a.row.type == ActionType.ORDER for a in plan.actions),
        trades=len(plan.trades),
        requests=len(plan.requests),
        actions=len(plan.actions),
        accounts=plan.accounts,
        fees=len(plan.fees),
        constraints=0,
        witness_s=0.0,
        prove_s=0.0,
        gas=0,
        data_bytes=0,
        tx="",
        new_root="",
    )


def require_order(views: Views, account: int, id_: int) -> OrderView:
    """Return an order, open or done; `ApiError` (``unknown_order``) for one that is not known."""
    order = views.orders.get((account, id_))
    if order is None:
        raise ApiError(404, "unknown_order", f"account {account} has no order {id_}")
    return order
