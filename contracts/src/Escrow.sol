// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {AccessControlDefaultAdminRules} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IPermit2} from "./interfaces/IPermit2.sol";
import {IReceiveWithAuthorization} from "./interfaces/IReceiveWithAuthorization.sol";

/// @title Money held between a buyer and a seller until the work is delivered
/// @notice A deal is known by the hash of its terms and takes one storage slot; whoever moves it brings the terms again.
/// Money leaves a deal only towards its own seller (less the fee) or its own buyer, and everybody can end a deal that is
/// past its time. Exits cannot be paused.
/// @dev One asset per escrow, fixed at deployment: an ERC-20, or (zero) the chain's own coin. The token must move exactly
/// what it is asked to (no fee on transfer, no rebasing) and must not call its receivers. Tokens sent here without a
/// deposit belong to nobody.
contract Escrow is AccessControlDefaultAdminRules {
    using SafeERC20 for IERC20;

    /// @notice What buyer and seller agree on; its hash, with chain and escrow, is the deal's id.
    /// @param buyer Gets refunds; pays, except in a deposit by allowance or in coin, which anybody may pay for them.
    /// @param seller Gets what is released, less the fee.
    /// @param amount Atomic units.
    /// @param lifetime Seconds from the deposit to the moment anyone may send the money back; 0 means 24 hours.
    /// @param feeBps The market's fee in hundredths of a percent, as it is at the deposit.
    /// @param salt Makes equal deals different.
    struct Terms {
        address buyer;
        address seller;
        uint128 amount;
        uint32 lifetime;
        uint16 feeBps;
        uint128 salt;
    }

    enum Status {
        None,
        Open,
        Released,
        Refunded,
        Expired,
        Resolved
    }

    struct Deal {
        Status status;
        uint40 expiresAt;
        uint128 remaining;
    }

    struct Market {
        address feeRecipient;
        uint16 feeBps;
        bool paused;
    }

    /// @dev A deal in its slot: status (8 bits), end of life (40), what it still holds (128).
    type Word is uint256;

    /// @notice Reports how the work went: releases and refunds.
    bytes32 public constant ORCHESTRATOR_ROLE = keccak256("ORCHESTRATOR_ROLE");
    /// @notice Decides disputes: any split between the two parties.
    bytes32 public constant ARBITER_ROLE = keccak256("ARBITER_ROLE");
    /// @notice May stop new deposits, nothing else.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    uint16 public constant DEFAULT_FEE_BPS = 250;
    uint16 public constant MAX_FEE_BPS = 1_000;
    uint32 public constant DEFAULT_LIFETIME = 24 hours;
    uint32 public constant MAX_LIFETIME = 365 days;

    bytes32 public constant TERMS_TYPEHASH = keccak256(
        "Terms(address buyer,address seller,uint128 amount,uint32 lifetime,uint16 feeBps,uint128 salt)"
    );
    string private constant _PERMIT2_WITNESS =
        "Terms witness)"
        "Terms(address buyer,address seller,uint128 amount,uint32 lifetime,uint16 feeBps,uint128 salt)"
        "TokenPermissions(address token,uint256 amount)";

    uint256 private constant _BPS = 10_000;
    /// @dev Enough for a contract wallet to take coin; what needs more is credited and fetched by its owner.
    uint256 private constant _COIN_TRANSFER_GAS = 100_000;
    /// @dev What must be left for that: the chain hands on 63 of 64 parts, after 36,700 for coin to a new address. Else
    /// whoever ends a deal could starve a receiver on purpose, and a contract that can take coin but not ask for its
    /// credit would have lost it.
    uint256 private constant _GAS_BEFORE_COIN_TRANSFER = 140_000;

    /// @notice What this escrow holds; zero for the chain's own coin.
    address public immutable TOKEN;
    IPermit2 public immutable PERMIT2;

    bool private transient _entered;
    Market private _market;
    /// @dev Packed by hand: the compiler reads and writes a struct's slot once per field.
    mapping(bytes32 id => Word) private _deals;
    /// @notice Fees taken and not yet swept.
    uint256 public fees;
    /// @notice What could not be paid out because the transfer failed; its owner fetches it with `withdrawCredit`.
    mapping(address owner => uint256) public credit;

    event Deposited(
        bytes32 indexed id,
        address indexed buyer,
        address indexed seller,
        uint128 amount,
        uint32 lifetime,
        uint16 feeBps,
        uint128 salt
    );
    event Released(bytes32 indexed id, uint256 toSeller, uint256 fee, uint128 remaining);
    event Refunded(bytes32 indexed id, uint256 toBuyer);
    event Expired(bytes32 indexed id, uint256 toBuyer);
    event Resolved(bytes32 indexed id, uint256 toSeller, uint256 fee, uint256 toBuyer);
    event Credited(address indexed owner, uint256 amount);
    event CreditWithdrawn(address indexed owner, address to, uint256 amount);
    event FeesSwept(address indexed recipient, uint256 amount);
    event FeeChanged(uint16 feeBps);
    event FeeRecipientChanged(address recipient);
    event DepositsPaused(address by);
    event DepositsUnpaused(address by);

    error DepositsArePaused();
    error FeeIsNow(uint16 feeBps);
    error FeeTooHigh(uint16 feeBps);
    error NothingToHold();
    error InvalidParty(address party);
    error WrongAsset();
    error WrongValue(uint256 sent, uint256 wanted);
    error LifetimeTooLong(uint32 lifetime);
    error DealExists(bytes32 id);
    error DealNotOpen(bytes32 id, Status status);
    error DealNotExpired(bytes32 id, uint40 expiresAt);
    error Reentered();
    error NotAllowed(address caller);
    error TooMuch(uint256 asked, uint256 remaining);
    error NothingToPay();
    error CoinTransferFailed(address to);
    error TooLittleGas(uint256 left);

    /// @param admin Grants roles and sets the fee; a multisig. Handing it over takes two steps and `adminDelay`.
    /// @param feeRecipient Where swept fees go.
    constructor(address token, IPermit2 permit2, address feeRecipient, address admin, uint48 adminDelay)
        AccessControlDefaultAdminRules(adminDelay, admin)
    {
        TOKEN = token;
        PERMIT2 = permit2;
        _market.feeBps = DEFAULT_FEE_BPS;
        _setFeeRecipient(feeRecipient);
        emit FeeChanged(DEFAULT_FEE_BPS);
    }

    /// @dev State is final before money moves, everywhere. Coin lets its receiver run code, so there no call may enter
    /// another on top of that; the token does not, and its escrow saves the lock.
    modifier guarded() {
        if (TOKEN == address(0)) {
            require(!_entered, Reentered());
            _entered = true;
        }
        _;
        if (TOKEN == address(0)) _entered = false;
    }

    // ------------------------------------------------------------------------------------------------ entries

    /// @notice Opens a deal with the caller's tokens, by allowance.
    function deposit(Terms calldata terms) external guarded returns (bytes32 id) {
        require(TOKEN != address(0), WrongAsset());
        id = _enter(terms);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), terms.amount);
    }

    /// @notice Opens several deals with one transfer of the caller's tokens.
    function depositBatch(Terms[] calldata batch) external guarded returns (bytes32[] memory ids) {
        require(TOKEN != address(0), WrongAsset());
        ids = new bytes32[](batch.length);
        uint256 total = 0;
        for (uint256 i = 0; i < batch.length; ++i) {
            ids[i] = _enter(batch[i]);
            total += batch[i].amount;
        }
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), total);
    }

    /// @notice Opens a deal with the chain's own coin.
    function depositNative(Terms calldata terms) external payable guarded returns (bytes32 id) {
        require(TOKEN == address(0), WrongAsset());
        id = _enter(terms);
        require(msg.value == terms.amount, WrongValue(msg.value, terms.amount));
    }

    /// @notice Opens a deal with the buyer's ERC-3009 signature, whose nonce must be the deal's id: so the signature
    /// stands for all terms, and anybody may send it.
    function depositWithAuthorization(
        Terms calldata terms,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    ) external guarded returns (bytes32 id) {
        require(TOKEN != address(0), WrongAsset());
        id = _enter(terms);
        IReceiveWithAuthorization(TOKEN).receiveWithAuthorization(
            terms.buyer, address(this), terms.amount, validAfter, validBefore, id, signature
        );
    }

    /// @notice Opens a deal with the buyer's Permit2 signature over the token, the amount and the terms.
    function depositWithPermit2(Terms calldata terms, uint256 nonce, uint256 deadline, bytes calldata signature)
        external
        guarded
        returns (bytes32 id)
    {
        require(TOKEN != address(0), WrongAsset());
        id = _enter(terms);
        PERMIT2.permitWitnessTransferFrom(
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(TOKEN, terms.amount), nonce, deadline),
            IPermit2.SignatureTransferDetails(address(this), terms.amount),
            terms.buyer,
            termsHash(terms),
            _PERMIT2_WITNESS,
            signature
        );
    }

    // ------------------------------------------------------------------------------------------------ exits

    /// @notice Pays the seller all that the deal still holds; by the buyer or the orchestrator.
    function release(Terms calldata terms) external guarded {
        _release(terms, type(uint128).max);
    }

    /// @notice Pays the seller a part; the rest stays held.
    function releasePart(Terms calldata terms, uint128 amount) external guarded {
        require(amount != 0, NothingToPay());
        _release(terms, amount);
    }

    /// @notice Releases several deals, all or none.
    function releaseBatch(Terms[] calldata batch) external guarded {
        for (uint256 i = 0; i < batch.length; ++i) _release(batch[i], type(uint128).max);
    }

    /// @notice Gives the buyer back what the deal still holds; by the seller or the orchestrator.
    function refund(Terms calldata terms) external guarded {
        _refund(terms);
    }

    /// @notice Refunds several deals, all or none.
    function refundBatch(Terms[] calldata batch) external guarded {
        for (uint256 i = 0; i < batch.length; ++i) _refund(batch[i]);
    }

    /// @notice Gives the buyer back what a deal past its time still holds; by anyone.
    function expire(Terms calldata terms) external guarded {
        _expire(terms);
    }

    /// @notice Expires several deals, all or none.
    function expireBatch(Terms[] calldata batch) external guarded {
        for (uint256 i = 0; i < batch.length; ++i) _expire(batch[i]);
    }

    /// @notice Ends a dispute: a part of what is held to the seller (less the fee), the rest to the buyer.
    function resolve(Terms calldata terms, uint128 forSeller) external guarded onlyRole(ARBITER_ROLE) {
        (bytes32 id, Word word) = _openDeal(terms);
        uint128 remaining = _remaining(word);
        require(forSeller <= remaining, TooMuch(forSeller, remaining));
        _store(id, Status.Resolved, _expiresAt(word), 0);
        (uint256 toSeller, uint256 fee) = _shares(terms, remaining, forSeller);
        uint256 toBuyer = remaining - forSeller;
        emit Resolved(id, toSeller, fee, toBuyer);
        _takeFee(fee);
        _pay(terms.seller, toSeller);
        _pay(terms.buyer, toBuyer);
    }

    /// @notice Fetches money of the caller's that could not be paid out, to any address.
    function withdrawCredit(address to) external guarded {
        uint256 amount = credit[msg.sender];
        require(amount != 0, NothingToPay());
        _requireParty(to);
        credit[msg.sender] = 0;
        emit CreditWithdrawn(msg.sender, to, amount);
        _payOrRevert(to, amount);
    }

    /// @notice Sends the fees taken so far to their recipient; by anyone.
    function sweepFees() external guarded {
        uint256 amount = fees;
        require(amount != 0, NothingToPay());
        address recipient = _market.feeRecipient;
        fees = 0;
        emit FeesSwept(recipient, amount);
        _payOrRevert(recipient, amount);
    }

    // ------------------------------------------------------------------------------------------------ administration

    /// @notice Sets the fee of deals opened from now on.
    function setFee(uint16 feeBps) external onlyRole(DEFAULT_ADMIN_ROLE) {
        require(feeBps <= MAX_FEE_BPS, FeeTooHigh(feeBps));
        _market.feeBps = feeBps;
        emit FeeChanged(feeBps);
    }

    /// @notice Sets where swept fees go.
    function setFeeRecipient(address recipient) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setFeeRecipient(recipient);
    }

    /// @notice Stops new deposits; every exit stays open.
    function pauseDeposits() external onlyRole(PAUSER_ROLE) {
        _market.paused = true;
        emit DepositsPaused(msg.sender);
    }

    /// @notice Takes new deposits again.
    function unpauseDeposits() external onlyRole(PAUSER_ROLE) {
        _market.paused = false;
        emit DepositsUnpaused(msg.sender);
    }

    // ------------------------------------------------------------------------------------------------ views

    /// @notice The fee, its recipient, and whether deposits are paused.
    function market() external view returns (Market memory) {
        return _market;
    }

    /// @notice A deal's state, end of life (Unix seconds) and what it still holds.
    function deal(bytes32 id) external view returns (Deal memory) {
        Word word = _deals[id];
        return Deal(_status(word), _expiresAt(word), _remaining(word));
    }

    /// @notice The id that a deal with these terms has in this escrow on this chain.
    function dealId(Terms calldata terms) public view returns (bytes32 id) {
        bytes32 hash = termsHash(terms);
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, hash)
            mstore(add(free, 0x20), chainid())
            mstore(add(free, 0x40), address())
            id := keccak256(free, 0x60)
        }
    }

    /// @notice EIP-712 hash of the terms, the witness of Permit2 signatures.
    /// @dev The six words are hashed as they came; one with bits outside its type fits no deal that was opened, since
    /// opening reads every field and reverts for such.
    function termsHash(Terms calldata terms) public pure returns (bytes32 hash) {
        bytes32 typehash = TERMS_TYPEHASH;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typehash)
            calldatacopy(add(free, 0x20), terms, 0xc0)
            hash := keccak256(free, 0xe0)
        }
    }

    /// @notice The fee of releasing `amount` after `before` was released: in parts or at once, the same in total.
    function feeOf(uint256 before, uint256 amount, uint16 feeBps) public pure returns (uint256) {
        return ((before + amount) * feeBps) / _BPS - (before * feeBps) / _BPS;
    }

    // ------------------------------------------------------------------------------------------------ inside

    function _enter(Terms calldata terms) private returns (bytes32 id) {
        (uint16 feeBps, bool paused) = _entryRules();
        require(!paused, DepositsArePaused());
        require(terms.feeBps == feeBps, FeeIsNow(feeBps));
        require(terms.amount != 0, NothingToHold());
        require(terms.lifetime <= MAX_LIFETIME, LifetimeTooLong(terms.lifetime));
        _requireParty(terms.buyer);
        _requireParty(terms.seller);
        id = dealId(terms);
        require(Word.unwrap(_deals[id]) == 0, DealExists(id));
        uint40 expiresAt = uint40(block.timestamp + (terms.lifetime == 0 ? DEFAULT_LIFETIME : terms.lifetime));
        _store(id, Status.Open, expiresAt, terms.amount);
        emit Deposited(id, terms.buyer, terms.seller, terms.amount, terms.lifetime, terms.feeBps, terms.salt);
    }

    /// @param amount How much; more than there is means all.
    function _release(Terms calldata terms, uint128 amount) private {
        (bytes32 id, Word word) = _openDeal(terms);
        _requireCaller(terms.buyer);
        uint128 remaining = _remaining(word);
        if (amount == type(uint128).max) amount = remaining;
        require(amount <= remaining, TooMuch(amount, remaining));
        uint128 rest = remaining - amount;
        _store(id, rest == 0 ? Status.Released : Status.Open, _expiresAt(word), rest);
        (uint256 toSeller, uint256 fee) = _shares(terms, remaining, amount);
        emit Released(id, toSeller, fee, rest);
        _takeFee(fee);
        _pay(terms.seller, toSeller);
    }

    function _refund(Terms calldata terms) private {
        (bytes32 id, Word word) = _openDeal(terms);
        _requireCaller(terms.seller);
        _store(id, Status.Refunded, _expiresAt(word), 0);
        emit Refunded(id, _remaining(word));
        _pay(terms.buyer, _remaining(word));
    }

    function _expire(Terms calldata terms) private {
        (bytes32 id, Word word) = _openDeal(terms);
        uint40 expiresAt = _expiresAt(word);
        require(block.timestamp >= expiresAt, DealNotExpired(id, expiresAt));
        _store(id, Status.Expired, expiresAt, 0);
        emit Expired(id, _remaining(word));
        _pay(terms.buyer, _remaining(word));
    }

    function _openDeal(Terms calldata terms) private view returns (bytes32 id, Word word) {
        id = dealId(terms);
        word = _deals[id];
        require(_status(word) == Status.Open, DealNotOpen(id, _status(word)));
    }

    /// @dev Both in one read of their slot.
    function _entryRules() private view returns (uint16 feeBps, bool paused) {
        assembly ("memory-safe") {
            let word := sload(_market.slot)
            feeBps := and(shr(160, word), 0xffff)
            paused := and(shr(176, word), 0xff)
        }
    }

    /// @dev Final states are kept, never deleted: the same terms cannot be opened twice.
    function _store(bytes32 id, Status status, uint40 expiresAt, uint128 remaining) private {
        _deals[id] = Word.wrap(uint256(remaining) << 48 | uint256(expiresAt) << 8 | uint256(status));
    }

    function _status(Word word) private pure returns (Status) {
        return Status(uint8(Word.unwrap(word)));
    }

    function _expiresAt(Word word) private pure returns (uint40) {
        return uint40(Word.unwrap(word) >> 8);
    }

    function _remaining(Word word) private pure returns (uint128) {
        return uint128(Word.unwrap(word) >> 48);
    }

    function _shares(Terms calldata terms, uint128 remaining, uint128 amount)
        private
        pure
        returns (uint256 toSeller, uint256 fee)
    {
        fee = feeOf(terms.amount - remaining, amount, terms.feeBps);
        toSeller = amount - fee;
    }

    /// @dev Fees are fetched, not sent: a recipient who cannot be paid holds up nobody.
    function _takeFee(uint256 fee) private {
        if (fee != 0) fees += fee;
    }

    /// @dev A party that cannot be paid (blocked by the token, or refusing coin) gets a credit, and the deal still ends.
    function _pay(address to, uint256 amount) private {
        if (amount == 0 || _transfer(to, amount)) return;
        credit[to] += amount;
        emit Credited(to, amount);
    }

    function _payOrRevert(address to, uint256 amount) private {
        if (TOKEN == address(0)) {
            require(_transfer(to, amount), CoinTransferFailed(to));
        } else {
            IERC20(TOKEN).safeTransfer(to, amount);
        }
    }

    function _transfer(address to, uint256 amount) private returns (bool done) {
        if (TOKEN != address(0)) return IERC20(TOKEN).trySafeTransfer(to, amount);
        require(gasleft() >= _GAS_BEFORE_COIN_TRANSFER, TooLittleGas(gasleft()));
        // No return data is copied: a recipient could make that as dear as they like.
        assembly ("memory-safe") {
            done := call(_COIN_TRANSFER_GAS, to, amount, 0, 0, 0, 0)
        }
    }

    function _setFeeRecipient(address recipient) private {
        _requireParty(recipient);
        _market.feeRecipient = recipient;
        emit FeeRecipientChanged(recipient);
    }

    function _requireCaller(address party) private view {
        require(msg.sender == party || hasRole(ORCHESTRATOR_ROLE, msg.sender), NotAllowed(msg.sender));
    }

    /// @dev Money sent to nobody, to the escrow or to the token would be gone.
    function _requireParty(address party) private view {
        require(party != address(0) && party != address(this) && party != TOKEN, InvalidParty(party));
    }
}
