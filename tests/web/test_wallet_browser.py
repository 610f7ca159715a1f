"""Wallets, purchases and runs in Chromium: signing in the page, pages that move, every state accessible."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.async_api import Page, expect

from agentnexus.core.errors import InsufficientFunds, InvalidInput, NotAllowed
from agentnexus.web.views.purchases import Order, Owned
from agentnexus.web.views.wallet import PasskeyChoice, Recovery
from tests.web import samples
from tests.web.conftest import AXE, Site, Visitor
from tests.web.purchases_preview import (
    AGENT,
    BEGINS,
    MONTH_STATES,
    NO_WALLET,
    SHORT,
    STATES,
    THIRD,
    PreviewPurchases,
    month,
    purchase,
    use,
)
from tests.web.test_browser_pages import RUN_AXE, SMALL_TARGETS
from tests.web.wallet_preview import (
    CHALLENGE,
    CREDENTIAL,
    FRIEND,
    NOW,
    OWNER,
    TYPED_DATA,
    PreviewWallet,
    operation,
    page,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
BUY = f"/agents/{AGENT}/buy"
PURCHASE, OPERATION = "/purchases/pur_signing", "/wallet/operations/op_unsigned"


def wallet(site: Site) -> PreviewWallet:
    found: PreviewWallet = site.app.state.wallet
    return found


def purchases(site: Site) -> PreviewPurchases:
    found: PreviewPurchases = site.app.state.purchases
    return found


def by_name(site: Site, path: str) -> str:
    """The same site under the name that passkeys need."""
    return f"http://localhost:{urlsplit(site.url).port}{path}"


async def hold_passkey(opened: Page) -> None:
    """An authenticator with the passkey that the sample pages ask for, whose user is there."""
    session = await opened.context.new_cdp_session(opened)
    await session.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
               "isUserVerified": True, "automaticPresenceSimulation": True}  # fmt: skip
    made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    credential = {
        "credentialId": _base64(CREDENTIAL),
        "isResidentCredential": False,
        "rpId": "localhost",
        "privateKey": _encoded(private),
        "signCount": 1,
    }
    await session.send("WebAuthn.addCredential", {"authenticatorId": made["authenticatorId"], "credential": credential})


def _base64(base64url: str) -> str:
    text = base64url.replace("-", "+").replace("_", "/")
    return text + "=" * (-len(text) % 4)


def _encoded(data: bytes) -> str:
    from base64 import b64encode

    return b64encode(data).decode()


@pytest.mark.parametrize("path", [PURCHASE, OPERATION])
async def test_a_passkey_signs_what_the_page_asks_for(visitor: Visitor, site: Site, path: str) -> None:
    opened = await visitor.open("/money", size="phone")
    await hold_passkey(opened)
    await opened.goto(by_name(site, path))
    await opened.get_by_role("button", name="Sign with your passkey").click()
    await expect(opened.locator(".status").first).to_have_text("On its way")
    await expect(opened.get_by_role("button", name="Sign with your passkey")).to_have_count(0)
    (signed,) = purchases(site).signed or wallet(site).signed
    assert CHALLENGE in _decoded(signed.client_data)
    assert '"type":"webauthn.get"' in _decoded(signed.client_data)
    assert len(signed.authenticator_data) >= 48  # 37 bytes
    assert signed.signature


def _decoded(base64url: str) -> str:
    from base64 import b64decode

    return b64decode(_base64(base64url)).decode()


async def test_without_the_passkey_nothing_is_sent_and_it_can_be_tried_again(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open("/money")
    session = await opened.context.new_cdp_session(opened)
    await session.send("WebAuthn.enable")  # with no authenticator at all
    options = {"protocol": "ctap2", "transport": "internal", "hasUserVerification": True, "isUserVerified": True,
               "hasResidentKey": True, "automaticPresenceSimulation": True}  # fmt: skip
    await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    await opened.goto(by_name(site, PURCHASE))
    button = opened.get_by_role("button", name="Sign with your passkey")
    await button.click()
    await expect(opened.get_by_text("It was not signed")).to_be_visible()
    await expect(button).to_be_enabled()
    assert purchases(site).signed == []


async def test_a_page_under_an_address_says_where_passkeys_work(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open(PURCHASE)
    await opened.get_by_role("button", name="Sign with your passkey").click()
    await expect(opened.get_by_text("http://localhost:")).to_be_visible()
    assert purchases(site).signed == []


async def test_without_scripts_a_passkey_page_says_what_it_needs(visitor: Visitor) -> None:
    opened = await visitor.open(PURCHASE, javascript=False)
    await expect(opened.get_by_text("A passkey answers to scripts alone")).to_be_visible()
    await expect(opened.get_by_role("link", name="Load it again")).to_be_visible()


INJECTED = """
window.asked = [];
window.ethereum = {
  request: async ({ method, params }) => {
    window.asked.push(method);
    if (method === "eth_requestAccounts") return ["%(account)s"];
    if (method === "eth_chainId") return "%(chain)s";
    if (method === "wallet_switchEthereumChain") return null;
    if (method === "eth_signTypedData_v4") return "0x" + params[1].length.toString(16).padStart(130, "0");
    throw new Error("unknown " + method);
  },
};
"""


async def with_wallet(opened: Page, path: str, account: str = OWNER, chain: str = "0x7a69") -> None:
    await opened.context.add_init_script(INJECTED % {"account": account, "chain": chain})
    await opened.goto(path)


async def test_the_browsers_wallet_signs_the_typed_data_of_the_page(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open("/money")
    await with_wallet(opened, "/wallet/operations/op_key")
    await opened.get_by_role("button", name="Sign with the browser").click()
    await expect(opened.locator(".status").first).to_have_text("On its way")
    (signed,) = wallet(site).signed
    assert int(signed.signature, 16) == len(TYPED_DATA)
    assert signed.authenticator_data == ""


async def test_a_wallet_on_another_chain_is_asked_to_change_over(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open("/money")
    await with_wallet(opened, "/wallet/operations/op_key", chain="0x1")
    await opened.evaluate(
        "document.querySelector('[data-sign-form]').addEventListener('submit', e => e.preventDefault())"
    )
    await opened.get_by_role("button", name="Sign with the browser").click()
    await opened.wait_for_function("window.asked.includes('eth_signTypedData_v4')")
    assert "wallet_switchEthereumChain" in await opened.evaluate("window.asked")


async def test_another_account_than_the_owner_does_not_sign(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open("/money")
    await with_wallet(opened, "/wallet/operations/op_key", account=FRIEND)
    await opened.get_by_role("button", name="Sign with the browser").click()
    await expect(opened.get_by_text(f"the wallet is at {FRIEND}")).to_be_visible()
    assert wallet(site).signed == []


async def test_without_a_wallet_in_the_browser_the_signature_is_pasted(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open("/wallet/operations/op_key", size="phone")
    await opened.get_by_role("button", name="Sign with the browser").click()
    await expect(opened.get_by_text("It was not signed: there is none in this browser")).to_be_visible()
    await opened.get_by_text("Sign elsewhere and paste the signature", exact=True).click()
    await opened.get_by_role("textbox", name="Signature").fill("0x" + "11" * 65)
    await opened.get_by_role("button", name="Send the signature").click()
    await expect(opened.locator(".status").first).to_have_text("On its way")
    assert wallet(site).signed[0].signature == "0x" + "11" * 65


async def test_the_address_of_the_browsers_wallet_fills_the_field(visitor: Visitor, site: Site) -> None:
    wallet(site).before_making()
    opened = await visitor.open("/money")
    await with_wallet(opened, "/wallet")
    await opened.get_by_role("button", name="Ask the browser").click()
    await expect(opened.get_by_label("Its address")).to_have_value(OWNER)
    await opened.get_by_role("button", name="Make it for this wallet").click()
    await expect(opened.get_by_text("Your wallet is ready")).to_be_visible()
    assert wallet(site).made == [("key", "", OWNER)]


async def test_a_purchase_is_watched_from_its_check_to_its_runs(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open("/purchases/pur_validating")
    ready = opened.locator("#live-way .tone-done")
    await expect(ready).to_have_count(1)
    await purchases(site).advance("pur_validating", purchase("signing"))
    await expect(opened.get_by_role("button", name="Sign with your passkey")).to_be_visible()
    await purchases(site).advance("pur_validating", purchase("sent"))
    await expect(opened.get_by_role("button", name="Sign with your passkey")).to_have_count(0)
    await expect(ready).to_have_count(3)
    await purchases(site).advance("pur_validating", purchase("confirmed"))
    await expect(ready).to_have_count(4)
    await purchases(site).advance("pur_validating", purchase("completed"))
    await expect(opened.get_by_role("link", name="Run it now")).to_be_visible()
    await expect(ready).to_have_count(5)
    await expect(opened.locator("#live-facts")).to_contain_text("Held in escrow now")


async def test_a_run_and_an_operation_are_watched_to_their_ends(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open("/uses/use_running")
    await expect(opened.locator("#live-head .status")).to_have_text("Working")
    await purchases(site).finish("use_running", use("completed"))
    await expect(opened.locator("#live-result")).to_contain_text("What the report says")
    await expect(opened.locator("#live-facts")).to_contain_text("0.02 USDC")
    opened = await visitor.open("/wallet/operations/op_signed")
    await wallet(site).advance("op_signed", operation("failed"))
    await expect(opened.locator("#live-head")).to_contain_text("nothing of them happened")


@pytest.mark.parametrize("javascript", [True, False])
async def test_runs_are_bought_from_an_agents_page(visitor: Visitor, site: Site, javascript: bool) -> None:
    purchases(site).has = Owned(sold=True)
    opened = await visitor.open(f"/agents/{AGENT}", size="phone", javascript=javascript)
    await opened.get_by_role("link", name="Buy runs").click()
    await opened.get_by_role("link", name="20 runs").click()
    await opened.wait_for_url("**/buy?runs=20")
    await opened.get_by_label("Another number").fill("7")
    await opened.get_by_role("button", name="Show the price").click()
    await opened.wait_for_url("**/buy?runs=7")
    await opened.get_by_role("button", name=re.compile("^Buy 7 runs")).click()
    await opened.wait_for_url("**/purchases/pur_signing")
    assert [(agent, order) for agent, order, _ in purchases(site).bought] == [(AGENT, Order("runs", 7))]


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_month_is_bought_from_an_agents_page(visitor: Visitor, site: Site, javascript: bool) -> None:
    purchases(site).has = Owned(sold=True)
    opened = await visitor.open(f"/agents/{AGENT}", size="phone", javascript=javascript)
    await opened.get_by_role("link", name="Buy runs").click()
    await opened.get_by_role("link", name="A month").click()
    await opened.wait_for_url("**/buy?kind=period")
    await opened.get_by_role("checkbox", name="Give 3 unused runs back").check()
    await opened.get_by_role("button", name=re.compile("^Buy it until 6 Dec 2026 for 3.34 USDC")).click()
    await opened.wait_for_url("**/purchases/pur_month_signing")
    assert [order for _, order, _ in purchases(site).bought] == [Order("period", upgrade=True)]
    await purchases(site).advance("pur_month_signing", month("month"))
    await opened.goto("/purchases/pur_month_signing")
    await expect(opened.get_by_text("PDF extractor is yours until 6 Dec 2026")).to_be_visible()


async def test_runs_are_passed_on_from_what_was_bought_without_scripts(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open("/entitlements", size="phone", javascript=False)
    await opened.locator("summary", has_text="Pass on").first.click()
    await opened.get_by_label("Address of the other wallet").first.fill(FRIEND)
    await opened.get_by_label("How many of 3 runs").fill("2")
    await opened.get_by_role("button", name="Pass them on").click()
    await expect(opened.get_by_role("heading", name="For good, to 0x8617…070d")).to_be_visible()
    assert purchases(site).passed == [], "one click is not enough"
    await opened.get_by_role("button", name="Pass 2 runs on to 0x8617…070d").click()
    await opened.wait_for_url("**/wallet/operations/op_unsigned")
    ((agent, passing),) = purchases(site).passed
    assert (agent, passing.kind, passing.to, passing.count) == (AGENT, "runs", FRIEND, 2)
    await opened.goto("/entitlements")
    purchases(site).refuse = InvalidInput("that is no address", next_step="paste it again")
    await opened.locator("summary", has_text="Pass on").first.click()
    await opened.get_by_label("Address of the other wallet").first.fill("0xnobody")
    await opened.get_by_role("button", name="Pass them on").click()
    await expect(opened.get_by_label("Address of the other wallet").first).to_have_value("0xnobody")


async def test_money_is_sent_and_a_key_is_taken_without_scripts(visitor: Visitor, site: Site) -> None:
    opened = await visitor.open("/wallet", size="phone", javascript=False)
    await opened.get_by_label("To", exact=True).fill(FRIEND)
    await opened.get_by_label("Amount", exact=True).fill("1.5")
    await opened.get_by_label("Of", exact=True).select_option("ETH")
    await opened.get_by_role("button", name="Send").click()
    await opened.wait_for_url("**/wallet/operations/op_signed")
    assert (wallet(site).sent[0].to, wallet(site).sent[0].asset) == (FRIEND, "ETH")
    await opened.goto("/wallet/export")
    await opened.get_by_label("I am alone at this screen").check()
    await opened.get_by_role("button", name="Show the private key").click()
    await expect(opened.get_by_text("0x4c4c4c")).to_be_visible()


def _no_wallet(site: Site) -> None:
    wallet(site).before_making()
    purchases(site).obstacle = NO_WALLET


def _passkeys(site: Site) -> None:
    wallet(site).before_making(PasskeyChoice(CREDENTIAL, "My phone"))


def _recovery(site: Site) -> None:
    waiting = Recovery(FRIEND, 7, NOW + timedelta(days=3))
    wallet(site).shown = replace(page("key"), recovery=waiting)


def _refused(site: Site) -> None:
    wallet(site).refuse = NotAllowed("nobody pays the gas of this", next_step="pay it in ETH")


def _short(site: Site) -> None:
    purchases(site).obstacle = SHORT


def _unowned(site: Site) -> None:
    purchases(site).has = Owned(sold=True)


def _monthly(site: Site) -> None:
    purchases(site).has = Owned(sold=True, runs_left=2, until=BEGINS, month_runs_left=988)


def _renewing(site: Site) -> None:
    purchases(site).renews = True


def _both_months(site: Site) -> None:
    purchases(site).obstacle = THIRD


def _nothing(site: Site) -> None:
    purchases(site).sold = False


def _as_it_is(_site: Site) -> None:
    """Sample data alone."""


STATES_OF_PAGES: list[tuple[str, str, Callable[[Site], None]]] = [
    ("a wallet", "/wallet", _as_it_is),
    ("before one is made", "/wallet", _no_wallet),
    ("before one is made, with passkeys", "/wallet", _passkeys),
    ("a recovery", "/wallet", _recovery),
    ("terms without a wallet", BUY, _no_wallet),
    ("terms with too little money", BUY, _short),
    ("terms", BUY, _as_it_is),
    ("no number of runs", f"{BUY}?runs=none", _as_it_is),
    ("nothing sold", BUY, _nothing),
    ("no entitlements", "/entitlements", _nothing),
    ("entitlements", "/entitlements", _as_it_is),
    ("an agent whose runs are sold", f"/agents/{AGENT}", _unowned),
    ("an agent of one's own for a month", f"/agents/{AGENT}", _monthly),
    ("an agent after a run whose input is gone", f"/agents/{AGENT}?use=use_1", _as_it_is),
    ("terms of a month", f"{BUY}?kind=period&upgrade=1", _as_it_is),
    ("terms of the next month", f"{BUY}?kind=period", _renewing),
    ("no more months", f"{BUY}?kind=period", _both_months),
    ("a wallet on the way to something", "/wallet?next=/agents/x/buy", _as_it_is),
    ("making one on the way to something", "/wallet?next=/agents/x/buy", _no_wallet),
    ("export", "/wallet/export", _as_it_is),
    *((f"operation {name}", f"/wallet/operations/op_{name}", _as_it_is)
      for name in ("unsigned", "key", "delegated", "signed", "succeeded", "failed", "rejected", "discarded")),
    *((f"purchase {name}", f"/purchases/pur_{name}", _as_it_is) for name in STATES),
    *((f"purchase of a {name}", f"/purchases/pur_{name}", _as_it_is) for name in MONTH_STATES),
    *((f"use {name}", f"/uses/use_{name}", _as_it_is) for name in ("running", "completed", "failed", "month")),
]  # fmt: skip


@pytest.mark.parametrize(("size", "theme"), [("phone", "dark"), ("desktop", "light")])
async def test_every_state_is_accessible_and_fits_the_screen(
    visitor: Visitor, site: Site, size: str, theme: str
) -> None:
    found: dict[str, object] = {}
    opened = await visitor.open("/money", size=size, theme=theme)
    for name, path, prepare in STATES_OF_PAGES:
        site.app.state.wallet.__dict__.update(PreviewWallet().__dict__)
        site.app.state.purchases.__dict__.update(PreviewPurchases().__dict__)
        prepare(site)
        await opened.goto(path)
        await opened.evaluate(AXE.read_text())
        problems = await opened.evaluate(RUN_AXE)
        wider = await opened.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        problems += [f"scrolls sideways by {wider}"] * (wider > 0)
        problems += await opened.evaluate(SMALL_TARGETS) if size == "phone" else []
        if problems:
            found[name] = problems
    assert found == {}


@pytest.mark.parametrize(
    ("path", "fill"), [("/wallet", {"To": FRIEND, "Amount": "90"}), ("/wallet/operations/op_unsigned", {})]
)
async def test_a_refusal_has_the_focus_and_what_was_typed_stays(
    visitor: Visitor, site: Site, path: str, fill: dict[str, str]
) -> None:
    wallet(site).refuse = InsufficientFunds("this takes 90 USDC", next_step="send less")
    opened = await visitor.open("/money", size="phone")
    await hold_passkey(opened)
    await opened.goto(by_name(site, path))
    for label, value in fill.items():
        await opened.get_by_label(label, exact=True).fill(value)
    await opened.get_by_role("button", name="Send" if fill else "Sign with your passkey", exact=True).click()
    await expect(opened.get_by_role("alert")).to_be_focused()
    for label, value in fill.items():
        await expect(opened.get_by_label(label, exact=True)).to_have_value(value)
    wallet(site).refuse = InvalidInput("unused")


async def test_the_sample_pages_are_of_an_agent_that_exists() -> None:
    assert AGENT in {each.id for each in samples.AGENTS}
