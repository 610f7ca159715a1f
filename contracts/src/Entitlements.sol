// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {AccessControlDefaultAdminRules} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {ERC1155} from "@openzeppelin/contracts/token/ERC1155/ERC1155.sol";
import {ERC1155Utils} from "@openzeppelin/contracts/token/ERC1155/utils/ERC1155Utils.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {Escrow} from "./Escrow.sol";

/// @title The right to use an agent, as a token
/// @notice Every agent (or tier of one) is a class. A token's id is `class << 64 | epoch`: epoch 0 never ends, epoch `n`
/// of a class with a period is good in `[n * period, (n + 1) * period)` Unix seconds. So a balance says all there is to
/// say, and no term of any holder is stored.
contract Entitlements is ERC1155, EIP712, AccessControlDefaultAdminRules {
    using BitMaps for BitMaps.BitMap;
    using EnumerableSet for EnumerableSet.AddressSet;

    /// @param cap How many tokens of the class may exist at a time, over all epochs.
    /// @param supply How many do.
    /// @param period Seconds of an epoch; 0 for a class of tokens that never end.
    /// @param exists Whether the class was made.
    /// @param soulbound Whether holders cannot pass their tokens on.
    /// @param active Whether tokens give access and may be minted.
    struct Class {
        uint64 cap;
        uint64 supply;
        uint32 period;
        bool exists;
        bool soulbound;
        bool active;
    }

    /// @notice A minter's signed promise to mint, which its holder (or anyone for them) brings on chain.
    /// @param escrow Where the deal must be open by then; zero for a promise that asks for nothing.
    /// @param deal What it is given for.
    struct Voucher {
        address to;
        uint256 id;
        uint64 amount;
        uint64 nonce;
        uint48 validUntil;
        address escrow;
        bytes32 deal;
    }

    /// @notice Makes and switches classes, sets their metadata.
    bytes32 public constant REGISTRAR_ROLE = keccak256("REGISTRAR_ROLE");
    /// @notice Mints, and signs vouchers.
    bytes32 public constant MINTER_ROLE = keccak256("MINTER_ROLE");
    /// @notice Takes back tokens of purchases that were refunded.
    bytes32 public constant REVOKER_ROLE = keccak256("REVOKER_ROLE");
    /// @notice Stops and starts minting.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    bytes32 public constant VOUCHER_TYPEHASH = keccak256(
        "Voucher(address to,uint256 id,uint64 amount,uint64 nonce,uint48 validUntil,address escrow,bytes32 deal)"
    );
    /// @notice How many minters there can be; pausing visits each.
    uint256 public constant MAX_MINTERS = 32;
    uint256 private constant _EPOCH_BITS = 64;
    // Where the fields of `Class` are in its slot.
    uint256 private constant _SUPPLY_AT = 64;
    uint256 private constant _PERIOD_AT = 128;
    uint256 private constant _EXISTS_AT = 160;
    uint256 private constant _SOULBOUND_AT = 168;
    uint256 private constant _ACTIVE_AT = 176;

    /// @dev Instead of the base's own, which only lists of ids reach: a single mint then builds no list.
    mapping(uint256 id => mapping(address holder => uint256)) private _balances;
    mapping(uint256 class => Class) private _classes;
    mapping(uint256 class => string) private _uris;
    mapping(address holder => BitMaps.BitMap) private _usedNonces;
    /// @dev Who has the minter's role, or has it again when minting is no longer paused.
    EnumerableSet.AddressSet private _minters;
    /// @notice Whether all minting is stopped.
    bool public mintingPaused;

    event ClassCreated(uint256 indexed class, uint64 cap, uint32 period, bool soulbound);
    event ClassActive(uint256 indexed class, bool active);
    event ClassCapChanged(uint256 indexed class, uint64 cap);
    /// @notice A soulbound token was minted; it cannot be passed on.
    event Locked(address indexed holder, uint256 indexed id);
    event VoucherUsed(address indexed to, uint64 indexed nonce, bytes32 indexed deal);
    event Revoked(address indexed holder, uint256 indexed id, uint256 amount, bytes32 indexed reason);
    event MintingPaused(address by);
    event MintingUnpaused(address by);

    error ClassExists(uint256 class);
    error NoSuchClass(uint256 class);
    error InvalidClass(uint256 class);
    error ClassInactive(uint256 class);
    error CapReached(uint256 class, uint64 cap);
    error CapBelowSupply(uint64 cap, uint64 supply);
    error NoSuchEpoch(uint256 id);
    error Soulbound(uint256 id);
    error TooManyMinters();
    error VoucherExpired(uint48 validUntil);
    error VoucherAlreadyUsed(uint64 nonce);
    error VoucherNotSigned(address signer);
    error DealNotOpen(bytes32 deal);
    error NotExpired(uint256 id);

    /// @param baseUri Metadata of classes without their own, with `{id}` in it (ERC-1155).
    /// @param admin Grants roles; a multisig. Handing it over takes two steps and `adminDelay`.
    constructor(string memory baseUri, address admin, uint48 adminDelay)
        ERC1155(baseUri)
        EIP712("AgentNexus Entitlements", "1")
        AccessControlDefaultAdminRules(adminDelay, admin)
    {}

    // ------------------------------------------------------------------------------------------------ classes

    /// @notice Makes a class, active from the start.
    function createClass(uint256 class, uint64 cap, uint32 period, bool soulbound, string calldata uri_)
        external
        onlyRole(REGISTRAR_ROLE)
    {
        require(class != 0 && class <= type(uint192).max, InvalidClass(class));
        require(!_classes[class].exists, ClassExists(class));
        _classes[class] = Class(cap, 0, period, true, soulbound, true);
        emit ClassCreated(class, cap, period, soulbound);
        if (bytes(uri_).length != 0) _setUri(class, uri_);
    }

    /// @notice Switches a class: an inactive one gives no access and is not minted.
    function setActive(uint256 class, bool active) external onlyRole(REGISTRAR_ROLE) {
        _class(class).active = active;
        emit ClassActive(class, active);
    }

    /// @notice Changes how many tokens may exist; not below what exists.
    function setCap(uint256 class, uint64 cap) external onlyRole(REGISTRAR_ROLE) {
        Class storage record = _class(class);
        require(cap >= record.supply, CapBelowSupply(cap, record.supply));
        record.cap = cap;
        emit ClassCapChanged(class, cap);
    }

    /// @notice Sets the metadata address of a class.
    function setUri(uint256 class, string calldata uri_) external onlyRole(REGISTRAR_ROLE) {
        _class(class);
        _setUri(class, uri_);
    }

    // ------------------------------------------------------------------------------------------------ minting

    /// @notice Mints to one holder.
    function mint(address to, uint256 id, uint64 amount) external onlyRole(MINTER_ROLE) {
        _mintOne(to, id, amount);
    }

    /// @notice Mints several ids to one holder.
    function mintBatch(address to, uint256[] calldata ids, uint256[] calldata amounts) external onlyRole(MINTER_ROLE) {
        _mintBatch(to, ids, amounts, "");
    }

    /// @notice Mints what a minter promised; once, in time, by anyone for the holder, while what it is given for is open.
    /// @dev The holder has the promise before they pay: they are to bring both in one operation, and may not.
    function mintWithVoucher(Voucher calldata voucher, address signer, bytes calldata signature) external {
        require(block.timestamp <= voucher.validUntil, VoucherExpired(voucher.validUntil));
        require(!_usedNonces[voucher.to].get(voucher.nonce), VoucherAlreadyUsed(voucher.nonce));
        require(
            hasRole(MINTER_ROLE, signer)
                && SignatureChecker.isValidSignatureNowCalldata(signer, voucherHash(voucher), signature),
            VoucherNotSigned(signer)
        );
        require(
            voucher.escrow == address(0) || Escrow(voucher.escrow).deal(voucher.deal).status == Escrow.Status.Open,
            DealNotOpen(voucher.deal)
        );
        _usedNonces[voucher.to].set(voucher.nonce);
        emit VoucherUsed(voucher.to, voucher.nonce, voucher.deal);
        _mintOne(voucher.to, voucher.id, voucher.amount);
    }

    /// @notice Stops all minting; transfers, burning and access go on.
    /// @dev Takes the role from every minter instead of asking a flag at every mint, which would cost each of them a
    /// storage read.
    function pauseMinting() external onlyRole(PAUSER_ROLE) {
        mintingPaused = true;
        emit MintingPaused(msg.sender);
        for (uint256 i = 0; i < _minters.length(); ++i) super._revokeRole(MINTER_ROLE, _minters.at(i));
    }

    /// @notice Gives the minters their role again.
    function unpauseMinting() external onlyRole(PAUSER_ROLE) {
        mintingPaused = false;
        emit MintingUnpaused(msg.sender);
        for (uint256 i = 0; i < _minters.length(); ++i) super._grantRole(MINTER_ROLE, _minters.at(i));
    }

    // ------------------------------------------------------------------------------------------------ burning

    /// @notice Burns tokens of the caller, or of a holder who approved the caller.
    function burn(address from, uint256 id, uint256 amount) external {
        _checkAuthorized(msg.sender, from);
        _burn(from, id, amount);
    }

    /// @notice Burns several ids of the caller, or of a holder who approved the caller.
    function burnBatch(address from, uint256[] calldata ids, uint256[] calldata amounts) external {
        _checkAuthorized(msg.sender, from);
        _burnBatch(from, ids, amounts);
    }

    /// @notice Takes tokens back, for a reason that the event tells (the id of a refunded deal).
    function revoke(address from, uint256 id, uint256 amount, bytes32 reason) external onlyRole(REVOKER_ROLE) {
        emit Revoked(from, id, amount, reason);
        _burn(from, id, amount);
    }

    /// @notice Burns tokens whose epoch is over, which makes room under the cap; by anyone.
    function burnExpired(address from, uint256 id, uint256 amount) external {
        Class storage record = _class(id >> _EPOCH_BITS);
        uint256 epoch = uint64(id);
        require(epoch != 0 && block.timestamp >= (epoch + 1) * record.period, NotExpired(id));
        _burn(from, id, amount);
    }

    // ------------------------------------------------------------------------------------------------ views

    /// @notice Whether the holder may use the class now.
    function hasAccess(address holder, uint256 class) external view returns (bool) {
        Class storage record = _classes[class];
        if (!record.active || class > type(uint192).max) return false;
        if (balanceOf(holder, class << _EPOCH_BITS) != 0) return true;
        return record.period != 0 && balanceOf(holder, currentId(class)) != 0;
    }

    /// @notice A class's record. Reverts for one that was never made.
    function classOf(uint256 class) external view returns (Class memory) {
        return _class(class);
    }

    /// @notice The id of the token that gives access now and ends with the present epoch (for a class without a period:
    /// the one that never ends).
    function currentId(uint256 class) public view returns (uint256) {
        uint32 period = _class(class).period;
        return (class << _EPOCH_BITS) | (period == 0 ? 0 : block.timestamp / period);
    }

    /// @notice Whether a voucher's nonce is used up for a holder.
    function nonceUsed(address holder, uint64 nonce) external view returns (bool) {
        return _usedNonces[holder].get(nonce);
    }

    /// @notice What a minter signs.
    function voucherHash(Voucher calldata voucher) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, voucher)));
    }

    /// @inheritdoc ERC1155
    function balanceOf(address holder, uint256 id) public view override returns (uint256) {
        return _balances[id][holder];
    }

    /// @inheritdoc ERC1155
    function uri(uint256 id) public view override returns (string memory) {
        string memory own = _uris[id >> _EPOCH_BITS];
        return bytes(own).length == 0 ? super.uri(id) : own;
    }

    /// @inheritdoc ERC1155
    function supportsInterface(bytes4 interfaceId)
        public
        view
        override(ERC1155, AccessControlDefaultAdminRules)
        returns (bool)
    {
        return super.supportsInterface(interfaceId);
    }

    // ------------------------------------------------------------------------------------------------ inside

    /// @dev What `_mint` of the base does, for one id.
    function _mintOne(address to, uint256 id, uint256 amount) private {
        require(to != address(0), ERC1155InvalidReceiver(to));
        _add(to, id, amount);
        emit TransferSingle(msg.sender, address(0), to, id, amount);
        ERC1155Utils.checkOnERC1155Received(msg.sender, address(0), to, id, amount, "");
    }

    /// @dev All burns, transfers and mints of lists come through here, before the receiver is asked.
    function _update(address from, address to, uint256[] memory ids, uint256[] memory amounts) internal override {
        require(ids.length == amounts.length, ERC1155InvalidArrayLength(ids.length, amounts.length));
        for (uint256 i = 0; i < ids.length; ++i) {
            if (from == address(0)) _add(to, ids[i], amounts[i]);
            else _move(from, to, ids[i], amounts[i]);
        }
        if (ids.length == 1) emit TransferSingle(msg.sender, from, to, ids[0], amounts[0]);
        else emit TransferBatch(msg.sender, from, to, ids, amounts);
    }

    /// @dev To nobody is a burn.
    function _move(address from, address to, uint256 id, uint256 amount) private {
        uint256 held = _balances[id][from];
        require(held >= amount, ERC1155InsufficientBalance(from, held, amount, id));
        Class storage record = _class(id >> _EPOCH_BITS);
        _balances[id][from] = held - amount;
        if (to == address(0)) {
            record.supply -= uint64(amount);
        } else {
            require(!record.soulbound, Soulbound(id));
            _balances[id][to] += amount;
        }
    }

    /// @dev A minter appointed while minting is paused may begin when it goes on.
    function _grantRole(bytes32 role, address account) internal override returns (bool) {
        if (role == MINTER_ROLE) {
            _minters.add(account);
            require(_minters.length() <= MAX_MINTERS, TooManyMinters());
            if (mintingPaused) return false;
        }
        return super._grantRole(role, account);
    }

    function _revokeRole(bytes32 role, address account) internal override returns (bool) {
        if (role == MINTER_ROLE) _minters.remove(account);
        return super._revokeRole(role, account);
    }

    /// @dev Reads and writes the class's slot once; the compiler would do it for every field.
    function _add(address to, uint256 id, uint256 amount) private {
        Class storage record = _classes[id >> _EPOCH_BITS];
        uint256 word;
        assembly ("memory-safe") {
            word := sload(record.slot)
        }
        if (uint8(word >> _ACTIVE_AT) == 0) {
            require(uint8(word >> _EXISTS_AT) != 0, NoSuchClass(id >> _EPOCH_BITS));
            revert ClassInactive(id >> _EPOCH_BITS);
        }
        require(uint64(id) == 0 || uint32(word >> _PERIOD_AT) != 0, NoSuchEpoch(id));
        (uint256 cap, uint256 supply) = (uint64(word), uint64(word >> _SUPPLY_AT));
        unchecked {
            // The supply is never above the cap, and nobody's balance above the supply: nothing here can wrap.
            require(amount <= cap - supply, CapReached(id >> _EPOCH_BITS, uint64(cap)));
            word += amount << _SUPPLY_AT;
            _balances[id][to] += amount;
        }
        assembly ("memory-safe") {
            sstore(record.slot, word)
        }
        if (uint8(word >> _SOULBOUND_AT) != 0) emit Locked(to, id);
    }

    function _class(uint256 class) private view returns (Class storage record) {
        record = _classes[class];
        require(record.exists, NoSuchClass(class));
    }

    function _setUri(uint256 class, string calldata uri_) private {
        _uris[class] = uri_;
        emit URI(uri_, class << _EPOCH_BITS);
    }
}
