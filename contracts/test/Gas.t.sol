// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {Entitlements} from "../src/Entitlements.sol";
import {Escrow} from "../src/Escrow.sol";
import {TestUSDC} from "../src/TestUSDC.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {BlockingUSDC} from "./support/BlockingUSDC.sol";
import {EscrowFixture} from "./support/EscrowFixture.sol";
import {PaymasterFixture} from "./support/PaymasterFixture.sol";

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

/// @notice What a whole purchase costs: the bundle of one sponsored operation that approves, deposits and mints. The
/// account exists, has acted before and has USDC left; the class has tokens, of which the account has none of this id.
/// forge-config: default.isolate = true
contract PurchaseGasTest is PaymasterFixture {
    uint256 private constant _MINTER_KEY = 0x314;
    uint256 private constant _RUNS = uint256(keccak256("runs of an agent")) >> 64;
    uint256 private constant _MONTHS = uint256(keccak256("months of an agent")) >> 64;
    uint128 private constant _AMOUNT = 1_000_000;

    TestUSDC private money;
    Escrow private escrow;
    Entitlements private tokens;
    address private seller = address(0x5E11);
    uint256 private used;

    function setUp() public override {
        super.setUp();
        money = new TestUSDC(address(this));
        escrow = new Escrow(address(money), IPermit2(address(0)), address(this), address(this), 0);
        tokens = new Entitlements("", address(this), 0);
        tokens.grantRole(tokens.MINTER_ROLE(), vm.addr(_MINTER_KEY));
        tokens.grantRole(tokens.REGISTRAR_ROLE(), address(this));
        tokens.createClass(_RUNS, 1_000, 0, true, "");
        tokens.createClass(_MONTHS, 1_000, 30 days, true, "");
        tokens.createClass(3, 1_000, 0, true, "");
        money.mint(address(account), 10 * _AMOUNT);
        vm.deal(bundler, 1 ether);
        tokens.grantRole(tokens.MINTER_ROLE(), address(this));
        tokens.mint(stranger, _RUNS << 64, 1);
        tokens.mint(stranger, tokens.currentId(_MONTHS), 1);
        _buy(3 << 64, 1);
    }

    function test_PurchaseOfRuns() public {
        _buy(_RUNS << 64, 25);
        _within("purchase of runs", 238_000);
    }

    function test_PurchaseOfAPeriod() public {
        _buy(tokens.currentId(_MONTHS), 1);
        _within("purchase of a period", 238_000);
    }

    function test_RenewalOfAPeriod() public {
        _buy(tokens.currentId(_MONTHS), 1);
        _buy(tokens.currentId(_MONTHS) + 1, 1);
        _within("renewal of a period", 238_000);
    }

    /// @dev Salt and nonce are hashes, as those of the market are: each nonce is the first of its word.
    function _buy(uint256 id, uint64 amount) private {
        uint256 purchase = uint256(keccak256(abi.encode(id)));
        Escrow.Terms memory deal = Escrow.Terms(address(account), seller, _AMOUNT, 0, 250, uint128(purchase));
        Entitlements.Voucher memory voucher = Entitlements.Voucher(
            address(account),
            id,
            amount,
            uint64(purchase >> 128),
            uint48(block.timestamp + 60),
            address(escrow),
            escrow.dealId(deal)
        );
        Execution[] memory calls = new Execution[](3);
        calls[0] = Execution(address(money), 0, abi.encodeCall(money.approve, (address(escrow), _AMOUNT)));
        calls[1] = Execution(address(escrow), 0, abi.encodeCall(escrow.deposit, (deal)));
        calls[2] = Execution(
            address(tokens),
            0,
            abi.encodeCall(
                tokens.mintWithVoucher,
                (voucher, vm.addr(_MINTER_KEY), signed(_MINTER_KEY, tokens.voucherHash(voucher)))
            )
        );
        PackedUserOperation memory op =
            withData(calls, abi.encodePacked(uint8(0), uint48(0), uint48(block.timestamp + 60)));
        op.accountGasLimits = bytes32(uint256(60_000) << 128 | 300_000);
        op.paymasterAndData = abi.encodePacked(op.paymasterAndData, signed(SIGNER_KEY, paymaster.sponsorshipHash(op)));
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        uint256 before = tokens.balanceOf(address(account), id);
        send(op);
        used = vm.lastCallGas().gasTotalUsed;
        vm.assertEq(tokens.balanceOf(address(account), id), before + amount);
    }

    function _within(string memory name, uint256 limit) private {
        vm.snapshotValue("Gas", name, used);
        vm.assertLe(used, limit, name);
    }
}
