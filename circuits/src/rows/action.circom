// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/bitify.circom";
include "circomlib/circuits/poseidon.circom";
include "../lib/logup.circom";
include "../lib/range.circom";
include "../lib/signature.circom";
include "../generated/constants.circom";
include "./order.circom";
include "./slot.circom";

/*
 * ActionFields(): the fields of a signed action and of its effect suit its type (rules M8, M10, M11).
 * type       [4] one-hot: order, withdraw, transfer, cancel; ranged here
 * side       0 or 1, ranged here
 * account, receiver                     24 bits, ranged here
 * base, quote                           16 bits, ranged here
 * baseAmount, quoteAmount, exBase, exQuote, aux   64 bits, ranged here
 * enabled    out   boolean: there is an action
 * moves      out   boolean: order, withdraw or transfer
 *
 * Checks
 * 1. type is one-hot or nothing
 * 2. side is boolean, and 0 for all but orders
 * 3. ranges
 * 4. base is a token exactly for what moves, quote exactly for orders, and an order's two differ
 * 5. baseAmount is at least 1 exactly for what moves, quoteAmount exactly for orders; receiver is 0 for all but transfers
 * 6. exBase is baseAmount for withdraw and transfer, 0 for cancel and nothing
 * 7. exQuote is 0 for all but orders; aux is receiver for a transfer, 0 for all but orders and transfers
 * Cost: 5 + 2 + (2 * 24 + 2 * 16 + 5 * 64) + 5 + 5 + 2 + 3 = 422.
 */
template ActionFields() {
    signal input type[4];
    signal input side;
    signal input account;
    signal input base;
    signal input quote;
    signal input baseAmount;
    signal input quoteAmount;
    signal input receiver;
    signal input exBase;
    signal input exQuote;
    signal input aux;
    signal output enabled;
    signal output moves;

    var isOrder = type[0];
    var isTransfer = type[2];
    var isCancel = type[3];

    // 1. one type or none
    enabled <== OneHot(4)(type);
    moves <== enabled - isCancel;

    // 2. side
    Boolean()(side);
    side * (1 - isOrder) === 0;

    // 3. ranges
    RangeChecks(2, ACCOUNT_BITS())([account, receiver]);
    RangeChecks(2, TOKEN_BITS())([base, quote]);
    RangeChecks(5, AMOUNT_BITS())([baseAmount, quoteAmount, exBase, exQuote, aux]);

    // 4. tokens
    NonZeroExactlyWhen()(base, moves);
    NonZeroExactlyWhen()(quote, isOrder);
    signal inverse <-- base != quote ? isOrder / (base - quote) : 0;
    (base - quote) * inverse === isOrder;

    // 5. signed amounts
    NonZeroExactlyWhen()(baseAmount, moves);
    NonZeroExactlyWhen()(quoteAmount, isOrder);
    receiver * (1 - isTransfer) === 0;

    // 6. base that moved
    (moves - isOrder) * (exBase - baseAmount) === 0;
    exBase * (1 - moves) === 0;

    // 7. quote that moved, fee or receiver
    exQuote * (1 - isOrder) === 0;
    isTransfer * (aux - receiver) === 0;
    aux * (1 - isOrder - isTransfer) === 0;
}

/*
 * ActionMessage(): the words of a row and the signed message.
 * All inputs ranged by the caller but maxFeeBps (14 bits), validUntil (32) and flags (8), ranged here.
 * words      out   [2] A0 (125 bits), A1
 * flagBits   out   [8]
 * message    out   Poseidon(domain, w1, w2); w1 is A0 and, above it, what is signed and not published
 * Checks: 1. ranges. Cost: 14 + 32 + 8 + Poseidon(3) 261 = 315.
 */
template ActionMessage() {
    signal input domain;
    signal input type[4];
    signal input side;
    signal input account;
    signal input id;
    signal input base;
    signal input quote;
    signal input maxFeeBps;
    signal input validUntil;
    signal input flags;
    signal input baseAmount;
    signal input quoteAmount;
    signal input receiver;
    signal input exBase;
    signal input exQuote;
    signal input aux;
    signal output words[2];
    signal output flagBits[FLAG_BITS()];
    signal output message;

    // 1. ranges of what only the message holds
    RangeCheck(FEE_BPS_BITS())(maxFeeBps);
    RangeCheck(TIME_BITS())(validUntil);
    flagBits <== Num2Bits(FLAG_BITS())(flags);

    var code = TYPE_ORDER() * type[0] + TYPE_WITHDRAW() * type[1] + TYPE_TRANSFER() * type[2] + TYPE_CANCEL() * type[3];
    words[0] <== code
        + (1 << ACTION_SIDE_SHIFT()) * side
        + (1 << ACTION_ACCOUNT_SHIFT()) * account
        + (1 << ACTION_ID_SHIFT()) * id
        + (1 << ACTION_BASE_SHIFT()) * base
        + (1 << ACTION_QUOTE_SHIFT()) * quote;
    words[1] <== exBase + (1 << FILL_EX_QUOTE_SHIFT()) * exQuote + (1 << FILL_AUX_SHIFT()) * aux;

    var w1 = words[0]
        + (1 << MESSAGE1_MAX_FEE_BPS_SHIFT()) * maxFeeBps
        + (1 << MESSAGE1_VALID_UNTIL_SHIFT()) * validUntil
        + (1 << MESSAGE1_FLAGS_SHIFT()) * flags;
    var w2 = baseAmount
        + (1 << MESSAGE2_QUOTE_AMOUNT_SHIFT()) * quoteAmount
        + (1 << MESSAGE2_RECEIVER_SHIFT()) * receiver;
    message <== Poseidon(3)([domain, w1, w2]);
}

/*
 * ActionPostings(): what an action adds to the identities.
 * All inputs ranged and tied to the type by ActionFields.
 * fee        out   aux of an order
 * ledger     out   base and quote of the account, and the receiver's
 * tokens     out   an order's two deltas by token
 * transfers  out   the receiver holds the token
 *
 * order:  buy +exBase, -(exQuote + fee);  sell -exBase, +(exQuote - fee)
 * withdraw, transfer: -exBase; transfer: +exBase at (aux, base)
 * side is 0 for what is no order, so 2 isOrder - 2 side - 1 is 1 for a buy and -1 for all else.
 * Cost: 5 products + 6 fractions = 11.
 */
template ActionPostings() {
    signal input z;
    signal input isOrder;
    signal input isTransfer;
    signal input side;
    signal input account;
    signal input base;
    signal input quote;
    signal input exBase;
    signal input exQuote;
    signal input aux;
    signal output fee;
    signal output ledger;
    signal output tokens;
    signal output transfers;

    var SHIFT = 1 << TOKEN_BITS();
    fee <== isOrder * aux;
    signal baseDelta <== (2 * isOrder - 2 * side - 1) * exBase;
    signal quoteDelta <== (2 * side - 1) * exQuote - fee; // exQuote is 0 for what is no order
    signal traded <== isOrder * baseDelta;
    signal received <== isTransfer * exBase;

    signal ofBase <== Fraction()(baseDelta, z, account * SHIFT + base);
    signal ofQuote <== Fraction()(quoteDelta, z, account * SHIFT + quote);
    signal ofReceiver <== Fraction()(received, z, aux * SHIFT + base);
    ledger <== ofBase + ofQuote + ofReceiver;

    signal tokenBase <== Fraction()(traded, z, base);
    signal tokenQuote <== Fraction()(quoteDelta, z, quote);
    tokens <== tokenBase + tokenQuote;

    transfers <== Fraction()(isTransfer, z, aux * SHIFT + base);
}

/*
 * ActionRow(depth): one signed action with what it did in this batch in total. depth: levels of the order tree.
 * z, domain, timestamp (32 bits)   by the caller
 * type .. aux                      as in ActionFields and ActionMessage
 * slotId, slotFilled, path         as in ReadSlot and WriteSlot
 * pub, r8, s                       as in StrictSignature; pub is tied to the account by the First identity
 * enabled    out   boolean
 * words      out   [2] A0, A1
 * h          out   the signature's challenge, which binds key and message
 * rootBefore, rootAfter            out   the account's order tree
 * ledger, tokens, transfers        out   terms of identities
 *
 * Checks
 * 1. fields suit the type (ActionFields)
 * 2. not enabled => both words are 0
 * 3. enabled => validUntil >= timestamp, both 32 bits
 * 4. the slot allows the id (ReadSlot); withdraw and transfer => it doesn't hold the id yet (rule M10)
 * 5. an order keeps its limits (OrderLimits)
 * 6. the slot becomes (id, filled) for an order, else (id, 2^64 - 1)
 * 7. the signature is good (StrictSignature)
 * Cost: 422 + 315 + 2 + (1 + 32) + (259 + 600 depth + 1) + 278 + 3,956 + 11 = 5,277 + 600 depth, depth 4: 7,677;
 * in a batch also 5 sponge elements, 2 words and a place in the groups, in all 7,895.
 */
template ActionRow(depth) {
    signal input z;
    signal input domain;
    signal input timestamp;
    signal input type[4];
    signal input side;
    signal input account;
    signal input id;
    signal input base;
    signal input quote;
    signal input maxFeeBps;
    signal input validUntil;
    signal input flags;
    signal input baseAmount;
    signal input quoteAmount;
    signal input receiver;
    signal input exBase;
    signal input exQuote;
    signal input aux;
    signal input slotId;
    signal input slotFilled;
    signal input path[depth][4];
    signal input pub[2];
    signal input r8[2];
    signal input s;
    signal output enabled;
    signal output words[2];
    signal output h;
    signal output rootBefore;
    signal output rootAfter;
    signal output ledger;
    signal output tokens;
    signal output transfers;

    // 1. fields suit the type
    signal moves;
    (enabled, moves) <== ActionFields()(
        type, side, account, base, quote, baseAmount, quoteAmount, receiver, exBase, exQuote, aux
    );
    var isOrder = type[0];

    component message = ActionMessage();
    message.domain <== domain;
    message.type <== type;
    message.side <== side;
    message.account <== account;
    message.id <== id;
    message.base <== base;
    message.quote <== quote;
    message.maxFeeBps <== maxFeeBps;
    message.validUntil <== validUntil;
    message.flags <== flags;
    message.baseAmount <== baseAmount;
    message.quoteAmount <== quoteAmount;
    message.receiver <== receiver;
    message.exBase <== exBase;
    message.exQuote <== exQuote;
    message.aux <== aux;
    words <== message.words;

    // 2. nothing when there is no action
    (1 - enabled) * words[0] === 0;
    (1 - enabled) * words[1] === 0;

    // 3. not expired
    signal lifetime <== enabled * (validUntil - timestamp);
    RangeCheck(TIME_BITS())(lifetime);

    component postings = ActionPostings();
    postings.z <== z;
    postings.isOrder <== isOrder;
    postings.isTransfer <== type[2];
    postings.side <== side;
    postings.account <== account;
    postings.base <== base;
    postings.quote <== quote;
    postings.exBase <== exBase;
    postings.exQuote <== exQuote;
    postings.aux <== aux;
    ledger <== postings.ledger;
    tokens <== postings.tokens;
    transfers <== postings.transfers;

    // 4. the slot allows it
    signal idBits[ID_BITS()];
    signal same;
    signal before;
    (idBits, same, before) <== ReadSlot()(id, slotId, slotFilled);
    (moves - isOrder) * same === 0;

    // 5. an order keeps its limits
    component limits = OrderLimits();
    limits.isOrder <== isOrder;
    limits.side <== side;
    limits.fok <== message.flagBits[FOK_BIT()];
    limits.baseAmount <== baseAmount;
    limits.quoteAmount <== quoteAmount;
    limits.maxFeeBps <== maxFeeBps;
    limits.before <== before;
    limits.exBase <== exBase;
    limits.exQuote <== exQuote;
    limits.fee <== postings.fee;

    // 6. what the slot becomes
    signal filled <== limits.filled + (enabled - isOrder) * SLOT_CLOSED();
    (rootBefore, rootAfter) <== WriteSlot(depth)(id, idBits, slotId, slotFilled, filled, path);

    // 7. the signature
    h <== StrictSignature()(enabled, pub, r8, s, message.message);
}
