// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Proofbook: custody, request queue, settlement and escape of a validity-proof exchange
/// @notice Every struct, event, error and function of the contract. The layouts are those of docs/spec.md.
/// Amounts are counts of a token's quanta unless a comment says otherwise; times are Unix seconds.
interface IProofbook {
    // ---------------------------------------------------------------- structs

    /// @notice Rows of a batch circuit. `accounts` is not used on chain; it is there for the operator and the verifier.
    struct Size {
        uint16 requests;
        uint16 actions;
        uint16 accounts;
        uint16 fees;
    }

    /// @notice A batch size and its verifying key (alpha1, beta2, gamma2, delta2, IC points; EIP-197 order).
    struct SizeConfig {
        Size size;
        bytes verifyingKey;
    }

    /// @notice Everything that is fixed at deployment, for ever.
    /// @param accountDepth,orderDepth levels of the 8-ary account tree and of an account's 4-ary order tree: a preset's
    /// @param feeOwner owner of the fee account (index 0), opened by request 0
    /// @param feePubX,feePubY key of the fee account
    /// @param operator the account that commits batches; may only replace itself
    /// @param owner may append tokens and nothing else
    /// @param requestWindow T: a request is due this long after it was queued, or later (see `requestSpacing`)
    /// @param requestSpacing t: a request is never due earlier than this after its predecessor
    /// @param maxLag a batch's timestamp may lie this far behind the block's
    /// @param baseFee fee of a request in an empty queue, in gwei
    /// @param feeStep what each waiting request adds, in gwei
    /// @param feeCap highest fee of an open, deposit or key request, in gwei
    /// @param exitFeeCap highest fee of a forced exit, in gwei
    /// @param sizes batch sizes, the size id is the position
    /// @param exitKey verifying key of the exit circuit
    /// @param exitZkeyHash,exitWasmHash SHA-256 of the exit circuit's proving key and witness program
    struct Config {
        uint8 accountDepth;
        uint8 orderDepth;
        address feeOwner;
        uint256 feePubX;
        uint256 feePubY;
        address operator;
        address owner;
        uint32 requestWindow;
        uint32 requestSpacing;
        uint32 maxLag;
        uint64 baseFee;
        uint64 feeStep;
        uint64 feeCap;
        uint64 exitFeeCap;
        SizeConfig[] sizes;
        bytes exitKey;
        bytes32 exitZkeyHash;
        bytes32 exitWasmHash;
    }

    /// @notice A request of the queue; `outcome` is the batch's answer, everything else is what was queued (and hashed).
    /// @param kind 1 open, 2 deposit, 3 key, 4 exit; fields a kind does not name are 0
    /// @param outcome deposit: 1 if bounced; exit: the amount that leaves; else 0
    /// @param fee gwei paid with the request
    /// @param deadline after it, and while unserved, anyone may freeze the exchange
    struct RequestData {
        uint8 kind;
        uint24 account;
        uint16 token;
        uint64 amount;
        uint64 outcome;
        address owner;
        uint256 pubX;
        uint256 pubY;
        uint64 fee;
        uint64 deadline;
    }

    /// @notice A token. The vault must hold at least (outstanding + claims) * quantum of it.
    /// @param erc20 the token's contract, 0 for ETH
    /// @param quantum units of the token (wei for ETH) in one quantum
    /// @param outstanding quanta owned inside the exchange: accounts, queued deposits, queued fees
    /// @param claims quanta that wait to be paid out
    struct Token {
        address erc20;
        uint128 quantum;
        uint64 outstanding;
        uint64 claims;
    }

    /// @notice What L1 knows of an account.
    /// @param owner the L1 address that opened it
    /// @param keyPending an open or key request of it is unserved
    /// @param exited it left through `exit`
    struct Account {
        address owner;
        bool keyPending;
        bool exited;
    }

    // ---------------------------------------------------------------- events

    /// @notice A request was queued: its hash is stored, its fields are here.
    event RequestQueued(
        uint64 indexed id,
        uint24 indexed account,
        address indexed sender,
        uint8 kind,
        uint16 token,
        uint64 amount,
        address owner,
        uint256 pubX,
        uint256 pubY,
        uint64 fee,
        uint64 deadline
    );
    /// @notice A batch was proven; its data is in the calldata of this event's transaction.
    /// @param firstRequest id of the first request that it served (the next one to be served, if it served none)
    event BatchCommitted(
        uint64 indexed number,
        uint16 indexed sizeId,
        uint32 timestamp,
        uint256 oldRoot,
        uint256 newRoot,
        uint64 firstRequest,
        uint16 nRequests,
        uint16 nActions,
        uint16 nFees
    );
    /// @notice `amount` quanta of `token` now wait for `owner`.
    event ClaimCredited(address indexed owner, uint16 indexed token, uint64 amount);
    /// @notice A claim was paid out, in quanta.
    event ClaimPaid(address indexed owner, uint16 indexed token, uint64 amount);
    event TokenAdded(uint16 indexed id, address indexed erc20, uint128 quantum);
    event OperatorRotated(address indexed from, address indexed to);
    /// @notice Request `id` was not served in time; no batch will ever be accepted again.
    event Frozen(uint64 indexed id, uint64 deadline, uint256 root);
    event Exited(uint24 indexed account, address indexed owner, uint256 tokens, uint256[5] amounts);
    event Reclaimed(uint64 indexed id, uint24 indexed account, address indexed owner);

    // ---------------------------------------------------------------- errors

    /// @notice A field of the constructor's configuration is out of range.
    error InvalidConfig(string field);
    error NotOwner(address caller);
    error NotOperator(address caller);
    /// @notice The operator must be an account without code that sends the transaction itself (M19).
    error OperatorNotPlainAccount(address caller);
    /// @notice The call's data is not in the one plain ABI encoding, or more follows it (M19).
    error CalldataNotCanonical();
    error NotAccountOwner(uint24 account, address caller);
    error ZeroAddress();
    error IsFrozen();
    error NotFrozen();

    error UnknownToken(uint16 token);
    error TooManyTokens();
    error TokenExists(address erc20);
    error TokenHasNoCode(address erc20);
    error QuantumZero();
    error AmountZero();
    /// @notice outstanding + claims of the token would reach 2^64 quanta (M15).
    error TokenCapExceeded(uint16 token);
    /// @notice More would leave than is outstanding: never with a sound proof.
    error OutstandingExceeded(uint16 token, uint64 amount);
    /// @notice The token did not deliver exactly what was asked of it (M23).
    error ReceivedMismatch(uint256 expected, uint256 received);
    error NothingToClaim(address owner, uint16 token);
    error EthTransferFailed(address to);
    /// @notice ETH enters through `deposit` and fees only.
    error PlainTransferRefused();
    error UnknownFunction();

    error TreeFull();
    /// @notice pubX and pubY must be below the scalar field's modulus (M17, M20).
    error KeyOutOfRange();
    /// @notice An open or key request of the account is unserved (M20).
    error KeyRequestPending(uint24 account);
    /// @notice ETH is counted in gwei; `value` wei is not whole.
    error NotWholeGwei(uint256 value);
    /// @notice Both in gwei.
    error ValueTooLow(uint256 required, uint256 sent);
    error RequestMismatch(uint64 id);

    error UnknownSize(uint16 sizeId);
    error TimestampBeforePrevious(uint32 previous, uint32 timestamp);
    error TimestampInFuture(uint256 blockTime, uint32 timestamp);
    error TimestampTooOld(uint256 blockTime, uint32 timestamp);
    error RootOutOfRange(uint256 root);
    error CommitmentOutOfRange(uint256 c);
    error TooManyRequests(uint256 given, uint256 limit);
    error TooManyActions(uint256 given, uint256 limit);
    error TooManyFees(uint256 given, uint256 limit);
    /// @notice `actions` is not a whole number of 40-byte rows, or `fees` of 10-byte rows.
    error RaggedRows(uint256 length);
    error UnknownActionType(uint256 row, uint256 actionType);
    error UnknownAccount(uint24 account);
    error BadOutcome(uint64 id, uint64 outcome);
    error InvalidProof();

    error DeadlineNotPassed(uint64 deadline);
    error NothingQueued();
    error IndexBeyondTree(uint24 account);
    error AlreadyExited(uint24 account);
    /// @notice `tokens` has more than 240 bits or an amount word more than 192.
    error PositionsOutOfRange();

    // ---------------------------------------------------------------- requests

    /// @notice Queue the opening of the next account for the sender, with key (pubX, pubY).
    /// @return index the new account's index
    function open(uint256 pubX, uint256 pubY) external payable returns (uint24 index);

    /// @notice Queue a deposit into the sender's own account. ETH (token 1) comes with the call, on top of the fee.
    function deposit(uint24 index, uint16 token, uint64 amount) external payable;

    /// @notice Queue a new key for the sender's own account.
    function changeKey(uint24 index, uint256 pubX, uint256 pubY) external payable;

    /// @notice Queue the exit of all that the sender's account holds of a token.
    function forceExit(uint24 index, uint16 token) external payable;

    /// @notice What a request of this kind costs now, in gwei.
    function requestFee(uint8 kind) external view returns (uint64);

    // ---------------------------------------------------------------- settlement

    /// @notice Move the state by one proven batch. Only the operator.
    /// @param requests the next requests of the queue, in order, with their outcomes
    /// @param actions 40 bytes a row, @param fees 10 bytes a row
    /// @param c the batch's Poseidon commitment
    /// @param proof A, B, C in EIP-197 order
    function commit(
        uint16 sizeId,
        uint32 timestamp,
        uint256 newRoot,
        RequestData[] calldata requests,
        bytes calldata actions,
        bytes calldata fees,
        uint256 c,
        uint256[8] calldata proof
    ) external;

    /// @notice Hand the operator's role over. Only the operator.
    function rotateOperator(address to) external;

    // ---------------------------------------------------------------- money out

    /// @notice Pay the sender's claim of a token to the sender.
    function claim(uint16 token) external;

    /// @notice Pay somebody's claim of a token to them; anyone may call.
    function claimFor(address owner, uint16 token) external;

    /// @notice Append a token with its quantum, for ever. Only the owner.
    function addToken(address erc20, uint128 quantum) external returns (uint16 id);

    // ---------------------------------------------------------------- escape

    /// @notice Freeze the exchange for good: the oldest unserved request, whose preimage this is, is past its deadline.
    function freeze(RequestData calldata oldest) external;

    /// @notice When frozen: turn all that an account holds into its owner's claims. Anyone may call, once an account.
    /// @param tokens T, the account's 15 token ids packed; @param amounts three amounts of 64 bits in each word
    function exit(
        uint24 index,
        address owner,
        uint256 tokens,
        uint256[5] calldata amounts,
        uint256[8] calldata proof
    ) external;

    /// @notice When frozen: give an unserved request's deposit and fee back to its sender, as claims. Anyone may call.
    function reclaim(uint64 id, RequestData calldata request) external;
}
