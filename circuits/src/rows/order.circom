// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "../lib/range.circom";
include "../generated/constants.circom";

/*
 * OrderLimits(): what an order did is within what was signed.
 * isOrder    boolean, by the caller; side 0 unless it is 1
 * side       0 buy, 1 sell
 * fok        boolean: fill or kill
 * baseAmount, quoteAmount, before, exBase, exQuote, fee   64 bits, by the caller; all 0 but before and the base amounts
 *            unless isOrder, and these equal or 0 then
 * maxFeeBps  14 bits, by the caller
 * filled     out   before + exBase for an order, else 0; at most baseAmount
 *
 * Checks
 * 1. order => before + exBase <= baseAmount. The difference is above -2^65, so 64 bits tell
 * 2. order and fill or kill => before + exBase = baseAmount
 * 3. buy: exQuote baseAmount <= exBase quoteAmount, sell: >=. Products below 2^128: exact; a negative difference is not in 128 bits
 * 4. fee 10000 <= maxFeeBps exQuote. Both below 2^78
 * 5. exBase = 0 => exQuote = 0, and then fee = 0 by 4 (rule M11)
 * Cost: (1 + 1 + 64) + 1 + (3 + 128) + (1 + 78) + 1 = 278.
 */
template OrderLimits() {
    signal input isOrder;
    signal input side;
    signal input fok;
    signal input baseAmount;
    signal input quoteAmount;
    signal input maxFeeBps;
    signal input before;
    signal input exBase;
    signal input exQuote;
    signal input fee;
    signal output filled;

    // 1. never over the order's size
    filled <== isOrder * (before + exBase);
    signal remaining <== isOrder * baseAmount - filled;
    RangeCheck(AMOUNT_BITS())(remaining);

    // 2. fill or kill leaves nothing; remaining is 0 for what is no order
    fok * remaining === 0;

    // 3. average price no worse than the limit
    signal paid <== exQuote * baseAmount;
    signal limit <== exBase * quoteAmount;
    signal surplus <== (1 - 2 * side) * (limit - paid);
    RangeCheck(2 * AMOUNT_BITS())(surplus);

    // 4. fee no higher than the cap
    RangeCheck(AMOUNT_BITS() + FEE_BPS_BITS())(maxFeeBps * exQuote - BPS() * fee);

    // 5. no base, no quote
    signal perBase <-- exQuote / exBase;
    exBase * perBase === exQuote;
}
