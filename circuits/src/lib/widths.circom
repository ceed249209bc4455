// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

// Widths in bits, as in docs/spec.md section 3 and 4 (tests/circuits holds them equal to proofbook.protocol.table).
function ACCOUNT_BITS() { return 24; }
function TOKEN_BITS() { return 16; }
function AMOUNT_BITS() { return 64; }
function ID_BITS() { return 64; }
function FEE_BPS_BITS() { return 14; }
function TIME_BITS() { return 32; }
function FLAG_BITS() { return 8; }
function FOK_BIT() { return 1; }
function TYPE_BITS() { return 4; }
function COUNT_BITS() { return 16; }
function NUMBER_BITS() { return 64; }
function POSITIONS() { return 15; }
function SPONGE_RATE() { return 15; }
function REQUEST_MULT_BITS() { return 8; }
function TRANSFER_MULT_BITS() { return 7; }
function MAX_ACTIONS() { return 240; }
function BPS() { return 10000; }
function MAX_AMOUNT() { return 18446744073709551615; }
