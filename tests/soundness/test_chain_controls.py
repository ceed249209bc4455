"""The traps whose check is the contract's: in a copy without it one statement's proof passes for another's.

The keys are ones whose secrets are known to the tests, so that the real pairing judges whatever is to be said; the
forger of a degenerate key does without the secrets, as anybody could.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from py_ecc.optimized_bn128 import FQ, G1, add, multiply, neg, normalize  # type: ignore[attr-defined]

from proofbook.chain import compile as chain_compile
from proofbook.chain.anvil import Anvil
from proofbook.chain.deploy import deploy_contract
from proofbook.chain.errors import ContractRevert
from proofbook.chain.proofs import Q
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.field import R
from proofbook.protocol.messages import challenge, keccak256
from proofbook.protocol.sponge import horner
from proofbook.protocol.table import CHALLENGE_TAG, ActionType
from proofbook.protocol.words import ActionRow, actions_calldata, page_words

CONTRACTS = Path(__file__).resolve().parents[1] / "contracts" / "conftest.py"
INPUTS = "if (inputs[i] >= Constants.R) return (false, 0, 0);"
DEGENERATE = "degenerate := or(degenerate, eq(keccak256(add(words, 192), 64), keccak256(add(words, 320), 64)))"
ROOT = "if (newRoot >= Constants.R) revert RootOutOfRange(newRoot);"
HASH = "hash := keccak256(add(d, 32), mul(mload(d), 32))"
ROOTLESS = f"let root := mload(add(d, 128)) mstore(add(d, 128), 0) {HASH} mstore(add(d, 128), root)"
KEYS = "if (pubX >= Constants.R || pubY >= Constants.R) revert KeyOutOfRange();"


@pytest.fixture(scope="module")
def chain() -> Any:
    """Return the helpers of `tests/contracts`."""
    name = "soundness_tests_chain"
    spec = importlib.util.spec_from_file_location(name, CONTRACTS)
    assert spec is not None and spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    with Anvil() as running:
        yield running


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that has the contracts compiled without a line, or with another, from now on."""
    read = chain_compile._read

    def take_out(unit: str, line: str, put: str = "") -> None:
        def edited(name: str) -> str:
            text = read(name)
            if name != unit:
                return text
            assert text.count(line) == 1, (unit, line)
            return text.replace(line, put)

        monkeypatch.setattr(chain_compile, "_read", edited)

    return take_out


def verifier(anvil: Anvil, key: bytes) -> Any:
    made = deploy_contract(anvil.w3, anvil.w3.eth.accounts[0], "Groth16Harness", key, 3)
    return lambda inputs, proof: made.contract.functions.verify(inputs, proof).call()


def test_public_inputs_at_or_above_r(anvil: Anvil, chain: Any, without: Any, report: Any) -> None:
    """The same proof for x and x + r: two statements on chain."""
    trapdoor = chain.Trapdoor(3, 7)
    proof = trapdoor.prove([1, 2, 3])
    real = verifier(anvil, trapdoor.key())
    assert real([1, 2, 3], proof)
    refused = not any(real([1 + R * (k == 0), 2 + R * (k == 1), 3 + R * (k == 2)], proof) for k in range(3))
    without("src/Groth16.sol", INPUTS)
    survives = verifier(anvil, trapdoor.key())([1 + R, 2, 3], proof)
    report("controls", {"name": "M17 public inputs at or above r on chain", "caught": refused and survives})
    assert refused and survives


@pytest.mark.parametrize("sign", [1, -1])
def test_gamma_equal_to_delta(sign: int, anvil: Anvil, chain: Any, without: Any, report: Any) -> None:
    """Whoever has seen one proof makes one of anything: what the inputs add at gamma, C takes away at delta."""
    trapdoor = chain.Trapdoor(3, 8)
    trapdoor.delta = sign * trapdoor.gamma % R
    words = trapdoor.key_words()
    gamma = words[6:10]
    words[10:14] = gamma if sign > 0 else [*gamma[:2], Q - gamma[2], Q - gamma[3]]
    key = chain.words_bytes(words)
    seen, wanted = [1, 2, 3], [4, 5, 10**30]
    proof = trapdoor.prove(seen)
    moved = multiply(G1, 0)
    for k, (old, new) in enumerate(zip(seen, wanted, strict=True)):
        at = 14 + 2 * (k + 1)
        point = (FQ(words[at]), FQ(words[at + 1]), FQ(1))
        moved = add(moved, multiply(point, (old - new) % R))
    c = add((FQ(proof[6]), FQ(proof[7]), FQ(1)), moved if sign > 0 else neg(moved))
    forged = [*proof[:6], *(int(value.n) for value in normalize(c))]
    with pytest.raises(ContractRevert) as refused:
        verifier(anvil, key)
    assert refused.value.name == "VerifyingKeyDegenerate"
    without("src/Groth16.sol", DEGENERATE)
    survives = verifier(anvil, key)(wanted, forged)
    name = "gamma equal to delta in a key" if sign > 0 else "gamma equal to -delta in a key"
    report("controls", {"name": name, "caught": survives})
    assert survives


def keys_of(chain: Any) -> tuple[Any, Any]:
    return [chain.Trapdoor(3, 1), chain.Trapdoor(3, 2)], chain.Trapdoor(9, 3)


@pytest.mark.slow
def test_m16_a_word_left_out_of_keccak(anvil: Anvil, chain: Any, without: Any, report: Any) -> None:
    """Were the new root outside the hash, it would be chosen so that words nobody proved come out as proven ones."""

    def steal(world: Any) -> int:
        """Publish a withdrawal that the proven page does not have; return what its owner may claim then."""
        world.by("alice").open(7, 8)
        amount = int(world.exchange.tokens()[0].outstanding)
        proven = page_words(world.page(new_root=12), world.sizes[0])
        row = ActionRow(int(ActionType.WITHDRAW), 0, 1, 1, ex_base=amount)
        page = world.page(actions=[row], new_root=12)
        said = page_words(page, world.sizes[0])
        z = challenge(world.chain_id, world.address, 0, [*said[:3], 0, *said[4:]], 5)
        y = horner(proven, z)
        root = (said[3] + (y - horner(said, z)) * pow(z, -3, R)) % R
        proof = world.batch_keys[0].prove([5, z, y])
        world.exchange.commit(0, page.header.timestamp, root, [], actions_calldata(page.actions), b"", 5, proof)
        return int(world.contract.functions.claims(world.fee_owner, 1).call())

    with pytest.raises(ContractRevert) as refused:
        steal(chain.World(anvil, *keys_of(chain)))
    assert refused.value.name == "InvalidProof"
    without("src/Page.sol", HASH, ROOTLESS)
    survives = steal(chain.World(anvil, *keys_of(chain))) > 0
    report("controls", {"name": "M16 a word left out of keccak", "caught": survives})
    assert survives


@pytest.mark.slow
def test_m20_a_request_that_no_page_can_hold(anvil: Anvil, chain: Any, without: Any, report: Any) -> None:
    """A key of no field elements would stay queued until anybody may freeze the exchange."""

    def halted(world: Any) -> bool:
        world.by("alice").open(R, 8)
        opened, bad = world.queue()
        world.commit([(opened, 0)])
        with pytest.raises(ProofbookError) as unprovable:
            page_words(world.page([(bad, 0)]), world.sizes[0])
        assert unprovable.value.code == "invalid_value"
        world.freeze()
        return bool(world.exchange.is_frozen())

    with pytest.raises(ContractRevert) as refused:
        halted(chain.World(anvil, *keys_of(chain)))
    assert refused.value.name == "KeyOutOfRange"
    without("src/RequestQueue.sol", KEYS)
    survives = halted(chain.World(anvil, *keys_of(chain)))
    report("controls", {"name": "M20 a request that no page can hold", "caught": survives})
    assert survives


@pytest.mark.slow
def test_words_at_or_above_r(anvil: Anvil, chain: Any, without: Any, report: Any) -> None:
    """The new root as x + r: a batch that proves, and a root on chain that no tree has."""
    keys = keys_of(chain)
    root = 12 + R

    def commit(world: Any) -> int:
        page = world.page(new_root=12)
        words = page_words(page, world.sizes[0])
        words[3] = root
        # As `messages.challenge`, which takes no such word.
        packed = keccak256(b"".join(word.to_bytes(32, "big") for word in words))
        parts = [world.chain_id, int(world.address, 16), 0, int.from_bytes(packed, "big"), 5]
        data = keccak256(CHALLENGE_TAG.encode()) + b"".join(part.to_bytes(32, "big") for part in parts)
        z = int.from_bytes(keccak256(data), "big") % R
        proof = world.batch_keys[0].prove([5, z, horner([word % R for word in words], z)])
        world.exchange.commit(0, page.header.timestamp, root, [], b"", b"", 5, proof)
        return int(world.exchange.state_root())

    with pytest.raises(ContractRevert) as refused:
        commit(chain.World(anvil, *keys))
    assert refused.value.name == "RootOutOfRange"
    without("src/Settlement.sol", ROOT)
    survives = commit(chain.World(anvil, *keys)) == root
    report("controls", {"name": "M17 words of D at or above r", "caught": survives})
    assert survives
