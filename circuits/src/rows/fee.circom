// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "../lib/logup.circom";
include "../lib/range.circom";
include "../generated/constants.circom";

/*
 * FeeRow(): what the fee account gets of one token.
 * z          challenge
 * enabled    boolean, ranged here
 * token      16 bits, ranged here
 * amount     64 bits, ranged here (rule M12)
 * feeAccount 24 bits, by the caller
 * word       out   F0
 * ledger     out   term of the Ledger identity: + amount at the fee account
 * tokens     out   term of the Tokens identity
 *
 * Checks
 * 1. ranges
 * 2. not enabled => the word is 0
 * An amount of token 0 has no place in an account: Ledger and CanonicalPositions refuse it.
 * Cost: 1 + 80 + 1 + 2 = 84.
 */
template FeeRow() {
    signal input z;
    signal input enabled;
    signal input token;
    signal input amount;
    signal input feeAccount;
    signal output word;
    signal output ledger;
    signal output tokens;

    // 1. ranges
    Boolean()(enabled);
    RangeCheck(TOKEN_BITS())(token);
    RangeCheck(AMOUNT_BITS())(amount);
    word <== token + (1 << FEE_AMOUNT_SHIFT()) * amount;
    // 2. nothing when there is no fee
    (1 - enabled) * word === 0;

    ledger <== Fraction()(amount, z, feeAccount * (1 << TOKEN_BITS()) + token);
    tokens <== Fraction()(amount, z, token);
}
