"""Every limit of a budget, nested budgets, expiry and revocation, on both ledgers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import BudgetExceeded, Conflict, InvalidInput, NotFound
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from tests.ledger.conftest import SATS, USDC, WALLET, Spender, usdc


async def refused(spender: Spender, key: str, amount: str, limit: str, left: str, **terms: object) -> BudgetExceeded:
    """Reserve, expecting this very limit to say no with this much left."""
    with pytest.raises(BudgetExceeded) as caught:
        await spender.reserve(key, amount, **terms)
    details = caught.value.details
    assert (details["limit"], details["left"]) == (limit, f"{usdc(left).decimal:f}")
    assert caught.value.next_step
    return caught.value


async def test_a_single_payment_is_limited(spender: Spender) -> None:
    await spender.budget(per_payment="1")
    await refused(spender, "k", "1.000001", "per_payment", "1")
    await spender.reserve("k", "1")


async def test_the_total_counts_reserved_and_spent_money(spender: Spender) -> None:
    await spender.budget(total="3")
    await spender.reserve("a", "1")
    await spender.books.capture("a")
    await spender.reserve("b", "1.5")
    error = await refused(spender, "c", "0.500001", "total", "0.5")
    assert "frees_at" not in error.details
    await spender.reserve("d", "0.5")
    await refused(spender, "e", "0.000001", "total", "0")


async def test_the_reserve_is_never_touched(spender: Spender) -> None:
    await spender.budget(total="3", keep_back="1")
    assert (await spender.books.budgets.status("budget")).left["total"] == usdc("2")
    await refused(spender, "a", "2.5", "keep_back", "2")
    await refused(spender, "b", "3.5", "total", "2")
    await spender.reserve("c", "2")
    await refused(spender, "d", "0.000001", "keep_back", "0")


async def test_a_reserve_without_a_total_stays_in_the_payers_account(spender: Spender) -> None:
    await spender.budget(keep_back="990")
    await spender.reserve("a", "8")
    await refused(spender, "b", "2.000001", "keep_back", "2")
    await spender.reserve("c", "2")


@pytest.mark.parametrize(
    ("limit", "field"),
    [("per_task", "task"), ("per_tick", "tick"), ("per_seller", "seller"), ("per_capability", "capability")],
)
async def test_each_label_has_its_own_rest(spender: Spender, limit: str, field: str) -> None:
    await spender.budget(**{limit: "2"})
    await spender.reserve("a", "1.5", **{field: "one"})
    error = await refused(spender, "b", "1", limit, "0.5", **{field: "one"})
    assert "frees_at" not in error.details
    await spender.reserve("b", "1", **{field: "two"})
    await spender.reserve("c", "0.5", **{field: "one"})


async def test_payments_that_name_no_task_share_one_rest(spender: Spender) -> None:
    await spender.budget(per_task="1")
    await spender.reserve("a", "1")
    await refused(spender, "b", "1", "per_task", "0")


async def test_a_day_frees_at_midnight_utc(spender: Spender, clock: ManualClock) -> None:
    await spender.budget(per_day="2")
    await spender.reserve("a", "2")
    error = await refused(spender, "b", "1", "per_day", "0")
    assert error.details["frees_at"] == "2026-11-21T00:00:00Z"
    assert error.next_step == "try again at 2026-11-21T00:00:00Z"
    clock.advance(12 * 3600 - 1)
    await refused(spender, "b", "1", "per_day", "0")
    clock.advance(1)
    await spender.reserve("b", "1")


async def test_a_payment_above_the_whole_day_never_frees(spender: Spender) -> None:
    await spender.budget(per_day="2", per_hour="2")
    error = await refused(spender, "b", "2.1", "per_day", "2")
    assert "frees_at" not in error.details


async def test_the_hour_slides_and_says_when_enough_of_it_is_gone(spender: Spender, clock: ManualClock) -> None:
    await spender.budget(per_hour="3")
    await spender.reserve("a", "1")  # 12:00
    clock.advance(600)
    await spender.reserve("b", "2")  # 12:10
    error = await refused(spender, "c", "1", "per_hour", "0")
    assert error.details["frees_at"] == "2026-11-20T13:01:00Z"
    error = await refused(spender, "c", "2", "per_hour", "0")
    assert error.details["frees_at"] == "2026-11-20T13:11:00Z"
    clock.advance(50 * 60 + 59)  # 13:00:59
    await refused(spender, "c", "1", "per_hour", "0")
    clock.advance(1)
    await spender.reserve("c", "1")
    await refused(spender, "d", "0.1", "per_hour", "0")


async def test_voiding_frees_the_hour_and_day_in_which_it_was_reserved(spender: Spender, clock: ManualClock) -> None:
    await spender.budget(per_hour="3", per_day="3")
    await spender.reserve("a", "3")
    clock.advance(1800)
    await refused(spender, "b", "1", "per_day", "0")
    await spender.books.void("a")
    await spender.reserve("b", "3")


async def test_a_capture_on_the_next_day_counts_in_the_day_of_its_reservation(
    spender: Spender, clock: ManualClock
) -> None:
    await spender.budget(per_day="3")
    await spender.reserve("a", "3")
    clock.advance(86400)
    await spender.books.capture("a", usdc("2"))
    await spender.reserve("b", "3")
    assert (await spender.books.budgets.status("budget")).left["per_day"] == usdc("0")


async def test_the_limit_that_blocks_longest_is_the_one_named(spender: Spender) -> None:
    await spender.budget(per_hour="1", per_day="1", total="1")
    await spender.reserve("a", "1")
    await refused(spender, "b", "1", "total", "0")
    await spender.budget("other", per_hour="1", per_day="1")
    await spender.reserve("c", "1", budget_id="other")
    await refused(spender, "d", "1", "per_day", "0", budget_id="other")


async def test_a_child_spends_from_all_its_parents(spender: Spender) -> None:
    await spender.budget("org", total="10")
    await spender.budget("user", parent="org", per_payment="4")
    await spender.budget("agent", parent="user", total="6")
    spender.budget_id = "agent"
    error = await refused(spender, "a", "5", "per_payment", "4")
    assert error.details["budget"] == "user"
    await spender.reserve("a", "4")
    await spender.reserve("elsewhere", "5", budget_id="org")
    error = await refused(spender, "b", "2", "total", "1")
    assert error.details["budget"] == "org"
    await spender.reserve("b", "1")
    await spender.books.capture("a", usdc("3"))
    states = {name: await spender.books.budgets.status(name) for name in ("org", "user", "agent")}
    assert [(str(s.spent.decimal), str(s.reserved.decimal)) for s in states.values()] == [
        ("3.000000", "6.000000"),
        ("3.000000", "1.000000"),
        ("3.000000", "1.000000"),
    ]


async def test_a_refused_reservation_changes_no_node_of_the_path(spender: Spender) -> None:
    await spender.budget("org", total="10", per_day="10", per_seller="10")
    await spender.budget("agent", parent="org", total="1")
    await refused(spender, "a", "2", "total", "1", budget_id="agent")
    org = await spender.books.budgets.status("org")
    assert (org.reserved, org.left["per_day"]) == (usdc("0"), usdc("10"))
    assert (await spender.books.balance(WALLET)).reserved == usdc("0")


async def test_nothing_is_reserved_under_an_expired_budget(spender: Spender, clock: ManualClock) -> None:
    await spender.books.budgets.create("org", owner="o", asset=USDC, expires_at=clock.now() + timedelta(seconds=60))
    await spender.books.budgets.create("agent", parent="org")
    await spender.reserve("a", budget_id="agent")
    clock.advance(60)
    error = await refused(spender, "b", "1", "expiry", "0", budget_id="agent")
    assert error.details["budget"] == "org"
    assert error.next_step == "ask the budget's owner for a new approval"
    await spender.books.capture("a")


async def test_a_revoked_budget_closes_everything_below_it_at_once(spender: Spender) -> None:
    await spender.budget("org")
    await spender.budget("agent", parent="org")
    await spender.reserve("a", budget_id="agent")
    await spender.reserve("b", budget_id="agent")
    revoked = await spender.books.budgets.revoke("org")
    assert not revoked.open
    assert (await spender.books.budgets.revoke("org")).revoked_at == revoked.revoked_at
    await refused(spender, "c", "1", "revoked", "0", budget_id="agent")
    await spender.books.capture("a")
    await spender.books.void("b")


async def test_only_allowed_sellers_and_capabilities_are_paid(spender: Spender) -> None:
    await spender.books.budgets.create(
        "budget", owner="o", asset=USDC, sellers={"evm:0xbbbb"}, capabilities=["pdf.extract"]
    )
    await spender.reserve("a")
    await refused(spender, "b", "1", "sellers", "0", seller="evm:0xcccc")
    await refused(spender, "c", "1", "capabilities", "0", capability="llm.chat")


async def test_a_budget_in_another_asset_refuses(spender: Spender) -> None:
    await spender.books.budgets.create("sats", owner="o", asset=SATS)
    with pytest.raises(BudgetExceeded) as caught:
        await spender.reserve("a", budget_id="sats")
    assert caught.value.details["limit"] == "asset"


async def test_creating_the_same_budget_again_is_the_same_budget(spender: Spender) -> None:
    await spender.budget(total="5")
    await spender.reserve("a", "2")
    await spender.budget(total="5")
    assert (await spender.books.budgets.status("budget")).left["total"] == usdc("3")
    with pytest.raises(Conflict) as caught:
        await spender.budget(total="6")
    assert caught.value.details["budget"] == "budget"


async def test_impossible_budgets_are_refused(spender: Spender) -> None:
    create = spender.books.budgets.create
    await spender.budget("org")
    with pytest.raises(NotFound):
        await create("x", parent="nobody")
    with pytest.raises(InvalidInput, match="asset"):
        await create("x", owner="o")
    with pytest.raises(InvalidInput, match="owner"):
        await create("x", asset=USDC)
    with pytest.raises(InvalidInput, match="under one in"):
        await create("x", parent="org", asset=SATS)
    with pytest.raises(InvalidInput, match="per_day"):
        await create("x", owner="o", asset=USDC, limits=Limits(per_day=SATS.parse("1")))
    with pytest.raises(InvalidInput, match="keep_back"):
        await create("x", owner="o", asset=USDC, limits=Limits(total=usdc("1"), keep_back=usdc("2")))
    with pytest.raises(InvalidInput, match="out of range"):
        await create("x", owner="o", asset=USDC, limits=Limits(total=Money(USDC, -1)))
    with pytest.raises(InvalidInput, match="budget id"):
        await create("", owner="o", asset=USDC)
    with pytest.raises(NotFound):
        await spender.books.budgets.revoke("nobody")


async def test_trees_have_a_deepest_level(spender: Spender) -> None:
    parent = None
    for level in range(16):
        await spender.budget(f"level-{level}", parent=parent)
        parent = f"level-{level}"
    with pytest.raises(InvalidInput, match="nest"):
        await spender.budget("too-deep", parent=parent)
    await spender.reserve("a", budget_id=parent)
    assert (await spender.books.budgets.status("level-0")).reserved == usdc("1")


async def test_changed_limits_go_on_counting_what_was_used(spender: Spender, clock: ManualClock) -> None:
    await spender.budget("org", total="100")
    await spender.budget(parent="org", total="3", per_payment="2")
    await spender.reserve("spent", "2", task="t")
    await spender.books.capture("spent")
    await spender.reserve("open", "1", task="t")
    clock.advance(60)
    limits = Limits(total=usdc("10"), per_payment=usdc("1"), per_task=usdc("4"), per_day=usdc("5"))
    status = await spender.books.budgets.change("budget", limits)
    assert (status.spent, status.reserved, status.left) == (
        usdc("2"),
        usdc("1"),
        {"total": usdc("7"), "per_day": usdc("2")},
    )
    await refused(spender, "a", "2", "per_payment", "1", task="u")
    await spender.reserve("b", "1", task="t")
    await refused(spender, "c", "1", "per_task", "0", task="t")
    await spender.books.void("open")
    await spender.reserve("c", "1", task="t")
    assert (await spender.books.budgets.status("budget")).limits == limits


async def test_limits_cannot_fall_below_what_is_used(spender: Spender) -> None:
    await spender.budget(total="3")
    await spender.reserve("a", "2")
    with pytest.raises(InvalidInput, match="used more"):
        await spender.books.budgets.change("budget", Limits(total=usdc("1.999999")))
    with pytest.raises(InvalidInput):
        await spender.books.budgets.change("budget", Limits(total=SATS.parse("9")))
    with pytest.raises(NotFound):
        await spender.books.budgets.change("nobody", Limits())
    await spender.books.budgets.change("budget", Limits(total=usdc("2")))
    await refused(spender, "b", "0.000001", "total", "0")


async def test_another_process_obeys_changed_limits_at_once(database: Database, clock: ManualClock) -> None:
    async with Books(database, clock) as one, Books(database, clock) as two:
        first, second = Spender(one), Spender(two)
        await one.deposit("funding", WALLET, usdc("100"))
        await first.budget("org")
        await first.budget(parent="org")
        await second.reserve("a", "5")
        await one.budgets.change("org", Limits(per_hour=usdc("6")))
        await refused(second, "b", "1.000001", "per_hour", "1")
        await second.reserve("b", "1")
        await refused(first, "c", "0.000001", "per_hour", "0")
        assert (await one.check()).clean


async def test_budgets_are_listed_by_owner_and_parent(spender: Spender) -> None:
    await spender.budget("org")
    await spender.budget("b", parent="org", total="1")
    await spender.budget("a", parent="org")
    await spender.books.budgets.create("other", owner="user-2", asset=USDC)
    budgets = spender.books.budgets
    assert [b.id for b in await budgets.list(parent="org")] == ["a", "b"]
    assert {b.id for b in await budgets.list(owner="user-1")} == {"org", "a", "b"}
    assert {b.id for b in await budgets.list()} == {"org", "a", "b", "other"}


async def test_a_status_reads_as_json(spender: Spender) -> None:
    await spender.books.budgets.create(
        "budget", owner="o", asset=USDC, limits=Limits(total=usdc("5"), per_hour=usdc("2")), sellers=["evm:0xbbbb"]
    )
    await spender.reserve("a", "1.5")
    body = (await spender.books.budgets.status("budget")).to_json()
    assert body["left"] == {"total": usdc("3.5").to_json(), "per_hour": usdc("0.5").to_json()}
    assert body["sellers"] == ["evm:0xbbbb"]
    assert body["limits"] == {"total": usdc("5").to_json(), "per_hour": usdc("2").to_json()}
    assert body["open"] is True
