// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IProofbook} from "./IProofbook.sol";
import {Constants} from "./Constants.sol";

/// @title The words D of a batch, and the point and value that bind them to the proof
/// @notice docs/spec.md, sections 4 and 6. The layout is the size's full one; absent rows are zero words in their places (M17).
library Page {
    /// @dev What the header says.
    struct Header {
        uint256 domain;
        uint16 sizeId;
        uint64 number;
        uint32 timestamp;
        uint256 oldRoot;
        uint256 newRoot;
    }

    /// @notice An account's domain for signatures: bound to chain and contract (M4).
    function domain() internal view returns (uint256) {
        return uint256(keccak256(abi.encode(keccak256(bytes(Constants.DOMAIN_TAG)), block.chainid, address(this)))) >> 8;
    }

    /// @notice All words, in order. Callers have checked that the rows fit the size.
    function build(
        Header memory h,
        IProofbook.Size memory size,
        IProofbook.RequestData[] calldata requests,
        bytes calldata actions,
        bytes calldata fees
    ) internal pure returns (uint256[] memory d) {
        uint256 nActions = actions.length / Constants.ACTION_CALLDATA_BYTES;
        uint256 nFees = fees.length / Constants.FEE_CALLDATA_BYTES;
        uint256 actionsAt = Constants.HEADER_WORDS + Constants.REQUEST_WORDS * size.requests;
        uint256 feesAt = actionsAt + Constants.ACTION_WORDS * size.actions;
        d = new uint256[](feesAt + Constants.FEE_WORDS * size.fees);
        d[0] = h.domain;
        d[1] = uint256(h.sizeId) << Constants.HEADER_SIZE_ID_SHIFT
            | uint256(h.number) << Constants.HEADER_NUMBER_SHIFT
            | uint256(h.timestamp) << Constants.HEADER_TIMESTAMP_SHIFT
            | Constants.FEE_ACCOUNT << Constants.HEADER_FEE_ACCOUNT_SHIFT
            | requests.length << Constants.HEADER_N_REQUESTS_SHIFT
            | nActions << Constants.HEADER_N_ACTIONS_SHIFT
            | nFees << Constants.HEADER_N_FEES_SHIFT;
        d[2] = h.oldRoot;
        d[3] = h.newRoot;
        uint256 at = Constants.HEADER_WORDS;
        for (uint256 i = 0; i < requests.length; ++i) {
            IProofbook.RequestData calldata q = requests[i];
            d[at++] = uint256(q.kind) << Constants.REQUEST_KIND_SHIFT
                | uint256(q.account) << Constants.REQUEST_ACCOUNT_SHIFT
                | uint256(q.token) << Constants.REQUEST_TOKEN_SHIFT
                | uint256(q.amount) << Constants.REQUEST_AMOUNT_SHIFT
                | uint256(q.outcome) << Constants.REQUEST_OUTCOME_SHIFT;
            d[at++] = uint160(q.owner);
            d[at++] = q.pubX;
            d[at++] = q.pubY;
        }
        at = actionsAt;
        for (uint256 i = 0; i < nActions; ++i) {
            (d[at++], d[at++]) = actionRow(actions, i);
        }
        for (uint256 i = 0; i < nFees; ++i) {
            uint256 offset = i * Constants.FEE_CALLDATA_BYTES;
            d[feesAt + i] = uint80(bytes10(fees[offset:offset + Constants.FEE_CALLDATA_BYTES]));
        }
    }

    /// @notice The two words of action row `i`.
    function actionRow(bytes calldata actions, uint256 i) internal pure returns (uint256 a0, uint256 a1) {
        uint256 offset = i * Constants.ACTION_CALLDATA_BYTES;
        a0 = uint128(bytes16(actions[offset:offset + 16]));
        a1 = uint192(bytes24(actions[offset + 16:offset + Constants.ACTION_CALLDATA_BYTES]));
    }

    /// @notice z: known only after every word of D and everything under C is fixed (M16).
    function challenge(uint16 sizeId, uint256[] memory d, uint256 c) internal view returns (uint256) {
        bytes32 hash;
        assembly ("memory-safe") {
            hash := keccak256(add(d, 32), mul(mload(d), 32))
        }
        bytes32 tag = keccak256(bytes(Constants.CHALLENGE_TAG));
        return uint256(keccak256(abi.encode(tag, block.chainid, address(this), sizeId, hash, c))) % Constants.R;
    }

    /// @notice y = sum of D_i z^i modulo r.
    function evaluate(uint256[] memory d, uint256 z) internal pure returns (uint256 y) {
        uint256 r = Constants.R;
        assembly ("memory-safe") {
            let start := add(d, 32)
            for { let at := add(start, mul(mload(d), 32)) } gt(at, start) {} {
                at := sub(at, 32)
                y := addmod(mulmod(y, z, r), mload(at), r)
            }
        }
    }
}
