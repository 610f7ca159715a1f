// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Escrow} from "../../src/Escrow.sol";

/// @notice Takes no coin until told to.
contract Picky {
    bool public open;

    error NoThanks();

    function setOpen(bool open_) external {
        open = open_;
    }

    function withdraw(Escrow escrow, address to) external {
        escrow.withdrawCredit(to);
    }

    receive() external payable {
        require(open, NoThanks());
    }
}

/// @notice Uses all gas it is given.
contract Glutton {
    receive() external payable {
        while (true) {}
    }
}

/// @notice Returns a great deal of data, which would be dear to copy.
contract Bomb {
    receive() external payable {
        assembly {
            return(0, 60000)
        }
    }
}

/// @notice Makes another call of the escrow while it is paid by one.
contract Reenterer {
    Escrow private immutable _escrow;
    bytes private _data;
    uint256 private _value;
    bool public tried;
    bytes4 public refused;

    constructor(Escrow escrow) payable {
        _escrow = escrow;
    }

    function prepare(bytes calldata data, uint256 value) external {
        (_data, _value, tried, refused) = (data, value, false, 0);
    }

    function refund(Escrow.Terms calldata terms) external {
        _escrow.refund(terms);
    }

    receive() external payable {
        tried = true;
        (bool done, bytes memory answer) = address(_escrow).call{value: _value}(_data);
        if (!done) refused = bytes4(answer);
    }
}

/// @notice Takes coin, but not with less gas than it likes, and says so cheaply.
contract Impatient {
    error TooLittle();

    receive() external payable {
        require(gasleft() > 90_000, TooLittle());
    }
}

/// @notice Gets the fees, and tries to get them again while it gets them.
contract GreedySweeper {
    Escrow private immutable _escrow;
    bool public tried;

    constructor(Escrow escrow) {
        _escrow = escrow;
    }

    receive() external payable {
        tried = true;
        try _escrow.sweepFees() {} catch {}
    }
}
