"""The virtual objects that hold runs in Restate. Handlers are short, one at a time per run, and touch only state.

Keys are ``namespace/id``. State of a run: ``head``, ``input``, ``output``, ``step <key>``, ``event <sequence>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zlib import crc32

import restate
from restate import InvocationRetryPolicy, ObjectContext, ObjectSharedContext, VirtualObject

from agentnexus.workflows.engine.port import Phase, RunState
from agentnexus.workflows.engine.restate.shapes import (
    Answer,
    Bell,
    Change,
    Ended,
    Ending,
    Entry,
    Freeing,
    Head,
    Keys,
    Look,
    Moment,
    Opening,
    Order,
    Page,
    Post,
    Posting,
    Pulse,
    Step,
    Taken,
    Taking,
    Tale,
    Tally,
    Telling,
    Told,
    Waiting,
    in_order,
    merged,
)

SHARDS = 8
RECENT_MAX = 50  # of each shard
PAGE_SIZE = 50
PATIENCE = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=50), exponentiation_factor=2.0, max_interval=timedelta(seconds=1),
    max_attempts=1_000_000,
)  # fmt: skip
# A handler takes milliseconds. One that says nothing for so long is on a frozen worker: it is repeated on another.
SHORT, SHORTER = timedelta(seconds=2), timedelta(seconds=1)
NO_TIME = timedelta(0)


def _object(name: str, *, preload: bool = True) -> VirtualObject:
    return VirtualObject(
        name, inactivity_timeout=SHORT, abort_timeout=SHORTER, journal_retention=NO_TIME, state_preload=preload,
        invocation_retry_policy=PATIENCE,
    )  # fmt: skip


runs = _object("NexusRun")
workers = _object("NexusWorker")
tenants = _object("NexusTenant", preload=False)
tallies = _object("NexusTally")
bells = restate.Service(
    "NexusBell", inactivity_timeout=SHORT, abort_timeout=SHORTER, journal_retention=NO_TIME,
    invocation_retry_policy=PATIENCE,
)  # fmt: skip
DRIVE, TELL = "NexusDrive", "NexusTell"


async def _head(ctx: ObjectContext | ObjectSharedContext) -> Head | None:
    return await ctx.get("head", type_hint=Head)


def _keep(ctx: ObjectContext, head: Head) -> None:
    """Write the head, and ring the bells of those who wait for what it says now."""
    ringing = [bell for bell in head.bells if head.rings(bell)]
    head.bells = [bell for bell in head.bells if not head.rings(bell)]
    for bell in ringing:
        ctx.resolve_awakeable(bell.awakeable, head.sequence)
    ctx.set("head", head)


def _tell(ctx: ObjectContext, head: Head, told: Sequence[Told], *, heard: bool) -> None:
    if heard and told:
        run_id = ctx.key().partition("/")[2]
        telling = Telling(run_id=run_id, tenant=head.tenant, first=head.sequence + 1, told=list(told))
        ctx.generic_send(TELL, "tell", telling.model_dump_json().encode())
    for event in told:
        head.sequence += 1
        ctx.set(f"event {head.sequence}", event)


def _queue(ctx: ObjectContext, head: Head) -> None:
    """Send the run to a worker; orders sent before are void."""
    head.state = RunState.QUEUED
    head.ticket += 1
    order = Order(
        run_id=ctx.key(), ticket=head.ticket, body=head.body, tenant=head.tenant, priority=head.priority
    )  # fmt: skip
    ctx.generic_send(DRIVE, "hold", order.model_dump_json().encode())


def _wait(ctx: ObjectContext, head: Head, delay_seconds: float | None) -> None:
    head.state = RunState.WAITING
    head.ticket += 1
    if delay_seconds is not None:
        ctx.object_send(wake, ctx.key(), head.ticket, send_delay=timedelta(seconds=delay_seconds))


def _beside(key: str, name: str) -> str:
    """A key in the namespace of another."""
    return f"{key.partition('/')[0]}/{name}"


@runs.handler("open")
async def open_run(ctx: ObjectContext, new: Opening) -> bool:
    """False when the run exists."""
    if await _head(ctx) is not None:
        return False
    head = Head(
        body=new.body, tenant=new.tenant, priority=new.priority, state=RunState.QUEUED, attributes=new.attributes,
        created_at=new.at, updated_at=new.at,
    )  # fmt: skip
    ctx.set("input", new.input)
    _tell(ctx, head, new.told, heard=new.heard)
    if new.delay_seconds is None:
        _queue(ctx, head)
    else:
        _wait(ctx, head, new.delay_seconds)
    ctx.object_send(add, _beside(ctx.key(), new.tenant), Entry(run_id=new.run_id, at=new.at))
    _keep(ctx, head)
    return True


@runs.handler()
async def take(ctx: ObjectContext, taking: Taking) -> Taken | None:
    """The run, fenced against whoever had it; None for an order that is void."""
    head = await _head(ctx)
    if head is None or head.ticket != taking.ticket or head.state not in {RunState.QUEUED, RunState.RUNNING}:
        return None
    if head.state is RunState.RUNNING:  # Restate gave the order again: whoever had it is gone
        head.recoveries += 1
    head.state, head.owner = RunState.RUNNING, taking.worker
    head.epoch += 1
    head.updated_at = taking.at
    _keep(ctx, head)
    steps = [await ctx.get(f"step {key}", type_hint=Step) for key in head.steps]
    given = await ctx.get("input", type_hint=str)
    return Taken(head=head, input=given or "null", steps=[step for step in steps if step is not None])


@runs.handler()
async def commit(ctx: ObjectContext, change: Change) -> bool:
    """False, and nothing written, when the run is somebody else's by now."""
    head = await _head(ctx)
    if head is None or head.epoch != change.epoch or head.state is not RunState.RUNNING:
        return False
    for step in change.steps:
        ctx.set(f"step {step.key}", step)
    head.steps = in_order(head.steps, change.steps)
    head.timers = {**change.timers, **head.timers}
    head.attributes = merged(head.attributes, change.attributes)
    head.updated_at = change.at
    _tell(ctx, head, change.told, heard=change.heard)
    if change.end is not None:
        _let_go(ctx, head, change.end, change.at)
    _keep(ctx, head)
    return True


def _let_go(ctx: ObjectContext, head: Head, end: Ending, at: datetime) -> None:
    unread = len(head.letters) > end.signals_seen or head.cancel_reason is not None
    if end.state.final:
        head.state, head.finished_at, head.error = end.state, at, end.error
        ctx.set("output", end.output or "null")
        namespace, _, run_id = ctx.key().partition("/")
        shard = f"{namespace}/{crc32(run_id.encode()) % SHARDS}"
        ctx.object_send(ended, shard, Ended(run_id=run_id, at=at, state=end.state))
    elif end.state is RunState.WAITING and not unread:
        _wait(ctx, head, end.delay_seconds)
    else:
        _queue(ctx, head)


@runs.handler()
async def free(ctx: ObjectContext, freeing: Freeing) -> None:
    """Queue the run again: its owner does not know what was written."""
    head = await _head(ctx)
    if head is not None and head.state is RunState.RUNNING and head.epoch == freeing.epoch:
        head.epoch += 1
        head.recoveries += 1
        head.updated_at = freeing.at
        _queue(ctx, head)
        _keep(ctx, head)


@runs.handler()
async def wake(ctx: ObjectContext, ticket: int) -> None:
    """The time of a wait has come, unless something else woke the run."""
    head = await _head(ctx)
    if head is not None and head.state is RunState.WAITING and head.ticket == ticket:
        _queue(ctx, head)
        _keep(ctx, head)


@runs.handler()
async def rouse(ctx: ObjectContext, moment: Moment) -> bool:
    """Wake a waiting run now: a simulation moved the clock."""
    head = await _head(ctx)
    if head is None or head.state is not RunState.WAITING:
        return False
    head.updated_at = moment.at
    _queue(ctx, head)
    _keep(ctx, head)
    return True


@runs.handler()
async def deliver(ctx: ObjectContext, posting: Posting) -> Answer:
    """A signal or the wish to cancel."""
    head = await _head(ctx)
    if head is None:
        return Answer.MISSING
    if head.state.final:
        return Answer.ENDED
    if posting.cancel:
        head.cancel_reason = posting.payload if head.cancel_reason is None else head.cancel_reason
    else:
        if posting.key and posting.key in head.signal_keys:
            return Answer.REPEATED
        head.signal_keys.append(posting.key)
        head.letters.append(Post(position=len(head.letters) + 1, name=posting.name, payload=posting.payload))
    head.updated_at = posting.at
    if head.state is RunState.WAITING:
        _queue(ctx, head)
    _keep(ctx, head)
    return Answer.DONE


@runs.handler(kind="shared")
async def look(ctx: ObjectSharedContext, _nothing: None = None) -> Look:
    """The run as it is."""
    head = await _head(ctx)
    if head is None:
        return Look(head=None)
    given = await ctx.get("input", type_hint=str)
    return Look(head=head, input=given or "null", output=await ctx.get("output", type_hint=str))


@runs.handler(kind="shared")
async def outputs(ctx: ObjectSharedContext, wanted: Keys) -> dict[str, str]:
    """JSON texts of those of the steps that are completed."""
    found = [await ctx.get(f"step {key}", type_hint=Step) for key in wanted.keys]
    return {step.key: step.output or "null" for step in found if step is not None and step.phase is Phase.COMPLETED}


@runs.handler(kind="shared")
async def events(ctx: ObjectSharedContext, page: Page) -> Tale:
    """Events with sequence > `page.after`, in order."""
    head = await _head(ctx)
    last = 0 if head is None else min(head.sequence, page.after + page.limit)
    found = [await ctx.get(f"event {number}", type_hint=Told) for number in range(page.after + 1, last + 1)]
    return Tale(told=[told for told in found if told is not None])


@runs.handler()
async def listen(ctx: ObjectContext, bell: Bell) -> None:
    """Ring the bell at the next change, or at once when there was one."""
    head = await _head(ctx)
    if head is None or head.rings(bell):
        ctx.resolve_awakeable(bell.awakeable, 0 if head is None else head.sequence)
        return
    head.bells.append(bell)
    ctx.set("head", head)


@runs.handler()
async def unlisten(ctx: ObjectContext, awakeable: str) -> None:
    """Whoever had this bell no longer waits."""
    head = await _head(ctx)
    if head is not None:
        head.bells = [bell for bell in head.bells if bell.awakeable != awakeable]
        ctx.set("head", head)


@bells.handler("wait")
async def wait_for_change(ctx: restate.Context, waiting: Waiting) -> bool:
    """True after a change that the caller does not know, False after the time."""
    awakeable, rung = ctx.awakeable(type_hint=int)
    bell = Bell(awakeable=awakeable, interest=waiting.interest, known=waiting.known)
    ctx.object_send(listen, waiting.run_id, bell)
    late = ctx.sleep(timedelta(seconds=waiting.seconds))
    who, _ = await restate.select(rung=rung, late=late)
    if who == "late":
        ctx.object_send(unlisten, waiting.run_id, awakeable)
    return bool(who == "rung")


@workers.handler()
async def beat(ctx: ObjectContext, pulse: Pulse) -> bool:
    """A sign of life; False when the worker was given up (and `pulse.first` does not begin a new life)."""
    known = await ctx.get("pulse", type_hint=Pulse)
    if known is None and not pulse.first:
        return False
    ctx.set("pulse", Pulse(first=False, count=1 if known is None else known.count + 1, seconds=pulse.seconds))
    return True


@workers.handler()
async def bury(ctx: ObjectContext, last: Pulse) -> bool:
    """Give a worker up, unless it gave a sign of life since `last` (whose count is 0 when that does not matter)."""
    known = await ctx.get("pulse", type_hint=Pulse)
    if known is None or (last.count and known.count != last.count):
        return False
    ctx.clear("pulse")
    return True


@tenants.handler()
async def add(ctx: ObjectContext, entry: Entry) -> None:
    """Put a run into its tenant's index."""
    count = await ctx.get("count", type_hint=int) or 0
    name = f"page {count // PAGE_SIZE}"
    ctx.set(name, [*(await ctx.get(name, type_hint=list[str]) or []), entry.place])
    ctx.set("count", count + 1)


@tenants.handler(kind="shared")
async def page(ctx: ObjectSharedContext, wanted: Page) -> list[str]:
    """Places before `wanted.before`, newest first. Runs were added about in order, so two pages more are enough."""
    count = await ctx.get("count", type_hint=int) or 0
    found: list[str] = []
    enough = -1
    for number in range((count - 1) // PAGE_SIZE, -1, -1):
        places = await ctx.get(f"page {number}", type_hint=list[str]) or []
        found += [place for place in places if not wanted.before or place < wanted.before]
        enough = number - 1 if enough < 0 and len(found) >= wanted.limit else enough
        if number == enough:
            break
    return sorted(found, reverse=True)[: wanted.limit]


@tenants.handler(kind="shared")
async def size(ctx: ObjectSharedContext, _nothing: None = None) -> int:
    """How many runs the index has."""
    return await ctx.get("count", type_hint=int) or 0


@tallies.handler()
async def ended(ctx: ObjectContext, end: Ended) -> None:
    """Count a run that ended, and remember it among the last ones."""
    tally = await ctx.get("tally", type_hint=Tally) or Tally()
    tally.ended[end.state] = tally.ended.get(end.state, 0) + 1
    tally.recent = [*tally.recent, Entry(run_id=end.run_id, at=end.at)][-RECENT_MAX:]
    ctx.set("tally", tally)
