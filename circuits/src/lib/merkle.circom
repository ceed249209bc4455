// SPDX-License-Identifier: Apache-2.0
// Our source is Apache-2.0. It includes circomlib (GPL-3.0), so a compiled circuit is bound by the GPL-3.0.
pragma circom 2.1.6;

include "circomlib/circuits/poseidon.circom";

/*
 * Pick(b): out = in[digit], digit = sum bits_i 2^i.
 * bits       b booleans, by the caller
 * Cost: 2^b - 1.
 */
template Pick(b) {
    var n = 1 << b;
    signal input in[n];
    signal input bits[b];
    signal output out;

    // A tree of choices, lowest bit first: nodes[n + i] = in[i], nodes[k] chooses between 2k and 2k + 1, the root is 1.
    signal nodes[2 * n];
    nodes[0] <== 0;
    for (var i = 0; i < n; i++) {
        nodes[n + i] <== in[i];
    }
    for (var h = 0; h < b; h++) {
        for (var k = n >> (h + 1); k < n >> h; k++) {
            nodes[k] <== nodes[2 * k] + bits[h] * (nodes[2 * k + 1] - nodes[2 * k]);
        }
    }
    out <== nodes[1];
}

/*
 * Place(b): out[digit] = in, all else 0.
 * bits       b booleans, by the caller
 * Cost: 2^b - 1.
 */
template Place(b) {
    var n = 1 << b;
    signal input in;
    signal input bits[b];
    signal output out[n];

    signal nodes[2 * n];
    nodes[0] <== 0;
    nodes[1] <== in;
    for (var h = b - 1; h >= 0; h--) {
        for (var k = n >> (h + 1); k < n >> h; k++) {
            nodes[2 * k + 1] <== nodes[k] * bits[h];
            nodes[2 * k] <== nodes[k] - nodes[2 * k + 1];
        }
    }
    for (var i = 0; i < n; i++) {
        out[i] <== nodes[n + i];
    }
}

/*
 * Path(depth, b): one leaf of a 2^b-ary tree of Poseidon nodes is replaced.
 * bits        b * depth booleans, by the caller: the leaf's index, lowest first; level h uses digit h
 * children    old children of each node on the path, leaves' level first
 * oldLeaf, newLeaf
 * oldRoot     out   root of the tree that has oldLeaf at the index and these siblings
 * newRoot     out   the same tree with newLeaf there
 * Checks: 1. the child at the digit is the node below.
 * The new children are the old ones plus (new - old) at the digit, so the siblings are the same by construction.
 * Cost: depth (2 Poseidon(2^b) + 2 (2^b - 1)); 8-ary 818 a level, 4-ary 600.
 */
template Path(depth, b) {
    var n = 1 << b;
    signal input bits[b * depth];
    signal input children[depth][n];
    signal input oldLeaf;
    signal input newLeaf;
    signal output oldRoot;
    signal output newRoot;

    signal before[depth + 1];
    signal after[depth + 1];
    component pick[depth];
    component place[depth];
    component hashBefore[depth];
    component hashAfter[depth];
    before[0] <== oldLeaf;
    after[0] <== newLeaf;
    for (var h = 0; h < depth; h++) {
        pick[h] = Pick(b);
        place[h] = Place(b);
        place[h].in <== after[h] - before[h];
        hashBefore[h] = Poseidon(n);
        hashAfter[h] = Poseidon(n);
        for (var i = 0; i < b; i++) {
            pick[h].bits[i] <== bits[b * h + i];
            place[h].bits[i] <== bits[b * h + i];
        }
        for (var k = 0; k < n; k++) {
            pick[h].in[k] <== children[h][k];
            hashBefore[h].inputs[k] <== children[h][k];
            hashAfter[h].inputs[k] <== children[h][k] + place[h].out[k];
        }
        // 1. the child at the digit is the node below
        pick[h].out === before[h];
        before[h + 1] <== hashBefore[h].out;
        after[h + 1] <== hashAfter[h].out;
    }
    oldRoot <== before[depth];
    newRoot <== after[depth];
}

/*
 * ReadPath(depth, b): root of the tree that has a leaf at an index; as Path, without replacing.
 * Cost: depth (Poseidon(2^b) + 2^b - 1).
 */
template ReadPath(depth, b) {
    var n = 1 << b;
    signal input bits[b * depth];
    signal input children[depth][n];
    signal input leaf;
    signal output root;

    signal nodes[depth + 1];
    component pick[depth];
    nodes[0] <== leaf;
    for (var h = 0; h < depth; h++) {
        pick[h] = Pick(b);
        pick[h].in <== children[h];
        for (var i = 0; i < b; i++) {
            pick[h].bits[i] <== bits[b * h + i];
        }
        // 1. the child at the digit is the node below
        pick[h].out === nodes[h];
        nodes[h + 1] <== Poseidon(n)(children[h]);
    }
    root <== nodes[depth];
}
