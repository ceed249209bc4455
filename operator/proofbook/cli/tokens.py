"""Tokens as the chain knows them: names, decimals, and what a wallet holds of them on L1."""

from __future__ import annotations

import re
from typing import Any, Final

from web3 import Web3
from web3.exceptions import Web3Exception

from proofbook.chain.client import Exchange, TokenInfo
from proofbook.client.models import Token
from proofbook.protocol.table import ETH_QUANTUM, ETH_TOKEN

_SYMBOL: Final = re.compile(r"^[!-~]{1,32}\Z")
_METADATA_ABI: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        "name": name,
        "stateMutability": "view",
        "inputs": [{"name": f"a{k}", "type": kind} for k, kind in enumerate(inputs)],
        "outputs": [{"name": "", "type": out}],
    }
    for name, inputs, out in (
        ("symbol", [], "string"),
        ("decimals", [], "uint8"),
        ("balanceOf", ["address"], "uint256"),
        ("allowance", ["address", "address"], "uint256"),
    )
]
MAX_DECIMALS: Final = 36


def erc20(w3: Web3, address: str) -> Any:
    """Return an ERC-20's reading functions."""
    return w3.eth.contract(address=Web3.to_checksum_address(address), abi=_METADATA_ABI)


def describe_token(w3: Web3, address: str) -> tuple[str, int]:
    """Return what an ERC-20 says of itself: symbol and decimals; ("", 0) for what says nothing usable."""
    functions = erc20(w3, address).functions
    try:
        symbol, decimals = str(functions.symbol().call()), int(functions.decimals().call())
    except (Web3Exception, ValueError, OverflowError):
        return "", 0
    return (symbol if _SYMBOL.match(symbol) else ""), (decimals if decimals <= MAX_DECIMALS else 0)


def token_of(w3: Web3, info: TokenInfo) -> Token:
    """Return a token of the exchange with its name for people."""
    if info.id == ETH_TOKEN:
        return Token(ETH_TOKEN, "ETH", ETH_QUANTUM, 18)
    symbol, decimals = describe_token(w3, info.address)
    return Token(info.id, symbol or f"#{info.id}", info.quantum, decimals)


def tokens_of(exchange: Exchange) -> list[Token]:
    """Return all tokens of an exchange, by id."""
    return [token_of(exchange.w3, info) for info in exchange.tokens()]


def held_on_l1(exchange: Exchange, token: TokenInfo, owner: str) -> int:
    """Return what an address holds of a token outside the exchange, in the token's own units."""
    address = Web3.to_checksum_address(owner)
    if token.id == ETH_TOKEN:
        return int(exchange.w3.eth.get_balance(address))
    return int(erc20(exchange.w3, token.address).functions.balanceOf(address).call())


def allowance(exchange: Exchange, token: TokenInfo, owner: str) -> int:
    """Return how much of an ERC-20 the exchange may take from an address, in the token's own units."""
    call = erc20(exchange.w3, token.address).functions.allowance(Web3.to_checksum_address(owner), exchange.address)
    return int(call.call())
