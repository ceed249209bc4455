"""The escape, step by step. All that matters is on the chain, so it can stop and go on at any point, on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import TxReceipt

from proofbook.chain.errors import ContractRevert, GasPriceLimit, TransactionFailed
from proofbook.chain.fees import limit_from_environment
from proofbook.chain.transactions import OUTBID_SECONDS, Sender, calldata_of
from proofbook.escape.artifacts import check_exit_artifacts
from proofbook.escape.asked import Asked
from proofbook.escape.errors import ArtifactsMismatch, ArtifactsMissing, ExitProofFailed, KeyRefused, NotNow
from proofbook.escape.interface import escape_abi
from proofbook.escape.owned import Done as Done
from proofbook.escape.owned import Owned, Step, next_step, owned_of, steps_of
from proofbook.escape.pinned import Pinned
from proofbook.escape.proof import prove_exit
from proofbook.escape.provider import RpcProvider
from proofbook.escape.request_fee import fee_at_most, fee_limit_from_environment, fee_now
from proofbook.escape.sent import Sent
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.messages import parse_address
from proofbook.protocol.state import State
from proofbook.protocol.table import ETH_QUANTUM
from proofbook.verifier.chain import Chain
from proofbook.verifier.contract import Exchange, Reader
from proofbook.verifier.errors import BuildUnavailable, HistoryBroken, RpcMalformed
from proofbook.verifier.history import Ledger, Problem, Progress, Queued, silent
from proofbook.verifier.rpc import Rpc, quantity
from proofbook.verifier.stream import OnBatch

MAX_STEPS: Final = 500
PENDING_SECONDS: Final = 120
"""How long a transaction that something else sent with this key is waited for."""
SEND_SECONDS: Final = 300.0
"""How long one of our own is seen through, outbidding it meanwhile, before that counts as a failure."""
DEAR_SECONDS: Final = 3600.0
"""How long a claim is left alone whose refusal cost gas: a token may have every try fail in its block only."""
_ASIDE: Final[dict[str, tuple[type[ProofbookError], ...]]] = {
    "claim": (ContractRevert, TransactionFailed, RpcMalformed),
    "exit": (ContractRevert, ArtifactsMissing, ArtifactsMismatch, ExitProofFailed, BuildUnavailable),
    "reclaim": (ContractRevert,),
}
"""By step: the failures that are of this one alone, and hold no other back."""


class Escape:
    """A way out of one exchange. The chain is read when something of it is needed.

    Parameters
    ----------
    rpc : str, sequence of str, or Rpc
        Nodes.
    contract : str
        The exchange.
    account : LocalAccount or str, optional
        Sends the transactions; a string is an account that the node holds the key of. Looking needs none.
    artifacts : Path, optional
        Folder of the stored exit artifacts; only exits need it.
    first_block : int
        Block of the deployment, or any before; 0 to look for it.
    progress : Progress
        Told the stages.
    cache : Path, optional
        Folder where a long rebuild leaves checkpoints, to go on from.
    on_batch : callable, optional
        Given every batch that is read, before it is applied.
    chain_id : int
        The exchange's chain; 0 for the one seen first, which is kept. Nothing is signed for another.
    kept : Path, optional
        Folder where the chain, and what was sent and asked for, are kept; default: `cache`.

    Attributes
    ----------
    aside : dict of Step to ProofbookError
        What the last `run` tried, and put aside because it failed.
    """

    def __init__(
        self,
        rpc: str | Sequence[str] | Rpc,
        contract: str,
        account: LocalAccount | str | None = None,
        artifacts: Path | None = None,
        first_block: int = 0,
        progress: Progress = silent,
        cache: Path | None = None,
        on_batch: OnBatch | None = None,
        chain_id: int = 0,
        kept: Path | None = None,
    ) -> None:
        self.rpc = rpc if isinstance(rpc, Rpc) else Rpc(rpc, tell=progress)
        self.address = f"0x{parse_address(contract):040x}"
        self.artifacts = artifacts
        self._account = account
        self._progress = progress
        self._w3 = Web3(RpcProvider(self.rpc))
        kept = kept or cache
        self._pinned = Pinned(kept, self.address, chain_id, progress)
        self._chain = Chain(
            self.rpc,
            self.address,
            first_block,
            progress,
            cache,
            on_batch,
            accept=lambda exchange: self._pinned.hold(exchange.chain_id),
        )
        # Before they are needed: that may be in a year.
        self._fee_limit, self._gas_limit = fee_limit_from_environment(), limit_from_environment()
        self.aside: dict[Step, ProofbookError] = {}
        self._mined = 0
        self._dear: dict[tuple[int, Step], tuple[ProofbookError, float]] = {}
        if account is not None:
            self.include(self._sender_address())
        whose = (kept, self.address, "" if account is None else self._sender_address(), progress)
        self._sent, self._asked = Sent(*whose), Asked(*whose)

    def refresh(self) -> None:
        """Read the chain again.

        Raises
        ------
        HistoryBroken
            If what the node tells does not lead to the contract's root.
        VerifierError
            When the node fails or there is no exchange.
        """
        self._chain.read()
        self._require()

    def include(self, owner: int | str) -> None:
        """Have what the contract says an address owns decide, too, when the chain is read."""
        self._chain.include(parse_address(owner))

    def forget(self) -> None:
        """Have the chain read again before anything of it is used."""
        self._chain.forget()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What did not fit together when the chain was read."""
        self._chain.ensure()
        return self._chain.problems

    @property
    def exchange(self) -> Exchange:
        """The contract as it was read last."""
        return self._chain.exchange

    @property
    def history(self) -> Ledger:
        """What came of all that happened, as far as the node's data fit together."""
        return self._chain.ledger

    @property
    def state(self) -> State:
        """The state of the last proven root; `HistoryBroken` where the node's data do not lead there."""
        self._require()
        return self.history.state

    def owned(self, owner: int | str | None = None) -> Owned:
        """Return what an address owns, by default the sender; errors as `refresh`."""
        whose = self._owner(owner)
        self.include(whose)
        self._require()
        return owned_of(self.exchange, self.history, whose)

    def _require(self) -> None:
        """Have data that fit together, of whichever node gives them."""
        for left in reversed(range(len(self.rpc.urls))):
            try:
                return self._chain.require()
            except HistoryBroken as error:
                if not left:
                    raise
                self._progress(f"{error}; asking the next node")
            self.rpc.advance()
            self._chain.forget()
        return None

    def next_step(self, owner: int | str | None = None) -> Step:
        """Return the next step out for an address, by default the sender."""
        return next_step(self.owned(owner), self.now(), held=self.get_held())

    def get_held(self) -> frozenset[tuple[int, int]]:
        """Return the forced exits that were asked for, by account and token, and are not to be again for now."""
        self._asked.see(self.history.timestamp)
        return self._asked.get_held(self._count("latest")) if self._asked else frozenset()

    def now(self) -> int:
        """Return the time that the next block will have at least."""
        return max(self.exchange.time, int(time.time()))

    # --- steps

    def request(self, index: int, token: int, once: bool = False) -> Done:
        """File a forced exit of all that an account of the sender holds of a token.

        Parameters
        ----------
        index, token : int
            Account and token id.
        once : bool
            Whether it is `NotNow` what was asked for before, as far as is known: the chain is told by a node that may
            hide it, and each request costs a fee.

        Raises
        ------
        ContractRevert, TransactionFailed
            As the contract refuses; `IsFrozen` when it is too late for it, which is no loss.
        FeeTooHigh
            If it costs more than may be paid.
        """
        # Nothing of the history is needed: this must work also where it can't be rebuilt.
        reader = Reader(self.rpc, self.address, self.rpc.block_number())
        step = Step("request", account=index, token=token)

        def send(fee: int) -> Done:
            return self._send(step, "forceExit", index, token, value=fee * ETH_QUANTUM, once=once)

        try:
            return send(fee_now(reader, self._fee_limit))
        except ContractRevert as error:
            if error.name != "ValueTooLow":
                raise
            # Others queued meanwhile; again and again, to keep us out. Nobody can go above the highest fee.
            self._progress("the fee rose meanwhile: sending the highest; what is too much becomes a claim")
            return send(fee_at_most(reader, self._fee_limit))

    def freeze(self) -> Done:
        """Freeze the exchange by its oldest unserved request, whose deadline has passed.

        Raises
        ------
        NotNow
            If nothing waits, or the deadline has not passed, or it is frozen.
        """
        oldest = self.history.requests.get(self.exchange.served)
        if self.exchange.frozen:
            raise NotNow("the exchange is frozen already", "go on with exit")
        if oldest is None:
            raise NotNow("no request waits", "file one first: request")
        try:
            return self._send(Step("freeze", request=oldest.id), "freeze", oldest.argument())
        except ContractRevert as error:
            if error.name == "DeadlineNotPassed":
                until = f"wait until {oldest.deadline} (Unix time)"
                raise NotNow(f"request {oldest.id} has not missed its deadline", until) from error
            raise

    def exit(self, index: int) -> Done:
        """Prove what an account holds and turn it into its owner's claims; any sender will do.

        Raises
        ------
        ArtifactsMissing, ArtifactsMismatch
            If the stored exit artifacts are not the contract's (M25).
        NotNow
            If the exchange is not frozen.
        ExitProofFailed
            If the proof can't be made.
        """
        if not self.exchange.frozen:
            raise NotNow("the exchange is not frozen", "freeze comes first")
        if self.artifacts is None:
            raise ArtifactsMissing("no folder of exit artifacts was named", "give the folder they are stored in")
        try:
            artifacts = check_exit_artifacts(self.artifacts, self.exchange)
            self._progress(f"proving the exit of account {index}")
            call = prove_exit(artifacts, self.state, index)
        except OSError as error:
            raise ExitProofFailed(f"a file is in the way: {error}", "is the disk full? may it be read?") from error
        owner = Web3.to_checksum_address(f"0x{call.owner:040x}")
        arguments = (index, owner, call.tokens, list(call.amounts), list(call.proof))
        return self._send(Step("exit", account=index), "exit", *arguments)

    def reclaim(self, request_id: int) -> Done:
        """Take an unserved request's deposit and fee back, as claims of its sender; any sender will do.

        Raises
        ------
        NotNow
            If the exchange is not frozen, or the request was served or taken back.
        """
        if not self.exchange.frozen:
            raise NotNow("the exchange is not frozen", "freeze comes first")
        queued = self._unserved(request_id)
        return self._send(Step("reclaim", request=request_id), "reclaim", request_id, queued.argument())

    def claim(self, token: int, owner: int | str | None = None) -> Done:
        """Have a claim paid out to its owner, by default the sender; any sender will do."""
        to = Web3.to_checksum_address(f"0x{self._owner(owner):040x}")
        return self._send(Step("claim", token=token), "claimFor", to, token)

    def take(self, step: Step, owner: int | str | None = None) -> Done:
        """Take a step that `next_step` names; `NotNow` for ``wait``, ``done`` and what was asked for already.

        A claim whose refusal cost gas is left alone for a while, and its error raised again.
        """
        if step.name == "request" and step.account is not None and step.token is not None:
            return self.request(step.account, step.token, once=True)
        if step.name == "freeze":
            return self.freeze()
        if step.name == "exit" and step.account is not None:
            return self.exit(step.account)
        if step.name == "reclaim" and step.request is not None:
            return self.reclaim(step.request)
        if step.name == "claim" and step.token is not None:
            return self._claim_unless_dear(step, step.token, self._owner(owner))
        raise NotNow(f"there is nothing to do for {step.name}")

    def run(
        self, owner: int | str | None = None, on_step: Callable[[Done], None] | None = None
    ) -> tuple[list[Done], Step]:
        """Take steps until there is nothing to do but wait. A step that fails for itself alone holds no other back.

        Parameters
        ----------
        owner : int or str, optional
            Whose money; by default the sender's.
        on_step : callable, optional
            Given each step when it is done.

        Returns
        -------
        done : list of Done
            The steps taken.
        rest : Step
            ``wait`` or ``done``.

        Raises
        ------
        ProofbookError
            From a step; those before it stand, and running again goes on after them. That of a claim, a reclaim or an
            exit comes last, when there is nothing else to do, and not while there is something to wait for.
        """
        self.await_pending()
        done: list[Done] = []
        whose = self._owner(owner)
        self.aside = aside = self._still_dear(whose)
        for _ in range(MAX_STEPS):
            what, held = self.owned(whose), self.get_held()
            step = next_step(what, self.now(), aside, held)
            # What was put aside may have been mined all the same.
            left = [aside[one] for one in steps_of(what, self.now(), held) if one in aside]
            if step.name == "done" and left:
                raise left[0]
            if step == Step("wait"):
                self._progress("a forced exit was sent before, and the node does not show it: waiting for it")
            if step.name in ("wait", "done"):
                return done, step
            self._progress(f"step: {step.name}")
            try:
                done.append(self.take(step, whose))
            except GasPriceLimit:
                raise  # it is of no single step
            except _ASIDE.get(step.name, ()) as error:
                self._progress(f"{step.name} is put aside: {error}")
                aside[step] = error
            else:
                if on_step is not None:
                    on_step(done[-1])
        raise NotNow(f"no end after {MAX_STEPS} steps", "run it again to go on")

    def _still_dear(self, owner: int) -> dict[Step, ProofbookError]:
        now = time.monotonic()
        return {step: error for (whose, step), (error, until) in self._dear.items() if whose == owner and now < until}

    def _claim_unless_dear(self, step: Step, token: int, owner: int) -> Done:
        """Have a claim paid out; one is left alone for a while if a transaction was mined for its refusal."""
        if (refusal := self._still_dear(owner).get(step)) is not None:
            raise refusal
        try:
            return self.claim(token, owner)
        except (ContractRevert, TransactionFailed) as error:
            if self._count("latest") > self._mined:
                self._dear[owner, step] = (error, time.monotonic() + DEAR_SECONDS)
            raise

    def await_pending(self) -> dict[bytes, TxReceipt]:
        """Wait for transactions of an earlier run that are still on their way; else their steps would be taken twice.

        Those that the escape sent are outbid when they wait too long.

        Returns
        -------
        dict of bytes to TxReceipt
            The escape's own that were mined meanwhile and did what they were to, by their calldata.

        Raises
        ------
        NotNow
            If something else's are not mined in time.
        GasPriceLimit, TransactionFailed
            If the escape's own are not.
        """
        self._pinned.hold(self.rpc.chain_id())
        seen: dict[bytes, TxReceipt] = {}
        for waited in range(PENDING_SECONDS):
            self._mined = mined = self._count("latest")
            if mined >= self._count("pending"):
                return seen
            if not waited:
                self._progress("waiting for a transaction of yours that is still on its way")
            self._chain.forget()
            if raws := self._sent.get_all(mined, self._pinned.known):
                seen |= self._see_through(raws)
            else:
                time.sleep(1)
        raise NotNow("a transaction of yours is not mined", "wait, or send it again at a higher gas price")

    def _count(self, tag: str) -> int:
        """Return how many transactions of the sender there are by a node's latest or pending block."""
        return quantity(self.rpc.call("eth_getTransactionCount", self._sender_address(), tag))

    def _see_through(self, raws: Sequence[bytes]) -> dict[bytes, TxReceipt]:
        try:
            return {calldata_of(raws[-1], self._sender_address()): self._sender().resume(raws)}
        except ContractRevert as error:
            self._progress(f"it was mined and refused: {error}")  # what is to be done now, the chain tells
            return {}

    # --- edges

    def _owner(self, owner: int | str | None) -> int:
        if owner is None:
            return parse_address(self._sender_address())
        return parse_address(owner)

    def _sender_address(self) -> str:
        if self._account is None:
            raise KeyRefused("no L1 key was given", "name a key file, or set PROOFBOOK_KEY")
        return self._account if isinstance(self._account, str) else str(self._account.address)

    def _unserved(self, request_id: int) -> Queued:
        queued = self.history.requests.get(request_id)
        if queued is not None and request_id not in self.history.reclaimed:
            return queued
        raise NotNow(f"request {request_id} does not wait", "it was served or taken back, or never was")

    def _send(self, step: Step, function: str, *arguments: Any, value: int = 0, once: bool = False) -> Done:
        """Send a transaction; the chain is read again before anything else of it is used."""
        contract = self._w3.eth.contract(address=Web3.to_checksum_address(self.address), abi=escape_abi())
        # Behind one that is never mined it would wait for ever.
        seen = self.await_pending()
        block = 0
        try:
            receipt = seen.get(bytes.fromhex(contract.encode_abi(function, arguments)[2:]))
            if receipt is None:
                if once and (step.account, step.token) in self._asked.get_held(self._mined):
                    raise NotNow("it was asked for already", "if no node shows it, it is asked for again later")
                # With the nonce that was looked at: behind one that another node knows of, it could be done twice.
                call = contract.functions[function](*arguments)
                receipt = self._sender(step).send(call, value, self._mined)
                self._note(step)
            block = receipt["blockNumber"]
        finally:
            # Nodes behind one address differ: one that lacks this block would have us do the same again.
            self._chain.forget(block)
        return Done(step, Web3.to_hex(receipt["transactionHash"]))

    def _sender(self, step: Step | None = None) -> Sender:
        self._sender_address()
        assert self._account is not None
        return Sender(
            self._w3,
            self._account,
            escape_abi(),
            timeout=SEND_SECONDS,
            patience=OUTBID_SECONDS,
            limit=self._gas_limit,
            keep=partial(self._keep, step),
            chain_id=self._pinned.known,
        )

    def _keep(self, step: Step | None, raw: bytes) -> None:
        """Keep what is about to be sent: whatever is said of it then, it may have been mined."""
        self._sent.add(raw)
        if step is not None:
            self._note(step)

    def _note(self, step: Step) -> None:
        if step.name == "request" and step.account is not None and step.token is not None:
            self._asked.note((step.account, step.token), self._mined)
