// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

/*
 * Prefix(n): n booleans are ones, then zeros.
 * enabled    booleans, by the caller
 * count      out   how many
 * Checks: 1. none is enabled after one that is not. Cost: n - 1.
 */
template Prefix(n) {
    signal input enabled[n];
    signal output count;

    var sum = enabled[0];
    for (var i = 1; i < n; i++) {
        // 1. no gap
        enabled[i] * (1 - enabled[i - 1]) === 0;
        sum += enabled[i];
    }
    count <== sum;
}

/* Sum(n): Cost: 0. */
template Sum(n) {
    signal input in[n];
    signal output out;

    var sum = 0;
    for (var i = 0; i < n; i++) {
        sum += in[i];
    }
    out <== sum;
}
