"""What only events tell - the queue, claims, who left - held against what the contract keeps of it.

The state has a root and a batch a proof. These have neither, and a node may change one word of an event.
"""

from __future__ import annotations

from typing import Final

from eth_utils.crypto import keccak

from proofbook.verifier.contract import Exchange, Reader, address_text
from proofbook.verifier.history import Ledger, Problem, Queued
from proofbook.verifier.rpc import Rpc

MAX_TOLD: Final = 8
"""Requests that are reported one by one."""
_CONSUMED: Final = bytes(32)


class Held:
    """Compares a ledger with the contract; of a request, a node is asked once.

    Parameters
    ----------
    rpc : Rpc
        The nodes.
    """

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._fit: set[tuple[str, int, bytes]] = set()

    def request_problems(self, exchange: Exchange, ledger: Ledger) -> list[Problem]:
        """Return the unserved requests that are not what the contract keeps the hash of, the first few of them.

        Raises
        ------
        RpcUnavailable, RpcRefused, RpcMalformed
            When the node fails.
        """
        reader = Reader(self._rpc, exchange.address, exchange.block)
        fit, found = set(), []
        for queued in ledger.requests.values():
            wanted = _CONSUMED if queued.id in ledger.reclaimed else request_hash(queued)
            if (self._rpc.url, queued.id, wanted) not in self._fit:
                kept = bytes(reader.read("requestHash(uint64)", "bytes32", queued.id)[0])
                if kept != wanted:
                    text = f"request {queued.id} is not the one that the contract has"
                    found.append(Problem("request_changed", text))
                    if len(found) == MAX_TOLD:
                        break
                    continue
            fit.add((self._rpc.url, queued.id, wanted))
        self._fit = fit
        return found

    def owner_problems(self, exchange: Exchange, ledger: Ledger, owner: int) -> list[Problem]:
        """Return where the contract owes an address something else than the ledger says, or knows of other exits.

        Raises
        ------
        RpcUnavailable, RpcRefused, RpcMalformed
            When the node fails.
        """
        reader = Reader(self._rpc, exchange.address, exchange.block)
        address, found = address_text(owner), []
        for token in exchange.tokens:
            # A counter that is asked like a dict keeps no zeros.
            rebuilt = ledger.claims.get((owner, token.id), 0)
            if not (rebuilt or token.claims):
                continue
            kept = int(reader.read("claims(address,uint16)", "uint64", address, token.id)[0])
            if kept != rebuilt:
                text = f"{token.symbol}: the claim of {address} is {kept} on chain, {rebuilt} rebuilt"
                found.append(Problem("books", text))
        if exchange.frozen or ledger.exits:
            found += self._exit_problems(reader, ledger, owner)
        return found

    def _exit_problems(self, reader: Reader, ledger: Ledger, owner: int) -> list[Problem]:
        found = []
        for index in [index for index, account in ledger.state.accounts.items() if account.owner == owner]:
            *_, has_left = reader.read("accounts(uint24)", "address,bool,bool", index)
            if bool(has_left) != (index in ledger.exits):
                text = f"account {index} has {'left' if has_left else 'not left'} on chain, rebuilt it is otherwise"
                found.append(Problem("exit_missing", text))
        return found


def request_hash(queued: Queued) -> bytes:
    """Return what the contract keeps of an unserved request: keccak of its fields, all but the outcome."""
    q = queued.request
    fields = (q.kind, q.account, q.token, q.amount, q.owner, q.pub_x, q.pub_y, queued.fee, queued.deadline)
    return bytes(keccak(b"".join(field.to_bytes(32, "big") for field in fields)))
