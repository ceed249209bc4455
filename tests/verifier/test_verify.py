"""The verifier on a real chain: an honest exchange, tampered ones, and nodes that lie."""

from __future__ import annotations

import json

import pytest

from proofbook.chain.anvil import Anvil, AnvilOptions
from proofbook.protocol.state import State
from proofbook.protocol.table import MINIMAL
from proofbook.verifier import cli
from proofbook.verifier.abi import topic
from proofbook.verifier.contract import read_exchange
from proofbook.verifier.errors import HistoryBroken, NotAnExchange, RpcMalformed, RpcRefused, RpcUnavailable
from proofbook.verifier.history import Batch, Ledger
from proofbook.verifier.report import verify_exchange
from proofbook.verifier.rpc import Rpc
from proofbook.verifier.stream import follow, rebuild

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

COMMIT_ACTIONS = 32 * 4 + 4
"""Where in a commit's input the offset of the actions stands."""


class LyingRpc(Rpc):
    """A node between us and the real one that changes answers."""

    def __init__(self, url, lie):
        super().__init__(url)
        self.lie = lie

    def call(self, method, *parameters):
        return self.lie(method, parameters, super().call(method, *parameters))


def codes(report):
    return {problem.code for problem in report.problems}


def test_an_honest_exchange_passes(settled):
    report = verify_exchange(settled.anvil.url, settled.address)
    assert report.problems == () and report.ok
    assert report.root_rebuilt == report.root_on_chain == settled.state.root
    assert (report.batches, report.proofs_checked, report.code_matches) == (4, 4, True)
    assert set(report.vault) == {"ETH", "USD"}
    # 5000 and 55 dollars went in and none out; ETH: 1000 and 9 fees, less the 100 that were paid out.
    assert report.vault["USD"] == report.liabilities["USD"] == 5055 * 1000
    assert report.vault["ETH"] == report.liabilities["ETH"]
    assert [key.circuit for key in report.batch_keys] == ["batch-minimal-0"]
    assert report.has_development_keys and report.exit_key.kind == "development"


def test_the_command_prints_exactly_the_report(settled, capsys):
    assert cli.main(["--rpc", settled.anvil.url, "--contract", settled.address, "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert list(told) == [
        "root_on_chain",
        "root_rebuilt",
        "batches",
        "proofs_checked",
        "code_matches",
        "keys",
        "vault",
        "liabilities",
    ]
    assert told["root_on_chain"] == told["root_rebuilt"] == str(settled.state.root)
    assert told["keys"]["batch"][0]["kind"] == told["keys"]["exit"]["kind"] == "development"
    assert told["vault"]["USD"] == "5055000"
    assert "DEVELOPMENT KEYS" in err


def test_a_dumped_chain_is_as_good_as_the_live_one(settled, tmp_path):
    settled.anvil.dump_state(tmp_path / "chain.json")
    with Anvil(AnvilOptions(load_state=tmp_path / "chain.json")) as loaded:
        report = verify_exchange(loaded.url, settled.address)
    assert report.ok and report.proofs_checked == 4 and report.root_on_chain == settled.state.root


def test_another_code_is_noticed(settled):
    other = settled.deploy("ChangedProofbook")
    report = verify_exchange(settled.anvil.url, other.address)
    assert not report.code_matches and codes(report) == {"code"}


def test_code_changed_in_place_is_noticed(settled):
    fresh = settled.deploy("Proofbook").address
    assert codes(verify_exchange(settled.anvil.url, fresh)) == set()
    changed = bytearray(settled.w3.eth.get_code(fresh))
    changed[-1] ^= 1
    settled.anvil.rpc("anvil_setCode", fresh, "0x" + changed.hex())
    report = verify_exchange(settled.anvil.url, fresh)
    assert not report.code_matches and codes(report) == {"code"}


def test_a_forged_root_is_noticed(settled):
    """The operator's dream: the contract's storage says another root than the batches lead to."""

    def lie(method, parameters, result):
        is_root = method == "eth_call" and result == f"0x{settled.state.root:064x}"
        return f"0x{settled.state.root + 1:064x}" if is_root else result

    rpc = LyingRpc(settled.anvil.url, lie)
    told = read_exchange(rpc, settled.address)
    with pytest.raises(HistoryBroken) as caught:
        rebuild(rpc, told)
    assert len(caught.value.problems) == 1 and caught.value.problems[0].startswith("root:")


def change_input(number, change):
    """A lie about the calldata of batch `number`."""
    seen: list[str] = []

    def lie(method, parameters, result):
        if method != "eth_getTransactionByHash":
            return result
        if parameters[0] not in seen:
            seen.append(parameters[0])
        if seen.index(parameters[0]) + 1 != number:
            return result
        raw = bytearray.fromhex(result["input"][2:])
        change(raw)
        return {**result, "input": "0x" + raw.hex()}

    return lie


def offset_of_actions(raw):
    return 4 + int.from_bytes(raw[COMMIT_ACTIONS : COMMIT_ACTIONS + 32], "big") + 32


def test_changed_amounts_in_calldata_are_noticed(settled):
    def change(raw):
        raw[offset_of_actions(raw) + 39] ^= 1  # exBase of the first action row

    report = verify_exchange(LyingRpc(settled.anvil.url, change_input(3, change)), settled.address)
    assert {"batch_transition", "proof", "root"} <= codes(report)
    assert report.proofs_checked == 3


def test_a_changed_proof_is_noticed(settled):
    def change(raw):
        at = 4 + 32 * 7  # the first word of the proof: A and C change places, both are points
        raw[at : at + 64], raw[at + 192 : at + 256] = raw[at + 192 : at + 256], raw[at : at + 64]

    report = verify_exchange(LyingRpc(settled.anvil.url, change_input(2, change)), settled.address)
    assert codes(report) == {"proof"} and report.proofs_checked == 3
    assert report.root_rebuilt == report.root_on_chain


def read_all(rpc, exchange):
    """Everything that a node's data lead to: the batches, and what remains of all that happened."""
    batches: list[Batch] = []
    ledger = rebuild(rpc, exchange, on_batch=batches.append)
    return batches, ledger.state.root, ledger.requests, ledger.claims, ledger.block


@pytest.fixture
def exchange(settled):
    return read_exchange(Rpc(settled.anvil.url), settled.address)


def without(topic_of, index):
    """A lie that leaves out one event of a kind."""

    def lie(method, parameters, result):
        if method != "eth_getLogs":
            return result
        of_kind = [log for log in result if log["topics"][0] == topic_of]
        return [log for log in result if log is not of_kind[index]]

    return lie


def problems_of(settled, exchange, lie):
    with pytest.raises(HistoryBroken) as caught:
        rebuild(LyingRpc(settled.anvil.url, lie), exchange)
    return {problem.split(":")[0] for problem in caught.value.problems}


@pytest.mark.parametrize("index", [0, 1, 3])
def test_a_batch_left_out_is_noticed(settled, exchange, index):
    assert problems_of(settled, exchange, without(topic("BatchCommitted"), index)) >= {"batches_missing", "root"}


@pytest.mark.parametrize("index", [0, 2, 7])
def test_a_request_left_out_is_noticed(settled, exchange, index):
    assert problems_of(settled, exchange, without(topic("RequestQueued"), index)) >= {"requests_missing"}


def test_another_request_than_the_queues_is_noticed(settled, exchange):
    """Alice's deposit grows on its way into the queue: the batch that served it brought another one along."""
    queued = topic("RequestQueued")

    def lie(method, parameters, result):
        if method != "eth_getLogs":
            return result
        log = [log for log in result if log["topics"][0] == queued][3]
        words = [log["data"][at : at + 64] for at in range(2, len(log["data"]), 64)]
        words[2] = f"{int(words[2], 16) + 1:064x}"
        log["data"] = "0x" + "".join(words)
        return result

    ledger = follow(LyingRpc(settled.anvil.url, lie), exchange, Ledger(State(exchange.preset)))
    assert [problem.code for problem in ledger.problems] == ["batch_requests"]
    assert ledger.number == 1


def test_m19_the_data_of_every_batch_is_found_by_plain_json_rpc(settled, exchange):
    """Nothing but standard methods leads from the contract's address to the whole state."""
    asked: set[str] = set()

    def listen(method, parameters, result):
        asked.add(method)
        return result

    rpc = LyingRpc(settled.anvil.url, listen)
    found = read_exchange(rpc, settled.address)
    state = rebuild(rpc, found).state
    assert state.root == settled.state.root and dict(state.accounts) == dict(settled.state.accounts)
    assert asked == {
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_getBlockByNumber",
        "eth_getCode",
        "eth_getLogs",
        "eth_getTransactionByHash",
    }


def test_m19_odd_encodings_of_calldata_hide_nothing(settled, exchange):
    """Solidity follows any offset, so an operator may encode a commit in ways that common decoders refuse."""
    straight = read_all(Rpc(settled.anvil.url), exchange)

    def change(raw):
        # Both byte strings move to the end, the fees before the actions, with junk between.
        actions, fees = (tail(raw, 32 * k + 4) for k in (4, 5))
        at = len(raw) - 4
        raw += fees + b"\xaa" * 7 + actions
        raw[COMMIT_ACTIONS + 32 : COMMIT_ACTIONS + 64] = at.to_bytes(32, "big")
        raw[COMMIT_ACTIONS : COMMIT_ACTIONS + 32] = (at + len(fees) + 7).to_bytes(32, "big")

    assert read_all(LyingRpc(settled.anvil.url, change_input(3, change)), exchange) == straight


def tail(raw, head):
    at = 4 + int.from_bytes(raw[head : head + 32], "big")
    return bytes(raw[at : at + 32 + int.from_bytes(raw[at : at + 32], "big")])


def test_an_empty_vault_is_noticed(settled):
    settled.anvil.rpc("anvil_setBalance", settled.address, "0x1")
    report = verify_exchange(settled.anvil.url, settled.address)
    assert codes(report) == {"insolvent"} and report.vault["ETH"] == 1


def test_what_is_no_exchange_is_refused(settled):
    with pytest.raises(NotAnExchange):
        read_exchange(Rpc(settled.anvil.url), "0x" + "11" * 20)
    with pytest.raises(NotAnExchange):
        read_exchange(Rpc(settled.anvil.url), settled.token.address)


@pytest.mark.parametrize(
    ("method", "answer", "kind"),
    [
        ("eth_getBlockByNumber", None, RpcMalformed),
        ("eth_call", None, RpcMalformed),
        ("eth_getCode", None, RpcMalformed),
        ("eth_call", RpcRefused("missing trie node"), RpcRefused),
    ],
)
def test_a_node_that_fails_says_nothing_of_the_contract(settled, method, answer, kind):
    """Honest nodes do, when they are a block behind or have forgotten: a wrong address is something else."""

    def lie(asked, parameters, result):
        if asked != method:
            return result
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(kind) as caught:
        read_exchange(LyingRpc(settled.anvil.url, lie), settled.address)
    assert not isinstance(caught.value, NotAnExchange)


def test_all_nodes_have_to_say_that_there_is_no_exchange(settled, exchange):
    with Anvil() as other:
        rpc = Rpc([other.url, settled.anvil.url])
        assert read_exchange(rpc, settled.address) == exchange and rpc.url == settled.anvil.url
        with pytest.raises(NotAnExchange):
            read_exchange(Rpc([other.url, settled.anvil.url]), "0x" + "11" * 20)


def test_a_node_that_is_not_there_is_a_typed_error(settled, capsys, monkeypatch):
    monkeypatch.setattr("proofbook.verifier.rpc.MAX_TRIES", 2)
    assert cli.main(["--rpc", "http://127.0.0.1:9", "--contract", settled.address, "--json"]) == 1
    out, _ = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == RpcUnavailable.code


def test_the_preset_is_the_tables(exchange):
    assert exchange.preset is MINIMAL


def test_small_ranges_of_events_are_enough(settled, exchange):
    """Nodes that limit ranges are asked in pieces, and nothing is lost or read twice."""

    def stingy(method, parameters, result):
        if method == "eth_getLogs":
            first, last = (int(parameters[0][name], 16) for name in ("fromBlock", "toBlock"))
            if last - first > 3:
                raise RpcRefused("range too large")
        return result

    straight = read_all(Rpc(settled.anvil.url), exchange)
    assert read_all(LyingRpc(settled.anvil.url, stingy), exchange) == straight
