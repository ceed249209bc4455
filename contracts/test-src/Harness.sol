// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Groth16} from "../src/Groth16.sol";
import {IProofbook} from "../src/IProofbook.sol";
import {Page} from "../src/Page.sol";

/// @notice Shows the words of a batch, and the point and value, as `commit` computes them. For tests only.
contract PageHarness {
    function domain() external view returns (uint256) {
        return Page.domain();
    }

    function pageOf(
        Page.Header memory header,
        IProofbook.Size memory size,
        IProofbook.RequestData[] calldata requests,
        bytes calldata actions,
        bytes calldata fees,
        uint256 c
    ) external view returns (uint256[] memory d, uint256 z, uint256 y) {
        d = Page.build(header, size, requests, actions, fees);
        z = Page.challenge(header.sizeId, d, c);
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
