"""Several wallets in one browser (EIP-6963), in real Chromium, with test doubles that announce themselves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from playwright.async_api import Page, expect

from agentnexus.identity.session import LIVES
from agentnexus.platform.database import Database
from tests.web.conftest import AXE
from tests.web.connect_site import ConnectSite, connect_site, serving
from tests.web.test_browser_pages import RUN_AXE, SMALL_TARGETS
from tests.web.test_connect_browser import Guest, signed_in
from tests.web.wallet_preview import FRIEND, OWNER, TYPED_DATA, operation

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
FAKES = (Path(__file__).parent / "fake_wallets.js").read_text()
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9' onload='window.hacked=1'>"
    "<script>window.hacked=1</script></svg>"
)
SIGN = "Sign with the browser"
Fake = dict[str, object]


def fake(name: str, account: str = OWNER, *, icon: str = PNG, rdns: str = "", **more: object) -> Fake:
    given = {"uuid": f"uuid-{name}", "name": name, "icon": icon, "rdns": rdns or f"com.{name.lower()}"}
    return {**given, "account": account, **more}


@pytest.fixture
async def place(database: Database, tmp_path: Path) -> AsyncIterator[ConnectSite]:
    site = connect_site(database, tmp_path)
    site.wallet.operations["op_key_2"] = replace(operation("unsigned", "key"), id="op_key_2")
    async with serving(site) as running:
        yield running


@pytest.fixture
async def guest(browser, place: ConnectSite) -> AsyncIterator[Guest]:  # type: ignore[no-untyped-def]  # playwright's fixture
    made = Guest(browser, place)  # type: ignore[arg-type]  # it needs the address alone
    yield made
    for context in made.contexts:
        await context.close()
    assert made.trouble == []


async def with_wallets(page: Page, path: str, *fakes: Fake, also: str = "") -> None:
    await page.context.add_init_script(f"{also};{FAKES.replace('FAKES', json.dumps(fakes))}")
    await page.goto(path)


async def owner(page: Page, place: ConnectSite) -> None:
    """Signed in as somebody, to see operations."""
    token = await place.desk.tokens.admit("ann", lives=LIVES)
    await page.context.add_cookies([{"name": "nexus_session", "value": token, "url": place.url}])


async def calls(page: Page) -> list[list[str]]:
    found: list[list[str]] = await page.evaluate("window.fakeCalls")
    return found


async def test_each_wallet_has_its_button_and_the_chosen_one_signs_in(guest: Guest, place: ConnectSite) -> None:
    keys: dict[str, LocalAccount] = {each.address: each for each in (Account.create(), Account.create())}
    one, two = keys
    page = await guest.open("/connect")

    async def sign(address: str, message: str) -> str:
        text = bytes.fromhex(message[2:]).decode()
        return keys[address].sign_message(encode_defunct(text=text)).signature.to_0x_hex()

    await page.context.expose_function("fakeSign", sign)
    await with_wallets(page, "/connect", fake("Rabbit", one), fake("Frame", two, icon=SVG))
    buttons = page.locator("[data-wallet-sign-in] button")
    await expect(buttons).to_have_text(["Sign in with Rabbit", "Sign in with Frame"])
    await expect(page.get_by_text("There is none in this browser.")).to_be_hidden()
    for number, icon in enumerate((PNG, SVG)):
        image = buttons.nth(number).locator("img")
        await expect(image).to_have_attribute("src", icon)
        await expect(image).to_have_attribute("alt", "")
    assert await page.evaluate("window.hacked") is None
    assert await calls(page) == [], "nobody is asked for accounts before the visitor chose"
    await page.evaluate(AXE.read_text())
    assert await page.evaluate(RUN_AXE) == []
    assert await page.evaluate(SMALL_TARGETS) == []
    await buttons.nth(1).click()
    assert await signed_in(page) == two.lower()
    assert await page.evaluate("localStorage.getItem('nexus-wallet')") == "com.frame"


async def test_a_wallet_that_comes_late_is_shown_as_well_and_none_twice(guest: Guest) -> None:
    page = await guest.open("/connect")
    await with_wallets(page, "/connect", fake("Rabbit"), fake("Late", late=True))
    buttons = page.locator("[data-wallet-sign-in] button")
    await expect(buttons).to_have_text(["Sign in with Rabbit"])
    await page.evaluate("window.fakeWallets.forEach((each) => { each.announce(); each.announce(); })")
    await expect(buttons).to_have_text(["Sign in with Rabbit", "Sign in with Late"])


async def test_the_one_wallet_of_old_is_found_until_one_announces_itself(guest: Guest) -> None:
    page = await guest.open("/connect")
    old = "window.ethereum = { request: async () => { throw new Error('User rejected'); } }"
    await with_wallets(page, "/connect", fake("Late", late=True), also=old)
    buttons = page.locator("[data-wallet-sign-in] button")
    await expect(buttons).to_have_text(["Sign in with the browser\u2019s wallet"])
    await expect(buttons.locator("img")).to_have_count(0)
    await page.evaluate("window.fakeWallets[0].announce()")
    await expect(buttons).to_have_text(["Sign in with Late"])


HOSTILE: dict[str, Fake] = {
    "an icon from elsewhere": fake("A", icon="https://evil.example/icon.png"),
    "an icon that is a script": fake("A", icon="javascript:window.hacked=1"),
    "an icon that is a page": fake("A", icon="data:text/html,<script>window.hacked=1</script>"),
    "an icon with a type like an image's": fake("A", icon="data:image/svg+xmlx,<svg/>"),
    "an icon of a megabyte": fake("A", icon="data:image/png;base64," + "A" * 1_000_000),
    "no icon": fake("A") | {"icon": 7},
}


@pytest.mark.parametrize("trick", HOSTILE)
async def test_an_icon_that_is_none_is_not_shown(guest: Guest, trick: str) -> None:
    page = await guest.open("/connect")
    await with_wallets(page, "/connect", HOSTILE[trick])
    buttons = page.locator("[data-wallet-sign-in] button")
    await expect(buttons).to_have_text(["Sign in with A"])
    await expect(buttons.locator("img")).to_have_count(0)
    assert await page.evaluate("window.hacked") is None


async def test_names_are_text_short_and_visible(guest: Guest) -> None:
    named = {
        "<img src=x onerror=window.hacked=1>": "Sign in with <img src=x onerror=window.hacked=1>",
        "\u202eksaMateM\u0000\n": "Sign in with ksaMateM",
        "x" * 5000: "Sign in with " + "x" * 40,
        " \u200b ": "Sign in with A wallet without a name",
    }
    page = await guest.open("/connect")
    fakes = [fake("any") | {"uuid": f"u{number}", "name": name} for number, name in enumerate(named)]
    await with_wallets(page, "/connect", *fakes)
    await expect(page.locator("[data-wallet-sign-in] button")).to_have_text(list(named.values()))
    assert await page.evaluate("window.hacked") is None


async def test_what_announces_itself_wrongly_is_left_alone_and_the_list_has_an_end(guest: Guest) -> None:
    page = await guest.open("/connect")
    await with_wallets(page, "/connect", fake("Good"), *[fake(f"More{number}") for number in range(40)])
    await page.evaluate(
        """() => {
            const wrong = [null, {}, {info: {uuid: 7}, provider: {request() {}}}, {info: {uuid: "w"}, provider: {}},
              {info: {uuid: "uuid-Good", name: "Evil"}, provider: {request() {}}}];
            for (const detail of wrong) {
              window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
            }
        }"""
    )
    buttons = page.locator("[data-wallet-sign-in] button")
    await expect(buttons).to_have_count(12)
    await expect(buttons.first).to_have_text("Sign in with Good")


async def test_who_has_several_is_asked_once_which_one_signs(guest: Guest, place: ConnectSite) -> None:
    page = await guest.open("/")
    await owner(page, place)
    await with_wallets(page, "/wallet/operations/op_key", fake("Rabbit", FRIEND), fake("Frame", OWNER))
    await page.get_by_role("button", name=SIGN).click()
    dialog = page.get_by_role("dialog", name="Which wallet?")
    await expect(dialog.get_by_role("button")).to_have_text(["Rabbit", "Frame", "None of them"])
    await page.evaluate(AXE.read_text())
    assert await page.evaluate(RUN_AXE) == []
    await dialog.get_by_role("button", name="None of them").click()
    await expect(page.get_by_text("It was not signed: no wallet was chosen")).to_be_visible()
    await expect(dialog).to_have_count(0)
    assert await calls(page) == []
    await page.get_by_role("button", name=SIGN).click()
    await page.get_by_role("dialog").get_by_role("button", name="Frame").click()
    await expect(page.locator(".status").first).to_have_text("On its way")
    (first,) = place.wallet.signed
    assert int(first.signature, 16) == len(TYPED_DATA)
    await page.goto("/wallet/operations/op_key_2")
    await page.get_by_role("button", name=SIGN).click()  # it is remembered
    await expect(page.locator(".status").first).to_have_text("On its way")
    assert {each[0] for each in await calls(page)} <= {"uuid-Frame"}
    assert len(place.wallet.signed) == 2


async def test_a_wallet_with_another_account_is_not_remembered(guest: Guest, place: ConnectSite) -> None:
    page = await guest.open("/")
    await owner(page, place)
    await with_wallets(page, "/wallet/operations/op_key", fake("Rabbit", FRIEND), fake("Frame", OWNER))
    await page.evaluate("localStorage.setItem('nexus-wallet', 'com.rabbit')")
    await page.get_by_role("button", name=SIGN).click()
    await expect(page.get_by_text(f"the wallet is at {FRIEND}")).to_be_visible()
    assert place.wallet.signed == []
    await page.get_by_role("button", name=SIGN).click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name=SIGN)).to_be_enabled()


async def test_two_that_bear_one_name_are_always_asked_for(guest: Guest, place: ConnectSite) -> None:
    page = await guest.open("/")
    await owner(page, place)
    twins = [fake("Rabbit", OWNER), fake("Rabbit", OWNER) | {"uuid": "uuid-evil"}]
    await with_wallets(page, "/wallet/operations/op_key", *twins)
    await page.evaluate("localStorage.setItem('nexus-wallet', 'com.rabbit')")
    await page.get_by_role("button", name=SIGN).click()
    await expect(page.get_by_role("dialog").get_by_role("button", name="Rabbit")).to_have_count(2)


async def test_the_only_wallet_signs_unasked_on_a_browser_that_keeps_nothing(guest: Guest, place: ConnectSite) -> None:
    page = await guest.open("/")
    await owner(page, place)
    closed = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } })"
    await with_wallets(page, "/wallet/operations/op_key", fake("Frame", OWNER), also=closed)
    await page.get_by_role("button", name=SIGN).click()
    await expect(page.locator(".status").first).to_have_text("On its way")
    assert len(place.wallet.signed) == 1
