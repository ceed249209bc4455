"""From what people write to exact integers, and back. No floats: ``0.1`` is one tenth."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from proofbook.client.errors import BadNumber, NotMultiple
from proofbook.client.models import Market, Token
from proofbook.protocol.table import MAX_AMOUNT

_DECIMAL: Final = re.compile(r"[0-9]{1,40}(\.[0-9]{1,36})?", re.ASCII)
_SHOWN_DIGITS: Final = 18


def parse_decimal(field: str, text: str) -> Fraction:
    """Return the exact value of a plain decimal number such as ``12`` or ``0.25``.

    Raises
    ------
    BadNumber
        For anything else: signs, exponents, blanks, other digits; and for 0.
    """
    if not _DECIMAL.fullmatch(text):
        raise BadNumber(f"{field}: {text[:50]!r} is no decimal number", "write it like 12 or 0.25")
    value = Fraction(text)
    if not value:
        raise BadNumber(f"{field} must not be 0")
    return value


def format_decimal(value: Fraction) -> str:
    """Return a number at least 0 as a plain decimal, exactly; one that never ends is cut after 18 digits."""
    rest, places = value.denominator, _SHOWN_DIGITS
    twos, fives = (_multiplicity(rest, prime) for prime in (2, 5))
    if rest == 2**twos * 5**fives:
        places = max(twos, fives)
    scale: int = 10**places
    whole, part = divmod(value.numerator * scale // rest, scale)
    digits = str(part).rjust(places, "0").rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _multiplicity(number: int, prime: int) -> int:
    """Return how often a prime divides a number."""
    times = 0
    while number % prime == 0:
        number //= prime
        times += 1
    return times


def _quantum(token: Token) -> Fraction:
    """Return a quantum in whole tokens."""
    return Fraction(token.quantum, 10**token.decimals)


def _whole(field: str, text: str, units: Fraction, unit: str, step: Fraction, top: int) -> int:
    """Return `units` if it is an integer of [1, top]; `step` is one of them, in what people write."""
    if units.denominator != 1:
        below = units.numerator // units.denominator
        near = [format_decimal(n * step) for n in (below, below + 1) if 1 <= n <= top]
        raise NotMultiple(f"{field}: {text} is not a multiple of {unit}", f"the nearest are {' and '.join(near)}")
    if units.numerator > top:
        raise BadNumber(f"{field}: {text} is too much", f"at most {format_decimal(top * step)}")
    return units.numerator


def parse_amount(text: str, token: Token, field: str = "amount") -> int:
    """Return an amount of a token, written in whole tokens, in quanta.

    Raises
    ------
    BadNumber
        If it is no decimal number, 0, or 2^64 quanta or more.
    NotMultiple
        If it is no whole number of quanta.
    """
    step = _quantum(token)
    unit = f"{token.symbol}'s quantum, {format_decimal(step)}"
    return _whole(field, text, parse_decimal(field, text) / step, unit, step, MAX_AMOUNT)


def format_amount(quanta: int, token: Token) -> str:
    """Return an amount in whole tokens."""
    return format_decimal(quanta * _quantum(token))


def parse_size(text: str, market: Market, base: Token) -> int:
    """Return an order's size, written in whole base tokens, in lots; errors as `parse_amount`, or above max_lots."""
    step = market.lot * _quantum(base)
    unit = f"the lot, {format_decimal(step)} {base.symbol}"
    return _whole("size", text, parse_decimal("size", text) / step, unit, step, market.max_lots)


def parse_price(text: str, market: Market, base: Token, quote: Token) -> int:
    """Return a price, written in quote tokens for one base token, in ticks: quote quanta a lot.

    Raises
    ------
    BadNumber, NotMultiple
        As `parse_amount`, or above the market's highest price.
    """
    step = price_step(market, base, quote)
    unit = f"the price step, {format_decimal(step)} {quote.symbol}"
    return _whole("price", text, parse_decimal("price", text) / step, unit, step, market.max_price)


def price_step(market: Market, base: Token, quote: Token) -> Fraction:
    """Return one tick in quote tokens for one base token."""
    return _quantum(quote) / (market.lot * _quantum(base))


def format_price(ticks: int, market: Market, base: Token, quote: Token) -> str:
    """Return a price in quote tokens for one base token."""
    return format_decimal(ticks * price_step(market, base, quote))
