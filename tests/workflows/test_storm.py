"""kill -9 over 500 paid workflows of many users, on each durable backend: every one ends, every payment happens once,
every event is told once and in order.

Half the users pay from prepaid accounts, some plans are undone, and some workflows are cancelled on the way.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from agentnexus.escrow.service import Escrow
from agentnexus.platform.database import Database
from agentnexus.workflows.engine.port import NewRun
from agentnexus.workflows.engine.restate.server import RestateServer
from agentnexus.workflows.model import Plan, StepStatus, Undo, Workflow, WorkflowRequest, WorkflowStatus
from agentnexus.workflows.run import BODY
from agentnexus.workflows.worker import WorkflowRoom
from tests.escrow.conftest import ScriptedTreasury
from tests.hiring.support import Economy, usd

from .backends import Backend
from .paid_worker import BAD, GOOD, economy_on, escrow_on, funds_on, room_on, step
from .test_chaos import ROOT
from .test_paid import paid_once

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
ENDS = ("workflow.completed", "workflow.failed", "workflow.cancelled")
COUNT, USERS, WORKERS, KILLS, SLOTS = 500, 7, 3, 8, 12
PREPAID = [f"user-{number}" for number in range(0, USERS, 2)]
PREPAID_USDC = "20"
SHORT = Plan(planner="hand", steps=(step("a", "text.echo"),), output={"$step": "a", "path": "echo.name"})


UNDO = Undo(capability="text.lock", input={"name": "back", "from": []})
UNDONE = Plan(
    planner="hand",
    steps=(step("a", "text.echo").model_copy(update={"undo": UNDO}), step("f", "text.fail", "a")),
)
FAILS = (BAD, UNDONE)


def is_cancelled(number: int) -> bool:
    return number % 10 == 5


@dataclass
class Storm:
    """Worker processes over one economy, and a room to watch them from that works on nothing itself."""

    backend: Backend
    url: str
    room: WorkflowRoom
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)
    kills: int = 0

    async def spawn(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.workflows.paid_worker", self.url, self.backend.to_json(), str(SLOTS),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"
        self.workers.append(process)

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        self.workers.remove(process)
        process.kill()
        await process.communicate()
        self.kills += 1

    async def ended(self) -> int:
        counts = await self.room.engine.counts()
        return sum(count for state, count in counts.items() if state.final)


@pytest.fixture
async def economy(database: Database) -> AsyncIterator[Economy]:
    built = await economy_on(database)
    yield built
    await built.close()


def plan_of(number: int) -> Plan:
    if number % 10 == 0:
        return BAD
    if number % 10 == 2:
        return UNDONE
    return GOOD if number % 10 == 1 else SHORT


async def begin(room: WorkflowRoom) -> dict[str, Plan]:
    plans = {f"wf_{number:03}": plan_of(number) for number in range(COUNT)}

    async def start(number: int, run_id: str, plan: Plan) -> None:
        user = f"user-{number % USERS}"
        request = WorkflowRequest(user_id=user, text=run_id, max_cost=usd("1"), auto_approve=True, plan=plan)
        await room.engine.start(NewRun(run_id, BODY, request.model_dump(mode="json"), tenant=user))

    await asyncio.gather(*(start(number, run_id, plan) for number, (run_id, plan) in enumerate(plans.items())))
    return plans


async def rage(storm: Storm, halfway: Callable[[], Awaitable[None]]) -> None:
    """Kill a worker after every so many ends, and at half time do what else can happen."""
    chance = random.Random(23)
    marks = sorted(chance.sample(range(10, COUNT - 40), KILLS))
    victims = [f"wf_{number:03}" for number in range(COUNT) if is_cancelled(number)]
    chance.shuffle(victims)
    async with asyncio.TaskGroup() as spawning:
        for number, mark in enumerate(marks):

            async def reached(mark: int = mark) -> bool:
                return await storm.ended() >= mark

            async with asyncio.timeout(200):
                while not await reached():
                    await asyncio.sleep(0.05)
            for victim in [victims.pop() for _ in range(len(victims) // (KILLS - number))]:
                await storm.room.engine.cancel(victim, "in the storm")
            await storm.kill(chance.choice(storm.workers))
            replacement = spawning.create_task(storm.spawn())
            if not storm.workers:
                await replacement
            if number == KILLS // 2:
                await halfway()


async def check(storm: Storm, economy: Economy, escrow: Escrow, plans: dict[str, Plan]) -> None:
    many = asyncio.Semaphore(32)

    async def one(run_id: str) -> Workflow:
        async with many:
            await storm.room.engine.result(run_id)
            done = await storm.room.workflows.get(run_id, None)
            events = [event async for event in storm.room.engine.events(run_id)]
        wanted = {WorkflowStatus.FAILED if plans[run_id] in FAILS else WorkflowStatus.COMPLETED}
        if is_cancelled(int(run_id.removeprefix("wf_"))):
            wanted.add(WorkflowStatus.CANCELLED)
        assert done.status in wanted, (run_id, done.error)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert sum(event.name.value in ENDS for event in events) == 1
        finished = [str(event.data["step"]) for event in events if event.name.value == "step.completed"]
        assert len(finished) == len(set(finished))
        if plans[run_id] is UNDONE and done.status is WorkflowStatus.FAILED:
            assert [state.status for state in done.steps] == [StepStatus.COMPENSATED, StepStatus.FAILED]
        reserved = [event.data.get("authorization") for event in events if event.name.value == "payment.reserved"]
        assert len(reserved) == len(set(reserved))
        return done

    async with asyncio.timeout(120):
        ended = await asyncio.gather(*(one(run_id) for run_id in plans))
    assert {done.status for done in ended} > {WorkflowStatus.FAILED, WorkflowStatus.COMPLETED}
    await paid_once(economy, ended)
    await charged_once(escrow, ended)
    await economy.assert_sound()


async def charged_once(escrow: Escrow, ended: Sequence[Workflow]) -> None:
    """Every prepaid account lost what its workflows cost, and nothing of it is set aside any longer."""
    asset = escrow.treasury.assets[0]
    for user in PREPAID:
        cost = sum(done.cost.atomic for done in ended if done.user_id == user)
        balance = await escrow.balance(user, asset)
        assert cost > 0
        assert (balance.reserved.atomic, balance.available.atomic) == (0, asset.parse(PREPAID_USDC).atomic - cost)


async def fill(escrow: Escrow) -> None:
    treasury = escrow.treasury
    assert isinstance(treasury, ScriptedTreasury)
    for user in PREPAID:
        wallet = user[-1] * 43
        await escrow.create(user, wallet)
        amount = treasury.assets[0].parse(PREPAID_USDC)
        await escrow.deposit(user, treasury.arrives(f"filled-{user}", amount, wallet))


async def test_five_hundred_paid_workflows_survive_workers_that_are_killed(
    server: RestateServer | None, economy: Economy, database_url: str
) -> None:
    backend = Backend.on(server)

    async def halfway() -> None:
        """Restate dies as well; PostgreSQL's own crashes are the ledger's tests."""
        if server is not None:
            await server.kill()
            await server.start()

    async with backend.engine(economy.database, works=False) as engine:
        escrow = escrow_on(economy)
        await fill(escrow)
        storm = Storm(backend, database_url, room_on(engine, economy, funds_on(economy, escrow)))
        try:
            await asyncio.gather(*(storm.spawn() for _ in range(WORKERS)))
            plans = await begin(storm.room)
            await rage(storm, halfway)
            await check(storm, economy, escrow, plans)
        finally:
            for worker in list(storm.workers):
                await storm.kill(worker)
    assert storm.kills >= KILLS
