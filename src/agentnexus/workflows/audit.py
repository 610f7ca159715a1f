"""Who did what, in a table that is only added to.

What a workflow goes through is in its events, what money does is in the ledger: here are the acts of people and
programs, each noted before it takes effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agentnexus.platform.batching import GroupCommit
from agentnexus.platform.database import Database

NOTE = """
insert into workflow.audit (actor, user_id, action, subject, data)
select a.actor, a.user_id, a.action, a.subject, a.data
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[]) with ordinality
    as a(actor, user_id, action, subject, data, place) order by a.place
"""
READ = "select * from workflow.audit where subject = $1 and id > $2 order by id limit $3"


@dataclass(frozen=True, slots=True)
class Act:
    """`actor` did `action` to `subject`, which belongs to `user_id`."""

    actor: str
    user_id: str
    action: str
    subject: str
    data: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """An act with its place in the trail."""

    id: int
    at: datetime
    act: Act

    def to_json(self) -> dict[str, object]:
        act = self.act
        return {
            "id": self.id, "at": self.at.isoformat(), "actor": act.actor, "action": act.action,
            "subject": act.subject, "data": act.data,
        }  # fmt: skip


class Trail:
    """The audit trail in PostgreSQL; what is noted at the same time is written together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._notes: GroupCommit[Act, None] = GroupCommit(self._write)

    async def note(self, actor: str, user_id: str, action: str, subject: str, **data: object) -> None:
        """Returns once it is kept. Raises `Unavailable`."""
        await self._notes.submit(Act(actor, user_id, action, subject, data))

    async def of(self, subject: str, after: int = 0, limit: int = 100) -> list[Entry]:
        """Entries about one subject, oldest first, from behind `after`."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(READ, subject, after, limit)
        return [
            Entry(row["id"], row["at"], Act(row["actor"], row["user_id"], row["action"], row["subject"], row["data"]))
            for row in rows
        ]

    async def _write(self, acts: Sequence[Act]) -> list[None]:
        columns = [
            [act.actor for act in acts], [act.user_id for act in acts], [act.action for act in acts],
            [act.subject for act in acts], [act.data for act in acts],
        ]  # fmt: skip
        async with self._database.connection() as connection:
            await connection.execute(NOTE, *columns)
        return [None] * len(acts)
