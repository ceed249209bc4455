"""The contract under attack: random lives against a model, and mutants to show that the driver can see."""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from proofbook.prover.process import locked
from proofbook.prover.workspace import default_workspace

HERE = Path(__file__).resolve().parent
LONG = os.environ.get("PROOFBOOK_LONG") == "1"
SHARDS = 5
CALLS_OF_CI = 5_000
CALLS = 100_000 if LONG else CALLS_OF_CI
"""Calls of the exchange in all shards together."""
SEED = int(os.environ.get("PROOFBOOK_SEED", "0"))
"""Where the seeds of the lives start: a run with the same seed does the same calls."""


def load(module: str) -> Any:
    """Import a module of the folder ``attack``, which is no package for pytest."""
    if "contract_attack" not in sys.modules:
        package = types.ModuleType("contract_attack")
        package.__path__ = [str(HERE / "attack")]
        sys.modules["contract_attack"] = package
    return importlib.import_module(f"contract_attack.{module}")


driver, mutants = load("driver"), load("mutants")
MUST_BE_SEEN = {
    "IsFrozen", "NotFrozen", "NotOwner", "NotOperator", "OperatorNotPlainAccount", "NotAccountOwner", "ZeroAddress",
    "UnknownToken", "TokenExists", "TokenHasNoCode", "QuantumZero", "AmountZero", "TokenCapExceeded",
    "OutstandingExceeded", "ReceivedMismatch", "NothingToClaim", "EthTransferFailed", "PlainTransferRefused",
    "UnknownFunction", "TreeFull", "KeyOutOfRange", "KeyRequestPending", "NotWholeGwei", "ValueTooLow",
    "RequestMismatch", "UnknownSize", "TimestampBeforePrevious", "TimestampInFuture", "TimestampTooOld",
    "RootOutOfRange", "CommitmentOutOfRange", "TooManyRequests", "TooManyActions", "TooManyFees", "RaggedRows",
    "UnknownActionType", "UnknownAccount", "BadOutcome", "InvalidProof", "CalldataNotCanonical", "DeadlineNotPassed",
    "NothingQueued", "IndexBeyondTree", "AlreadyExited", "PositionsOutOfRange", "ReentrancyGuardReentrantCall",
    "SafeERC20FailedOperation",
}  # fmt: skip
"""All errors but those of the constructor and TooManyTokens, which takes 65,535 tokens."""


RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
"""The same in all workers: a report of another run is begun anew."""


def report(kind: str, name: str, entry: Any) -> dict[str, Any]:
    """Put a shard's or a control's entry into build/test/contracts.json, sum the shards up and return it all."""
    path = default_workspace().build / "test" / "contracts.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), lambda: None):
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            found = {}
        found = found if found.get("run") == RUN else {}
        found = {k: dict(found.get(k, {})) for k in ("parts", "controls")}
        found[kind][name] = entry
        totals: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for part in found["parts"].values():
            totals.update({k: v for k, v in part.items() if isinstance(v, int)})
            refused.update(part["refused"])
        never = sorted(MUST_BE_SEEN - set(refused))
        whole = {"run": RUN, "long": LONG, **totals, "refused": dict(sorted(refused.items())), "never": never, **found}
        path.write_text(json.dumps(whole, indent=1) + "\n")
    return whole


@pytest.fixture(scope="module")
def stage():
    with driver.stage() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_whatever_is_called_the_money_is_there_and_everybody_gets_theirs(stage, shard):
    """A violation names its seed and the fewest calls that show it."""
    seeds = range(SEED + shard * 10_000, SEED + (shard + 1) * 10_000)
    tally = driver.drive(stage, seeds, CALLS // SHARDS)
    whole = report(
        "parts",
        f"shard {shard}",
        {
            "calls": tally.calls,
            "lives": tally.lives,
            "refused": dict(sorted(tally.refused.items())),
            "accepted": tally.accepted.total(),
            "called_back": tally.called_back.total(),
            "frozen": tally.frozen,
            "exits": tally.exits,
            "tokens": tally.tokens,
        },
    )
    assert tally.calls >= CALLS // SHARDS
    assert tally.frozen == tally.lives > 0
    assert set(tally.refused) <= MUST_BE_SEEN | {"Stuck", "Broke", "(without data)"}
    missed = MUST_BE_SEEN - set(tally.refused)
    assert len(missed) <= (0 if LONG else len(MUST_BE_SEEN) // 4), f"never met: {sorted(missed)}"
    # Whichever shard is the last sees what all of them have met.
    assert len(whole["parts"]) < SHARDS or whole["never"] == []
    assert tally.called_back["ReentrancyGuardReentrantCall"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [m for m in mutants.MUTANTS if LONG or m.short], ids=lambda m: m.name)
def test_a_missing_check_is_found(mutant):
    """The control: without the check the driver finds a violation, within the calls that it makes in CI."""
    with driver.stage(mutants.mutated(mutant)) as stage, pytest.raises(driver.Violation, match="seed"):
        report("controls", mutant.name, "missed")
        driver.drive(stage, range(SEED, SEED + 10_000), CALLS_OF_CI, shorten=False)
    report("controls", mutant.name, "caught")


@pytest.mark.slow
def test_a_violation_is_shown_in_few_calls():
    """And the same calls show it again."""
    mutant = mutants.MUTANTS[0]
    with driver.stage(mutants.mutated(mutant)) as stage:
        with pytest.raises(driver.Violation, match="([1-9]|1[0-9]) calls are enough") as first:
            driver.drive(stage, [SEED], CALLS_OF_CI)
        with pytest.raises(driver.Violation) as second:
            driver.drive(stage, [SEED], CALLS_OF_CI)
    assert str(first.value).count("Call(") == str(second.value).count("Call(") > 0
