"""The largest batch, from its source to the contract: ``python -m proofbook.bench.big_batch``.

Compiles the circuit of the mainnet preset's last size, makes its keys, fills a batch with orders, new accounts and a
deposit, proves it and commits it to a contract on a local chain. What is there already is used; its time is then null.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from proofbook.bench.batches import PRESET, Chain, count_traders, get_sizes
from proofbook.bench.measure import MIB, Json, get_folder, write_json
from proofbook.chain.anvil import Anvil
from proofbook.operator.native import use_native
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.transition import apply
from proofbook.prover.artifacts import build as build_artifacts
from proofbook.prover.compile import compile_circuit
from proofbook.prover.sizes import batch_circuit
from proofbook.prover.workspace import Progress
from proofbook.sim.stage import build_keys


def make_keys(name: str, progress: Progress) -> Json:
    """Compile a circuit and make its keys; returns seconds, and the compiler's peak memory."""
    stages: list[str] = []

    def note(stage: str, share: float | None) -> None:
        stages.append(stage)
        progress(stage, share)

    started = time.perf_counter()
    compiled = compile_circuit(name, note)
    compiled_at = time.perf_counter()
    did_compile = bool(stages)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    stages.clear()
    artifacts = build_artifacts(name, note)
    return {
        "circuit": name,
        "constraints": compiled.info.nonlinear,
        "compile_s": compiled_at - started if did_compile else None,
        "compile_mib": memory if did_compile else None,
        "setup_s": time.perf_counter() - compiled_at if stages else None,
        "key_mib": artifacts.zkey.stat().st_size / MIB,
    }


def settle(work: Path, progress: Progress) -> Json:
    """Fill the largest batch and have the contract take it; returns its figures.

    Raises
    ------
    ProofbookError
        From any step: what the contract refuses is an error.
    """
    sizes = get_sizes()
    size = sizes[-1]
    traders = count_traders(size.actions)
    keys = build_keys(progress, PRESET)
    with Anvil() as anvil:
        chain = Chain(anvil, keys, work, traders, progress)
        # Rows are left for the fee account and for whom the requests open an account.
        served = chain.ask(min(size.requests, size.accounts - traders) - 1)
        progress("the batch: witness and proof", None)
        before = chain.state
        built, figures = chain.trade(size.actions, served)
        on_chain = chain.stage.exchange().state_root()
        if on_chain != built.page.header.new_root:
            raise RuntimeError("the contract's root is not the batch's")
        touched = apply(before, built.page, built.signed, size).touched
    return {"requests": len(built.page.requests), "accounts": len(touched), **figures}


def main() -> int:
    """Do it all, print the figures and write them to ``big_batch.json``."""
    use_native()
    console, shown = Console(), [""]

    def progress(stage: str, share: float | None) -> None:
        if shown[-1] != stage:
            shown.append(stage)
            console.print(f"[dim]{stage}[/dim]", highlight=False)

    try:
        made = make_keys(batch_circuit(PRESET, len(get_sizes()) - 1), progress)
        with tempfile.TemporaryDirectory(prefix="proofbook-") as folder:
            figures = write_json(
                get_folder(), "big_batch", {"preset": PRESET, **made, **settle(Path(folder), progress)}
            )
    except ProofbookError as error:
        console.print(f"{error.code}: {error}", style="red", highlight=False)
        return 1
    for name, value in figures.items():
        console.print(f"{name:28} {value}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
