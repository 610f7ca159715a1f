"""One run being executed by one worker: replay of what is recorded, live execution of the rest.

The journal decides what is true. A commit that comes back fenced means another worker owns the run now, so this
execution falls silent at once: its body is cancelled and it writes nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

from agentnexus.core.canonical import Json
from agentnexus.core.errors import AgentTimeout, Cancelled, InvalidInput, LimitExceeded, NexusError, error_from_json
from agentnexus.core.ports import Entropy
from agentnexus.workflows.engine.failures import failure_of
from agentnexus.workflows.engine.journal import Claim, End, Letter, StepRow, Write, decode, encode
from agentnexus.workflows.engine.port import (
    ONCE,
    Body,
    Draft,
    EndNarrator,
    Narrator,
    Phase,
    Retry,
    RunCancelled,
    RunState,
    Signal,
    StepFunction,
    Transition,
    step_idempotency_key,
)

MOMENT = timedelta(microseconds=1)
RECEIVED = 0  # the attempt number of rows that record which signal a `receive` took


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an execution gets from its worker.

    `commit` gives a future of "was it written"; `now` is the journal's time; `wait_until` returns once that time came.
    """

    commit: Callable[[Write], asyncio.Future[bool]]
    now: Callable[[], datetime]
    wait_until: Callable[[datetime], Awaitable[None]]
    entropy: Entropy
    recoveries_max: int
    steps_max: int
    parallel_max: int


@dataclass(slots=True)
class LiveStep:
    """The `StepContext` of one attempt."""

    execution: Execution
    key: str
    attempt: int

    @property
    def run_id(self) -> str:
        return self.execution.id

    @property
    def idempotency_key(self) -> str:
        return step_idempotency_key(self.run_id, self.key, self.attempt)

    def emit(self, draft: Draft) -> None:
        self.execution.put(drafts=(draft,))


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The arguments of one `Run.step` call."""

    key: str
    function: StepFunction
    retry: Retry
    narrate: Narrator | None
    timeout_seconds: float | None
    shielded: bool


class Execution:
    """Implements `Run` for the body and the worker's side of it (`run`, `deliver`, `suspend`, `drop`)."""

    def __init__(self, claim: Claim, body: Body, narrate_end: EndNarrator, surroundings: Surroundings) -> None:
        self.id = claim.run.id
        self.tenant = claim.run.tenant
        self.epoch = claim.epoch
        self.commit_failure: Exception | None = None
        self.letters_known = max((letter.position for letter in claim.letters), default=0)
        self._input = claim.run.input
        self._body = body
        self._narrate_end = narrate_end
        self._around = surroundings
        self._steps: dict[str, StepRow] = dict(claim.steps)
        self._last_end = max((row.ended_at for row in claim.steps.values() if row.ended_at), default=None)
        self._timers: dict[str, datetime] = dict(claim.timers)
        self._letters: list[Letter] = list(claim.letters)
        self._taken: set[int] = set()
        self._used: set[str] = set()
        self._cancel_reason = claim.cancel_reason
        self._deadline: datetime | None = None
        self._limit_seconds = 0.0
        self._alarm: asyncio.Task[None] | None = None
        self._steps_left = surroundings.steps_max
        self._parallel = asyncio.Semaphore(surroundings.parallel_max)
        self._exhausted = claim.run.recoveries > surroundings.recoveries_max
        self._working = 0
        self._live: set[asyncio.Task[Json]] = set()
        self._waits: dict[asyncio.Future[None], datetime | None] = {}
        self._let_go: RunState | None = None
        self._due: datetime | None = None
        self._lost = False
        self._task: asyncio.Task[Json] | None = None
        self.idle_since = asyncio.get_running_loop().time()
        self._take_recorded_letters()

    # ---- the worker's side ----

    async def run(self) -> None:
        """Execute until the run ends, is suspended, handed back, or lost to another worker."""
        self._task = asyncio.create_task(self._call_body(), name=f"body-{self.id}")
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self.let_go(RunState.QUEUED)
            await asyncio.wait([self._task])
            await self._conclude(self._task)
            raise
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
        await self._conclude(self._task)

    async def _conclude(self, task: asyncio.Task[Json]) -> None:
        if task.cancelled():
            error: BaseException | None = asyncio.CancelledError()
        else:
            error = task.exception()
        if self._lost:
            return
        if error is None:
            await self._complete(task.result())
        elif self._let_go is not None:
            end = End(self._let_go, available_at=self._due, signals_seen=self.letters_known)
            await self._settled(self.put(end=end))
        else:
            await self._end_badly(_leaf(error))

    async def _complete(self, output: Json) -> None:
        try:
            encode(output)
        except InvalidInput as wrong:
            await self._end(RunState.FAILED, None, wrong)
        else:
            await self._end(RunState.COMPLETED, output, None)

    def deliver(self, letters: Sequence[Letter], cancel_reason: str | None) -> None:
        """News from outside: signals and a cancel, which reaches the running steps."""
        for letter in letters:
            if letter.position > self.letters_known:
                self._letters.append(letter)
                self.letters_known = letter.position
        if cancel_reason is not None and self._cancel_reason is None:
            self._cancel_reason = cancel_reason
            self._stop_steps()
        self._wake()

    def suspendable(self, idle_seconds: float) -> bool:
        """Only waits are left, and nothing moved for that long."""
        quiet = asyncio.get_running_loop().time() - self.idle_since
        return self._working == 0 and bool(self._waits) and quiet >= idle_seconds and self._cancel_reason is None

    def let_go(self, state: RunState) -> None:
        """Unwind the body and give the run back: `waiting` until its next due time, or `queued` for anybody."""
        self._let_go = state
        if state is RunState.WAITING:
            dues = [*self._waits.values(), self._deadline]
            self._due = min((due for due in dues if due is not None), default=None)
        if self._task is not None:
            self._task.cancel()

    def drop(self) -> None:
        """The run is somebody else's: stop without a trace."""
        self._lost = True
        if self._task is not None:
            self._task.cancel()

    def put(
        self,
        *,
        steps: tuple[StepRow, ...] = (),
        timers: tuple[tuple[str, datetime], ...] = (),
        drafts: tuple[Draft, ...] = (),
        end: End | None = None,
    ) -> asyncio.Future[bool]:
        """Queue a commit; nothing is queued once the run is lost."""
        if self._lost:
            gone: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            gone.set_result(False)
            return gone
        return self._around.commit(
            Write(self.id, self.epoch, self._around.now(), steps=steps, timers=timers, drafts=drafts, end=end)
        )

    # ---- the body's side (the `Run` protocol) ----

    async def step(
        self,
        key: str,
        function: StepFunction,
        *,
        retry: Retry = ONCE,
        narrate: Narrator | None = None,
        timeout_seconds: float | None = None,
        shielded: bool = False,
    ) -> Json:
        self._use(key)
        self._count(shielded=shielded)
        row = self._steps.get(key)
        if row is not None and row.phase is Phase.COMPLETED:
            return decode(row.output)
        if row is not None and row.phase is Phase.FAILED:
            raise error_from_json(row.error or {})
        attempt = 1 if row is None else row.attempt
        if row is not None and row.phase is Phase.RETRYING:
            await self._wait_until(row.retry_at or self._around.now(), shielded=shielded)
            attempt += 1
        plan = StepPlan(key, function, retry, narrate, timeout_seconds, shielded)
        while True:
            async with nullcontext() if shielded else self._parallel:
                result = await self._attempt(plan, attempt)
            if result.phase is Phase.COMPLETED:
                return decode(result.output)
            if result.phase is Phase.FAILED:
                raise error_from_json(result.error or {})
            await self._wait_until(result.retry_at or self._around.now(), shielded=shielded)
            attempt += 1

    def recorded(self, key: str) -> Transition | None:
        row = self._steps.get(key)
        if row is None:
            return None
        error = error_from_json(row.error) if row.error is not None else None
        return Transition(key, row.phase, row.attempt, decode(row.output), error, ended_at=row.ended_at)

    async def mark(self, key: str, *drafts: Draft) -> None:
        self._use(key)
        if key not in self._steps:
            now = self._around.now()
            await self._record(StepRow(key, Phase.COMPLETED, 1, now, now, output="null"), drafts)

    async def sleep(self, key: str, seconds: float) -> None:
        self._use(key)
        await self._wait_until(await self._timer(key, seconds), shielded=False)

    async def limit_time(self, key: str, seconds: float) -> datetime:
        self._use(key)
        due = await self._timer(key, seconds)
        if self._deadline is None or due < self._deadline:
            self._deadline, self._limit_seconds = due, seconds
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = asyncio.create_task(self._expire(due), name=f"deadline-{self.id}")
        return due

    async def receive(self, key: str, name: str, timeout_seconds: float | None = None) -> Signal | None:
        self._use(key)
        row = self._steps.get(key)
        if row is not None:
            return _signal_of(decode(row.output))
        due = None if timeout_seconds is None else await self._timer(key, timeout_seconds)
        letter = await self._next_letter(name, due)
        found: Json = None if letter is None else {"position": letter.position, "name": name, "payload": letter.payload}
        now = self._around.now()
        await self._record(StepRow(key, Phase.COMPLETED, RECEIVED, now, now, output=encode(found)), ())
        return _signal_of(found)

    # ---- inside ----

    async def _expire(self, due: datetime) -> None:
        while not self._expired():
            await self._around.wait_until(due)
        self._stop_steps()
        self._wake()

    def _expired(self) -> bool:
        return self._deadline is not None and self._around.now() >= self._deadline

    def _stop_steps(self) -> None:
        for task in self._live:
            task.cancel()

    async def _call_body(self) -> Json:
        return await self._body(self, self._input)

    def _use(self, key: str) -> None:
        if key in self._used:
            raise ValueError(f"step key {key!r} is used twice in one run")
        self._used.add(key)

    def _count(self, *, shielded: bool) -> None:
        """Clean-up is never too much."""
        if shielded:
            return
        if self._steps_left == 0:
            raise LimitExceeded(
                f"a run has at most {self._around.steps_max} steps", next_step="split the work into several runs"
            )
        self._steps_left -= 1

    def _check(self, *, shielded: bool) -> None:
        if self._let_go is not None or self._lost:
            raise asyncio.CancelledError
        if shielded:
            return
        if self._cancel_reason is not None:
            raise RunCancelled(self._cancel_reason)
        if self._expired():
            raise AgentTimeout(
                f"it did not finish within {self._limit_seconds:g} seconds",
                next_step="allow more time, or split the task",
            )
        if self._exhausted:
            raise NexusError(
                "given up: every worker that took this run died in it", next_step="look at the worker logs of this run"
            )

    async def _attempt(self, plan: StepPlan, attempt: int) -> StepRow:
        self._check(shielded=plan.shielded)
        key, narrate = plan.key, plan.narrate
        before = self._steps.get(key)
        resumed = before is not None and before.phase is Phase.STARTED
        started_at = before.started_at if before is not None and resumed else self._around.now()
        if narrate is not None and not resumed:
            row = StepRow(key, Phase.STARTED, attempt, started_at)
            self._steps[key] = row
            self.put(steps=(row,), drafts=tuple(narrate(Transition(key, Phase.STARTED, attempt))))
        try:
            output = encode(await self._call(LiveStep(self, key, attempt), plan))
        except RunCancelled:
            raise
        except Exception as error:  # noqa: BLE001 - a step may fail with anything; its row records it
            row = self._failed_row(key, attempt, started_at, failure_of(error), plan.retry)
        else:
            row = StepRow(key, Phase.COMPLETED, attempt, started_at, self._end_time(), output=output)
        await self._record(row, () if narrate is None else tuple(narrate(self._transition(row))))
        return row

    async def _call(self, context: LiveStep, plan: StepPlan) -> Json:
        """The function in a task of its own, so that a cancelled run stops it and nothing else."""
        task: asyncio.Task[Json] = asyncio.create_task(_called(plan.function, context), name=f"step-{plan.key}")
        if not plan.shielded:
            self._live.add(task)
        self._working += 1
        try:
            async with asyncio.timeout(plan.timeout_seconds) as deadline:
                return await task
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise AgentTimeout(
                f"the step did not finish within {plan.timeout_seconds:g} seconds", next_step="allow more time"
            ) from error
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and not this.cancelling():  # the step was stopped, not its caller
                self._check(shielded=plan.shielded)
            raise
        finally:
            self._live.discard(task)
            self._working -= 1
            self.idle_since = asyncio.get_running_loop().time()

    def _failed_row(self, key: str, attempt: int, started_at: datetime, error: NexusError, retry: Retry) -> StepRow:
        now = self._around.now()
        again = error.retryable and attempt < retry.attempts
        pause = retry.delay_seconds(attempt, self._around.entropy.uniform()) if again else 0.0
        return StepRow(
            key,
            Phase.RETRYING if again else Phase.FAILED,
            attempt,
            started_at,
            now,
            error=error.to_json(),
            retry_at=now + timedelta(seconds=pause) if again else None,
        )

    def _end_time(self) -> datetime:
        """Of what completes now, later than all before: their order outlives equal moments and the clocks of hosts."""
        now = self._around.now()
        if self._last_end is not None and now <= self._last_end:
            now = self._last_end + MOMENT
        self._last_end = now
        return now

    def _transition(self, row: StepRow) -> Transition:
        ended = row.ended_at or row.started_at
        return Transition(
            row.key,
            row.phase,
            row.attempt,
            decode(row.output),
            error_from_json(row.error) if row.error is not None else None,
            duration_ms=int((ended - row.started_at).total_seconds() * 1000),
            retry_in_seconds=(row.retry_at - ended).total_seconds() if row.retry_at else 0.0,
        )

    async def _record(self, row: StepRow, drafts: tuple[Draft, ...]) -> None:
        """Commit even while being cancelled: what happened is recorded, here too, before the body learns of it."""
        commit = self.put(steps=(row,), drafts=drafts)
        try:
            await self._settled(commit)
        finally:
            if commit.done() and commit.exception() is None and commit.result():
                self._steps[row.key] = row
        self.idle_since = asyncio.get_running_loop().time()

    async def _settled(self, commit: asyncio.Future[bool]) -> None:
        cancelled: asyncio.CancelledError | None = None
        while not commit.done():
            try:
                await asyncio.shield(commit)
            except asyncio.CancelledError as stop:
                cancelled = stop
            except Exception as error:  # noqa: BLE001 - written or not, nobody knows: the journal must be read again
                self.commit_failure = error
        if self.commit_failure is not None or not commit.result():
            self.drop()
            raise asyncio.CancelledError
        if cancelled is not None:
            raise cancelled

    async def _timer(self, key: str, seconds: float) -> datetime:
        due = self._timers.get(key)
        if due is None:
            due = self._around.now() + timedelta(seconds=seconds)
            await self._settled(self.put(timers=((key, due),)))
            self._timers[key] = due
        return due

    async def _wait_until(self, due: datetime, *, shielded: bool) -> None:
        while self._around.now() < due:
            await self._pause(due, shielded=shielded)
        self._check(shielded=shielded)

    async def _next_letter(self, name: str, due: datetime | None) -> Letter | None:
        while True:
            for letter in self._letters:
                if letter.name == name and letter.position not in self._taken:
                    self._taken.add(letter.position)
                    return letter
            self._check(shielded=False)
            if due is not None and self._around.now() >= due:
                return None
            await self._pause(due, shielded=False)

    async def _pause(self, due: datetime | None, *, shielded: bool) -> None:
        """Until woken or `due`, as a wait that may suspend the run."""
        self._check(shielded=shielded)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waits[woken] = due
        try:
            if due is None:
                await woken
                return
            alarm = asyncio.ensure_future(self._around.wait_until(due))
            try:
                await asyncio.wait([woken, alarm], return_when=asyncio.FIRST_COMPLETED)
            finally:
                alarm.cancel()
        finally:
            del self._waits[woken]

    def _wake(self) -> None:
        self.idle_since = asyncio.get_running_loop().time()
        for woken in self._waits:
            if not woken.done():
                woken.set_result(None)

    def _take_recorded_letters(self) -> None:
        for row in self._steps.values():
            value = decode(row.output) if row.attempt == RECEIVED else None
            position = value.get("position") if isinstance(value, Mapping) else None
            if isinstance(position, int):
                self._taken.add(position)

    async def _end_badly(self, error: BaseException) -> None:
        if isinstance(error, RunCancelled):
            await self._end(RunState.CANCELLED, None, Cancelled(str(error)))
        elif isinstance(error, Exception):
            await self._end(RunState.FAILED, None, failure_of(error))
        else:
            await self._end(RunState.FAILED, None, NexusError(f"the body stopped with {type(error).__name__}"))

    async def _end(self, state: RunState, output: Json, error: NexusError | None) -> None:
        drafts = tuple(self._narrate_end(state, output, error))
        end = End(state, output=encode(output), error=None if error is None else error.to_json())
        await self._settled(self.put(drafts=drafts, end=end))


def _leaf(error: BaseException) -> BaseException:
    """The first real error inside the groups that task groups raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _called(function: StepFunction, context: LiveStep) -> Json:
    """Called only once the task runs: one that is cancelled before leaves nothing that nobody awaits."""
    return await function(context)


def _signal_of(found: Json) -> Signal | None:
    if not isinstance(found, Mapping):
        return None
    return Signal(str(found["name"]), found["payload"])
