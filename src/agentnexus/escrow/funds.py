"""A prepaid account pays for its owner; everybody else works from what `otherwise` is. The shape workflows ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agentnexus.core.money import Asset, Money
from agentnexus.escrow.service import Escrow

Convert = Callable[[Money, Asset], Money]


class Funds(Protocol):
    """A user's money for workflows (see `workflows.ports.EscrowFunds`, which this fits)."""

    async def available(self, user_id: str) -> Money | None: ...

    async def reserve(self, user_id: str, workflow_id: str, amount: Money) -> None: ...

    async def set_aside(self, workflow_id: str) -> Money | None: ...

    async def capture(self, workflow_id: str, key: str, amount: Money, transaction: str = "") -> None: ...

    async def release(self, workflow_id: str) -> None: ...


class PrepaidFunds:
    """Implements `Funds`.

    Args:
        convert: an amount in another asset by a rate, rounded up; raises where there is no rate.
        priced_in: the asset that workflows count in.
    """

    def __init__(self, escrow: Escrow, otherwise: Funds, convert: Convert, priced_in: Asset) -> None:
        self._escrow = escrow
        self._otherwise = otherwise
        self._convert = convert
        self.priced_in = priced_in
        self._asset = escrow.treasury.assets[0]

    async def keeps(self, user_id: str) -> bool:
        """Whether this user's work is paid from a prepaid account."""
        return await self._escrow.has_account(user_id)

    async def is_open(self, reference: str) -> bool:
        """Whether money is set aside for a reference and may be charged."""
        return await self._escrow.holds.is_open(reference)

    async def available(self, user_id: str) -> Money | None:
        """What may be reserved now."""
        if not await self._escrow.has_account(user_id):
            return await self._otherwise.available(user_id)
        return self._convert((await self._escrow.balance(user_id, self._asset)).available, self.priced_in)

    async def reserve(self, user_id: str, workflow_id: str, amount: Money) -> None:
        """Raises `InsufficientFunds` in spec 05's words."""
        if not await self._escrow.has_account(user_id):
            return await self._otherwise.reserve(user_id, workflow_id, amount)
        account = await self._escrow.account(user_id)
        await self._escrow.holds.reserve(account, workflow_id, self._convert(amount, self._asset))
        return None

    async def set_aside(self, workflow_id: str) -> Money | None:
        """The most that may be spent on it: whatever more a seller got, the treasury would have paid."""
        amount = await self._escrow.holds.amount(workflow_id)
        return await self._otherwise.set_aside(workflow_id) if amount is None else self._convert(amount, self.priced_in)

    async def capture(self, workflow_id: str, key: str, amount: Money, transaction: str = "") -> None:
        if not await self._escrow.holds.known(workflow_id):
            return await self._otherwise.capture(workflow_id, key, amount, transaction)
        return await self._escrow.holds.capture(workflow_id, key, self._convert(amount, self._asset), transaction)

    async def release(self, workflow_id: str) -> None:
        if not await self._escrow.holds.known(workflow_id):
            return await self._otherwise.release(workflow_id)
        return await self._escrow.holds.release(workflow_id)
