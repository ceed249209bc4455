"""Figures for people: tables of ``build/bench/*.json``, and the plot of how costs grow."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.table import Table

from proofbook.bench.measure import Json
from proofbook.bench.plot import Panel, draw

_WIDE: Final = 5
"""Columns that fit a terminal."""


def format_value(value: Any) -> str:
    """Return a figure as people write it."""
    if isinstance(value, float) and value == int(value):
        value = int(value)
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)


def make_table(title: str, rows: list[Json]) -> Table:
    """Return a table of rows; what is no plain value is left out. With many names, each is a line of its own."""
    names = [name for name in rows[0] if not isinstance(rows[0][name], dict | list) and not name.endswith("_hash")]
    table = Table(title=title, title_justify="left")
    if len(names) > _WIDE:
        table.add_column(names[0].replace("_", " "))
        for row in rows:
            table.add_column(format_value(row[names[0]]), justify="right")
        for name in names[1:]:
            table.add_row(name.replace("_", " "), *(format_value(row.get(name)) for row in rows))
        return table
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(format_value(row.get(name)) for name in names))
    return table


def _peer_rows(row: Json) -> list[Json]:
    rows: list[Json] = [
        {"engine": "proofbook, all of it", "commands_per_cpu_s": row["commands_per_cpu_s"], "fills": row["trades"]}
    ]
    for name, peer in row["peers"].items():
        rows.append(
            {
                "engine": f"{name} {peer['version']}".strip(),
                "commands_per_cpu_s": peer.get("per_cpu_s", peer.get("error")),
                "fills": peer.get("fills"),
                "ours_per_theirs": row["commands_of_ours_per_command_of_theirs"].get(name),
                "our_book_per_theirs": row["commands_of_our_book_per_command_of_theirs"].get(name),
            }
        )
    return [{**dict.fromkeys(rows[-1]), **made} for made in rows]


def show(console: Console, subject: str, document: Json) -> None:
    """Print a subject's figures."""
    rows: list[Json] = document["rows"]
    console.print(make_table(subject, rows))
    if subject == "matching":
        for row in rows:
            console.print(make_table(f"{subject}: latency, {row['flow']} flow", [row["latency"]]))
            console.print(make_table(f"{subject}: {row['flow']} flow on other engines", _peer_rows(row)))
        console.print(make_table("matching by depth", document["depth"]))
    if subject == "prover":
        steps = [{"circuit": row["circuit"], **row["native_steps_s"]} for row in rows]
        console.print(make_table("prover: seconds a step of the native proof", steps))
    if subject == "recovery":
        console.print(make_table("recovery, with batches", [document["with_batches"]]))
    if subject == "circuits":
        console.print(make_table("circuits: constraints a row", [document["constraints"]]))
        console.print(make_table("circuits: constraints a trade", document["trades"]))


def _points(document: Json, x: str, y: str) -> list[tuple[float, float]]:
    return [(row[x], row[y]) for row in document["rows"]]


def draw_growth(found: dict[str, Json]) -> str:
    """Return the plot of those subjects that were measured, as SVG."""
    panels = []
    if proofs := found.get("prover"):
        names = {"snarkjs": "snarkjs_s", "native": "native_s", "witness": "witness_s"}
        lines = {name: _points(proofs, "constraints", key) for name, key in names.items()}
        panels.append(Panel("Proving", "constraints", "seconds", lines))
    if chain := found.get("chain"):
        lines = {
            "gas per order": _points(chain, "orders", "gas_per_order"),
            "bytes per order": _points(chain, "orders", "calldata_bytes_per_order"),
        }
        panels.append(Panel("On the chain", "orders in the batch", "per order", lines))
    if matching := found.get("matching"):
        points = [(row["resting_orders"], row["cpu_us_per_command"]) for row in matching["depth"]]
        panels.append(
            Panel("Matching", "resting orders, each at a price of its own", "us a command", {"engine": points})
        )
    if recovery := found.get("recovery"):
        lines = {"replay": _points(recovery, "commands", "seconds")}
        panels.append(Panel("Recovery", "commands in the journal", "seconds", lines))
    return draw(panels)
