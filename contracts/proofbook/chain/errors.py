"""Everything that goes wrong at the chain's edge, with a stable code and a hint."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from proofbook.protocol.errors import HintedError

NONSENSE: Final = (TypeError, ValueError, LookupError, AttributeError)
"""What web3 raises over answers of a form that it does not expect, such as null for a number."""


class ChainError(HintedError):
    """Base of this package's errors."""

    code: ClassVar[str] = "chain_error"


class CompileError(ChainError):
    """The Solidity compiler refused the sources, or could not be run."""

    code: ClassVar[str] = "compile_failed"


class AnvilError(ChainError):
    """A local anvil could not be started or answered with an error."""

    code: ClassVar[str] = "anvil_failed"


class ManifestMismatch(ChainError):
    """A proving key's manifest does not belong to the circuit it is to be deployed with."""

    code: ClassVar[str] = "manifest_mismatch"


class KeyFormatError(ChainError):
    """A verifying key or a proof is malformed or out of range."""

    code: ClassVar[str] = "key_format"


class TransactionFailed(ChainError):
    """A transaction was mined and reverted, was not mined in time, or could not be sent."""

    code: ClassVar[str] = "transaction_failed"


class GasPriceLimit(TransactionFailed):
    """Gas costs more than is allowed to be paid for it; nothing that was not sent before was sent."""

    code: ClassVar[str] = "gas_price_limit"


class GasPriceSetting(ChainError):
    """The limit of the gas price is out of range."""

    code: ClassVar[str] = "gas_price_setting"


class WrongChain(ChainError):
    """The node is on another chain than the exchange; nothing was signed for it.

    Attributes
    ----------
    told, wanted : int
        The node's chain id, and the exchange's.
    """

    code: ClassVar[str] = "wrong_chain"

    def __init__(self, told: int, wanted: int) -> None:
        hint = "ask a node of the exchange's chain; if that is the node's, name it: PROOFBOOK_CHAIN_ID"
        super().__init__(f"the node is on chain {told}, the exchange on {wanted}", hint)
        self.told, self.wanted = told, wanted

    def __reduce__(self) -> tuple[type[WrongChain], tuple[Any, ...]]:
        return type(self), (self.told, self.wanted)


class NotProofbook(ChainError):
    """What the chain says is not what a Proofbook contract would."""

    code: ClassVar[str] = "not_proofbook"


class BatchDataError(ChainError):
    """A batch's transaction is missing or its calldata does not fit its event."""

    code: ClassVar[str] = "batch_data"


class NodeBehind(ChainError):
    """The node lacks a block that another, or the same one, had before.

    Attributes
    ----------
    block : int
        Its number.
    """

    code: ClassVar[str] = "node_behind"

    def __init__(self, block: int) -> None:
        super().__init__(f"the node does not have block {block}, which was there before", "is it in sync?")
        self.block = block

    def __reduce__(self) -> tuple[type[NodeBehind], tuple[Any, ...]]:
        return type(self), (self.block,)


class ReorgDetected(ChainError):
    """The chain dropped a block that was already used.

    Attributes
    ----------
    fork_block : int
        The highest block number that is still known to be common; everything above must be read again.
    """

    code: ClassVar[str] = "reorg"

    def __init__(self, fork_block: int) -> None:
        super().__init__(f"the chain was reorganised above block {fork_block}", "read again from there")
        self.fork_block = fork_block

    def __reduce__(self) -> tuple[type[ReorgDetected], tuple[Any, ...]]:
        return type(self), (self.fork_block,)


class ContractRevert(ChainError):
    """The contract refused a call by a named error.

    Attributes
    ----------
    name : str
        The Solidity error's name.
    args_by_name : dict
        Its arguments.
    """

    code: ClassVar[str] = "contract_revert"

    def __init__(self, name: str, args_by_name: dict[str, Any], hint: str = "") -> None:
        listed = ", ".join(f"{k}={v}" for k, v in args_by_name.items())
        super().__init__(f"the contract refused: {name}({listed})", hint)
        self.name = name
        self.args_by_name = args_by_name

    def data(self) -> dict[str, Any]:
        """Return name, arguments and hint."""
        return {"name": self.name, "args": self.args_by_name, "hint": self.hint}

    def __reduce__(self) -> tuple[type[ContractRevert], tuple[Any, ...]]:
        return type(self), (self.name, self.args_by_name, self.hint)
