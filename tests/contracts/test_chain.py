"""proofbook.chain: compiler, anvil, events, batches read back, reorganisations, errors."""

import dataclasses
from typing import Any

import pytest
from eth_account import Account
from web3 import HTTPProvider, Web3

from proofbook.chain.anvil import Anvil, AnvilOptions, rpc
from proofbook.chain.client import Exchange
from proofbook.chain.compile import MAX_RUNTIME_BYTES, contract_artifact
from proofbook.chain.errors import (
    AnvilError,
    BatchDataError,
    ChainError,
    CompileError,
    ContractRevert,
    NodeBehind,
    NotProofbook,
    ReorgDetected,
    TransactionFailed,
)
from proofbook.chain.events import ConfirmedBlocks, batches_since, get_events, read_batch, requests_since
from proofbook.chain.hints import HINTS
from proofbook.protocol.field import R
from proofbook.protocol.messages import challenge
from proofbook.protocol.sponge import horner
from proofbook.protocol.table import ActionType, RequestKind
from proofbook.protocol.words import ActionRow, FeeRow, page_words


def test_runtime_code_fits_the_chain_and_is_what_is_deployed(world):
    artifact = contract_artifact("Proofbook")
    code = bytes(world.w3.eth.get_code(world.address))
    assert len(code) < MAX_RUNTIME_BYTES
    assert artifact.immutable_references
    assert code != artifact.deployed_bytecode
    assert artifact.masked(code) == artifact.deployed_bytecode
    assert artifact.masked(bytes([code[0] ^ 1]) + code[1:]) != artifact.deployed_bytecode


def test_unknown_contracts_are_refused():
    with pytest.raises(CompileError):
        contract_artifact("Nothing")


def test_every_error_of_the_contract_has_a_hint():
    named = {e["name"] for e in contract_artifact("Proofbook").abi if e["type"] == "error"}
    missing = named - set(HINTS)
    assert missing <= {"DataContractFailed"}


def test_reverts_carry_name_arguments_and_hint(world):
    with pytest.raises(ContractRevert) as refused:
        world.by("alice").claim(1)
    error = refused.value
    assert (error.code, error.name) == ("contract_revert", "NothingToClaim")
    assert error.args_by_name == {"owner": world.alice, "token": 1}
    assert error.hint == HINTS["NothingToClaim"]
    assert error.hint in str(error)
    assert error.data()["args"] == error.args_by_name


def test_a_revert_that_shows_only_when_mined_is_decoded(world):
    """Estimated while it would pass, mined after somebody else was first."""
    world.by("alice").open(1, 2, surplus=50)
    world.anvil.rpc("evm_setAutomine", False)
    try:
        first = world.contract.functions.claimFor(world.alice, 1)
        first.transact({"from": world.bob, "gas": 200_000, "gasPrice": 10**11})
        second = world.by("carol").submit("claimFor", world.alice, 1)
        world.anvil.mine()
        with pytest.raises(ContractRevert, match="NothingToClaim"):
            world.by("carol").wait(second)
    finally:
        world.anvil.rpc("evm_setAutomine", True)


def test_a_transaction_that_is_not_mined_times_out(world):
    world.anvil.rpc("evm_setAutomine", False)
    try:
        with pytest.raises(TransactionFailed, match="not mined"):
            Exchange(world.w3, world.address, world.alice, timeout=0.3).open(1, 2)
    finally:
        world.anvil.rpc("anvil_dropAllTransactions")
        world.anvil.rpc("evm_setAutomine", True)


def test_reading_needs_no_account_and_sending_does(world):
    reader = Exchange(world.w3, world.address)
    assert reader.operator() == world.operator
    with pytest.raises(ChainError, match="no account"):
        reader.claim(1)
    with pytest.raises(NotProofbook):
        Exchange(world.w3, world.alice)
    with pytest.raises(NotProofbook):
        reader.verifying_key(world.address)


def test_the_configuration_is_read_back(world):
    c, given = world.exchange.config(), world.config()
    assert (c.account_depth, c.order_depth) == (given.preset.account_depth, given.preset.order_depth)
    assert (c.request_window, c.request_spacing, c.max_lag) == (3600, 10, 600)
    assert (c.base_fee, c.fee_step, c.fee_cap, c.exit_fee_cap) == (1_000, 100, 5_000, 1_500)
    assert c.sizes == tuple(size for size, _ in given.sizes)
    assert c.owner == world.owner
    keys = [world.exchange.verifying_key(k) for k in (*c.size_keys, c.exit_key)]
    assert keys == [*(key for _, key in given.sizes), given.exit_key]
    assert c.genesis_root == world.exchange.state_root()


# --- events and batches


@pytest.fixture
def committed(world):
    a = world.open("alice")
    token, _ = world.token()
    world.by("alice").deposit(a, token, 50)
    world.serve()
    world.by("alice").deposit(a, token, 7)
    world.by("alice").force_exit(a, token)
    requests = list(zip(world.queue(), (1, 30), strict=True))
    actions = [
        ActionRow(int(ActionType.WITHDRAW), a, 4, token, ex_base=5),
        ActionRow(int(ActionType.TRANSFER), a, 5, token, ex_base=2, aux=0),
    ]
    page, receipt = world.commit(requests, actions=actions, fees=[FeeRow(token, 3)])
    return page, receipt, requests


def test_a_batch_is_read_back_from_its_transaction(world, committed):
    page, receipt, requests = committed
    events = list(batches_since(world.exchange, 0, world.w3.eth.block_number))
    assert [e.number for e in events] == list(range(1, len(events) + 1))
    batch = read_batch(world.exchange, events[-1], world.sizes[0])
    assert batch.page == page
    assert batch.requests == tuple(q.__class__(q.id, q.request, q.fee, q.deadline) for q, _ in requests)
    assert list(batch.words) == page_words(page, world.sizes[0])
    assert batch.z == challenge(world.chain_id, world.address, 0, batch.words, 5)
    assert (batch.c, batch.y) == (5, horner(batch.words, batch.z))
    assert len(batch.proof) == 8
    assert batch.event.place.block == receipt["blockNumber"]


def test_a_batch_whose_transaction_is_another_is_refused(world, committed):
    event = list(batches_since(world.exchange, 0, world.w3.eth.block_number))[-1]
    opening = next(requests_since(world.exchange, world.deployment.block + 1, world.w3.eth.block_number))
    for place in (opening.place, dataclasses.replace(event.place, tx="0x" + "11" * 32)):
        with pytest.raises(BatchDataError):
            read_batch(world.exchange, dataclasses.replace(event, place=place), world.sizes[0])
    changes: tuple[dict[str, Any], ...] = ({"new_root": 1}, {"n_actions": 1}, {"timestamp": 1})
    for change in changes:
        with pytest.raises(BatchDataError):
            read_batch(world.exchange, dataclasses.replace(event, **change), world.sizes[0])
    with pytest.raises(BatchDataError):
        read_batch(world.exchange, event, dataclasses.replace(world.sizes[0], actions=1))


class LimitedNode(HTTPProvider):
    """The same node behind a gateway that answers for at most `limit` blocks of events at once."""

    def __init__(self, url: str, limit: int) -> None:
        super().__init__(url)
        self.limit = limit
        self.asked: list[int] = []

    def make_request(self, method, params):
        if method == "eth_getLogs":
            first, last = (int(params[0][k], 16) for k in ("fromBlock", "toBlock"))
            self.asked.append(last - first + 1)
            if self.asked[-1] > self.limit:
                return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "query exceeds range"}}
        return super().make_request(method, params)


def test_event_ranges_are_halved_until_the_node_accepts(world):
    """A node that allows 3 blocks at once gives the same events as one that allows all."""
    for _ in range(5):
        world.open("alice")
    last = world.w3.eth.block_number
    expected = list(requests_since(world.exchange, 0, last))
    assert len(expected) == 6
    node = LimitedNode(world.anvil.url, 3)
    assert list(requests_since(Exchange(Web3(node), world.address), 0, last)) == expected
    assert min(node.asked) <= 3 < max(node.asked)


def test_a_node_that_refuses_every_range_is_an_error(world):
    limited = Exchange(Web3(LimitedNode(world.anvil.url, 0)), world.address)
    with pytest.raises(ChainError, match="refuses"):
        list(get_events(limited, "RequestQueued", 0, 3))


def test_blocks_are_handed_out_once_confirmed(world):
    head = world.w3.eth.block_number
    blocks = ConfirmedBlocks(world.w3, head - 1, confirmations=2)
    assert blocks.advance() is None
    world.anvil.mine(3)
    assert blocks.advance() == (head - 1, head + 1)
    assert blocks.advance() is None
    world.anvil.mine()
    assert blocks.advance() == (head + 2, head + 2)


def test_a_reorganisation_is_noticed_and_read_again(world):
    head = world.w3.eth.block_number
    blocks = ConfirmedBlocks(world.w3, head, confirmations=0)
    assert blocks.advance() == (head, head)
    snapshot = world.anvil.snapshot()
    world.open("alice")
    assert blocks.advance() == (head + 1, head + 1)
    world.anvil.revert(snapshot)
    world.anvil.rpc("evm_increaseTime", 7)
    world.open("bob")
    world.anvil.mine()
    resumed = ConfirmedBlocks(world.w3, blocks.next_block, 0, blocks.known)
    for reader in (blocks, resumed):
        with pytest.raises(ReorgDetected) as noticed:
            reader.advance()
        assert noticed.value.fork_block == head
        assert reader.advance() == (head + 1, head + 2)


def test_a_node_that_is_behind_is_no_reorganisation(world):
    head = world.w3.eth.block_number
    snapshot = world.anvil.snapshot()
    world.anvil.mine(3)
    blocks = ConfirmedBlocks(world.w3, head, confirmations=0)
    assert blocks.advance() == (head, head + 3)
    world.anvil.revert(snapshot)
    for _ in range(2):
        with pytest.raises(NodeBehind, match=f"block {head + 3}"):
            blocks.advance()
    world.anvil.rpc("evm_increaseTime", 7)
    world.anvil.mine(4)
    with pytest.raises(ReorgDetected):
        blocks.advance()


def test_a_reorganisation_is_not_forgotten_by_a_failure_while_it_is_looked_into(world, monkeypatch):
    blocks = ConfirmedBlocks(world.w3, world.w3.eth.block_number, confirmations=0)
    fork = world.w3.eth.block_number
    assert blocks.advance() is not None
    snapshot = world.anvil.snapshot()
    for _ in range(2):
        world.anvil.mine()
        blocks.advance()
    world.anvil.revert(snapshot)
    world.anvil.rpc("evm_increaseTime", 7)
    world.anvil.mine(3)
    real, asked = world.w3.eth.get_block, []

    def get_block(number):
        asked.append(number)
        if len(asked) == 2:
            raise ConnectionError("gone in between")
        return real(number)

    monkeypatch.setattr(world.w3.eth, "get_block", get_block)
    with pytest.raises(ConnectionError):
        blocks.advance()
    with pytest.raises(ReorgDetected) as noticed:
        blocks.advance()
    assert noticed.value.fork_block == fork


# --- anvil


def test_a_dumped_chain_is_loaded_with_its_events(world, tmp_path, committed):
    world.anvil.dump_state(tmp_path / "chain.json")
    with Anvil(AnvilOptions(load_state=tmp_path / "chain.json", accounts=3)) as again:
        exchange = Exchange(again.w3, world.address)
        last = again.w3.eth.block_number
        assert last == world.w3.eth.block_number
        assert exchange.state_root() == world.exchange.state_root()
        assert list(requests_since(exchange, 0, last)) == list(requests_since(world.exchange, 0, last))
        event = list(batches_since(exchange, 0, last))[-1]
        assert read_batch(exchange, event, world.sizes[0]).page == committed[0]
        assert len(again.w3.eth.accounts) == 3


def test_anvil_refuses_what_it_can_not_do(world):
    with pytest.raises(AnvilError):
        rpc(world.w3, "anvil_noSuchMethod")
    with pytest.raises(AnvilError):
        Anvil(AnvilOptions(port=int(world.anvil.url.rsplit(":", 1)[1]))).start()


def test_anvils_clock_moves(world):
    before = world.now()
    world.anvil.increase_time(1000)
    assert world.now() >= before + 1000


def test_keys_sign_locally(world):
    """A key of ours, of which the node knows nothing."""
    account = Account.from_key("0x" + "42" * 32)
    world.anvil.rpc("anvil_setBalance", account.address, hex(10**20))
    index, _ = world.exchange.as_account(account).open(R - 1, 0)
    assert world.exchange.account(index).owner == account.address
    poor = Account.from_key("0x" + "43" * 32)
    with pytest.raises((TransactionFailed, ContractRevert)):
        world.exchange.as_account(poor).open(1, 2)


@pytest.mark.parametrize(
    "error", ["Error(string)", "ERC20InsufficientBalance(address,uint256,uint256)", "InvalidProof()"]
)
def test_an_error_of_broken_form_is_a_revert(world, error):
    """A token may revert with whatever it likes: a known name, and not the arguments that belong to it."""
    token, contract = world.token(quantum=1, to=("alice",))
    index = world.open("alice")
    world.by("alice").deposit(index, token, 5)
    world.commit([(q, int(q.request.kind == RequestKind.DEPOSIT)) for q in world.queue()])
    # Whatever is called: the four bytes, and nothing behind them.
    code = "63" + Web3.keccak(text=error)[:4].hex().removeprefix("0x") + "60e01b5f5260045ffd"
    world.anvil.rpc("anvil_setCode", contract.address, "0x" + code)
    with pytest.raises(ContractRevert):
        world.by("alice").claim(token)
    assert world.exchange.claim_of(world.alice, token) == 5
