"""The contract as typed Python: reads, and one method for each transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from eth_typing import BlockIdentifier, ChecksumAddress
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import BadFunctionCallOutput, ContractLogicError
from web3.logs import DISCARD
from web3.types import TxReceipt

from proofbook.chain.compile import contract_artifact
from proofbook.chain.errors import ChainError, NotProofbook
from proofbook.chain.transactions import RECEIPT_SECONDS, Sender, decode_revert
from proofbook.protocol.table import ETH_QUANTUM, ETH_TOKEN, RequestKind, Size
from proofbook.protocol.words import Request, RequestRow

GWEI: Final = 10**9
_ERC20_ABI: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        "name": name,
        "stateMutability": "view" if out == "uint256" else "nonpayable",
        "inputs": [{"name": f"a{k}", "type": t} for k, t in enumerate(inputs)],
        "outputs": [{"name": "", "type": out}],
    }
    for name, inputs, out in (
        ("balanceOf", ["address"], "uint256"),
        ("allowance", ["address", "address"], "uint256"),
        ("approve", ["address", "uint256"], "bool"),
    )
]


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """A request as the contract queued it.

    Attributes
    ----------
    id : int
        Its place in the queue, from 0.
    request : Request
        What is asked.
    fee : int
        Gwei paid.
    deadline : int
        Unix seconds after which, while unserved, anyone may freeze.
    sender : str
        Who queued it; "" when it was not read from an event.
    """

    id: int
    request: Request
    fee: int
    deadline: int
    sender: str = ""

    def argument(self, outcome: int = 0) -> tuple[Any, ...]:
        """Return the contract's ``RequestData`` of it."""
        q = self.request
        owner = Web3.to_checksum_address(q.owner.to_bytes(20, "big"))
        return (q.kind, q.account, q.token, q.amount, outcome, owner, q.pub_x, q.pub_y, self.fee, self.deadline)

    def hash(self) -> bytes:
        """Return keccak of its fields, all but id and sender, as the contract keeps it."""
        q = self.request
        fields = (q.kind, q.account, q.token, q.amount, q.owner, q.pub_x, q.pub_y, self.fee, self.deadline)
        return bytes(Web3.keccak(b"".join(field.to_bytes(32, "big") for field in fields)))


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token; amounts in quanta, the quantum in the token's own units."""

    id: int
    address: ChecksumAddress
    quantum: int
    outstanding: int
    claims: int


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """What L1 knows of an account; the owner is the zero address for one that was never opened."""

    owner: ChecksumAddress
    key_pending: bool
    exited: bool


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """What was fixed at deployment; times in seconds, fees in gwei, `sizes` by size id, key addresses as strings."""

    account_depth: int
    order_depth: int
    genesis_root: int
    request_window: int
    request_spacing: int
    max_lag: int
    base_fee: int
    fee_step: int
    fee_cap: int
    exit_fee_cap: int
    owner: ChecksumAddress
    exit_zkey_hash: bytes
    exit_wasm_hash: bytes
    sizes: tuple[Size, ...]
    size_keys: tuple[ChecksumAddress, ...]
    exit_key: ChecksumAddress


class Exchange:
    """A deployed Proofbook contract.

    Parameters
    ----------
    w3 : Web3
        The chain.
    address : str
        The contract's address.
    account : LocalAccount or str, optional
        Who sends transactions; reads need none.
    timeout : float
        Seconds to wait for a receipt.
    chain_id : int
        The chain that is signed for; 0 for the one that the node says it is on.

    Raises
    ------
    NotProofbook
        If there is no code at the address.
    """

    def __init__(
        self,
        w3: Web3,
        address: str,
        account: LocalAccount | str | None = None,
        timeout: float = RECEIPT_SECONDS,
        chain_id: int = 0,
    ) -> None:
        self.w3 = w3
        self.address: ChecksumAddress = Web3.to_checksum_address(address)
        if not w3.eth.get_code(self.address):
            raise NotProofbook(f"there is no contract at {self.address}", "check chain and address")
        self.abi = contract_artifact("Proofbook").abi
        self.contract: Contract = w3.eth.contract(address=self.address, abi=self.abi)
        self._timeout, self._chain_id = timeout, chain_id
        self._sender = None if account is None else Sender(w3, account, self.abi, timeout, chain_id=chain_id)

    def as_account(self, account: LocalAccount | str) -> Exchange:
        """Return the same exchange with another sender."""
        return Exchange(self.w3, self.address, account, self._timeout, self._chain_id)

    # --- reads

    def read(self, name: str, *arguments: Any, block: BlockIdentifier = "latest") -> Any:
        """Call a view function.

        Raises
        ------
        ContractRevert
            If it reverts.
        NotProofbook
            If the contract has no such function.
        """
        try:
            return self.contract.functions[name](*arguments).call(block_identifier=block)
        except ContractLogicError as error:
            raise decode_revert(self.abi, error) from error
        except BadFunctionCallOutput as error:
            raise NotProofbook(f"{self.address} does not answer {name}", "check chain and address") from error

    def state_root(self, block: BlockIdentifier = "latest") -> int:
        """Return the root of the account tree."""
        return int(self.read("stateRoot", block=block))

    def batch_number(self, block: BlockIdentifier = "latest") -> int:
        """Return the number of the last batch, 0 before the first."""
        return int(self.read("batchNumber", block=block))

    def last_timestamp(self) -> int:
        """Return the timestamp of the last batch, 0 before the first."""
        return int(self.read("lastTimestamp"))

    def is_frozen(self, block: BlockIdentifier = "latest") -> bool:
        """Tell whether the exchange is frozen."""
        return bool(self.read("frozen", block=block))

    def operator(self) -> ChecksumAddress:
        """Return the address that commits batches."""
        return Web3.to_checksum_address(self.read("operator"))

    def queue(self, block: BlockIdentifier = "latest") -> tuple[int, int]:
        """Return (served, queued): requests with ids in [served, queued) wait."""
        return int(self.read("served", block=block)), int(self.read("queued", block=block))

    def count_requests(self, block: BlockIdentifier = "latest") -> int:
        """Return how many requests were ever queued."""
        return int(self.read("queued", block=block))

    def request_hash(self, id: int, block: BlockIdentifier = "latest") -> bytes:
        """Return what the contract keeps of a request while it is unserved, see `QueuedRequest.hash`."""
        return bytes(self.read("requestHash", id, block=block))

    def account_count(self) -> int:
        """Return how many account indices were handed out."""
        return int(self.read("accountCount"))

    def account(self, index: int) -> AccountInfo:
        """Return what L1 knows of an account."""
        owner, pending, exited = self.read("accounts", index)
        return AccountInfo(Web3.to_checksum_address(owner), bool(pending), bool(exited))

    def token(self, token: int, block: BlockIdentifier = "latest") -> TokenInfo:
        """Return a token by id; quantum 0 for one that does not exist."""
        address, quantum, outstanding, claims = self.read("tokens", token, block=block)
        return TokenInfo(token, Web3.to_checksum_address(address), quantum, outstanding, claims)

    def token_count(self, block: BlockIdentifier = "latest") -> int:
        """Return how many tokens there are; their ids start at 1."""
        return int(self.read("tokenCount", block=block))

    def tokens(self, block: BlockIdentifier = "latest") -> list[TokenInfo]:
        """Return all tokens, by rising id."""
        return [self.token(i, block) for i in range(1, self.token_count(block) + 1)]

    def claim_of(self, owner: str, token: int) -> int:
        """Return the quanta that wait for an owner."""
        return int(self.read("claims", Web3.to_checksum_address(owner), token))

    def vault(self, token: TokenInfo, block: BlockIdentifier = "latest") -> int:
        """Return what the contract holds of a token, in the token's own units (wei for ETH)."""
        if token.id == ETH_TOKEN:
            return int(self.w3.eth.get_balance(self.address, block))
        erc20 = self.w3.eth.contract(address=token.address, abi=_ERC20_ABI)
        return int(erc20.functions.balanceOf(self.address).call(block_identifier=block))

    def request_fee(self, kind: RequestKind | int) -> int:
        """Return what a request costs now, in gwei."""
        return int(self.read("requestFee", int(kind)))

    def domain(self) -> int:
        """Return the domain of signed actions."""
        return int(self.read("domain"))

    def config(self) -> ExchangeConfig:
        """Return everything that was fixed at deployment."""
        rows = [self.read("sizes", k) for k in range(int(self.read("sizeCount")))]

        def number(name: str) -> int:
            return int(self.read(name))

        return ExchangeConfig(
            account_depth=number("accountDepth"),
            order_depth=number("orderDepth"),
            genesis_root=number("genesisRoot"),
            request_window=number("requestWindow"),
            request_spacing=number("requestSpacing"),
            max_lag=number("maxLag"),
            base_fee=number("baseFee"),
            fee_step=number("feeStep"),
            fee_cap=number("feeCap"),
            exit_fee_cap=number("exitFeeCap"),
            owner=Web3.to_checksum_address(self.read("owner")),
            exit_zkey_hash=bytes(self.read("exitZkeyHash")),
            exit_wasm_hash=bytes(self.read("exitWasmHash")),
            sizes=tuple(Size(*row[:4]) for row in rows),
            size_keys=tuple(Web3.to_checksum_address(row[4]) for row in rows),
            exit_key=Web3.to_checksum_address(self.read("exitKey")),
        )

    def verifying_key(self, address: str) -> bytes:
        """Return a verifying key out of its data contract.

        Raises
        ------
        NotProofbook
            If what lies there is no data contract.
        """
        code = bytes(self.w3.eth.get_code(Web3.to_checksum_address(address)))
        if code[:1] != b"\x00":
            raise NotProofbook(f"{address} holds no verifying key")
        return code[1:]

    # --- transactions

    def send(self, name: str, *arguments: Any, value: int = 0) -> TxReceipt:
        """Send a transaction and wait for its receipt.

        Parameters
        ----------
        name : str
            Function of the contract.
        value : int
            Wei.

        Raises
        ------
        ContractRevert, TransactionFailed
            As `Sender.send`.
        """
        return self._sending().send(self.contract.functions[name](*arguments), value)

    def submit(self, name: str, *arguments: Any, value: int = 0) -> str:
        """Send a transaction and return its hash at once; `wait` for it later. Errors as `send`."""
        return self._sending().submit(self.contract.functions[name](*arguments), value)

    def wait(self, tx: str) -> TxReceipt:
        """Wait for the receipt of a submitted transaction; errors as `send`."""
        return self._sending().wait(tx)

    def _sending(self) -> Sender:
        if self._sender is None:
            raise ChainError("this exchange has no account to send from", "give it one")
        return self._sender

    def open(self, pub_x: int, pub_y: int, surplus: int = 0) -> tuple[int, TxReceipt]:
        """Queue the opening of an account and return its index.

        Parameters
        ----------
        pub_x, pub_y : int
            Trading key.
        surplus : int
            Gwei to send above the fee of now, which rises with the queue; what is not used becomes a claim.
        """
        receipt = self.send("open", pub_x, pub_y, value=self._fee(RequestKind.OPEN, surplus))
        events = self.contract.events.RequestQueued().process_receipt(receipt, DISCARD)
        return int(events[0]["args"]["account"]), receipt

    def deposit(self, index: int, token: int, amount: int, surplus: int = 0) -> TxReceipt:
        """Queue a deposit of `amount` quanta; an ERC-20 must have been approved before (`approve`)."""
        eth = amount * ETH_QUANTUM if token == ETH_TOKEN else 0
        return self.send("deposit", index, token, amount, value=self._fee(RequestKind.DEPOSIT, surplus) + eth)

    def approve(self, token: TokenInfo, amount: int) -> TxReceipt:
        """Allow the contract to take `amount` quanta of an ERC-20 from the sender."""
        erc20 = self.w3.eth.contract(address=token.address, abi=_ERC20_ABI)
        return self._sending().send(erc20.functions.approve(self.address, amount * token.quantum))

    def change_key(self, index: int, pub_x: int, pub_y: int, surplus: int = 0) -> TxReceipt:
        """Queue a new trading key."""
        return self.send("changeKey", index, pub_x, pub_y, value=self._fee(RequestKind.KEY, surplus))

    def force_exit(self, index: int, token: int, surplus: int = 0) -> TxReceipt:
        """Queue the exit of all that the account holds of a token."""
        return self.send("forceExit", index, token, value=self._fee(RequestKind.EXIT, surplus))

    def commit(
        self,
        size_id: int,
        timestamp: int,
        new_root: int,
        requests: Sequence[tuple[QueuedRequest, int]],
        actions: bytes,
        fees: bytes,
        c: int,
        proof: Sequence[int],
    ) -> TxReceipt:
        """Commit a batch; `requests` with their outcomes, `proof` 8 words in EIP-197 order."""
        return self.send("commit", *commit_arguments(size_id, timestamp, new_root, requests, actions, fees, c, proof))

    def claim(self, token: int) -> TxReceipt:
        """Pay the sender's claim of a token out."""
        return self.send("claim", token)

    def claim_for(self, owner: str, token: int) -> TxReceipt:
        """Pay somebody's claim of a token to them."""
        return self.send("claimFor", Web3.to_checksum_address(owner), token)

    def add_token(self, address: str, quantum: int) -> tuple[int, TxReceipt]:
        """Append a token and return its id."""
        receipt = self.send("addToken", Web3.to_checksum_address(address), quantum)
        return int(self.contract.events.TokenAdded().process_receipt(receipt, DISCARD)[0]["args"]["id"]), receipt

    def rotate_operator(self, to: str) -> TxReceipt:
        """Hand the operator's role over."""
        return self.send("rotateOperator", Web3.to_checksum_address(to))

    def freeze(self, oldest: QueuedRequest) -> TxReceipt:
        """Freeze the exchange by its oldest unserved request."""
        return self.send("freeze", oldest.argument())

    def exit(self, index: int, owner: str, tokens: int, amounts: Sequence[int], proof: Sequence[int]) -> TxReceipt:
        """Turn all that an account holds into its owner's claims; `tokens` is T, `amounts` five packed words."""
        return self.send("exit", index, Web3.to_checksum_address(owner), tokens, list(amounts), list(proof))

    def reclaim(self, request: QueuedRequest) -> TxReceipt:
        """Give an unserved request's money back to its sender, as claims."""
        return self.send("reclaim", request.id, request.argument())

    def _fee(self, kind: RequestKind, surplus: int) -> int:
        return (self.request_fee(kind) + surplus) * GWEI


def commit_arguments(
    size_id: int,
    timestamp: int,
    new_root: int,
    requests: Sequence[tuple[QueuedRequest, int]],
    actions: bytes,
    fees: bytes,
    c: int,
    proof: Sequence[int],
) -> tuple[Any, ...]:
    """Return ``commit``'s arguments as web3 takes them."""
    data = [request.argument(outcome) for request, outcome in requests]
    return size_id, timestamp, new_root, data, actions, fees, c, list(proof)


def request_rows(requests: Sequence[tuple[QueuedRequest, int]]) -> tuple[RequestRow, ...]:
    """Return the page's request rows of queued requests with their outcomes."""
    return tuple(RequestRow(queued.request, outcome) for queued, outcome in requests)
