// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "../lib/logup.circom";
include "../lib/range.circom";

/*
 * ActionGroups(n): rows of one account stand together and chain its order tree (rule M8).
 * enabled    booleans, a prefix, by the caller
 * first      booleans, ranged here: the row starts an account's group
 * account, pub, rootBefore, rootAfter   of the rows
 * firsts, lasts   out   sums of the First and Last identities
 * packed     out   sum first_i 2^i
 *
 * Checks
 * 1. first is boolean; the first row is one when enabled; no disabled row is one
 * 2. an enabled row that is not first goes on with the account, key and order tree of the row before
 * A row is its group's last exactly if the next does not go on: derived, never a witness.
 * Cost: n (2 + 4 + 3 + 1 + 1 + 1).
 */
template ActionGroups(n) {
    assert(n < 253); // packed below r
    signal input z;
    signal input beta;
    signal input enabled[n];
    signal input first[n];
    signal input account[n];
    signal input pub[n][2];
    signal input rootBefore[n];
    signal input rootAfter[n];
    signal output firsts;
    signal output lasts;
    signal output packed;

    signal goesOn[n + 1];
    goesOn[0] <== 0;
    goesOn[n] <== 0;
    var flags = 0;
    first[0] === enabled[0];
    for (var i = 0; i < n; i++) {
        // 1. first flags
        Boolean()(first[i]);
        first[i] * (1 - enabled[i]) === 0;
        flags += first[i] * (1 << i);
        if (i > 0) {
            // 2. the row goes on where the one before ended
            goesOn[i] <== enabled[i] - first[i];
            goesOn[i] * (account[i] - account[i - 1]) === 0;
            goesOn[i] * (pub[i][0] - pub[i - 1][0]) === 0;
            goesOn[i] * (pub[i][1] - pub[i - 1][1]) === 0;
            goesOn[i] * (rootBefore[i] - rootAfter[i - 1]) === 0;
        }
    }
    packed <== flags;

    signal firstKey[n];
    signal firstTerm[n];
    signal lastKey[n];
    signal lastTerm[n];
    var firstSum = 0;
    var lastSum = 0;
    for (var i = 0; i < n; i++) {
        firstKey[i] <== Fold(4)([account[i], pub[i][0], pub[i][1], rootBefore[i]], beta);
        firstTerm[i] <== Fraction()(first[i], z, firstKey[i]);
        firstSum += firstTerm[i];
        lastKey[i] <== Fold(2)([account[i], rootAfter[i]], beta);
        lastTerm[i] <== Fraction()(enabled[i] - goesOn[i + 1], z, lastKey[i]);
        lastSum += lastTerm[i];
    }
    firsts <== firstSum;
    lasts <== lastSum;
}

/*
 * AccountOrder(n, bits): enabled account rows are a prefix and their indices strictly rise (rule M9).
 * enabled    booleans, by the caller
 * index      `bits` bits each, by the caller, bits <= 24
 * Checks: 1. prefix. 2. index_{i+1} - index_i - 1 is not negative, for an enabled row. Cost: (n - 1) (2 + bits).
 */
template AccountOrder(n, bits) {
    signal input enabled[n];
    signal input index[n];

    signal step[n];
    step[0] <== 0;
    for (var i = 1; i < n; i++) {
        // 1. prefix
        enabled[i] * (1 - enabled[i - 1]) === 0;
        // 2. strictly rising
        step[i] <== enabled[i] * (index[i] - index[i - 1] - 1);
        RangeCheck(bits)(step[i]);
    }
}
