"""Sending: gas estimated, receipt awaited, and every revert decoded to its name, arguments and a hint."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress, HexStr
from eth_utils.abi import abi_to_signature, function_signature_to_4byte_selector
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import ContractLogicError, TimeExhausted, Web3Exception
from web3.types import TxParams, TxReceipt

from proofbook.chain.errors import ContractRevert, TransactionFailed
from proofbook.chain.hints import HINTS

GAS_MARGIN_PERCENT: Final = 20
"""Added to the estimate: the queue or the clock may have moved by the time it is mined."""
RECEIPT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.05
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

    Parameters
    ----------
    w3 : Web3
        The chain.
    account : LocalAccount or str
        A key of ours, or the address of an account that the node holds the key of.
    abi : sequence of dict
        Where error names are looked up.
    timeout : float
        Seconds to wait for a receipt.
    """

    def __init__(
        self, w3: Web3, account: LocalAccount | str, abi: Sequence[Any], timeout: float = RECEIPT_SECONDS
    ) -> None:
        self.w3 = w3
        self.account = account
        self.timeout = timeout
        self._abi = abi
        # Nonces are counted by the node; two threads must not take the same one.
        self._lock = threading.Lock()

    @property
    def address(self) -> ChecksumAddress:
        """The sending account."""
        return Web3.to_checksum_address(self.account if isinstance(self.account, str) else self.account.address)

    def send(self, call: Any, value: int = 0) -> TxReceipt:
        """Send a contract call or constructor and wait for its receipt.

        Parameters
        ----------
        call
            A bound web3 contract function or constructor.
        value : int
            Wei to send along.

        Raises
        ------
        ContractRevert
            If the contract refuses, at estimation (nothing was sent then) or when mined.
        TransactionFailed
            If the node refuses it or it is not mined in time.
        """
        return self.wait(self.submit(call, value))

    def submit(self, call: Any, value: int = 0) -> str:
        """Send without waiting; returns the transaction's hash. Errors as `send`, but for what shows when mined."""
        base: TxParams = {"from": self.address, "value": Web3.to_wei(value, "wei")}
        try:
            estimate = call.estimate_gas(base)
            with self._lock:
                tx = call.build_transaction(
                    {
                        **base,
                        "gas": estimate * (100 + GAS_MARGIN_PERCENT) // 100,
                        "nonce": self.w3.eth.get_transaction_count(self.address, "pending"),
                    }
                )
                return Web3.to_hex(self._submit(tx))
        except ContractLogicError as error:
            raise decode_revert(self._abi, error) from error
        except (Web3Exception, ValueError, RequestException) as error:
            raise TransactionFailed(f"the node refused the transaction: {error}") from error

    def wait(self, tx_hash: str) -> TxReceipt:
        """Wait until a transaction is mined; errors as `send`."""
        try:
            receipt = self.w3.eth.wait_for_transaction_receipt(
                HexStr(tx_hash), timeout=self.timeout, poll_latency=_POLL_SECONDS
            )
            if receipt["status"] != 1:
                self._explain(receipt)
            return receipt
        except TimeExhausted as error:
            raise TransactionFailed(f"not mined within {self.timeout} s", "raise the gas price, or wait") from error
        except ContractLogicError as error:
            raise decode_revert(self._abi, error) from error
        except (Web3Exception, ValueError, RequestException) as error:
            raise TransactionFailed(f"transaction {tx_hash} can't be followed: {error}") from error

    def _submit(self, tx: TxParams) -> bytes:
        if isinstance(self.account, str):
            return self.w3.eth.send_transaction(tx)
        signed = self.account.sign_transaction(tx)  # type: ignore[arg-type]
        return self.w3.eth.send_raw_transaction(signed.raw_transaction)

    def _explain(self, receipt: TxReceipt) -> None:
        """Call it again on the block it failed in, to learn the error; always raises."""
        tx = self.w3.eth.get_transaction(receipt["transactionHash"])
        again: TxParams = {"from": tx["from"], "data": tx["input"], "value": tx["value"], "gas": tx["gas"]}
        if "to" in tx:
            again["to"] = tx["to"]
        self.w3.eth.call(again, receipt["blockNumber"])
        raise TransactionFailed(f"transaction {Web3.to_hex(receipt['transactionHash'])} reverted")


def decode_revert(abi: Sequence[Any], error: ContractLogicError) -> ContractRevert:
    """Return the named error behind a revert; ``Unnamed`` when the node gave no data that the ABI knows."""
    data = error.data
    if isinstance(data, str) and data.startswith("0x") and len(data) >= 10:
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
