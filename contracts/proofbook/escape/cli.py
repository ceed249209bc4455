"""The command `proofbook-escape`: out of an exchange with an RPC address, the contract's and the L1 key alone."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from proofbook.escape.errors import KeyRefused
from proofbook.escape.keyfile import load_key
from proofbook.escape.owned import Owned
from proofbook.escape.session import Done, Escape
from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.table import ETH_TOKEN, RequestKind

Answer = dict[str, Any]
DEFAULT_ARTIFACTS: Final = Path.home() / ".proofbook" / "exit"


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


def run(escape: Escape, owner: int | str | None = None) -> Answer:
    """Take every step that can be taken now; returns the steps and what comes next."""
    done, rest = escape.run(owner)
    return {"steps": [step.as_json() for step in done], "next": rest.as_json()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it did what was asked, 1 when not, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        answer = _answer(options)
    except ProofbookError as error:
        if options.json:
            message, hint = getattr(error, "message", str(error)), getattr(error, "hint", "")
            print(json.dumps({"error": {"code": error.code, "message": message, "hint": hint}}))
        _say(f"proofbook-escape: {error}")
        return 1
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
    return "\n".join(lines)


def _line(row: Answer) -> str:
    return ", ".join(f"{k} {_line(v) if isinstance(v, dict) else v}" for k, v in row.items()) or "nothing"


def _answer(options: argparse.Namespace) -> Answer:
    account = load_key(options.key_file)
    owner: str | None = options.owner
    if account is None and (owner is None or options.command != "status"):
        raise KeyRefused("no L1 key was given", "name it by --key-file, or set PROOFBOOK_KEY")
    escape = Escape(options.rpc, options.contract, account, options.artifacts, options.first_block, _say)
    if options.command == "status":
        return status(escape, owner)
    if options.command == "run":
        return run(escape, owner)
    step = _STEPS[options.command]
    return step(escape, options).as_json()


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
}
_ARGUMENTS: Final = {"request": ("account", "token"), "exit": ("account",), "reclaim": ("id",), "claim": ("token",)}


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    for flag, variable, metavar, text in (
        ("--rpc", "PROOFBOOK_RPC", "URL", "a node's http address"),
        ("--contract", "PROOFBOOK_CONTRACT", "ADDRESS", "the exchange's contract"),
    ):
        known = os.environ.get(variable)
        common.add_argument(
            flag, required=known is None, default=known, metavar=metavar, help=f"{text} (default: {variable})"
        )
    common.add_argument("--key-file", type=Path, metavar="FILE", help="your L1 key (default: PROOFBOOK_KEY)")
    common.add_argument("--owner", metavar="ADDRESS", help="whose money it is (default: the key's address)")
    common.add_argument(
        "--artifacts", type=Path, default=DEFAULT_ARTIFACTS, metavar="DIR", help="where the exit artifacts are stored"
    )
    common.add_argument(
        "--first-block", type=_number, default=0, metavar="N", help="block of the deployment, or earlier"
    )
    common.add_argument("--json", action="store_true", help="print one JSON object")
    parser = argparse.ArgumentParser(prog="proofbook-escape", description="Leave an exchange without its operator.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _HELP.items():
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        for argument in _ARGUMENTS.get(name, ()):
            command.add_argument(f"--{argument}", type=_number, required=True, metavar="N")
    return parser


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError("a number")
    return int(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
