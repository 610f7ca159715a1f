// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Escrow} from "../src/Escrow.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {TestUSDC} from "../src/TestUSDC.sol";
import {Cheats} from "../test/support/Cheats.sol";

/// @notice Properties that halmos proves for all values (`check_…`); forge does not run them.
contract SymbolicTest is Cheats {
    address private constant _BUYER = address(0xB0);
    address private constant _SELLER = address(0x5E);
    address private constant _ORCHESTRATOR = address(0x0C);
    address private constant _ARBITER = address(0xAB);

    TestUSDC private usdc;
    Escrow private escrow;
    Escrow.Terms private terms;

    function setUp() public {
        usdc = new TestUSDC(address(this));
        escrow = new Escrow(address(usdc), IPermit2(address(0)), address(0xFE), address(this), 0);
        escrow.grantRole(escrow.ORCHESTRATOR_ROLE(), _ORCHESTRATOR);
        escrow.grantRole(escrow.ARBITER_ROLE(), _ARBITER);
        usdc.mint(_BUYER, 1_000);
        terms = Escrow.Terms(_BUYER, _SELLER, 1_000, 0, 250, 1);
        vm.prank(_BUYER);
        usdc.approve(address(escrow), 1_000);
        vm.prank(_BUYER);
        escrow.deposit(terms);
    }

    function check_OnlyBuyerAndOrchestratorRelease(address caller) public {
        vm.prank(caller);
        (bool done,) = address(escrow).call(abi.encodeCall(Escrow.release, (terms)));
        assert(!done || caller == _BUYER || caller == _ORCHESTRATOR);
    }

    function check_OnlySellerAndOrchestratorRefund(address caller) public {
        vm.prank(caller);
        (bool done,) = address(escrow).call(abi.encodeCall(Escrow.refund, (terms)));
        assert(!done || caller == _SELLER || caller == _ORCHESTRATOR);
    }

    function check_OnlyTheArbiterResolvesAndNothingIsLost(address caller, uint128 forSeller) public {
        vm.prank(caller);
        (bool done,) = address(escrow).call(abi.encodeCall(Escrow.resolve, (terms, forSeller)));
        assert(!done || caller == _ARBITER);
        if (done) assert(usdc.balanceOf(_BUYER) + usdc.balanceOf(_SELLER) + escrow.fees() == 1_000);
    }

    function check_NobodyExpiresBeforeTheTime(address caller, uint256 time) public {
        uint40 expiresAt = escrow.deal(escrow.dealId(terms)).expiresAt;
        vm.warp(time);
        vm.prank(caller);
        (bool done,) = address(escrow).call(abi.encodeCall(Escrow.expire, (terms)));
        assert(!done || time >= expiresAt);
    }
}
