// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Escrow} from "../src/Escrow.sol";
import {BlockingUSDC} from "./support/BlockingUSDC.sol";
import {EscrowFixture} from "./support/EscrowFixture.sol";
import {Bomb, Glutton, Picky, Reenterer} from "./support/Receivers.sol";

/// @notice Every way out of a deal, who may take it, and what happens to those who cannot be paid.
contract EscrowExitsTest is EscrowFixture {
    uint256 private constant _FEE_OF_PRICE = 25_000;

    // release

    function test_Release_PaysTheSellerLessTheFee() public {
        bytes32 id = open(terms(1));
        vm.expectEmit(address(escrow));
        emit Escrow.Released(id, PRICE - _FEE_OF_PRICE, _FEE_OF_PRICE, 0);
        vm.prank(orchestrator);
        escrow.release(terms(1));
        assertDeal(id, Escrow.Status.Released, 0);
        vm.assertEq(usdc.balanceOf(seller), PRICE - _FEE_OF_PRICE);
        vm.assertEq(escrow.fees(), _FEE_OF_PRICE);
    }

    function test_Release_IsForTheBuyerAndTheOrchestrator() public {
        open(terms(1));
        address[4] memory others = [seller, arbiter, admin, stranger];
        for (uint256 i = 0; i < 4; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(abi.encodeWithSelector(Escrow.NotAllowed.selector, others[i]));
            escrow.release(terms(1));
        }
        vm.prank(buyer);
        escrow.release(terms(1));
    }

    function test_Release_WorksAfterTheTimeUntilSomebodyExpires() public {
        open(terms(1));
        expired();
        vm.prank(buyer);
        escrow.release(terms(1));
        vm.expectPartialRevert(Escrow.DealNotOpen.selector);
        escrow.expire(terms(1));
    }

    function test_Release_OfUnknownTermsIsRefused() public {
        vm.prank(orchestrator);
        vm.expectRevert(
            abi.encodeWithSelector(Escrow.DealNotOpen.selector, escrow.dealId(terms(9)), Escrow.Status.None)
        );
        escrow.release(terms(9));
    }

    function test_Release_OfCoin() public {
        openCoin(terms(1));
        vm.prank(buyer);
        coin.release(terms(1));
        vm.assertEq(seller.balance, PRICE - _FEE_OF_PRICE);
        coin.sweepFees();
        vm.assertEq(treasury.balance, _FEE_OF_PRICE);
        vm.assertEq(address(coin).balance, 0);
    }

    // releasePart

    function test_ReleasePart_KeepsTheRest() public {
        bytes32 id = open(terms(1));
        vm.prank(buyer);
        escrow.releasePart(terms(1), 400_000);
        assertDeal(id, Escrow.Status.Open, 600_000);
        vm.assertEq(usdc.balanceOf(seller), 390_000);
        vm.prank(seller);
        escrow.refund(terms(1));
        vm.assertEq(usdc.balanceOf(buyer), FUNDS - 400_000);
    }

    function test_ReleasePart_OfAllEndsTheDeal() public {
        bytes32 id = open(terms(1));
        vm.prank(buyer);
        escrow.releasePart(terms(1), PRICE);
        assertDeal(id, Escrow.Status.Released, 0);
    }

    function test_ReleasePart_RefusesNothingMoreThanThereIsAndStrangers() public {
        open(terms(1));
        vm.prank(buyer);
        vm.expectRevert(Escrow.NothingToPay.selector);
        escrow.releasePart(terms(1), 0);
        vm.prank(buyer);
        vm.expectRevert(abi.encodeWithSelector(Escrow.TooMuch.selector, PRICE + 1, PRICE));
        escrow.releasePart(terms(1), PRICE + 1);
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(Escrow.NotAllowed.selector, stranger));
        escrow.releasePart(terms(1), 1);
    }

    function testFuzz_ReleasePart_InAnyPartsTakesTheSameFee(uint128 amount, uint128 first, uint128 second) public {
        Escrow.Terms memory deal = terms(1);
        deal.amount = uint128(bound(amount, 3, FUNDS));
        first = uint128(bound(first, 1, deal.amount - 2));
        second = uint128(bound(second, 1, deal.amount - first - 1));
        open(deal);
        vm.startPrank(buyer);
        escrow.releasePart(deal, first);
        escrow.releasePart(deal, second);
        escrow.release(deal);
        vm.stopPrank();
        uint256 fee = uint256(deal.amount) * FEE / 10_000;
        vm.assertEq(escrow.fees(), fee);
        vm.assertEq(usdc.balanceOf(seller), deal.amount - fee);
    }

    function testFuzz_FeeOf_IsNeverMoreThanItsShare(uint128 amount, uint16 feeBps) public view {
        feeBps = uint16(bound(feeBps, 0, escrow.MAX_FEE_BPS()));
        vm.assertLe(escrow.feeOf(0, amount, feeBps), amount / 10);
    }

    // refund

    function test_Refund_GivesAllBack() public {
        bytes32 id = open(terms(1));
        vm.expectEmit(address(escrow));
        emit Escrow.Refunded(id, PRICE);
        vm.prank(orchestrator);
        escrow.refund(terms(1));
        assertDeal(id, Escrow.Status.Refunded, 0);
        vm.assertEq(usdc.balanceOf(buyer), FUNDS);
        vm.assertEq(escrow.fees(), 0);
    }

    function test_Refund_IsForTheSellerAndTheOrchestrator() public {
        open(terms(1));
        address[4] memory others = [buyer, arbiter, admin, stranger];
        for (uint256 i = 0; i < 4; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(abi.encodeWithSelector(Escrow.NotAllowed.selector, others[i]));
            escrow.refund(terms(1));
        }
        vm.prank(seller);
        escrow.refund(terms(1));
    }

    // expire

    function test_Expire_IsForAnyoneAfterADay() public {
        bytes32 id = open(terms(1));
        vm.warp(block.timestamp + 24 hours - 1);
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(Escrow.DealNotExpired.selector, id, block.timestamp + 1));
        escrow.expire(terms(1));
        vm.warp(block.timestamp + 1);
        vm.expectEmit(address(escrow));
        emit Escrow.Expired(id, PRICE);
        vm.prank(stranger);
        escrow.expire(terms(1));
        assertDeal(id, Escrow.Status.Expired, 0);
        vm.assertEq(usdc.balanceOf(buyer), FUNDS);
    }

    // resolve

    function testFuzz_Resolve_SplitsWhatIsHeld(uint128 released, uint128 forSeller) public {
        released = uint128(bound(released, 1, PRICE - 1));
        forSeller = uint128(bound(forSeller, 0, PRICE - released));
        bytes32 id = open(terms(1));
        vm.prank(buyer);
        escrow.releasePart(terms(1), released);
        vm.prank(arbiter);
        escrow.resolve(terms(1), forSeller);
        assertDeal(id, Escrow.Status.Resolved, 0);
        uint256 fee = (uint256(released) + forSeller) * FEE / 10_000;
        vm.assertEq(usdc.balanceOf(seller), released + forSeller - fee);
        vm.assertEq(usdc.balanceOf(buyer), FUNDS - released - forSeller);
        vm.assertEq(usdc.balanceOf(address(escrow)), fee);
    }

    function test_Resolve_IsForTheArbiterWithinWhatIsHeld() public {
        open(terms(1));
        bytes32 role = escrow.ARBITER_ROLE();
        vm.prank(orchestrator);
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, orchestrator, role)
        );
        escrow.resolve(terms(1), 0);
        vm.prank(arbiter);
        vm.expectRevert(abi.encodeWithSelector(Escrow.TooMuch.selector, PRICE + 1, PRICE));
        escrow.resolve(terms(1), PRICE + 1);
    }

    // all exits

    function testFuzz_Exits_EndADealOnce(uint8 first, uint8 second) public {
        open(terms(1));
        expired();
        _exit(first);
        (bool done,) = address(this).call(abi.encodeCall(this.exitAgain, (second)));
        vm.assertFalse(done);
    }

    function exitAgain(uint8 which) external {
        _exit(which);
    }

    function testFuzz_Exits_StayOpenWhilePaused(uint8 which) public {
        open(terms(1));
        expired();
        vm.prank(pauser);
        escrow.pauseDeposits();
        _exit(which);
        vm.assertEq(usdc.balanceOf(address(escrow)), escrow.fees());
    }

    function test_Exits_OfABatchAreAllOrNone() public {
        Escrow.Terms[] memory batch = new Escrow.Terms[](2);
        (batch[0], batch[1]) = (terms(1), terms(2));
        open(terms(1));
        vm.startPrank(orchestrator);
        vm.expectPartialRevert(Escrow.DealNotOpen.selector);
        escrow.releaseBatch(batch);
        vm.expectPartialRevert(Escrow.DealNotOpen.selector);
        escrow.refundBatch(batch);
        vm.stopPrank();
        open(terms(2));
        vm.expectPartialRevert(Escrow.DealNotExpired.selector);
        escrow.expireBatch(batch);
    }

    function test_Exits_OfABatchEndEveryDeal() public {
        for (uint128 kind = 0; kind < 3; ++kind) {
            Escrow.Terms[] memory batch = new Escrow.Terms[](2);
            (batch[0], batch[1]) = (terms(2 * kind), terms(2 * kind + 1));
            open(batch[0]);
            open(batch[1]);
            vm.startPrank(orchestrator);
            if (kind == 0) escrow.releaseBatch(batch);
            if (kind == 1) escrow.refundBatch(batch);
            expired();
            if (kind == 2) escrow.expireBatch(batch);
            vm.stopPrank();
        }
        vm.assertEq(usdc.balanceOf(seller), 2 * (PRICE - _FEE_OF_PRICE));
        vm.assertEq(usdc.balanceOf(buyer), FUNDS - 2 * PRICE);
    }

    // credit

    function test_Credit_IsWhatABlockedSellerGets() public {
        bytes32 id = open(terms(1));
        usdc.setBlocked(seller, true);
        vm.expectEmit(address(escrow));
        emit Escrow.Credited(seller, PRICE - _FEE_OF_PRICE);
        vm.prank(orchestrator);
        escrow.release(terms(1));
        assertDeal(id, Escrow.Status.Released, 0);
        vm.prank(seller);
        vm.expectRevert(abi.encodeWithSelector(BlockingUSDC.Blocked.selector, seller));
        escrow.withdrawCredit(seller);
        usdc.setBlocked(seller, false);
        vm.prank(seller);
        escrow.withdrawCredit(seller);
        vm.assertEq(usdc.balanceOf(seller), PRICE - _FEE_OF_PRICE);
        vm.assertEq(escrow.credit(seller), 0);
    }

    function test_Credit_IsWhatABlockedBuyerGets() public {
        open(terms(1));
        usdc.setBlocked(buyer, true);
        expired();
        escrow.expire(terms(1));
        vm.assertEq(escrow.credit(buyer), PRICE);
        vm.prank(buyer);
        escrow.withdrawCredit(stranger);
        vm.assertEq(usdc.balanceOf(stranger), PRICE);
    }

    function test_Credit_IsWhatSellersWhoRefuseCoinGet() public {
        address[2] memory refusers = [address(new Picky()), address(new Glutton())];
        for (uint128 i = 0; i < 2; ++i) {
            Escrow.Terms memory deal = terms(i);
            deal.seller = refusers[i];
            openCoin(deal);
            vm.prank(buyer);
            coin.release(deal);
            vm.assertEq(coin.credit(refusers[i]), PRICE - _FEE_OF_PRICE);
        }
        Picky picky = Picky(payable(refusers[0]));
        vm.expectRevert(abi.encodeWithSelector(Escrow.CoinTransferFailed.selector, refusers[0]));
        picky.withdraw(coin, refusers[0]);
        picky.withdraw(coin, stranger);
        vm.assertEq(stranger.balance, PRICE - _FEE_OF_PRICE);
    }

    function test_Coin_IsPaidWithoutReadingWhatTheReceiverReturns() public {
        Escrow.Terms memory deal = terms(1);
        deal.seller = address(new Bomb());
        openCoin(deal);
        vm.prank(buyer);
        coin.release(deal);
        vm.assertEq(deal.seller.balance, PRICE - _FEE_OF_PRICE);
    }

    /// @dev By no way in or out, whatever they might: this one is orchestrator, arbiter, and owed money of its own.
    function test_Coin_ReceiversCannotEnterAgain() public {
        Reenterer thief = new Reenterer{value: PRICE}(coin);
        vm.startPrank(admin);
        coin.grantRole(coin.ORCHESTRATOR_ROLE(), address(thief));
        coin.grantRole(coin.ARBITER_ROLE(), address(thief));
        vm.stopPrank();
        openCoin(terms(0));
        vm.prank(buyer);
        coin.release(terms(0));
        openCoin(terms(1));
        Escrow.Terms[] memory batch = new Escrow.Terms[](1);
        batch[0] = terms(1);
        bytes[14] memory calls = [
            abi.encodeCall(Escrow.depositNative, (terms(99))),
            // A coin escrow takes no token anyway; that its lock speaks first shows that these doors have it.
            abi.encodeCall(Escrow.deposit, (terms(99))),
            abi.encodeCall(Escrow.depositBatch, (batch)),
            abi.encodeCall(Escrow.depositWithAuthorization, (terms(99), 0, type(uint256).max, "")),
            abi.encodeCall(Escrow.depositWithPermit2, (terms(99), 0, type(uint256).max, "")),
            abi.encodeCall(Escrow.release, (terms(1))),
            abi.encodeCall(Escrow.releasePart, (terms(1), 1)),
            abi.encodeCall(Escrow.releaseBatch, (batch)),
            abi.encodeCall(Escrow.refund, (terms(1))),
            abi.encodeCall(Escrow.refundBatch, (batch)),
            abi.encodeCall(Escrow.expire, (terms(1))),
            abi.encodeCall(Escrow.expireBatch, (batch)),
            abi.encodeCall(Escrow.resolve, (terms(1), 1)),
            abi.encodeCall(Escrow.sweepFees, ())
        ];
        for (uint128 i = 0; i < calls.length; ++i) {
            Escrow.Terms memory deal = terms(10 + i);
            (deal.buyer, deal.seller) = (address(thief), address(thief));
            openCoin(deal);
            vm.warp(block.timestamp + 24 hours);
            thief.prepare(calls[i], i == 0 ? PRICE : 0);
            thief.refund(deal);
            vm.assertTrue(thief.tried());
            vm.assertTrue(thief.refused() == Escrow.Reentered.selector);
        }
        // Afterwards everybody may again.
        coin.expire(terms(1));
        vm.assertEq(buyer.balance, PRICE);
    }

    function test_Coin_ReceiversFetchNoCreditMeanwhile() public {
        Picky picky = new Picky();
        Escrow.Terms memory deal = terms(1);
        deal.seller = address(picky);
        openCoin(deal);
        vm.prank(buyer);
        coin.release(deal);
        Reenterer thief = new Reenterer(coin);
        thief.prepare(abi.encodeCall(Escrow.withdrawCredit, (address(thief))), 0);
        picky.withdraw(coin, address(thief));
        vm.assertTrue(thief.refused() == Escrow.Reentered.selector);
        vm.assertEq(address(thief).balance, PRICE - _FEE_OF_PRICE);
    }

    function test_WithdrawCredit_RefusesNothingAndNobody() public {
        vm.expectRevert(Escrow.NothingToPay.selector);
        escrow.withdrawCredit(stranger);
        open(terms(1));
        usdc.setBlocked(seller, true);
        vm.prank(buyer);
        escrow.release(terms(1));
        vm.prank(seller);
        vm.expectRevert(abi.encodeWithSelector(Escrow.InvalidParty.selector, address(escrow)));
        escrow.withdrawCredit(address(escrow));
    }

    // sweepFees

    function test_SweepFees_SendsThemToTheirRecipient() public {
        open(terms(1));
        vm.prank(buyer);
        escrow.release(terms(1));
        vm.prank(stranger);
        escrow.sweepFees();
        vm.assertEq(usdc.balanceOf(treasury), _FEE_OF_PRICE);
        vm.assertEq(usdc.balanceOf(address(escrow)), 0);
        vm.expectRevert(Escrow.NothingToPay.selector);
        escrow.sweepFees();
    }

    function test_SweepFees_WaitWhenTheRecipientIsBlockedAndNobodyElseDoes() public {
        usdc.setBlocked(treasury, true);
        open(terms(1));
        vm.prank(buyer);
        escrow.release(terms(1));
        vm.assertEq(usdc.balanceOf(seller), PRICE - _FEE_OF_PRICE);
        vm.expectRevert(abi.encodeWithSelector(BlockingUSDC.Blocked.selector, treasury));
        escrow.sweepFees();
        vm.prank(admin);
        escrow.setFeeRecipient(stranger);
        escrow.sweepFees();
        vm.assertEq(usdc.balanceOf(stranger), _FEE_OF_PRICE);
    }

    // administration

    function test_Construction_NeedsARecipientOfFees() public {
        vm.expectRevert(abi.encodeWithSelector(Escrow.InvalidParty.selector, address(0)));
        new Escrow(address(usdc), permit2, address(0), admin, 0);
    }

    function test_SetFee_CountsForNewDealsOnly() public {
        open(terms(1));
        vm.prank(admin);
        escrow.setFee(1_000);
        vm.prank(buyer);
        escrow.release(terms(1));
        vm.assertEq(escrow.fees(), _FEE_OF_PRICE);
        vm.expectRevert(abi.encodeWithSelector(Escrow.FeeIsNow.selector, 1_000));
        open(terms(2));
        vm.assertEq(escrow.market().feeBps, 1_000);
    }

    function test_SetFee_IsAtMostTenPercent() public {
        vm.prank(admin);
        vm.expectRevert(abi.encodeWithSelector(Escrow.FeeTooHigh.selector, 1_001));
        escrow.setFee(1_001);
    }

    function test_Administration_IsForItsRoles() public {
        vm.startPrank(stranger);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        escrow.setFee(0);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        escrow.setFeeRecipient(stranger);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        escrow.pauseDeposits();
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        escrow.unpauseDeposits();
        vm.stopPrank();
    }

    function test_UnpauseDeposits_OpensTheEntryAgain() public {
        vm.startPrank(pauser);
        escrow.pauseDeposits();
        vm.assertTrue(escrow.market().paused);
        escrow.unpauseDeposits();
        vm.stopPrank();
        open(terms(1));
    }

    function test_Administrator_ChangesOnlyAfterTheDelay() public {
        vm.prank(admin);
        escrow.beginDefaultAdminTransfer(stranger);
        vm.prank(stranger);
        vm.expectRevert();
        escrow.acceptDefaultAdminTransfer();
        vm.warp(block.timestamp + 2 days + 1);
        vm.prank(stranger);
        escrow.acceptDefaultAdminTransfer();
        vm.assertEq(escrow.defaultAdmin(), stranger);
    }

    function _exit(uint8 which) private {
        which %= 4;
        vm.prank(which == 3 ? arbiter : orchestrator);
        if (which == 0) escrow.release(terms(1));
        if (which == 1) escrow.refund(terms(1));
        if (which == 2) escrow.expire(terms(1));
        if (which == 3) escrow.resolve(terms(1), 1);
    }
}
