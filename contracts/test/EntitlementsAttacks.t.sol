// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC1155Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC1155} from "@openzeppelin/contracts/token/ERC1155/IERC1155.sol";
import {IERC1155Receiver} from "@openzeppelin/contracts/token/ERC1155/IERC1155Receiver.sol";
import {ERC1155Holder} from "@openzeppelin/contracts/token/ERC1155/utils/ERC1155Holder.sol";
import {Entitlements} from "../src/Entitlements.sol";
import {Cheats} from "./support/Cheats.sol";

/// @notice Tries to mint once more, and to pass on what is bound to it, while it is given a token.
contract TokenThief is ERC1155Holder {
    Entitlements private immutable _tokens;
    Entitlements.Voucher private _voucher;
    address private _signer;
    bytes private _signature;
    uint256 public refused;

    constructor(Entitlements tokens) {
        _tokens = tokens;
    }

    function prepare(Entitlements.Voucher calldata voucher, address signer, bytes calldata signature) external {
        (_voucher, _signer, _signature) = (voucher, signer, signature);
    }

    function onERC1155Received(address operator, address from, uint256 id, uint256 value, bytes memory data)
        public
        override
        returns (bytes4)
    {
        try _tokens.mintWithVoucher(_voucher, _signer, _signature) {}
        catch {
            refused += 1;
        }
        try _tokens.safeTransferFrom(address(this), tx.origin, id, 1, "") {}
        catch {
            refused += 1;
        }
        return super.onERC1155Received(operator, from, id, value, data);
    }
}

/// @notice Remembers what it was told, and answers what it was given.
contract TokenTaker {
    bytes4 private immutable _answer;
    bytes32 public told;

    constructor(bytes4 answer) {
        _answer = answer;
    }

    function onERC1155Received(address operator, address from, uint256 id, uint256 value, bytes calldata data)
        external
        returns (bytes4)
    {
        told = keccak256(abi.encode(operator, from, id, value, data));
        return _answer;
    }
}

/// @notice The token's own rules (ERC-1155), and ways around caps, binding and vouchers.
contract EntitlementsAttacks is Cheats {
    uint256 private constant _MINTER_KEY = 0x314;
    uint256 private constant _FREE = 7 << 64;
    uint256 private constant _BOUND = 8 << 64;
    uint256 private constant _FULL = 9 << 64;

    Entitlements private tokens;
    address private minter = vm.addr(_MINTER_KEY);
    address private holder = address(0x401D);
    address private other = address(0x07E4);

    function setUp() public {
        vm.warp(1_800_000_000);
        tokens = new Entitlements("", address(this), 2 days);
        tokens.grantRole(tokens.MINTER_ROLE(), minter);
        tokens.grantRole(tokens.REGISTRAR_ROLE(), address(this));
        tokens.createClass(7, 100, 0, false, "");
        tokens.createClass(8, 100, 30 days, true, "");
        tokens.createClass(9, type(uint64).max, 0, false, "");
    }

    // the token's own rules

    function test_Mint_TellsAndAsksItsReceiver() public {
        TokenTaker taker = new TokenTaker(IERC1155Receiver.onERC1155Received.selector);
        vm.expectEmit(address(tokens));
        emit IERC1155.TransferSingle(minter, address(0), address(taker), _FREE, 3);
        _mint(address(taker), _FREE, 3);
        vm.assertEq(tokens.balanceOf(address(taker), _FREE), 3);
        vm.assertEq(taker.told(), keccak256(abi.encode(minter, address(0), _FREE, 3, bytes(""))));
    }

    function test_Mint_ToNobodyOrToARefuserIsRefused() public {
        vm.expectRevert(abi.encodeWithSelector(IERC1155Errors.ERC1155InvalidReceiver.selector, address(0)));
        _mint(address(0), _FREE, 1);
        TokenTaker refuser = new TokenTaker(bytes4(0));
        vm.expectRevert(abi.encodeWithSelector(IERC1155Errors.ERC1155InvalidReceiver.selector, address(refuser)));
        _mint(address(refuser), _FREE, 1);
        vm.assertEq(tokens.classOf(7).supply, 0);
    }

    function testFuzz_Transfer_MovesBalancesAndKeepsTheirSum(uint64 minted, uint64 moved, bool toItself) public {
        minted = uint64(bound(minted, 1, 100));
        moved = uint64(bound(moved, 0, minted));
        address to = toItself ? holder : other;
        _mint(holder, _FREE, minted);
        vm.expectEmit(address(tokens));
        emit IERC1155.TransferSingle(holder, holder, to, _FREE, moved);
        vm.prank(holder);
        tokens.safeTransferFrom(holder, to, _FREE, moved, "");
        vm.assertEq(tokens.balanceOf(holder, _FREE), toItself ? minted : minted - moved);
        vm.assertEq(tokens.balanceOf(other, _FREE), toItself ? 0 : moved);
        vm.assertEq(tokens.classOf(7).supply, minted);
    }

    function test_Transfer_OfMoreThanIsHeldIsRefused() public {
        _mint(holder, _FREE, 1);
        _mint(other, _FREE, 1);
        vm.startPrank(holder);
        vm.expectRevert(
            abi.encodeWithSelector(IERC1155Errors.ERC1155InsufficientBalance.selector, holder, 1, 2, _FREE)
        );
        tokens.safeTransferFrom(holder, other, _FREE, 2, "");
        vm.expectPartialRevert(IERC1155Errors.ERC1155InsufficientBalance.selector);
        tokens.safeTransferFrom(holder, holder, _FREE, 2, "");
        (uint256[] memory ids, uint256[] memory amounts) = _lists(_FREE, 1, _FREE, 1);
        vm.expectPartialRevert(IERC1155Errors.ERC1155InsufficientBalance.selector);
        tokens.safeBatchTransferFrom(holder, other, ids, amounts, "");
        vm.stopPrank();
    }

    function test_Transfer_ByStrangersIsRefusedEvenOfNothing() public {
        _mint(holder, _FREE, 1);
        vm.startPrank(other);
        vm.expectPartialRevert(IERC1155Errors.ERC1155MissingApprovalForAll.selector);
        tokens.safeTransferFrom(holder, other, _FREE, 1, "");
        vm.expectPartialRevert(IERC1155Errors.ERC1155MissingApprovalForAll.selector);
        tokens.safeTransferFrom(holder, other, _FREE, 0, "");
        vm.stopPrank();
    }

    function test_Transfer_OfAListMovesEachAndTellsOnce() public {
        _mint(holder, _FREE, 5);
        _mint(holder, _FULL, 6);
        (uint256[] memory ids, uint256[] memory amounts) = _lists(_FREE, 2, _FULL, 3);
        vm.expectEmit(address(tokens));
        emit IERC1155.TransferBatch(holder, holder, other, ids, amounts);
        vm.prank(holder);
        tokens.safeBatchTransferFrom(holder, other, ids, amounts, "");
        vm.assertEq(tokens.balanceOf(other, _FREE), 2);
        vm.assertEq(tokens.balanceOf(other, _FULL), 3);
        vm.assertEq(tokens.balanceOf(holder, _FULL), 3);
        address[] memory holders = new address[](2);
        (holders[0], holders[1]) = (holder, other);
        uint256[] memory balances = tokens.balanceOfBatch(holders, ids);
        vm.assertEq(balances[0], 3);
        vm.assertEq(balances[1], 3);
    }

    function test_Lists_OfUnequalLengthAreRefused() public {
        uint256[] memory ids = new uint256[](2);
        (ids[0], ids[1]) = (_FREE, _FULL);
        uint256[] memory amounts = new uint256[](1);
        vm.prank(minter);
        vm.expectRevert(abi.encodeWithSelector(IERC1155Errors.ERC1155InvalidArrayLength.selector, 2, 1));
        tokens.mintBatch(holder, ids, amounts);
        vm.startPrank(holder);
        vm.expectRevert(abi.encodeWithSelector(IERC1155Errors.ERC1155InvalidArrayLength.selector, 2, 1));
        tokens.safeBatchTransferFrom(holder, other, ids, amounts, "");
        vm.expectRevert(abi.encodeWithSelector(IERC1155Errors.ERC1155InvalidArrayLength.selector, 2, 1));
        tokens.burnBatch(holder, ids, amounts);
        vm.stopPrank();
    }

    function test_Burn_TellsAndCounts() public {
        _mint(holder, _FREE, 5);
        vm.expectEmit(address(tokens));
        emit IERC1155.TransferSingle(holder, holder, address(0), _FREE, 2);
        vm.startPrank(holder);
        tokens.burn(holder, _FREE, 2);
        vm.expectPartialRevert(IERC1155Errors.ERC1155InsufficientBalance.selector);
        tokens.burn(holder, _FREE, 4);
        // Its low 64 bits alone would be one.
        vm.expectPartialRevert(IERC1155Errors.ERC1155InsufficientBalance.selector);
        tokens.burn(holder, _FREE, (1 << 64) + 1);
        vm.stopPrank();
        vm.assertEq(tokens.classOf(7).supply, 3);
        vm.assertEq(tokens.balanceOf(address(0), _FREE), 0);
    }

    // caps

    function test_Cap_OfTheLargestClassDoesNotWrap() public {
        _mint(holder, _FULL, type(uint64).max);
        vm.expectPartialRevert(Entitlements.CapReached.selector);
        _mint(holder, _FULL, 1);
        (uint256[] memory ids, uint256[] memory amounts) = _lists(_FULL, type(uint256).max, _FULL, 1);
        vm.prank(minter);
        vm.expectPartialRevert(Entitlements.CapReached.selector);
        tokens.mintBatch(holder, ids, amounts);
        Entitlements.Class memory class = tokens.classOf(9);
        vm.assertEq(class.supply, type(uint64).max);
        vm.assertEq(class.cap, type(uint64).max);
        vm.assertTrue(class.exists && class.active && !class.soulbound && class.period == 0);
    }

    function test_Cap_IsOneForAllEpochsOfAClass() public {
        uint256 id = tokens.currentId(8);
        _mint(holder, id, 60);
        vm.expectPartialRevert(Entitlements.CapReached.selector);
        _mint(holder, id + 1, 41);
        _mint(holder, id + 1, 40);
    }

    // epochs

    function test_Access_OfAnEpochToComeIsNotYet() public {
        uint256 id = tokens.currentId(8);
        _mint(holder, id + 1, 1);
        vm.assertFalse(tokens.hasAccess(holder, 8));
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NotExpired.selector, id + 1));
        tokens.burnExpired(holder, id + 1, 1);
        vm.warp((uint64(id) + 1) * uint256(30 days));
        vm.assertTrue(tokens.hasAccess(holder, 8));
    }

    function test_Access_OfOneClassIsNoneOfItsNeighbours() public {
        _mint(holder, _FREE, 1);
        vm.assertTrue(tokens.hasAccess(holder, 7));
        vm.assertFalse(tokens.hasAccess(holder, 8));
        vm.assertFalse(tokens.hasAccess(holder, 9));
        vm.expectPartialRevert(Entitlements.NoSuchEpoch.selector);
        _mint(holder, _FREE | 1, 1);
    }

    function test_BurnExpired_TakesOnlyWhatIsOver() public {
        uint256 id = tokens.currentId(8);
        uint256 ends = (uint64(id) + 1) * uint256(30 days);
        _mint(holder, id, 2);
        vm.warp(ends - 1);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.NotExpired.selector, id));
        tokens.burnExpired(holder, id, 1);
        vm.warp(ends);
        tokens.burnExpired(holder, id, 2);
        vm.expectPartialRevert(IERC1155Errors.ERC1155InsufficientBalance.selector);
        tokens.burnExpired(holder, id, 1);
        vm.expectPartialRevert(Entitlements.NoSuchClass.selector);
        tokens.burnExpired(holder, 99 << 64 | 1, 1);
    }

    // soulbound

    function test_Soulbound_IsNotPassedOnByAnOperatorNorInNothing() public {
        _mint(holder, _BOUND, 1);
        vm.startPrank(holder);
        vm.expectPartialRevert(Entitlements.Soulbound.selector);
        tokens.safeTransferFrom(holder, other, _BOUND, 0, "");
        vm.expectPartialRevert(Entitlements.Soulbound.selector);
        tokens.safeTransferFrom(holder, holder, _BOUND, 1, "");
        tokens.setApprovalForAll(other, true);
        vm.stopPrank();
        vm.prank(other);
        tokens.burn(holder, _BOUND, 1);
        vm.assertEq(tokens.balanceOf(holder, _BOUND), 0);
    }

    function test_Receiver_WhoCallsBackGetsNoMore() public {
        TokenThief thief = new TokenThief(tokens);
        Entitlements.Voucher memory voucher =
            Entitlements.Voucher(address(thief), _BOUND, 1, 1, uint48(block.timestamp), address(0), "deal");
        bytes memory signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
        thief.prepare(voucher, minter, signature);
        tokens.mintWithVoucher(voucher, minter, signature);
        vm.assertEq(thief.refused(), 2);
        vm.assertEq(tokens.balanceOf(address(thief), _BOUND), 1);
        vm.assertEq(tokens.classOf(8).supply, 1);
    }

    // vouchers

    function test_Voucher_IsNoneForAnotherContractOrOnAnotherChain() public {
        Entitlements.Voucher memory voucher =
            Entitlements.Voucher(holder, _FREE, 1, 1, uint48(block.timestamp), address(0), "deal");
        bytes memory signature = signed(_MINTER_KEY, tokens.voucherHash(voucher));
        Entitlements second = new Entitlements("", address(this), 0);
        second.grantRole(second.MINTER_ROLE(), minter);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.VoucherNotSigned.selector, minter));
        second.mintWithVoucher(voucher, minter, signature);
        vm.chainId(10);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.VoucherNotSigned.selector, minter));
        tokens.mintWithVoucher(voucher, minter, signature);
    }

    function test_Voucher_OfOneHolderSpendsNoOthersNonce() public {
        Entitlements.Voucher memory voucher =
            Entitlements.Voucher(holder, _FREE, 1, 5, uint48(block.timestamp), address(0), "deal");
        tokens.mintWithVoucher(voucher, minter, signed(_MINTER_KEY, tokens.voucherHash(voucher)));
        voucher.to = other;
        tokens.mintWithVoucher(voucher, minter, signed(_MINTER_KEY, tokens.voucherHash(voucher)));
        vm.assertTrue(tokens.nonceUsed(other, 5));
        vm.assertFalse(tokens.nonceUsed(other, 4));
    }

    // pausing

    function test_Pause_CannotBeWaitedOutByAMinterWhoLeaves() public {
        tokens.grantRole(tokens.PAUSER_ROLE(), address(this));
        tokens.pauseMinting();
        bytes32 role = tokens.MINTER_ROLE();
        vm.prank(minter);
        tokens.renounceRole(role, minter);
        tokens.unpauseMinting();
        vm.assertFalse(tokens.hasRole(role, minter));
    }

    function _mint(address to, uint256 id, uint64 amount) private {
        vm.prank(minter);
        tokens.mint(to, id, amount);
    }

    function _lists(uint256 first, uint256 ofFirst, uint256 second, uint256 ofSecond)
        private
        pure
        returns (uint256[] memory ids, uint256[] memory amounts)
    {
        (ids, amounts) = (new uint256[](2), new uint256[](2));
        (ids[0], ids[1], amounts[0], amounts[1]) = (first, second, ofFirst, ofSecond);
    }
}
