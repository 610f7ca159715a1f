"""Hires and their attempts as rows: what was fixed before buying, so that a hire cut off goes on with the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from agentnexus.core.errors import NexusError
from agentnexus.core.offers import Offer, Quote
from agentnexus.core.payments import Receipt
from agentnexus.hiring.failures import error_text
from agentnexus.hiring.statistics import END_ATTEMPT, END_ATTEMPT_WITH_OUTCOME, Outcome
from agentnexus.platform.database import Database


@dataclass(frozen=True, slots=True)
class Attempt:
    """One offer tried. `state`: quoted, delivered (output kept, not settled), then settled, refunded or failed."""

    hire_key: str
    number: int
    job_id: str
    job_key: str
    offer: Offer
    quote: Quote
    state: str
    started_at: datetime
    output: bytes | None = None
    receipt: Receipt | None = None

    @property
    def open(self) -> bool:
        return self.receipt is None


@dataclass(frozen=True, slots=True)
class HireRow:
    """A hire with its attempts, oldest first. `state`: running, done, failed."""

    key: str
    user_id: str
    budget_id: str
    need_hash: str
    state: str
    output: bytes | None
    error: bytes | None
    attempts: tuple[Attempt, ...]

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        return tuple(attempt.receipt for attempt in self.attempts if attempt.receipt is not None)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended; with `hire_state` it ends the hire too."""

    state: str
    receipt: Receipt
    finished_at: datetime
    error: str | None = None
    hire_state: str | None = None
    output: bytes | None = None
    outcome: Outcome | None = None


class HireStore:
    """`hiring.hire` and `hiring.attempt` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, key: str) -> HireRow | None:
        """One round trip, also when there is nothing."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select h.key, h.user_id, h.budget_id, h.need_hash, h.state as hire_state, h.output as hire_output,
                          h.error as hire_error, a.*
                     from hiring.hire h left join hiring.attempt a on a.hire_key = h.key
                    where h.key = $1 order by a.number""",
                key,
            )
        if not rows:
            return None
        first = rows[0]
        return HireRow(
            key=first["key"],
            user_id=first["user_id"],
            budget_id=first["budget_id"],
            need_hash=first["need_hash"],
            state=first["hire_state"],
            output=_bytes(first["hire_output"]),
            error=_bytes(first["hire_error"]),
            attempts=tuple(_attempt(row) for row in rows if row["number"] is not None),
        )

    async def begin(self, attempt: Attempt, *, user_id: str, budget_id: str, need_hash: str, capability: str) -> None:
        """Write down hire and attempt in one step, before anybody is asked."""
        async with self._database.connection() as connection:
            await connection.execute(
                """with h as (insert into hiring.hire (key, user_id, budget_id, need_hash, capability)
                              values ($1, $2, $3, $4, $5) on conflict (key) do nothing)
                   insert into hiring.attempt
                       (hire_key, number, job_id, job_key, market, seller, offer, quote, started_at)
                   select $1, $6::int, $7, $8, $9, $10, $11, $12, $13::timestamptz
                    where set_config('synchronous_commit', 'off', true) = 'off'""",  # the reservation's commit follows
                attempt.hire_key,
                user_id,
                budget_id,
                need_hash,
                capability,
                attempt.number,
                attempt.job_id,
                attempt.job_key,
                attempt.offer.market,
                attempt.offer.seller.key,
                attempt.offer.model_dump_json(),
                attempt.quote.model_dump_json(),
                attempt.started_at,
            )

    async def withdraw(self, attempt: Attempt) -> None:
        """Forget an attempt whose seller was never asked, because the budget said no."""
        async with self._database.connection() as connection:
            await connection.execute(
                "delete from hiring.attempt where hire_key = $1 and number = $2 and finished_at is null",
                attempt.hire_key,
                attempt.number,
            )

    async def delivered(self, attempt: Attempt, output: bytes) -> None:
        """Keep the result before money is released for it."""
        async with self._database.connection() as connection:
            await connection.execute(
                """update hiring.attempt set state = 'delivered', output = $3
                    where hire_key = $1 and number = $2 and finished_at is null""",
                attempt.hire_key,
                attempt.number,
                output.decode(),
            )

    async def end(self, attempt: Attempt, ending: Ending) -> None:
        """Receipt, attempt, hire and statistics in one statement; a second time changes nothing."""
        values: tuple[object, ...] = (
            attempt.hire_key,
            attempt.number,
            ending.state,
            ending.receipt.model_dump_json(),
            ending.error,
            ending.finished_at,
            ending.hire_state,
            None if ending.output is None else ending.output.decode(),
        )
        async with self._database.connection() as connection:
            if ending.outcome is None:
                await connection.execute(f"{END_ATTEMPT} select 1", *values)
            else:
                await connection.execute(END_ATTEMPT_WITH_OUTCOME, *values, *ending.outcome.row())

    async def fail(self, key: str, error: NexusError, at: datetime) -> None:
        """End a hire whose attempts have all ended."""
        async with self._database.connection() as connection:
            await connection.execute(
                "update hiring.hire set state = 'failed', error = $2, finished_at = $3"
                " where key = $1 and state = 'running'",
                key,
                error_text(error),
                at,
            )

    async def receipt(self, receipt_id: str) -> Receipt | None:
        """By its id, which is the job's id."""
        async with self._database.connection() as connection:
            text = await connection.fetchval(
                "select receipt from hiring.attempt where job_id = $1 and receipt is not null", receipt_id
            )
        return None if text is None else Receipt.model_validate_json(text)

    async def of_user(self, user_id: str, limit: int) -> list[Receipt]:
        """Receipts of one user, newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select a.receipt from hiring.attempt a join hiring.hire h on h.key = a.hire_key
                    where h.user_id = $1 and a.receipt is not null order by a.finished_at desc limit $2""",
                user_id,
                limit,
            )
        return [Receipt.model_validate_json(row["receipt"]) for row in rows]

    async def abandoned(self, before: datetime, limit: int) -> list[tuple[str, int]]:
        """Open attempts without open payments that nobody has worked on since `before`: (hire key, number)."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select a.hire_key, a.number from hiring.attempt a
                    where a.finished_at is null and a.started_at < $1 and not exists (
                          select 1 from hiring.hold h where h.hire_key = a.hire_key and h.finished_at is null)
                    order by a.started_at limit $2""",
                before,
                limit,
            )
        return [(row["hire_key"], row["number"]) for row in rows]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _attempt(row: asyncpg.Record) -> Attempt:
    return Attempt(
        hire_key=row["hire_key"],
        number=row["number"],
        job_id=row["job_id"],
        job_key=row["job_key"],
        offer=Offer.model_validate_json(row["offer"]),
        quote=Quote.model_validate_json(row["quote"]),
        state=row["state"],
        started_at=row["started_at"],
        output=_bytes(row["output"]),
        receipt=None if row["receipt"] is None else Receipt.model_validate_json(row["receipt"]),
    )
