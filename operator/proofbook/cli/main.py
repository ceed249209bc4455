"""The command `proofbook`: everything put together."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from proofbook.cli import accounts, checking, circuits, leaving, operating, trading, watching
from proofbook.cli.output import JsonFlag, ProofbookGroup, Steps, emit

app = typer.Typer(
    name="proofbook",
    cls=ProofbookGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Proofbook: an exchange whose every batch is proven. Signed orders in, one proof a batch, money out.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"proofbook {version('proofbook')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Proofbook: an exchange whose every batch is proven. Signed orders in, one proof a batch, money out."""


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where its files go.")] = Path("build/demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of the simulated traders.")] = 1,
    flow: Annotated[
        Path | None, typer.Option("--flow", metavar="FILE", help="Replay a LOBSTER message file instead.")
    ] = None,
    orders: Annotated[int, typer.Option("--orders", min=10, max=5000, help="Signed orders, about.")] = 300,
    as_json: JsonFlag = False,
) -> None:
    """Run a whole exchange on a local chain, from the first deposit to the last escape without its operator."""
    # Imported here: no other command should pay for loading the simulation.
    from proofbook.sim.demo import run

    summary = run(out, seed, flow, orders, as_json, Steps())
    if as_json:
        emit(summary, True, lambda console: None)


app.command("setup")(circuits.setup)
app.command("circuits")(circuits.circuits)
app.add_typer(circuits.ceremony, name="ceremony")
app.command("deploy")(operating.deploy)
app.add_typer(operating.operator, name="operator")
app.add_typer(operating.token, name="token")
app.add_typer(accounts.account, name="account")
app.command("deposit")(accounts.deposit)
app.add_typer(trading.order, name="order")
app.command("cancel")(trading.cancel)
app.command("book")(trading.book)
app.command("withdraw")(trading.withdraw)
app.command("transfer")(trading.transfer)
app.command("claim")(accounts.claim)
app.command("balance")(accounts.balance)
app.add_typer(checking.batch, name="batch")
app.command("verify")(checking.verify)
app.add_typer(leaving.escape, name="escape")
app.command("watch")(watching.watch)


def main() -> None:
    """Run the command line and exit."""
    app()


if __name__ == "__main__":
    main()
