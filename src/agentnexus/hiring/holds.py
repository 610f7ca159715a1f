"""Payments of jobs as rows: what was asked, what was signed or sent, and how it ended. Written before it matters.

Rows that a later, durable commit must follow before anything leaves the process are committed without waiting for the
disk: the log is written in order, so that commit carries them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg

from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Money
from agentnexus.core.payments import Hold, Payment, PaymentRequest, PaymentState
from agentnexus.platform.database import Database

PAID = frozenset({PaymentState.CONFIRMED, PaymentState.RELEASED})
OPEN = frozenset({PaymentState.RESERVED, PaymentState.SENT, PaymentState.HELD, PaymentState.UNKNOWN})

# Row and event (as `platform.outbox.publish` writes it) in one round trip: this is on every hire's way. The hire's own
# last commit is durable and follows.
FINISH = """
with ended as (
    update hiring.hold set state = $2, payment = $3, payment_id = $4, finished_at = $5, reason = $6
     where key = $1 and finished_at is null and set_config('synchronous_commit', 'off', true) = 'off'
    returning *),
told as (
    insert into platform.outbox (name, subject, sequence, data, at)
    select $7, $8, 1, $9::jsonb, $5 from ended where $2 <> 'failed'
    on conflict (subject, sequence) do nothing)
select * from ended
"""


@dataclass(frozen=True, slots=True)
class HoldRow:
    """One payment of one job. `key` is its idempotency key on the rail, `reservation` its key in the ledger."""

    key: str
    hire_key: str
    job_key: str
    request: PaymentRequest
    payer_account: str
    payee_account: str
    reservation: str
    state: PaymentState
    opened_at: datetime
    deadline: datetime
    budget_id: str | None = None
    task: str = ""
    seller: str = ""
    capability: str = ""
    payment: Payment | None = None
    reason: str = ""
    finished_at: datetime | None = None

    @property
    def open(self) -> bool:
        """Money is set aside or on its way, and its end is not known."""
        return self.state in OPEN

    @property
    def paid(self) -> bool:
        return self.state in PAID

    def as_payment(self) -> Payment:
        """The payment as the network last said; before it said anything, one without evidence."""
        return self.payment or Payment(id=self.key, request=self.request, state=self.state)

    def as_hold(self) -> Hold:
        return Hold(payment=self.as_payment(), deadline=self.deadline)


class HoldStore:
    """`hiring.hold` in PostgreSQL. Every change is a single statement that only moves forward."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key: str) -> HoldRow | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow("select * from hiring.hold where key = $1", key)
        return None if row is None else _hold(row)

    async def by_payment(self, payment_id: str) -> HoldRow | None:
        """By the id that the rail gave, or by our own key."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "select * from hiring.hold where payment_id = $1 or key = $1 order by opened_at limit 1", payment_id
            )
        return None if row is None else _hold(row)

    async def of_hire(self, hire_key: str) -> list[HoldRow]:
        """Every payment of a hire, in order of opening."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select * from hiring.hold where hire_key = $1 order by opened_at, key", hire_key
            )
        return [_hold(row) for row in rows]

    async def insert(self, row: HoldRow) -> bool:
        """False when this payment is already written down."""
        async with self._database.connection() as connection:
            status = await connection.execute(
                """insert into hiring.hold (key, hire_key, job_key, binding, rail, request, budget_id, task,
                       payer_account, payee_account, seller, capability, reservation, state, opened_at, deadline)
                   select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                          $15::timestamptz, $16::timestamptz
                    where set_config('synchronous_commit', 'off', true) = 'off'
                   on conflict do nothing""",
                row.key,
                row.hire_key,
                row.job_key,
                row.request.binding,
                row.request.rail,
                row.request.model_dump_json(),
                row.budget_id,
                row.task,
                row.payer_account,
                row.payee_account,
                row.seller,
                row.capability,
                row.reservation,
                str(row.state),
                row.opened_at,
                row.deadline,
            )
        return bool(status.endswith("1"))

    async def move(self, row: HoldRow, state: PaymentState, payment: Payment | None, deadline: datetime) -> HoldRow:
        """Note how far an open payment is. One that has ended stays as it ended."""
        kept = payment or row.payment
        async with self._database.connection() as connection:
            found = await connection.fetchrow(
                """update hiring.hold set state = $2, payment = $3, payment_id = $4, deadline = $5, looked_at = now()
                   where key = $1 and finished_at is null returning *""",
                row.key,
                str(state),
                None if kept is None else kept.model_dump_json(),
                None if kept is None else kept.id,
                deadline,
            )
        return _hold(found) if found is not None else await self.existing(row.key)

    async def finish(
        self, row: HoldRow, state: PaymentState, payment: Payment | None, at: datetime, reason: str
    ) -> HoldRow:
        """End a payment, with its event, once; the second to come finds how it ended."""
        ended = replace(row, state=state, payment=payment or row.payment, finished_at=at, reason=reason)
        event = _event(ended, at)
        async with self._database.connection() as connection:
            found = await connection.fetchrow(
                FINISH,
                row.key,
                str(state),
                None if ended.payment is None else ended.payment.model_dump_json(),
                None if ended.payment is None else ended.payment.id,
                at,
                reason,
                str(event.name),
                event.subject,
                event.data,
            )
        return _hold(found) if found is not None else await self.existing(row.key)

    async def left_open(self, before: datetime, limit: int) -> list[HoldRow]:
        """Open payments whose deadline is over or whose hire has ended; each is given to one caller per minute."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                """update hiring.hold set looked_at = now() where key in (
                       select h.key from hiring.hold h left join hiring.hire r on r.key = h.hire_key
                        where h.finished_at is null and (h.deadline < $1 or r.state is distinct from 'running')
                          and (h.looked_at is null or h.looked_at < now() - interval '1 minute' or h.state <> 'unknown')
                        order by h.deadline limit $2 for update of h skip locked)
                   returning *""",
                before,
                limit,
            )
        return [_hold(row) for row in rows]

    async def existing(self, key: str) -> HoldRow:
        """The row of a payment that is known to be written down."""
        found = await self.find(key)
        if found is None:
            raise AssertionError(f"hold {key} vanished")
        return found


def settled_amount(payment: Payment) -> Money:
    """What was really taken; less than asked only where the rail says so (metered schemes)."""
    stated = payment.evidence.get("settled_amount")
    amount = payment.request.amount
    if isinstance(stated, str) and stated.isdecimal() and len(stated) <= 78 and int(stated) <= amount.atomic:
        return Money(amount.asset, int(stated))
    return amount


def _event(row: HoldRow, at: datetime) -> Event:
    name = EventName.PAYMENT_SETTLED if row.paid else EventName.PAYMENT_REFUNDED
    data: dict[str, object] = {
        "hire": row.hire_key,
        "rail": row.request.rail,
        "amount": row.request.amount.to_json(),
        "payee": row.request.payee,
        "state": str(row.state),
    }
    return Event(name=name, subject=f"payment:{row.key}", sequence=1, at=at, data=data)


def _hold(row: asyncpg.Record) -> HoldRow:
    return HoldRow(
        key=row["key"],
        hire_key=row["hire_key"],
        job_key=row["job_key"],
        request=PaymentRequest.model_validate_json(row["request"]),
        payer_account=row["payer_account"],
        payee_account=row["payee_account"],
        reservation=row["reservation"],
        state=PaymentState(row["state"]),
        opened_at=row["opened_at"],
        deadline=row["deadline"],
        budget_id=row["budget_id"],
        task=row["task"],
        seller=row["seller"],
        capability=row["capability"],
        payment=None if row["payment"] is None else Payment.model_validate_json(row["payment"]),
        reason=row["reason"],
        finished_at=row["finished_at"],
    )
