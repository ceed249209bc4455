"""The traders at work: they give intents ids, sign them, send them to the operator, and count what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Final

from proofbook.client.errors import ApiError
from proofbook.client.http import ApiClient
from proofbook.client.keys import Trader
from proofbook.client.orders import Ids
from proofbook.operator.markets import Market
from proofbook.protocol import messages
from proofbook.protocol.messages import SignedAction
from proofbook.sim.flow import Intent, Place, Round

MAX_TOGETHER: Final = 100
MAX_EACH: Final = 4
"""Orders of one trader sent together: each holds a slot until it is answered."""
GONE: Final = "unknown_order"
Json = dict[str, Any]


@dataclass(slots=True)
class Seat:
    """A trader with an account.

    Attributes
    ----------
    account : int
        Index.
    trader : Trader
        Signs.
    ids : Ids
        Gives out ids; knows which orders rest.
    """

    account: int
    trader: Trader
    ids: Ids


@dataclass(slots=True)
class Tally:
    """What was sent and what came of it; ``refused`` counts by the operator's code."""

    submitted: int = 0
    admitted: int = 0
    trades: int = 0
    cancels: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Desk:
    """Sends what traders want.

    Parameters
    ----------
    api : ApiClient
        The operator.
    markets : mapping of str to Market
        By symbol.
    seats : sequence of Seat
        An intent's trader is a position in it.
    valid_until : int
        Unix time that everything signed is valid until.

    Attributes
    ----------
    tally : Tally
        So far.
    """

    def __init__(self, api: ApiClient, markets: Mapping[str, Market], seats: Sequence[Seat], valid_until: int) -> None:
        self._api, self._markets, self._valid_until = api, markets, valid_until
        self.seats = tuple(seats)
        self.tally = Tally()
        self._placed: dict[int, int] = {}

    # --- flows

    def work(self, intents: Round) -> None:
        """Send a round in its order: cancels and lone orders one by one, orders in a row together.

        Raises
        ------
        ClientError
            If the operator does not answer as one, or a trader has orders in all slots. Refusals are counted.
        """
        resting = {trader: self.look(self.seats[trader]) for trader in sorted({i.trader for i in intents})}
        for places, group in groupby(intents, lambda intent: isinstance(intent, Place)):
            row: list[Intent] = list(group)
            if not places:
                for intent in row:
                    self._withdraw_order(intent.ref, intent.trader, resting[intent.trader])
                continue
            for orders in _split([intent for intent in row if isinstance(intent, Place)]):
                self._place(orders, resting)

    def look(self, seat: Seat) -> set[int]:
        """Ask which orders of an account rest, and note it: some were filled meanwhile."""
        told = self._api.account(seat.account)
        live = {int(order["id"]) for order in told["open_orders"]}
        seat.ids = Ids(max(seat.ids.next_id, int(told["next_id"])), int(told["slots"]), live)
        return live

    def _place(self, orders: Sequence[Place], resting: dict[int, set[int]]) -> None:
        signed = [self.sign(place) for place in orders]
        alone = len(signed) == 1
        items = [self._ask(lambda: self._api.place(signed[0]))] if alone else self._api.place_many(signed)
        for place, order, item in zip(orders, signed, items, strict=True):
            self._placed[place.ref] = order.action.id
            if self._note(order, item):
                resting[place.trader].add(order.action.id)
            else:
                self.seats[place.trader].ids.release(order.action.id)

    def _note(self, signed: SignedAction, item: Json) -> bool:
        """Count an order's answer, and tell whether the order rests in a book now."""
        self.tally.submitted += 1
        result = item.get("result")
        if result is None:
            self.tally.refused[item["error"]["code"]] += 1
            return False
        self.tally.admitted += 1
        self.tally.trades += len(result["trades"])
        return bool(result["order"]["status"] == "open")

    def _withdraw_order(self, ref: int, trader: int, resting: set[int]) -> None:
        """Cancel a placement if it rests; makers learn of fills when they look, as everybody does."""
        id_ = self._placed.pop(ref, None)
        if id_ is None or id_ not in resting:
            return
        resting.discard(id_)
        item = self._ask(lambda: self.cancel(self.seats[trader], id_))
        # It may have been filled since the last look: that is no refusal to speak of.
        if "error" in item and item["error"]["code"] != GONE:
            self.tally.refused[item["error"]["code"]] += 1
        self.seats[trader].ids.release(id_)

    @staticmethod
    def _ask(call: Callable[[], Json]) -> Json:
        try:
            return {"result": call()}
        except ApiError as error:
            return {"error": {"code": error.code}}

    # --- single things

    def sign(self, place: Place) -> SignedAction:
        """Return a signed order under a new id, whose slot counts as taken."""
        seat, market = self.seats[place.trader], self._markets[place.symbol]
        action = messages.order(
            domain=seat.trader.domain,
            account=seat.account,
            id=seat.ids.take(),
            base=market.base,
            quote=market.quote,
            side=place.side,
            base_amount=place.lots * market.lot,
            quote_amount=place.lots * place.price,
            max_fee_bps=max(market.maker_fee_bps, market.taker_fee_bps),
            valid_until=self._valid_until,
            flags=place.flags,
        )
        return seat.trader.sign(action)

    def cancel(self, seat: Seat, id_: int, hard: bool = False) -> Json:
        """Cancel an order; `ApiError` as the operator says."""
        action = messages.cancel(domain=seat.trader.domain, account=seat.account, id=id_, valid_until=self._valid_until)
        done = self._api.cancel(seat.trader.sign(action), hard)
        self.tally.cancels += 1
        return done

    def withdraw(self, seat: Seat, token: int, amount: int) -> Json:
        """Withdraw quanta to a claim; `ApiError` as the operator says."""
        action = messages.withdraw(
            domain=seat.trader.domain,
            account=seat.account,
            id=seat.ids.take(stays=False),
            token=token,
            amount=amount,
            valid_until=self._valid_until,
        )
        return self._api.withdraw(seat.trader.sign(action))

    def transfer(self, seat: Seat, token: int, amount: int, receiver: Seat) -> Json:
        """Give quanta to another account, which holds the token already; `ApiError` as the operator says."""
        action = messages.transfer(
            domain=seat.trader.domain,
            account=seat.account,
            id=seat.ids.take(stays=False),
            token=token,
            amount=amount,
            receiver=receiver.account,
            valid_until=self._valid_until,
        )
        return self._api.transfer(seat.trader.sign(action))

    def try_forgeries(self, place: Place) -> list[tuple[str, str]]:
        """Send an order in ways that must be refused, and once as it should be.

        Returns
        -------
        list of (str, str)
            What was tried, and the operator's code for it, or ``admitted``.
        """
        self.look(self.seats[place.trader])
        good, thief = self.sign(place), self.seats[place.trader - 1].trader
        dearer = replace(good.action, quote_amount=2 * good.action.quote_amount)
        attempts = [
            ("signed with another trader's key", thief.sign(good.action)),
            ("its price changed after signing", SignedAction(dearer, good.signature)),
            ("for more money than the account has", self.sign(replace(place, lots=place.lots * 10_000))),
            ("as it should be", good),
            ("the same one a second time", good),
        ]
        found = []
        for what, signed in attempts:
            item = self._ask(lambda signed=signed: self._api.place(signed))  # type: ignore[misc]
            self._note(signed, item)
            found.append((what, item["error"]["code"] if "error" in item else "admitted"))
        return found


def _split(orders: Sequence[Place]) -> Iterator[list[Place]]:
    """Cut orders in a row into requests: not too many in all, nor of one trader."""
    together: list[Place] = []
    each: Counter[int] = Counter()
    for place in orders:
        if len(together) == MAX_TOGETHER or each[place.trader] == MAX_EACH:
            yield together
            together, each = [], Counter()
        together.append(place)
        each[place.trader] += 1
    if together:
        yield together
