"""Signing in with a code by e-mail, over HTTP and a real mail server: right, wrong, old, guessed and hammered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from typing import cast

import httpx
import pytest

from agentnexus.api.mail_routes import mail_routes
from agentnexus.core.clock import ManualClock, SystemEntropy, TimeOrderedIds
from agentnexus.core.errors import InvalidInput, NotAllowed, RateLimited
from agentnexus.identity import mail_codes
from agentnexus.identity.mail_codes import MailLogin, normalised, person_of
from agentnexus.identity.tokens import Holder
from agentnexus.platform.database import Database
from agentnexus.platform.mail import SmtpMailer
from agentnexus.platform.sealing import Sealer
from tests.identity.desk import Desk, open_desk
from tests.platform.mail_server import Post, mail_server

AUTH = "/api/v1/auth"
ADA = "ada@example.org"
WRONG = "this code is wrong, used or too old"


@pytest.fixture(scope="module")
def shared_post() -> Iterator[Post]:
    with mail_server() as post:
        yield post


@dataclass
class Letters:
    """A desk that sends mail, and the letterbox."""

    desk: Desk
    login: MailLogin
    post: Post

    def code(self) -> str:
        """Of the last message."""
        text = cast("EmailMessage", self.post.messages[-1]).get_content()
        (found,) = re.findall(r"^ {4}(\d{8})$", text, re.MULTILINE)
        return str(found)

    def wrong_code(self) -> str:
        return f"{(int(self.code()) + 1) % 10**6:06}"


@pytest.fixture
async def letters(database: Database, clock: ManualClock, shared_post: Post) -> AsyncIterator[Letters]:
    shared_post.envelopes.clear()
    shared_post.refuse_recipient = shared_post.refuse_data = ""
    desk = open_desk(database, clock)
    login = MailLogin(
        database,
        desk.tokens,
        SmtpMailer(f"smtp://127.0.0.1:{shared_post.port}", "node@nexus.example"),
        Sealer(b"k" * 32, SystemEntropy()),
        clock=clock,
        entropy=SystemEntropy(),
        ids=TimeOrderedIds(),
        name="nexus.example",
    )
    desk.app.include_router(mail_routes(login, desk.door), prefix="/api/v1")
    yield Letters(desk, login, shared_post)


async def begin(client: httpx.AsyncClient, email: str = ADA) -> str:
    answer = await client.post(f"{AUTH}/email", json={"email": email})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["id"])


async def verify(client: httpx.AsyncClient, challenge: str, code: str, **more: object) -> httpx.Response:
    return await client.post(f"{AUTH}/email/verify", json={"id": challenge, "code": code, **more})


async def test_who_has_the_code_is_the_person_of_the_address(letters: Letters, database: Database) -> None:
    async with letters.desk.browser() as client:
        challenge = await begin(client, " Ada@Example.ORG ")
        (message,) = letters.post.messages
        assert message["To"] == ADA
        assert "nexus.example" in cast("EmailMessage", message).get_content()
        assert letters.code() not in str(message["Subject"])
        data = (await verify(client, challenge, letters.code())).json()["data"]
        assert data["user"] == person_of(ADA)
        assert re.fullmatch(r"mail\.[0-9a-f]{32}", data["user"])
        assert await letters.desk.tokens.find(data["token"]) == Holder(data["user"], "basic")
        # A day later it is the same person, by a session this time.
        challenge = await begin(client, ADA)
        answer = await verify(client, challenge, f" {letters.code()[:3]} {letters.code()[3:]} ", cookie=True)
        assert answer.json()["data"] == {"user": person_of(ADA)}
        assert (await client.get(f"{AUTH}/session")).json()["data"]["user"] == person_of(ADA)
    assert await letters.login.address_of(person_of(ADA)) == ADA
    assert await letters.login.address_of("ann") == ""


async def test_the_database_holds_neither_addresses_nor_codes(letters: Letters, database: Database) -> None:
    async with letters.desk.browser() as client:
        challenge = await begin(client)
        await verify(client, challenge, letters.code())
        await begin(client, "bob@example.org")
    async with database.connection() as connection:
        rows = [
            str(dict(row))
            for table in ("mail_challenge", "mail_address", "person", "token")
            for row in await connection.fetch(f"select * from identity.{table}")
        ]
    kept = "\n".join(rows)
    assert "example.org" not in kept
    assert letters.code() not in re.sub(r"[0-9a-f]{12,}", "", kept)


async def test_a_code_is_good_once(letters: Letters) -> None:
    async with letters.desk.browser() as client:
        challenge = await begin(client)
        answers = await asyncio.gather(*(verify(client, challenge, letters.code()) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 403, 403, 403]
        again = await verify(client, challenge, letters.code())
        assert (again.status_code, again.json()["error"]["message"]) == (403, WRONG)


async def test_after_five_wrong_tries_the_right_code_is_no_use(letters: Letters) -> None:
    async with letters.desk.browser() as client:
        challenge = await begin(client)
        for _ in range(mail_codes.TRIES):
            assert (await verify(client, challenge, letters.wrong_code())).json()["error"]["message"] == WRONG
        assert (await verify(client, challenge, letters.code())).json()["error"]["message"] == WRONG


async def test_four_wrong_tries_are_forgiven(letters: Letters) -> None:
    async with letters.desk.browser() as client:
        challenge = await begin(client)
        for _ in range(mail_codes.TRIES - 1):
            assert (await verify(client, challenge, letters.wrong_code())).status_code == 403
        assert (await verify(client, challenge, letters.code())).status_code == 200


async def test_guesses_at_the_same_instant_are_five_as_well(letters: Letters) -> None:
    async with letters.desk.browser() as client:
        challenge = await begin(client)
        right = letters.code()
        guesses = [f"{(int(right) + n) % 10**6:06}" for n in range(1, 13)]
        await asyncio.gather(*(verify(client, challenge, guess) for guess in guesses))
        assert (await verify(client, challenge, right)).status_code == 403


async def test_an_old_code_is_refused(letters: Letters, clock: ManualClock) -> None:
    async with letters.desk.browser() as client:
        challenge = await begin(client)
        clock.advance(600)
        fresh = await begin(client)
        code = letters.code()
        clock.advance(1)
        assert (await verify(client, challenge, letters.code())).json()["error"]["message"] == WRONG
        assert (await verify(client, fresh, code)).status_code == 200


async def test_a_code_belongs_to_its_own_challenge(letters: Letters) -> None:
    async with letters.desk.browser() as client:
        ada = await begin(client)
        code = letters.code()
        eve = await begin(client, "eve@example.org")
        if letters.code() != code:
            assert (await verify(client, eve, code)).status_code == 403
        assert (await verify(client, ada, code)).json()["data"]["user"] == person_of(ADA)


@pytest.mark.parametrize("challenge", ["", "mail_none", "' or 1=1", "mail_\u0000", "x" * 64])
async def test_an_unknown_challenge_is_answered_like_a_wrong_code(letters: Letters, challenge: str) -> None:
    async with letters.desk.browser() as client:
        await begin(client)
        answer = await verify(client, challenge, letters.code())
        assert answer.status_code in (400, 403)
        assert answer.status_code == 400 or answer.json()["error"]["message"] == WRONG


@pytest.mark.parametrize("code", ["", "1234567", "123456789", "abcdefgh", "١٢٣٤٥٦٧٨", "\u0000", "-" * 20])
async def test_what_is_no_code_is_a_wrong_one(letters: Letters, code: str) -> None:
    async with letters.desk.browser() as client:
        challenge = await begin(client)
        assert (await verify(client, challenge, code)).json()["error"]["message"] == WRONG


async def test_known_and_unknown_addresses_are_answered_alike(letters: Letters) -> None:
    async with letters.desk.browser() as client:
        await verify(client, await begin(client), letters.code())
        known = await client.post(f"{AUTH}/email", json={"email": ADA})
        unknown = await client.post(f"{AUTH}/email", json={"email": "new@example.org"})
        letters.post.refuse_recipient = "550 no such user"
        refused = await client.post(f"{AUTH}/email", json={"email": "none@example.org"})
    answers = [known, unknown, refused]
    assert {answer.status_code for answer in answers} == {200}
    assert {tuple(answer.json()["data"]) for answer in answers} == {("id", "expires_at")}
    assert len({len(answer.json()["data"]["id"]) for answer in answers}) == 1


async def test_a_mail_server_that_is_away_is_said(letters: Letters) -> None:
    letters.post.refuse_data = "451 try later"
    async with letters.desk.browser() as client:
        answer = await client.post(f"{AUTH}/email", json={"email": ADA})
    assert answer.status_code == 503
    assert "another way" in answer.json()["error"]["next_step"]


@pytest.mark.parametrize(
    "email",
    [
        "", "ada", "@example.org", "ada@", "ada@example", "a da@example.org", "ada@example.org\nBcc: eve@evil.example",
        "ada@example.org\r\nSubject: x", "ada@exa_mple.org", "ada@-x.org", "ada..b@example.org", ".ada@example.org",
        "ada@example.org,eve@evil.example", "Ada <ada@example.org>", '"ada b"@example.org', "ada@[127.0.0.1]",
        "ada@example.org>", "ada%evil.example@example.org", "a" * 65 + "@example.org", "ada@" + "a." * 130 + "org",
        "\u0430da@example.org", "ada@exämple.org", "ada@example.org\u2028", "ada@example.org\x00", "ada@example.123",
    ],
)  # fmt: skip
async def test_what_is_no_address_gets_no_mail(letters: Letters, email: str) -> None:
    async with letters.desk.browser() as client:
        answer = await client.post(f"{AUTH}/email", json={"email": email})
    assert answer.status_code == 400
    assert letters.post.envelopes == []


@pytest.mark.parametrize("email", ["a@b.co", "ada.l+tag@mail.example.org", "o'neil_x@example.co.uk", "1@2.example"])
def test_usual_addresses_are_taken(email: str) -> None:
    assert normalised(f" {email.upper()}\t") == email


async def test_an_address_gets_so_many_codes_an_hour(letters: Letters, clock: ManualClock) -> None:
    for number in range(mail_codes.PER_ADDRESS):
        await letters.login.begin(ADA, caller=f"caller {number}")
    with pytest.raises(RateLimited) as raised:
        await letters.login.begin(ADA.upper(), caller="another")
    assert raised.value.details["retry_after_seconds"] == 3601
    await letters.login.begin("bob@example.org", caller="another")
    assert len(letters.post.envelopes) == mail_codes.PER_ADDRESS + 1
    clock.advance(3601)
    await letters.login.begin(ADA)


async def test_a_caller_sends_so_many_codes_whatever_the_addresses(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_codes, "PER_CALLER", 2)
    async with letters.desk.browser() as client:
        codes = [
            (await client.post(f"{AUTH}/email", json={"email": f"user{n}@example.org"})).status_code for n in range(3)
        ]
    assert codes == [200, 200, 429]


async def test_codes_asked_for_at_once_are_counted_exactly(letters: Letters) -> None:
    asked = (letters.login.begin(ADA) for _ in range(mail_codes.PER_ADDRESS + 3))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, RateLimited) for each in answers) == 3


async def test_the_node_is_no_cannon(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_codes, "PER_NODE", 2)
    for number in range(2):
        await letters.login.begin(f"user{number}@example.org", caller=str(number))
    with pytest.raises(RateLimited):
        await letters.login.begin("user3@example.org", caller="3")


async def test_what_is_over_is_forgotten(letters: Letters, database: Database, clock: ManualClock) -> None:
    await letters.login.begin(ADA)
    clock.advance(3601)
    await letters.login.begin("bob@example.org")
    async with database.connection() as connection:
        kept = await connection.fetch("select person_id from identity.mail_challenge")
    assert [row["person_id"] for row in kept] == [person_of("bob@example.org")]


async def test_no_operator_makes_a_person_that_only_signing_in_makes(letters: Letters) -> None:
    for name in (person_of(ADA), "mail.bob", "passkey." + "0" * 32):
        with pytest.raises(InvalidInput, match="belong to those who sign in"):
            await letters.desk.tokens.issue(name)
    challenge = await letters.login.begin(ADA)
    person, _ = await letters.login.finish(challenge.id, letters.code())
    assert await letters.desk.tokens.issue(person)  # somebody who is here already may be helped
    assert (await letters.desk.tokens.of(person))[0].user_id == person


async def test_a_foreign_sealing_key_opens_no_code(letters: Letters, database: Database) -> None:
    challenge = await letters.login.begin(ADA)
    letters.login._sealer = Sealer(b"x" * 32, SystemEntropy())
    with pytest.raises(NotAllowed):
        await letters.login.finish(challenge.id, letters.code())


async def test_a_node_without_mail_says_so(database: Database, clock: ManualClock) -> None:
    desk = open_desk(database, clock)
    desk.app.include_router(mail_routes(None, desk.door), prefix="/api/v1")
    async with desk.browser() as client:
        for answer in (
            await client.post(f"{AUTH}/email", json={"email": ADA}),
            await verify(client, "mail_1", "12345678"),
        ):
            assert answer.status_code == 503
            assert "passkey" in answer.json()["error"]["next_step"]


async def test_another_sites_page_sends_no_mail(letters: Letters) -> None:
    async with letters.desk.browser(**{"sec-fetch-site": "cross-site"}) as client:
        assert (await client.post(f"{AUTH}/email", json={"email": ADA})).status_code == 403
    assert letters.post.envelopes == []
