"""People of whom an address is known get a letter when somebody signs in as them from where they never did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from agentnexus.core.clock import SystemClock, SystemEntropy
from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.identity.devices import Devices, device_of
from agentnexus.identity.notices import Notices
from agentnexus.identity.session import BROWSER, LIVES
from agentnexus.platform.database import Database
from agentnexus.platform.mail import Mail
from tests.identity.desk import Desk, open_desk
from tests.identity.test_sessions import AUTH, begin, come_back, key

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0"


@dataclass
class Letters:
    """Takes what is sent, or fails as a mail server does; everybody's address is known, or nobody's."""

    sent: list[Mail] = field(default_factory=list)
    refuse: Exception | None = None
    address: str = "ada@example.org"

    async def send(self, mail: Mail) -> None:
        if self.refuse:
            raise self.refuse
        self.sent.append(mail)

    async def address_of(self, person_id: str) -> str:
        return self.address


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
async def desk(database: Database, letters: Letters) -> AsyncIterator[Desk]:
    told = Notices(letters, letters.address_of, name="nexus.example", url="https://nexus.example")
    yield open_desk(database, SystemClock(), notices=told)


async def test_the_second_browser_is_told_of_and_the_first_is_not(desk: Desk, letters: Letters) -> None:
    device = key(1)
    async with desk.browser(**{"user-agent": FIREFOX}) as one, desk.browser(**{"user-agent": FIREFOX}) as two:
        await begin(one, device)
        assert letters.sent == [], "somebody new knows where they are"
        await one.delete(f"{AUTH}/session")
        await come_back(one, device)
        assert letters.sent == [], "this browser is known, signed out or not"
        await come_back(two, device)
        (letter,) = letters.sent
        assert letter.to == "ada@example.org"
        assert letter.subject == "Somebody signed in to nexus.example as you"
        for part in ("Firefox on Windows, with a passkey,", "https://nexus.example/connect", "Sign out everywhere"):
            assert part in letter.text
        await come_back(two, device)
    assert len(letters.sent) == 1


async def test_the_letter_has_nothing_of_a_person_but_what_they_used(desk: Desk, letters: Letters) -> None:
    device = key(1)
    async with desk.browser() as one, desk.browser(**{"user-agent": f"{FIREFOX} <b>\r\nBcc: eve@evil.example"}) as two:
        person = await begin(one, device)
        await come_back(two, device)
    (letter,) = letters.sent
    for part in (person, "127.0.0.1", "Bcc", "<b>", "nx_", "Gecko"):
        assert part not in letter.text + letter.subject, part


async def test_a_program_is_told_of_each_time(desk: Desk, letters: Letters) -> None:
    device = key(1)
    async with desk.browser() as client:
        await begin(client, device)
        for number in (1, 2):
            await come_back(client, device, cookie=False)
            assert len(letters.sent) == number
    assert "A program, with a passkey," in letters.sent[0].text


async def test_after_signing_out_everywhere_a_known_browser_is_news_again(desk: Desk, letters: Letters) -> None:
    device = key(1)
    async with desk.browser() as client:
        person = await begin(client, device)
        await desk.tokens.end_all(person)
        await come_back(client, device)
    assert len(letters.sent) == 1


async def test_two_people_of_one_browser_are_not_known_to_share_it(
    desk: Desk, database: Database, letters: Letters
) -> None:
    device = key(1)
    async with desk.browser() as client:
        first = await begin(client, device)
        number = client.cookies[BROWSER]
        await client.delete(f"{AUTH}/session")
        second = await begin(client, key(2))
        assert client.cookies[BROWSER] == number
        await come_back(client, device)
    assert letters.sent == []
    async with database.connection() as connection:
        rows = await connection.fetch("select person_id, hash from identity.browser")
    assert {row["person_id"] for row in rows} == {first, second}
    assert len({row["hash"] for row in rows}) == 2
    assert number not in str(rows)


@pytest.mark.parametrize("given", ["", "x", "0" * 31, "0" * 33, "A" * 32, "0" * 31 + "\u0660", "../../etc/passwd"])
def test_a_number_that_we_did_not_give_is_replaced(database: Database, given: str) -> None:
    devices = Devices(database, SystemEntropy())
    made = devices.number(given)
    assert made != given
    assert devices.number(made) == made


async def test_browsers_that_were_not_seen_for_long_are_forgotten(
    desk: Desk, database: Database, letters: Letters
) -> None:
    device = key(1)
    async with desk.browser() as client:
        await begin(client, device)
        async with database.connection() as connection:
            await connection.execute("update identity.browser set seen_at = seen_at - interval '401 days'")
        await come_back(client, device)
    assert len(letters.sent) == 1


@pytest.mark.parametrize("trouble", [Unavailable("no mail now"), InvalidInput("not that address")])
async def test_a_letter_that_cannot_be_sent_keeps_nobody_out(desk: Desk, letters: Letters, trouble: Exception) -> None:
    letters.refuse, device = trouble, key(1)
    async with desk.browser() as one, desk.browser() as two:
        await begin(one, device)
        await come_back(two, device)
        assert (await two.get(f"{AUTH}/session")).json()["data"]["way"] == "session"


async def test_who_has_no_address_is_not_told(desk: Desk, letters: Letters) -> None:
    letters.address, device = "", key(1)
    async with desk.browser() as one, desk.browser() as two:
        await begin(one, device)
        await come_back(two, device)
    assert letters.sent == []


async def test_a_node_without_mail_signs_in_all_the_same(database: Database) -> None:
    desk, device = open_desk(database, SystemClock()), key(1)
    async with desk.browser() as one, desk.browser() as two:
        await begin(one, device)
        await come_back(two, device)
        assert (await two.get(f"{AUTH}/session")).json()["data"]["way"] == "session"


async def test_a_letter_of_a_node_without_an_address_names_the_page(letters: Letters, database: Database) -> None:
    desk = open_desk(database, SystemClock())
    await desk.tokens.issue("ann")
    token = await desk.tokens.admit("ann", lives=LIVES, label="wallet")
    arrival = await Devices(database, SystemEntropy()).arrive(token, "A browser", "0" * 32)
    assert arrival.is_news
    await Notices(letters, letters.address_of, name="AgentNexus", url="").tell(arrival)
    assert "open the page /connect, sign in" in letters.sent[0].text


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox on Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Safari/605.1.15", "Safari on a Mac"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("curl/8.5.0", "A browser"),
        ("", "A browser"),
        ("\x00" * 9000, "A browser"),
    ],
)
def test_browsers_have_names_that_their_owners_know(agent: str, name: str) -> None:
    assert device_of(agent) == name
