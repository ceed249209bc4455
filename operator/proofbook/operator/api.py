"""The operator's HTTP API: Litestar and msgspec. Requests, answers and routes are `proofbook.operator.api_models`'.

Handlers parse, hand commands to the service and format what came of them; what decides anything is behind it.
No bad input makes a 5xx: those are for an operator that has stopped, and for bugs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol

import litestar
import msgspec
from litestar import Litestar, Request, Response
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter, SkipValidation
from litestar.response import File

from proofbook.operator import api_models as m
from proofbook.operator import commands as c
from proofbook.operator import events as ev
from proofbook.operator.api_format import (
    action_result,
    cancel_result,
    format_account,
    format_book,
    format_market,
    format_order,
    format_trade,
    order_result,
    require_order,
)
from proofbook.operator.api_parse import (
    ApiError,
    error_from,
    parse_cancel,
    parse_number,
    parse_order,
    parse_transfer,
    parse_withdraw,
)
from proofbook.operator.codes import OperatorError
from proofbook.operator.engine import Engine
from proofbook.operator.l1 import FreezeSeen
from proofbook.operator.markets import Market
from proofbook.operator.settings import Settings
from proofbook.operator.store import BatchStore
from proofbook.operator.views import Views
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.messages import parse_address
from proofbook.protocol.table import ACCOUNT_BITS, ID_BITS

log = logging.getLogger(__name__)
MAX_PENDING_SHOWN = 100
MAX_ACCOUNTS_SHOWN = 100
MAX_BATCHES_SHOWN = 100
RETRY_AFTER_S = "1"
_FLUSH = "/v1/batches"
_REFUSAL = ResponseSpec(m.ErrorOut, generate_examples=False, description="A refusal")
_REFUSALS = dict.fromkeys((400, 401, 403, 404, 409, 410, 413, 422, 429, 500, 503), _REFUSAL)
_STOPPED_HEALTH = {503: ResponseSpec(m.Health, generate_examples=False, description="Stopped")}
_BEGUN = {202: ResponseSpec(m.FlushOut, generate_examples=False, description="Begun, with wait=false")}
get, post = partial(litestar.get, responses=_REFUSALS), partial(litestar.post, responses=_REFUSALS)
"""Routes whose refusals stand in the document."""
_STOPPED = "an error has stopped the operator"
_FREEZING = "the exchange was frozen a moment ago: orders wait until that is final, or gone"
_BROWSER = ("origin", "referer", "sec-fetch-site", "sec-fetch-mode")
"""Headers that only browsers send: any page that is open on this machine can have its browser call the API."""


class Service(Protocol):
    """What the API needs of the operator."""

    settings: Settings
    engine: Engine
    views: Views
    store: BatchStore

    @property
    def api_token(self) -> str:
        """The bearer token of the operator's own calls, empty if there is none."""

    @property
    def domain(self) -> int:
        """Of chain and contract."""

    @property
    def stopped(self) -> m.ErrorBody | None:
        """Why the operator has stopped, None while it works."""

    def get_now(self) -> int:
        """Return the unix time that orders are judged by."""

    def get_info(self) -> m.Info:
        """Return what a client must know."""

    def get_health(self) -> m.Health:
        """Return how the operator is."""

    def get_batches(self, limit: int) -> list[m.BatchOut]:
        """Return the newest batches, newest first."""

    def get_batch(self, number: int) -> m.BatchOut | None:
        """Return a batch, None for one that is not there."""

    def get_accounts_of(self, owner: int) -> list[int]:
        """Return the open accounts of an L1 address, ascending."""

    def get_exit_file(self, kind: str) -> Path:
        """Return the exit circuit's ``zkey`` or ``wasm``."""

    def get_first_unserved(self) -> int:
        """Return the number of the first request that no confirmed batch has served."""

    async def submit(self, command: c.SignedCommand) -> Sequence[ev.Event]:
        """Do a signed command, durably, and return what happened."""

    async def flush(self, wait: bool) -> list[int]:
        """Settle everything pending; return the numbers of the batches, none if it was only begun."""


Op = NamedDependency[SkipValidation[Service]]


class _OrdersIn(msgspec.Struct, forbid_unknown_fields=True):
    """Up to 100 signed orders (`OrderIn` each); one that is malformed spoils no other."""

    orders: list[Any]


def _check_working(op: Service) -> None:
    # What went wrong may name files, or a node's address with its key in it: that is for the log.
    if op.stopped is not None:
        code = op.stopped.code
        raise ApiError(503, "stopped", _tell_strangers(code), data={"code": code})


def _tell_strangers(code: str) -> str:
    return _FREEZING if code == FreezeSeen.code else _STOPPED


# --- what traders send


async def _place(op: Service, body: m.OrderIn) -> m.OrderResult:
    signed = parse_order(body, op.domain)
    events = await op.submit(c.PlaceOrder(signed))
    market = op.engine.config.markets.by_pair.get((signed.action.base, signed.action.quote))
    return order_result(events, market.lot if market else 1, op.get_now())


@post("/v1/orders", summary="Place one signed order")
async def post_order(data: JSONBody[m.OrderIn], op: Op) -> m.OrderResult:
    """Place one signed order."""
    _check_working(op)
    return await _place(op, data)


@post("/v1/orders/batch", status_code=200, summary="Place up to 100 signed orders")
async def post_orders(data: JSONBody[_OrdersIn], op: Op) -> m.OrderBatchOut:
    """Place up to 100 signed orders, each judged alone, in their order."""
    _check_working(op)
    if len(data.orders) > m.MAX_BATCH_ORDERS:
        raise ApiError(413, "too_many_orders", f"{len(data.orders)} orders", data={"limit": m.MAX_BATCH_ORDERS})
    if not data.orders:
        raise ApiError(400, "malformed", "no orders")
    # They enter the queue in this order: each task runs to its first wait before the next one starts.
    return m.OrderBatchOut(list(await asyncio.gather(*(_place_alone(op, item) for item in data.orders))))


async def _place_alone(op: Service, item: Any) -> m.OrderBatchItem:
    try:
        return m.OrderBatchItem(result=await _place(op, msgspec.convert(item, m.OrderIn)))
    except msgspec.ValidationError as error:
        return m.OrderBatchItem(error=ApiError(400, "malformed", str(error)).body)
    except ApiError as error:
        return m.OrderBatchItem(error=error.body)
    except OperatorError:
        raise  # no fault of the order's: the answer is that of an order sent alone
    except ProofbookError as error:
        return m.OrderBatchItem(error=error_from(error).body)


@post("/v1/cancels", summary="Cancel an order")
async def post_cancel(data: JSONBody[m.CancelIn], op: Op) -> m.CancelResult:
    """Cancel an order: at once and unproven, or with ``hard`` as a proven action."""
    _check_working(op)
    signed = parse_cancel(data, op.domain)
    events = await op.submit(c.HardCancel(signed) if data.hard else c.Cancel(signed))
    return cancel_result(events, signed.action.account, signed.action.id, data.hard, op.engine.config.markets)


@post("/v1/withdrawals", summary="Withdraw to a claim on L1")
async def post_withdrawal(data: JSONBody[m.WithdrawIn], op: Op) -> m.ActionResult:
    """Withdraw to a claim of the account's owner on L1."""
    _check_working(op)
    signed = parse_withdraw(data, op.domain)
    return action_result(await op.submit(c.Withdraw(signed)))


@post("/v1/transfers", summary="Transfer to another account")
async def post_transfer(data: JSONBody[m.TransferIn], op: Op) -> m.ActionResult:
    """Transfer to another account, which must hold the token already."""
    _check_working(op)
    signed = parse_transfer(data, op.domain)
    return action_result(await op.submit(c.Transfer(signed)))


# --- what anyone may ask


@get("/v1/info", summary="What a client must know")
async def get_info(op: Op) -> m.Info:
    """Return chain, contract, domain, markets, tokens."""
    return op.get_info()


@get("/v1/health", summary="Whether the operator works", responses=_REFUSALS | _STOPPED_HEALTH)
async def get_health(request: Request[Any, Any, Any], op: Op) -> Response[m.Health]:
    """Return how the operator is; what stopped it is told in full to the operator alone."""
    health = op.get_health()
    if health.error is not None and not _is_operator(request, op):
        code, hint = health.error.code, health.error.hint
        health = msgspec.structs.replace(health, error=m.ErrorBody(code, _tell_strangers(code), hint))
    return Response(health, status_code=200 if health.status == "ok" else 503)


@get("/v1/markets", summary="All markets")
async def get_markets(op: Op) -> m.MarketList:
    """Return all markets."""
    return m.MarketList([format_market(market) for market in op.engine.config.markets.all])


def _find_market(op: Service, symbol: str) -> Market:
    markets = op.engine.config.markets
    found = markets.by_symbol.get(symbol)
    if found is None:  # a slash can't stand in a path, so a dash does as well
        found = next((market for market in markets.all if market.symbol.replace("/", "-") == symbol), None)
    if found is None:
        raise ApiError(404, "unknown_market", f"there is no market {symbol[:40]!r}")
    return found


@get("/v1/markets/{symbol:str}/book", summary="The best levels of a book")
async def get_book(
    symbol: FromPath[str], op: Op, depth: Annotated[int, QueryParameter(ge=1, le=200)] = 20
) -> m.BookOut:
    """Return the best levels of both sides."""
    market = _find_market(op, symbol)
    return format_book(market.symbol, op.engine.get_depth(market.symbol, depth))


@get("/v1/trades", summary="A market's newest trades")
async def get_trades(
    market: FromQuery[str], op: Op, limit: Annotated[int, QueryParameter(ge=1, le=500)] = 100
) -> m.TradeList:
    """Return a market's newest trades, newest first."""
    found = _find_market(op, market)
    return m.TradeList([format_trade(trade) for trade in op.views.get_trades(found.symbol, limit)])


def _account_out(op: Service, index: int) -> m.AccountOut:
    pending = op.store.list_requests_of(index, op.get_first_unserved(), MAX_PENDING_SHOWN)
    return format_account(index, op.engine, op.views, op.settings, pending)


@get("/v1/accounts/{index:str}", summary="An account's balances, orders and requests")
async def get_account(index: FromPath[str], op: Op) -> m.AccountOut:
    """Return an open account."""
    return _account_out(op, parse_number("index", index, ACCOUNT_BITS))


@get("/v1/accounts", summary="An owner's accounts")
async def get_accounts(owner: FromQuery[str], op: Op) -> m.AccountList:
    """Return the open accounts of an L1 address, at most 100."""
    mine = op.get_accounts_of(parse_address(owner))
    accounts = []
    for index in mine[:MAX_ACCOUNTS_SHOWN]:
        accounts.append(_account_out(op, index))
        await asyncio.sleep(0)  # each may have hundreds of orders; others' are not to wait for all of them
    return m.AccountList(accounts)


@get("/v1/orders/{account:str}/{id_:str}", summary="An order")
async def get_order(account: FromPath[str], id_: FromPath[str], op: Op) -> m.OrderOut:
    """Return an order, open or done."""
    key = parse_number("account", account, ACCOUNT_BITS), parse_number("id", id_, ID_BITS)
    order = require_order(op.views, *key)
    return format_order(order, op.engine.config.markets.by_symbol[order.symbol].lot)


@get("/v1/batches", summary="Batches, newest first")
async def get_batches(op: Op, limit: Annotated[int, QueryParameter(ge=1, le=MAX_BATCHES_SHOWN)] = 50) -> m.BatchList:
    """Return the newest batches."""
    return m.BatchList(op.get_batches(limit))


@get("/v1/batches/{number:str}", summary="A batch")
async def get_batch(number: FromPath[str], op: Op) -> m.BatchOut:
    """Return a batch."""
    # SQLite's integers have 63 bits; there will be no such batch.
    found = op.get_batch(parse_number("number", number, 62))
    if found is None:
        raise ApiError(404, "not_found", f"there is no batch {number}")
    return found


@get(
    "/v1/artifacts/exit/{kind:str}",
    summary="The exit circuit's files, to be stored with the trader (M25)",
    media_type="application/octet-stream",
)
async def get_exit_artifact(kind: FromPath[str], op: Op) -> File:
    """Return the exit circuit's proving key (``zkey``) or witness program (``wasm``)."""
    if kind not in ("zkey", "wasm"):
        raise ApiError(404, "not_found", "there are zkey and wasm")
    return File(path=op.get_exit_file(kind), filename=f"exit.{kind}", media_type="application/octet-stream")


# --- what the operator may do


def _is_operator(request: Request[Any, Any, Any], op: Service) -> bool:
    sent = request.headers.get("authorization", "")
    if op.api_token:
        # Then where a call comes from tells nothing: a proxy on this machine need not say whom it speaks for.
        return secrets.compare_digest(sent.encode(), f"Bearer {op.api_token}".encode())
    # A proxy on this machine would make everybody local, and so would a browser.
    if any(request.headers.get(name) for name in ("x-forwarded-for", "forwarded", *_BROWSER)):
        return False
    if request.client is None:
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


@post(_FLUSH, status_code=200, summary="Settle everything pending", responses=_REFUSALS | _BEGUN)
async def post_batches(request: Request[Any, Any, Any], op: Op, wait: FromQuery[bool] = True) -> Response[m.FlushOut]:
    """Settle everything that is pending now; for the operator only."""
    if not _is_operator(request, op):
        raise ApiError(403, "not_operator", "only the operator may flush")
    _check_working(op)
    numbers = await op.flush(wait)
    batches = [found for n in numbers if (found := op.get_batch(n)) is not None]
    return Response(m.FlushOut(batches), status_code=200 if wait else 202)


# --- errors


def _answer(error: ApiError) -> Response[m.ErrorOut]:
    headers = {"retry-after": RETRY_AFTER_S} if error.status == 429 else None
    return Response(m.ErrorOut(error.body), status_code=error.status, media_type="application/json", headers=headers)


def _on_api_error(_: Request[Any, Any, Any], error: ApiError) -> Response[m.ErrorOut]:
    return _answer(error)


def _on_protocol_error(request: Request[Any, Any, Any], error: ProofbookError) -> Response[m.ErrorOut]:
    # `InvalidValue` and its like come from what was sent; the operator's own errors are not the sender's fault.
    if isinstance(error, OperatorError):
        log.error("refused by the operator's state: %s", error)
        flushes = (request.method, request.url.path) == ("POST", _FLUSH)
        return _answer(ApiError(503, error.code, str(error) if flushes else _STOPPED))
    return _answer(error_from(error))


def _on_http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[m.ErrorOut]:
    codes = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
    code = codes.get(error.status_code, "malformed" if error.status_code < 500 else "internal")
    message, data = error.detail[:300], {}
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        where = [item for item in error.extra if isinstance(item, dict)]
        data = {str(item.get("key", ""))[:100]: str(item.get("message", ""))[:200] for item in where[:20]}
        message = "; ".join(f"{key}: {text}" for key, text in data.items()) or message
    return _answer(ApiError(error.status_code, code, message, data=data))


def _on_deep_json(_: Request[Any, Any, Any], error: RecursionError) -> Response[m.ErrorOut]:
    return _answer(ApiError(400, "malformed", "the JSON is nested too deeply"))


def _on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[m.ErrorOut]:
    # The path is somebody else's text: with a line of its own in it, it could pass for a line of the log.
    log.exception("unexpected error at %s %r", request.method, request.url.path, exc_info=error)
    return _answer(ApiError(500, "internal", "an unexpected error; the operator's log has it"))


def create_app(operator: Service) -> Litestar:
    """Return the ASGI application of an operator."""
    return Litestar(
        route_handlers=[
            post_order,
            post_orders,
            post_cancel,
            post_withdrawal,
            post_transfer,
            get_info,
            get_health,
            get_markets,
            get_book,
            get_trades,
            get_account,
            get_accounts,
            get_order,
            get_batches,
            get_batch,
            post_batches,
            get_exit_artifact,
        ],
        dependencies={"op": Provide(lambda: operator, sync_to_thread=False)},
        exception_handlers={
            ApiError: _on_api_error,
            ProofbookError: _on_protocol_error,
            HTTPException: _on_http_error,
            RecursionError: _on_deep_json,
            Exception: _on_bug,
        },
        request_max_body_size=m.MAX_BODY_BYTES,
        # The document alone: pages that show it would run scripts that other hosts send.
        openapi_config=OpenAPIConfig(title="Proofbook operator", version="1", render_plugins=[JsonRenderPlugin()]),
        logging_config=None,
    )
