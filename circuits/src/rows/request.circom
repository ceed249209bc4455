// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/comparators.circom";
include "../lib/logup.circom";
include "../lib/positions.circom";
include "../lib/range.circom";
include "../generated/constants.circom";

/* IsAmong(k): out = 1 if in equals one of the list, else 0. Cost: k - 1 + 2. */
template IsAmong(k) {
    signal input in;
    signal input list[k];
    signal output out;

    signal product[k];
    product[0] <== in - list[0];
    for (var j = 1; j < k; j++) {
        product[j] <== product[j - 1] * (in - list[j]);
    }
    out <== IsZero()(product[k - 1]);
}

/*
 * RequestRow(): a request that L1 queued.
 * z, beta    challenge and Poseidon(z)
 * kind       [4] one-hot: open, deposit, key, exit; all 0 for no request; ranged here
 * account    24 bits, ranged here
 * token      16 bits, ranged here
 * amount     64 bits, ranged here
 * outcome    64 bits, ranged here
 * owner      field, a word of its own, made by the contract
 * pub        [2] fields, likewise
 * tokens     [15] copy of the account's new tokens, ranged here; the Requests identity ties it to the account row
 * enabled    out   boolean
 * words      out   [4] Q0 .. Q3
 * packed     out   T of the copy
 * ledger, opened, requests   out   terms of the Ledger, Opened and Requests identities
 *
 * Checks
 * 1. kind is one-hot or nothing
 * 2. ranges
 * 3. no request => all words are 0
 * 4. exit => the token is not among the account's new positions (rule M13: all of it leaves)
 * 5. outcome of a deposit is 1 exactly when the new positions are full and lack the token; of open and key 0
 * Cost: 5 + (24 + 16 + 64 + 64) + 240 + 4 + (16 + 1) + (2 + 3) + 1 + (1 + 4 + 1) + (1 + 1) + 1 = 449;
 * in a batch also 5 sponge elements and 4 words, in all 657.
 */
template RequestRow() {
    signal input z;
    signal input beta;
    signal input kind[4];
    signal input account;
    signal input token;
    signal input amount;
    signal input outcome;
    signal input owner;
    signal input pub[2];
    signal input tokens[POSITIONS()];
    signal output enabled;
    signal output words[4];
    signal output packed;
    signal output ledger;
    signal output opened;
    signal output requests;

    var isOpen = kind[0];
    var isDeposit = kind[1];
    var isKey = kind[2];
    var isExit = kind[3];

    // 1. one kind or none
    enabled <== OneHot(4)(kind);

    // 2. ranges
    RangeCheck(ACCOUNT_BITS())(account);
    RangeCheck(TOKEN_BITS())(token);
    RangeCheck(AMOUNT_BITS())(amount);
    RangeCheck(AMOUNT_BITS())(outcome);
    packed <== SplitTokens()(tokens);

    var code = KIND_OPEN() * isOpen + KIND_DEPOSIT() * isDeposit + KIND_KEY() * isKey + KIND_EXIT() * isExit;
    words[0] <== code
        + (1 << REQUEST_ACCOUNT_SHIFT()) * account
        + (1 << REQUEST_TOKEN_SHIFT()) * token
        + (1 << REQUEST_AMOUNT_SHIFT()) * amount
        + (1 << REQUEST_OUTCOME_SHIFT()) * outcome;
    words[1] <== owner;
    words[2] <== pub[0];
    words[3] <== pub[1];

    // 3. nothing when there is no request
    for (var i = 0; i < 4; i++) {
        (1 - enabled) * words[i] === 0;
    }

    // 4. an exit leaves none of the token
    signal has <== IsAmong(POSITIONS())(token, tokens);
    isExit * has === 0;

    // 5. a deposit is bounced exactly when there is no place for it; nothing else but an exit has an outcome
    signal hasPlace <== IsZero()(tokens[0]); // empties come first
    signal noPlace <== (1 - hasPlace) * (1 - has);
    signal bounced <== isDeposit * noPlace;
    signal leaving <== isExit * outcome;
    outcome - leaving === bounced;

    // Ledger: a deposit adds its amount unless it bounces, an exit takes away what leaves
    signal entering <== (isDeposit - bounced) * amount;
    ledger <== Fraction()(entering - leaving, z, account * (1 << TOKEN_BITS()) + token);

    // Opened: a multiset of opened and re-keyed accounts, with key and owner inside (rule M6)
    signal openedOwner <== isOpen * owner;
    signal openedKey <== Fold(5)([isKey, account, pub[0], pub[1], openedOwner], beta);
    opened <== Fraction()(isOpen + isKey, z, openedKey);

    // Requests: this copy of T is the account's
    signal copyKey <== Fold(2)([account, packed], beta);
    requests <== Fraction()(enabled, z, copyKey);
}
