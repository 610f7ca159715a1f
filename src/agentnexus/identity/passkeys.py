"""Signing in with a passkey, and adding passkeys to who one is already (WebAuthn, discoverable ES256 credentials)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from agentnexus.core.errors import Conflict, NotAllowed, NotFound
from agentnexus.core.ports import Clock, Entropy
from agentnexus.identity import ceremonies
from agentnexus.identity.sites import Site
from agentnexus.identity.tokens import MEET, Tokens
from agentnexus.platform.database import Database

VALID = timedelta(minutes=5)
PER_PERSON_MAX = 20
NAME_CHARS = 100
FIELDS = ("credential_id", "person_id", "public_key", "rp_id", "name", "created_at", "last_used_at")
FORGET = "delete from identity.passkey_challenge where expires_at < $1"
ASK = """insert into identity.passkey_challenge (challenge, purpose, person_id, origin, user_handle, expires_at)
         values ($1, $2, $3, $4, $5, $6)"""
USE = """delete from identity.passkey_challenge where challenge = $1 and purpose = $2
         returning person_id, origin, user_handle, expires_at"""
OTHERS = "select count(*) from identity.passkey where person_id = $1 and credential_id <> $2"
NEW_PERSON = "insert into identity.person (id, role) values ($1, 'basic') on conflict (id) do nothing returning id"
KEEP = """insert into identity.passkey
               (credential_id, person_id, public_key, user_handle, rp_id, name, sign_count, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (credential_id) do nothing returning *"""
# Counters only go up; authenticators that keep none always say 0.
USED = """update identity.passkey set sign_count = $2, last_used_at = $3
           where credential_id = $1 and (sign_count < $2 or (sign_count = 0 and $2 = 0)) returning person_id"""


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey of a person; `public_key` is the uncompressed point on P-256 (65 bytes), `rp_id` the site's name."""

    credential_id: bytes
    person_id: str
    public_key: bytes
    rp_id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = None

    @property
    def id(self) -> str:
        """The credential's id as browsers write it (base64url)."""
        return ceremonies.encoded(self.credential_id)

    def to_json(self) -> dict[str, object]:
        """Bytes as base64url, times in ISO 8601."""
        return {
            "credential_id": self.id,
            "public_key": ceremonies.encoded(self.public_key),
            "rp_id": self.rp_id,
            "name": self.name,
            "created_at": self.created_at.isoformat(),
            "last_used_at": self.last_used_at.isoformat() if self.last_used_at else None,
        }


class PasskeyLogin:
    """Passkeys of this node's people. A challenge is good for one answer, right or wrong, for five minutes."""

    def __init__(self, database: Database, tokens: Tokens, clock: Clock, entropy: Entropy) -> None:
        self._database = database
        self._tokens = tokens
        self._clock = clock
        self._entropy = entropy

    async def creation(self, site: Site, person_id: str | None) -> dict[str, object]:
        """Options for ``navigator.credentials.create``. `person_id`: who is signed in, None for nobody.

        Raises `InvalidInput` for a site that can have no passkeys, `Conflict` for a person who has enough.
        """
        site.require_name()
        own = [] if person_id is None else await self.of(person_id)
        if len(own) >= PER_PERSON_MAX:
            raise Conflict(f"you have {len(own)} passkeys", next_step="use one of them")
        challenge, handle = self._entropy.random_bytes(32), self._entropy.random_bytes(32)
        await self._ask(challenge, "create", person_id, site, handle)
        exclude = [each.credential_id for each in own if each.rp_id == site.rp_id]
        # What the device's own list of passkeys calls it; who is new has no name yet.
        shown = f"AgentNexus {person_id[:40] if person_id else f'{self._clock.now():%Y-%m-%d}'}"
        return ceremonies.creation_options(site, challenge, handle, shown, exclude)

    async def create(
        self, site: Site, person_id: str | None, credential: Mapping[str, object], name: str = ""
    ) -> Passkey:
        """Keep a new passkey: of `person_id`, or of a new person where nobody is signed in.

        Raises `NotAllowed` for an answer that is not right, `InvalidInput` for what is none, `Conflict` for a passkey
        that is known already.
        """
        challenge = ceremonies.answered_challenge(credential)
        asked = await self._answer(challenge, "create", site)
        if asked["person_id"] != person_id:
            raise NotAllowed(
                "this passkey was begun as somebody else", next_step="begin again as who you are signed in as now"
            )
        made = ceremonies.checked_registration(credential, site, challenge)
        owner = person_id or person_of(made.credential_id)
        called = name.strip()[:NAME_CHARS] or f"Passkey {len(await self.of(owner)) + 1}"
        async with self._database.transaction() as connection:
            # A person without passkeys may still own things: whoever brings an id that was theirs is not them.
            is_new = person_id is None and await connection.fetchval(NEW_PERSON, owner) is not None
            row = None
            if is_new or person_id is not None:
                row = await connection.fetchrow(
                    KEEP, made.credential_id, owner, made.public_key, asked["user_handle"], site.rp_id,
                    called, made.sign_count, self._clock.now(),
                )  # fmt: skip
            if row is None:
                raise Conflict("this passkey is known already", next_step="sign in with it, or make another one")
        return _passkey(row)

    async def request(self, site: Site) -> dict[str, object]:
        """Options for ``navigator.credentials.get``: whichever passkey the visitor has here."""
        challenge = self._entropy.random_bytes(32)
        options = ceremonies.request_options(site, challenge)
        await self._ask(challenge, "sign-in", None, site, None)
        return options

    async def sign_in(
        self, site: Site, credential: Mapping[str, object], *, lives: timedelta | None = None
    ) -> tuple[str, str]:
        """(person, token). Raises `NotAllowed` for an answer that is not right, `InvalidInput` for what is none."""
        challenge = ceremonies.answered_challenge(credential)
        await self._answer(challenge, "sign-in", site)
        credential_id = ceremonies.decoded(str(credential.get("id", "")))
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "select * from identity.passkey where credential_id = $1 and rp_id = $2", credential_id, site.rp_id
            )
        if row is None:
            raise NotAllowed("this passkey is not known here", next_step="create one, or sign in another way")
        count = ceremonies.checked_assertion(credential, site, challenge, row["public_key"], row["sign_count"])
        _require_handle(credential, row["user_handle"])
        async with self._database.connection() as connection:
            person: str | None = await connection.fetchval(USED, credential_id, count, self._clock.now())
        if person is None:
            raise NotAllowed("this answer of the passkey is older than the last one", next_step="sign in again")
        return person, await self._tokens.admit(person, lives=lives, label="passkey")

    async def of(self, person_id: str) -> Sequence[Passkey]:
        """A person's passkeys, the oldest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select * from identity.passkey where person_id = $1 order by created_at, credential_id",
                person_id,
            )
        return [_passkey(row) for row in rows]

    async def remove(self, person_id: str, credential_id: bytes) -> None:
        """It signs nobody in any more; a smart account that it owns stays its own.

        Raises `NotFound`, and `Conflict` for the last way in of somebody who came by a passkey.
        """
        async with self._database.transaction() as connection:
            await connection.execute("select from identity.person where id = $1 for update", person_id)
            others: int = await connection.fetchval(OTHERS, person_id, credential_id)
            if not others and person_id.startswith("passkey."):
                raise Conflict("this is your only way to sign in", next_step="add another passkey first")
            done = await connection.execute(
                "delete from identity.passkey where person_id = $1 and credential_id = $2", person_id, credential_id
            )
        if done == "DELETE 0":
            raise NotFound("you have no such passkey", next_step="list them: GET /api/v1/auth/session")

    async def _ask(
        self, challenge: bytes, purpose: str, person_id: str | None, site: Site, handle: bytes | None
    ) -> None:
        now = self._clock.now()
        async with self._database.transaction() as connection:
            await connection.execute(FORGET, now)
            if person_id is not None:
                await connection.execute(MEET, person_id)  # the local user has never signed in
            await connection.execute(ASK, challenge, purpose, person_id, site.origin, handle, now + VALID)

    async def _answer(self, challenge: bytes, purpose: str, site: Site) -> asyncpg.Record:
        async with self._database.connection() as connection:
            asked = await connection.fetchrow(USE, challenge, purpose)
        if asked is None or asked["expires_at"] < self._clock.now():
            raise NotAllowed("this challenge is unknown, used or too old", next_step="begin again")
        if asked["origin"] != site.origin:
            raise NotAllowed("this was begun at another address of this node", next_step="begin again here")
        return asked


def person_of(credential_id: bytes) -> str:
    """The person that a passkey makes which was nobody's before."""
    return f"passkey.{hashlib.sha256(credential_id).hexdigest()[:32]}"


def _require_handle(credential: Mapping[str, object], handle: bytes) -> None:
    """Authenticators say for whom the passkey was made, and may leave it out."""
    response = credential["response"]
    told = response.get("userHandle") if isinstance(response, Mapping) else None
    if told and (not isinstance(told, str) or ceremonies.decoded(told) != handle):
        raise NotAllowed("this passkey was made for somebody else", next_step="sign in with another one")


def _passkey(row: asyncpg.Record) -> Passkey:
    return Passkey(**{name: row[name] for name in FIELDS})
