"""What a trader has to know of an exchange, read from the operator's ``/v1/info``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from proofbook.client.errors import ApiMalformed, UnknownName
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.messages import domain_of
from proofbook.protocol.table import ETH_TOKEN

TokenId = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Bps = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
# Printable ASCII: names are shown, and a look-alike of another script or a terminal's command is no name.
Symbol = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,40}\Z")]
MAX_MARGIN_S: Final = 30 * 86_400
MAX_AHEAD_S: Final = 3600
"""How far an operator's clock may be ahead of the trader's and of L1's: what is signed stays valid as much longer."""
_LIES: Final = "do not sign for this operator: ask it, and another node"


class Token(msgspec.Struct, frozen=True):
    """A token.

    Attributes
    ----------
    id : int
        On the contract.
    symbol : str
        For people.
    quantum : int
        Smallest units (wei) a quantum, at least 1.
    decimals : int
        Smallest units a whole token, as a power of ten.
    """

    id: TokenId
    symbol: Symbol
    quantum: int
    decimals: Annotated[int, msgspec.Meta(ge=0, le=36)] = 18


class Market(msgspec.Struct, frozen=True):
    """A market. A price is a whole number of quote quanta a lot, a size a whole number of lots of ``lot`` quanta."""

    symbol: Symbol
    base: TokenId
    quote: TokenId
    lot: int
    maker_fee_bps: Bps
    taker_fee_bps: Bps
    max_lots: int
    max_price: int


class ExchangeInfo(msgspec.Struct, frozen=True):
    """The operator's word about the exchange.

    Attributes
    ----------
    chain_id, contract, domain
        Which exchange; `check` holds the domain against the other two.
    time : int
        Unix seconds that orders are judged by.
    margin_seconds : int
        How long an order has to stay valid to be admitted.
    slots : int
        Order slots of an account.
    """

    chain_id: Annotated[int, msgspec.Meta(ge=0)]
    contract: str
    domain: int
    preset: str
    time: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    fee_account: int
    margin_seconds: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    slots: Annotated[int, msgspec.Meta(ge=1, le=2**20)]
    batches: int
    tokens: list[Token]
    markets: list[Market]

    def check(self) -> None:
        """Check what would mislead a signature or a conversion.

        Raises
        ------
        ApiMalformed
            For a domain that is not chain and contract's, or amounts out of range.
        """
        try:
            domain = domain_of(self.chain_id, self.contract)
        except InvalidValue as error:
            raise ApiMalformed(f"the operator names no contract: {error}", "check the API's address") from error
        if self.domain != domain:
            raise ApiMalformed("the operator's domain is not that of its chain and contract", "do not sign for it")
        if self.margin_seconds > MAX_MARGIN_S:
            raise ApiMalformed(f"orders would have to stay valid for {self.margin_seconds} seconds", "do not sign them")
        for token in self.tokens:
            if not 1 <= token.quantum < 2**192:
                raise ApiMalformed(f"token {token.symbol} has no quantum")
        for market in self.markets:
            if not all(1 <= value < 2**64 for value in (market.lot, market.max_lots, market.max_price)):
                raise ApiMalformed(f"market {market.symbol} is out of range")

    def check_time(self, now: int) -> None:
        """Hold the operator's clock against another: from it follows how long what is signed stays valid.

        Parameters
        ----------
        now : int
            Unix seconds by the trader's own clock, or by L1's newest block where that is later.

        Raises
        ------
        ApiMalformed
            For a clock more than an hour ahead: then an order for a day could be filled for years.
        """
        if self.time > now + MAX_AHEAD_S:
            raise ApiMalformed(f"the operator's clock is {self.time - now} seconds ahead", _LIES)

    def check_tokens(self, known: Sequence[Token]) -> None:
        """Hold what the operator says of tokens against the chain: it decides what is signed for what was written.

        Parameters
        ----------
        known : sequence of Token
            As the chain has them; one that does not name itself is called ``#`` and its id.

        Raises
        ------
        ApiMalformed
            For a token that is not there, has another quantum or other decimals, or goes by another one's name; for a
            market named after others than its tokens.
        """
        chain = {token.id: token for token in known}
        owners: dict[str, set[int]] = {}
        for token in known:
            owners.setdefault(token.symbol.casefold(), set()).add(token.id)
        for token in self.tokens:
            real = chain.get(token.id)
            if real is None or real.quantum != token.quantum:
                raise ApiMalformed(f"token #{token.id} is not what the operator says", _LIES)
            if real.symbol != f"#{real.id}" and real.decimals != token.decimals:
                raise ApiMalformed(f"token #{token.id} has {real.decimals} decimals, not {token.decimals}", _LIES)
            if token.id not in owners.get(token.symbol.casefold(), {token.id}):
                raise ApiMalformed(f"token #{token.id} is not {token.symbol}", _LIES)
        names = {_folded(name): ids for name, ids in owners.items()}
        for market in self.markets:
            if not all(_is_named_after(market, *halves, names) for halves in _halves(market.symbol)):
                raise ApiMalformed(f"market {market.symbol} is not of these tokens", _LIES)

    def token(self, name: str | int) -> Token:
        """Return a token by symbol or id; see `find_token`."""
        return find_token(self.tokens, name)

    def market(self, symbol: str) -> Market:
        """Return a market by its symbol; ``-`` may stand for ``/``, and case does not matter.

        Raises
        ------
        UnknownName
            If there is none.
        """
        for market in self.markets:
            if market.symbol == symbol or _folded(market.symbol) == _folded(symbol):
                return market
        known = ", ".join(market.symbol for market in self.markets[:20])
        raise UnknownName(f"there is no market {symbol[:40]!r}", f"the markets are {known}")


def _folded(name: str) -> str:
    """Return a name as it is compared: a market is found under dashes and in small letters, too."""
    return name.casefold().replace("-", "/")


def _halves(symbol: str) -> list[tuple[str, str]]:
    """Return every way to read a market's symbol as two names."""
    name = _folded(symbol)
    return [(name[:at], name[at + 1 :]) for at, ch in enumerate(name) if ch == "/"]


def _is_named_after(market: Market, base: str, quote: str, names: dict[str, set[int]]) -> bool:
    """Tell whether a market's tokens go by these names, as far as tokens go by them at all."""
    if "/" in base + quote and not (base in names and quote in names):
        return True  # cut in the middle of a name with a dash
    return all(id_ in names.get(name, {id_}) for name, id_ in ((base, market.base), (quote, market.quote)))


def find_token(tokens: list[Token], name: str | int) -> Token:
    """Return a token by symbol (case does not matter), or by id, also written ``2`` or ``#2``.

    Raises
    ------
    UnknownName
        If none or several fit.
    """
    digits = str(name).removeprefix("#")
    if digits.isascii() and digits.isdigit():
        found = [token for token in tokens if token.id == int(digits[:6])]
    else:
        found = [token for token in tokens if token.symbol.casefold() == digits.casefold()]
        # Anybody may call a token ETH; only one is.
        found = [token for token in found if token.id == ETH_TOKEN] or found
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(f"#{token.id}" for token in found)
        raise UnknownName(f"several tokens are called {digits[:40]}", f"name it by its id: {ids}")
    known = ", ".join(f"{token.symbol} (#{token.id})" for token in tokens[:20])
    raise UnknownName(f"there is no token {str(name)[:40]!r}", f"the tokens are {known}")
