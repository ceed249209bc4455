// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/bitify.circom";
include "circomlib/circuits/poseidon.circom";
include "../lib/logup.circom";
include "../lib/merkle.circom";
include "../lib/positions.circom";
include "../lib/range.circom";
include "../generated/constants.circom";

/* AccountLeaf(): Poseidon(owner, pubX, pubY, Poseidon(T, amounts), ordersRoot). Cost: 609 + 321 = 930. */
template AccountLeaf() {
    signal input owner;
    signal input pub[2];
    signal input packed;
    signal input amounts[POSITIONS()];
    signal input ordersRoot;
    signal output out;

    signal positions <== HashPositions()(packed, amounts);
    out <== Poseidon(5)([owner, pub[0], pub[1], positions, ordersRoot]);
}

/*
 * AccountChange(): owner, key and order tree change only for a reason (rules M6, M7).
 * enabled, opened, rekeyed, acted   booleans, ranged here
 *
 * Checks
 * 1. booleans; opened + rekeyed is one
 * 2. enabled => newOwner is not 0
 * 3. not opened => the owner stays
 * 4. neither opened nor rekeyed => the key stays
 * 5. not acted => the order tree stays
 * Cost: 5 + 1 + 1 + 2 + 1 = 10.
 */
template AccountChange() {
    signal input enabled;
    signal input opened;
    signal input rekeyed;
    signal input acted;
    signal input oldOwner;
    signal input oldPub[2];
    signal input oldOrdersRoot;
    signal input newOwner;
    signal input newPub[2];
    signal input newOrdersRoot;

    // 1. booleans
    Boolean()(enabled);
    Boolean()(acted);
    signal keyed <== OneHot(2)([opened, rekeyed]);
    // 2. open at the end
    signal inverse <-- newOwner != 0 ? enabled / newOwner : 0;
    newOwner * inverse === enabled;
    // 3. owner
    (1 - opened) * (newOwner - oldOwner) === 0;
    // 4. key
    (1 - keyed) * (newPub[0] - oldPub[0]) === 0;
    (1 - keyed) * (newPub[1] - oldPub[1]) === 0;
    // 5. orders
    (1 - acted) * (newOrdersRoot - oldOrdersRoot) === 0;
}

/*
 * AccountTerms(): what an account row adds to the identities. All inputs are bound by the leaves and by `packed`.
 * ledger     out   sum of new_j / (z - newkey_j) - old_j / (z - oldkey_j)
 * first, last, requests, opened, transfers   out
 * Cost: 45 fractions + (3 + 1) + (1 + 1) + (1 + 1) + (1 + 4 + 1) = 59.
 */
template AccountTerms() {
    signal input z;
    signal input beta;
    signal input index;
    signal input opened;
    signal input rekeyed;
    signal input acted;
    signal input requestMult;
    signal input transferMult[POSITIONS()];
    signal input oldTokens[POSITIONS()];
    signal input oldAmounts[POSITIONS()];
    signal input oldOrdersRoot;
    signal input newTokens[POSITIONS()];
    signal input newAmounts[POSITIONS()];
    signal input newPacked;
    signal input newOwner;
    signal input newPub[2];
    signal input newOrdersRoot;
    signal output ledger;
    signal output first;
    signal output last;
    signal output requests;
    signal output opens;
    signal output transfers;

    signal gained[POSITIONS()];
    signal lost[POSITIONS()];
    signal receives[POSITIONS()];
    var net = 0;
    var received = 0;
    for (var j = 0; j < POSITIONS(); j++) {
        gained[j] <== Fraction()(newAmounts[j], z, index * (1 << TOKEN_BITS()) + newTokens[j]);
        lost[j] <== Fraction()(oldAmounts[j], z, index * (1 << TOKEN_BITS()) + oldTokens[j]);
        receives[j] <== Fraction()(transferMult[j], z, index * (1 << TOKEN_BITS()) + oldTokens[j]);
        net += gained[j] - lost[j];
        received += receives[j];
    }
    ledger <== net;
    transfers <== received;

    signal firstKey <== Fold(4)([index, newPub[0], newPub[1], oldOrdersRoot], beta);
    first <== Fraction()(acted, z, firstKey);
    signal lastKey <== Fold(2)([index, newOrdersRoot], beta);
    last <== Fraction()(acted, z, lastKey);
    signal copyKey <== Fold(2)([index, newPacked], beta);
    requests <== Fraction()(requestMult, z, copyKey);
    signal openedOwner <== opened * newOwner;
    signal openedKey <== Fold(5)([rekeyed, index, newPub[0], newPub[1], openedOwner], beta);
    opens <== Fraction()(opened + rekeyed, z, openedKey);
}

/*
 * AccountRow(depth, orderDepth): an account the batch touches, once, with its old and its new leaf.
 * z, beta       challenge and Poseidon(z)
 * enabled, opened, rekeyed, acted   booleans, ranged here
 * requestMult   8 bits, ranged here: how many requests look at this row
 * transferMult  [15] 7 bits each, ranged here: how many transfers land on an old position
 * index         3 depth bits, ranged here
 * oldOwner .. newOrdersRoot         fields, bound by the two leaves; tokens and new amounts ranged here
 * path          [depth][8] old children
 * oldLeaf, newLeaf   out
 * packed     out   index(24) | enabled | opened | rekeyed | acted | requestMult(8) | transferMult (7 each)
 * oldRoot, newRoot   out   of the state
 * ledger .. transfers   out   terms of the identities
 *
 * Checks
 * 1. ranges, so that packed has one split
 * 2. the old T has one split (rule M2); old amounts are hashed one by one
 * 3. the new positions are canonical (rules M1, M15)
 * 4. owner, key and orders change only for a reason (AccountChange)
 * 5. opened => the old leaf is the empty account's
 * 6. not enabled => packed = 0 and the leaf stays: no term but a ledger term that is 0 as a function
 * Cost: 3 depth + (8 + 105) + 240 + 1,276 + 10 + 1,860 + 1 + 2 + 818 depth + 59 = 3,561 + 821 depth, depth 8: 10,129;
 * in a batch also 3 sponge elements and a place in the order, in all 10,277.
 */
template AccountRow(depth, orderDepth) {
    signal input z;
    signal input beta;
    signal input enabled;
    signal input opened;
    signal input rekeyed;
    signal input acted;
    signal input requestMult;
    signal input transferMult[POSITIONS()];
    signal input index;
    signal input oldOwner;
    signal input oldPub[2];
    signal input oldTokens[POSITIONS()];
    signal input oldAmounts[POSITIONS()];
    signal input oldOrdersRoot;
    signal input newOwner;
    signal input newPub[2];
    signal input newTokens[POSITIONS()];
    signal input newAmounts[POSITIONS()];
    signal input newOrdersRoot;
    signal input path[depth][8];
    signal output oldLeaf;
    signal output newLeaf;
    signal output packed;
    signal output oldRoot;
    signal output newRoot;
    signal output ledger;
    signal output first;
    signal output last;
    signal output requests;
    signal output opens;
    signal output transfers;

    // 1. ranges
    assert(3 * depth <= ACCOUNT_BITS());
    signal bits[3 * depth] <== Num2Bits(3 * depth)(index);
    RangeCheck(REQUEST_MULT_BITS())(requestMult);
    RangeChecks(POSITIONS(), TRANSFER_MULT_BITS())(transferMult);
    var at = ACCOUNT_BITS();
    var sum = index + (1 << at) * (enabled + 2 * opened + 4 * rekeyed + 8 * acted);
    at += 4;
    sum += requestMult * (1 << at);
    at += REQUEST_MULT_BITS();
    for (var j = 0; j < POSITIONS(); j++) {
        sum += transferMult[j] * (1 << at);
        at += TRANSFER_MULT_BITS();
    }
    packed <== sum;

    // 2. old positions, 3. new positions
    signal oldPacked <== SplitTokens()(oldTokens);
    signal newPacked <== CanonicalPositions()(newTokens, newAmounts);

    // 4. changes
    AccountChange()(
        enabled, opened, rekeyed, acted, oldOwner, oldPub, oldOrdersRoot, newOwner, newPub, newOrdersRoot
    );

    oldLeaf <== AccountLeaf()(oldOwner, oldPub, oldPacked, oldAmounts, oldOrdersRoot);
    newLeaf <== AccountLeaf()(newOwner, newPub, newPacked, newAmounts, newOrdersRoot);

    // 5. opened from nothing
    opened * (oldLeaf - EMPTY_LEAF(orderDepth)) === 0;

    // 6. a disabled row does nothing
    (1 - enabled) * packed === 0;
    (1 - enabled) * (newLeaf - oldLeaf) === 0;

    (oldRoot, newRoot) <== Path(depth, 3)(bits, path, oldLeaf, newLeaf);
    (ledger, first, last, requests, opens, transfers) <== AccountTerms()(
        z, beta, index, opened, rekeyed, acted, requestMult, transferMult, oldTokens, oldAmounts, oldOrdersRoot,
        newTokens, newAmounts, newPacked, newOwner, newPub, newOrdersRoot
    );
}
