"""Sends what waits. Any number of processes may: each takes deliveries under a lease and tries until they arrive.

At least once: a process killed between the answer and noting it delivers again, under the same event id.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import httpx

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NotAllowed, Unavailable
from agentnexus.core.events import Event, EventName
from agentnexus.core.ports import Clock, Signer
from agentnexus.platform.database import Database
from agentnexus.platform.logs import log
from agentnexus.workflows.dialect import event_json
from agentnexus.workflows.webhooks.model import Signature, Webhook, event_id
from agentnexus.workflows.webhooks.secrets import Secrets
from agentnexus.workflows.webhooks.signing import HEADERS, ed25519_signature, hmac_signature

AT_ONCE = 20
LOOK_SECONDS = 1.0
TIMEOUT_SECONDS = 10.0
LEASE = timedelta(seconds=30)
DELAYS_SECONDS = (5, 30, 120, 600, 1800, 3600, 10_800, 21_600, 43_200)
"""Waits after failed attempts; after the last one the delivery is given up, a day after the event."""
DISABLED_AFTER = 5
ANSWER_MAX = 500
TRIAL = "webhook.test"
GONE = 410
PER_ENDPOINT = 4
"""One that is slow to answer holds up itself, not the others."""
PICK = """
with picked as (
    select d.* from workflow.webhook w cross join lateral (
        select webhook_id, run_id, sequence from workflow.delivery
        where webhook_id = w.id and state = 'waiting' and next_at <= $1
        order by next_at, created_at, sequence limit $5 for update skip locked
    ) d where w.enabled and w.id <> all($4::text[])
        and (w.secret = '' or exists (select from unnest($6::text[]) as p where starts_with(w.secret, p))) limit $2
)
update workflow.delivery d set attempts = d.attempts + 1, next_at = $3
from picked p, workflow.webhook w, workflow.event e
where (d.webhook_id, d.run_id, d.sequence) = (p.webhook_id, p.run_id, p.sequence) and w.id = d.webhook_id
    and e.run_id = d.run_id and e.sequence = d.sequence
returning d.webhook_id, d.run_id, d.sequence, d.attempts, w.url, w.signature, w.secret, e.name, e.at, e.data
"""
DELIVERED = """
with d as (
    update workflow.delivery set state = 'delivered', status = $4, answer = $5, delivered_at = $6
    where webhook_id = $1 and run_id = $2 and sequence = $3
)
update workflow.webhook set failures = 0 where id = $1 and failures > 0
"""
LATER = """
update workflow.delivery set status = $4, answer = $5, next_at = $6
where webhook_id = $1 and run_id = $2 and sequence = $3 and state = 'waiting'
"""
GIVEN_UP = """
with d as (
    update workflow.delivery set state = 'failed', status = $4, answer = $5
    where webhook_id = $1 and run_id = $2 and sequence = $3 and state = 'waiting'
)
update workflow.webhook set failures = failures + 1, enabled = enabled and not $6 and failures + 1 < $7,
    reason = case when $6 then 'it answered that it is gone'
                  when failures + 1 >= $7 then 'too many deliveries failed in a row' else reason end
where id = $1
"""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where to send, and how to sign it; `kept` is the secret as the database has it."""

    webhook_id: str
    url: str
    signature: str
    kept: str


class Deliverer:
    """`run` until cancelled, or `tick` once. `http` must refuse private addresses and follow no redirects.

    Endpoints whose secret another key sealed are left to the hosts that have it.
    """

    def __init__(
        self,
        database: Database,
        http: httpx.AsyncClient,
        signer: Signer,
        secrets: Secrets,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._database = database
        self._http = http
        self._signer = signer
        self._secrets = secrets
        self._clock = clock or SystemClock()

    async def run(self) -> None:
        """Look every second, at once again while there is something; a slow endpoint does not hold up others."""
        busy: dict[asyncio.Task[None], str] = {}
        try:
            while True:
                for row in await self._picked(AT_ONCE - len(busy), busy.values()):
                    busy[asyncio.create_task(self._deliver(row), name="webhook")] = row["webhook_id"]
                if busy:
                    await asyncio.wait(busy, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(LOOK_SECONDS)
                busy = {task: webhook for task, webhook in busy.items() if not task.done()}
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)

    async def tick(self) -> int:
        """Try what is due now; returns how many deliveries that was."""
        rows = await self._picked(AT_ONCE, ())
        await asyncio.gather(*(self._deliver(row) for row in rows))
        return len(rows)

    async def _picked(self, limit: int, busy: Collection[str]) -> Sequence[asyncpg.Record]:
        now, readable = self._clock.now(), list(self._secrets.prefixes)
        if limit <= 0:
            return ()
        try:
            async with self._database.connection() as connection:
                return await connection.fetch(PICK, now, limit, now + LEASE, list(busy), PER_ENDPOINT, readable)
        except Unavailable as error:
            log.warning("webhooks.unavailable", error=error.message)
            return ()

    async def _deliver(self, row: asyncpg.Record) -> None:
        try:
            await self._note(row, *await self._post(row))
        except Unavailable as error:  # its lease ends, and it is delivered again
            log.warning("webhooks.not_noted", webhook=row["webhook_id"], error=error.message)

    async def _note(self, row: asyncpg.Record, status: int | None, answer: str) -> None:
        key = (row["webhook_id"], row["run_id"], row["sequence"])
        now = self._clock.now()
        async with self._database.connection() as connection:
            if status is not None and 200 <= status < 300:
                await connection.execute(DELIVERED, *key, status, answer, now)
            elif status == GONE or row["attempts"] > len(DELAYS_SECONDS):
                await connection.execute(GIVEN_UP, *key, status, answer, status == GONE, DISABLED_AFTER)
            else:
                again = now + timedelta(seconds=DELAYS_SECONDS[row["attempts"] - 1])
                await connection.execute(LATER, *key, status, answer, again)

    async def trial(self, webhook: Webhook) -> tuple[int | None, str]:
        """One test message, signed like the others, neither kept nor tried again; how it was answered."""
        at = self._clock.now()
        message_id = f"evt_test_{webhook.id}_{int(at.timestamp())}"
        said = {"id": message_id, "type": TRIAL, "data": {}, "seq": 0, "at": at.isoformat()}
        body = json.dumps(said, separators=(",", ":")).encode()
        endpoint = _Endpoint(webhook.id, webhook.url, webhook.signature, webhook.secret)
        return await self._send(endpoint, message_id, body)

    async def _post(self, row: asyncpg.Record) -> tuple[int | None, str]:
        message_id = event_id(row["run_id"], row["sequence"])
        endpoint = _Endpoint(row["webhook_id"], row["url"], row["signature"], row["secret"])
        return await self._send(endpoint, message_id, _body(row, message_id))

    async def _send(self, endpoint: _Endpoint, message_id: str, body: bytes) -> tuple[int | None, str]:
        """Status (None when nothing answered) and the beginning of the answer, or why there is none."""
        try:
            secret = self._secrets.opened(endpoint.webhook_id, endpoint.kept)
        except NotAllowed as error:
            return None, error.message
        headers = await self._headers(endpoint.signature, secret, message_id, body)
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._http.stream("POST", endpoint.url, content=body, headers=headers) as answer,
            ):
                return answer.status_code, await _beginning(answer)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return None, (str(error) or type(error).__name__)[:ANSWER_MAX]
        except TimeoutError:
            return None, f"no answer in {TIMEOUT_SECONDS:g} s"

    async def _headers(self, kind: str, secret: str, message_id: str, body: bytes) -> dict[str, str]:
        stamp = int(self._clock.now().timestamp())
        if kind == Signature.HMAC:
            signature = hmac_signature(secret, message_id, stamp, body)
        else:
            signature = await ed25519_signature(self._signer, message_id, stamp, body)
        signed = dict(zip(HEADERS, (message_id, str(stamp), signature), strict=True))
        return {**signed, "content-type": "application/json", "user-agent": "AgentNexus-Webhooks"}


def _body(row: asyncpg.Record, message_id: str) -> bytes:
    event = Event(
        name=EventName(row["name"]), subject=row["run_id"], sequence=row["sequence"], at=row["at"], data=row["data"]
    )
    return json.dumps({"id": message_id, **event_json(event)}, ensure_ascii=False, separators=(",", ":")).encode()


async def _beginning(answer: httpx.Response) -> str:
    """As much of an answer as the log keeps; the rest is not read."""
    found = b""
    async for chunk in answer.aiter_raw():
        found += chunk
        if len(found) >= ANSWER_MAX:
            break
    return found[:ANSWER_MAX].decode("utf-8", "replace").replace("\x00", "")
