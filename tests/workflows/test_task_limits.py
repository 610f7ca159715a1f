"""A budget's limit per task counts all that one workflow hires, undoing included, and each workflow by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentnexus.core.payments import Limits
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.model import Plan, Undo, Workflow, WorkflowStatus
from agentnexus.workflows.worker import WorkflowRoom
from tests.hiring.support import Economy, TableDelivery, TableNetwork, usd

from .paid_worker import OFFERS, SCRIPTS, room_of, step
from .test_paid import start, working

THREE = Plan(
    planner="hand",
    steps=(step("a", "text.echo"), step("b", "text.echo", "a"), step("c", "text.echo", "b")),
    output={"$step": "c", "path": "echo.name"},
)  # three times 0.02


@pytest.fixture
async def economy(database: Database) -> AsyncIterator[Economy]:
    built = await Economy.build(
        database,
        offers=OFFERS,
        scripts=SCRIPTS,
        network=await TableNetwork(database).create(),
        delivery=TableDelivery(database),
        limits=Limits(total=usd("50"), per_task=usd("0.05")),
    )
    yield built
    await built.close()


@pytest.fixture
async def room(economy: Economy) -> AsyncIterator[WorkflowRoom]:
    async with Wakeups(economy.database) as wakeups:
        yield room_of(economy, wakeups)


async def run(room: WorkflowRoom, name: str, plan: Plan) -> Workflow:
    await start(room, name, plan)
    async with working(room):
        return await room.workflows.result(name, "ann")


async def test_three_steps_are_one_task_and_stop_at_its_limit(room: WorkflowRoom, economy: Economy) -> None:
    done = await run(room, "wf_1", THREE)
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert (done.error["code"], done.error["details"]["limit"]) == ("budget_exceeded", "per_task")  # type: ignore[index]  # JSON
    assert await economy.paid(1) == "0.04"
    await economy.assert_sound()


async def test_another_workflow_is_another_task(room: WorkflowRoom, economy: Economy) -> None:
    two = THREE.model_copy(update={"steps": THREE.steps[:2], "output": {"$step": "b", "path": "echo.name"}})
    assert [(await run(room, name, two)).status for name in ("wf_1", "wf_2")] == [WorkflowStatus.COMPLETED] * 2
    assert await economy.paid(1) == "0.08"


async def test_undoing_a_step_counts_to_the_task_that_did_it(room: WorkflowRoom, economy: Economy) -> None:
    undo = Undo(capability="text.echo", input={"name": "undo"})
    steps = [step("a", "text.echo"), step("b", "text.echo", "a"), step("f", "text.fail", "b")]
    undone = [each.model_copy(update={"undo": undo}) if each.id == "b" else each for each in steps]
    done = await run(room, "wf_1", Plan(planner="hand", steps=tuple(undone)))
    assert done.status is WorkflowStatus.FAILED
    assert await economy.paid(1) == "0.04"  # the undo would have been 0.06 of 0.05
    async with economy.database.connection() as connection:
        tasks = await connection.fetch("select distinct task from ledger.reservation where state = 'posted'")
    assert [row["task"] for row in tasks] == ["wf_1"]
