"""Signed actions out of what people write, their ids, and the form in which the API takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from proofbook.client.amounts import parse_amount, parse_price, parse_size
from proofbook.client.answers import get_number, get_rows
from proofbook.client.errors import BadOrder, NoFreeSlot
from proofbook.client.keys import Trader
from proofbook.client.models import ExchangeInfo, Market
from proofbook.protocol import messages
from proofbook.protocol.messages import SignedAction
from proofbook.protocol.table import ActionType, Flag, Side

MAX_DEFAULT_FEE_BPS: Final = 100
"""One percent: what is more has to be allowed by name, since the market's fee is the operator's word."""
DEFAULT_VALIDITY_S: Final = 24 * 3600
MAX_DEFAULT_ID: Final = 2**48
"""Ids from here on have to be named: through a slot that had the last id nothing goes any more."""
_MAX_TIME: Final = 2**32 - 1
_MAX_ID: Final = 2**64 - 1


class TimeInForce(StrEnum):
    """How long an order waits for a counterpart."""

    GTT = "gtt"
    """Good till its time: rests in the book."""
    IOC = "ioc"
    """Immediate or cancel: what does not fill at once is dropped."""
    FOK = "fok"
    """Fill or kill: all at once or nothing."""


_TIF_FLAGS: Final = {TimeInForce.GTT: 0, TimeInForce.IOC: int(Flag.IOC), TimeInForce.FOK: int(Flag.FOK)}


class Ids:
    """Gives out an account's action ids: each larger than the last, none in the slot of a live order.

    Parameters
    ----------
    next_id : int
        Larger than every id used, at least 1 (`next_id` of the API's account).
    slots : int
        Order slots of an account.
    live : iterable of int
        Ids of open orders.
    """

    def __init__(self, next_id: int, slots: int, live: Iterable[int] = ()) -> None:
        self.next_id = max(next_id, 1)
        self.slots = slots
        self._held = {id_ % slots: id_ for id_ in live}

    @classmethod
    def of_account(cls, found: dict[str, Any]) -> Ids:
        """Return the ids of an account as the API tells it.

        Raises
        ------
        ApiMalformed
            If it does not tell.
        BadOrder
            For a next id that is far beyond counting.
        """
        next_id, slots = get_number(found, "next_id", 65), get_number(found, "slots", 32)
        if next_id >= MAX_DEFAULT_ID:
            raise BadOrder(
                f"the operator says that the account's next id is {next_id}",
                "if you have used such ids, give the next one by --id; else it wants to use your ids up",
            )
        return cls(next_id, max(slots, 1), [get_number(row, "id") for row in get_rows(found, "open_orders")])

    def take(self, stays: bool = True) -> int:
        """Return the next free id; with ``stays`` its slot is held until `release`.

        Raises
        ------
        NoFreeSlot
            If open orders hold every slot, or ids have come to their end.
        """
        for id_ in range(self.next_id, self.next_id + self.slots):
            if id_ % self.slots not in self._held and id_ <= _MAX_ID:
                self.next_id = id_ + 1
                if stays:
                    self._held[id_ % self.slots] = id_
                return id_
        raise NoFreeSlot(f"all {self.slots} order slots are held by open orders", "cancel one first")

    def release(self, id_: int) -> None:
        """Note that an order is done, so that its slot is free."""
        if self._held.get(id_ % self.slots) == id_:
            del self._held[id_ % self.slots]


@dataclass(frozen=True, slots=True)
class Terms:
    """How an order is to be executed.

    Attributes
    ----------
    tif : TimeInForce
        How long it waits.
    post_only : bool
        Refused if it would take.
    market : bool
        Takes at any price up to its limit, which is only a protection; the rest is dropped.
    max_fee_bps : int or None
        Highest fee in hundredths of a percent; None takes the market's own.
    valid_until : int or None
        Unix seconds; None is a day from now.
    """

    tif: TimeInForce = TimeInForce.GTT
    post_only: bool = False
    market: bool = False
    max_fee_bps: int | None = None
    valid_until: int | None = None

    def flags(self) -> int:
        """Return the order's flags; `BadOrder` for terms that contradict each other."""
        if self.post_only and (self.market or self.tif != TimeInForce.GTT):
            raise BadOrder(
                "a post-only order waits in the book: it is neither a market order nor IOC nor FOK",
                "leave out post-only, or take gtt and a limit",
            )
        return _TIF_FLAGS[self.tif] | (Flag.POST_ONLY if self.post_only else 0) | (Flag.MARKET if self.market else 0)

    def fee_cap(self, market: Market) -> int:
        """Return the highest fee to sign, in hundredths of a percent; `BadOrder` for a high one that nobody named."""
        if self.max_fee_bps is not None:
            return self.max_fee_bps
        fee = max(market.maker_fee_bps, market.taker_fee_bps)
        if self.post_only:
            fee = market.maker_fee_bps
        elif self.market or self.tif != TimeInForce.GTT:
            fee = market.taker_fee_bps
        if fee > MAX_DEFAULT_FEE_BPS:
            raise BadOrder(
                f"the operator's fee is {fee} hundredths of a percent", "if that is right, say so by --max-fee-bps"
            )
        return fee


class Desk:
    """Makes one account's signed actions for one exchange.

    Parameters
    ----------
    trader : Trader
        Signs.
    info : ExchangeInfo
        Markets, tokens and time.
    account : int
        Account index.

    Raises
    ------
    BadOrder
        If trader and info are of different exchanges.
    """

    def __init__(self, trader: Trader, info: ExchangeInfo, account: int) -> None:
        if trader.domain != info.domain:
            raise BadOrder("this trading key is of another exchange than the operator's", "check contract and API")
        self.trader, self.info, self.account = trader, info, account

    def expiry(self, valid_until: int | None = None) -> int:
        """Return the time to sign: as given, or a day from now, and at least as late as the operator demands.

        Raises
        ------
        BadOrder
            For a time that the operator would refuse.
        """
        soonest = self.info.time + self.info.margin_seconds
        if valid_until is None:
            return min(max(self.info.time + DEFAULT_VALIDITY_S, soonest + DEFAULT_VALIDITY_S), _MAX_TIME)
        if not soonest <= valid_until <= _MAX_TIME:
            raise BadOrder(
                f"it can't be valid until {valid_until}",
                f"at least {self.info.margin_seconds} seconds from now: {soonest} or later",
            )
        return valid_until

    def order(
        self, id_: int, symbol: str, side: Side, size: str, price: str, terms: Terms | None = None
    ) -> SignedAction:
        """Sign an order.

        Parameters
        ----------
        id_ : int
            From `Ids.take`.
        symbol : str
            Market.
        side : Side
            Of the base token.
        size : str
            Decimal, in whole base tokens; a multiple of the lot.
        price : str
            Decimal, quote tokens for one base token; a multiple of the price step.
        terms : Terms, optional
            How it is executed.

        Raises
        ------
        BadNumber, NotMultiple, UnknownName, BadOrder
            For what can't be signed.
        InvalidValue
            For an id or fee out of range.
        """
        market = self.info.market(symbol)
        base, quote = self.info.token(market.base), self.info.token(market.quote)
        lots, ticks = parse_size(size, market, base), parse_price(price, market, base, quote)
        return self.order_lots(id_, market, side, lots, ticks, terms)

    def order_lots(
        self, id_: int, market: Market, side: Side, lots: int, ticks: int, terms: Terms | None = None
    ) -> SignedAction:
        """Sign an order of whole lots at a price in ticks; errors as `order`."""
        terms = terms or Terms()
        action = messages.order(
            domain=self.trader.domain,
            account=self.account,
            id=id_,
            base=market.base,
            quote=market.quote,
            side=side,
            base_amount=lots * market.lot,
            quote_amount=lots * ticks,
            max_fee_bps=terms.fee_cap(market),
            valid_until=self.expiry(terms.valid_until),
            flags=terms.flags(),
        )
        return self.trader.sign(action)

    def cancel(self, id_: int, valid_until: int | None = None) -> SignedAction:
        """Sign the cancel of an order; `BadOrder`, `InvalidValue` as `order`."""
        action = messages.cancel(
            domain=self.trader.domain, account=self.account, id=id_, valid_until=self.expiry(valid_until)
        )
        return self.trader.sign(action)

    def withdraw(self, id_: int, token: str | int, amount: str, valid_until: int | None = None) -> SignedAction:
        """Sign a withdrawal of an amount in whole tokens; errors as `order`."""
        found = self.info.token(token)
        action = messages.withdraw(
            domain=self.trader.domain,
            account=self.account,
            id=id_,
            token=found.id,
            amount=parse_amount(amount, found),
            valid_until=self.expiry(valid_until),
        )
        return self.trader.sign(action)

    def transfer(
        self, id_: int, token: str | int, amount: str, receiver: int, valid_until: int | None = None
    ) -> SignedAction:
        """Sign a transfer of an amount in whole tokens to another account; errors as `order`."""
        found = self.info.token(token)
        action = messages.transfer(
            domain=self.trader.domain,
            account=self.account,
            id=id_,
            token=found.id,
            amount=parse_amount(amount, found),
            receiver=receiver,
            valid_until=self.expiry(valid_until),
        )
        return self.trader.sign(action)


def to_body(signed: SignedAction) -> dict[str, Any]:
    """Return a signed action as the API takes it; numbers that JavaScript would spoil are strings."""
    a, ((x, y), s) = signed.action, signed.signature
    body: dict[str, Any] = {"account": a.account, "id": str(a.id), "valid_until": a.valid_until}
    body["signature"] = {"r8x": str(x), "r8y": str(y), "s": str(s)}
    if a.type == ActionType.ORDER:
        body |= {
            "base": a.base,
            "quote": a.quote,
            "side": Side(a.side).name.lower(),
            "base_amount": str(a.base_amount),
            "quote_amount": str(a.quote_amount),
            "max_fee_bps": a.max_fee_bps,
            "flags": a.flags,
        }
    elif a.type in (ActionType.WITHDRAW, ActionType.TRANSFER):
        body |= {"token": a.base, "amount": str(a.base_amount)}
        if a.type == ActionType.TRANSFER:
            body["receiver"] = a.receiver
    return body
