"""A Run button hires the agent it stands beside: not another one of the same seller, nor a namesake elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.model import StepOffer, WorkflowStatus
from agentnexus.workflows.worker import WorkflowRoom
from tests.hiring.support import Economy, make_offer, usd

from .paid_worker import room_of
from .test_paid import working

PLAIN = make_offer(1, id="plain", endpoint="https://one.example/plain", price="0.02")
FANCY = make_offer(1, id="fancy", endpoint="https://one.example/fancy", price="0.03")  # the same seller and capability


@pytest.fixture
async def economy(database: Database) -> AsyncIterator[Economy]:
    built = await Economy.build(database, offers=[PLAIN, FANCY])
    yield built
    await built.close()


@pytest.fixture
async def room(economy: Economy) -> AsyncIterator[WorkflowRoom]:
    async with Wakeups(economy.database) as wakeups:
        yield room_of(economy, wakeups)


@pytest.mark.parametrize("wanted", [PLAIN, FANCY], ids=["plain", "fancy"])
async def test_of_two_agents_of_one_seller_the_one_asked_for_is_hired(room: WorkflowRoom, wanted: object) -> None:
    offer = FANCY if wanted is FANCY else PLAIN
    async with working(room):
        for number in range(4):  # the choice between equals is drawn: once would prove little
            made = await room.workflows.create_single(
                "ann", offer.id, "text.echo", {"n": number}, max_cost=usd("1"), key=str(number)
            )
            done = await room.workflows.result(made.id, "ann")
            assert done.status is WorkflowStatus.COMPLETED, done.error
            assert [receipt.offer.endpoint for receipt in done.receipts] == [offer.endpoint]
            assert done.cost == offer.price.per_job


async def test_when_the_agent_has_gone_its_seller_s_other_one_is_not_hired(
    room: WorkflowRoom, economy: Economy
) -> None:
    made = await room.workflows.create_single("ann", FANCY.id, "text.echo", {"n": 1}, max_cost=usd("1"))
    economy.market.offers = [PLAIN]
    await economy.gatherer.clear()
    async with working(room):
        done = await room.workflows.result(made.id, "ann")
    assert done.status is WorkflowStatus.FAILED
    assert economy.market.asked == []
    assert await economy.paid(1) == "0"


def test_what_a_plan_keeps_of_an_offer_says_where_it_is_sold() -> None:
    assert StepOffer.of(FANCY).endpoint == FANCY.endpoint
    kept = StepOffer.of(FANCY).model_dump(mode="json")
    del kept["endpoint"]
    assert StepOffer.model_validate(kept).endpoint == ""  # plans that were made before it was kept
