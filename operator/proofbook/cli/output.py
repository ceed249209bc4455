"""What the commands print: one JSON object or a text for people on stdout, progress and warnings on stderr.

Errors are one line and how to mend it, with exit code 1, or 2 for wrong usage; `--debug` adds a traceback.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Final

import typer
from requests.exceptions import RequestException
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup
from web3.exceptions import Web3Exception

from proofbook.protocol.errors import InvalidValue, ProofbookError
from proofbook.protocol.printable import printable

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Json = dict[str, Any]
_QUIET_S: Final = 2.0
_PIPE_WIDTH: Final = 160
_MAX_MESSAGE: Final = 2000


class CliError(ProofbookError):
    """A command that can't be carried out.

    Attributes
    ----------
    code, message, hint : str
        Stable name, what happened, how to mend it.
    """

    # One class for what only the commands refuse: programs read the code.
    code: ClassVar[str] = "cli"

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code  # type: ignore[misc]
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


# --- answers


def emit(answer: Json, as_json: bool, show: Callable[[Console], None]) -> None:
    """Print a command's answer: the object itself, or what `show` makes of it for people."""
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        # What is read through a pipe is not cut to some terminal's width.
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        show(Console(file=sys.stdout, highlight=False, soft_wrap=True, width=width))


def lines(console: Console, rows: dict[str, Any]) -> None:
    """Print names and values in two columns."""
    width = max((len(name) for name in rows), default=0)
    for name, value in rows.items():
        console.print(f"[dim]{escape(name.ljust(width))}[/dim]  {escape(printable(_plain(value)))}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; a word in place of one without rows."""
    if not rows:
        console.print(f"[dim]{escape(printable(title))}: none[/dim]")
        return
    names = [escape(printable(name)) for name in columns]
    made = Table(*names, title=escape(printable(title)), title_justify="left", title_style="bold")
    for row in rows:
        made.add_row(*(escape(printable(str(cell))) for cell in row))
    console.print(made)


# --- progress


def say(text: str) -> None:
    """Tell people something on stderr."""
    typer.echo(printable(text), err=True)


def warn(text: str) -> None:
    """Tell people something loudly on stderr."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(f"[bold red]{escape(text)}[/bold red]")


class Steps:
    """Progress of long work on stderr, a line when the stage changes or some seconds have passed."""

    def __init__(self) -> None:
        self._stage, self._due = "", 0.0

    def __call__(self, stage: str, share: float | None = None) -> None:
        """Tell a stage and the share done, None where unknown."""
        now = time.monotonic()
        if stage == self._stage and now < self._due:
            return
        self._stage, self._due = stage, now + _QUIET_S
        say(stage if share is None else f"{stage}: {100 * share:.0f} %")


# --- errors


def describe_error(error: BaseException) -> Json:
    """Return an error's code, message, hint and, where it has them, the values concerned."""
    if isinstance(error, InvalidValue):
        return {
            "code": error.code,
            "message": f"{error.field}: {error.value!r}: {error.reason}",
            "hint": f"check {error.field}",
        }
    if isinstance(error, ProofbookError):
        message, hint = str(getattr(error, "message", error)), str(getattr(error, "hint", ""))
        told: Json = {"code": error.code, "message": message[:_MAX_MESSAGE], "hint": hint}
        details = getattr(error, "details", None)
        return told | {"data": details} if details else told
    if isinstance(error, RequestException | Web3Exception):
        hint = "is the node running, and is its address right (--rpc or PROOFBOOK_RPC)?"
        return {"code": "rpc", "message": f"the node does not answer: {_one_line(error)}", "hint": hint}
    if isinstance(error, OSError):
        return {"code": "io", "message": _one_line(error), "hint": ""}
    hint = "a bug: `proofbook --debug ...` shows where"
    return {"code": "internal", "message": f"{type(error).__name__}: {_one_line(error)}", "hint": hint}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


def _fail(told: Json, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"error": told}))
    hint = f" ({told['hint']})" if told["hint"] else ""
    typer.echo(printable(f"proofbook: {told['message']}{hint}"), err=True)


class ProofbookGroup(TyperGroup):
    """The whole command line: what it raises becomes one line, or with ``--json`` one object."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit with 0, 1 when it failed, 2 for wrong usage."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
        except Exception as error:
            code = _explain(error, "--json" in words, "--debug" in words)
        sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception, as_json: bool, debug: bool) -> int:
    """Print an error and return the exit code."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, typer.Abort):
        _fail({"code": "aborted", "message": "broken off", "hint": ""}, as_json)
        return 1
    # typer brings its own click along; its errors are known by what they can do.
    usage = getattr(error, "format_message", None)
    if usage is None:
        _fail(describe_error(error), as_json)
        return 1
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return 2
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "proofbook"
    _fail({"code": "usage", "message": _one_line(Exception(usage())), "hint": f"see `{path} --help`"}, as_json)
    return int(getattr(error, "exit_code", 2))
