"""A person at a browser who never had a wallet: a passkey, money, runs bought, signed for, used and given back."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from email import message_from_bytes, policy
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from eth_account import Account
from eth_account.messages import encode_defunct
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.economy.conftest import Town
from tests.web.conftest import CHROMIUM, FLAGS

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.timeout(300)]
AGENT = "org.agentnexus.content-summarizer"
TEXT = "The Rance station opened in 1966. It works until today. It has 24 turbines and one lock."
PATIENCE_MS = 60_000  # of the whole economy, beside other tests
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest_asyncio.fixture(loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium: apt-get install chromium, or set NEXUS_CHROMIUM")
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        await made.close()


@asynccontextmanager
async def window(browser: Browser, town: Town) -> AsyncIterator[Page]:
    """A window of a person of its own, under the name that passkeys need."""
    trouble: list[str] = []
    port = urlsplit(town.economy.urls["api"]).port
    context = await browser.new_context(
        base_url=f"http://localhost:{port}", viewport={"width": 390, "height": 844}, reduced_motion="reduce"
    )
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    yield page
    await context.close()
    assert trouble == []


async def sign_in_by_mail(page: Page, town: Town, email: str) -> None:
    """As somebody new; the message is where a development node leaves it."""
    await page.goto("/connect?next=/wallet")
    await page.get_by_label("Address").fill(email)
    await page.get_by_role("button", name="Send me a code").click()
    await expect(page.get_by_role("heading", name="Type the code")).to_be_visible(timeout=PATIENCE_MS)
    newest = max((town.economy.home / "mail").glob("*.eml"))
    message = message_from_bytes(newest.read_bytes(), policy=policy.default)
    assert message["To"] == email
    (code, *_) = re.findall(r"\b[0-9]{8}\b", message.get_content())
    await page.get_by_label("Code").fill(code)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/wallet")


async def have_authenticator(page: Page) -> None:
    """What makes and keeps passkeys in this window, and finds its user there at once."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    await session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})


async def address_of(page: Page) -> str:
    """The account that the wallet's page shows."""
    await page.goto("/wallet")
    shown = await page.get_by_label("Your address", exact=True).text_content()
    assert shown is not None
    return shown.strip()


async def usdc(town: Town, address: str) -> Decimal:
    return Decimal(await town.economy.chain.usdc_of(address)) / 10**6


async def run_it(page: Page) -> None:
    """A run with what was bought; waits for the result and for the seller's payment."""
    await page.get_by_role("link", name="Run it now").click()
    await page.locator("[name='in/text']").fill(TEXT)
    await page.get_by_role("button", name=re.compile("^Run with your")).click()
    await page.wait_for_url("**/uses/use_*")
    await expect(page.get_by_text("The Rance station opened in 1966").first).to_be_visible(timeout=PATIENCE_MS)
    await expect(page.locator("#live-facts")).to_contain_text("0.01 USDC", timeout=PATIENCE_MS)


async def test_somebody_new_buys_with_a_passkey_runs_the_agent_and_takes_the_rest_back(
    town: Town, browser: Browser
) -> None:
    async with window(browser, town) as page:
        await have_authenticator(page)
        await sign_in_by_mail(page, town, "ann@example.org")
        await page.get_by_role("link", name="Create a passkey first").click()
        await page.get_by_role("button", name="Add a passkey").click()
        await page.wait_for_url("**/wallet")
        await page.get_by_role("button", name="Make it with this passkey").click()
        await expect(page.get_by_text("Your wallet is ready")).to_be_visible(timeout=PATIENCE_MS)
        address = await address_of(page)
        await page.goto(f"/agents/{AGENT}/buy?runs=3")
        await expect(page.get_by_text("The wallet holds 0.00 USDC")).to_be_visible(timeout=PATIENCE_MS)
        await town.economy.chain.mint(address, 10**6)

        await page.reload()
        await expect(page.get_by_text("paid by AgentNexus")).to_be_visible(timeout=PATIENCE_MS)
        await page.get_by_role("button", name="Buy 3 runs for 0.03 USDC").click()
        await page.wait_for_url("**/purchases/pur_*")
        purchase = page.url
        await page.get_by_role("button", name="Sign with your passkey").click()
        await expect(page.get_by_role("link", name="Run it now")).to_be_visible(timeout=PATIENCE_MS)
        await expect(page.locator("#live-way .tone-done")).to_have_count(5, timeout=PATIENCE_MS)
        assert await usdc(town, address) == Decimal("0.97")
        assert await town.economy.chain.rpc.call("eth_getBalance", address, "latest") == "0x0"

        await run_it(page)
        await page.goto("/entitlements")
        await expect(page.get_by_text("2 runs left")).to_be_visible(timeout=PATIENCE_MS)

        await page.goto(purchase)
        await page.get_by_role("button", name="Give back what is left").click()
        await expect(page.get_by_text("Your money came back")).to_be_visible(timeout=PATIENCE_MS)
        assert await usdc(town, address) == Decimal("0.99")


# A wallet in the browser: its key stays with the test, which signs what the page hands over, as a wallet would.
INJECTED = """
window.ethereum = {
  request: async ({ method, params }) => {
    if (method === "eth_requestAccounts" || method === "eth_accounts") return ["%(address)s"];
    if (method === "eth_chainId") return "0x7a69";
    if (method === "personal_sign") return window.signMessage(params[0]);
    if (method === "eth_signTypedData_v4") return window.signTypedData(params[1]);
    throw new Error("this wallet does not know " + method);
  },
};
"""


async def test_a_wallet_in_the_browser_owns_an_account_and_signs_for_it(town: Town, browser: Browser) -> None:
    owner = Account.create()
    signed: list[str] = []

    def sign_message(text: str) -> str:
        return "0x" + owner.sign_message(encode_defunct(hexstr=text)).signature.hex()

    def sign_typed_data(payload: str) -> str:
        signed.append(payload)
        return "0x" + Account.sign_typed_data(owner.key, full_message=json.loads(payload)).signature.hex()

    async with window(browser, town) as page:
        await page.context.expose_function("signMessage", sign_message)
        await page.context.expose_function("signTypedData", sign_typed_data)
        await page.context.add_init_script(INJECTED % {"address": owner.address})
        await page.goto("/connect?next=/wallet")
        await page.get_by_role("button", name="Sign in with the browser").click()
        await page.wait_for_url("**/wallet")
        await page.get_by_role("button", name="Ask the browser").click()
        await expect(page.get_by_label("Its address")).to_have_value(owner.address)
        await page.get_by_role("button", name="Make it for this wallet").click()
        await expect(page.get_by_text("Your wallet is ready")).to_be_visible(timeout=PATIENCE_MS)
        address = await address_of(page)
        await town.economy.chain.mint(address, 10**6)

        await page.goto(f"/agents/{AGENT}/buy?runs=1")
        await page.get_by_role("button", name="Buy 1 run for 0.01 USDC").click()
        await page.get_by_role("button", name="Sign with the browser").click()
        await expect(page.get_by_role("link", name="Run it now")).to_be_visible(timeout=PATIENCE_MS)
        assert len(signed) == 1
        assert json.loads(signed[0])["message"]["sender"].lower() == address.lower()
        await run_it(page)
        assert await usdc(town, address) == Decimal("0.99")
