// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {Account} from "./Account.sol";

/// @title Makes smart accounts at addresses known beforehand
/// @notice Anyone may call, as often as they like: the address depends on the owners, the guardian and the salt, and a
/// second call only answers it. So signatures of accounts that do not exist yet can be checked (ERC-6492).
contract AccountFactory {
    /// @notice The code all accounts share; also what an ordinary key may delegate to (EIP-7702).
    Account public immutable IMPLEMENTATION;

    event AccountCreated(address indexed account, address key, bytes32 x, bytes32 y, address guardian, uint48 delay);

    constructor() {
        IMPLEMENTATION = new Account();
    }

    /// @notice Makes the account unless it exists.
    /// @param guardian Zero for none; then `delay` counts for nothing but the address.
    function createAccount(Account.Owner calldata owner, address guardian, uint48 delay, bytes32 salt)
        external
        returns (address account)
    {
        account = addressOf(owner, guardian, delay, salt);
        if (account.code.length != 0) return account;
        Clones.cloneDeterministic(address(IMPLEMENTATION), _salt(owner, guardian, delay, salt));
        emit AccountCreated(account, owner.key, owner.x, owner.y, guardian, delay);
        Account(payable(account)).setUp(owner, guardian, delay);
    }

    /// @notice Where the account is, or will be.
    function addressOf(Account.Owner calldata owner, address guardian, uint48 delay, bytes32 salt)
        public
        view
        returns (address)
    {
        return Clones.predictDeterministicAddress(address(IMPLEMENTATION), _salt(owner, guardian, delay, salt));
    }

    function _salt(Account.Owner calldata owner, address guardian, uint48 delay, bytes32 salt)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(owner, guardian, delay, salt));
    }
}
