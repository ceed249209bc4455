// SPDX-License-Identifier: Apache-2.0
pragma circom 2.1.6;

/*
 * emptyLeaf(orderDepth): leaf of an account that was never opened,
 * Poseidon(0, 0, 0, Poseidon(16 zeros), root of the all-zero order tree of that depth).
 * tests/circuits holds these numbers equal to proofbook.protocol.state.empty_leaf.
 */
function emptyLeaf(orderDepth) {
    assert(orderDepth == 2 || orderDepth == 4);
    return orderDepth == 2
        ? 8249983824317765614419272815836082446138179649116302402403738306378617329971
        : 17885730679090458988127963869956227579263730038631096661503633045838559467253;
}
