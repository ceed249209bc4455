// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/poseidon.circom";
include "../generated/constants.circom";

/*
 * Sponge(n): out = C of n field elements: h_0 = n, h_{k+1} = Poseidon16(h_k, the next 15 elements, zero padded).
 * The length comes first, so padding is no other message. Cost: 609 ceil(n / 15) - 3.
 */
template Sponge(n) {
    signal input in[n];
    signal output out;

    var RATE = SPONGE_RATE();
    var STEPS = (n + RATE - 1) \ RATE;
    component hash[STEPS];
    for (var k = 0; k < STEPS; k++) {
        hash[k] = Poseidon(RATE + 1);
        if (k == 0) {
            hash[k].inputs[0] <== n;
        } else {
            hash[k].inputs[0] <== hash[k - 1].out;
        }
        for (var i = 0; i < RATE; i++) {
            if (k * RATE + i < n) {
                hash[k].inputs[1 + i] <== in[k * RATE + i];
            } else {
                hash[k].inputs[1 + i] <== 0;
            }
        }
    }
    out <== hash[STEPS - 1].out;
}

/* Horner(n): out = in_0 + in_1 at + ... + in_{n-1} at^{n-1}. Cost: n - 1. */
template Horner(n) {
    signal input in[n];
    signal input at;
    signal output out;

    signal steps[n];
    steps[n - 1] <== in[n - 1];
    for (var i = n - 2; i >= 0; i--) {
        steps[i] <== steps[i + 1] * at + in[i];
    }
    out <== steps[0];
}
