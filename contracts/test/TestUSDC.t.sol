// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC3009, IERC3009Cancel} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Cheats} from "./support/Cheats.sol";
import {ContractWallet} from "./support/ContractWallet.sol";
import {TestUSDC} from "../src/TestUSDC.sol";

contract TestUSDCTest is Cheats {
    uint256 private constant _KEY = 0xA11CE;
    bytes32 private constant _NONCE = keccak256("job-1");
    bytes32 private constant _TRANSFER = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 private constant _RECEIVE = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 private constant _CANCEL = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");
    bytes32 private constant _PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    TestUSDC private usdc;
    address private payer;
    address private payee = address(0xB0B);

    function setUp() public {
        vm.warp(1_000_000);
        payer = vm.addr(_KEY);
        usdc = new TestUSDC(address(this));
        usdc.mint(payer, 1_000_000);
    }

    function test_LooksLikeUsdc() public view {
        vm.assertEq(usdc.name(), "USD Coin");
        vm.assertEq(usdc.symbol(), "USDC");
        vm.assertEq(usdc.version(), "2");
        vm.assertEq(usdc.decimals(), 6);
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("USD Coin"),
                keccak256("2"),
                block.chainid,
                address(usdc)
            )
        );
        vm.assertEq(usdc.DOMAIN_SEPARATOR(), domain);
    }

    function test_OnlyTheOwnerMints() public {
        vm.prank(payee);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, payee));
        usdc.mint(payee, 1);
    }

    function testFuzz_AnyoneMaySubmitATransferOnce(uint256 value, address relayer) public {
        vm.assume(value <= 1_000_000);
        (uint8 v, bytes32 r, bytes32 s) = _signTransfer(_TRANSFER, value, 0, type(uint48).max);
        vm.prank(relayer);
        usdc.transferWithAuthorization(payer, payee, value, 0, type(uint48).max, _NONCE, v, r, s);
        vm.assertEq(usdc.balanceOf(payee), value);
        vm.assertTrue(usdc.authorizationState(payer, _NONCE));
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, _NONCE));
        usdc.transferWithAuthorization(payer, payee, value, 0, type(uint48).max, _NONCE, v, r, s);
    }

    function test_TheBytesFormIsTheSame() public {
        (uint8 v, bytes32 r, bytes32 s) = _signTransfer(_TRANSFER, 5, 0, type(uint48).max);
        vm.expectEmit(true, true, true, true);
        emit IERC3009.AuthorizationUsed(payer, _NONCE);
        usdc.transferWithAuthorization(payer, payee, 5, 0, type(uint48).max, _NONCE, abi.encodePacked(r, s, v));
        vm.assertEq(usdc.balanceOf(payee), 5);
    }

    function testFuzz_AChangedFieldIsRefused(uint256 value, address other) public {
        vm.assume(value != 5 || other != payee);
        (uint8 v, bytes32 r, bytes32 s) = _signTransfer(_TRANSFER, 5, 0, type(uint48).max);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        usdc.transferWithAuthorization(payer, other, value, 0, type(uint48).max, _NONCE, abi.encodePacked(r, s, v));
    }

    function test_BoundsOfTimeAreExclusive() public {
        _expectTimeRevert(1_000_000, 2_000_000);
        _expectTimeRevert(0, 1_000_000);
        (uint8 v, bytes32 r, bytes32 s) = _signTransfer(_TRANSFER, 5, 999_999, 1_000_001);
        usdc.transferWithAuthorization(payer, payee, 5, 999_999, 1_000_001, _NONCE, v, r, s);
    }

    function test_MoreThanThePayerHasIsRefused() public {
        (uint8 v, bytes32 r, bytes32 s) = _signTransfer(_TRANSFER, 1_000_001, 0, type(uint48).max);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, payer, 1_000_000, 1_000_001)
        );
        usdc.transferWithAuthorization(payer, payee, 1_000_001, 0, type(uint48).max, _NONCE, v, r, s);
    }

    function test_OnlyThePayeeReceives() public {
        (uint8 v, bytes32 r, bytes32 s) = _signTransfer(_RECEIVE, 5, 0, type(uint48).max);
        bytes memory signature = abi.encodePacked(r, s, v);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, payee));
        usdc.receiveWithAuthorization(payer, payee, 5, 0, type(uint48).max, _NONCE, signature);
        vm.prank(payee);
        usdc.receiveWithAuthorization(payer, payee, 5, 0, type(uint48).max, _NONCE, signature);
        vm.assertEq(usdc.balanceOf(payee), 5);
    }

    function test_ACancelledAuthorisationIsWorthless() public {
        bytes32 digest = _digest(keccak256(abi.encode(_CANCEL, payer, _NONCE)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_KEY, digest);
        vm.expectEmit(true, true, true, true);
        emit IERC3009Cancel.AuthorizationCanceled(payer, _NONCE);
        usdc.cancelAuthorization(payer, _NONCE, abi.encodePacked(r, s, v));
        (v, r, s) = _signTransfer(_TRANSFER, 5, 0, type(uint48).max);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer, _NONCE));
        usdc.transferWithAuthorization(payer, payee, 5, 0, type(uint48).max, _NONCE, v, r, s);
    }

    function test_NobodyCancelsForThePayer() public {
        bytes32 digest = _digest(keccak256(abi.encode(_CANCEL, payer, _NONCE)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(0xBAD, digest);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        usdc.cancelAuthorization(payer, _NONCE, abi.encodePacked(r, s, v));
    }

    function test_AContractWalletPaysByItsOwnersSignature() public {
        address wallet = address(new ContractWallet(payer));
        usdc.mint(wallet, 100);
        bytes32 words =
            keccak256(abi.encode(_TRANSFER, wallet, payee, uint256(5), uint256(0), uint256(type(uint48).max), _NONCE));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_KEY, _digest(words));
        usdc.transferWithAuthorization(wallet, payee, 5, 0, type(uint48).max, _NONCE, abi.encodePacked(r, s, v));
        vm.assertEq(usdc.balanceOf(payee), 5);
    }

    function test_PermitAllowsOnceUntilItsDeadline() public {
        bytes32 words = keccak256(abi.encode(_PERMIT, payer, payee, uint256(7), uint256(0), uint256(1_000_000)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_KEY, _digest(words));
        usdc.permit(payer, payee, 7, 1_000_000, v, r, s);
        vm.assertEq(usdc.allowance(payer, payee), 7);
        vm.expectRevert(abi.encodeWithSelector(TestUSDC.PermitNotSignedByOwner.selector, payer));
        usdc.permit(payer, payee, 7, 1_000_000, v, r, s);
        vm.warp(1_000_001);
        vm.expectRevert(abi.encodeWithSelector(TestUSDC.PermitExpired.selector, 1_000_000));
        usdc.permit(payer, payee, 7, 1_000_000, v, r, s);
    }

    function test_AContractWalletPermitsByItsOwnersSignature() public {
        address wallet = address(new ContractWallet(payer));
        bytes32 words = keccak256(abi.encode(_PERMIT, wallet, payee, uint256(7), uint256(0), uint256(1_000_000)));
        usdc.permit(wallet, payee, 7, 1_000_000, signed(_KEY, _digest(words)));
        vm.assertEq(usdc.allowance(wallet, payee), 7);
    }

    function _expectTimeRevert(uint256 validAfter, uint256 validBefore) private {
        (uint8 v, bytes32 r, bytes32 s) = _signTransfer(_TRANSFER, 5, validAfter, validBefore);
        vm.expectRevert(
            abi.encodeWithSelector(ERC3009.ERC3009InvalidAuthorizationTime.selector, validAfter, validBefore)
        );
        usdc.transferWithAuthorization(payer, payee, 5, validAfter, validBefore, _NONCE, v, r, s);
    }

    function _signTransfer(bytes32 typehash, uint256 value, uint256 validAfter, uint256 validBefore)
        private
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        bytes32 words = keccak256(abi.encode(typehash, payer, payee, value, validAfter, validBefore, _NONCE));
        return vm.sign(_KEY, _digest(words));
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", usdc.DOMAIN_SEPARATOR(), structHash));
    }
}
