// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Account as ERC4337Account} from "@openzeppelin/contracts/account/Account.sol";
import {Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC7739Utils} from "@openzeppelin/contracts/utils/cryptography/draft-ERC7739Utils.sol";
import {Account} from "../src/Account.sol";
import {Recovery} from "../src/account/Recovery.sol";
import {Sessions} from "../src/account/Sessions.sol";
import {AccountFixture, Target} from "./support/AccountFixture.sol";

/// @notice Has a function whose selector is zero, as gas-golfed contracts do.
contract ZeroSelector {
    uint256 public hits;

    fallback() external payable {
        if (msg.data.length >= 4 && bytes4(msg.data[:4]) == 0) hits += 1;
    }

    receive() external payable {}
}

/// @notice Signatures taken elsewhere, sessions stretched, recovery bent.
contract AccountAttacks is AccountFixture {
    string private constant _MAIL = "Mail(string text)";
    bytes32 private constant _APP = keccak256("the application's domain");

    address private key = vm.addr(SESSION_KEY);

    // ERC-1271

    function test_IsValidSignature_OfTypedDataIsBoundToAccountAndApplication() public {
        bytes32 contents = keccak256("contents");
        bytes32 hash = keccak256(abi.encodePacked("\x19\x01", _APP, contents));
        bytes memory signature = _typed(account, contents, block.chainid);
        vm.assertTrue(account.isValidSignature(hash, signature) == 0x1626ba7e);
        vm.assertTrue(account.isValidSignature(keccak256("other"), signature) == 0xffffffff);
        vm.assertTrue(_twin().isValidSignature(hash, signature) == 0xffffffff);
        signature = _typed(account, contents, block.chainid + 1);
        vm.assertTrue(account.isValidSignature(hash, signature) == 0xffffffff);
    }

    function test_IsValidSignature_OfOneChainIsNoneOnAnother() public {
        bytes32 hash = keccak256("message");
        bytes memory signature = ecdsa(OWNER_KEY, nested(account, hash));
        vm.chainId(10);
        vm.assertTrue(account.isValidSignature(hash, signature) == 0xffffffff);
    }

    function test_IsValidSignature_OfEarlierOwnersIsNone() public {
        bytes32 hash = keccak256("message");
        bytes memory signature = ecdsa(OWNER_KEY, nested(account, hash));
        vm.prank(address(account));
        account.setOwner(ownerOf(1, 0));
        vm.assertTrue(account.isValidSignature(hash, signature) == 0xffffffff);
    }

    function test_Signatures_OfMessagesAndOperationsAreNotEachOthers() public {
        PackedUserOperation memory op = operation(address(account), ping());
        bytes32 hash = hashOf(op);
        vm.assertTrue(account.isValidSignature(hash, ecdsa(OWNER_KEY, hash)) == 0xffffffff);
        op.signature = ecdsa(OWNER_KEY, nested(account, hash));
        expectRefusedSignature(op);
    }

    function test_Signatures_HaveNoSecondForm() public {
        PackedUserOperation memory op = operation(address(account), ping());
        (bytes32 r, bytes32 s) = p256(PASSKEY, hashOf(op));
        op.signature = abi.encodePacked(uint8(Account.Kind.P256Key), r, bytes32(P256_ORDER - uint256(s)));
        expectRefusedSignature(op);
        op.signature = abi.encodePacked(uint8(Account.Kind.P256Key), r, s, uint8(0));
        expectRefusedSignature(op);
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        uint8 v;
        (v, r, s) = vm.sign(OWNER_KEY, hashOf(op));
        op.signature = abi.encodePacked(uint8(0), r, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        expectRefusedSignature(op);
    }

    function test_Operation_OfOneAccountIsNoneOfItsOwnersOther() public {
        PackedUserOperation memory op = operation(address(account), ping());
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        op.sender = address(_twin());
        vm.deal(op.sender, 1 ether);
        expectRefusedSignature(op);
    }

    function test_Validation_IsForTheEntryPoint() public {
        PackedUserOperation memory op = operation(address(account), ping());
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        bytes32 hash = hashOf(op);
        vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, address(this)));
        account.validateUserOp(op, hash, 1 ether);
    }

    // sessions

    function test_Session_ForCoinCallsNoFunctionOfTheZeroSelector() public {
        ZeroSelector golfed = new ZeroSelector();
        _grant(address(golfed), bytes4(0), address(0), 1 ether);
        _send(call(address(golfed), 5, ""));
        vm.assertEq(address(golfed).balance, 5);
        _refused(call(address(golfed), 0, hex"00000000"), Sessions.NotPermitted.selector);
        _refused(call(address(golfed), 0, hex"0000000011"), Sessions.NotPermitted.selector);
        _refused(call(address(golfed), 0, hex"00"), Sessions.NotPermitted.selector);
        vm.assertEq(golfed.hits(), 0);
    }

    /// @dev The entry point validates all operations of a bundle before it runs the first.
    function test_Session_SpendsItsLimitOnceInABundle() public {
        _grant(address(usdc), IERC20.transfer.selector, address(usdc), 100);
        PackedUserOperation[] memory ops = new PackedUserOperation[](2);
        ops[0] = _operation(_transfer(100));
        ops[1] = _operation(_transfer(1));
        ops[1].nonce = entryPoint.getNonce(address(account), 7);
        ops[1].signature = _session(hashOf(ops[1]));
        vm.prank(bundler, bundler);
        vm.expectPartialRevert(IEntryPoint.FailedOpWithRevert.selector);
        entryPoint.handleOps(ops, payable(bundler));
    }

    function test_Session_CountsWhatItsFailedCallsWouldHaveSpent() public {
        _grant(address(usdc), IERC20.transfer.selector, address(usdc), 100);
        usdc.setBlocked(stranger, true);
        _send(_transfer(60));
        vm.assertEq(usdc.balanceOf(stranger), 0);
        vm.assertEq(account.sessionAllowance(key, address(usdc)).spent, 60);
    }

    function test_Session_OfOneAccountIsNoneOfItsOwnersOther() public {
        _grant(address(target), Target.ping.selector, address(0), 1 ether);
        PackedUserOperation memory op = _operation(ping());
        op.sender = address(_twin());
        vm.deal(op.sender, 1 ether);
        op.signature = _session(hashOf(op));
        expectRefusedSignature(op);
    }

    function test_Session_CannotRaiseItselfThroughTheAccount() public {
        _grant(address(target), Target.ping.selector, address(0), 1 ether);
        Sessions.Permission[] memory permissions = new Sessions.Permission[](0);
        Sessions.Limit[] memory limits = new Sessions.Limit[](1);
        limits[0] = Sessions.Limit(address(0), type(uint128).max);
        bytes memory raise =
            abi.encodeCall(Sessions.grantSession, (key, 0, type(uint48).max >> 1, permissions, limits));
        _refused(call(address(account), 0, raise), Sessions.NotPermitted.selector);
        _refused(call(address(0), 0, raise), Sessions.NotPermitted.selector);
        bytes memory inner = abi.encode(call(address(0), 0, raise));
        bytes memory wrapped = abi.encodeCall(account.execute, (BATCH, inner));
        _refused(call(address(account), 0, wrapped), Sessions.NotPermitted.selector);
    }

    function test_Session_GrantedAgainCountsFromNothingAndOnlyItsNewLimits() public {
        _grant(address(usdc), IERC20.transfer.selector, address(usdc), 100);
        _send(_transfer(100));
        _grant(address(usdc), IERC20.transfer.selector, address(usdc), 10);
        vm.assertEq(account.session(key).generation, 2);
        _send(_transfer(10));
        _refused(_transfer(1), Sessions.OverLimit.selector);
    }

    function test_Session_GrantedAfterRevokingHasNothingOfTheOld() public {
        _grant(address(usdc), IERC20.transfer.selector, address(usdc), 100);
        vm.startPrank(address(account));
        account.revokeSession(key);
        vm.assertEq(account.session(key).validUntil, 0);
        vm.stopPrank();
        _grant(address(target), Target.ping.selector, address(0), 1 ether);
        vm.assertFalse(account.sessionPermits(key, address(usdc), IERC20.transfer.selector));
        vm.assertEq(account.sessionAllowance(key, address(usdc)).limit, 0);
    }

    function testFuzz_Session_GasNobodySponsorsIsNeverAboveTheLimit(uint128 limit, uint64 gasFee) public {
        gasFee = uint64(bound(gasFee, 1 gwei, 1_000 gwei));
        limit = uint128(bound(limit, 0, 2 ether));
        _grant(address(target), Target.ping.selector, address(0), limit);
        PackedUserOperation memory op = operation(address(account), ping());
        op.gasFees = bytes32(uint256(1 gwei) << 128 | gasFee);
        op.signature = _session(hashOf(op));
        uint256 before = address(account).balance;
        try this.sendExternally(op) {
            vm.assertLe(before - address(account).balance, limit);
        } catch {
            vm.assertTrue(uint256(gasFee) * 1_350_000 > limit);
        }
    }

    // recovery

    function test_Recovery_ProposedAgainWaitsAgain() public {
        vm.startPrank(guardian);
        account.proposeRecovery(ownerOf(2, 0));
        vm.warp(block.timestamp + DELAY - 1);
        account.proposeRecovery(ownerOf(3, 0));
        vm.warp(block.timestamp + 1);
        vm.expectPartialRevert(Recovery.RecoveryNotReady.selector);
        account.finishRecovery();
        vm.stopPrank();
    }

    function test_Recovery_WaitsTheDelayItBeganWith() public {
        vm.prank(guardian);
        account.proposeRecovery(ownerOf(2, 0));
        vm.prank(address(account));
        account.setGuardian(guardian, 1 days);
        // A new delay is a new beginning: the proposal made under the old is gone.
        vm.warp(block.timestamp + 60 days);
        vm.expectRevert(Recovery.NoRecovery.selector);
        account.finishRecovery();
    }

    function test_Recovery_ByADismissedGuardianIsNone() public {
        vm.prank(address(account));
        account.setGuardian(address(0), 0);
        vm.prank(guardian);
        vm.expectRevert(abi.encodeWithSelector(Recovery.NotGuardian.selector, guardian));
        account.proposeRecovery(ownerOf(2, 0));
        // Nor does "nobody" become one.
        vm.prank(address(1));
        vm.expectRevert(abi.encodeWithSelector(Recovery.NotGuardian.selector, address(1)));
        account.proposeRecovery(ownerOf(2, 0));
    }

    function test_Recovery_EndsWhatOldOwnersSignedAndGranted() public {
        _grant(address(target), Target.ping.selector, address(0), 1 ether);
        PackedUserOperation memory op = operation(address(account), ping());
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        vm.prank(guardian);
        account.proposeRecovery(ownerOf(2, 0));
        vm.warp(block.timestamp + DELAY);
        account.finishRecovery();
        expectRefusedSignature(op);
        op.signature = _session(hashOf(op));
        expectRefusedSignature(op);
    }

    function _twin() private returns (Account) {
        return Account(payable(factory.createAccount(ownerOf(OWNER_KEY, PASSKEY), guardian, DELAY, "twin")));
    }

    /// @dev ERC-7739's typed form: what the application wants signed, inside the account's own domain.
    function _typed(Account signer, bytes32 contents, uint256 chain) private view returns (bytes memory) {
        bytes memory domain = abi.encode(
            keccak256("AgentNexus Account"), keccak256("1"), chain, address(signer), bytes32(0)
        );
        bytes32 inner = this.typedHash(_MAIL, contents, domain);
        bytes memory signature = ecdsa(OWNER_KEY, keccak256(abi.encodePacked("\x19\x01", _APP, inner)));
        return ERC7739Utils.encodeTypedDataSig(signature, _APP, contents, _MAIL);
    }

    function typedHash(string calldata described, bytes32 contents, bytes memory domain)
        external
        pure
        returns (bytes32)
    {
        return ERC7739Utils.typedDataSignStructHash(described, contents, domain);
    }

    function _grant(address to, bytes4 selector, address token, uint128 limit) private {
        Sessions.Permission[] memory permissions = new Sessions.Permission[](1);
        permissions[0] = Sessions.Permission(to, selector);
        Sessions.Limit[] memory limits = new Sessions.Limit[](2);
        limits[0] = Sessions.Limit(address(0), 1 ether);
        limits[1] = Sessions.Limit(token, limit);
        vm.prank(address(account));
        account.grantSession(key, 0, uint48(block.timestamp + 1 hours), permissions, limits);
    }

    function _transfer(uint256 amount) private view returns (Execution[] memory) {
        return call(address(usdc), 0, abi.encodeCall(IERC20.transfer, (stranger, amount)));
    }

    function _session(bytes32 hash) private pure returns (bytes memory) {
        return abi.encodePacked(uint8(Account.Kind.Session), signed(SESSION_KEY, hash));
    }

    function _operation(Execution[] memory calls) private view returns (PackedUserOperation memory op) {
        op = operation(address(account), calls);
        op.signature = _session(hashOf(op));
    }

    function _send(Execution[] memory calls) private {
        send(_operation(calls));
    }

    function _refused(Execution[] memory calls, bytes4 reason) private {
        PackedUserOperation memory op = _operation(calls);
        bytes32 hash = hashOf(op);
        vm.prank(address(entryPoint));
        vm.expectPartialRevert(reason);
        account.validateUserOp(op, hash, 0);
    }
}
