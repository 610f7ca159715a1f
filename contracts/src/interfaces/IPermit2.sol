// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title The one entry point of Permit2 that the escrow uses
/// @notice A transfer the owner signed for one spender, with a witness: data of the spender's that the signature covers.
interface IPermit2 {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    /// @param witness EIP-712 hash of the spender's own struct.
    /// @param witnessTypeString What follows `…uint256 deadline,` in the signed type: the witness member and all types.
    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;
}
