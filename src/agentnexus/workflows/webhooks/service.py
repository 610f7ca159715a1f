"""`Webhooks`: endpoints of users, and the log of what was delivered to them."""

from __future__ import annotations

from collections.abc import Sequence

from agentnexus.core.clock import SystemClock, SystemEntropy, TimeOrderedIds
from agentnexus.core.errors import Conflict, NotFound
from agentnexus.core.ports import Clock, Entropy, Ids
from agentnexus.platform.database import Database
from agentnexus.workflows.audit import Trail
from agentnexus.workflows.webhooks.model import Delivery, Signature, Webhook, checked_events, checked_url
from agentnexus.workflows.webhooks.secrets import Secrets
from agentnexus.workflows.webhooks.signing import new_secret

PER_USER_MAX = 20
INSERT = """
insert into workflow.webhook (id, user_id, url, events, signature, secret, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $7)
"""
GET = "select * from workflow.webhook where id = $1"
LIST = "select * from workflow.webhook where user_id = $1 order by created_at desc, id desc"
DELETE = "delete from workflow.webhook where id = $1"
SWITCH = "update workflow.webhook set enabled = $2, reason = $3, failures = 0, updated_at = $4 where id = $1"
ROTATE = "update workflow.webhook set secret = $2, updated_at = $3 where id = $1"
LOG = """
select * from workflow.delivery where webhook_id = $1 and ($2 = '' or state = $2)
order by created_at desc, sequence desc limit $3
"""
AGAIN = """
update workflow.delivery set state = 'waiting', attempts = 0, next_at = $4
where webhook_id = $1 and run_id = $2 and sequence = $3 returning 1
"""


class Webhooks:
    """Somebody else's endpoint is `NotFound`; an operator passes None.

    Args:
        secrets: seals what the database keeps.
        allow_local: development: endpoints on this machine and without TLS are allowed.
    """

    def __init__(
        self,
        database: Database,
        trail: Trail,
        *,
        secrets: Secrets,
        allow_local: bool,
        clock: Clock | None = None,
        ids: Ids | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self._database = database
        self._trail = trail
        self._secrets = secrets
        self._allow_local = allow_local
        self._clock = clock or SystemClock()
        self._ids = ids or TimeOrderedIds()
        self._entropy = entropy or SystemEntropy()

    async def create(
        self, user_id: str, url: str, events: Sequence[str] = ("workflow.*",), signature: Signature = Signature.HMAC
    ) -> Webhook:
        """The answer has the secret; nothing shows it again. Raises `InvalidInput`, `Conflict` for too many."""
        address, names = checked_url(url, allow_local=self._allow_local), checked_events(events)
        if len(await self.list(user_id)) >= PER_USER_MAX:
            raise Conflict(f"there are {PER_USER_MAX} webhooks already", next_step="delete some you do not use")
        webhook_id = self._ids.new("whk")
        secret = new_secret(self._entropy) if signature is Signature.HMAC else ""
        await self._trail.note(user_id, user_id, "webhook.create", webhook_id, url=address, events=names)
        async with self._database.connection() as connection:
            await connection.execute(
                INSERT, webhook_id, user_id, address, names, signature.value,
                self._secrets.sealed(webhook_id, secret), self._clock.now(),
            )  # fmt: skip
        return (await self.get(webhook_id, user_id)).model_copy(update={"secret": secret})

    async def get(self, webhook_id: str, user_id: str | None) -> Webhook:
        """Raises `NotFound`."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(GET, webhook_id)
        if row is None or user_id not in (None, row["user_id"]):
            raise NotFound(f"there is no webhook {webhook_id}", next_step="list your webhooks")
        return Webhook.model_validate(dict(row))

    async def list(self, user_id: str) -> Sequence[Webhook]:
        """A user's endpoints, newest first."""
        async with self._database.connection() as connection:
            return [Webhook.model_validate(dict(row)) for row in await connection.fetch(LIST, user_id)]

    async def switch(self, webhook_id: str, user_id: str | None, *, enabled: bool) -> Webhook:
        """Off: what happens meanwhile is not delivered later, what waits does. Raises `NotFound`."""
        reason = "" if enabled else "switched off"
        now = self._clock.now()
        action = "webhook.enable" if enabled else "webhook.disable"
        return await self._do(action, webhook_id, user_id, SWITCH, enabled, reason, now)

    async def rotate(self, webhook_id: str, user_id: str | None) -> Webhook:
        """Another secret from now on, shown once. Raises `NotFound`, `Conflict` for an endpoint without one."""
        if (await self.get(webhook_id, user_id)).signature is not Signature.HMAC:
            raise Conflict("this webhook is signed with the node's key", next_step="make one with hmac-sha256")
        secret = new_secret(self._entropy)
        values = (self._secrets.sealed(webhook_id, secret), self._clock.now())
        rotated = await self._do("webhook.rotate", webhook_id, user_id, ROTATE, *values)
        return rotated.model_copy(update={"secret": secret})

    async def delete(self, webhook_id: str, user_id: str | None) -> None:
        """With its log. Raises `NotFound`."""
        found = await self.get(webhook_id, user_id)
        await self._trail.note(user_id or "operator", found.user_id, "webhook.delete", webhook_id)
        async with self._database.connection() as connection:
            await connection.execute(DELETE, webhook_id)

    async def log(self, webhook_id: str, user_id: str | None, state: str = "", limit: int = 100) -> Sequence[Delivery]:
        """Deliveries, newest first, perhaps only those in one state. Raises `NotFound`."""
        await self.get(webhook_id, user_id)
        async with self._database.connection() as connection:
            rows = await connection.fetch(LOG, webhook_id, state, limit)
        return [Delivery.model_validate(dict(row)) for row in rows]

    async def again(self, webhook_id: str, user_id: str | None, run_id: str, sequence: int) -> None:
        """Deliver an event once more. Raises `NotFound`."""
        await self.get(webhook_id, user_id)
        async with self._database.connection() as connection:
            found = await connection.fetchval(AGAIN, webhook_id, run_id, sequence, self._clock.now())
        if found is None:
            raise NotFound("this webhook was never to get that event", next_step="choose one from its log")

    async def _do(self, action: str, webhook_id: str, user_id: str | None, statement: str, *values: object) -> Webhook:
        found = await self.get(webhook_id, user_id)
        await self._trail.note(user_id or "operator", found.user_id, action, webhook_id)
        async with self._database.connection() as connection:
            await connection.execute(statement, webhook_id, *values)
        return await self.get(webhook_id, user_id)
