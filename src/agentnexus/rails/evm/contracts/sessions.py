"""What a session key may do for an account: calls by target and function, spending by token, and a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from agentnexus.rails.evm.contracts.abi import AbiValue, abi_of
from agentnexus.rails.evm.encoding import ZERO_ADDRESS


@dataclass(frozen=True, slots=True)
class Permission:
    """One function (its four selector bytes) of one contract; a selector of zeros is plain coin."""

    target: str
    selector: bytes

    @classmethod
    def paymaster(cls, address: str) -> Self:
        """Leave for a paymaster to pay the session's gas; without it the account pays, within the session's coin."""
        return cls(address, abi_of("Paymaster").function("validatePaymasterUserOp").selector)


@dataclass(frozen=True, slots=True)
class Limit:
    """The most a session may spend in all: atomic units of a token, or wei for the zero address."""

    amount: int
    token: str = ZERO_ADDRESS


@dataclass(frozen=True, slots=True)
class Grant:
    """A session as it is granted; times in Unix seconds. It replaces what the key had before."""

    key: str
    valid_until: int
    permissions: Sequence[Permission]
    limits: Sequence[Limit] = ()
    valid_after: int = 0

    def values(self) -> tuple[AbiValue, ...]:
        """The arguments of ``grantSession``."""
        permissions = [(each.target, each.selector) for each in self.permissions]
        limits = [(each.token, each.amount) for each in self.limits]
        return (self.key, self.valid_after, self.valid_until, permissions, limits)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a session may spend of a token, and has spent."""

    limit: int
    spent: int

    @property
    def left(self) -> int:
        return self.limit - self.spent
