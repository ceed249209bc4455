"""Where a command's exchange, operator, key and account come from: its options, the environment, the wallet.

A wallet is a directory: `wallet.json`, which holds no secret, and `exit/` with the exit circuit's files (M25).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from eth_account.signers.local import LocalAccount
from web3 import Web3

from proofbook.chain.client import Exchange
from proofbook.chain.provider import CarefulProvider
from proofbook.cli.output import CliError, say, warn
from proofbook.client.errors import ApiUnreachable
from proofbook.client.http import ApiClient
from proofbook.client.keys import Trader
from proofbook.client.models import ExchangeInfo
from proofbook.escape.artifacts import WASM, ZKEY, ExitArtifacts, check_exit_artifacts, save_exit_artifacts
from proofbook.escape.errors import ArtifactsMismatch, ArtifactsMissing, KeyRefused
from proofbook.escape.keyfile import load_key
from proofbook.escape.pinned import chain_from_environment
from proofbook.protocol.messages import parse_address
from proofbook.protocol.table import ACCOUNT_BITS

MAX_FILE_BYTES: Final = 1 << 20
RPC_TIMEOUT_S: Final = 60
POLL_S: Final = 0.25
DEFAULT_RPC: Final = "http://127.0.0.1:8545"
DEFAULT_API: Final = "http://127.0.0.1:8080"
WALLET_FILE: Final = "wallet.json"

RpcOption = Annotated[
    str, typer.Option("--rpc", envvar="PROOFBOOK_RPC", metavar="URL", help="An L1 node. Default: the wallet's.")
]
ContractOption = Annotated[
    str,
    typer.Option(
        "--contract",
        envvar="PROOFBOOK_CONTRACT",
        metavar="ADDRESS",
        help="The exchange's contract, or a deployment.json that names it. Default: the wallet's.",
    ),
]
ApiOption = Annotated[
    str, typer.Option("--api", envvar="PROOFBOOK_API", metavar="URL", help="The operator. Default: the wallet's.")
]
WalletOption = Annotated[
    Path, typer.Option("--wallet", envvar="PROOFBOOK_WALLET", metavar="DIR", help="Your wallet's directory.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="Your L1 key: 64 hex digits or an Ethereum keystore. Default: PROOFBOOK_KEY, or the wallet's file.",
    ),
]
AccountOption = Annotated[
    int | None,
    typer.Option("--account", min=0, max=2**ACCOUNT_BITS - 1, help="Account index. Default: the wallet's only one."),
]
DEFAULT_WALLET: Final = Path.home() / ".proofbook"


class WalletFile(msgspec.Struct, forbid_unknown_fields=True):
    """What `wallet.json` holds: one exchange, and one owner's accounts there.

    Attributes
    ----------
    rpc, api, contract : str
        Where the exchange is.
    chain_id, first_block : int
        Its chain, and a block not after its deployment.
    key_file : str
        Where the L1 key is; empty if it came from the environment.
    accounts : list of int
        Account indices.
    key_numbers : dict
        Which trading key an account has, by index; 0, its first, where it says nothing.
    """

    rpc: str = ""
    api: str = ""
    contract: str = ""
    chain_id: int = 0
    first_block: int = 0
    key_file: str = ""
    accounts: list[int] = []
    key_numbers: dict[int, int] = {}


def load_wallet(directory: Path) -> WalletFile:
    """Return a wallet, an empty one if there is none; `CliError` (``wallet``) for a damaged one."""
    path = directory / WALLET_FILE
    if not path.exists():
        return WalletFile()
    try:
        return msgspec.json.decode(read_limited(path), type=WalletFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CliError(
            "wallet", f"{path} is damaged: {str(error)[:500]}", "mend it, or choose another --wallet"
        ) from error


def save_wallet(directory: Path, wallet: WalletFile) -> None:
    """Write a wallet in one step."""
    directory.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=directory)
    with os.fdopen(handle, "wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(wallet)) + b"\n")
    os.replace(name, directory / WALLET_FILE)


def read_limited(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Return a file's bytes; `CliError` (``file``) if it can't be read or is too large."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise CliError("file", f"{path} can't be read: {error.strerror}", "check the path") from error
    if len(data) > limit:
        raise CliError("file", f"{path} has more than {limit} bytes", "that is not the file that is wanted")
    return data


def read_deployment(path: Path) -> tuple[str, int]:
    """Return the contract and its block out of a deployment.json; `CliError` (``deployment``, ``file``)."""
    try:
        found: Any = json.loads(read_limited(path))
        contract, block = found["contract"], found.get("block", 0)
        if not isinstance(contract, str) or type(block) is not int or not 0 <= block < 1 << 64:
            raise ValueError("no address, or no block")
        return contract, block
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CliError("deployment", f"{path} names no contract", "`proofbook deploy` writes such a file") from error


def connect(rpc: str) -> Web3:
    """Return a connection to a node; `CliError` (``rpc``) when it does not answer."""
    w3 = Web3(CarefulProvider(rpc, request_kwargs={"timeout": RPC_TIMEOUT_S}))
    if not w3.is_connected():
        raise CliError("rpc", f"no node answers at {rpc[:200]}", "check --rpc or PROOFBOOK_RPC")
    return w3


def need_key(key_file: Path | None, fallback: str = "") -> LocalAccount:
    """Return the L1 key of a file, ``PROOFBOOK_KEY`` or the fallback file; `KeyRefused` if there is none."""
    account = load_key(key_file) or (load_key(Path(fallback)) if fallback else None)
    if account is None:
        raise KeyRefused("no L1 key was given", "name its file by --key-file, or set PROOFBOOK_KEY")
    _warn_of_readers(key_file or Path(fallback))
    return account


def _warn_of_readers(path: Path) -> None:
    """Say loudly that others can read a key; it is used all the same, since it may be needed to leave."""
    with contextlib.suppress(OSError):
        if path.is_file() and path.stat().st_mode & 0o077:
            warn(f"{path} can be read by others on this machine: chmod 600 {path}")


class Session:
    """One command's view of the exchange; everything is looked up when it is first needed.

    Parameters
    ----------
    wallet : Path
        Directory.
    rpc, contract, api : str
        Options; empty takes the wallet's.
    key_file : Path, optional
        Option.
    account : int, optional
        Option.
    """

    def __init__(
        self,
        wallet: Path,
        rpc: str = "",
        contract: str = "",
        api: str = "",
        key_file: Path | None = None,
        account: int | None = None,
    ) -> None:
        self.directory = wallet.expanduser()
        self.wallet = load_wallet(self.directory)
        self._contract, self._key_file, self._account = contract, key_file, account
        self.rpc = rpc or self.wallet.rpc or DEFAULT_RPC
        self.api_url = api or self.wallet.api or DEFAULT_API

    # --- the exchange

    @cached_property
    def contract(self) -> str:
        """The contract's address, lower case; `CliError` (``no_contract``) if nothing names one."""
        return f"0x{parse_address(self._place[0]):040x}"

    @cached_property
    def first_block(self) -> int:
        """A block not after the deployment."""
        return self._place[1]

    @cached_property
    def _place(self) -> tuple[str, int]:
        if self._contract and not self._contract.startswith("0x"):
            return read_deployment(Path(self._contract).expanduser())
        if self._contract:
            return self._contract, 0
        if self.wallet.contract:
            return self.wallet.contract, self.wallet.first_block
        raise CliError("no_contract", "no exchange was named", "give --contract or set PROOFBOOK_CONTRACT")

    @cached_property
    def w3(self) -> Web3:
        """A connection to L1."""
        return connect(self.rpc)

    @cached_property
    def exchange(self) -> Exchange:
        """The contract, without a sender."""
        return Exchange(self.w3, self.contract)

    @cached_property
    def signed_exchange(self) -> Exchange:
        """The contract, sending by the L1 key."""
        return Exchange(self.w3, self.contract, self.key, chain_id=self.known_chain_id)

    # --- the trader

    @cached_property
    def key(self) -> LocalAccount:
        """The L1 key; `KeyRefused` if there is none."""
        return need_key(self._key_file, self.wallet.key_file)

    @cached_property
    def key_path(self) -> str:
        """Where the L1 key is, empty if it came from the environment."""
        if self._key_file is not None:
            return str(self._key_file.expanduser().resolve())
        return "" if os.environ.get("PROOFBOOK_KEY") else self.wallet.key_file

    @cached_property
    def trader(self) -> Trader:
        """The account's trading key, derived from the L1 key."""
        return self.get_trader(self.wallet.key_numbers.get(self.account, 0))

    def get_trader(self, number: int) -> Trader:
        """Return one of the L1 key's trading keys on this exchange."""
        return Trader.from_l1(self.key, self.chain_id, self.contract, number)

    @cached_property
    def known_chain_id(self) -> int:
        """The exchange's chain as the environment names it or the wallet knows it, 0 if neither does."""
        return chain_from_environment() or (self.wallet.chain_id if self.wallet.contract == self.contract else 0)

    @cached_property
    def chain_id(self) -> int:
        """The exchange's chain: as it is known, else as the node says."""
        return self.known_chain_id or int(self.w3.eth.chain_id)

    @cached_property
    def account(self) -> int:
        """The account index; `CliError` (``no_account``) if it has to be said which."""
        if self._account is not None:
            return self._account
        accounts = self.wallet.accounts
        if len(accounts) == 1:
            return accounts[0]
        if not accounts:
            raise CliError("no_account", "this wallet has no account", "open one with `proofbook account new`")
        raise CliError("no_account", f"this wallet has accounts {accounts}", "say which one by --account")

    # --- the operator

    @cached_property
    def api(self) -> ApiClient:
        """The operator."""
        return ApiClient(self.api_url)

    @cached_property
    def info(self) -> ExchangeInfo:
        """What the operator says of the exchange; `CliError` (``other_exchange``) if it runs another."""
        info = self.api.info()
        known = self._contract or self.wallet.contract
        if known and parse_address(info.contract) != parse_address(self.contract):
            raise CliError(
                "other_exchange",
                f"the operator runs {info.contract}, not {self.contract}",
                "check --api and --contract",
            )
        return info

    def wait_for_operator(self, seconds: float) -> None:
        """Wait until the operator answers; `ApiUnreachable` if it does not in time."""
        until = time.monotonic() + seconds
        told = False
        while True:
            try:
                self.api.health()
                return
            except ApiUnreachable:
                if time.monotonic() >= until:
                    raise
            if not told:
                say(f"waiting for the operator at {self.api_url}")
                told = True
            time.sleep(POLL_S)

    # --- exit artifacts

    @property
    def exit_directory(self) -> Path:
        """Where the exit circuit's files are kept."""
        return self.directory / "exit"

    def ensure_exit_artifacts(self, source: Path | None = None, wait: float = 0) -> ExitArtifacts:
        """Have the exit circuit's files in the wallet, checked against the contract's hashes (M25).

        Parameters
        ----------
        source : Path, optional
            Folder to copy them from; without it they are fetched from the operator when they are not there.
        wait : float
            Seconds to wait for an operator that does not answer yet.

        Raises
        ------
        ArtifactsMissing, ArtifactsMismatch
            When they can't be had: then no money should go in.
        ClientError
            When the operator does not give them.
        """
        config = self.exchange.config()
        if source is not None:
            save_exit_artifacts(source, self.exit_directory)
            return check_exit_artifacts(self.exit_directory, config)
        try:
            return check_exit_artifacts(self.exit_directory, config)
        except (ArtifactsMissing, ArtifactsMismatch):
            self.wait_for_operator(wait)
            say("fetching the exit circuit's files from the operator")
            self.api.download_exit("zkey", self.exit_directory / ZKEY)
            self.api.download_exit("wasm", self.exit_directory / WASM)
        return check_exit_artifacts(self.exit_directory, config)
