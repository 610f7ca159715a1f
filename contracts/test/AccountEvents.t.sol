// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Account} from "../src/Account.sol";
import {Recovery} from "../src/account/Recovery.sol";
import {Sessions} from "../src/account/Sessions.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {AccountFixture, Target} from "./support/AccountFixture.sol";
import {PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";

/// @notice Whoever reads only the log knows all: every change of owners, guardians and sessions tells what it did.
contract AccountEventsTest is AccountFixture {
    address private key = vm.addr(SESSION_KEY);

    function test_Factory_NamesNoGuardianWhereThereIsNone() public {
        vm.recordLogs();
        Account made = Account(payable(factory.createAccount(ownerOf(1, 0), address(0), 5 days, "none")));
        vm.assertEq(vm.getRecordedLogs().length, 2);
        vm.assertEq(made.guardian().delay, 0);
        made = Account(payable(factory.createAccount(ownerOf(1, 0), address(1), 5 days, "one")));
        vm.assertEq(made.guardian().guardian, address(1));
        vm.assertEq(made.guardian().delay, 5 days);
    }

    function test_Owners_TellTheirChange() public {
        Recovery.Owner memory next = ownerOf(1, 2);
        vm.expectEmit(address(account));
        emit Recovery.OwnerChanged(next.key, next.x, next.y);
        vm.prank(address(account));
        account.setOwner(next);
        Recovery.Owner memory now_ = account.owner();
        vm.assertEq(now_.key, next.key);
        vm.assertTrue(now_.x == next.x && now_.y == next.y);
    }

    function test_Guardians_TellTheirChange() public {
        vm.startPrank(address(account));
        vm.expectEmit(address(account));
        emit Recovery.GuardianChanged(stranger, 1 days);
        account.setGuardian(stranger, 1 days);
        account.setGuardian(stranger, 60 days);
        vm.assertEq(account.guardian().delay, 60 days);
        vm.stopPrank();
    }

    function test_Recovery_TellsEveryStep() public {
        Recovery.Owner memory next = ownerOf(2, 3);
        uint48 readyAt = uint48(block.timestamp) + DELAY;
        vm.startPrank(guardian);
        vm.expectEmit(address(account));
        emit Recovery.RecoveryProposed(next.key, next.x, next.y, readyAt);
        account.proposeRecovery(next);
        vm.assertEq(account.pendingRecovery().owner.key, next.key);
        vm.expectEmit(address(account));
        emit Recovery.RecoveryCancelled();
        account.cancelRecovery();
        vm.assertEq(account.pendingRecovery().owner.key, address(0));
        account.proposeRecovery(next);
        vm.stopPrank();
        vm.warp(readyAt);
        vm.expectEmit(address(account));
        emit Recovery.RecoveryFinished();
        account.finishRecovery();
    }

    function test_Sessions_TellWhatTheyMayAndWhatTheySpent() public {
        Sessions.Permission[] memory permissions = new Sessions.Permission[](1);
        permissions[0] = Sessions.Permission(address(usdc), IERC20.transfer.selector);
        Sessions.Limit[] memory limits = new Sessions.Limit[](2);
        (limits[0], limits[1]) = (Sessions.Limit(address(usdc), 100), Sessions.Limit(address(0), 1 ether));
        uint48 until = uint48(block.timestamp + 60);
        vm.expectEmit(address(account));
        emit Sessions.SessionGranted(key, 5, until, permissions, limits);
        vm.prank(address(account));
        account.grantSession(key, 5, until, permissions, limits);
        vm.assertEq(account.session(key).validAfter, 5);
        vm.assertEq(account.session(key).generation, 1);
        for (uint256 spent = 40; spent <= 80; spent += 40) {
            bytes memory data = abi.encodeCall(IERC20.transfer, (stranger, 40));
            PackedUserOperation memory op = operation(address(account), call(address(usdc), 0, data));
            op.signature = abi.encodePacked(uint8(Account.Kind.Session), signed(SESSION_KEY, hashOf(op)));
            vm.expectEmit(address(account));
            emit Sessions.SessionSpent(key, address(usdc), 40, spent);
            send(op);
        }
        vm.expectEmit(address(account));
        emit Sessions.SessionRevoked(key);
        vm.prank(address(account));
        account.revokeSession(key);
    }

    function test_Slots_OfTheAccountAreThoseOfTheirNames() public {
        vm.assertEq(
            uint256(vm.load(address(account), _slotOf("agentnexus.account.recovery"))) & type(uint160).max,
            uint160(owner)
        );
        vm.prank(address(account));
        account.grantSession(
            key, 0, uint48(block.timestamp + 60), new Sessions.Permission[](0), new Sessions.Limit[](0)
        );
        bytes32 byEpoch = keccak256(abi.encode(uint256(1), _slotOf("agentnexus.account.sessions")));
        vm.assertTrue(vm.load(address(account), keccak256(abi.encode(key, byEpoch))) != 0);
    }

    function test_Session_IsNotGrantedTheTimeThatNeverEnds() public {
        Sessions.Permission[] memory none = new Sessions.Permission[](0);
        Sessions.Limit[] memory no = new Sessions.Limit[](0);
        vm.startPrank(address(account));
        account.grantSession(key, 0, (1 << 47) - 1, none, no);
        vm.expectPartialRevert(Sessions.InvalidSession.selector);
        account.grantSession(key, 2, 1, none, no);
        vm.expectPartialRevert(Sessions.InvalidSession.selector);
        account.grantSession(key, 0, 0, none, no);
        account.grantSession(address(1), 0, 1, none, no);
        vm.stopPrank();
        vm.assertEq(account.session(address(1)).validUntil, 1);
    }

    function _slotOf(string memory name) private pure returns (bytes32) {
        return keccak256(abi.encode(uint256(keccak256(bytes(name))) - 1)) & ~bytes32(uint256(0xff));
    }
}
