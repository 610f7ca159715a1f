"""What people sign in with: its name for their list, and whether they ever used it before.

A browser is known again by a cookie with a random number. What is kept of it is a hash of the number and the person, so
that nobody can tell which people share a browser.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from agentnexus.core.errors import NotFound
from agentnexus.core.ports import Entropy
from agentnexus.identity.tokens import hashed
from agentnexus.platform.database import Connection, Database

KEPT = timedelta(days=400)  # as long as browsers keep a cookie
NUMBER = re.compile(r"[0-9a-f]{32}")
PROGRAM, UNKNOWN = "A program", "A browser"
# The first that fits: browsers call themselves by the names of others, too.
BROWSERS = (
    ("Edg", "Edge"), ("OPR/", "Opera"), ("SamsungBrowser", "Samsung Internet"), ("Firefox/", "Firefox"),
    ("FxiOS", "Firefox"), ("CriOS", "Chrome"), ("Chrome/", "Chrome"), ("Safari/", "Safari"),
)  # fmt: skip
SYSTEMS = (
    ("Android", "Android"), ("iPhone", "an iPhone"), ("iPad", "an iPad"), ("CrOS", "ChromeOS"),
    ("Windows", "Windows"), ("Mac OS X", "a Mac"), ("Linux", "Linux"),
)  # fmt: skip
NAME = "update identity.token set device = $2 where hash = $1 returning person_id, label, proven_at"
HAS_BEEN_HERE = "select exists (select from identity.token where person_id = $1 and hash <> $2)"
MEET = """insert into identity.browser as b (person_id, hash, seen_at) values ($1, $2, now())
          on conflict (person_id, hash) do update set seen_at = now() returning xmax = 0"""
FORGET = "delete from identity.browser where person_id = $1 and seen_at < now() - $2::interval"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody signed in. `is_news`: with what they did not use before, though they are no new person."""

    person_id: str
    way: str
    device: str
    at: datetime
    is_news: bool


class Devices:
    """Browsers and programs of all people."""

    def __init__(self, database: Database, entropy: Entropy) -> None:
        self._database = database
        self._entropy = entropy

    def number(self, given: str = "") -> str:
        """The number that a browser brings with it, or a new one where it brings none."""
        return given if NUMBER.fullmatch(given) else self._entropy.random_bytes(16).hex()

    async def arrive(self, token: str, device: str, browser: str | None) -> Arrival:
        """Note what the person of a new token signed in with. `browser` is its number, None for a program.

        Raises `NotFound` for a token that is none.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(NAME, hashed(token), device)
            if row is None:
                raise NotFound("there is no such token", next_step="sign in again")
            person: str = row["person_id"]
            is_new = browser is None or await _is_new(connection, person, browser)
            has_been_here: bool = await connection.fetchval(HAS_BEEN_HERE, person, hashed(token))
        return Arrival(person, row["label"], device, row["proven_at"], is_news=is_new and has_been_here)


async def _is_new(connection: Connection, person: str, browser: str) -> bool:
    """A program is known by nothing, so it is always news."""
    await connection.execute(FORGET, person, KEPT)
    found: bool = await connection.fetchval(MEET, person, hashlib.sha256(f"{person} {browser}".encode()).digest())
    return found


def device_of(user_agent: str) -> str:
    """What to call a browser, as coarse as its owner needs to know it again: ``Firefox on Linux``."""
    browser = next((name for part, name in BROWSERS if part in user_agent), UNKNOWN)
    system = next((name for part, name in SYSTEMS if part in user_agent), "")
    return f"{browser} on {system}" if system else browser
