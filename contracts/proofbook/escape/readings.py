"""What the watch reads off the chain besides what the escape does, each at the block of the contract that it has."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Final

from proofbook.escape.owned import Owned
from proofbook.protocol.table import ETH_QUANTUM, RequestKind
from proofbook.verifier.abi import topic
from proofbook.verifier.chain import deployed_at
from proofbook.verifier.contract import Exchange, Reader
from proofbook.verifier.history import Ledger
from proofbook.verifier.replay import claimed, outstanding
from proofbook.verifier.rpc import Rpc, quantity

GAS_ONCE: Final = 500_000
GAS_ACCOUNT: Final = 1_000_000
GAS_TOKEN: Final = 600_000
"""Gas to leave with, generously: of a freeze, of an account's exit, and of a token's request, credit and claim."""


def queued_at(rpc: Rpc, exchange: Exchange, ledger: Ledger, first_block: int) -> int:
    """Return the timestamp of the block in which the oldest unserved request was queued, 0 if a batch came since.

    Parameters
    ----------
    rpc : Rpc
        The nodes.
    exchange : Exchange
        The contract.
    ledger : Ledger
        What happened up to its block.
    first_block : int
        Block of the deployment, or any before; 0 to look for it, where there was no batch yet.

    Raises
    ------
    RpcUnavailable, RpcRefused, RpcMalformed
        When the node fails.
    """
    first = ledger.batch_block + 1 if ledger.batch_block else first_block or deployed_at(rpc, exchange)
    for _, events in rpc.ranges(exchange.address, [topic("RequestQueued")], first, exchange.block):
        for log in events:
            topics = log.get("topics")
            if isinstance(topics, list) and len(topics) > 1 and quantity(topics[1]) == exchange.served:
                return min(exchange.time, rpc.block(quantity(log["blockNumber"]))[1])
    return 0 if ledger.batch_block else exchange.time


def gas_to_leave(rpc: Rpc, exchange: Exchange, own: Owned, sender: str) -> tuple[int, int]:
    """Return the wei that a sender has, and that leaving takes about: gas, and the highest fees of forced exits.

    Parameters
    ----------
    rpc : Rpc
        The nodes.
    exchange : Exchange
        The contract.
    own : Owned
        What is to leave; where that is nothing, nothing is needed.
    sender : str
        Whose key pays.
    """
    holding = [account for account in own.accounts if account.balances and not account.exited]
    tokens = len(own.claims) + sum(len(account.balances) for account in holding)
    if not tokens:
        return 0, 0
    asked = {(q.request.account, q.request.token) for q in own.waiting if q.request.kind == RequestKind.EXIT}
    requests = sum((account.index, token) not in asked for account in holding for token in account.balances)
    gas = GAS_ONCE + GAS_ACCOUNT * len(holding) + GAS_TOKEN * tokens
    fees = 0 if exchange.frozen else requests * ETH_QUANTUM * _exit_fee_cap(rpc, exchange)
    held = quantity(rpc.call("eth_getBalance", sender, "latest"))
    return held, gas * quantity(rpc.call("eth_gasPrice")) + fees


def _exit_fee_cap(rpc: Rpc, exchange: Exchange) -> int:
    return int(Reader(rpc, exchange.address, exchange.block).read("exitFeeCap()", "uint64")[0])


def owed(exchange: Exchange, ledger: Ledger) -> dict[int, int]:
    """Return what is owed of each token, by the contract's books or the rebuilt ones: whichever is more."""
    rebuilt: Counter[int] = outstanding(ledger) + claimed(ledger)
    return {token.id: max(rebuilt[token.id], token.outstanding + token.claims) for token in exchange.tokens}


def trading_keys(ledger: Ledger, own: Owned | None) -> dict[int, tuple[int, int]]:
    """Return the trading keys of somebody's accounts, as far as they are in the state."""
    accounts = ledger.state.accounts
    indices = [account.index for account in own.accounts if account.index in accounts] if own is not None else []
    return {index: (accounts[index].pub_x, accounts[index].pub_y) for index in indices}


def keys_hash(exchange: Exchange) -> str:
    """Return a hash of all that the contract's proofs are checked with."""
    digest = hashlib.sha256()
    for part in (*(size.key for size in exchange.sizes), exchange.exit_key, exchange.exit_zkey_hash):
        digest.update(hashlib.sha256(part).digest())
    rest = (exchange.genesis_root, [size.size for size in exchange.sizes])
    digest.update(exchange.exit_wasm_hash + str(rest).encode())
    return digest.hexdigest()
