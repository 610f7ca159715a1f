"""A prepaid room over PostgreSQL and a scripted treasury; the real chain is in `test_on_chain`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money, total
from agentnexus.escrow.ports import SeenDeparture, SeenDeposit
from agentnexus.escrow.service import Escrow
from agentnexus.hiring.testing import MemoryNetwork, ScriptedRail
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database

NETWORK = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"
USDC = Asset("USDC", 6, f"{NETWORK}/token:4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU")
SOL = Asset("SOL", 9, f"{NETWORK}/slip44:501")
ANN = "A" * 43
BOB = "B" * 43


def usdc(text: str) -> Money:
    return USDC.parse(text)


@dataclass
class ScriptedTreasury:
    """Transfers by signature, as a chain would know them."""

    rail: ScriptedRail
    seen: dict[str, SeenDeposit] = field(default_factory=dict)
    left: dict[str, SeenDeparture] = field(default_factory=dict)
    network: str = NETWORK
    address: str = "T" * 43
    assets: Sequence[Asset] = (USDC, SOL)
    claim_within: timedelta = timedelta(days=7)

    def arrives(self, signature: str, amount: Money, sender: str = ANN) -> str:
        self.seen[signature] = SeenDeposit(signature, sender, amount, datetime(2026, 11, 21, tzinfo=UTC))
        return signature

    async def deposit(self, signature: str, sender: str) -> SeenDeposit:
        found = self.seen.get(signature)
        if found is None or found.sender != sender:
            reason = "unknown" if found is None else "foreign"
            raise InvalidInput(f"{signature} is {reason}", reason=reason)
        return found

    async def departure(self, signature: str) -> SeenDeparture:
        if signature not in self.left:
            raise InvalidInput(f"{signature} is unknown", reason="unknown")
        return self.left[signature]

    async def arrived(self, asset: Asset) -> Money:
        return total((each.amount for each in self.seen.values() if each.amount.asset == asset), asset)

    async def arrivals(self, asset: Asset, limit: int) -> Sequence[SeenDeposit]:
        return [each for each in reversed(self.seen.values()) if each.amount.asset == asset][:limit]

    def is_wallet(self, address: str) -> bool:
        return len(address) == 43

    def proves(self, wallet: str, message: str, signature: str) -> bool:
        return signature == f"signed by {wallet}: {message}"


@dataclass
class Room:
    """Everything of one test."""

    database: Database
    books: Books
    rail: ScriptedRail
    treasury: ScriptedTreasury
    escrow: Escrow

    async def funded(self, amount: str = "2", user: str = "ann", wallet: str = ANN) -> None:
        await self.escrow.create(user, wallet)
        signature = self.treasury.arrives(f"first-of-{user}", usdc(amount), wallet)
        await self.escrow.deposit(user, signature)

    async def balance(self, user: str = "ann") -> tuple[str, str]:
        """(available, reserved) as decimal text."""
        found = await self.escrow.balance(user, USDC)
        return f"{found.available.decimal.normalize():f}", f"{found.reserved.decimal.normalize():f}"

    async def assert_sound(self) -> None:
        report = await self.books.check()
        assert report.clean, report.findings


def room_on(database: Database, rail: ScriptedRail | None = None) -> Room:
    books = Books(database)
    rail = rail or ScriptedRail(MemoryNetwork(), SystemClock(), "solana")
    treasury = ScriptedTreasury(rail)
    return Room(database, books, rail, treasury, Escrow(database, books, treasury, SystemClock(), require_proof=False))


@pytest.fixture
async def room(database: Database) -> AsyncIterator[Room]:
    built = room_on(database)
    yield built
    await built.assert_sound()
    await built.books.close()
