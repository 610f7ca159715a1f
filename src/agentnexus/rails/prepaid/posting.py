"""The few things the prepaid rail needs from a ledger, and a ledger in memory that does them."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput
from agentnexus.core.money import Asset, Money


class Posting(Protocol):
    """Transfers between named accounts, each known by a key that makes it happen once."""

    async def post(self, key: str, *, debit: str, credit: str, amount: Money) -> str:
        """Move `amount`; its transfer id. The same key again answers with the first transfer.

        Raises `InsufficientFunds` when `debit` has too little, `Conflict` when the key was used for something else.
        """

    async def find(self, key: str) -> str | None:
        """Transfer id of a key, or None when nothing was posted under it."""

    async def balance(self, account: str, asset: Asset) -> Money: ...


class InMemoryPosting:
    """A ledger of one process without a disk: for tests, demonstrations and dry runs.

    No method waits in the middle, so tasks of one event loop cannot come between check and change.
    """

    def __init__(self, opening: dict[str, Money] | None = None) -> None:
        self._balances: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._posted: dict[str, tuple[str, str, Money]] = {}
        for account, amount in (opening or {}).items():
            self.top_up(account, amount)

    def top_up(self, account: str, amount: Money) -> None:
        """Money from outside."""
        self._balances[account, amount.asset.caip19] += amount.atomic

    async def post(self, key: str, *, debit: str, credit: str, amount: Money) -> str:
        if amount.atomic < 0:
            raise InvalidInput(f"{amount} would take money from {credit}", field="amount", next_step="pay zero or more")
        transfer = (debit, credit, amount)
        known = self._posted.get(key)
        if known is not None:
            if known != transfer:
                raise Conflict(f"the key {key!r} was used for another transfer", next_step="use a key per transfer")
            return key
        asset = amount.asset.caip19
        if self._balances[debit, asset] < amount.atomic:
            raise InsufficientFunds(
                f"{debit} has less than {amount}", next_step=f"top up {debit}", account=debit, asset=asset
            )
        self._balances[debit, asset] -= amount.atomic
        self._balances[credit, asset] += amount.atomic
        self._posted[key] = transfer
        return key

    async def find(self, key: str) -> str | None:
        return key if key in self._posted else None

    async def balance(self, account: str, asset: Asset) -> Money:
        return Money(asset, self._balances[account, asset.caip19])
