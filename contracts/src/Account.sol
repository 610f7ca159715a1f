// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Account as ERC4337Account} from "@openzeppelin/contracts/account/Account.sol";
import {ERC7821} from "@openzeppelin/contracts/account/extensions/draft-ERC7821.sol";
import {ERC4337Utils} from "@openzeppelin/contracts/account/utils/ERC4337Utils.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {ERC721Holder} from "@openzeppelin/contracts/token/ERC721/utils/ERC721Holder.sol";
import {ERC1155Holder} from "@openzeppelin/contracts/token/ERC1155/utils/ERC1155Holder.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";
import {WebAuthn} from "@openzeppelin/contracts/utils/cryptography/WebAuthn.sol";
import {ERC7739} from "@openzeppelin/contracts/utils/cryptography/signers/draft-ERC7739.sol";
import {Recovery} from "./account/Recovery.sol";
import {Sessions} from "./account/Sessions.sol";

/// @title A user's smart account
/// @notice ERC-4337 (EntryPoint v0.8), owned by an ECDSA key, a passkey or a P-256 key, or several of these. Calls go
/// through ERC-7821's `execute`; contracts check its signatures by ERC-1271 in ERC-7739's form, which binds them to this
/// account. Session keys act within limits kept here, and a guardian can replace lost owners after a delay.
/// @dev Used as clones made by `AccountFactory`, or as the code an ordinary key delegates to (EIP-7702): then, until an
/// owner is set, that key is the owner. A signature begins with one byte that says whose it is (`Kind`).
contract Account is ERC4337Account, ERC7821, ERC7739, Sessions, Recovery, ERC721Holder, ERC1155Holder {
    /// @notice First byte of a signature.
    enum Kind {
        Ecdsa, // 65 bytes of the owner's address
        Passkey, // ABI-encoded WebAuthn assertion by the owner's P-256 key
        P256Key, // r ++ s, the P-256 key over the hash itself
        Session // 65 bytes of a session key; only for user operations
    }

    /// @notice Makes clones; the only one who may set one up.
    address public immutable FACTORY;

    error AlreadySetUp();

    /// @dev The deployer is the factory. The implementation itself has no key, so nobody can use it as an account.
    constructor() EIP712("AgentNexus Account", "1") {
        FACTORY = msg.sender;
    }

    /// @notice Sets up a fresh clone; called by the factory in the transaction that makes it.
    function setUp(Owner calldata owner_, address guardian_, uint48 delay) external {
        require(msg.sender == FACTORY, AccountUnauthorized(msg.sender));
        require(!_hasStoredOwner(), AlreadySetUp());
        _setOwner(owner_);
        if (guardian_ != address(0)) _setGuardian(guardian_, delay);
    }

    /// @inheritdoc ERC4337Account
    function entryPoint() public pure override returns (IEntryPoint) {
        return ERC4337Utils.ENTRYPOINT_V08;
    }

    /// @dev A session key's operation is checked against its limits here; its time is left to the entry point, since
    /// validation must not read the clock (ERC-7562).
    function _validateUserOp(PackedUserOperation calldata userOp, bytes32 userOpHash, bytes calldata signature)
        internal
        override
        returns (uint256)
    {
        if (signature.length != 0 && uint8(signature[0]) == uint8(Kind.Session)) {
            return _validateSession(userOp, userOpHash, signature[1:]);
        }
        return super._validateUserOp(userOp, userOpHash, signature);
    }

    /// @dev Only owners: a session key signs nothing but user operations.
    function _rawSignatureValidation(bytes32 hash, bytes calldata signature) internal view override returns (bool) {
        if (signature.length == 0) return false;
        uint8 kind = uint8(signature[0]);
        bytes calldata body = signature[1:];
        if (kind == uint8(Kind.Ecdsa)) {
            (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(hash, body);
            return failure == ECDSA.RecoverError.NoError && signer == _ecdsaOwner();
        }
        Owner memory owner_ = owner();
        if (owner_.x == 0 && owner_.y == 0) return false;
        if (kind == uint8(Kind.Passkey)) {
            (bool decoded, WebAuthn.WebAuthnAuth calldata assertion) = WebAuthn.tryDecodeAuth(body);
            return decoded && WebAuthn.verify(abi.encodePacked(hash), assertion, owner_.x, owner_.y);
        }
        return kind == uint8(Kind.P256Key) && body.length == 64
            && P256.verify(hash, bytes32(body[:32]), bytes32(body[32:]), owner_.x, owner_.y);
    }

    function _erc7821AuthorizedExecutor(address caller, bytes32 mode, bytes calldata executionData)
        internal
        view
        override
        returns (bool)
    {
        return caller == address(entryPoint()) || super._erc7821AuthorizedExecutor(caller, mode, executionData);
    }

    /// @dev Settings change only by a call of the account to itself, so only by an owner: session keys cannot call it.
    function _requireSelf() internal view override(Sessions, Recovery) {
        require(msg.sender == address(this), AccountUnauthorized(msg.sender));
    }

    /// @dev New owners end every session that old ones granted.
    function _ownerEpoch() internal view override(Sessions, Recovery) returns (uint64) {
        return Recovery._ownerEpoch();
    }
}
