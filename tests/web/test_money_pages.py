"""The money pages: forms that need no scripts, mistakes that come back with what was typed, names of strangers."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.async_api import expect

from agentnexus.core.errors import InvalidInput
from tests.web.conftest import Site, Visitor
from tests.web.money_preview import GRANT, HOSTILE, MANDATE, PART, WALLET, PreviewMoney
from tests.web.test_browser_pages import _violations

PART_PAGE = "/money/budget?id=user%3Alocal%2Fresearch-agent"


def money(site: Site) -> PreviewMoney:
    found: PreviewMoney = site.app.state.money
    return found


@pytest.mark.parametrize(
    ("asked", "shown"), [("", 30), ("?days=7", 7), ("?days=90", 90), ("?days=31", 30), ("?days=x", 30)]
)
async def test_the_period_is_chosen_by_address(client: httpx.AsyncClient, asked: str, shown: int) -> None:
    answer = await client.get(f"/money{asked}")
    assert answer.status_code == 200
    assert f"The last {shown} days" in answer.text
    assert re.search(rf'href="/money\?days={shown}" aria-current="true"', answer.text)


async def test_charts_have_words_and_a_table(client: httpx.AsyncClient) -> None:
    page = (await client.get(PART_PAGE)).text
    assert re.search(r'role="img" aria-label="Left of the total: from 25.00 USDC to [0-9.]+ USDC on 2026-11-21"', page)
    assert page.count("<tr>") > 30
    assert "style=" not in page  # the policy forbids it: shapes are attributes


async def test_nothing_spent_is_said_not_drawn(site: Site, client: httpx.AsyncClient) -> None:
    money(site).empty = True
    page = (await client.get("/money")).text
    assert "Nothing was spent in these days." in page
    assert "saved" not in page
    assert "No approvals yet" in (await client.get("/money/approvals")).text


async def test_names_of_strangers_are_only_text(site: Site, client: httpx.AsyncClient) -> None:
    money(site).hostile = True
    page = (await client.get("/money")).text
    assert HOSTILE not in page
    assert "&lt;img src=x" in page


async def test_limits_are_saved_as_typed(site: Site, client: httpx.AsyncClient) -> None:
    typed = {"id": PART.id, "total": "30", "per_day": "", "unknown": "5"}
    answer = await client.post("/money/budget", data=typed)
    assert (answer.status_code, answer.headers["location"]) == (303, PART_PAGE)
    assert money(site).changed == [(PART.id, {"total": "30", "per_day": ""})]


async def test_a_mistake_comes_back_with_what_was_typed(site: Site, client: httpx.AsyncClient) -> None:
    answer = await client.post("/money/budget", data={"id": PART.id, "total": "thirty", "per_day": "7"})
    assert answer.status_code == 400
    assert "What to do: Write an amount such as 2.50." in answer.text
    assert re.search(r'name="total" value="thirty"[^>]*aria-invalid="true"', answer.text)
    assert 'name="per_day" value="7"' in answer.text
    assert money(site).changed == []


async def test_a_part_is_cut_off_and_closed(site: Site, client: httpx.AsyncClient) -> None:
    data = {"id": "user:local", "name": "research-agent", "total": "5"}
    assert (await client.post("/money/budget/add", data=data)).headers["location"] == PART_PAGE
    assert money(site).added == [("user:local", "research-agent", {"total": "5"})]
    wrong = await client.post("/money/budget/add", data={**data, "name": "Research"})
    assert wrong.status_code == 400
    assert re.search(r'name="name"[^>]*value="Research"[^>]*aria-invalid="true"', wrong.text)
    assert (await client.post("/money/budget/close", data={"id": PART.id})).status_code == 303
    assert money(site).closed == [PART.id]


async def test_what_a_wallet_signed_has_no_form(client: httpx.AsyncClient) -> None:
    page = (await client.get(f"/money/budget?id={GRANT.id}")).text
    assert "A wallet signed these limits" in page
    assert "Save limits" not in page
    assert 'action="/money/budget/close"' not in (await client.get("/money/budget")).text  # nor the last budget of all


async def test_strangers_budgets_and_approvals_are_not_there(client: httpx.AsyncClient) -> None:
    for path in ("/money/budget?id=user%3Aeve", "/money/approval?id=grant_eve", "/money/approval"):
        assert (await client.get(path)).status_code == 404, path


async def test_forms_of_other_sites_change_nothing(site: Site, client: httpx.AsyncClient) -> None:
    for path in ("budget", "budget/add", "budget/close", "approvals", "approvals/draft", "approval/revoke", "wallets"):
        answer = await client.post(f"/money/{path}", data={"id": PART.id}, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403, path
    assert money(site).closed == []


async def test_an_approval_is_drafted_signed_and_taken_back(site: Site, client: httpx.AsyncClient) -> None:
    typed = {
        "wallet": WALLET,
        "total": "5",
        "per_payment": "",
        "per_day": "",
        "capabilities": "a.b, c.d",
        "hours": "24",
    }
    drafted = await client.post("/money/approvals/draft", data=typed)
    assert drafted.status_code == 200
    assert "OpenPaymentMandate" in drafted.text
    made = await client.post("/money/approvals", data={"document": "{}", "signature": " 0xab ", "wallet": WALLET})
    assert made.headers["location"] == f"/money/approval?id={MANDATE.grant_id}"
    assert money(site).signed == [("{}", "0xab")]
    await client.post("/money/approval/revoke", data={"id": MANDATE.grant_id})
    assert money(site).closed == [MANDATE.grant_id]


async def test_a_draft_with_a_mistake_keeps_its_fields(client: httpx.AsyncClient) -> None:
    typed = {"wallet": WALLET, "total": "", "capabilities": "a.b", "hours": "24"}
    answer = await client.post("/money/approvals/draft", data=typed)
    assert answer.status_code == 400
    assert 'value="a.b"' in answer.text
    assert re.search(r'name="total"[^>]*aria-invalid="true"', answer.text)
    forever = await client.post("/money/approvals/draft", data={**typed, "total": "5", "hours": "99999"})
    assert (forever.status_code, "Choose how long it lasts" in forever.text) == (400, True)


async def test_a_refused_signature_shows_the_document_again(site: Site, client: httpx.AsyncClient) -> None:
    money(site).refuse = InvalidInput("this is not signed by evm:0x1", next_step="sign exactly this document")
    data = {"document": '{"a": 1}', "signature": "0x", "wallet": WALLET, "scheme": "eip712", "payload": "<typed>"}
    for path in ("/money/approvals", "/money/wallets"):
        answer = await client.post(path, data=data)
        assert answer.status_code == 400
        assert "This is not signed by" in answer.text
        assert "&lt;typed&gt;" in answer.text


async def test_the_first_wallet_is_linked_by_a_form(site: Site, client: httpx.AsyncClient) -> None:
    money(site).wallets = []
    page = (await client.get("/money/approvals")).text
    assert "Link the wallet that will sign" in page
    assert "New approval" not in page
    assert "Prove the wallet is yours" in (await client.post("/money/wallets/proof", data={"wallet": "0x12"})).text
    assert (await client.post("/money/wallets/proof", data={"wallet": "zz"})).status_code == 400
    assert (await client.post("/money/wallets", data={"document": "{}", "signature": "x"})).status_code == 303


@pytest.mark.browser
async def test_limits_are_changed_without_scripts(visitor: Visitor, site: Site) -> None:
    page = await visitor.open(PART_PAGE, javascript=False)
    await page.locator("#total").fill("30")
    await page.get_by_role("button", name="Save limits").click()
    await expect(page).to_have_url(re.compile("research-agent$"))
    ((changed, limits),) = money(site).changed
    assert (changed, limits["total"], limits["per_day"]) == (PART.id, "30", "2.00")


@pytest.mark.browser
async def test_the_browsers_wallet_signs_what_is_shown(visitor: Visitor, site: Site) -> None:
    page = await visitor.open("/money/approvals")
    await page.context.add_init_script(
        f"""window.ethereum = {{ request: async ({{method, params}}) => method === "eth_requestAccounts"
            ? ["{WALLET.removeprefix("evm:").upper().replace("0X", "0x")}"] : "0x" + method + params[1].length }};"""
    )
    await page.get_by_label("At most, in all").fill("5")
    await page.get_by_role("button", name="Show what to sign").click()
    await page.get_by_role("button", name=re.compile("Sign with the browser")).click()
    await expect(page).to_have_url(re.compile("/money/approval\\?id="))
    ((document, signature),) = money(site).signed
    assert document == "{}"
    assert signature.startswith("0xeth_signTypedData_v4")


@pytest.mark.browser
@pytest.mark.parametrize(("size", "theme"), [("desktop", "dark"), ("phone", "light")])
async def test_pages_that_only_a_form_leads_to_are_accessible(
    visitor: Visitor, site: Site, size: str, theme: str
) -> None:
    page = await visitor.open("/money/approvals", size=size, theme=theme)
    await page.get_by_label("At most, in all").fill("5")
    await page.get_by_role("button", name="Show what to sign").click()
    await expect(page.get_by_role("heading", name="Sign the approval")).to_be_visible()
    assert await _violations(page) == []
    money(site).refuse = InvalidInput("this is not signed by evm:0x1", next_step="sign exactly this document")
    await page.get_by_label("Signature").fill("0x")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("alert")).to_contain_text("What to do: Sign exactly this document.")
    assert await _violations(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
