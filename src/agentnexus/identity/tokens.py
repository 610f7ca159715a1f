"""Access tokens: random, shown once, stored as hashes, revocable."""

from __future__ import annotations

import base64
import hashlib

from agentnexus.core.ports import Entropy
from agentnexus.platform.database import Database

PREFIX = "nx_"


class Tokens:
    """Token store in PostgreSQL."""

    def __init__(self, database: Database, entropy: Entropy) -> None:
        self._database = database
        self._entropy = entropy

    async def issue(self, person_id: str, role: str = "basic") -> str:
        """Make the person if new and a token for them; this is the only time the token is seen."""
        token = PREFIX + base64.urlsafe_b64encode(self._entropy.random_bytes(32)).decode().rstrip("=")
        async with self._database.transaction() as connection:
            await connection.execute(
                "insert into identity.person (id, role) values ($1, $2) on conflict (id) do nothing", person_id, role
            )
            await connection.execute(
                "insert into identity.token (hash, person_id) values ($1, $2)", _hash(token), person_id
            )
        return token

    async def find(self, token: str) -> tuple[str, str] | None:
        """(person id, role), or None for an unknown or revoked token."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                """select p.id, p.role from identity.token t join identity.person p on p.id = t.person_id
                    where t.hash = $1 and t.revoked_at is null""",
                _hash(token),
            )
        return (row["id"], row["role"]) if row else None

    async def revoke(self, token: str) -> bool:
        """Whether there was something to revoke."""
        async with self._database.connection() as connection:
            done = await connection.execute(
                "update identity.token set revoked_at = now() where hash = $1 and revoked_at is null", _hash(token)
            )
        return done == "UPDATE 1"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
