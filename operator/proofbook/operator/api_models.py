"""Everything that crosses the operator's HTTP API, as msgspec structs, and the routes.

Numbers: every integer that can exceed a JavaScript number (amounts, ids, field elements) is **written as a decimal
string**; requests may give a string or a JSON integer. Amounts are quanta, times Unix seconds. Tokens, account indices,
batch numbers and times are plain JSON integers in answers. Addresses and hashes are ``0x`` hex.

=====  ========================  ====================  ===============================================================
verb   path                      body or query         answer
=====  ========================  ====================  ===============================================================
POST   /v1/orders                `OrderIn`             201 `OrderResult`
POST   /v1/orders/batch          `OrderBatchIn`        200 `OrderBatchOut`: 1 to 100 orders, each judged alone, in order
POST   /v1/cancels               `CancelIn`            201 `CancelResult`
POST   /v1/withdrawals           `WithdrawIn`          201 `ActionResult`
POST   /v1/transfers             `TransferIn`          201 `ActionResult`
GET    /v1/info                                        200 `Info`
GET    /v1/health                                      200 `Health` (503 when an error has stopped the operator)
GET    /v1/markets                                     200 `MarketList`
GET    /v1/markets/{sym}/book    ?depth=20 (1..200)    200 `BookOut`; a symbol's ``/`` is written ``-``
GET    /v1/trades                ?market=S&limit=100   200 `TradeList`, newest first (limit 1..500)
GET    /v1/accounts              ?owner=0x...          200 `AccountList`
GET    /v1/accounts/{index}                            200 `AccountOut`
GET    /v1/orders/{account}/{id}                       200 `OrderOut`
GET    /v1/batches               ?limit=50 (1..100)    200 `BatchList`, newest first
GET    /v1/batches/{number}                            200 `BatchOut`
POST   /v1/batches               ?wait=true            200 `FlushOut`: settles all pending (wait=false: 202, begun)
GET    /v1/artifacts/exit/zkey                         200 bytes of the exit circuit's proving key
GET    /v1/artifacts/exit/wasm                         200 bytes of its witness program
GET    /schema                                         OpenAPI
=====  ========================  ====================  ===============================================================

``POST /v1/batches`` is for the operator: with ``Authorization: Bearer <operator token>``, or, where the operator has no
token, from a loopback address. Behind a proxy a token is needed: everybody comes from there.

Every refusal is ``{"error": {"code", "message", "hint", "data"}}`` (`ErrorOut`). Codes: those of
`proofbook.operator.codes.Code`, and of the API itself: ``malformed`` and ``invalid_value`` (400), ``too_many_orders``
and ``body_too_large`` (413), ``not_found`` (404), ``method_not_allowed`` (405), ``not_operator``
(403), ``stopped`` and ``proving_failed`` (503), ``internal`` (500). A signature is over
`proofbook.protocol.messages.Action` with the exchange's own domain (`Info.domain`), which is not sent.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Number = int | str
"""An integer, as JSON integer or decimal string."""

MAX_BATCH_ORDERS = 100
MAX_BODY_BYTES = 256 * 1024


class SignatureIn(msgspec.Struct, forbid_unknown_fields=True):
    """An EdDSA-Poseidon signature: the point (r8x, r8y) and the scalar s."""

    r8x: Number
    r8y: Number
    s: Number


class OrderIn(msgspec.Struct, forbid_unknown_fields=True):
    """A signed order.

    Attributes
    ----------
    base_amount, quote_amount : Number
        Size and limit total in quanta; quote_amount / (base_amount / lot) is the price in ticks and must be whole.
    max_fee_bps : int
        At least the market's fee for such an order.
    flags : int
        Bits: 1 IOC, 2 FOK, 4 post-only, 8 market.
    """

    account: Number
    id: Number
    base: Number
    quote: Number
    side: Literal["buy", "sell"]
    base_amount: Number
    quote_amount: Number
    max_fee_bps: Number
    valid_until: Number
    signature: SignatureIn
    flags: Number = 0


class OrderBatchIn(msgspec.Struct, forbid_unknown_fields=True):
    """Up to 100 signed orders; each is judged alone."""

    orders: list[OrderIn]


class CancelIn(msgspec.Struct, forbid_unknown_fields=True):
    """A signed cancel of the account's order ``id``; ``hard`` makes it a proven action of the next batch."""

    account: Number
    id: Number
    valid_until: Number
    signature: SignatureIn
    hard: bool = False


class WithdrawIn(msgspec.Struct, forbid_unknown_fields=True):
    """A signed withdrawal of ``amount`` quanta to a claim of the account's owner."""

    account: Number
    id: Number
    token: Number
    amount: Number
    valid_until: Number
    signature: SignatureIn


class TransferIn(msgspec.Struct, forbid_unknown_fields=True):
    """A signed transfer of ``amount`` quanta to the account ``receiver``, which must hold the token already."""

    account: Number
    id: Number
    token: Number
    amount: Number
    receiver: Number
    valid_until: Number
    signature: SignatureIn


# --- answers


class ErrorBody(msgspec.Struct):
    """A refusal: a stable code, what happened, how to mend it, and the values concerned."""

    code: str
    message: str
    hint: str = ""
    data: dict[str, Any] = {}


class ErrorOut(msgspec.Struct):
    """Every answer that is not a success."""

    error: ErrorBody


class TradeOut(msgspec.Struct):
    """One fill. ``taker_side`` is the incoming order's."""

    seq: str
    market: str
    time: int
    price: str
    lots: str
    base_amount: str
    quote_amount: str
    taker_side: Literal["buy", "sell"]


class OrderOut(msgspec.Struct):
    """An order as it stands.

    Attributes
    ----------
    status : str
        ``open`` (rests in the book), ``filled``, or why it left: a `proofbook.operator.codes.Removal`.
    price : str
        Limit in quote quanta a lot.
    filled_base, filled_quote, fee : str
        In total, quanta.
    remaining_base : str
        Unfilled quanta, whether they rest or were dropped.
    """

    account: int
    id: str
    market: str
    side: Literal["buy", "sell"]
    price: str
    base_amount: str
    remaining_base: str
    filled_base: str
    filled_quote: str
    fee: str
    flags: int
    valid_until: int
    status: str


class OrderResult(msgspec.Struct):
    """An admitted order right after matching, and its fills."""

    order: OrderOut
    trades: list[TradeOut]


class OrderBatchItem(msgspec.Struct):
    """One order's answer: exactly one of the two is there."""

    result: OrderResult | None = None
    error: ErrorBody | None = None


class OrderBatchOut(msgspec.Struct):
    """One item per order, in the order given."""

    results: list[OrderBatchItem]


class CancelResult(msgspec.Struct):
    """A cancel that was carried out; ``remaining_base`` is what was taken out of the book."""

    account: int
    id: str
    hard: bool
    remaining_base: str


class ActionResult(msgspec.Struct):
    """An admitted withdrawal or transfer; it is final when its batch is."""

    account: int
    id: str
    type: Literal["withdraw", "transfer"]
    token: int
    amount: str


class BalanceOut(msgspec.Struct):
    """Quanta of one token: total = available + reserved (behind orders and other actions)."""

    token: int
    symbol: str
    total: str
    available: str
    reserved: str


class RequestOut(msgspec.Struct):
    """A request of the L1 queue that no confirmed batch has served."""

    id: str
    kind: Literal["open", "deposit", "key", "exit"]
    account: int
    token: int
    amount: str
    deadline: int


class AccountOut(msgspec.Struct):
    """An account.

    Attributes
    ----------
    next_id : str
        A free id: larger than all the account used, its slot held by no live order.
    slots : int
        Number of order slots: an id uses slot id mod slots.
    paused : bool
        A key change is pending: nothing is admitted.
    """

    index: int
    owner: str
    pub_x: str
    pub_y: str
    paused: bool
    balances: list[BalanceOut]
    open_orders: list[OrderOut]
    pending_requests: list[RequestOut]
    next_id: str
    slots: int


class AccountList(msgspec.Struct):
    """Accounts of one owner."""

    accounts: list[AccountOut]


class MarketOut(msgspec.Struct):
    """A market. Prices are in quote quanta a lot; sizes in lots of ``lot`` base quanta."""

    symbol: str
    base: int
    quote: int
    lot: str
    maker_fee_bps: int
    taker_fee_bps: int
    max_lots: str
    max_price: str


class MarketList(msgspec.Struct):
    """All markets."""

    markets: list[MarketOut]


class LevelOut(msgspec.Struct):
    """One price level."""

    price: str
    lots: str
    orders: int


class BookOut(msgspec.Struct):
    """The best levels of both sides, best first."""

    market: str
    bids: list[LevelOut]
    asks: list[LevelOut]


class TradeList(msgspec.Struct):
    """Trades, newest first."""

    trades: list[TradeOut]


class TokenOut(msgspec.Struct):
    """A token. ``symbol``, ``decimals``: the operator's names for people; ``quantum``: units (wei) a quantum."""

    id: int
    symbol: str
    erc20: str
    quantum: str
    decimals: int


class ExitArtifacts(msgspec.Struct):
    """SHA-256 of the exit circuit's files, hex; the contract holds the same."""

    zkey_sha256: str
    wasm_sha256: str


class Info(msgspec.Struct):
    """What a client must know of the exchange."""

    chain_id: int
    contract: str
    domain: str
    preset: str
    time: int
    fee_account: int
    margin_seconds: int
    slots: int
    root: str
    batches: int
    tokens: list[TokenOut]
    markets: list[MarketOut]
    exit_artifacts: ExitArtifacts


class BatchOut(msgspec.Struct):
    """A batch and how far it is.

    Attributes
    ----------
    state : str
        ``sealed``, ``built``, ``proven``, ``submitted``, ``confirmed``.
    orders, trades, requests, actions, accounts, fees : int
        Rows of the page (orders among the actions; accounts touched); trades settled, whole or in part.
    constraints, gas, data_bytes : int
        Of the circuit; of the transaction, 0 until it is there.
    witness_s, prove_s : float
        Measured seconds, 0 until done.
    tx, new_root : str
        Empty until known.
    """

    number: int
    state: Literal["sealed", "built", "proven", "submitted", "confirmed"]
    size_id: int
    timestamp: int
    orders: int
    trades: int
    requests: int
    actions: int
    accounts: int
    fees: int
    constraints: int
    witness_s: float
    prove_s: float
    gas: int
    data_bytes: int
    tx: str
    new_root: str


class BatchList(msgspec.Struct):
    """Batches, newest first."""

    batches: list[BatchOut]


class FlushOut(msgspec.Struct):
    """The batches that a flush settled; none if nothing was pending, or if it was only begun."""

    batches: list[BatchOut]


class BatchInFlight(msgspec.Struct):
    """A batch on its way, and how far it is: ``mined`` until its block has its confirmations."""

    number: int
    stage: Literal["sealed", "built", "proving", "proven", "submitted", "mined"]


class Health(msgspec.Struct):
    """``status`` is ``ok`` or ``stopped``; then ``error`` says why.

    Attributes
    ----------
    next_unconfirmed : str
        Requests below it have taken effect.
    next_request : str
        Requests below it stand in a block.
    pending_batch : int, optional
        The oldest batch in flight.
    in_flight : list
        All of them, the oldest first.
    oldest_deadline : int, optional
        By when the oldest request must be served, unix seconds; after it anybody may freeze the exchange.
    trouble : list of str
        Codes of what the operator waits to get better (``rpc_unavailable``, ``chain_stalled``, ``clock``,
        ``gas_too_dear``, ``insufficient_funds`` for gas), and ``deadline_near``.
    """

    status: Literal["ok", "stopped"]
    time: int
    block: int
    next_unconfirmed: str
    next_request: str
    pending_batch: int | None = None
    in_flight: list[BatchInFlight] = []
    oldest_deadline: int | None = None
    trouble: list[str] = []
    error: ErrorBody | None = None
