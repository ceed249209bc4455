"""Really proven batches and exits, reordered, withheld, replayed, moved and changed byte by byte."""

from __future__ import annotations

import random
from typing import Any

import pytest

from proofbook.chain.compile import contract_artifact
from proofbook.chain.events import batches_since
from proofbook.prover.batch import prove_exit

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2
STALE = {"RequestMismatch", "TimestampBeforePrevious", "InvalidProof"}
"""What is wrong with a batch of the past."""
HEAD = 484
"""Bytes of a commit's selector and head: five words, three offsets among them, and c and the proof."""


class Pool:
    """Batches 5 to 7, proven and not committed, and what is on the chain already.

    Attributes
    ----------
    calls : list of bytes
        Calldata of the commits of all seven batches.
    root : int
        After batch 7.
    exits : list of tuple
        Arguments of real exits: accounts 1 and 2 after batch 7, account 1 after batch 4.
    """

    def __init__(self, settled: Any, attack: Any) -> None:
        self.settled, self.node = settled, attack.node.Node(settled.anvil)
        self.codec = attack.node.Codec(contract_artifact("Proofbook"))
        before = settled.anvil.snapshot()
        was = settled.state, settled.number
        self.exits = [self._exit(1)]
        settled.settle(acts=(settled.withdrawal(1, 7, ETH, 100),))
        settled.settle(acts=(settled.withdrawal(1, 8, ETH, 50),))
        settled.settle(acts=(settled.withdrawal(1, 9, ETH, 25),))
        self.time = self.node.now()
        self.calls, self.root = self._committed(), settled.state.root
        self.exits = [self._exit(1), self._exit(2), *self.exits]
        settled.state, settled.number = was
        settled.anvil.revert(before)

    def _committed(self) -> list[bytes]:
        exchange, w3 = self.settled.by("alice"), self.settled.w3
        events = batches_since(exchange, self.settled.deployment.block, w3.eth.block_number)
        return [bytes(w3.eth.get_transaction(e.place.tx)["input"]) for e in events]

    def _exit(self, index: int) -> tuple[Any, ...]:
        proof, public = prove_exit(self.settled.state, index)
        _, _, owner, tokens, *amounts = public
        return index, f"0x{owner:040x}", tokens, tuple(amounts), tuple(proof.to_solidity())

    def commit(self, number: int, who: str = "", to: str = "") -> str:
        """Put a batch, by its number, before the contract; returns the error's name, "" if it was accepted."""
        return self.send(self.calls[number - 1], who, to)

    def send(self, data: bytes, who: str = "", to: str = "") -> str:
        who, to = who or self.settled.operator, to or self.settled.address
        found = self.refusal(data, who, to)
        receipt = self.node.send(who, to, data)
        assert receipt["status"] == ("0x0" if found else "0x1")
        return found

    def refusal(self, data: bytes, who: str = "", to: str = "") -> str:
        """The name of the error by which a call would be refused, "(no data)" for the compiler's own."""
        try:
            self.node.call(who or self.settled.operator, to or self.settled.address, data)
        except Exception as error:
            data = error.data  # type: ignore[attr-defined]
            return str(self.codec.error_text(data)).split("(")[0] if data else "(no data)"
        return ""

    def exit(self, args: tuple[Any, ...]) -> str:
        return self.send(self.codec.call("exit", *args))

    def freeze(self) -> None:
        """Let the oldest request miss its deadline."""
        oldest = self.settled.queue()[0]
        self.settled.anvil.increase_time(oldest.deadline + 1 - self.node.now())
        assert self.send(self.codec.call("freeze", oldest.argument())) == ""


@pytest.fixture(scope="module")
def made(settled_exchange, attack):
    return Pool(settled_exchange, attack)


@pytest.fixture
def pool(made, settled):
    """The batches, when all have been proven; what a test does with them is undone."""
    settled.anvil.increase_time(max(1, made.time + 1 - made.node.now()))
    return made


def test_batches_fit_in_one_order_only(pool):
    """The next batch is accepted, and never again; every other one is refused."""
    assert len(pool.calls) == 7
    next_ = 5
    for number in (1, 2, 3, 4, 7, 6, 5, 7, 5, 6, 6, 5, 7, 7, 6, 5):
        refused = pool.commit(number)
        assert refused in STALE if number < next_ else refused == ("InvalidProof" if number > next_ else "")
        next_ += refused == ""
    assert next_ == 8


@pytest.mark.parametrize("seed", range(6))
def test_any_order_ends_in_the_same_state(pool, seed):
    """Thrown at the contract at random, with replays, the batches lead to one root."""
    rand, next_ = random.Random(seed), 5
    while next_ <= 7:
        number = rand.randrange(1, 8)
        refused = pool.commit(number)
        assert (refused == "") == (number == next_), f"batch {number} in place of {next_}: {refused}"
        assert refused in {"", *STALE}
        next_ += refused == ""
    assert pool.settled.by("alice").state_root() == pool.root


def test_a_batch_withheld_too_long_is_refused(pool):
    pool.settled.anvil.increase_time(700)
    assert pool.commit(5) == "TimestampTooOld"


def test_a_batch_is_the_operators_only(pool):
    for who in pool.settled.w3.eth.accounts[2:5]:
        assert pool.commit(5, who.lower()) == "NotOperator"
    assert pool.commit(5) == ""


def test_a_batch_is_for_one_contract_only(pool):
    """The same exchange elsewhere: same keys, same queue, another domain."""
    other = pool.settled.deploy("Proofbook").address
    assert pool.commit(1, to=other) != ""
    assert pool.commit(7, to=other) == "InvalidProof"


def test_a_batch_is_refused_after_the_freeze(pool):
    pool.freeze()
    assert [pool.commit(k) for k in (5, 6, 1)] == ["IsFrozen"] * 3


def test_no_byte_of_a_batch_can_be_changed(pool):
    """Each byte of the calldata, in two ways: refused. "(no data)" is the compiler's own check of types and lengths."""
    plain = pool.calls[4]
    assert pool.refusal(plain) == ""
    rand, seen = random.Random(5), set()
    for at in range(4, len(plain)):
        for flip in {1, 1 << rand.randrange(8)}:
            found = pool.refusal(plain[:at] + bytes([plain[at] ^ flip]) + plain[at + 1 :])
            assert found != "", f"byte {at} was changed by {flip}, and the batch was accepted"
            seen.add(found)
    assert {"InvalidProof", "RequestMismatch", "UnknownSize", "CalldataNotCanonical"} <= seen


def test_no_word_of_a_batch_can_be_another_batchs(pool):
    """Words of the head swapped between two valid batches of the same shape: root, c and each word of the proof."""
    assert pool.commit(5) == ""
    good, other = pool.calls[5], pool.calls[6]
    for k in (2, *range(6, 15)):
        at = 4 + 32 * k
        assert good[at : at + 32] != other[at : at + 32]
        assert pool.refusal(good[:at] + other[at : at + 32] + good[at + 32 :]) == "InvalidProof"
    assert pool.refusal(good[:HEAD] + other[HEAD:]) != ""
    assert pool.commit(6) == ""


def test_an_exit_is_for_the_last_root_only(pool):
    first, second, stale = pool.exits
    assert pool.exit(first) == "NotFrozen"
    for number in (5, 6, 7):
        assert pool.commit(number) == ""
    pool.settled.by("bob").force_exit(2, ETH)
    pool.freeze()
    assert pool.exit(stale) == "InvalidProof"
    assert [pool.exit(first), pool.exit(first), pool.exit(stale), pool.exit(second)] == [
        "", "AlreadyExited", "AlreadyExited", "",
    ]  # fmt: skip


def test_no_byte_of_an_exit_can_be_changed(pool):
    for number in (5, 6, 7):
        assert pool.commit(number) == ""
    pool.settled.by("bob").force_exit(2, ETH)
    pool.freeze()
    plain = pool.codec.call("exit", *pool.exits[0])
    rand, seen = random.Random(6), set()
    assert pool.refusal(plain) == ""
    for at in range(4, len(plain)):
        found = pool.refusal(plain[:at] + bytes([plain[at] ^ 1 << rand.randrange(8)]) + plain[at + 1 :])
        assert found != "", f"byte {at} was changed, and the exit was accepted"
        seen.add(found)
    assert {"InvalidProof", "NotAccountOwner", "PositionsOutOfRange", "(no data)"} <= seen
    assert pool.send(plain) == ""
