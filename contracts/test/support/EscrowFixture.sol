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
    address internal seller = vm.addr(0x5E11);
    address internal orchestrator = vm.addr(0x0BC);
    address internal arbiter = address(0xA7B);
    address internal pauser = address(0x9A5);
    address internal admin = address(0xAD);
    address internal treasury = address(0x7EA5);
    address internal stranger = address(0x57A);

    BlockingUSDC internal usdc;
    Permit2Double internal permit2;
    Escrow internal escrow;
    Escrow internal coin;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        usdc = makeToken();
        permit2 = new Permit2Double();
        escrow = new Escrow(address(usdc), permit2, treasury, admin, 2 days);
        coin = new Escrow(address(0), permit2, treasury, admin, 2 days);
        vm.startPrank(admin);
        coin.grantRole(coin.ORCHESTRATOR_ROLE(), orchestrator);
        escrow.grantRole(escrow.ORCHESTRATOR_ROLE(), orchestrator);
        escrow.grantRole(escrow.ARBITER_ROLE(), arbiter);
        escrow.grantRole(escrow.PAUSER_ROLE(), pauser);
        vm.stopPrank();
        usdc.mint(buyer, FUNDS);
        vm.deal(buyer, FUNDS);
        vm.prank(buyer);
        usdc.approve(address(escrow), type(uint256).max);
    }

    function makeToken() internal virtual returns (BlockingUSDC) {
        return new BlockingUSDC(address(this));
    }

    function terms(uint128 salt) internal view returns (Escrow.Terms memory) {
        return Escrow.Terms(buyer, seller, PRICE, 0, FEE, salt);
    }

    function open(Escrow.Terms memory deal) internal returns (bytes32 id) {
        vm.prank(deal.buyer);
        return escrow.deposit(deal);
    }

    function openCoin(Escrow.Terms memory deal) internal returns (bytes32 id) {
        vm.deal(deal.buyer, deal.amount);
        vm.prank(deal.buyer);
        return coin.depositNative{value: deal.amount}(deal);
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
