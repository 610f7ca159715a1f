// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";
import {IPermit2} from "../../src/interfaces/IPermit2.sol";

/// @notice Permit2's witness transfer by its published types and rules; the original is in no package registry.
contract Permit2Double is IPermit2 {
    using SafeERC20 for IERC20;
    using BitMaps for BitMaps.BitMap;

    bytes32 private constant _TOKEN_PERMISSIONS = keccak256("TokenPermissions(address token,uint256 amount)");
    string private constant _STUB =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";

    mapping(address owner => BitMaps.BitMap) private _used;

    error SignatureExpired(uint256 deadline);
    error InvalidAmount(uint256 permitted);
    error InvalidNonce();
    error InvalidSigner();

    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external {
        require(block.timestamp <= permit.deadline, SignatureExpired(permit.deadline));
        require(transferDetails.requestedAmount <= permit.permitted.amount, InvalidAmount(permit.permitted.amount));
        require(!_used[owner].get(permit.nonce), InvalidNonce());
        _used[owner].set(permit.nonce);
        bytes32 digest = permitHash(permit, msg.sender, witness, witnessTypeString);
        require(SignatureChecker.isValidSignatureNow(owner, digest, signature), InvalidSigner());
        IERC20(permit.permitted.token).safeTransferFrom(owner, transferDetails.to, transferDetails.requestedAmount);
    }

    function permitHash(
        PermitTransferFrom calldata permit,
        address spender,
        bytes32 witness,
        string calldata witnessTypeString
    ) public view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                block.chainid,
                address(this)
            )
        );
        bytes32 message = keccak256(
            abi.encode(
                keccak256(abi.encodePacked(_STUB, witnessTypeString)),
                keccak256(abi.encode(_TOKEN_PERMISSIONS, permit.permitted)),
                spender,
                permit.nonce,
                permit.deadline,
                witness
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, message));
    }
}
