"""Nobody is hired for more than the estimate that was approved: not when the seller has gone, not as a fallback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from agentnexus.core.errors import NoOffer, SellerFailed
from agentnexus.core.offers import Constraints, Need, Offer
from agentnexus.hiring.testing import Script
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.estimate import FALLBACKS
from agentnexus.workflows.model import Plan, StepRetry, Undo, Workflow, WorkflowStatus
from agentnexus.workflows.plan_run import dearer_than_approved
from agentnexus.workflows.worker import WorkflowRoom
from tests.hiring.support import Economy, make_offer, seller_key, usd

from .paid_worker import room_of, step
from .test_paid import working

ECHO = Plan(planner="hand", steps=(step("a", "text.echo"),), output={"$step": "a", "path": "echo.name"})


def refuse(_given: object) -> object:
    raise SellerFailed("out of paper")


@pytest.fixture
async def economy(database: Database) -> AsyncIterator[Economy]:
    built = await Economy.build(database, offers=[make_offer(1, price="0.02"), make_offer(2, price="0.03")])
    yield built
    await built.close()


@pytest.fixture
async def room(economy: Economy) -> AsyncIterator[WorkflowRoom]:
    async with Wakeups(economy.database) as wakeups:
        yield room_of(economy, wakeups)


async def planned(room: WorkflowRoom, plan: Plan = ECHO) -> Workflow:
    """A workflow whose plan waits for approval."""
    made = await room.workflows.create("ann", "echo it", plan=plan, max_cost=usd("1"))
    ready = await room.workflows.settle_at(made.id, "ann")
    assert ready.status is WorkflowStatus.AWAITING_APPROVAL, ready.error
    return ready


async def finished(room: WorkflowRoom, workflow: Workflow) -> Workflow:
    await room.workflows.approve(workflow.id, "ann")
    return await room.workflows.result(workflow.id, "ann")


async def now_sold(economy: Economy, *offers: Offer) -> None:
    economy.market.offers = list(offers)
    await economy.gatherer.clear()


async def test_when_only_dearer_sellers_are_left_the_task_stops_and_says_so(
    room: WorkflowRoom, economy: Economy
) -> None:
    async with working(room):
        ready = await planned(room)
        await now_sold(economy, make_offer(3, price="0.04"))
        done = await finished(room, ready)
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "no_offer"
    assert "0.03 USDC that it may cost: seller 3 asks 0.04 USDC" in str(done.error["message"])
    assert "approve" in str(done.error["next_step"])
    assert economy.market.asked == []
    await economy.assert_sound()


async def test_another_seller_at_a_price_that_was_counted_may_do_it(room: WorkflowRoom, economy: Economy) -> None:
    async with working(room):
        ready = await planned(room)
        assert ready.estimate is not None
        assert (ready.estimate.expected, ready.estimate.worst_case) == (usd("0.02"), usd("0.03"))
        await now_sold(economy, make_offer(4, price="0.03"))
        done = await finished(room, ready)
    assert done.status is WorkflowStatus.COMPLETED, done.error
    assert done.cost == usd("0.03")


async def test_a_fallback_beyond_those_counted_is_not_hired(room: WorkflowRoom, economy: Economy) -> None:
    failing = [make_offer(number, price="0.02") for number in range(1, 2 + FALLBACKS)]
    economy.market.scripts = {offer.seller.key: Script(output=refuse) for offer in failing}
    await now_sold(economy, *failing, make_offer(9, price="0.5"))
    patient = ECHO.steps[0].model_copy(update={"retry": StepRetry(attempts=3, first_delay_seconds=0)})
    async with working(room):
        ready = await planned(room, ECHO.model_copy(update={"steps": (patient,)}))
        assert ready.estimate is not None
        assert ready.estimate.worst_case == usd("0.02")
        done = await finished(room, ready)
    assert done.status is WorkflowStatus.FAILED
    assert set(economy.market.asked) == {offer.seller.key for offer in failing}
    assert await economy.paid(9) == "0"
    await economy.assert_sound()


async def test_undoing_costs_at_most_what_was_estimated_for_it(room: WorkflowRoom, economy: Economy) -> None:
    fails = make_offer(5, capability="text.fail", price="0.01")
    economy.market.scripts = {seller_key(5): Script(output=refuse)}
    undone = make_offer(6, capability="text.undo", price="0.01")
    echo = make_offer(1, price="0.02")
    await now_sold(economy, echo, fails, undone)
    first = ECHO.steps[0].model_copy(update={"undo": Undo(capability="text.undo")})
    async with working(room):
        ready = await planned(room, Plan(planner="hand", steps=(first, step("f", "text.fail", "a"))))
        await now_sold(economy, echo, fails, make_offer(7, capability="text.undo", price="0.2"))
        done = await finished(room, ready)
    assert done.status is WorkflowStatus.FAILED
    assert await economy.paid(7) == "0"
    assert seller_key(7) not in economy.market.asked
    assert done.cost == usd("0.02")


@pytest.mark.parametrize(
    ("misses", "told"),
    [
        ([{"rule": "price", "seller": "bob", "price": "2 USDC"}], "bob asks 2 USDC"),
        ([{"rule": "input", "seller": "bob", "price": "2 USDC"}], "nobody"),
        ([], "nobody"),
        (None, "nobody"),
    ],
)
def test_only_a_price_in_the_way_is_told_as_a_price(misses: Sequence[dict[str, str]] | None, told: str) -> None:
    need = Need(capability="text.echo", constraints=Constraints(max_price=usd("1")))
    error = NoOffer("nobody", near_misses=misses)
    said = dearer_than_approved(error, ECHO.steps[0], need)
    assert told in said.message
    assert (said is error) == (told == "nobody")
    other = SellerFailed("out of paper", near_misses=misses)
    assert dearer_than_approved(other, ECHO.steps[0], need) is other
