// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Groth16} from "../src/Groth16.sol";
import {Page} from "../src/Page.sol";
import {Proofbook} from "../src/Proofbook.sol";

/// @notice Shows the words of a batch, and the point and value, that `commit` would compute. For tests only.
contract ProofbookHarness is Proofbook {
    constructor(Config memory c) Proofbook(c) {}

    function pageOf(
        uint16 sizeId,
        uint32 timestamp,
        uint256 newRoot,
        RequestData[] calldata requests,
        bytes calldata actions,
        bytes calldata fees,
        uint256 c
    ) external view returns (uint256[] memory d, uint256 z, uint256 y) {
        SizeSlot memory size = _fit(sizeId, requests.length, actions.length, fees.length);
        d = _page(size, sizeId, timestamp, newRoot, requests, actions, fees);
        z = Page.challenge(sizeId, d, c);
        y = Page.evaluate(d, z);
    }
}

/// @notice The Groth16 library on its own.
contract Groth16Harness {
    address public immutable key;

    constructor(bytes memory key_, uint256 inputs) {
        key = Groth16.store(key_, inputs);
    }

    function verify(uint256[] calldata inputs, uint256[8] calldata proof) external view returns (bool) {
        return Groth16.verify(key, inputs, proof);
    }
}

/// @notice Forwards a call, so that the caller is a contract and not the transaction's origin.
contract Forwarder {
    function forward(address to, bytes calldata data) external {
        (bool ok, bytes memory answer) = to.call(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
    }
}
