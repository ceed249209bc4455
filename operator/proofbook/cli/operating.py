"""`deploy`, `operator run` and `token`: what the people do who run an exchange."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from web3 import Web3

from proofbook.chain.client import Exchange
from proofbook.cli.circuits import DEVELOPMENT_WARNING, PresetOption, SizesOption
from proofbook.cli.deployment import (
    LOCAL_CHAINS,
    Added,
    Keys,
    Times,
    add_token,
    check_new,
    deploy_exchange,
    load_keys,
    make_settings,
    make_test_token,
    mint_test_token,
    parse_token,
    write_directory,
)
from proofbook.cli.output import CliError, Json, JsonFlag, Steps, emit, lines, say, table, warn
from proofbook.cli.session import (
    DEFAULT_RPC,
    DEFAULT_WALLET,
    ApiOption,
    ContractOption,
    KeyOption,
    RpcOption,
    Session,
    WalletOption,
    connect,
    need_key,
)
from proofbook.cli.tokens import token_of, tokens_of
from proofbook.client.amounts import format_decimal, parse_decimal
from proofbook.client.models import find_token
from proofbook.operator.settings import DEPLOYMENT, Settings

operator = typer.Typer(no_args_is_help=True, help="The operator's service.")
token = typer.Typer(no_args_is_help=True, help="The exchange's tokens.")

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
DirectoryOption = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The operator's directory, made new.")]
CommitterOption = Annotated[
    Path | None,
    typer.Option("--operator-key-file", metavar="FILE", help="L1 key that commits batches. Default: the deployer's."),
]
TokensOption = Annotated[
    list[str] | None,
    typer.Option("--token", metavar="ADDRESS[:QUANTUM]", help="An ERC-20 to trade; repeatable. QUANTUM is for ever."),
]
TestTokensOption = Annotated[
    list[str] | None,
    typer.Option("--test-token", metavar="SYMBOL", help="Deploy an ERC-20 that anybody can mint; repeatable."),
]
WindowOption = Annotated[
    int, typer.Option("--request-window", min=1, help="Seconds the operator has to serve a request.")
]
LagOption = Annotated[
    int, typer.Option("--max-lag", min=1, help="Seconds a batch's time may lie back when it is committed.")
]
BaseFeeOption = Annotated[int, typer.Option("--base-fee", min=0, help="Fee of an L1 request, in gwei.")]
ConfirmationsOption = Annotated[
    int, typer.Option("--confirmations", min=0, max=10_000, help="Blocks before a request is used; 0 only locally.")
]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="Where the operator's API will listen.")]
AllowOption = Annotated[
    bool, typer.Option("--allow-development-keys", help="Deploy development keys on a chain that is not local.")
]


def deploy(
    directory: DirectoryOption = Path("operator"),
    rpc: RpcOption = DEFAULT_RPC,
    key_file: KeyOption = None,
    operator_key_file: CommitterOption = None,
    preset: PresetOption = "minimal",
    sizes: SizesOption = None,
    tokens: TokensOption = None,
    test_tokens: TestTokensOption = None,
    request_window: WindowOption = 3 * 24 * 3600,
    max_lag: LagOption = 24 * 3600,
    base_fee: BaseFeeOption = 100_000,
    confirmations: ConfirmationsOption = 12,
    port: PortOption = 8080,
    allow_development_keys: AllowOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Deploy an exchange and make its operator's directory, with an example market for each token."""
    if not tokens and not test_tokens:
        raise CliError("no_token", "an exchange needs a token besides ETH", "give --token, or --test-token to try it")
    named = [parse_token(text) for text in tokens or []]
    check_new(directory)
    deployer = need_key(key_file)
    committer = need_key(operator_key_file) if operator_key_file else deployer
    w3 = connect(rpc)
    keys = load_keys(preset, sizes, say)
    _check_keys(keys, w3, allow_development_keys)
    say("deploying the contract")
    made = deploy_exchange(w3, deployer, committer.address, keys, Times(request_window, max_lag, base_fee))
    exchange = Exchange(w3, made.address, deployer)
    for symbol in test_tokens or []:
        say(f"deploying test token {symbol}")
        named.append((make_test_token(w3, deployer, symbol), None))
    added = [add_token(exchange, address, quantum) for address, quantum in named]
    settings = make_settings(rpc, made, preset, added, port, confirmations)
    path = write_directory(directory, made, int(w3.eth.chain_id), settings, added, bytes(committer.key))
    _emit_deployment(json.loads(path.read_bytes()), directory, settings, keys, as_json)


def _check_keys(keys: Keys, w3: Web3, allow: bool) -> None:
    """Refuse development keys on a chain whose money may be worth something, unless they were asked for."""
    if keys.development and int(w3.eth.chain_id) not in LOCAL_CHAINS and not allow:
        raise CliError(
            "development_keys", DEVELOPMENT_WARNING, "hold a ceremony, or give --allow-development-keys on a test net"
        )


def _emit_deployment(document: Json, directory: Path, settings: Settings, keys: Keys, as_json: bool) -> None:
    answer: Json = {
        **document,
        "tokens": {name: address for name, address in document["tokens"].items() if name != "ETH"},
        "markets": [market.symbol for market in settings.markets],
        "directory": str(directory),
        "deployment": str(directory / DEPLOYMENT),
        "development_keys": keys.development,
    }

    def show(console: Console) -> None:
        lines(console, answer)
        console.print(f"Look at {directory / 'config.toml'}, then: `proofbook operator run --dir {directory}`.")

    emit(answer, as_json, show)
    if keys.development:
        warn(DEVELOPMENT_WARNING)


@operator.command("run")
def run(
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The operator's directory.")] = Path(
        "operator"
    ),
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what libraries say as well.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run an operator until Ctrl-C or SIGTERM; it goes on where it stopped."""
    # Imported here: the service is a third of the time that every other command takes to start.
    from proofbook.operator.service import run as run_operator

    logging.basicConfig(stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING, format=LOG_FORMAT)
    logging.getLogger("proofbook").setLevel(logging.INFO)

    def ready(url: str) -> None:
        def show(console: Console) -> None:
            console.print(f"The operator listens at {url}; its API is described at {url}/schema. Ctrl-C ends it.")

        emit({"url": url, "directory": str(directory)}, as_json, show)
        sys.stdout.flush()

    run_operator(directory, ready, Steps())


@operator.command("resubmit")
def resubmit(
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The operator's directory.")] = Path(
        "operator"
    ),
    as_json: JsonFlag = False,
) -> None:
    """Send batches again that a deep reorganisation of L1 took away, with the operator stopped."""
    from proofbook.operator.service import Operator

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    done = asyncio.run(Operator(directory, progress=Steps()).resubmit())
    answer: Json = {"requests": list(done.requests), "batches": list(done.batches)}

    def show(console: Console) -> None:
        lines(console, answer)
        console.print(f"The chain has all that was settled. Start it: `proofbook operator run --dir {directory}`.")

    emit(answer, as_json, show)


@operator.command("status")
def status(
    wallet: WalletOption = DEFAULT_WALLET,
    api: ApiOption = "",
    wait: Annotated[float, typer.Option("--wait", min=0, max=86_400, help="Seconds to wait until it answers.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Tell whether an operator works; the exit code is 1 if it does not."""
    session = Session(wallet, api=api)
    session.wait_for_operator(wait)
    health = session.api.health()
    emit(health, as_json, lambda console: lines(console, health))


# --- tokens


@token.command("list")
def list_tokens(
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List the exchange's tokens and what it holds of each, from L1."""
    exchange = Session(wallet, rpc, contract).exchange
    rows: list[dict[str, Any]] = []
    for info, found in zip(exchange.tokens(), tokens_of(exchange), strict=True):
        step = format_decimal(Fraction(found.quantum, 10**found.decimals))
        row = {"id": info.id, "symbol": found.symbol, "address": info.address, "quantum": str(info.quantum)}
        rows.append(row | {"decimals": found.decimals, "step": step, "vault": str(exchange.vault(info))})

    def show(console: Console) -> None:
        columns = ("id", "symbol", "address", "smallest amount", "held (units)")
        table(console, "Tokens", columns, [(r["id"], r["symbol"], r["address"], r["step"], r["vault"]) for r in rows])

    emit({"tokens": rows}, as_json, show)


@token.command("add")
def add(
    address: Annotated[str, typer.Argument(metavar="ADDRESS[:QUANTUM]", help="An ERC-20, and what is counted in.")],
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Append a token to the exchange, for ever; only its owner can."""
    named, quantum = parse_token(address)
    made: Added = add_token(Session(wallet, rpc, contract, key_file=key_file).signed_exchange, named, quantum)
    answer = {"id": made.id, "symbol": made.symbol, "address": made.address, "quantum": str(made.quantum)}

    def show(console: Console) -> None:
        lines(console, answer)
        console.print("To trade it, add a market to the operator's config.toml and restart the operator.")

    emit(answer, as_json, show)


@token.command("mint")
def mint(
    symbol: Annotated[str, typer.Argument(metavar="TOKEN", help="A test token of the exchange.")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In whole tokens.")],
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give yourself test tokens (of `deploy --test-token`) on L1."""
    session = Session(wallet, rpc, contract, key_file=key_file)
    infos = {info.id: info for info in session.exchange.tokens()}
    found = find_token([token_of(session.w3, info) for info in infos.values()], symbol)
    units = parse_decimal("amount", amount) * 10**found.decimals
    if found.id == 1 or units.denominator != 1:
        raise CliError(
            "token", f"{amount} {found.symbol} can't be minted", "name a test token and a whole number of units"
        )
    owner = session.key
    tx = mint_test_token(session.w3, owner, infos[found.id].address, owner.address, units.numerator)
    answer = {"token": found.symbol, "amount": amount, "to": owner.address, "tx": tx}
    emit(answer, as_json, lambda console: lines(console, answer))
