"""Schedules: due times through every clock change, missed ones, and exactly one workflow per due time whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from agentnexus.cli.app import nexus
from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.web.adapters.schedules import HouseSchedules
from agentnexus.workflows.desk import Desk, open_desk
from agentnexus.workflows.model import Plan, PlanStep
from agentnexus.workflows.schedules.model import CATCH_UP_MAX, Missed, Rhythm, ScheduledTask, chosen
from agentnexus.workflows.schedules.service import ScheduleTerms
from agentnexus.workflows.worker import WorkflowRoom, open_room, postgres_engine

from .catalogue import USDC, agent_offers
from .scripted import ScriptedBudgets, ScriptedHirer
from .site import SECRETS, Site, make

START = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
KEPT = Plan(
    planner="hand",
    steps=(PlanStep(id="s1", title="", capability="text.summarize", input={"text": "long"}),),
    output={"$step": "s1"},
)
TASK = ScheduledTask(text="Analyse the numbers", max_cost=USDC.parse("0.5"))


def moments(cron: str, zone: str, start: datetime, count: int) -> list[str]:
    found, rhythm = [], Rhythm(cron, zone)
    for _ in range(count):
        following = rhythm.next_after(start)
        assert following is not None
        start = following
        found.append(start.strftime("%d %H:%M"))
    return found


def test_nine_in_berlin_stays_nine_when_the_clocks_change() -> None:
    assert moments("0 9 * * *", "Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC), 3) == [
        "28 08:00", "29 07:00", "30 07:00",
    ]  # fmt: skip


def test_an_hour_that_is_left_out_is_made_up_for_and_one_that_comes_twice_counts_once() -> None:
    spring = moments("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert spring == ["29 01:00", "30 00:30"]  # 3:00 instead of the 2:30 that is not there
    autumn = moments("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert autumn == ["25 00:30", "26 01:30"]


@pytest.mark.parametrize(
    ("cron", "zone", "field"),
    [
        ("* * * *", "UTC", "cron"), ("* * * * * *", "UTC", "cron"), ("61 * * * *", "UTC", "cron"), ("", "UTC", "cron"),
        ("0 0 30 2 *", "UTC", "cron"), ("0 9 * * *", "Mars/Olympus", "timezone"), ("0 9 * * *", "../etc", "timezone"),
    ],
)  # fmt: skip
def test_rhythms_that_cannot_be_are_refused_by_name(cron: str, zone: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Rhythm(cron, zone)
    assert refused.value.details["field"] == field


def test_what_was_missed_is_skipped_run_once_or_all_run() -> None:
    now = START
    late = [now - timedelta(minutes=minutes) for minutes in (30, 20, 10)]
    assert chosen(late, now, Missed.SKIP) == ([], late)
    assert chosen(late, now, Missed.ONCE) == (late[-1:], late[:-1])
    assert chosen(late, now, Missed.ALL) == (late, [])
    on_time = [now - timedelta(seconds=30)]
    assert chosen([*late, *on_time], now, Missed.ONCE) == (on_time, late)
    assert chosen([*late, *on_time], now, Missed.SKIP) == (on_time, late)


def test_a_very_long_absence_does_not_become_a_flood() -> None:
    rhythm = Rhythm("* * * * *", "UTC")
    first = rhythm.next_after(START - timedelta(days=400))
    assert first is not None
    found = rhythm.until(first, START)
    assert len(found) <= CATCH_UP_MAX
    assert found[-1] == START.replace(second=0)


@dataclass
class Shop:
    """A desk on a clock moved by hand, without a worker: workflows begin and wait."""

    desk: Desk
    room: WorkflowRoom
    clock: ManualClock

    async def created(self, user_id: str = "ann") -> list[str]:
        return [each.id for each in (await self.room.workflows.list(user_id, 200)).workflows]


@pytest.fixture
async def shop(database: Database) -> object:
    async with AsyncExitStack() as stack:
        wakeups = await stack.enter_async_context(Wakeups(database))
        clock = ManualClock(START)
        room = open_room(
            postgres_engine(database, wakeups), hirer=ScriptedHirer(agent_offers()), budgets=ScriptedBudgets(),
            blobs=PostgresBlobs(database), clock=clock, database=database,
        )  # fmt: skip
        yield Shop(open_desk(room, database, wakeups, secrets=SECRETS, clock=clock), room, clock)


def every_minute(missed: Missed = Missed.ONCE) -> ScheduleTerms:
    return ScheduleTerms("minutely", "* * * * *", "UTC", missed)


async def test_a_due_time_begins_one_workflow_however_often_it_is_looked_at(shop: Shop) -> None:
    made = await shop.desk.schedules.create("ann", every_minute(), TASK)
    assert await shop.desk.scheduler.tick() == 0
    shop.clock.advance(31)
    ticks = await asyncio.gather(*(shop.desk.scheduler.tick() for _ in range(5)))
    assert sum(ticks) == 1
    assert len(await shop.created()) == 1
    (firing,) = await shop.desk.schedules.firings(made.id, "ann")
    assert (firing.state, firing.workflow_id) == ("started", (await shop.created())[0])
    workflow = await shop.room.workflows.get((await shop.created())[0], "ann")
    assert workflow.metadata == {"schedule": made.id}
    shop.clock.advance(60)
    assert await shop.desk.scheduler.tick() == 1


async def test_what_is_due_goes_ahead_under_the_grant_it_was_given(shop: Shop) -> None:
    made = await shop.room.workflows.create("ann", "Analyse the numbers", max_cost=USDC.parse("1"), plan=KEPT)
    async with asyncio.timeout(20):
        work = asyncio.create_task(shop.room.engine.work())
        await shop.room.workflows.settle_at(made.id, "ann")
        work.cancel()
        await asyncio.wait([work])
    template = await shop.desk.templates.save("ann", made.id, "numbers")
    granted = TASK.model_copy(update={"grant": "any"})
    of_template = granted.model_copy(update={"text": "", "template_id": template.id})
    for task in (granted, of_template):
        await shop.desk.schedules.create("ann", every_minute(), task)
    shop.clock.advance(31)
    assert await shop.desk.scheduler.tick() == 2
    begun = [await shop.room.workflows.request(each, "ann") for each in await shop.created() if each != made.id]
    assert [(request.grant, request.auto_approve) for request in begun] == [("any", False)] * 2
    assert ScheduledTask.model_validate({"text": "x", "max_cost": TASK.max_cost}).grant == ""  # as kept before


@pytest.mark.parametrize(("missed", "begun", "skipped"), [(Missed.SKIP, 0, 3), (Missed.ONCE, 1, 2), (Missed.ALL, 3, 0)])
async def test_after_an_absence_the_policy_decides(shop: Shop, missed: Missed, begun: int, skipped: int) -> None:
    terms = ScheduleTerms("tens", "*/10 * * * *", "UTC", missed)
    made = await shop.desk.schedules.create("ann", terms, TASK)
    shop.clock.advance(35 * 60)
    assert await shop.desk.scheduler.tick() == begun
    states = [firing.state for firing in await shop.desk.schedules.firings(made.id, "ann")]
    assert (states.count("started"), states.count("skipped")) == (begun, skipped)


async def test_a_paused_schedule_is_quiet_and_its_pause_was_not_missed(shop: Shop) -> None:
    made = await shop.desk.schedules.create("ann", every_minute(Missed.ALL), TASK)
    await shop.desk.schedules.pause(made.id, "ann")
    shop.clock.advance(600)
    assert await shop.desk.scheduler.tick() == 0
    resumed = await shop.desk.schedules.resume(made.id, "ann")
    assert resumed.next_at == shop.clock.now().replace(second=0) + timedelta(minutes=1)
    assert await shop.desk.scheduler.tick() == 0
    shop.clock.advance(60)
    assert await shop.desk.scheduler.tick() == 1


async def test_a_changed_rhythm_counts_from_now_and_a_deleted_one_no_more(shop: Shop) -> None:
    made = await shop.desk.schedules.create("ann", every_minute(), TASK)
    changed = await shop.desk.schedules.change(made.id, "ann", ScheduleTerms("daily", "0 9 * * *", "Asia/Tokyo"))
    assert changed.next_at == datetime(2026, 11, 21, 0, 0, tzinfo=UTC)
    shop.clock.advance(120)
    assert await shop.desk.scheduler.tick() == 0
    await shop.desk.schedules.delete(made.id, "ann")
    shop.clock.advance(86_400)
    assert await shop.desk.scheduler.tick() == 0


async def test_a_task_that_cannot_begin_is_kept_with_its_reason(shop: Shop) -> None:
    task = TASK.model_copy(update={"text": "x"})
    made = await shop.desk.schedules.create("ann", every_minute(), task)
    shop.clock.advance(31)
    assert await shop.desk.scheduler.tick() == 0
    (firing,) = await shop.desk.schedules.firings(made.id, "ann")
    assert (firing.state, firing.error and firing.error["code"]) == ("failed", "invalid_input")


async def test_schedules_are_their_owners_and_need_one_kind_of_task(shop: Shop) -> None:
    made = await shop.desk.schedules.create("ann", every_minute(), TASK)
    for call in (shop.desk.schedules.get, shop.desk.schedules.pause, shop.desk.schedules.delete):
        with pytest.raises(NotFound):
            await call(made.id, "bob")
    assert (await shop.desk.schedules.get(made.id, None)).user_id == "ann"
    for task in (TASK.model_copy(update={"text": ""}), TASK.model_copy(update={"template_id": "tpl_1"})):
        with pytest.raises(InvalidInput, match="either a task in words or a template"):
            await shop.desk.schedules.create("ann", every_minute(), task)
    with pytest.raises(NotFound):
        await shop.desk.schedules.create(
            "ann", every_minute(), TASK.model_copy(update={"text": "", "template_id": "t"})
        )


SCHEDULER = """
import asyncio, sys
from datetime import datetime
from agentnexus.core.clock import ManualClock
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.desk import open_desk
from agentnexus.workflows.worker import open_room, postgres_engine
from tests.workflows.scripted import ScriptedBudgets, ScriptedHirer
from tests.workflows.site import SECRETS

async def main():
    database = await Database.open(sys.argv[1], max_size=4)
    async with Wakeups(database) as wakeups:
        clock = ManualClock(datetime.fromisoformat(sys.argv[2]))
        room = open_room(
            postgres_engine(database, wakeups), hirer=ScriptedHirer(()), budgets=ScriptedBudgets(),
            blobs=PostgresBlobs(database), clock=clock, database=database,
        )
        desk = open_desk(room, database, wakeups, secrets=SECRETS, clock=clock)
        print("ready", flush=True)
        for _ in range(int(sys.argv[3])):
            await desk.scheduler.tick()
            clock.advance(60)
    print("done", flush=True)

asyncio.run(main())
"""


async def test_killed_schedulers_neither_lose_nor_repeat_a_due_time(shop: Shop, database_url: str) -> None:
    made = await shop.desk.schedules.create("ann", every_minute(Missed.ALL), TASK)
    minutes = 60
    killed = 0
    for moment in (0.05, 0.1, 0.2, None, None):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SCHEDULER, database_url, (START + timedelta(seconds=30)).isoformat(), str(minutes),
            stdout=PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(("src", "."))},
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        if moment is not None:
            try:
                async with asyncio.timeout(moment):
                    await process.stdout.readline()
            except TimeoutError:
                process.send_signal(signal.SIGKILL)
                killed += 1
        else:
            assert await process.stdout.readline() == b"done\n"
        await process.wait()
    assert killed
    firings = await shop.desk.schedules.firings(made.id, "ann", 500)
    assert {firing.state for firing in firings} == {"started"}
    assert len(firings) == len({firing.due_at for firing in firings}) == minutes
    assert sorted(str(firing.workflow_id) for firing in firings) == sorted(await shop.created())


async def test_schedules_over_http(site: Site) -> None:
    ann, bob = await site.client("ann"), await site.client("bob")
    body = {"name": "weekly", "cron": "0 9 * * mon", "timezone": "Europe/Berlin", "input": "Analyse it", "maxCost": 0.5}
    made = await ann.post("/schedules", json=body)
    assert made.status_code == 201, made.text
    schedule = made.json()["schedule"]
    assert schedule["task"]["max_cost"]["atomic"] == "500000"
    path = f"/schedules/{schedule['id']}"
    assert (await ann.post(f"{path}/pause")).json()["schedule"]["paused"] is True
    assert (await ann.post(f"{path}/resume")).json()["schedule"]["paused"] is False
    changed = await ann.put(path, json={"name": "daily", "cron": "0 8 * * *"})
    assert (changed.json()["schedule"]["name"], changed.json()["schedule"]["timezone"]) == ("daily", "UTC")
    shown = (await ann.get(path)).json()
    assert shown["firings"] == []
    assert [each["id"] for each in (await ann.get("/schedules")).json()["schedules"]] == [schedule["id"]]
    assert (await bob.get(path)).status_code == 404
    assert (await bob.get("/schedules")).json()["schedules"] == []
    assert (await ann.post("/schedules", json={**body, "cron": "often"})).status_code == 400
    assert (await ann.delete(path)).status_code == 200
    assert (await ann.get(path)).status_code == 404


async def test_a_task_that_fails_is_not_told_as_begun(site: Site) -> None:
    """Over HTTP, on the command line and on the pages: failed, and why."""
    ann = await site.client("ann")
    body = {"name": "weekly", "cron": "* * * * *", "input": "Knit me a scarf", "maxCost": "0.5", "autoApprove": True}
    made = (await ann.post("/schedules", json=body)).json()["schedule"]
    async with site.room_database() as connection:
        await connection.execute("update workflow.schedule set next_at = date_trunc('minute', now())")
    assert await site.desk.scheduler.tick() == 1
    (firing,) = await site.desk.schedules.firings(made["id"], "ann")
    assert firing.workflow_id is not None
    ended = await site.room.workflows.result(firing.workflow_id, "ann")
    assert ended.error is not None
    (shown,) = (await ann.get(f"/schedules/{made['id']}")).json()["firings"]
    assert (shown["status"], shown["error"]) == ("failed", ended.error)
    env = {"NEXUS_API_URL": site.url, "NEXUS_TOKEN": site.tokens["ann"], "NEXUS_USER": "ann"}
    said = await asyncio.to_thread(CliRunner().invoke, nexus, ["schedule", "show", made["id"]], env=env)
    (line,) = [line for line in said.output.splitlines() if firing.workflow_id in line]
    assert line.split()[1] == "failed"
    assert str(ended.error["message"]) in line
    house = HouseSchedules(site.desk.schedules, site.desk.templates, site.room.workflows, USDC)
    for view in ((await house.one("ann", made["id"]))[1][0], (await house.all("ann"))[0].last):
        assert view is not None
        assert (view.state.label, view.run_id, view.problem is not None) == ("Failed", firing.workflow_id, True)


async def test_a_template_runs_on_schedule_with_its_inputs(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann, autoApprove=True)
    await site.room.workflows.result(workflow_id, "ann")
    template = (await ann.post("/templates", json={"workflowId": workflow_id, "name": "numbers"})).json()["template"]
    body = {"name": "weekly", "cron": "* * * * *", "templateId": template["id"], "maxCost": "0.5", "autoApprove": True}
    made = (await ann.post("/schedules", json=body)).json()["schedule"]
    async with site.room_database() as connection:
        await connection.execute("update workflow.schedule set next_at = date_trunc('minute', now())")
    assert await site.desk.scheduler.tick() == 1
    (firing,) = await site.desk.schedules.firings(made["id"], "ann")
    assert firing.workflow_id is not None
    done = await site.room.workflows.result(firing.workflow_id, "ann")
    assert (done.status.value, done.text) == ("completed", "Analyse it")
    (shown,) = (await ann.get(f"/schedules/{made['id']}")).json()["firings"]
    assert (shown["state"], shown["status"]) == ("started", "completed"), "what came of it, not only that it began"
