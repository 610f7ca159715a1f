"""Edits and the approval of a plan, one row per workflow: whoever gets the row's lock first decides what runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from agentnexus.platform.database import Database
from agentnexus.workflows.model import Estimate, Plan

# Nothing changes unless the row is still at the revision that the change was made from, and open; none is revision 0.
EDIT_FIRST = """
insert into workflow.review (workflow_id, revision, plan, estimate, updated_at)
values ($1, 1, $2, $3, clock_timestamp()) on conflict do nothing returning revision
"""
EDIT_AGAIN = """
update workflow.review set revision = revision + 1, plan = $2, estimate = $3, updated_at = clock_timestamp()
where workflow_id = $1 and revision = $4 and approved_at is null returning revision
"""
APPROVE_UNEDITED = """
insert into workflow.review (workflow_id, approved_by, approved_at, updated_at)
values ($1, $2, clock_timestamp(), clock_timestamp()) on conflict do nothing returning revision
"""
APPROVE_EDITED = """
update workflow.review set approved_by = $2, approved_at = clock_timestamp()
where workflow_id = $1 and revision = $3 and approved_at is null returning revision
"""
GET = "select revision, plan, estimate, approved_by from workflow.review where workflow_id = $1"


@dataclass(frozen=True, slots=True)
class Review:
    """Where the review of a plan stands; `plan` is None until the first edit, `approved_by` until the approval."""

    revision: int = 0
    plan: Plan | None = None
    estimate: Estimate | None = None
    approved_by: str | None = None


class Reviews(Protocol):
    """Compare and set on reviews."""

    async def get(self, workflow_id: str) -> Review:
        """The review; the empty one for a workflow nobody has touched."""

    async def edit(self, workflow_id: str, revision: int, plan: Plan, estimate: Estimate) -> bool:
        """Replace the plan of `revision` by the next; False when it is not that any more, or approved."""

    async def approve(self, workflow_id: str, revision: int, by: str) -> bool:
        """Close the review at `revision`; False when it is not that any more, or closed."""


class PostgresReviews:
    """Shared by all processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, workflow_id: str) -> Review:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(GET, workflow_id)
        if row is None:
            return Review()
        return Review(
            revision=row["revision"],
            plan=None if row["plan"] is None else Plan.model_validate(row["plan"]),
            estimate=None if row["estimate"] is None else Estimate.model_validate(row["estimate"]),
            approved_by=row["approved_by"],
        )

    async def edit(self, workflow_id: str, revision: int, plan: Plan, estimate: Estimate) -> bool:
        values = (workflow_id, plan.model_dump(mode="json"), estimate.model_dump(mode="json"))
        async with self._database.connection() as connection:
            if revision == 0:
                return await connection.fetchval(EDIT_FIRST, *values) is not None
            return await connection.fetchval(EDIT_AGAIN, *values, revision) is not None

    async def approve(self, workflow_id: str, revision: int, by: str) -> bool:
        async with self._database.connection() as connection:
            if revision == 0:
                return await connection.fetchval(APPROVE_UNEDITED, workflow_id, by) is not None
            return await connection.fetchval(APPROVE_EDITED, workflow_id, by, revision) is not None


class MemoryReviews:
    """For engines that live in one process."""

    def __init__(self) -> None:
        self._rows: dict[str, Review] = {}

    async def get(self, workflow_id: str) -> Review:
        return self._rows.get(workflow_id, Review())

    async def edit(self, workflow_id: str, revision: int, plan: Plan, estimate: Estimate) -> bool:
        row = await self.get(workflow_id)
        if row.revision != revision or row.approved_by is not None:
            return False
        self._rows[workflow_id] = Review(revision + 1, plan, estimate)
        return True

    async def approve(self, workflow_id: str, revision: int, by: str) -> bool:
        row = await self.get(workflow_id)
        if row.revision != revision or row.approved_by is not None:
            return False
        self._rows[workflow_id] = replace(row, approved_by=by)
        return True
