"""What circuits cost: constraints per kind of row, per batch, and per trade."""

from __future__ import annotations

from proofbook.bench.measure import Json
from proofbook.prover.report import Slopes, circuit_report
from proofbook.prover.sizes import deployment_circuits
from proofbook.prover.workspace import Progress

ORDERS_PER_ACCOUNT = (1, 2, 4)


def per_trade(slopes: Slopes, orders: int) -> float:
    """Return the constraints of a trade's two orders where each account has so many orders in the batch."""
    return 2 * (slopes["per_action"] + slopes["per_account"] / orders)


def run(progress: Progress) -> Json:
    """Return the figures of ``circuits.json``; compiles what is missing."""
    report = circuit_report(deployment_circuits("mainnet"), progress)
    slopes = report["slopes"]["mainnet"]
    trades = [{"orders_per_account": n, "constraints_per_trade": per_trade(slopes, n)} for n in ORDERS_PER_ACCOUNT]
    rows = [
        {
            "circuit": row["name"],
            "constraints": row["constraints"],
            "constraints_per_action": row["constraints"] / row["actions"] if row["actions"] else None,
        }
        for row in report["circuits"]
    ]
    return {"preset": "mainnet", "constraints": dict(slopes), "trades": trades, "rows": rows}
