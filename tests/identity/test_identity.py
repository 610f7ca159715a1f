"""Tokens, callers and rate limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    with pytest.raises(NotAllowed, match="unknown or revoked"):
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


def test_a_stranger_learns_nothing_and_an_operator_sees_all() -> None:
    Caller("alice").require_owner("alice")
    Caller("root", "operator").require_owner("alice")
    with pytest.raises(NotFound):
        Caller("bob").require_owner("alice", "workflow")


def test_the_hundred_and_first_call_of_a_minute_waits(clock: ManualClock) -> None:
    limiter = Limiter(clock, per_minute=100)
    for _ in range(100):
        limiter.take("alice")
    with pytest.raises(RateLimited) as caught:
        limiter.take("alice")
    assert caught.value.details["retry_after_seconds"] == 1
    limiter.take("bob")
    clock.advance(1)
    limiter.take("alice")


@given(st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_never_more_than_burst_plus_rate_times_time(gaps: list[float]) -> None:
    from datetime import UTC, datetime

    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    limiter = Limiter(clock, per_minute=60, burst=5)
    passed = 0
    for gap in gaps:
        clock.advance(gap)
        try:
            limiter.take("k")
        except RateLimited:
            continue
        passed += 1
    assert passed <= 5 + sum(gaps) + 1e-6
