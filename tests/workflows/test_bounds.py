"""What a task may bound of itself: how many steps its plan has, how many run at once; the longest chain goes first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agentnexus.core.errors import InvalidPlan
from agentnexus.core.offers import Capability, Need, Offer
from agentnexus.workflows.model import Plan, PlanStep, Workflow, WorkflowRequest, WorkflowStatus
from agentnexus.workflows.plan import Offered, check_plan
from agentnexus.workflows.planner.cache import PlanCache
from agentnexus.workflows.planner.port import Task
from agentnexus.workflows.planning import Planning, offered_from

from .catalogue import offer_of
from .site import Site
from .test_service import DOLLAR, House, house

__all__ = ["house"]


def step(step_id: str, capability: str = "a.b", *waits: str) -> PlanStep:
    return PlanStep(id=step_id, title="", capability=capability, depends_on=waits)


def sold(*names: str, seconds: Sequence[float] = ()) -> list[Offer]:
    found = [offer_of(Capability(name=name), "0.01") for name in names]
    times = [*seconds, *[1.0] * (len(found) - len(seconds))]
    return [each.model_copy(update={"latency_ms": time * 1000}) for each, time in zip(found, times, strict=True)]


async def run(house: House, *steps: PlanStep, **bounds: int) -> Workflow:
    async with house.working() as workflows:
        plan = Plan(planner="hand", steps=steps)
        made = await workflows.create("ann", "do it", plan=plan, max_cost=DOLLAR, auto_approve=True, **bounds)  # type: ignore[arg-type]  # ints
        return await workflows.result(made.id, "ann")


@pytest.mark.parametrize("most", [1, 2, 16])
async def test_no_more_steps_run_at_once_than_was_allowed(house: House, most: int) -> None:
    house.hirer.catalogue = sold("a.b")
    running: set[str] = set()
    seen: list[int] = []
    full = asyncio.Event()

    async def work(_need: Need, key: str) -> object:
        running.add(key)
        seen.append(len(running))
        if len(running) == min(most, 5):
            full.set()
        await full.wait()
        running.discard(key)
        return {}

    house.hirer.acts["a.b"] = work
    done = await run(house, *(step(f"s{number}") for number in range(5)), max_parallel=most)
    assert done.status is WorkflowStatus.COMPLETED
    assert max(seen) == min(most, 5)


async def test_the_chain_that_takes_longest_by_the_estimate_goes_first(house: House) -> None:
    """By steps alone `short` would: two steps wait behind it, one behind `long`."""
    house.hirer.catalogue = sold("a.long", "a.short", seconds=(60.0, 1.0))
    order: list[str] = []

    async def work(_need: Need, key: str) -> object:
        order.append(key.split(":")[1])
        return {}

    house.hirer.acts |= {"a.long": work, "a.short": work}
    steps = [
        step("short", "a.short"), step("next", "a.short", "short"), step("last", "a.short", "next"),
        step("long", "a.long"), step("after", "a.long", "long"),
    ]  # fmt: skip
    done = await run(house, *steps, max_parallel=1)
    assert done.status is WorkflowStatus.COMPLETED
    assert order == ["long", "after", "short", "next", "last"]


async def test_a_plan_of_more_steps_than_allowed_does_not_run(house: House) -> None:
    house.hirer.catalogue = sold("a.b")
    done = await run(house, step("a"), step("b"), step("c"), max_steps=2)
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["details"]["reasons"] == ["it has 3 steps, at most 2 are allowed"]  # type: ignore[index]  # JSON
    assert not house.hirer.calls


class Planner:
    """Takes as many steps as it likes, and fewer when it is told why not."""

    name = "test"

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    async def plan(self, task: Task, offered: Offered) -> Plan:
        del offered
        self.tasks.append(task)
        return Plan(planner="test", steps=tuple(step(f"s{number}") for number in range(1 if task.reasons else 3)))


async def test_a_planner_hears_the_bound_and_mends_its_plan(house: House) -> None:
    house.hirer.catalogue = sold("a.b")
    planner = Planner()
    cache = PlanCache()
    planning = Planning(house.hirer, [planner], cache=cache)
    offered, task = offered_from(house.hirer.catalogue), Task("do it", steps_max=2)
    found = await planning.plan(WorkflowRequest(user_id="ann", text="do it", max_cost=DOLLAR, max_steps=2))
    assert len(found.plan.steps) == 1
    assert [each.steps_max for each in planner.tasks] == [2, 2]
    assert planner.tasks[1].reasons == ("it has 3 steps, at most 2 are allowed",)
    assert cache.get("test", task, offered) is not None
    assert cache.get("test", Task("do it", steps_max=3), offered) is None


def test_without_a_bound_a_hundred_steps_are_checked() -> None:
    plan = Plan(planner="hand", steps=tuple(step(f"s{number}") for number in range(100)))
    offered = offered_from(sold("a.b"))
    check_plan(plan, (), offered)
    with pytest.raises(InvalidPlan, match="it has 100 steps, at most 99 are allowed"):
        check_plan(plan, (), offered, 99)


@pytest.mark.parametrize("bounds", [{"maxSteps": 0}, {"maxSteps": 101}, {"maxParallel": 0}, {"maxParallel": 17}])
async def test_bounds_have_bounds(site: Site, bounds: dict[str, int]) -> None:
    ann = await site.client("ann")
    assert (await ann.post("/workflows/create", json={"input": "Analyse it", **bounds})).status_code == 400
    made = await ann.post("/workflows/create", json={"input": "Analyse it", "maxSteps": 7, "maxParallel": 3})
    request = await site.room.workflows.request(made.json()["workflow"]["id"], "ann")
    assert (request.max_steps, request.max_parallel) == (7, 3)
