// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Constants} from "./Constants.sol";
import {Groth16} from "./Groth16.sol";
import {IProofbook} from "./IProofbook.sol";
import {Page} from "./Page.sol";
import {RequestQueue} from "./RequestQueue.sol";

/// @title Batches: the state root moves behind a proof and no other way
abstract contract Settlement is RequestQueue {
    /// @dev Public inputs of a batch proof: C, z, y.
    uint256 internal constant BATCH_INPUTS = 3;

    /// @dev A batch size and where its verifying key lies; one storage slot.
    struct SizeSlot {
        uint16 requests;
        uint16 actions;
        uint16 accounts;
        uint16 fees;
        address verifyingKey;
    }

    /// @notice Root of the account tree before the first batch.
    uint256 public immutable genesisRoot;
    /// @notice How far a batch's timestamp may lie behind the block's, in seconds.
    uint32 public immutable maxLag;

    /// @notice Root of the account tree.
    uint256 public stateRoot;
    /// @notice Commits batches and receives the fees of the requests that it serves.
    address public operator;
    /// @notice Number of the last batch, 0 before the first.
    uint64 public batchNumber;
    /// @notice Timestamp of the last batch.
    uint32 public lastTimestamp;
    /// @notice Batch sizes; the size id is the position.
    SizeSlot[] public sizes;

    constructor(Config memory c) {
        genesisRoot = Constants.genesisRoot(c.accountDepth, c.orderDepth);
        if (genesisRoot == 0) revert InvalidConfig("depth");
        if (c.operator == address(0)) revert InvalidConfig("operator");
        if (c.maxLag == 0) revert InvalidConfig("maxLag");
        if (c.sizes.length == 0 || c.sizes.length > 64) revert InvalidConfig("sizes");
        stateRoot = genesisRoot;
        operator = c.operator;
        maxLag = c.maxLag;
        for (uint256 i = 0; i < c.sizes.length; ++i) {
            Size memory s = c.sizes[i].size;
            if (s.requests == 0 || s.actions == 0 || s.accounts == 0 || s.fees == 0) revert InvalidConfig("size");
            if (s.actions > Constants.MAX_ACTIONS) revert InvalidConfig("actions");
            address key = Groth16.store(c.sizes[i].verifyingKey, BATCH_INPUTS);
            sizes.push(SizeSlot(s.requests, s.actions, s.accounts, s.fees, key));
        }
    }

    /// @notice Number of batch sizes.
    function sizeCount() external view returns (uint256) {
        return sizes.length;
    }

    /// @notice The domain that every signed action and every batch carries.
    function domain() external view returns (uint256) {
        return Page.domain();
    }

    /// @inheritdoc IProofbook
    function rotateOperator(address to) external {
        if (msg.sender != operator) revert NotOperator(msg.sender);
        if (to == address(0)) revert ZeroAddress();
        operator = to;
        emit OperatorRotated(msg.sender, to);
    }

    /// @inheritdoc IProofbook
    function commit(
        uint16 sizeId,
        uint32 timestamp,
        uint256 newRoot,
        RequestData[] calldata requests,
        bytes calldata actions,
        bytes calldata fees,
        uint256 c,
        uint256[8] calldata proof
    ) external nonReentrant whenLive {
        _checkOperator();
        _checkCalldata(requests, actions, fees);
        _checkTimestamp(timestamp);
        if (newRoot >= Constants.R) revert RootOutOfRange(newRoot);
        if (c >= Constants.R) revert CommitmentOutOfRange(c);
        SizeSlot memory size = _fit(sizeId, requests.length, actions.length, fees.length);
        uint64 first = served;
        {
            uint256[] memory d = _page(size, sizeId, timestamp, newRoot, requests, actions, fees);
            _serve(requests, first);
            _prove(size.verifyingKey, sizeId, d, c, proof);
        }
        _withdraw(actions);
        emit BatchCommitted(
            ++batchNumber,
            sizeId,
            timestamp,
            stateRoot,
            newRoot,
            first,
            uint16(requests.length),
            uint16(actions.length / Constants.ACTION_CALLDATA_BYTES),
            uint16(fees.length / Constants.FEE_CALLDATA_BYTES)
        );
        stateRoot = newRoot;
        lastTimestamp = timestamp;
    }

    function _page(
        SizeSlot memory size,
        uint16 sizeId,
        uint32 timestamp,
        uint256 newRoot,
        RequestData[] calldata requests,
        bytes calldata actions,
        bytes calldata fees
    ) private view returns (uint256[] memory) {
        // Number, old root and domain are the contract's own, never the caller's (M18).
        Page.Header memory header = Page.Header({
            domain: Page.domain(),
            sizeId: sizeId,
            number: batchNumber + 1,
            timestamp: timestamp,
            oldRoot: stateRoot,
            newRoot: newRoot
        });
        Size memory rows = Size(size.requests, size.actions, size.accounts, size.fees);
        return Page.build(header, rows, requests, actions, fees);
    }

    /// @dev The operator signs the transaction itself, so a batch's data is always a transaction's calldata (M19).
    function _checkOperator() private view {
        if (msg.sender != operator) revert NotOperator(msg.sender);
        // solhint-disable-next-line avoid-tx-origin
        if (msg.sender != tx.origin || msg.sender.code.length != 0) revert OperatorNotPlainAccount(msg.sender);
    }

    /// @dev Solidity reads tails at any offset, unclean padding and trailing bytes; other decoders don't. What nobody can
    /// decode, nobody can rebuild the state from, so only the one plain encoding is accepted (M19).
    function _checkCalldata(RequestData[] calldata requests, bytes calldata actions, bytes calldata fees) private pure {
        bool ok;
        assembly ("memory-safe") {
            function padded(length) -> p {
                p := and(add(length, 31), not(31))
            }
            function isClean(at, length) -> c {
                let rest := and(length, 31)
                c := or(iszero(rest), iszero(shl(shl(3, rest), calldataload(sub(add(at, length), rest)))))
            }
            // The selector and 15 words of the head; then each tail behind its length word.
            ok := eq(requests.offset, add(484, 32))
            let end := add(requests.offset, mul(requests.length, 320))
            ok := and(ok, eq(actions.offset, add(end, 32)))
            end := add(actions.offset, padded(actions.length))
            ok := and(ok, eq(fees.offset, add(end, 32)))
            ok := and(ok, eq(calldatasize(), add(fees.offset, padded(fees.length))))
            ok := and(ok, and(isClean(actions.offset, actions.length), isClean(fees.offset, fees.length)))
        }
        if (!ok) revert CalldataNotCanonical();
    }

    function _checkTimestamp(uint32 timestamp) private view {
        if (timestamp < lastTimestamp) revert TimestampBeforePrevious(lastTimestamp, timestamp);
        if (timestamp > block.timestamp) revert TimestampInFuture(block.timestamp, timestamp);
        if (uint256(timestamp) + maxLag < block.timestamp) revert TimestampTooOld(block.timestamp, timestamp);
    }

    function _fit(uint16 sizeId, uint256 nRequests, uint256 actionBytes, uint256 feeBytes)
        private
        view
        returns (SizeSlot memory size)
    {
        if (sizeId >= sizes.length) revert UnknownSize(sizeId);
        size = sizes[sizeId];
        if (actionBytes % Constants.ACTION_CALLDATA_BYTES != 0) revert RaggedRows(actionBytes);
        if (feeBytes % Constants.FEE_CALLDATA_BYTES != 0) revert RaggedRows(feeBytes);
        uint256 nActions = actionBytes / Constants.ACTION_CALLDATA_BYTES;
        uint256 nFees = feeBytes / Constants.FEE_CALLDATA_BYTES;
        if (nRequests > size.requests) revert TooManyRequests(nRequests, size.requests);
        if (nActions > size.actions) revert TooManyActions(nActions, size.actions);
        if (nFees > size.fees) revert TooManyFees(nFees, size.fees);
    }

    function _prove(address key, uint16 sizeId, uint256[] memory d, uint256 c, uint256[8] calldata proof)
        private
        view
    {
        uint256[] memory inputs = new uint256[](BATCH_INPUTS);
        inputs[0] = c;
        inputs[1] = Page.challenge(sizeId, d, c);
        inputs[2] = Page.evaluate(d, inputs[1]);
        if (!Groth16.verify(key, inputs, proof)) revert InvalidProof();
    }

    /// @dev Serve the next requests of the queue, in order; the fees go to the operator.
    function _serve(RequestData[] calldata requests, uint64 first) private {
        uint256 fees = 0;
        for (uint256 i = 0; i < requests.length; ++i) {
            RequestData memory q = requests[i];
            uint64 id = first + uint64(i);
            _consume(id, q);
            fees += q.fee;
            _applyOutcome(id, q);
        }
        if (requests.length != 0) served = first + uint64(requests.length);
        // The fees were outstanding, and all outstanding ETH fits 64 bits.
        if (fees != 0) _credit(operator, uint16(Constants.ETH_TOKEN), uint64(fees));
    }

    function _applyOutcome(uint64 id, RequestData memory q) private {
        if (q.kind == Constants.KIND_EXIT) {
            _credit(accounts[q.account].owner, q.token, q.outcome);
        } else if (q.kind == Constants.KIND_DEPOSIT) {
            if (q.outcome > 1) revert BadOutcome(id, q.outcome);
            if (q.outcome == 1) _credit(accounts[q.account].owner, q.token, q.amount);
        } else {
            if (q.outcome != 0) revert BadOutcome(id, q.outcome);
            accounts[q.account].keyPending = false;
        }
    }

    /// @dev Withdrawals become claims of the accounts' owners; the other rows stay inside the exchange.
    function _withdraw(bytes calldata actions) private {
        uint256 n = actions.length / Constants.ACTION_CALLDATA_BYTES;
        for (uint256 i = 0; i < n; ++i) {
            (uint256 a0, uint256 a1) = Page.actionRow(actions, i);
            uint256 kind = a0 & (2 ** Constants.TYPE_BITS - 1);
            if (kind == 0 || kind > Constants.TYPE_CANCEL) revert UnknownActionType(i, kind);
            if (kind != Constants.TYPE_WITHDRAW) continue;
            uint24 account = uint24(a0 >> Constants.ACTION_ACCOUNT_SHIFT);
            address to = accounts[account].owner;
            if (to == address(0)) revert UnknownAccount(account);
            _credit(to, uint16(a0 >> Constants.ACTION_BASE_SHIFT), uint64(a1 >> Constants.FILL_EX_BASE_SHIFT));
        }
    }
}
