"""Chain and prover together: batches of real orders are committed, and those that fill a circuit are proven again.

``chain.json`` has gas, bytes and the work before the proof; ``prover.json`` the proofs, each backend in a fresh process
on the same witness, with the key in the page cache.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from proofbook.bench.batches import PRESET, Built, Chain, count_traders, get_sizes, order_counts
from proofbook.bench.measure import MIB, Clock, Json, get_machine, slope
from proofbook.chain.anvil import Anvil
from proofbook.prover.artifacts import Artifacts
from proofbook.prover.keys import development_key
from proofbook.prover.r1cs import read_r1cs
from proofbook.prover.workspace import Progress
from proofbook.sim.stage import build_keys

_TIMEOUT_S = 1200


def prove_fresh(artifacts: Artifacts, backend: str, wtns: Path) -> Json:
    """Prove in a new process; `subprocess.CalledProcessError` when it fails."""
    command = [sys.executable, "-m", "proofbook.bench.prove_once", artifacts.name, backend, str(wtns)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_TIMEOUT_S)
    found: Json = json.loads(done.stdout)
    return found


def measure_setup(artifacts: Artifacts, work: Path) -> float:
    """Make a circuit's development key once more, and return the seconds."""
    zkey = work / "again.zkey"
    with Clock() as clock:
        development_key(artifacts.r1cs, zkey, lambda stage, share: None)
    zkey.unlink()
    return clock.wall_s


def measure_proofs(artifacts: Artifacts, built: Built) -> Json:
    """Return one row of ``prover.json``."""
    artifacts.zkey.read_bytes()  # a warm page cache for all of them
    native, snarkjs = (prove_fresh(artifacts, name, built.wtns) for name in ("native", "snarkjs"))
    orders = len(built.page.actions)
    return {
        "circuit": artifacts.name,
        "actions": orders,
        "constraints": read_r1cs(artifacts.r1cs).nonlinear,
        "setup_s": measure_setup(artifacts, built.wtns.parent),
        "witness_s": built.witness_s,
        "native_s": native["first_s"],
        "native_warm_s": native["warm_s"],
        "native_key_s": native["key_s"],
        "native_steps_s": native["steps_s"],
        "snarkjs_s": snarkjs["first_s"],
        "native_anon_mib": native["anon_mib"],
        "key_mib": artifacts.zkey.stat().st_size / MIB,
        "snarkjs_s_per_native_s": snarkjs["first_s"] / native["first_s"],
        "native_orders_per_s_and_core": orders / native["warm_s"] / get_machine()["cores"],
    }


def run(folder: Path, progress: Progress) -> tuple[Json, Json]:
    """Return the figures of ``chain.json`` and ``prover.json``."""
    work = folder / "proving"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    counts, keys = order_counts(get_sizes()), build_keys(progress, PRESET)
    rows: list[Json] = []
    full: list[Built] = []
    with Anvil() as anvil:
        chain = Chain(anvil, keys, work, max(map(count_traders, counts)), progress)
        for count in counts:
            progress(f"chain: a batch of {count} orders", None)
            built, figures = chain.trade(count)
            rows.append(figures)
            if count == get_sizes()[built.size_id].actions:
                full.append(built)
    proofs = []
    for built in full:
        progress(f"prover: {len(built.page.actions)} actions", None)
        proofs.append(measure_proofs(keys.batch[built.size_id], built))
    shutil.rmtree(work, ignore_errors=True)
    further = slope([row["orders"] for row in rows], [row["gas"] for row in rows])
    return {"preset": PRESET, "rows": rows, "gas_per_further_order": further}, {"preset": PRESET, "rows": proofs}
