// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ERC7579Utils, Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {IERC7821} from "@openzeppelin/contracts/interfaces/draft-IERC7821.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {Account} from "../../src/Account.sol";
import {AccountFactory} from "../../src/AccountFactory.sol";
import {Recovery} from "../../src/account/Recovery.sol";
import {BlockingUSDC} from "./BlockingUSDC.sol";
import {Cheats} from "./Cheats.sol";

interface IEntryPointDeposits is IEntryPoint {
    function depositTo(address account) external payable;
    function balanceOf(address account) external view returns (uint256);
    function getUserOpHash(PackedUserOperation calldata userOp) external view returns (bytes32);
}

/// @notice Takes any call and remembers the last.
contract Target {
    uint256 public calls;
    uint256 public value;

    error Refused();

    function ping() external payable {
        calls += 1;
        value += msg.value;
    }

    function fail() external pure {
        revert Refused();
    }
}

/// @notice The published EntryPoint v0.8 at its canonical address, a factory, and an account with funds.
abstract contract AccountFixture is Cheats {
    bytes32 internal constant BATCH = bytes32(bytes1(0x01));
    bytes32 private constant _SALT = 0x0a59dbff790c23c976a548690c27297883cc66b4c67024f9117b0238995e35e9;
    address private constant _CREATE2 = 0x4e59b44847b379578588920cA78FbF26c0B4956C;
    bytes private constant _CREATE2_CODE =
        hex"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3";
    uint256 internal constant OWNER_KEY = 0x0A11CE;
    uint256 internal constant PASSKEY = 0x9A55;
    uint256 internal constant SESSION_KEY = 0x5E55;
    uint48 internal constant DELAY = 3 days;

    IEntryPointDeposits internal entryPoint = IEntryPointDeposits(0x4337084D9E255Ff0702461CF8895CE9E3b5Ff108);
    AccountFactory internal factory;
    Account internal account;
    BlockingUSDC internal usdc;
    Target internal target;
    address internal owner = vm.addr(OWNER_KEY);
    address internal guardian = address(0x6A4D);
    address internal bundler = address(0xB4D1);
    address internal stranger = address(0x57A);

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.fee(1 gwei);
        if (_CREATE2.code.length == 0) vm.etch(_CREATE2, _CREATE2_CODE);
        string memory artifact = vm.readFile("../node_modules/@account-abstraction/contracts/artifacts/EntryPoint.json");
        (bool made,) = _CREATE2.call(abi.encodePacked(_SALT, vm.parseJsonBytes(artifact, ".bytecode")));
        vm.assertTrue(made && address(entryPoint).code.length != 0);
        factory = new AccountFactory();
        account = Account(payable(factory.createAccount(ownerOf(OWNER_KEY, PASSKEY), guardian, DELAY, 0)));
        vm.deal(address(account), 10 ether);
        usdc = new BlockingUSDC(address(this));
        usdc.mint(address(account), 1_000_000);
        target = new Target();
    }

    function ownerOf(uint256 key, uint256 passkey) internal pure returns (Recovery.Owner memory made) {
        if (key != 0) made.key = vm.addr(key);
        if (passkey != 0) {
            (uint256 x, uint256 y) = vm.publicKeyP256(passkey);
            (made.x, made.y) = (bytes32(x), bytes32(y));
        }
    }

    function call(address to, uint256 value, bytes memory data) internal pure returns (Execution[] memory calls) {
        calls = new Execution[](1);
        calls[0] = Execution(to, value, data);
    }

    function ping() internal view returns (Execution[] memory) {
        return call(address(target), 0, abi.encodeCall(Target.ping, ()));
    }

    function operation(address sender, Execution[] memory calls) internal view returns (PackedUserOperation memory op) {
        op.sender = sender;
        op.nonce = entryPoint.getNonce(sender, 0);
        op.callData = abi.encodeCall(IERC7821.execute, (BATCH, ERC7579Utils.encodeBatch(calls)));
        op.accountGasLimits = bytes32(uint256(1_000_000) << 128 | 300_000);
        op.preVerificationGas = 50_000;
        op.gasFees = bytes32(uint256(1 gwei) << 128 | 2 gwei);
    }

    function hashOf(PackedUserOperation memory op) internal view returns (bytes32) {
        return entryPoint.getUserOpHash(op);
    }

    function ecdsa(uint256 key, bytes32 hash) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(Account.Kind.Ecdsa), signed(key, hash));
    }

    function send(PackedUserOperation memory op) internal {
        PackedUserOperation[] memory ops = new PackedUserOperation[](1);
        ops[0] = op;
        vm.prank(bundler, bundler);
        entryPoint.handleOps(ops, payable(bundler));
    }

    function sendAsOwner(Execution[] memory calls) internal {
        PackedUserOperation memory op = operation(address(account), calls);
        op.signature = ecdsa(OWNER_KEY, hashOf(op));
        send(op);
    }

    function expectRefusedSignature(PackedUserOperation memory op) internal {
        vm.expectRevert(abi.encodeWithSelector(IEntryPoint.FailedOp.selector, 0, "AA24 signature error"));
        this.sendExternally(op);
    }

    function sendExternally(PackedUserOperation memory op) external {
        send(op);
    }
}
