"""Signing in with a code of eight digits that is sent by e-mail.

Every address is answered alike, known here or not: a code goes out, and whoever has it is the person of that address.
The person's name is a hash, so that no list of users is a list of addresses.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from agentnexus.core.errors import InvalidInput, NotAllowed, RateLimited
from agentnexus.core.ports import Clock, Entropy, Ids
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log
from agentnexus.platform.mail import Mail, Mailer
from agentnexus.platform.sealing import Sealer

VALID = timedelta(minutes=10)
TRIES = 5
WINDOW = timedelta(hours=1)
# Mails within the window. Five codes of five tries each are 25 guesses an hour for one address. Who knows a thousand
# addresses and calls from many places has 5,000: with six digits that is an account in eight days, with eight in two
# years.
PER_ADDRESS, PER_CALLER, PER_NODE = 5, 20, 1000
ADDRESS_CHARS = 254
DIGITS = 8
# ASCII alone: letters of other scripts that look or fold alike would make one person of two.
ADDRESS = re.compile(
    r"[a-z0-9_'&=~-][a-z0-9_+'&=~-]*(?:\.[a-z0-9_+'&=~-]+)*@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}"
)
LOCAL_CHARS = 64
FORGET = "delete from identity.mail_challenge where created_at < $1"
COUNTED = """select count(*) filter (where person_id = $1) as of_address,
                    count(*) filter (where caller = $2) as of_caller, count(*) as of_node,
                    coalesce(min(created_at) filter (where person_id = $1 or caller = $2), min(created_at)) as oldest
               from identity.mail_challenge where created_at >= $3"""
SEND = """insert into identity.mail_challenge (id, person_id, caller, address, code, tries_left, created_at, expires_at)
          values ($1, $2, $3, $4, $5, $6, $7, $8)"""
# A try is taken before the code is looked at: guesses at the same instant are five as well.
TRY = """update identity.mail_challenge set tries_left = tries_left - 1
          where id = $1 and used_at is null and tries_left > 0 and expires_at >= $2 returning code"""
USE = """update identity.mail_challenge set used_at = $2, code = '' where id = $1 and used_at is null
         returning person_id, address"""
REMEMBER = """insert into identity.mail_address (person_id, sealed) values ($1, $2)
              on conflict (person_id) do update set sealed = excluded.sealed"""


@dataclass(frozen=True, slots=True)
class MailChallenge:
    """A code is on its way; `id` goes back with it, before `expires_at`."""

    id: str
    expires_at: datetime


class MailLogin:
    """Codes by e-mail.

    Args:
        name: what this node calls itself in its messages, such as its domain.
        sealer: codes and addresses are sealed at rest.
    """

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        mailer: Mailer,
        sealer: Sealer,
        *,
        clock: Clock,
        entropy: Entropy,
        ids: Ids,
        name: str,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._mailer = mailer
        self._sealer = sealer
        self._clock = clock
        self._entropy = entropy
        self._ids = ids
        self._name = name

    async def begin(self, email: str, *, caller: str = "") -> MailChallenge:
        """Send a code. `caller`: where the request comes from.

        Raises `InvalidInput` for what is no address, `RateLimited`, and `Unavailable` when mail cannot be sent.
        """
        address = normalised(email)
        code = self._code()
        made = MailChallenge(self._ids.new("mail"), self._clock.now() + VALID)
        await self._keep(made, address, code, hashlib.sha256(caller.encode()).digest())
        try:
            await self._mailer.send(Mail(address, "Your code to sign in", self._text(code)))
        except InvalidInput:  # what a mail server knows of its users is not for strangers
            log.warning("mail.address_not_taken", person=person_of(address))
        return made

    async def finish(self, challenge_id: str, code: str, *, lives: timedelta | None = None) -> tuple[str, str]:
        """(person, token). Raises `NotAllowed`, with one sentence for wrong, used and old codes."""
        now, given = self._clock.now(), re.sub(r"[\s-]", "", code)
        refused = NotAllowed(
            "this code is wrong, used or too old",
            next_step=f"check its {DIGITS} digits, or ask for a new one: each is good for {TRIES} tries",
        )
        async with self._database.connection() as connection:
            sealed: str | None = await connection.fetchval(TRY, challenge_id, now)
        if sealed is None:
            raise refused
        right = self._sealer.open(sealed, f"mail code {challenge_id}")
        if not hmac.compare_digest(right.encode(), given.encode()):
            raise refused
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(USE, challenge_id, now)
        if row is None:  # the same code, at the same instant
            raise refused
        person: str = row["person_id"]
        token = await self._tokens.admit(person, lives=lives, label="e-mail")
        address = self._sealer.open(row["address"], f"mail to {challenge_id}")
        async with self._database.connection() as connection:
            await connection.execute(REMEMBER, person, self._sealer.seal(address, f"address of {person}"))
        return person, token

    async def address_of(self, person_id: str) -> str:
        """The address a person signed in with, for themselves to see; "" for who did not."""
        async with self._database.connection() as connection:
            sealed: str | None = await connection.fetchval(
                "select sealed from identity.mail_address where person_id = $1", person_id
            )
        return "" if sealed is None else self._sealer.open(sealed, f"address of {person_id}")

    async def _keep(self, made: MailChallenge, address: str, code: str, caller: bytes) -> None:
        now, person = self._clock.now(), person_of(address)
        sealed = self._sealer.seal(address, f"mail to {made.id}"), self._sealer.seal(code, f"mail code {made.id}")
        async with self._database.transaction() as connection:
            await connection.execute("lock table identity.mail_challenge in share row exclusive mode")
            await connection.execute(FORGET, now - WINDOW)
            await _require_few(connection, person, caller, now)
            await connection.execute(SEND, made.id, person, caller, *sealed, TRIES, now, made.expires_at)

    def _code(self) -> str:
        return f"{int.from_bytes(self._entropy.random_bytes(8), 'big') % 10**DIGITS:0{DIGITS}}"

    def _text(self, code: str) -> str:
        minutes = int(VALID.total_seconds() // 60)
        return (
            f"Your code to sign in to {self._name}:\n\n    {code}\n\nIt is good once, for {minutes} minutes.\n\n"
            "If you did not ask for it, do nothing: without the code nobody is signed in. Nobody of this node will\n"
            "ever ask you for it; type it only where you asked for it yourself.\n"
        )


def normalised(email: str) -> str:
    """One spelling per address. Raises `InvalidInput`."""
    address = email.strip(" \t").lower() if email.isascii() else ""
    local = address.partition("@")[0]
    if len(address) > ADDRESS_CHARS or len(local) > LOCAL_CHARS or not ADDRESS.fullmatch(address):
        raise InvalidInput(
            "that is no e-mail address", field="email", next_step="write it as name@example.org, in plain letters"
        )
    return address


def person_of(address: str) -> str:
    """The person of an address as `normalised` writes it."""
    return f"mail.{hashlib.sha256(address.encode()).hexdigest()[:32]}"


async def _require_few(connection: Connection, person: str, caller: bytes, now: datetime) -> None:
    counted = await connection.fetchrow(COUNTED, person, caller, now - WINDOW)
    assert counted is not None
    limits = {"of_address": PER_ADDRESS, "of_caller": PER_CALLER, "of_node": PER_NODE}
    if any(counted[name] >= most for name, most in limits.items()):
        seconds = max(1, int((counted["oldest"] + WINDOW - now).total_seconds()) + 1)
        raise RateLimited(
            "too many codes were sent",
            next_step=f"use one that you have, or wait {-(-seconds // 60)} min",
            retry_after_seconds=seconds,
        )
