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

/// @notice Tries to be paid twice by calling back while it is paid.
contract Reenterer {
    Escrow private immutable _escrow;
    Escrow.Terms private _terms;
    bool public tried;
    bool public succeeded;

    constructor(Escrow escrow) {
        _escrow = escrow;
    }

    function prepare(Escrow.Terms calldata terms) external {
        _terms = terms;
    }

    function refund() external {
        _escrow.refund(_terms);
    }

    receive() external payable {
        tried = true;
        try _escrow.expire(_terms) {
            succeeded = true;
        } catch {}
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
