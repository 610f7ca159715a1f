// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";

/// @title Owners of an account, and the guardian who can replace them after a delay
/// @notice The guardian is one address: a friend's account, a service, or a multisig when several should decide. It
/// proposes new owners; the present ones have the delay to cancel; then anyone may finish.
abstract contract Recovery {
    /// @param key ECDSA owner; zero for none.
    /// @param x First coordinate of the P-256 (passkey) owner; zero for none.
    /// @param y Second coordinate.
    struct Owner {
        address key;
        bytes32 x;
        bytes32 y;
    }

    struct Guardian {
        address guardian;
        uint48 delay;
    }

    /// @param readyAt Unix seconds from which it can be finished; 0 for none.
    struct Proposal {
        Owner owner;
        uint48 readyAt;
    }

    /// @custom:storage-location erc7201:agentnexus.account.recovery
    struct RecoveryStorage {
        address key;
        uint64 epoch;
        bytes32 x;
        bytes32 y;
        Guardian guardian;
        Proposal proposal;
    }

    // keccak256(abi.encode(uint256(keccak256("agentnexus.account.recovery")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _SLOT = 0xbe4a9182cf756f846e8a76ba38ca781cc53f9444dd0a5d97912cb613c4b4c900;

    uint48 public constant MIN_RECOVERY_DELAY = 1 days;
    uint48 public constant MAX_RECOVERY_DELAY = 60 days;

    event OwnerChanged(address key, bytes32 x, bytes32 y);
    event GuardianChanged(address indexed guardian, uint48 delay);
    event RecoveryProposed(address key, bytes32 x, bytes32 y, uint48 readyAt);
    event RecoveryCancelled();
    event RecoveryFinished();

    error NoOwner();
    error NotOnCurve(bytes32 x, bytes32 y);
    error NotGuardian(address caller);
    error InvalidGuardian(address guardian);
    error InvalidDelay(uint48 delay);
    error NoRecovery();
    error RecoveryNotReady(uint48 readyAt);

    /// @notice Replaces the owners, and with them all sessions; by an owner.
    function setOwner(Owner calldata owner_) external {
        _requireSelf();
        _setOwner(owner_);
    }

    /// @notice Names or (with zero) dismisses the guardian; by an owner. Drops a proposal that waits.
    function setGuardian(address guardian_, uint48 delay) external {
        _requireSelf();
        _setGuardian(guardian_, delay);
    }

    /// @notice Starts the delay after which the account gets new owners; by the guardian.
    function proposeRecovery(Owner calldata owner_) external {
        RecoveryStorage storage $ = _recovery();
        require(msg.sender == $.guardian.guardian, NotGuardian(msg.sender));
        _checkOwner(owner_);
        uint48 readyAt = uint48(block.timestamp) + $.guardian.delay;
        $.proposal = Proposal(owner_, readyAt);
        emit RecoveryProposed(owner_.key, owner_.x, owner_.y, readyAt);
    }

    /// @notice Drops the proposal that waits; by an owner or the guardian.
    function cancelRecovery() external {
        RecoveryStorage storage $ = _recovery();
        if (msg.sender != $.guardian.guardian) _requireSelf();
        require($.proposal.readyAt != 0, NoRecovery());
        delete $.proposal;
        emit RecoveryCancelled();
    }

    /// @notice Gives the account its new owners when the delay is over; by anyone.
    function finishRecovery() external {
        Proposal memory proposal = _recovery().proposal;
        require(proposal.readyAt != 0, NoRecovery());
        require(block.timestamp >= proposal.readyAt, RecoveryNotReady(proposal.readyAt));
        _setOwner(proposal.owner);
        emit RecoveryFinished();
    }

    /// @notice The account's owners. A delegating key (EIP-7702) that has set none is its own owner.
    function owner() public view returns (Owner memory) {
        RecoveryStorage storage $ = _recovery();
        return Owner(_ecdsaOwner(), $.x, $.y);
    }

    /// @notice The guardian, zero for none, and their delay in seconds.
    function guardian() external view returns (Guardian memory) {
        return _recovery().guardian;
    }

    /// @notice The recovery that waits, if any.
    function pendingRecovery() external view returns (Proposal memory) {
        return _recovery().proposal;
    }

    function _ecdsaOwner() internal view returns (address) {
        return _hasStoredOwner() ? _recovery().key : address(this);
    }

    function _hasStoredOwner() internal view returns (bool) {
        return _recovery().epoch != 0;
    }

    function _ownerEpoch() internal view virtual returns (uint64) {
        return _recovery().epoch;
    }

    function _setOwner(Owner memory owner_) internal {
        _checkOwner(owner_);
        RecoveryStorage storage $ = _recovery();
        $.key = owner_.key;
        $.epoch += 1;
        ($.x, $.y) = (owner_.x, owner_.y);
        delete $.proposal;
        emit OwnerChanged(owner_.key, owner_.x, owner_.y);
    }

    function _setGuardian(address guardian_, uint48 delay) internal {
        require(guardian_ != address(this), InvalidGuardian(guardian_));
        require(
            guardian_ == address(0) || (delay >= MIN_RECOVERY_DELAY && delay <= MAX_RECOVERY_DELAY), InvalidDelay(delay)
        );
        RecoveryStorage storage $ = _recovery();
        $.guardian = Guardian(guardian_, delay);
        delete $.proposal;
        emit GuardianChanged(guardian_, delay);
    }

    function _requireSelf() internal view virtual;

    /// @dev A point off the curve would be an owner who can never sign.
    function _checkOwner(Owner memory owner_) private pure {
        bool hasPoint = owner_.x != 0 || owner_.y != 0;
        require(owner_.key != address(0) || hasPoint, NoOwner());
        require(!hasPoint || P256.isValidPublicKey(owner_.x, owner_.y), NotOnCurve(owner_.x, owner_.y));
    }

    function _recovery() private pure returns (RecoveryStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _SLOT
        }
    }
}
