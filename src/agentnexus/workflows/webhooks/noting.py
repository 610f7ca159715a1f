"""Deliveries for events that are kept elsewhere than in PostgreSQL, which makes them for its own by itself."""

from __future__ import annotations

from collections.abc import Sequence

from agentnexus.core.events import Event
from agentnexus.platform.database import Database
from agentnexus.workflows.engine.journal import encode

# The same choice as `workflow.note_deliveries` makes. Only what some webhook wants is copied, and all of it once.
NOTE = """
with e as (
    select * from unnest($2::text[], $3::bigint[], $4::text[], $5::timestamptz[], $6::text[])
        as e(run_id, sequence, name, at, data)
), wanted as (
    select w.id, e.* from e join workflow.webhook w on w.user_id = $1 and w.enabled
    where '*' = any(w.events) or e.name = any(w.events) or split_part(e.name, '.', 1) || '.*' = any(w.events)
), kept as (
    insert into workflow.event (run_id, sequence, name, at, data)
    select distinct on (run_id, sequence) run_id, sequence, name, at, data::jsonb from wanted
    on conflict do nothing
)
insert into workflow.delivery (webhook_id, run_id, sequence, name) select id, run_id, sequence, name from wanted
on conflict do nothing
"""


class Noting:
    """``await note(tenant, events)``, as often as it may be said. Raises `Unavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, tenant: str, events: Sequence[Event]) -> None:
        rows = [(event.subject, event.sequence, event.name.value, event.at, encode(event.data)) for event in events]
        async with self._database.connection() as connection:
            await connection.execute(NOTE, tenant, *([row[column] for row in rows] for column in range(5)))
