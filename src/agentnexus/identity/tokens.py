"""Access tokens: random, shown once, stored as hashes; they end by themselves, by their owner or by the operator."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.core.ports import Entropy
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log

PREFIX = "nx_"
ROTATION_GRACE = timedelta(minutes=10)  # an answer lost on its way must not lock its caller out
USE_NOTED_EVERY = timedelta(hours=1)
LISTED_MAX = 200
PERSON = re.compile(r"[a-zA-Z0-9_.@-]{1,100}")
SIGNED_IN = ("mail.", "passkey.")  # persons of these names come by signing in, and no operator makes one


KNOWN = "select exists (select from identity.person where id = $1)"
MEET = "insert into identity.person (id, role) values ($1, 'basic') on conflict (id) do nothing"


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token without its secret. `id` names it to its owner."""

    id: str
    user_id: str
    role: str
    label: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    def to_json(self) -> dict[str, object]:
        """Times in ISO 8601; None stays None."""
        times = {"created_at": self.created_at, "expires_at": self.expires_at, "last_used_at": self.last_used_at}
        return {
            "id": self.id,
            "user": self.user_id,
            "role": self.role,
            "label": self.label,
            **{name: at.isoformat() if at else None for name, at in times.items()},
        }


class Tokens:
    """Token store in PostgreSQL. Times are the database's."""

    def __init__(self, database: Database, entropy: Entropy) -> None:
        self._database = database
        self._entropy = entropy

    async def issue(
        self, person_id: str, role: str | None = None, *, lives: timedelta | None = None, label: str = ""
    ) -> str:
        """Make the person if new and a token for them; this is the only time the token is seen.

        `role`: ``basic`` or ``operator``, of the person and so of all their tokens; None leaves it as it is (``basic``
        for a new person). Raises `InvalidInput`, also for a new person with a name that only signing in gives.
        """
        if not PERSON.fullmatch(person_id):
            raise InvalidInput(f"not a user's name: {person_id[:100]!r}", next_step="use letters, digits and _.@-")
        async with self._database.transaction() as connection:
            if person_id.startswith(SIGNED_IN) and not await connection.fetchval(KNOWN, person_id):
                raise InvalidInput(
                    f"names that begin with {' or '.join(SIGNED_IN)} belong to those who sign in so",
                    next_step="choose another name",
                )
            await connection.execute(
                """insert into identity.person (id, role) values ($1, coalesce($2, 'basic'))
                   on conflict (id) do update set role = coalesce($2, identity.person.role)""",
                person_id, role,
            )  # fmt: skip
            return await self._add(connection, person_id, await _end(connection, lives), label)

    async def admit(self, person_id: str, *, lives: timedelta | None = None, label: str = "") -> str:
        """A token for somebody who has just shown who they are; a new person is ``basic``."""
        async with self._database.transaction() as connection:
            await connection.execute(MEET, person_id)
            token = await self._add(connection, person_id, await _end(connection, lives), label)
        log.info("identity.signed_in", person=person_id, way=label)
        return token

    async def _add(self, connection: Connection, person_id: str, ends: datetime | None, label: str) -> str:
        token = PREFIX + base64.urlsafe_b64encode(self._entropy.random_bytes(32)).decode().rstrip("=")
        await connection.execute(
            """insert into identity.token (hash, person_id, expires_at, not_after, label)
               values ($1, $2, $3, $3, $4)""",
            _hash(token), person_id, ends, label[:100],
        )  # fmt: skip
        return token

    async def find(self, token: str) -> tuple[str, str] | None:
        """(person id, role), or None for a token that is unknown, revoked or over."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                """select p.id, p.role, t.last_used_at is null or t.last_used_at < now() - $2::interval as unnoted
                     from identity.token t join identity.person p on p.id = t.person_id
                    where t.hash = $1 and t.revoked_at is null and (t.expires_at is null or t.expires_at > now())""",
                _hash(token), USE_NOTED_EVERY,
            )  # fmt: skip
            if row is not None and row["unnoted"]:  # now and then, or every request would be a write
                await connection.execute("update identity.token set last_used_at = now() where hash = $1", _hash(token))
        return (row["id"], row["role"]) if row else None

    async def rotate(self, token: str) -> str:
        """Another token with the same owner, name and end; the old one is over after `ROTATION_GRACE`.

        An end that was given to a token binds all that replace it. Raises `NotFound`.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                """update identity.token set expires_at = least(expires_at, now() + $2::interval)
                    where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())
                   returning person_id, label, not_after""",
                _hash(token), ROTATION_GRACE,
            )  # fmt: skip
            if row is None:
                raise NotFound("there is no such token", next_step="sign in with your wallet, or ask the operator")
            return await self._add(connection, row["person_id"], row["not_after"], row["label"])

    async def of(self, person_id: str | None = None) -> list[TokenInfo]:
        """Tokens that are good now, of one person or of everybody, newest first, at most `LISTED_MAX`."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select t.hash, t.person_id, p.role, t.label, t.created_at, t.expires_at, t.last_used_at
                     from identity.token t join identity.person p on p.id = t.person_id
                    where t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
                      and ($1::text is null or t.person_id = $1)
                    order by t.created_at desc limit $2""",
                person_id, LISTED_MAX,
            )  # fmt: skip
        return [_info(row) for row in rows]

    async def revoke(self, token: str) -> bool:
        """Whether there was something to revoke."""
        async with self._database.connection() as connection:
            done = await connection.execute(
                "update identity.token set revoked_at = now() where hash = $1 and revoked_at is null", _hash(token)
            )
        return done == "UPDATE 1"

    async def end(self, token_id: str, person_id: str | None = None) -> None:
        """End a token by its id, of that person or, with None, of anybody. Raises `NotFound`."""
        async with self._database.connection() as connection:
            done = await connection.execute(
                """update identity.token set revoked_at = now()
                    where encode(substring(hash for 8), 'hex') = $1 and revoked_at is null
                      and ($2::text is null or person_id = $2)""",
                token_id.removeprefix("tok_"), person_id,
            )  # fmt: skip
        if done == "UPDATE 0":
            raise NotFound("there is no token with that id", next_step="list them: `nexus token list`")


async def _end(connection: Connection, lives: timedelta | None) -> datetime | None:
    return None if lives is None else await connection.fetchval("select now() + $1::interval", lives)


def _info(row: asyncpg.Record) -> TokenInfo:
    fields = {name: row[name] for name in ("role", "label", "created_at", "expires_at", "last_used_at")}
    return TokenInfo(id=f"tok_{row['hash'][:8].hex()}", user_id=row["person_id"], **fields)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
