"""What can be traded: markets with their lots, ticks and fees, loaded from a file and checked.

A price is a whole number of ticks: quote quanta per lot. A size is a whole number of lots. So price times size is
exact, and an order whose signed amounts are not is refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import msgspec

from proofbook.operator.codes import Code, OperatorError, Refused
from proofbook.protocol.table import BPS, MAX_AMOUNT, TOKEN_BITS

MAX_CONFIG_BYTES = 1 << 20
MAX_MARKETS = 1024
MAX_SYMBOL = 32
_MAX_TOKEN = (1 << TOKEN_BITS) - 1


class MarketError(OperatorError):
    """A market's settings are malformed or out of range (code ``market_config``)."""

    code: ClassVar[str] = "market_config"


class Market(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pair of tokens and the grid its orders stand on.

    Attributes
    ----------
    symbol : str
        1 to 32 printable ASCII characters without spaces, unique.
    base, quote : int
        Token ids in [1, 65535], different.
    lot : int
        Base quanta of one lot, in [1, 2^64).
    maker_fee_bps, taker_fee_bps : int
        Fees in hundredths of a percent of the quote amount, in [0, 10000].
    max_lots : int
        The most lots one order may have, in [1, 2^64 / lot).
    max_price : int
        The highest price in ticks (quote quanta per lot); ``max_lots * max_price`` must stay below 2^64.
    """

    symbol: str
    base: int
    quote: int
    lot: int
    maker_fee_bps: int
    taker_fee_bps: int
    max_lots: int
    max_price: int

    def __post_init__(self) -> None:
        if not 0 < len(self.symbol) <= MAX_SYMBOL or not all("!" <= c <= "~" for c in self.symbol):
            raise MarketError(f"symbol: 1 to {MAX_SYMBOL} printable ASCII characters, not {self.symbol[:40]!r}")
        ranges = (
            ("base", self.base, _MAX_TOKEN),
            ("quote", self.quote, _MAX_TOKEN),
            ("lot", self.lot, MAX_AMOUNT),
            ("max_lots", self.max_lots, MAX_AMOUNT),
            ("max_price", self.max_price, MAX_AMOUNT),
        )
        for name, value, top in ranges:
            if not 1 <= value <= top:
                raise MarketError(f"{self.symbol}: {name} is {value}, not in [1, {top}]")
        if self.base == self.quote:
            raise MarketError(f"{self.symbol}: base and quote are the same token {self.base}")
        if self.max_lots * self.lot > MAX_AMOUNT or self.max_lots * self.max_price > MAX_AMOUNT:
            raise MarketError(f"{self.symbol}: the largest order's amounts do not fit in 64 bits")
        if not (0 <= self.maker_fee_bps <= BPS and 0 <= self.taker_fee_bps <= BPS):
            raise MarketError(f"{self.symbol}: fees must be in [0, {BPS}] bps")

    def get_price_and_lots(self, base_amount: int, quote_amount: int) -> tuple[int, int]:
        """Return an order's price in ticks and its size in lots.

        Raises
        ------
        Refused
            ``lot_size``, ``order_size``, ``price_tick`` or ``price_range``.
        """
        lots, rest = divmod(base_amount, self.lot)
        if rest or lots == 0:
            raise Refused(Code.LOT_SIZE, f"the base amount must be a multiple of the lot, {self.lot}")
        if lots > self.max_lots:
            raise Refused(Code.ORDER_SIZE, f"at most {self.max_lots} lots an order")
        price, rest = divmod(quote_amount, lots)
        if rest or price == 0:
            raise Refused(Code.PRICE_TICK, "the quote amount must be a whole number of quanta a lot")
        if price > self.max_price:
            raise Refused(Code.PRICE_RANGE, f"the price must be at most {self.max_price}")
        return price, lots


class Markets:
    """The markets of an exchange, found by symbol or by their pair of tokens.

    Raises
    ------
    MarketError
        If there are none or too many, or two share a symbol or a pair (in either direction).
    """

    def __init__(self, markets: Iterable[Market]) -> None:
        self.all: tuple[Market, ...] = tuple(markets)
        if not 0 < len(self.all) <= MAX_MARKETS:
            raise MarketError(f"1 to {MAX_MARKETS} markets are needed, not {len(self.all)}")
        self.by_symbol: Mapping[str, Market] = {m.symbol: m for m in self.all}
        self.by_pair: Mapping[tuple[int, int], Market] = {(m.base, m.quote): m for m in self.all}
        if len(self.by_symbol) < len(self.all) or len({frozenset(p) for p in self.by_pair}) < len(self.all):
            raise MarketError("two markets share a symbol or a pair of tokens")

    def get(self, base: int, quote: int) -> Market:
        """Return the market of a pair.

        Raises
        ------
        Refused
            ``unknown_market``.
        """
        market = self.by_pair.get((base, quote))
        if market is None:
            raise Refused(Code.UNKNOWN_MARKET, f"there is no market for tokens {base} and {quote}")
        return market


class _File(msgspec.Struct, forbid_unknown_fields=True):
    markets: list[Market]


def parse_markets(text: str, kind: str) -> Markets:
    """Read a list called ``markets`` from ``toml`` or ``json`` text.

    Raises
    ------
    MarketError
        If the text is too long, malformed, has unknown fields, or a value is out of range.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise MarketError(f"market settings longer than {MAX_CONFIG_BYTES} characters")
    try:
        if kind == "json":
            return Markets(msgspec.json.decode(text, type=_File).markets)
        if kind == "toml":
            return Markets(msgspec.convert(tomllib.loads(text), _File).markets)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # tomllib's own errors are ValueErrors, and so is a number of too many digits.
        raise MarketError(str(error)[:500]) from error
    raise MarketError(f"market settings are .toml or .json, not {kind!r}")


def load_markets(path: Path) -> Markets:
    """Read markets from a ``.toml`` or ``.json`` file; see `parse_markets`.

    Raises
    ------
    MarketError
        As `parse_markets`, or if the file cannot be read.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise MarketError(f"market settings longer than {MAX_CONFIG_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MarketError(f"cannot read {path.name}: {error}") from error
    return parse_markets(text, path.suffix.removeprefix("."))
