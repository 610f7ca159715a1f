"""A worker: claims runs, executes them side by side, renews its lease, repairs what dead workers left."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from agentnexus.core.errors import NexusError
from agentnexus.core.ports import Entropy, Ids
from agentnexus.platform.batching import GroupCommit
from agentnexus.workflows.engine.execution import Execution, Surroundings
from agentnexus.workflows.engine.journal import Claim, End, Journal, Write, encode
from agentnexus.workflows.engine.port import Body, EndNarrator, RunState

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """A dead worker's runs are free `lease_seconds` after its last renewal and seen at the next look: with the
    defaults in at most 5 + 0.9 seconds. One tenant gets at most `tenant_share` of the `runs_max` slots, so that
    somebody else's run finds one free; runs without a tenant are not counted. A run has at most `steps_max` steps and
    `parallel_max` of them at once, clean-up not counted."""

    lease_seconds: float = 5.0
    renew_seconds: float = 1.5
    look_seconds: float = 0.9
    runs_max: int = 256
    claim_max: int = 64
    tenant_share: float = 0.875
    suspend_after_seconds: float = 2.0
    recoveries_max: int = 5
    steps_max: int = 1000
    parallel_max: int = 64
    unwind_seconds: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.renew_seconds < self.lease_seconds:
            raise ValueError("a lease must be renewed before it ends")
        if not 0 < self.tenant_share <= 1:
            raise ValueError(f"a tenant's share is above 0 and at most 1, not {self.tenant_share}")

    @property
    def tenant_max(self) -> int:
        """Runs of one tenant at once."""
        return max(1, math.ceil(self.runs_max * self.tenant_share))


class Worker:
    """`run` until cancelled. After a lapsed lease it drops all it had and goes on under a new name."""

    def __init__(
        self,
        journal: Journal,
        bodies: Mapping[str, tuple[Body, EndNarrator]],
        settings: WorkerSettings,
        ids: Ids,
        entropy: Entropy,
    ) -> None:
        self._journal = journal
        self._bodies = bodies
        self._settings = settings
        self._ids = ids
        self.name = ids.new("worker")
        self._commits: GroupCommit[Write, bool] = GroupCommit(self._write)
        self._executions: dict[str, Execution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_free: list[tuple[str, int]] = []
        self._freed = asyncio.Event()
        self._moved = asyncio.Event()
        self._around = Surroundings(
            self._commits.put,
            journal.now,
            self._wait_until,
            entropy,
            settings.recoveries_max,
            settings.steps_max,
            settings.parallel_max,
        )

    @property
    def running(self) -> int:
        return len(self._executions)

    async def run(self) -> None:
        """Work until cancelled, then hand over what is unfinished."""
        await self._journal.register(self.name, self._settings.lease_seconds)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._renewing(), name="lease")
                group.create_task(self._repairing(), name="repair")
                group.create_task(self._claiming(), name="claim")
        finally:
            await self._hand_over()

    def poke(self) -> None:
        """The clock was moved by hand: look at all waits again."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def renew(self) -> None:
        """One renewal of the lease, with the news that came for the runs held under it."""
        if await self._journal.renew(self.name, self._settings.lease_seconds):
            return
        log.warning("worker lease lapsed", worker=self.name, runs=len(self._executions))
        for execution in self._executions.values():
            execution.drop()
        self._executions.clear()
        self.name = self._ids.new("worker")
        await self._journal.register(self.name, self._settings.lease_seconds)

    async def claim(self) -> int:
        """Take what fits and start it; returns how many."""
        held, sated = self._held()
        most = max((count for tenant, count in held.items() if tenant not in sated), default=0)
        free = self._settings.runs_max - len(self._executions)
        room = min(free, self._settings.claim_max, self._settings.tenant_max - most)
        if room <= 0:
            return 0
        claims = await self._journal.claim(self.name, list(self._bodies), room, sated=sated)
        for claim in claims:
            self._begin(claim)
        return len(claims)

    def _held(self) -> tuple[Mapping[str, int], list[str]]:
        """Runs by tenant, and the tenants that have their share."""
        held = Counter(execution.tenant for execution in self._executions.values() if execution.tenant)
        return held, sorted(tenant for tenant, count in held.items() if count >= self._settings.tenant_max)

    async def look(self) -> None:
        """Repair, deliver news, suspend what only waits."""
        while self._to_free:
            await self._journal.free(*self._to_free[-1])
            self._to_free.pop()
        await self._journal.repair(self._settings.claim_max)
        await self._deliver()
        for execution in list(self._executions.values()):
            if execution.suspendable(self._settings.suspend_after_seconds):
                execution.let_go(RunState.WAITING)

    # ---- loops ----

    async def _renewing(self) -> None:
        while True:
            await asyncio.sleep(self._settings.renew_seconds)
            try:
                await self.renew()
            except (OSError, NexusError) as error:
                log.warning("lease not renewed", worker=self.name, error=str(error))

    async def _repairing(self) -> None:
        while True:
            try:
                await self.look()
            except (OSError, NexusError) as error:
                log.warning("repair failed", worker=self.name, error=str(error))
            await asyncio.sleep(self._settings.look_seconds)

    async def _claiming(self) -> None:
        while True:
            self._freed.clear()
            try:
                claimed = await self.claim()
                if claimed == 0:
                    await self._deliver()
            except (OSError, NexusError) as error:
                log.warning("claim failed", worker=self.name, error=str(error))
                claimed = 0
            if len(self._executions) >= self._settings.runs_max:
                await self._freed.wait()
            elif claimed == 0 and self._held()[1]:
                await self._work_or_room()
            elif claimed == 0:
                await self._journal.wait_for_work(self._settings.look_seconds)

    async def _work_or_room(self) -> None:
        """Until there may be new work, or a run ended here: its tenant's next one may then have its place."""
        work = asyncio.ensure_future(self._journal.wait_for_work(self._settings.look_seconds))
        room = asyncio.ensure_future(self._freed.wait())
        try:
            await asyncio.wait([work, room], return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            room.cancel()

    # ---- inside ----

    def _begin(self, claim: Claim) -> None:
        body, narrate_end = self._bodies[claim.run.body]
        if claim.run.recoveries > self._settings.recoveries_max + 3:
            self._give_up(claim, narrate_end)
            return
        execution = Execution(claim, body, narrate_end, self._around)
        self._executions[execution.id] = execution
        task = asyncio.create_task(self._execute(execution), name=f"run-{execution.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _give_up(self, claim: Claim, narrate_end: EndNarrator) -> None:
        """End a run without its body, which kills every worker even while cleaning up."""
        error = NexusError(
            "given up: every worker that took this run died in it", next_step="look at the worker logs of this run"
        )
        end = End(RunState.FAILED, output=encode(None), error=error.to_json())
        drafts = tuple(narrate_end(RunState.FAILED, None, error))
        self._commits.put(Write(claim.run.id, claim.epoch, self._journal.now(), drafts=drafts, end=end))

    async def _execute(self, execution: Execution) -> None:
        try:
            await execution.run()
        except Exception as error:  # noqa: BLE001 - the edge of a task: whatever broke, the run must not stay ours
            execution.commit_failure = error
        finally:
            if execution.commit_failure is not None:
                log.warning("run not recorded", run=execution.id, error=str(execution.commit_failure))
                self._to_free.append((execution.id, execution.epoch))
            if self._executions.get(execution.id) is execution:
                del self._executions[execution.id]
            self._freed.set()

    async def _write(self, writes: Sequence[Write]) -> list[bool]:
        return await self._journal.commit(writes)

    async def _deliver(self) -> None:
        if not self._executions:
            return
        known = {run_id: execution.letters_known for run_id, execution in self._executions.items()}
        for news in await self._journal.news(self.name, known):
            execution = self._executions.get(news.run_id)
            if execution is not None:
                execution.deliver(news.letters, news.cancel_reason)

    async def _wait_until(self, due: datetime) -> None:
        """Returns at `due` or earlier: the caller looks at the clock again."""
        moved = self._moved
        seconds = (due - self._journal.now()).total_seconds()
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await moved.wait()
        except TimeoutError:
            return

    async def _hand_over(self) -> None:
        """Give unfinished runs back to the queue at once; what does not unwind in time waits for the lease to end."""
        for execution in list(self._executions.values()):
            execution.let_go(RunState.QUEUED)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._settings.unwind_seconds)
        await self._commits.flush()
        await self._journal.retire(self.name)
