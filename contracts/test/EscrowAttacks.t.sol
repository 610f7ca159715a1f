// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {Escrow} from "../src/Escrow.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {EscrowFixture} from "./support/EscrowFixture.sol";
import {Permit2Double} from "./support/Permit2Double.sol";
import {GreedySweeper, Impatient} from "./support/Receivers.sol";

/// @notice Signatures taken elsewhere, fees cut away, receivers starved, calls entered twice.
contract EscrowAttacks is EscrowFixture {
    bytes32 private constant _RECEIVE = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    string private constant _WITNESS =
        "Terms witness)Terms(address buyer,address seller,uint128 amount,uint32 lifetime,uint16 feeBps,uint128 salt)TokenPermissions(address token,uint256 amount)";

    // signatures of the buyer

    function test_Authorization_CannotBeSpentPastTheEscrow() public {
        Escrow.Terms memory deal = terms(1);
        bytes32 id = escrow.dealId(deal);
        bytes memory signature = _authorised(deal);
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, address(escrow)));
        usdc.receiveWithAuthorization(buyer, address(escrow), PRICE, 0, type(uint256).max, id, signature);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        usdc.receiveWithAuthorization(buyer, stranger, PRICE, 0, type(uint256).max, id, signature);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        usdc.transferWithAuthorization(buyer, address(escrow), PRICE, 0, type(uint256).max, id, signature);
        vm.stopPrank();
        escrow.depositWithAuthorization(deal, 0, type(uint256).max, signature);
    }

    function test_Authorization_IsNoneAtAnotherEscrowOrOnAnotherChain() public {
        Escrow.Terms memory deal = terms(1);
        bytes memory signature = _authorised(deal);
        Escrow second = new Escrow(address(usdc), permit2, treasury, admin, 2 days);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        second.depositWithAuthorization(deal, 0, type(uint256).max, signature);
        vm.chainId(10);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        escrow.depositWithAuthorization(deal, 0, type(uint256).max, signature);
    }

    /// @dev Whoever is faster with the buyer's terms pays the buyer's deal: the signature stays unused and useless.
    function test_Authorization_RunAheadOfIsAGiftToTheBuyer() public {
        Escrow.Terms memory deal = terms(1);
        bytes32 id = escrow.dealId(deal);
        usdc.mint(stranger, PRICE);
        vm.startPrank(stranger);
        usdc.approve(address(escrow), PRICE);
        escrow.deposit(deal);
        vm.stopPrank();
        bytes memory signature = _authorised(deal);
        vm.expectRevert(abi.encodeWithSelector(Escrow.DealExists.selector, id));
        escrow.depositWithAuthorization(deal, 0, type(uint256).max, signature);
        vm.assertEq(usdc.balanceOf(buyer), FUNDS);
        expired();
        escrow.expire(deal);
        vm.assertEq(usdc.balanceOf(buyer), FUNDS + PRICE);
    }

    function test_Authorization_OfADealThatEndedOpensNoSecond() public {
        Escrow.Terms memory deal = terms(1);
        bytes memory signature = _authorised(deal);
        escrow.depositWithAuthorization(deal, 0, type(uint256).max, signature);
        vm.prank(seller);
        escrow.refund(deal);
        vm.expectPartialRevert(Escrow.DealExists.selector);
        escrow.depositWithAuthorization(deal, 0, type(uint256).max, signature);
    }

    function test_Authorization_OutsideItsTimeOpensNothing() public {
        Escrow.Terms memory deal = terms(1);
        bytes memory signature = _authorisedFor(deal, 0, block.timestamp);
        vm.expectPartialRevert(ERC3009.ERC3009InvalidAuthorizationTime.selector);
        escrow.depositWithAuthorization(deal, 0, block.timestamp, signature);
        assertDeal(escrow.dealId(deal), Escrow.Status.None, 0);
    }

    function test_Permit2_SignatureIsNoneForAnotherSpender() public {
        vm.prank(buyer);
        usdc.approve(address(permit2), type(uint256).max);
        Escrow.Terms memory deal = terms(1);
        (IPermit2.PermitTransferFrom memory permit, bytes memory signature) = _permitted(deal);
        Escrow second = new Escrow(address(usdc), permit2, treasury, admin, 2 days);
        vm.expectRevert(Permit2Double.InvalidSigner.selector);
        second.depositWithPermit2(deal, 7, block.timestamp, signature);
        bytes32 witness = escrow.termsHash(deal);
        vm.prank(stranger);
        vm.expectRevert(Permit2Double.InvalidSigner.selector);
        permit2.permitWitnessTransferFrom(
            permit, IPermit2.SignatureTransferDetails(stranger, PRICE), buyer, witness, _WITNESS, signature
        );
        vm.assertEq(usdc.balanceOf(buyer), FUNDS);
    }

    function test_Permit2_WithoutCodeOpensNothing() public {
        Escrow alone = new Escrow(address(usdc), IPermit2(address(0)), treasury, admin, 2 days);
        vm.expectRevert();
        alone.depositWithPermit2(terms(1), 7, block.timestamp, "");
    }

    // terms

    /// @dev Bits above a field's type would give the same terms a second id.
    function testFuzz_Terms_WithBitsOutsideTheirTypesOpenNothing(uint8 field, uint8 bit) public {
        uint8[6] memory widths = [160, 160, 128, 32, 16, 128];
        uint256 at = bound(field, 0, 5);
        bit = uint8(bound(bit, widths[at], 255));
        bytes memory data = abi.encodeCall(Escrow.deposit, (terms(1)));
        assembly {
            let word := add(add(data, 36), mul(at, 32))
            mstore(word, or(mload(word), shl(bit, 1)))
        }
        vm.prank(buyer);
        (bool opened,) = address(escrow).call(data);
        vm.assertFalse(opened);
        vm.assertEq(usdc.balanceOf(buyer), FUNDS);
    }

    // fees

    function test_Fee_IsNotSavedByReleasingCrumbs() public {
        Escrow.Terms memory deal = terms(1);
        deal.amount = 1_000;
        bytes32 id = open(deal);
        vm.startPrank(buyer);
        // The fee of 39 alone is below one unit.
        for (uint256 i = 0; i < 25; ++i) escrow.releasePart(deal, 39);
        escrow.releasePart(deal, 25);
        vm.stopPrank();
        assertDeal(id, Escrow.Status.Released, 0);
        vm.assertEq(escrow.fees(), 25);
        vm.assertEq(usdc.balanceOf(seller), 975);
    }

    function testFuzz_Fee_OfAPartAndOfItsDisputeIsThatOfTheSum(uint128 first, uint128 forSeller) public {
        first = uint128(bound(first, 1, PRICE - 1));
        forSeller = uint128(bound(forSeller, 0, PRICE - first));
        open(terms(1));
        vm.prank(buyer);
        escrow.releasePart(terms(1), first);
        vm.prank(arbiter);
        escrow.resolve(terms(1), forSeller);
        vm.assertEq(escrow.fees(), (uint256(first) + forSeller) * FEE / 10_000);
        vm.assertEq(usdc.balanceOf(seller), uint256(first) + forSeller - escrow.fees());
        vm.assertEq(usdc.balanceOf(buyer), FUNDS - first - forSeller);
    }

    function test_Fee_OfTheLargestDealDoesNotWrap() public view {
        vm.assertEq(
            escrow.feeOf(0, type(uint128).max, 1_000), uint256(type(uint128).max) / 10
        );
        vm.assertEq(escrow.feeOf(type(uint128).max - 9, 9, 1_000), 1);
    }

    function test_Fee_TakenIsOwedNotHeld() public {
        open(terms(1));
        open(terms(2));
        vm.prank(buyer);
        escrow.release(terms(1));
        escrow.sweepFees();
        // What waits for the second deal was not swept with the fee of the first.
        vm.assertEq(usdc.balanceOf(address(escrow)), PRICE);
        vm.prank(seller);
        escrow.refund(terms(2));
        vm.assertEq(usdc.balanceOf(buyer), FUNDS - PRICE);
    }

    // blocked parties, batches

    function test_Batch_PaysTheOthersOfABlockedSeller() public {
        Escrow.Terms[] memory batch = new Escrow.Terms[](3);
        for (uint128 i = 0; i < 3; ++i) {
            batch[i] = terms(i);
            batch[i].seller = address(uint160(0x5E110 + i));
            open(batch[i]);
        }
        usdc.setBlocked(batch[1].seller, true);
        vm.prank(orchestrator);
        escrow.releaseBatch(batch);
        vm.assertEq(usdc.balanceOf(batch[0].seller), 975_000);
        vm.assertEq(escrow.credit(batch[1].seller), 975_000);
        vm.assertEq(usdc.balanceOf(batch[2].seller), 975_000);
    }

    function test_Batch_EndsNoDealTwice() public {
        Escrow.Terms[] memory batch = new Escrow.Terms[](2);
        (batch[0], batch[1]) = (terms(1), terms(1));
        open(terms(1));
        open(terms(2));
        vm.startPrank(orchestrator);
        vm.expectPartialRevert(Escrow.DealNotOpen.selector);
        escrow.releaseBatch(batch);
        vm.expectPartialRevert(Escrow.DealNotOpen.selector);
        escrow.refundBatch(batch);
        expired();
        vm.expectPartialRevert(Escrow.DealNotOpen.selector);
        escrow.expireBatch(batch);
        vm.stopPrank();
    }

    function test_Resolve_WithBothBlockedEndsTheDeal() public {
        bytes32 id = open(terms(1));
        usdc.setBlocked(buyer, true);
        usdc.setBlocked(seller, true);
        vm.prank(arbiter);
        escrow.resolve(terms(1), 400_000);
        assertDeal(id, Escrow.Status.Resolved, 0);
        vm.assertEq(escrow.credit(seller), 390_000);
        vm.assertEq(escrow.credit(buyer), 600_000);
        vm.assertEq(escrow.fees(), 10_000);
    }

    function test_Credit_IsFetchedOnceAndByItsOwner() public {
        open(terms(1));
        open(terms(2));
        usdc.setBlocked(seller, true);
        vm.prank(buyer);
        escrow.release(terms(1));
        vm.prank(stranger);
        vm.expectRevert(Escrow.NothingToPay.selector);
        escrow.withdrawCredit(stranger);
        vm.startPrank(seller);
        vm.expectEmit(address(escrow));
        emit Escrow.CreditWithdrawn(seller, stranger, 975_000);
        escrow.withdrawCredit(stranger);
        vm.expectRevert(Escrow.NothingToPay.selector);
        escrow.withdrawCredit(stranger);
        vm.stopPrank();
    }

    // coin

    /// @dev A seller who takes coin when given gas enough, and could never ask for a credit: whoever ends the deal chooses
    /// the gas, and must not be able to choose that the seller goes without.
    function testFuzz_Coin_ReceiversAreNotStarved(uint256 gas_) public {
        gas_ = bound(gas_, 30_000, 400_000);
        Impatient receiver = new Impatient();
        Escrow.Terms memory deal = terms(1);
        deal.buyer = address(receiver);
        vm.deal(address(this), PRICE);
        coin.depositNative{value: PRICE}(deal);
        expired();
        vm.prank(stranger);
        (bool done,) = address(coin).call{gas: gas_}(abi.encodeCall(Escrow.expire, (deal)));
        vm.assertEq(coin.credit(address(receiver)), 0);
        vm.assertEq(address(receiver).balance, done ? PRICE : 0);
    }

    function test_Coin_IsNotSentWithTooLittleGas() public {
        openCoin(terms(1));
        expired();
        vm.expectPartialRevert(Escrow.TooLittleGas.selector);
        coin.expire{gas: 140_000}(terms(1));
        coin.expire{gas: 170_000}(terms(1));
        vm.assertEq(buyer.balance, PRICE);
    }

    function test_Coin_FeesAreSweptOnceByARecipientWhoCallsBack() public {
        GreedySweeper greedy = new GreedySweeper(coin);
        vm.prank(admin);
        coin.setFeeRecipient(address(greedy));
        openCoin(terms(1));
        openCoin(terms(2));
        vm.prank(orchestrator);
        coin.release(terms(1));
        coin.sweepFees();
        vm.assertTrue(greedy.tried());
        vm.assertEq(address(greedy).balance, 25_000);
        vm.assertEq(address(coin).balance, PRICE);
    }

    function test_Coin_FeesWaitForARecipientWhoTakesNone() public {
        vm.prank(admin);
        coin.setFeeRecipient(address(usdc));
        openCoin(terms(1));
        vm.prank(orchestrator);
        coin.release(terms(1));
        vm.expectRevert(abi.encodeWithSelector(Escrow.CoinTransferFailed.selector, address(usdc)));
        coin.sweepFees();
        vm.assertEq(coin.fees(), 25_000);
    }

    // roles

    function test_Roles_TakenAwayEndAtOnce() public {
        open(terms(1));
        vm.startPrank(admin);
        escrow.revokeRole(escrow.ORCHESTRATOR_ROLE(), orchestrator);
        escrow.revokeRole(escrow.ARBITER_ROLE(), arbiter);
        vm.stopPrank();
        vm.startPrank(orchestrator);
        vm.expectRevert(abi.encodeWithSelector(Escrow.NotAllowed.selector, orchestrator));
        escrow.release(terms(1));
        vm.expectRevert(abi.encodeWithSelector(Escrow.NotAllowed.selector, orchestrator));
        escrow.refund(terms(1));
        vm.stopPrank();
        vm.prank(arbiter);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        escrow.resolve(terms(1), 1);
    }

    /// @dev Administration is power over roles and new deals; over an open deal there is none.
    function test_Admin_MovesNoMoneyOfADeal() public {
        open(terms(1));
        vm.startPrank(admin);
        vm.expectRevert(abi.encodeWithSelector(Escrow.NotAllowed.selector, admin));
        escrow.release(terms(1));
        vm.expectRevert(abi.encodeWithSelector(Escrow.NotAllowed.selector, admin));
        escrow.refund(terms(1));
        escrow.setFee(1_000);
        vm.stopPrank();
        vm.prank(buyer);
        escrow.release(terms(1));
        vm.assertEq(escrow.fees(), 25_000);
    }

    function _authorised(Escrow.Terms memory deal) private view returns (bytes memory) {
        return _authorisedFor(deal, 0, type(uint256).max);
    }

    function _authorisedFor(Escrow.Terms memory deal, uint256 from, uint256 until)
        private
        view
        returns (bytes memory)
    {
        bytes32 id = escrow.dealId(deal);
        bytes32 message = keccak256(abi.encode(_RECEIVE, deal.buyer, address(escrow), deal.amount, from, until, id));
        return signed(BUYER_KEY, keccak256(abi.encodePacked("\x19\x01", usdc.DOMAIN_SEPARATOR(), message)));
    }

    function _permitted(Escrow.Terms memory deal)
        private
        view
        returns (IPermit2.PermitTransferFrom memory permit, bytes memory signature)
    {
        permit = IPermit2.PermitTransferFrom(
            IPermit2.TokenPermissions(address(usdc), deal.amount), 7, block.timestamp
        );
        signature = signed(BUYER_KEY, permit2.permitHash(permit, address(escrow), escrow.termsHash(deal), _WITNESS));
    }
}
