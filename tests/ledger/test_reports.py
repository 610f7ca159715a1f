"""Statements, reconciliation and metrics: what people and other programs read from the books."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.ledger.books import Books
from agentnexus.ledger.metrics import By, Metrics, Scoped
from agentnexus.ledger.model import TransferKind
from agentnexus.ledger.reconcile import CaseKind, Reconciler
from agentnexus.ledger.statements import to_csv, to_json
from agentnexus.platform.database import Database
from tests.ledger.conftest import SELLER, USDC, WALLET, Spender, usdc


@pytest.fixture
async def spender(database: Database, clock: ManualClock) -> Spender:
    books = Books(database, clock)
    await books.deposit("funding", WALLET, usdc("1000"))
    spender = Spender(books)
    await spender.budget(total="100")
    return spender


@pytest.fixture
def reconciler(spender: Spender, clock: ManualClock) -> Reconciler:
    assert isinstance(spender.books, Books)
    return Reconciler(spender.books, clock)


async def test_a_statement_in_csv_cannot_carry_a_formula(spender: Spender, clock: ManualClock) -> None:
    clock.advance(1)
    await spender.books.withdraw("w", WALLET, usdc("1.5"), target="external:=1+1", memo='=HYPERLINK("x")')
    rows = list(csv.DictReader(io.StringIO(to_csv(await spender.books.statement(WALLET, USDC)))))
    assert [(row["kind"], row["amount"], row["balance"], row["asset"]) for row in rows] == [
        ("deposit", "1000.000000", "1000.000000", "USDC"),
        ("withdrawal", "-1.500000", "998.500000", "USDC"),
    ]
    assert rows[1]["memo"] == '\'=HYPERLINK("x")'


async def test_a_statement_in_json_opens_and_closes(spender: Spender, clock: ManualClock) -> None:
    clock.advance(1)
    await spender.books.withdraw("w", WALLET, usdc("1.5"))
    lines = await spender.books.statement(WALLET, USDC, since=clock.now())
    body = to_json(WALLET, USDC, lines)
    assert (body["opening"], body["closing"]) == (usdc("1000").to_json(), usdc("998.5").to_json())
    assert to_json(WALLET, USDC, [])["closing"] is None


async def test_balances_that_agree_open_no_case(reconciler: Reconciler) -> None:
    comparison = await reconciler.compare({WALLET: usdc("1000"), SELLER: usdc("0")})
    assert (comparison.agreeing, comparison.cases) == ([WALLET, SELLER], [])
    assert await reconciler.cases() == []


async def test_what_is_reserved_may_have_left_already(spender: Spender, reconciler: Reconciler) -> None:
    await spender.reserve("a", "2")
    assert (await reconciler.compare({WALLET: usdc("998")})).in_flight == [WALLET]
    assert (await reconciler.compare({WALLET: usdc("999.5")})).in_flight == [WALLET]
    assert len((await reconciler.compare({WALLET: usdc("997.999999")})).cases) == 1


async def test_while_payments_go_on_only_a_difference_that_stays_is_a_case(
    spender: Spender, reconciler: Reconciler
) -> None:
    """Network and books are read one after the other: what came between the two looks is gone at the next."""
    assert (await reconciler.compare({WALLET: usdc("1003")}, twice=True)).in_flight == [WALLET]  # not booked yet
    await spender.books.deposit("late", WALLET, usdc("3"))
    assert (await reconciler.compare({WALLET: usdc("1003")}, twice=True)).agreeing == [WALLET]
    for observed in ("1004", "1005", "1004"):  # another one each time
        assert (await reconciler.compare({WALLET: usdc(observed)}, twice=True)).in_flight == [WALLET]
    assert await reconciler.cases() == []
    assert len((await reconciler.compare({WALLET: usdc("1004")}, twice=True)).cases) == 1
    assert len((await reconciler.compare({WALLET: usdc("1004")}, twice=True)).cases) == 1
    assert len(await reconciler.cases()) == 1


async def test_a_difference_is_one_case_and_one_event_and_moves_no_money(
    spender: Spender, reconciler: Reconciler, database: Database, clock: ManualClock
) -> None:
    [case] = (await reconciler.compare({WALLET: usdc("1003")})).cases
    assert (case.kind, case.subject, case.expected, case.observed) == (
        CaseKind.BALANCE,
        WALLET,
        usdc("1000"),
        usdc("1003"),
    )
    clock.advance(60)
    [again] = (await reconciler.compare({WALLET: usdc("1004")})).cases
    assert (again.id, again.observed, again.opened_at) == (case.id, usdc("1004"), case.opened_at)
    assert again.seen_at > case.seen_at
    async with database.connection() as connection:
        events = await connection.fetch("select name, subject, data from platform.outbox")
    assert [(event["name"], event["subject"]) for event in events] == [("ledger.difference", case.id)]
    assert events[0]["data"]["difference"] == usdc("3").to_json()
    assert (await spender.books.balance(WALLET)).posted == usdc("1000")


async def test_a_case_closes_only_by_a_persons_word(reconciler: Reconciler) -> None:
    [case] = (await reconciler.compare({WALLET: usdc("1003")})).cases
    await reconciler.compare({WALLET: usdc("1000")})
    assert [c.id for c in await reconciler.cases()] == [case.id]
    with pytest.raises(InvalidInput):
        await reconciler.resolve(case.id, "")
    closed = await reconciler.resolve(case.id, "a faucet payment, entered as deposit tx-9")
    assert closed.resolved_at is not None
    assert await reconciler.cases() == []
    assert [c.resolution for c in await reconciler.cases(resolved=True)] == [closed.resolution]
    with pytest.raises(NotFound):
        await reconciler.resolve(case.id, "again")
    [fresh] = (await reconciler.compare({WALLET: usdc("1003")})).cases
    assert fresh.id != case.id


async def test_reservations_that_nobody_ended_are_found(
    spender: Spender, reconciler: Reconciler, clock: ManualClock
) -> None:
    await spender.reserve("forgotten", "2", rail="evm")
    await spender.reserve("waiting", "1", expires_at=clock.now() + timedelta(hours=1))
    await spender.reserve("done", "1")
    await spender.books.capture("done")
    clock.advance(600)
    [case] = await reconciler.find_stuck()
    assert (case.kind, case.subject, case.observed) == (CaseKind.STUCK_RESERVATION, "forgotten", usdc("2"))
    assert case.detail["rail"] == "evm"
    clock.advance(3600)
    assert [c.subject for c in await reconciler.find_stuck()] == ["forgotten", "waiting"]
    assert (await spender.books.balance(WALLET)).reserved == usdc("3")


async def spend(spender: Spender, clock: ManualClock) -> None:
    """Two days: 1 + 2 for pdf.extract on x402, 3 of 4 for llm.chat by Lightning; one voided, one open."""
    await spender.budget("agent", parent="budget")
    await spender.reserve("a", "1", rail="x402", task="t-1")
    await spender.books.capture("a")
    await spender.reserve("b", "2", rail="x402", task="t-2", budget_id="agent")
    await spender.books.capture("b")
    clock.advance(86400)
    await spender.reserve("c", "4", rail="lightning", task="t-2", capability="llm.chat", seller="nostr:x")
    await spender.books.capture("c", usdc("3"))
    await spender.reserve("voided", "50")
    await spender.books.void("voided")
    await spender.reserve("open", "20")


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (By.CAPABILITY, [("llm.chat", "3", 1), ("pdf.extract", "3", 2)]),
        (By.SELLER, [("evm:0xbbbb", "3", 2), ("nostr:x", "3", 1)]),
        (By.RAIL, [("lightning", "3", 1), ("x402", "3", 2)]),
        (By.TASK, [("t-2", "5", 2), ("t-1", "1", 1)]),
        (By.BUDGET, [("budget", "4", 2), ("agent", "2", 1)]),
        (By.OWNER, [("user-1", "6", 3)]),
        (By.DAY, [("2026-11-20", "3", 2), ("2026-11-21", "3", 1)]),
    ],
)
async def test_spending_adds_up_by_any_label(
    spender: Spender, clock: ManualClock, database: Database, by: By, expected: list[tuple[str, str, int]]
) -> None:
    await spend(spender, clock)
    groups = await Metrics(database).spending(Scoped(USDC, budget_id="budget"), by)
    assert [(g.label, g.spent, g.count) for g in groups] == [(label, usdc(a), n) for label, a, n in expected]


async def test_spending_can_be_narrowed(spender: Spender, clock: ManualClock, database: Database) -> None:
    await spend(spender, clock)
    metrics, today = Metrics(database), clock.now()
    assert (await metrics.spent(Scoped(USDC))).spent == usdc("6")
    assert (await metrics.spent(Scoped(USDC, budget_id="agent"))).spent == usdc("2")
    assert (await metrics.spent(Scoped(USDC, task="t-2"))).average == usdc("2.5")
    assert (await metrics.spent(Scoped(USDC, since=today))).spent == usdc("3")
    assert (await metrics.spent(Scoped(USDC, until=today))).spent == usdc("3")
    nobody = await metrics.spent(Scoped(USDC, owner="nobody"))
    assert (nobody.spent, nobody.count, nobody.average) == (usdc("0"), 0, usdc("0"))
    assert nobody.to_json()["count"] == 0


async def test_a_budget_burns_down_day_by_day(spender: Spender, clock: ManualClock, database: Database) -> None:
    await spend(spender, clock)
    metrics = Metrics(database)
    points = await metrics.burn_down("budget", Scoped(USDC))
    assert [(p.day, p.spent_so_far, p.left) for p in points] == [
        ("2026-11-20", usdc("3"), usdc("97")),
        ("2026-11-21", usdc("6"), usdc("94")),
    ]
    assert await metrics.burn_down("budget", Scoped(USDC, since=clock.now())) == points[1:]
    assert [p.left for p in await metrics.burn_down("agent", Scoped(USDC))] == [None]


async def test_earnings_and_fees_come_from_the_transfers(
    spender: Spender, clock: ManualClock, database: Database
) -> None:
    await spend(spender, clock)
    await spender.books.transfer("r", SELLER, WALLET, usdc("0.5"), TransferKind.REFUND)
    await spender.books.transfer("f", WALLET, "fees:eip155:31337", usdc("0.01"), TransferKind.FEE)
    metrics = Metrics(database)
    assert await metrics.earned(SELLER, Scoped(USDC)) == usdc("5.5")
    assert await metrics.fees(Scoped(USDC)) == usdc("0.01")
    assert await metrics.fees(Scoped(USDC), SELLER) == usdc("0")
    assert await metrics.fees(Scoped(USDC, until=clock.now())) == usdc("0")
