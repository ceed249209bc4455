"""The operator's dealings with L1: reads, retried; and its transactions, signed before they are sent.

A transaction's bytes are known before anybody else sees it. So the store can hold them first, and after a crash the
very same bytes are sent again: with one nonce, at most one of them is ever mined.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NoReturn, ParamSpec, TypeVar

from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount
from eth_typing import BlockNumber
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception
from web3.types import BlockIdentifier, TxData, TxParams, TxReceipt

from proofbook.chain.client import Exchange, QueuedRequest, commit_arguments
from proofbook.chain.errors import ChainError, ContractRevert, GasPriceLimit, ReorgDetected, TransactionFailed
from proofbook.chain.events import BatchEvent, batches_since
from proofbook.chain.fees import DEFAULT_LIMIT_GWEI, GWEI, bid
from proofbook.chain.transactions import GAS_MARGIN_PERCENT, decode_revert, prices_of
from proofbook.operator.codes import OperatorError
from proofbook.protocol.words import Page, actions_calldata, fees_calldata

log = logging.getLogger(__name__)
MAX_PAUSE_S: Final = 10.0
MAX_NUMBER: Final = 2**62
"""Blocks' numbers and timestamps are below it; what is not comes of a node that lies, and is never written down."""
NONSENSE: Final = (TypeError, ValueError, LookupError, AttributeError, OverflowError, DecodingError)
"""What web3 raises over answers of a form that it does not expect, such as null for a number or data cut short."""
_SENT_BEFORE: Final = ("already known", "already imported", "nonce too low", "known transaction")
_UNDERPRICED: Final = ("underpriced", "base fee", "feetoolow", "fee too low", "gas price below")
"""Nodes' words for an offer below the base fee, or not above that of a rival with the same nonce."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


class RpcUnavailable(OperatorError):
    """The node did not answer, or not sensibly, however often it was asked (code ``rpc_unavailable``)."""

    code: ClassVar[str] = "rpc_unavailable"


class InsufficientFunds(RpcUnavailable):
    """The operator's key can't pay for a transaction (code ``insufficient_funds``); it is waited for, and told."""

    code: ClassVar[str] = "insufficient_funds"


class GasTooDear(RpcUnavailable):
    """Gas costs more than the operator may pay for it (code ``gas_too_dear``); it is waited for, and told."""

    code: ClassVar[str] = "gas_too_dear"


class ClockBehind(RpcUnavailable):
    """The operator's clock is so far behind that no batch would be taken (code ``clock``); waited for, and told."""

    code: ClassVar[str] = "clock"


class FreezeSeen(RpcUnavailable):
    """The exchange is frozen in the newest block, without confirmations yet (code ``freeze_seen``); waited for."""

    code: ClassVar[str] = "freeze_seen"


class Underpriced(TransactionFailed):
    """The node wants a better offer than this transaction's (code ``underpriced``)."""

    code: ClassVar[str] = "underpriced"


@dataclass(frozen=True, slots=True)
class SignedTx:
    """A signed transaction: its hash (0x hex), bytes (hex) and nonce."""

    tx: str
    raw: str
    nonce: int


async def retry(attempts: int, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a blocking call in a thread, and again after growing pauses when the node fails; a revert is an answer.

    Raises
    ------
    RpcUnavailable
        After so many attempts; `InsufficientFunds` when the last answer was that, `GasTooDear` at once.
    ContractRevert, ReorgDetected, Underpriced
        At once.
    """
    pause = 0.1
    for attempt in range(1, attempts + 1):
        try:
            return await asyncio.to_thread(call, *args, **kwargs)
        except (ContractRevert, ReorgDetected):
            raise
        except Underpriced:
            raise
        except GasPriceLimit as error:
            raise GasTooDear(f"{error.message}; gas becomes cheaper, or `max_gas_price_gwei` is raised") from error
        except (Web3Exception, RequestException, ChainError, ConnectionError, TimeoutError, *NONSENSE) as error:
            if attempt == attempts:
                kind = InsufficientFunds if "insufficient funds" in str(error).lower() else RpcUnavailable
                raise kind(f"{type(error).__name__}: {str(error)[:300]}") from error
            log.warning("L1 call failed (attempt %d of %d): %s", attempt, attempts, str(error)[:300])
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_S)
    raise AssertionError("unreachable")


class L1:
    """The chain as the operator uses it. All methods block.

    Parameters
    ----------
    exchange : Exchange
        The contract.
    account : LocalAccount
        The operator's key.
    chain_id : int
        The chain that is signed for, and no other, whatever the node says later.
    max_gas_price : int
        The most for a unit of gas, in wei.
    """

    def __init__(
        self, exchange: Exchange, account: LocalAccount, chain_id: int, max_gas_price: int = DEFAULT_LIMIT_GWEI * GWEI
    ) -> None:
        self.exchange = exchange
        self.chain_id = chain_id
        self.account = account
        self.max_gas_price = max_gas_price
        self.w3 = exchange.w3

    def get_head(self) -> tuple[int, int]:
        """Return number and timestamp of the newest block; `ChainError` where they are none."""
        block = self.w3.eth.get_block("latest")
        return _checked(block["number"]), _checked(block["timestamp"])

    def is_frozen(self, confirmations: int, start_block: int) -> bool:
        """Tell whether the exchange was frozen so many blocks ago, for good then.

        Parameters
        ----------
        confirmations : int
            Blocks on top.
        start_block : int
            The contract's block or an earlier one.
        """
        block = self.get_head()[0] - confirmations
        return block >= start_block and self.exchange.is_frozen(BlockNumber(block))

    def find_batch(self, number: int, first_block: int) -> BatchEvent | None:
        """Return a batch's event, None when the chain has no such batch."""
        last, _ = self.get_head()
        return next((e for e in batches_since(self.exchange, first_block, last) if e.number == number), None)

    def find_receipts(self, hashes: Sequence[str]) -> list[TxReceipt]:
        """Return the receipts of those of these transactions that were mined."""
        found = []
        for tx in hashes:
            with contextlib.suppress(TransactionNotFound):
                receipt = self.w3.eth.get_transaction_receipt(HexBytes(tx))
                for name in ("status", "blockNumber", "gasUsed"):
                    _checked(dict(receipt)[name])
                found.append(receipt)
        return found

    def sign_commit(
        self,
        page: Page,
        requests: Sequence[QueuedRequest],
        c: int,
        proof: Sequence[int],
        nonce: int,
        outbid: Sequence[str] = (),
        refused: str = "",
    ) -> SignedTx:
        """Sign a batch's transaction, at a higher price than its rivals'.

        Parameters
        ----------
        page, requests, c, proof
            The batch.
        nonce : int
            Of the transaction.
        outbid : sequence of str
            Hashes of ours that may wait with this nonce.
        refused : str
            Bytes (hex) of one that was `Underpriced`.

        Raises
        ------
        ContractRevert
            When the contract would refuse it now.
        GasPriceLimit
            When that would cost too much.
        """
        rivals: list[Any] = [*self._find_waiting(outbid)]
        if refused:
            rivals.append(prices_of(bytes.fromhex(refused)))
        return self._sign(self._commit(page, requests, c, proof), nonce, rivals)

    def try_commit(self, page: Page, requests: Sequence[QueuedRequest], c: int, proof: Sequence[int]) -> None:
        """Ask the contract whether it would take a batch on top of the newest block; `ContractRevert` if not."""
        try:
            self._commit(page, requests, c, proof).call({"from": self.account.address})
        except ContractLogicError as error:
            raise decode_revert(self.exchange.abi, error) from error

    def _commit(self, page: Page, requests: Sequence[QueuedRequest], c: int, proof: Sequence[int]) -> Any:
        header = page.header
        pairs = list(zip(requests, (row.outcome for row in page.requests), strict=True))
        return self.exchange.contract.functions["commit"](
            *commit_arguments(
                header.size_id,
                header.timestamp,
                header.new_root,
                pairs,
                actions_calldata(page.actions),
                fees_calldata(page.fees),
                c,
                proof,
            )
        )

    def _sign(self, call: Any, nonce: int, rivals: Sequence[Any] = ()) -> SignedTx:
        address = self.account.address
        try:
            gas = call.estimate_gas({"from": address}) * (100 + GAS_MARGIN_PERCENT) // 100
            prices: Any = bid(self.w3, rivals, self.max_gas_price)
            fixed = {"from": address, "chainId": self.chain_id, "gas": gas, "nonce": nonce}
            tx: TxParams = call.build_transaction({**fixed, **prices})
        except ContractLogicError as error:
            raise decode_revert(self.exchange.abi, error) from error
        signed = self.account.sign_transaction(tx)  # type: ignore[arg-type]
        return SignedTx(Web3.to_hex(signed.hash), signed.raw_transaction.hex().removeprefix("0x"), nonce)

    def _find_waiting(self, hashes: Sequence[str]) -> list[TxData]:
        """Return those of these transactions that the node has; there is nothing to outbid where it has none."""
        found = []
        for tx in hashes:
            with contextlib.suppress(TransactionNotFound):
                found.append(self.w3.eth.get_transaction(HexBytes(tx)))
        return found

    def broadcast(self, raw: str) -> None:
        """Send signed bytes; that they were sent or mined before is fine.

        Raises
        ------
        Underpriced
            When the node wants a better offer.
        TransactionFailed
            When it refuses them otherwise.
        """
        try:
            self.w3.eth.send_raw_transaction(HexBytes(raw))
        except (Web3Exception, ValueError) as error:
            told = str(error).lower()
            if any(words in told for words in _SENT_BEFORE):
                return
            kind = Underpriced if any(words in told for words in _UNDERPRICED) else TransactionFailed
            raise kind(f"the node refused the transaction: {error}") from error

    def get_nonce(self, block: BlockIdentifier = "latest") -> int:
        """Return how many transactions of the operator were mined, up to a block."""
        return int(self.w3.eth.get_transaction_count(self.account.address, block))

    def explain(self, receipt: TxReceipt) -> NoReturn:
        """Raise why a transaction was reverted: `ContractRevert`, or `TransactionFailed` when it can't be told."""
        sent = self.w3.eth.get_transaction(receipt["transactionHash"])
        again: TxParams = {"from": sent["from"], "to": sent["to"], "data": sent["input"]}
        try:
            self.w3.eth.call(again, receipt["blockNumber"])
        except ContractLogicError as error:
            raise decode_revert(self.exchange.abi, error) from error
        raise TransactionFailed(f"transaction {Web3.to_hex(receipt['transactionHash'])} was reverted")


def _checked(told: Any) -> int:
    """Return a number of a block; `ChainError` for what can be none."""
    if not (isinstance(told, int) and 0 <= told < MAX_NUMBER):
        raise ChainError("the node names a number that makes no sense", "ask another node")
    return told
