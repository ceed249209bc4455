// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/comparators.circom";
include "circomlib/circuits/poseidon.circom";
include "./range.circom";
include "../generated/constants.circom";

/* PackTokens(): T = sum tokens_j 2^(16 j). tokens: 15 values of 16 bits, by the caller. Cost: 0. */
template PackTokens() {
    signal input tokens[POSITIONS()];
    signal output packed;

    var sum = 0;
    for (var j = 0; j < POSITIONS(); j++) {
        sum += tokens[j] * (1 << (TOKEN_BITS() * j));
    }
    packed <== sum; // below 2^240 < r
}

/*
 * SplitTokens(): tokens are the only split of T into 15 ids of 16 bits (rule M2).
 * packed     out   T
 * Checks: 1. each id has 16 bits. Cost: 240.
 */
template SplitTokens() {
    signal input tokens[POSITIONS()];
    signal output packed;

    // 1. each id has 16 bits
    RangeChecks(POSITIONS(), TOKEN_BITS())(tokens);
    packed <== PackTokens()(tokens);
}

/* HashPositions(): Poseidon(T, amounts). Cost: Poseidon(16) = 609. */
template HashPositions() {
    signal input packed;
    signal input amounts[POSITIONS()];
    signal output out;

    component hash = Poseidon(POSITIONS() + 1);
    hash.inputs[0] <== packed;
    for (var j = 0; j < POSITIONS(); j++) {
        hash.inputs[1 + j] <== amounts[j];
    }
    out <== hash.out;
}

/*
 * CanonicalPositions(): empties first, then ids strictly rising, each with an amount in [1, 2^64).
 * tokens, amounts   fields; ranged here
 * packed            out   T
 *
 * Checks
 * 1. tokens_1, every step d_j = tokens_{j+1} - tokens_j - (tokens_j != 0), and tokens_15 have 16 bits
 * 2. each amount has 64 bits
 * 3. an amount is 0 exactly when its token is
 * From 1: tokens_{j+1} = tokens_j + (tokens_j != 0) + d_j, sums of at most 16 numbers below 2^16 + 1, so nothing wraps, the
 * sequence never falls, it rises strictly once it is not 0, and all are at most tokens_15 < 2^16.
 * Cost: 16 * 16 + 15 * 64 + 15 * (2 + 2) = 1,276.
 */
template CanonicalPositions() {
    signal input tokens[POSITIONS()];
    signal input amounts[POSITIONS()];
    signal output packed;

    var LAST = POSITIONS() - 1;
    signal isEmpty[POSITIONS()];
    RangeCheck(TOKEN_BITS())(tokens[0]);
    for (var j = 0; j <= LAST; j++) {
        isEmpty[j] <== IsZero()(tokens[j]);
        if (j < LAST) {
            // 1. strictly rising where not empty
            RangeCheck(TOKEN_BITS())(tokens[j + 1] - tokens[j] - 1 + isEmpty[j]);
        }
        // 2. the amount has 64 bits
        RangeCheck(AMOUNT_BITS())(amounts[j]);
        // 3. it is 0 exactly when the token is
        NonZeroExactlyWhen()(amounts[j], 1 - isEmpty[j]);
    }
    RangeCheck(TOKEN_BITS())(tokens[LAST]);
    packed <== PackTokens()(tokens);
}
