"""The executions' tables. Every write of a running process is fenced: it counts only while that holds the lease."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from agentnexus.core.errors import Conflict, ErrorCode, NotFound
from agentnexus.core.events import Event
from agentnexus.marketplace.executions.model import HANDED_OUT_ELSEWHERE, Execution, ExecutionStatus
from agentnexus.marketplace.listings.store import count_run
from agentnexus.platform.database import Database

FINAL = ("completed", "failed", "timeout", "cancelled")
FORGOTTEN_AT_ONCE = 1000
EVENTS_PAGE = 500


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is known of a run before it starts."""

    id: str
    key: str
    agent_id: str
    version: str
    code_hash: str
    user_id: str
    input_hash: str


BUYERS_OWN = (ErrorCode.AGENT_REFUSED, ErrorCode.INVALID_INPUT)


@dataclass(frozen=True, slots=True)
class Finish:
    """How a run ended. `output` is the kept JSON, set exactly when it completed."""

    status: ExecutionStatus
    output: bytes | None = None
    error: dict[str, object] | None = None
    metering: dict[str, int] | None = None
    duration_ms: int | None = None

    @property
    def says_something_of_the_agent(self) -> bool:
        """Neither a cancelled run nor an input that cannot be served counts in a track record."""
        code = (self.error or {}).get("code")
        return self.status is not ExecutionStatus.CANCELLED and code not in BUYERS_OWN


class ExecutionStore:
    """Executions, their leases and their events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, ticket: Ticket, owner: str, now: datetime, lease: timedelta) -> tuple[Execution, bool]:
        """The execution of this key, and whether `owner` has to run it: it is new, or its last process is gone.

        Raises `Conflict` when the key or the id belongs to another run.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                """insert into marketplace.execution (id, key, agent_id, version, code_hash, user_id, input_hash,
                       status, owner, lease_until, created_at)
                   values ($1, $2, $3, $4, $5, $6, $7, 'queued', $8, $9, $10)
                   on conflict do nothing returning *""",
                ticket.id, ticket.key, ticket.agent_id, ticket.version, ticket.code_hash, ticket.user_id,
                ticket.input_hash, owner, now + lease, now,
            )  # fmt: skip
            if row is not None:
                return _execution(row), True
            row = await connection.fetchrow("select * from marketplace.execution where key = $1 for update", ticket.key)
            if row is None:
                raise Conflict("this execution id is taken", next_step="leave the id out", execution=ticket.id)
            if row["input_hash"] != ticket.input_hash:
                raise Conflict(
                    "this key was used for another input or agent", next_step="use a new key", execution=row["id"]
                )
            # A lease that ran out means a process that died: the row is ours by the lock we hold on it.
            if row["finished_at"] is not None or row["lease_until"] > now:
                return _execution(row), False
            row = await connection.fetchrow(
                """update marketplace.execution set owner = $2, lease_until = $3, attempts = attempts + 1
                   where id = $1 returning *""",
                row["id"], owner, now + lease,
            )  # fmt: skip
        assert row is not None, "the row is locked by this transaction"
        return _execution(row), True

    async def get(self, execution_id: str) -> Execution:
        """Raises `NotFound`."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow("select * from marketplace.execution where id = $1", execution_id)
        if row is None:
            raise NotFound(f"there is no execution {execution_id}", next_step="check the id")
        return _execution(row)

    async def renew(self, execution_id: str, owner: str, until: datetime) -> bool | None:
        """Extend the lease. Whether cancelling was asked for; None when the lease is lost."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                """update marketplace.execution set lease_until = $3
                   where id = $1 and owner = $2 and finished_at is null returning cancel_asked""",
                execution_id, owner, until,
            )  # fmt: skip
        return None if row is None else bool(row["cancel_asked"])

    async def start(self, execution_id: str, owner: str, attempt: int, now: datetime) -> bool:
        """Mark as running; False when the lease is lost."""
        async with self._database.connection() as connection:
            done = await connection.execute(
                """update marketplace.execution set status = 'running', attempts = $3,
                       started_at = coalesce(started_at, $4)
                   where id = $1 and owner = $2 and finished_at is null""",
                execution_id, owner, attempt, now,
            )  # fmt: skip
        return done == "UPDATE 1"

    async def append(self, execution_id: str, owner: str, events: Sequence[Event]) -> None:
        """Add events; those of a process that lost its lease are dropped."""
        async with self._database.connection() as connection:
            await connection.execute(
                """insert into marketplace.execution_event (execution_id, sequence, name, at, data)
                   select $1, sequence, name, at, data::jsonb
                   from unnest($3::integer[], $4::text[], $5::timestamptz[], $6::text[]) as e(sequence, name, at, data)
                   where exists (select from marketplace.execution
                                 where id = $1 and owner = $2 and finished_at is null)
                   on conflict do nothing""",
                execution_id, owner, [event.sequence for event in events], [event.name.value for event in events],
                [event.at for event in events], [json.dumps(event.data) for event in events],
            )  # fmt: skip

    async def finish(self, execution_id: str, owner: str, finish: Finish, event: Event) -> Execution | None:
        """End it, with its last event and its count in the listing, in one transaction. None when the lease is lost."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                """update marketplace.execution set status = $3, output = $4, error = $5, metering = $6,
                       finished_at = $7, duration_ms = $8
                   where id = $1 and owner = $2 and finished_at is null returning *""",
                execution_id, owner, finish.status.value, finish.output, finish.error, finish.metering or {}, event.at,
                finish.duration_ms,
            )  # fmt: skip
            if row is None:
                return None
            await connection.execute(
                "insert into marketplace.execution_event values ($1, $2, $3, $4, $5)",
                execution_id, event.sequence, event.name.value, event.at, event.data,
            )  # fmt: skip
            if finish.says_something_of_the_agent:
                succeeded = finish.status is ExecutionStatus.COMPLETED
                await count_run(connection, row["agent_id"], succeeded=succeeded)
        return _execution(row)

    async def release(self, execution_id: str, owner: str, now: datetime) -> None:
        """Give an unfinished run back, so that the next caller with its key may run it."""
        async with self._database.connection() as connection:
            await connection.execute(
                """update marketplace.execution set status = 'queued', lease_until = $3
                   where id = $1 and owner = $2 and finished_at is null""",
                execution_id, owner, now,
            )  # fmt: skip

    async def close_abandoned(self, now: datetime, age: timedelta) -> list[str]:
        """Cancel runs whose lease ended longer than `age` ago; their ids."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                """update marketplace.execution set status = 'cancelled', finished_at = $1,
                       error = '{"code": "conflict", "message": "nobody came back for it"}'
                   where finished_at is null and lease_until < $2 returning id""",
                now, now - age,
            )  # fmt: skip
            ended = [row["id"] for row in rows]
            await connection.execute(
                """insert into marketplace.execution_event
                   select id, coalesce((select max(sequence) from marketplace.execution_event e
                                        where e.execution_id = id), 0) + 1,
                          'execution.failed', $2, '{"status": "cancelled"}'
                   from unnest($1::text[]) id""",
                ended, now,
            )  # fmt: skip
        return ended

    async def forget(self, before: datetime) -> int:
        """Delete runs that ended before then, with their logs and results; how many of the oldest that was."""
        async with self._database.connection() as connection:
            done = await connection.execute(
                """delete from marketplace.execution where id in
                       (select id from marketplace.execution where finished_at < $1 order by finished_at limit $2)""",
                before, FORGOTTEN_AT_ONCE,
            )  # fmt: skip
        return int(done.rpartition(" ")[2])

    async def ask_cancel(self, execution_id: str) -> None:
        """Leave word for whichever process runs it."""
        async with self._database.connection() as connection:
            await connection.execute(
                "update marketplace.execution set cancel_asked = true where id = $1 and finished_at is null",
                execution_id,
            )

    async def events(self, execution_id: str, after: int = 0) -> list[Event]:
        """Up to a page of events with a sequence above `after`, in order."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select sequence, name, at, data from marketplace.execution_event
                    where execution_id = $1 and sequence > $2 order by sequence limit $3""",
                execution_id, after, EVENTS_PAGE,
            )  # fmt: skip
        return [Event(subject=execution_id, **dict(row)) for row in rows]

    async def last_sequence(self, execution_id: str) -> int:
        """0 before the first event."""
        async with self._database.connection() as connection:
            found = await connection.fetchval(
                "select max(sequence) from marketplace.execution_event where execution_id = $1", execution_id
            )
        return int(found or 0)


def _execution(row: asyncpg.Record) -> Execution:
    output: object = json.loads(row["output"]) if row["output"] is not None else None
    return Execution(
        id=row["id"],
        agent_id=row["agent_id"],
        version=row["version"],
        user_id=row["user_id"],
        status=ExecutionStatus(row["status"]),
        attempts=row["attempts"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        duration_ms=row["duration_ms"],
        output=output,
        error=row["error"],
        metering=row["metering"],
        is_sold=row["key"].startswith(HANDED_OUT_ELSEWHERE),
    )
