"""One budget over USDC on two networks: both count one for one where somebody vouches for it, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from agentnexus.core.errors import BudgetExceeded, InsufficientFunds, InvalidInput
from agentnexus.core.money import Asset, Money, Parity
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.memory import MemoryBooks
from agentnexus.ledger.metrics import By, Metrics, Scoped
from agentnexus.platform.database import Database
from tests.ledger.conftest import SATS, SELLER, USDC, WALLET, AnyBooks, usdc

SOLANA = Asset("USDC", 6, "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1/token:4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU")
OTHER = Asset("USDC", 6, "eip155:8453/erc20:0x833589fcd6edb6e08f4c7c32d4f71b54bda02913")
PARITY = Parity(USDC, (SOLANA,), "USDC is counted as one dollar")
SOLANA_WALLET = "wallet:solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1:Buyer"


@pytest.fixture
async def both(maybe_database: Database | None) -> AsyncIterator[AnyBooks]:
    """Books that count both USDC one for one, with 10 in each wallet."""
    async with AsyncExitStack() as stack:
        books: AnyBooks = MemoryBooks(parity=PARITY)
        if maybe_database is not None:
            books = await stack.enter_async_context(Books(maybe_database, parity=PARITY))
        await books.deposit("d1", WALLET, usdc("10"))
        await books.deposit("d2", SOLANA_WALLET, SOLANA.parse("10"))
        yield books


async def spend(books: AnyBooks, key: str, amount: Money, wallet: str = SOLANA_WALLET, seller: str = "s") -> None:
    await books.reserve(
        key, budget_id="b", payer_account=wallet, payee_account=SELLER, amount=amount, seller=seller, rail="any"
    )


async def test_one_budget_limits_what_is_spent_on_both_networks_together(both: AnyBooks) -> None:
    await both.budgets.create("b", owner="u", asset=USDC, limits=Limits(total=usdc("3")))
    await spend(both, "k1", usdc("2"), WALLET, "one")
    await both.capture("k1")
    await spend(both, "k2", SOLANA.parse("0.75"), seller="two")
    status = await both.budgets.status("b")
    assert (status.spent, status.reserved, status.left["total"]) == (usdc("2"), usdc("0.75"), usdc("0.25"))
    with pytest.raises(BudgetExceeded) as refused:
        await spend(both, "k3", SOLANA.parse("0.26"), seller="two")
    assert refused.value.details["left"] == "0.250000"
    await both.capture("k2", SOLANA.parse("0.5"))
    await spend(both, "k4", usdc("0.5"), WALLET, "three")
    await both.void("k4")
    status = await both.budgets.status("b")
    assert (status.spent, status.reserved) == (usdc("2.5"), usdc("0"))
    assert (await both.check()).clean


@pytest.mark.parametrize("limit", ["per_payment", "per_task", "per_hour", "per_day", "total", "per_seller"])
async def test_every_limit_counts_the_other_network_too(both: AnyBooks, limit: str) -> None:
    await both.budgets.create("b", owner="u", asset=USDC, limits=Limits(**{limit: usdc("2")}))
    await spend(both, "k1", usdc("1.5"), WALLET)
    with pytest.raises(BudgetExceeded) as refused:
        await spend(both, "k2", SOLANA.parse("2.1" if limit == "per_payment" else "0.6"))
    assert (refused.value.details["limit"], refused.value.details["asset"]) == (limit, USDC.caip19)


async def test_money_leaves_only_the_wallet_of_its_own_network(both: AnyBooks) -> None:
    await both.budgets.create("b", owner="u", asset=USDC)
    with pytest.raises(InsufficientFunds):
        await spend(both, "k", SOLANA.parse("1"), WALLET)
    await spend(both, "k", SOLANA.parse("1"))
    await both.capture("k")
    assert (await both.balance(SOLANA_WALLET, SOLANA)).posted == SOLANA.parse("9")
    assert (await both.balance(WALLET, USDC)).posted == usdc("10")
    assert (await both.balance(SELLER, SOLANA)).posted == SOLANA.parse("1")


@pytest.mark.parametrize("amount", [SATS.parse("1"), OTHER.parse("1")])
async def test_an_asset_that_nobody_vouches_for_is_refused(both: AnyBooks, amount: Money) -> None:
    await both.budgets.create("b", owner="u", asset=USDC)
    await both.deposit("more", "wallet:x", amount)
    with pytest.raises(BudgetExceeded) as refused:
        await spend(both, "k", amount, "wallet:x")
    assert refused.value.details["limit"] == "asset"


async def test_without_parity_a_budget_takes_its_own_asset_only(books: AnyBooks) -> None:
    await books.deposit("d", SOLANA_WALLET, SOLANA.parse("10"))
    await books.budgets.create("b", owner="u", asset=USDC, limits=Limits())
    with pytest.raises(BudgetExceeded) as refused:
        await spend(books, "k", SOLANA.parse("1"))
    assert refused.value.details["limit"] == "asset"


async def test_figures_have_both_networks_where_they_count_one_for_one(database: Database) -> None:
    async with Books(database, parity=PARITY) as books:
        await books.deposit("d1", WALLET, usdc("10"))
        await books.deposit("d2", SOLANA_WALLET, SOLANA.parse("10"))
        await books.budgets.create("b", owner="u", asset=USDC, limits=Limits(total=usdc("5")))
        await spend(books, "k1", usdc("1"), WALLET)
        await spend(books, "k2", SOLANA.parse("0.5"))
        await books.capture("k1")
        await books.capture("k2")
    economics = Economics(database, USDC, PARITY)
    assert (await economics.report(Scoped(USDC, owner="u"))).spent.spent == usdc("1.5")
    (point,) = await economics.metrics.burn_down("b", Scoped(USDC))
    assert (point.spent, point.left) == (usdc("1.5"), usdc("3.5"))
    assert await economics.metrics.earned(SELLER, Scoped(USDC)) == usdc("1.5")
    alone = await Metrics(database).groups(Scoped(SOLANA), [By.SELLER])
    assert [group.spent for group in alone[By.SELLER]] == [SOLANA.parse("0.5")]


def test_only_assets_with_equal_decimals_count_one_for_one() -> None:
    with pytest.raises(InvalidInput):
        Parity(USDC, (Asset("DAI", 18, "eip155:1/erc20:0x6b175474e89094c44da98b954eedeac495271d0f"),))
    assert PARITY.counted(SOLANA.parse("2")) == usdc("2")
    assert PARITY.counted(SATS.parse("2")) == SATS.parse("2")
    assert PARITY.equal(SATS, SATS)
    assert not PARITY.equal(SATS, USDC)
