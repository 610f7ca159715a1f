// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {Escrow} from "../src/Escrow.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {ContractWallet} from "./support/ContractWallet.sol";
import {EscrowFixture} from "./support/EscrowFixture.sol";
import {Permit2Double} from "./support/Permit2Double.sol";

/// @notice Every way into a deal, and every reason to be refused.
contract EscrowEntriesTest is EscrowFixture {
    string private constant _WITNESS =
        "Terms witness)Terms(address buyer,address seller,uint128 amount,uint32 lifetime,uint16 feeBps,uint128 salt)TokenPermissions(address token,uint256 amount)";
    bytes32 private constant _RECEIVE = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    // deposit

    function test_Deposit_HoldsTheMoneyForADay() public {
        Escrow.Terms memory deal = terms(1);
        uint40 expiresAt = uint40(block.timestamp + 24 hours);
        vm.expectEmit(address(escrow));
        emit Escrow.Deposited(
            escrow.dealId(deal), buyer, seller, PRICE, 0, FEE, 1
        );
        bytes32 id = open(deal);
        vm.assertEq(id, escrow.dealId(deal));
        assertDeal(id, Escrow.Status.Open, PRICE);
        vm.assertEq(escrow.deal(id).expiresAt, expiresAt);
        vm.assertEq(usdc.balanceOf(address(escrow)), PRICE);
        vm.assertEq(usdc.balanceOf(buyer), FUNDS - PRICE);
    }

    function test_Deposit_TakesALifetimeFromTheTerms() public {
        Escrow.Terms memory deal = terms(1);
        deal.lifetime = 1;
        vm.assertEq(escrow.deal(open(deal)).expiresAt, block.timestamp + 1);
        deal.lifetime = escrow.MAX_LIFETIME();
        vm.assertEq(escrow.deal(open(deal)).expiresAt, block.timestamp + 365 days);
        deal.lifetime += 1;
        vm.expectRevert(abi.encodeWithSelector(Escrow.LifetimeTooLong.selector, deal.lifetime));
        open(deal);
    }

    function test_Deposit_MayBePaidByAnybodyForTheBuyer() public {
        usdc.mint(stranger, PRICE);
        vm.startPrank(stranger);
        usdc.approve(address(escrow), PRICE);
        bytes32 id = escrow.deposit(terms(1));
        vm.stopPrank();
        assertDeal(id, Escrow.Status.Open, PRICE);
        vm.prank(seller);
        escrow.refund(terms(1));
        vm.assertEq(usdc.balanceOf(buyer), FUNDS + PRICE);
    }

    function test_Deposit_TakesTheSameTermsOnlyOnceWhateverBecameOfThem() public {
        Escrow.Terms memory deal = terms(1);
        bytes32 id = open(deal);
        vm.expectRevert(abi.encodeWithSelector(Escrow.DealExists.selector, id));
        open(deal);
        vm.prank(seller);
        escrow.refund(deal);
        vm.expectRevert(abi.encodeWithSelector(Escrow.DealExists.selector, id));
        open(deal);
    }

    function test_Deposit_RefusesTermsThatWouldLockOrLoseMoney() public {
        Escrow.Terms memory deal = terms(1);
        deal.amount = 0;
        vm.expectRevert(Escrow.NothingToHold.selector);
        open(deal);
        address[3] memory nobodies = [address(0), address(escrow), address(usdc)];
        for (uint256 i = 0; i < 3; ++i) {
            deal = terms(1);
            deal.seller = nobodies[i];
            vm.expectRevert(abi.encodeWithSelector(Escrow.InvalidParty.selector, nobodies[i]));
            open(deal);
            deal = terms(1);
            deal.buyer = nobodies[i];
            vm.expectRevert(abi.encodeWithSelector(Escrow.InvalidParty.selector, nobodies[i]));
            escrow.deposit(deal);
        }
    }

    function test_Deposit_RefusesAnotherAssetAndAnotherFee() public {
        vm.startPrank(buyer);
        Escrow.Terms[] memory batch = new Escrow.Terms[](0);
        vm.expectRevert(Escrow.WrongAsset.selector);
        coin.deposit(terms(1));
        vm.expectRevert(Escrow.WrongAsset.selector);
        coin.depositBatch(batch);
        vm.expectRevert(Escrow.WrongAsset.selector);
        coin.depositWithAuthorization(terms(1), 0, 0, "");
        vm.expectRevert(Escrow.WrongAsset.selector);
        coin.depositWithPermit2(terms(1), 0, 0, "");
        vm.expectRevert(Escrow.WrongAsset.selector);
        escrow.depositNative{value: PRICE}(terms(1));
        vm.stopPrank();
        Escrow.Terms memory deal = terms(1);
        deal.feeBps = FEE - 1;
        vm.expectRevert(abi.encodeWithSelector(Escrow.FeeIsNow.selector, FEE));
        open(deal);
    }

    function test_Deposit_NeedsAllowanceAndFunds() public {
        vm.prank(buyer);
        usdc.approve(address(escrow), PRICE - 1);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        open(terms(1));
        Escrow.Terms memory deal = terms(1);
        deal.amount = uint128(FUNDS + 1);
        vm.prank(buyer);
        usdc.approve(address(escrow), type(uint256).max);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientBalance.selector);
        open(deal);
        assertDeal(escrow.dealId(deal), Escrow.Status.None, 0);
    }

    function test_Entries_AreClosedWhilePaused() public {
        vm.prank(pauser);
        escrow.pauseDeposits();
        Escrow.Terms[] memory batch = new Escrow.Terms[](1);
        batch[0] = terms(1);
        vm.startPrank(buyer);
        vm.expectRevert(Escrow.DepositsArePaused.selector);
        escrow.deposit(terms(1));
        vm.expectRevert(Escrow.DepositsArePaused.selector);
        escrow.depositBatch(batch);
        vm.expectRevert(Escrow.DepositsArePaused.selector);
        escrow.depositWithAuthorization(terms(1), 0, 0, "");
        vm.expectRevert(Escrow.DepositsArePaused.selector);
        escrow.depositWithPermit2(terms(1), 0, 0, "");
        vm.stopPrank();
        vm.startPrank(admin);
        coin.grantRole(coin.PAUSER_ROLE(), admin);
        coin.pauseDeposits();
        vm.stopPrank();
        vm.prank(buyer);
        vm.expectRevert(Escrow.DepositsArePaused.selector);
        coin.depositNative{value: PRICE}(terms(1));
    }

    // depositBatch

    function test_DepositBatch_OpensAllWithOneTransfer() public {
        Escrow.Terms[] memory batch = new Escrow.Terms[](3);
        for (uint128 i = 0; i < 3; ++i) batch[i] = terms(i);
        vm.prank(buyer);
        bytes32[] memory ids = escrow.depositBatch(batch);
        for (uint256 i = 0; i < 3; ++i) assertDeal(ids[i], Escrow.Status.Open, PRICE);
        vm.assertEq(usdc.balanceOf(address(escrow)), 3 * PRICE);
    }

    function test_DepositBatch_RefusesAllWhenOneIsWrong() public {
        Escrow.Terms[] memory batch = new Escrow.Terms[](2);
        (batch[0], batch[1]) = (terms(1), terms(1));
        vm.prank(buyer);
        vm.expectPartialRevert(Escrow.DealExists.selector);
        escrow.depositBatch(batch);
        assertDeal(escrow.dealId(batch[0]), Escrow.Status.None, 0);
    }

    // depositNative

    function test_DepositNative_HoldsCoin() public {
        bytes32 id = openCoin(terms(1));
        vm.assertEq(coin.deal(id).remaining, PRICE);
        vm.assertEq(address(coin).balance, PRICE);
    }

    function test_DepositNative_RefusesAnotherValue() public {
        vm.prank(buyer);
        vm.expectRevert(abi.encodeWithSelector(Escrow.WrongValue.selector, PRICE + 1, PRICE));
        coin.depositNative{value: PRICE + 1}(terms(1));
    }

    function test_Coin_SentWithoutADepositIsRefused() public {
        vm.prank(buyer);
        (bool taken,) = address(coin).call{value: 1}("");
        vm.assertFalse(taken);
    }

    // depositWithAuthorization

    function test_DepositWithAuthorization_IsSentByAnybody() public {
        Escrow.Terms memory deal = terms(1);
        bytes memory signature = _authorised(deal, escrow.dealId(deal));
        vm.prank(stranger);
        bytes32 id = escrow.depositWithAuthorization(deal, 0, type(uint256).max, signature);
        assertDeal(id, Escrow.Status.Open, PRICE);
        vm.assertTrue(usdc.authorizationState(buyer, id));
    }

    function testFuzz_DepositWithAuthorization_StandsForAllTerms(uint8 field) public {
        Escrow.Terms memory deal = terms(1);
        bytes memory signature = _authorised(deal, escrow.dealId(deal));
        field = uint8(bound(field, 0, 3));
        if (field == 0) deal.seller = stranger;
        if (field == 1) deal.amount += 1;
        if (field == 2) deal.lifetime = 30 days;
        if (field == 3) deal.salt = 2;
        vm.prank(stranger);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        escrow.depositWithAuthorization(deal, 0, type(uint256).max, signature);
    }

    function test_DepositWithAuthorization_RefusesANonceThatIsNotTheId() public {
        bytes memory signature = _authorised(terms(1), keccak256("another"));
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        escrow.depositWithAuthorization(terms(1), 0, type(uint256).max, signature);
    }

    function test_DepositWithAuthorization_TakesContractWallets() public {
        ContractWallet wallet = new ContractWallet(buyer);
        usdc.mint(address(wallet), PRICE);
        Escrow.Terms memory deal = terms(1);
        deal.buyer = address(wallet);
        bytes memory signature = _authorised(deal, escrow.dealId(deal));
        assertDeal(
            escrow.depositWithAuthorization(deal, 0, type(uint256).max, signature), Escrow.Status.Open, PRICE
        );
    }

    // depositWithPermit2

    function test_DepositWithPermit2_IsSentByAnybody() public {
        _approvePermit2();
        Escrow.Terms memory deal = terms(1);
        bytes memory signature = _permitted(deal, 7, block.timestamp);
        vm.prank(stranger);
        assertDeal(escrow.depositWithPermit2(deal, 7, block.timestamp, signature), Escrow.Status.Open, PRICE);
    }

    function testFuzz_DepositWithPermit2_StandsForAllTerms(uint8 field) public {
        _approvePermit2();
        Escrow.Terms memory deal = terms(1);
        bytes memory signature = _permitted(deal, 7, block.timestamp);
        field = uint8(bound(field, 0, 3));
        if (field == 0) deal.seller = stranger;
        if (field == 1) deal.amount -= 1;
        if (field == 2) deal.lifetime = 30 days;
        if (field == 3) deal.salt = 2;
        vm.expectRevert(Permit2Double.InvalidSigner.selector);
        escrow.depositWithPermit2(deal, 7, block.timestamp, signature);
    }

    function test_DepositWithPermit2_RefusesAUsedNonceAndALateOne() public {
        _approvePermit2();
        bytes memory signature = _permitted(terms(1), 7, block.timestamp);
        escrow.depositWithPermit2(terms(1), 7, block.timestamp, signature);
        signature = _permitted(terms(2), 7, block.timestamp);
        vm.expectRevert(Permit2Double.InvalidNonce.selector);
        escrow.depositWithPermit2(terms(2), 7, block.timestamp, signature);
        signature = _permitted(terms(2), 8, block.timestamp - 1);
        vm.expectPartialRevert(Permit2Double.SignatureExpired.selector);
        escrow.depositWithPermit2(terms(2), 8, block.timestamp - 1, signature);
    }

    // dealId

    function testFuzz_DealId_DiffersWithEveryTerm(Escrow.Terms memory one, Escrow.Terms memory other) public view {
        vm.assume(keccak256(abi.encode(one)) != keccak256(abi.encode(other)));
        vm.assertTrue(escrow.dealId(one) != escrow.dealId(other));
    }

    function test_DealId_BelongsToOneEscrow() public {
        Escrow second = new Escrow(address(usdc), permit2, treasury, admin, 2 days);
        vm.assertTrue(escrow.dealId(terms(1)) != second.dealId(terms(1)));
    }

    function _approvePermit2() private {
        vm.prank(buyer);
        usdc.approve(address(permit2), type(uint256).max);
    }

    function _authorised(Escrow.Terms memory deal, bytes32 nonce) private view returns (bytes memory) {
        bytes32 message = keccak256(
            abi.encode(_RECEIVE, deal.buyer, address(escrow), deal.amount, 0, type(uint256).max, nonce)
        );
        return signed(BUYER_KEY, keccak256(abi.encodePacked("\x19\x01", usdc.DOMAIN_SEPARATOR(), message)));
    }

    function _permitted(Escrow.Terms memory deal, uint256 nonce, uint256 deadline)
        private
        view
        returns (bytes memory)
    {
        IPermit2.PermitTransferFrom memory permit = IPermit2.PermitTransferFrom(
            IPermit2.TokenPermissions(address(usdc), deal.amount), nonce, deadline
        );
        return signed(BUYER_KEY, permit2.permitHash(permit, address(escrow), escrow.termsHash(deal), _WITNESS));
    }
}
