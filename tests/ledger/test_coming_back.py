"""Payments that come back: their budgets have the money again, once, where it was spent; and when that is undone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import (
    BudgetExceeded,
    Conflict,
    InsufficientFunds,
    InvalidInput,
    NexusError,
    NotFound,
)
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.memory import MemoryBooks
from agentnexus.ledger.metrics import By, Metrics, Scoped
from agentnexus.ledger.model import Reservation, Transfer, TransferKind
from agentnexus.platform.database import Database
from agentnexus.platform.migrations.run import migrate
from tests.ledger.conftest import SATS, SELLER, USDC, WALLET, AnyBooks, Spender, usdc
from tests.ledger.spend import ACCOUNTS
from tests.ledger.test_processes import answers_of, spending

EVERY_LIMIT = ("total", "per_hour", "per_day", "per_task", "per_tick", "per_seller", "per_capability")


async def back(books: AnyBooks, key: str, amount: str, name: str = "back") -> Transfer:
    return await books.transfer(name, SELLER, WALLET, usdc(amount), TransferKind.REFUND, reservation=key)


async def again(books: AnyBooks, key: str, amount: str, name: str = "again") -> Transfer:
    return await books.transfer(name, WALLET, SELLER, usdc(amount), TransferKind.REFUND, reservation=key)


async def paid(spender: Spender, key: str = "k", amount: str = "1", **terms: object) -> Reservation:
    await spender.reserve(key, amount, **terms)
    return await spender.books.capture(key)


async def spent(spender: Spender, name: str = "budget") -> Money:
    return (await spender.books.budgets.status(name)).spent


@pytest.mark.parametrize("limit", EVERY_LIMIT)
@pytest.mark.parametrize("where", ["budget", "org"])
async def test_what_comes_back_may_be_spent_again_under_every_limit_of_every_budget(
    spender: Spender, limit: str, where: str
) -> None:
    await spender.budget("org", **({limit: "3"} if where == "org" else {}))
    await spender.budget("budget", parent="org", **({limit: "3"} if where == "budget" else {}))
    await paid(spender, "k1", "3", task="t", tick="7")
    with pytest.raises(BudgetExceeded):
        await spender.reserve("k2", "0.5", task="t", tick="7")
    await back(spender.books, "k1", "2")
    assert (await spent(spender), await spent(spender, "org")) == (usdc("1"), usdc("1"))
    with pytest.raises(BudgetExceeded) as refused:
        await spender.reserve("k2", "2.000001", task="t", tick="7")
    assert (refused.value.details["limit"], refused.value.details["left"]) == (limit, "2.000000")
    await spender.reserve("k2", "2", task="t", tick="7")


async def test_the_money_moves_in_the_same_step(spender: Spender) -> None:
    await spender.budget(total="5")
    await paid(spender, "k", "4")
    moved = await back(spender.books, "k", "1.5")
    assert (moved.kind, moved.reservation, moved.amount) == (TransferKind.REFUND, "k", usdc("1.5"))
    assert (await spender.books.balance(SELLER)).posted == usdc("2.5")
    assert (await spender.books.balance(WALLET)).posted == usdc("997.5")
    reservation = await spender.books.reservation("k")
    assert (reservation.captured, reservation.returned, reservation.spent) == (4_000_000, 1_500_000, 2_500_000)
    assert reservation.captured_money == usdc("4")


async def test_a_key_gives_back_once_however_often_it_is_told(spender: Spender) -> None:
    await spender.budget()
    await paid(spender, "k", "3")
    first = await back(spender.books, "k", "1")
    assert await asyncio.gather(*(back(spender.books, "k", "1") for _ in range(5))) == [first] * 5
    assert await spent(spender) == usdc("2")
    with pytest.raises(Conflict):
        await back(spender.books, "k", "1.5")
    with pytest.raises(Conflict):  # the same money, and for no payment
        await spender.books.transfer("back", SELLER, WALLET, usdc("1"), TransferKind.REFUND)
    assert await spent(spender) == usdc("2")


async def test_at_most_what_was_paid_comes_back_in_all(spender: Spender) -> None:
    await spender.budget()
    await spender.reserve("k", "3")
    await spender.books.capture("k", usdc("2"))
    await paid(spender, "other", "5")
    await back(spender.books, "k", "1.5", "first")
    with pytest.raises(Conflict) as refused:
        await back(spender.books, "k", "0.500001", "second")
    assert refused.value.details["key"] == "k"
    await back(spender.books, "k", "0.5", "second")
    with pytest.raises(Conflict):
        await back(spender.books, "k", "0.000001", "third")
    assert await spent(spender) == usdc("5")
    assert (await spender.books.balance(SELLER)).posted == usdc("5")


async def test_nothing_comes_back_of_what_was_not_paid(spender: Spender) -> None:
    await spender.budget()
    await paid(spender, "other", "5")
    await spender.reserve("pending", "1")
    await spender.reserve("voided", "1")
    await spender.books.void("voided")
    for key in ("pending", "voided"):
        with pytest.raises(Conflict):
            await back(spender.books, key, "1", key)
    with pytest.raises(NotFound):
        await back(spender.books, "never made", "1")
    status = await spender.books.budgets.status("budget")
    assert (status.spent, status.reserved) == (usdc("5"), usdc("1"))


async def test_only_its_payer_in_its_asset_has_a_payment_back(spender: Spender) -> None:
    await spender.budget()
    await paid(spender, "k", "5")
    await spender.books.deposit("sats", SELLER, Money(SATS, 100))
    for debit, credit, amount in (
        (SELLER, "wallet:another", usdc("1")),
        ("external:x", SELLER, usdc("1")),
        (SELLER, WALLET, Money(SATS, 1)),
    ):
        with pytest.raises(InvalidInput) as refused:
            await spender.books.transfer("back", debit, credit, amount, reservation="k")
        assert refused.value.details["field"] == "reservation"
    with pytest.raises(InvalidInput):
        await spender.books.transfer("back", SELLER, WALLET, usdc("1"), reservation="k\n")
    await spender.books.transfer("from elsewhere", "external:x", WALLET, usdc("1"), reservation="k")
    assert await spent(spender) == usdc("4")


async def test_a_payee_without_the_money_gives_nothing_back(spender: Spender) -> None:
    await spender.budget(total="5")
    await paid(spender, "k", "5")
    await spender.books.withdraw("gone", SELLER, usdc("4"))
    with pytest.raises(InsufficientFunds):
        await back(spender.books, "k", "2")
    assert (await spent(spender), (await spender.books.reservation("k")).returned) == (usdc("5"), 0)


async def test_what_came_back_and_goes_again_is_spent_again(spender: Spender) -> None:
    await spender.budget("org", per_day="10")
    await spender.budget("budget", parent="org", total="5")
    await paid(spender, "k", "4")
    await back(spender.books, "k", "3")
    first = await again(spender.books, "k", "3")
    assert await again(spender.books, "k", "3") == first
    assert (await spent(spender), await spent(spender, "org")) == (usdc("4"), usdc("4"))
    with pytest.raises(Conflict):  # no more goes than came
        await again(spender.books, "k", "0.000001", "more")
    await back(spender.books, "k", "4", "back2")
    assert await spent(spender) == usdc("0")
    await again(spender.books, "k", "1", "again2")
    assert (await spender.books.budgets.status("org")).left["per_day"] == usdc("9")


@pytest.mark.parametrize("limit", EVERY_LIMIT)
async def test_it_is_spent_whatever_the_limits_say_and_nothing_more_until_there_is_room(
    spender: Spender, limit: str
) -> None:
    await spender.budget(**{limit: "5"})
    await paid(spender, "k1", "4")
    await back(spender.books, "k1", "4")
    await paid(spender, "k2", "3")
    await spender.reserve("k3", "2")
    await again(spender.books, "k1", "4")  # 9 of 5
    status = await spender.books.budgets.status("budget")
    assert (status.spent, status.reserved) == (usdc("7"), usdc("2"))
    if limit in status.left:
        assert status.left[limit] == usdc("0")
    with pytest.raises(BudgetExceeded) as refused:
        await spender.reserve("k4", "0.000001")
    assert (refused.value.details["limit"], refused.value.details["left"]) == (limit, "0.000000")
    await spender.books.capture("k3")  # what was promised before is paid
    await back(spender.books, "k2", "3", "back2")
    await back(spender.books, "k1", "1.5", "back3")
    await spender.reserve("k4", "0.5")


async def test_a_budget_over_its_total_takes_other_limits_and_no_lower_total(spender: Spender) -> None:
    await spender.budget(total="5")
    await paid(spender, "k1", "4")
    await back(spender.books, "k1", "4")
    await paid(spender, "k2", "4")
    await again(spender.books, "k1", "4")
    change = spender.books.budgets.change
    status = await change("budget", Limits(total=usdc("5"), per_day=usdc("3")))
    assert (status.limits.per_day, status.left["total"], status.left["per_day"]) == (usdc("3"), usdc("0"), usdc("0"))
    with pytest.raises(InvalidInput):
        await change("budget", Limits(total=usdc("4.9")))
    await change("budget", Limits(total=usdc("6")))  # still less than is used, and more than it was
    await change("budget", Limits(total=usdc("8.5")))
    await spender.reserve("k3", "0.5")


async def test_a_day_that_is_over_gives_today_nothing(spender: Spender, clock: ManualClock) -> None:
    """A refund of yesterday's payment is no reason to spend more today; the total has it back."""
    await spender.budget(per_day="5", per_hour="5", total="20")
    await paid(spender, "yesterday", "5")
    clock.advance(timedelta(days=1).total_seconds())
    await paid(spender, "today", "4")
    await back(spender.books, "yesterday", "5")
    status = await spender.books.budgets.status("budget")
    assert status.left == {"total": usdc("16"), "per_hour": usdc("1"), "per_day": usdc("1")}
    with pytest.raises(BudgetExceeded):
        await spender.reserve("k", "1.000001")
    await again(spender.books, "yesterday", "5")
    assert (await spender.books.budgets.status("budget")).left["per_day"] == usdc("1")


async def test_the_hour_has_room_again_in_the_minute_of_the_payment(spender: Spender, clock: ManualClock) -> None:
    await spender.budget(per_hour="5")
    await paid(spender, "early", "3")
    clock.advance(50 * 60)
    await paid(spender, "late", "2")
    await back(spender.books, "late", "2")
    clock.advance(11 * 60 + 1)  # the first has left the hour, the second has not
    await spender.reserve("k", "5")
    await again(spender.books, "late", "2")
    with pytest.raises(BudgetExceeded):
        await spender.reserve("k2", "0.000001")


async def test_limits_put_on_later_count_what_did_not_come_back(spender: Spender) -> None:
    await spender.budget()
    await paid(spender, "k", "4", task="t")
    await back(spender.books, "k", "3")
    status = await spender.books.budgets.change("budget", Limits(per_day=usdc("2"), per_task=usdc("2")))
    assert status.left["per_day"] == usdc("1")
    await spender.reserve("k2", "1", task="t")
    await back(spender.books, "k", "1", "rest")
    await spender.reserve("k3", "1", task="t")


async def test_a_closed_budget_and_a_payment_without_one_have_their_money_back_too(spender: Spender) -> None:
    await spender.budget()
    await paid(spender, "k", "2")
    await paid(spender, "free", "2", budget_id=None)
    await spender.books.budgets.revoke("budget")
    await back(spender.books, "k", "2")
    await back(spender.books, "free", "1", "free")
    assert await spent(spender) == usdc("0")
    assert (await spender.books.reservation("free")).spent == 1_000_000


async def test_reserved_paid_back_and_gone_again_in_one_batch(database: Database, clock: ManualClock) -> None:
    async with Books(database, clock) as books:
        spender = Spender(books)
        await books.deposit("funding", WALLET, usdc("9"))
        await spender.budget("org", per_day="5")
        await spender.budget("budget", parent="org", total="5", per_task="5")
        await asyncio.gather(
            spender.reserve("k1", "5", task="t"),
            books.capture("k1"),
            back(books, "k1", "5"),
            spender.reserve("k2", "4", task="t"),
            books.capture("k2"),
            again(books, "k1", "5"),
        )
        status = await books.budgets.status("budget")
        assert (status.spent, status.left["total"]) == (usdc("9"), usdc("0"))
        assert (await books.check()).clean


@pytest.fixture
async def other(database: Database, clock: ManualClock) -> AsyncIterator[Books]:
    """Another process's books: it knows nothing of what this one has met."""
    async with Books(database, clock) as opened:
        yield opened


async def test_another_process_gives_back_what_this_one_paid(
    database: Database, clock: ManualClock, other: Books
) -> None:
    async with Books(database, clock) as books:
        spender = Spender(books)
        await books.deposit("funding", WALLET, usdc("9"))
        await spender.budget(total="5", per_seller="5")
        await paid(spender, "k", "5")
        await back(other, "k", "4")
        await spender.reserve("k2", "4")
        with pytest.raises(Conflict):
            await back(books, "k", "2", "twice")
        assert (await other.check()).clean


async def test_figures_have_what_stayed_with_sellers(database: Database, clock: ManualClock) -> None:
    async with Books(database, clock) as books:
        spender = Spender(books)
        await books.deposit("funding", WALLET, usdc("20"))
        await spender.budget(total="10")
        await paid(spender, "kept", "2")
        await paid(spender, "partly", "3", capability="text.summarize")
        await paid(spender, "whole", "4")
        await back(books, "partly", "1", "b1")
        await back(books, "whole", "4", "b2")
    metrics, scope = Metrics(database), Scoped(USDC)
    everything, by = await metrics.summary(scope, [By.CAPABILITY])
    assert (everything.spent, everything.count, everything.average) == (usdc("4"), 2, usdc("2"))
    assert {each.label: (each.spent, each.count) for each in by[By.CAPABILITY]} == {
        "pdf.extract": (usdc("2"), 1),
        "text.summarize": (usdc("2"), 1),
    }
    assert await metrics.spent(scope) == everything
    (point,) = await metrics.burn_down("budget", scope)
    assert (point.spent, point.left) == (usdc("4"), usdc("6"))
    assert await metrics.earned(SELLER, scope) == usdc("4")


async def test_a_ledger_without_returns_has_the_money_as_spent(database: Database, database_url: str) -> None:
    """Down to the tables before this, and up again."""
    async with Books(database) as books:
        spender = Spender(books)
        await books.deposit("funding", WALLET, usdc("20"))
        await spender.budget("org", per_day="9")
        await spender.budget("budget", parent="org", total="5", per_task="9")
        await paid(spender, "k1", "5", task="t")
        await back(books, "k1", "5")
        await paid(spender, "k2", "4", task="t")
    await migrate(database_url, "0030")
    async with database.connection() as connection:
        assert await connection.fetchval("select spent from ledger.budget where id = 'org'") == 9_000_000
        assert await connection.fetchval("select spendable from ledger.budget where id = 'budget'") == 9_000_000
        counters = await connection.fetch("select scope, spent from ledger.budget_use order by scope")
        assert [tuple(row) for row in counters] == [("day", 9_000_000), ("task", 9_000_000)]
    await migrate(database_url)
    async with Books(database) as books:
        assert (await books.check()).clean


async def test_4_processes_that_are_told_the_same_refunds_give_back_each_once(
    database: Database, database_url: str
) -> None:
    async with Books(database) as books:
        await prepare(books)
        async with spending(database_url, "refunds", ["a", "b", "c", "d"], 10, 6) as processes:
            answers = await answers_of(processes)
        assert {answer["answer"] for answer in answers} <= {"ok", "conflict", "budget_exceeded", "not_found"}
        assert Counter(answer["answer"] for answer in answers)["ok"] > 0
        await settled(books)


@pytest.mark.chaos
async def test_kill_9_between_refunds_leaves_clean_books(database: Database, database_url: str) -> None:
    async with Books(database) as books:
        await prepare(books)
        for count in (3, 30, 70):
            async with spending(database_url, "refunds", ["a", "b"], 10, 12) as processes:
                await asyncio.gather(*(process.kill_after(count) for process in processes))
            report = await books.check()
            assert report.clean, report.to_json()
        async with spending(database_url, "refunds", ["a", "b"], 10, 12) as processes:
            await answers_of(processes)
        await settled(books)


async def prepare(books: Books) -> None:
    await books.deposit("funding", ACCOUNTS[0], usdc("1"))
    await books.budgets.create("org", owner="o", asset=USDC, limits=Limits(per_hour=usdc("0.001"), total=usdc("0.001")))
    await books.budgets.create("agent", parent="org", limits=Limits(per_task=usdc("0.0005"), per_day=usdc("0.0009")))


async def settled(books: Books) -> None:
    """What budgets count as spent is what the seller has."""
    report = await books.check()
    assert report.clean, report.to_json()
    stayed = (await books.balance(SELLER)).posted
    for budget in ("agent", "org"):
        assert (await books.budgets.status(budget)).spent == stayed


async def test_both_ledgers_refuse_in_the_same_words(database: Database, clock: ManualClock) -> None:
    memory = MemoryBooks(clock)
    async with Books(database, clock) as books:
        said: list[list[object]] = []
        for ledger in (memory, books):
            spender = Spender(ledger)
            await ledger.deposit("funding", WALLET, usdc("9"))
            await spender.budget()
            await paid(spender, "k", "2")
            await spender.reserve("pending", "1")
            said.append([await refusal(ledger, key) for key in ("k", "pending", "nowhere")])
        assert said[0] == said[1]


async def refusal(books: AnyBooks, key: str) -> object:
    with pytest.raises(NexusError) as refused:
        await back(books, key, "3", f"back-{key}")
    assert refused.value.next_step
    return refused.value.to_json()
