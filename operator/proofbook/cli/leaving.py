"""`escape`: out of an exchange with a node, the contract's address and the L1 key alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from proofbook.cli.output import Json, JsonFlag, emit, say
from proofbook.cli.session import DEFAULT_WALLET, ContractOption, KeyOption, RpcOption, Session, WalletOption
from proofbook.escape import cli as steps
from proofbook.escape.session import Escape
from proofbook.protocol.table import ACCOUNT_BITS, TOKEN_BITS

escape = typer.Typer(
    no_args_is_help=True,
    help="Leave without the operator: request, freeze, exit, reclaim, claim. `escape run` does whatever comes next.",
)

OwnerOption = Annotated[
    str, typer.Option("--owner", metavar="ADDRESS", help="Whose money. Default: the key's address.")
]
ArtifactsOption = Annotated[
    Path | None,
    typer.Option("--artifacts", metavar="DIR", help="Where the exit circuit's files are. Default: the wallet's."),
]
IndexOption = Annotated[int, typer.Option("--account", min=0, max=2**ACCOUNT_BITS - 1, help="Account index.")]
TokenOption = Annotated[int, typer.Option("--token", min=1, max=2**TOKEN_BITS - 1, help="Token id; 1 is ETH.")]


def _escape(session: Session, artifacts: Path | None = None, need_key: bool = True) -> Escape:
    folder = artifacts or session.exit_directory
    key = session.key if need_key else None
    cache = session.directory / "cache"
    which = (session.rpc, session.contract, key, folder, session.first_block)
    return Escape(*which, steps.Say(say), cache, chain_id=session.known_chain_id)


def _emit(answer: Json, as_json: bool) -> None:
    def show(console: Console) -> None:
        console.print(steps.describe(answer), markup=False)

    emit(answer, as_json, show)


@escape.command("status")
def status(
    owner: OwnerOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what an address owns, rebuilt from the chain, and its next step out."""
    session = Session(wallet, rpc, contract, key_file=key_file)
    _emit(steps.status(_escape(session, need_key=not owner), owner or None), as_json)


@escape.command("run")
def run(
    owner: OwnerOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    artifacts: ArtifactsOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the deadline too, until all is claimed.")] = False,
    poll: Annotated[
        float, typer.Option("--poll", min=0.05, max=86400, metavar="S", help="Seconds between two looks.")
    ] = steps.DEFAULT_POLL_S,
    as_json: JsonFlag = False,
) -> None:
    """Take every step that can be taken now; run it again later to go on, or have it `--wait`."""
    session = Session(wallet, rpc, contract, key_file=key_file)
    on_step = steps.step_lines(as_json and wait)
    _emit(steps.run(_escape(session, artifacts), owner or None, wait, poll, on_step, say), as_json)


@escape.command("request")
def request(
    account: IndexOption,
    token: TokenOption,
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """File a forced exit of all that an account holds of a token; the operator must serve it in time."""
    session = Session(wallet, rpc, contract, key_file=key_file)
    _emit(_escape(session).request(account, token).as_json(), as_json)


@escape.command("freeze")
def freeze(
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Freeze the exchange when the oldest request's deadline has passed."""
    _emit(_escape(Session(wallet, rpc, contract, key_file=key_file)).freeze().as_json(), as_json)


@escape.command("exit")
def exit_(
    account: IndexOption,
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """When frozen: prove what an account holds and turn it into its owner's claims."""
    session = Session(wallet, rpc, contract, key_file=key_file)
    _emit(_escape(session, artifacts).exit(account).as_json(), as_json)


@escape.command("reclaim")
def reclaim(
    id_: Annotated[int, typer.Option("--id", min=0, max=2**63 - 1, help="The request's id, of `escape status`.")],
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """When frozen: take an unserved request's money and fee back."""
    _emit(_escape(Session(wallet, rpc, contract, key_file=key_file)).reclaim(id_).as_json(), as_json)


@escape.command("claim")
def claim(
    token: TokenOption,
    owner: OwnerOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Have a claim paid out to its owner."""
    session = Session(wallet, rpc, contract, key_file=key_file)
    _emit(_escape(session).claim(token, owner or None).as_json(), as_json)
