// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Account as ERC4337Account} from "@openzeppelin/contracts/account/Account.sol";
import {ERC7579Utils, Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {IERC7821} from "@openzeppelin/contracts/interfaces/draft-IERC7821.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Account} from "../src/Account.sol";
import {Recovery} from "../src/account/Recovery.sol";
import {Sessions} from "../src/account/Sessions.sol";
import {AccountFixture, Target} from "./support/AccountFixture.sol";
import {Vm} from "./support/Cheats.sol";

/// @notice What a session key may do, and that it can do nothing more.
contract SessionsTest is AccountFixture {
    address private key = vm.addr(SESSION_KEY);

    function setUp() public override {
        super.setUp();
        _grant(100, 1 ether, uint48(block.timestamp - 1), uint48(block.timestamp + 1 hours));
    }

    function test_Grant_KeepsTimesCallsAndLimits() public view {
        vm.assertEq(account.session(key).validUntil, block.timestamp + 1 hours);
        vm.assertTrue(account.sessionPermits(key, address(target), Target.ping.selector));
        vm.assertFalse(account.sessionPermits(key, address(target), Target.fail.selector));
        vm.assertEq(account.sessionAllowance(key, address(usdc)).limit, 100);
    }

    function test_Session_MakesTheCallsItNames() public {
        _send(ping());
        vm.assertEq(target.calls(), 1);
    }

    function test_Session_RefusesOtherFunctionsTargetsAndTheAccountItself() public {
        _refused(
            call(address(target), 0, abi.encodeCall(Target.fail, ())), Sessions.NotPermitted.selector
        );
        _refused(call(stranger, 0, abi.encodeCall(Target.ping, ())), Sessions.NotPermitted.selector);
        _refused(
            call(address(account), 0, abi.encodeCall(Recovery.setOwner, (ownerOf(1, 0)))),
            Sessions.NotPermitted.selector
        );
        // The zero address stands for the account itself in ERC-7821.
        _refused(
            call(address(0), 0, abi.encodeCall(Recovery.setOwner, (ownerOf(1, 0)))), Sessions.NotPermitted.selector
        );
        _refused(call(address(target), 0, hex"aabb"), Sessions.NotPermitted.selector);
    }

    function test_Session_ChecksEveryCallOfABatch() public {
        Execution[] memory calls = new Execution[](2);
        calls[0] = ping()[0];
        calls[1] = Execution(address(target), 0, abi.encodeCall(Target.fail, ()));
        _refused(calls, Sessions.NotPermitted.selector);
    }

    function testFuzz_Session_SpendsNoMoreThanItsLimit(uint256 first, uint256 second) public {
        first = bound(first, 1, 100);
        _send(_transfer(first));
        vm.assertEq(usdc.balanceOf(stranger), first);
        if (second <= 100 - first) {
            _send(_transfer(second));
            vm.assertEq(usdc.balanceOf(stranger), first + second);
        } else {
            _refused(_transfer(second), Sessions.OverLimit.selector);
        }
    }

    function test_Session_CountsApprovals() public {
        _send(call(address(usdc), 0, abi.encodeCall(IERC20.approve, (stranger, 60))));
        vm.assertEq(account.sessionAllowance(key, address(usdc)).spent, 60);
        _refused(_transfer(41), Sessions.OverLimit.selector);
        _refused(
            call(address(usdc), 0, abi.encodePacked(IERC20.transfer.selector, new bytes(63))),
            Sessions.NotPermitted.selector
        );
    }

    function test_Session_CountsTwoTransfersOfOneOperation() public {
        Execution[] memory calls = new Execution[](2);
        calls[0] = _transfer(60)[0];
        calls[1] = _transfer(41)[0];
        _refused(calls, Sessions.OverLimit.selector);
        vm.assertEq(usdc.balanceOf(stranger), 0);
    }

    function test_Session_CountsCoinAndTheGasNobodySponsors() public {
        _send(call(address(target), 0.5 ether, abi.encodeCall(Target.ping, ())));
        vm.assertEq(target.value(), 0.5 ether);
        uint256 gasMax = (1_000_000 + 300_000 + 50_000) * 2 gwei;
        vm.assertEq(account.sessionAllowance(key, address(0)).spent, 0.5 ether + gasMax);
        _refused(call(address(target), 0.5 ether, abi.encodeCall(Target.ping, ())), Sessions.OverLimit.selector);
    }

    function test_Session_EndsByItsTime() public {
        vm.warp(block.timestamp + 1 hours + 1);
        PackedUserOperation memory op = _operation(ping());
        vm.expectRevert(abi.encodeWithSelector(IEntryPoint.FailedOp.selector, 0, "AA22 expired or not due"));
        this.sendExternally(op);
    }

    function test_Session_BeginsAtItsTime() public {
        _grant(100, 1 ether, uint48(block.timestamp + 10), uint48(block.timestamp + 20));
        PackedUserOperation memory op = _operation(ping());
        vm.expectRevert(abi.encodeWithSelector(IEntryPoint.FailedOp.selector, 0, "AA22 expired or not due"));
        this.sendExternally(op);
        vm.warp(block.timestamp + 11);
        send(op);
    }

    function test_Revoke_EndsItAtOnce() public {
        vm.prank(address(account));
        account.revokeSession(key);
        vm.assertEq(account.session(key).validAfter, 0);
        vm.assertEq(account.session(key).validUntil, 0);
        expectRefusedSignature(_operation(ping()));
        vm.prank(address(account));
        vm.expectRevert(abi.encodeWithSelector(Sessions.NoSession.selector, key));
        account.revokeSession(key);
    }

    function test_Grant_ReplacesWhatWasGrantedBefore() public {
        _send(_transfer(100));
        vm.startPrank(address(account));
        account.grantSession(
            key, 0, uint48(block.timestamp + 1), new Sessions.Permission[](0), new Sessions.Limit[](0)
        );
        vm.stopPrank();
        vm.assertFalse(account.sessionPermits(key, address(target), Target.ping.selector));
        vm.assertEq(account.sessionAllowance(key, address(usdc)).limit, 0);
    }

    function test_NewOwners_EndEverySession() public {
        vm.prank(address(account));
        account.setOwner(ownerOf(1, 0));
        vm.assertFalse(account.sessionPermits(key, address(target), Target.ping.selector));
        vm.assertEq(account.session(key).validUntil, 0);
        expectRefusedSignature(_operation(ping()));
        // Nor do they burn the gas of an operation without calls.
        expectRefusedSignature(_operation(new Execution[](0)));
        vm.prank(address(account));
        vm.expectRevert(abi.encodeWithSelector(Sessions.NoSession.selector, key));
        account.revokeSession(key);
    }

    function test_Session_CallsNothingButPlainBatches() public {
        PackedUserOperation memory op = operation(address(account), ping());
        bytes memory batch = abi.encode(ping());
        bytes[4] memory bad = [
            abi.encodeCall(Account.setUp, (ownerOf(1, 0), address(0), 0)),
            abi.encodeCall(IERC7821.execute, (bytes32(0), batch)),
            abi.encodePacked(IERC7821.execute.selector, BATCH, uint256(96), uint256(0), batch.length, batch),
            abi.encodePacked(IERC7821.execute.selector, BATCH, uint256(64), type(uint256).max, batch)
        ];
        for (uint256 i = 0; i < 4; ++i) {
            op.callData = bad[i];
            op.signature = abi.encodePacked(uint8(Account.Kind.Session), signed(SESSION_KEY, hashOf(op)));
            _refusedOperation(op, Sessions.NotABatch.selector);
        }
    }

    /// @dev All of these the ABI decoder takes. Its offsets are signed, so they may leave the calldata, and what they find
    /// there is not the same when the session is checked and when the calls are made.
    function test_Session_CallsNothingButBatchesInTheirOnlyForm() public {
        bytes32 selector = Target.ping.selector;
        bytes32 to = bytes32(uint256(uint160(address(target))));
        bytes[3] memory bad = [
            abi.encodePacked(abi.encode(ping()), uint256(0)),
            abi.encodePacked(uint256(32), uint256(1), uint256(64), uint256(0), to, uint256(0), uint256(96), uint256(4), selector),
            abi.encodePacked(uint256(32), uint256(1), uint256(96), uint256(4), selector, to, uint256(0), int256(-64))
        ];
        for (uint256 i = 0; i < 3; ++i) _refusedCallData(abi.encodeCall(IERC7821.execute, (BATCH, bad[i])));
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(address(account));
            account.execute(BATCH, bad[i]);
        }
        vm.assertEq(target.calls(), 3);
    }

    /// @dev With EIP-7702 a session key also chooses what lies before the calls: data that goes to the account first.
    function test_Session_OfADelegatingKeyReadsNothingOutsideItsBatch() public {
        vm.signAndAttachDelegation(address(factory.IMPLEMENTATION()), OWNER_KEY);
        account = Account(payable(owner));
        vm.deal(owner, 1 ether);
        _grant(100, 1 ether, 0, uint48(block.timestamp + 1 hours));
        _send(ping());
        vm.assertEq(target.calls(), 1);
        PackedUserOperation memory op = operation(owner, ping());
        op.initCode = abi.encodePacked(
            bytes20(hex"7702"), abi.encodeCall(Recovery.owner, ()), uint256(uint160(address(target))), new bytes(72)
        );
        bytes memory batch = abi.encode(ping());
        _put(batch, 64, uint256(int256(-259)));
        op.callData = abi.encodeCall(IERC7821.execute, (BATCH, batch));
        op.signature = abi.encodePacked(uint8(Account.Kind.Session), signed(SESSION_KEY, hashOf(op)));
        vm.expectPartialRevert(IEntryPoint.FailedOpWithRevert.selector);
        this.sendExternally(op);
        vm.assertTrue(account.owner().key == owner);
    }

    function test_Session_CallsNothingButTheFunctionOfBatches() public {
        bytes memory batch = abi.encode(ping());
        bytes memory whole = abi.encodeCall(IERC7821.execute, (BATCH, batch));
        whole[3] ^= 0x01;
        _refusedCallData(whole);
        _refusedCallData("");
        _refusedCallData(abi.encodePacked(IERC7821.execute.selector, BATCH, uint256(64), bytes31(0)));
        // One byte more than there is.
        _refusedCallData(abi.encodePacked(IERC7821.execute.selector, BATCH, uint256(64), batch.length + 1, batch));
    }

    function test_Session_OfAnEmptyBatchIsRefusedByItsDecoder() public {
        PackedUserOperation memory op = operation(address(account), ping());
        op.callData = abi.encodeCall(IERC7821.execute, (BATCH, ""));
        op.signature = abi.encodePacked(uint8(Account.Kind.Session), signed(SESSION_KEY, hashOf(op)));
        _refusedOperation(op, ERC7579Utils.ERC7579DecodingError.selector);
    }

    function test_Session_CountsEveryWeiAndTellsOfNoneWhenThereIsNone() public {
        vm.recordLogs();
        _send(ping());
        vm.assertEq(_spendings(), 1);
        uint256 gas_ = account.sessionAllowance(key, address(0)).spent;
        vm.recordLogs();
        _send(call(address(target), 1, abi.encodeCall(Target.ping, ())));
        vm.assertEq(_spendings(), 2);
        vm.assertEq(account.sessionAllowance(key, address(0)).spent, 2 * gas_ + 1);
    }

    function test_Grant_RefusesWhatWouldBeNoLimit() public {
        vm.startPrank(address(account));
        _refusedGrant(address(account), Target.ping.selector);
        _refusedGrant(address(0), Target.ping.selector);
        _refusedGrant(address(usdc), IERC20.transferFrom.selector);
        Sessions.Permission[] memory none = new Sessions.Permission[](0);
        Sessions.Limit[] memory no = new Sessions.Limit[](0);
        vm.expectPartialRevert(Sessions.InvalidSession.selector);
        account.grantSession(address(0), 0, 1, none, no);
        vm.expectPartialRevert(Sessions.InvalidSession.selector);
        account.grantSession(key, 1, 1, none, no);
        // The highest bit would turn seconds into block numbers.
        vm.expectPartialRevert(Sessions.InvalidSession.selector);
        account.grantSession(key, 0, 1 << 47, none, no);
        vm.stopPrank();
    }

    function test_Granting_IsForAnOwner() public {
        vm.startPrank(key);
        vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, key));
        account.grantSession(key, 0, 1, new Sessions.Permission[](0), new Sessions.Limit[](0));
        vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, key));
        account.revokeSession(key);
        vm.stopPrank();
    }

    function _grant(uint128 tokens, uint128 coin, uint48 from, uint48 until) private {
        Sessions.Permission[] memory permissions = new Sessions.Permission[](3);
        permissions[0] = Sessions.Permission(address(target), Target.ping.selector);
        permissions[1] = Sessions.Permission(address(usdc), IERC20.transfer.selector);
        permissions[2] = Sessions.Permission(address(usdc), IERC20.approve.selector);
        Sessions.Limit[] memory limits = new Sessions.Limit[](2);
        limits[0] = Sessions.Limit(address(usdc), tokens);
        limits[1] = Sessions.Limit(address(0), coin);
        vm.prank(address(account));
        account.grantSession(key, from, until, permissions, limits);
    }

    function _refusedGrant(address to, bytes4 selector) private {
        Sessions.Permission[] memory permissions = new Sessions.Permission[](1);
        permissions[0] = Sessions.Permission(to, selector);
        vm.expectRevert(abi.encodeWithSelector(Sessions.NotGrantable.selector, to, selector));
        account.grantSession(key, 0, 1, permissions, new Sessions.Limit[](0));
    }

    /// @dev Another word at a place of some data.
    function _put(bytes memory data, uint256 at, uint256 word) private pure {
        assembly ("memory-safe") {
            mstore(add(add(data, 32), at), word)
        }
    }

    function _spendings() private view returns (uint256 count) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == Sessions.SessionSpent.selector) ++count;
        }
    }

    function _refusedCallData(bytes memory callData) private {
        PackedUserOperation memory op = operation(address(account), ping());
        op.callData = callData;
        op.signature = abi.encodePacked(uint8(Account.Kind.Session), signed(SESSION_KEY, hashOf(op)));
        _refusedOperation(op, Sessions.NotABatch.selector);
    }

    function _transfer(uint256 amount) private view returns (Execution[] memory) {
        return call(address(usdc), 0, abi.encodeCall(IERC20.transfer, (stranger, amount)));
    }

    function _operation(Execution[] memory calls) private view returns (PackedUserOperation memory op) {
        op = operation(address(account), calls);
        op.signature = abi.encodePacked(uint8(Account.Kind.Session), signed(SESSION_KEY, hashOf(op)));
    }

    function _send(Execution[] memory calls) private {
        send(_operation(calls));
    }

    function _refused(Execution[] memory calls, bytes4 reason) private {
        _refusedOperation(_operation(calls), reason);
    }

    /// @dev By the entry point, and for that very reason by the account.
    function _refusedOperation(PackedUserOperation memory op, bytes4 reason) private {
        vm.expectPartialRevert(IEntryPoint.FailedOpWithRevert.selector);
        this.sendExternally(op);
        bytes32 hash = hashOf(op);
        vm.prank(address(entryPoint));
        vm.expectPartialRevert(reason);
        account.validateUserOp(op, hash, 0);
    }
}
