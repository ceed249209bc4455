"""The operator's directory and its settings.

```
DIRECTORY/config.toml       settings, see `Settings`; written by `proofbook deploy`, edited by people
DIRECTORY/deployment.json   what was deployed: read when config.toml names no contract
DIRECTORY/operator.key      the L1 key that commits batches, 0x and 64 hex digits, for its owner alone (mode 600)
DIRECTORY/api.token         optional: who sends it as a bearer token may flush from elsewhere than this machine
DIRECTORY/journal.sqlite    everything that happened
```
"""

from __future__ import annotations

import json
import logging
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from proofbook.chain.fees import DEFAULT_LIMIT_GWEI, MAX_LIMIT_GWEI
from proofbook.operator.codes import OperatorError
from proofbook.operator.markets import MAX_MARKETS, Market, MarketError, Markets
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.messages import parse_address
from proofbook.protocol.table import ETH_TOKEN, PRESETS, Preset

log = logging.getLogger(__name__)
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_SECRET_BYTES: Final = 256
CONFIG: Final = "config.toml"
DEPLOYMENT: Final = "deployment.json"
KEY: Final = "operator.key"
TOKEN: Final = "api.token"
JOURNAL: Final = "journal.sqlite"
_SECP256K1_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HEX32: Final = re.compile(r"^(0x)?[0-9a-fA-F]{64}\Z")


@dataclass(eq=False)
class SettingsError(OperatorError):
    """Settings, or a file of the operator's directory, are missing, malformed or out of range (code ``settings``).

    Attributes
    ----------
    message : str
        What is wrong.
    hint : str
        How to mend it; may be empty.
    """

    code: ClassVar[str] = "settings"
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def _within(low: int, high: int) -> msgspec.Meta:
    return msgspec.Meta(ge=low, le=high)


class TokenName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people call a token: its id on the contract, a symbol, and the decimals of its smallest unit."""

    id: Annotated[int, _within(1, 65535)]
    symbol: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,32}\Z")]
    decimals: Annotated[int, _within(0, 36)] = 18


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Everything that is set for one operator. All of it is range-checked when it is read.

    Attributes
    ----------
    rpc_url : str
        JSON-RPC of an L1 node, http or https.
    contract : str
        The exchange, 0x and 40 hex digits; empty: from deployment.json.
    preset : str
        ``minimal`` or ``mainnet``.
    markets, tokens : list
        At least one market; names of tokens (ETH is known).
    host, port
        Where the API listens; port 0 takes a free one.
    backend : str
        Prover: ``native``, ``snarkjs``, or ``auto`` for the fastest there is.
    batch_interval_s : float
        Seconds after which what is pending is settled even if it is little.
    min_actions : int
        As soon as so many rows are pending, they are settled.
    max_pending : int
        While so much waits to be settled (trades, requests, withdrawals, ...), only soft cancels are taken, and never
        an order that would make more trades than there is room for. All of it must be provable within MAX_LAG and the
        contract's request window: what waits is settled in its order.
    order_burst, order_rate : int
        An account may send so many orders that do not trade at once, and so many a second in the long run: each stays
        in the journal for ever.
    poll_s : float
        Seconds between looks at L1.
    confirmations : int
        Blocks on top of a block before what it says is used; 0 only where there are no reorganisations.
    max_gas_price_gwei : int
        The most the operator pays for a unit of gas, tip included; a transaction that waits is outbid up to this.
    margin_s : int
        An order is admitted only if it stays valid so many seconds: it must outlive proving and congestion (M22).
    start_block : int
        The contract's block, or any earlier one.
    clock : str
        ``wall``, or ``chain`` for the newest block's time, where a test moves L1's clock.
    prove_attempts, rpc_attempts : int
        Attempts, with growing pauses, before a failure is an error.
    prover_workers : int
        How many batches are proven at once, each in a process of its own.
    prover_threads : int
        Cores each of them uses; 0 shares this machine's cores among them.
    prove_timeout_s : float
        A prover that takes longer is taken for hung, and replaced.
    pipeline_depth : int
        How many batches may be sealed and not yet in a block; 0 for one more than there are workers.
    """

    rpc_url: Annotated[str, msgspec.Meta(pattern=r"^https?://\S{1,2000}\Z")]
    contract: Annotated[str, msgspec.Meta(pattern=r"^(0x[0-9a-fA-F]{40})?\Z")] = ""
    preset: Literal["minimal", "mainnet"] = "mainnet"
    markets: Annotated[list[Market], msgspec.Meta(min_length=1, max_length=MAX_MARKETS)]
    tokens: Annotated[list[TokenName], msgspec.Meta(max_length=65535)] = []
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, _within(0, 65535)] = 8080
    backend: Literal["auto", "native", "snarkjs"] = "auto"
    batch_interval_s: Annotated[float, msgspec.Meta(ge=0.05, le=86_400)] = 60.0
    min_actions: Annotated[int, _within(1, 240)] = 12
    max_pending: Annotated[int, _within(1, 1_000_000)] = 2_000
    order_burst: Annotated[int, _within(1, 10_000_000)] = 20_000
    order_rate: Annotated[int, _within(1, 1_000_000)] = 100
    poll_s: Annotated[float, msgspec.Meta(ge=0.02, le=600)] = 2.0
    confirmations: Annotated[int, _within(0, 10_000)] = 12
    max_gas_price_gwei: Annotated[int, _within(1, MAX_LIMIT_GWEI)] = DEFAULT_LIMIT_GWEI
    margin_s: Annotated[int, _within(0, 30 * 86_400)] = 600
    start_block: Annotated[int, _within(0, 2**62)] = 0
    clock: Literal["wall", "chain"] = "wall"
    prove_attempts: Annotated[int, _within(1, 20)] = 3
    rpc_attempts: Annotated[int, _within(1, 20)] = 6
    prover_workers: Annotated[int, _within(1, 16)] = 1
    prover_threads: Annotated[int, _within(0, 1024)] = 0
    prove_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 1_800.0
    pipeline_depth: Annotated[int, _within(0, 64)] = 0

    def get_depth(self) -> int:
        """Return how many batches may be on their way into a block."""
        return self.pipeline_depth or self.prover_workers + 1

    def get_preset(self) -> Preset:
        """Return the preset's depths."""
        return PRESETS[self.preset]

    def get_markets(self) -> Markets:
        """Return the markets; `SettingsError` when two share a symbol or a pair."""
        try:
            return Markets(self.markets)
        except MarketError as error:
            raise SettingsError(str(error)) from error

    @cached_property
    def _names(self) -> dict[int, TokenName]:
        return {ETH_TOKEN: TokenName(ETH_TOKEN, "ETH")} | {t.id: t for t in self.tokens}

    def get_symbol(self, token: int) -> str:
        """Return what people call a token."""
        name = self._names.get(token)
        return name.symbol if name else f"#{token}"

    def get_decimals(self, token: int) -> int:
        """Return a token's decimals."""
        name = self._names.get(token)
        return name.decimals if name else 18


def parse_settings(text: str) -> Settings:
    """Read settings from TOML.

    Raises
    ------
    SettingsError
        For text that is too long or no TOML, unknown names, values out of range, markets or tokens that clash.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise SettingsError(f"settings longer than {MAX_CONFIG_BYTES} characters")
    try:
        settings = msgspec.convert(tomllib.loads(text), Settings)
    except (msgspec.MsgspecError, ValueError, RecursionError, MarketError) as error:
        # tomllib's own errors are ValueErrors, and so is a number of too many digits.
        raise SettingsError(f"{CONFIG}: {str(error)[:500]}", "see docs/operating.md for every setting") from error
    settings.get_markets()
    for names in ([t.id for t in settings.tokens], [t.symbol for t in settings.tokens]):
        if len(set(names)) < len(names):
            raise SettingsError(f"{CONFIG}: two tokens share an id or a symbol")
    if settings.contract:
        _check_address(settings.contract)
    return settings


def check_times(settings: Settings, max_lag: int, request_window: int) -> None:
    """Hold the operator's pace against what the contract allows for.

    Parameters
    ----------
    settings : Settings
        The operator's.
    max_lag, request_window : int
        The contract's: how old a batch may be, and how long a request may wait; seconds.

    Raises
    ------
    SettingsError
        When batches would be too old, or requests late, though nothing goes wrong.
    """
    interval = settings.batch_interval_s
    most = min(max_lag, request_window // 2)
    if interval > most:
        raise SettingsError(
            f"batch_interval_s is {interval:g}: the contract takes no batch older than {max_lag} s, and a request must "
            f"be served within {request_window} s",
            f"set batch_interval_s to well below {most}",
        )
    if interval + settings.prove_timeout_s > most:
        log.warning(
            "a prover that hangs is given %g s after up to %g s of waiting, and a batch may be %d s late: lower "
            "prove_timeout_s or batch_interval_s",
            settings.prove_timeout_s,
            interval,
            most,
        )


def _check_address(contract: str) -> str:
    try:
        if parse_address(contract) == 0:
            raise SettingsError("the contract's address is 0")
    except InvalidValue as error:
        raise SettingsError(str(error)) from error
    return contract


def load_settings(directory: Path) -> Settings:
    """Read an operator's directory; its contract comes from deployment.json when config.toml names none.

    Raises
    ------
    SettingsError
        As `parse_settings`, or when a file can't be read or no contract is named.
    """
    settings = parse_settings(_read(directory / CONFIG, MAX_CONFIG_BYTES, "make the directory with `proofbook deploy`"))
    if settings.contract:
        return settings
    text = _read(directory / DEPLOYMENT, MAX_CONFIG_BYTES, f"name the contract in {CONFIG}")
    try:
        document: Any = json.loads(text)
        contract = str(document["contract"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(f"{DEPLOYMENT} names no contract", f"name it in {CONFIG}") from error
    return msgspec.structs.replace(settings, contract=_check_address(contract))


def _read(path: Path, limit: int, hint: str) -> str:
    try:
        if path.stat().st_size > limit:
            raise SettingsError(f"{path.name} is longer than {limit} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}", hint) from error


def load_operator_key(directory: Path) -> bytes:
    """Return the 32 bytes of the operator's L1 key.

    Raises
    ------
    SettingsError
        When the file is missing, readable by others, or no key. The message never holds its content.
    """
    path = directory / KEY
    text = _read(path, MAX_SECRET_BYTES, "put the operator's L1 key there").strip()
    if path.stat().st_mode & 0o077:
        raise SettingsError(f"{path} can be read by others", f"chmod 600 {path}")
    if not _HEX32.match(text) or not 0 < int(text, 16) < _SECP256K1_ORDER:
        raise SettingsError(f"{path} holds no key", "0x and 64 hex digits, not 0 and below the order of secp256k1")
    return bytes.fromhex(text.removeprefix("0x"))


def load_api_token(directory: Path) -> str:
    """Return the operator's API token, empty if there is none; `SettingsError` for one shorter than 16 characters."""
    path = directory / TOKEN
    if not path.exists():
        return ""
    token = _read(path, MAX_SECRET_BYTES, "").strip()
    if len(token) < 16 or not token.isascii():
        raise SettingsError(f"{path} must hold at least 16 ASCII characters")
    if path.stat().st_mode & 0o077:
        log.warning("%s can be read by others on this machine: chmod 600 %s", path, path)
    return token


def _toml_value(value: Any) -> str:
    # JSON's strings and numbers are TOML's.
    return json.dumps(value)


def render_settings(settings: Settings) -> str:
    """Return settings as the text of a config.toml; `parse_settings` reads the same back."""
    document: dict[str, Any] = msgspec.to_builtins(settings)
    tables = {name: document.pop(name) for name in ("tokens", "markets")}
    lines = [f"{name} = {_toml_value(value)}" for name, value in document.items()]
    for name, rows in tables.items():
        for row in rows:
            lines += ["", f"[[{name}]]", *(f"{key} = {_toml_value(value)}" for key, value in row.items())]
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")


def create_directory(directory: Path, settings: Settings, operator_key: bytes) -> None:
    """Make an operator's directory: config.toml and operator.key; `SettingsError` if it has either already."""
    for name in (CONFIG, KEY):
        if (directory / name).exists():
            raise SettingsError(f"{directory / name} exists", "choose another directory")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)  # the journal has orders that nobody else has seen
    write_private(directory / KEY, "0x" + operator_key.hex() + "\n")
    (directory / CONFIG).write_text(render_settings(settings), encoding="utf-8")
