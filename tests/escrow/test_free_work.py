"""No work at the treasury's expense: what a workflow may spend is what was set aside for it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from agentnexus.bootstrap.prepaid import prepaid_funds
from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InsufficientFunds
from agentnexus.core.money import Money
from agentnexus.core.offers import Capability
from agentnexus.core.payments import Limits
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.workflows.engine.memory import MemoryJournal
from agentnexus.workflows.funds import BudgetFunds
from agentnexus.workflows.model import Plan, PlanStep, WorkflowStatus
from agentnexus.workflows.worker import open_room
from tests.escrow.conftest import Room, usdc
from tests.workflows.catalogue import USDC as PRICED_IN
from tests.workflows.catalogue import offer_of
from tests.workflows.conftest import Bench
from tests.workflows.scripted import ScriptedHirer
from tests.workflows.test_service import House


async def allowed_to_spend(room: Room, user: str, *, auto_approve: bool) -> Money:
    """Run one step at 0.01 that may cost 1 at most; the total of the budget that its hires reserve from."""
    clock = ManualClock(datetime(2026, 11, 21, tzinfo=UTC))
    house = House(Bench(MemoryJournal(clock), clock), ScriptedHirer([offer_of(Capability(name="a.b"), "0.01")]))
    funds = prepaid_funds(room.escrow, BudgetFunds(PersonalBudgets(room.books, PRICED_IN).current), PRICED_IN, clock)
    opened = open_room(
        house.bench.engine(), hirer=house.hirer, budgets=house.budgets, blobs=house.blobs, clock=clock, funds=funds
    )  # fmt: skip
    plan = Plan(planner="hand", steps=(PlanStep(id="s1", title="", capability="a.b"),), output={"$step": "s1"})
    async with house.working(opened) as workflows, asyncio.timeout(20):
        made = await workflows.create(
            user, "do it", plan=plan, max_cost=PRICED_IN.parse("1"), auto_approve=auto_approve
        )
        if not auto_approve:
            await workflows.settle_at(made.id, user)
            await workflows.approve(made.id, user)
        assert (await workflows.result(made.id, user)).status is WorkflowStatus.COMPLETED
    limits = house.budgets.made[f"workflow:{made.id}"]["limits"]
    assert isinstance(limits, Limits)
    assert limits.total is not None
    return limits.total


async def test_an_approved_plan_cannot_spend_more_than_was_set_aside_for_it(room: Room) -> None:
    """Else a seller in league with its buyer fails once and is then hired for all that `maxCost` names."""
    await room.funded("0.02")
    assert await allowed_to_spend(room, "ann", auto_approve=False) == PRICED_IN.parse("0.01")
    assert await room.balance() == ("0.01", "0")
    await room.assert_sound()


async def test_a_plan_that_goes_ahead_by_itself_has_all_that_was_allowed_set_aside(room: Room) -> None:
    await room.funded("1.5")
    assert await allowed_to_spend(room, "ann", auto_approve=True) == PRICED_IN.parse("1")
    assert await room.balance() == ("1.49", "0")


async def test_who_has_no_account_spends_what_was_allowed(room: Room) -> None:
    await room.funded("0.02")
    assert await allowed_to_spend(room, "bob", auto_approve=True) == PRICED_IN.parse("1")
    assert (await room.escrow.balance("ann", usdc("1").asset)).available == usdc("0.02")


@pytest.mark.parametrize(("by_itself", "most"), [(False, "0.01"), (True, "1")])
async def test_without_a_prepaid_account_an_approved_plan_cannot_spend_more_than_was_seen_either(
    room: Room, by_itself: bool, most: str
) -> None:
    assert await allowed_to_spend(room, "bob", auto_approve=by_itself) == PRICED_IN.parse(most)


async def test_of_two_plans_approved_at_once_on_the_same_money_one_goes_ahead(room: Room) -> None:
    await room.funded("0.015")
    clock = ManualClock(datetime(2026, 11, 21, tzinfo=UTC))
    house = House(Bench(MemoryJournal(clock), clock), ScriptedHirer([offer_of(Capability(name="a.b"), "0.01")]))
    funds = prepaid_funds(room.escrow, BudgetFunds(PersonalBudgets(room.books, PRICED_IN).current), PRICED_IN, clock)
    opened = open_room(
        house.bench.engine(), hirer=house.hirer, budgets=house.budgets, blobs=house.blobs, clock=clock, funds=funds
    )  # fmt: skip
    plan = Plan(planner="hand", steps=(PlanStep(id="s1", title="", capability="a.b"),), output={"$step": "s1"})
    async with house.working(opened) as workflows, asyncio.timeout(20):
        made = [await workflows.create("ann", "do it", plan=plan, max_cost=PRICED_IN.parse("1")) for _ in range(2)]
        for each in made:
            await workflows.settle_at(each.id, "ann")
        outcomes = await asyncio.gather(*(workflows.approve(each.id, "ann") for each in made), return_exceptions=True)
        refused = [
            (each, outcome) for each, outcome in zip(made, outcomes, strict=True) if isinstance(outcome, Exception)
        ]
        assert [type(outcome) for _, outcome in refused] == [InsufficientFunds]
        left_over = refused[0][0]
        (gone_ahead,) = [each for each in made if each.id != left_over.id]
        assert (await workflows.result(gone_ahead.id, "ann")).status is WorkflowStatus.COMPLETED
        assert (await workflows.get(left_over.id, "ann")).status is WorkflowStatus.AWAITING_APPROVAL
        await workflows.cancel(left_over.id, "ann")
        await workflows.result(left_over.id, "ann")
    assert await room.balance() == ("0.005", "0")
