"""What the contract would make of a lie, and whether a lie that the circuit accepts is one that matters.

A lie is a set of circuit inputs. The contract writes some words of D itself and has its own limits on the others; it
draws z and evaluates y over *its* words. A lie that the circuit then accepts is a survivor if `transition.apply`
refuses its published words, or comes to another root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from proofbook.protocol.babyjub import Point
from proofbook.protocol.eddsa import Signature
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.field import R
from proofbook.protocol.messages import Action, SignedAction
from proofbook.protocol.sponge import commitment, horner
from proofbook.protocol.state import State
from proofbook.protocol.table import (
    COUNT_BITS,
    FEE_LAYOUT,
    FILL_LAYOUT,
    HEADER_WORDS,
    MESSAGE1_LAYOUT,
    MESSAGE2_LAYOUT,
    REQUEST_LAYOUT,
    RequestKind,
    Size,
)
from proofbook.protocol.transition import apply
from proofbook.protocol.words import layout_bits, page_from_words, request_row_from_words, unpack
from proofbook.prover.errors import WitnessError

Inputs = dict[str, Any]
_HEAD_BITS: Final = 128
"""Bits of A0 in calldata: 16 bytes."""
_COUNTS_AT: Final = 136


class Verdict(StrEnum):
    """What became of a lie."""

    REFUSED = "refused"
    BENIGN = "benign"
    SURVIVOR = "survivor"


@dataclass(frozen=True)
class Finding:
    """A verdict, and what gave it: the refusing line, the contract, or the reason `transition.apply` gives.

    Attributes
    ----------
    reached : bool
        Some constraint has judged: neither the contract nor the reader of inputs has refused before.
    """

    verdict: Verdict
    reason: str
    reached: bool = True


class ContractRefuses(Exception):
    """The contract would not take these words whatever the proof says."""


class Contract:
    """The contract's side of a batch: what it writes itself, its challenge, its limits.

    Parameters
    ----------
    forging : module
        `tests/circuits/forging.py`.
    state : State
        Before the batch.
    size : Size
        Rows of the circuit.
    honest : dict
        Inputs of an honest page: header fields that are the contract's own are taken from it.
    draw : callable
        Draws z from words and C.
    """

    OWN = ("domain", "sizeAndNumber", "feeAccount", "oldRoot")

    def __init__(self, forging: Any, state: State, size: Size, honest: Inputs, draw: Any) -> None:
        self.forging, self.state, self.size, self.draw = forging, state, size, draw
        self.own = {name: honest[name] for name in self.OWN}

    def words(self, inputs: Inputs) -> list[int]:
        """Return D as the contract has it, all the liar's say in it being his; `ContractRefuses` beyond its limits."""
        found: list[int] = self.forging.words({**inputs, **self.own})
        counts = found[1] >> _COUNTS_AT
        kinds = ("requests", "actions", "fees")
        limits = [getattr(self.size, kind) for kind in kinds]
        at = HEADER_WORDS
        for k, (rows, width) in enumerate(zip(limits, (4, 2, 1), strict=True)):
            count = counts >> (COUNT_BITS * k) & ((1 << COUNT_BITS) - 1)
            if count > rows or any(found[at + width * count : at + width * rows]):
                raise ContractRefuses(f"{kinds[k]}: {count} rows")
            self._check_rows(kinds[k], found[at : at + width * count])
            at += width * rows
        return found

    def _check_rows(self, kind: str, rows: Sequence[int]) -> None:
        if kind == "requests":
            for i in range(0, len(rows), 4):
                self._check_request(rows[i : i + 4])
        elif kind == "actions":
            limits = (_HEAD_BITS, layout_bits(FILL_LAYOUT))
            if any(word >> limits[i % 2] for i, word in enumerate(rows)):
                raise ContractRefuses("an action beyond its calldata")
        elif any(word >> layout_bits(FEE_LAYOUT) for word in rows):
            raise ContractRefuses("a fee beyond its calldata")

    def _check_request(self, words: Sequence[int]) -> None:
        """Check that L1 would have queued it; the outcome is the operator's, 64 bits."""
        below = layout_bits(REQUEST_LAYOUT) - 64
        try:
            unpack(REQUEST_LAYOUT, words[0])
            request = request_row_from_words([words[0] & ((1 << below) - 1), *words[1:]]).request
        except ProofbookError as error:
            raise ContractRefuses(str(error)) from error
        named = {RequestKind.OPEN: request.owner, RequestKind.DEPOSIT: request.token * request.amount}
        named |= {RequestKind.EXIT: request.token, RequestKind.KEY: 1}
        if request.account >= self.state.preset.accounts or not named[RequestKind(request.kind)]:
            raise ContractRefuses("no such request")

    def bind(self, inputs: Inputs, elements: Sequence[int] | None = None, words: Sequence[int] | None = None) -> None:
        """Set C, z and y; the liar may say what C is of and which words he publishes, if not what his inputs give."""
        found = list(words) if words is not None else self.words(inputs)
        absorbed = self.forging.elements(inputs) if elements is None else elements
        inputs["C"] = commitment([element % R for element in absorbed])
        inputs["z"] = self.draw(found, inputs["C"])
        inputs["y"] = horner(found, inputs["z"])

    def judge(self, inputs: Inputs, words: Sequence[int]) -> Finding:
        """Return the verdict on words whose proof was accepted."""
        try:
            page = page_from_words(list(words), self.size)
            signed = [signed_of(inputs, row, self.forging) for row in range(len(page.actions))]
            apply(self.state, page, signed, self.size)
        except ProofbookError as error:
            return Finding(Verdict.SURVIVOR, f"{type(error).__name__}: {error}")
        return Finding(Verdict.BENIGN, "transition.apply agrees")


def signed_of(inputs: Inputs, row: int, forging: Any) -> SignedAction:
    """Return the action that a row's message says, read as everybody reads it, and its signature.

    Raises
    ------
    InvalidValue
        For a message that is none.
    """
    said = forging.column(inputs, "action", row)
    first = forging.action_words(said)[0] + (said["maxFeeBps"] << 125) + (said["validUntil"] << 139)
    second = said["baseAmount"] + (said["quoteAmount"] << 64) + (said["receiver"] << 128)
    fields = unpack(MESSAGE1_LAYOUT, (first + (said["flags"] << 171)) % R) | unpack(MESSAGE2_LAYOUT, second % R)
    return SignedAction(Action(domain=inputs["domain"], **fields), Signature(Point(*said["r8"]), said["s"]))


def refused_by(error: WitnessError) -> Finding:
    """Return the finding on a witness that failed; what is no refusal is raised again."""
    if error.code not in ("witness/unsatisfied", "witness/inputs"):
        raise error
    return Finding(Verdict.REFUSED, str(error), reached=error.code == "witness/unsatisfied")


def tell(contract: Contract, lie: Any, words: Sequence[int] | None = None) -> Finding:
    """Tell a lie whose C, z and y stand, and judge what comes of it; `words` as in `Contract.bind`."""
    try:
        published = list(words) if words is not None else contract.words(lie.inputs)
        lie.accepted()
    except ContractRefuses as error:
        return Finding(Verdict.REFUSED, f"contract: {error}", reached=False)
    except WitnessError as error:
        return refused_by(error)
    return contract.judge(lie.inputs, published)


def tell_exit(state: State, inputs: Mapping[str, Any], calculate: Any) -> Finding:
    """Tell a lie to the exit circuit: the contract takes its own root and pays the owner what the words say."""
    try:
        if inputs["root"] != state.root or inputs["owner"] >> 160:
            return Finding(Verdict.REFUSED, "contract: another root", reached=False)
        calculate(inputs)
    except WitnessError as error:
        return refused_by(error)
    index = inputs["index"]
    if not 0 <= index < state.preset.accounts or not state.account(index).owner:
        return Finding(Verdict.SURVIVOR, f"there is no account {index}")
    account = state.account(index)
    packed, amounts = account.positions_words()
    paid = [inputs[f"a{k}"] >> (64 * i) & (2**64 - 1) for k in range(5) for i in range(3)]
    over = any(inputs[f"a{k}"] >> 192 for k in range(5))
    if over or (inputs["owner"], inputs["T"], paid) != (account.owner, packed, list(amounts)):
        return Finding(Verdict.SURVIVOR, f"account {index} is paid what it does not hold")
    return Finding(Verdict.BENIGN, "the account's own")
