// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Custody} from "./Custody.sol";
import {Escape} from "./Escape.sol";
import {RequestQueue} from "./RequestQueue.sol";
import {Settlement} from "./Settlement.sol";

/// @title Proofbook
/// @notice A validity-proof exchange's L1 side. Everything in `Config` is fixed for ever: the owner can only append tokens,
/// the operator can only replace itself and commit proven batches, and nothing else has an owner.
contract Proofbook is Escape {
    constructor(Config memory c) Custody(c.owner) RequestQueue(c) Settlement(c) Escape(c) {}
}
