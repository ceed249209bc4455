"""The contract with one check taken out: the driver must notice each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proofbook.chain import compile as solidity
from proofbook.chain.compile import Artifact


@dataclass(frozen=True)
class Mutant:
    """A change of the sources; every text must stand exactly once in its file."""

    name: str
    file: str
    old: str
    new: str = ""
    short: bool = False


NEVER: Final = "if (false)"
LIVE_BATCH: Final = ") external nonReentrant whenLive {\n        _checkOperator"
RECLAIM: Final = "request) external nonReentrant whenFrozen"
FEES: Final = "_credit(operator, uint16"
SUM: Final = "uint256(t.outstanding) + t.claims + amount"
OWNER: Final = "accounts[q.account].owner"
ORIGIN: Final = "msg.sender != tx.origin || msg.sender.code.length != 0"
CANONICAL: Final = "if (!ok) revert CalldataNotCanonical"
LAG: Final = "uint256(timestamp) + maxLag < block.timestamp"
LOCKED_DEPOSIT: Final = """nonReentrant
        whenLive
        onlyAccountOwner(index)
    {
        _checkToken"""
OUT: Final = "q.token, q.outcome"
CALLER: Final = "if (msg.sender != operator) revert NotOperator(msg.sender);"
TO_BATCHES: Final = f"{CALLER}\n        // solhint"
TO_ROTATE: Final = f"{CALLER}\n        if (to =="
EXITS: Final = "external nonReentrant whenFrozen {\n        if (index"
EXIT_CAP: Final = "kind == Constants.KIND_EXIT ? exitFeeCap : feeCap"
MUTANTS: Final = (
    Mutant("outstanding is not lowered", "Custody", "        t.outstanding -= amount;\n", short=True),
    Mutant("an exit is not marked", "Escape", "        account.exited = true;\n", short=True),
    Mutant("the deadline is not awaited", "Escape", "if (block.timestamp <= oldest.deadline)", NEVER, short=True),
    Mutant("only half the claim is forgotten", "Custody", "delete claims[to][token];", "claims[to][token] /= 2;"),
    Mutant("the last second freezes", "Escape", "block.timestamp <= oldest", "block.timestamp < oldest"),
    Mutant("a request stays queued", "RequestQueue", "        delete requestHash[id];\n"),
    Mutant("an exit names any owner", "Escape", "|| owner_ != account.owner) revert", ") revert"),
    Mutant("what arrives is not counted", "Custody", "if (received != expected)", NEVER),
    Mutant("claim has no lock", "Custody", "claim(uint16 token) external nonReentrant", "claim(uint16 token) external"),
    Mutant("a batch needs no proof", "Settlement", "if (!Groth16.verify(key, inputs, proof))", NEVER),
    Mutant("an exit needs no proof", "Escape", "if (!Groth16.verify(exitKey, inputs, proof))", NEVER),
    Mutant("time runs backwards", "Settlement", "if (timestamp < lastTimestamp)", NEVER),
    Mutant("batches go on after the freeze", "Settlement", LIVE_BATCH, LIVE_BATCH.replace(" whenLive", "")),
    Mutant("the living reclaim", "Escape", RECLAIM, RECLAIM.replace(" whenFrozen", "")),
    Mutant("more than 64 bits come in", "Custody", f"if ({SUM} > type(uint64).max)", NEVER),
    Mutant("the operator's fees go to account 0", "Settlement", FEES, FEES.replace("operator", "accounts[0].owner")),
    Mutant("a fee is not outstanding", "RequestQueue", "        _raise(uint16(Constants.ETH_TOKEN), q.fee);\n"),
    Mutant("a batch has its predecessor's number", "Settlement", "number: batchNumber + 1", "number: batchNumber"),
    Mutant("a forced exit pays the operator", "Settlement", f"_credit({OWNER}, {OUT})", f"_credit(operator, {OUT})"),
    Mutant("deadlines add up", "RequestQueue", "soonest > spaced ? soonest : spaced", "soonest + requestSpacing"),
    Mutant("tokens are anybody's to add", "Custody", "if (msg.sender != owner)", NEVER),
    Mutant("the operator may be a contract", "Settlement", f"if ({ORIGIN})", NEVER),
    Mutant("trailing data is taken", "Settlement", CANONICAL, CANONICAL.replace("!ok", "false")),
    Mutant("a batch of the last second in time is refused", "Settlement", LAG, LAG.replace("<", "<=")),
    Mutant("a batch of this second is refused", "Settlement", "if (timestamp > block.", "if (timestamp >= block."),
    Mutant("batches are anybody's to commit", "Settlement", TO_BATCHES, "// solhint"),
    Mutant("the operator's role is anybody's to give", "Settlement", TO_ROTATE, "if (to =="),
    Mutant("accounts are anybody's", "RequestQueue", "if (accounts[index].owner != msg.sender)", NEVER),
    Mutant("two keys may wait", "RequestQueue", "if (accounts[index].keyPending)", NEVER),
    Mutant("a withdrawal of nobody's account", "Settlement", "if (to == address(0)) revert Unk", f"{NEVER} revert Unk"),
    Mutant("a deposit has any outcome", "Settlement", "if (q.outcome > 1)", NEVER),
    Mutant("an opening has an outcome", "Settlement", "if (q.outcome != 0)", NEVER),
    Mutant("more goes out than there is", "Custody", "if (amount > t.outstanding)", NEVER),
    Mutant("an exit is beyond the tree", "Escape", "if (index >= treeSize())", NEVER),
    Mutant("the living exit", "Escape", EXITS, EXITS.replace(" whenFrozen", "")),
    Mutant("a forced exit costs what others do", "RequestQueue", EXIT_CAP, "feeCap"),
    Mutant("deposits have no lock", "RequestQueue", LOCKED_DEPOSIT, LOCKED_DEPOSIT.removeprefix("nonReentrant")),
)  # fmt: skip


def mutated(mutant: Mutant) -> Artifact:
    """Compile a mutant; like every contract, once for each state of the sources."""
    unit = "src/Proofbook.sol"
    sources = solidity._closure(unit)
    at = f"src/{mutant.file}.sol"
    assert sources[at].count(mutant.old) == 1, f"{mutant.name}: the text to change must stand in {at} once"
    sources = {**sources, at: sources[at].replace(mutant.old, mutant.new)}
    source_hash = solidity._hash_sources(sources)
    c = solidity._compiled(source_hash, unit, sources)["Proofbook"]
    code, deployed = bytes.fromhex(c["bytecode"]), bytes.fromhex(c["deployed"])
    return Artifact("Proofbook", c["abi"], code, deployed, tuple(map(tuple, c["immutables"])), source_hash)
