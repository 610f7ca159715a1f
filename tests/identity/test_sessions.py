"""Sessions of browsers go on while they are used, thirty days at most; their owner sees them and ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import httpx
import pytest

from agentnexus.api.token_routes import token_routes
from agentnexus.core.clock import SystemClock, SystemEntropy
from agentnexus.core.errors import NotFound
from agentnexus.identity.caller import COOKIE
from agentnexus.identity.session import BROWSER, LIVES
from agentnexus.identity.tokens import ROTATION_GRACE, SESSION_MAX, Holder, Tokens
from agentnexus.platform.database import Database
from tests.identity.authenticator import Authenticator
from tests.identity.desk import ORIGIN, Desk, open_desk
from tests.identity.test_tokens import passes

AUTH = "/api/v1/auth"
HOUR = 3600.0
ANN = Holder("ann", "basic")


@pytest.fixture
def tokens(database: Database) -> Tokens:
    return Tokens(database, SystemEntropy())


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    yield open_desk(database, SystemClock(), more=(token_routes(Tokens(database, SystemEntropy())),))


async def end_of(tokens: Tokens) -> datetime:
    (only,) = await tokens.of("ann")
    assert only.expires_at is not None
    return only.expires_at


async def writes(database: Database) -> int:
    """How often the one token was written since it was made."""
    async with database.connection() as connection:
        found: int = await connection.fetchval("select xmin::text::bigint from identity.token")
    return found


async def test_a_session_that_is_not_used_for_a_day_is_over(database: Database, tokens: Tokens) -> None:
    session = await tokens.admit("ann", lives=LIVES)
    await passes(database, 24 * HOUR - 10)
    # Nobody asked for it, so nothing moved its end.
    await passes(database, 20)
    assert await tokens.find(session) is None
    assert await tokens.find(session) is None, "and stays over"


async def test_a_session_that_is_used_in_the_second_half_of_its_time_goes_on(
    database: Database, tokens: Tokens
) -> None:
    session = await tokens.admit("ann", lives=LIVES)
    given = await end_of(tokens)
    await passes(database, 11 * HOUR)
    assert await tokens.find(session) == ANN
    assert await end_of(tokens) == given - timedelta(hours=11), "in its first half it keeps its end"
    await passes(database, 2 * HOUR)
    assert await tokens.find(session) == ANN
    assert abs(await end_of(tokens) - given) < timedelta(minutes=1), "a whole day again"
    await passes(database, 23 * HOUR)
    assert await tokens.find(session) == ANN


async def test_it_goes_on_for_thirty_days_at_most_and_the_proof_grows_old_meanwhile(
    database: Database, tokens: Tokens
) -> None:
    session = await tokens.admit("ann", lives=LIVES)
    for _ in range(2 * SESSION_MAX.days - 1):
        await passes(database, 12 * HOUR + 1)
        assert await tokens.find(session) == ANN
    found = await tokens.find(session)
    assert found is not None
    assert found.proof_age is not None
    assert found.proof_age > timedelta(days=29)
    await passes(database, 12 * HOUR)
    assert await tokens.find(session) is None
    assert await tokens.of("ann") == []


async def test_a_request_writes_nothing_but_now_and_then(database: Database, tokens: Tokens) -> None:
    session = await tokens.admit("ann", lives=LIVES)
    await tokens.find(session)  # the first use is noted
    for hours in (0.0, 13.0):
        await passes(database, hours * HOUR)
        await tokens.find(session)
        written = await writes(database)
        for _ in range(5):
            assert await tokens.find(session) == ANN
        assert await writes(database) == written
    await passes(database, (24 * SESSION_MAX.days - 14) * HOUR)
    async with database.connection() as connection:  # near its last end, which cannot move
        await connection.execute("update identity.token set expires_at = not_after")
    await tokens.find(session)
    written = await writes(database)
    assert await tokens.find(session) == ANN
    assert await writes(database) == written


async def test_a_session_that_was_ended_stays_ended_however_it_is_used(database: Database, tokens: Tokens) -> None:
    for _ in range(5):
        session = await tokens.admit("ann", lives=LIVES)
        await passes(database, 13 * HOUR)
        await asyncio.gather(*(tokens.find(session) for _ in range(4)), tokens.revoke(session))
        assert await tokens.find(session) is None
    assert await tokens.of("ann") == []


async def test_a_programs_token_does_not_become_older_by_being_used(database: Database, tokens: Tokens) -> None:
    """An end that the operator gave, and the end of what was replaced, are not moved by anything."""
    given = await tokens.issue("ann", lives=timedelta(days=2))
    end = await end_of(tokens)
    await passes(database, 47 * HOUR)
    assert await tokens.find(given) == ANN
    assert await end_of(tokens) == end - timedelta(hours=47)
    new = await tokens.rotate(given)
    await passes(database, ROTATION_GRACE.total_seconds() - 5)
    assert await tokens.find(given) == ANN
    await passes(database, 10)
    assert await tokens.find(given) is None
    assert await tokens.find(new) == ANN


async def test_ending_all_ends_what_signing_in_made_and_nothing_of_others(tokens: Tokens) -> None:
    browser, program = await tokens.admit("ann", lives=LIVES), await tokens.admit("ann")
    given, foreign = await tokens.issue("ann"), await tokens.admit("bob", lives=LIVES)
    assert await tokens.end_all("ann") == 2
    assert [await tokens.find(each) for each in (browser, program)] == [None, None]
    assert await tokens.find(given) == ANN
    assert await tokens.find(foreign) == Holder("bob", "basic")
    assert await tokens.end_all("ann") == 0


def key(number: int) -> Authenticator:
    return Authenticator(ORIGIN, "nexus.example", credential_id=bytes([number]) * 16)


async def begin(client: httpx.AsyncClient, device: Authenticator) -> str:
    """The person of a new passkey, signed in with this browser."""
    asked = (await client.post(f"{AUTH}/passkeys/options")).json()["data"]
    made = await client.post(f"{AUTH}/passkeys", json={"credential": device.create(asked), "cookie": True})
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["user"])


async def come_back(client: httpx.AsyncClient, device: Authenticator, *, cookie: bool = True) -> httpx.Response:
    asked = (await client.post(f"{AUTH}/passkeys/login/options")).json()["data"]
    answer = await client.post(f"{AUTH}/passkeys/login", json={"credential": device.get(asked), "cookie": cookie})
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_browsers_cookies_stay_while_a_session_can_and_are_for_nobody_else(desk: Desk) -> None:
    async with desk.browser() as client:
        asked = (await client.post(f"{AUTH}/passkeys/options")).json()["data"]
        made = await client.post(f"{AUTH}/passkeys", json={"credential": key(1).create(asked), "cookie": True})
        set_cookies = {each.partition("=")[0]: each.lower() for each in made.headers.get_list("set-cookie")}
    assert set(set_cookies) == {COOKIE, BROWSER}
    for name, seconds in ((COOKIE, 30 * 86_400), (BROWSER, 400 * 86_400)):
        parts = set(set_cookies[name].split("; "))
        assert {"httponly", "samesite=lax", "secure", "path=/", f"max-age={seconds}"} <= parts


async def test_people_see_where_they_are_signed_in_and_end_one_or_all(desk: Desk) -> None:
    laptop = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Safari/604.1"
    device = key(1)
    async with desk.browser(**{"user-agent": laptop}) as one, desk.browser(**{"user-agent": phone}) as two:
        person = await begin(one, device)
        await come_back(two, device)
        program = (await come_back(two, device, cookie=False)).json()["data"]["token"]
        listed = (await one.get(f"{AUTH}/tokens")).json()["data"]
        shown = {each["device"]: (each["session"], each["current"], each["label"]) for each in listed}
        assert shown == {
            "Firefox on Linux": (True, True, "passkey"),
            "Safari on an iPhone": (True, False, "passkey"),
            "A program": (False, False, "passkey"),
        }
        assert all(each["signed_in_at"] for each in listed)
        (other,) = [each["id"] for each in listed if each["device"] == "Safari on an iPhone"]
        assert (await one.delete(f"{AUTH}/tokens/{other}")).status_code == 200
        assert (await two.get(f"{AUTH}/session")).json()["data"]["user"] is None
        assert (await one.get(f"{AUTH}/session")).json()["data"]["user"] == person
        await come_back(two, device)
        ended = await two.delete(f"{AUTH}/tokens")
        assert ended.json()["data"] == {"ended": 3}
        for client in (one, two):
            assert (await client.get(f"{AUTH}/session")).json()["data"]["user"] is None
    assert await desk.tokens.find(program) is None


async def test_nobody_ends_the_sessions_of_others(desk: Desk) -> None:
    async with desk.browser() as one, desk.browser() as two:
        person, _ = await begin(one, key(1)), await begin(two, key(2))
        (theirs,) = [each["id"] for each in (await one.get(f"{AUTH}/tokens")).json()["data"]]
        assert (await two.delete(f"{AUTH}/tokens/{theirs}")).status_code == 404
        assert (await two.delete(f"{AUTH}/tokens")).json()["data"] == {"ended": 1}
        assert (await one.get(f"{AUTH}/session")).json()["data"]["user"] == person
        evil = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        assert (await one.delete(f"{AUTH}/tokens", headers=evil)).status_code == 403
        assert (await one.get(f"{AUTH}/session")).json()["data"]["user"] == person


async def test_what_is_no_token_arrives_nowhere(desk: Desk) -> None:
    with pytest.raises(NotFound):
        await desk.door.sessions.devices.arrive("nx_nobody-s", "A browser", None)
