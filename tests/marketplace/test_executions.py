"""Runs of listed agents: once per key, every end with its own error, every event kept in order."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agentnexus.core.errors import (
    AgentFailed,
    AgentRefused,
    BadResult,
    Conflict,
    InvalidInput,
    NexusError,
    NotFound,
    Unavailable,
)
from agentnexus.core.events import Event, EventName
from agentnexus.marketplace.executions.model import (
    Execution,
    ExecutionStatus,
    error_from,
    input_hash,
    output_bytes,
    storable,
)
from agentnexus.marketplace.listings.model import ListingStatus
from tests.marketplace.conftest import TRIAL_ID, Node


async def run(node: Node, key: str = "key-1", **value: object) -> Execution:
    return await node.executions.run(TRIAL_ID, value or {"text": "hello"}, key, user_id="eip155:31337:0xabc")


async def started(node: Node, execution_id: str) -> None:
    """Until the agent itself has spoken."""
    async for event in node.executions.events(execution_id):
        if event.name is EventName.EXECUTION_PROGRESS:
            return


async def stored(node: Node, key: str) -> str:
    """The id of the execution of this key, once there is one."""
    for _ in range(500):
        async with node.database.connection() as connection:
            found = await connection.fetchval("select id from marketplace.execution where key = $1", key)
        if found:
            return str(found)
        await asyncio.sleep(0.01)
    raise AssertionError("no execution appeared")


async def test_a_run_completes_with_output_metering_and_duration(node: Node) -> None:
    execution = await run(node)

    assert execution.status is ExecutionStatus.COMPLETED
    assert isinstance(execution.output, dict)
    assert execution.output["text"] == "hello"
    assert execution.duration_ms is not None
    assert execution.metering["wall_ms"] > 0
    assert execution.version == "1.0.0"
    assert await node.executions.get(execution.id) == execution


async def test_events_are_numbered_without_gaps_and_end_with_the_outcome(node: Node) -> None:
    execution = await run(node, count=40)

    events = [event async for event in node.executions.events(execution.id)]

    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].name is EventName.EXECUTION_STARTED
    assert events[-1].name is EventName.EXECUTION_COMPLETED
    said = [event.data["message"] for event in events if event.name is EventName.EXECUTION_LOG]
    assert said == [f"line {number}" for number in range(40)]
    assert [event.data["message"] for event in await node.executions.logs(execution.id)] == said


async def test_files_of_a_run_are_kept_as_blobs(node: Node) -> None:
    execution = await run(node, text="kept")

    events = [event async for event in node.executions.events(execution.id)]
    files = [event.data for event in events if event.name is EventName.EXECUTION_ARTIFACT]

    assert [(file["name"], file["media_type"], file["size_bytes"]) for file in files] == [("note.txt", "text/plain", 4)]
    assert await node.blobs.get(str(files[0]["blob"])) == b"kept"


async def test_the_same_key_runs_once_and_gives_the_same_execution(node: Node) -> None:
    first = await run(node)

    assert await run(node) == first


async def test_ten_callers_with_one_key_in_two_processes_cause_one_run(node: Node) -> None:
    other = node.another_process()
    value = {"do": "answer", "text": "once"}

    runs = await asyncio.gather(
        *(who.run(TRIAL_ID, value, "shared") for who in (node.executions, other) for _ in range(5))
    )

    assert len({execution.id for execution in runs}) == 1
    assert len({str(execution.output) for execution in runs}) == 1
    assert {execution.attempts for execution in runs} == {1}
    assert (await node.listings.get(TRIAL_ID)).statistics.runs == 1


async def test_a_key_with_another_input_or_agent_is_a_conflict(node: Node) -> None:
    await run(node)

    with pytest.raises(Conflict, match="another input"):
        await run(node, text="different")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"do": "dance"}, "do"),
        ({"count": 0}, "count"),
        ({"count": "many"}, "count"),
        ({"surprise": 1}, None),
        ([], None),
        ("text", None),
        (None, None),
    ],
)
async def test_a_wrong_input_is_named_and_nothing_is_started(node: Node, value: object, field: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        await node.executions.run(TRIAL_ID, value, "wrong")

    assert caught.value.details.get("field") == field
    async with node.database.connection() as connection:
        assert await connection.fetchval("select count(*) from marketplace.execution") == 0


async def test_a_refusal_is_permanent_tried_once_and_told_again_to_whoever_asks(node: Node) -> None:
    for _ in range(2):
        with pytest.raises(AgentRefused, match="cannot be served") as caught:
            await run(node, do="refuse")
        assert caught.value.next_step == "ask for something else"
        assert caught.value.details["field"] == "do"

    execution = await node.executions.get(str(caught.value.details["execution"]))
    assert (execution.status, execution.attempts, execution.output) == (ExecutionStatus.FAILED, 1, None)


async def test_a_failure_of_the_process_is_tried_three_times_with_pauses(node: Node) -> None:
    with pytest.raises(AgentFailed) as caught:
        await run(node, do="die")

    execution = await node.executions.get(str(caught.value.details["execution"]))
    assert execution.attempts == 3
    events = [event async for event in node.executions.events(execution.id)]
    assert [event.data["attempt"] for event in events if event.name is EventName.EXECUTION_STARTED] == [1, 2, 3]
    assert sum("Trying again" in str(event.data.get("message")) for event in events) == 2


async def test_an_output_that_breaks_its_own_schema_is_no_success(node: Node) -> None:
    with pytest.raises(NexusError) as caught:
        await run(node, do="lie")

    assert isinstance(caught.value, AgentFailed | BadResult)
    execution = await node.executions.get(str(caught.value.details["execution"]))
    assert execution.status is ExecutionStatus.FAILED


async def test_a_run_past_its_time_ends_as_a_timeout(node: Node) -> None:
    from dataclasses import replace

    limits = node.bundle.manifest.limits.model_copy(update={"timeout_seconds": 0.7})
    manifest = node.bundle.manifest.model_copy(update={"limits": limits})
    node.executions._bundles[TRIAL_ID] = replace(node.bundle, manifest=manifest)

    with pytest.raises(NexusError) as caught:
        await run(node, do="wait")

    assert caught.value.http_status == 408
    assert (await node.executions.get(str(caught.value.details["execution"]))).status is ExecutionStatus.TIMEOUT


async def test_a_run_can_be_cancelled_from_another_process(node: Node) -> None:
    running = asyncio.create_task(run(node, "to-cancel", do="wait"))
    execution_id = await stored(node, "to-cancel")
    await started(node, execution_id)

    await node.another_process().cancel(execution_id)

    with pytest.raises(Conflict, match="cancelled"):
        await running
    execution = await node.executions.get(execution_id)
    assert execution.status is ExecutionStatus.CANCELLED
    assert (await node.executions.cancel(execution_id)) == execution
    assert (await node.listings.get(TRIAL_ID)).statistics.runs == 0


async def test_when_the_caller_goes_away_the_run_stops_and_the_next_call_runs_it(node: Node) -> None:
    value = {"do": "wait"}
    running = asyncio.create_task(node.executions.run(TRIAL_ID, value, "left"))
    execution_id = await stored(node, "left")
    await started(node, execution_id)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await node.executions.get(execution_id)).status is ExecutionStatus.QUEUED
    again = asyncio.create_task(node.another_process().run(TRIAL_ID, value, "left"))
    starts = 0
    async for event in node.executions.events(execution_id):
        starts += event.name is EventName.EXECUTION_STARTED
        if starts == 2:
            break
    assert (await node.executions.get(execution_id)).attempts == 2
    await node.executions.cancel(execution_id)
    with pytest.raises(Conflict):
        await again


async def test_a_process_that_died_is_taken_over_after_its_lease(node: Node) -> None:
    dead = asyncio.create_task(node.executions.run(TRIAL_ID, {"text": "x"}, "orphan"))
    execution = await dead
    async with node.database.connection() as connection:
        await connection.execute(
            """update marketplace.execution set status = 'running', output = null, finished_at = null,
                   owner = 'a dead process', lease_until = now() - interval '1 second' where id = $1""",
            execution.id,
        )

    again = await node.another_process().run(TRIAL_ID, {"text": "x"}, "orphan")

    assert again.id == execution.id
    assert (again.status, again.attempts) == (ExecutionStatus.COMPLETED, 2)


async def test_a_process_that_lost_its_lease_cannot_finish_the_run(node: Node) -> None:
    running = asyncio.create_task(run(node, "stolen", do="wait"))
    execution_id = await stored(node, "stolen")
    await started(node, execution_id)
    async with node.database.connection() as connection:
        await connection.execute(
            "update marketplace.execution set owner = 'thief', lease_until = now() + interval '1 hour' where id = $1",
            execution_id,
        )
    from agentnexus.marketplace.executions import service

    node.wakeups.notify(service._cancel_topic(execution_id))
    async with node.database.connection() as connection:
        await connection.execute(
            """update marketplace.execution set status = 'completed', output = '"by the thief"', finished_at = now()
               where id = $1""",
            execution_id,
        )

    assert (await running).output == "by the thief"


async def test_runs_nobody_comes_back_to_are_closed(node: Node) -> None:
    execution = await run(node)
    async with node.database.connection() as connection:
        await connection.execute(
            """update marketplace.execution set status = 'queued', output = null, finished_at = null,
                   lease_until = now() - interval '2 hours' where id = $1""",
            execution.id,
        )

    assert await node.executions.close_abandoned(timedelta(hours=1)) == 1
    assert await node.executions.close_abandoned(timedelta(hours=1)) == 0
    events = [event async for event in node.executions.events(execution.id)]
    assert (await node.executions.get(execution.id)).status is ExecutionStatus.CANCELLED
    assert events[-1].data == {"status": "cancelled"}


async def test_runs_are_kept_with_their_logs_for_ninety_days_and_then_forgotten(node: Node) -> None:
    old, young = await run(node, key="old"), await run(node, key="young")
    async with node.database.connection() as connection:
        for execution, days in ((old, 91), (young, 89)):
            await connection.execute(
                "update marketplace.execution set finished_at = now() - $2::integer * interval '1 day' where id = $1",
                execution.id, days,
            )  # fmt: skip
        assert await node.executions.forget() == 1
        left = await connection.fetchval(
            "select count(*) from marketplace.execution_event where execution_id = $1", old.id
        )
    assert left == 0
    with pytest.raises(NotFound):
        await node.executions.get(old.id)
    assert (await node.executions.get(young.id)).output == young.output
    assert await node.executions.logs(young.id)
    assert await node.executions.forget() == 0


async def test_events_can_be_followed_while_it_runs_and_from_any_point(node: Node) -> None:
    running = asyncio.create_task(run(node, "followed", count=5))
    execution_id = await stored(node, "followed")

    live = [event async for event in node.executions.events(execution_id)]

    await running
    assert live[-1].name is EventName.EXECUTION_COMPLETED
    late = [event async for event in node.executions.events(execution_id, after=live[2].sequence)]
    assert late == live[3:]


async def test_agents_not_for_sale_or_not_here_are_not_run(node: Node) -> None:
    with pytest.raises(NotFound):
        await node.executions.run("org.nobody.agent", {}, "k")
    await node.listings.set_status(TRIAL_ID, ListingStatus.MAINTENANCE)
    with pytest.raises(NotFound, match="maintenance"):
        await run(node)
    await node.listings.set_status(TRIAL_ID, ListingStatus.ACTIVE)
    del node.executions._bundles[TRIAL_ID]
    with pytest.raises(Unavailable, match="not on this machine"):
        await run(node)


async def test_an_own_execution_id_is_used_once_and_checked(node: Node) -> None:
    own = "exe_" + "ab" * 16
    execution = await node.executions.run(TRIAL_ID, {"text": "x"}, "a", execution_id=own)
    assert execution.id == own
    with pytest.raises(Conflict, match="taken"):
        await node.executions.run(TRIAL_ID, {"text": "x"}, "b", execution_id=own)
    with pytest.raises(InvalidInput):
        await node.executions.run(TRIAL_ID, {"text": "x"}, "c", execution_id="exe_../../x")


async def test_eight_runs_at_once_all_end_in_order_of_their_places(node: Node) -> None:
    runs = await asyncio.gather(*(run(node, f"many-{number}", text=str(number)) for number in range(8)))

    assert [execution.output["text"] for execution in runs] == [str(number) for number in range(8)]
    statistics = (await node.listings.get(TRIAL_ID)).statistics
    assert (statistics.runs, statistics.succeeded, statistics.success_rate) == (8, 8, 1.0)
    assert statistics.average_ms is not None
    assert statistics.p95_ms is not None
    assert statistics.p95_ms >= statistics.average_ms


async def test_an_input_that_cannot_be_served_is_not_held_against_the_agent(node: Node) -> None:
    await run(node)
    with pytest.raises(AgentRefused):
        await run(node, "key-2", do="refuse")

    statistics = (await node.listings.get(TRIAL_ID)).statistics
    assert (statistics.runs, statistics.succeeded) == (1, 1)


async def test_failed_runs_count_but_not_as_successes(node: Node) -> None:
    await run(node)
    with pytest.raises(BadResult):
        await run(node, "key-2", do="lie")

    statistics = (await node.listings.get(TRIAL_ID)).statistics
    assert (statistics.runs, statistics.succeeded) == (2, 1)


async def test_unknown_ids_are_not_found(node: Node) -> None:
    for call in (node.executions.get, node.executions.cancel, node.executions.logs):
        with pytest.raises(NotFound):
            await call("exe_" + "0" * 32)


@pytest.mark.parametrize("text", ["plain", "with \x00 nul", "half \ud800 surrogate", "\u2028 line"])
async def test_text_that_databases_do_not_take_is_kept_in_outputs(node: Node, text: str) -> None:
    assert output_bytes({"text": text}).isascii()
    storable(text).encode()
    assert "\x00" not in storable(text)


def test_the_hash_of_an_input_ignores_the_order_of_its_fields() -> None:
    assert input_hash("a", {"x": 1, "y": 2}) == input_hash("a", {"y": 2, "x": 1})
    assert input_hash("a", {"x": 1}) != input_hash("b", {"x": 1})


@pytest.mark.parametrize("kind", [AgentRefused, InvalidInput, Unavailable, BadResult])
def test_a_stored_error_comes_back_as_its_own_class(kind: type[NexusError]) -> None:
    error = kind("why", next_step="what", field="where")

    again = error_from(error.to_json(), "exe_1")

    assert type(again) is kind
    assert (again.message, again.next_step, again.details["field"]) == ("why", "what", "where")


def test_every_event_has_a_json_form() -> None:
    from datetime import UTC, datetime

    from agentnexus.marketplace.executions.model import event_json

    at = datetime(2026, 1, 1, tzinfo=UTC)
    event = Event(name=EventName.EXECUTION_LOG, subject="exe_1", sequence=3, at=at, data={"message": "m"})

    assert event_json(event) == {
        "name": "execution.log",
        "sequence": 3,
        "at": "2026-01-01T00:00:00+00:00",
        "data": {"message": "m"},
    }
