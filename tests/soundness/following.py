"""What follows from a mutation: signatures, flags, balances, order trees and roots made anew as far as they can be."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from proofbook.protocol import eddsa
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.field import R

PUBLIC: Final = ("C", "z", "y")
BESIDE: Final = ("actionR8", "actionS", "actionPub", "actionSlotId", "actionSlotFilled", "actionPath")
"""Signals of an action that no signature covers."""
BEYOND: Final = (ProofbookError, KeyError, IndexError, TypeError, ValueError, AssertionError)
"""What tells that nothing can follow: an account, a token or a balance that there is not. Callers count it."""


def follow(lie: Any, mutation: Any, forging: Any) -> str:
    """Change a lie's inputs and let all that can follow do so; what is beyond telling stands alone.

    Returns
    -------
    str
        What could not follow, so that the change stands alone; nothing where all did.
    """
    said = messages(lie, forging)
    mutation.make(lie.inputs)
    name = mutation.name
    if name in PUBLIC:
        return ""
    before = copy.deepcopy(lie.inputs)
    acting = name.startswith(("action", "rows of action"))
    held = name.startswith(("account", "requestTokens", "oldRoot"))
    steps: list[tuple[str, Callable[[], None]]] = []
    if acting and mutation.signed and name not in BESIDE:
        steps.append(("signatures", lambda: sign_anew(lie, said, forging)))
    if not held and name != "actionFirst":
        steps.append(("flags", lambda: settle_flags(lie, forging)))
    if acting and name not in ("actionSlotId", "actionSlotFilled", "actionPath"):
        steps.append(("slots", lie.settle_slots))
    if not held:
        if name != "requestOutcome":
            steps.append(("exits", lambda: settle_exits(lie, forging)))
        steps.append(("balances", lambda: settle_balances(lie, forging)))
    if name not in ("accountPath", "newRoot", "oldRoot"):
        steps += [("idle rows", lie.idle_follows), ("roots", lie.settle_roots)]
    for what, step in steps:
        try:
            step()
        except BEYOND:
            lie.inputs.clear()
            lie.inputs.update(before)
            return what
    return ""


def follow_exit(inputs: dict[str, Any], mutation: Any) -> None:
    """Let an exit's packed amounts follow from its amounts, or the other way round, in most lies about either."""
    if not mutation.signed:
        return
    if mutation.name == "amounts":
        for k in range(5):
            inputs[f"a{k}"] = (
                sum(amount << (64 * i) for i, amount in enumerate(inputs["amounts"][3 * k : 3 * k + 3])) % R
            )
    elif mutation.name in ("a0", "a1", "a2", "a3", "a4"):
        k = int(mutation.name[1])
        inputs["amounts"][3 * k : 3 * k + 3] = [inputs[f"a{k}"] >> (64 * i) & (2**64 - 1) for i in range(3)]


def messages(lie: Any, forging: Any) -> list[int]:
    """Return the message of each action row."""
    return [forging.message(row, lie.inputs["domain"]) for row in forging.rows(lie.inputs, "action")]


def sign_anew(lie: Any, said: list[int], forging: Any) -> None:
    """Let the account of each row that says something else sign that, with the key that tests have for it."""
    for i, (row, message) in enumerate(zip(forging.rows(lie.inputs, "action"), messages(lie, forging), strict=True)):
        if message == said[i] or not sum(row["type"]):
            continue
        account = lie.state.accounts[row["account"]]
        signature = eddsa.sign(bytes([0, row["account"]]) * 16, message)
        lie.set("actionPub", i, [account.pub_x, account.pub_y])
        lie.set("actionR8", i, list(signature.r8))
        lie.set("actionS", i, signature.s)


def settle_flags(lie: Any, forging: Any) -> None:
    """Let groups, what account rows count, and opened and re-keyed accounts follow from requests and actions."""
    inputs = lie.inputs
    requests = [row for row in forging.rows(inputs, "request") if sum(row["kind"])]
    actions = forging.rows(inputs, "action")
    previous = None
    for i, row in enumerate(actions):
        lie.set("actionFirst", i, int(bool(sum(row["type"])) and row["account"] != previous))
        previous = row["account"] if sum(row["type"]) else None
    acting = {row["account"] for row in actions if sum(row["type"])}
    landing = Counter((row["aux"], row["base"]) for row in actions if row["type"][2])
    for i, row in enumerate(forging.rows(inputs, "account")):
        if not row["enabled"]:
            continue
        index = row["index"]
        mine = [request for request in requests if request["account"] == index]
        lie.set("accountActed", i, int(index in acting))
        if index not in acting:
            lie.set("accountNewOrdersRoot", i, row["oldOrdersRoot"])
        lie.set("accountRequestMult", i, len(mine))
        lie.set("accountTransferMult", i, [landing[index, token] if token else 0 for token in row["oldTokens"]])
        for kind, flag in ((0, "accountOpened"), (2, "accountRekeyed")):
            keyed = [request for request in mine if request["kind"][kind]]
            lie.set(flag, i, int(bool(keyed)))
            if keyed:
                lie.set("accountNewPub", i, list(keyed[0]["pub"]))
            if keyed and kind == 0:
                lie.set("accountNewOwner", i, keyed[0]["owner"])


def settle_exits(lie: Any, forging: Any) -> None:
    """Let exits take all that the rest leaves, the first of a token everything and the others nothing."""
    inputs = lie.inputs
    exits = [i for i, row in enumerate(forging.rows(inputs, "request")) if row["kind"][3]]
    for i in exits:
        lie.set("requestOutcome", i, 0)
    left = postings(inputs, forging)
    for row in forging.rows(inputs, "account"):
        if row["enabled"]:
            for token, amount in zip(row["oldTokens"], row["oldAmounts"], strict=True):
                left[row["index"], token] += amount
    for i in exits:
        key = inputs["requestAccount"][i], inputs["requestToken"][i]
        lie.set("requestOutcome", i, left.pop(key, 0) % R)


def settle_balances(lie: Any, forging: Any) -> None:
    """Let the accounts' new positions be the old ones and all postings, the copies of T likewise."""
    inputs = lie.inputs
    deltas = postings(inputs, forging)
    after: dict[int, dict[int, int]] = {}
    for i, row in enumerate(forging.rows(inputs, "account")):
        if not row["enabled"]:
            continue
        held = Counter(dict(zip(row["oldTokens"], row["oldAmounts"], strict=True)))
        held.update({token: delta for (account, token), delta in deltas.items() if account == row["index"]})
        kept = {token: amount for token, amount in sorted(held.items()) if amount}
        if len(kept) > 15 or any(amount < 0 or amount >> 64 for amount in kept.values()):
            raise ValueError("no such balances")
        lie.positions(i, "New", kept)
        after[row["index"]] = kept
    for i, row in enumerate(forging.rows(inputs, "request")):
        if sum(row["kind"]) and row["account"] in after:
            tokens = list(after[row["account"]])
            lie.set("requestTokens", i, [0] * (15 - len(tokens)) + tokens)


def postings(inputs: dict[str, Any], forging: Any) -> Counter[tuple[int, int]]:
    """Return the sum of postings by account and token."""
    made: Counter[tuple[int, int]] = Counter()
    for row in forging.rows(inputs, "request"):
        key = row["account"], row["token"]
        if row["kind"][1] and not row["outcome"]:
            made[key] += row["amount"]
        if row["kind"][3]:
            made[key] -= row["outcome"]
    for row in forging.rows(inputs, "action"):
        account, base, quote = row["account"], row["base"], row["quote"]
        if row["type"][0]:
            sign = 1 - 2 * row["side"]
            made[account, base] += sign * row["exBase"]
            made[account, quote] -= sign * row["exQuote"] + row["aux"]
        elif row["type"][1] or row["type"][2]:
            made[account, base] -= row["exBase"]
            if row["type"][2]:
                made[row["aux"], base] += row["exBase"]
    for row in forging.rows(inputs, "fee"):
        made[inputs["feeAccount"], row["token"]] += row["amount"]
    return made
