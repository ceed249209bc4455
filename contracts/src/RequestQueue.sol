// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Constants} from "./Constants.sol";
import {Custody} from "./Custody.sol";
import {IProofbook} from "./IProofbook.sol";

/// @title The queue of L1 requests: open, deposit, key change, forced exit
/// @notice Every request that is accepted can be proven (M20): one that cannot apply is a no-op or a refund in the batch.
/// Storage holds one hash a request; the fields are in the event and come back with the batch.
abstract contract RequestQueue is Custody {
    /// @notice Levels of the account tree (8-ary) and of an account's order tree (4-ary).
    uint8 public immutable accountDepth;
    uint8 public immutable orderDepth;
    /// @notice T and t of the deadlines, in seconds.
    uint32 public immutable requestWindow;
    uint32 public immutable requestSpacing;
    /// @notice Fees in gwei: of an empty queue, per waiting request, the highest, and the highest of a forced exit.
    uint64 public immutable baseFee;
    uint64 public immutable feeStep;
    uint64 public immutable feeCap;
    uint64 public immutable exitFeeCap;

    /// @notice Number of indices handed out.
    uint32 public accountCount;
    /// @notice Requests ever queued: the next one's id. Those from `served` on wait.
    uint64 public queued;
    /// @notice Requests served by batches: id of the oldest unserved one.
    uint64 public served;
    /// @notice Deadline of the request queued last.
    uint64 public lastDeadline;
    /// @notice A request missed its deadline: no batch any more, exits instead. For good.
    bool public frozen;
    /// @notice Hashes of unserved requests.
    mapping(uint64 id => bytes32) public requestHash;
    /// @notice What L1 knows of accounts.
    mapping(uint24 index => Account) public accounts;

    constructor(Config memory c) {
        if (c.requestWindow == 0) revert InvalidConfig("requestWindow");
        if (c.requestSpacing == 0) revert InvalidConfig("requestSpacing");
        if (c.feeCap < c.baseFee) revert InvalidConfig("feeCap");
        if (c.exitFeeCap < c.baseFee) revert InvalidConfig("exitFeeCap");
        if (c.feeOwner == address(0)) revert InvalidConfig("feeOwner");
        accountDepth = c.accountDepth;
        orderDepth = c.orderDepth;
        requestWindow = c.requestWindow;
        requestSpacing = c.requestSpacing;
        baseFee = c.baseFee;
        feeStep = c.feeStep;
        feeCap = c.feeCap;
        exitFeeCap = c.exitFeeCap;
        // Account 0 takes the exchange's fees (M12); nobody pays for opening it. Immutables can't be read yet.
        _checkKey(c.feePubX, c.feePubY);
        accountCount = 1;
        accounts[0] = Account({owner: c.feeOwner, keyPending: true, exited: false});
        RequestData memory q = _blank(Constants.KIND_OPEN, 0);
        (q.owner, q.pubX, q.pubY) = (c.feeOwner, c.feePubX, c.feePubY);
        q.deadline = uint64(block.timestamp) + c.requestWindow;
        _store(q, c.feeOwner);
    }

    modifier whenLive() {
        if (frozen) revert IsFrozen();
        _;
    }

    modifier onlyAccountOwner(uint24 index) {
        if (accounts[index].owner != msg.sender) revert NotAccountOwner(index, msg.sender);
        _;
    }

    /// @inheritdoc IProofbook
    function open(uint256 pubX, uint256 pubY) external payable nonReentrant whenLive returns (uint24 index) {
        _checkKey(pubX, pubY);
        if (accountCount == treeSize()) revert TreeFull();
        index = uint24(accountCount++);
        accounts[index] = Account({owner: msg.sender, keyPending: true, exited: false});
        RequestData memory q = _blank(Constants.KIND_OPEN, index);
        (q.owner, q.pubX, q.pubY) = (msg.sender, pubX, pubY);
        _enqueue(q, 0);
    }

    /// @inheritdoc IProofbook
    function deposit(uint24 index, uint16 token, uint64 amount)
        external
        payable
        nonReentrant
        whenLive
        onlyAccountOwner(index)
    {
        _checkToken(token);
        if (amount == 0) revert AmountZero();
        bool isEth = token == Constants.ETH_TOKEN;
        if (!isEth) _take(token, amount);
        _raise(token, amount);
        RequestData memory q = _blank(Constants.KIND_DEPOSIT, index);
        (q.token, q.amount) = (token, amount);
        _enqueue(q, isEth ? amount : 0);
    }

    /// @inheritdoc IProofbook
    function changeKey(uint24 index, uint256 pubX, uint256 pubY)
        external
        payable
        nonReentrant
        whenLive
        onlyAccountOwner(index)
    {
        _checkKey(pubX, pubY);
        if (accounts[index].keyPending) revert KeyRequestPending(index);
        accounts[index].keyPending = true;
        RequestData memory q = _blank(Constants.KIND_KEY, index);
        (q.pubX, q.pubY) = (pubX, pubY);
        _enqueue(q, 0);
    }

    /// @inheritdoc IProofbook
    function forceExit(uint24 index, uint16 token) external payable nonReentrant whenLive onlyAccountOwner(index) {
        _checkToken(token);
        RequestData memory q = _blank(Constants.KIND_EXIT, index);
        q.token = token;
        _enqueue(q, 0);
    }

    /// @inheritdoc IProofbook
    function requestFee(uint8 kind) public view returns (uint64) {
        uint256 cap = kind == Constants.KIND_EXIT ? exitFeeCap : feeCap;
        uint256 fee = baseFee + uint256(feeStep) * (queued - served);
        return uint64(fee < cap ? fee : cap);
    }

    /// @notice Number of accounts the tree has room for.
    function treeSize() public view returns (uint256) {
        return uint256(1) << (3 * accountDepth);
    }

    /// @dev Take fee and ETH out of the call's value, date the request and store it.
    function _enqueue(RequestData memory q, uint64 ethAmount) private {
        q.fee = requestFee(q.kind);
        if (msg.value % Constants.ETH_QUANTUM != 0) revert NotWholeGwei(msg.value);
        uint256 paid = msg.value / Constants.ETH_QUANTUM;
        uint256 due = uint256(q.fee) + ethAmount;
        if (paid < due) revert ValueTooLow(due, paid);
        if (paid > type(uint64).max) revert TokenCapExceeded(uint16(Constants.ETH_TOKEN));
        _raise(uint16(Constants.ETH_TOKEN), q.fee);
        _creditNew(msg.sender, uint16(Constants.ETH_TOKEN), uint64(paid - due));

        uint256 soonest = block.timestamp + requestWindow;
        uint256 spaced = uint256(lastDeadline) + requestSpacing;
        q.deadline = uint64(soonest > spaced ? soonest : spaced);
        _store(q, msg.sender);
    }

    function _store(RequestData memory q, address sender) private {
        uint64 id = queued++;
        lastDeadline = q.deadline;
        requestHash[id] = _hashRequest(q);
        emit RequestQueued(
            id, q.account, sender, q.kind, q.token, q.amount, q.owner, q.pubX, q.pubY, q.fee, q.deadline
        );
    }

    /// @dev Everything but the outcome.
    function _hashRequest(RequestData memory q) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(q.kind, q.account, q.token, q.amount, q.owner, q.pubX, q.pubY, q.fee, q.deadline)
        );
    }

    /// @dev Require that `q` is what was queued as `id` and is unserved, and forget it.
    function _consume(uint64 id, RequestData memory q) internal {
        if (requestHash[id] != _hashRequest(q)) revert RequestMismatch(id);
        delete requestHash[id];
    }

    function _blank(uint256 kind, uint24 account) private pure returns (RequestData memory q) {
        q.kind = uint8(kind);
        q.account = account;
    }

    function _checkKey(uint256 pubX, uint256 pubY) private pure {
        if (pubX >= Constants.R || pubY >= Constants.R) revert KeyOutOfRange();
    }

    function _checkToken(uint16 token) private view {
        if (token == 0 || token > tokenCount) revert UnknownToken(token);
    }
}
