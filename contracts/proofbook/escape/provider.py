"""web3's way to the chain through our own client, so that what it sends has the same limits, patience and nodes."""

from __future__ import annotations

import json
from typing import Any

from eth_utils.crypto import keccak
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from proofbook.verifier.errors import RpcMalformed, RpcRefused
from proofbook.verifier.rpc import Rpc, data


class RpcProvider(JSONBaseProvider):
    """A provider for `Web3`; its errors are the client's.

    Parameters
    ----------
    rpc : Rpc
        The client.
    """

    def __init__(self, rpc: Rpc) -> None:
        super().__init__()
        self._rpc = rpc

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Return the answer to a request, an error object too."""
        plain = json.loads(self.encode_rpc_request(method, params))["params"]
        try:
            result = self._send(*plain) if method == "eth_sendRawTransaction" else self._rpc.call(method, *plain)
            return {"jsonrpc": "2.0", "id": 1, "result": result}
        except RpcRefused as error:
            told = {name: value for name, value in error.answer.items() if value is not None}
            refusal: Any = {"code": -32000, "message": error.message, **told}
            return {"jsonrpc": "2.0", "id": 1, "error": refusal}

    def _send(self, raw: str) -> str:
        """Return a transaction's hash, by our own reckoning, if a node took it; then all have it."""
        digest = "0x" + keccak(data(raw)).hex()
        try:
            self._rpc.broadcast(raw)
        except RpcRefused:
            if not self._known(digest):
                raise
        return digest

    def _known(self, digest: str) -> bool:
        """Tell whether a node has a refused transaction: its first sending arrived, only the answer did not."""
        try:
            return isinstance(self._rpc.call("eth_getTransactionByHash", digest), dict)
        except (RpcRefused, RpcMalformed):
            return False
