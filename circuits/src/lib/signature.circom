// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/poseidon.circom";
include "circomlib/circuits/bitify.circom";
include "circomlib/circuits/babyjub.circom";
include "circomlib/circuits/escalarmulany.circom";
include "circomlib/circuits/escalarmulfix.circom";
include "./range.circom";

/*
 * StrictSignature(): EdDSA-Poseidon over BabyJubjub, S B8 = R8 + h 8A with h = Poseidon(R8, A, message).
 * enabled    boolean, by the caller: 0 switches the last equation off, and nothing else
 * pub        key A
 * r8, s      signature
 * message    field
 * h          out   the challenge: binds R8, A and the message in one element
 *
 * Checks
 * 1. A and R8 are on the curve
 * 2. s < l, the subgroup's order
 * 3. the bits of h are those below r (254 bits could also write h + r)
 * 4. 8A is not the identity; with 1 it is a point of the subgroup, which EscalarMulAny needs. Its x is 0 only for points
 *    of order 1 and 2, and an odd-order subgroup has no point of order 2
 * 5. enabled => the equation holds
 * A disabled row carries any valid points, e.g. B8 twice. R8 needs no subgroup check: the equation puts it there.
 * Cost: 3 + 3 + (253 + 131) + 321 + (254 + 131) + 1 + 2 and circomlib's doublings, products and sum 2,856 = 3,956.
 */
template StrictSignature() {
    signal input enabled;
    signal input pub[2];
    signal input r8[2];
    signal input s;
    signal input message;
    signal output h;

    var ORDER = 2736030358979909402780800718157159386076813972158567259200215660948447373041;
    var BASE8[2] = [
        5299619240641551281634865583518297030282874472190772894086521144482721001553,
        16950150798460657717958625567821834550301663161624707787222815936182638968203
    ];

    // 1. A and R8 are on the curve
    BabyCheck()(pub[0], pub[1]);
    BabyCheck()(r8[0], r8[1]);

    // 2. s < l
    signal sBits[253] <== Num2Bits(253)(s);
    AtMostConstant(253, ORDER - 1)(sBits);

    // 3. the bits of h are canonical
    h <== Poseidon(5)([r8[0], r8[1], pub[0], pub[1], message]);
    signal hBits[254] <== Num2Bits(254)(h);
    AtMostConstant(254, -1)(hBits);

    // 4. 8A is not the identity
    component twice[3];
    for (var i = 0; i < 3; i++) {
        twice[i] = BabyDbl();
        if (i == 0) {
            twice[i].x <== pub[0];
            twice[i].y <== pub[1];
        } else {
            twice[i].x <== twice[i - 1].xout;
            twice[i].y <== twice[i - 1].yout;
        }
    }
    signal inverse <-- 1 / twice[2].xout;
    twice[2].xout * inverse === 1;

    // 5. enabled => S B8 = R8 + h 8A
    signal product[2] <== EscalarMulAny(254)(hBits, [twice[2].xout, twice[2].yout]);
    signal right[2];
    (right[0], right[1]) <== BabyAdd()(r8[0], r8[1], product[0], product[1]);
    signal left[2] <== EscalarMulFix(253, BASE8)(sBits);
    enabled * (left[0] - right[0]) === 0;
    enabled * (left[1] - right[1]) === 0;
}
