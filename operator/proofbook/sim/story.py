"""Telling people what happens, while it happens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proofbook.sim.stage import TOKENS


def whole(amount: int, symbol: str, places: int = 4) -> str:
    """Return base units as whole tokens, cut off after some places."""
    decimals = next(token.decimals for token in TOKENS if token.symbol == symbol)
    sign, amount = ("-" if amount < 0 else ""), abs(amount)
    units, rest = divmod(amount, 10**decimals)
    fraction = str(rest).rjust(decimals, "0")[:places].rstrip("0")
    return f"{sign}{units:,}" + (f".{fraction}" if fraction else "")


def several(amounts: dict[str, int]) -> str:
    """Return amounts in base units by symbol as one text, without zeros."""
    told = [f"{whole(amount, symbol)} {symbol}" for symbol, amount in amounts.items() if amount]
    return ", ".join(told) or "nothing"


class Story:
    """Prints the account of a demonstration: on stdout, or on stderr where stdout is for the machine's eyes."""

    def __init__(self, to_stderr: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=to_stderr, highlight=False, soft_wrap=False)
        self._chapter = 0
        self._started = time.monotonic()

    def chapter(self, title: str) -> None:
        """Begin a new section, headed by the minutes and seconds so far."""
        self._chapter += 1
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        self._console.print()
        self._console.rule(f"[bold]{self._chapter}. {escape(title)}[/bold]  {minutes}:{seconds:02}", align="left")

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(f"  {escape(text)}", soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table; columns but the first are aligned to the right."""
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for k, column in enumerate(columns):
            table.add_column(column, justify="left" if k == 0 else "right", header_style="bold", no_wrap=True)
        for row in rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        self._console.print(table)

    def batches(self, batches: Sequence[dict[str, Any]]) -> None:
        """Print the table of batches, as the summary has them."""
        fields = {
            "batch": "number",
            "reqs": "requests",
            "acts": "actions",
            "orders": "orders",
            "trades": "trades",
            "accts": "accounts",
            "constraints": "constraints",
            "bytes": "data_bytes",
            "gas": "gas",
        }
        self.table(
            [*fields, "witness", "proof"],
            (
                [*(f"{b[name]:,}" for name in fields.values()), f"{b['witness_s']:.1f} s", f"{b['prove_s']:.1f} s"]
                for b in batches
            ),
        )

    def people(self, rows: Iterable[tuple[str, dict[str, int], dict[str, int]]]) -> None:
        """Print what everybody brought and took along, in whole tokens."""
        symbols = [token.symbol for token in TOKENS]
        columns = ["who", *(f"{way} {s}" for way in ("in", "out") for s in symbols)]
        self.table(
            columns,
            (
                [name, *(whole(a.get(s, 0), s) for a in (brought, took) for s in symbols)]
                for name, brought, took in rows
            ),
        )
