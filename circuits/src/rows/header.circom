// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "../lib/range.circom";
include "../generated/constants.circom";

/*
 * HeaderWord(): H1 = sizeId(16) | batchNumber(64) | timestamp(32) | feeAccount(24) | nRequests(16) | nActions(16) | nFees(16).
 * sizeAndNumber     80 bits, ranged here; only the contract reads its parts
 * timestamp         32 bits, ranged here
 * feeAccount        24 bits, ranged here
 * nRequests, nActions, nFees   sums of at most 2^16 - 1 booleans, by the caller
 * word       out    H1
 * Checks: 1. the fields' ranges; with them the word has one split.
 * Cost: 136.
 */
template HeaderWord() {
    signal input sizeAndNumber;
    signal input timestamp;
    signal input feeAccount;
    signal input nRequests;
    signal input nActions;
    signal input nFees;
    signal output word;

    // 1. ranges
    RangeCheck(COUNT_BITS() + NUMBER_BITS())(sizeAndNumber);
    RangeCheck(TIME_BITS())(timestamp);
    RangeCheck(ACCOUNT_BITS())(feeAccount);
    word <== sizeAndNumber
        + (1 << HEADER_TIMESTAMP_SHIFT()) * timestamp
        + (1 << HEADER_FEE_ACCOUNT_SHIFT()) * feeAccount
        + (1 << HEADER_N_REQUESTS_SHIFT()) * nRequests
        + (1 << HEADER_N_ACTIONS_SHIFT()) * nActions
        + (1 << HEADER_N_FEES_SHIFT()) * nFees;
}
