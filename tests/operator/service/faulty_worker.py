"""The prover worker with faults by plan: what a test wants to go wrong, goes wrong in a real process.

``plan.json`` in the folder named on the command line says for each batch what its attempts do, one after the other;
attempts that it does not name are honest. Everything done is a line of ``events``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from proofbook.operator.prove_worker import Prover, run
from proofbook.prover.errors import ProofError

PATIENCE_S = 120.0


class FaultyProver(Prover):
    def __init__(self, backend, folder):
        super().__init__(backend)
        self.folder = folder

    def note(self, *words):
        with (self.folder / "events").open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def lines(self):
        path = self.folder / "events"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, line):
        until = time.monotonic() + PATIENCE_S
        while line not in self.lines():
            if time.monotonic() > until:
                raise ProofError("proof/failed", f"waited in vain for {line!r}")
            time.sleep(0.02)

    def prove(self, directory, witness):
        number = witness.stem.removeprefix("batch-")
        attempt = sum(line == f"begin {number}" for line in self.lines())
        faults = json.loads((self.folder / "plan.json").read_text()).get(number, [])
        self.note("begin", number)
        fault, _, what = (faults[attempt] if attempt < len(faults) else "honest").partition(":")
        if fault == "wait":
            self.wait_for(what)
        elif fault == "fail":
            raise ProofError("proof/failed", "no memory")
        elif fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "hang":
            time.sleep(3600)
        elif fault == "nonsense":
            os.write(int(os.environ["FAULTY_SINK"]), b'{"id": 1, "stage": "proven", "proof": "none"}\n')
        elif fault == "damage":
            witness.write_bytes(witness.read_bytes()[:-32] + bytes(32))
        proof = super().prove(directory, witness)
        self.note("end", number)
        if fault == "other":
            return replace(proof, public=(*proof.public[:-1], proof.public[-1] ^ 1))
        # Points on the curve, and no proof.
        return replace(proof, pi_a=proof.pi_c) if fault == "wrong" else proof


if __name__ == "__main__":
    # The process writes its answers to a copy of this; nonsense goes there too.
    os.environ["FAULTY_SINK"] = str(os.dup(1))
    run(FaultyProver(sys.argv[1], Path(sys.argv[2])))
