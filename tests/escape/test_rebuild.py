"""The state rebuilt from nodes that have a bad day, and from checkpoints that anything may have happened to."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys

import pytest

from proofbook.chain.anvil import Anvil
from proofbook.escape.session import Escape
from proofbook.verifier.abi import selector, topic
from proofbook.verifier.chain import Chain
from proofbook.verifier.contract import read_exchange
from proofbook.verifier.errors import HistoryBroken, NotAnExchange, RpcRefused, RpcUnavailable
from proofbook.verifier.report import verify_exchange
from proofbook.verifier.rpc import Rpc
from proofbook.verifier.stream import rebuild

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

BAD_DAY = ("busy", "broken", "cut", "short", "slow", "other", "limit", "rate")


def remains(ledger):
    """All that a rebuild leads to."""
    accounts = dict(ledger.state.accounts)
    return ledger.state.root, accounts, ledger.requests, ledger.claims, ledger.exits, ledger.number, ledger.served


@pytest.fixture
def straight(settled):
    rpc = Rpc(settled.anvil.url)
    return remains(rebuild(rpc, read_exchange(rpc, settled.address)))


@pytest.fixture
def follow(settled, tmp_path):
    """A chain whose every range leaves a checkpoint, and what it said."""

    def made(url=None, said=None):
        rpc = Rpc(url or settled.anvil.url, timeout=0.6 if url else 60, pause=lambda s: None)
        return Chain(rpc, settled.address, progress=(said if said is not None else []).append, cache=tmp_path, every=0)

    return made


def checkpoints(folder):
    return sorted(folder.rglob("*.ledger"))


@pytest.mark.parametrize("max_range", [1 << 40, 5])
def test_a_node_on_a_bad_day_leads_to_the_same_state(settled, proxy, straight, max_range):
    """Every third request goes wrong in one way or another, and the ways take turns."""
    proxy.max_range = max_range
    proxy.mood = lambda n, method: BAD_DAY[n // 3 % len(BAD_DAY)] if n % 3 == 0 else None
    rpc = Rpc(proxy.url, timeout=1.0, pause=lambda s: None)
    assert remains(rebuild(rpc, read_exchange(rpc, settled.address))) == straight
    assert len(proxy.asked) > 3 * len(BAD_DAY)
    ranges = [(int(q[0]["fromBlock"], 16), int(q[0]["toBlock"], 16)) for m, q in proxy.asked if m == "eth_getLogs"]
    assert (max_range == 5) == (len({first for first, _ in ranges}) > 3)


def test_a_node_that_asks_for_time_gets_it(settled, proxy):
    pauses: list[float] = []
    proxy.mood = lambda n, method: "busy" if n <= 2 else None
    assert Rpc(proxy.url, pause=pauses.append).chain_id() == settled.chain_id
    assert pauses == [1.0, 1.0]
    proxy.mood = lambda n, method: "broken"
    with pytest.raises(RpcUnavailable):
        Rpc(proxy.url, pause=pauses.append).chain_id()
    assert pauses[2:] == sorted(pauses[2:]) and len(pauses) == 2 + 6


def test_the_next_node_is_asked_when_one_fails(settled, proxy, straight):
    proxy.mood = lambda n, method: "broken" if n > 10 else None
    rpc = Rpc(["http://127.0.0.1:9", f"{proxy.url}, {settled.anvil.url}"])
    assert remains(rebuild(rpc, read_exchange(rpc, settled.address))) == straight
    assert len(proxy.asked) == 11 and rpc.url == settled.anvil.url


def test_steps_are_taken_through_a_node_on_a_bad_day(settled, proxy):
    """Also a transaction whose answer got lost is sent once, and its step is done."""
    proxy.mood = lambda n, method: "cut" if method == "eth_sendRawTransaction" and n % 2 else None
    rpc = Rpc(proxy.url, pause=lambda s: None)
    alice = settled.people["alice"]
    before = settled.w3.eth.get_transaction_count(alice.address)
    done = Escape(rpc, settled.address, alice).request(1, 1)
    proxy.mood = lambda n, method: "short" if method == "eth_sendRawTransaction" and proxy.count(method) % 2 else None
    also = Escape(rpc, settled.address, alice).request(1, 2)
    assert settled.w3.eth.get_transaction_count(alice.address) == before + 2
    assert [q.request.token for q in settled.queue()[-2:]] == [1, 2] and done.tx != also.tx


def test_on_a_long_chain_the_deployment_is_looked_for(settled, proxy, straight, monkeypatch):
    monkeypatch.setattr("proofbook.verifier.chain.WORTH_SEARCHING", 10)
    chain = Chain(Rpc(proxy.url), settled.address)
    assert remains(chain.ledger) == straight
    queries = [q[0] for m, q in proxy.asked if m == "eth_getLogs"]
    assert {int(q["fromBlock"], 16) for q in queries} == {settled.deployment.block} and settled.deployment.block > 0


def test_a_node_that_forgot_old_states_is_read_from_the_beginning(settled, straight, monkeypatch):
    monkeypatch.setattr("proofbook.verifier.chain.WORTH_SEARCHING", 10)

    class Forgetful(Rpc):
        """Says that there was no code, or nothing at all, of blocks long ago."""

        def __init__(self, url, refuse):
            super().__init__(url)
            self.refuse, self.starts = refuse, []

        def call(self, method, *parameters):
            if method == "eth_getCode" and int(parameters[1], 16) < 15:
                if self.refuse:
                    raise RpcRefused("missing trie node")
                return "0x"
            if method == "eth_getLogs":
                self.starts.append(int(parameters[0]["fromBlock"], 16))
            return super().call(method, *parameters)

    for refuse in (False, True):
        rpc = Forgetful(settled.anvil.url, refuse)
        assert remains(Chain(rpc, settled.address).ledger) == straight and 0 in rpc.starts


class Full(Rpc):
    """A full node: it forgets states, and the chain goes on by some hundred blocks while events are read."""

    def __init__(self, settled, times=1):
        super().__init__(settled.anvil.url)
        self.anvil, self.times, self.at = settled.anvil, times, {"eth_call": 1, "eth_getBalance": 1, "eth_getCode": 1}

    def call(self, method, *parameters):
        if method in self.at:
            newest = int(super().call("eth_blockNumber"), 16)
            if int(parameters[self.at[method]], 16) < newest - 128:
                raise RpcRefused("missing trie node")
        if method == "eth_getLogs" and self.times:
            self.times -= 1
            self.anvil.mine(200)
        return super().call(method, *parameters)


@pytest.mark.parametrize("times", [1, 2])
def test_a_history_that_takes_longer_than_states_are_kept_is_read_to_its_end(settled, straight, times):
    """What waits, and what is owed to an owner, is asked for at a block that the node still has."""
    escape = Escape(Full(settled, times), settled.address)
    bob = settled.people["bob"].address
    assert escape.owned(bob).waiting and remains(escape.history) == straight
    report = verify_exchange(Full(settled, times), settled.address)
    assert report.ok and report.proofs_checked == report.batches == settled.number


# --- checkpoints

PROGRAM = """
import sys
from pathlib import Path
from proofbook.verifier.chain import Chain
from proofbook.verifier.rpc import Rpc
url, contract, cache = sys.argv[1:]
chain = Chain(Rpc(url), contract, progress=lambda text: print(text, file=sys.stderr), cache=Path(cache), every=0)
chain.require()
print(chain.ledger.state.root)
"""


def test_killed_in_the_middle_it_goes_on_where_it_was(settled, proxy, tmp_path, straight):
    command = [sys.executable, "-c", PROGRAM, proxy.url, settled.address, str(tmp_path)]
    proxy.max_range = 2
    fetched = "eth_getTransactionByHash"
    proxy.mood = lambda n, method: "held" if method == fetched and proxy.count(fetched) == 4 else None
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert proxy.held.wait(60)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL and process.stdout is not None and process.stdout.read() == b""
    assert checkpoints(tmp_path)
    proxy.mood = lambda n, method: None
    proxy.asked.clear()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) == straight[0] and "going on from" in done.stderr, done.stderr
    # The last of four batches was to come; the first query of events was for that of the checkpoint's batch.
    assert proxy.count(fetched) == 1, done.stderr
    queries = [q[0] for m, q in proxy.asked if m == "eth_getLogs"]
    assert min(int(q["fromBlock"], 16) for q in queries) > 0


def test_a_checkpoint_holds_all_that_remains(settled, follow, straight, let_pass, tmp_path):
    """Also after a freeze, with exits, requests taken back, and claims."""
    said: list[str] = []
    follow().require()
    again = follow(said=said)
    assert remains(again.ledger) == straight and any(line.startswith("going on") for line in said)
    let_pass()
    Escape(settled.anvil.url, settled.address, settled.people["bob"]).freeze()
    Escape(settled.anvil.url, settled.address, settled.people["bob"]).reclaim(6)
    again.read()
    rpc = Rpc(settled.anvil.url)
    assert remains(again.ledger) == remains(rebuild(rpc, read_exchange(rpc, settled.address)))
    assert remains(follow().ledger) == remains(again.ledger) and again.ledger.reclaimed == {6}


def rewrite(path, change):
    """Change a checkpoint's rows, and make its digest fit again."""
    rows = [json.loads(line) for line in path.read_bytes().splitlines()][:-1]
    change(rows)
    text = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
    path.write_bytes(text + json.dumps(["end", hashlib.sha256(text).hexdigest()]).encode() + b"\n")


def row_of(rows, kind):
    return next(row for row in rows if row[0] == kind)


def one_quantum_more(rows):
    row_of(rows, "account")  # the first may hold nothing
    next(row for row in rows if row[0] == "account" and row[5])[5][0][1] += 1


def another_claim(rows):
    row_of(rows, "claim")[3] += 1


def another_deposit(rows):
    next(row for row in rows if row[0] == "request" and row[5])[5] += 1


def a_request_less(rows):
    rows.remove(row_of(rows, "request"))


def another_block(rows):
    rows[0][3] = "0x" + "ab" * 32


def another_contract(rows):
    rows[0][2] = "0x" + "11" * 20


def another_format(rows):
    rows[0][0] = "proofbook-ledger-0"


def a_word_for_a_number(rows):
    row_of(rows, "account")[2] = "1"


def an_unknown_row(rows):
    rows.append(["gift", 1])


CHANGES = [
    one_quantum_more,
    another_claim,
    another_deposit,
    a_request_less,
    another_block,
    another_contract,
    another_format,
    a_word_for_a_number,
    an_unknown_row,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_changed_on_purpose_is_not_believed(follow, straight, tmp_path, change):
    """Its digest fits; still the chain knows better."""
    follow().require()
    for path in checkpoints(tmp_path):
        rewrite(path, change)
    said: list[str] = []
    chain = follow(said=said)
    assert remains(chain.ledger) == straight
    assert any("discarded" in line or "from the beginning" in line for line in said), said


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:60] + b"\xff" + b[61:]])
def test_a_damaged_checkpoint_is_discarded_and_said_to_be(follow, straight, tmp_path, damage):
    follow().require()
    for path in checkpoints(tmp_path):
        path.write_bytes(damage(path.read_bytes()))
    said: list[str] = []
    assert remains(follow(said=said).ledger) == straight
    assert sum("is discarded" in line for line in said) >= 1


def test_a_disk_that_takes_no_checkpoint_holds_nobody_back(settled, straight, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    said: list[str] = []
    chain = Chain(Rpc(settled.anvil.url), settled.address, progress=said.append, cache=tmp_path / "file", every=0)
    assert remains(chain.ledger) == straight and any("no checkpoint was written" in line for line in said)


def test_a_checkpoint_that_can_not_be_deleted_holds_nobody_back(settled, follow, straight, tmp_path):
    follow().require()
    (path,) = checkpoints(tmp_path)
    path.unlink()
    path.mkdir()
    said: list[str] = []
    chain = follow(said=said)
    assert remains(chain.ledger) == straight and any("can't be deleted" in line for line in said)
    assert chain._checkpoints is not None
    chain._checkpoints.clear()


def test_a_reorganization_goes_back_to_the_last_checkpoint_that_holds(settled, follow, proxy, tmp_path):
    """Two checkpoints, then the chain of the newer one is replaced by a longer one, with another batch."""
    settled.anvil.mine(100)
    old = follow()
    old.require()
    (good,) = checkpoints(tmp_path)
    snapshot = settled.anvil.snapshot()
    settled.fund("alice", 20)
    settled.by("alice").deposit(1, 2, 5)
    settled.anvil.mine(70)
    follow().require()
    old.read()
    assert len(checkpoints(tmp_path)) == 2
    settled.anvil.revert(snapshot)
    settled.fund("alice", 20)
    settled.by("alice").deposit(1, 2, 7)
    settled.anvil.mine(80)
    said: list[str] = []
    chain = follow(proxy.url, said)
    rpc = Rpc(settled.anvil.url)
    wanted = remains(rebuild(rpc, read_exchange(rpc, settled.address)))
    assert remains(chain.ledger) == wanted and chain.ledger.requests[8].request.amount == 7
    assert any("is discarded" in line for line in said)
    assert any(f"of {good.name}" in line for line in said)
    # The one that had followed the old chain goes on, too.
    old.read()
    assert remains(old.ledger) == wanted and not old.problems


def test_a_lie_in_other_words_each_time_has_all_read_once(settled, follow, tmp_path):
    """The root that does not fit is another one with each batch; what is wrong with it is the same."""
    follow().require()

    class Lying(Rpc):
        roots = 0

        def call(self, method, *parameters):
            result = super().call(method, *parameters)
            if method != "eth_call" or parameters[0]["data"] != "0x" + selector("stateRoot()").hex():
                return result
            self.roots += 1
            return f"0x{int(result, 16) + self.roots:064x}"

    rpc, said = Lying(settled.anvil.url), list[str]()
    chain = Chain(rpc, settled.address, progress=said.append, cache=tmp_path)
    texts = set()
    for _ in range(3):
        chain.read()
        assert [problem.code for problem in chain.problems] == ["root"]
        texts.add(chain.problems[0].text)
    assert len(texts) == 3 and sum("from the beginning" in line for line in said) == 1


def test_another_chain_with_the_same_exchange_is_another_one(settled, follow, straight, tmp_path):
    follow().require()
    with Anvil() as other, pytest.raises(NotAnExchange):
        follow(other.url).read()
    assert remains(follow().ledger) == straight


def test_a_node_that_lies_about_claims_is_not_believed(settled, tmp_path):
    """Claims are in no root; the contract's own books tell."""
    hidden = topic("ClaimCredited")

    class Lying(Rpc):
        def call(self, method, *parameters):
            result = super().call(method, *parameters)
            return [log for log in result if log["topics"][0] != hidden] if method == "eth_getLogs" else result

    with pytest.raises(HistoryBroken, match="books"):
        Escape(Lying(settled.anvil.url), settled.address).owned("0x" + "11" * 20)
