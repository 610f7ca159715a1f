"""Schedules on their pages: made of words or a saved plan, changed, paused, forgotten; on the real room, too."""

from __future__ import annotations

import html
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.platform.database import Database
from agentnexus.web.adapters.schedules import HouseSchedules
from agentnexus.web.forms import Upload
from agentnexus.web.views.rhythms import RhythmForm
from agentnexus.web.views.schedules import ScheduleTyped
from agentnexus.web.views.text import until
from agentnexus.workflows.audit import Trail
from agentnexus.workflows.schedules.scheduler import Scheduler
from agentnexus.workflows.schedules.service import Schedules
from tests.web.conftest import Site, Visitor
from tests.workflows.catalogue import USDC
from tests.workflows.site import Site as Api
from tests.workflows.site import make, open_site, sse

HTML = {"accept": "text/html"}
PAGE = "/saved/schedules"
FORM = {
    "name": "Mornings", "text": "Analyse it", "repeats": "weekly", "weekday": "fri", "at": "07:45", "day": "1",
    "cron": "", "timezone": "Europe/Berlin", "missed": "skip", "max_cost": "0.25",
}  # fmt: skip


async def test_every_schedule_is_listed_with_when_and_what_came_of_it(client: httpx.AsyncClient) -> None:
    page = html.unescape((await client.get(PAGE, headers=HTML)).text)
    assert "Morning figures" in page
    assert "Every day at 09:00. Next" in page
    assert "Sun 22 Nov 2026, 09:00 (Europe/Berlin)" in page
    assert "Paused: nothing begins until it is resumed" in page
    assert "failed: Nobody sells it." in page
    assert '<a class="chip" href="/saved/schedules" aria-current="true">' in page


async def test_a_schedule_is_made_of_what_was_typed(site: Site, client: httpx.AsyncClient) -> None:
    files = {"files": ("sales.csv", b"a\n1\n", "text/csv")}
    made = await client.post(PAGE, data={**FORM, "auto": "1"}, files=files, headers=HTML)
    assert (made.status_code, made.headers["location"]) == (303, f"{PAGE}/sch_1")
    ((typed, uploads),) = site.app.state.schedules.created
    assert (typed.name, typed.text, typed.timezone, typed.missed) == ("Mornings", "Analyse it", "Europe/Berlin", "skip")
    assert (typed.rhythm.expression, typed.max_cost, typed.auto_approve, uploads) == ("45 7 * * fri", "0.25", True, 1)


@pytest.mark.parametrize(("wrong", "says"), [
    ({"text": ""}, "A schedule runs a task or a plan."),
    ({"at": "quarter to"}, "That is no time of day."),
    ({"repeats": "sometimes"}, "That is no way to repeat."),
    ({"name": "x" * 201}, "That text is longer than 200 characters."),
])  # fmt: skip
async def test_mistakes_come_back_with_what_was_typed(
    client: httpx.AsyncClient, wrong: dict[str, str], says: str
) -> None:
    refused = await client.post(PAGE, data={**FORM, **wrong}, headers=HTML)
    assert refused.status_code == 400
    assert says in refused.text
    if "name" not in wrong:
        assert 'value="Mornings"' in refused.text
        assert "data-zone" not in refused.text  # the time zone that was typed is not guessed anew


async def test_a_schedule_is_changed_paused_resumed_and_deleted(site: Site, client: httpx.AsyncClient) -> None:
    kept = site.app.state.schedules.schedules
    page = (await client.get(f"{PAGE}/sch_1", headers=HTML)).text
    assert '<a href="/tasks/wf_completed">' in page
    assert "Nobody sells it." in page
    changed = await client.post(f"{PAGE}/sch_1", data=FORM, headers=HTML)
    assert (changed.status_code, kept["sch_1"].rhythm.expression) == (303, "45 7 * * fri")
    assert (await client.post(f"{PAGE}/sch_1", data={**FORM, "at": "x"}, headers=HTML)).status_code == 400
    await client.post(f"{PAGE}/sch_1/pause", headers=HTML)
    assert kept["sch_1"].paused
    assert f'action="{PAGE}/sch_1/resume"' in (await client.get(f"{PAGE}/sch_1", headers=HTML)).text
    await client.post(f"{PAGE}/sch_1/resume", headers=HTML)
    assert not kept["sch_1"].paused
    gone = await client.post(f"{PAGE}/sch_1/delete", headers=HTML)
    assert gone.headers["location"] == PAGE
    assert (await client.get(f"{PAGE}/sch_1", headers=HTML)).status_code == 404


async def test_a_node_without_schedules_says_what_they_are(site: Site, client: httpx.AsyncClient) -> None:
    site.app.state.schedules.schedules.clear()
    assert "Nothing is scheduled yet" in (await client.get(PAGE, headers=HTML)).text


async def test_a_saved_plan_leads_to_its_schedule(client: httpx.AsyncClient) -> None:
    assert f'href="{PAGE}?plan=tpl_1#new"' in (await client.get("/saved", headers=HTML)).text
    chosen = (await client.get(f"{PAGE}?plan=tpl_1", headers=HTML)).text
    assert '<option value="tpl_1" selected>Saved plan: Monthly figures' in chosen


def test_the_time_until_something_is_said_roughly() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    spans = ((5, "now"), (90, "in 2 min"), (7200, "in 2 h"), (86_400, "in 1 day"), (200_000, "in 2 days"))
    assert [until(now + timedelta(seconds=seconds), now) for seconds, _ in spans] == [said for _, said in spans]


@pytest.mark.browser
@pytest.mark.timeout(120)
async def test_the_form_shows_only_what_the_chosen_rhythm_needs(visitor: Visitor) -> None:
    page = await visitor.open(PAGE)
    shown = ("#weekday", "#day", "#at", "#cron", "#text")
    expected = {
        "daily": ["#at", "#text"], "weekly": ["#weekday", "#at", "#text"], "monthly": ["#day", "#at", "#text"],
        "cron": ["#cron", "#text"],
    }  # fmt: skip
    for repeats, controls in expected.items():
        await page.select_option("#repeats", repeats)
        assert [each for each in shown if await page.locator(each).is_visible()] == controls
    await page.select_option("#plan", "tpl_1")
    assert not await page.locator("#text").is_visible()
    zone = await page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone")
    assert await page.locator("#timezone").input_value() == zone


@pytest.mark.browser
@pytest.mark.timeout(120)
async def test_the_open_tab_is_in_sight_on_a_phone(visitor: Visitor) -> None:
    page = await visitor.open("/saved/webhooks", size="phone")
    tab = await page.locator(".tabs [aria-current]").bounding_box()
    assert tab is not None
    assert tab["x"] >= 0
    assert tab["x"] + tab["width"] <= 390


async def test_the_real_room_stands_behind_the_pages(database: Database) -> None:
    async with open_site(database) as api:
        await _made_due_and_shown(api, database)


async def _made_due_and_shown(api: Api, database: Database) -> None:
    clock = ManualClock(datetime.now(UTC))
    room, desk = api.room.workflows, api.desk
    kept = Schedules(database, desk.schedules._wakeups, desk.templates, Trail(database), clock=clock)
    house = HouseSchedules(kept, desk.templates, room, USDC)
    typed = ScheduleTyped("Hourly", "Analyse it", rhythm=RhythmForm("hourly", "00:00"), max_cost="0.5")
    upload = Upload("sales.csv", "text/csv", b"a,b\n1,2\n")
    made = await house.create("ann", typed, [upload])
    (listed,) = await house.all("ann")
    assert (listed.id, listed.rhythm.sentence, listed.limit, listed.asks) == (
        made, "Every hour at minute 0", "0.50 USDC", True,
    )  # fmt: skip
    assert (listed.files, listed.last, listed.state.label) == (["sales.csv"], None, "On")
    clock.advance(3600)
    assert await Scheduler(database, desk.schedules._wakeups, room, desk.templates, clock=clock).tick() == 1
    shown, (firing,) = await house.one("ann", made)
    assert shown.name == "Hourly"
    assert (await room.get(firing.run_id, "ann")).text == "Analyse it"
    await _changed_and_refused(house, made)
    ann = await api.client("ann")
    task = await make(ann, "What is the sum of column b in sales.csv?", autoApprove=True)
    await sse(ann, task)
    plan = await desk.templates.save("ann", task, "Sums")
    from_plan = await house.create("ann", ScheduleTyped("Plan", saved_id=plan.id), [])
    assert (await house.one("ann", from_plan))[0].task == "Sums"
    await desk.templates.delete(plan.id, "ann")
    assert (await house.one("ann", from_plan))[0].task == "a saved plan that is gone"


async def _changed_and_refused(house: HouseSchedules, made: str) -> None:
    await house.change("ann", made, ScheduleTyped("Daily", rhythm=RhythmForm("daily", "06:00"), missed="strange"))
    await house.pause("ann", made, paused=True)
    shown, _ = await house.one("ann", made)
    assert (shown.name, shown.rhythm.repeats, shown.paused, shown.missed) == ("Daily", "daily", True, "once")
    for typed, field in (
        (ScheduleTyped("No task"), "input"),
        (ScheduleTyped("Zone", "Analyse", timezone="Mars/Base"), "timezone"),
        (ScheduleTyped("Cron", "Analyse", rhythm=RhythmForm("cron", cron="often")), "cron"),
        (ScheduleTyped("Free", "Analyse", max_cost="0"), "max_cost"),
    ):
        with pytest.raises(InvalidInput) as refused:
            await house.create("ann", typed, [])
        assert refused.value.details["field"] == field
    with pytest.raises(NotFound):
        await house.one("bob", made)
    with pytest.raises(NotFound):
        await house.delete("bob", made)
    await house.delete("ann", made)
    assert await house.all("ann") == []
