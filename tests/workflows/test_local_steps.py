"""Conditional and transform steps in a running workflow: done here for nothing, skipped where they are not needed."""

from __future__ import annotations

import pytest

from agentnexus.core.errors import AgentRefused
from agentnexus.core.offers import Capability, Need
from agentnexus.workflows.engine.port import NewRun
from agentnexus.workflows.model import LOCAL, Plan, PlanStep, StepStatus, Undo, WorkflowRequest, WorkflowStatus
from agentnexus.workflows.run import BODY
from agentnexus.workflows.telling import WARNING_MAX, WARNINGS_MAX, warnings_of

from .catalogue import USDC, offer_of
from .conftest import Bench, until
from .scripted import ScriptedHirer
from .test_rollback import WF, conduct
from .test_service import DOLLAR, House


@pytest.fixture
def house(bench: Bench) -> House:
    return House(bench, ScriptedHirer([offer_of(Capability(name=name), "0.01") for name in ("a.b", "c.d")]))


def hired(step_id: str, capability: str = "a.b", given: dict[str, object] | None = None, **more: object) -> PlanStep:
    return PlanStep.model_validate(
        {"id": step_id, "title": step_id, "capability": capability, "input": given or {}, **more}
    )


def made(step_id: str, transform: dict[str, object], *waits: str, **more: object) -> PlanStep:
    return PlanStep.model_validate(
        {"id": step_id, "title": step_id, "transform": transform, "depends_on": waits, **more}
    )


def request(*steps: PlanStep, output: object = None) -> WorkflowRequest:
    plan = Plan(planner="hand", steps=steps, output=output)
    return WorkflowRequest(user_id="ann", text="x", max_cost=DOLLAR, auto_approve=True, plan=plan)


def gives(house: House, capability: str, output: object) -> None:
    async def act(_need: Need, _key: str) -> object:
        return output

    house.hirer.acts[capability] = act


async def test_outputs_are_reshaped_between_two_hires_for_nothing(house: House) -> None:
    gives(house, "a.b", {"rows": [{"n": 1, "name": "one"}, {"n": 5, "name": "five"}, {"n": 7, "name": "seven"}]})
    rows = {"$step": "read", "path": "rows"}
    done, events = await conduct(
        house,
        request(
            hired("read"),
            made("big", {"op": "filter", "items": rows, "where": {"value": {"$item": "n"}, "test": "more", "other": 3}},
                 "read"),
            made("names", {"op": "map", "items": {"$step": "big"}, "each": {"$item": "name"}}, "big"),
            made("letter", {"op": "template", "text": "Found: {names}", "values": {"names": {"$step": "names"}}},
                 "names"),
            hired("write", "c.d", {"text": {"$step": "letter"}}, depends_on=("letter",)),
            output={"letter": {"$step": "letter"}, "first": {"$step": "names", "path": "0"}},
        ),
    )  # fmt: skip
    assert done.status is WorkflowStatus.COMPLETED
    assert done.result == {"letter": 'Found: ["five","seven"]', "first": "five"}
    assert done.cost == USDC.parse("0.02")
    assert set(house.hirer.calls) == {f"{WF}:read:1", f"{WF}:write:1"}
    assert house.hirer.needs[f"{WF}:write:1"].input == {"text": 'Found: ["five","seven"]'}
    assert {step.capability for step in done.steps if step.id in ("big", "names", "letter")} == {LOCAL}
    assert {step.status for step in done.steps} == {StepStatus.COMPLETED}
    assert done.estimate is not None
    assert done.estimate.expected == USDC.parse("0.02")
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize(("found", "skipped"), [(True, "otherwise"), (False, "more")])
async def test_a_condition_chooses_which_of_two_steps_is_hired(house: House, found: bool, skipped: str) -> None:
    gives(house, "a.b", {"found": found})
    value = {"$step": "look", "path": "found"}
    done, events = await conduct(
        house,
        request(
            hired("look"),
            hired("more", "c.d", when={"value": value, "test": "true"}, depends_on=("look",)),
            hired("otherwise", "c.d", when={"value": value, "test": "false"}, depends_on=("look",)),
            made(
                "both",
                {
                    "op": "join",
                    "into": "list",
                    "parts": [
                        [{"$step": "more", "path": "result.text", "default": "nothing more"}],
                        [{"$step": "otherwise", "path": "result.text", "default": "nothing else"}],
                    ],
                },
                "more",
                "otherwise",
            ),
            output={"both": {"$step": "both"}, "more": {"$step": "more", "path": "result.text"}},
        ),
    )
    assert done.status is WorkflowStatus.COMPLETED
    by_id = {step.id: step for step in done.steps}
    assert by_id[skipped].status is StepStatus.SKIPPED
    assert by_id[skipped].attempts == 0
    assert done.cost == USDC.parse("0.02")
    assert len(house.hirer.calls) == 2
    expected = ["c.d done", "nothing else"] if found else ["nothing more", "c.d done"]
    assert done.result == {"both": expected, "more": "c.d done" if found else None}
    told = [event.data for event in events if event.name.value == "step.skipped"]
    assert told == [{"step": skipped, "reason": "its condition does not hold"}]


async def test_what_needs_a_skipped_step_is_skipped_too(house: House) -> None:
    never = {"value": 1, "test": "equals", "other": 2}
    done, events = await conduct(
        house,
        request(
            hired("a", when=never),
            hired("b", given={"x": {"$step": "a", "path": "result"}}, depends_on=("a",)),
            made("c", {"op": "pick", "source": {"$step": "b"}, "path": "result"}, "b"),
            hired("gated", depends_on=("c",)),
            hired("free"),
            output={"$step": "b", "path": "result"},
        ),
    )
    assert done.status is WorkflowStatus.COMPLETED
    states = {step.id: step.status.value for step in done.steps}
    assert states == {"a": "skipped", "b": "skipped", "c": "skipped", "gated": "skipped", "free": "completed"}
    assert list(house.hirer.calls) == [f"{WF}:free:1"]
    assert done.result is None
    reasons = [event.data["reason"] for event in events if event.name.value == "step.skipped"]
    assert reasons == ["its condition does not hold", *(f"step {step} was skipped" for step in "abc")]


async def test_a_transform_that_cannot_be_done_fails_and_undoes_what_was_bought(house: House) -> None:
    gives(house, "a.b", {"text": "no list"})
    undo = Undo(capability="c.d", input={"what": {"$step": "read", "path": "text"}})
    bad = made("each", {"op": "map", "items": {"$step": "read", "path": "text"}, "each": 1}, "read")
    done, _ = await conduct(house, request(hired("read", undo=undo), bad, made("last", {"op": "join", "parts": [1]})))
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "invalid_plan"
    states = {step.id: step.status.value for step in done.steps}
    assert states["read"] == "compensated"
    assert states["each"] == "failed"
    assert house.hirer.calls[f"{WF}:undo-read:1"] == 1


async def test_after_a_failure_neither_skipped_nor_free_steps_are_told_as_not_undone(house: House) -> None:
    async def refuse(_need: Need, _key: str) -> object:
        raise AgentRefused("no", next_step="x")

    house.hirer.acts["c.d"] = refuse
    first = hired("kept")
    skipped = hired("never", when={"value": None, "test": "not_empty"}, depends_on=("kept",))
    free = made("free", {"op": "join", "parts": ["x"]}, "kept")
    done, events = await conduct(house, request(first, skipped, free, hired("bad", "c.d", depends_on=("free", "kept"))))
    assert done.status is WorkflowStatus.FAILED
    told = next(event.data for event in events if event.name.value == "workflow.rolling_back")
    assert told["not_undone"] == ["kept"]


async def test_another_worker_skips_and_reshapes_alike_and_buys_nothing_twice(house: House) -> None:
    gives(house, "a.b", {"n": 1})
    wanted = request(
        hired("read"),
        hired(
            "never", when={"value": {"$step": "read", "path": "n"}, "test": "more", "other": 1}, depends_on=("read",)
        ),
        made("one", {"op": "pick", "source": {"$step": "read"}, "path": "n"}, "read"),
        hired("last", "c.d", {"n": {"$step": "one"}}, depends_on=("one",)),
        output={"$step": "one"},
    )
    room = house.room()
    await room.engine.start(NewRun(WF, BODY, wanted.model_dump(mode="json"), tenant="ann"))
    async with house.working(room):
        await until(lambda: house.hirer.calls[f"{WF}:last:1"] == 1, "the last hire")
    other = house.room()
    async with house.working(other) as workflows:
        done = await workflows.result(WF, "ann")
    assert done.status is WorkflowStatus.COMPLETED
    assert done.result == 1
    assert house.hirer.calls[f"{WF}:read:1"] == 1
    assert {step.id: step.status.value for step in done.steps}["never"] == "skipped"


async def test_large_outputs_are_reshaped_too(house: House) -> None:
    gives(house, "a.b", {"text": "x" * 200_000})
    done, _ = await conduct(
        house,
        request(
            hired("read"),
            made("twice", {"op": "join", "separator": "", "parts": [{"$step": "read", "path": "text"}] * 2}, "read"),
            output={"$step": "twice"},
        ),
    )
    assert done.result == "x" * 400_000


async def test_an_output_that_looks_like_a_reference_stays_data(house: House) -> None:
    hostile = {"$step": "secret", "path": "result"}
    gives(house, "a.b", {"items": [hostile, {"$item": "x"}, {"$file": 0}]})
    items = {"$step": "read", "path": "items"}
    done, _ = await conduct(
        house,
        request(
            hired("read"),
            made(
                "same",
                {"op": "map", "items": items, "each": {"it": {"$item": ""}}},
                "read",
            ),
            output={"$step": "same"},
        ),
    )
    assert done.result == [{"it": hostile}, {"it": {"$item": "x"}}, {"it": {"$file": 0}}]


async def test_warnings_of_agents_reach_the_result_with_the_step_that_gave_them(house: House) -> None:
    gives(house, "a.b", {"result": {"text": "t"}, "warnings": ["pages 2 are scans"]})
    done, _ = await conduct(house, request(hired("read"), output={"$step": "read", "path": "result.text"}))
    assert done.result == "t"
    assert [(w.step, w.title, w.warning) for w in done.warnings] == [("read", "read", "pages 2 are scans")]
    assert done.to_task_json()["warnings"] == [{"step": "read", "title": "read", "warning": "pages 2 are scans"}]


@pytest.mark.parametrize("said", [None, "text", 3, {"a": 1}, [None, 1, "", "  ", {"x": "y"}, ["z"]]])
def test_what_is_no_list_of_texts_is_no_warning(said: object) -> None:
    assert warnings_of([hired("a")], {"a": {"warnings": said}}) == []
    assert warnings_of([hired("a")], {"a": said}) == []


def test_a_talkative_seller_is_cut_short() -> None:
    found = warnings_of([hired("a")], {"a": {"warnings": ["w" * 10_000] * 1000}})
    assert len(found) == WARNINGS_MAX
    assert {len(entry.warning) for entry in found} == {WARNING_MAX}
