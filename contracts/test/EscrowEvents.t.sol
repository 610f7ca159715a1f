// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Escrow} from "../src/Escrow.sol";
import {EscrowFixture} from "./support/EscrowFixture.sol";

/// @notice Whoever reads only the log knows all: every change tells what it did.
contract EscrowEventsTest is EscrowFixture {
    function test_Construction_Tells() public {
        vm.expectEmit(false, false, false, true);
        emit Escrow.FeeRecipientChanged(treasury);
        vm.expectEmit(false, false, false, true);
        emit Escrow.FeeChanged(250);
        Escrow made = new Escrow(address(usdc), permit2, treasury, admin, 2 days);
        vm.assertEq(made.TOKEN(), address(usdc));
        vm.assertEq(address(made.PERMIT2()), address(permit2));
        vm.assertEq(made.market().feeBps, 250);
        vm.assertEq(made.market().feeRecipient, treasury);
        vm.assertEq(made.defaultAdmin(), admin);
        vm.assertEq(made.defaultAdminDelay(), 2 days);
    }

    function test_ReleasePart_TellsWhatIsLeft() public {
        bytes32 id = open(terms(1));
        vm.expectEmit(address(escrow));
        emit Escrow.Released(id, 390_000, 10_000, 600_000);
        vm.prank(buyer);
        escrow.releasePart(terms(1), 400_000);
    }

    function test_Resolve_Tells() public {
        bytes32 id = open(terms(1));
        vm.expectEmit(address(escrow));
        emit Escrow.Resolved(id, 390_000, 10_000, 600_000);
        vm.prank(arbiter);
        escrow.resolve(terms(1), 400_000);
    }

    function test_SweepFees_Tells() public {
        open(terms(1));
        vm.prank(buyer);
        escrow.release(terms(1));
        vm.expectEmit(address(escrow));
        emit Escrow.FeesSwept(treasury, 25_000);
        escrow.sweepFees();
    }

    function test_Administration_Tells() public {
        vm.startPrank(admin);
        vm.expectEmit(address(escrow));
        emit Escrow.FeeChanged(1_000);
        escrow.setFee(1_000);
        vm.expectEmit(address(escrow));
        emit Escrow.FeeRecipientChanged(stranger);
        escrow.setFeeRecipient(stranger);
        vm.stopPrank();
        vm.startPrank(pauser);
        vm.expectEmit(address(escrow));
        emit Escrow.DepositsPaused(pauser);
        escrow.pauseDeposits();
        vm.assertTrue(escrow.market().paused);
        vm.expectEmit(address(escrow));
        emit Escrow.DepositsUnpaused(pauser);
        escrow.unpauseDeposits();
        vm.assertFalse(escrow.market().paused);
        vm.stopPrank();
    }

    /// @dev As anybody computes it who is not the escrow.
    function testFuzz_DealId_IsTheHashOfTermsChainAndEscrow(Escrow.Terms memory deal) public view {
        bytes32 hash = keccak256(abi.encode(escrow.TERMS_TYPEHASH(), deal));
        vm.assertEq(escrow.termsHash(deal), hash);
        vm.assertEq(escrow.dealId(deal), keccak256(abi.encode(hash, block.chainid, address(escrow))));
    }

    function test_Resolve_MayGiveAllToEither() public {
        bytes32 id = open(terms(1));
        open(terms(2));
        vm.startPrank(arbiter);
        escrow.resolve(terms(1), PRICE);
        escrow.resolve(terms(2), 0);
        vm.stopPrank();
        assertDeal(id, Escrow.Status.Resolved, 0);
        vm.assertEq(usdc.balanceOf(seller), 975_000);
        vm.assertEq(usdc.balanceOf(buyer), FUNDS - PRICE);
    }

    function test_AParty_WhoCanBePaidGetsNoCredit() public {
        open(terms(1));
        vm.prank(arbiter);
        escrow.resolve(terms(1), 400_000);
        vm.assertEq(escrow.credit(buyer), 0);
        vm.assertEq(escrow.credit(seller), 0);
        vm.assertEq(usdc.balanceOf(seller), 390_000);
        vm.assertEq(usdc.balanceOf(buyer), FUNDS - 400_000);
    }
}
