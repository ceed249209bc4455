// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/bitify.circom";
include "./lib/merkle.circom";
include "./lib/range.circom";
include "./generated/constants.circom";
include "./rows/account.circom";

/*
 * Exit(depth): what an account holds in the last root.
 * depth      levels of the 8-ary account tree
 *
 * Public inputs, in this order
 *   root      of the state
 *   index     3 depth bits, ranged here (rule M24: exactly the tree's bits, so an account has one index)
 *   owner     who gets paid
 *   T         the 15 token ids, packed
 *   a0 .. a4  three amounts each, 64 bits an amount, lowest first
 * Private inputs
 *   amounts   [15] 64 bits each, ranged here
 *   pub, ordersRoot, path [depth][8] old children
 *
 * Checks
 * 1. ranges
 * 2. a_k are the amounts, packed in the only way
 * 3. the account stands at the index in the root
 * Cost: 3 depth + 960 + 930 + 409 depth.
 */
template Exit(depth) {
    signal input root;
    signal input index;
    signal input owner;
    signal input T;
    signal input a0;
    signal input a1;
    signal input a2;
    signal input a3;
    signal input a4;
    signal input amounts[POSITIONS()];
    signal input pub[2];
    signal input ordersRoot;
    signal input path[depth][8];

    // 1. ranges
    signal bits[3 * depth] <== Num2Bits(3 * depth)(index);
    RangeChecks(POSITIONS(), AMOUNT_BITS())(amounts);

    // 2. packed amounts
    signal packed[5];
    for (var k = 0; k < 5; k++) {
        packed[k] <== amounts[3 * k]
            + (1 << AMOUNT_BITS()) * (amounts[3 * k + 1] + (1 << AMOUNT_BITS()) * amounts[3 * k + 2]);
    }
    a0 === packed[0];
    a1 === packed[1];
    a2 === packed[2];
    a3 === packed[3];
    a4 === packed[4];

    // 3. the account stands in the tree
    signal leaf <== AccountLeaf()(owner, pub, T, amounts, ordersRoot);
    signal found <== ReadPath(depth, 3)(bits, path, leaf);
    root === found;
}
