// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Escrow} from "../../src/Escrow.sol";
import {BlockingUSDC} from "./BlockingUSDC.sol";
import {Cheats} from "./Cheats.sol";
import {Permit2Double} from "./Permit2Double.sol";

/// @notice An escrow with its parties: a buyer with tokens, coin and an open allowance.
abstract contract EscrowFixture is Cheats {
    uint256 internal constant BUYER_KEY = 0xB0B;
    uint128 internal constant PRICE = 1_000_000;
    uint256 internal constant FUNDS = 1_000 * 1_000_000;
    uint16 internal constant FEE = 250;

    address internal buyer = vm.addr(BUYER_KEY);
    address internal seller = address(0x5E11E7);
    address internal orchestrator = address(0x0BC);
    address internal arbiter = address(0xA7B);
    address internal pauser = address(0x9A5);
    address internal admin = address(0xAD);
    address internal treasury = address(0x7EA5);
    address internal stranger = address(0x57A);

    BlockingUSDC internal usdc;
    Permit2Double internal permit2;
    Escrow internal escrow;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        usdc = new BlockingUSDC(address(this));
        permit2 = new Permit2Double();
        escrow = new Escrow(address(usdc), permit2, treasury, admin, 2 days);
        vm.startPrank(admin);
        escrow.grantRole(escrow.ORCHESTRATOR_ROLE(), orchestrator);
        escrow.grantRole(escrow.ARBITER_ROLE(), arbiter);
        escrow.grantRole(escrow.PAUSER_ROLE(), pauser);
        vm.stopPrank();
        usdc.mint(buyer, FUNDS);
        vm.deal(buyer, FUNDS);
        vm.prank(buyer);
        usdc.approve(address(escrow), type(uint256).max);
    }

    function terms(uint256 salt) internal view returns (Escrow.Terms memory) {
        return Escrow.Terms(buyer, seller, address(usdc), PRICE, 0, FEE, bytes32(salt));
    }

    function coinTerms(uint256 salt) internal view returns (Escrow.Terms memory deal) {
        deal = terms(salt);
        deal.token = address(0);
    }

    function open(Escrow.Terms memory deal) internal returns (bytes32 id) {
        vm.prank(deal.buyer);
        if (deal.token == address(0)) return escrow.depositNative{value: deal.amount}(deal);
        return escrow.deposit(deal);
    }

    function expired() internal {
        vm.warp(block.timestamp + 24 hours);
    }

    function assertDeal(bytes32 id, Escrow.Status status, uint256 remaining) internal view {
        Escrow.Deal memory deal = escrow.deal(id);
        vm.assertEq(uint256(deal.status), uint256(status));
        vm.assertEq(deal.remaining, remaining);
    }
}
