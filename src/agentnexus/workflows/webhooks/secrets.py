"""The secrets of webhooks as the database keeps them: sealed, each for its own webhook."""

from __future__ import annotations

from agentnexus.platform.database import Database
from agentnexus.platform.logs import log
from agentnexus.platform.sealing import Sealer
from agentnexus.workflows.webhooks.signing import SECRET_PREFIX

PLAIN = "select id, secret from workflow.webhook where starts_with(secret, $1)"
SEAL = "update workflow.webhook set secret = $3 where id = $1 and secret = $2"
FOREIGN = """
select count(*) from workflow.webhook where enabled and secret <> '' and not starts_with(secret, $1)
"""


class Secrets:
    """Seals and opens. What was kept before there was a key is plain until `seal_plain` has run."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self.prefixes = (SECRET_PREFIX, sealer.prefix)
        """What this process can read begins with one of them."""

    def sealed(self, webhook_id: str, secret: str) -> str:
        """As it is kept; an endpoint without a secret has none."""
        return self._sealer.seal(secret, _place(webhook_id)) if secret else ""

    def opened(self, webhook_id: str, kept: str) -> str:
        """Raises `NotAllowed` for what another key sealed, or for another webhook."""
        return kept if not kept or kept.startswith(SECRET_PREFIX) else self._sealer.open(kept, _place(webhook_id))

    async def seal_plain(self, database: Database) -> int:
        """Seal what is kept in plain text; how many that was. Says so when some were sealed with another key."""
        async with database.connection() as connection:
            rows = await connection.fetch(PLAIN, SECRET_PREFIX)
            for row in rows:
                await connection.execute(SEAL, row["id"], row["secret"], self.sealed(row["id"], row["secret"]))
            foreign = await connection.fetchval(FOREIGN, self._sealer.prefix)
        if foreign:
            log.warning("webhooks.sealed_elsewhere", webhooks=foreign)
        return len(rows)


def _place(webhook_id: str) -> str:
    return f"webhook:{webhook_id}"
