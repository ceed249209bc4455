"""`batch` and `verify`: what was settled, and whether all of it is true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from proofbook.cli.output import CliError, Json, JsonFlag, emit, lines, say, table, warn
from proofbook.cli.session import (
    DEFAULT_WALLET,
    ApiOption,
    ContractOption,
    RpcOption,
    Session,
    WalletOption,
    read_limited,
)
from proofbook.client.http import ApiClient
from proofbook.verifier.cli import DEVELOPMENT_WARNING
from proofbook.verifier.cli import describe as describe_report
from proofbook.verifier.report import verify_exchange

batch = typer.Typer(no_args_is_help=True, help="Batches: what was settled by one proof each.")

FirstBlockOption = Annotated[
    int | None, typer.Option("--first-block", min=0, help="Block of the deployment, or earlier.")
]
MAX_TOKEN_BYTES: Final = 256
_COLUMNS = ("number", "state", "orders", "trades", "requests", "witness_s", "prove_s", "gas")


def _table(console: Console, title: str, batches: list[dict[str, Any]]) -> None:
    rows = [[_short(found.get(name, "")) for name in _COLUMNS] for found in batches]
    table(console, title, _COLUMNS, rows)


def _short(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


@batch.command("list")
def list_batches(
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most so many.")] = 20,
    wallet: WalletOption = DEFAULT_WALLET,
    api: ApiOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List the newest batches, newest first."""
    batches = Session(wallet, api=api).api.batches(limit)
    emit({"batches": batches}, as_json, lambda console: _table(console, "Batches", batches))


@batch.command("show")
def show_batch(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=2**62 - 1, help="The first one is 1.")],
    wallet: WalletOption = DEFAULT_WALLET,
    api: ApiOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Show a batch and how far it is."""
    found = Session(wallet, api=api).api.batch(number)
    emit(found, as_json, lambda console: lines(console, found))


@batch.command("settle")
def settle(
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is on the chain.")] = True,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="The operator's api.token, where it has one.")
    ] = None,
    wallet: WalletOption = DEFAULT_WALLET,
    api: ApiOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Settle everything pending now, instead of at the next interval; from the operator's machine."""
    session = Session(wallet, api=api)
    token = _read_token(token_file) if token_file is not None else ""
    say("settling: witness, proof, transaction" if wait else "settling begins")
    with ApiClient(session.api_url, token) as operator:
        batches = operator.flush(wait)
    emit({"batches": batches}, as_json, lambda console: _table(console, "Settled", batches))


def _read_token(path: Path) -> str:
    token = read_limited(path, MAX_TOKEN_BYTES).strip()
    if not token.isascii() or not token.decode("ascii").isprintable():
        raise CliError("file", f"{path} holds no token", "it is the api.token of the operator's directory")
    return token.decode("ascii")


def verify(
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    first_block: FirstBlockOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check an exchange over JSON-RPC alone: code, keys, history, proofs, money.

    Nothing of the operator's is needed or believed. The exit code is 1 if anything is wrong.
    """
    session = Session(wallet, rpc, contract)
    start = session.first_block if first_block is None else first_block
    report = verify_exchange(session.rpc, session.contract, say, start)
    answer: Json = report.as_json()
    emit(answer, as_json, lambda console: console.print(describe_report(report), markup=False))
    for problem in report.problems:
        warn(f"PROBLEM {problem}")
    if report.has_development_keys:
        warn(DEVELOPMENT_WARNING)
    if not report.ok:
        raise typer.Exit(1)
