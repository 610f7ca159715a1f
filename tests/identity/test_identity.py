"""Tokens, callers and rate limits."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection

from agentnexus.core.clock import ManualClock, SeededEntropy
from agentnexus.core.errors import NotAllowed, NotFound, RateLimited
from agentnexus.identity.caller import Caller, Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database


def _connection(**headers: str) -> HTTPConnection:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw})


async def test_a_token_names_its_owner_until_revoked(database: Database) -> None:
    tokens = Tokens(database, SeededEntropy(1))
    token = await tokens.issue("alice", "operator")
    callers = Callers(tokens)
    assert await callers.identify(_connection(authorization=f"Bearer {token}")) == Caller("alice", "operator")
    assert await callers.identify(_connection(cookie=f"nexus_session={token}")) == Caller("alice", "operator")
    assert await tokens.revoke(token)
    assert not await tokens.revoke(token)
    with pytest.raises(NotAllowed, match="unknown, revoked or over"):
        await callers.identify(_connection(authorization=f"Bearer {token}"))


async def test_the_token_itself_is_not_in_the_database(database: Database) -> None:
    token = await Tokens(database, SeededEntropy(2)).issue("bob")
    async with database.connection() as connection:
        rows = await connection.fetch("select * from identity.token")
    assert token not in str(rows[0])


async def test_without_a_token_only_the_local_user_exists(database: Database) -> None:
    tokens = Tokens(database, SeededEntropy(3))
    with pytest.raises(NotAllowed, match="sign in"):
        await Callers(tokens).identify(_connection())
    assert await Callers(tokens, local_user="me").identify(_connection()) == Caller("me")
    with pytest.raises(NotAllowed):
        await Callers(tokens, local_user="me").identify(_connection(authorization="Bearer nx_wrong"))


def _local(method: str = "POST", kind: str = "http", client: str = "127.0.0.1", **headers: str) -> HTTPConnection:
    named = {name.replace("_", "-"): value for name, value in {"host": "127.0.0.1:5000", **headers}.items()}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    return HTTPConnection({"type": kind, "method": method, "headers": raw, "client": (client, 4711)})


@pytest.mark.parametrize(
    "connection",
    [
        _local(origin="http://evil.example"),
        _local(origin="null"),
        _local(origin="http://127.0.0.1:8000"),
        _local(sec_fetch_site="cross-site"),
        _local(sec_fetch_site="same-site"),
        _local(kind="websocket", origin="http://evil.example"),
        _local(host="evil.example:5000"),
        _local(host="evil.example:5000", origin="http://evil.example:5000", sec_fetch_site="same-origin"),
        _local("GET", host="localhost.evil.example"),
        _local("GET", host="[::1"),
        _local(client="10.0.0.7"),
        _local(client="10.0.0.7", host="localhost"),
    ],
)
async def test_a_strangers_page_or_machine_is_not_the_local_user(
    database: Database, connection: HTTPConnection
) -> None:
    with pytest.raises(NotAllowed):
        await Callers(Tokens(database, SeededEntropy(4)), local_user="me").identify(connection)


@pytest.mark.parametrize(
    "connection",
    [
        _local(),
        _local(origin="http://127.0.0.1:5000", sec_fetch_site="same-origin"),
        _local(host="localhost:5000", origin="http://localhost:5000"),
        _local(host="nexus.localhost"),
        _local(host="[::1]:5000", client="::1"),
        _local(sec_fetch_site="none"),
        _local("GET", sec_fetch_site="cross-site"),  # a link from elsewhere: its page cannot read the answer
        _local(kind="websocket", origin="http://127.0.0.1:5000"),
    ],
)
async def test_our_own_pages_and_programs_here_are_the_local_user(
    database: Database, connection: HTTPConnection
) -> None:
    found = await Callers(Tokens(database, SeededEntropy(5)), local_user="me").identify(connection)
    assert found == Caller("me")


async def test_a_cookie_is_not_lent_to_other_sites_and_a_token_works_from_everywhere(database: Database) -> None:
    tokens = Tokens(database, SeededEntropy(6))
    token = await tokens.issue("ann")
    for connection in (
        _local(host="nexus.example", origin="https://evil.example", cookie=f"nexus_session={token}"),
        _local(kind="websocket", host="nexus.example", origin="https://evil.example", cookie=f"nexus_session={token}"),
    ):
        with pytest.raises(NotAllowed, match="another site"):
            await Callers(tokens).identify(connection)
    theirs = _local(host="nexus.example", origin="https://shop.example", authorization=f"Bearer {token}")
    assert await Callers(tokens).identify(theirs) == Caller("ann")


def test_a_stranger_learns_nothing_and_an_operator_sees_all() -> None:
    Caller("alice").require_owner("alice")
    Caller("root", "operator").require_owner("alice")
    with pytest.raises(NotFound):
        Caller("bob").require_owner("alice", "workflow")


async def test_the_hundred_and_first_call_of_a_minute_waits(database: Database, clock: ManualClock) -> None:
    limiter = Limiter(database, per_minute=100, clock=clock)
    for _ in range(100):
        await limiter.take("alice")
    with pytest.raises(RateLimited) as caught:
        await limiter.take("alice")
    assert caught.value.details["retry_after_seconds"] == 60
    await limiter.take("bob")
    clock.advance(60)
    await limiter.take("alice")
