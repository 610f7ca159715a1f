// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ERC7579Utils, Execution} from "@openzeppelin/contracts/account/utils/draft-ERC7579Utils.sol";
import {IERC7821} from "@openzeppelin/contracts/interfaces/draft-IERC7821.sol";
import {IEntryPoint, PackedUserOperation} from "@openzeppelin/contracts/interfaces/IERC4337.sol";
import {Base64} from "@openzeppelin/contracts/utils/Base64.sol";
import {WebAuthn} from "@openzeppelin/contracts/utils/cryptography/WebAuthn.sol";
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
    uint256 internal constant P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551;
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

    function p256(uint256 key, bytes32 hash) internal pure returns (bytes32 r, bytes32 s) {
        (r, s) = vm.signP256(key, hash);
        if (uint256(s) > P256_ORDER / 2) s = bytes32(P256_ORDER - uint256(s));
    }

    function byPasskey(uint256 key, bytes32 hash) internal pure returns (bytes memory) {
        string memory client = string.concat(
            '{"type":"webauthn.get","challenge":"', Base64.encodeURL(abi.encodePacked(hash)), '","origin":"x"}'
        );
        bytes memory data = abi.encodePacked(sha256("example.org"), uint8(5), uint32(0));
        (bytes32 r, bytes32 s) = p256(key, sha256(abi.encodePacked(data, sha256(bytes(client)))));
        WebAuthn.WebAuthnAuth memory assertion = WebAuthn.WebAuthnAuth(r, s, 23, 1, data, client);
        bytes memory encoded = abi.encode(assertion);
        // The struct's own words, without the offset that `abi.encode` puts before them.
        bytes memory body = new bytes(encoded.length - 32);
        for (uint256 i = 0; i < body.length; ++i) body[i] = encoded[i + 32];
        return abi.encodePacked(uint8(Account.Kind.Passkey), body);
    }

    /// @dev What an owner signs for a plain hash: ERC-7739's personal form under the account's own domain.
    function nested(Account signer, bytes32 hash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("AgentNexus Account"),
                keccak256("1"),
                block.chainid,
                address(signer)
            )
        );
        bytes32 message = keccak256(abi.encode(keccak256("PersonalSign(bytes prefixed)"), hash));
        return keccak256(abi.encodePacked("\x19\x01", domain, message));
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
