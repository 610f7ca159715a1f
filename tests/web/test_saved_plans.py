"""Saved plans on their page: kept, run with other values and files, forgotten; on the real templates, too."""

from __future__ import annotations

import httpx

from agentnexus.web.adapters.saved import HouseSaved
from agentnexus.web.forms import Upload
from tests.web.conftest import Site
from tests.workflows.site import Site as Api
from tests.workflows.site import make, open_site, sse

HTML = {"accept": "text/html"}


async def test_a_plan_is_kept_run_and_forgotten_on_its_page(site: Site, client: httpx.AsyncClient) -> None:
    page = (await client.get("/saved", headers=HTML)).text
    assert "Monthly figures" in page
    assert 'value="What is the sum?"' in page
    kept = await client.post("/saved", data={"run": "wf_completed", "name": "Yearly"}, headers=HTML)
    assert (kept.status_code, kept.headers["location"]) == (303, "/saved")
    assert "Yearly" in (await client.get("/saved", headers=HTML)).text
    nameless = await client.post("/saved", data={"run": "wf_completed", "name": ""}, headers=HTML)
    assert nameless.status_code == 400
    assert "Give it a short name" in nameless.text or "give it a short name" in nameless.text
    files = {"files": ("other.csv", b"a\n1\n", "text/csv")}
    ran = await client.post("/saved/tpl_1/run", data={"s2.question": "What is the mean?"}, files=files, headers=HTML)
    assert (ran.status_code, ran.headers["location"]) == (303, "/tasks/wf_planning")
    await client.post("/saved/tpl_1/delete", headers=HTML)
    assert "Monthly figures" not in (await client.get("/saved", headers=HTML)).text


async def test_saved_plans_belong_to_tasks_and_run_by_the_button_beside_forget(client: httpx.AsyncClient) -> None:
    page = (await client.get("/saved", headers=HTML)).text
    assert '<a href="/workflows" aria-current="page">' in page
    assert 'id="tpl_1-run" action="/saved/tpl_1/run"' in page
    assert 'form="tpl_1-run">Run again' in page


async def test_the_page_of_a_finished_task_offers_to_keep_its_plan(client: httpx.AsyncClient) -> None:
    assert 'action="/saved"' in (await client.get("/tasks/wf_completed", headers=HTML)).text
    assert 'action="/saved"' not in (await client.get("/tasks/wf_executing", headers=HTML)).text


async def test_real_templates_stand_behind_the_page(database: object) -> None:
    async with open_site(database) as api:  # type: ignore[arg-type]  # the fixture's database
        await _kept_and_run(api)


async def _kept_and_run(api: Api) -> None:
    saved = HouseSaved(api.desk.templates, api.room.workflows)
    ann = await api.client("ann")
    workflow_id = await make(ann, "What is the sum of column b in sales.csv?", autoApprove=True)
    await sse(ann, workflow_id)
    await saved.save("ann", workflow_id, "Sums")
    (plan,) = await saved.all("ann")
    assert (plan.name, [field.name for field in plan.fields], plan.files) == ("Sums", ["s1.question"], ["sales.csv"])
    upload = Upload("b.csv", "text/csv", b"a,b\n1,2\n")
    again = await saved.run("ann", plan.id, {"s1.question": "What is the mean of b?", "s9.x": "?"}, [upload])
    made = await api.room.workflows.get(again, "ann")
    assert made.files[0].name == "b.csv"
    await saved.delete("ann", plan.id)
    assert await saved.all("ann") == []
