"""Access tokens: random, shown once, stored as hashes; they end by themselves, by their owner or by the operator.

A web session is a token that goes on while it is used. When its holder showed who they are stays with a token, whatever
becomes of it; tokens that somebody else gave them say nothing of that.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg

from agentnexus.core.errors import Conflict, InvalidInput, NotFound
from agentnexus.core.ports import Entropy
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log

PREFIX = "nx_"
ROTATION_GRACE = timedelta(minutes=10)  # an answer lost on its way must not lock its caller out
USE_NOTED_EVERY = timedelta(hours=1)
SESSION_MAX = timedelta(days=30)  # since its person last showed who they are, however much it is used
LISTED_MAX = 200
PERSON = re.compile(r"[a-zA-Z0-9_.@-]{1,100}")
SIGNED_IN = ("mail.", "passkey.")  # persons of these names come by signing in, and no operator makes one


KNOWN = "select exists (select from identity.person where id = $1)"
SHOWN = (
    "role", "label", "created_at", "expires_at", "last_used_at", "proven_at", "is_session", "device",
)  # fmt: skip
MEET = "insert into identity.person (id, role) values ($1, 'basic') on conflict (id) do nothing"
# A session in the second half of its time gets a new end: a write now and then, not at every request.
FIND = """
select p.id, p.role, now() - t.proven_at as proof_age,
       t.last_used_at is null or t.last_used_at < now() - $2::interval
       or (t.idle is not null and t.expires_at < least(t.not_after, now() + t.idle / 2)) as to_note
  from identity.token t join identity.person p on p.id = t.person_id
 where t.hash = $1 and t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
"""
NOTE = """
update identity.token set last_used_at = now(), expires_at = case
           when idle is not null and expires_at < now() + idle / 2 then least(not_after, now() + idle)
           else expires_at end
 where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose token it is. `proof_age`: since they showed who they are; None when they did not for this token."""

    person_id: str
    role: str
    proof_age: timedelta | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token without its secret. `id` names it to its owner.

    `proven_at`: when they signed in for it, None where somebody else gave it to them; `device`: what they used.
    """

    id: str
    user_id: str
    role: str
    label: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    proven_at: datetime | None
    is_session: bool
    device: str

    def to_json(self) -> dict[str, object]:
        """Times in ISO 8601; None stays None."""
        times = {
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "last_used_at": self.last_used_at,
            "signed_in_at": self.proven_at,
        }
        return {
            "id": self.id,
            "user": self.user_id,
            "role": self.role,
            "label": self.label,
            "session": self.is_session,
            "device": self.device,
            **{name: at.isoformat() if at else None for name, at in times.items()},
        }


class Tokens:
    """Token store in PostgreSQL. Times are the database's."""

    def __init__(self, database: Database, entropy: Entropy) -> None:
        self._database = database
        self._entropy = entropy

    async def issue(
        self,
        person_id: str,
        role: str | None = None,
        *,
        lives: timedelta | None = None,
        label: str = "",
        vouched: bool = False,
    ) -> str:
        """Make the person if new and a token for them; this is the only time the token is seen.

        `role`: ``basic`` or ``operator``, of the person and so of all their tokens; None leaves it as it is (``basic``
        for a new person). `vouched`: the operator knows that it goes to that very person now, so it is as good as a
        sign-in. Raises `InvalidInput`, also for a new person with a name that only signing in gives.
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
            now = await _now(connection)
            end, proven_at = None if lives is None else now + lives, now if vouched else None
            return await self._add(connection, person_id, label, expires_at=end, not_after=end, proven_at=proven_at)

    async def admit(self, person_id: str, *, lives: timedelta | None = None, label: str = "") -> str:
        """A token for somebody who has just shown who they are; a new person is ``basic``.

        `lives`: for a web session, which goes on while it is used within so long, for `SESSION_MAX` at most.
        """
        async with self._database.transaction() as connection:
            await connection.execute(MEET, person_id)
            now = await _now(connection)
            end, last = (None, None) if lives is None else (now + lives, now + SESSION_MAX)
            token = await self._add(
                connection, person_id, label, expires_at=end, not_after=last, proven_at=now, idle=lives
            )
        log.info("identity.signed_in", person=person_id, way=label)
        return token

    async def _add(
        self,
        connection: Connection,
        person_id: str,
        label: str,
        *,
        expires_at: datetime | None,
        not_after: datetime | None,
        proven_at: datetime | None = None,
        idle: timedelta | None = None,
        device: str = "",
    ) -> str:
        token = PREFIX + base64.urlsafe_b64encode(self._entropy.random_bytes(32)).decode().rstrip("=")
        await connection.execute(
            """insert into identity.token (hash, person_id, label, expires_at, not_after, proven_at, idle, device)
               values ($1, $2, $3, $4, $5, $6, $7, $8)""",
            hashed(token), person_id, label[:100], expires_at, not_after, proven_at, idle, device,
        )  # fmt: skip
        return token

    async def find(self, token: str) -> Holder | None:
        """Who holds it, or None for a token that is unknown, revoked or over. A session goes on by this."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(FIND, hashed(token), USE_NOTED_EVERY)
            if row is not None and row["to_note"]:  # now and then, or every request would be a write
                await connection.execute(NOTE, hashed(token))
        return Holder(row["id"], row["role"], row["proof_age"]) if row else None

    async def rotate(self, token: str) -> str:
        """Another token with the same owner, name and end; the old one is over after `ROTATION_GRACE`.

        An end that was given to a token binds all that replace it, and none of them is a newer proof of who its owner
        is. Raises `NotFound`, and `Conflict` for a session: it goes on by itself.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                """update identity.token set expires_at = least(expires_at, now() + $2::interval)
                    where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())
                   returning person_id, label, not_after, proven_at, idle, device""",
                hashed(token), ROTATION_GRACE,
            )  # fmt: skip
            if row is None:
                raise NotFound("there is no such token", next_step="sign in with your wallet, or ask the operator")
            if row["idle"] is not None:
                raise Conflict("a browser's session is not replaced", next_step="sign in for a token of its own")
            return await self._add(
                connection, row["person_id"], row["label"], expires_at=row["not_after"], not_after=row["not_after"],
                proven_at=row["proven_at"], device=row["device"],
            )  # fmt: skip

    async def of(self, person_id: str | None = None) -> list[TokenInfo]:
        """Tokens that are good now, of one person or of everybody, newest first, at most `LISTED_MAX`."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select t.*, t.idle is not null as is_session, p.role
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
                "update identity.token set revoked_at = now() where hash = $1 and revoked_at is null", hashed(token)
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

    async def end_all(self, person_id: str) -> int:
        """End all that this person got by signing in, sessions and tokens of programs; how many that were.

        No browser of theirs is known any more: signing in with it is news again.
        """
        async with self._database.transaction() as connection:
            await connection.execute("delete from identity.browser where person_id = $1", person_id)
            ended = await connection.fetch(
                """update identity.token set revoked_at = now()
                    where person_id = $1 and proven_at is not null and revoked_at is null returning hash""",
                person_id,
            )
        return len(ended)


async def _now(connection: Connection) -> datetime:
    now: datetime = await connection.fetchval("select now()")
    return now


def _info(row: asyncpg.Record) -> TokenInfo:
    fields = {name: row[name] for name in SHOWN}
    return TokenInfo(id=f"tok_{row['hash'][:8].hex()}", user_id=row["person_id"], **fields)


def id_of(token: str) -> str:
    """What names a token without giving it away."""
    return f"tok_{hashed(token)[:8].hex()}"


def hashed(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()
