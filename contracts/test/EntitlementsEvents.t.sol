// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC1155} from "@openzeppelin/contracts/token/ERC1155/IERC1155.sol";
import {Entitlements} from "../src/Entitlements.sol";
import {Cheats} from "./support/Cheats.sol";

/// @notice Whoever reads only the log knows all: every change tells what it did.
contract EntitlementsEventsTest is Cheats {
    Entitlements private tokens;

    function setUp() public {
        tokens = new Entitlements("", address(this), 2 days);
        tokens.grantRole(tokens.REGISTRAR_ROLE(), address(this));
        tokens.grantRole(tokens.PAUSER_ROLE(), address(this));
        tokens.grantRole(tokens.MINTER_ROLE(), address(this));
        tokens.createClass(7, 10, 0, false, "");
    }

    function test_Classes_TellTheirChanges() public {
        vm.expectEmit(address(tokens));
        emit Entitlements.ClassActive(7, false);
        tokens.setActive(7, false);
        vm.expectEmit(address(tokens));
        emit Entitlements.ClassActive(7, true);
        tokens.setActive(7, true);
        vm.expectEmit(address(tokens));
        emit Entitlements.ClassCapChanged(7, 11);
        tokens.setCap(7, 11);
        vm.assertEq(tokens.classOf(7).cap, 11);
    }

    function test_CreateClass_TellsItsMetadataOnlyWhenThereIsSome() public {
        vm.expectEmit(address(tokens));
        emit IERC1155.URI("ipfs://eight", 8 << 64);
        tokens.createClass(8, 1, 0, false, "ipfs://eight");
        vm.recordLogs();
        tokens.createClass(9, 1, 0, false, "");
        vm.assertEq(vm.getRecordedLogs().length, 1);
    }

    function test_Pausing_TellsWhoDidIt() public {
        vm.expectEmit(address(tokens));
        emit Entitlements.MintingPaused(address(this));
        tokens.pauseMinting();
        vm.assertTrue(tokens.mintingPaused());
        vm.expectEmit(address(tokens));
        emit Entitlements.MintingUnpaused(address(this));
        tokens.unpauseMinting();
        vm.assertFalse(tokens.mintingPaused());
    }

    function test_Minting_TellsOfALockOnlyWhereThereIsOne() public {
        vm.recordLogs();
        tokens.mint(address(0x401D), 7 << 64, 1);
        vm.assertEq(vm.getRecordedLogs().length, 1);
    }

    function test_Administration_IsHandedOverSlowly() public view {
        vm.assertEq(tokens.defaultAdmin(), address(this));
        vm.assertEq(tokens.defaultAdminDelay(), 2 days);
    }

    function test_CreateClass_TakesTheHighestNumberAndNoHigher() public {
        tokens.createClass(type(uint192).max, 1, 0, false, "");
        vm.assertTrue(tokens.classOf(type(uint192).max).exists);
        vm.expectRevert(abi.encodeWithSelector(Entitlements.InvalidClass.selector, 1 << 192));
        tokens.createClass(1 << 192, 1, 0, false, "");
        tokens.createClass(1, 1, 0, false, "");
    }
}
