// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Constants} from "./Constants.sol";
import {IProofbook} from "./IProofbook.sol";

/// @title Tokens, what is outstanding of them, and claims
/// @notice Invariant, for every token: vault >= (outstanding + claims) * quantum, and outstanding + claims < 2^64.
/// Money leaves by pull only, to the claim's owner only, so one token's or one owner's revert blocks nobody else (M23).
abstract contract Custody is IProofbook, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice May append tokens and nothing else.
    address public immutable owner;
    /// @notice The highest token id; ids start at 1.
    uint16 public tokenCount;
    /// @notice Tokens by id.
    mapping(uint16 id => Token) public tokens;
    /// @notice Id of an ERC-20, 0 when unknown.
    mapping(address erc20 => uint16 id) public tokenId;
    /// @notice Quanta that wait for an owner.
    mapping(address owner => mapping(uint16 token => uint64 amount)) public claims;

    constructor(address owner_) {
        owner = owner_;
        _appendToken(address(0), uint128(Constants.ETH_QUANTUM));
    }

    receive() external payable {
        revert PlainTransferRefused();
    }

    fallback() external payable {
        revert UnknownFunction();
    }

    /// @inheritdoc IProofbook
    function addToken(address erc20, uint128 quantum) external returns (uint16 id) {
        if (msg.sender != owner) revert NotOwner(msg.sender);
        if (quantum == 0) revert QuantumZero();
        if (tokenId[erc20] != 0) revert TokenExists(erc20);
        if (erc20.code.length == 0) revert TokenHasNoCode(erc20);
        if (tokenCount == type(uint16).max) revert TooManyTokens();
        id = _appendToken(erc20, quantum);
        tokenId[erc20] = id;
    }

    /// @inheritdoc IProofbook
    function claim(uint16 token) external nonReentrant {
        _pay(msg.sender, token);
    }

    /// @inheritdoc IProofbook
    function claimFor(address to, uint16 token) external nonReentrant {
        _pay(to, token);
    }

    function _appendToken(address erc20, uint128 quantum) private returns (uint16 id) {
        id = ++tokenCount;
        tokens[id] = Token({erc20: erc20, quantum: quantum, outstanding: 0, claims: 0});
        emit TokenAdded(id, erc20, quantum);
    }

    function _pay(address to, uint16 token) private {
        uint64 amount = claims[to][token];
        if (amount == 0) revert NothingToClaim(to, token);
        Token storage t = tokens[token];
        delete claims[to][token];
        t.claims -= amount;
        emit ClaimPaid(to, token, amount);
        uint256 units = uint256(amount) * t.quantum;
        if (token == Constants.ETH_TOKEN) {
            (bool ok,) = to.call{value: units}("");
            if (!ok) revert EthTransferFailed(to);
        } else {
            IERC20(t.erc20).safeTransfer(to, units);
        }
    }

    /// @dev Take an ERC-20 from the sender; exactly the amount must arrive.
    function _take(uint16 token, uint64 amount) internal {
        IERC20 erc20 = IERC20(tokens[token].erc20);
        uint256 expected = uint256(amount) * tokens[token].quantum;
        uint256 before = erc20.balanceOf(address(this));
        erc20.safeTransferFrom(msg.sender, address(this), expected);
        uint256 afterwards = erc20.balanceOf(address(this));
        uint256 received = afterwards < before ? 0 : afterwards - before;
        if (received != expected) revert ReceivedMismatch(expected, received);
    }

    /// @dev Money came in and belongs to the exchange's accounts or queue.
    function _raise(uint16 token, uint64 amount) internal {
        Token storage t = tokens[token];
        _checkCap(t, token, amount);
        t.outstanding += amount;
    }

    /// @dev Money came in and belongs to an owner at once.
    function _creditNew(address to, uint16 token, uint64 amount) internal {
        Token storage t = tokens[token];
        _checkCap(t, token, amount);
        _record(t, to, token, amount);
    }

    /// @dev Money leaves the exchange's accounts or queue for an owner's claim.
    function _credit(address to, uint16 token, uint64 amount) internal {
        Token storage t = tokens[token];
        if (amount > t.outstanding) revert OutstandingExceeded(token, amount);
        t.outstanding -= amount;
        _record(t, to, token, amount);
    }

    function _record(Token storage t, address to, uint16 token, uint64 amount) private {
        if (amount == 0) return;
        t.claims += amount;
        claims[to][token] += amount;
        emit ClaimCredited(to, token, amount);
    }

    function _checkCap(Token storage t, uint16 token, uint64 amount) private view {
        if (uint256(t.outstanding) + t.claims + amount > type(uint64).max) revert TokenCapExceeded(token);
    }
}
