// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

/*
 * Fraction(): out = numerator / (point - key), one term of an identity.
 * numerator  field, a function of values bound by C (rule M5)
 * point      field, the challenge z
 * key        field, a function of values bound by C
 * When z meets a key (probability about 2^-200 over the choice of z) the term is free if its numerator is 0, else there is no witness.
 * Cost: 1.
 */
template Fraction() {
    signal input numerator;
    signal input point;
    signal input key;
    signal output out;

    out <-- numerator / (point - key);
    // 1. out is the quotient
    out * (point - key) === numerator;
}

/*
 * Fold(n): out = v_0 + beta v_1 + ... + beta^(n-1) v_{n-1}, a tuple as one field element.
 * Cost: n - 1.
 */
template Fold(n) {
    signal input values[n];
    signal input beta;
    signal output out;

    signal steps[n];
    steps[n - 1] <== values[n - 1];
    for (var i = n - 2; i >= 0; i--) {
        steps[i] <== steps[i + 1] * beta + values[i];
    }
    out <== steps[0];
}
