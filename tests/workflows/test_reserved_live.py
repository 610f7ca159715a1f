"""Money that is set aside is told at that moment, before its seller is done, and once, also when a worker is lost."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.core.errors import AgentRefused
from agentnexus.core.events import Event, EventName
from agentnexus.core.offers import Capability, Need
from agentnexus.core.updates import Held
from agentnexus.workflows.model import Plan, PlanStep, Workflow, WorkflowStatus
from agentnexus.workflows.service import Workflows

from .catalogue import offer_of
from .conftest import Bench
from .scripted import ScriptedHirer
from .test_service import DOLLAR, House

PLAN = Plan(planner="hand", steps=(PlanStep(id="s1", title="", capability="a.b"),), output={"$step": "s1"})
MONEY = (EventName.PAYMENT_RESERVED, EventName.PAYMENT_SETTLED, EventName.PAYMENT_REFUNDED)


@pytest.fixture
def house(bench: Bench) -> House:
    return House(bench, ScriptedHirer([offer_of(Capability(name="a.b"), "0.01")]))


async def begin(workflows: Workflows) -> Workflow:
    return await workflows.create("ann", "do it", plan=PLAN, max_cost=DOLLAR, auto_approve=True)


async def until_reserved(workflows: Workflows, workflow_id: str) -> Event:
    async for event in workflows.events(workflow_id, "ann"):
        if event.name is EventName.PAYMENT_RESERVED:
            return event
    raise AssertionError("it ended and told of no reservation")


async def told_of_money(workflows: Workflows, workflow_id: str) -> list[Event]:
    return [event async for event in workflows.events(workflow_id, "ann") if event.name in MONEY]


async def test_it_is_told_while_the_seller_works_and_not_again_at_the_end(house: House) -> None:
    go = asyncio.Event()

    async def wait(_need: Need, _key: str) -> object:
        await go.wait()
        return {"done": True}

    house.hirer.acts["a.b"] = wait
    async with house.working() as workflows:
        made = await begin(workflows)
        reserved = await until_reserved(workflows, made.id)
        assert (await workflows.get(made.id, "ann")).status is WorkflowStatus.EXECUTING
        assert (reserved.data["step"], reserved.data["attempt"], reserved.data["amount"]) == ("s1", 1, "10000")
        assert not {"state", "transaction"} & reserved.data.keys()
        go.set()
        assert (await workflows.result(made.id, "ann")).status is WorkflowStatus.COMPLETED
        first, last = await told_of_money(workflows, made.id)
    assert first == reserved
    assert (last.name, last.data["authorization"]) == (EventName.PAYMENT_SETTLED, reserved.data["authorization"])


@pytest.mark.parametrize("refused", [False, True])
async def test_a_worker_that_goes_on_does_not_tell_it_again(house: House, refused: bool) -> None:
    first = asyncio.Event()

    async def hang_once(_need: Need, key: str) -> object:
        if house.hirer.calls[key] == 1:
            first.set()
            await asyncio.Event().wait()
        if refused:
            raise AgentRefused("no")
        return {"done": True}

    house.hirer.acts["a.b"] = hang_once
    async with house.working() as workflows:
        made = await begin(workflows)
        await first.wait()
    async with house.working() as workflows:
        ended = await workflows.result(made.id, "ann")
        events = await told_of_money(workflows, made.id)
    assert ended.status is (WorkflowStatus.FAILED if refused else WorkflowStatus.COMPLETED)
    end = EventName.PAYMENT_REFUNDED if refused else EventName.PAYMENT_SETTLED
    assert [event.name for event in events] == [EventName.PAYMENT_RESERVED, end]
    assert house.hirer.calls[f"{made.id}:s1:1"] == 2


async def test_what_a_cancel_gives_back_was_told_as_reserved_once(house: House) -> None:
    async def hang(_need: Need, _key: str) -> object:
        await asyncio.Event().wait()
        return None

    house.hirer.acts["a.b"] = hang
    async with house.working() as workflows:
        made = await begin(workflows)
        await until_reserved(workflows, made.id)
        await workflows.cancel(made.id, "ann")
        await workflows.result(made.id, "ann")
        events = await told_of_money(workflows, made.id)
    assert [event.name for event in events] == [EventName.PAYMENT_RESERVED, EventName.PAYMENT_REFUNDED]
    assert [event.sequence for event in events] == sorted(event.sequence for event in events)


async def test_a_payment_without_a_name_of_its_own_is_told_with_its_end(house: House) -> None:
    """Two of them could not be told apart: so neither is lost for the other."""
    hire = house.hirer.hire

    async def nameless(need: Need, *, on_update: object = None, **more: object) -> object:
        def without(update: object) -> object:
            if isinstance(update, Held):
                update = Held(update.payment.model_copy(update={"authorization": ""}))
            return on_update(update)  # type: ignore[operator]  # the reporter's

        return await hire(need, on_update=without, **more)  # type: ignore[arg-type]  # passed through

    house.hirer.hire = nameless  # type: ignore[method-assign,assignment]
    async with house.working() as workflows:
        made = await begin(workflows)
        await workflows.result(made.id, "ann")
        names = [event.name for event in await told_of_money(workflows, made.id)]
    assert names == [EventName.PAYMENT_RESERVED, EventName.PAYMENT_SETTLED]
