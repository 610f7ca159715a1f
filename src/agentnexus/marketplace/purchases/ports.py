"""What purchases need from elsewhere: a wallet that signs and sends, and checks whether somebody may buy something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from agentnexus.marketplace.listings.model import Listing
from agentnexus.rails.evm.contracts import Call
from agentnexus.wallets.model import Answer, Operation, SigningRequest, Wallet

# Raises `NotAllowed` when this user may not buy this agent: where they live, who they are, what they have proved.
Check: TypeAlias = Callable[[str, Listing], Awaitable[None]]


class Payer(Protocol):
    """Users' wallets, see `wallets.service.Wallets`."""

    async def of(self, user_id: str) -> Wallet:
        """Raises `NotFound` for somebody without one."""

    async def begin(self, user_id: str, calls: Sequence[Call], *, key: str, purpose: str, title: str) -> Operation:
        """An operation per key: signed and on its way where this node signs, else waiting for its owner."""

    async def asked(self, user_id: str, key: str) -> tuple[Operation, Sequence[Call]] | None:
        """What was begun under a key, and its calls."""

    async def discard(self, user_id: str, operation_id: str) -> Operation:
        """Take no signature for it any more. Raises `Conflict` for what is signed."""

    async def signing_request(self, user_id: str, operation_id: str) -> SigningRequest: ...

    async def sign(self, user_id: str, operation_id: str, answer: Answer) -> Operation: ...

    async def operation(self, operation_id: str, user_id: str | None = None) -> Operation: ...

    async def settle(self, operation_id: str, *, timeout_seconds: float = 30) -> Operation:
        """Raises `PaymentUnknown` when time is up."""
