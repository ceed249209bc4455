"""Nodes that change a word, hold something back or stand still, and an operator who helps; the money comes out."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from proofbook.chain.errors import ContractRevert, WrongChain
from proofbook.escape.leave import leave
from proofbook.escape.owned import Step, owned_of
from proofbook.escape.session import Escape
from proofbook.protocol.messages import parse_address
from proofbook.verifier.abi import decode_event, selector, topic
from proofbook.verifier.chain import Chain
from proofbook.verifier.contract import read_exchange
from proofbook.verifier.errors import HistoryBroken, RpcRefused
from proofbook.verifier.held import request_hash
from proofbook.verifier.report import verify_exchange
from proofbook.verifier.rpc import Rpc
from proofbook.verifier.stream import rebuild

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

ETH, USD = 1, 2
FEE = 1000
FAR = 1 << 40
KIND, TOKEN, AMOUNT, OWNER, PUB_X, PUB_Y, FEE_WORD, DEADLINE = range(8)
"""Words of a queued request's event."""


class Nodes(Rpc):
    """As many nodes as wanted, all of one chain; the first may change its answers.

    Attributes
    ----------
    lie : callable
        What becomes of a method's result, given method, parameters and result.
    calls : Counter
        Of the first node and the others together, by method.
    """

    def __init__(self, url, lie, count=1):
        super().__init__([url + "/" * k for k in range(count)], pause=lambda seconds: None)
        self.lie = lie
        self.calls: Counter[str] = Counter()

    def call(self, method, *parameters):
        self.calls[method] += 1
        is_first, result = self.url == self.urls[0], super().call(method, *parameters)
        return self.lie(method, parameters, result) if is_first else result


@pytest.fixture
def nodes(settled):
    return lambda lie, count=1: Nodes(settled.anvil.url, lie, count)


def calls(name, change):
    """A lie about what one function of the contract returns; `change` is given arguments and word."""

    def lie(method, parameters, result):
        if method != "eth_call" or not parameters[0]["data"].startswith("0x" + selector(name).hex()):
            return result
        return f"0x{change(parameters[0]['data'][10:], int(result, 16)):064x}"

    return lie


def events(name, change, index=-1):
    """A lie about one event of a kind; `change` is given the event."""

    def lie(method, parameters, result):
        if method == "eth_getLogs":
            found = [log for log in result if log["topics"][0] == topic(name)]
            if found:
                change(found[index])
        return result

    return lie


def both(*lies):
    def lie(method, parameters, result):
        for one in lies:
            result = one(method, parameters, result)
        return result

    return lie


def word(at, value):
    def change(log):
        log["data"] = log["data"][: 2 + 64 * at] + f"{value:064x}" + log["data"][2 + 64 * (at + 1) :]

    return change


def indexed(at, value):
    def change(log):
        log["topics"][at] = f"0x{value:064x}"

    return change


def the_end(settled, who="bob"):
    """Whether somebody got all dollars that were theirs."""
    held = settled.token.functions.balanceOf(settled.people[who].address).call()
    return held == {"bob": 4969, "alice": 130}[who] * 1000


def patiently(times=60):
    """A pause that does not wait, and ends what never ends."""
    left = iter(range(times))

    def pause(seconds):
        assert next(left, None) is not None, "for ever"

    return pause


# --- what no root covers


@pytest.mark.parametrize("change", [word(DEADLINE, FAR), word(DEADLINE, 1), word(OWNER, 7), indexed(2, 1)])
def test_a_waiting_request_changed_in_one_word_is_noticed(settled, nodes, change):
    """Root, books and counts all fit: with a far deadline there would be no freeze ever."""
    lie = events("RequestQueued", change)
    bob = settled.people["bob"].address
    with pytest.raises(HistoryBroken, match="request_changed: request 7 "):
        Escape(nodes(lie), settled.address).owned(bob)
    rpc = nodes(lie)
    with pytest.raises(HistoryBroken, match="request_changed"):
        rebuild(rpc, read_exchange(rpc, settled.address))


def test_a_changed_deadline_is_in_the_verifiers_report(settled, nodes):
    report = verify_exchange(nodes(events("RequestQueued", word(DEADLINE, FAR))), settled.address)
    assert [problem.code for problem in report.problems] == ["request_changed"]


def test_a_request_of_an_account_beyond_the_tree_is_a_problem_and_no_crash(settled, nodes):
    bob = settled.people["bob"].address
    for index in (-1, 0):
        escape = Escape(nodes(events("RequestQueued", indexed(2, 2**24 - 1), index)), settled.address)
        assert "request_changed" in {problem.code for problem in escape.problems}
        assert owned_of(escape.exchange, escape.history, bob).owner == parse_address(bob)
        with pytest.raises(HistoryBroken, match="beyond the tree"):
            escape.owned(bob)


def test_a_claim_credited_to_another_is_noticed_by_its_owner(settled, nodes):
    """The sum of all claims fits; only the contract knows whose they are."""
    lie = events("ClaimCredited", indexed(1, 0xBAD))
    credited = Rpc(settled.anvil.url).call("eth_getLogs", {"address": settled.address, "fromBlock": "0x0"})
    last = [log for log in credited if log["topics"][0] == topic("ClaimCredited")][-1]
    owner = decode_event("ClaimCredited", last)[0]
    before = Escape(settled.anvil.url, settled.address).owned(owner)
    assert before.claims
    with pytest.raises(HistoryBroken, match=f"books: .*claim of {owner.lower()}"):
        Escape(nodes(lie), settled.address).owned(owner)
    assert Escape(nodes(lie), settled.address).owned("0x" + "22" * 20).claims == {}


def test_an_exit_that_never_was_is_noticed_by_its_owner(settled, nodes, stored, let_pass):
    """Bob has left, by a node alice has: two accounts of the same worth could change places."""
    let_pass()
    bob = Escape(settled.anvil.url, settled.address, settled.people["bob"], stored)
    bob.freeze()
    bob.exit(2)
    chain = Chain(nodes(events("Exited", indexed(1, 1))), settled.address)
    chain.include(parse_address(settled.people["alice"].address))
    held = chain._held.owner_problems(chain.exchange, chain.ledger, parse_address(settled.people["alice"].address))
    assert [problem.code for problem in held] == ["exit_missing"]


# --- what was kept of a lie


def a_far_deadline(settled):
    """A deadline changed everywhere, also in what the contract keeps: no single look can tell."""
    escape = Escape(settled.anvil.url, settled.address)
    true = escape.history.requests[7]
    false = type(true)(true.id, true.request, true.fee, FAR)
    kept = int.from_bytes(request_hash(true), "big"), int.from_bytes(request_hash(false), "big")
    hashes = calls("requestHash(uint64)", lambda arguments, told: kept[1] if told == kept[0] else told)
    return both(events("RequestQueued", word(DEADLINE, FAR)), hashes)


def another_owner(settled):
    """A claim of bob's is told to be somebody else's, in events and by the contract."""
    bob = parse_address(settled.people["bob"].address)

    def change(log):
        if int(log["topics"][1], 16) == bob and int(log["topics"][2], 16) == ETH:
            log["topics"][1] = f"0x{0xBAD:064x}"

    def lie(method, parameters, result):
        if method == "eth_getLogs":
            for log in result:
                if log["topics"][0] == topic("ClaimCredited"):
                    change(log)
        return result

    return both(lie, calls("claims(address,uint16)", lambda arguments, told: 0))


@pytest.mark.parametrize("made", [a_far_deadline, another_owner])
def test_a_lie_that_was_kept_does_not_outlive_its_node(settled, nodes, tmp_path, made):
    """In a checkpoint, and in a process that goes on to another node."""
    bob = parse_address(settled.people["bob"].address)
    honest = Escape(settled.anvil.url, settled.address).owned(bob)
    said: list[str] = []
    rpc = nodes(made(settled), 2)
    lied_to = Chain(rpc, settled.address, cache=tmp_path, every=0)
    lied_to.include(bob)
    lied_to.require()
    assert owned_of(lied_to.exchange, lied_to.ledger, bob) != honest, "the lie is consistent"
    assert list(tmp_path.rglob("*.ledger"))

    later = Chain(Rpc(settled.anvil.url), settled.address, progress=said.append, cache=tmp_path, every=0)
    later.include(bob)
    later.require()
    assert owned_of(later.exchange, later.ledger, bob) == honest
    assert any("going on from" in line for line in said) and any("from the beginning" in line for line in said)

    rpc.advance()
    lied_to.read()
    assert not lied_to.problems and owned_of(lied_to.exchange, lied_to.ledger, bob) == honest


# --- several nodes


def leaves_one_out(method, parameters, result):
    return result[:-1] if method == "eth_getLogs" and result else result


def far_deadlines(method, parameters, result):
    return events("RequestQueued", word(DEADLINE, FAR))(method, parameters, result)


def refuses_to_estimate(method, parameters, result):
    if method == "eth_estimateGas":
        raise RpcRefused("no")
    return result


def forgot_transactions(method, parameters, result):
    """As nodes do that keep the last blocks only."""
    if method == "eth_getTransactionByHash":
        raise RpcRefused("pruned")
    return result


@pytest.mark.parametrize("lie", [leaves_one_out, far_deadlines, refuses_to_estimate, forgot_transactions])
def test_with_an_honest_second_node_a_lying_first_one_stops_nothing(settled, nodes, stored, let_pass, monkeypatch, lie):
    """Nor does it count: one failure would be the last."""
    monkeypatch.setattr("proofbook.escape.leave.MAX_FAILURES", 0)
    let_pass()
    escape = Escape(nodes(lie, 2), settled.address, settled.people["bob"], stored)
    _, rest = leave(escape, poll=0.01, pause=patiently())
    assert rest == Step("done") and the_end(settled)


@pytest.mark.parametrize("other", ["fails", "is_busy"])
def test_what_one_node_says_is_not_what_all_say(settled, nodes, stored, let_pass, monkeypatch, other):
    """The second failed before, in a way that passes; or was busy, so that the first was heard twice."""
    let_pass()
    troubles = iter([True])

    class Both(Nodes):
        def call(self, method, *parameters):
            if self.url == self.urls[1] and next(troubles, False):
                if other == "fails":
                    raise RpcRefused("for a moment")
                self.advance()
            return super().call(method, *parameters)

    def lie(method, parameters, result):
        return "0x539" if method == "eth_chainId" else result

    rpc = Both(settled.anvil.url, lie, 2)
    if other == "fails":
        rpc.advance()
    escape = Escape(rpc, settled.address, settled.people["bob"], stored, chain_id=settled.chain_id)
    _, rest = leave(escape, poll=0.01, pause=patiently())
    assert rest == Step("done") and the_end(settled)


def test_what_every_node_says_ends_it(settled, nodes, stored):
    rpc = nodes(lambda method, parameters, result: result, 2)
    escape = Escape(rpc, settled.address, settled.people["bob"], stored, chain_id=1337)
    with pytest.raises(WrongChain):
        leave(escape, poll=0.01, pause=patiently(1))


def test_one_look_is_enough_where_a_second_node_is_honest(settled, nodes):
    bob = settled.people["bob"].address
    honest = Escape(settled.anvil.url, settled.address).owned(bob)
    assert Escape(nodes(leaves_one_out, 2), settled.address).owned(bob) == honest


def test_a_node_that_stands_still_is_gone_on_from(settled, nodes, stored, let_pass, monkeypatch):
    settled.by("bob").claim(ETH)  # so that there is nothing to do but wait
    still = hex(settled.w3.eth.block_number)
    let_pass()
    settled.anvil.mine()

    def lie(method, parameters, result):
        return still if method == "eth_blockNumber" else result

    monkeypatch.setattr("proofbook.escape.leave.STALE_SECONDS", -3600)
    escape = Escape(nodes(lie, 2), settled.address, settled.people["bob"], stored)
    _, rest = leave(escape, poll=0.01, pause=patiently())
    assert rest == Step("done") and the_end(settled)


def test_that_all_is_out_is_asked_of_another_node(settled, nodes, stored, let_pass):
    """The first shows the exchange as it was before alice came: consistent, and nothing is hers."""
    let_pass()
    before = hex(settled.deployment.block)

    def lie(method, parameters, result):
        return before if method == "eth_blockNumber" else result

    escape = Escape(nodes(lie, 2), settled.address, settled.people["alice"], stored)
    assert escape.next_step() == Step("done")
    _, rest = leave(escape, poll=0.01, pause=patiently())
    assert rest == Step("done") and the_end(settled, "alice")


def test_all_is_out_only_when_it_still_is_some_blocks_later(settled):
    """The block of the last claim is replaced by others, without it."""
    operator = settled.operator
    snapshots = [settled.anvil.snapshot()]

    def pause(seconds):
        if snapshots:
            settled.anvil.revert(snapshots.pop())
        settled.anvil.mine(2)

    done, rest = leave(Escape(settled.anvil.url, settled.address, operator), poll=0.01, pause=pause)
    assert [step.step for step in done] == [Step("claim", token=ETH)] * 2 and rest == Step("done")
    assert settled.by("alice").claim_of(operator, ETH) == 0


def test_all_is_out_where_no_blocks_come_after_some_looks(settled):
    looks: list[float] = []
    leave(Escape(settled.anvil.url, settled.address, settled.operator), poll=0.25, pause=looks.append)
    assert looks == [0.25] * 8


# --- backends that lag


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr("proofbook.verifier.chain._BEHIND_PAUSE_S", 0.01)


def test_a_backend_that_lags_one_block_has_no_step_taken_twice(settled, nodes, quickly):
    lag: list[int] = []

    def lie(method, parameters, result):
        if method == "eth_sendRawTransaction":
            lag.extend([1] * 4)
        return hex(int(result, 16) - 1) if method == "eth_blockNumber" and lag and lag.pop() else result

    before = len(settled.queue())
    done, rest = Escape(nodes(lie), settled.address, settled.people["alice"]).run()
    assert [step.step for step in done] == [Step("request", account=1, token=token) for token in (ETH, USD)]
    assert len(settled.queue()) == before + 2 and rest.name == "wait"


def test_a_receipt_from_the_future_is_not_waited_for_for_ever(settled, nodes, quickly, monkeypatch):
    monkeypatch.setattr("proofbook.verifier.chain.BEHIND_S", 0.3)

    def lie(method, parameters, result):
        if method == "eth_getTransactionReceipt" and result:
            result["blockNumber"] = hex(int(result["blockNumber"], 16) + 10**9)
        return result

    started = time.monotonic()
    done, rest = Escape(nodes(lie), settled.address, settled.people["alice"]).run()
    assert len(done) == 2 and rest.name == "wait" and time.monotonic() - started > 0.5


# --- one failure holds nothing else back

REVERTS = "0x5f5ffd"
REVERTS_IF_PAID_FOR = "0x3a15600857" + "5f5ffd" + "5b00"
"""Takes ETH where gas costs nothing, as in an estimate."""


def test_a_refused_claim_does_not_end_the_wait_for_a_deadline(settled, stored, let_pass):
    """Bob takes no ETH, his dollars come out; alice's key does it."""
    bob = settled.people["bob"].address
    settled.anvil.rpc("anvil_setCode", bob, REVERTS)
    told: list[str] = []
    passed: list[bool] = []

    def pause(seconds):
        if not passed:
            passed.append(let_pass())
        assert len(told) < 200, "for ever"

    escape = Escape(settled.anvil.url, settled.address, settled.people["alice"], stored, progress=told.append)
    with pytest.raises(ContractRevert, match="EthTransferFailed"):
        leave(escape, bob, poll=0.01, progress=told.append, pause=pause)
    assert passed and the_end(settled) and any("claim is put aside" in line for line in told)
    assert escape.owned(bob).claims == {ETH: 10 + FEE}


def test_a_claim_whose_refusal_costs_gas_is_not_tried_at_every_look(settled):
    bob, alice = settled.people["bob"].address, settled.people["alice"]
    settled.anvil.rpc("anvil_setCode", bob, REVERTS_IF_PAID_FOR)
    escape = Escape(settled.anvil.url, settled.address, alice)
    before = settled.w3.eth.get_transaction_count(alice.address)
    for _ in range(3):
        assert escape.run(bob)[1].name == "wait" and len(escape.aside) == 1
    assert settled.w3.eth.get_transaction_count(alice.address) == before + 1


def test_a_clock_that_is_ahead_has_the_freeze_tried_until_it_is_time(settled, stored, let_pass, monkeypatch):
    """The contract goes by its own clock; more tries than failures are allowed."""
    pauses: list[float] = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 12:
            let_pass()
        assert len(pauses) < 60, "for ever"

    escape = Escape(settled.anvil.url, settled.address, settled.people["bob"], stored)
    monkeypatch.setattr(escape, "now", lambda: FAR)
    _, rest = leave(escape, poll=0.01, pause=pause)
    assert rest == Step("done") and the_end(settled)


def test_without_exit_files_what_needs_none_comes_out(settled, let_pass):
    let_pass()
    bob, taken = settled.people["bob"], []
    escape = Escape(settled.anvil.url, settled.address, bob, None)
    with pytest.raises(Exception, match="exit artifacts"):
        escape.run(on_step=lambda done: taken.append(done.step.name))
    assert taken == ["freeze", "reclaim", "claim"] and escape.owned().claims == {}
