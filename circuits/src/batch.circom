// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/poseidon.circom";
include "./lib/binding.circom";
include "./lib/rows.circom";
include "./generated/constants.circom";
include "./rows/account.circom";
include "./rows/action.circom";
include "./rows/fee.circom";
include "./rows/groups.circom";
include "./rows/header.circom";
include "./rows/request.circom";

/*
 * Batch(depth, orderDepth, R, A, N, F): a page of double-entry bookkeeping, and the books balance.
 * depth, orderDepth   levels of the 8-ary account tree and of the 4-ary order trees
 * R, A, N, F          rows: requests, actions, accounts, fees
 *
 * Public inputs, in this order
 *   C         the sponge of D and of all else that an identity uses
 *   z         the challenge, drawn by the contract after C and D are fixed
 *   y         sum D_i z^i over the contract's words
 * Private inputs: header fields, then rows; see the rows' templates for types and ranges.
 *
 * Checks
 * 1. each row by itself (rows/)
 * 2. enabled rows of each kind are a prefix; their numbers stand in H1
 * 3. action rows are grouped and chained (ActionGroups); account rows strictly rise (AccountOrder)
 * 4. the state's root goes from row to row of the accounts, from H2 to H3
 * 5. C is the sponge of the words and of every other value that an identity uses (rule M5)
 * 6. y is the words' polynomial at z (rule M17: over the full layout)
 * 7. the identities of Ledger, Tokens, First, Last, Requests, Opened and Transfers, each on its own
 * Cost: the rows + 609 ceil((4 + 5R + 5A + F + 1 + 3N) / 15) + (4 + 4R + 2A + F) + 12A + 26N + 136 + 216.
 */
template Batch(depth, orderDepth, R, A, N, F) {
    assert(A <= MAX_ACTIONS());
    signal input C;
    signal input z;
    signal input y;

    signal input domain;
    signal input sizeAndNumber;
    signal input timestamp;
    signal input feeAccount;
    signal input oldRoot;
    signal input newRoot;

    signal input requestKind[R][4];
    signal input requestAccount[R];
    signal input requestToken[R];
    signal input requestAmount[R];
    signal input requestOutcome[R];
    signal input requestOwner[R];
    signal input requestPub[R][2];
    signal input requestTokens[R][POSITIONS()];

    signal input actionType[A][4];
    signal input actionSide[A];
    signal input actionAccount[A];
    signal input actionId[A];
    signal input actionBase[A];
    signal input actionQuote[A];
    signal input actionMaxFeeBps[A];
    signal input actionValidUntil[A];
    signal input actionFlags[A];
    signal input actionBaseAmount[A];
    signal input actionQuoteAmount[A];
    signal input actionReceiver[A];
    signal input actionExBase[A];
    signal input actionExQuote[A];
    signal input actionAux[A];
    signal input actionFirst[A];
    signal input actionSlotId[A];
    signal input actionSlotFilled[A];
    signal input actionPath[A][orderDepth][4];
    signal input actionPub[A][2];
    signal input actionR8[A][2];
    signal input actionS[A];

    signal input feeEnabled[F];
    signal input feeToken[F];
    signal input feeAmount[F];

    signal input accountEnabled[N];
    signal input accountOpened[N];
    signal input accountRekeyed[N];
    signal input accountActed[N];
    signal input accountRequestMult[N];
    signal input accountTransferMult[N][POSITIONS()];
    signal input accountIndex[N];
    signal input accountOldOwner[N];
    signal input accountOldPub[N][2];
    signal input accountOldTokens[N][POSITIONS()];
    signal input accountOldAmounts[N][POSITIONS()];
    signal input accountOldOrdersRoot[N];
    signal input accountNewOwner[N];
    signal input accountNewPub[N][2];
    signal input accountNewTokens[N][POSITIONS()];
    signal input accountNewAmounts[N][POSITIONS()];
    signal input accountNewOrdersRoot[N];
    signal input accountPath[N][depth][8];

    signal beta <== Poseidon(1)([z]);

    // 1. rows
    component request[R];
    for (var i = 0; i < R; i++) {
        request[i] = RequestRow();
        request[i].z <== z;
        request[i].beta <== beta;
        request[i].kind <== requestKind[i];
        request[i].account <== requestAccount[i];
        request[i].token <== requestToken[i];
        request[i].amount <== requestAmount[i];
        request[i].outcome <== requestOutcome[i];
        request[i].owner <== requestOwner[i];
        request[i].pub <== requestPub[i];
        request[i].tokens <== requestTokens[i];
    }

    component action[A];
    for (var i = 0; i < A; i++) {
        action[i] = ActionRow(orderDepth);
        action[i].z <== z;
        action[i].domain <== domain;
        action[i].timestamp <== timestamp;
        action[i].type <== actionType[i];
        action[i].side <== actionSide[i];
        action[i].account <== actionAccount[i];
        action[i].id <== actionId[i];
        action[i].base <== actionBase[i];
        action[i].quote <== actionQuote[i];
        action[i].maxFeeBps <== actionMaxFeeBps[i];
        action[i].validUntil <== actionValidUntil[i];
        action[i].flags <== actionFlags[i];
        action[i].baseAmount <== actionBaseAmount[i];
        action[i].quoteAmount <== actionQuoteAmount[i];
        action[i].receiver <== actionReceiver[i];
        action[i].exBase <== actionExBase[i];
        action[i].exQuote <== actionExQuote[i];
        action[i].aux <== actionAux[i];
        action[i].slotId <== actionSlotId[i];
        action[i].slotFilled <== actionSlotFilled[i];
        action[i].path <== actionPath[i];
        action[i].pub <== actionPub[i];
        action[i].r8 <== actionR8[i];
        action[i].s <== actionS[i];
    }

    component fee[F];
    for (var i = 0; i < F; i++) {
        fee[i] = FeeRow();
        fee[i].z <== z;
        fee[i].enabled <== feeEnabled[i];
        fee[i].token <== feeToken[i];
        fee[i].amount <== feeAmount[i];
        fee[i].feeAccount <== feeAccount;
    }

    component account[N];
    for (var i = 0; i < N; i++) {
        account[i] = AccountRow(depth, orderDepth);
        account[i].z <== z;
        account[i].beta <== beta;
        account[i].enabled <== accountEnabled[i];
        account[i].opened <== accountOpened[i];
        account[i].rekeyed <== accountRekeyed[i];
        account[i].acted <== accountActed[i];
        account[i].requestMult <== accountRequestMult[i];
        account[i].transferMult <== accountTransferMult[i];
        account[i].index <== accountIndex[i];
        account[i].oldOwner <== accountOldOwner[i];
        account[i].oldPub <== accountOldPub[i];
        account[i].oldTokens <== accountOldTokens[i];
        account[i].oldAmounts <== accountOldAmounts[i];
        account[i].oldOrdersRoot <== accountOldOrdersRoot[i];
        account[i].newOwner <== accountNewOwner[i];
        account[i].newPub <== accountNewPub[i];
        account[i].newTokens <== accountNewTokens[i];
        account[i].newAmounts <== accountNewAmounts[i];
        account[i].newOrdersRoot <== accountNewOrdersRoot[i];
        account[i].path <== accountPath[i];
    }

    // 2. prefixes and numbers
    component requestPrefix = Prefix(R);
    component actionPrefix = Prefix(A);
    component feePrefix = Prefix(F);
    for (var i = 0; i < R; i++) {
        requestPrefix.enabled[i] <== request[i].enabled;
    }
    for (var i = 0; i < A; i++) {
        actionPrefix.enabled[i] <== action[i].enabled;
    }
    feePrefix.enabled <== feeEnabled;

    // 3. groups of actions, order of accounts
    component groups = ActionGroups(A);
    groups.z <== z;
    groups.beta <== beta;
    groups.first <== actionFirst;
    groups.account <== actionAccount;
    groups.pub <== actionPub;
    for (var i = 0; i < A; i++) {
        groups.enabled[i] <== action[i].enabled;
        groups.rootBefore[i] <== action[i].rootBefore;
        groups.rootAfter[i] <== action[i].rootAfter;
    }
    AccountOrder(N, 3 * depth)(accountEnabled, accountIndex);

    // 4. the root from row to row; a disabled row leaves it alone
    account[0].oldRoot === oldRoot;
    for (var i = 1; i < N; i++) {
        account[i].oldRoot === account[i - 1].newRoot;
    }
    account[N - 1].newRoot === newRoot;

    // 5. the sponge
    var D = 4 + 4 * R + 2 * A + F;
    var ABSORBED = D + R + 3 * A + 1 + 3 * N;
    signal words[D];
    words[0] <== domain;
    words[1] <== HeaderWord()(
        sizeAndNumber, timestamp, feeAccount, requestPrefix.count, actionPrefix.count, feePrefix.count
    );
    words[2] <== oldRoot;
    words[3] <== newRoot;
    var at = 4;
    for (var i = 0; i < R; i++) {
        for (var k = 0; k < 4; k++) {
            words[at] <== request[i].words[k];
            at++;
        }
    }
    for (var i = 0; i < A; i++) {
        for (var k = 0; k < 2; k++) {
            words[at] <== action[i].words[k];
            at++;
        }
    }
    for (var i = 0; i < F; i++) {
        words[at] <== fee[i].word;
        at++;
    }
    assert(at == D);

    component sponge = Sponge(ABSORBED);
    for (var i = 0; i < D; i++) {
        sponge.in[i] <== words[i];
    }
    for (var i = 0; i < R; i++) {
        sponge.in[at] <== request[i].packed;
        at++;
    }
    for (var i = 0; i < A; i++) {
        sponge.in[at] <== action[i].h;
        sponge.in[at + 1] <== action[i].rootBefore;
        sponge.in[at + 2] <== action[i].rootAfter;
        at += 3;
    }
    sponge.in[at] <== groups.packed;
    at++;
    for (var i = 0; i < N; i++) {
        sponge.in[at] <== account[i].oldLeaf;
        sponge.in[at + 1] <== account[i].newLeaf;
        sponge.in[at + 2] <== account[i].packed;
        at += 3;
    }
    assert(at == ABSORBED);
    C === sponge.out;

    // 6. the words are the contract's
    signal evaluated <== Horner(D)(words, z);
    y === evaluated;

    // 7. the books balance
    var ledger = 0;
    var tokens = 0;
    var first = groups.firsts;
    var last = groups.lasts;
    var requests = 0;
    var opened = 0;
    var transfers = 0;
    for (var i = 0; i < R; i++) {
        ledger += request[i].ledger;
        requests += request[i].requests;
        opened += request[i].opened;
    }
    for (var i = 0; i < A; i++) {
        ledger += action[i].ledger;
        tokens += action[i].tokens;
        transfers += action[i].transfers;
    }
    for (var i = 0; i < F; i++) {
        ledger += fee[i].ledger;
        tokens += fee[i].tokens;
    }
    for (var i = 0; i < N; i++) {
        ledger -= account[i].ledger;
        first -= account[i].first;
        last -= account[i].last;
        requests -= account[i].requests;
        opened -= account[i].opens;
        transfers -= account[i].transfers;
    }
    ledger === 0;
    tokens === 0;
    first === 0;
    last === 0;
    requests === 0;
    opened === 0;
    transfers === 0;
}
