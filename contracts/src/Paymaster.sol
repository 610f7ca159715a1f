// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {AccessControlDefaultAdminRules} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {PaymasterERC20} from "@openzeppelin/contracts/account/paymaster/extensions/PaymasterERC20.sol";
import {Paymaster as ERC4337Paymaster} from "@openzeppelin/contracts/account/paymaster/Paymaster.sol";
import {ERC4337Utils} from "@openzeppelin/contracts/account/utils/ERC4337Utils.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title Pays the gas of user operations that the policy service signed for
/// @notice The service decides by its own rules who is sponsored and signs the operation, its limits and a time. It may
/// also quote a token price, and then the account pays its gas in that token.
/// @dev `paymasterData` is `mode(1) ++ validAfter(6) ++ validUntil(6)`, in mode 1 followed by `token(20) ++
/// tokenPerNative(32)`, then the 65 bytes of the signature. The signer is in the code: sponsoring then reads no storage,
/// as unstaked paymasters must (ERC-7562), and a lost key means a new paymaster and `withdraw` of this one's deposit.
/// Mode 1 moves tokens while validating, so public bundlers want the paymaster staked for it.
contract Paymaster is PaymasterERC20, EIP712, AccessControlDefaultAdminRules {
    using ERC4337Utils for PackedUserOperation;

    /// @notice First byte of the data.
    enum Mode {
        Sponsored,
        PaidInToken
    }

    /// @notice Takes money out: deposit, stake and tokens.
    bytes32 public constant WITHDRAWER_ROLE = keccak256("WITHDRAWER_ROLE");
    bytes32 public constant SPONSORSHIP_TYPEHASH = keccak256(
        "Sponsorship(uint8 mode,uint48 validAfter,uint48 validUntil,address token,uint256 tokenPerNative,"
        "address sender,uint256 nonce,bytes initCode,bytes callData,bytes32 accountGasLimits,"
        "uint256 preVerificationGas,bytes32 gasFees,uint256 paymasterVerificationGasLimit,"
        "uint256 paymasterPostOpGasLimit)"
    );

    uint256 private constant _HEAD = 13;
    uint256 private constant _QUOTE = 52;

    /// @notice Whose signature sponsors.
    address public immutable SIGNER;

    event Withdrawn(address indexed to, uint256 amount);
    event TokensWithdrawn(address indexed token, address indexed to, uint256 amount);
    event StakeChanged(uint256 added, uint32 unstakeDelay);
    event StakeUnlocked();
    event StakeWithdrawn(address indexed to);

    error InvalidSigner();

    /// @dev What a policy signature covers, apart from the operation itself.
    struct Policy {
        Mode mode;
        uint48 validAfter;
        uint48 validUntil;
        address token;
        uint256 tokenPerNative;
    }

    /// @param admin Grants roles; a multisig. Handing it over takes two steps and `adminDelay`.
    constructor(address signer, address admin, uint48 adminDelay)
        EIP712("AgentNexus Paymaster", "1")
        AccessControlDefaultAdminRules(adminDelay, admin)
    {
        require(signer != address(0), InvalidSigner());
        SIGNER = signer;
    }

    /// @notice Adds to the deposit that pays for gas; by anyone.
    function deposit() external payable {
        _deposit(msg.value);
    }

    /// @notice Takes from the deposit.
    function withdraw(address payable to, uint256 amount) external onlyRole(WITHDRAWER_ROLE) {
        emit Withdrawn(to, amount);
        _withdraw(to, amount);
    }

    /// @notice Takes tokens that accounts paid for gas; `type(uint256).max` takes all.
    function withdrawTokens(IERC20 token, address to, uint256 amount) external onlyRole(WITHDRAWER_ROLE) {
        if (amount == type(uint256).max) amount = token.balanceOf(address(this));
        emit TokensWithdrawn(address(token), to, amount);
        _withdrawTokens(token, to, amount);
    }

    /// @notice Adds to the stake that public bundlers want, or lengthens its delay.
    function addStake(uint32 unstakeDelay) external payable onlyRole(DEFAULT_ADMIN_ROLE) {
        emit StakeChanged(msg.value, unstakeDelay);
        _addStake(msg.value, unstakeDelay);
    }

    /// @notice Starts the delay after which the stake can be taken.
    function unlockStake() external onlyRole(WITHDRAWER_ROLE) {
        emit StakeUnlocked();
        _unlockStake();
    }

    /// @notice Takes the stake when its delay is over.
    function withdrawStake(address payable to) external onlyRole(WITHDRAWER_ROLE) {
        emit StakeWithdrawn(to);
        _withdrawStake(to);
    }

    /// @inheritdoc ERC4337Paymaster
    function entryPoint() public pure override returns (IEntryPoint) {
        return ERC4337Utils.ENTRYPOINT_V08;
    }

    /// @notice What the policy service signs for an operation whose `paymasterAndData` is whole but for the signature.
    function sponsorshipHash(PackedUserOperation calldata userOp) external view returns (bytes32) {
        (Policy memory policy,) = _policy(userOp);
        return _hash(userOp, policy);
    }

    function _validatePaymasterUserOp(PackedUserOperation calldata userOp, bytes32 userOpHash, uint256 maxCost)
        internal
        override
        returns (bytes memory context, uint256 validationData)
    {
        bytes calldata data = userOp.paymasterData();
        if (data.length != 0 && uint8(data[0]) == uint8(Mode.PaidInToken)) {
            return super._validatePaymasterUserOp(userOp, userOpHash, maxCost);
        }
        return ("", _checked(userOp));
    }

    function _fetchDetails(PackedUserOperation calldata userOp, bytes32)
        internal
        view
        override
        returns (uint256 validationData, IERC20 token, uint256 tokenPerNative)
    {
        (Policy memory policy,) = _policy(userOp);
        return (_checked(userOp), IERC20(policy.token), policy.tokenPerNative);
    }

    /// @dev A price of nothing is not a payment.
    function _minTokensPerNative() internal pure override returns (uint256) {
        return 1;
    }

    function _checked(PackedUserOperation calldata userOp) private view returns (uint256 validationData) {
        (Policy memory policy, bytes calldata signature) = _policy(userOp);
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(_hash(userOp, policy), signature);
        bool valid = failure == ECDSA.RecoverError.NoError && signer == SIGNER
            && (policy.validAfter | policy.validUntil) & ERC4337Utils.BLOCK_RANGE_FLAG == 0;
        return ERC4337Utils.packValidationData(valid, policy.validAfter, policy.validUntil);
    }

    /// @dev Data that is too short reads as an empty policy without a signature, which nobody signed.
    function _policy(PackedUserOperation calldata userOp)
        private
        pure
        returns (Policy memory policy, bytes calldata signature)
    {
        bytes calldata data = userOp.paymasterData();
        signature = data[:0];
        if (data.length < _HEAD || uint8(data[0]) > uint8(type(Mode).max)) return (policy, signature);
        policy.mode = Mode(uint8(data[0]));
        policy.validAfter = uint48(bytes6(data[1:7]));
        policy.validUntil = uint48(bytes6(data[7:13]));
        signature = data[_HEAD:];
        if (policy.mode == Mode.PaidInToken) {
            if (signature.length < _QUOTE) return (policy, signature[:0]);
            policy.token = address(bytes20(signature[:20]));
            policy.tokenPerNative = uint256(bytes32(signature[20:_QUOTE]));
            signature = signature[_QUOTE:];
        }
    }

    function _hash(PackedUserOperation calldata userOp, Policy memory policy) private view returns (bytes32) {
        bytes memory head = abi.encode(
            SPONSORSHIP_TYPEHASH,
            policy.mode,
            policy.validAfter,
            policy.validUntil,
            policy.token,
            policy.tokenPerNative,
            userOp.sender,
            userOp.nonce
        );
        bytes memory operation = abi.encode(
            keccak256(userOp.initCode),
            keccak256(userOp.callData),
            userOp.accountGasLimits,
            userOp.preVerificationGas,
            userOp.gasFees,
            userOp.paymasterVerificationGasLimit(),
            userOp.paymasterPostOpGasLimit()
        );
        return _hashTypedDataV4(keccak256(bytes.concat(head, operation)));
    }
}
