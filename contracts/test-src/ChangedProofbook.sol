// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Proofbook} from "../src/Proofbook.sol";

/// @notice An exchange that behaves alike and is other code: the verifier must notice.
contract ChangedProofbook is Proofbook {
    constructor(Config memory c) Proofbook(c) {}

    /// @notice What our own build does not have.
    function changed() external pure returns (bool) {
        return true;
    }
}
