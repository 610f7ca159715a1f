"""Templates: a plan kept and run again with other inputs and files, by its owner only."""

from __future__ import annotations

import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.workflows.model import FileRef, Plan, PlanStep, StepOffer
from agentnexus.workflows.templates.model import TemplateBody, files_for, filled, kept, parameters

from .catalogue import USDC, agent_offers
from .site import Site, make, sse

FILE = FileRef(name="a.csv", size_bytes=1, blob="sha256:" + "0" * 64)
PLAN = Plan(
    planner="test",
    steps=(
        PlanStep(
            id="s1", title="analyse", capability="table.analyze", input={"file": {"$file": 0}, "question": "sum?"}
        ),
        PlanStep(
            id="s2", title="say", capability="text.summarize", depends_on=("s1",),
            input={"text": {"$step": "s1", "path": "result.text"}, "sentences": 3},
        ),
    ),
)  # fmt: skip


def test_values_that_come_from_nowhere_else_are_the_parameters() -> None:
    assert [(each.name, each.default) for each in parameters(PLAN)] == [("s1.question", "sum?"), ("s2.sentences", 3)]


def test_given_values_replace_the_kept_ones_and_others_stay() -> None:
    changed = filled(PLAN, {"s1.question": "mean?"})
    assert changed.step("s1").input == {"file": {"$file": 0}, "question": "mean?"}
    assert changed.step("s2") == PLAN.step("s2")


@pytest.mark.parametrize("values", [{"s9.x": 1}, {"s1.file": "x"}, {"s1.question": {"$file": 7}}])
def test_names_that_are_no_parameters_and_references_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        filled(PLAN, values)


def test_files_are_given_all_or_none() -> None:
    body = TemplateBody(text="t", plan=PLAN, files=(FILE,), max_cost=USDC.parse("1"), max_seconds=60)
    other = FILE.model_copy(update={"name": "b.csv"})
    assert files_for(body, ()) == (FILE,)
    assert files_for(body, [other]) == (other,)
    with pytest.raises(InvalidInput, match="takes 1 files, 2 were given"):
        files_for(body, [other, other])


def test_a_plan_of_one_agent_by_name_is_kept_for_any_that_sells_it() -> None:
    offer = StepOffer.of(agent_offers()[0])
    single = Plan(planner="single", steps=(PLAN.step("s1").model_copy(update={"offer": offer}),))
    assert (kept(single).planner, kept(single).steps) == ("hand", (PLAN.step("s1"),))
    assert kept(PLAN) == PLAN


async def test_a_template_runs_under_a_grant(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann, "What is the sum of column b in sales.csv?", autoApprove=True, maxCost="0.5")
    await sse(ann, workflow_id)
    template = (await ann.post("/templates", json={"workflowId": workflow_id, "name": "Sums"})).json()["template"]
    made = await ann.post(f"/templates/{template['id']}/run", json={"grant": "any"})
    request = await site.room.workflows.request(made.json()["workflow"]["id"], "ann")
    assert (request.grant, request.auto_approve) == ("any", False)
    terms = {"name": "Weekly", "cron": "0 9 * * 1", "templateId": template["id"], "grant": "gr_1"}
    schedule = (await ann.post("/schedules", json=terms)).json()["schedule"]
    assert schedule["task"]["grant"] == "gr_1"


async def test_a_kept_plan_runs_again_with_another_file_and_question(site: Site) -> None:
    ann, bob = await site.client("ann"), await site.client("bob")
    workflow_id = await make(ann, "What is the sum of column b in sales.csv?", autoApprove=True, maxCost="0.5")
    await sse(ann, workflow_id)
    saved = await ann.post("/templates", json={"workflowId": workflow_id, "name": " Monthly  numbers "})
    assert saved.status_code == 201, saved.text
    template = saved.json()["template"]
    assert template["name"] == "Monthly numbers"
    assert [step["capability"] for step in template["steps"]] == ["table.analyze"]
    question = next(each for each in template["parameters"] if each["name"].endswith("question"))
    path = f"/templates/{template['id']}"
    uploaded = (await ann.post("/files", files={"file": ("b.csv", b"a\n3\n", "text/csv")})).json()["file"]
    body = {"inputs": {question["name"]: "What is the mean?"}, "files": [uploaded], "autoApprove": True}
    runs = [(await ann.post(f"{path}/run", json=body, headers={"Idempotency-Key": "k"})).json() for _ in range(2)]
    again = runs[0]["workflow"]["id"]
    assert runs[1]["workflow"]["id"] == again != workflow_id
    assert (await sse(ann, again))[-2]["event"] == "workflow.completed"
    key = next(key for key in site.hirer.needs if key.startswith(f"{again}:"))
    assert site.hirer.needs[key].input["question"] == "What is the mean?"
    assert (await ann.get(f"/workflows/{again}")).json()["workflow"]["files"][0]["name"] == "b.csv"
    assert (await ann.patch(path, json={"name": "Numbers"})).json()["template"]["name"] == "Numbers"
    assert len((await ann.get("/templates")).json()["templates"]) == 1
    for method, where, more in (("GET", path, None), ("POST", f"{path}/run", {}), ("DELETE", path, None)):
        assert (await bob.request(method, where, json=more)).status_code == 404
    assert (await bob.post("/templates", json={"workflowId": workflow_id, "name": "mine"})).status_code == 404
    assert (await ann.post(f"{path}/run", json={"inputs": {"s9.x": 1}})).status_code == 400
    assert (await ann.delete(path)).status_code == 200
    assert (await ann.get(path)).status_code == 404
