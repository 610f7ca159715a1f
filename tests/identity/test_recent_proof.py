"""What a stolen token must not do is done only by who has just shown who they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from starlette.requests import HTTPConnection

from agentnexus.core.clock import SystemClock, SystemEntropy
from agentnexus.core.errors import Conflict, ErrorCode, SignInAgain
from agentnexus.identity.caller import COOKIE, RECENT, Caller, Callers
from agentnexus.identity.session import LIVES
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from tests.identity.authenticator import Authenticator
from tests.identity.desk import ORIGIN, Desk, open_desk
from tests.identity.test_tokens import passes

AUTH = "/api/v1/auth"


@pytest.fixture
def tokens(database: Database) -> Tokens:
    return Tokens(database, SystemEntropy())


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    yield open_desk(database, SystemClock())


def sent(token: str = "", *, client: str = "198.51.100.7", host: str = "nexus.example") -> HTTPConnection:
    headers = [(b"host", host.encode())]
    if token:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    return HTTPConnection({"type": "http", "method": "POST", "headers": headers, "client": (client, 4711)})


async def is_recent(callers: Callers, connection: HTTPConnection) -> bool:
    try:
        (await callers.identify(connection)).require_recent()
    except SignInAgain:
        return False
    return True


@pytest.mark.parametrize(
    ("age", "recent"),
    [(timedelta(), True), (RECENT, True), (RECENT + timedelta(microseconds=1), False), (timedelta(days=9), False),
     (None, False)],
)  # fmt: skip
def test_a_proof_is_recent_for_five_minutes_and_who_gave_none_has_none(age: timedelta | None, recent: bool) -> None:
    caller = Caller("ann", proof_age=age)
    if recent:
        caller.require_recent()
        return
    with pytest.raises(SignInAgain) as refused:
        caller.require_recent()
    assert (refused.value.code, refused.value.http_status) == (ErrorCode.SIGN_IN_AGAIN, 403)
    assert "nexus sign-in" in refused.value.next_step
    assert "/connect" in refused.value.next_step


def test_an_operator_has_to_prove_it_as_well() -> None:
    with pytest.raises(SignInAgain):
        Caller("root", "operator").require_recent()


async def test_signing_in_is_a_proof_that_grows_old(database: Database, tokens: Tokens) -> None:
    callers = Callers(tokens)
    for lives in (None, LIVES):
        token = await tokens.admit("ann", lives=lives, label="wallet")
        assert await is_recent(callers, sent(token))
        await passes(database, RECENT.total_seconds() - 30)
        assert await is_recent(callers, sent(token))
        await passes(database, 60)
        assert not await is_recent(callers, sent(token))
        assert (await callers.identify(sent(token))).user_id == "ann"  # for all else it is as good as before


async def test_a_token_that_the_operator_gave_proves_nothing_however_new(tokens: Tokens) -> None:
    assert not await is_recent(Callers(tokens), sent(await tokens.issue("ann")))
    assert not await is_recent(Callers(tokens), sent(await tokens.issue("root", "operator")))


async def test_whom_the_operator_vouches_for_can_begin(database: Database, tokens: Tokens) -> None:
    """Or who came by such tokens only would never have a passkey."""
    callers, token = Callers(tokens), await tokens.issue("ann", vouched=True, lives=timedelta(days=30))
    assert await is_recent(callers, sent(token))
    await passes(database, RECENT.total_seconds() + 1)
    assert not await is_recent(callers, sent(token))
    assert (await callers.identify(sent(token))).user_id == "ann"


async def test_replacing_a_token_is_no_new_proof(database: Database, tokens: Tokens) -> None:
    callers, old = Callers(tokens), await tokens.admit("ann")
    await passes(database, 240)
    new = await tokens.rotate(old)
    assert await is_recent(callers, sent(new))  # nor does it take one away
    await passes(database, 120)
    assert not await is_recent(callers, sent(new))
    assert not await is_recent(callers, sent(await tokens.rotate(new)))
    given = await tokens.rotate(await tokens.issue("ann"))
    assert not await is_recent(callers, sent(given))


async def test_a_session_is_not_replaced(tokens: Tokens) -> None:
    session = await tokens.admit("ann", lives=LIVES)
    before = await tokens.of("ann")
    with pytest.raises(Conflict, match="session is not replaced"):
        await tokens.rotate(session)
    assert await tokens.of("ann") == before


async def test_the_local_user_proves_it_by_being_here(tokens: Tokens) -> None:
    callers = Callers(tokens, local_user="local")
    here = {"client": "127.0.0.1", "host": "localhost:5000"}
    assert await is_recent(callers, sent(**here))
    theirs, anns = await tokens.issue("local"), await tokens.issue("ann")
    assert await is_recent(callers, sent(theirs, **here))  # the command line sends one
    assert not await is_recent(callers, sent(theirs))  # the same from elsewhere
    assert not await is_recent(callers, sent(theirs, client="127.0.0.1"))  # or under a name that a stranger gave us
    assert not await is_recent(callers, sent(anns, **here))
    assert not await is_recent(Callers(tokens), sent(theirs, **here))  # a node for others has no local user


async def test_signing_in_before_this_was_kept_is_no_recent_proof(database: Database, tokens: Tokens) -> None:
    token = await tokens.admit("ann", label="wallet")
    async with database.connection() as connection:  # as the migration leaves it
        await connection.execute("update identity.token set proven_at = created_at - interval '1 day'")
    assert not await is_recent(Callers(tokens), sent(token))


async def test_an_old_session_neither_adds_a_passkey_nor_removes_one(database: Database, desk: Desk) -> None:
    key, other = (Authenticator(ORIGIN, "nexus.example", credential_id=bytes([each]) * 16) for each in (7, 8))
    async with desk.browser() as client:
        asked = (await client.post(f"{AUTH}/passkeys/options")).json()["data"]
        made = await client.post(f"{AUTH}/passkeys", json={"credential": key.create(asked), "cookie": True})
        person, passkey = made.json()["data"]["user"], made.json()["data"]["passkey"]
        asked = (await client.post(f"{AUTH}/passkeys/options")).json()["data"]
        credential = other.create(asked)
        await passes(database, RECENT.total_seconds() + 1)
        refused = [
            await client.post(f"{AUTH}/passkeys/options"),
            await client.post(f"{AUTH}/passkeys", json={"credential": credential}),
            await client.delete(f"{AUTH}/passkeys/{passkey['credential_id']}"),
        ]
        assert [(each.status_code, each.json()["error"]["code"]) for each in refused] == [(403, "sign_in_again")] * 3
        assert [each.id for each in await desk.passkeys.of(person)] == [passkey["credential_id"]]
        asked = (await client.post(f"{AUTH}/passkeys/login/options")).json()["data"]
        again = await client.post(f"{AUTH}/passkeys/login", json={"credential": key.get(asked), "cookie": True})
        assert again.json()["data"]["user"] == person
        asked = (await client.post(f"{AUTH}/passkeys/options")).json()["data"]
        added = await client.post(f"{AUTH}/passkeys", json={"credential": other.create(asked)})
        assert added.status_code == 201
    assert len(await desk.passkeys.of(person)) == 2


async def test_a_stolen_cookie_is_none_the_better_for_being_sent_as_a_token(database: Database, desk: Desk) -> None:
    session = await desk.tokens.admit("ann", lives=LIVES)
    await passes(database, RECENT.total_seconds() + 1)
    for headers in ({"authorization": f"Bearer {session}"}, {"cookie": f"{COOKIE}={session}"}):
        async with desk.browser(**headers) as client:
            assert (await client.post(f"{AUTH}/passkeys/options")).status_code == 403
