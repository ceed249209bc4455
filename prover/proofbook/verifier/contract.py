"""What the contract says of itself at one block: all reads of a check see the same state."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from proofbook.protocol.messages import domain_of, parse_address
from proofbook.protocol.table import ETH_TOKEN, PRESETS, Preset, Size
from proofbook.verifier.abi import address_number, decode_types, encode_call
from proofbook.verifier.errors import AnswerMalformed, NotAnExchange, RpcMalformed, RpcRefused, RpcUnavailable
from proofbook.verifier.rpc import Rpc, data, quantity

MAX_SIZES: Final = 64
MAX_SYMBOL: Final = 16
TOKEN_GAS: Final = 5_000_000
"""What a token may burn over its name or a balance: whoever reads the exchange waits for it."""
MAX_AWAITED: Final = 3
"""Questions to tokens that a client waits for, where no node answers them; all others are asked once at a time."""
_SYMBOLS: Final[WeakKeyDictionary[Rpc, dict[str, str]]] = WeakKeyDictionary()
"""Symbols by address, as long as a client lives: the exchange is read at every step and every look."""
_UNANSWERED: Final[WeakKeyDictionary[Rpc, set[tuple[str, str]]]] = WeakKeyDictionary()
"""Addresses and functions of tokens that made no node answer when they were asked last."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token.

    Attributes
    ----------
    id : int
        1 is ETH.
    address : str
        Of the ERC-20, the zero address for ETH.
    symbol : str
        ``ETH``, or what the ERC-20 says, made unique among the exchange's.
    quantum : int
        Base units (wei for ETH) in one quantum.
    outstanding, claims : int
        The contract's own books, in quanta.
    """

    id: int
    address: str
    symbol: str
    quantum: int
    outstanding: int
    claims: int


@dataclass(frozen=True, slots=True)
class BatchSize:
    """A batch size and its verifying key as the chain has it, in EIP-197 words."""

    size: Size
    key: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """The contract at one block; times in Unix seconds.

    Attributes
    ----------
    address : str
        0x and 40 lower-case hex digits.
    chain_id, block, time : int
        Chain, block number and block time of all reads.
    block_hash : str
        Of that block.
    domain : int
        Of signed actions, computed here.
    preset : Preset
        Depths of the trees.
    genesis_root, state_root : int
        As the contract tells them.
    batch_number, served, queued : int
        Last batch; requests with ids in [served, queued) wait.
    frozen : bool
        Whether it was frozen, for good.
    sizes : tuple of BatchSize
        The size id is the position.
    exit_key : bytes
        The exit circuit's verifying key.
    exit_zkey_hash, exit_wasm_hash : bytes
        SHA-256 of the exit artifacts (M25).
    tokens : tuple of Token
        By rising id.
    """

    address: str
    chain_id: int
    block: int
    time: int
    block_hash: str
    domain: int
    preset: Preset
    genesis_root: int
    state_root: int
    batch_number: int
    served: int
    queued: int
    frozen: bool
    sizes: tuple[BatchSize, ...]
    exit_key: bytes
    exit_zkey_hash: bytes
    exit_wasm_hash: bytes
    tokens: tuple[Token, ...]


def address_text(number: int) -> str:
    """Return an address as 0x and 40 lower-case hex digits."""
    return f"0x{number:040x}"


class Reader:
    """Calls view functions at one block.

    Parameters
    ----------
    rpc : Rpc
        The node.
    address : str
        The contract.
    block : int
        Block number.
    """

    def __init__(self, rpc: Rpc, address: str, block: int) -> None:
        self.rpc, self.address, self.block = rpc, address, block

    def read(
        self, signature: str, returns: str, *arguments: Any, to: str | None = None, gas: int | None = None
    ) -> tuple[Any, ...]:
        """Call ``name(types)`` and return what it returns, by its ABI types separated by commas.

        Raises
        ------
        AnswerMalformed
            If it returns something else.
        RpcUnavailable, RpcRefused, RpcMalformed
            When the node fails, or the contract reverts.
        """
        call = {"to": to or self.address, "data": encode_call(signature, *arguments)}
        if gas is not None:
            call["gas"] = hex(gas)
        answer = data(self.rpc.call("eth_call", call, hex(self.block)))
        try:
            return decode_types(signature, returns.split(","), answer)
        except RpcMalformed as error:
            raise AnswerMalformed(error.message) from error

    def number(self, name: str) -> int:
        """Return a number that a function without arguments returns."""
        return int(self.read(f"{name}()", "uint256")[0])

    def data_contract(self, address: str) -> bytes:
        """Return a verifying key out of its data contract; `NotAnExchange` if it holds none."""
        code = self.rpc.code(address, self.block)
        if code[:1] != b"\x00" or len(code) % 32 != 1:
            raise NotAnExchange(f"{address} holds no verifying key")
        return code[1:]


def read_exchange(rpc: Rpc, contract: str, block: int | None = None) -> Exchange:
    """Read everything that a check needs but the history.

    Parameters
    ----------
    rpc : Rpc
        The node.
    contract : str
        0x and 40 hex digits.
    block : int, optional
        Default: the latest.

    Raises
    ------
    NotAnExchange
        If there is no code, or it does not answer as a Proofbook contract does, whichever node is asked.
    InvalidValue
        For a malformed address.
    RpcUnavailable, RpcRefused, RpcMalformed
        When the node fails, which says nothing of the contract.
    """
    address = address_text(parse_address(contract))
    found: NotAnExchange | None = None
    # One node that lacks the block, or lies, is not to end what a wrong address would end: all of them have to say so.
    for _ in rpc.urls:
        try:
            return _read_or_refuse(Reader(rpc, address, rpc.block_number() if block is None else block))
        except NotAnExchange as error:
            found = error
            rpc.advance()
    assert found is not None
    raise found


def _read_or_refuse(r: Reader) -> Exchange:
    if not r.rpc.code(r.address, r.block):
        raise NotAnExchange(f"there is no contract at {r.address}", "check address and chain")
    try:
        return _read(r)
    except (AnswerMalformed, RpcRefused) as error:
        if isinstance(error, RpcRefused) and not error.reverted:
            raise
        raise NotAnExchange(f"{r.address} does not answer as a Proofbook contract: {error}", "check address") from error


def _read(r: Reader) -> Exchange:
    chain_id = r.rpc.chain_id()
    block_hash, block_time = r.rpc.block(r.block)
    return Exchange(
        address=r.address,
        chain_id=chain_id,
        block=r.block,
        time=block_time,
        block_hash=block_hash,
        domain=domain_of(chain_id, r.address),
        preset=_preset(r.number("accountDepth"), r.number("orderDepth")),
        genesis_root=r.number("genesisRoot"),
        state_root=r.number("stateRoot"),
        batch_number=r.number("batchNumber"),
        served=r.number("served"),
        queued=r.number("queued"),
        frozen=bool(r.number("frozen")),
        sizes=_sizes(r),
        exit_key=r.data_contract(r.read("exitKey()", "address")[0]),
        exit_zkey_hash=bytes(r.read("exitZkeyHash()", "bytes32")[0]),
        exit_wasm_hash=bytes(r.read("exitWasmHash()", "bytes32")[0]),
        tokens=_tokens(r),
    )


def _preset(account_depth: int, order_depth: int) -> Preset:
    for preset in PRESETS.values():
        if (preset.account_depth, preset.order_depth) == (account_depth, order_depth):
            return preset
    if not (1 <= account_depth <= 8 and 1 <= order_depth <= 8):
        raise AnswerMalformed(f"trees of {account_depth} and {order_depth} levels")
    return Preset("custom", account_depth, order_depth)


def _sizes(r: Reader) -> tuple[BatchSize, ...]:
    count = r.number("sizeCount")
    if not 1 <= count <= MAX_SIZES:
        raise AnswerMalformed(f"{count} batch sizes")
    found = []
    for k in range(count):
        *rows, key = r.read("sizes(uint256)", "uint16,uint16,uint16,uint16,address", k)
        found.append(BatchSize(Size(*rows), r.data_contract(key)))
    return tuple(found)


def _tokens(r: Reader) -> tuple[Token, ...]:
    found: list[Token] = []
    taken: set[str] = set()
    for k in range(1, int(r.read("tokenCount()", "uint16")[0]) + 1):
        number, quantum, outstanding, claims = r.read("tokens(uint16)", "address,uint128,uint64,uint64", k)
        address = address_text(address_number(number))
        symbol = "ETH" if k == ETH_TOKEN else _symbol(r, address)
        if symbol in taken:
            symbol = f"{symbol}#{k}"
        taken.add(symbol)
        found.append(Token(k, address, symbol, quantum, outstanding, claims))
    return tuple(found)


def _symbol(r: Reader, address: str) -> str:
    """Return an ERC-20's symbol if it is a plain short one; a token may say anything, and is asked once a client."""
    known = _SYMBOLS.setdefault(r.rpc, {})
    if address not in known:
        try:
            text = _of_token(r, address, "symbol()", "string")
        except (AnswerMalformed, RpcRefused):
            text = ""
        except (RpcMalformed, RpcUnavailable):
            return address  # perhaps the token's doing: it holds nobody up, and is asked again
        plain = isinstance(text, str) and 0 < len(text) <= MAX_SYMBOL and text.isascii() and text.isalnum()
        known[address] = text if plain else address
    return known[address]


def _of_token(r: Reader, token: str, signature: str, returns: str, *arguments: Any) -> Any:
    """Ask a token; errors as `Reader.read`.

    That no node answers may be the token's doing, and an owner may add a hundred such: few of them are waited for.
    """
    unanswered, question = _UNANSWERED.setdefault(r.rpc, set()), (token, signature)
    is_hasty = question in unanswered or len(unanswered) >= MAX_AWAITED
    unanswered.add(question)
    try:
        with r.rpc.hasty() if is_hasty else nullcontext():
            found = r.read(signature, returns, *arguments, to=token, gas=TOKEN_GAS)[0]
    except (AnswerMalformed, RpcRefused):
        unanswered.discard(question)
        raise
    unanswered.discard(question)
    return found


def vault_of(rpc: Rpc, exchange: Exchange, token: Token) -> int:
    """Return what the contract holds of a token, in base units.

    Raises
    ------
    RpcRefused, RpcMalformed
        If the token does not answer.
    """
    if token.id == ETH_TOKEN:
        return quantity(rpc.call("eth_getBalance", exchange.address, hex(exchange.block)))
    reader = Reader(rpc, exchange.address, exchange.block)
    return int(_of_token(reader, token.address, "balanceOf(address)", "uint256", exchange.address))
