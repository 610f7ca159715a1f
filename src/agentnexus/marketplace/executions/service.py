"""Runs listed agents: once per key, leased so that another process goes on after a crash, with every event kept."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import cast

from agentnexus.core.errors import (
    AgentFailed,
    InvalidInput,
    NexusError,
    Unavailable,
)
from agentnexus.core.events import Event, EventName
from agentnexus.core.ports import Blobs, Clock, Ids
from agentnexus.core.updates import Artifact, Result, Update
from agentnexus.marketplace.executions.journal import RunJournal, topic
from agentnexus.marketplace.executions.model import (
    ATTEMPTS_MAX,
    ID_PATTERN,
    Execution,
    ExecutionStatus,
    backoff_seconds,
    event_of,
    input_hash,
    output_bytes,
    status_of,
    transient,
)
from agentnexus.marketplace.executions.patience import patiently
from agentnexus.marketplace.executions.store import ExecutionStore, Finish, Ticket
from agentnexus.marketplace.listings.service import Listings
from agentnexus.platform.database import Database
from agentnexus.platform.telemetry import execution_seconds, executions_total, observed
from agentnexus.platform.wakeups import Wakeups
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.port import RunRequest, Runtime
from agentnexus.runtime.supervisor import check_input
from agentnexus.sdk.manifest import Manifest

LEASE = timedelta(seconds=15)
KEPT = timedelta(days=90)
ABANDONED_AFTER = timedelta(hours=1)
POLL_SECONDS = 1.0
CANCEL_GRACE_SECONDS = 2.0
CANCELLED = Finish(ExecutionStatus.CANCELLED, error={"code": "conflict", "message": "cancelled on request"})


@dataclass(frozen=True, slots=True)
class Work:
    """One run as this process holds it. Secrets live here and in the sandbox only."""

    execution_id: str
    bundle: Bundle
    value: object
    user_id: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class Executions:
    """Runs of the agents of this node.

    Args:
        runtime: where agents run.
        bundles: prepared agents by listing id; add to it when one is published.
        blobs: where the files go that agents make.
        lease: how long a process may be silent before another takes its runs over; renewed at a quarter of it.
        secrets_of: what the operator gives an agent, beside what a caller gives its run.
    """

    def __init__(
        self,
        database: Database,
        listings: Listings,
        runtime: Runtime,
        *,
        bundles: dict[str, Bundle],
        blobs: Blobs,
        wakeups: Wakeups,
        clock: Clock,
        ids: Ids,
        lease: timedelta = LEASE,
        secrets_of: Callable[[Manifest], Mapping[str, str]] = lambda _manifest: {},
    ) -> None:
        self._secrets_of = secrets_of
        self._lease = lease
        self._store = ExecutionStore(database)
        self._listings = listings
        self._runtime = runtime
        self._bundles = bundles
        self._blobs = blobs
        self._wakeups = wakeups
        self._clock = clock
        self._ids = ids
        self._owner = ids.new("process")

    async def run(
        self,
        agent_id: str,
        value: object,
        key: str,
        *,
        user_id: str = "",
        execution_id: str = "",
        secrets: Mapping[str, str] | None = None,
    ) -> Execution:
        """Run an agent to its end, once per `key`: a repeat waits for, or returns, the same execution.

        When the caller goes away the run stops and is given back: the next call with the key runs it again. Raises
        `NotFound` (not for sale), `InvalidInput` (names the field, nothing was started), `Conflict` (the key came with
        another input, or it was cancelled), and whatever the run ended in: `AgentRefused`, `AgentTimeout`,
        `LimitExceeded`, `BadResult`, `AgentFailed`, `Unavailable`.
        """
        # Not made from the key: who knows an id may watch and cancel the run, and keys of paid runs are on the chain.
        execution_id = execution_id or self._ids.new("exe")
        if not re.fullmatch(ID_PATTERN, execution_id):
            raise InvalidInput("an execution id is exe_ and 32 hex digits", next_step="leave it out", field="id")
        bundle = await self._bundle(agent_id)
        if bundle.input_schema is not None:
            await asyncio.to_thread(check_input, bundle.input_schema, value)
        ticket = Ticket(
            id=execution_id, key=key, agent_id=agent_id, version=bundle.manifest.version, code_hash=bundle.code_hash,
            user_id=user_id, input_hash=input_hash(agent_id, value),
        )  # fmt: skip
        while True:
            execution, is_ours = await self._store.claim(ticket, self._owner, self._clock.now(), self._lease)
            if is_ours:
                work = Work(execution.id, bundle, value, user_id, secrets or {})
                with observed("run", execution.id, agent=agent_id):
                    finished = await self._work(work, execution.attempts)
                if finished is not None:
                    execution = finished
            if execution.status.final:
                execution.raise_if_failed()
                return execution
            await self._wakeups.wait(topic(execution.id), POLL_SECONDS)

    async def get(self, execution_id: str) -> Execution:
        """Raises `NotFound`."""
        return await self._store.get(execution_id)

    async def cancel(self, execution_id: str) -> Execution:
        """Ask for the end of a run, wherever it runs; a finished one stays as it is. Raises `NotFound`."""
        execution = await self._store.get(execution_id)
        if not execution.status.final:
            await self._store.ask_cancel(execution_id)
            self._wakeups.notify(_cancel_topic(execution_id))
        return await self._store.get(execution_id)

    async def close_abandoned(self, age: timedelta = ABANDONED_AFTER) -> int:
        """End runs that nobody has come back to for `age`; how many there were."""
        ended = await self._store.close_abandoned(self._clock.now(), age)
        for execution_id in ended:
            self._wakeups.notify(topic(execution_id))
        return len(ended)

    async def forget(self, age: timedelta = KEPT) -> int:
        """Forget runs that ended longer ago than `age`, with their logs and results; how many there were."""
        forgotten = 0
        while count := await self._store.forget(self._clock.now() - age):
            forgotten += count
        return forgotten

    async def logs(self, execution_id: str, after: int = 0) -> list[Event]:
        """Log events above a sequence, in order. Raises `NotFound`."""
        await self._store.get(execution_id)
        events = await self._store.events(execution_id, after)
        return [event for event in events if event.name is EventName.EXECUTION_LOG]

    async def events(self, execution_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Every event above `after`: those that happened, then live; ends after the last. Raises `NotFound`."""
        while True:
            event = self._wakeups.watch(topic(execution_id))
            execution = await self._store.get(execution_id)
            found = await self._store.events(execution_id, after)
            for each in found:
                after = each.sequence
                yield each
            if found:
                continue
            if execution.status.final:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await event.wait()

    async def _bundle(self, agent_id: str) -> Bundle:
        listing = await self._listings.for_sale(agent_id)
        bundle = self._bundles.get(agent_id)
        if bundle is None or bundle.code_hash != listing.code_hash:
            raise Unavailable(
                f"the code of {agent_id} {listing.manifest.version} is not on this machine",
                next_step="ask another node, or sell it here: put its folder into `agents` and restart",
            )
        return bundle

    async def _work(self, work: Work, attempt: int) -> Execution | None:
        """Run it under our lease; None when another process took it over."""
        last = await self._store.last_sequence(work.execution_id)
        async with RunJournal(
            self._store, self._wakeups, self._clock, execution_id=work.execution_id, owner=self._owner, last=last
        ) as journal:
            started = self._clock.monotonic()
            finish = await self._until_end(work, journal, attempt)
            if finish is None:
                return None
        # The journal is closed by now: the last event must not overtake any before it.
        duration_ms = int((self._clock.monotonic() - started) * 1000)
        return await self._finish(work, journal, finish, duration_ms)

    async def _until_end(self, work: Work, journal: RunJournal, attempt: int) -> Finish | None:
        """Attempts under a renewed lease, until one ends it, somebody cancels it, or the lease is lost."""
        runner = asyncio.create_task(self._attempts(work, journal, attempt))
        guard = asyncio.create_task(self._guard(work.execution_id))
        try:
            await asyncio.wait({runner, guard}, return_when=asyncio.FIRST_COMPLETED)
            if runner.done():
                return runner.result()
            is_lost = guard.result()
        except asyncio.CancelledError:
            # A closed connection or a stopping server: whoever asks again with the key may run it at once.
            await self._end(runner, guard, work.execution_id)
            await asyncio.shield(self._store.release(work.execution_id, self._owner, self._clock.now()))
            raise
        finally:
            await self._end(runner, guard, work.execution_id)
        return None if is_lost else CANCELLED

    async def _end(self, runner: asyncio.Task[Finish], guard: asyncio.Task[bool], execution_id: str) -> None:
        guard.cancel()
        if not runner.done():
            await self._runtime.cancel(execution_id, grace_seconds=CANCEL_GRACE_SECONDS)
            runner.cancel()
        await asyncio.gather(runner, guard, return_exceptions=True)

    async def _guard(self, execution_id: str) -> bool:
        """Renew the lease. Returns True when it is lost, False when cancelling was asked for."""
        until = self._clock.now() + self._lease
        while True:
            renewed = self._clock.now() + self._lease
            try:
                asked = await self._store.renew(execution_id, self._owner, renewed)
            except Unavailable:
                asked, renewed = False, until  # nobody can take it over before its time is up
            until = renewed
            if asked is None or self._clock.now() >= until:
                return True
            if asked:
                return False
            await self._wakeups.wait(_cancel_topic(execution_id), self._lease.total_seconds() / 4)

    async def _attempts(self, work: Work, journal: RunJournal, attempt: int) -> Finish:
        while True:
            await self._store.start(work.execution_id, self._owner, attempt, self._clock.now())
            journal.say(EventName.EXECUTION_STARTED, {"attempt": attempt, "agent": work.bundle.name})
            try:
                return await self._attempt(work, journal)
            except NexusError as error:
                if not transient(error) or attempt >= ATTEMPTS_MAX:
                    return Finish(status_of(error), error=error.to_json())
                wait_seconds = backoff_seconds(attempt)
                message = f"{error.message} Trying again in {wait_seconds:g} s."
                journal.say(EventName.EXECUTION_LOG, {"message": message, "level": "warning"})
                await asyncio.sleep(wait_seconds)
                attempt += 1

    async def _attempt(self, work: Work, journal: RunJournal) -> Finish:
        secrets = {**self._secrets_of(work.bundle.manifest), **work.secrets}
        request = RunRequest(work.execution_id, work.value, user_id=work.user_id, secrets=secrets)
        # Closing it ends every process of the run, so it is closed here and not whenever it is collected.
        updates = cast("AsyncGenerator[Update, None]", self._runtime.run(work.bundle, request))
        async with contextlib.aclosing(updates):
            async for update in updates:
                match update:
                    case Result(output=output, metering=metering):
                        return Finish(ExecutionStatus.COMPLETED, output_bytes(output), metering=dict(metering))
                    case Artifact():
                        journal.say(EventName.EXECUTION_ARTIFACT, await self._keep(update))
                    case _:
                        if (said := event_of(update)) is not None:
                            journal.say(*said)
        raise AgentFailed("the run ended without a result", next_step="try again")

    async def _keep(self, artifact: Artifact) -> dict[str, object]:
        reference = await self._blobs.put(artifact.data, artifact.media_type)
        return {
            "name": artifact.name,
            "media_type": artifact.media_type,
            "size_bytes": len(artifact.data),
            "blob": reference,
        }

    async def _finish(
        self, work: Work, journal: RunJournal, finish: Finish, duration_ms: int | None
    ) -> Execution | None:
        completed = finish.status is ExecutionStatus.COMPLETED
        name = EventName.EXECUTION_COMPLETED if completed else EventName.EXECUTION_FAILED
        data: dict[str, object] = {"status": finish.status.value, "duration_ms": duration_ms}
        if finish.error is not None:
            data["error"] = finish.error
        event = journal.next_event(name, data)
        whole = Finish(finish.status, finish.output, finish.error, finish.metering, duration_ms)
        executions_total.labels(work.bundle.name, finish.status.value).inc()
        if duration_ms is not None:
            execution_seconds.labels(work.bundle.name).observe(duration_ms / 1000)
        ended = await patiently(partial(self._store.finish, work.execution_id, self._owner, whole, event))
        self._wakeups.notify(topic(work.execution_id))
        return ended


def _cancel_topic(execution_id: str) -> str:
    return f"execution-cancel:{execution_id}"
