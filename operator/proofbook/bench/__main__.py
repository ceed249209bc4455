"""``python -m proofbook.bench``: measure, print, write ``build/bench/SUBJECT.json``; ``make bench`` does all of it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from proofbook.bench import admission, circuits, matching, pipeline, proving, recovery
from proofbook.bench.measure import Json, get_folder, write_json
from proofbook.bench.show import draw_growth, show
from proofbook.operator.native import use_native
from proofbook.protocol.errors import ProofbookError
from proofbook.prover.workspace import Progress

FLOW_VARIABLE: Final = "PROOFBOOK_FLOW"
"""Environment variable naming a LOBSTER message file, plain or .gz."""


Subjects = dict[str, Callable[[], dict[str, Json]]]


def make_subjects(folder: Path, args: argparse.Namespace, progress: Progress) -> Subjects:
    """Return for each subject what measures it; the proofs come with the chain they are made for."""
    events = args.events

    def chain() -> dict[str, Json]:
        on_chain, proofs = proving.run(folder, progress)
        return {"chain": on_chain, "prover": proofs}

    return {
        "matching": lambda: {"matching": matching.run(min(events, 200_000), args.flow)},
        "recovery": lambda: {"recovery": recovery.run([max(events // 100, 1), max(events // 10, 2), max(events, 3)])},
        "circuits": lambda: {"circuits": circuits.run(progress)},
        "chain": chain,
        "admission": lambda: {"admission": admission.run(folder, args.orders, progress)},
        "pipeline": lambda: {"pipeline": pipeline.run(folder, args.batches, progress)},
    }


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m proofbook.bench", description="Measure Proofbook on this machine.")
    known = ("matching", "recovery", "circuits", "chain", "admission", "pipeline")
    parser.add_argument("subjects", nargs="*", choices=[*known, []], help="what to measure; all if none is named")
    named = os.environ.get(FLOW_VARIABLE)
    parser.add_argument("--flow", type=Path, default=Path(named) if named else None, help="a LOBSTER message file")
    parser.add_argument("--events", type=int, default=1_000_000, help="commands in the journal that is recovered")
    parser.add_argument("--orders", type=int, default=10_000, help="orders sent by HTTP")
    parser.add_argument("--batches", type=int, default=5, help="batches settled end to end, for each way of proving")
    parser.add_argument("--plot", type=Path, help="where the plot goes; default growth.svg beside the figures")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Measure the subjects named, each in this process one after the other."""
    args, console, folder = parse(argv), Console(), get_folder()
    use_native()
    shown: list[str] = []

    def progress(stage: str, share: float | None) -> None:
        if not shown or shown[-1] != stage:
            shown.append(stage)
            console.print(f"[dim]{stage}[/dim]", highlight=False)

    subjects = make_subjects(folder, args, progress)
    found: dict[str, Any] = {}
    try:
        for name in args.subjects or subjects:
            progress(f"measuring: {name}", None)
            for subject, figures in subjects[name]().items():
                found[subject] = write_json(folder, subject, figures)
                show(console, subject, found[subject])
    except ProofbookError as error:
        console.print(f"{error.code}: {error}", style="red", highlight=False)
        return 1
    if {"prover", "chain", "recovery"} & set(found):
        (args.plot or folder / "growth.svg").write_text(draw_growth(found), encoding="utf-8")
    console.print(f"figures: {folder}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
