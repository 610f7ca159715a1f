// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ERC4337Utils} from "@openzeppelin/contracts/account/utils/ERC4337Utils.sol";
import {ERC7579Utils, Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {IERC7821} from "@openzeppelin/contracts/interfaces/draft-IERC7821.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IPaymaster, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title Keys that may act for an account, within limits that the account itself keeps
/// @notice A session names the calls a key may make (target and function), how much of each token and of the chain's coin
/// it may spend in all, and when it is good. What it spends is counted before the calls run, whether they succeed or not.
/// @dev Counted are `transfer` and `approve` of tokens, coin sent with calls, and the gas of operations nobody sponsors.
/// A paymaster may take tokens for the gas by an allowance the account once gave it, which no limit here sees: so a session
/// that is to use one must name it, as the permission of `validatePaymasterUserOp`. `transferFrom` is never allowed. A contract that is allowed as a target and moves value by other functions is not
/// counted: what a session may call is the owner's choice.
abstract contract Sessions {
    using ERC4337Utils for PackedUserOperation;

    struct Permission {
        address target;
        bytes4 selector;
    }

    /// @param token Zero for the chain's coin.
    struct Limit {
        address token;
        uint128 amount;
    }

    struct Session {
        uint48 validAfter;
        uint48 validUntil;
        uint64 generation;
    }

    struct Allowance {
        uint128 limit;
        uint128 spent;
    }

    /// @custom:storage-location erc7201:agentnexus.account.sessions
    struct SessionsStorage {
        mapping(uint64 ownerEpoch => mapping(address key => Session)) sessions;
        mapping(bytes32 permission => bool) permitted;
        mapping(bytes32 limit => Allowance) allowances;
    }

    // keccak256(abi.encode(uint256(keccak256("agentnexus.account.sessions")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _SLOT = 0xf1a8539639d71e4bde67a421886dd4bc25fff44435ed0f48796e2de1a68f5a00;
    bytes32 private constant _BATCH_MODE = bytes32(bytes1(0x01));

    event SessionGranted(
        address indexed key, uint48 validAfter, uint48 validUntil, Permission[] permissions, Limit[] limits
    );
    event SessionRevoked(address indexed key);
    event SessionSpent(address indexed key, address indexed token, uint256 amount, uint256 spent);

    error InvalidSession(address key, uint48 validAfter, uint48 validUntil);
    error NotGrantable(address target, bytes4 selector);
    error NoSession(address key);
    error NotPermitted(address target, bytes4 selector);
    error OverLimit(address token, uint256 asked, uint256 left);
    error NotABatch();

    /// @notice Lets a key act for the account; replaces what it was granted before. By an owner.
    function grantSession(
        address key,
        uint48 validAfter,
        uint48 validUntil,
        Permission[] calldata permissions,
        Limit[] calldata limits
    ) external {
        _requireSelf();
        require(
            key != address(0) && validAfter < validUntil && validUntil < ERC4337Utils.BLOCK_RANGE_FLAG,
            InvalidSession(key, validAfter, validUntil)
        );
        SessionsStorage storage $ = _sessions();
        Session storage session_ = _sessionOf(key);
        uint64 generation = session_.generation + 1;
        (session_.validAfter, session_.validUntil, session_.generation) = (validAfter, validUntil, generation);
        for (uint256 i = 0; i < permissions.length; ++i) {
            _requireGrantable(permissions[i]);
            $.permitted[_permission(key, generation, permissions[i].target, permissions[i].selector)] = true;
        }
        for (uint256 i = 0; i < limits.length; ++i) {
            $.allowances[_limit(key, generation, limits[i].token)].limit = limits[i].amount;
        }
        emit SessionGranted(key, validAfter, validUntil, permissions, limits);
    }

    /// @notice Ends a key's session at once. By an owner.
    function revokeSession(address key) external {
        _requireSelf();
        Session storage session_ = _sessionOf(key);
        require(session_.validUntil != 0, NoSession(key));
        (session_.validAfter, session_.validUntil) = (0, 0);
        emit SessionRevoked(key);
    }

    /// @notice A key's times; zeros when it has no session.
    function session(address key) external view returns (Session memory) {
        return _sessionOf(key);
    }

    /// @notice Whether a key's present session names this call.
    function sessionPermits(address key, address target, bytes4 selector) external view returns (bool) {
        return _permits(key, _sessionOf(key).generation, target, selector);
    }

    /// @notice What a key's present session may spend of a token in all, and has spent.
    function sessionAllowance(address key, address token) external view returns (Allowance memory) {
        return _sessions().allowances[_limit(key, _sessionOf(key).generation, token)];
    }

    /// @return validationData Failure for a signature by no session key; otherwise the session's times, which the entry
    /// point enforces. Reverts for calls outside the session.
    function _validateSession(PackedUserOperation calldata userOp, bytes32 hash, bytes calldata signature)
        internal
        returns (uint256 validationData)
    {
        (address key, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(hash, signature);
        Session memory session_ = _sessionOf(key);
        if (failure != ECDSA.RecoverError.NoError || session_.validUntil == 0) {
            return ERC4337Utils.SIG_VALIDATION_FAILED;
        }
        if (userOp.paymasterAndData.length == 0) {
            _spend(key, session_.generation, address(0), _maxGasCost(userOp));
        } else {
            (address paymaster, bytes4 asked) = (userOp.paymaster(), IPaymaster.validatePaymasterUserOp.selector);
            require(_permits(key, session_.generation, paymaster, asked), NotPermitted(paymaster, asked));
        }
        Execution[] calldata calls = _calls(userOp.callData);
        for (uint256 i = 0; i < calls.length; ++i) _checkCall(key, session_.generation, calls[i]);
        return ERC4337Utils.packValidationData(true, session_.validAfter, session_.validUntil);
    }

    function _requireSelf() internal view virtual;

    function _ownerEpoch() internal view virtual returns (uint64);

    function _checkCall(address key, uint64 generation, Execution calldata call) private {
        bytes4 selector = call.callData.length < 4 ? bytes4(0) : bytes4(call.callData[:4]);
        // The zero selector stands for coin without data: there are contracts with a function of that selector.
        require(
            call.target != address(this) && (selector != 0 || call.callData.length == 0)
                && _permits(key, generation, call.target, selector),
            NotPermitted(call.target, selector)
        );
        if (call.value != 0) _spend(key, generation, address(0), call.value);
        if (selector == IERC20.transfer.selector || selector == IERC20.approve.selector) {
            require(call.callData.length >= 68, NotPermitted(call.target, selector));
            _spend(key, generation, call.target, uint256(bytes32(call.callData[36:68])));
        }
    }

    function _spend(address key, uint64 generation, address token, uint256 amount) private {
        Allowance storage allowance = _sessions().allowances[_limit(key, generation, token)];
        uint256 left = allowance.limit - allowance.spent;
        require(amount <= left, OverLimit(token, amount, left));
        allowance.spent += uint128(amount);
        emit SessionSpent(key, token, amount, allowance.spent);
    }

    function _requireGrantable(Permission calldata permission) private view {
        require(
            permission.target != address(this) && permission.target != address(0)
                && permission.selector != IERC20.transferFrom.selector,
            NotGrantable(permission.target, permission.selector)
        );
    }

    /// @dev What the entry point may take for the operation at most.
    function _maxGasCost(PackedUserOperation calldata userOp) private pure returns (uint256) {
        uint256 gas_ = userOp.verificationGasLimit() + userOp.callGasLimit() + userOp.preVerificationGas;
        return gas_ * userOp.maxFeePerGas();
    }

    /// @dev The calls of `execute(mode, executionData)` in plain batch mode, the only thing a session key may call.
    function _calls(bytes calldata callData) private pure returns (Execution[] calldata) {
        require(callData.length >= 100 && bytes4(callData[:4]) == IERC7821.execute.selector, NotABatch());
        require(bytes32(callData[4:36]) == _BATCH_MODE, NotABatch());
        // The ABI decoder of `execute` follows this offset; here it must be the usual one, so that both read the same.
        require(uint256(bytes32(callData[36:68])) == 64, NotABatch());
        uint256 length = uint256(bytes32(callData[68:100]));
        require(length <= callData.length - 100, NotABatch());
        bytes calldata batch = callData[100:100 + length];
        Execution[] calldata calls = ERC7579Utils.decodeBatch(batch);
        // Offsets are signed: one that points to before the calls finds something else here than when they are made.
        require(keccak256(abi.encode(calls)) == keccak256(batch), NotABatch());
        return calls;
    }

    function _permits(address key, uint64 generation, address target, bytes4 selector) private view returns (bool) {
        return _sessions().permitted[_permission(key, generation, target, selector)];
    }

    function _permission(address key, uint64 generation, address target, bytes4 selector)
        private
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(_ownerEpoch(), key, generation, target, selector));
    }

    function _limit(address key, uint64 generation, address token) private view returns (bytes32) {
        return keccak256(abi.encode(_ownerEpoch(), key, generation, token));
    }

    /// @dev Sessions of earlier owners are out of reach here, whatever they were granted.
    function _sessionOf(address key) private view returns (Session storage) {
        return _sessions().sessions[_ownerEpoch()][key];
    }

    function _sessions() private pure returns (SessionsStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _SLOT
        }
    }
}
