"""`Workflows`: what people and programs do with tasks. Any number of processes may have one on the same engine."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.canonical import Json, idempotency_key
from agentnexus.core.clock import TimeOrderedIds
from agentnexus.core.errors import Conflict, InvalidInput, NoOffer, NotFound
from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Need, Offer
from agentnexus.core.payments import Receipt
from agentnexus.core.ports import Blobs, Ids
from agentnexus.workflows.audit import Entry
from agentnexus.workflows.editing import PlanChange
from agentnexus.workflows.engine.port import Draft, Engine, NewRun, RunRecord, RunState
from agentnexus.workflows.model import (
    PARALLEL_MAX,
    SINGLE,
    STEPS_MAX,
    Estimate,
    FileRef,
    NotUndone,
    Plan,
    PlanStep,
    StepOffer,
    StepState,
    StepStatus,
    StepWarning,
    Workflow,
    WorkflowRequest,
    WorkflowStatus,
)
from agentnexus.workflows.outputs import StepOutput, outputs_of
from agentnexus.workflows.plan_run import hire_key
from agentnexus.workflows.ports import Hirer, Uploads
from agentnexus.workflows.reviewing import OPERATOR, Reviewing
from agentnexus.workflows.run import BODY
from agentnexus.workflows.telling import undo_name

TASK_MIN, TASK_MAX = 3, 100_000
PAGE_MAX = 200
RECENT_MAX = 200


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """Newest first; `next_cursor` is empty on the last page. `total` counts those of all pages."""

    workflows: tuple[Workflow, ...]
    total: int = 0
    next_cursor: str = ""


class Workflows:
    """The door of this room.

    Owner checks: every call names the user; what belongs to somebody else is `NotFound`. An operator passes ``None``.
    """

    def __init__(
        self,
        engine: Engine,
        hirer: Hirer,
        blobs: Blobs,
        ids: Ids | None = None,
        *,
        reviewing: Reviewing | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        self._engine = engine
        self._hirer = hirer
        self._blobs = blobs
        self._uploads = uploads
        self._ids = ids or TimeOrderedIds()
        self._reviewing = reviewing or Reviewing(engine)

    async def add_file(self, name: str, data: bytes, media_type: str = "", *, user_id: str = "") -> FileRef:
        """Keep a file; equal bytes are kept once. A user's counts against their quota (see `Uploads.keep`)."""
        base = name.replace("\\", "/").rpartition("/")[2].strip() or "file"
        kind = media_type or "application/octet-stream"
        if self._uploads is not None and user_id:
            blob = await self._uploads.keep(user_id, data, kind[:200])
        else:
            blob = await self._blobs.put(data, kind)
        return FileRef(name=base[:300], media_type=kind[:200], size_bytes=len(data), blob=blob)

    async def files(self, user_id: str) -> list[dict[str, object]]:
        """What a user has uploaded and we still have: ``blob``, ``media_type``, ``size_bytes``, times."""
        return await self._uploads.of(user_id) if self._uploads else []

    async def require_files(self, user_id: str | None, files: Sequence[FileRef]) -> None:
        """Raises `NotFound` for a file that the user has not uploaded; an operator (None) may name any."""
        if self._uploads is not None and user_id is not None and files:
            await self._uploads.require(user_id, [file.blob for file in files])

    async def forget_file(self, user_id: str, blob: str) -> None:
        """Raises `NotFound`. A task that still needs the file will say that it has gone."""
        if self._uploads is None:
            raise NotFound("uploads are not counted here", next_step="nothing is to be done")
        await self._uploads.forget(user_id, blob)

    async def create(
        self,
        user_id: str,
        text: str,
        files: Sequence[FileRef] = (),
        *,
        max_cost: Money,
        max_seconds: float = 600.0,
        auto_approve: bool = False,
        grant: str = "",
        parent_budget: str | None = None,
        metadata: Mapping[str, object] | None = None,
        plan: Plan | None = None,
        priority: int = 0,
        max_steps: int = STEPS_MAX,
        max_parallel: int = PARALLEL_MAX,
        key: str = "",
    ) -> Workflow:
        """Take a task; planning starts at once. Raises `InvalidInput`, `Conflict`.

        Args:
            max_cost: the most that may be spent; becomes the total of the workflow's own budget.
            grant: a signed approval (its id, or ``any``) under which it goes ahead when that allows the whole plan.
            metadata: the creator's own notes, shown as they came.
            plan: made already, to be checked, priced and approved like any other.
            max_steps: a plan of more does not run.
            max_parallel: so many of its steps run at once.
            priority: of two that wait for a worker the higher goes first; 0 is everybody's.
            key: makes creation repeatable: the same key of the same user gives the same workflow.
        """
        task = text.strip()
        if plan is None and not TASK_MIN <= len(task) <= TASK_MAX:
            raise InvalidInput(
                f"a task has {TASK_MIN} to {TASK_MAX} characters, this has {len(task)}",
                field="input",
                next_step="say in a sentence what you want done",
            )
        request = WorkflowRequest(
            user_id=user_id, text=task, files=tuple(files), max_cost=_positive(max_cost), max_seconds=max_seconds,
            auto_approve=auto_approve, grant=grant, parent_budget=parent_budget, metadata=dict(metadata or {}),
            plan=plan, max_steps=max_steps, max_parallel=max_parallel,
        )  # fmt: skip
        return await self._start(request, key, priority)

    async def create_single(
        self,
        user_id: str,
        agent_id: str,
        capability: str,
        input: Mapping[str, object],
        *,
        max_cost: Money,
        files: Sequence[FileRef] = (),
        max_seconds: float = 600.0,
        parent_budget: str | None = None,
        key: str = "",
    ) -> Workflow:
        """One step at one seller, already approved: what a Run button does. Raises `NoOffer`, `InvalidInput`.

        Args:
            agent_id: the listing's id, the seller's key, or the offer's id.
            input: may refer to `files` as ``{"$file": 0}``.
        """
        offer = await self._offer_of(user_id, agent_id, capability)
        step = PlanStep(id="s1", title=offer.title, capability=capability, input=dict(input), offer=StepOffer.of(offer))
        plan = Plan(planner=SINGLE, steps=(step,), output={"$step": "s1"})
        request = WorkflowRequest(
            user_id=user_id, text=offer.title, files=tuple(files), max_cost=_positive(max_cost), auto_approve=True,
            max_seconds=max_seconds, plan=plan, parent_budget=parent_budget,
        )  # fmt: skip
        return await self._start(request, key)

    async def _offer_of(self, user_id: str, agent_id: str, capability: str) -> Offer:
        ranked = await self._hirer.offers(Need(capability=capability), user_id=user_id, limit=200)
        for entry in ranked:
            offer = entry.offer
            names = {offer.id, offer.seller.key, offer.seller.name, offer.endpoint.rstrip("/").rpartition("/")[2]}
            if agent_id in names or str(offer.evidence.get("agent", "")) == agent_id:
                return offer
        raise NoOffer(
            f"{agent_id} does not sell {capability} now",
            next_step="look at the agent's page, or let the planner find another seller",
        )

    async def _start(self, request: WorkflowRequest, key: str, priority: int = 0) -> Workflow:
        run_id = self._ids.new("wf") if not key else workflow_id_from(request.user_id, key)
        planning = Draft(EventName.WORKFLOW_PLANNING, {"text": request.text[:500]}, {"status": "planning"})
        if self._uploads is not None:
            await self._uploads.use(request.user_id, [file.blob for file in request.files])
        run = NewRun(
            run_id, BODY, request.model_dump(mode="json"), tenant=request.user_id, priority=priority, drafts=(planning,)
        )
        if not await self._engine.start(run):
            existing = await self._engine.get(run_id)
            if WorkflowRequest.model_validate(existing.input) != request:
                raise Conflict("this key was used for another task", next_step="use one key per task", key=key)
        return await self.get(run_id, request.user_id)

    async def get(self, workflow_id: str, user_id: str | None) -> Workflow:
        """The whole state with receipts, and the plan as its owner edited it. Raises `NotFound`."""
        view = await self._reviewing.seen(view_of(await self._record(workflow_id, user_id)))
        keys = [*_hires(view.id, ((s.id, s.attempts) for s in view.steps))]
        keys += _hires(view.id, ((undo_name(s.id), s.undo_attempts) for s in view.steps))
        found = await asyncio.gather(*(self._hirer.receipts(key) for key in keys))
        receipts: tuple[Receipt, ...] = tuple(receipt for some in found for receipt in some)
        return view.model_copy(update={"receipts": receipts})

    async def outputs(self, workflow: Workflow) -> dict[str, StepOutput]:
        """What its steps gave, by step."""
        return await outputs_of(self._engine, workflow.id, [step.id for step in workflow.steps])

    async def output(self, workflow_id: str, user_id: str | None, step_id: str) -> bytes:
        """The whole of what a step gave, as JSON. Raises `NotFound`."""
        await self._record(workflow_id, user_id)
        found = (await outputs_of(self._engine, workflow_id, [step_id])).get(step_id)
        if found is None:
            raise NotFound(f"step {step_id} has given nothing", next_step="see which steps are completed")
        return await found.whole(self._blobs)

    async def newest(self, workflow_id: str, user_id: str | None) -> int:
        """The sequence of its last event so far. Raises `NotFound`."""
        return (await self._record(workflow_id, user_id)).sequence

    async def request(self, workflow_id: str, user_id: str | None) -> WorkflowRequest:
        """What it was created with. Raises `NotFound`."""
        return WorkflowRequest.model_validate((await self._record(workflow_id, user_id)).input)

    async def approve(self, workflow_id: str, user_id: str | None) -> Workflow:
        """Let it run. Approving again changes nothing.

        Raises `NotFound`, `EscrowShortfall`, `Conflict` when it does not wait for that.
        """
        record = await self._record(workflow_id, user_id)
        await self._reviewing.approve(view_of(record), user_id or OPERATOR)
        return await self.get(workflow_id, user_id)

    async def edit(self, workflow_id: str, user_id: str | None, change: PlanChange) -> Workflow:
        """Change the plan before its approval; checked and priced anew.

        Raises `NotFound`, `Conflict` (approved, or a step is needed), `NoOffer`, `InvalidInput`, `BudgetExceeded`.
        """
        record = await self._record(workflow_id, user_id)
        request = WorkflowRequest.model_validate(record.input)
        await self._reviewing.edit(view_of(record), request, change, user_id or OPERATOR)
        return await self.get(workflow_id, user_id)

    async def cancel(self, workflow_id: str, user_id: str | None, reason: str = "cancelled by its owner") -> Workflow:
        """Stop it: running steps end, what is held comes back. Raises `NotFound`, `Conflict` when it has ended."""
        view = view_of(await self._record(workflow_id, user_id))
        await self._reviewing.note(view, user_id or OPERATOR, "workflow.cancel", reason=reason[:500])
        if not await self._engine.cancel(workflow_id, reason[:500]):
            ended = view_of(await self._record(workflow_id, user_id))
            raise Conflict(f"the workflow is {ended.status.value} already", next_step="nothing is left to cancel")
        self._reviewing.cancelled(view)
        return await self.get(workflow_id, user_id)

    async def result(self, workflow_id: str, user_id: str | None) -> Workflow:
        """Wait until it has ended."""
        await self._record(workflow_id, user_id)
        await self._engine.result(workflow_id)
        return await self.get(workflow_id, user_id)

    async def settle_at(self, workflow_id: str, user_id: str | None) -> Workflow:
        """Wait until it asks for approval or has ended."""
        async for event in self.events(workflow_id, user_id):
            if event.name is EventName.WORKFLOW_AWAITING_APPROVAL:
                break
        return await self.get(workflow_id, user_id)

    async def list(self, user_id: str, limit: int = 50, cursor: str = "") -> WorkflowPage:
        """A user's workflows, newest first, without receipts."""
        wanted = max(1, min(limit, PAGE_MAX))
        before = _read_cursor(cursor)
        records = await self._engine.list_runs(user_id, wanted + 1, before)
        whole = before is None and len(records) <= wanted
        total = len(records) if whole else await self._engine.count_of(user_id)
        page = [record for record in records[:wanted] if record.body == BODY]
        more = len(records) > wanted
        return WorkflowPage(tuple(map(view_of, page)), total, _write_cursor(records[wanted - 1]) if more else "")

    async def events(self, workflow_id: str, user_id: str | None, after: int = 0) -> AsyncIterator[Event]:
        """Events with sequence > `after`: those that happened, then live ones; ends after the last."""
        await self._record(workflow_id, user_id)
        async for event in self._engine.events(workflow_id, after):
            yield event

    async def past_events(self, workflow: Workflow, limit: int, after: int = 0) -> tuple[Event, ...]:
        """The first events of a workflow with sequence > `after`, up to the state it is shown in."""
        found: list[Event] = []
        wanted = min(limit, workflow.sequence - after)
        if wanted > 0:
            events = self._engine.events(workflow.id, after)
            assert isinstance(events, AsyncGenerator)
            async with aclosing(events):
                async for event in events:
                    found.append(event)
                    if len(found) >= wanted:
                        break
        return tuple(found)

    async def audit(self, workflow_id: str, user_id: str | None, after: int = 0) -> Sequence[Entry]:
        """Who did what to it, oldest first. Raises `NotFound`."""
        await self._record(workflow_id, user_id)
        return await self._reviewing.trail_of(workflow_id, after)

    async def health(self) -> dict[str, object]:
        """Counts by state, and success rate, error codes, mean time and cost of the last `RECENT_MAX` that ended."""
        counts = await self._engine.counts()
        ended = counts.get(RunState.COMPLETED, 0) + counts.get(RunState.FAILED, 0)  # a cancel is neither
        recent = [view_of(record) for record in await self._engine.recent(RECENT_MAX) if record.body == BODY]
        seconds = [(each.updated_at - each.created_at).total_seconds() for each in recent]
        errors = Counter(str(each.error["code"]) for each in recent if each.error)
        costs: dict[str, Money] = {}
        for each in recent:
            costs[each.cost.asset.caip19] = costs.get(each.cost.asset.caip19, each.cost.asset.zero()) + each.cost
        return {
            "average_seconds": round(sum(seconds) / len(seconds), 3) if seconds else None,
            "total_cost": [cost.to_json() for cost in costs.values()],
            "error_rates": {code: count / len(recent) for code, count in errors.items()},
            "recent": len(recent),
            "active": counts.get(RunState.RUNNING, 0),
            "queued": counts.get(RunState.QUEUED, 0),
            "waiting": counts.get(RunState.WAITING, 0),
            "completed": counts.get(RunState.COMPLETED, 0),
            "failed": counts.get(RunState.FAILED, 0),
            "cancelled": counts.get(RunState.CANCELLED, 0),
            "success_rate": counts.get(RunState.COMPLETED, 0) / ended if ended else None,
        }

    async def _record(self, workflow_id: str, user_id: str | None) -> RunRecord:
        unknown = NotFound(f"there is no workflow {workflow_id}", next_step="check the id and whose token you use")
        try:
            record = await self._engine.get(workflow_id)
        except NotFound:
            raise unknown from None  # in the very words that somebody else's gets
        if record.body != BODY or (user_id is not None and record.tenant != user_id):
            raise unknown
        return record


def view_of(record: RunRecord) -> Workflow:
    """A workflow from its run; receipts are added by `Workflows.get`."""
    request = WorkflowRequest.model_validate(record.input)
    attributes = record.attributes
    plan = Plan.model_validate(attributes["plan"]) if "plan" in attributes else None
    output = record.output
    paid = sum(int(str(value)) for name, value in attributes.items() if name.startswith("paid:"))
    return Workflow(
        id=record.id,
        user_id=record.tenant,
        text=request.text,
        files=request.files,
        metadata=request.metadata,
        status=WorkflowStatus(str(attributes.get("status", "planning"))),
        planner=str(attributes.get("planner", "")),
        plan=plan,
        estimate=Estimate.model_validate(attributes["estimate"]) if "estimate" in attributes else None,
        max_cost=request.max_cost,
        cost=Money(request.max_cost.asset, paid),
        steps=tuple(_step_state(step, attributes, record.state) for step in plan.steps) if plan else (),
        result=output.get("result") if isinstance(output, Mapping) else None,
        not_undone=_not_undone(attributes, request.max_cost.asset),
        warnings=tuple(map(StepWarning.model_validate, _listed(output, "warnings"))),
        error=record.error,
        sequence=record.sequence,
        created_at=record.created_at,
        started_at=datetime.fromisoformat(str(attributes["started_at"])) if "started_at" in attributes else None,
        updated_at=record.updated_at,
        finished_at=record.finished_at,
    )


def _listed(output: Json, key: str) -> Sequence[Json]:
    found = output.get(key) if isinstance(output, Mapping) else None
    return found if isinstance(found, list | tuple) else ()


def _hires(workflow_id: str, tried: Iterable[tuple[str, int]]) -> Iterator[str]:
    """The keys of all attempts, by name and how many there were."""
    return (hire_key(workflow_id, name, attempt) for name, attempts in tried for attempt in range(1, attempts + 1))


def _not_undone(attributes: Mapping[str, object], asset: Asset) -> tuple[NotUndone, ...]:
    told = [value for name, value in attributes.items() if name.startswith("not_undone:")]
    return tuple(
        NotUndone(step=str(each["step"]), reason=str(each["reason"]), paid=Money(asset, int(str(each["paid"]))))
        for each in told
        if isinstance(each, Mapping)
    )


def _step_state(step: PlanStep, attributes: Mapping[str, object], run: RunState) -> StepState:
    known = attributes.get(f"step:{step.id}")
    fate = attributes.get(f"fate:{step.id}")
    values = {**(known if isinstance(known, Mapping) else {}), **(fate if isinstance(fate, Mapping) else {})}
    if run.final and values.get("status", "pending") == "pending":
        values["status"] = StepStatus.SKIPPED
    return StepState.model_validate({"id": step.id, "title": step.title, "capability": step.capability, **values})


def _positive(amount: Money) -> Money:
    if amount.atomic <= 0:
        raise InvalidInput(
            "the most to spend must be above zero", field="maxCost", next_step="say how much may be spent"
        )
    return amount


def workflow_id_from(user_id: str, key: str) -> str:
    """The id that a workflow created with this key has."""
    return "wf_" + idempotency_key("workflow", user_id, key)[:32]


def cursor_before(moment: datetime, workflow_id: str = "") -> str:
    """A cursor for `Workflows.list`: what is older than this moment, or than this workflow made in it."""
    return f"{moment.isoformat()}~{workflow_id}"


def _write_cursor(record: RunRecord) -> str:
    return cursor_before(record.created_at, record.id)


def _read_cursor(cursor: str) -> tuple[datetime, str] | None:
    if not cursor:
        return None
    at, _, run_id = cursor.partition("~")
    try:
        return datetime.fromisoformat(at), run_id
    except ValueError as error:
        raise InvalidInput("not a cursor of ours", field="cursor", next_step="take next_cursor as it is") from error
