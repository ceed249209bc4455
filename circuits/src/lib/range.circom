// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/bitify.circom";
include "circomlib/circuits/comparators.circom";

/*
 * RangeCheck(n): in lies in [0, 2^n), n <= 253.
 * Cost: n.
 */
template RangeCheck(n) {
    assert(n <= 253); // 2^n < r, so the bits are the only ones
    signal input in;
    component bits = Num2Bits(n);
    bits.in <== in;
}

/* RangeChecks(k, n): each of k values lies in [0, 2^n). Cost: k n. */
template RangeChecks(k, n) {
    signal input in[k];
    for (var i = 0; i < k; i++) {
        RangeCheck(n)(in[i]);
    }
}

/* Boolean(): in is 0 or 1. Cost: 1. */
template Boolean() {
    signal input in;
    in * (in - 1) === 0;
}

/*
 * OneHot(k): each of k inputs is 0 or 1 and at most one is 1.
 * any        out     boolean, their sum
 * Cost: k + 1.
 */
template OneHot(k) {
    signal input in[k];
    signal output any;

    // 1. each is boolean
    var sum = 0;
    for (var i = 0; i < k; i++) {
        Boolean()(in[i]);
        sum += in[i];
    }
    // 2. the sum is boolean; it is at most k, so the field doesn't wrap
    any <== sum;
    Boolean()(any);
}

/*
 * NonZeroExactlyWhen(): in is not 0 when the boolean is 1, and 0 when it is 0.
 * in         field
 * flag       boolean, by the caller
 * Cost: 2.
 */
template NonZeroExactlyWhen() {
    signal input in;
    signal input flag;

    // 1. flag = 1 => in has an inverse
    signal inverse;
    inverse <-- in != 0 ? 1 / in : 0;
    in * inverse === flag;
    // 2. flag = 0 => in = 0
    in * (1 - flag) === 0;
}

/*
 * AtMostConstant(n, max): the number written by n bits is at most the constant, 128 < n <= 254, max < 2^n (as an integer).
 * in         n bits, boolean by the caller
 *
 * Write in = low + 2^128 high and max = LOW + 2^128 HIGH, so low, LOW < 2^128 and high, HIGH < 2^126. Then
 * in <= max  <=>  high < HIGH, or high = HIGH and low <= LOW. The check sees one number,
 *   slack = LOW - low        in (-2^128, 2^128)   when high = HIGH,
 *   slack = HIGH - 1 - high  in (-2^126 - 1, 2^126)  otherwise,
 * which is at least 0 exactly when in <= max. A negative one is above r - 2^129 > 2^128 in the field, so 128 bits tell.
 * Cost: 2 + 1 + 128 = 131 (circomlib's CompConstant: 262).
 */
template AtMostConstant(n, max) {
    assert(n > 128 && n <= 254);
    signal input in[n];

    var HALF = 1 << 128;
    var LOW = max & (HALF - 1);
    var HIGH = max >> 128;
    var low = 0;
    var high = 0;
    for (var i = 0; i < 128; i++) {
        low += in[i] * (1 << i);
    }
    for (var i = 128; i < n; i++) {
        high += in[i] * (1 << (i - 128));
    }
    signal same <== IsEqual()([high, HIGH]);
    signal slack <== same * (LOW - low - (HIGH - 1 - high)) + (HIGH - 1 - high);
    // 1. the slack is not negative
    RangeCheck(128)(slack);
}
