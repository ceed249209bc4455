"""The whole main job, small: a replayed market next to a simulated one, from the first deposit to the last escape.

What the demonstration says of itself is compared with the chain that it leaves behind, loaded into an anvil anew.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from proofbook.chain.anvil import Anvil, AnvilOptions
from proofbook.chain.client import Exchange
from proofbook.escape.session import Escape
from proofbook.protocol.table import ActionType, RequestKind
from proofbook.sim.demo import run
from proofbook.verifier.contract import read_exchange
from proofbook.verifier.errors import RpcUnavailable
from proofbook.verifier.history import Batch
from proofbook.verifier.report import verify_exchange
from proofbook.verifier.rpc import Rpc
from proofbook.verifier.stream import rebuild

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]

ORDERS = 60
KEYS = [
    "preset",
    "accounts",
    "orders_submitted",
    "trades",
    "batches",
    "root_on_chain",
    "root_rebuilt",
    "withdrawn",
    "accounts_with_balance",
    "escaped_accounts",
    "vault_left",
    "liabilities_left",
    "elapsed_s",
]
BATCH_KEYS = [
    "number",
    "orders",
    "trades",
    "requests",
    "actions",
    "accounts",
    "constraints",
    "witness_s",
    "prove_s",
    "gas",
    "data_bytes",
    "tx",
]
NOTHING = {"ETH": "0", "USD": "0", "STK": "0"}


def write_flow(path: Path) -> Path:
    """Write a message file: quotes around 585.33 dollars, deletions, partial cancels, executions."""
    dice, lines = Random(5), []
    resting: list[tuple[int, int, int]] = []
    for k in range(1, 81):
        kind = dice.choice((1, 1, 2, 3, 4, 4)) if resting else 1
        order, price, side = resting[dice.randrange(len(resting))] if resting else (0, 0, 0)
        if kind == 1:
            side = dice.choice((1, -1))
            order, price = 1000 + k, 5_853_300 - side * 100 * dice.randint(1, 5)
            resting.append((order, price, side))
        lines.append(f"{34_200 + k}.{k:09},{kind},{order},{dice.randint(1, 9)},{price},{side}\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return where a demonstration wrote, and what it returned."""
    folder = tmp_path_factory.mktemp("demo")
    out = folder / "out"
    return out, run(out, seed=7, flow=write_flow(folder / "messages.csv"), orders=ORDERS)


@pytest.fixture(scope="module")
def final(demo):
    """Return the chain it left behind, and the contract's address."""
    out, _ = demo
    with Anvil(AnvilOptions(load_state=out / "chain-final.json")) as anvil:
        yield anvil, json.loads((out / "deployment.json").read_bytes())["contract"]


def test_the_summary_has_its_form(demo):
    out, summary = demo
    assert json.loads((out / "summary.json").read_bytes()) == summary
    assert list(summary) == KEYS
    assert all(list(batch) == BATCH_KEYS for batch in summary["batches"])
    assert summary["preset"] == "minimal" and summary["accounts"] == 8
    deployment = json.loads((out / "deployment.json").read_bytes())
    assert list(deployment) == ["contract", "tokens"] and list(deployment["tokens"]) == list(NOTHING)


def test_everything_came_out_as_it_has_to(demo):
    _, summary = demo
    assert summary["orders_submitted"] >= ORDERS and summary["trades"] >= 5
    batches = summary["batches"]
    assert len(batches) >= 5 and [b["number"] for b in batches] == list(range(1, len(batches) + 1))
    assert sum(b["trades"] for b in batches) == summary["trades"]
    assert all(b["witness_s"] > 0 and b["prove_s"] > 0 and b["constraints"] > 10_000 for b in batches)
    assert summary["root_rebuilt"] == summary["root_on_chain"]
    assert all(int(amount) > 0 for amount in summary["withdrawn"].values())
    assert summary["escaped_accounts"] == summary["accounts_with_balance"] == 8
    assert summary["vault_left"] == summary["liabilities_left"] == NOTHING


def test_the_operator_is_gone_with_all_it_had(demo):
    out, _ = demo
    assert not (out / "operator").exists()
    assert not list(out.rglob("operator.key")) and not list(out.rglob("*.sqlite*"))


def test_the_chain_left_behind_says_the_same(demo, final):
    _, summary = demo
    anvil, contract = final
    exchange = Exchange(anvil.w3, contract)
    assert exchange.is_frozen() and exchange.batch_number() == len(summary["batches"])
    assert str(exchange.state_root()) == summary["root_on_chain"]
    for token in exchange.tokens():
        assert exchange.vault(token) == token.outstanding == token.claims == 0
    for batch in summary["batches"]:
        receipt = anvil.w3.eth.get_transaction_receipt(batch["tx"])
        sent = anvil.w3.eth.get_transaction(batch["tx"])
        assert (receipt["status"], receipt["gasUsed"]) == (1, batch["gas"])
        assert len(sent["input"]) == batch["data_bytes"] and sent["to"] == exchange.address


def test_batches_with_trades_in_both_markets_withdrawals_and_a_forced_exit(final):
    anvil, contract = final
    rpc, batches = Rpc(anvil.url), list[Batch]()
    rebuild(rpc, read_exchange(rpc, contract), on_batch=batches.append)
    actions = [row for batch in batches for row in batch.page.actions]
    markets = {(row.base, row.quote) for row in actions if row.type == ActionType.ORDER and row.ex_base}
    assert markets == {(1, 2), (3, 2)}
    withdrawing = {b.number for b in batches if any(row.type == ActionType.WITHDRAW for row in b.page.actions)}
    exits = [(b.number, r) for b in batches for r in b.page.requests if r.request.kind == RequestKind.EXIT]
    assert withdrawing and len(exits) == 1
    assert exits[0][0] not in withdrawing and exits[0][1].outcome > 0
    assert {row.type for row in actions} >= {ActionType.TRANSFER, ActionType.CANCEL}


def test_before_the_freeze_the_verifier_finds_all_well_and_the_deadline_ahead(demo):
    out, summary = demo
    contract = json.loads((out / "deployment.json").read_bytes())["contract"]
    with Anvil(AnvilOptions(load_state=out / "chain.json")) as anvil:
        report = verify_exchange(anvil.url, contract)
        assert report.problems == () and report.code_matches
        assert report.proofs_checked == report.batches == len(summary["batches"])
        assert str(report.root_rebuilt) == summary["root_rebuilt"]
        assert report.vault == report.liabilities and all(report.vault.values())
        escape = Escape(anvil.url, contract, anvil.w3.eth.accounts[0])
        assert not escape.exchange.frozen and escape.exchange.queued - escape.exchange.served == 2
        oldest = escape.history.requests[escape.exchange.served]
        anvil.increase_time(oldest.deadline + 1 - escape.exchange.time)
        escape.freeze()
        assert escape.exchange.frozen


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_no_process_behind(tmp_path, signum):
    # Tests may run in the background of a shell, where SIGINT is ignored and so are the children's.
    code = (
        "import signal, sys; from pathlib import Path; from proofbook.sim.demo import run;"
        "signal.signal(signal.SIGINT, signal.default_int_handler); run(Path(sys.argv[1]))"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "120"},
    ) as process:
        assert process.stdout is not None
        operator, url = 0, ""
        for line in process.stdout:
            if "chain 31337 at" in line:
                url = line.split(" at ", 1)[1].split(",")[0]
            if "the operator runs as process" in line:
                operator = int(line.split("process", 1)[1].split()[0])
            if "as it should be: admitted" in line:
                break  # in the midst of it: batches are being proven
        chain = Rpc(url)
        assert operator and is_running(operator) and chain.block_number() > 0
        started = time.monotonic()
        os.kill(process.pid, signum)
        process.stdout.read()
        assert process.wait(60) != 0
    assert time.monotonic() - started < 30
    assert not is_running(operator)
    with pytest.raises(RpcUnavailable):
        chain.block_number()
