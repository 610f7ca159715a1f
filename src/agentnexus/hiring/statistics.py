"""Verified outcomes per seller: success, kept promises, valid results, ratings by payers. Self-dealing is left out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import Conflict, InvalidInput, NotFound
from agentnexus.core.offers import Offer
from agentnexus.core.payments import PaymentRequest
from agentnexus.core.ports import Clock
from agentnexus.hiring.match import Buyer
from agentnexus.hiring.model import SellerRecord
from agentnexus.platform.database import Database

PREFERRED, BLOCKED = "preferred", "blocked"
PREFERENCES_MAX = 500
SELLER_KIND = re.compile(r"[a-z0-9_-]{1,20}")
SNAPSHOT_SECONDS = 5.0
LATENCY_SHARE = 0.2
PROMISE_SLACK = 1.5
PROMISE_GRACE_SECONDS = 0.5

# How an attempt ends, in one statement: receipt, attempt, hire. A second time changes nothing.
END_ATTEMPT = """
with ended as (
    update hiring.attempt set state = $3, receipt = $4, error = $5, finished_at = $6, output = null
     where hire_key = $1 and number = $2 and finished_at is null returning job_id),
hire as (
    update hiring.hire set state = $7, output = $8, error = $5, finished_at = $6
     where key = $1 and state = 'running' and $7::text is not null)
"""

# The outcome is written once per job; only the first writing moves the seller's sums.
END_ATTEMPT_WITH_OUTCOME = f"""{END_ATTEMPT},
fresh as (
    insert into hiring.outcome (job_id, seller, market, capability, buyer, self_dealing, succeeded, schema_valid,
                                duration_seconds, promised_seconds, at)
    select job_id, $9, $10, $11, $12, $13::bool, $14::bool, $15::bool, $16::float8, $17::float8, $6 from ended
    on conflict (job_id) do nothing returning *)
insert into hiring.seller as s
    (seller, jobs, succeeded, schema_invalid, promised, kept_promise, latency_seconds, updated_at)
select seller, 1, succeeded::int, (schema_valid is false)::int, (succeeded and promised_seconds is not null)::int,
       coalesce(succeeded and duration_seconds <= promised_seconds * {PROMISE_SLACK} + {PROMISE_GRACE_SECONDS},
                false)::int,
       case when succeeded then duration_seconds end, at
  from fresh where not self_dealing
on conflict (seller) do update set
    jobs = s.jobs + 1,
    succeeded = s.succeeded + excluded.succeeded,
    schema_invalid = s.schema_invalid + excluded.schema_invalid,
    promised = s.promised + excluded.promised,
    kept_promise = s.kept_promise + excluded.kept_promise,
    latency_seconds = coalesce(s.latency_seconds * {1 - LATENCY_SHARE} + excluded.latency_seconds * {LATENCY_SHARE},
                               excluded.latency_seconds, s.latency_seconds),
    updated_at = excluded.updated_at
"""  # noqa: S608 - only this module's own numbers are put in


@dataclass(frozen=True, slots=True)
class Preference:
    """A seller on a user's list; `kind` is ``preferred`` or ``blocked``."""

    seller: str
    kind: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended, as far as it says something about its seller."""

    seller: str
    market: str
    capability: str
    buyer: str
    self_dealing: bool
    succeeded: bool
    schema_valid: bool | None
    duration_seconds: float
    promised_seconds: float | None

    def row(self) -> tuple[object, ...]:
        """Arguments $9 and on of `END_ATTEMPT_WITH_OUTCOME`."""
        return (
            self.seller,
            self.market,
            self.capability,
            self.buyer,
            self.self_dealing,
            self.succeeded,
            self.schema_valid,
            self.duration_seconds,
            self.promised_seconds,
        )


class SellerRecords:
    """Records and preferences in PostgreSQL, with a snapshot of all records at most `SNAPSHOT_SECONDS` old."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._snapshot: Mapping[str, SellerRecord] = {}
        self._read_at: float | None = None
        self._lock = asyncio.Lock()

    async def snapshot(self, *, refresh: bool = False) -> Mapping[str, SellerRecord]:
        """Every seller's record by key. The same object comes back as long as nothing changed."""
        async with self._lock:
            now = self._clock.monotonic()
            if refresh or self._read_at is None or now - self._read_at > SNAPSHOT_SECONDS:
                fresh = await self._read()
                if fresh != self._snapshot:
                    self._snapshot = fresh
                self._read_at = now
            return self._snapshot

    async def _read(self) -> dict[str, SellerRecord]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select seller, jobs, succeeded, schema_invalid, promised, kept_promise, ratings, rating_total,"
                " latency_seconds from hiring.seller"
            )
        return {row["seller"]: SellerRecord(**dict(row)) for row in rows}

    async def record(self, seller: str) -> SellerRecord:
        """One seller's record; a new seller has an empty one."""
        return (await self.snapshot(refresh=True)).get(seller) or SellerRecord(seller)

    async def rate(self, job_id: str, user_id: str, rating: int) -> None:
        """1-5 by the buyer who paid; a second rating replaces the first.

        Raises `InvalidInput`, `NotFound` (no such paid job of this user), `Conflict` (self-dealing, or paid less than
        the offer's price: a gift is no judgement).
        """
        if not 1 <= rating <= 5:
            raise InvalidInput("a rating is 1 to 5", field="rating", next_step="give a whole number from 1 to 5")
        async with self._database.transaction() as connection:
            before = await connection.fetchrow(
                """select o.seller, o.rating, o.self_dealing, a.offer,
                          array(select h.request from hiring.hold h
                                 where h.job_key = a.job_key and h.state in ('confirmed', 'released')) as requests
                     from hiring.outcome o join hiring.attempt a on a.job_id = o.job_id
                    where o.job_id = $1 and o.buyer = $2 for update of o""",
                job_id,
                user_id,
            )
            if before is None or not before["requests"]:
                raise NotFound("you have not paid for such a job", next_step="rate one of your receipts", job=job_id)
            if before["self_dealing"]:
                raise Conflict("sellers do not rate themselves", next_step="let other buyers rate this seller")
            if not _full_price(before["offer"], before["requests"]):
                raise Conflict("this job was paid with less than its offer's price", next_step="rate one paid in full")
            await connection.execute("update hiring.outcome set rating = $2 where job_id = $1", job_id, rating)
            await connection.execute(
                "update hiring.seller set ratings = ratings + $2, rating_total = rating_total + $3 where seller = $1",
                before["seller"],
                0 if before["rating"] else 1,
                rating - (before["rating"] or 0),
            )

    async def prefer(self, user_id: str, seller: str, kind: str | None) -> None:
        """Put a seller on a user's list: ``preferred``, ``blocked``, or `None` for neither. Raises `InvalidInput`."""
        seller = seller_key(seller)
        async with self._database.connection() as connection:
            if kind is None:
                await connection.execute(
                    "delete from hiring.preference where user_id = $1 and seller = $2", user_id, seller
                )
            elif kind in (PREFERRED, BLOCKED):
                written = await connection.execute(
                    """insert into hiring.preference (user_id, seller, kind)
                       select $1, $2, $3 where (select count(*) from hiring.preference
                                                 where user_id = $1 and seller <> $2) < $4
                       on conflict (user_id, seller) do update set kind = excluded.kind""",
                    user_id,
                    seller,
                    kind,
                    PREFERENCES_MAX,
                )
                if written.endswith(" 0"):
                    raise Conflict(
                        f"your lists hold {PREFERENCES_MAX} sellers already", next_step="take some off them first"
                    )
            else:
                raise InvalidInput(
                    f"not a kind of preference: {kind!r}", field="kind", next_step="use preferred or blocked"
                )

    async def preferences(self, user_id: str) -> list[Preference]:
        """A user's lists: the preferred first, in the order they were put there."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select seller, kind, created_at from hiring.preference where user_id = $1
                   order by kind desc, created_at, seller""",
                user_id,
            )
        return [Preference(row["seller"], row["kind"], row["created_at"]) for row in rows]

    async def buyer(self, user_id: str, networks: frozenset[str] | None, *, allow_insecure: bool = False) -> Buyer:
        """Who chooses: a user's lists with what the wallets can pay on."""
        listed = await self.preferences(user_id)
        return Buyer(
            blocked=frozenset(each.seller for each in listed if each.kind == BLOCKED),
            preferred=tuple(each.seller for each in listed if each.kind == PREFERRED),
            networks=networks,
            allow_insecure=allow_insecure,
        )


def seller_key(text: str) -> str:
    """A seller as offers and receipts name it, e.g. ``evm:0xabc…``; raises `InvalidInput` for anything else."""
    kind, colon, value = text.strip().partition(":")
    if not colon or not SELLER_KIND.fullmatch(kind) or not value.isprintable() or not 1 <= len(value) <= 190:
        raise InvalidInput(
            f"not a seller's key: {text[:60]!r}",
            field="seller",
            next_step="take it from `nexus offers` or a receipt: a kind, a colon and an address, such as evm:0x…",
        )
    return f"{kind}:{value.lower() if kind == 'evm' else value}"


def _full_price(offer: str, requests: Sequence[str]) -> bool:
    """Whether the payments of a job come to the listed price; one in another asset was agreed upon by its quote."""
    price = Offer.model_validate_json(offer).price.per_job
    amounts = [PaymentRequest.model_validate_json(request).amount for request in requests]
    return any(amount.asset != price.asset for amount in amounts) or sum(a.atomic for a in amounts) >= price.atomic
