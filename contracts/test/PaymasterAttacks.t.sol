// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Paymaster as ERC4337Paymaster} from "@openzeppelin/contracts/account/paymaster/Paymaster.sol";
import {Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {IEntryPoint, IPaymaster, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Account} from "../src/Account.sol";
import {Paymaster} from "../src/Paymaster.sol";
import {Sessions} from "../src/account/Sessions.sol";
import {PaymasterFixture} from "./support/PaymasterFixture.sol";

/// @notice Ways to make the paymaster pay for what nobody signed, or to be paid less than the gas cost it.
contract PaymasterAttacks is PaymasterFixture {
    address private key = vm.addr(SESSION_KEY);

    // another paymaster, another chain

    function test_Sponsorship_IsNoneAtAnotherPaymasterOfTheSameSigner() public {
        PackedUserOperation memory op = sponsored(0, 0);
        Paymaster second = new Paymaster(vm.addr(SIGNER_KEY), address(this), 0);
        second.deposit{value: 1 ether}();
        bytes20 to = bytes20(address(second));
        for (uint256 i = 0; i < 20; ++i) op.paymasterAndData[i] = to[i];
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    function test_Sponsorship_IsNoneOnAnotherChain() public {
        PackedUserOperation memory op = sponsored(0, 0);
        vm.chainId(10);
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    function test_Sponsorship_IsNoQuoteAndAQuoteIsNoSponsorship() public {
        PackedUserOperation memory op = paidInToken(PRICE);
        op.paymasterAndData[52] = 0;
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    function test_Sponsorship_TakesNoBytesBehindItsSignature() public {
        PackedUserOperation memory op = sponsored(0, 0);
        op.paymasterAndData = abi.encodePacked(op.paymasterAndData, uint8(0));
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    function test_Sponsorship_TakesNotTheOtherFormOfItsSignature() public {
        PackedUserOperation memory op = sponsored(0, 0);
        bytes memory data = op.paymasterAndData;
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        assembly {
            let s := add(data, add(32, sub(mload(data), 33)))
            mstore(s, sub(order, mload(s)))
        }
        data[data.length - 1] = bytes1(uint8(data[data.length - 1]) == 27 ? 28 : 27);
        op.paymasterAndData = data;
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    function test_Sponsorship_RefusesBlockNumbersInEitherBound() public {
        uint48 flag = 1 << 47;
        uint48[2][2] memory bounds = [[flag, uint48(0)], [uint48(0), flag]];
        for (uint256 i = 0; i < 2; ++i) {
            PackedUserOperation memory op = sponsored(bounds[i][0], bounds[i][1]);
            expectPaymasterRefusal();
            this.sendExternally(op);
        }
    }

    function test_PostOp_IsForTheEntryPoint() public {
        vm.expectRevert(abi.encodeWithSelector(ERC4337Paymaster.PaymasterUnauthorized.selector, address(this)));
        paymaster.postOp(IPaymaster.PostOpMode.opSucceeded, "", 0, 0);
    }

    // paid less than it cost

    function test_PaidInToken_TakesItsMoneyBeforeTheCallsCanSpendIt() public {
        Execution[] memory calls = new Execution[](2);
        calls[0] = Execution(address(usdc), 0, abi.encodeCall(IERC20.approve, (address(paymaster), 0)));
        calls[1] = Execution(address(usdc), 0, abi.encodeCall(IERC20.transfer, (stranger, 500_000)));
        _paysItsGas(_quoted(calls, 60_000, 60_000), false);
        vm.assertEq(usdc.balanceOf(stranger), 500_000);
    }

    function test_PaidInToken_KeepsAllWhenTheAccountCannotBeRefunded() public {
        usdc.transferOwnership(address(account));
        Execution[] memory calls = call(address(usdc), 0, abi.encodeCall(usdc.setBlocked, (address(account), true)));
        _paysItsGas(_quoted(calls, 60_000, 60_000), true);
        // The call is undone with the refund that failed.
        vm.assertFalse(usdc.blocked(address(account)));
    }

    function test_PaidInToken_KeepsAllWhenItsPostOpIsStarved() public {
        _paysItsGas(_quoted(ping(), 60_000, 1_000), true);
        vm.assertEq(target.calls(), 0);
    }

    function testFuzz_PaidInToken_LosesNothingWhateverLimitsTheAccountAsks(uint128 callGas, uint128 postGas) public {
        usdc.mint(address(account), 1_000_000_000);
        callGas = uint128(bound(callGas, 21_000, 5_000_000));
        postGas = uint128(bound(postGas, 40_000, 5_000_000));
        _paysItsGas(_quoted(ping(), callGas, postGas), false);
    }

    function test_PaidInToken_RefusesPricesThatOverflow() public {
        PackedUserOperation memory op = paidInToken(type(uint256).max);
        expectPaymasterRefusal();
        this.sendExternally(op);
    }

    function test_PaidInToken_MovesNothingOnAnothersSignature() public {
        PackedUserOperation memory op =
            signedBy(0xBAD, ping(), abi.encodePacked(uint8(1), uint48(0), uint48(0), usdc, PRICE));
        vm.prank(address(entryPoint));
        (bytes memory context,) = paymaster.validatePaymasterUserOp(op, 0, 1);
        vm.assertEq(context.length, 0);
        vm.assertEq(usdc.balanceOf(address(paymaster)), 0);
    }

    // gas as a way around a session's limits

    function test_Session_UsesNoPaymasterThatItWasNotGiven() public {
        _grant(new Sessions.Permission[](0));
        PackedUserOperation memory op = _bySession(paidInToken(PRICE));
        bytes32 hash = hashOf(op);
        vm.expectPartialRevert(IEntryPoint.FailedOpWithRevert.selector);
        this.sendExternally(op);
        vm.prank(address(entryPoint));
        vm.expectRevert(
            abi.encodeWithSelector(
                Sessions.NotPermitted.selector, address(paymaster), IPaymaster.validatePaymasterUserOp.selector
            )
        );
        account.validateUserOp(op, hash, 0);
        vm.assertEq(usdc.balanceOf(address(account)), 1_000_000);
    }

    function test_Session_UsesThePaymasterItWasGiven() public {
        Sessions.Permission[] memory allowed = new Sessions.Permission[](2);
        allowed[0] = Sessions.Permission(address(paymaster), IPaymaster.validatePaymasterUserOp.selector);
        allowed[1] = Sessions.Permission(address(target), target.ping.selector);
        _grant(allowed);
        send(_bySession(sponsored(0, 0)));
        vm.assertEq(target.calls(), 1);
    }

    function _grant(Sessions.Permission[] memory allowed) private {
        vm.prank(address(account));
        account.grantSession(key, 0, uint48(block.timestamp + 60), allowed, new Sessions.Limit[](0));
    }

    function _bySession(PackedUserOperation memory op) private view returns (PackedUserOperation memory) {
        op.signature = abi.encodePacked(uint8(Account.Kind.Session), signed(SESSION_KEY, hashOf(op)));
        return op;
    }

    function _quoted(Execution[] memory calls, uint128 callGas, uint128 postGas)
        private
        view
        returns (PackedUserOperation memory op)
    {
        op = operation(address(account), calls);
        op.accountGasLimits = bytes32(uint256(100_000) << 128 | callGas);
        bytes memory quote = abi.encodePacked(uint8(1), uint48(0), uint48(0), usdc, PRICE);
        op.paymasterAndData = abi.encodePacked(paymaster, uint128(200_000), postGas, quote);
        op.paymasterAndData = abi.encodePacked(op.paymasterAndData, signed(SIGNER_KEY, paymaster.sponsorshipHash(op)));
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
    }

    /// @dev Whatever becomes of the operation, the tokens are worth the coin it cost; all that was taken when nothing
    /// could be given back.
    function _paysItsGas(PackedUserOperation memory op, bool all) private {
        uint256 deposit = entryPoint.balanceOf(address(paymaster));
        uint256 tokens = usdc.balanceOf(address(account));
        send(op);
        uint256 spent = deposit - entryPoint.balanceOf(address(paymaster));
        uint256 charged = usdc.balanceOf(address(paymaster));
        vm.assertTrue(spent != 0 && charged != 0);
        vm.assertLe(spent * PRICE / 1e18, charged);
        if (all) vm.assertEq(usdc.balanceOf(address(account)), tokens - charged);
    }
}
