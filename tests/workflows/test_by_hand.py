"""Plans that people write: over HTTP from the body to the undo, and refused with every reason."""

from __future__ import annotations

import json

import httpx
import pytest

from agentnexus.core.errors import AgentRefused, InvalidPlan, SellerFailed
from agentnexus.core.offers import Capability, Need
from agentnexus.workflows.by_hand import HandPlan, plan_by_hand
from agentnexus.workflows.model import FileRef, Undo

from .catalogue import offer_of
from .site import Site, make, sse

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
BOOK = {
    "id": "book", "capability": "room.book", "input": {"text": "Monday"},
    "undo": {"capability": "room.cancel", "input": {"text": {"$step": "book", "path": "number"}}},
}  # fmt: skip
PRINT = {
    "id": "print", "capability": "card.print", "input": {"text": {"$step": "book", "path": "number"}},
    "retry": {"attempts": 2, "first_delay_seconds": 0, "longest_delay_seconds": 0},
}  # fmt: skip


def sell(site: Site, *names: str) -> None:
    gives = {"type": "object", "properties": {"number": {"type": "string"}}}
    for name in names:
        site.hirer.catalogue.append(offer_of(Capability(name=name, input_schema=TEXT, output_schema=gives), "0.01"))


async def ended(client: httpx.AsyncClient, workflow_id: str) -> dict[str, object]:
    await sse(client, workflow_id)
    found: dict[str, object] = (await client.get(f"/workflows/{workflow_id}")).json()["workflow"]
    return found


async def test_a_plan_of_ones_own_is_approved_run_and_undone_like_any_other(site: Site) -> None:
    sell(site, "room.book", "room.cancel", "card.print")

    async def book(_need: Need, _key: str) -> object:
        return {"number": "r7"}

    async def refuse(_need: Need, _key: str) -> object:
        raise AgentRefused("no cards of that kind")

    site.hirer.acts |= {"room.book": book, "card.print": refuse}
    ann = await site.client("ann")
    workflow_id = await make(ann, "Book a room and print a card", plan={"steps": [BOOK, PRINT]}, maxCost="0.5")
    async with ann.stream("GET", f"/workflows/{workflow_id}/events") as stream:
        async for line in stream.aiter_lines():
            if line == "event: workflow.awaiting_approval":
                shown = (await ann.get(f"/workflows/{workflow_id}")).json()["workflow"]
                await ann.post(f"/workflows/{workflow_id}/approve")
    assert shown["planner"] == "hand"
    assert [step["offer"]["id"] for step in shown["plan"]["steps"]] == ["x402:room.book", "x402:card.print"]
    assert shown["plan"]["steps"][1]["depends_on"] == ["book"]
    assert shown["estimate"]["expected"]["atomic"] == "20000"
    assert shown["estimate"]["worst_case"]["atomic"] == "30000"  # undoing is in it
    found = (await ann.get(f"/workflows/{workflow_id}")).json()["workflow"]
    assert found["status"] == "failed"
    assert [step["status"] for step in found["steps"]] == ["compensated", "failed"]
    assert site.hirer.needs[f"{workflow_id}:undo-book:1"].input == {"text": "r7"}
    again = {key: found["plan"][key] for key in ("planner", "steps", "output", "notes")}
    repeated = await make(ann, "Once more", plan=again, maxCost="0.5")
    assert (await ann.get(f"/workflows/{repeated}")).status_code == 200


async def test_its_conditions_transforms_and_retries_are_its_own(site: Site) -> None:
    sell(site, "room.book", "card.print")
    tries: list[str] = []

    async def once_more(_need: Need, key: str) -> object:
        tries.append(key)
        if len(tries) < 2:
            raise SellerFailed("busy")
        return {"number": "c1"}

    site.hirer.acts["card.print"] = once_more
    ann = await site.client("ann")
    never = {"value": "no", "test": "equals", "other": "yes"}
    steps = [
        {**PRINT, "input": {"text": "hello"}},
        {"id": "skipped", "capability": "room.book", "input": {"text": "x"}, "when": never},
        {"id": "line", "transform": {"op": "template", "text": "card {n}", "values": {
            "n": {"$step": "print", "path": "number"}}}},
    ]  # fmt: skip
    found = await ended(ann, await make(ann, "Print", plan={"steps": steps}, autoApprove=True))
    assert (found["status"], found["result"]) == ("completed", "card c1")
    assert len(tries) == 2
    states = found["steps"]
    assert isinstance(states, list)
    assert [step["status"] for step in states] == ["completed", "skipped", "completed"]


async def test_what_the_markets_know_ends_the_planning_with_all_reasons(site: Site) -> None:
    sell(site, "room.book", "room.cancel")
    ann = await site.client("ann")
    steps = [{**BOOK, "undo": {"capability": "room.cancel", "input": {}}}, {"id": "s2", "capability": "moon.fetch"}]
    found = await ended(ann, await make(ann, "Book", plan={"steps": steps}, autoApprove=True))
    assert found["status"] == "failed"
    error = found["error"]
    assert isinstance(error, dict)
    assert error["code"] == "invalid_plan"
    said = json.dumps(error["details"]["reasons"])
    assert "moon.fetch, which nobody sells" in said
    assert "the undo of book (room.cancel)" in said
    assert not site.hirer.calls


async def test_every_reason_that_shows_at_once_is_in_the_answer(site: Site) -> None:
    ann = await site.client("ann")
    steps = [
        {"id": "a", "capability": "room.book", "depends_on": ["b"]},
        {"id": "b", "capability": "room.book", "depends_on": ["a"], "input": {"file": {"$file": 3}}},
        {"id": "c", "capability": "room.book", "input": {"text": {"$step": "nowhere"}}},
    ]
    answer = await ann.post("/workflows/create", json={"input": "Book", "plan": {"steps": steps}})
    assert answer.status_code == 422
    error = answer.json()
    said = json.dumps(error["details"]["reasons"])
    assert error["code"] == "invalid_plan"
    for reason in ("a → b", "uses file 3, 0 were given", "uses step nowhere, which does not exist"):
        assert reason in json.dumps(error["details"]["reasons"], ensure_ascii=False), said


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"steps": []}, "at least 1"),
        ({"planner": "single", "steps": [BOOK]}, "POST /workflows/run hires it"),
        ({"steps": [{**BOOK, "price": "0"}]}, "Extra inputs"),
        ({"steps": [{**BOOK, "max_price": {"amount": "1"}}]}, "max_price"),
        ({"steps": [BOOK], "seller": "me"}, "Extra inputs"),
        ({"steps": [{**BOOK, "retry": {"attempts": 1000}}]}, "less than or equal to 10"),
        ({"steps": [{"id": f"s{n}", "capability": "a.b"} for n in range(101)]}, "at most 100"),
    ],
)
async def test_what_a_plan_may_not_say_is_named(site: Site, plan: dict[str, object], reason: str) -> None:
    ann = await site.client("ann")
    answer = await ann.post("/workflows/create", json={"input": "Book it", "plan": plan})
    assert answer.status_code == 400
    assert reason in answer.text


def read(*steps: dict[str, object], files: int = 0) -> list[str]:
    """The reasons why these steps are refused."""
    given = [FileRef(name="a", size_bytes=1, blob="sha256:" + "0" * 64)] * files
    with pytest.raises(InvalidPlan) as refusal:
        plan_by_hand(HandPlan.model_validate({"steps": steps}), given)
    found = refusal.value.details["reasons"]
    assert isinstance(found, list)
    return [str(reason) for reason in found]


def test_steps_are_refused_each_with_its_own_reason() -> None:
    assert read({"id": "A!", "capability": "a.b"}, {"id": "s2"}, {"id": "s3", "capability": "No Name"}) == [
        "step A!: id: String should match pattern '^[a-z][a-z0-9_]{0,31}$'",
        "step s2: it has neither a capability nor a transform",
        "step s3: capability: String should match pattern '^[a-z0-9]+(?:[._-][a-z0-9]+)*$'",
    ]


def test_a_transform_is_nobodys_work() -> None:
    pick = {"op": "pick", "source": {"$step": "a"}, "path": "x"}
    undo = {"capability": "a.undo", "input": {}}
    (reason,) = read({"id": "a", "capability": "a.b"}, {"id": "b", "transform": pick, "undo": undo})
    assert "a transform has no input, seller, price or undo" in reason


def test_a_malformed_reference_is_a_reason_not_an_accident() -> None:
    assert "not a step reference" in read({"id": "a", "capability": "a.b", "input": {"x": {"$step": 7}}})[0]
    assert "not a file reference" in read({"id": "a", "capability": "a.b", "input": {"x": {"$file": "all"}}})[0]
    deep: object = "x"
    for _ in range(60):
        deep = {"in": deep}
    assert "nested too deeply" in read({"id": "a", "capability": "a.b", "input": {"x": deep}})[0]


def test_dependencies_follow_from_references_and_offers_are_left_out() -> None:
    steps = [BOOK, {**PRINT, "dependsOn": ["book"], "offer": {"id": "x402:mine", "price": "0"}}]
    plan = plan_by_hand(HandPlan.model_validate({"steps": steps, "planner": "llm:x"}), [])
    assert plan.planner == "hand"
    assert [step.depends_on for step in plan.steps] == [(), ("book",)]
    assert all(step.offer is None for step in plan.steps)
    assert plan.steps[0].undo == Undo.model_validate(BOOK["undo"])
    assert plan.steps[1].retry.attempts == 2
    assert plan.output == {"$step": "print"}


def test_a_step_keeps_the_time_it_was_given_when_a_shown_plan_comes_back() -> None:
    plan = plan_by_hand(HandPlan.model_validate({"steps": [{**BOOK, "timeoutSeconds": 7.5}]}), [])
    shown = plan.model_dump(mode="json")
    assert shown["steps"][0]["timeout_seconds"] == plan.steps[0].timeout_seconds == 7.5
    back = plan_by_hand(HandPlan.model_validate({"steps": [{**BOOK, "timeout_seconds": 7.5}]}), [])
    assert back.steps[0].timeout_seconds == 7.5
    with pytest.raises(InvalidPlan, match="timeout_seconds"):
        plan_by_hand(HandPlan.model_validate({"steps": [{**BOOK, "timeoutSeconds": 0}]}), [])
