// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {TestUSDC} from "../../src/TestUSDC.sol";

/// @notice USDC whose issuer can block addresses, as Circle can.
contract BlockingUSDC is TestUSDC {
    mapping(address account => bool) public blocked;

    error Blocked(address account);

    constructor(address minter) TestUSDC(minter) {}

    function setBlocked(address account, bool blocked_) external onlyOwner {
        blocked[account] = blocked_;
    }

    function _update(address from, address to, uint256 value) internal override {
        require(!blocked[from], Blocked(from));
        require(!blocked[to], Blocked(to));
        super._update(from, to, value);
    }
}
