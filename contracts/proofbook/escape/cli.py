"""The command `proofbook-escape`: out of an exchange with an RPC address, the contract's and the L1 key alone."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from proofbook.escape.errors import KeyRefused
from proofbook.escape.keyfile import load_key
from proofbook.escape.leave import leave
from proofbook.escape.owned import Owned
from proofbook.escape.pinned import MAX_CHAIN_ID, chain_from_environment
from proofbook.escape.session import Done, Escape
from proofbook.escape.watch import Limits
from proofbook.escape.watching import Place, WatchOptions, watch
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.printable import printable
from proofbook.protocol.table import ACCOUNT_BITS, ETH_TOKEN, TOKEN_BITS, RequestKind
from proofbook.verifier.history import Progress, silent
from proofbook.verifier.rpc import Rpc

Answer = dict[str, Any]
DEFAULT_ARTIFACTS: Final = Path.home() / ".proofbook" / "exit"
DEFAULT_CACHE: Final = Path.home() / ".proofbook" / "cache"
DEFAULT_POLL_S: Final = 15.0
_QUIET_S: Final = 1.0
_FREQUENT: Final = ("read", "rebuilding", "checking")


def status(escape: Escape, owner: int | str | None = None) -> Answer:
    """Return what an address owns and its next step, amounts as decimal strings of base units by token symbol."""
    what = escape.owned(owner)
    tokens = {token.id: token for token in what.exchange.tokens}

    def amounts(quanta: dict[int, int]) -> dict[str, str]:
        return {tokens[token].symbol: str(amount * tokens[token].quantum) for token, amount in quanta.items()}

    return {
        "owner": f"0x{what.owner:040x}",
        "frozen": what.exchange.frozen,
        "root": str(what.exchange.state_root),
        "block": what.exchange.block,
        "time": what.exchange.time,
        "tokens": {token.symbol: token.id for token in what.exchange.tokens},
        "accounts": [{"index": a.index, "exited": a.exited, "balances": amounts(a.balances)} for a in what.accounts],
        "waiting": _waiting(what, amounts),
        "claims": amounts(what.claims),
        "oldest_deadline": what.oldest.deadline if what.oldest is not None else None,
        "next": escape.next_step(owner).as_json(),
    }


def _waiting(what: Owned, amounts: Callable[[dict[int, int]], dict[str, str]]) -> list[Answer]:
    rows = []
    for q in what.waiting:
        row: Answer = {"id": q.id, "kind": RequestKind(q.request.kind).name.lower(), "account": q.request.account}
        if q.request.token:
            row["amount"] = amounts({q.request.token: q.request.amount})
        rows.append({**row, "fee": amounts({ETH_TOKEN: q.fee}), "deadline": q.deadline})
    return rows


def run(
    escape: Escape,
    owner: int | str | None = None,
    wait: bool = False,
    poll: float = DEFAULT_POLL_S,
    on_step: Callable[[Done], None] | None = None,
    progress: Progress = silent,
) -> Answer:
    """Take every step that can be taken now, or with `wait` all of them; returns the steps and what comes next."""
    done, rest = leave(escape, owner, poll, on_step, progress) if wait else escape.run(owner, on_step)
    return {"steps": [step.as_json() for step in done], "next": rest.as_json()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    int
        0 when it did what was asked, 1 when not, 2 for wrong usage; ``watch`` has codes of its own (docs/escaping.md).
    """
    options = _parser().parse_args(arguments)
    options.rpc = options.rpc or [os.environ["PROOFBOOK_RPC"]]
    say = Say()
    try:
        if options.command == "watch":
            return _watch(options, say)
        answer = _answer(options, say)
    except ProofbookError as error:
        if options.json:
            message, hint = getattr(error, "message", str(error)), getattr(error, "hint", "")
            print(json.dumps({"error": {"code": error.code, "message": message, "hint": hint}}))
        print(printable(f"proofbook-escape: {error}"), file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("proofbook-escape: broken off; run it again to go on", file=sys.stderr, flush=True)
        return 130
    print(json.dumps(answer) if options.json else describe(answer))
    return 0


def describe(answer: Answer) -> str:
    """Return an answer for people."""
    lines = []
    for name, value in answer.items():
        if isinstance(value, list):
            lines.append(f"{name}: {len(value)}")
            lines += [f"  {_line(row)}" for row in value]
        else:
            lines.append(f"{name}: {_line(value) if isinstance(value, dict) else value}")
    return "\n".join(printable(line) for line in lines)


def _line(row: Answer) -> str:
    return ", ".join(f"{k} {_line(v) if isinstance(v, dict) else v}" for k, v in row.items()) or "nothing"


class Say:
    """Progress on stderr: a line when something else is done, or some time has passed.

    Parameters
    ----------
    echo : callable, optional
        Takes a line; default: stderr.
    """

    def __init__(self, echo: Callable[[str], object] | None = None) -> None:
        self._echo = echo or (lambda text: print(text, file=sys.stderr, flush=True))
        self._kind, self._due = "", 0.0

    def __call__(self, text: str) -> None:
        """Tell a stage; of those that come one after the other, one a second."""
        kind, now = text.split(" ", 1)[0], time.monotonic()
        if kind in _FREQUENT and self._kind in _FREQUENT and now < self._due:
            return
        self._kind, self._due = kind, now + _QUIET_S
        self._echo(printable(text))


def _answer(options: argparse.Namespace, say: Say) -> Answer:
    account = load_key(options.key_file)
    owner: str | None = getattr(options, "owner", None)
    if account is None and (owner is None or options.command != "status"):
        raise KeyRefused("no L1 key was given", "name it by --key-file, or set PROOFBOOK_KEY")
    rpc = Rpc(options.rpc, trust_env=options.trust_env, tell=say)
    cache = None if options.no_cache else options.cache
    chain_id = options.chain_id or chain_from_environment()
    which = (rpc, options.contract, account, options.artifacts, options.first_block)
    escape = Escape(*which, say, cache, chain_id=chain_id)
    if options.command == "status":
        return status(escape, owner)
    if options.command == "run":
        return run(escape, owner, options.wait, options.poll, step_lines(options.json and options.wait), say)
    step = _STEPS[options.command]
    return step(escape, options).as_json()


def step_lines(wanted: bool) -> Callable[[Done], None] | None:
    """Return what prints a step as a JSON line, if that is wanted."""
    return (lambda done: print(json.dumps(done.as_json()), flush=True)) if wanted else None


def _watch(options: argparse.Namespace, say: Say) -> int:
    account = load_key(options.key_file)
    if options.escape and account is None:
        raise KeyRefused("no L1 key was given", "an escape needs it: name it by --key-file, or set PROOFBOOK_KEY")
    cache = None if options.no_cache else options.cache
    chain_id = options.chain_id or chain_from_environment()
    which = (options.rpc, options.contract, account, options.owner or "", options.artifacts, options.first_block)
    place = Place(*which, cache, chain_id)
    how = WatchOptions(
        once=options.once,
        interval=options.interval,
        limits=Limits(options.quiet, options.gone, options.deadline, options.grace, options.stale),
        webhook=options.webhook,
        escape=options.escape,
        confirm=options.confirm,
        proofs_from=options.proofs_from,
        build=not options.no_build,
        trust_env=options.trust_env,
    )
    return watch(place, how, options.json, say, lambda line: print(line, flush=True))


_STEPS: Final[dict[str, Callable[[Escape, argparse.Namespace], Done]]] = {
    "request": lambda escape, o: escape.request(o.account, o.token),
    "freeze": lambda escape, o: escape.freeze(),
    "exit": lambda escape, o: escape.exit(o.account),
    "reclaim": lambda escape, o: escape.reclaim(o.id),
    "claim": lambda escape, o: escape.claim(o.token, o.owner),
}
_HELP: Final = {
    "status": "what the address owns, and the next step",
    "run": "take every step that can be taken now; run it again later to go on",
    "request": "file a forced exit of all of one token",
    "freeze": "freeze the exchange when the oldest request's deadline has passed",
    "exit": "when frozen: prove what an account holds and turn it into claims",
    "reclaim": "when frozen: take an unserved request's money back",
    "claim": "have a claim paid out",
    "watch": "watch operator, deadlines, money and proofs; alert, and leave by itself where asked to",
}
_CHAIN_HELP: Final = "(default: PROOFBOOK_CHAIN_ID, else the one seen first); nothing is signed for another"
_ARGUMENTS: Final = {"request": ("account", "token"), "exit": ("account",), "reclaim": ("id",), "claim": ("token",)}
_RANGES: Final = {
    "account": (0, 2**ACCOUNT_BITS - 1, "account index"),
    "token": (1, 2**TOKEN_BITS - 1, "token id; 1 is ETH"),
    "id": (0, 2**63 - 1, "the request's id"),
}
_OWNED: Final = ("status", "run", "claim", "watch")
"""Commands that look at an address or pay it; the others are about an account or a request, whose owner it is."""


def _parser() -> argparse.ArgumentParser:
    common = _common()
    parser = argparse.ArgumentParser(prog="proofbook-escape", description="Leave an exchange without its operator.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _HELP.items():
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        for argument in _ARGUMENTS.get(name, ()):
            low, high, about = _RANGES[argument]
            told = f"{about}, as `status` shows"
            command.add_argument(f"--{argument}", type=_between(low, high), required=True, metavar="N", help=told)
        if name in _OWNED:
            command.add_argument("--owner", metavar="ADDRESS", help="whose money it is (default: the key's address)")
        if name == "run":
            command.add_argument("--wait", action="store_true", help="wait for the deadline too, until all is claimed")
            command.add_argument("--poll", type=_seconds, default=DEFAULT_POLL_S, metavar="S", help="between looks")
        if name == "watch":
            _watch_arguments(command)
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    contract = os.environ.get("PROOFBOOK_CONTRACT")
    several = "give several, and the next is asked when one fails"
    rpc_help = f"a node's http address; {several} (default: PROOFBOOK_RPC)"
    common.add_argument(
        "--rpc", action="append", required="PROOFBOOK_RPC" not in os.environ, metavar="URL", help=rpc_help
    )
    contract_help = "the exchange's contract (default: PROOFBOOK_CONTRACT)"
    common.add_argument(
        "--contract", required=contract is None, default=contract, metavar="ADDRESS", help=contract_help
    )
    common.add_argument("--key-file", type=Path, metavar="FILE", help="your L1 key (default: PROOFBOOK_KEY)")
    for flag, default, metavar, text in (
        ("--artifacts", DEFAULT_ARTIFACTS, "DIR", "where the exit artifacts are stored"),
        ("--cache", DEFAULT_CACHE, "DIR", "where a rebuild that broke off goes on from"),
    ):
        common.add_argument(flag, type=Path, default=default, metavar=metavar, help=text)
    common.add_argument(
        "--first-block", type=_number, default=0, metavar="N", help="block of the deployment, or earlier"
    )
    common.add_argument(
        "--chain-id", type=_between(1, MAX_CHAIN_ID), default=0, metavar="N", help=f"the exchange's chain {_CHAIN_HELP}"
    )
    common.add_argument("--no-cache", action="store_true", help="keep nothing, and go on from nothing")
    common.add_argument("--trust-env", action="store_true", help="use the proxy that the environment names")
    common.add_argument("--json", action="store_true", help="print JSON: one object, or lines where it goes on")
    return common


def _watch_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--once", action="store_true", help="look once; 0 all is well, 3 warnings, 4 critical")
    command.add_argument("--interval", type=_seconds, default=30.0, metavar="S", help="seconds between two looks")
    command.add_argument("--webhook", default="", metavar="URL", help="post every change there, as JSON")
    command.add_argument("--escape", action="store_true", help="leave by itself when it has to be")
    command.add_argument(
        "--confirm", type=_between(1, 1000), default=2, metavar="N", help="looks in a row that must say so"
    )
    for name, default, text in (
        ("quiet", None, "no batch for so long while requests wait: a warning (default: a quarter of the window)"),
        ("gone", None, "no batch for so long: critical (default: half of the request window)"),
        ("deadline", None, "warn so long before a deadline (default: a quarter of the window)"),
        ("grace", 300, "a node may fail for so long before that is critical"),
        ("stale", 900, "a node's latest block may be so old"),
    ):
        command.add_argument(f"--{name}", type=_number, default=default, metavar="S", help=text)
    command.add_argument(
        "--proofs-from", type=_number, default=0, metavar="N", help="first batch whose proof is checked (default: all)"
    )
    command.add_argument("--no-build", action="store_true", help="don't compile the contract to compare its code")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError("a number")
    return int(text)


def _between(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 20 or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"a number from {low} to {high}")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 86400:
        raise argparse.ArgumentTypeError("seconds, 0.05 to 86400")
    return value


if __name__ == "__main__":
    sys.exit(main())
