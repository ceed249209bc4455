"""Controls: the state, account rows, sums and binding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proofbook.protocol.field import R, inverse
from proofbook.protocol.sponge import commitment, horner
from proofbook.protocol.state import EMPTY_ACCOUNT, empty_leaf
from proofbook.protocol.table import Side
from proofbook.protocol.tree import SparseTree


def register(c: Any, forging: Any, following: Any) -> None:
    """Register the controls of this file with `controls.control`."""
    control, without, Attack = c.control, c.without, c.Attack

    def settled(lie: Any) -> Any:
        lie.settle()
        return Attack(lie)

    @control(
        "M1 positions have one order",
        without("lib/positions.circom", "RangeCheck(TOKEN_BITS())(tokens[j + 1] - tokens[j] - 1 + isEmpty[j]);"),
    )
    def swapped(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.set("accountNewTokens", 0, [0] * 13 + [2, 1])
        lie.set("accountNewAmounts", 0, [0] * 13 + [1000, 1005])
        lie.set("requestTokens", 0, [0] * 13 + [2, 1])
        return settled(lie)

    @control(
        "M2 a token id past 16 bits is another account's key",
        without("lib/positions.circom", "RangeChecks(POSITIONS(), TOKEN_BITS())(tokens);"),
    )
    def other_key(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(2, 1, 5)], [scene.world.cancel(1, 5)])
        lie.set("accountOldTokens", 0, [0] * 13 + [1 + (1 << 16), 1])
        lie.positions(0, "New", {1: 1000})
        lie.positions(1, "New", {1: 2005, 2: 1000})
        lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][1])
        return settled(lie)

    @control(
        "M1 a position has an amount",
        without("lib/positions.circom", "NonZeroExactlyWhen()(amounts[j], 1 - isEmpty[j]);"),
    )
    def nothing_held(scene: Any) -> Any:
        """A token held with an amount of 0: another leaf for the same balances, and a place taken."""
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.positions(0, "New", {1: 1005, 2: 1000, 9: 0})
        lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
        return settled(lie)

    @control(
        "M2 a request's token past 16 bits is another account's",
        without("rows/request.circom", "RangeCheck(TOKEN_BITS())(token);"),
    )
    def elsewhere(scene: Any) -> Any:
        """Account 1's deposit of 5, in the same word as 4 of a token that is account 2's."""
        lie = scene.page([scene.world.deposit(1, 3, 5)])
        lie.set("requestToken", 0, 3 + (1 << 16))
        lie.set("requestAmount", 0, 4)
        lie.positions(0, "New", dict(scene.state.account(1).positions))
        lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
        lie.set("accountEnabled", 1, 1)
        lie.set("accountIndex", 1, 2)
        for side in ("Old", "New"):
            lie.holder(1, side, scene.state.account(2))
        lie.positions(1, "New", {**dict(scene.state.account(2).positions), 3: 4})
        return settled(lie)

    @control("M1 old balances made up", without("lib/merkle.circom", "pick[h].out === before[h];"))
    def made_up(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.positions(0, "Old", {1: 1_000_000, 2: 1000})
        lie.positions(0, "New", {1: 1_000_005, 2: 1000})
        row, preset = forging.column(lie.inputs, "account", 0), scene.state.preset
        tree = SparseTree(8, preset.account_depth, empty_leaf(preset))
        tree.update_many({i: account.leaf(preset) for i, account in scene.state.accounts.items()})
        # The circuit adds new - old to the child that is there.
        tree.set(1, (tree.get(1) + forging.leaf(row, "new") - forging.leaf(row, "old")) % R)
        for i in range(1, len(lie.inputs["accountIndex"])):
            lie.set("accountPath", i, tree.path(0))
        lie.inputs["newRoot"] = tree.root
        return Attack(lie)

    @control("M1 the page starts from the contract's root", without("batch.circom", "account[0].oldRoot === oldRoot;"))
    def other_start(scene: Any) -> Any:
        real = scene.state
        scene.world.settle([scene.world.deposit(1, 1, 10**6)])
        lie = scene.page([scene.world.deposit(2, 1, 5)])
        lie.inputs["oldRoot"] = real.root
        return Attack(lie, state=real)

    @control(
        "M1 the root goes from row to row",
        without("batch.circom", "account[i].oldRoot === account[i - 1].newRoot;"),
        rows=(2, 1, 2, 1),
    )
    def lost_update(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(1, 1, 5), scene.world.deposit(2, 1, 5)])
        path = scene.state.path(2)
        lie.set("accountPath", 1, path)
        root = forging.fold_root(path, 2, forging.leaf(forging.column(lie.inputs, "account", 1), "new"))
        tree = scene.state.copy()
        for i in range(2, len(lie.inputs["accountIndex"])):
            # Rows that do nothing go on from there.
            tree.put({2: replace(scene.state.account(2), positions=((1, 1005), (2, 1000)))})
            lie.set("accountPath", i, tree.path(0))
        lie.inputs["newRoot"] = root
        return Attack(lie)

    @control("M1 the page ends at the published root", without("batch.circom", "account[N - 1].newRoot === newRoot;"))
    def other_end(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.inputs["newRoot"] += 1
        return Attack(lie)

    # --- accounts

    @control(
        "M6 an owner changes only by opening",
        without("rows/account.circom", "(1 - opened) * (newOwner - oldOwner) === 0;"),
    )
    def owner(scene: Any) -> Any:
        lie = scene.page([scene.world.rekey(1)])
        lie.set("accountNewOwner", 0, 666)
        return settled(lie)

    @control(
        "M6 a key changes only by request",
        without("rows/account.circom", "(1 - keyed) * (newPub[0] - oldPub[0]) === 0;"),
    )
    def key(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.set("accountNewPub", 0, [7, lie.inputs["accountOldPub"][0][1]])
        return settled(lie)

    @control("M6 opened and re-keyed rows are the requests", without("batch.circom", "    opened === 0;", ""))
    def other_pub(scene: Any) -> Any:
        lie = scene.page([scene.world.rekey(1)])
        lie.set("accountNewPub", 0, [7, 9])
        return settled(lie)

    @control(
        "M6 an account is opened from nothing",
        without("rows/account.circom", "opened * (oldLeaf - EMPTY_LEAF(orderDepth)) === 0;"),
    )
    def reopened(scene: Any) -> Any:
        lie = scene.page([scene.world.opening(3)])
        lie.set("requestAccount", 0, 1)
        lie.set("accountIndex", 0, 1)
        lie.holder(0, "Old", scene.state.account(1))
        lie.positions(0, "New", dict(scene.state.account(1).positions))
        lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
        return settled(lie)

    @control(
        "M6 an account opened with made-up old balances",
        without(
            "rows/account.circom",
            "opened * (oldLeaf - EMPTY_LEAF(orderDepth)) === 0;",
            "signal standing <== oldLeaf + opened * (EMPTY_LEAF(orderDepth) - oldLeaf);",
        ),
        without(
            "rows/account.circom",
            "Path(depth, 3)(bits, path, oldLeaf, newLeaf);",
            "Path(depth, 3)(bits, path, standing, newLeaf);",
        ),
    )
    def born_rich(scene: Any) -> Any:
        """The old leaf is looked up as the empty one, and what the row says stood in it is never asked for."""
        lie = scene.page([scene.world.opening(3)])
        rich = {1: 1_000_000}
        lie.positions(0, "Old", rich)
        lie.positions(0, "New", rich)
        lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
        return settled(lie)

    @control(
        "M6 an order tree changes only by actions",
        without("rows/account.circom", "(1 - acted) * (newOrdersRoot - oldOrdersRoot) === 0;"),
    )
    def orders(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.set("accountNewOrdersRoot", 0, 5)
        return settled(lie)

    @control("M7 unopened accounts do not change", without("rows/account.circom", "newOwner * inverse === enabled;"))
    def unopened(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.set("requestAccount", 0, 7)
        lie.set("accountIndex", 0, 7)
        for side in ("Old", "New"):
            lie.holder(0, side, EMPTY_ACCOUNT)
        lie.positions(0, "New", {1: 5})
        lie.set("requestTokens", 0, [0] * 14 + [1])
        return settled(lie)

    @control(
        "M8 padding that writes",
        without("rows/account.circom", "(1 - enabled) * (newLeaf - oldLeaf) === 0;"),
        rows=(1, 2, 3, 1),
    )
    def padding(scene: Any) -> Any:
        world = type(scene.world)(scene.state.preset)
        world.settle([world.opening(1), world.opening(2)])
        world.settle([world.deposit(i, token, 1000) for i in (1, 2) for token in (1, 2)])
        scene.world = world
        acts = [
            world.order(1, 5, Side.SELL, (10, 20, 0), limit=(10, 20)),
            world.order(2, 5, Side.BUY, (10, 20, 0), limit=(10, 30)),
        ]
        lie = scene.page([], acts)
        lie.set("actionAux", 0, 1)
        lie.set("actionAux", 1, 2)
        for name, value in (("feeEnabled", 1), ("feeToken", 2), ("feeAmount", 3)):
            lie.set(name, 0, value)
        following.settle_balances(lie, forging)
        lie.positions(2, "New", {2: 3})
        for row in range(3, len(lie.inputs["accountIndex"])):
            for side in ("Old", "New"):
                lie.positions(row, side, {2: 3})
        lie.settle_roots()
        return Attack(lie)

    @control("M8 padding that answers", without("rows/account.circom", "(1 - enabled) * packed === 0;"))
    def answering(scene: Any) -> Any:
        lie = scene.page([scene.world.leave(0, 1)])
        lie.set("requestAccount", 0, 7)
        lie.set("accountEnabled", 0, 0)
        lie.set("accountIndex", 0, 7)
        for side in ("Old", "New"):
            lie.holder(0, side, EMPTY_ACCOUNT)
        lie.settle_roots()
        return Attack(lie)

    @control("M9 an account row twice", without("rows/groups.circom", "RangeCheck(bits)(step[i]);"))
    def twice(scene: Any) -> Any:
        lie = scene.page([scene.world.leave(1, 1)])
        account = scene.state.account(1)
        lie.set("requestOutcome", 0, 0)
        lie.set("accountEnabled", 1, 1)
        lie.set("accountIndex", 1, 1)
        lie.holder(1, "Old", replace(account, positions=((2, 1000),)))
        lie.holder(1, "New", account)
        return settled(lie)

    @control(
        "M9 an account row out of order",
        without("rows/groups.circom", "RangeCheck(bits)(step[i]);", "NonZeroExactlyWhen()(1 + step[i], 1);"),
        rows=(1, 1, 3, 1),
    )
    def out_of_order(scene: Any) -> Any:
        """Neighbours differ, and still account 1 has two rows: 1, 2, 1."""
        lie = twice(scene).lie
        for name in [name for name in lie.inputs if name.startswith("account")]:
            lie.inputs[name][2] = lie.inputs[name][1]
        lie.set("accountIndex", 1, 2)
        for side in ("Old", "New"):
            lie.holder(1, side, scene.state.account(2))
        return settled(lie)

    # --- sums

    @control("M12 trading makes no money", without("batch.circom", "    tokens === 0;", ""))
    def minted(scene: Any) -> Any:
        lie = scene.page([], [scene.world.order(1, 5, Side.SELL, (0, 0, 0), limit=(10, 20))])
        lie.set("actionExBase", 0, 10)
        lie.set("actionExQuote", 0, 20)
        lie.settle_slots()
        following.settle_balances(lie, forging)
        return settled(lie)

    @control("M13 an exit leaves nothing", without("rows/request.circom", "isExit * has === 0;"))
    def leaving(scene: Any) -> Any:
        lie = scene.page([scene.world.leave(1, 1)])
        lie.set("requestOutcome", 0, 900)
        lie.positions(0, "New", {1: 100, 2: 1000})
        lie.set("requestTokens", 0, lie.inputs["accountNewTokens"][0])
        return settled(lie)

    @control(
        "M13 a deposit bounces exactly where it must", without("rows/request.circom", "outcome - leaving === bounced;")
    )
    def bounced(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.set("requestOutcome", 0, 1)
        return settled(lie)

    @control("M9 a request sees the final positions", without("batch.circom", "    requests === 0;", ""))
    def stale_copy(scene: Any) -> Any:
        lie = scene.page([scene.world.leave(1, 1)])
        lie.set("requestOutcome", 0, 900)
        lie.positions(0, "New", {1: 100, 2: 1000})
        return settled(lie)

    @control("M14 a transfer lands on a token held", without("batch.circom", "    transfers === 0;", ""))
    def dust(scene: Any) -> Any:
        world = scene.world
        world.settle([world.deposit(1, 3, 50)])
        lie = scene.page([], [world.transfer(1, 5, 1, 10, to=2)])
        lie.act(0, world.transfer(1, 5, 3, 10, to=2))
        lie.settle_slots()
        lie.positions(0, "New", {1: 1000, 2: 1000, 3: 40})
        lie.positions(1, "New", {1: 1000, 2: 1000, 3: 10})
        lie.set("accountTransferMult", 1, [0] * 15)
        return settled(lie)

    @control("M15 balances have 64 bits", without("lib/positions.circom", "RangeCheck(AMOUNT_BITS())(amounts[j]);"))
    def overdrawn(scene: Any) -> Any:
        lie = scene.page([], [scene.world.withdraw(1, 5, 1, 10)])
        lie.act(0, scene.world.withdraw(1, 5, 1, 1001))
        lie.positions(0, "New", {1: R - 1, 2: 1000})
        return settled(lie)

    @control("M15 the books balance", without("batch.circom", "    ledger === 0;", ""))
    def unbalanced(scene: Any) -> Any:
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        lie.positions(0, "New", {1: 1006, 2: 1000})
        return settled(lie)

    # --- binding

    def credited(scene: Any, more: int) -> Any:
        """Return the lie that a deposit of 5 was one of more; all that follows follows."""
        lie = scene.page([scene.world.deposit(1, 1, 5)])
        honest = lie.words()
        lie.set("requestAmount", 0, 5 + more)
        following.settle_balances(lie, forging)
        lie.settle_roots()
        honest[3] = lie.inputs["newRoot"]
        return lie, honest

    def compensated(lie: Any, honest: list[int], more: int) -> Any:
        """Choose a free word after z so that the polynomial comes out the same."""
        lie.inputs["z"] = lie.draw(honest, lie.inputs["C"])
        lie.inputs["y"] = horner(honest, lie.inputs["z"])
        lie.set("requestOwner", 0, -(more << 44) * inverse(lie.inputs["z"]) % R)
        return Attack(lie, words=honest, bound=True)

    @control(
        "M5 a value chosen after z",
        without("batch.circom", "sponge.in[i] <== words[i];", "sponge.in[i] <== 0;"),
        line="C === sponge.out;",
    )
    def unabsorbed(scene: Any) -> Any:
        lie, honest = credited(scene, 1000)
        elements = forging.elements(lie.inputs)
        lie.inputs["C"] = commitment([0] * len(honest) + elements[len(honest) :])
        return compensated(lie, honest, 1000)

    @control("M5 C is the sponge", without("batch.circom", "C === sponge.out;"))
    def any_c(scene: Any) -> Any:
        lie, honest = credited(scene, 1000)
        lie.inputs["C"] = 12345
        return compensated(lie, honest, 1000)

    @control("M17 y is of the published words", without("batch.circom", "y === evaluated;"))
    def other_words(scene: Any) -> Any:
        lie, honest = credited(scene, 1000)
        return Attack(lie, words=honest)

    @control("M17 the header has one split", without("rows/header.circom", "RangeCheck(TIME_BITS())(timestamp);"))
    def header(scene: Any) -> Any:
        world = scene.world
        lie = scene.unsigned([], [world.order(1, 5, Side.SELL, (0, 0, 0), (10, 20), until=5)])
        honest = lie.words()
        lie.inputs["timestamp"] = (lie.inputs["timestamp"] - (1 << 32)) % R
        lie.inputs["feeAccount"] += 1
        return Attack(lie, words=honest)
