"""Economic figures: however payments are grouped or narrowed they add up to the same, and savings are never guessed."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money, total
from agentnexus.ledger import gauges
from agentnexus.ledger.books import Books
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.metrics import LABELS, By, Metrics, Scoped
from agentnexus.ledger.model import TransferKind
from agentnexus.platform.database import Database
from agentnexus.platform.telemetry import render_metrics
from tests.ledger.conftest import SELLER, USDC, WALLET, usdc


@pytest.fixture
async def books(database: Database, clock: ManualClock) -> Books:
    opened = Books(database, clock)
    await opened.deposit("funding", WALLET, usdc("100000"))
    for user in ("ada", "bob"):
        await opened.budgets.create(f"user:{user}", owner=user, asset=USDC)
        await opened.budgets.create(f"workflow:{user}", parent=f"user:{user}")
    return opened


@pytest.fixture
def economics(database: Database) -> Economics:
    return Economics(database, USDC)


async def pay(books: Books, key: str, amount: int, **terms: str) -> None:
    given = {"budget_id": "workflow:ada", "seller": "evm:0xbb", "capability": "pdf.extract", "rail": "evm", **terms}
    await books.reserve(key, payer_account=WALLET, payee_account=SELLER, amount=Money(USDC, amount), **given)  # type: ignore[arg-type]  # checked by the door
    await books.capture(key)


@pytest.mark.parametrize("seed", range(4))
async def test_every_grouping_adds_up_to_what_was_paid(
    books: Books, economics: Economics, clock: ManualClock, seed: int
) -> None:
    dice = random.Random(seed)
    paid: list[dict[str, str]] = []
    amounts: list[int] = []
    start = clock.now()
    for number in range(40):
        clock.advance(dice.choice([0, 60, 40_000]))
        terms = {
            "budget_id": dice.choice(["workflow:ada", "user:ada", "workflow:bob"]),
            "seller": dice.choice(["s1", "s2", ""]),
            "capability": dice.choice(["a.b", "c.d", "e.f"]),
            "rail": dice.choice(["evm", "prepaid", ""]),
            "task": dice.choice(["t1", "t2", ""]),
        }
        amounts.append(dice.randint(1, 10**9))
        paid.append(terms)
        await pay(books, f"k{number}", amounts[-1], **terms)
        if dice.random() < 0.3:  # what is not captured is not spent
            await books.reserve(
                f"v{number}", budget_id="user:ada", payer_account=WALLET, payee_account=SELLER, amount=usdc("3")
            )
            await books.void(f"v{number}")
    everything = Scoped(USDC)
    groups = await economics.metrics.groups(everything, list(By))
    for by in By:
        assert sum(group.spent.atomic for group in groups[by]) == sum(amounts), by
        assert sum(group.count for group in groups[by]) == len(amounts), by
        assert groups[by] == sorted(groups[by], key=lambda group: -group.spent.atomic)
        assert groups[by] == await economics.metrics.spending(everything, by)
    for name in ("seller", "capability", "rail", "task"):
        sums: Counter[str] = Counter()
        for terms, amount in zip(paid, amounts, strict=True):
            sums[terms[name]] += amount
        assert {group.label: group.spent.atomic for group in groups[By(name)]} == sums
    hers = await economics.report(Scoped(USDC, owner="ada"), "ada")
    his = await economics.report(Scoped(USDC, owner="bob"), "bob")
    assert (hers.spent.spent + his.spent.spent).atomic == sum(amounts)
    middle = start + (clock.now() - start) / 2
    halves = [
        await economics.metrics.spent(Scoped(USDC, until=middle)),
        await economics.metrics.spent(Scoped(USDC, since=middle)),
    ]
    assert sum(half.spent.atomic for half in halves) == sum(amounts)
    for seller in ("s1", "s2"):
        one = await economics.metrics.spent(Scoped(USDC, seller=seller, capability="a.b"))
        expected = [a for t, a in zip(paid, amounts, strict=True) if (t["seller"], t["capability"]) == (seller, "a.b")]
        assert (one.spent.atomic, one.count) == (sum(expected), len(expected))


async def test_a_report_of_a_task_holds_only_its_payments(books: Books, economics: Economics) -> None:
    await pay(books, "a", 1_000_000)
    await pay(books, "b", 500_000, budget_id="user:ada")
    await pay(books, "c", 250_000, budget_id="workflow:bob")
    report = await economics.report(Scoped(USDC, budget_id="workflow:ada"))
    assert (report.spent.spent, report.spent.count, report.net) == (usdc("1"), 1, -usdc("1"))
    body = report.to_json()
    assert body["savings"] is None
    assert isinstance(body["by"], dict)
    assert set(body["by"]) == {"capability", "seller", "rail", "day"}


async def test_earned_is_income_less_what_was_given_back_and_fees_belong_to_their_payment(
    books: Books, economics: Economics
) -> None:
    await pay(books, "a", 3_000_000)
    await pay(books, "b", 1_000_000, budget_id="workflow:bob")
    await books.transfer("back", SELLER, WALLET, usdc("0.5"), TransferKind.REFUND)
    await books.transfer("a", WALLET, "fees:eip155:31337", usdc("0.02"), TransferKind.FEE)
    await books.transfer("b", WALLET, "fees:eip155:31337", usdc("0.03"), TransferKind.FEE)
    report = await economics.report(Scoped(USDC, owner="ada"), earning=[SELLER, "seller:nobody"])
    assert (report.earned, report.fees) == (usdc("3.5"), usdc("0.02"))
    assert report.net == usdc("3.5") - usdc("3") - usdc("0.02")


async def test_savings_are_known_only_where_a_price_is(books: Books, economics: Economics) -> None:
    await pay(books, "a", 20_000)
    await pay(books, "b", 30_000)
    await pay(books, "c", 5_000, capability="text.summarize")
    await pay(books, "d", 7_000, capability="unknown.thing")
    hers = Scoped(USDC, owner="ada")
    assert (await economics.report(hers, "ada")).savings is None
    assert await economics.set_prices("ada", {"pdf.extract": "0.10", "text.summarize": "0.001"}) == {
        "pdf.extract": usdc("0.1"),
        "text.summarize": usdc("0.001"),
    }
    savings = (await economics.report(hers, "ada")).savings
    assert savings is not None
    assert (savings.calls, savings.hosted, savings.paid, savings.saved) == (
        3,
        usdc("0.201"),
        usdc("0.055"),
        usdc("0.146"),
    )
    assert (await economics.report(hers, "bob")).savings is None  # another's table is not hers
    await economics.set_prices("ada", {"pdf.extract": None})
    savings = (await economics.report(hers, "ada")).savings
    assert savings is not None
    assert savings.saved == -usdc("0.004")  # dearer than hosted is shown as it is


@pytest.mark.parametrize(
    "prices", [{"a": "-1"}, {"a": "x"}, {"": "1"}, {"a\n": "1"}, {f"c{n}": "1" for n in range(1001)}]
)
async def test_a_wrong_price_changes_nothing(economics: Economics, prices: dict[str, str]) -> None:
    await economics.set_prices("ada", {"pdf.extract": "0.10"})
    with pytest.raises(InvalidInput):
        await economics.set_prices("ada", {"pdf.extract": "9", **prices})
    assert await economics.prices("ada") == {"pdf.extract": usdc("0.10")}


async def test_prometheus_sees_the_whole_node(
    books: Books, economics: Economics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauges, "LABELLED_MAX", 2)
    for number in range(5):
        await pay(books, f"k{number}", 1_000_000 * (number + 1), capability=f"cap.c{number}")
    await gauges.refresh(economics)
    page = render_metrics().decode()
    where = 'network="eip155:31337",symbol="USDC"'
    assert f'agentnexus_spent{{capability="cap.c4",{where}}} 5.0' in page
    assert f'agentnexus_spent{{capability="other",{where}}} 6.0' in page
    assert f'agentnexus_captured_payments{{capability="other",{where}}} 3.0' in page
    assert (
        f'agentnexus_spent_by_rail{{{where.split(",", maxsplit=1)[0]},rail="evm",{where.split(",")[1]}}} 15.0' in page
    )


async def test_a_burn_down_is_every_day_of_the_window(books: Books, database: Database, clock: ManualClock) -> None:
    await pay(books, "a", 1_000_000)
    clock.advance(86_400 * 2)
    await pay(books, "b", 2_000_000)
    points = await Metrics(database).burn_down("user:ada", Scoped(USDC, since=clock.now() - timedelta(days=1)))
    assert [(point.spent, point.spent_so_far, point.left) for point in points] == [(usdc("2"), usdc("3"), None)]
    assert total([point.spent for point in points], USDC) == usdc("2")


def test_every_label_has_its_column() -> None:
    assert set(LABELS) == set(By)
