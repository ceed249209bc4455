"""The command `proofbook-verify`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from proofbook.protocol.errors import ProofbookError
from proofbook.protocol.printable import printable
from proofbook.verifier.report import Report, verify_exchange

DEVELOPMENT_WARNING = (
    "WARNING: DEVELOPMENT KEYS. No ceremony vouches for at least one verifying key of this exchange:\n"
    "whoever made it may be able to forge proofs. Do not trust it with money."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if all is well, 1 if something is wrong or could not be checked, 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        report = verify_exchange(options.rpc, options.contract, _say, options.first_block)
    except ProofbookError as error:
        _fail(error, options.json)
        return 1
    print(json.dumps(report.as_json()) if options.json else describe(report))
    for problem in report.problems:
        _say(f"PROBLEM {problem}")
    if report.has_development_keys:
        for line in DEVELOPMENT_WARNING.splitlines():
            _say(line)
    return 0 if report.ok else 1


def describe(report: Report) -> str:
    """Return the report for people."""
    same = "the same" if report.root_rebuilt == report.root_on_chain else "DIFFERENT"
    lines = [
        f"root on chain  {report.root_on_chain}",
        f"root rebuilt   {report.root_rebuilt} ({same})",
        f"batches        {report.batches}, proofs that hold: {report.proofs_checked}",
        f"code           {'matches this checkout' if report.code_matches else 'DOES NOT MATCH this checkout'}",
    ]
    lines.append(f"terms          {report.terms.describe()}")
    for k, key in enumerate((*report.batch_keys, report.exit_key)):
        name = f"batch size {k}" if k < len(report.batch_keys) else "exit"
        lines.append(f"key            {name}: {key.kind}, sha256 {key.sha256}")
    for symbol, held in report.vault.items():
        lines.append(f"{symbol:<14} vault {held}, liabilities {report.liabilities[symbol]} (base units)")
    lines.append("all is well" if report.ok else f"{len(report.problems)} PROBLEMS")
    return "\n".join(map(printable, lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="proofbook-verify",
        description="Check an exchange over JSON-RPC alone: code, terms, keys, history, proofs, money.",
    )
    parser.add_argument("--rpc", required=True, metavar="URL", help="a node's http address, or several with commas")
    parser.add_argument("--contract", required=True, metavar="ADDRESS", help="the exchange's contract")
    parser.add_argument(
        "--first-block", type=_block, default=0, metavar="N", help="block of the deployment, or earlier"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _block(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError("a block number")
    return int(text)


def _say(text: str) -> None:
    # Most of it is a node's or a token's own words.
    print(printable(text), file=sys.stderr, flush=True)


def _fail(error: ProofbookError, as_json: bool) -> None:
    if as_json:
        hint = getattr(error, "hint", "")
        print(
            json.dumps({"error": {"code": error.code, "message": getattr(error, "message", str(error)), "hint": hint}})
        )
    _say(f"proofbook-verify: {error}")


if __name__ == "__main__":
    sys.exit(main())
