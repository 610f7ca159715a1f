"""What every ledger offers, whatever keeps it: `books.Books` (PostgreSQL) and `memory.MemoryBooks` have this door."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.core.money import Asset, Money
from agentnexus.ledger.model import (
    Answer,
    Balance,
    Capture,
    CheckReport,
    Move,
    Operation,
    Reservation,
    Reserve,
    Terms,
    Transfer,
    TransferKind,
    Void,
    check_text,
    to_utc,
)

EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a statement: `amount` is signed (negative: left the account), `balance` is after it."""

    at: datetime
    transfer_id: str
    kind: TransferKind
    counterparty: str
    amount: Money
    balance: Money
    correlation: str
    memo: str


class Door(ABC):
    """Moves money between accounts and answers what moved. Every change is durable when the call returns.

    Keys make calls repeatable: the same key with the same terms gives the first answer, with other terms `Conflict`.
    A rejected reservation is not remembered: the same key may be tried again when a limit has freed.
    """

    async def reserve(
        self,
        key: str,
        *,
        budget_id: str | None,
        payer_account: str,
        payee_account: str,
        amount: Money,
        seller: str = "",
        capability: str = "",
        task: str = "",
        tick: str = "",
        expires_at: datetime | None = None,
        rail: str = "",
        auto_void: bool = False,
        correlation: str = "",
    ) -> Reservation:
        """Set `amount` aside in the payer's account and in every budget on the path, in one step.

        Args:
            expires_at: when the payment should have been decided. A payment whose outcome is unknown must keep its
                reservation, so nothing happens then unless `auto_void` is set.
            auto_void: `expire` may give this reservation back after `expires_at`.

        Raises `BudgetExceeded`, `InsufficientFunds`, `NotFound` (budget), `Conflict`, `InvalidInput`, `Unavailable`.
        """
        terms = Terms(
            budget_id=budget_id,
            payer=payer_account,
            payee=payee_account,
            amount=await self._settled(amount),
            seller=seller,
            capability=capability,
            task=task,
            tick=tick,
            rail=rail,
        )
        check_text(correlation, "correlation")
        expiry = None if expires_at is None else to_utc(expires_at)
        return await self._reservation(Reserve(_key(key), terms, expiry, auto_void, correlation))

    async def capture(self, key: str, amount: Money | None = None) -> Reservation:
        """Post a reservation: move `amount` of it (None: all) to the payee and give the rest back.

        Raises `NotFound`, `Conflict` when it was voided or captured with another amount, `InvalidInput`.
        """
        settled = None if amount is None else await self._settled(amount)
        return await self._reservation(Capture(_key(key), settled))

    async def void(self, key: str, reason: str = "") -> Reservation:
        """Give a reservation back whole. Raises `NotFound`, `Conflict` when it was captured."""
        return await self._reservation(Void(_key(key), check_text(reason, "reason")))

    async def transfer(
        self,
        key: str,
        from_account: str,
        to_account: str,
        amount: Money,
        kind: TransferKind = TransferKind.MOVE,
        *,
        correlation: str = "",
        memo: str = "",
        reservation: str = "",
    ) -> Transfer:
        """Move money at once. Keys are separate per `kind`.

        Args:
            reservation: the captured one whose payment comes back. To its payer: its budgets have the amount back, in
                the minute, day, task … that it was spent in. From its payer: that is undone and counts as spent again,
                though a limit be passed by it, and nothing more is reserved until there is room. One step with the
                transfer; what came back is at most what was captured (`Conflict`).

        Raises `InsufficientFunds`, `Conflict`, `InvalidInput`, `NotFound` (reservation).
        """
        settled = await self._settled(amount)
        move = Move(_key(key), kind, from_account, to_account, settled, correlation, memo, reservation)
        answer = await self._submit(move)
        assert isinstance(answer, Transfer)
        return answer

    async def deposit(
        self, key: str, account: str, amount: Money, *, source: str = "", correlation: str = "", memo: str = ""
    ) -> Transfer:
        """Money came in from outside (`source`, by default the asset's network ``external:<caip2>``)."""
        outside = source or f"external:{amount.asset.network}"
        return await self.transfer(
            key, outside, account, amount, TransferKind.DEPOSIT, correlation=correlation, memo=memo
        )

    async def withdraw(
        self, key: str, account: str, amount: Money, *, target: str = "", correlation: str = "", memo: str = ""
    ) -> Transfer:
        """Money left to the outside. Raises `InsufficientFunds`."""
        outside = target or f"external:{amount.asset.network}"
        return await self.transfer(
            key, account, outside, amount, TransferKind.WITHDRAWAL, correlation=correlation, memo=memo
        )

    async def balance(self, account: str, asset: Asset | None = None) -> Balance:
        """Balance in `asset`; without it, in the only asset the account has. A new account has zero.

        Raises `NotFound` for an unknown account without `asset`, `InvalidInput` when it has several.
        """
        found = [b for b in await self.balances(account) if asset is None or b.posted.asset.caip19 == asset.caip19]
        if len(found) == 1:
            return found[0]
        if asset is not None:
            return Balance(account, asset.zero(), asset.zero())
        if not found:
            raise NotFound(f"no account {account}", next_step="check the account's name", account=account)
        raise InvalidInput(f"account {account} has several assets", field="asset", next_step="say which asset")

    @abstractmethod
    async def balances(self, account: str) -> list[Balance]:
        """Balances in every asset the account ever had, by asset id."""

    @abstractmethod
    async def reservation(self, key: str) -> Reservation:
        """Raises `NotFound`."""

    @abstractmethod
    async def as_of(self, account: str, asset: Asset, at: datetime) -> Money:
        """Posted balance including everything up to and at that moment."""

    @abstractmethod
    async def statement(
        self,
        account: str,
        asset: Asset,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Line]:
        """The first `limit` lines with ``since <= at < until``, oldest first, each with the balance after it."""

    @abstractmethod
    async def expire(self, now: datetime | None = None) -> list[Reservation]:
        """Void pending reservations that allow it (`auto_void`) and had expired by `now`; returns those voided."""

    @abstractmethod
    async def check(self) -> CheckReport:
        """Prove the whole ledger: legs sum to zero, balances are sums, promises and counters are reservations."""

    @abstractmethod
    async def _submit(self, operation: Operation) -> Answer:
        """Apply one operation by the rules of `book`."""

    @abstractmethod
    async def _settled(self, money: Money) -> Money:
        """`money` with the asset as the ledger knows it; raises `Conflict` on other decimals."""

    async def _reservation(self, operation: Operation) -> Reservation:
        answer = await self._submit(operation)
        assert isinstance(answer, Reservation)
        return answer

    async def _void_expired(self, keys: Sequence[str], now: datetime) -> list[Reservation]:
        """Void those of `keys` that are still pending; one that ended meanwhile is left as it is."""
        done = await asyncio.gather(*(self._reservation(Void(key, EXPIRED, now)) for key in keys))
        return [reservation for reservation in done if reservation.reason == EXPIRED]


def _key(key: str) -> str:
    return check_text(key, "key", required=True)
