"""The part of the contract's ABI that an escape sends to, written out: no compiler is needed to leave."""

from __future__ import annotations

from typing import Any, Final

_REQUEST: Final = (
    ("kind", "uint8"),
    ("account", "uint24"),
    ("token", "uint16"),
    ("amount", "uint64"),
    ("outcome", "uint64"),
    ("owner", "address"),
    ("pubX", "uint256"),
    ("pubY", "uint256"),
    ("fee", "uint64"),
    ("deadline", "uint64"),
)
_FUNCTIONS: Final = {
    "forceExit": "uint24 index, uint16 token",
    "freeze": "tuple oldest",
    "exit": "uint24 index, address owner_, uint256 tokens_, uint256[5] amounts, uint256[8] proof",
    "reclaim": "uint64 id, tuple request",
    "claimFor": "address to, uint16 token",
}
_PAYABLE: Final = ("forceExit",)
_ERRORS: Final = {
    "AlreadyExited": "uint24 account",
    "DeadlineNotPassed": "uint64 deadline",
    "EthTransferFailed": "address to",
    "IndexBeyondTree": "uint24 account",
    "InvalidProof": "",
    "IsFrozen": "",
    "NotAccountOwner": "uint24 account, address caller",
    "NotFrozen": "",
    "NotWholeGwei": "uint256 value",
    "NothingQueued": "",
    "NothingToClaim": "address owner, uint16 token",
    "OutstandingExceeded": "uint16 token, uint64 amount",
    "PositionsOutOfRange": "",
    "ReentrancyGuardReentrantCall": "",
    "RequestMismatch": "uint64 id",
    "SafeERC20FailedOperation": "address token",
    "TokenCapExceeded": "uint16 token",
    "UnknownToken": "uint16 token",
    "ValueTooLow": "uint256 required, uint256 sent",
}


def _inputs(text: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for part in filter(None, text.split(", ")):
        kind, name = part.split(" ")
        made.append({"name": name, "type": kind})
        if kind == "tuple":
            made[-1]["components"] = [{"name": field, "type": t} for field, t in _REQUEST]
    return made


def escape_abi() -> list[dict[str, Any]]:
    """Return functions and errors in JSON form, as web3 takes them."""
    functions = [
        {
            "type": "function",
            "name": name,
            "inputs": _inputs(text),
            "outputs": [],
            "stateMutability": "payable" if name in _PAYABLE else "nonpayable",
        }
        for name, text in _FUNCTIONS.items()
    ]
    return functions + [{"type": "error", "name": name, "inputs": _inputs(text)} for name, text in _ERRORS.items()]
