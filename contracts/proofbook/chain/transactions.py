"""Sending: gas estimated, receipt awaited, and every revert decoded to its name, arguments and a hint."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from eth_abi.exceptions import DecodingError
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_typing import ChecksumAddress, HexStr
from eth_utils.abi import abi_to_signature, function_signature_to_4byte_selector
from hexbytes import HexBytes
from requests.exceptions import RequestException
from rlp import decode
from rlp.sedes import List, big_endian_int, binary
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception
from web3.types import TxParams, TxReceipt

from proofbook.chain.errors import NONSENSE, ContractRevert, GasPriceLimit, TransactionFailed, WrongChain
from proofbook.chain.fees import PRICES, bid, limit_from_environment
from proofbook.chain.hints import HINTS

GAS_MARGIN_PERCENT: Final = 20
"""Added to the estimate: the queue or the clock may have moved by the time it is mined."""
RECEIPT_SECONDS: Final = 120.0
OUTBID_SECONDS: Final = 45.0
_POLL_SECONDS: Final = 0.05
_MAX_POLL_SECONDS: Final = 1.0
_RECEIPT_LAG_SECONDS: Final = 5.0
_REVERT: Final = re.compile("0x([0-9a-fA-F]{2}){4,}")
_RLP_LIST: Final = 0xC0
_FIRST_V: Final = 35
"""Of signatures that name a chain, by EIP-155: this, or one more, and twice the chain id."""
_STANDARD_ERRORS: Final[tuple[dict[str, Any], ...]] = tuple(
    {"type": "error", "name": name, "inputs": [{"name": field, "type": kind} for field, kind in fields]}
    for name, fields in {
        "Error": (("message", "string"),),
        "Panic": (("code", "uint256"),),
        # OpenZeppelin's tokens, whose errors come through the exchange.
        "ERC20InsufficientAllowance": (("spender", "address"), ("allowance", "uint256"), ("needed", "uint256")),
        "ERC20InsufficientBalance": (("sender", "address"), ("balance", "uint256"), ("needed", "uint256")),
    }.items()
)


class Sender:
    """Sends transactions of one account, one after another.

    One that is not mined in time is sent again at a higher price, with the same nonce, so that one of them counts. Not
    while no block comes at all: no price would help, and each would be more than the last.

    Parameters
    ----------
    w3 : Web3
        The chain.
    account : LocalAccount or str
        A key of ours, or the address of an account that the node holds the key of (such are not outbid).
    abi : sequence of dict
        Where error names are looked up.
    timeout : float
        Seconds to wait for a receipt.
    patience : float
        Seconds after which a transaction that waits is outbid.
    limit : int, optional
        The most for a unit of gas, in wei; default: the environment's.
    keep : callable, optional
        Given the bytes of every transaction before they are sent, so that another process can `resume`.
    chain_id : int
        The chain that is signed for, and no other, whatever the node says; 0 for the one that the node says it is on.
    """

    def __init__(
        self,
        w3: Web3,
        account: LocalAccount | str,
        abi: Sequence[Any],
        timeout: float = RECEIPT_SECONDS,
        patience: float = OUTBID_SECONDS,
        limit: int | None = None,
        keep: Callable[[bytes], None] = lambda raw: None,
        chain_id: int = 0,
    ) -> None:
        self.w3 = w3
        self.account = account
        self.timeout, self.patience = timeout, patience
        self.limit = limit_from_environment() if limit is None else limit
        self._abi, self._keep, self._chain_id = abi, keep, chain_id
        # Nonces are counted by the node; two threads must not take the same one.
        self._lock = threading.Lock()

    @property
    def address(self) -> ChecksumAddress:
        """The sending account."""
        return Web3.to_checksum_address(self.account if isinstance(self.account, str) else self.account.address)

    def send(self, call: Any, value: int = 0, nonce: int | None = None) -> TxReceipt:
        """Send a contract call or constructor and wait for its receipt.

        Parameters
        ----------
        call
            A bound web3 contract function or constructor.
        value : int
            Wei to send along.
        nonce : int, optional
            Which transaction of the account's it is to be; default: the one behind all that wait.

        Raises
        ------
        ContractRevert
            If the contract refuses, at estimation (nothing was sent then) or when mined.
        WrongChain
            If the node is on another chain than what is signed for.
        GasPriceLimit
            If gas costs more than may be paid.
        TransactionFailed
            If the node refuses it or it is not mined in time.
        """
        block = self._head()
        tx, hashes = self._start(call, value, nonce)
        return self._see_through(tx, hashes, block)

    def submit(self, call: Any, value: int = 0) -> str:
        """Send without waiting; returns the transaction's hash. Errors as `send`, but for what shows when mined."""
        return self._start(call, value)[1][0]

    def wait(self, tx_hash: str) -> TxReceipt:
        """Wait until a transaction is mined, without outbidding it; errors as `send`."""
        return self._see_through(None, [tx_hash])

    def resume(self, raws: Sequence[bytes]) -> TxReceipt:
        """Go on with a transaction that an earlier process sent; errors as `send`.

        Parameters
        ----------
        raws : sequence of bytes
            What `keep` was given of it, the newest last. Only what `own_transaction` accepts may be given.
        """
        return self._see_through(own_transaction(raws[-1], self.address), [Web3.to_hex(Web3.keccak(r)) for r in raws])

    # --- steps

    def _head(self) -> int:
        try:
            return int(self.w3.eth.block_number)
        except (Web3Exception, RequestException, *NONSENSE) as error:
            raise TransactionFailed(f"the node does not tell its newest block: {error}") from error

    def _start(self, call: Any, value: int, nonce: int | None = None) -> tuple[TxParams, list[str]]:
        base: TxParams = {"from": self.address, "value": Web3.to_wei(value, "wei")}
        hashes: list[str] = []
        try:
            chain_id = int(self.w3.eth.chain_id)
            self._check(chain_id)
            estimate = call.estimate_gas(base)
            with self._lock:
                at = self.w3.eth.get_transaction_count(self.address, "pending") if nonce is None else nonce
                gas = estimate * (100 + GAS_MARGIN_PERCENT) // 100
                more: Any = {**bid(self.w3, (), self.limit), "chainId": chain_id, "gas": gas, "nonce": at}
                tx = call.build_transaction({**base, **more})
                self._broadcast(tx, hashes)
                return tx, hashes
        except ContractLogicError as error:
            raise decode_revert(self._abi, error) from error
        except (Web3Exception, RequestException, *NONSENSE) as error:
            raise TransactionFailed(f"the node refused the transaction: {error}") from error

    def _check(self, chain_id: int) -> None:
        if self._chain_id and chain_id != self._chain_id:
            raise WrongChain(chain_id, self._chain_id)

    def _broadcast(self, tx: TxParams, hashes: list[str]) -> None:
        """Send it, and have its hash looked for."""
        if isinstance(self.account, str):
            hashes.append(Web3.to_hex(self.w3.eth.send_transaction(tx)))
            return
        # What is signed for another chain may be taken there, by whoever put a contract at the same address.
        self._check(int(tx["chainId"]))
        signed = self.account.sign_transaction(tx)  # type: ignore[arg-type]
        self._keep(bytes(signed.raw_transaction))
        # Before it is sent: it may arrive though no answer comes, or one that says no.
        hashes.append(Web3.to_hex(Web3.keccak(signed.raw_transaction)))
        self.w3.eth.send_raw_transaction(signed.raw_transaction)

    def _see_through(self, tx: TxParams | None, hashes: list[str], block: int = -1) -> TxReceipt:
        """Wait until one of these transactions of one nonce is mined, outbidding the last of them, ``tx``.

        ``block`` was the newest when that was sent.
        """
        try:
            receipt = self._await(tx, hashes, block)
            if receipt["status"] != 1:
                self._explain(receipt)
            return receipt
        except ContractLogicError as error:
            raise decode_revert(self._abi, error) from error
        except (Web3Exception, RequestException, *NONSENSE) as error:
            raise TransactionFailed(f"transaction {hashes[-1]} can't be followed: {error}") from error

    def _await(self, tx: TxParams | None, hashes: list[str], block: int) -> TxReceipt:
        until, capped = time.monotonic() + self.timeout, None
        while True:
            now = time.monotonic()
            receipt = self._find(hashes, min(until, now + self.patience) - now)
            if receipt is not None:
                return receipt
            if time.monotonic() >= until:
                raise capped or TransactionFailed(f"not mined within {self.timeout} s", "raise the gas price, or wait")
            if tx is not None and not isinstance(self.account, str):
                known, head = len(hashes), self._head()
                capped = self._outbid(tx, hashes, head > block)
                block = head if len(hashes) > known else block

    def _find(self, hashes: Sequence[str], seconds: float) -> TxReceipt | None:
        """Return the receipt of whichever is mined, None after so many seconds."""
        until, pause = time.monotonic() + seconds, _POLL_SECONDS
        while True:
            for digest in hashes:
                with contextlib.suppress(TransactionNotFound):
                    return _checked(self.w3.eth.get_transaction_receipt(HexStr(digest)), digest)
            if time.monotonic() >= until:
                return None
            time.sleep(min(pause, until - time.monotonic()) if until > time.monotonic() else 0)
            pause = min(2 * pause, _MAX_POLL_SECONDS)

    def _outbid(self, tx: TxParams, hashes: list[str], has_moved: bool) -> GasPriceLimit | None:
        """Send it again at a higher price if blocks came meanwhile; returns why not, where the limit forbids it."""
        if self.w3.eth.get_transaction_count(self.address, "latest") > tx["nonce"]:
            # A node may count before it knows the receipt.
            if self._find(hashes, _RECEIPT_LAG_SECONDS) is None:
                raise TransactionFailed("another transaction of this key took its place", "see what it was; try again")
            return None
        try:
            prices: Any = bid(self.w3, [tx], self.limit)
            if not has_moved:
                return None
            for name in (*PRICES, "type"):  # what waits may be of another kind than the chain's fees are now
                tx.pop(name, None)  # type: ignore[misc]
            tx.update(prices)
            self._broadcast(tx, hashes)
        except GasPriceLimit as error:
            return error
        except (Web3Exception, ValueError) as error:
            # Mined while it was priced, or a rival that we don't know of: the receipts tell.
            if not any(words in str(error).lower() for words in ("nonce too low", "already known", "underpriced")):
                raise
        return None

    def _explain(self, receipt: TxReceipt) -> None:
        """Call it again on the block it failed in, to learn the error; always raises."""
        tx = self.w3.eth.get_transaction(receipt["transactionHash"])
        again: TxParams = {"from": tx["from"], "data": tx["input"], "value": tx["value"], "gas": tx["gas"]}
        if "to" in tx:
            again["to"] = tx["to"]
        self.w3.eth.call(again, receipt["blockNumber"])
        raise TransactionFailed(f"transaction {Web3.to_hex(receipt['transactionHash'])} reverted")


def _checked(receipt: Any, digest: str) -> TxReceipt:
    """Return a receipt whose parts that are used have their form; `TransactionFailed` for any other."""
    numbers = (receipt["status"], receipt["blockNumber"])
    if Web3.to_hex(receipt["transactionHash"]) != digest.lower() or any(type(number) is not int for number in numbers):
        raise TransactionFailed("the node's receipt makes no sense", "ask another node")
    return cast(TxReceipt, receipt)


def own_transaction(raw: bytes, sender: str) -> TxParams:
    """Return what a signed transaction says; `TransactionFailed` unless this sender signed it, for a chain."""
    try:
        if Account.recover_transaction(raw).lower() == sender.lower():
            legacy = raw[0] >= _RLP_LIST
            told = _legacy(raw) if legacy else TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
            prices = PRICES[2:] if legacy else PRICES[:2]
            addresses = {"from": Web3.to_checksum_address(sender), "to": Web3.to_checksum_address(told["to"])}
            tx: Any = {name: told[name] for name in ("chainId", "value", "nonce", "gas", "data", *prices)} | addresses
            return cast(TxParams, tx)
    except Exception as error:  # libraries over bytes of any form
        raise TransactionFailed(f"what was kept is no transaction: {type(error).__name__}") from error
    raise TransactionFailed("what was kept is a transaction of another key")


def calldata_of(raw: bytes, sender: str) -> bytes:
    """Return the calldata of a transaction that `own_transaction` accepts; errors as there."""
    return bytes(HexBytes(own_transaction(raw, sender)["data"]))


def prices_of(raw: bytes) -> dict[str, int]:
    """Return what a signed transaction offers, by the names of `fees.PRICES`; `TransactionFailed` if it is none."""
    try:
        if raw[0] >= _RLP_LIST:
            return {"gasPrice": int(decode(raw, List([big_endian_int, big_endian_int], strict=False))[1])}
        told = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        return {name: int(told[name]) for name in PRICES if name in told}
    except Exception as error:  # libraries over bytes of any form
        raise TransactionFailed(f"what was kept is no transaction: {type(error).__name__}") from error


def _legacy(raw: bytes) -> dict[str, Any]:
    """Return what a transaction of the first kind says, a bare RLP list; ValueError for one of no chain."""
    numbers = [big_endian_int] * 3
    told = decode(raw, List([*numbers, binary, big_endian_int, binary, *numbers]))
    if told[6] < _FIRST_V:
        raise ValueError("of no chain")
    names = ("nonce", "gasPrice", "gas", "to", "value", "data")
    return dict(zip(names, told, strict=False)) | {"chainId": (told[6] - _FIRST_V) // 2}


def decode_revert(abi: Sequence[Any], error: ContractLogicError) -> ContractRevert:
    """Return the named error behind a revert; ``Unnamed`` when the node gave no data that the ABI knows."""
    data = error.data
    if isinstance(data, str) and _REVERT.fullmatch(data):
        raw = bytes.fromhex(data[2:])
        entry = _error_entry(abi, raw[:4])
        named = None if entry is None else _arguments(entry, raw[4:])
        if named is not None:
            return ContractRevert(entry["name"], named, HINTS.get(entry["name"], ""))
    return ContractRevert("Unnamed", {"message": str(error)[:500]})


def _arguments(entry: Any, raw: bytes) -> dict[str, Any] | None:
    """Return an error's arguments by name, None for what has another form: a token may revert with anything."""
    try:
        values = Web3().codec.decode([i["type"] for i in entry["inputs"]], raw)
    except (DecodingError, ValueError, OverflowError):
        return None
    return {
        i["name"]: Web3.to_checksum_address(v) if i["type"] == "address" else v
        for i, v in zip(entry["inputs"], values, strict=True)
    }


def _error_entry(abi: Sequence[Any], selector: bytes) -> Any:
    for entry in (*abi, *_STANDARD_ERRORS):
        if entry["type"] == "error" and function_signature_to_4byte_selector(abi_to_signature(entry)) == selector:
            return entry
    return None
