"""Signing in with real Chromium: passkeys by a virtual authenticator, an injected wallet, and codes by e-mail."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from playwright.async_api import Browser, CDPSession, ConsoleMessage, Page, expect

from agentnexus.identity.ceremonies import decoded, encoded
from agentnexus.identity.mail_codes import person_of
from agentnexus.platform.database import Database
from agentnexus.rails.evm.encoding import keccak
from agentnexus.rails.evm.userops import Assertion, passkey_owner
from agentnexus.web.views.sign_in import ConnectPage
from tests.identity.test_tokens import passes
from tests.web.conftest import AXE, Visitor
from tests.web.connect_site import ConnectSite, connect_site, serving
from tests.web.sign_in_preview import ADA, LOCAL
from tests.web.test_browser_pages import RUN_AXE, SMALL_TARGETS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
WITH_WALLET = re.compile("Sign in with the browser.s wallet")
NEW_PASSKEY = "Create a passkey"
SIGN = """async ([challenge, credential, rpId]) => {
  const { signWithPasskey } = await import("/static/js/passkey.js");
  return signWithPasskey(challenge, credential, rpId);
}"""


class Guest(Visitor):
    """Chromium advises to take RS256 as well, which no smart account could check."""

    def _heard(self, message: ConsoleMessage) -> None:
        if "pubKeyCredParams" not in message.text:
            super()._heard(message)


@pytest.fixture
async def place(database: Database, tmp_path: Path) -> AsyncIterator[ConnectSite]:
    async with serving(connect_site(database, tmp_path)) as site:
        yield site


@pytest.fixture
async def guest(browser: Browser, place: ConnectSite) -> AsyncIterator[Guest]:
    made = Guest(browser, place)  # type: ignore[arg-type]  # it needs the address alone
    yield made
    for context in made.contexts:
        await context.close()
    assert made.trouble == []


class Authenticator:
    """The browser's virtual one: built in, keeps passkeys, and its user is verified unless told otherwise."""

    def __init__(self, session: CDPSession, identifier: str) -> None:
        self._session = session
        self._id = identifier

    @classmethod
    async def of(cls, page: Page, *, verified: bool = True) -> Authenticator:
        session = await page.context.new_cdp_session(page)
        await session.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
            "isUserVerified": verified, "automaticPresenceSimulation": True,
        }  # fmt: skip
        added = await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return cls(session, added["authenticatorId"])

    async def credentials(self) -> list[dict[str, object]]:
        found = await self._session.send("WebAuthn.getCredentials", {"authenticatorId": self._id})
        return list(found["credentials"])

    async def verifies(self, verified: bool) -> None:
        await self._session.send("WebAuthn.setUserVerified", {"authenticatorId": self._id, "isUserVerified": verified})


async def signed_in(page: Page) -> str:
    """Waits until the page says so; the person."""
    await expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()
    return await page.locator(".connect .tag").first.inner_text()


async def test_a_passkey_is_made_signs_out_and_signs_in_again(guest: Guest, place: ConnectSite) -> None:
    page = await guest.open("/connect")
    device = await Authenticator.of(page)
    await page.get_by_role("button", name=NEW_PASSKEY).click()
    person = await signed_in(page)
    assert person.startswith("passkey.")
    (kept,) = await place.desk.passkeys.of(person)
    (made,) = await device.credentials()
    assert (made["rpId"], made["isResidentCredential"]) == ("localhost", True)
    assert encoded(kept.credential_id) == encoded(_bytes(str(made["credentialId"])))
    await expect(page.locator("header .visitor")).to_have_text(f"passkey {person[8:12]}")
    await page.get_by_role("button", name="Sign out", exact=True).click()
    await expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    assert [each["name"] for each in await page.context.cookies()] == ["nexus_browser"]
    await page.get_by_role("button", name="Sign in with a passkey").click()
    assert await signed_in(page) == person
    cookies = {each["name"]: (each["httpOnly"], each["sameSite"]) for each in await page.context.cookies()}
    assert cookies == {"nexus_session": (True, "Lax"), "nexus_browser": (True, "Lax")}
    assert await page.evaluate("document.cookie") == ""
    (used,) = await place.desk.passkeys.of(person)
    assert used.last_used_at is not None


def _bytes(text: str) -> bytes:
    """The browser's protocol writes usual base64."""
    return decoded(text.replace("+", "-").replace("/", "_"))


async def test_a_passkey_of_the_page_signs_what_a_smart_account_checks(guest: Guest, place: ConnectSite) -> None:
    page = await guest.open("/connect")
    await Authenticator.of(page)
    await page.get_by_role("button", name=NEW_PASSKEY).click()
    (kept,) = await place.desk.passkeys.of(await signed_in(page))
    digest = keccak(b"an operation")
    answer = await page.evaluate(SIGN, [encoded(digest), kept.id, kept.rp_id])
    names = ("authenticator_data", "client_data", "signature")
    assert set(answer) == set(names)
    assertion = Assertion.from_browser(*(decoded(answer[name]) for name in names))
    assert assertion.signs(digest, passkey_owner(kept.public_key))
    assert not assertion.signs(keccak(b"another"), passkey_owner(kept.public_key))


async def test_signing_in_leads_to_where_the_visitor_wanted_to_go(guest: Guest, place: ConnectSite) -> None:
    page = await guest.open("/money?days=7")
    await page.wait_for_url("**/connect?next=*")
    await Authenticator.of(page)
    await page.get_by_role("button", name=NEW_PASSKEY).click()
    await page.wait_for_url("**/money?days=7")
    assert place.came[-1].startswith("passkey.")


async def test_who_is_signed_in_adds_one_passkey_of_a_device_and_no_second(guest: Guest, place: ConnectSite) -> None:
    page = await guest.open("/connect")
    await page.locator("#address").fill("ada@example.org")
    await page.get_by_role("button", name="Send me a code").click()
    await page.locator("#code").fill(place.code())
    await page.get_by_role("button", name="Sign in", exact=True).click()
    assert await signed_in(page) == person_of("ada@example.org")
    await expect(page.get_by_role("heading", name="ada@example.org", exact=True)).to_be_visible()
    await Authenticator.of(page)
    await page.get_by_role("button", name="Add a passkey").click()
    await expect(page.locator(".connect-keys li")).to_have_count(1)
    await page.get_by_role("button", name="Add a passkey").click()
    await expect(page.get_by_role("alert")).to_have_text("This device has a passkey of yours already.")
    assert [each.person_id for each in await place.desk.passkeys.of(person_of("ada@example.org"))] == [
        person_of("ada@example.org")
    ]


async def test_a_device_that_does_not_check_its_user_signs_nobody_in(guest: Guest, place: ConnectSite) -> None:
    page = await guest.open("/connect")
    device = await Authenticator.of(page)
    await page.get_by_role("button", name=NEW_PASSKEY).click()
    await signed_in(page)
    await page.get_by_role("button", name="Sign out", exact=True).click()
    await device.verifies(False)
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("No passkey was used.")
    await expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_enabled()
    assert [each["name"] for each in await page.context.cookies()] == ["nexus_browser"]


async def test_a_passkey_that_this_node_does_not_know_is_said_to_be_unknown(
    guest: Guest, place: ConnectSite, database: Database
) -> None:
    page = await guest.open("/connect")
    await Authenticator.of(page)
    await page.get_by_role("button", name=NEW_PASSKEY).click()
    await signed_in(page)
    await page.get_by_role("button", name="Sign out", exact=True).click()
    async with database.connection() as connection:
        await connection.execute("delete from identity.passkey")
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("this passkey is not known here")


async def test_an_old_session_adds_its_passkey_after_signing_in_again(
    guest: Guest, place: ConnectSite, database: Database
) -> None:
    page = await guest.open("/connect")
    await Authenticator.of(page)
    await page.get_by_role("button", name=NEW_PASSKEY).click()
    person = await signed_in(page)
    await passes(database, 301)
    await page.get_by_role("button", name="Add a passkey").click()
    await expect(page.get_by_role("heading", name="Sign in again")).to_be_visible()
    await page.get_by_role("button", name="Sign in with a passkey").click()
    assert await signed_in(page) == person
    await page.get_by_role("button", name="Add a passkey").click()
    await expect(page.get_by_role("alert")).to_have_text("This device has a passkey of yours already.")
    await expect(page.locator("#devices + ul li")).to_have_count(1)


async def test_a_wallet_in_the_browser_signs_in(guest: Guest, place: ConnectSite) -> None:
    key = Account.create()
    page = await guest.open("/connect")
    shown: list[str] = []

    async def request(call: dict[str, object]) -> object:
        if call["method"] == "eth_requestAccounts":
            return [key.address]
        assert call["method"] == "personal_sign"
        raw, address = call["params"]  # type: ignore[misc]  # JSON of the page
        assert address == key.address
        shown.append(bytes.fromhex(str(raw)[2:]).decode())
        return key.sign_message(encode_defunct(text=shown[-1])).signature.to_0x_hex()

    await page.context.expose_function("walletRequest", request)
    await page.context.add_init_script("window.ethereum = { request: (call) => window.walletRequest(call) }")
    await page.reload()
    await page.get_by_role("button", name=WITH_WALLET).click()
    assert await signed_in(page) == key.address.lower()
    assert shown[0].startswith(
        f"localhost:{place.port} wants you to sign in with your Ethereum account:\n{key.address}"
    )
    await expect(page.locator("header .visitor")).to_contain_text(key.address[:6].lower())


async def test_a_wallet_that_declines_is_no_disaster(guest: Guest) -> None:
    page = await guest.open("/connect")
    await page.context.add_init_script(
        "window.ethereum = { request: async () => { throw new Error('User rejected'); } }"
    )
    await page.reload()
    await page.get_by_role("button", name=WITH_WALLET).click()
    await expect(page.get_by_role("alert")).to_have_text("User rejected")
    assert await page.context.cookies() == []


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_code_by_e_mail_signs_in_with_scripts_and_without(
    guest: Guest, place: ConnectSite, javascript: bool
) -> None:
    page = await guest.open("/connect?next=/money", javascript=javascript, size="phone")
    await page.locator("#address").fill("Ada@Example.org")
    await page.get_by_role("button", name="Send me a code").click()
    await expect(page.get_by_text("A message with eight digits")).to_be_visible()
    await page.reload()  # asks for the code again, and sends no other one
    await page.locator("#code").fill("00000000" if place.code() != "00000000" else "11111111")
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("This code is wrong, used or too old.")
    await page.locator("#code").fill(place.code())
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.wait_for_url("**/money")
    assert place.came == [person_of("ada@example.org")]


async def test_at_the_address_of_this_machine_the_page_leads_to_its_name(
    browser: Browser, database: Database, tmp_path: Path
) -> None:
    async with serving(connect_site(database, tmp_path, local_user="local")) as place:
        visitor = Guest(browser, place)  # type: ignore[arg-type]  # it needs the address alone
        page = await visitor.open(f"http://127.0.0.1:{place.port}/connect?next=/money")
        await expect(page.get_by_text("Passkeys are made for names")).to_be_visible()
        await page.get_by_role("link", name=f"Open {place.url}").click()
        await page.wait_for_url(f"{place.url}/connect?next=/money")
        await Authenticator.of(page)
        await page.get_by_role("button", name="Add a passkey").click()
        await page.wait_for_url(f"{place.url}/money")
        (kept,) = await place.desk.passkeys.of("local")
        assert kept.rp_id == "localhost"
        await page.goto(f"{place.url}/connect")
        await page.get_by_role("button", name=NEW_PASSKEY).click()  # somebody of their own
        await expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await page.get_by_role("button", name="Sign in with a passkey").click()
        await expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()
        await page.context.close()
        assert visitor.trouble == []


@pytest.mark.parametrize(("size", "theme"), [("phone", "dark"), ("desktop", "light"), ("phone", "light")])
async def test_whoever_one_is_the_page_is_accessible_and_fits(visitor: Visitor, size: str, theme: str) -> None:
    here = ConnectPage(
        visitor=LOCAL, no_passkeys="Passkeys are made for names, and 127.0.0.1 is an address.", mail_folder="/mail"
    )
    found: dict[str, object] = {}
    page = await visitor.open("/connect", size=size, theme=theme)
    for name, shown in (("ada", ConnectPage(visitor=ADA)), ("nobody", ConnectPage(mail=False)), ("local", here)):
        visitor.site.app.state.sign_in.shown = shown
        await page.goto("/connect?next=/wallet")
        found[name] = await _faults(page)
    await page.locator("#address").fill("ada@example.org")
    await page.get_by_role("button", name="Send me a code").click()
    await page.locator("#code").wait_for()
    found["code"] = await _faults(page)
    await page.locator("#code").fill("00000000")
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.get_by_role("alert").wait_for()
    found["wrong code"] = await _faults(page)
    assert not any(found.values()), found


async def _faults(page: Page) -> list[str]:
    await page.evaluate(AXE.read_text())
    problems: list[str] = await page.evaluate(RUN_AXE)
    wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    small = await page.evaluate(SMALL_TARGETS) if page.viewport_size == {"width": 390, "height": 844} else []
    return problems + [f"scrolls sideways by {wider}"] * (wider > 0) + [f"small: {each}" for each in small]
