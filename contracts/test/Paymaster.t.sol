// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Paymaster as ERC4337Paymaster} from "@openzeppelin/contracts/account/paymaster/Paymaster.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {Account} from "../src/Account.sol";
import {Paymaster} from "../src/Paymaster.sol";
import {Target} from "./support/AccountFixture.sol";
import {PaymasterFixture} from "./support/PaymasterFixture.sol";

contract PaymasterTest is PaymasterFixture {
    function test_Paymaster_NamesTheEntryPointItTrusts() public view {
        vm.assertEq(address(paymaster.entryPoint()), address(entryPoint));
    }

    // sponsored

    function test_Sponsored_AnAccountWithoutCoinActs() public {
        send(sponsored(0, uint48(block.timestamp + 60)));
        vm.assertEq(target.calls(), 1);
        vm.assertTrue(entryPoint.balanceOf(address(paymaster)) < 1 ether);
        vm.assertEq(address(account).balance, 0);
    }

    function testFuzz_Sponsored_StandsForTheWholeOperation(uint8 field) public {
        PackedUserOperation memory op = sponsored(0, uint48(block.timestamp + 60));
        field = uint8(bound(field, 0, 9));
        if (field == 0) op.callData = abi.encodeCall(Target.ping, ());
        if (field == 1) op.accountGasLimits = bytes32(uint256(op.accountGasLimits) + 1);
        if (field == 2) op.preVerificationGas += 1;
        if (field == 3) op.gasFees = bytes32(uint256(op.gasFees) + 1);
        if (field == 4) op.paymasterAndData[51] = bytes1(uint8(op.paymasterAndData[51]) ^ 1);
        if (field == 5) op.paymasterAndData[35] = bytes1(uint8(op.paymasterAndData[35]) ^ 1);
        if (field == 6) op.paymasterAndData[58] = bytes1(uint8(op.paymasterAndData[58]) ^ 1);
        if (field == 7) op.nonce = 1 << 64;
        if (field == 8) op.sender = address(_twin());
        if (field == 9) op.paymasterAndData[64] = bytes1(uint8(op.paymasterAndData[64]) ^ 1);
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    function test_Sponsored_StandsForHowTheAccountIsMade() public {
        PackedUserOperation memory op = sponsored(1, 2);
        vm.startPrank(address(entryPoint));
        (bytes memory context, uint256 validation) = paymaster.validatePaymasterUserOp(op, 0, 0);
        vm.assertEq(context.length, 0);
        vm.assertEq(validation, uint256(1) << 208 | uint256(2) << 160);
        op.initCode = hex"01";
        (, validation) = paymaster.validatePaymasterUserOp(op, 0, 0);
        vm.assertEq(uint160(validation), 1);
        vm.stopPrank();
    }

    /// @dev Another account of the same owner, with all that the sponsored one has.
    function _twin() private returns (Account) {
        return Account(payable(factory.createAccount(ownerOf(OWNER_KEY, PASSKEY), guardian, DELAY, "twin")));
    }

    function test_Sponsored_OnlyInItsTime() public {
        uint48 now_ = uint48(block.timestamp);
        PackedUserOperation memory late = sponsored(0, now_ - 1);
        vm.expectRevert(abi.encodeWithSelector(IEntryPoint.FailedOp.selector, 0, "AA32 paymaster expired or not due"));
        this.sendExternally(late);
        PackedUserOperation memory early = sponsored(now_ + 1, now_ + 60);
        vm.expectRevert(abi.encodeWithSelector(IEntryPoint.FailedOp.selector, 0, "AA32 paymaster expired or not due"));
        this.sendExternally(early);
    }

    function test_Sponsored_NeverByBlockNumbers() public {
        uint48 flag = 1 << 47;
        PackedUserOperation memory op = sponsored(flag, flag | uint48(block.number + 100));
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    function test_Sponsored_OncePerNonce() public {
        PackedUserOperation memory op = sponsored(0, uint48(block.timestamp + 60));
        send(op);
        vm.expectRevert(abi.encodeWithSelector(IEntryPoint.FailedOp.selector, 0, "AA25 invalid account nonce"));
        this.sendExternally(op);
    }

    function test_Sponsored_RefusesDataThatIsNoPolicy() public {
        bytes[6] memory junk = [
            bytes(""),
            hex"00",
            abi.encodePacked(uint8(0), uint48(0), uint48(0)),
            abi.encodePacked(uint8(2), uint48(0), type(uint48).max, new bytes(65)),
            abi.encodePacked(uint8(1), uint48(0), uint48(0), new bytes(51)),
            abi.encodePacked(uint8(0), uint48(0), uint48(0), new bytes(65))
        ];
        for (uint256 i = 0; i < junk.length; ++i) {
            PackedUserOperation memory op = withData(ping(), junk[i]);
            op.signature = ecdsa(OWNER_KEY, hashOf(op));
            expectPaymasterRefusal();
            this.sendExternally(op);
        }
    }

    function test_Sponsored_RefusesAnothersSignature() public {
        PackedUserOperation memory op = signedBy(0xBAD, ping(), abi.encodePacked(uint8(0), uint48(0), uint48(0)));
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    // paid in tokens

    function test_PaidInToken_ChargesWhatTheGasCost() public {
        PackedUserOperation memory op = paidInToken(PRICE);
        uint256 deposit = entryPoint.balanceOf(address(paymaster));
        send(op);
        vm.assertEq(target.calls(), 1);
        uint256 spent = deposit - entryPoint.balanceOf(address(paymaster));
        uint256 charged = usdc.balanceOf(address(paymaster));
        vm.assertEq(charged + usdc.balanceOf(address(account)), 1_000_000);
        // Never below what it cost the paymaster, and not far above.
        vm.assertLe(spent * PRICE / 1e18, charged);
        vm.assertLe(charged, spent * PRICE / 1e18 * 12 / 10);
    }

    function test_PaidInToken_RefusesAccountsThatCannotPayAndFreePrices() public {
        PackedUserOperation memory op = paidInToken(PRICE * 1_000);
        expectPaymasterRefusal();
        this.sendExternally(op);
        op = paidInToken(0);
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    function test_PaidInToken_TakesTheLowestPriceThatIsNotNothing() public {
        send(paidInToken(1));
        vm.assertEq(target.calls(), 1);
        vm.assertTrue(usdc.balanceOf(address(paymaster)) != 0);
    }

    function testFuzz_PaidInToken_StandsForTokenAndPrice(bool price) public {
        PackedUserOperation memory op = paidInToken(PRICE);
        uint256 at = price ? 116 : 84;
        op.paymasterAndData[at] = bytes1(uint8(op.paymasterAndData[at]) ^ 1);
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    // administration

    function test_Construction_NeedsASigner() public {
        vm.expectRevert(Paymaster.InvalidSigner.selector);
        new Paymaster(address(0), address(this), 0);
    }

    function test_Validation_IsForTheEntryPoint() public {
        PackedUserOperation memory op = sponsored(0, 0);
        vm.expectRevert(abi.encodeWithSelector(ERC4337Paymaster.PaymasterUnauthorized.selector, address(this)));
        paymaster.validatePaymasterUserOp(op, 0, 0);
    }

    function test_Withdraw_TakesTheDeposit() public {
        vm.expectEmit(address(paymaster));
        emit Paymaster.Withdrawn(stranger, 0.4 ether);
        paymaster.withdraw(payable(stranger), 0.4 ether);
        vm.assertEq(stranger.balance, 0.4 ether);
        vm.assertEq(entryPoint.balanceOf(address(paymaster)), 0.6 ether);
    }

    function test_WithdrawTokens_TakesSomeOrAll() public {
        usdc.mint(address(paymaster), 100);
        vm.expectEmit(address(paymaster));
        emit Paymaster.TokensWithdrawn(address(usdc), stranger, 40);
        paymaster.withdrawTokens(usdc, stranger, 40);
        vm.assertEq(usdc.balanceOf(stranger), 40);
        vm.expectEmit(address(paymaster));
        emit Paymaster.TokensWithdrawn(address(usdc), stranger, 60);
        paymaster.withdrawTokens(usdc, stranger, type(uint256).max);
        vm.assertEq(usdc.balanceOf(stranger), 100);
    }

    function test_Stake_ComesBackAfterItsDelay() public {
        vm.expectEmit(address(paymaster));
        emit Paymaster.StakeChanged(1 ether, 1 days);
        paymaster.addStake{value: 1 ether}(1 days);
        vm.expectEmit(address(paymaster));
        emit Paymaster.StakeUnlocked();
        paymaster.unlockStake();
        vm.expectRevert();
        paymaster.withdrawStake(payable(stranger));
        vm.warp(block.timestamp + 1 days);
        vm.expectEmit(address(paymaster));
        emit Paymaster.StakeWithdrawn(stranger);
        paymaster.withdrawStake(payable(stranger));
        vm.assertEq(stranger.balance, 1 ether);
    }

    function test_Administration_IsForItsRoles() public {
        vm.startPrank(stranger);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        paymaster.withdraw(payable(stranger), 1);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        paymaster.withdrawTokens(usdc, stranger, 1);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        paymaster.addStake(1 days);
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        paymaster.unlockStake();
        vm.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        paymaster.withdrawStake(payable(stranger));
        vm.stopPrank();
    }
}
