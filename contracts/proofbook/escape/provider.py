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
            return {"jsonrpc": "2.0", "id": 1, "result": self._rpc.call(method, *plain)}
        except RpcRefused as error:
            if method == "eth_sendRawTransaction" and (digest := self._known(plain)):
                return {"jsonrpc": "2.0", "id": 1, "result": digest}
            told = {name: value for name, value in error.answer.items() if value is not None}
            refusal: Any = {"code": -32000, "message": error.message, **told}
            return {"jsonrpc": "2.0", "id": 1, "error": refusal}

    def _known(self, params: list[Any]) -> str:
        """Return a refused transaction's hash if a node has it: its first sending arrived, only the answer did not."""
        try:
            digest = "0x" + keccak(data(params[0])).hex()
            found = self._rpc.call("eth_getTransactionByHash", digest)
        except (RpcRefused, RpcMalformed, IndexError):
            return ""
        return digest if isinstance(found, dict) else ""
