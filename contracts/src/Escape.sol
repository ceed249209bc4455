// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Constants} from "./Constants.sol";
import {Groth16} from "./Groth16.sol";
import {IProofbook} from "./IProofbook.sol";
import {Settlement} from "./Settlement.sol";

/// @title Leaving without the operator
/// @notice Nothing here has an owner, and nothing can stop or delay it once the exchange is frozen.
abstract contract Escape is Settlement {
    /// @dev Public inputs of an exit proof: root, index, owner, T and five words of amounts.
    uint256 internal constant EXIT_INPUTS = 9;

    /// @notice Data contract of the exit circuit's verifying key.
    address public immutable exitKey;
    /// @notice SHA-256 of the exit circuit's proving key and witness program: any copy that matches will do (M25).
    bytes32 public immutable exitZkeyHash;
    bytes32 public immutable exitWasmHash;

    constructor(Config memory c) {
        exitKey = Groth16.store(c.exitKey, EXIT_INPUTS);
        if (c.exitZkeyHash == 0) revert InvalidConfig("exitZkeyHash");
        if (c.exitWasmHash == 0) revert InvalidConfig("exitWasmHash");
        exitZkeyHash = c.exitZkeyHash;
        exitWasmHash = c.exitWasmHash;
    }

    modifier whenFrozen() {
        if (!frozen) revert NotFrozen();
        _;
    }

    /// @inheritdoc IProofbook
    function freeze(RequestData calldata oldest) external nonReentrant whenLive {
        uint64 id = served;
        if (id == queued) revert NothingQueued();
        if (requestHash[id] != _hashRequest(oldest)) revert RequestMismatch(id);
        if (block.timestamp <= oldest.deadline) revert DeadlineNotPassed(oldest.deadline);
        frozen = true;
        emit Frozen(id, oldest.deadline, stateRoot);
    }

    /// @inheritdoc IProofbook
    function exit(
        uint24 index,
        address owner_,
        uint256 tokens_,
        uint256[5] calldata amounts,
        uint256[8] calldata proof
    ) external nonReentrant whenFrozen {
        if (index >= treeSize()) revert IndexBeyondTree(index);
        Account storage account = accounts[index];
        if (account.exited) revert AlreadyExited(index);
        // The leaf's owner came through this queue, so it can only be this one; an unopened account holds nothing.
        if (owner_ == address(0) || owner_ != account.owner) revert NotAccountOwner(index, owner_);
        account.exited = true;
        _proveExit(index, owner_, tokens_, amounts, proof);
        for (uint256 j = 0; j < Constants.POSITIONS; ++j) {
            uint16 token = uint16(tokens_ >> (Constants.TOKEN_BITS * j));
            uint64 amount = uint64(amounts[j / 3] >> (Constants.AMOUNT_BITS * (j % 3)));
            if (amount != 0) _credit(owner_, token, amount);
        }
        emit Exited(index, owner_, tokens_, amounts);
    }

    /// @inheritdoc IProofbook
    function reclaim(uint64 id, RequestData calldata request) external nonReentrant whenFrozen {
        _consume(id, request);
        address to = accounts[request.account].owner;
        if (request.kind == Constants.KIND_DEPOSIT) _credit(to, request.token, request.amount);
        _credit(to, uint16(Constants.ETH_TOKEN), request.fee);
        emit Reclaimed(id, request.account, to);
    }

    function _proveExit(
        uint24 index,
        address owner_,
        uint256 tokens_,
        uint256[5] calldata amounts,
        uint256[8] calldata proof
    ) private view {
        uint256[] memory inputs = new uint256[](EXIT_INPUTS);
        inputs[0] = stateRoot;
        inputs[1] = index;
        inputs[2] = uint160(owner_);
        inputs[3] = tokens_;
        if (tokens_ >> (Constants.TOKEN_BITS * Constants.POSITIONS) != 0) revert PositionsOutOfRange();
        for (uint256 k = 0; k < 5; ++k) {
            if (amounts[k] >> (3 * Constants.AMOUNT_BITS) != 0) revert PositionsOutOfRange();
            inputs[4 + k] = amounts[k];
        }
        if (!Groth16.verify(exitKey, inputs, proof)) revert InvalidProof();
    }
}
