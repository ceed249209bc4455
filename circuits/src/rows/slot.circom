// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "../lib/merkle.circom";
include "../lib/range.circom";
include "../generated/constants.circom";

/*
 * ReadSlot(): what an action finds in its order slot.
 * id         64 bits, ranged here
 * slotId, slotFilled   64 bits each, ranged here (rule M2): what the slot holds
 * idBits     out   [64]
 * same       out   boolean: the slot holds this id
 * before     out   what this id has filled, 0 if the slot holds another
 *
 * Checks
 * 1. ranges, so that the leaf has one split
 * 2. slotId <= id: an id below the slot's can never act again
 * Cost: 4 * 64 + 2 + 1 = 259.
 */
template ReadSlot() {
    signal input id;
    signal input slotId;
    signal input slotFilled;
    signal output idBits[ID_BITS()];
    signal output same;
    signal output before;

    // 1. ranges
    idBits <== Num2Bits(ID_BITS())(id);
    RangeCheck(ID_BITS())(slotId);
    RangeCheck(AMOUNT_BITS())(slotFilled);
    // 2. slotId <= id: both are below 2^64, so a negative difference is not
    RangeCheck(ID_BITS())(id - slotId);

    same <== IsEqual()([id, slotId]);
    before <== same * slotFilled;
}

/*
 * WriteSlot(depth): the slot at id mod 4^depth becomes (id, filled).
 * id, slotId, slotFilled, filled   64 bits, by the caller; idBits those of id
 * path       [depth][4] old children
 * rootBefore, rootAfter   out   roots of the account's order tree
 * Cost: 600 depth.
 */
template WriteSlot(depth) {
    signal input id;
    signal input idBits[ID_BITS()];
    signal input slotId;
    signal input slotFilled;
    signal input filled;
    signal input path[depth][4];
    signal output rootBefore;
    signal output rootAfter;

    component tree = Path(depth, 2);
    for (var i = 0; i < 2 * depth; i++) {
        tree.bits[i] <== idBits[i];
    }
    tree.children <== path;
    tree.oldLeaf <== slotId + slotFilled * (1 << ID_BITS());
    tree.newLeaf <== id + filled * (1 << ID_BITS());
    rootBefore <== tree.oldRoot;
    rootAfter <== tree.newRoot;
}
