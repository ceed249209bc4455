"""`watch`: operator, deadlines, money and proofs, watched for a trader."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from eth_account.signers.local import LocalAccount

from proofbook.cli.leaving import ArtifactsOption, OwnerOption
from proofbook.cli.output import JsonFlag, say
from proofbook.cli.session import DEFAULT_WALLET, ContractOption, KeyOption, RpcOption, Session, WalletOption
from proofbook.escape import watching
from proofbook.escape.cli import Say
from proofbook.escape.errors import KeyRefused
from proofbook.escape.watch import Limits

MAX_SECONDS: Final = 10**9


def _key(session: Session, is_needed: bool) -> LocalAccount | None:
    """Return the L1 key; without one, and without need, the exchange alone is watched."""
    try:
        return session.key
    except KeyRefused:
        if is_needed:
            raise
        return None


def watch(
    once: Annotated[bool, typer.Option("--once", help="Look once: 0 all is well, 3 warnings, 4 critical.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.05, max=86400, metavar="S", help="Seconds between two looks.")
    ] = 30.0,
    webhook: Annotated[str, typer.Option("--webhook", metavar="URL", help="Post every change there, as JSON.")] = "",
    escape: Annotated[bool, typer.Option("--escape", help="Leave by itself when it has to be; needs the key.")] = False,
    confirm: Annotated[
        int, typer.Option("--confirm", min=1, max=1000, metavar="N", help="Looks in a row that must say so.")
    ] = 2,
    quiet: Annotated[
        int | None, typer.Option("--quiet", min=0, max=MAX_SECONDS, help="No batch for S seconds: a warning.")
    ] = None,
    gone: Annotated[
        int | None, typer.Option("--gone", min=0, max=MAX_SECONDS, help="No batch for S seconds: critical.")
    ] = None,
    deadline: Annotated[
        int | None, typer.Option("--deadline", min=0, max=MAX_SECONDS, help="Warn S seconds before a deadline.")
    ] = None,
    grace: Annotated[int, typer.Option("--grace", min=0, max=MAX_SECONDS, help="A node may fail for S seconds.")] = 300,
    stale: Annotated[
        int, typer.Option("--stale", min=0, max=MAX_SECONDS, help="The latest block may be S seconds old.")
    ] = 900,
    proofs_from: Annotated[
        int, typer.Option("--proofs-from", min=0, max=2**62, metavar="N", help="First batch whose proof is checked.")
    ] = 0,
    build: Annotated[
        bool, typer.Option("--build/--no-build", help="Compile the contract, to compare its code.")
    ] = True,
    owner: OwnerOption = "",
    wallet: WalletOption = DEFAULT_WALLET,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key_file: KeyOption = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Watch operator, deadlines, money and every proof; alert, and leave by itself where asked to.

    Nothing of the operator's is needed or believed. More in docs/escaping.md.
    """
    session = Session(wallet, rpc, contract, key_file=key_file)
    place = watching.Place(
        [session.rpc],
        session.contract,
        _key(session, escape),
        owner,
        artifacts or session.exit_directory,
        session.first_block,
        session.directory / "cache",
        session.known_chain_id,
    )
    limits = Limits(quiet, gone, deadline, grace, stale)
    options = watching.WatchOptions(once, interval, limits, webhook, escape, confirm, proofs_from, build)
    code = watching.watch(place, options, as_json, Say(say), typer.echo)
    if code:
        raise typer.Exit(code)
