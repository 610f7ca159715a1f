// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {Paymaster} from "../../src/Paymaster.sol";
import {AccountFixture} from "./AccountFixture.sol";

/// @notice A paymaster with a deposit, and an account without coin that lets it take tokens for gas.
abstract contract PaymasterFixture is AccountFixture {
    uint256 internal constant SIGNER_KEY = 0x516;
    /// @dev 300 USDC for a coin.
    uint256 internal constant PRICE = 300_000_000;

    Paymaster internal paymaster;

    function setUp() public virtual override {
        super.setUp();
        vm.deal(address(account), 0);
        paymaster = new Paymaster(vm.addr(SIGNER_KEY), address(this), 2 days);
        vm.deal(address(this), 20 ether);
        paymaster.deposit{value: 1 ether}();
        paymaster.grantRole(paymaster.WITHDRAWER_ROLE(), address(this));
        // As an account does once, before it first pays its gas in a token.
        vm.prank(address(account));
        usdc.approve(address(paymaster), type(uint256).max);
    }

    function sponsored(uint48 from, uint48 until) internal view returns (PackedUserOperation memory) {
        return signedBy(SIGNER_KEY, ping(), abi.encodePacked(uint8(0), from, until));
    }

    function paidInToken(uint256 price) internal view returns (PackedUserOperation memory) {
        return signedBy(SIGNER_KEY, ping(), abi.encodePacked(uint8(1), uint48(0), type(uint48).max >> 1, usdc, price));
    }

    function signedBy(uint256 key, Execution[] memory calls, bytes memory policy)
        internal
        view
        returns (PackedUserOperation memory op)
    {
        op = withData(calls, policy);
        op.paymasterAndData = abi.encodePacked(op.paymasterAndData, signed(key, paymaster.sponsorshipHash(op)));
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
    }

    function withData(Execution[] memory calls, bytes memory data)
        internal
        view
        returns (PackedUserOperation memory op)
    {
        op = operation(address(account), calls);
        op.accountGasLimits = bytes32(uint256(60_000) << 128 | 60_000);
        op.paymasterAndData = abi.encodePacked(paymaster, uint128(200_000), uint128(60_000), data);
    }

    function expectPaymasterRefusal() internal {
        vm.expectRevert(abi.encodeWithSelector(IEntryPoint.FailedOp.selector, 0, "AA34 signature error"));
    }
}
