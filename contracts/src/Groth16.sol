// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Constants} from "./Constants.sol";

/// @title Groth16 over BN254 with verifying keys in data contracts
/// @notice A data contract's code is one 0x00 byte (it can't be executed) and the key: alpha1 (2 words), beta2, gamma2,
/// delta2 (4 words each, imaginary part first as in EIP-197), then one IC point (2 words) more than public inputs.
library Groth16 {
    /// @dev The base field's modulus.
    uint256 internal constant Q = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;
    /// @dev Words of a key before its IC points.
    uint256 internal constant FIXED_WORDS = 14;

    error VerifyingKeyLength(uint256 length, uint256 expected);
    /// @notice A point is off its curve or outside the subgroup.
    error VerifyingKeyPoint();
    /// @notice gamma is delta or -delta (anyone could prove anything), or one of the four key points is infinity.
    error VerifyingKeyDegenerate();
    error DataContractFailed();

    /// @notice Check a key and store it as a data contract.
    /// @param key the words described above
    /// @param inputs number of public inputs
    function store(bytes memory key, uint256 inputs) internal returns (address data) {
        uint256 expected = 32 * (FIXED_WORDS + 2 * (inputs + 1));
        if (key.length != expected) revert VerifyingKeyLength(key.length, expected);
        _check(key, inputs);
        // PUSH2 size, DUP1, PUSH1 offset, PUSH0, CODECOPY, PUSH0, RETURN; then the code: STOP and the key.
        bytes memory init = abi.encodePacked(hex"61", uint16(key.length + 1), hex"80600a5f395ff300", key);
        assembly ("memory-safe") {
            data := create(0, add(init, 32), mload(init))
        }
        if (data == address(0)) revert DataContractFailed();
    }

    /// @notice Whether the proof holds for the inputs under the key at `data`.
    /// @dev Never reverts on bad values: the caller must turn false into a revert.
    /// False when an input is at or above r, a coordinate at or above q, a point off its curve, or a precompile fails.
    function verify(address data, uint256[] memory inputs, uint256[8] memory proof) internal view returns (bool) {
        for (uint256 i = 0; i < 8; ++i) {
            if (proof[i] >= Q) return false;
        }
        uint256[] memory key = _load(data, FIXED_WORDS + 2 * (inputs.length + 1));
        (bool ok, uint256 x, uint256 y) = _combine(key, inputs);
        if (!ok) return false;

        // e(-A, B) e(alpha, beta) e(sum, gamma) e(C, delta) = 1
        uint256[24] memory pairs;
        pairs[0] = proof[0];
        pairs[1] = (Q - proof[1]) % Q;
        for (uint256 i = 0; i < 4; ++i) {
            pairs[2 + i] = proof[2 + i];
            pairs[8 + i] = key[2 + i];
            pairs[14 + i] = key[6 + i];
            pairs[20 + i] = key[10 + i];
        }
        (pairs[6], pairs[7]) = (key[0], key[1]);
        (pairs[12], pairs[13]) = (x, y);
        (pairs[18], pairs[19]) = (proof[6], proof[7]);
        uint256[1] memory result;
        assembly ("memory-safe") {
            ok := staticcall(gas(), 8, pairs, 768, result, 32)
            ok := and(ok, eq(returndatasize(), 32))
        }
        return ok && result[0] == 1;
    }

    /// @dev IC_0 + sum input_i IC_{i+1}.
    function _combine(uint256[] memory key, uint256[] memory inputs)
        private
        view
        returns (bool ok, uint256 x, uint256 y)
    {
        uint256[4] memory sum; // the running sum, and the next term beside it for the addition
        uint256[3] memory term;
        (sum[0], sum[1]) = (key[FIXED_WORDS], key[FIXED_WORDS + 1]);
        ok = true;
        for (uint256 i = 0; i < inputs.length; ++i) {
            if (inputs[i] >= Constants.R) return (false, 0, 0);
            (term[0], term[1], term[2]) = (key[FIXED_WORDS + 2 * i + 2], key[FIXED_WORDS + 2 * i + 3], inputs[i]);
            assembly ("memory-safe") {
                ok := and(ok, staticcall(gas(), 7, term, 96, add(sum, 64), 64))
                ok := and(ok, eq(returndatasize(), 64))
                ok := and(ok, staticcall(gas(), 6, sum, 128, sum, 64))
                ok := and(ok, eq(returndatasize(), 64))
            }
        }
        (x, y) = (sum[0], sum[1]);
    }

    /// @dev The key's words, without the leading 0x00 byte.
    function _load(address data, uint256 words) private view returns (uint256[] memory key) {
        key = new uint256[](words);
        assembly ("memory-safe") {
            extcodecopy(data, add(key, 32), 1, mul(words, 32))
        }
    }

    /// @dev The precompiles refuse coordinates at or above q and points off their curve or subgroup, so they do the checking.
    function _check(bytes memory key, uint256 inputs) private view {
        bool ok = true;
        bool degenerate;
        assembly ("memory-safe") {
            let words := add(key, 32)
            let free := mload(0x40)
            // Pair alpha with each of beta, gamma, delta; the product doesn't matter, only that all are points.
            for { let i := 0 } lt(i, 3) { i := add(i, 1) } {
                let pair := add(free, mul(i, 192))
                mcopy(pair, words, 64)
                mcopy(add(pair, 64), add(words, add(64, mul(i, 128))), 128)
                let any := or(or(mload(add(pair, 64)), mload(add(pair, 96))), or(mload(add(pair, 128)), mload(add(pair, 160))))
                degenerate := or(degenerate, iszero(any))
            }
            degenerate := or(degenerate, iszero(or(mload(words), mload(add(words, 32)))))
            // Equal first coordinates: gamma is delta or its negative, and either way the last two pairings can cancel.
            degenerate := or(degenerate, eq(keccak256(add(words, 192), 64), keccak256(add(words, 320), 64)))
            ok := staticcall(gas(), 8, free, 576, free, 32)
            for { let i := 0 } iszero(gt(i, inputs)) { i := add(i, 1) } {
                mcopy(free, add(words, add(448, mul(i, 64))), 64)
                mstore(add(free, 64), 0)
                mstore(add(free, 96), 0)
                ok := and(ok, staticcall(gas(), 6, free, 128, free, 64))
            }
        }
        if (degenerate) revert VerifyingKeyDegenerate();
        if (!ok) revert VerifyingKeyPoint();
    }
}
