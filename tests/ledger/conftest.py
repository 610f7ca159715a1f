"""Both ledgers behind one door: every test that takes `books` runs on PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.memory import MemoryBooks
from agentnexus.ledger.model import Reservation
from agentnexus.platform.database import Database

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")
SATS = Asset("sat", 0, "bip122:000000000019d6689c085ae165831e93/slip44:0")
WALLET = "wallet:eip155:31337:0xaaaa"
SELLER = "seller:evm:0xbbbb"

AnyBooks: TypeAlias = Books | MemoryBooks


def usdc(amount: str) -> Money:
    return USDC.parse(amount)


@dataclass
class Spender:
    """Reserves with defaults, so that a test names only what it is about."""

    books: AnyBooks
    budget_id: str | None = "budget"

    async def reserve(self, key: str, amount: str | Money = "1", **terms: object) -> Reservation:
        given: dict[str, object] = {
            "budget_id": self.budget_id,
            "payer_account": WALLET,
            "payee_account": SELLER,
            "amount": usdc(amount) if isinstance(amount, str) else amount,
            "seller": "evm:0xbbbb",
            "capability": "pdf.extract",
        }
        return await self.books.reserve(key, **(given | terms))  # type: ignore[arg-type]  # checked by the door itself

    async def budget(self, name: str = "budget", parent: str | None = None, **limits: str) -> None:
        amounts = {limit: usdc(amount) for limit, amount in limits.items()}
        await self.books.budgets.create(name, parent=parent, owner="user-1", asset=USDC, limits=Limits(**amounts))


@pytest.fixture(params=["postgres", "memory"])
def maybe_database(request: pytest.FixtureRequest) -> Database | None:
    """A database, or None for the ledger in memory (asked for here because a loop is running in async fixtures)."""
    if request.param == "memory":
        return None
    opened: Database = request.getfixturevalue("database")
    return opened


@pytest.fixture
async def books(maybe_database: Database | None, clock: ManualClock) -> AsyncIterator[AnyBooks]:
    if maybe_database is None:
        yield MemoryBooks(clock)
        return
    async with Books(maybe_database, clock) as opened:
        yield opened


@pytest.fixture
async def spender(books: AnyBooks) -> AsyncIterator[Spender]:
    """A wallet with 1,000 USDC; whatever the test does, the books must check clean after it."""
    await books.deposit("funding", WALLET, usdc("1000"))
    yield Spender(books)
    report = await books.check()
    assert report.clean, report.to_json()
