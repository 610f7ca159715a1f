"""The prepaid page: forms that need no scripts, every refusal in its own words, a wallet in the browser that signs."""

from __future__ import annotations

import html
import re

import httpx
import pytest
from playwright.async_api import Page, expect

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput, NotAllowed, PaymentUnknown
from agentnexus.rails.solana.errors import DepositFault
from agentnexus.web.qr import qr_svg
from agentnexus.web.views.prepaid import REFUSALS, EntryView
from tests.web.browsing import read_form
from tests.web.conftest import AXE, Site, Visitor
from tests.web.prepaid_preview import HOSTILE, NOW, SIGNATURE, TREASURY, WALLET, PreviewPrepaid
from tests.web.test_browser_pages import RUN_AXE, SMALL_TARGETS


def prepaid(site: Site) -> PreviewPrepaid:
    found: PreviewPrepaid = site.app.state.prepaid
    return found


async def text(client: httpx.AsyncClient, path: str = "/prepaid") -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


async def test_an_account_shows_what_is_there_where_to_send_and_what_happened(client: httpx.AsyncClient) -> None:
    page = await text(client)
    for shown in ("24.97 USDC", "0.75 SOL", WALLET, TREASURY, "Solana devnet", "Topped up", "+25.0 USDC", SIGNATURE):
        assert shown in page
    assert 'href="/tasks/wf_completed"' in page
    assert page.count("<svg xmlns") == 1
    assert "style=" not in page  # the policy forbids it


async def test_the_account_is_reached_from_every_money_page(client: httpx.AsyncClient) -> None:
    for path in ("/money", "/money/budget", "/money/approvals", "/prepaid"):
        assert 'href="/prepaid"' in (await client.get(path)).text, path
    assert re.search(r'href="/money" aria-current="page"', (await client.get("/prepaid")).text)


async def test_without_a_treasury_the_page_says_what_to_set(site: Site, client: httpx.AsyncClient) -> None:
    prepaid(site).not_kept()
    page = await text(client)
    assert "Not kept on this node" in page
    assert "NEXUS_TREASURY_KEYPAIR" in page
    assert 'action="/prepaid' not in page
    assert (await client.post("/prepaid/open", data={"wallet": WALLET})).status_code == 404


async def test_an_account_is_opened_by_signing_what_is_shown(site: Site, client: httpx.AsyncClient) -> None:
    prepaid(site).before_opening()
    assert "Show what to sign" in await text(client)
    shown = await client.post("/prepaid/open", data={"wallet": f" {WALLET} "})
    assert shown.status_code == 200
    assert f"wallet: {WALLET}" in shown.text
    assert prepaid(site).opened == []
    sent = read_form(shown.text).sent
    done = await client.post("/prepaid/accounts", data={"wallet": sent["wallet"][0], "signature": "5abc"})
    assert (done.status_code, done.headers["location"]) == (303, "/prepaid?done=opened")
    assert prepaid(site).opened == [(WALLET, "5abc")]
    assert "Your account is open" in await text(client, done.headers["location"])


async def test_where_no_proof_is_asked_for_the_account_opens_at_once(site: Site, client: httpx.AsyncClient) -> None:
    prepaid(site).before_opening(proves=False)
    done = await client.post("/prepaid/open", data={"wallet": WALLET})
    assert done.status_code == 303
    assert prepaid(site).opened == [(WALLET, "")]


async def test_a_wrong_signature_comes_back_with_the_message(site: Site, client: httpx.AsyncClient) -> None:
    prepaid(site).before_opening()
    prepaid(site).refuse = NotAllowed("the wallet has not shown that it is yours", next_step="sign the message")
    again = await client.post("/prepaid/accounts", data={"wallet": WALLET, "signature": "no"})
    assert again.status_code == 403
    assert "The wallet has not shown that it is yours." in again.text
    assert f"wallet: {WALLET}" in again.text


@pytest.mark.parametrize("path", ["/prepaid/open", "/prepaid/accounts"])
async def test_what_is_no_address_keeps_the_field(site: Site, client: httpx.AsyncClient, path: str) -> None:
    prepaid(site).before_opening()
    answer = await client.post(path, data={"wallet": HOSTILE, "signature": "x"})
    assert answer.status_code == 400
    assert HOSTILE not in answer.text
    assert "This is no address of a Solana wallet." in answer.text
    assert re.search(r'id="wallet"[^>]*aria-invalid="true"', answer.text)


async def test_every_way_to_refuse_a_claim_has_its_own_words(site: Site, client: httpx.AsyncClient) -> None:
    assert set(REFUSALS) == {*map(str, DepositFault), "reused"}
    assert len(set(REFUSALS.values())) == len(REFUSALS)
    for reason, words in REFUSALS.items():
        kind = Conflict if reason in ("unconfirmed", "reused") else InvalidInput
        prepaid(site).refuse = kind("in the chain's words", next_step="do this", reason=reason)
        answer = await client.post("/prepaid/claim", data={"signature": SIGNATURE})
        assert answer.status_code == (409 if kind is Conflict else 400)
        assert f"<strong>{html.escape(words)}.</strong><p>What to do: Do this.</p>" in answer.text
        assert f'value="{SIGNATURE}" aria-invalid="true"' in answer.text
    assert prepaid(site).claimed == []


async def test_a_claim_says_what_was_credited(site: Site, client: httpx.AsyncClient) -> None:
    done = await client.post("/prepaid/claim", data={"signature": f"\n{SIGNATURE} "})
    assert prepaid(site).claimed == [SIGNATURE]
    assert "25 USDC credited" in await text(client, done.headers["location"])


async def test_money_goes_back_once_per_form(site: Site, client: httpx.AsyncClient) -> None:
    first, second = [read_form((await client.get("/prepaid")).text).sent["key"][0] for _ in range(2)]
    assert first != second
    data = {"withdraw_amount": "5", "asset": "USDC", "key": first}
    done = await client.post("/prepaid/withdraw", data=data)
    assert prepaid(site).sent == [("5", "USDC", first)]
    page = await text(client, done.headers["location"])
    assert "5 USDC sent to your wallet" in page
    assert SIGNATURE in page


async def test_a_withdrawal_that_is_not_known_yet_keeps_its_key(site: Site, client: httpx.AsyncClient) -> None:
    data = {"withdraw_amount": "5", "asset": "SOL", "key": "form-key-1"}
    prepaid(site).refuse = PaymentUnknown("sent and not confirmed", next_step="repeat it")
    waiting = read_form((await client.post("/prepaid/withdraw", data=data)).text)
    assert (waiting.sent["key"], waiting.sent["withdraw_amount"], waiting.sent["asset"]) == (
        ["form-key-1"],
        ["5"],
        ["SOL"],
    )
    prepaid(site).refuse = InsufficientFunds("Insufficient escrow balance.", next_step="withdraw less")
    refused = await client.post("/prepaid/withdraw", data=data)
    assert refused.status_code == 402
    assert read_form(refused.text).sent["key"] != ["form-key-1"]  # nothing moved: the next try is another one


async def test_a_long_history_goes_on_at_the_next_page(site: Site, client: httpx.AsyncClient) -> None:
    account = prepaid(site)
    account.with_history(EntryView("Topped up", "+1.0 USDC", True, SIGNATURE, "", NOW), entries=900, older=850)
    assert 'href="/prepaid?before=850#history"' in (await client.get("/prepaid")).text
    for given, asked in (("850", 850), ("", None), ("-1", None), ("x", None), ("9" * 40, None)):
        assert (await client.get("/prepaid", params={"before": given})).status_code == 200
        assert account.asked_before == asked


async def test_texts_of_others_are_only_text(site: Site, client: httpx.AsyncClient) -> None:
    prepaid(site).with_history(EntryView(HOSTILE, HOSTILE, True, HOSTILE, HOSTILE, NOW), entries=900)
    page = (await client.get("/prepaid")).text
    assert HOSTILE not in page
    assert "1 of 900 movements." in page
    assert HOSTILE not in (await client.get("/prepaid", params={"done": "withdrawn", "amount": HOSTILE})).text


async def test_forms_of_other_sites_move_nothing(site: Site, client: httpx.AsyncClient) -> None:
    for path in ("open", "accounts", "claim", "withdraw"):
        answer = await client.post(
            f"/prepaid/{path}", data={"signature": SIGNATURE}, headers={"Origin": "https://evil.example"}
        )
        assert answer.status_code == 403, path
    assert prepaid(site).claimed == []


async def test_too_long_texts_are_refused(site: Site, client: httpx.AsyncClient) -> None:
    for path, name in (("open", "wallet"), ("claim", "signature"), ("withdraw", "withdraw_amount")):
        answer = await client.post(f"/prepaid/{path}", data={name: "9" * 30_000})
        assert answer.status_code == 400, path
    assert prepaid(site).sent == []


def test_a_qr_code_is_shapes_alone() -> None:
    drawn = qr_svg(f"solana:{TREASURY}?label=<script>")
    assert re.fullmatch(r"<svg [^>]*><path [^>]*/><path [^>]*/></svg>", drawn)
    assert "style" not in drawn
    assert "script" not in drawn
    assert qr_svg("another") != drawn


@pytest.mark.browser
async def test_a_deposit_is_claimed_without_scripts(visitor: Visitor, site: Site) -> None:
    page = await visitor.open("/prepaid", javascript=False, size="phone")
    await page.get_by_label("Transaction signature").fill(SIGNATURE)
    await page.get_by_role("button", name="Claim").click()
    await expect(page.get_by_text("25 USDC credited")).to_be_visible()
    await page.get_by_label("Amount").fill("1.5")
    await page.get_by_label("Of", exact=True).select_option("SOL")
    await page.get_by_role("button", name="Withdraw").click()
    await expect(page.get_by_text("1.5 SOL sent to your wallet")).to_be_visible()
    assert [entry[:2] for entry in prepaid(site).sent] == [("1.5", "SOL")]


INJECTED = """
const key = { toString: () => "%s" };
window.solana = { publicKey: key, connect: async () => ({ publicKey: key }),
                  signMessage: async (bytes) => ({ signature: bytes.slice(0, 64) }) };
"""


@pytest.mark.browser
async def test_the_browsers_wallet_connects_and_signs(visitor: Visitor, site: Site) -> None:
    prepaid(site).before_opening()
    page = await visitor.open("/money")
    await page.context.add_init_script(INJECTED % WALLET)
    await page.goto("/prepaid")
    await page.get_by_role("button", name="Connect the browser").click()
    await expect(page.get_by_label("Solana address")).to_have_value(WALLET)
    await page.get_by_role("button", name="Show what to sign").click()
    await page.get_by_role("button", name="Sign with the browser").click()
    await expect(page.get_by_text("Your account is open")).to_be_visible()
    ((wallet, signature),) = prepaid(site).opened
    assert wallet == WALLET
    assert bytes.fromhex(signature).decode().startswith("AgentNexus prepaid account")


@pytest.mark.browser
async def test_another_wallet_than_the_one_shown_does_not_sign(visitor: Visitor, site: Site) -> None:
    prepaid(site).before_opening()
    page = await visitor.open("/money")
    await page.context.add_init_script(INJECTED % TREASURY)
    await page.goto("/prepaid")
    await page.get_by_label("Solana address").fill(WALLET)
    await page.get_by_role("button", name="Show what to sign").click()
    await page.get_by_role("button", name="Sign with the browser").click()
    await expect(page.get_by_text(f"the wallet is at {TREASURY}")).to_be_visible()
    assert prepaid(site).opened == []


STATES = ("account", "before opening", "what to sign", "refused", "not kept")


async def enter(page: Page, shown: PreviewPrepaid, state: str) -> None:
    """Bring the page into a state as a visitor gets there."""
    shown.refuse = InvalidInput("not theirs", next_step="claim your own", reason="foreign")
    if state in ("before opening", "what to sign"):
        shown.before_opening()
    if state == "not kept":
        shown.not_kept()
    await page.goto("/prepaid")
    if state == "what to sign":
        await page.get_by_label("Solana address").fill(WALLET)
        await page.get_by_role("button", name="Show what to sign").click()
        await expect(page.get_by_role("heading", name="Prove the wallet is yours")).to_be_visible()
    if state == "refused":
        await page.get_by_label("Transaction signature").fill(SIGNATURE)
        await page.get_by_role("button", name="Claim").click()
        await expect(page.get_by_role("alert")).to_be_focused()


@pytest.mark.browser
@pytest.mark.parametrize("state", STATES)
async def test_every_state_is_accessible_and_fits_a_phone(visitor: Visitor, site: Site, state: str) -> None:
    page = await visitor.open("/money", size="phone", theme="dark")
    await enter(page, prepaid(site), state)
    await page.evaluate(AXE.read_text())
    assert await page.evaluate(RUN_AXE) == []
    assert await page.evaluate(SMALL_TARGETS) == []
    assert await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


@pytest.mark.browser
async def test_the_code_is_drawn_dark_on_light_in_both_themes(visitor: Visitor) -> None:
    for theme in ("light", "dark"):
        page = await visitor.open("/prepaid", theme=theme)
        code = page.get_by_role("img", name="QR code of the address")
        await expect(code).to_be_visible()
        fills = await code.locator("path").evaluate_all(
            "paths => paths.map((each) => [getComputedStyle(each).fill, getComputedStyle(each).stroke])"
        )
        assert fills[0][0] == "rgb(255, 255, 255)"
        assert fills[1][1] == "rgb(0, 0, 0)"
        box = await code.bounding_box()
        assert box is not None
        assert box["width"] >= 150  # a phone's camera needs some size


@pytest.mark.browser
async def test_movements_are_cards_on_a_phone(visitor: Visitor) -> None:
    page = await visitor.open("/prepaid", size="phone")
    region = page.get_by_role("region", name="Every movement")
    assert await region.evaluate("it => it.scrollWidth - it.clientWidth") <= 0, "nothing is hidden at its side"
    assert await region.get_by_role("row").count() > 1, "and it is a table still"
