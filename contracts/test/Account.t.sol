// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Account as ERC4337Account} from "@openzeppelin/contracts/account/Account.sol";
import {ERC7821} from "@openzeppelin/contracts/account/extensions/draft-ERC7821.sol";
import {Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {Account} from "../src/Account.sol";
import {AccountFactory} from "../src/AccountFactory.sol";
import {Recovery} from "../src/account/Recovery.sol";
import {AccountFixture, Target} from "./support/AccountFixture.sol";

/// @notice Owners, their signatures, EIP-1271, EIP-7702, the factory and recovery.
contract AccountTest is AccountFixture {
    // factory

    function test_Factory_AnswersTheSameAddressBeforeAndAfter() public {
        Recovery.Owner memory made = ownerOf(1, 0);
        address expected = factory.addressOf(made, address(0), 0, "x");
        vm.assertEq(expected.code.length, 0);
        vm.expectEmit(address(factory));
        emit AccountFactory.AccountCreated(expected, made.key, 0, 0, address(0), 0);
        vm.prank(stranger);
        vm.assertEq(factory.createAccount(made, address(0), 0, "x"), expected);
        vm.assertEq(factory.createAccount(made, address(0), 0, "x"), expected);
        vm.assertEq(Account(payable(expected)).owner().key, made.key);
    }

    function testFuzz_Factory_PutsDifferentOwnersAtDifferentAddresses(uint256 key, bytes32 salt) public view {
        key = bound(key, 1, 1 << 200);
        vm.assertTrue(
            factory.addressOf(ownerOf(key, 0), address(0), 0, salt)
                != factory.addressOf(ownerOf(key + 1, 0), address(0), 0, salt)
        );
        vm.assertTrue(
            factory.addressOf(ownerOf(key, 0), address(0), 0, salt)
                != factory.addressOf(ownerOf(key, 0), guardian, DELAY, salt)
        );
    }

    function test_SetUp_IsForTheFactoryOnce() public {
        vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, address(this)));
        account.setUp(ownerOf(1, 0), address(0), 0);
        vm.prank(address(factory));
        vm.expectRevert(Account.AlreadySetUp.selector);
        account.setUp(ownerOf(1, 0), address(0), 0);
    }

    function test_Factory_RefusesOwnersWhoCouldNeverSign() public {
        Recovery.Owner memory nobody;
        vm.expectRevert(Recovery.NoOwner.selector);
        factory.createAccount(nobody, address(0), 0, 0);
        nobody.x = bytes32(uint256(1));
        vm.expectRevert(abi.encodeWithSelector(Recovery.NotOnCurve.selector, nobody.x, 0));
        factory.createAccount(nobody, address(0), 0, 0);
    }

    function test_Factory_IsUsableInsideAnOperation() public {
        Recovery.Owner memory made = ownerOf(1, 0);
        address fresh = factory.addressOf(made, address(0), 0, "op");
        vm.deal(fresh, 1 ether);
        PackedUserOperation memory op = operation(fresh, ping());
        op.initCode =
            abi.encodePacked(factory, abi.encodeCall(AccountFactory.createAccount, (made, address(0), 0, "op")));
        op.signature = ecdsa(1, hashOf(op));
        send(op);
        vm.assertEq(target.calls(), 1);
    }

    // user operations

    function test_Operation_ByTheEcdsaOwner() public {
        sendAsOwner(ping());
        vm.assertEq(target.calls(), 1);
    }

    function test_Operation_RunsAllCallsOfABatch() public {
        Execution[] memory calls = new Execution[](2);
        calls[0] = Execution(address(target), 1 wei, abi.encodeCall(Target.ping, ()));
        calls[1] = Execution(address(target), 2 wei, abi.encodeCall(Target.ping, ()));
        sendAsOwner(calls);
        vm.assertEq(target.value(), 3);
    }

    function test_Operation_WhoseCallFailsChangesNothing() public {
        Execution[] memory calls = new Execution[](2);
        calls[0] = ping()[0];
        calls[1] = Execution(address(target), 0, abi.encodeCall(Target.fail, ()));
        sendAsOwner(calls);
        vm.assertEq(target.calls(), 0);
    }

    function test_Operation_ByThePasskey() public {
        PackedUserOperation memory op = operation(address(account), ping());
        op.signature = byPasskey(PASSKEY, hashOf(op));
        send(op);
        vm.assertEq(target.calls(), 1);
    }

    function test_Operation_ByTheP256Key() public {
        PackedUserOperation memory op = operation(address(account), ping());
        (bytes32 r, bytes32 s) = p256(PASSKEY, hashOf(op));
        op.signature = abi.encodePacked(uint8(Account.Kind.P256Key), r, s);
        send(op);
        vm.assertEq(target.calls(), 1);
    }

    function test_Operation_OfStrangersIsRefusedInEveryKind() public {
        PackedUserOperation memory op = operation(address(account), ping());
        bytes32 hash = hashOf(op);
        op.signature = ecdsa(1, hash);
        expectRefusedSignature(op);
        op.signature = byPasskey(1, hash);
        expectRefusedSignature(op);
        (bytes32 r, bytes32 s) = p256(1, hash);
        op.signature = abi.encodePacked(uint8(Account.Kind.P256Key), r, s);
        expectRefusedSignature(op);
        op.signature = abi.encodePacked(uint8(Account.Kind.Session), signed(1, hash));
        expectRefusedSignature(op);
        bytes[4] memory junk = [bytes(""), hex"00", hex"01", hex"04aabb"];
        for (uint256 i = 0; i < 4; ++i) {
            op.signature = junk[i];
            expectRefusedSignature(op);
        }
    }

    function test_Operation_OfAnAccountWithoutAPasskeyTakesNone() public {
        Account plain = Account(payable(factory.createAccount(ownerOf(OWNER_KEY, 0), address(0), 0, "plain")));
        vm.deal(address(plain), 1 ether);
        PackedUserOperation memory op = operation(address(plain), ping());
        op.signature = byPasskey(PASSKEY, hashOf(op));
        expectRefusedSignature(op);
    }

    function test_Operation_OfAPasskeyAccountTakesNoEcdsaKey() public {
        Account plain = Account(payable(factory.createAccount(ownerOf(0, PASSKEY), address(0), 0, "passkey")));
        vm.deal(address(plain), 1 ether);
        PackedUserOperation memory op = operation(address(plain), ping());
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectRefusedSignature(op);
        op.signature = abi.encodePacked(uint8(0), new bytes(65));
        expectRefusedSignature(op);
    }

    function test_Execute_IsForTheEntryPointAndTheAccount() public {
        bytes memory batch = abi.encode(ping());
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, owner));
        account.execute(BATCH, batch);
        vm.prank(address(account));
        account.execute(BATCH, batch);
        vm.prank(address(account));
        vm.expectRevert(ERC7821.UnsupportedExecutionMode.selector);
        account.execute(bytes32(0), batch);
    }

    // EIP-1271

    function test_IsValidSignature_IsBoundToTheAccount() public {
        bytes32 hash = keccak256("message");
        bytes memory signature = ecdsa(OWNER_KEY, nested(account, hash));
        vm.assertTrue(account.isValidSignature(hash, signature) == 0x1626ba7e);
        vm.assertTrue(account.isValidSignature(keccak256("other"), signature) == 0xffffffff);
        Account twin = Account(payable(factory.createAccount(ownerOf(OWNER_KEY, 0), address(0), 0, "twin")));
        vm.assertTrue(twin.isValidSignature(hash, signature) == 0xffffffff);
        // A signature of the bare hash could be taken to another account of the same owner.
        vm.assertTrue(account.isValidSignature(hash, ecdsa(OWNER_KEY, hash)) == 0xffffffff);
    }

    function test_IsValidSignature_ByThePasskeyAndNotBySessions() public view {
        bytes32 hash = keccak256("message");
        bytes32 nested = nested(account, hash);
        vm.assertTrue(account.isValidSignature(hash, byPasskey(PASSKEY, nested)) == 0x1626ba7e);
        bytes memory session = abi.encodePacked(uint8(Account.Kind.Session), signed(SESSION_KEY, nested));
        vm.assertTrue(account.isValidSignature(hash, session) == 0xffffffff);
        vm.assertTrue(account.isValidSignature(hash, "") == 0xffffffff);
    }

    // EIP-7702

    function test_Delegation_MakesTheKeyItsOwnOwner() public {
        uint256 key = 0x7702;
        address eoa = vm.addr(key);
        vm.deal(eoa, 1 ether);
        vm.etch(eoa, abi.encodePacked(hex"ef0100", address(factory.IMPLEMENTATION())));
        PackedUserOperation memory op = operation(eoa, ping());
        op.signature = ecdsa(key, hashOf(op));
        send(op);
        vm.assertEq(target.calls(), 1);
        vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, address(this)));
        Account(payable(eoa)).setUp(ownerOf(1, 0), address(0), 0);
    }

    function test_Implementation_IsNobodysAccount() public {
        Account implementation = factory.IMPLEMENTATION();
        vm.deal(address(implementation), 1 ether);
        PackedUserOperation memory op = operation(address(implementation), ping());
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectRefusedSignature(op);
    }

    function test_Account_NamesTheEntryPointItTrusts() public view {
        vm.assertEq(address(account.entryPoint()), address(entryPoint));
    }

    // receivers

    function test_Account_TakesCoinAndTokensOfEveryKind() public {
        vm.assertTrue(account.supportsInterface(0x4e2312e0));
        vm.assertTrue(account.onERC721Received(address(0), address(0), 0, "") == 0x150b7a02);
        vm.assertTrue(account.onERC1155Received(address(0), address(0), 0, 0, "") == 0xf23a6e61);
        vm.assertEq(address(account).balance, 10 ether);
    }

    // setOwner, setGuardian

    function test_SetOwner_IsForAnOwnerAndEndsTheOld() public {
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, owner));
        account.setOwner(ownerOf(1, 0));
        sendAsOwner(call(address(account), 0, abi.encodeCall(Recovery.setOwner, (ownerOf(1, 0)))));
        vm.assertEq(account.owner().key, vm.addr(1));
        PackedUserOperation memory op = operation(address(account), ping());
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        expectRefusedSignature(op);
        op.signature = byPasskey(PASSKEY, hashOf(op));
        expectRefusedSignature(op);
    }

    function test_SetGuardian_HasBounds() public {
        vm.startPrank(address(account));
        vm.expectRevert(abi.encodeWithSelector(Recovery.InvalidDelay.selector, 1 days - 1));
        account.setGuardian(guardian, 1 days - 1);
        vm.expectRevert(abi.encodeWithSelector(Recovery.InvalidDelay.selector, 60 days + 1));
        account.setGuardian(guardian, 60 days + 1);
        vm.expectRevert(abi.encodeWithSelector(Recovery.InvalidGuardian.selector, address(account)));
        account.setGuardian(address(account), 1 days);
        account.setGuardian(address(0), 0);
        vm.stopPrank();
        vm.assertEq(account.guardian().guardian, address(0));
        vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, address(this)));
        account.setGuardian(stranger, 1 days);
    }

    // recovery

    function test_Recovery_TakesItsDelayAndThenAnyoneFinishes() public {
        vm.prank(guardian);
        account.proposeRecovery(ownerOf(2, 0));
        uint48 readyAt = uint48(block.timestamp) + DELAY;
        vm.assertEq(account.pendingRecovery().readyAt, readyAt);
        vm.warp(readyAt - 1);
        vm.expectRevert(abi.encodeWithSelector(Recovery.RecoveryNotReady.selector, readyAt));
        account.finishRecovery();
        vm.warp(readyAt);
        vm.prank(stranger);
        account.finishRecovery();
        vm.assertEq(account.owner().key, vm.addr(2));
        vm.assertTrue(account.owner().x == 0);
        vm.expectRevert(Recovery.NoRecovery.selector);
        account.finishRecovery();
    }

    function test_Recovery_IsProposedByTheGuardianOnly() public {
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(Recovery.NotGuardian.selector, stranger));
        account.proposeRecovery(ownerOf(2, 0));
        Recovery.Owner memory nobody;
        vm.prank(guardian);
        vm.expectRevert(Recovery.NoOwner.selector);
        account.proposeRecovery(nobody);
    }

    function test_Recovery_IsCancelledByTheOwnerOrTheGuardian() public {
        address[2] memory cancellers = [address(account), guardian];
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(guardian);
            account.proposeRecovery(ownerOf(2, 0));
            vm.prank(stranger);
            vm.expectRevert(abi.encodeWithSelector(ERC4337Account.AccountUnauthorized.selector, stranger));
            account.cancelRecovery();
            vm.prank(cancellers[i]);
            account.cancelRecovery();
            vm.warp(block.timestamp + DELAY);
            vm.expectRevert(Recovery.NoRecovery.selector);
            account.finishRecovery();
        }
        vm.prank(guardian);
        vm.expectRevert(Recovery.NoRecovery.selector);
        account.cancelRecovery();
    }

    function test_Recovery_IsDroppedWhenOwnersOrGuardianChange() public {
        vm.prank(guardian);
        account.proposeRecovery(ownerOf(2, 0));
        vm.prank(address(account));
        account.setGuardian(stranger, DELAY);
        vm.assertEq(account.pendingRecovery().readyAt, 0);
        vm.prank(stranger);
        account.proposeRecovery(ownerOf(2, 0));
        vm.prank(address(account));
        account.setOwner(ownerOf(3, 0));
        vm.assertEq(account.pendingRecovery().readyAt, 0);
    }
}
