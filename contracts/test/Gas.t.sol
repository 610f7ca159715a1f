// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Entitlements} from "../src/Entitlements.sol";
import {Escrow} from "../src/Escrow.sol";
import {TestUSDC} from "../src/TestUSDC.sol";
import {BlockingUSDC} from "./support/BlockingUSDC.sol";
import {EscrowFixture} from "./support/EscrowFixture.sol";

/// @notice What whole transactions of an ordinary key cost, with balances that are not zero; no more than the limits.
/// @dev Isolation makes every call a transaction of its own; the figures go to `snapshots/`, which is checked in.
/// forge-config: default.isolate = true
contract GasTest is EscrowFixture {
    Entitlements private tokens;
    address private minter = address(0x314);

    function setUp() public override {
        super.setUp();
        usdc.mint(seller, 1);
        vm.deal(seller, 1 ether);
        open(terms(0));
        openCoin(terms(0));
        vm.startPrank(orchestrator);
        escrow.release(terms(0));
        coin.release(terms(0));
        vm.stopPrank();
        open(terms(1));
        openCoin(terms(1));
        vm.deal(buyer, 1 ether);
        tokens = new Entitlements("", address(this), 0);
        tokens.grantRole(tokens.MINTER_ROLE(), minter);
        tokens.grantRole(tokens.REGISTRAR_ROLE(), address(this));
        tokens.createClass(1, 1_000, 0, false, "");
        vm.prank(minter);
        tokens.mint(stranger, 1 << 64, 1);
    }

    /// @dev The token without the block list, whose two reads belong to no limit.
    function makeToken() internal override returns (BlockingUSDC) {
        return BlockingUSDC(address(new TestUSDC(address(this))));
    }

    function test_Deposit() public {
        Escrow.Terms memory deal = terms(uint128(uint256(keccak256("salt"))));
        vm.prank(buyer);
        escrow.deposit(deal);
        _within("deposit", 70_000);
    }

    function test_DepositNative() public {
        Escrow.Terms memory deal = terms(uint128(uint256(keccak256("salt"))));
        vm.prank(buyer);
        coin.depositNative{value: PRICE}(deal);
        _within("depositNative", 70_000);
    }

    function test_DepositBatchOfTen() public {
        Escrow.Terms[] memory batch = new Escrow.Terms[](10);
        for (uint256 i = 0; i < 10; ++i) batch[i] = terms(uint128(uint256(keccak256(abi.encode(i)))));
        vm.prank(buyer);
        escrow.depositBatch(batch);
        _within("depositBatch of 10", 400_000);
    }

    function test_Release() public {
        vm.prank(orchestrator);
        escrow.release(terms(1));
        _within("release by orchestrator", 55_000);
    }

    function test_ReleaseByBuyer() public {
        vm.prank(buyer);
        escrow.release(terms(1));
        _within("release by buyer", 55_000);
    }

    function test_ReleaseOfCoin() public {
        vm.prank(orchestrator);
        coin.release(terms(1));
        _within("release of coin", 58_000);
    }

    function test_Refund() public {
        vm.prank(orchestrator);
        escrow.refund(terms(1));
        _within("refund by orchestrator", 48_000);
    }

    function test_RefundBySeller() public {
        vm.prank(seller);
        escrow.refund(terms(1));
        _within("refund by seller", 48_000);
    }

    function test_Expire() public {
        expired();
        vm.prank(stranger);
        escrow.expire(terms(1));
        _within("expire", 48_000);
    }

    function test_SweepFees() public {
        usdc.mint(treasury, 1);
        vm.prank(stranger);
        escrow.sweepFees();
        _within("sweepFees", 48_000);
    }

    function test_FirstMint() public {
        vm.prank(minter);
        tokens.mint(buyer, 1 << 64, 1);
        _within("first mint", 58_000);
    }

    function _within(string memory name, uint256 limit) private {
        uint256 used = vm.lastCallGas().gasTotalUsed;
        vm.snapshotValue("Gas", name, used);
        vm.assertLe(used, limit, name);
    }
}
