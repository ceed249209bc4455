"""`order`, `cancel`, `withdraw`, `transfer` and `book`: signed here, sent to the operator."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console

from proofbook.cli.accounts import AmountArgument, TokenArgument
from proofbook.cli.output import Json, JsonFlag, emit, lines, table
from proofbook.cli.session import (
    DEFAULT_WALLET,
    AccountOption,
    ApiOption,
    ContractOption,
    KeyOption,
    RpcOption,
    Session,
    WalletOption,
)
from proofbook.cli.tokens import tokens_of
from proofbook.client.amounts import format_amount, format_price
from proofbook.client.answers import get_flag, get_number, get_object, get_rows, get_text
from proofbook.client.models import ExchangeInfo
from proofbook.client.orders import Desk, Ids, Terms, TimeInForce
from proofbook.protocol.table import Side

order = typer.Typer(no_args_is_help=True, help="Orders.")

MarketArgument = Annotated[str, typer.Argument(metavar="MARKET", help="Such as USD/ETH; USD-ETH will do.")]
SizeArgument = Annotated[str, typer.Argument(metavar="SIZE", help="In whole base tokens, such as 2.5.")]
PriceArgument = Annotated[
    str, typer.Argument(metavar="PRICE", help="Quote tokens for one base token; the worst one for --market.")
]
TifOption = Annotated[
    TimeInForce, typer.Option("--tif", help="gtt rests in the book, ioc drops the rest, fok is all or nothing.")
]
PostOnlyFlag = Annotated[bool, typer.Option("--post-only", help="Refused if it would take.")]
MarketFlag = Annotated[bool, typer.Option("--market", help="Take what there is up to PRICE, drop the rest.")]
FeeOption = Annotated[
    int | None, typer.Option("--max-fee-bps", min=0, max=10_000, help="Highest fee, in 0.01 %. Default: the market's.")
]
UntilOption = Annotated[
    int | None, typer.Option("--valid-until", min=0, max=2**32 - 1, help="Unix time it ends. Default: in a day.")
]
IdOption = Annotated[
    int | None, typer.Option("--id", min=1, max=2**63 - 1, help="Its id. Default: the account's next free one.")
]


def _desk(session: Session) -> Desk:
    info = session.info
    info.check_tokens(tokens_of(session.exchange))
    info.check_time(max(int(time.time()), int(session.w3.eth.get_block("latest")["timestamp"])))
    return Desk(session.trader, session.info, session.account)


def _next_id(session: Session, chosen: int | None = None) -> int:
    if chosen is not None:
        return chosen
    return Ids.of_account(session.api.account(session.account)).take()


# --- orders


@order.command("buy")
def buy(
    market: MarketArgument,
    size: SizeArgument,
    price: PriceArgument,
    tif: TifOption = TimeInForce.GTT,
    post_only: PostOnlyFlag = False,
    is_market: MarketFlag = False,
    max_fee_bps: FeeOption = None,
    valid_until: UntilOption = None,
    id_: IdOption = None,
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Buy SIZE of the base token at PRICE or better."""
    session = Session(wallet, rpc, contract, api, key_file, account)
    terms = Terms(tif, post_only, is_market, max_fee_bps, valid_until)
    _place(session, Side.BUY, (market, size, price), terms, id_, as_json)


@order.command("sell")
def sell(
    market: MarketArgument,
    size: SizeArgument,
    price: PriceArgument,
    tif: TifOption = TimeInForce.GTT,
    post_only: PostOnlyFlag = False,
    is_market: MarketFlag = False,
    max_fee_bps: FeeOption = None,
    valid_until: UntilOption = None,
    id_: IdOption = None,
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Sell SIZE of the base token at PRICE or better."""
    session = Session(wallet, rpc, contract, api, key_file, account)
    terms = Terms(tif, post_only, is_market, max_fee_bps, valid_until)
    _place(session, Side.SELL, (market, size, price), terms, id_, as_json)


def _place(
    session: Session, side: Side, what: tuple[str, str, str], terms: Terms, id_: int | None, as_json: bool
) -> None:
    terms.flags()  # what contradicts itself is refused before anybody is asked anything
    desk = _desk(session)
    market, size, price = what
    signed = desk.order(_next_id(session, id_), market, side, size, price, terms)
    result = session.api.place(signed)
    placed = describe_order(get_object(result, "order"), session.info)
    trades = [describe_trade(trade, session.info) for trade in get_rows(result, "trades")]

    def show(console: Console) -> None:
        lines(console, placed)
        if trades:
            table(console, "Trades", ("price", "size", "total"), [(t["price"], t["size"], t["total"]) for t in trades])

    emit({"order": placed, "trades": trades}, as_json, show)


def describe_order(found: dict[str, Any], info: ExchangeInfo) -> Json:
    """Return an order of the API in whole tokens."""
    market = info.market(get_text(found, "market"))
    base, quote = info.token(market.base), info.token(market.quote)
    return {
        "id": str(get_number(found, "id")),
        "account": get_number(found, "account"),
        "market": market.symbol,
        "side": get_text(found, "side"),
        "size": format_amount(get_number(found, "base_amount"), base),
        "price": format_price(get_number(found, "price"), market, base, quote),
        "filled": format_amount(get_number(found, "filled_base"), base),
        "filled_total": format_amount(get_number(found, "filled_quote"), quote),
        "fee": format_amount(get_number(found, "fee"), quote),
        "status": get_text(found, "status"),
        "valid_until": get_number(found, "valid_until"),
    }


def describe_trade(found: dict[str, Any], info: ExchangeInfo) -> Json:
    """Return a trade of the API in whole tokens."""
    market = info.market(get_text(found, "market"))
    base, quote = info.token(market.base), info.token(market.quote)
    return {
        "market": market.symbol,
        "price": format_price(get_number(found, "price"), market, base, quote),
        "size": format_amount(get_number(found, "base_amount"), base),
        "total": format_amount(get_number(found, "quote_amount"), quote),
        "taker_side": get_text(found, "taker_side"),
        "time": get_number(found, "time"),
    }


@order.command("show")
def show_order(
    id_: Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The order's id.")],
    wallet: WalletOption = DEFAULT_WALLET,
    contract: ContractOption = "",
    api: ApiOption = "",
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one of your orders, open or done."""
    session = Session(wallet, "", contract, api, None, account)
    found = describe_order(session.api.order(session.account, id_), session.info)
    emit({"order": found}, as_json, lambda console: lines(console, found))


@order.command("list")
def list_orders(
    wallet: WalletOption = DEFAULT_WALLET,
    contract: ContractOption = "",
    api: ApiOption = "",
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List your open orders."""
    session = Session(wallet, "", contract, api, None, account)
    found = [describe_order(o, session.info) for o in get_rows(session.api.account(session.account), "open_orders")]

    def show(console: Console) -> None:
        columns = ("id", "market", "side", "size", "price", "filled")
        table(console, "Open orders", columns, [[o[name] for name in columns] for o in found])

    emit({"account": session.account, "orders": found}, as_json, show)


def book(
    market: MarketArgument,
    depth: Annotated[int, typer.Option("--depth", min=1, max=200, help="Levels a side.")] = 10,
    wallet: WalletOption = DEFAULT_WALLET,
    contract: ContractOption = "",
    api: ApiOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Show the best prices of a market."""
    session = Session(wallet, "", contract, api)
    found = session.info.market(market)
    base, quote = session.info.token(found.base), session.info.token(found.quote)
    levels = session.api.book(found.symbol, depth)

    def side(name: str) -> list[Json]:
        return [
            {
                "price": format_price(get_number(level, "price"), found, base, quote),
                "size": format_amount(get_number(level, "lots") * found.lot, base),
                "orders": get_number(level, "orders"),
            }
            for level in get_rows(levels, name)
        ]

    answer: Json = {"market": found.symbol, "bids": side("bids"), "asks": side("asks")}

    def show(console: Console) -> None:
        rows = [("sell", *level.values()) for level in reversed(answer["asks"])]
        rows += [("buy", *level.values()) for level in answer["bids"]]
        columns = ("", f"price ({quote.symbol})", f"size ({base.symbol})", "orders")
        table(console, found.symbol, columns, rows)

    emit(answer, as_json, show)


# --- everything else that is signed


def cancel(
    id_: Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The order's id.")],
    hard: Annotated[
        bool,
        typer.Option("--hard", help="A proven action: the order can never fill again, whatever the operator does."),
    ] = False,
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Cancel an order: at once, on the operator's word, or with --hard as a proven action of the next batch."""
    session = Session(wallet, rpc, contract, api, key_file, account)
    result = session.api.cancel(_desk(session).cancel(id_), hard)
    answer: Json = {"id": str(get_number(result, "id")), "account": get_number(result, "account")}
    answer |= {"hard": get_flag(result, "hard"), "remaining_base_quanta": str(get_number(result, "remaining_base"))}
    emit(answer, as_json, lambda console: lines(console, answer))


def withdraw(
    token: TokenArgument,
    amount: AmountArgument,
    id_: IdOption = None,
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Withdraw to L1; once its batch is on the chain, `claim` pays it out."""
    session = Session(wallet, rpc, contract, api, key_file, account)
    signed = _desk(session).withdraw(_next_id(session, id_), token, amount)
    _say_action(
        session.api.withdraw(signed), session.info, as_json, "It can be claimed when its batch is on the chain."
    )


def transfer(
    token: TokenArgument,
    amount: AmountArgument,
    receiver: Annotated[int, typer.Argument(metavar="RECEIVER", min=0, max=2**24 - 1, help="Account index.")],
    id_: IdOption = None,
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    api: ApiOption = "",
    key_file: KeyOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Send to another account, which must hold the token already."""
    session = Session(wallet, rpc, contract, api, key_file, account)
    signed = _desk(session).transfer(_next_id(session, id_), token, amount, receiver)
    _say_action(session.api.transfer(signed), session.info, as_json, "It is final when its batch is on the chain.")


def _say_action(result: dict[str, Any], info: ExchangeInfo, as_json: bool, then: str) -> None:
    token = info.token(get_number(result, "token"))
    answer: Json = {
        "id": str(get_number(result, "id")),
        "account": get_number(result, "account"),
        "type": get_text(result, "type"),
        "token": token.symbol,
        "amount": format_amount(get_number(result, "amount"), token),
    }

    def show(console: Console) -> None:
        lines(console, answer)
        console.print(then)

    emit(answer, as_json, show)
