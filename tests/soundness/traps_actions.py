"""Controls: signatures, slots and what actions do; and exits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proofbook.protocol import eddsa
from proofbook.protocol.babyjub import SUBGROUP_ORDER, Point, double, is_on_curve, mul_base8
from proofbook.protocol.eddsa import Signature
from proofbook.protocol.field import R, inverse
from proofbook.protocol.poseidon import poseidon
from proofbook.protocol.table import SLOT_CLOSED, RequestKind, Side
from proofbook.protocol.words import FeeRow, Request
from proofbook.prover.witness import exit_inputs

A, D = 168700, 168696
SKIP = "h <== StrictSignature()(enabled, pub, r8, s, message.message);"
EQUATION = "enabled * (left[0] - right[0]) === 0;"
# The bits of h + r: what a liar's program says where nobody asks for the bits of h to be below r.
ALIAS = f"""signal hBits[254];
    var HALF = 1 << 128;
    var lowBits = (h & (HALF - 1)) + {R & (2**128 - 1)};
    var highBits = (h >> 128) + {R >> 128} + (lowBits >> 128);
    var written = 0;
    for (var i = 0; i < 254; i++) {{
        hBits[i] <-- i < 128 ? (lowBits >> i) & 1 : (highBits >> (i - 128)) & 1;
        hBits[i] * (hBits[i] - 1) === 0;
        written += hBits[i] * (1 << i);
    }}
    written === h;"""
LOOSE_INDEX = """signal bits[3 * depth];
    for (var i = 0; i < 3 * depth; i++) {
        bits[i] <-- (index >> i) & 1;
        bits[i] * (bits[i] - 1) === 0;
    }"""


def scalar_of(index: int) -> int:
    """Return the secret scalar of a test's account."""
    return eddsa._expand(bytes([0, index]) * 16)[0]


def root_of(x: int) -> int | None:
    """Return a square root modulo r (Tonelli and Shanks), None if there is none."""
    x %= R
    if not x or pow(x, (R - 1) // 2, R) != 1:
        return 0 if not x else None
    odd, twos = R - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    c, t, found = pow(5, odd, R), pow(x, odd, R), pow(x, (odd + 1) // 2, R)
    while t != 1:
        i, square = 0, t
        while square != 1:
            i, square = i + 1, square * square % R
        step = pow(c, 1 << (twos - i - 1), R)
        twos, c, t, found = i, step * step % R, t * step * step % R, found * step % R
    return found


def false_half(target: Point) -> Point | None:
    """Return a point off the curve that the doubling formula takes to a point on it."""
    of_disc = root_of(1 - D * target.x**2)
    if of_disc is None:
        return None
    for w in ((1 + s * of_disc) * inverse(D * target.x) % R for s in (1, -1)):
        k = target.y * (1 - D * w * w) % R
        inner = root_of(k * k + 4 * A * w * w)
        for square in [] if inner is None else [(-k + s * inner) * inverse(2 * A) % R for s in (1, -1)]:
            x = root_of(square)
            if x and not is_on_curve(Point(x, w * inverse(x) % R)):
                return Point(x, w * inverse(x) % R)
    return None


def register(c: Any, forging: Any, following: Any) -> None:
    """Register the controls of this file with `controls.control`."""
    _signatures(c, forging)
    _slots(c, forging)
    _groups(c, forging, following)
    _fields(c, forging, following)
    _effects(c, forging, following)
    _exits(c)


def _signatures(c: Any, forging: Any) -> None:
    control, without, Attack = c.control, c.without, c.Attack
    lib, row_file = "lib/signature.circom", "rows/action.circom"

    def forged(scene: Any, signature: Signature) -> Any:
        row, good = scene.world.withdraw(1, 5, 1, 10)
        return Attack(scene.unsigned([], [(row, replace(good, signature=signature))]))

    def with_wrong_s(scene: Any) -> Any:
        r8, s = scene.world.withdraw(1, 5, 1, 10)[1].signature
        return forged(scene, Signature(r8, (s + 1) % SUBGROUP_ORDER))

    control(
        "M3 the signature's equation",
        without(lib, EQUATION),
        without(lib, "enabled * (left[1] - right[1]) === 0;"),
    )(with_wrong_s)
    put = "signal checked <-- 0;\n    checked * (checked - 1) === 0;\n    " + SKIP.replace("enabled", "checked")
    control("M3 a flag that skips the signature", without(row_file, SKIP, put), line=EQUATION)(with_wrong_s)

    @control("M3 S not reduced", without(lib, "AtMostConstant(253, ORDER - 1)(sBits);"))
    def unreduced(scene: Any) -> Any:
        r8, s = scene.world.withdraw(1, 5, 1, 10)[1].signature
        return forged(scene, Signature(r8, s + SUBGROUP_ORDER))

    @control(
        "M3 aliasing of the challenge's 254 bits",
        without(lib, "signal hBits[254] <== Num2Bits(254)(h);\n    AtMostConstant(254, -1)(hBits);", ALIAS),
        line=EQUATION,
    )
    def aliased(scene: Any) -> Any:
        message = scene.world.withdraw(1, 5, 1, 10)[1].action.message_hash()
        for nonce in range(1, 200):
            r8 = mul_base8(nonce)
            h = eddsa.challenge(r8, scene.public(1, generation=0), message)
            if h + R < 1 << 254:
                return forged(scene, Signature(r8, (nonce + (h + R) * scalar_of(1)) % SUBGROUP_ORDER))
        raise AssertionError("no challenge below 2^254 - r")

    @control("M3 keys off the curve", without(lib, "BabyCheck()(pub[0], pub[1]);"))
    def off_curve(scene: Any) -> Any:
        for index in range(1, 60):
            secret = eddsa._expand(bytes([7, index]) * 16)[0]
            key = false_half(double(mul_base8(secret >> 3)))
            if key is not None:
                break
        assert key is not None
        scene.world.settle([Request(RequestKind.KEY, 1, pub_x=key.x, pub_y=key.y)])
        r8, message = mul_base8(99), scene.world.withdraw(1, 5, 1, 10)[1].action.message_hash()
        h = eddsa.challenge(r8, key, message)
        return forged(scene, Signature(r8, (99 + h * secret) % SUBGROUP_ORDER))

    @control("M3 keys of small order", without(lib, "twice[2].xout * inverse === 1;"))
    def small_order(scene: Any) -> Any:
        scene.world.settle([Request(RequestKind.KEY, 1, pub_x=0, pub_y=1)])
        return forged(scene, Signature(Point(0, 1), 0))

    @control(
        "M4 the domain is signed",
        without(row_file, "Poseidon(3)([domain, w1, w2])", "Poseidon(3)([0, w1, w2])"),
        line=EQUATION,
    )
    def elsewhere(scene: Any) -> Any:
        row, good = scene.world.withdraw(1, 5, 1, 10)
        signature = scene.world.sign(replace(good.action, domain=0)).signature
        lie = scene.unsigned([], [(row, replace(good, signature=signature))])
        return Attack(lie, elements=with_messages(lie.inputs, 0, clear=False))

    def with_messages(inputs: dict[str, Any], domain: int, clear: bool) -> list[int]:
        """Return what C is of where messages lack the domain, or the id."""
        made = forging.elements(inputs)
        at = len(forging.words(inputs)) + len(inputs["requestKind"])
        for i, row in enumerate(forging.rows(inputs, "action")):
            said = {**row, "id": 0} if clear else row
            made[at + 3 * i] = poseidon((*row["r8"], *row["pub"], forging.message(said, domain)))
        return list(made)

    @control(
        "M3 an id not under the signature",
        without(row_file, "var w1 = words[0]\n", "var w1 = words[0] - (1 << ACTION_ID_SHIFT()) * id\n"),
        line=EQUATION,
    )
    def unsigned_id(scene: Any) -> Any:
        row, good = scene.world.withdraw(1, 6, 1, 10)
        signature = eddsa.sign(bytes([0, 1]) * 16, replace(good.action, id=0).message_hash())
        lie = scene.unsigned([], [(row, replace(good, signature=signature))])
        return Attack(lie, elements=with_messages(lie.inputs, lie.inputs["domain"], clear=True))

    @control("M6 an action is under the account's key", without("batch.circom", "    first === 0;", ""))
    def stranger(scene: Any) -> Any:
        row, good = scene.world.withdraw(1, 5, 1, 10)
        lie = scene.unsigned([], [(row, scene.world.sign(good.action, generation=9))])
        lie.set("actionPub", 0, list(scene.public(1, generation=9)))
        return Attack(lie)


def _slots(c: Any, forging: Any) -> None:
    control, without, Attack = c.control, c.without, c.Attack
    file = "rows/slot.circom"

    def acting(scene: Any, act: Any, slot: tuple[int, int] | None = None) -> Any:
        """Return the lie of one action told instead of a good one, with what its slot is said to hold."""
        lie = scene.page([], [scene.world.withdraw(1, 40, 1, 10)])
        lie.act(0, act)
        lie.settle_slots()
        if slot is not None:
            lie.set("actionSlotId", 0, slot[0] % R)
            lie.set("actionSlotFilled", 0, slot[1] % R)
        lie.settle()
        return Attack(lie)

    @control("M2 a slot's id is ranged", without(file, "RangeCheck(ID_BITS())(slotId);"))
    def low_slot(scene: Any) -> Any:
        world = scene.world
        world.settle(acts=[*world.trade(1, 2, (21, 21), (10, 20))])
        world.settle(acts=[*world.trade(2, 1, (22, 22), (10, 20))])
        return acting(scene, world.withdraw(1, 5, 1, 10), (21 - (1 << 64), 11))

    @control("M2 a slot's fill is ranged", without(file, "RangeCheck(AMOUNT_BITS())(slotFilled);"))
    def any_fill(scene: Any) -> Any:
        world = scene.world
        world.settle([world.deposit(1, 1, 10)], [world.withdraw(1, 21, 1, 10)])
        word = 21 + (SLOT_CLOSED << 64)
        return acting(scene, world.withdraw(1, 21, 1, 10), (0, word * inverse(1 << 64)))

    @control("M10 an id acts once", without("rows/action.circom", "(moves - isOrder) * same === 0;"))
    def replayed(scene: Any) -> Any:
        world = scene.world
        world.settle([world.deposit(1, 1, 10)], [world.withdraw(1, 21, 1, 10)])
        return acting(scene, world.withdraw(1, 21, 1, 10))

    @control("M10 a smaller id never acts", without(file, "RangeCheck(ID_BITS())(id - slotId);"))
    def stale(scene: Any) -> Any:
        world = scene.world
        world.settle([world.deposit(1, 1, 10)], [world.withdraw(1, 21, 1, 10)])
        return acting(scene, world.withdraw(1, 5, 1, 10))

    @control(
        "M8 rows of an account are a chain",
        without("rows/groups.circom", "goesOn[i] * (rootBefore[i] - rootAfter[i - 1]) === 0;"),
        rows=c.PAIR,
    )
    def unchained(scene: Any) -> Any:
        lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10), scene.world.withdraw(1, 6, 1, 10)])
        lie.set("actionPath", 1, scene.state.account(1).orders_tree(scene.state.preset).path(6))
        after = forging.slot_roots(forging.column(lie.inputs, "action", 1))[1]
        lie.set("accountNewOrdersRoot", 0, after)
        lie.settle()
        return Attack(lie)

    @control("M8 a slot chain that never ends", without("batch.circom", "    last === 0;", ""))
    def endless(scene: Any) -> Any:
        lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
        lie.set("accountNewOrdersRoot", 0, lie.inputs["accountOldOrdersRoot"][0])
        lie.settle()
        return Attack(lie)


def signed_by(lie: Any, row: int, key: int, forging: Any, generation: int = 0) -> None:
    """Let a test's key sign what an action row says now."""
    said = forging.message(forging.column(lie.inputs, "action", row), lie.inputs["domain"])
    signature = eddsa.sign(bytes([generation, key]) * 16, said)
    lie.set("actionR8", row, list(signature.r8))
    lie.set("actionS", row, signature.s)


def _groups(c: Any, forging: Any, following: Any) -> None:
    control, without, Attack = c.control, c.without, c.Attack
    groups = "rows/groups.circom"

    @control(
        "M8 rows of a group are of one account",
        without(groups, "goesOn[i] * (account[i] - account[i - 1]) === 0;"),
        rows=(1, 3, 2, 1),
    )
    def among_others(scene: Any) -> Any:
        """Between two of its own rows account 1 signs for account 2."""
        acts = [scene.world.withdraw(1, id, 1, 10) for id in (5, 6, 7)]
        lie = scene.page([scene.world.deposit(2, 1, 5)], acts)
        lie.set("actionAccount", 1, 2)
        signed_by(lie, 1, 1, forging)
        following.settle_balances(lie, forging)
        lie.settle()
        return Attack(lie)

    @control(
        "M6 rows of a group are under one key",
        without(groups, "goesOn[i] * (pub[i][0] - pub[i - 1][0]) === 0;"),
        without(groups, "goesOn[i] * (pub[i][1] - pub[i - 1][1]) === 0;"),
        rows=c.PAIR,
    )
    def after_the_owner(scene: Any) -> Any:
        acts = [scene.world.withdraw(1, id, 1, 10) for id in (5, 6)]
        lie = scene.page([], acts)
        signed_by(lie, 1, 1, forging, generation=9)
        lie.set("actionPub", 1, list(scene.public(1, generation=9)))
        lie.settle()
        return Attack(lie)


def _fields(c: Any, forging: Any, following: Any) -> None:
    control, without, Attack = c.control, c.without, c.Attack

    @control(
        "M2 an action's token past 16 bits is another account's",
        without("rows/action.circom", "RangeChecks(2, TOKEN_BITS())([base, quote]);"),
    )
    def of_the_next(scene: Any) -> Any:
        """Account 1 withdraws what stands under account 2's key."""
        lie = scene.page([scene.world.deposit(2, 1, 5)], [scene.world.withdraw(1, 5, 1, 10)])
        lie.set("actionBase", 0, 1 + (1 << 16))
        signed_by(lie, 0, 1, forging)
        lie.positions(0, "New", {1: 1000, 2: 1000})
        lie.positions(1, "New", {1: 995, 2: 1000})
        lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][1])
        lie.settle()
        return Attack(lie)

    @control(
        "M11 a fee's cap is ranged",
        without("rows/action.circom", "RangeCheck(FEE_BPS_BITS())(maxFeeBps);"),
        rows=(1, 2, 3, 1),
    )
    def capless(scene: Any) -> Any:
        """The signed cap of 0 until t read as 16384 until t - 1: one message."""
        acts = [
            scene.world.order(1, 5, Side.SELL, (10, 20, 1), fee_bps=0),
            scene.world.order(2, 5, Side.BUY, (10, 20, 0)),
        ]
        lie = scene.unsigned([], acts, [FeeRow(2, 1)])
        lie.set("actionMaxFeeBps", 0, 1 << 14)
        lie.set("actionValidUntil", 0, lie.inputs["actionValidUntil"][0] - 1)
        return Attack(lie)

    @control(
        "M12 a fee has 64 bits",
        without("rows/fee.circom", "RangeCheck(AMOUNT_BITS())(amount);"),
        rows=(1, 2, 3, 2),
    )
    def split(scene: Any) -> Any:
        """A fee of 2 as two fractions, whose words say something else."""
        acts = [
            scene.world.order(1, 5, Side.SELL, (10, 20, 2)),
            scene.world.order(2, 5, Side.BUY, (10, 20, 0)),
        ]
        lie = scene.page([], acts, [FeeRow(2, 2)])
        part = inverse(1 << 16)
        for name, values in (("feeEnabled", (1, 1)), ("feeToken", (2, 2)), ("feeAmount", (part, (2 - part) % R))):
            for row, value in enumerate(values):
                lie.set(name, row, value)
        lie.settle()
        return Attack(lie)


def _effects(c: Any, forging: Any, following: Any) -> None:
    control, without, Attack = c.control, c.without, c.Attack
    orders, fields = "rows/order.circom", "rows/action.circom"

    @control(
        "M10 types are one-hot",
        without("lib/range.circom", "Boolean()(in[i]);"),
        line="enabled <== OneHot(4)(kind);",
    )
    def mixed(scene: Any) -> Any:
        """A deposit told as open, exit and less than a key request: it has the deposit's code, and credits nothing."""
        lie = scene.page([scene.world.deposit(1, 9, 5)])
        lie.set("requestKind", 0, [1, 0, R - 1, 1])
        lie.positions(0, "New", {1: 1000, 2: 1000})
        lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
        lie.settle()
        return Attack(lie)

    @control("M10 a withdrawal is what was signed", without(fields, "(moves - isOrder) * (exBase - baseAmount) === 0;"))
    def more(scene: Any) -> Any:
        row, signed = scene.world.withdraw(1, 5, 1, 10)
        return Attack(scene.unsigned([], [(replace(row, ex_base=11), signed)]))

    @control("M10 a transfer goes where it was signed to", without(fields, "isTransfer * (aux - receiver) === 0;"))
    def elsewhere(scene: Any) -> Any:
        row, signed = scene.world.transfer(1, 5, 1, 10, to=2)
        return Attack(scene.unsigned([], [(replace(row, aux=1), signed)]))

    @control("M11 no base, no quote", without(orders, "exBase * perBase === exQuote;"), rows=(1, 3, 2, 1))
    def for_nothing(scene: Any) -> Any:
        world = scene.world
        acts = [
            world.order(1, 5, Side.SELL, (10, 20, 0)),
            world.order(1, 6, Side.SELL, (0, 0, 0), limit=(10, 20)),
            world.order(2, 5, Side.BUY, (10, 20, 0), limit=(10, 40)),
        ]
        lie = scene.page([], acts)
        lie.set("actionExQuote", 1, 20)
        lie.set("actionExQuote", 2, 40)
        following.settle_balances(lie, forging)
        lie.settle()
        return Attack(lie)

    def trading(sell: dict[str, Any]) -> Any:
        """Return the lie of a trade whose seller signed something else."""

        def told(scene: Any) -> Any:
            acts = [
                scene.world.order(1, 5, Side.SELL, (10, 20, 0), **sell),
                scene.world.order(2, 5, Side.BUY, (10, 20, 0)),
            ]
            return Attack(scene.unsigned([], acts))

        return told

    bends: dict[str, tuple[str, dict[str, Any], str]] = {
        "M11 products that overflow: the price": (
            "RangeCheck(2 * AMOUNT_BITS())(surplus);",
            {"limit": (10, 21)},
            orders,
        ),
        "M11 an order is not over-filled": ("RangeCheck(AMOUNT_BITS())(remaining);", {"limit": (9, 18)}, orders),
        "M11 fill or kill": ("fok * remaining === 0;", {"limit": (11, 22), "flags": 2}, orders),
        "M11 an order expires": ("RangeCheck(TIME_BITS())(lifetime);", {"until": 5}, fields),
    }
    for name, (line, sell, file) in bends.items():
        control(name, without(file, line), rows=c.PAIR)(trading(sell))

    @control(
        "M11 products that overflow: the fee",
        without(orders, "RangeCheck(AMOUNT_BITS() + FEE_BPS_BITS())(maxFeeBps * exQuote - BPS() * fee);"),
        rows=(1, 2, 3, 1),
    )
    def dear(scene: Any) -> Any:
        acts = [
            scene.world.order(1, 5, Side.SELL, (10, 20, 1), fee_bps=499),
            scene.world.order(2, 5, Side.BUY, (10, 20, 0)),
        ]
        return Attack(scene.unsigned([], acts, [FeeRow(2, 1)]))

    line = "RangeChecks(5, AMOUNT_BITS())([baseAmount, quoteAmount, exBase, exQuote, aux]);"

    @control(
        "M11 comparators fed unranged values",
        without(fields, line, "RangeChecks(3, AMOUNT_BITS())([exBase, exQuote, aux]);"),
        rows=c.PAIR,
        line=line,
    )
    def unranged(scene: Any) -> Any:
        """The signed (10, 20) read as (10 + 2^64, 19): one message, another limit."""
        acts = [
            scene.world.order(1, 5, Side.SELL, (11, 1, 0), limit=(10, 20)),
            scene.world.order(2, 5, Side.BUY, (11, 1, 0)),
        ]
        lie = scene.unsigned([], acts)
        lie.set("actionBaseAmount", 0, 10 + (1 << 64))
        lie.set("actionQuoteAmount", 0, 19)
        return Attack(lie)

    @control(
        "M11 products that overflow: a limit that wraps",
        without(fields, line, "RangeChecks(3, AMOUNT_BITS())([exBase, exQuote, aux]);"),
        rows=c.PAIR,
        line=line,
    )
    def wrapped(scene: Any) -> Any:
        """The signed (2^32, 20) read as (2^33, 20 - 2^-32), whose product with 2^32 is small again."""
        world, base = scene.world, 1 << 32
        world.settle([world.deposit(1, 1, base)])
        acts = [
            world.order(1, 5, Side.SELL, (base, 10, 0), limit=(base, 20)),
            world.order(2, 5, Side.BUY, (base, 10, 0)),
        ]
        lie = scene.unsigned([], acts)
        lie.set("actionBaseAmount", 0, 2 * base)
        lie.set("actionQuoteAmount", 0, (20 - inverse(base)) % R)
        return Attack(lie)


def _exits(c: Any) -> None:
    control, without = c.control, c.without

    def told(**changes: Any) -> Any:
        def bent(scene: Any) -> dict[str, Any]:
            inputs: dict[str, Any] = dict(exit_inputs(scene.state, 1))
            return inputs | {name: made(scene, inputs) for name, made in changes.items()}

        return bent

    index = "signal bits[3 * depth] <== Num2Bits(3 * depth)(index);"
    control("M24 one index an account", without("exit.circom", index, LOOSE_INDEX), template="Exit", short=True)(
        told(index=lambda scene, inputs: inputs["index"] + scene.state.preset.accounts)
    )
    control("M24 an exit's amounts are the packed ones", without("exit.circom", "a4 === packed[4];"), template="Exit")(
        told(a4=lambda scene, inputs: inputs["a4"] + 1)
    )
    rich = [0] * 13 + [10**6, 10**6]
    control(
        "M24 an exit is of an account in the tree",
        without("lib/merkle.circom", "pick[h].out === nodes[h];"),
        template="Exit",
    )(told(amounts=lambda *_: rich, a4=lambda *_: (rich[13] << 64) + (rich[14] << 128)))
    control("M24 an exit is of the last root", without("exit.circom", "root === found;"), template="Exit")(
        told(path=_richer_path, amounts=lambda *_: rich, a4=lambda *_: (rich[13] << 64) + (rich[14] << 128))
    )


def _richer_path(scene: Any, inputs: dict[str, Any]) -> Any:
    other = scene.state.copy()
    other.put({1: replace(scene.state.account(1), positions=((1, 10**6), (2, 10**6)))})
    return other.path(1)
