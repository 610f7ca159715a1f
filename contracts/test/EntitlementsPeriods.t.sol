// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {IERC1155Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {Entitlements} from "../src/Entitlements.sol";
import {AccountFixture} from "./support/AccountFixture.sol";
import {ContractWallet} from "./support/ContractWallet.sol";

/// @notice Rights for a period: vouchers of this epoch and the next, to the second, and tokens that are passed on.
contract EntitlementsPeriodsTest is AccountFixture {
    uint256 private constant _MINTER_KEY = 0x314;
    uint256 private constant _FREE = 7;
    uint256 private constant _BOUND = 8;
    uint32 private constant _MONTH = 30 days;
    uint64 private constant _CAP = 4;

    Entitlements private tokens;
    address private minter = vm.addr(_MINTER_KEY);
    address private revoker = address(0x4E0);
    address private holder = address(0x401D);
    address private other = address(0x07E4);
    uint64 private nonces;

    function setUp() public override {
        super.setUp();
        tokens = new Entitlements("", address(this), 2 days);
        tokens.grantRole(tokens.MINTER_ROLE(), minter);
        tokens.grantRole(tokens.REVOKER_ROLE(), revoker);
        tokens.grantRole(tokens.REGISTRAR_ROLE(), address(this));
        tokens.createClass(_FREE, _CAP, _MONTH, false, "");
        tokens.createClass(_BOUND, _CAP, _MONTH, true, "");
    }

    // vouchers of an epoch

    function test_Voucher_OfThisEpochGivesAccessUntilTheSecondItEnds() public {
        uint256 id = tokens.currentId(_BOUND);
        _bring(holder, id);
        vm.assertTrue(tokens.hasAccess(holder, _BOUND));
        vm.warp(_start(id + 1) - 1);
        vm.assertTrue(tokens.hasAccess(holder, _BOUND));
        vm.warp(_start(id + 1));
        vm.assertFalse(tokens.hasAccess(holder, _BOUND));
    }

    function test_Voucher_OfTheNextEpochGivesAccessFromTheSecondItStarts() public {
        uint256 next = tokens.currentId(_BOUND) + 1;
        _bring(holder, next);
        vm.assertFalse(tokens.hasAccess(holder, _BOUND));
        vm.warp(_start(next) - 1);
        vm.assertFalse(tokens.hasAccess(holder, _BOUND));
        vm.warp(_start(next));
        vm.assertTrue(tokens.hasAccess(holder, _BOUND));
        vm.warp(_start(next + 1));
        vm.assertFalse(tokens.hasAccess(holder, _BOUND));
    }

    function test_Voucher_OfBothLeavesNoGapBetweenThem() public {
        uint256 id = tokens.currentId(_FREE);
        _bring(holder, id);
        _bring(holder, id + 1);
        vm.assertEq(tokens.balanceOf(holder, id) + tokens.balanceOf(holder, id + 1), 2);
        for (uint256 at = _start(id + 1) - 1; at <= _start(id + 1) + 1; ++at) {
            vm.warp(at);
            vm.assertTrue(tokens.hasAccess(holder, _FREE));
        }
        vm.warp(_start(id + 2));
        vm.assertFalse(tokens.hasAccess(holder, _FREE));
    }

    function test_Voucher_ThatIsBroughtAfterItsEpochGivesNothing() public {
        uint256 id = tokens.currentId(_FREE);
        (Entitlements.Voucher memory voucher, bytes memory signature) = _voucher(holder, id);
        vm.warp(_start(id + 1));
        voucher.validUntil = uint48(block.timestamp);
        signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
        tokens.mintWithVoucher(voucher, minter, signature);
        vm.assertEq(tokens.balanceOf(holder, id), 1);
        vm.assertFalse(tokens.hasAccess(holder, _FREE));
    }

    function test_Voucher_OfOneEpochIsNoneForAnother() public {
        uint256 id = tokens.currentId(_FREE);
        (Entitlements.Voucher memory voucher, bytes memory signature) = _voucher(holder, id);
        voucher.id = id + 1;
        vm.expectRevert(abi.encodeWithSelector(Entitlements.VoucherNotSigned.selector, minter));
        tokens.mintWithVoucher(voucher, minter, signature);
    }

    function test_Voucher_OfAnEpochCountsUnderTheCapOfItsClass() public {
        uint256 id = tokens.currentId(_FREE);
        for (uint256 i = 0; i < _CAP; ++i) _bring(holder, id + i % 2);
        (Entitlements.Voucher memory voucher, bytes memory signature) = _voucher(other, id + 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.CapReached.selector, _FREE, _CAP));
        tokens.mintWithVoucher(voucher, minter, signature);
        vm.assertFalse(tokens.nonceUsed(other, voucher.nonce));
    }

    function testFuzz_Access_IsOfExactlyTheEpochThatIsNow(uint32 period, uint40 at, uint40 minted) public {
        period = uint32(bound(period, 1, type(uint32).max));
        tokens.createClass(11, 1, period, true, "");
        minted = uint40(bound(minted, 1, type(uint40).max));
        _mint(holder, 11 << 64 | minted, 1);
        vm.warp(at);
        bool now_ = at >= uint256(minted) * period && at < (uint256(minted) + 1) * period;
        vm.assertTrue(tokens.hasAccess(holder, 11) == now_);
        vm.assertTrue((tokens.currentId(11) == (11 << 64 | minted)) == now_);
    }

    // passing on

    function test_Transfer_OfAnEpochMovesAccessToAKey() public {
        uint256 id = tokens.currentId(_FREE);
        _mint(holder, id, 1);
        _mint(holder, id + 1, 1);
        vm.prank(holder);
        tokens.safeTransferFrom(holder, other, id, 1, "");
        vm.assertFalse(tokens.hasAccess(holder, _FREE));
        vm.assertTrue(tokens.hasAccess(other, _FREE));
        vm.assertEq(tokens.classOf(_FREE).supply, 2);
        // The epoch to come stayed where it was.
        vm.warp(_start(id + 1));
        vm.assertTrue(tokens.hasAccess(holder, _FREE));
        vm.assertFalse(tokens.hasAccess(other, _FREE));
    }

    function test_Transfer_OfAnEpochToComeIsGoodForWhoeverHoldsItThen() public {
        uint256 next = tokens.currentId(_FREE) + 1;
        _mint(holder, next, 1);
        vm.prank(holder);
        tokens.safeTransferFrom(holder, other, next, 1, "");
        vm.assertFalse(tokens.hasAccess(other, _FREE));
        vm.warp(_start(next));
        vm.assertTrue(tokens.hasAccess(other, _FREE));
        vm.assertFalse(tokens.hasAccess(holder, _FREE));
    }

    function test_Transfer_OfAnEpochThatIsOverGivesNothing() public {
        uint256 id = tokens.currentId(_FREE);
        _mint(holder, id, 1);
        vm.warp(_start(id + 1));
        vm.prank(holder);
        tokens.safeTransferFrom(holder, other, id, 1, "");
        vm.assertEq(tokens.balanceOf(other, id), 1);
        vm.assertFalse(tokens.hasAccess(other, _FREE));
    }

    function test_Transfer_OfAListMovesEveryEpochOfIt() public {
        (uint256[] memory ids, uint256[] memory amounts) = _everyKind(_FREE);
        vm.startPrank(holder);
        tokens.safeBatchTransferFrom(holder, other, ids, amounts, "");
        vm.stopPrank();
        for (uint256 i = 0; i < ids.length; ++i) {
            vm.assertEq(tokens.balanceOf(other, ids[i]), amounts[i]);
            vm.assertEq(tokens.balanceOf(holder, ids[i]), 0);
        }
        vm.assertTrue(tokens.hasAccess(other, _FREE));
        vm.assertFalse(tokens.hasAccess(holder, _FREE));
    }

    function test_Account_TakesTokensInEveryWay() public {
        uint256 id = tokens.currentId(_FREE);
        _bring(address(account), id);
        vm.assertTrue(tokens.hasAccess(address(account), _FREE));
        _mint(holder, _FREE << 64, 1);
        _mint(holder, id + 1, 1);
        vm.prank(holder);
        tokens.safeTransferFrom(holder, address(account), _FREE << 64, 1, "");
        (uint256[] memory ids, uint256[] memory amounts) = (new uint256[](1), new uint256[](1));
        (ids[0], amounts[0]) = (id + 1, 1);
        vm.prank(holder);
        tokens.safeBatchTransferFrom(holder, address(account), ids, amounts, "");
        vm.prank(minter);
        tokens.mintBatch(address(account), ids, amounts);
        vm.assertEq(tokens.balanceOf(address(account), _FREE << 64), 1);
        vm.assertEq(tokens.balanceOf(address(account), id), 1);
        vm.assertEq(tokens.balanceOf(address(account), id + 1), 2);
    }

    function test_Account_PassesOnByItsOwnersOperation() public {
        (uint256[] memory ids, uint256[] memory amounts) = _everyKind(_FREE);
        vm.prank(holder);
        tokens.safeBatchTransferFrom(holder, address(account), ids, amounts, "");
        bytes memory single = abi.encodeCall(tokens.safeTransferFrom, (address(account), other, ids[0], 1, ""));
        sendAsOwner(call(address(tokens), 0, single));
        vm.assertEq(tokens.balanceOf(other, ids[0]), 1);
        amounts[0] = 0;
        bytes memory list = abi.encodeCall(tokens.safeBatchTransferFrom, (address(account), other, ids, amounts, ""));
        sendAsOwner(call(address(tokens), 0, list));
        vm.assertEq(tokens.balanceOf(other, ids[1]), 1);
        vm.assertEq(tokens.balanceOf(other, ids[2]), 1);
        vm.assertFalse(tokens.hasAccess(address(account), _FREE));
    }

    function test_Account_OfAKeyThatDelegatesTakesTokens() public {
        address key = vm.addr(0xDE1E);
        vm.signAndAttachDelegation(address(factory.IMPLEMENTATION()), 0xDE1E);
        (uint256[] memory ids, uint256[] memory amounts) = _everyKind(_FREE);
        vm.prank(holder);
        tokens.safeBatchTransferFrom(holder, key, ids, amounts, "");
        vm.assertTrue(key.code.length != 0 && tokens.hasAccess(key, _FREE));
        _mint(key, ids[1], 1);
        vm.assertEq(tokens.balanceOf(key, ids[1]), 2);
    }

    function test_Transfer_ToAContractThatTakesNoneIsRefusedInEveryForm() public {
        ContractWallet wallet = new ContractWallet(holder);
        (uint256[] memory ids, uint256[] memory amounts) = _everyKind(_FREE);
        bytes memory refusal = abi.encodeWithSelector(IERC1155Errors.ERC1155InvalidReceiver.selector, address(wallet));
        vm.startPrank(holder);
        vm.expectRevert(refusal);
        tokens.safeTransferFrom(holder, address(wallet), ids[1], 1, "");
        vm.expectRevert(refusal);
        tokens.safeBatchTransferFrom(holder, address(wallet), ids, amounts, "");
        vm.stopPrank();
        vm.assertTrue(tokens.hasAccess(holder, _FREE));
    }

    function test_Soulbound_StaysInEveryFormAndEpoch() public {
        (uint256[] memory ids, uint256[] memory amounts) = _everyKind(_BOUND);
        vm.startPrank(holder);
        for (uint256 i = 0; i < ids.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Entitlements.Soulbound.selector, ids[i]));
            tokens.safeTransferFrom(holder, other, ids[i], 1, "");
            vm.expectRevert(abi.encodeWithSelector(Entitlements.Soulbound.selector, ids[i]));
            tokens.safeTransferFrom(holder, address(account), ids[i], 1, "");
        }
        vm.expectRevert(abi.encodeWithSelector(Entitlements.Soulbound.selector, ids[0]));
        tokens.safeBatchTransferFrom(holder, other, ids, amounts, "");
        vm.stopPrank();
        // It does not come free when its time is over either.
        vm.warp(_start(ids[1] + 1));
        vm.prank(holder);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.Soulbound.selector, ids[1]));
        tokens.safeTransferFrom(holder, other, ids[1], 1, "");
    }

    function test_Soulbound_HoldsBackAListThatBeginsWithAFreeToken() public {
        uint256 id = tokens.currentId(_FREE);
        _mint(holder, id, 1);
        _mint(holder, tokens.currentId(_BOUND), 1);
        (uint256[] memory ids, uint256[] memory amounts) = (new uint256[](2), new uint256[](2));
        (ids[0], ids[1], amounts[0], amounts[1]) = (id, tokens.currentId(_BOUND), 1, 1);
        vm.prank(holder);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.Soulbound.selector, ids[1]));
        tokens.safeBatchTransferFrom(holder, other, ids, amounts, "");
        vm.assertEq(tokens.balanceOf(holder, id), 1);
    }

    function test_Soulbound_InAnAccountStaysThere() public {
        uint256 id = tokens.currentId(_BOUND);
        _bring(address(account), id);
        bytes memory data = abi.encodeCall(tokens.safeTransferFrom, (address(account), other, id, 1, ""));
        sendAsOwner(call(address(tokens), 0, data));
        vm.assertEq(tokens.balanceOf(address(account), id), 1);
        vm.assertEq(tokens.balanceOf(other, id), 0);
    }

    // taking back

    function test_Revoke_TakesAnEpochFromWhoeverHoldsItNow() public {
        uint256 id = tokens.currentId(_FREE);
        _mint(holder, id, 1);
        vm.prank(holder);
        tokens.safeTransferFrom(holder, address(account), id, 1, "");
        vm.startPrank(revoker);
        vm.expectRevert(abi.encodeWithSelector(IERC1155Errors.ERC1155InsufficientBalance.selector, holder, 0, 1, id));
        tokens.revoke(holder, id, 1, "refunded");
        vm.expectEmit(address(tokens));
        emit Entitlements.Revoked(address(account), id, 1, "refunded");
        tokens.revoke(address(account), id, 1, "refunded");
        vm.stopPrank();
        vm.assertFalse(tokens.hasAccess(address(account), _FREE));
        vm.assertEq(tokens.classOf(_FREE).supply, 0);
    }

    function test_Revoke_LeavesTheOtherEpochsAndWhatNeverEnds() public {
        (uint256[] memory ids,) = _everyKind(_FREE);
        vm.startPrank(revoker);
        tokens.revoke(holder, ids[0], 1, "refunded");
        vm.assertTrue(tokens.hasAccess(holder, _FREE));
        tokens.revoke(holder, ids[1], 1, "refunded");
        vm.assertFalse(tokens.hasAccess(holder, _FREE));
        vm.stopPrank();
        vm.warp(_start(ids[2]));
        vm.assertTrue(tokens.hasAccess(holder, _FREE));
    }

    function test_Revoke_IsForNobodyElse() public {
        uint256 id = tokens.currentId(_FREE);
        _mint(other, id, 1);
        address[3] memory callers = [minter, holder, address(this)];
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.prank(callers[i]);
            vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
            tokens.revoke(other, id, 1, "mine");
        }
    }

    // what is over

    function test_BurnExpired_MakesRoomForTheNextEpochs() public {
        uint256 id = tokens.currentId(_BOUND);
        _mint(holder, id, 2);
        _mint(address(account), id, _CAP - 2);
        vm.warp(_start(id + 1));
        vm.expectRevert(abi.encodeWithSelector(Entitlements.CapReached.selector, _BOUND, _CAP));
        _mint(holder, id + 1, 1);
        vm.startPrank(stranger);
        tokens.burnExpired(holder, id, 1);
        tokens.burnExpired(address(account), id, _CAP - 2);
        vm.stopPrank();
        _mint(holder, id + 1, _CAP - 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.CapReached.selector, _BOUND, _CAP));
        _mint(holder, id + 1, 1);
        vm.assertTrue(tokens.hasAccess(holder, _BOUND));
        vm.assertEq(tokens.balanceOf(holder, id), 1);
    }

    function test_BurnExpired_FollowsATokenThatWasPassedOn() public {
        uint256 id = tokens.currentId(_FREE);
        _mint(holder, id, 1);
        vm.prank(holder);
        tokens.safeTransferFrom(holder, other, id, 1, "");
        vm.warp(_start(id + 1) - 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NotExpired.selector, id));
        tokens.burnExpired(other, id, 1);
        vm.warp(_start(id + 1));
        vm.expectPartialRevert(IERC1155Errors.ERC1155InsufficientBalance.selector);
        tokens.burnExpired(holder, id, 1);
        tokens.burnExpired(other, id, 1);
        vm.assertEq(tokens.classOf(_FREE).supply, 0);
    }

    function test_BurnExpired_LeavesWhatRunsWhatComesAndWhatNeverEnds() public {
        (uint256[] memory ids,) = _everyKind(_FREE);
        for (uint256 i = 0; i < ids.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Entitlements.NotExpired.selector, ids[i]));
            tokens.burnExpired(holder, ids[i], 1);
        }
        uint256 last = _FREE << 64 | type(uint64).max;
        _mint(holder, last, 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NotExpired.selector, last));
        tokens.burnExpired(holder, last, 1);
    }

    // a class that is switched off

    function test_InactiveClass_GivesNoAccessInAnyEpochAndMovesOn() public {
        uint256 id = tokens.currentId(_FREE);
        _mint(holder, id, 1);
        tokens.setActive(_FREE, false);
        vm.assertFalse(tokens.hasAccess(holder, _FREE));
        vm.prank(holder);
        tokens.safeTransferFrom(holder, other, id, 1, "");
        (Entitlements.Voucher memory voucher, bytes memory signature) = _voucher(holder, id + 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.ClassInactive.selector, _FREE));
        tokens.mintWithVoucher(voucher, minter, signature);
        tokens.setActive(_FREE, true);
        vm.assertTrue(tokens.hasAccess(other, _FREE));
        vm.assertFalse(tokens.hasAccess(holder, _FREE));
    }

    function _start(uint256 id) private pure returns (uint256) {
        return uint256(uint64(id)) * _MONTH;
    }

    function _mint(address to, uint256 id, uint64 amount) private {
        vm.prank(minter);
        tokens.mint(to, id, amount);
    }

    /// @dev One token that never ends, one of this epoch, one of the next, all the holder's.
    function _everyKind(uint256 class) private returns (uint256[] memory ids, uint256[] memory amounts) {
        (ids, amounts) = (new uint256[](3), new uint256[](3));
        (ids[0], ids[1], ids[2]) = (class << 64, tokens.currentId(class), tokens.currentId(class) + 1);
        for (uint256 i = 0; i < 3; ++i) {
            amounts[i] = 1;
            _mint(holder, ids[i], 1);
        }
    }

    function _voucher(address to, uint256 id)
        private
        returns (Entitlements.Voucher memory voucher, bytes memory signature)
    {
        voucher = Entitlements.Voucher(to, id, 1, ++nonces, uint48(block.timestamp), address(0), keccak256("deal"));
        signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
    }

    function _bring(address to, uint256 id) private {
        (Entitlements.Voucher memory voucher, bytes memory signature) = _voucher(to, id);
        vm.prank(stranger);
        tokens.mintWithVoucher(voucher, minter, signature);
    }
}
