"""What everybody may try next: users, a hostile operator, tokens, and Mallory, who calls anything."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from .batches import Base, Batch, Batches
from .model import State
from .node import Codec
from .world import DEPOSIT, ETH, EXIT, GWEI, KEY, OPEN, U64, ZERO, Call, Mode, Mood, R

POOL: Final = 24
LIVE: Final = {
    "open": 3, "deposit": 12, "change_key": 3, "force_exit": 5, "claim": 8, "commit": 16, "pooled": 6, "tampered": 8,
    "lying_header": 2, "withhold": 4, "uncanonical": 2, "fuzz": 6, "malformed": 2, "raw": 1, "told": 6,
    "provoke": 9, "donate": 1, "freeze": 2, "exit": 2, "reclaim": 2, "rotate": 2, "add_token": 1, "mistaken": 6,
    "by_another": 3,
}  # fmt: skip
FROZEN: Final = {
    "exit": 10, "reclaim": 8, "claim": 10, "tampered_exit": 6, "pooled": 2, "commit": 1, "deposit": 1, "open": 1,
    "fuzz": 4, "freeze": 1, "told": 4, "provoke": 5, "rotate": 1, "raw": 1, "mistaken": 3, "by_another": 2, "donate": 1,
}  # fmt: skip


class Moves:
    """A random player; it sees the model's state and nothing else."""

    def __init__(self, cast: Any, codec: Codec, batches: Batches, rand: random.Random, unsound: bool) -> None:
        self.cast, self.codec, self.batches, self.random, self.unsound = cast, codec, batches, rand, unsound
        self.pool: list[Batch] = []
        self.exits: list[tuple[Any, ...]] = []
        self.state: State
        self.now = 0
        self.crowded = rand.random() < 0.15

    def next(self, state: State, now: int) -> Call:
        """Return somebody's next call, at `now`."""
        self.state, self.now = state, now
        weights = FROZEN if state.frozen else LIVE
        if self.crowded and not state.frozen and self.random.random() < 0.4:
            return self._open().at(now)
        name = self.random.choices(list(weights), list(weights.values()))[0]
        move: Callable[[], Call] = getattr(self, "_" + name)
        call = move()
        return call if call.time else call.at(now)

    # ------------------------------------------------------------------ users

    def _someone(self) -> str:
        return str(self.random.choice(self.cast.people))

    def _mine(self) -> tuple[int, str]:
        index = self.random.randrange(len(self.state.accounts))
        return index, self.state.accounts[index].owner

    def _token(self) -> int:
        return self.random.choice(list(self.state.tokens))

    def _amount(self) -> int:
        rand = self.random
        return rand.choice((1, rand.randrange(1, 10**3), rand.randrange(1, 10**9), rand.randrange(1, 10**12)))

    def _value(self, kind: int, eth: int = 0) -> int:
        surplus = self.random.choice((0, 0, 0, 1, 77, 10**6))
        return (self.state.request_fee(kind) + eth + surplus) * GWEI

    def _open(self) -> Call:
        # The tree has few leaves: most of them stay free for later.
        if len(self.state.accounts) > 20 and not self.crowded and self.random.random() < 0.7:
            return self._deposit()
        key = (self.random.randrange(R), self.random.randrange(R))
        who = self.random.choice((self._someone(), self._someone(), *self.cast.contracts))
        return Call(who, "open", key, self._value(OPEN))

    def _deposit(self) -> Call:
        index, owner = self._mine()
        token, amount = self._token(), self._amount()
        return Call(owner, "deposit", (index, token, amount), self._value(DEPOSIT, amount if token == ETH else 0))

    def _change_key(self) -> Call:
        index, owner = self._mine()
        return Call(owner, "changeKey", (index, self.random.randrange(R), 5), self._value(KEY))

    def _force_exit(self) -> Call:
        index, owner = self._mine()
        return Call(owner, "forceExit", (index, self._token()), self._value(EXIT))

    def _claim(self) -> Call:
        some = self.random.choice([*self.state.claims] or [(self._someone(), self._token())])
        to, token = some if self.random.random() < 0.85 else (self._someone(), self.random.randrange(20))
        if self.random.random() < 0.4:
            return Call(to, "claim", (token,))
        return Call(self._someone(), "claimFor", (to, token))

    def _mistaken(self) -> Call:
        """A user's call with one thing wrong."""
        call = self.random.choice((self._open, self._deposit, self._deposit, self._change_key, self._force_exit))()
        rand = self.random
        if rand.random() < 0.4:
            values = (0, call.value - GWEI, call.value + 1, call.value + U64 * GWEI, call.value + (U64 - 10) * GWEI)
            return Call(call.sender, call.name, call.args, max(rand.choice(values), 0))
        k = rand.randrange(len(call.args))
        wrong = rand.choice((0, 1, call.args[k] + 1, R, 63, 65535, 2**24 - 1, U64 - 1, U64 - 2**40, 2**256 - 1))
        bits = int(self.codec.functions[call.name][1][k].removeprefix("uint"))
        args = (*call.args[:k], wrong % 2**bits, *call.args[k + 1 :])
        return Call(call.sender, call.name, args, call.value)

    def _by_another(self) -> Call:
        moves = (self._deposit, self._change_key, self._force_exit, self._commit, self._rotate, self._add_token)
        call = self.random.choice(moves)()
        return Call(self._someone(), call.name, call.args, call.value)

    # ------------------------------------------------------------------ operator

    def _batch(self, base: Base | None = None) -> Batch:
        unsound = self.unsound and self.random.random() < 0.6
        return self.batches.make(self.state, base or Base.of(self.state), self.now, unsound)

    def _by_operator(self, batch: Batch) -> Call:
        return Call(self._operator(), "commit", batch.args)

    def _operator(self) -> str:
        """Who commits; somebody else if the role went to a token, which sends no transactions."""
        return self.state.operator if self.state.operator in self.cast.people else self._someone()

    def _keep(self, batch: Batch) -> None:
        self.pool.append(batch)
        if len(self.pool) > POOL:
            self.pool.pop(self.random.randrange(len(self.pool)))

    def _commit(self) -> Call:
        batch = self._batch()
        if self.random.random() < 0.3:
            self._keep(batch)
        return self._by_operator(batch)

    def _withhold(self) -> Call:
        """Prove one batch or several on each other, publish the last or the first only."""
        first = self._batch()
        chain = [first]
        for _ in range(self.random.randrange(3)):
            chain.append(self._batch(chain[-1].result))
        for batch in chain:
            self._keep(batch)
        return self._by_operator(self.random.choice(chain))

    def _pooled(self) -> Call:
        """Something made earlier: withheld, reordered or replayed."""
        if not self.pool:
            return self._commit()
        fits = [b for b in self.pool if b.result.number == self.state.number + 1]
        return self._by_operator(self.random.choice(fits if fits and self.random.random() < 0.5 else self.pool))

    def _tampered(self) -> Call:
        batch = self.random.choice(self.pool) if self.pool and self.random.random() < 0.2 else self._batch()
        return Call(self._operator(), "commit", self.batches.tampered(batch.args, self.state, self.now))

    def _lying_header(self) -> Call:
        """A batch that is proven for another place in history, another exchange or another fee account."""
        base = Base.of(self.state)
        honest = self._batch(base)
        rand = self.random
        name, value = rand.choice(
            (
                ("number", rand.choice((base.number, base.number + 2, base.number + 77))),
                ("old_root", rand.randrange(R)),
                ("domain", rand.randrange(2**248)),
                ("fee_account", rand.randrange(1, 64)),
            )
        )
        after = {i: dict(h) for i, h in honest.result.balances.items()}
        return self._by_operator(self.batches.proven(self.state, base, honest.args[:6], after, **{name: value or 9}))

    def _uncanonical(self) -> Call:
        call = self._commit()
        plain = self.codec.call("commit", *call.args)
        head, tail = plain[:484], plain[484:]
        how = self.random.randrange(3)
        if how == 0:
            data = plain + self.random.randbytes(self.random.randrange(1, 65))
        elif how == 1 and len(call.args[5]) % 32:
            data = plain[:-1] + b"\1"
        else:
            words = [int.from_bytes(head[4 + 32 * k :][:32], "big") + (32 if k in (3, 4, 5) else 0) for k in range(15)]
            data = head[:4] + b"".join(w.to_bytes(32, "big") for w in words) + bytes(32) + tail
        return Call(self.random.choice((call.sender, self._someone())), "uncanonical", data=data)

    def _rotate(self) -> Call:
        operator = self._operator()
        to = self.random.choice((*self.cast.operators, *self.cast.contracts, self._someone(), ZERO))
        if self.random.random() < 0.3:
            return Call(self._someone(), "rotateOperator", (to,))
        return Call(operator, "rotateOperator", (self.cast.operators[0] if operator in self.cast.contracts else to,))

    def _add_token(self) -> Call:
        rand = self.random
        erc20 = rand.choice((*self.state.shared.erc20s, self._someone(), ZERO))
        sender = self.cast.owner if rand.random() < 0.7 else self._someone()
        return Call(sender, "addToken", (erc20, rand.choice((0, 1, 10**6, 10**18))))

    # ------------------------------------------------------------------ escape

    def _freeze(self) -> Call:
        oldest = self.state.waiting.get(self.state.served)
        some = [q.argument() for q in self.state.waiting.values()] or [(1, 0, 0, 0, 0, ZERO, 1, 2, 0, 0)]
        argument = oldest.argument(self.random.randrange(2)) if oldest else some[0]
        if self.random.random() < 0.3:
            argument = self.random.choice((self.random.choice(some), self.batches.other_request(argument)))
        # Now, or in the last second in time, or (rarely, it is the end) the first after it.
        at = argument[9] + (self.random.random() < 0.1) if self.random.random() < 0.3 else 0
        return Call(self._someone(), "freeze", (argument,), time=at if self.now <= at < self.now + 10**6 else 0)

    def exit_of(self, index: int) -> tuple[Any, ...] | None:
        """A true exit; None for an account that the tree does not know."""
        if index not in self.state.balances:
            return None
        return self.exit_at(self.state, index)

    def exit_at(self, state: State, index: int) -> tuple[Any, ...]:
        """A true exit of an account that the tree knows."""
        return self.batches.exit(state, index, state.accounts[index].owner, state.balances[index])

    def _exit(self) -> Call:
        stale = self.exits and self.random.random() < 0.2
        made = self.random.choice(self.exits) if stale else self.exit_of(self._mine()[0])
        if made is None:
            return self._tampered_exit()
        if self.random.random() < 0.2:
            self.exits.append(made)
        return Call(self._someone(), "exit", made)

    def _tampered_exit(self) -> Call:
        made = self.exit_of(self._mine()[0]) or (self.random.randrange(64), self._someone(), 0, (0,) * 5, (0,) * 8)
        if self.unsound and self.random.random() < 0.5:
            index, owner = self._mine()
            loot = {self._token(): self._amount(), self._token(): self.random.randrange(U64)}
            return Call(owner, "exit", self.batches.exit(self.state, index, owner, loot))
        return Call(self._someone(), "exit", self.batches.tampered_exit(made, self.state))

    def _reclaim(self) -> Call:
        rand, waiting = self.random, self.state.waiting
        id = rand.choice([*waiting] or [0]) if rand.random() < 0.8 else rand.randrange(self.state.queued + 2)
        argument = waiting[id].argument() if id in waiting else (1, 0, 0, 0, 0, ZERO, 1, 2, 0, 0)
        if rand.random() < 0.2:
            argument = self.batches.other_request(argument)
        return Call(self._someone(), "reclaim", (id, argument))

    # ------------------------------------------------------------------ anything

    def _fuzz(self) -> Call:
        """Any function with any arguments, as often as not near the good ones."""
        name = self.random.choice((
            "open", "deposit", "changeKey", "forceExit", "claim", "claimFor", "addToken", "rotateOperator",
            "freeze", "exit", "reclaim", "commit",
        ))  # fmt: skip
        args = tuple(self._any(t) for t in self.codec.functions[name][1])
        value = self._value(self.random.randrange(1, 5)) if name in self.codec.payable else 0
        return Call(self._someone(), name, args, value)

    def _any(self, kind: str) -> Any:
        rand = self.random
        if kind.startswith("("):
            inside = kind[1:].split(")")
            one = tuple(self._any(t) for t in inside[0].split(","))
            some = [q.argument() for q in self.state.waiting.values()] + [one]
            return [rand.choice(some) for _ in range(rand.randrange(4))] if inside[1] else rand.choice(some)
        if kind.endswith("]"):
            count = int(kind[kind.index("[") + 1 : -1])
            return tuple(self._any("uint256") for _ in range(count))
        if kind == "address":
            return rand.choice((*self.cast.people, *self.state.shared.erc20s, ZERO, self.state.shared.rules.address))
        if kind == "bytes":
            return rand.randbytes(rand.choice((0, 10, 40, 80, 7)))
        top = 1 << int(kind.removeprefix("uint"))
        return rand.choice((0, 1, 2, 3, rand.randrange(top), top - 1, self.now % top))

    def _malformed(self) -> Call:
        """Arguments cut off or out of their type, or a value where none is taken."""
        call = self._fuzz()
        data = self.codec.call(call.name, *call.args)
        how = self.random.randrange(3)
        if how == 0 and call.name not in self.codec.payable:
            return Call(call.sender, "malformed", value=GWEI, data=data)
        narrow = self.codec.functions[call.name][1][0] in ("uint16", "uint24", "uint64", "address")
        if how == 1 and narrow:
            return Call(call.sender, "malformed", data=data[:4] + b"\xff" + data[5:])
        return Call(call.sender, "malformed", data=data[: 4 + self.random.randrange(32)])

    def _raw(self) -> Call:
        data = self.random.choice((b"", b"\1", b"\1\2\3", b"\xde\xad\xbe\xef", self.random.randbytes(40)))
        value = self.random.choice((0, 1, GWEI))
        return Call(self._someone(), "fallback" if data else "receive", data=data, value=value)

    def _told(self) -> Call:
        """A bad token or an accomplice changes its mind."""
        rand = self.random
        if rand.random() < 0.35:
            who, mode = rand.choice(self.cast.contracts), int(rand.choice([*Mood, *[Mood.REENTER] * 4]))
            again = mode in (Mood.REENTER, Mood.PASS)
        else:
            who, mode = (
                rand.choice(self.cast.bad_tokens),
                int(rand.choice([*Mode, *[Mode.REENTERING] * 6, *[Mode.PASSING] * 2])),
            )
            again = mode in (Mode.REENTERING, Mode.PASSING)
        inner = self._inner(who) if again else None
        return Call(self.cast.mallory, "!told", (who, mode, inner))

    def _provoke(self) -> Call:
        """A call that makes somebody who misbehaves do it: money moves to an accomplice, or in a bad token."""
        armed = {who for who, told in self.state.shared.behaviour.items() if told.mode not in (0, Mode.SILENT)}
        owed = [(to, k) for to, k in self.state.claims if (to if k == ETH else self.state.tokens[k].address) in armed]
        bad = [k for k, t in self.state.tokens.items() if t.address in armed]
        if owed and (self.random.random() < 0.5 or not bad):
            return Call(self._someone(), "claimFor", self.random.choice(owed))
        if not bad:
            return self._told()
        index, owner = self._mine()
        return Call(owner, "deposit", (index, self.random.choice(bad), self._amount()), self._value(DEPOSIT))

    def _inner(self, who: str) -> Call:
        """What is called back: by the token or accomplice itself."""
        moves = (
            self._deposit,
            self._claim,
            self._commit,
            self._freeze,
            self._exit,
            self._reclaim,
            self._fuzz,
            self._raw,
        )
        call = self.random.choice((*moves, self._rotate, self._add_token, self._open))()
        return Call(who, call.name, call.args, 0, data=call.data)

    def _donate(self) -> Call:
        """Something comes in that nobody asked for."""
        token = self.random.choice([k for k, t in self.state.tokens.items() if t.address in self.cast.givable])
        amount = self.random.randrange(1, 10**9)
        return Call(self._someone_plain(), "!donate", (token, amount))

    def _someone_plain(self) -> str:
        return str(self.random.choice([p for p in self.cast.people if p not in self.cast.contracts]))
