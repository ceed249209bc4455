// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IProofbook} from "../src/IProofbook.sol";

/// @notice Anyone can mint: for tests and demonstrations only.
contract TestToken is ERC20 {
    uint8 private immutable _decimals;

    constructor(string memory name_, string memory symbol_, uint8 decimals_) ERC20(name_, symbol_) {
        _decimals = decimals_;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice Burns one percent of every transfer.
contract FeeToken is TestToken {
    constructor() TestToken("Fee on transfer", "FEE", 18) {}

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (from != address(0) && to != address(0)) super._update(to, address(0), value / 100);
    }
}

/// @notice Transfers out of `stuck` revert once it is set.
contract RevertingToken is TestToken {
    address public stuck;

    error Stuck();

    constructor() TestToken("Reverting", "REV", 18) {}

    function setStuck(address stuck_) external {
        stuck = stuck_;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (from == stuck && from != address(0)) revert Stuck();
        super._update(from, to, value);
    }
}

/// @notice Returns false instead of moving anything.
contract FalseToken is TestToken {
    constructor() TestToken("False", "FLS", 18) {}

    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return false;
    }
}

/// @notice During every transfer, calls `target` with `payload` and passes its error on.
contract ReenteringToken is TestToken {
    address public target;
    bytes public payload;

    constructor() TestToken("Re-entering", "REE", 18) {}

    function arm(address target_, bytes calldata payload_) external {
        target = target_;
        payload = payload_;
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (target != address(0)) _passOn(target, payload);
    }

    function _passOn(address to, bytes memory data) private {
        (bool ok, bytes memory answer) = to.call(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
    }
}

/// @notice Owns an account, and re-enters the exchange when it is paid; or refuses to be paid.
contract ReenteringOwner {
    IProofbook public immutable exchange;
    bool public refuse;
    bytes public payload;
    bytes public seen;

    error Refused();

    constructor(IProofbook exchange_) {
        exchange = exchange_;
    }

    function set(bool refuse_, bytes calldata payload_) external {
        refuse = refuse_;
        payload = payload_;
    }

    function run(bytes calldata data) external payable {
        (bool ok, bytes memory answer) = address(exchange).call{value: msg.value}(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
    }

    receive() external payable {
        if (refuse) revert Refused();
        if (payload.length != 0) {
            (, seen) = address(exchange).call(payload);
        }
    }
}
