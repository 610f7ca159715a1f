"""A worker in a process of its own, to be killed: ``… URL LEASE RENEW [BACKEND]``.

Every step leaves one row per execution in ``executions`` and one per key in ``effects``, as an external service with
idempotency keys would.
"""

from __future__ import annotations

import asyncio
import sys

from agentnexus.core.canonical import Json
from agentnexus.core.errors import NexusError, SellerFailed
from agentnexus.core.events import EventName
from agentnexus.platform.database import Database
from agentnexus.platform.process import die_with_parent
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import Draft, Phase, Retry, Run, RunState, StepContext, Transition
from agentnexus.workflows.engine.worker import WorkerSettings

from .backends import Backend

TABLES = """
create table effects (key text primary key, run text not null);
create table executions (run text not null, step text not null, key text not null);
"""
STEP_SECONDS = 0.08


def narrate(transition: Transition) -> list[Draft]:
    names = {Phase.STARTED: EventName.STEP_STARTED, Phase.COMPLETED: EventName.STEP_COMPLETED}
    name = names.get(transition.phase, EventName.STEP_RETRYING)
    return [Draft(name, {"step": transition.key}, {f"step:{transition.key}": transition.phase.value})]


def narrate_end(state: RunState, _output: Json, _error: NexusError | None) -> list[Draft]:
    return [Draft(EventName.WORKFLOW_COMPLETED, {"state": state.value}, {"status": state.value})]


def effectful(engine: DurableEngine, database: Database) -> None:
    """Register three bodies.

    ``diamond``: a → (b, c, d) → e, with a sleep and a retry on the way; ``slow``: a step of two seconds; ``long``: one
    that never ends.
    """

    async def effect(context: StepContext) -> Json:
        async with database.connection() as connection:
            values = (context.run_id, context.key, context.idempotency_key)
            await connection.execute("insert into executions values ($1, $2, $3)", *values)
            await asyncio.sleep(STEP_SECONDS)
            await connection.execute(
                "insert into effects values ($1, $2) on conflict do nothing", context.idempotency_key, context.run_id
            )
        return context.key

    async def flaky(context: StepContext) -> Json:
        if context.attempt == 1:
            raise SellerFailed("the first time never works")
        return await effect(context)

    async def diamond(run: Run, _given: Json) -> Json:
        first = await run.step("a", effect, narrate=narrate)
        async with asyncio.TaskGroup() as group:
            retry = Retry(attempts=3, first_delay_seconds=0.05)
            tasks = [
                group.create_task(run.step("b", effect, narrate=narrate)),
                group.create_task(run.step("c", flaky, retry=retry, narrate=narrate)),
                group.create_task(run.step("d", effect, narrate=narrate)),
            ]
        await run.sleep("nap", 0.05)
        last = await run.step("e", effect, narrate=narrate)
        return [first, *(task.result() for task in tasks), last]

    async def long(run: Run, _given: Json) -> Json:
        async def endless(context: StepContext) -> Json:
            await effect(context)
            await asyncio.Event().wait()
            return None

        return await run.step("endless", endless)

    async def slow(run: Run, _given: Json) -> Json:
        async def two_seconds(context: StepContext) -> Json:
            async with database.connection() as connection:
                values = (context.run_id, context.key, context.idempotency_key)
                await connection.execute("insert into executions values ($1, $2, $3)", *values)
                await asyncio.sleep(2)
            return await effect(context)

        await run.step("sleeps", two_seconds)
        return "slept"

    engine.register("slow", slow, narrate_end)
    engine.register("diamond", diamond, narrate_end)
    engine.register("long", long, narrate_end)


async def main(url: str, lease_seconds: float, renew_seconds: float, backend: Backend) -> None:
    settings = WorkerSettings(
        lease_seconds=lease_seconds, renew_seconds=renew_seconds, look_seconds=0.1, runs_max=6, claim_max=3,
        recoveries_max=50,
    )  # fmt: skip
    database = await Database.open(url, max_size=8)
    async with backend.engine(database, settings) as engine:
        effectful(engine, database)
        print("working", flush=True)
        await engine.work()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(
        main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), Backend.from_json((sys.argv[4:] or ["null"])[0]))
    )
