"""Our own database or ledger fails in the middle of a hire: nobody is paid for it twice, and repair goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from agentnexus.core.errors import BudgetExceeded, NexusError, PaymentUnknown, SellerFailed, Unavailable
from agentnexus.core.offers import Need, Strategy
from agentnexus.core.payments import Limits, ReceiptStatus
from agentnexus.hiring.model import Hired
from agentnexus.hiring.testing import Script
from agentnexus.platform.database import Database
from tests.hiring.support import BUDGET, Economy, make_offer, seller_key, usd

CHEAPEST = Need(capability="text.echo", input={"text": "x"}, strategy=Strategy.PRICE)
TWO = (make_offer(1, price="0.01"), make_offer(2, price="0.03"))


class CutOff(BaseException):
    """Stands for whatever ends a process between two steps."""


class Outage:
    """Raises at one named point, for a number of passes."""

    def __init__(self, point: str, error: Callable[[], BaseException], times: int = 1) -> None:
        self.point, self.error, self.left = point, error, times

    def __call__(self, name: str) -> None:
        if name == self.point and self.left > 0:
            self.left -= 1
            raise self.error()


OUTAGES = {
    "ledger": lambda: Unavailable("the ledger's database does not answer"),
    "connection": lambda: asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    "pool": lambda: asyncpg.InterfaceError("pool is closing"),
}


@pytest.fixture(params=sorted(OUTAGES))
def failure(request: pytest.FixtureRequest) -> Callable[[], Exception]:
    return OUTAGES[str(request.param)]


@pytest.mark.parametrize("point", ["reserved", "hold-opened", "hold-written", "settled-on-rail", "captured"])
async def test_a_short_outage_of_ours_keeps_the_seller_and_its_payment(
    database: Database, point: str, failure: Callable[[], Exception]
) -> None:
    economy = await Economy.build(database, offers=TWO, stop=Outage(point, failure))
    hired = await economy.hire(CHEAPEST)
    assert isinstance(hired, Hired)
    assert hired.receipt.offer.seller.key == seller_key(1)
    assert set(economy.market.asked) == {seller_key(1)}
    assert (await economy.paid(1), await economy.paid(2)) == ("0.01", "0")
    await economy.assert_sound()
    await economy.close()


async def test_a_long_outage_of_ours_leaves_the_hire_to_be_gone_on_with(
    database: Database, failure: Callable[[], Exception]
) -> None:
    outage = Outage("settled-on-rail", failure, times=99)
    economy = await Economy.build(database, offers=TWO, stop=outage)
    with pytest.raises(PaymentUnknown) as caught:
        await economy.hire(CHEAPEST)
    assert "same key" in caught.value.next_step
    assert set(economy.market.asked) == {seller_key(1)}

    outage.left = 0
    hired = await economy.hire(CHEAPEST)
    assert isinstance(hired, Hired)
    assert (hired.receipt.offer.seller.key, hired.resumed) == (seller_key(1), True)
    assert (await economy.paid(1), await economy.paid(2)) == ("0.01", "0")
    await economy.assert_sound()
    await economy.close()


async def test_an_answer_that_could_not_be_written_down_is_no_reason_to_hire_again(
    database: Database, failure: Callable[[], Exception]
) -> None:
    economy = await Economy.build(database, offers=TWO, stop=Outage("attempt-ended", failure))
    with pytest.raises(PaymentUnknown):
        await economy.hire(CHEAPEST)
    await economy.hire(CHEAPEST)
    assert (await economy.paid(1), await economy.paid(2)) == ("0.01", "0")
    await economy.assert_sound()
    await economy.close()


async def test_without_its_database_a_hire_says_that_it_may_have_been_paid(database: Database) -> None:
    economy = await Economy.build(database)
    await economy.hire()
    async with database.connection() as connection:
        await connection.execute("alter table hiring.attempt rename to attempt_elsewhere")
    with pytest.raises(PaymentUnknown):
        await economy.hire()
    async with database.connection() as connection:
        await connection.execute("alter table hiring.attempt_elsewhere rename to attempt")
    hired = await economy.hire()
    assert isinstance(hired, Hired)
    assert hired.resumed
    assert await economy.paid() == "0.02"
    await economy.close()


async def test_two_runners_of_one_hire_do_not_break_each_other(database: Database) -> None:
    """As after a lost lock: another process has opened the next attempt meanwhile."""
    economy = await Economy.build(database, offers=TWO, stop=Outage("searched", CutOff))
    await cut_off(economy, "k1")
    begin = economy.hiring.store.begin

    async def twice(*arguments: object, **more: object) -> None:
        await begin(*arguments, **more)  # type: ignore[arg-type]
        await begin(*arguments, **more)  # type: ignore[arg-type]

    economy.hiring.store.begin = twice  # type: ignore[method-assign]
    with pytest.raises(PaymentUnknown, match="cut off"):
        await economy.hire()
    economy.hiring.store.begin = begin  # type: ignore[method-assign]
    await economy.hire()
    assert (await economy.paid(1), await economy.paid(2)) in (("0.01", "0"), ("0", "0.03"))
    await economy.assert_sound()
    await economy.close()


async def test_an_outage_of_ours_does_not_count_against_the_seller(database: Database) -> None:
    economy = await Economy.build(database)
    economy.rail.down = True
    with pytest.raises(NexusError):
        await economy.hire()
    economy.rail.down = False
    await economy.hire()
    record = await economy.hiring.records.record(seller_key(1))
    assert (record.jobs, record.succeeded) == (1, 1)
    await economy.close()


async def test_a_second_seller_that_the_budget_refuses_ends_the_hire_for_good(database: Database) -> None:
    def fail(given: object) -> object:
        raise SellerFailed("out of order", next_step="choose another")

    scripts = {seller_key(1): Script(output=fail)}
    economy = await Economy.build(database, offers=TWO, scripts=scripts)
    await economy.books.budgets.create("small", parent=BUDGET, limits=Limits(total=usd("0.02")))
    with pytest.raises(SellerFailed, match="out of order") as caught:
        await economy.hire(CHEAPEST, budget_id="small")
    assert len(caught.value.details["attempts"]) == 1  # type: ignore[arg-type]
    with pytest.raises(SellerFailed, match="out of order"):
        await economy.hire(CHEAPEST, budget_id="small")
    assert economy.market.asked == [seller_key(1)]
    await economy.assert_sound()
    await economy.close()


async def test_a_first_seller_that_the_budget_refuses_leaves_the_key_free(database: Database) -> None:
    economy = await Economy.build(database, offers=TWO)
    await economy.books.budgets.create("tiny", parent=BUDGET, limits=Limits(total=usd("0.001")))
    with pytest.raises(BudgetExceeded):
        await economy.hire(CHEAPEST, budget_id="tiny")
    await economy.books.budgets.change("tiny", Limits(total=usd("0.01")))
    await economy.hire(CHEAPEST, budget_id="tiny")
    await economy.close()


# ---- repair ----


async def cut_off(economy: Economy, key: str) -> None:
    with pytest.raises(CutOff):
        await economy.hire(key=key)


async def test_a_round_of_repair_that_fails_is_tried_again(database: Database) -> None:
    economy = await Economy.build(database, stop=Outage("hold-written", CutOff))
    await cut_off(economy, "k1")
    async with database.connection() as connection:
        await connection.execute("update hiring.hold set deadline = now() - interval '1 hour'")
        await connection.execute("alter table hiring.hold rename to hold_elsewhere")
    failed = asyncio.Event()
    repair = economy.repair
    find = economy.hiring.cashier.holds.left_open

    async def noticing(*arguments: object) -> object:
        try:
            return await find(*arguments)  # type: ignore[arg-type]
        except asyncpg.PostgresError:
            failed.set()
            raise

    economy.hiring.cashier.holds.left_open = noticing  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(repair.run(pause_seconds=0.01))
    try:
        async with asyncio.timeout(10):
            await failed.wait()
            async with database.connection() as connection:
                await connection.execute("alter table hiring.hold_elsewhere rename to hold")
                while await connection.fetchval("select count(*) from hiring.hold where finished_at is null"):
                    assert not task.done(), task.exception()
                    await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.wait([task])
    await economy.hiring.cancel("k1")
    await economy.assert_sound()
    await economy.close()


async def test_one_attempt_that_cannot_be_closed_does_not_keep_repair_from_the_others(database: Database) -> None:
    economy = await Economy.build(database, stop=Outage("bought", CutOff, times=2))
    await cut_off(economy, "first")
    await cut_off(economy, "second")
    async with database.connection() as connection:  # its wallet was taken out of the settings since
        await connection.execute(
            """update hiring.hold set request = replace(request, '"rail":"scripted"', '"rail":"gone"')
                where hire_key = 'first'"""
        )
    done = await economy.repair.run_once(abandoned_seconds=0)
    assert (done.closed, done.unknown) == (1, 1)
    (receipt,) = await economy.hiring.receipts("second")
    assert receipt.status is ReceiptStatus.FAILED
    await economy.close()
