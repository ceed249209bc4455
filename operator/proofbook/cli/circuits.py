"""`setup`, `circuits` and `ceremony`: circuits compiled, keys made, constraints counted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from proofbook.cli.output import CliError, Json, JsonFlag, Steps, emit, lines, table, warn
from proofbook.protocol.table import PRESETS, SIZES
from proofbook.prover.artifacts import Artifacts, build_all
from proofbook.prover.keys import ceremony_contribute
from proofbook.prover.r1cs import read_r1cs
from proofbook.prover.registry import load_circuits
from proofbook.prover.report import check_budgets, circuit_report
from proofbook.prover.setup import install_ceremony, setup_ceremony, start_ceremony, verify_ceremony
from proofbook.prover.sizes import batch_circuit, exit_circuit
from proofbook.prover.workspace import default_workspace

DEVELOPMENT_WARNING: Final = (
    "These are DEVELOPMENT keys: whoever made them could forge proofs. They are for trying things out, never for money."
)
PresetOption = Annotated[str, typer.Option("--preset", help="minimal (64 accounts) or mainnet (16 million).")]
SizesOption = Annotated[
    int | None,
    typer.Option("--sizes", min=1, help="Only so many batch sizes, smallest first. Default: all of the preset's."),
]
PtauOption = Annotated[
    Path | None, typer.Option("--ptau", metavar="FILE", help="Powers of tau of a real ceremony, prepared for phase 2.")
]
NeededPtau = Annotated[
    Path, typer.Option("--ptau", metavar="FILE", help="The powers of tau that the ceremony started from.")
]
CheckPtau = Annotated[
    bool, typer.Option("--check-ptau/--no-check-ptau", help="Verify the powers of tau too, which takes long.")
]
CircuitName = Annotated[str, typer.Argument(metavar="CIRCUIT", help="Its name in `proofbook circuits`.")]

ceremony = typer.Typer(no_args_is_help=True, help="Keys from a ceremony, step by step (production).")


def preset_circuits(preset: str, sizes: int | None) -> list[str]:
    """Return the circuits that a deployment needs: its batch sizes, then the exit.

    Raises
    ------
    CliError
        ``preset`` for a preset or number of sizes that there is not.
    """
    if preset not in PRESETS:
        raise CliError("preset", f"there is no preset {preset[:40]!r}", f"the presets are {', '.join(PRESETS)}")
    offered = len(SIZES[preset])
    if sizes is not None and sizes > offered:
        raise CliError("preset", f"preset {preset} has {offered} batch sizes", f"--sizes at most {offered}")
    return [*(batch_circuit(preset, k) for k in range(sizes or offered)), exit_circuit(preset)]


def setup(
    preset: PresetOption = "minimal",
    sizes: SizesOption = None,
    ceremony_: Annotated[
        bool, typer.Option("--ceremony", help="Keys from the powers of tau instead of development keys.")
    ] = False,
    ptau: PtauOption = None,
    contributor: Annotated[
        list[str] | None, typer.Option("--contributor", help="With --ceremony: a contribution's name; repeatable.")
    ] = None,
    check_ptau: CheckPtau = True,
    as_json: JsonFlag = False,
) -> None:
    """Compile a preset's circuits and make their keys; what is there already is used."""
    names = preset_circuits(preset, sizes)
    steps = Steps()
    if not ceremony_:
        made = build_all(names, steps)
    elif ptau is None:
        raise CliError("no_ptau", "a ceremony starts from powers of tau", "name the file by --ptau")
    else:
        made = [
            setup_ceremony(name, ptau, contributor or ["this machine"], None, steps, check_ptau=check_ptau and not k)
            for k, name in enumerate(names)
        ]
    rows = [_row(artifacts) for artifacts in made]

    def show(console: Console) -> None:
        columns = ("circuit", "constraints", "keys", "sha256 of the proving key")
        shown = [(r["name"], f"{r['constraints']:,}", r["kind"], r["zkey_sha256"][:16] + "…") for r in rows]
        table(console, f"Preset {preset}", columns, shown)
        console.print("Next: `proofbook deploy`.")

    emit({"preset": preset, "circuits": rows}, as_json, show)
    if any(row["kind"] == "development" for row in rows):
        warn(DEVELOPMENT_WARNING)


def _row(artifacts: Artifacts) -> Json:
    manifest = artifacts.manifest
    return {
        "name": artifacts.name,
        "kind": manifest.kind,
        "constraints": read_r1cs(artifacts.r1cs).nonlinear,
        "circuit_hash": manifest.circuit_hash,
        "zkey_sha256": manifest.zkey_sha256,
        "wasm_sha256": manifest.wasm_sha256,
        "directory": str(artifacts.dir),
    }


def circuits(
    large: Annotated[bool, typer.Option("--large", help="The large ones too: compiling takes minutes.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Count every circuit's constraints, and what one more row of each kind costs; compiles what is missing."""
    report = circuit_report(load_circuits(default_workspace()) if large else None, Steps())

    def show(console: Console) -> None:
        columns = ("circuit", "constraints", "budget", "requests", "actions", "accounts")
        rows = [
            (r["name"], f"{r['constraints']:,}", f"{r['budget']:,}", r["requests"], r["actions"], r["accounts"])
            for r in report["circuits"]
        ]
        table(console, "Circuits", columns, rows)
        slopes = [
            (preset, f"{s['per_action']:,}", f"{s['per_account']:,}", f"{s['per_request']:,}")
            for preset, s in report["slopes"].items()
        ]
        table(console, "Constraints of one more", ("preset", "action", "account", "request"), slopes)

    emit({**report}, as_json, show)
    check_budgets(report)


# --- ceremonies


@ceremony.command("start")
def start(name: CircuitName, ptau: NeededPtau, as_json: JsonFlag = False) -> None:
    """Make a circuit's first key, to hand to the first contributor."""
    key = start_ceremony(name, ptau, Steps())
    _say_key({"circuit": name, "zkey": str(key)}, as_json, "Hand it to the first contributor: `ceremony contribute`.")


@ceremony.command("contribute")
def contribute(
    key: Annotated[Path, typer.Argument(metavar="ZKEY", help="The key so far.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the key with your contribution goes.")],
    name: Annotated[str, typer.Option("--name", help="Your name, which everybody will see.")],
    as_json: JsonFlag = False,
) -> None:
    """Add your secret randomness to a key, and forget it."""
    if out.exists():
        raise CliError("exists", f"{out} exists", "choose another name")
    Steps()(f"contributing to {key.name}")
    ceremony_contribute(key, out, name, default_workspace())
    _say_key({"zkey": str(out), "name": name}, as_json, "Hand it on, or end with `ceremony install`.")


@ceremony.command("install")
def install(
    name: CircuitName,
    key: Annotated[Path, typer.Argument(metavar="ZKEY", help="The ceremony's last key.")],
    ptau: NeededPtau,
    check_ptau: CheckPtau = True,
    as_json: JsonFlag = False,
) -> None:
    """Verify a ceremony's last key and use it from now on."""
    row = _row(install_ceremony(name, key, ptau, Steps(), check_ptau=check_ptau))
    emit(row, as_json, lambda console: lines(console, row))


@ceremony.command("verify")
def verify(
    ptau: NeededPtau,
    preset: PresetOption = "mainnet",
    sizes: SizesOption = None,
    check_ptau: CheckPtau = True,
    as_json: JsonFlag = False,
) -> None:
    """Verify the keys in use against circuits and powers of tau, contribution by contribution."""
    steps = Steps()
    accounts = {
        name: verify_ceremony(name, ptau, steps, check_ptau=check_ptau and not k)
        for k, name in enumerate(preset_circuits(preset, sizes))
    }

    def show(console: Console) -> None:
        for name, account in accounts.items():
            console.print(f"[bold]{name}[/bold]")
            console.print(account, markup=False)

    emit({"preset": preset, "verified": accounts}, as_json, show)


def _say_key(answer: Json, as_json: bool, then: str) -> None:
    def show(console: Console) -> None:
        lines(console, answer)
        console.print(then)

    emit(answer, as_json, show)
