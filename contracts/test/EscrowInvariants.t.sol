// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Escrow} from "../src/Escrow.sol";
import {EscrowFixture} from "./support/EscrowFixture.sol";
import {BlockingUSDC} from "./support/BlockingUSDC.sol";
import {Cheats} from "./support/Cheats.sol";

/// @notice Does at random what buyers, sellers, orchestrators, arbiters, strangers and the token's issuer may do.
contract EscrowHandler is Cheats {
    Escrow private immutable _escrow;
    BlockingUSDC private immutable _usdc;
    address private immutable _buyer;
    address private immutable _seller;
    address private immutable _orchestrator;
    address private immutable _arbiter;
    address private immutable _issuer;

    Escrow.Terms[] private _deals;
    mapping(bytes32 id => uint256) private _final;
    uint256 public deposited;
    uint256 public endedTwice;

    constructor(Escrow escrow, BlockingUSDC usdc, address[5] memory parties) {
        (_escrow, _usdc) = (escrow, usdc);
        (_buyer, _seller, _orchestrator, _arbiter, _issuer) =
            (parties[0], parties[1], parties[2], parties[3], parties[4]);
    }

    function deposit(uint128 amount, uint32 lifetime) external {
        amount = uint128(bound(amount, 1, 10_000_000));
        if (amount > _usdc.balanceOf(_buyer) || _usdc.blocked(_buyer)) return;
        lifetime = uint32(bound(lifetime, 0, 30 days));
        Escrow.Terms memory terms =
            Escrow.Terms(_buyer, _seller, amount, lifetime, _escrow.market().feeBps, uint128(_deals.length));
        vm.prank(_buyer);
        _escrow.deposit(terms);
        _deals.push(terms);
        deposited += amount;
    }

    function releasePart(uint256 which, uint128 amount) external {
        if (_deals.length == 0) return;
        Escrow.Terms memory terms = _deals[which % _deals.length];
        vm.prank(_buyer);
        try _escrow.releasePart(terms, uint128(bound(amount, 1, terms.amount))) {
            _ended(terms);
        } catch {}
    }

    function release(uint256 which) external {
        if (_deals.length == 0) return;
        Escrow.Terms memory terms = _deals[which % _deals.length];
        vm.prank(_orchestrator);
        try _escrow.release(terms) {
            _ended(terms);
        } catch {}
    }

    function refund(uint256 which) external {
        if (_deals.length == 0) return;
        Escrow.Terms memory terms = _deals[which % _deals.length];
        vm.prank(_seller);
        try _escrow.refund(terms) {
            _ended(terms);
        } catch {}
    }

    function expire(uint256 which, uint32 later) external {
        if (_deals.length == 0) return;
        Escrow.Terms memory terms = _deals[which % _deals.length];
        vm.warp(block.timestamp + bound(later, 0, 2 days));
        try _escrow.expire(terms) {
            _ended(terms);
        } catch {}
    }

    function resolve(uint256 which, uint128 forSeller) external {
        if (_deals.length == 0) return;
        Escrow.Terms memory terms = _deals[which % _deals.length];
        vm.prank(_arbiter);
        try _escrow.resolve(terms, uint128(bound(forSeller, 0, terms.amount))) {
            _ended(terms);
        } catch {}
    }

    function block_(bool buyer, bool blocked) external {
        vm.prank(_issuer);
        _usdc.setBlocked(buyer ? _buyer : _seller, blocked);
    }

    function withdrawCredit(bool buyer) external {
        vm.prank(buyer ? _buyer : _seller);
        try _escrow.withdrawCredit(address(0xCAFE)) {} catch {}
    }

    function sweepFees() external {
        try _escrow.sweepFees() {} catch {}
    }

    function held() external view returns (uint256 sum) {
        for (uint256 i = 0; i < _deals.length; ++i) sum += _escrow.deal(_escrow.dealId(_deals[i])).remaining;
    }

    function deals() external view returns (Escrow.Terms[] memory) {
        return _deals;
    }

    /// @dev Counts deals that ended after they had ended.
    function _ended(Escrow.Terms memory terms) private {
        bytes32 id = _escrow.dealId(terms);
        if (_final[id] != 0) endedTwice += 1;
        if (_escrow.deal(id).status != Escrow.Status.Open) _final[id] = 1;
    }
}

contract EscrowInvariants is EscrowFixture {
    EscrowHandler private handler;

    function setUp() public override {
        super.setUp();
        handler = new EscrowHandler(escrow, usdc, [buyer, seller, orchestrator, arbiter, address(this)]);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev The escrow holds exactly what it owes, no money appears or disappears, and a deal ends once.
    function invariant_MoneyIsConserved() public view {
        uint256 held = usdc.balanceOf(address(escrow));
        vm.assertEq(held, handler.held() + escrow.fees() + escrow.credit(buyer) + escrow.credit(seller));
        uint256 outside = usdc.balanceOf(buyer) + usdc.balanceOf(seller) + usdc.balanceOf(treasury)
            + usdc.balanceOf(address(0xCAFE));
        vm.assertEq(held + outside, FUNDS);
        vm.assertEq(handler.endedTwice(), 0);
    }

    /// @dev Whatever happened, everybody gets theirs out in the end and nothing is left.
    function afterInvariant() public {
        usdc.setBlocked(buyer, false);
        usdc.setBlocked(seller, false);
        vm.warp(block.timestamp + 366 days);
        Escrow.Terms[] memory deals = handler.deals();
        for (uint256 i = 0; i < deals.length; ++i) {
            if (escrow.deal(escrow.dealId(deals[i])).status == Escrow.Status.Open) escrow.expire(deals[i]);
        }
        address[2] memory owners = [buyer, seller];
        for (uint256 i = 0; i < 2; ++i) {
            if (escrow.credit(owners[i]) == 0) continue;
            vm.prank(owners[i]);
            escrow.withdrawCredit(owners[i]);
        }
        if (escrow.fees() != 0) escrow.sweepFees();
        vm.assertEq(usdc.balanceOf(address(escrow)), 0);
    }
}
