"""Any plan, any failure, any moment of a cancel or a crash: money and undo stay consistent, and every run ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from agentnexus.core.clock import SeededEntropy, SystemClock
from agentnexus.core.errors import AgentRefused, SellerFailed
from agentnexus.core.events import Event
from agentnexus.core.money import Money, total
from agentnexus.core.offers import Capability, Need
from agentnexus.core.payments import ReceiptStatus
from agentnexus.platform.blobs import MemoryBlobs
from agentnexus.workflows import rollback, telling
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.memory import MemoryJournal
from agentnexus.workflows.engine.port import NewRun, Retry, RunState
from agentnexus.workflows.engine.worker import Worker, WorkerSettings
from agentnexus.workflows.model import Plan, PlanStep, StepRetry, Undo, Workflow, WorkflowRequest, WorkflowStatus
from agentnexus.workflows.run import BODY
from agentnexus.workflows.worker import WorkflowRoom, open_room

from .catalogue import USDC, offer_of
from .scripted import ScriptedBudgets, ScriptedFunds, ScriptedHirer

WF = "wf_saga"
PRICE = USDC.parse("0.01")
PREPAID = USDC.parse("10")
SETTINGS = WorkerSettings(look_seconds=0.004, suspend_after_seconds=0.02, lease_seconds=60, recoveries_max=50)
TWICE = StepRetry(attempts=2, first_delay_seconds=0, longest_delay_seconds=0)


@pytest.fixture(autouse=True, scope="module")
def at_once() -> object:
    patch = pytest.MonkeyPatch()
    patch.setattr(telling, "UNKNOWN_PAUSE_SECONDS", 0.0)
    patch.setattr(rollback, "CLEANING", Retry(attempts=3, first_delay_seconds=0, longest_delay_seconds=0))
    yield
    patch.undo()


@dataclass(frozen=True)
class Way:
    """How one step behaves: `waits` are earlier steps, `turns` how long it takes, `fate` how it ends.

    "flaky" goes well the second time. "overtaken" is done and paid when a cancel comes before its answer does.
    """

    waits: tuple[int, ...]
    undo: bool
    turns: int
    fate: str


@dataclass(frozen=True)
class Blow:
    """What happens to the run once it has told so many events."""

    after: int
    what: str  # "cancel" or "crash"


@st.composite
def sagas(draw: st.DrawFn) -> tuple[list[Way], list[Blow]]:
    count = draw(st.integers(1, 6))
    ways = [
        Way(
            waits=tuple(sorted(draw(st.sets(st.integers(0, number - 1), max_size=2)))) if number else (),
            undo=draw(st.booleans()),
            turns=draw(st.integers(0, 3)),
            fate=draw(st.sampled_from(["well", "well", "well", "flaky", "refused", "undo refused", "overtaken"])),
        )
        for number in range(count)
    ]
    blows = draw(st.lists(st.builds(Blow, st.integers(1, 30), st.sampled_from(["cancel", "crash"])), max_size=3))
    return ways, sorted(blows, key=lambda blow: blow.after)


def plan_of(ways: Sequence[Way]) -> Plan:
    steps = tuple(
        PlanStep(
            id=f"s{number}", title=f"s{number}", capability=f"do.c{number}", retry=TWICE, input={"n": number},
            depends_on=tuple(f"s{wait}" for wait in way.waits),
            undo=Undo(capability=f"undo.c{number}", input={"of": f"s{number}"}) if way.undo else None,
        )
        for number, way in enumerate(ways)
    )  # fmt: skip
    return Plan(planner="hand", steps=steps)


@dataclass
class World:
    """Sellers that follow the ways, and what they did, in order."""

    ways: Sequence[Way]
    hirer: ScriptedHirer = field(init=False)
    budgets: ScriptedBudgets = field(default_factory=ScriptedBudgets)
    funds: ScriptedFunds = field(default_factory=ScriptedFunds)
    done: list[str] = field(default_factory=list)
    engine: DurableEngine | None = None

    def __post_init__(self) -> None:
        self.funds.balances["ann"] = PREPAID
        names = [f"{verb}.c{number}" for number in range(len(self.ways)) for verb in ("do", "undo")]
        self.hirer = ScriptedHirer([offer_of(Capability(name=name), "0.01") for name in names])
        for number, way in enumerate(self.ways):
            self.hirer.acts[f"do.c{number}"] = self.act(way, f"s{number}")
            self.hirer.acts[f"undo.c{number}"] = self.act_undo(way, f"s{number}")
            if way.fate == "overtaken":
                self.hirer.ways_back[f"do.c{number}"] = self.overtake

    def act(self, way: Way, name: str):
        async def do(_need: Need, key: str) -> object:
            for _ in range(way.turns):
                await asyncio.sleep(0)
            if way.fate == "refused":
                raise AgentRefused("no")
            if way.fate == "flaky" and key.endswith(":1"):
                raise SellerFailed("not the first time")
            self.done.append(name)
            return {"name": name}

        return do

    async def overtake(self) -> None:
        assert self.engine is not None
        await self.engine.cancel(WF, "in the last moment")
        await asyncio.Event().wait()

    def act_undo(self, way: Way, name: str):
        async def undo(_need: Need, _key: str) -> object:
            await asyncio.sleep(0)
            if way.fate == "undo refused":
                raise AgentRefused("what is done is done")
            self.done.append(f"undo {name}")
            return {}

        return undo

    def room(self, journal: MemoryJournal) -> WorkflowRoom:
        self.engine = DurableEngine(journal, settings=SETTINGS, entropy=SeededEntropy(1))
        return open_room(
            self.engine, hirer=self.hirer, budgets=self.budgets, blobs=MemoryBlobs(), clock=SystemClock(),
            funds=self.funds,
        )  # fmt: skip

    def settled(self) -> Counter[str]:
        """Payments that went through, by hire."""
        receipts = {key: some for key, some in self.hirer.written.items() if some}
        return Counter(
            {key: sum(receipt.status is ReceiptStatus.SETTLED for receipt in some) for key, some in receipts.items()}
        )


async def crash(worker: Worker, task: asyncio.Task[None]) -> None:
    """The process is gone: nothing it had in its hands is written."""
    for execution in list(worker._executions.values()):
        execution.drop()
    task.cancel()
    await asyncio.wait([task])


async def happen(world: World, blows: Sequence[Blow]) -> tuple[Workflow, list[Event]]:
    """The saga with its blows; events as a client saw them."""
    journal = MemoryJournal()
    room = world.room(journal)
    assert isinstance(room.engine, DurableEngine)
    request = WorkflowRequest(
        user_id="ann", text="x", max_cost=USDC.parse("1"), auto_approve=True, plan=plan_of(world.ways)
    )
    await room.engine.start(NewRun(WF, BODY, request.model_dump(mode="json"), tenant="ann"))
    worker = room.engine.worker()
    task = asyncio.create_task(worker.run())
    seen: list[Event] = []
    left = list(blows)
    async for event in room.engine.events(WF):
        seen.append(event)
        while left and left[0].after <= len(seen):
            blow = left.pop(0)
            if blow.what == "cancel":
                await room.engine.cancel(WF, "enough")
            else:
                await crash(worker, task)
                room = world.room(journal)  # the next process
                worker = room.engine.worker()  # type: ignore[attr-defined]  # a DurableEngine
                task = asyncio.create_task(worker.run())
    done = await room.workflows.get(WF, "ann")
    task.cancel()
    await asyncio.wait([task])
    return done, seen


def check(world: World, done: Workflow, seen: list[Event]) -> None:
    ways = {f"s{number}": way for number, way in enumerate(world.ways)}
    made = [name for name in world.done if not name.startswith("undo")]
    unmade = [name.removeprefix("undo ") for name in world.done if name.startswith("undo")]
    paid = world.settled()
    assert done.status.final
    assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
    # No seller works twice for one hire that was answered, and none is paid twice.
    assert max(paid.values(), default=0) <= 1
    assert len(unmade) == len(set(unmade))
    # What the workflow says it cost is what sellers have.
    assert done.cost == Money(PRICE.asset, PRICE.atomic * paid.total())
    # That, and no more, came out of the prepaid balance; nothing of it is set aside any longer.
    captured = [amount for (run, _), amount in world.funds.captured.items() if run == WF]
    assert total(captured, PRICE.asset) == done.cost
    assert (world.funds.reserved, world.funds.balances["ann"]) == ({}, PREPAID - done.cost)
    # Every payment is told as set aside once, and before it is told how it ended.
    reserved = [str(event.data["authorization"]) for event in seen if event.name.value == "payment.reserved"]
    assert len(reserved) == len(set(reserved))
    for number, event in enumerate(seen):
        if event.name.value in ("payment.settled", "payment.refunded"):
            before = [each.data["authorization"] for each in seen[:number] if each.name.value == "payment.reserved"]
            assert event.data["authorization"] in before
    # Nothing is held: every hire was answered, or its money came back.
    for key in world.hirer.calls:
        assert key in world.hirer.answers or world.hirer.written[key][-1].status is ReceiptStatus.REFUNDED, key
    if done.status is WorkflowStatus.COMPLETED:
        assert sorted(set(made)) == sorted(ways)
        assert unmade == []
        assert all(way.fate not in ("refused", "overtaken") for way in ways.values())
        return
    # What was completed is undone in the reverse of the order in which it was; last of all what was done at its seller
    # and not told in time.
    names = [event.name.value for event in seen]
    stop = names.index("workflow.rolling_back") if "workflow.rolling_back" in names else len(names)
    completed = [str(event.data["step"]) for event in seen[:stop] if event.name.value == "step.completed"]
    completed += [name for name in made if name not in completed]
    to_undo = [name for name in completed if ways[name].undo and ways[name].fate != "undo refused"]
    assert unmade == list(reversed(to_undo))
    # Whoever was paid gave the money back, was undone, or is named as not undone: one of them.
    left = [each.step for each in done.not_undone]
    for name in ways:
        was_paid = any(paid[key] for key in world.hirer.calls if key.startswith(f"{WF}:{name}:"))
        assert [name in unmade, name in left].count(True) == was_paid, name
    # All receipts are shown, those of undoing too.
    assert {receipt.id for receipt in done.receipts} == {r.id for some in world.hirer.written.values() for r in some}
    assert world.budgets.made == {}
    if "rolling_back" in {event.name.value.partition(".")[2] for event in seen}:
        told = next(event for event in seen if event.name.value == "workflow.rolling_back")
        assert set(told.data["not_undone"]) <= {name for name in ways if not ways[name].undo}  # type: ignore[call-overload]
    else:
        assert world.hirer.calls.total() == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sagas())
def test_money_and_undo_are_consistent_whatever_fails_whenever(saga: tuple[list[Way], list[Blow]]) -> None:
    ways, blows = saga
    world = World(ways)

    async def whole() -> tuple[Workflow, list[Event]]:
        async with asyncio.timeout(30):
            return await happen(world, blows)

    done, seen = asyncio.run(whole())
    note(f"{ways} {blows} {[(event.name.value, event.data.get('step')) for event in seen]} {world.done}")
    check(world, done, seen)
    cancelled = any(blow.what == "cancel" for blow in blows) or any(way.fate == "overtaken" for way in ways)
    if not cancelled:
        refused = any(way.fate == "refused" for way in ways)
        assert done.status is (WorkflowStatus.FAILED if refused else WorkflowStatus.COMPLETED)


@pytest.mark.parametrize("state", ["queued", "claimed", "between steps", "in a step", "in compensation"])
def test_a_cancel_is_heard_in_every_state(state: str) -> None:
    """The moments by name; the property above finds those that have none."""
    ways = [
        Way((), undo=True, turns=1, fate="well"),
        Way((0,), undo=True, turns=3, fate="well"),
        Way((1,), undo=False, turns=3, fate="refused" if state == "in compensation" else "well"),
    ]
    after = {"queued": 0, "claimed": 2, "between steps": 7, "in a step": 9, "in compensation": 16}[state]
    world = World(ways)

    async def whole() -> tuple[Workflow, list[Event]]:
        async with asyncio.timeout(30):
            return await happen(world, [Blow(after, "cancel")])

    done, seen = asyncio.run(whole())
    check(world, done, seen)
    expected = (
        {WorkflowStatus.CANCELLED, WorkflowStatus.FAILED} if state == "in compensation" else {WorkflowStatus.CANCELLED}
    )
    assert done.status in expected
    assert RunState(done.status.value).final
