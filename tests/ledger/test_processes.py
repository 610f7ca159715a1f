"""Several real processes on one database: limits hold to the unit, keys act once, kill -9 leaves clean books."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentnexus.core.errors import Conflict
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.model import Reservation, ReservationState
from agentnexus.platform.database import Database
from tests.ledger.conftest import SELLER, USDC, usdc
from tests.ledger.spend import ACCOUNTS

ROOT = Path(__file__).parents[2]
Answer = dict[str, object]


class Process:
    """One spending process; `answers` are the lines it printed after the first."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.answers: list[Answer] = []

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    async def line(self) -> Answer | None:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    async def finish(self) -> list[Answer]:
        while (answer := await self.line()) is not None:
            self.answers.append(answer)
        await self._process.wait()
        return self.answers

    async def kill_after(self, count: int) -> list[Answer]:
        """kill -9 as soon as `count` answers were printed; returns all that got out."""
        while len(self.answers) < count:
            answer = await self.line()
            assert answer is not None, "finished before it could be killed"
            self.answers.append(answer)
        self._process.kill()
        return await self.finish()

    def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


@asynccontextmanager
async def spending(url: str, plan: str, names: list[str], spenders: int, attempts: int) -> AsyncIterator[list[Process]]:
    started = [
        Process(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.ledger.spend", url, plan, name, str(spenders), str(attempts)),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        )
        for name in names
    ]
    try:
        for process in started:
            assert await process.line() == {"ready": True}
        for process in started:
            process.go()
        yield started
    finally:
        for process in started:
            process.stop()
            await process.finish()


async def answers_of(processes: list[Process]) -> list[Answer]:
    return [answer for answers in await asyncio.gather(*(p.finish() for p in processes)) for answer in answers]


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    async with Books(database) as opened:
        for account in ACCOUNTS:
            await opened.deposit(f"funding-{account}", account, usdc("0.002"))
        yield opened
        report = await opened.check()
        assert report.clean, report.to_json()


@pytest.mark.parametrize(
    ("root", "leaf", "fits"),
    [
        ({"total": "0.000700"}, {}, 700),
        ({"total": "0.000700", "keep_back": "0.000100"}, {}, 600),
        ({}, {"per_hour": "0.000333"}, 333),
        ({"per_day": "0.000901"}, {"per_task": "0.000250"}, 500),
        ({"per_seller": "0.000123"}, {"per_capability": "0.000124"}, 123),
    ],
    ids=["total", "keep_back", "per_hour", "per_task", "per_seller"],
)
async def test_200_spenders_in_4_processes_get_exactly_what_the_limits_allow(
    books: Books, database_url: str, root: dict[str, str], leaf: dict[str, str], fits: int
) -> None:
    await books.budgets.create("org", owner="o", asset=USDC, limits=money(root))
    await books.budgets.create("agent", parent="org", limits=money(leaf))
    async with spending(database_url, "same_budget", ["a", "b", "c", "d"], 50, 6) as processes:
        answers = Counter(str(answer["answer"]) for answer in await answers_of(processes))
    assert answers.pop("ok") == fits
    assert sum(answers.values()) == 1200 - fits
    assert set(answers) <= {*root, *leaf}
    status = await books.budgets.status("org")
    assert status.spent + status.reserved == usdc("0.000001") * fits


def money(limits: dict[str, str]) -> Limits:
    return Limits(**{name: usdc(amount) for name, amount in limits.items()})


async def test_crossing_payments_of_4_processes_never_lock_each_other_out(
    books: Books, database_url: str, database: Database
) -> None:
    await crossing_budgets(books)
    async with spending(database_url, "crossing", ["a", "b", "c", "d"], 20, 15) as processes:
        answers = Counter(str(answer["answer"]) for answer in await answers_of(processes))
    assert sum(answers.values()) == 1200
    assert set(answers) == {"ok", "budget_exceeded"}, answers
    async with database.connection() as connection:
        found = await connection.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    assert found == 0


async def crossing_budgets(books: Books) -> None:
    await books.budgets.create("org", owner="o", asset=USDC, limits=money({"total": "0.009", "per_hour": "0.008"}))
    await books.budgets.create("agent", parent="org", limits=money({"per_task": "0.001", "per_payment": "0.000045"}))
    await books.budgets.create("agent-2", parent="org", limits=money({"per_seller": "0.0005", "total": "0.005"}))


async def test_one_key_in_4_processes_pays_once(books: Books, database_url: str, database: Database) -> None:
    async with spending(database_url, "one_key", ["0", "1", "2", "3"], 10, 10) as processes:
        answers = await answers_of(processes)
    agreed = [answer for answer in answers if int(str(answer["key"])[-1]) % 2 == 0]
    assert {answer["answer"] for answer in agreed} == {"ok"}
    disputed = Counter((answer["key"], answer["answer"]) for answer in answers if answer not in agreed)
    winners = [count for (_, answer), count in disputed.items() if answer == "ok"]
    assert winners == [1] * 50
    assert {answer for _, answer in disputed} == {"ok", "conflict"}
    assert (await books.balance(SELLER)).posted == usdc("0.000100")


@pytest.mark.chaos
async def test_kill_9_in_the_middle_of_flushes_leaves_clean_books(
    books: Books, database_url: str, database: Database
) -> None:
    await crossing_budgets(books)
    names = ["a", "b"]
    for count in (5, 40, 90):
        async with spending(database_url, "crossing", names, 20, 30) as processes:
            answered = await asyncio.gather(*(process.kill_after(count) for process in processes))
        report = await books.check()
        assert report.clean, report.to_json()
        done = [str(answer["key"]) for answers in answered for answer in answers if answer["answer"] == "ok"]
        assert done
        for key in done:
            await books.reservation(key)  # what was answered is there
        names = [name + "'" for name in names]


@pytest.mark.chaos
async def test_a_killed_process_started_again_finishes_its_payments_exactly_once(
    books: Books, database_url: str, database: Database
) -> None:
    await books.budgets.create("agent", owner="o", asset=USDC)
    async with spending(database_url, "same_budget", ["a"], 40, 6) as [process]:
        await process.kill_after(30)
    async with spending(database_url, "same_budget", ["a"], 40, 6) as [process]:
        answers = await process.finish()
    assert Counter(answer["answer"] for answer in answers) == {"ok": 240}
    status = await books.budgets.status("agent")
    assert (status.spent, status.reserved) == (usdc("0.000120"), usdc("0.000120"))


async def test_another_process_may_take_a_key_while_a_batch_waits_for_its_locks(
    books: Books, database: Database
) -> None:
    """The batch chose its locks without knowing that reservation, so it must choose them again."""
    await books.budgets.create("agent", owner="o", asset=USDC, limits=money({"total": "1", "per_hour": "1"}))
    amount = usdc("0.000001")
    mine = {"budget_id": "agent", "payer_account": ACCOUNTS[0], "payee_account": SELLER, "amount": amount}
    theirs = mine | {"budget_id": None, "payer_account": ACCOUNTS[1], "payee_account": "seller:theirs"}
    other = Books(database)
    async with database.transaction() as connection:
        await connection.execute("select 1 from ledger.budget where id = 'agent' for update")
        batch = asyncio.gather(books.reserve("k", **mine), books.capture("k"), return_exceptions=True)  # type: ignore[arg-type]  # built above
        async with asyncio.timeout(10):
            while not await connection.fetchval("select exists (select 1 from pg_locks where not granted)"):
                await asyncio.sleep(0.01)
        await other.reserve("k", **theirs)  # type: ignore[arg-type]  # built above
    reserved, captured = await batch
    assert isinstance(reserved, Conflict)
    assert isinstance(captured, Reservation)
    assert captured.terms.payee == "seller:theirs"
    assert (await books.balance("seller:theirs")).posted == amount
    assert (await books.budgets.status("agent")).spent == usdc("0")


async def test_a_database_that_drops_its_connections_costs_no_answer(books: Books, database: Database) -> None:
    await books.budgets.create("agent", owner="o", asset=USDC)

    async def pay(number: int) -> ReservationState:
        for part in range(10):
            key = f"k-{number}-{part}"
            await books.reserve(
                key,
                budget_id="agent",
                payer_account=ACCOUNTS[0],
                payee_account=SELLER,
                amount=usdc("0.000001"),
            )
            if number == 0 and part % 3 == 0:
                await drop_connections(database)
        return (await books.capture(key)).state

    states = await asyncio.gather(*(pay(number) for number in range(40)))
    assert states == [ReservationState.POSTED] * 40
    status = await books.budgets.status("agent")
    assert (status.spent, status.reserved) == (usdc("0.000040"), usdc("0.000360"))


async def drop_connections(database: Database) -> None:
    """What a failover does: every other connection to this database ends."""
    async with database.connection() as connection:
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
