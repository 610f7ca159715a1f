"""Faults on demand, so that tests meet on one machine what a cluster does on a bad day."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from solders.account import Account
from solders.pubkey import Pubkey

from agentnexus.rails.solana.tokens import read_token_account

_AMOUNT_AT = slice(64, 72)


class Fault(StrEnum):
    """What goes wrong with the next sends, or for `UNAVAILABLE` with the next requests."""

    DROP_ANSWER = "drop_answer"  # executed, and the connection breaks before the answer
    LOSE_SEND = "lose_send"  # answered with a signature, and never seen again
    HOLD_SEND = "hold_send"  # answered with a signature, executed only after devnet_release
    HOLD_CONFIRMATION = "hold_confirmation"  # executed, stays at "processed" until devnet_release
    FAIL_ON_CHAIN = "fail_on_chain"  # simulates well, and fails when it is executed
    UNAVAILABLE = "unavailable"  # HTTP 503


@dataclass(slots=True)
class Faults:
    """How many of each are still to come."""

    due: dict[Fault, int] = field(default_factory=dict)

    def order(self, fault: Fault, count: int) -> None:
        self.due[fault] = self.due.get(fault, 0) + count

    def take(self, fault: Fault) -> bool:
        """Whether it is time for this fault; counts it."""
        left = self.due.get(fault, 0)
        if left:
            self.due[fault] = left - 1
        return left > 0

    def clear(self) -> None:
        self.due.clear()


def drained(account: Account) -> Account:
    """The same account without what it could pay with: the tokens, or else the lamports beyond rent and fees."""
    if read_token_account(account.owner, account.data):
        data = bytearray(account.data)
        data[_AMOUNT_AT] = bytes(8)
        return Account(account.lamports, bytes(data), account.owner, account.executable)
    if account.owner == Pubkey.default() and not account.data:
        return Account(min(account.lamports, 1_000_000), b"", account.owner, account.executable)
    return account
