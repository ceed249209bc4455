"""The operator's API against bodies near to good ones, signed anew or bent after it.

No answer is a 500, each is as the document says, a refusal has a code and changes nothing, and what is accepted can be
settled: batches of all of it pass `transition.apply`.
"""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proofbook.operator import commands as c
from proofbook.operator.batches import build_page
from proofbook.operator.engine import Engine, EngineConfig
from proofbook.operator.journal import Journal
from proofbook.operator.settings import JOURNAL
from proofbook.protocol import messages
from proofbook.protocol.messages import Action
from proofbook.protocol.state import State
from proofbook.protocol.table import ETH_TOKEN, ActionType, Flag, Side
from proofbook.protocol.transition import apply


def load(name: str) -> Any:
    """Import a helper beside this file: folders of tests are no packages."""
    spec = importlib.util.spec_from_file_location(f"fuzz_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


near, document = load("near"), load("document")
ROUNDS = 10 if near.LONG else 1
REQUESTS = 400 if near.LONG else 200
COIN, LOT = 2, 10
JUNK: list[Any] = [0, 1, -1, 2**16, 2**24, 2**32, 2**64 - 1, 2**64, 2**256, 10**400, 0.5, 1e308, True, None]
JUNK += ["", "x", "0", "00", "-1", "1e3", " 1", "٣", "\x00", "9" * 5000, "../..", "buy", [], [1], {}, "1" * 77]
PATHS = {"order": "/v1/orders", "cancel": "/v1/cancels", "withdraw": "/v1/withdrawals", "transfer": "/v1/transfers"}
TYPES = {"order": ActionType.ORDER, "cancel": ActionType.CANCEL}
TYPES |= {"withdraw": ActionType.WITHDRAW, "transfer": ActionType.TRANSFER}
UNREAD = ("malformed", "invalid_value", "bad_signature")
"""Codes of what never comes to the engine."""

pytestmark = [pytest.mark.xdist_group("live"), pytest.mark.slow]


WISHES: dict[str, list[Any]] = {
    "kind": ["order", "order", "order", "cancel", "withdraw", "transfer"],
    "account": [1] * 8 + [2] * 8 + [0, 3, 2**24 - 1],
    "side": ["with", "with", "with", "against"],
    "price": list(range(997, 1004)),
    "lots": [1, 2, 3, 4],
    "id": ["new"] * 8 + ["old", "far"],
    "amount": [1, 2, 3] * 4 + [0, 10**6, 2**64 - 1],
    "token": [COIN] * 6 + [ETH_TOKEN] * 6 + [3, 0],
    "receiver": [1, 1, 2, 2, 0, 3],
    "flags": [0] * 12 + [Flag.IOC, Flag.FOK, Flag.POST_ONLY, Flag.MARKET, 15],
    "fee": [25] * 8 + [10_000, 24],
    "valid": [3600] * 10 + [61, 59, 0, 2**31],
    "hard": [False, True],
    "signer": [0] * 12 + [1],
    "numbers": [False, True],
}
"""What a body is made of. Hypothesis would draw the rare ones as often."""


class Plan:
    """What one body is: wishes for its values, and changes after it was signed, in a third of all."""

    def __init__(self, draw: random.Random) -> None:
        self.wish = {name: draw.choice(values) for name, values in WISHES.items()}
        count = draw.choice([0, 0, 0, 0, 1, 2])
        self.changes = [(draw.randrange(31), draw.randrange(len(JUNK)), draw.randrange(4)) for _ in range(count)]


class Signer:
    """Makes bodies of wishes: mostly good ones, each with a signature over what it says."""

    def __init__(self, live: Any) -> None:
        self.live = live
        self.last = dict.fromkeys((0, 1, 2, 3, 2**24 - 1), 100)
        self.resting: Callable[[int], int] = lambda account: 0

    def make(self, wish: dict[str, Any]) -> dict[str, Any]:
        account, kind = wish["account"], wish["kind"]
        if wish["id"] == "new" and kind != "cancel":
            self.last[account] += 1
        id_ = 2**64 - 1 if wish["id"] == "far" else max(self.last[account] - 2 * (wish["id"] == "old"), 1)
        if kind == "cancel" and wish["id"] == "new":
            id_ = self.resting(account) or id_
        shown = {"account": account, "id": id_, "valid_until": min(self.live.now() + wish["valid"], 2**32 - 1)}
        shown |= self._order(wish) if kind == "order" else {} if kind == "cancel" else self._payment(wish)
        if kind == "transfer":
            shown["receiver"] = wish["receiver"]
        # In what is signed, a payment's token and amount stand where an order has its base.
        signed = {{"token": "base", "amount": "base_amount"}.get(name, name): value for name, value in shown.items()}
        side = self._side(wish) if kind == "order" else ""
        action = Action(domain=self.live.domain, type=TYPES[kind], side=Side.SELL if side == "sell" else 0, **signed)
        key = b"\x77" * 32 if wish["signer"] else bytes([account % 200 + 17]) * 32
        (x, y), s = messages.sign_action(key, action).signature
        body: dict[str, Any] = {n: value if wish["numbers"] else str(value) for n, value in shown.items()}
        body |= {"side": side} if side else {"hard": wish["hard"]} if kind == "cancel" else {}
        return body | {"signature": {"r8x": str(x), "r8y": str(y), "s": str(s)}}

    def _side(self, wish: dict[str, Any]) -> str:
        return "sell" if (wish["account"] == 1) == (wish["side"] == "with") else "buy"

    def _order(self, wish: dict[str, Any]) -> dict[str, int]:
        amounts = {"base_amount": wish["lots"] * LOT, "quote_amount": wish["lots"] * wish["price"]}
        return amounts | {"base": COIN, "quote": ETH_TOKEN, "max_fee_bps": wish["fee"], "flags": int(wish["flags"])}

    def _payment(self, wish: dict[str, Any]) -> dict[str, int]:
        return {"token": wish["token"], "amount": wish["amount"]}


def bend(body: dict[str, Any], changes: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Return a body with fields replaced, left out, added, or bent inside the signature."""
    made = {**body, "signature": dict(body["signature"])}
    for place, value, kind in changes:
        name = sorted(body)[place % len(body)]
        if kind == 0:
            made.pop(name, None)
        elif kind == 1 and isinstance(made.get("signature"), dict):
            made["signature"][("r8x", "r8y", "s")[place % 3]] = JUNK[value]
        elif kind == 2 and place > 25:
            made[f"x{value}"] = JUNK[value]
        else:
            made[name] = JUNK[value]
    return made


class Trial:
    """Sends bodies to an operator, and checks what is true of every answer."""

    def __init__(self, s: Any) -> None:
        self.s = s
        self.operations = document.operations_of(s.operator)
        self.engine = s.operator.engine
        self.codes: dict[str, int] = {}
        self.accepted: list[tuple[str, int, int]] = []

    def _look(self) -> Any:
        return self.engine.ledger.dump(), sorted((order.account, order.id) for order in self.engine.trading.live)

    def resting(self, account: int) -> int:
        """Return the id of an account's oldest order in the book, 0 without one."""
        return next((order.id for order in self.engine.trading.live if order.account == account), 0)

    async def send(self, path: str, body: Any) -> Any:
        answer = await self.s.client.post(path, json=body)
        assert answer.status_code < 500, (path, body, answer.text[:500])
        document.check_answer(self.operations["POST", path], answer)
        return answer

    async def one(self, kind: str, body: Any) -> None:
        """Send one body; a refusal changes nothing, and what is accepted is remembered."""
        before, seq = self._look(), self.engine.command_seq
        answer = await self.send(PATHS[kind], body)
        if answer.status_code >= 400:
            self._refused(answer.json()["error"], answer.status_code)
            assert self._look() == before, (kind, body)
            if answer.json()["error"]["code"] in UNREAD:
                assert self.engine.command_seq == seq, (kind, body)
        else:
            # Whether a cancel is a hard one, the answer says: a body may put it as "0".
            self._took(kind + " hard" * bool(answer.json().get("hard")), body)

    async def many(self, bodies: list[Any]) -> None:
        """Send orders together; each is judged alone."""
        answer = await self.send("/v1/orders/batch", {"orders": bodies})
        assert answer.status_code == 200, answer.text[:500]
        items = answer.json()["results"]
        assert len(items) == len(bodies)
        for item, body in zip(items, bodies, strict=True):
            assert (item["result"] is None) != (item["error"] is None)
            if item["error"] is None:
                self._took("order", body)
            else:
                self._refused(item["error"], 400)

    def _refused(self, error: dict[str, Any], status: int) -> None:
        assert 400 <= status < 500 and error["code"] and error["message"] and len(str(error)) < 5000
        self.codes[error["code"]] = self.codes.get(error["code"], 0) + 1

    def _took(self, kind: str, body: dict[str, Any]) -> None:
        self.codes["accepted"] = self.codes.get("accepted", 0) + 1
        self.accepted.append((kind, int(body["account"]), int(body["id"])))


def settle(config: EngineConfig, journal: Path) -> set[tuple[int, int, int]]:
    """Seal all that a journal admitted; each batch passes `apply`. Returns type, account and id of all rows."""
    engine, state, rows = Engine(config), State(config.preset), set()
    with Journal(journal, config.get_identity()) as kept:
        for _, command in kept.replay():
            engine.handle(command)
    while engine.settlement.log:
        number = engine.settlement.next_number
        engine.handle(c.SealBatch(number, 2**32 - 1))
        plan = engine.get_plan(number)
        assert plan is not None, "what was accepted can't be sealed"
        size = config.get_sizes()[plan.size_id]
        page, outcome = build_page(state, plan, size, config.domain)
        state = apply(state, page, [action.signed for action in plan.actions], size).state
        assert state.root == outcome.state.root
        rows |= {(row.type, row.account, row.id) for row in page.actions}
        engine.handle(c.BatchConfirmed(number))
    booked = {(account, token): free + held for account, token, free, held in engine.ledger.dump()}
    proven = {(i, token): amount for i, a in state.accounts.items() for token, amount in a.positions}
    assert {key: amount for key, amount in booked.items() if amount} == proven
    return rows


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_bodies_near_to_good_ones(populated: Any, session: Any, tmp_path: Path, turn: int) -> None:
    directory, signer = populated.directory(tmp_path / "operator"), Signer(populated)
    seed = int.from_bytes(os.urandom(4)) if near.LONG else turn + 1
    draw = random.Random(seed)
    seen: dict[str, Any] = {}

    async def work(s: Any) -> None:
        trial = Trial(s)
        signer.resting = trial.resting
        seen["trial"], seen["config"] = trial, s.operator.engine.config
        for number in range(REQUESTS):
            if number % 8:
                plan = Plan(draw)
                await trial.one(plan.wish["kind"], bend(signer.make(plan.wish), plan.changes))
                continue
            plans = [Plan(draw) for _ in range(3)]
            orders = [bend(signer.make(plan.wish | {"kind": "order"}), plan.changes) for plan in plans]
            await trial.many([*orders, draw.choice(JUNK)])

    session(directory, work, max_pending=1_000_000)
    trial = seen["trial"]
    total = sum(trial.codes.values())
    print(f"seed {seed}: {trial.codes}")
    assert trial.codes["accepted"] >= total // 8, trial.codes
    assert sum(trial.codes.get(code, 0) for code in UNREAD) >= total // 10, trial.codes
    kinds = {kind for kind, _, _ in trial.accepted}
    assert kinds >= {"order", "cancel", "cancel hard", "withdraw", "transfer"}, trial.codes
    assert len(trial.codes) >= 10, trial.codes
    rows = settle(seen["config"], directory / JOURNAL)
    # What has to become a row has become one; orders do when they trade.
    due = {"cancel hard": ActionType.CANCEL, "withdraw": ActionType.WITHDRAW, "transfer": ActionType.TRANSFER}
    assert {(due[kind], account, id_) for kind, account, id_ in trial.accepted if kind in due} <= rows
    assert any(kind == ActionType.ORDER for kind, _, _ in rows)
