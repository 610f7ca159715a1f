// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IERC1155Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC1155} from "@openzeppelin/contracts/token/ERC1155/IERC1155.sol";
import {Entitlements} from "../src/Entitlements.sol";
import {Escrow} from "../src/Escrow.sol";
import {TestUSDC} from "../src/TestUSDC.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {Cheats} from "./support/Cheats.sol";
import {ContractWallet} from "./support/ContractWallet.sol";

contract EntitlementsTest is Cheats {
    uint256 private constant _MINTER_KEY = 0x314;
    uint256 private constant _CLASS = 7;
    uint256 private constant _BOUND = 8;
    uint256 private constant _MONTHLY = 9;
    uint32 private constant _MONTH = 30 days;

    Entitlements private tokens;
    address private minter = vm.addr(_MINTER_KEY);
    address private registrar = address(0x4E6);
    address private revoker = address(0x4E0);
    address private pauser = address(0x9A5);
    address private holder = address(0x401D);
    address private other = address(0x07E4);

    function setUp() public {
        vm.warp(1_800_000_000);
        tokens = new Entitlements("https://example.org/{id}.json", address(this), 2 days);
        tokens.grantRole(tokens.MINTER_ROLE(), minter);
        tokens.grantRole(tokens.REGISTRAR_ROLE(), registrar);
        tokens.grantRole(tokens.REVOKER_ROLE(), revoker);
        tokens.grantRole(tokens.PAUSER_ROLE(), pauser);
        vm.startPrank(registrar);
        tokens.createClass(_CLASS, 10, 0, false, "");
        tokens.createClass(_BOUND, 10, 0, true, "");
        tokens.createClass(_MONTHLY, 10, _MONTH, true, "");
        vm.stopPrank();
    }

    // createClass

    function test_CreateClass_KeepsItsRecord() public {
        vm.expectEmit(address(tokens));
        emit Entitlements.ClassCreated(11, 5, _MONTH, true);
        vm.prank(registrar);
        tokens.createClass(11, 5, _MONTH, true, "ipfs://eleven");
        Entitlements.Class memory class = tokens.classOf(11);
        vm.assertEq(class.cap, 5);
        vm.assertEq(class.supply, 0);
        vm.assertEq(class.period, _MONTH);
        vm.assertTrue(class.exists && class.soulbound && class.active);
        vm.assertEq(tokens.uri(_id(11)), "ipfs://eleven");
        vm.assertEq(tokens.uri(_id(_CLASS)), "https://example.org/{id}.json");
    }

    function test_CreateClass_RefusesTwiceNothingAndTooLong() public {
        vm.startPrank(registrar);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.ClassExists.selector, _CLASS));
        tokens.createClass(_CLASS, 1, 0, false, "");
        vm.expectRevert(abi.encodeWithSelector(Entitlements.InvalidClass.selector, 0));
        tokens.createClass(0, 1, 0, false, "");
        vm.expectRevert(abi.encodeWithSelector(Entitlements.InvalidClass.selector, 1 << 192));
        tokens.createClass(1 << 192, 1, 0, false, "");
        vm.stopPrank();
    }

    function test_Registration_IsForTheRegistrarAndKnownClasses() public {
        vm.startPrank(minter);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.createClass(11, 1, 0, false, "");
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.setActive(_CLASS, false);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.setCap(_CLASS, 1);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.setUri(_CLASS, "");
        vm.stopPrank();
        vm.startPrank(registrar);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NoSuchClass.selector, 99));
        tokens.setActive(99, true);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NoSuchClass.selector, 99));
        tokens.setCap(99, 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NoSuchClass.selector, 99));
        tokens.setUri(99, "");
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NoSuchClass.selector, 99));
        tokens.classOf(99);
    }

    function test_SetUri_TellsItsNewPlace() public {
        vm.expectEmit(address(tokens));
        emit IERC1155.URI("ar://seven", _id(_CLASS));
        vm.prank(registrar);
        tokens.setUri(_CLASS, "ar://seven");
        vm.assertEq(tokens.uri(_id(_CLASS)), "ar://seven");
    }

    // mint

    function test_Mint_GivesAccess() public {
        vm.assertFalse(tokens.hasAccess(holder, _CLASS));
        _mint(holder, _id(_CLASS), 2);
        vm.assertTrue(tokens.hasAccess(holder, _CLASS));
        vm.assertEq(tokens.balanceOf(holder, _id(_CLASS)), 2);
        vm.assertEq(tokens.classOf(_CLASS).supply, 2);
    }

    function testFuzz_Mint_StopsAtTheCap(uint64 first, uint64 second) public {
        first = uint64(bound(first, 1, 10));
        _mint(holder, _id(_CLASS), first);
        bool fits = second <= 10 - first;
        vm.prank(minter);
        if (!fits) vm.expectRevert(abi.encodeWithSelector(Entitlements.CapReached.selector, _CLASS, 10));
        tokens.mint(other, _id(_CLASS), second);
        vm.assertEq(tokens.classOf(_CLASS).supply, fits ? uint256(first) + second : first);
    }

    function test_Mint_RefusesUnknownInactiveAndEpochsOfNothing() public {
        vm.prank(registrar);
        tokens.setActive(_BOUND, false);
        vm.startPrank(minter);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NoSuchClass.selector, 99));
        tokens.mint(holder, _id(99), 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.ClassInactive.selector, _BOUND));
        tokens.mint(holder, _id(_BOUND), 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NoSuchEpoch.selector, _id(_CLASS) | 1));
        tokens.mint(holder, _id(_CLASS) | 1, 1);
        vm.expectRevert(abi.encodeWithSelector(IERC1155Errors.ERC1155InvalidReceiver.selector, address(0)));
        tokens.mint(address(0), _id(_CLASS), 1);
        vm.stopPrank();
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.mint(holder, _id(_CLASS), 1);
    }

    function test_Mint_TellsThatASoulboundTokenIsLocked() public {
        vm.expectEmit(address(tokens));
        emit Entitlements.Locked(holder, _id(_BOUND));
        _mint(holder, _id(_BOUND), 1);
    }

    function test_Mint_RefusesContractsThatTakeNoTokens() public {
        ContractWallet wallet = new ContractWallet(holder);
        vm.prank(minter);
        vm.expectRevert(abi.encodeWithSelector(IERC1155Errors.ERC1155InvalidReceiver.selector, address(wallet)));
        tokens.mint(address(wallet), _id(_CLASS), 1);
    }

    function test_MintBatch_CountsEveryClass() public {
        (uint256[] memory ids, uint256[] memory amounts) = _pair(3, 4);
        vm.prank(minter);
        tokens.mintBatch(holder, ids, amounts);
        vm.assertEq(tokens.classOf(_CLASS).supply, 3);
        vm.assertEq(tokens.classOf(_BOUND).supply, 4);
        amounts[1] = uint256(type(uint64).max) + 2;
        vm.prank(minter);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.CapReached.selector, _BOUND, 10));
        tokens.mintBatch(holder, ids, amounts);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.mintBatch(holder, ids, amounts);
    }

    function test_MintBatch_OfOneClassTwiceCountsBoth() public {
        (uint256[] memory ids, uint256[] memory amounts) = _pair(6, 5);
        ids[1] = ids[0];
        vm.prank(minter);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.CapReached.selector, _CLASS, 10));
        tokens.mintBatch(holder, ids, amounts);
    }

    // mintWithVoucher

    function test_MintWithVoucher_IsBroughtByAnyoneOnce() public {
        Entitlements.Voucher memory voucher = _voucher();
        bytes memory signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
        vm.expectEmit(address(tokens));
        emit Entitlements.VoucherUsed(holder, 3, voucher.deal);
        vm.prank(other);
        tokens.mintWithVoucher(voucher, minter, signature);
        vm.assertTrue(tokens.hasAccess(holder, _CLASS));
        vm.assertTrue(tokens.nonceUsed(holder, 3));
        vm.expectRevert(abi.encodeWithSelector(Entitlements.VoucherAlreadyUsed.selector, 3));
        tokens.mintWithVoucher(voucher, minter, signature);
    }

    function testFuzz_MintWithVoucher_StandsForAllOfIt(uint8 field) public {
        Entitlements.Voucher memory voucher = _voucher();
        bytes memory signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
        field = uint8(bound(field, 0, 6));
        if (field == 0) voucher.to = other;
        if (field == 1) voucher.id = _id(_BOUND);
        if (field == 2) voucher.amount = 2;
        if (field == 3) voucher.nonce = 4;
        if (field == 4) voucher.validUntil += 1;
        if (field == 5) voucher.deal = bytes32(0);
        if (field == 6) voucher.escrow = address(this);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.VoucherNotSigned.selector, minter));
        tokens.mintWithVoucher(voucher, minter, signature);
    }

    function test_MintWithVoucher_OfADealWaitsForItsDeposit() public {
        (Escrow escrow, Escrow.Terms memory terms) = _deal();
        Entitlements.Voucher memory voucher = _voucher();
        (voucher.escrow, voucher.deal) = (address(escrow), escrow.dealId(terms));
        bytes memory signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
        vm.expectRevert(abi.encodeWithSelector(Entitlements.DealNotOpen.selector, voucher.deal));
        tokens.mintWithVoucher(voucher, minter, signature);
        escrow.deposit(terms);
        tokens.mintWithVoucher(voucher, minter, signature);
        vm.assertEq(tokens.balanceOf(holder, _id(_CLASS)), 1);
    }

    function test_MintWithVoucher_OfADealThatHasEndedIsRefused() public {
        (Escrow escrow, Escrow.Terms memory terms) = _deal();
        Entitlements.Voucher memory voucher = _voucher();
        (voucher.escrow, voucher.deal) = (address(escrow), escrow.deposit(terms));
        bytes memory signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
        vm.prank(terms.seller);
        escrow.refund(terms);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.DealNotOpen.selector, voucher.deal));
        tokens.mintWithVoucher(voucher, minter, signature);
    }

    function test_MintWithVoucher_RefusesLateOnesAndSignersWithoutTheRole() public {
        Entitlements.Voucher memory voucher = _voucher();
        bytes memory signature = signed(0xBAD, tokens.voucherHash(voucher));
        vm.expectRevert(abi.encodeWithSelector(Entitlements.VoucherNotSigned.selector, vm.addr(0xBAD)));
        tokens.mintWithVoucher(voucher, vm.addr(0xBAD), signature);
        signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
        tokens.revokeRole(tokens.MINTER_ROLE(), minter);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.VoucherNotSigned.selector, minter));
        tokens.mintWithVoucher(voucher, minter, signature);
        vm.warp(voucher.validUntil + 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.VoucherExpired.selector, voucher.validUntil));
        tokens.mintWithVoucher(voucher, minter, signature);
    }

    // pauseMinting

    function test_PauseMinting_StopsAllWaysToMintAndNothingElse() public {
        _mint(holder, _id(_CLASS), 2);
        vm.prank(pauser);
        tokens.pauseMinting();
        (uint256[] memory ids, uint256[] memory amounts) = _pair(1, 1);
        vm.startPrank(minter);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.mint(holder, _id(_CLASS), 1);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.mintBatch(holder, ids, amounts);
        vm.stopPrank();
        Entitlements.Voucher memory voucher = _voucher();
        bytes memory signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
        vm.expectRevert(abi.encodeWithSelector(Entitlements.VoucherNotSigned.selector, minter));
        tokens.mintWithVoucher(voucher, minter, signature);
        vm.startPrank(holder);
        tokens.safeTransferFrom(holder, other, _id(_CLASS), 1, "");
        tokens.burn(holder, _id(_CLASS), 1);
        vm.stopPrank();
        vm.assertTrue(tokens.hasAccess(other, _CLASS));
        vm.prank(pauser);
        tokens.unpauseMinting();
        _mint(holder, _id(_CLASS), 1);
    }

    function test_PauseMinting_KeepsWhoWasAppointedAndDismissedMeanwhile() public {
        bytes32 role = tokens.MINTER_ROLE();
        vm.prank(pauser);
        tokens.pauseMinting();
        tokens.revokeRole(role, minter);
        tokens.grantRole(role, other);
        vm.assertFalse(tokens.hasRole(role, other));
        vm.prank(pauser);
        tokens.unpauseMinting();
        vm.assertTrue(tokens.hasRole(role, other));
        vm.assertFalse(tokens.hasRole(role, minter));
    }

    function test_PauseMinting_VisitsAMinterWhoLostAnotherRole() public {
        tokens.grantRole(tokens.REGISTRAR_ROLE(), minter);
        tokens.revokeRole(tokens.REGISTRAR_ROLE(), minter);
        vm.prank(pauser);
        tokens.pauseMinting();
        vm.assertFalse(tokens.hasRole(tokens.MINTER_ROLE(), minter));
    }

    function test_GrantRole_BoundsTheMintersThatPausingVisits() public {
        bytes32 role = tokens.MINTER_ROLE();
        for (uint160 i = 1; i < 32; ++i) tokens.grantRole(role, address(i));
        vm.expectRevert(Entitlements.TooManyMinters.selector);
        tokens.grantRole(role, other);
        vm.prank(pauser);
        tokens.pauseMinting();
        for (uint160 i = 1; i < 32; ++i) vm.assertFalse(tokens.hasRole(role, address(i)));
    }

    function test_PauseMinting_IsForThePauser() public {
        vm.startPrank(minter);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.pauseMinting();
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.unpauseMinting();
        vm.stopPrank();
    }

    // transfers

    function test_Transfer_OfASoulboundTokenIsRefusedInEveryForm() public {
        _mint(holder, _id(_BOUND), 1);
        (uint256[] memory ids, uint256[] memory amounts) = _pair(0, 1);
        vm.startPrank(holder);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.Soulbound.selector, _id(_BOUND)));
        tokens.safeTransferFrom(holder, other, _id(_BOUND), 1, "");
        vm.expectRevert(abi.encodeWithSelector(Entitlements.Soulbound.selector, _id(_BOUND)));
        tokens.safeBatchTransferFrom(holder, other, ids, amounts, "");
        tokens.setApprovalForAll(other, true);
        vm.stopPrank();
        vm.prank(other);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.Soulbound.selector, _id(_BOUND)));
        tokens.safeTransferFrom(holder, other, _id(_BOUND), 1, "");
    }

    function test_Transfer_MovesAccessAndLeavesTheSupply() public {
        _mint(holder, _id(_CLASS), 1);
        vm.prank(holder);
        tokens.safeTransferFrom(holder, other, _id(_CLASS), 1, "");
        vm.assertFalse(tokens.hasAccess(holder, _CLASS));
        vm.assertTrue(tokens.hasAccess(other, _CLASS));
        vm.assertEq(tokens.classOf(_CLASS).supply, 1);
    }

    // burn, revoke, burnExpired

    function test_Burn_IsForTheHolderAndThoseTheyApproved() public {
        _mint(holder, _id(_CLASS), 3);
        vm.prank(other);
        vm.expectPartialRevert(IERC1155Errors.ERC1155MissingApprovalForAll.selector);
        tokens.burn(holder, _id(_CLASS), 1);
        vm.startPrank(holder);
        tokens.burn(holder, _id(_CLASS), 1);
        tokens.setApprovalForAll(other, true);
        vm.stopPrank();
        vm.prank(other);
        tokens.burn(holder, _id(_CLASS), 1);
        vm.assertEq(tokens.classOf(_CLASS).supply, 1);
    }

    function test_BurnBatch_MakesRoomUnderTheCap() public {
        (uint256[] memory ids, uint256[] memory amounts) = _pair(10, 10);
        vm.prank(minter);
        tokens.mintBatch(holder, ids, amounts);
        vm.prank(other);
        vm.expectPartialRevert(IERC1155Errors.ERC1155MissingApprovalForAll.selector);
        tokens.burnBatch(holder, ids, amounts);
        vm.prank(holder);
        tokens.burnBatch(holder, ids, amounts);
        vm.assertEq(tokens.classOf(_BOUND).supply, 0);
        _mint(other, _id(_BOUND), 10);
    }

    function test_Revoke_TakesATokenBackForAReason() public {
        _mint(holder, _id(_BOUND), 1);
        vm.prank(other);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        tokens.revoke(holder, _id(_BOUND), 1, "refunded");
        vm.expectEmit(address(tokens));
        emit Entitlements.Revoked(holder, _id(_BOUND), 1, "refunded");
        vm.prank(revoker);
        tokens.revoke(holder, _id(_BOUND), 1, "refunded");
        vm.assertFalse(tokens.hasAccess(holder, _BOUND));
    }

    function test_BurnExpired_IsForAnyoneOnceTheEpochIsOver() public {
        uint256 id = tokens.currentId(_MONTHLY);
        _mint(holder, id, 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NotExpired.selector, id));
        tokens.burnExpired(holder, id, 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NotExpired.selector, _id(_CLASS)));
        tokens.burnExpired(holder, _id(_CLASS), 1);
        vm.warp((uint64(id) + 1) * uint256(_MONTH));
        tokens.burnExpired(holder, id, 1);
        vm.assertEq(tokens.classOf(_MONTHLY).supply, 0);
    }

    // hasAccess

    function test_HasAccess_EndsWithTheEpoch() public {
        uint256 id = tokens.currentId(_MONTHLY);
        _mint(holder, id, 1);
        uint256 ends = (uint64(id) + 1) * uint256(_MONTH);
        vm.warp(ends - 1);
        vm.assertTrue(tokens.hasAccess(holder, _MONTHLY));
        vm.warp(ends);
        vm.assertFalse(tokens.hasAccess(holder, _MONTHLY));
        vm.assertEq(tokens.balanceOf(holder, id), 1);
    }

    function test_HasAccess_OfAPeriodicClassAlsoByTheTokenThatNeverEnds() public {
        _mint(holder, _id(_MONTHLY), 1);
        vm.warp(block.timestamp + 3650 days);
        vm.assertTrue(tokens.hasAccess(holder, _MONTHLY));
    }

    function test_HasAccess_NeedsAnActiveKnownClass() public {
        _mint(holder, _id(_CLASS), 1);
        vm.prank(registrar);
        tokens.setActive(_CLASS, false);
        vm.assertFalse(tokens.hasAccess(holder, _CLASS));
        vm.assertFalse(tokens.hasAccess(holder, 99));
        // A class number that would run over into another's ids is nobody's.
        vm.assertFalse(tokens.hasAccess(holder, _CLASS | (1 << 192)));
        vm.prank(registrar);
        tokens.setActive(_CLASS, true);
        vm.assertTrue(tokens.hasAccess(holder, _CLASS));
    }

    function test_HasAccess_OfTheLargestClass() public {
        vm.prank(registrar);
        tokens.createClass(type(uint192).max, 1, 0, false, "");
        _mint(holder, _id(type(uint192).max), 1);
        vm.assertTrue(tokens.hasAccess(holder, type(uint192).max));
    }

    function test_HasAccess_OfTheShortestPeriodIsForOneSecond() public {
        vm.prank(registrar);
        tokens.createClass(11, 10, 1, false, "");
        vm.assertEq(tokens.currentId(11), _id(11) | block.timestamp);
        _mint(holder, tokens.currentId(11), 1);
        vm.assertTrue(tokens.hasAccess(holder, 11));
        vm.warp(block.timestamp + 1);
        vm.assertFalse(tokens.hasAccess(holder, 11));
    }

    function test_CurrentId_WithoutAPeriodIsTheTokenThatNeverEnds() public view {
        vm.assertEq(tokens.currentId(_CLASS), _id(_CLASS));
    }

    function test_Mint_OfAnInactiveClassSaysSoWhetherSoulboundOrNot() public {
        vm.prank(registrar);
        tokens.setActive(_CLASS, false);
        vm.prank(minter);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.ClassInactive.selector, _CLASS));
        tokens.mint(holder, _id(_CLASS), 1);
    }

    function test_SetCap_IsNotBelowWhatExists() public {
        _mint(holder, _id(_CLASS), 4);
        vm.startPrank(registrar);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.CapBelowSupply.selector, 3, 4));
        tokens.setCap(_CLASS, 3);
        tokens.setCap(_CLASS, 4);
        vm.stopPrank();
        vm.prank(minter);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.CapReached.selector, _CLASS, 4));
        tokens.mint(holder, _id(_CLASS), 1);
    }

    function test_SupportsInterface_OfTokensAndRoles() public view {
        vm.assertTrue(tokens.supportsInterface(0xd9b67a26));
        vm.assertTrue(tokens.supportsInterface(type(IAccessControl).interfaceId));
        vm.assertFalse(tokens.supportsInterface(0xffffffff));
    }

    function _id(uint256 class) private pure returns (uint256) {
        return class << 64;
    }

    function _mint(address to, uint256 id, uint64 amount) private {
        vm.prank(minter);
        tokens.mint(to, id, amount);
    }

    function _pair(uint256 first, uint256 second) private pure returns (uint256[] memory ids, uint256[] memory amounts) {
        ids = new uint256[](2);
        amounts = new uint256[](2);
        (ids[0], ids[1]) = (_id(_CLASS), _id(_BOUND));
        (amounts[0], amounts[1]) = (first, second);
    }

    /// @dev An escrow that may take what the deal needs from this contract.
    function _deal() private returns (Escrow escrow, Escrow.Terms memory terms) {
        TestUSDC usdc = new TestUSDC(address(this));
        escrow = new Escrow(address(usdc), IPermit2(address(0)), address(this), address(this), 0);
        terms = Escrow.Terms(holder, other, 5e6, 0, 250, 1);
        usdc.mint(address(this), terms.amount);
        usdc.approve(address(escrow), terms.amount);
    }

    function _voucher() private view returns (Entitlements.Voucher memory) {
        return Entitlements.Voucher(
            holder, _id(_CLASS), 1, 3, uint48(block.timestamp + 60), address(0), keccak256("deal")
        );
    }
}
