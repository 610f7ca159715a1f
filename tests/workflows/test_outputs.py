"""What a step gave is shown as it was recorded: small outputs whole, large ones behind a link, only to the owner."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agentnexus.core.errors import AgentRefused, NotFound
from agentnexus.core.money import Money
from agentnexus.core.offers import Capability, Need
from agentnexus.workflows.dialect import OUTPUTS_MAX, states_json, step_results, workflow_json
from agentnexus.workflows.model import Plan, PlanStep, StepState, StepStatus, Workflow, WorkflowStatus
from agentnexus.workflows.outputs import StepOutput

from .catalogue import USDC, offer_of
from .site import Site, make, sse
from .test_by_hand import sell
from .test_service import DOLLAR, House, house

__all__ = ["house"]
LARGE = "x" * (70 * 1024)
STEPS = [
    {"id": "small", "capability": "text.say", "input": {"text": "a"}},
    {"id": "large", "capability": "text.shout", "input": {"text": {"$step": "small", "path": "number"}}},
    {"id": "line", "transform": {"op": "template", "text": "said {n}", "values": {
        "n": {"$step": "small", "path": "number"}}}},
    {"id": "not", "capability": "text.say", "input": {"text": "b"}, "when": {
        "value": 1, "test": "equals", "other": 2}},
]  # fmt: skip


async def say(_need: Need, _key: str) -> object:
    return {"number": "seven"}


async def shout(_need: Need, _key: str) -> object:
    return {"number": LARGE}


async def test_the_owner_reads_what_every_step_gave(site: Site) -> None:
    sell(site, "text.say", "text.shout")
    site.hirer.acts |= {"text.say": say, "text.shout": shout}
    ann, bob, operator = [await site.client(person) for person in ("ann", "bob", "op")]
    workflow_id = await make(ann, "Say it", plan={"steps": STEPS}, autoApprove=True)
    await sse(ann, workflow_id)
    state = (await ann.get(f"/workflows/{workflow_id}")).json()["workflow"]
    answer = (await ann.get(f"/workflows/{workflow_id}/steps")).json()
    link = f"/workflows/{workflow_id}/steps/large/output"
    for results in (state["stepResults"], answer["stepResults"]):
        assert results["small"]["output"] == {"number": "seven"}
        assert results["line"]["output"] == "said seven"
        assert (results["large"]["output"], results["large"]["outputHref"]) == (None, link)
        assert "not" not in results
    for states in (state["steps"], answer["states"]):
        by_id = {step["id"]: step for step in states}
        assert by_id["small"]["output"] == {"number": "seven"}
        assert by_id["large"]["output_href"] == link
        assert (by_id["not"]["output"], by_id["not"]["output_href"]) == (None, None)
    for person in (ann, operator):
        assert (await person.get(link)).json() == {"number": LARGE}
    assert (await ann.get(link.replace("large", "small"))).json() == {"number": "seven"}
    assert (await ann.get(link.replace("large", "line"))).text == '"said seven"'
    assert (await bob.get(link)).status_code == 404
    for step in ("not", "nowhere", "..%2Flarge"):
        assert (await ann.get(link.replace("large", step))).status_code == 404


async def test_outputs_are_read_on_every_backend_also_after_a_failure(house: House) -> None:
    house.hirer.catalogue = [offer_of(Capability(name=name), "0.01") for name in ("text.say", "text.refuse")]

    async def refuse(_need: Need, _key: str) -> object:
        raise AgentRefused("no")

    house.hirer.acts |= {"text.say": say, "text.refuse": refuse}
    steps = (
        PlanStep(id="a", title="", capability="text.say"),
        PlanStep(id="b", title="", capability="text.refuse", depends_on=("a",)),
    )
    async with house.working() as workflows:
        plan = Plan(planner="hand", steps=steps)
        made = await workflows.create("ann", "do it", plan=plan, max_cost=DOLLAR, auto_approve=True)
        done = await workflows.result(made.id, "ann")
        found = await workflows.outputs(done)
        assert done.status is WorkflowStatus.FAILED
        assert found == {"a": StepOutput({"number": "seven"})}
        assert await workflows.output(done.id, "ann", "a") == b'{"number":"seven"}'
        for user, step in (("bob", "a"), ("ann", "b"), ("ann", "c")):
            with pytest.raises(NotFound):
                await workflows.output(done.id, user, step)


def workflow(*names: str) -> Workflow:
    states = tuple(StepState(id=name, title="", capability="a.b", status=StepStatus.COMPLETED) for name in names)
    now = datetime(2026, 11, 21, tzinfo=UTC)
    return Workflow(
        id="wf_1", user_id="ann", text="x", status=WorkflowStatus.COMPLETED, max_cost=DOLLAR, cost=Money(USDC, 0),
        steps=states, created_at=now, updated_at=now,
    )  # fmt: skip


def test_an_answer_does_not_grow_without_bound() -> None:
    half = "y" * (OUTPUTS_MAX // 2 + 1)
    outputs = {"a": StepOutput(half), "b": StepOutput(half), "c": StepOutput(0), "d": StepOutput(None, "sha256:x")}
    shown = step_results(workflow("a", "b", "c", "d"), outputs)
    assert [shown[step]["output"] for step in "abcd"] == [half, None, 0, None]
    assert [shown[step]["outputHref"] for step in "bd"] == [f"/workflows/wf_1/steps/{s}/output" for s in "bd"]
    assert [state["output"] for state in states_json(workflow("a", "c"), outputs)] == [half, 0]


def test_a_list_of_workflows_shows_no_outputs() -> None:
    shown = workflow_json(workflow("a"))
    results, steps = shown["stepResults"], shown["steps"]
    assert isinstance(results, dict)
    assert isinstance(steps, list)
    assert (results["a"]["output"], results["a"]["outputHref"]) == (None, None)
    assert (steps[0]["output"], steps[0]["output_href"]) == (None, None)
