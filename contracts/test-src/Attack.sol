// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Proofbook} from "../src/Proofbook.sol";

/// @notice A token that behaves as it is told, well or badly. Whoever it trusts needs no allowance.
contract AttackToken {
    enum Mode {
        Plain, // moves, returns true
        Silent, // moves, returns nothing
        Stuck, // reverts
        Refusing, // moves nothing, returns false
        Liar, // moves nothing, returns true
        Taxed, // one percent is lost on the way
        Generous, // one unit more arrives
        Burner, // eats all gas
        Reentering, // moves, then calls `target` and goes on whatever it answers
        Passing, // the same, and passes an error on
        Puffed, // moves nothing, but balanceOf says so
        Garbage, // moves nothing, returns 2
        Thief // takes from the receiver instead
    }

    Mode public mode;
    address public target;
    bytes public payload;
    /// @notice What `target` answered the last time.
    bool public seenOk;
    bytes public seen;
    /// @notice What somebody really has, and what balanceOf adds to it.
    mapping(address who => uint256 amount) public held;
    mapping(address who => uint256 amount) public puff;

    error Stuck();
    error Broke(address who);

    function set(Mode mode_, address target_, bytes calldata payload_) external {
        (mode, target, payload) = (mode_, target_, payload_);
    }

    function mint(address[] calldata to, uint256 amount) external {
        for (uint256 i = 0; i < to.length; ++i) {
            held[to[i]] += amount;
        }
    }

    function balanceOf(address who) external view returns (uint256) {
        return held[who] + puff[who];
    }

    function transfer(address to, uint256 amount) external {
        _act(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        _act(from, to, amount);
    }

    function _act(address from, address to, uint256 amount) private {
        Mode m = mode;
        if (m == Mode.Stuck) revert Stuck();
        if (m == Mode.Burner) {
            assembly {
                invalid()
            }
        }
        if (m == Mode.Refusing) _answer(0);
        if (m == Mode.Garbage) _answer(2);
        if (m == Mode.Liar) _answer(1);
        if (m == Mode.Puffed) {
            puff[from] = puff[from] > amount ? puff[from] - amount : 0;
            puff[to] += amount;
            _answer(1);
        }
        if (m == Mode.Thief) {
            if (held[to] != 0) held[to] -= 1;
            _answer(1);
        }
        if (held[from] < amount) revert Broke(from);
        held[from] -= amount;
        if (m == Mode.Taxed) held[to] += amount - amount / 100;
        else if (m == Mode.Generous) held[to] += amount + 1;
        else held[to] += amount;
        if (m == Mode.Reentering || m == Mode.Passing) _callBack(m == Mode.Passing);
        if (m != Mode.Silent) _answer(1);
    }

    function _callBack(bool pass) private {
        (bool ok, bytes memory answer) = target.call(payload);
        if (!ok && pass) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
        (seenOk, seen) = (ok, answer);
    }

    function _answer(uint256 word) private pure {
        assembly ("memory-safe") {
            mstore(0, word)
            return(0, 32)
        }
    }
}

/// @notice A contract that owns accounts and does what it is told, also when it is paid.
contract Accomplice {
    enum Mood {
        Accept,
        Refuse,
        Burn, // eats all gas
        Reenter, // calls `target` and goes on whatever it answers
        Pass // the same, and passes an error on
    }

    Mood public mood;
    address public target;
    bytes public payload;
    bool public seenOk;
    bytes public seen;

    error Refused();

    function set(Mood mood_, address target_, bytes calldata payload_) external {
        (mood, target, payload) = (mood_, target_, payload_);
    }

    function run(address to, bytes calldata data) external payable {
        (bool ok, bytes memory answer) = to.call{value: msg.value}(data);
        if (!ok) _raise(answer);
    }

    receive() external payable {
        if (mood == Mood.Accept) return;
        if (mood == Mood.Refuse) revert Refused();
        if (mood == Mood.Burn) {
            assembly {
                invalid()
            }
        }
        (bool ok, bytes memory answer) = target.call(payload);
        if (!ok && mood == Mood.Pass) _raise(answer);
        (seenOk, seen) = (ok, answer);
    }

    function _raise(bytes memory answer) private pure {
        assembly ("memory-safe") {
            revert(add(answer, 32), mload(answer))
        }
    }
}

/// @notice Sends ETH to somebody who does not want it.
contract Donor {
    constructor(address payable to) payable {
        selfdestruct(to);
    }
}

/// @notice Everything that an exchange's state is, in one call.
contract Probe {
    /// @return globals root, number, last timestamp, operator, queued, served, last deadline, frozen, accounts, tokens
    /// @return money of each token: what the exchange has of it, outstanding, claims
    function look(Proofbook x) public view returns (uint256[] memory globals, uint256[] memory money) {
        globals = new uint256[](10);
        (globals[0], globals[1], globals[2]) = (x.stateRoot(), x.batchNumber(), x.lastTimestamp());
        (globals[3], globals[4], globals[5]) = (uint160(x.operator()), x.queued(), x.served());
        (globals[6], globals[7], globals[8]) = (x.lastDeadline(), x.frozen() ? 1 : 0, x.accountCount());
        globals[9] = x.tokenCount();
        money = new uint256[](3 * globals[9]);
        for (uint16 t = 1; t <= globals[9]; ++t) {
            (address erc20,, uint64 outstanding, uint64 claims) = x.tokens(t);
            uint256 at = 3 * (t - 1);
            (money[at], money[at + 1], money[at + 2]) = (_of(erc20, address(x)), outstanding, claims);
        }
    }

    /// @return globals as above
    /// @return money as above
    /// @return theirs for each of `people` and each token: what they have, what they may claim
    /// @return accounts owner, key pending, exited, packed, of each account
    /// @return hashes whether each request's hash is there
    function lookAtAll(Proofbook x, address[] calldata people)
        external
        view
        returns (
            uint256[] memory globals,
            uint256[] memory money,
            uint256[] memory theirs,
            uint256[] memory accounts,
            bool[] memory hashes
        )
    {
        (globals, money) = look(x);
        theirs = _theirs(x, people, globals[9]);
        accounts = new uint256[](globals[8]);
        for (uint24 i = 0; i < accounts.length; ++i) {
            (address owner, bool pending, bool exited) = x.accounts(i);
            accounts[i] = uint160(owner) | (pending ? 1 << 160 : 0) | (exited ? 1 << 161 : 0);
        }
        hashes = new bool[](globals[4]);
        for (uint64 i = 0; i < hashes.length; ++i) {
            hashes[i] = x.requestHash(i) != 0;
        }
    }

    function _theirs(Proofbook x, address[] calldata people, uint256 tokens)
        private
        view
        returns (uint256[] memory theirs)
    {
        theirs = new uint256[](2 * people.length * tokens);
        uint256 at = 0;
        for (uint16 t = 1; t <= tokens; ++t) {
            (address erc20,,,) = x.tokens(t);
            for (uint256 i = 0; i < people.length; ++i) {
                theirs[at++] = _of(erc20, people[i]);
                theirs[at++] = x.claims(people[i], t);
            }
        }
    }

    /// @dev What has code and is no token can be added: of that nobody has anything.
    function _of(address erc20, address who) private view returns (uint256) {
        if (erc20 == address(0)) return who.balance;
        try AttackToken(erc20).held(who) returns (uint256 amount) {
            return amount;
        } catch {
            return 0;
        }
    }
}
