"""An anvil spoken to directly: a call costs about a millisecond, and every block's time is ours."""

from __future__ import annotations

import http.client
import json
import socket
import time as clock
from typing import Any, Final

from eth_abi import decode, encode  # type: ignore[attr-defined]
from eth_utils.crypto import keccak

from proofbook.chain.anvil import Anvil
from proofbook.chain.compile import Artifact, contract_artifact

GAS: Final = 3_000_000
MINED_SECONDS: Final = 5.0
RICH: Final = 10**30
DEPLOYER: Final = "0x" + "d0" * 20


def signature(entry: dict[str, Any]) -> tuple[str, list[str]]:
    """Selector's text and the types of the inputs, of an ABI entry."""
    types = [_type(i) for i in entry.get("inputs", ())]
    return f"{entry['name']}({','.join(types)})", types


def _type(field: dict[str, Any]) -> str:
    if not field["type"].startswith("tuple"):
        return str(field["type"])
    inside = ",".join(_type(c) for c in field["components"])
    return f"({inside}){field['type'][5:]}"


class Codec:
    """Calls and errors of some contracts as bytes."""

    def __init__(self, *artifacts: Artifact) -> None:
        self.functions: dict[str, tuple[bytes, list[str]]] = {}
        self.outputs: dict[str, list[str]] = {}
        self.errors: dict[str, tuple[bytes, list[str]]] = {}
        self.payable: set[str] = set()
        for entry in (e for a in artifacts for e in a.abi if e["type"] in ("function", "error")):
            text, types = signature(entry)
            if entry["type"] == "error":
                self.errors[entry["name"]] = (keccak(text=text)[:4], types)
                continue
            self.functions[entry["name"]] = (keccak(text=text)[:4], types)
            self.outputs[entry["name"]] = [_type(o) for o in entry["outputs"]]
            if entry["stateMutability"] == "payable":
                self.payable.add(entry["name"])

    def call(self, name: str, *args: Any) -> bytes:
        selector, types = self.functions[name]
        return selector + encode(types, args)

    def error(self, name: str, *args: Any) -> bytes:
        """What a revert by this error carries; nothing for ""."""
        if not name:
            return b""
        selector, types = self.errors[name]
        return selector + encode(types, args)

    def error_text(self, data: bytes) -> str:
        """A revert's data for people."""
        for name, (selector, types) in self.errors.items():
            if data[:4] == selector:
                return f"{name}{decode(types, data[4:])}"
        return f"unnamed revert 0x{data.hex()}"

    def answer(self, name: str, data: bytes) -> tuple[Any, ...]:
        return tuple(decode(self.outputs[name], data))


class NodeError(Exception):
    """Anvil refused; `data` is what a revert carried."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        super().__init__(f"{method}: {error}")
        data = error.get("data")
        self.data = bytes.fromhex(data[2:]) if isinstance(data, str) else b""


class Node:
    """A connection to an anvil that lets everybody send; with `start`, the time moves only as it is told to."""

    def __init__(self, anvil: Anvil, start: int | None = None) -> None:
        self.anvil, self.clock, self.last_gas = anvil, start, 0
        self._http = http.client.HTTPConnection(anvil.url.removeprefix("http://"), timeout=120)
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.chain_id = int(self.rpc("eth_chainId"), 16)
        self.rpc("anvil_autoImpersonateAccount", True)
        self.rpc("anvil_setBalance", DEPLOYER, hex(RICH))

    def close(self) -> None:
        self._http.close()

    def rpc(self, method: str, *parameters: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        self._http.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = json.loads(self._http.getresponse().read())
        if "error" in answer:
            raise NodeError(method, answer["error"])
        return answer["result"]

    def call(self, sender: str, to: str, data: bytes, value: int = 0, time: int | None = None) -> bytes:
        """What a call would return in a block at `time`; `NodeError` if it reverts."""
        overrides = [] if time is None else [{}, {"time": hex(time)}]
        return bytes.fromhex(self.rpc("eth_call", _transaction(sender, to, data, value), "latest", *overrides)[2:])

    def send(self, sender: str, to: str | None, data: bytes, value: int = 0, time: int | None = None) -> dict[str, Any]:
        """Mine a transaction in a block of its own at `time` and return its receipt, whatever its status."""
        if self.clock is not None:
            self.clock = time = self.clock + 1 if time is None else time
        if time is not None:
            self.rpc("evm_setNextBlockTimestamp", time)
        sent = self.rpc("eth_sendTransaction", _transaction(sender, to, data, value))
        until = clock.monotonic() + MINED_SECONDS
        while clock.monotonic() < until:
            receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", sent)
            if receipt is not None:
                return receipt
            clock.sleep(0.0005)
        raise AssertionError(f"transaction {sent} was not mined")

    def deploy(self, artifact: Artifact | str, *args: Any, value: int = 0) -> str:
        """Create a contract and return its address."""
        made = contract_artifact(artifact) if isinstance(artifact, str) else artifact
        inputs = next((e for e in made.abi if e["type"] == "constructor"), {"name": "", "inputs": []})
        _, types = signature({"name": "", **inputs})
        receipt = self.send(DEPLOYER, None, made.bytecode + encode(types, args), value)
        assert receipt["status"] == "0x1", f"{made.name} was not created"
        self.last_gas = int(receipt["gasUsed"], 16)
        return str(receipt["contractAddress"]).lower()

    def snapshot(self) -> str:
        return str(self.rpc("evm_snapshot"))

    def back_to(self, snapshot: str) -> None:
        """Go back to a snapshot, which is used up."""
        # Anvil shows a receipt before it has pruned its pool, and would then prune the next transaction of that nonce.
        while self.rpc("txpool_status")["pending"] != "0x0":
            clock.sleep(0.0005)
        if not self.rpc("evm_revert", snapshot):
            raise AssertionError(f"no snapshot {snapshot}")
        self.clock = None if self.clock is None else self.now()

    def now(self) -> int:
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)


def _transaction(sender: str, to: str | None, data: bytes, value: int) -> dict[str, str]:
    fields = {"from": sender, "data": "0x" + data.hex(), "value": hex(value)}
    # A creation stores keys and code, which costs more than any call.
    fields["gas"] = hex(GAS if to else 8 * GAS)
    return fields | ({"to": to} if to else {})
