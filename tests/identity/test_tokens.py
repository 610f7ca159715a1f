"""Tokens end by themselves, are replaced without locking anybody out, and are ended by those who may."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agentnexus.core.clock import SeededEntropy, SystemEntropy
from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.identity.tokens import Holder, Tokens
from agentnexus.platform.database import Database


@pytest.fixture
def tokens(database: Database) -> Tokens:
    return Tokens(database, SystemEntropy())


async def passes(database: Database, seconds: float) -> None:
    """As if so much time had gone by since everything that is written."""
    async with database.connection() as connection:
        await connection.execute(
            """update identity.token set created_at = created_at - $1::interval, expires_at = expires_at - $1::interval,
                      not_after = not_after - $1::interval, proven_at = proven_at - $1::interval,
                      last_used_at = last_used_at - $1::interval""",
            timedelta(seconds=seconds),
        )


async def test_a_token_with_an_end_is_good_until_then(database: Database, tokens: Tokens) -> None:
    token = await tokens.issue("alice", lives=timedelta(hours=1))
    await passes(database, 3590)
    assert await tokens.find(token) == Holder("alice", "basic")
    await passes(database, 20)
    assert await tokens.find(token) is None
    assert await tokens.of("alice") == []


async def test_a_replaced_token_is_good_for_ten_more_minutes_and_the_new_one_ends_when_the_old_one_would_have(
    database: Database, tokens: Tokens
) -> None:
    old = await tokens.issue("alice", "operator", lives=timedelta(days=1), label="laptop")
    given = (await tokens.of("alice"))[0].expires_at
    new = await tokens.rotate(old)
    assert await tokens.find(old) == await tokens.find(new) == Holder("alice", "operator")
    kept = (await tokens.of("alice"))[0]
    assert (kept.label, kept.expires_at) == ("laptop", given)
    await passes(database, 601)
    assert await tokens.find(old) is None
    assert await tokens.find(new) == Holder("alice", "operator")
    with pytest.raises(NotFound):
        await tokens.rotate(old)
    await passes(database, 86_400)
    assert await tokens.find(new) is None


async def test_asking_again_for_a_lost_answer_gives_a_token_that_lives_as_long(
    database: Database, tokens: Tokens
) -> None:
    for lives in (None, timedelta(days=30)):
        old = await tokens.issue("alice", lives=lives)
        await tokens.rotate(old)
        await passes(database, 60)
        again = await tokens.rotate(old)
        await passes(database, 86_400)
        assert await tokens.find(again) == Holder("alice", "basic")


async def test_replacing_never_makes_an_old_token_live_longer(database: Database, tokens: Tokens) -> None:
    old = await tokens.issue("alice", lives=timedelta(minutes=1))
    await tokens.rotate(old)
    await passes(database, 61)
    assert await tokens.find(old) is None


async def test_two_that_replace_one_token_at_once_both_get_a_good_one(tokens: Tokens) -> None:
    old = await tokens.issue("alice")
    both = await asyncio.gather(tokens.rotate(old), tokens.rotate(old))
    assert len(set(both)) == 2
    assert [await tokens.find(token) for token in both] == [Holder("alice", "basic")] * 2


async def test_a_revoked_or_unknown_token_is_not_replaced(tokens: Tokens) -> None:
    token = await tokens.issue("alice")
    await tokens.revoke(token)
    for given in (token, "nx_nobody-s"):
        with pytest.raises(NotFound, match="no such token"):
            await tokens.rotate(given)


async def test_an_operator_is_made_and_unmade_and_signing_in_changes_nobody(tokens: Tokens) -> None:
    token = await tokens.issue("alice")
    await tokens.issue("alice", "operator")
    assert await tokens.find(token) == Holder("alice", "operator")
    await tokens.issue("alice")
    assert await tokens.find(token) == Holder("alice", "operator")
    await tokens.issue("alice", "basic")
    assert await tokens.find(token) == Holder("alice", "basic")


async def test_owners_see_their_tokens_without_secrets_and_end_only_their_own(tokens: Tokens) -> None:
    first, second = await tokens.issue("alice", label="first"), await tokens.issue("alice", label="second")
    foreign = await tokens.issue("bob")
    listed = await tokens.of("alice")
    assert [entry.label for entry in listed] == ["second", "first"]
    assert not any(secret in str(listed) for secret in (first, second))
    (bobs,) = await tokens.of("bob")
    with pytest.raises(NotFound):
        await tokens.end(bobs.id, "alice")
    assert await tokens.find(foreign) is not None
    await tokens.end(listed[0].id, "alice")
    assert (await tokens.find(second), await tokens.find(first)) == (None, Holder("alice", "basic"))
    await tokens.end(bobs.id)  # an operator
    assert await tokens.find(foreign) is None
    assert [entry.user_id for entry in await tokens.of()] == ["alice"]


async def test_use_is_noted_now_and_then_not_at_every_request(database: Database, tokens: Tokens) -> None:
    token = await tokens.issue("alice")
    assert (await tokens.of("alice"))[0].last_used_at is None
    await tokens.find(token)
    first = (await tokens.of("alice"))[0].last_used_at
    await tokens.find(token)
    assert first is not None
    assert (await tokens.of("alice"))[0].last_used_at == first
    await passes(database, 3601)
    await tokens.find(token)
    last = (await tokens.of("alice"))[0].last_used_at
    assert last is not None and last >= first


@pytest.mark.parametrize("person", ["", "a b", "x" * 101, "né", "a\nb", "'; drop table identity.token"])
async def test_who_is_no_user_gets_no_token(database: Database, person: str) -> None:
    with pytest.raises(InvalidInput, match="not a user's name"):
        await Tokens(database, SeededEntropy(1)).issue(person)
