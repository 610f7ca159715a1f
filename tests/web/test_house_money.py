"""The money pages over the real ledger: typed limits hold, a wallet's signature opens an approval, uses are listed."""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
import pytest
from eth_account.messages import encode_typed_data
from starlette.requests import Request

from agentnexus.core.clock import ManualClock, TimeOrderedIds
from agentnexus.core.errors import BudgetExceeded
from agentnexus.ledger.books import Books
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.outlook import Outlook
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.platform.database import Database
from agentnexus.platform.signing import Ed25519Signer
from agentnexus.rails.solana.base58 import encode
from agentnexus.web.adapters.money import HouseMoney
from agentnexus.web.app import pages_app
from agentnexus.web.doors import Doors
from tests.ledger.conftest import SELLER, USDC, WALLET, usdc
from tests.ledger.wallets import OWNER, OWNER_ID, SOLANA, grants_of
from tests.web.preview import preview_app


@dataclass
class House:
    books: Books
    client: httpx.AsyncClient
    clock: ManualClock

    async def get(self, path: str) -> str:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return html.unescape(answer.text)

    async def post(self, path: str, **data: str) -> httpx.Response:
        return await self.client.post(path, data=data)

    async def sign(self, page: httpx.Response, signature: str | None = None) -> httpx.Response:
        """Send the form of the page that shows what to sign, signed."""
        text = page.text
        document = html.unescape(_found(r'name="document" value="([^"]*)"', text))
        payload = html.unescape(_found(r'<pre class="code code-wrap"[^>]*>(.*?)</pre>', text))
        if signature is None and 'data-sign="eip712"' in text:
            message = encode_typed_data(full_message=json.loads(payload))
            signature = "0x" + OWNER.sign_message(message).signature.hex()
        elif signature is None:
            signature = encode(await SOLANA.sign(payload.encode()))
        action = "/money/wallets" if 'action="/money/wallets"' in text else "/money/approvals"
        return await self.post(action, document=document, signature=signature, payload=payload)

    async def pay(self, key: str, amount: str, budget: str = "user:ann") -> None:
        await self.books.reserve(
            key, budget_id=budget, payer_account=WALLET, payee_account=SELLER, amount=usdc(amount),
            seller="evm:0xbb", capability="pdf.extract", rail="evm",
        )  # fmt: skip
        await self.books.capture(key)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.DOTALL)
    assert match, text
    return match.group(1)


@pytest.fixture
async def house(database: Database, clock: ManualClock) -> AsyncIterator[House]:
    async with Books(database, clock) as books:
        await books.deposit("d", WALLET, usdc("100"))

        async def ann(_request: Request) -> str:
            return "ann"

        money = HouseMoney(
            PersonalBudgets(books, USDC), Economics(database, USDC), grants_of(books, clock),
            outlook=Outlook(database, clock), clock=clock, ids=TimeOrderedIds(clock),
        )  # fmt: skip
        doors: Doors = preview_app().routes[0].app.app.state.doors  # type: ignore[attr-defined]  # a Mount
        app = pages_app(replace(doors, money=money, user=ann, asset=USDC))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pages") as client:
            yield House(books, client, clock)


async def test_limits_typed_into_the_page_hold(house: House) -> None:
    page = await house.get("/money/budget")
    assert 'name="per_day" value="50.00"' in page
    answer = await house.post("/money/budget", id="user:ann", per_day="0.50", per_payment="", total="3")
    assert answer.status_code == 303
    await house.pay("a", "0.4")
    page = await house.get("/money/budget")
    assert "0.10 USDC left of 0.50 USDC" in page
    assert "2.60 USDC left of 3.00 USDC" in page
    assert "0.40 USDC more at 00:00 UTC" in page
    assert 'aria-label="Left of the total: from 3.00 USDC to 2.60 USDC on 2026-11-20"' in page
    with pytest.raises(BudgetExceeded):
        await house.pay("b", "0.2")
    below = await house.post("/money/budget", id="user:ann", total="0.1")
    assert below.status_code == 400
    assert "has used more than that total" in below.text


async def test_a_part_stands_in_the_tree_below_what_it_was_cut_from(house: House) -> None:
    await house.get("/money")
    await house.post("/money/budget/add", id="user:ann", name="agent", total="0.5", per_day="")
    await house.pay("a", "0.1", "user:ann/agent")
    overview = await house.get("/money")
    assert re.search(r'class="depth-1">\s*<a href="/money/budget\?id=user%3Aann/agent">agent</a>', overview)
    assert "In all: 0.40 USDC of 0.50 USDC left" in overview
    assert overview.count("0.10 USDC spent") == 2  # in the part, and in the whole
    again = await house.post("/money/budget/add", id="user:ann", name="agent", total="9", per_day="")
    assert again.status_code == 409
    await house.post("/money/budget/close", id="user:ann/agent")
    with pytest.raises(BudgetExceeded):
        await house.pay("b", "0.1", "user:ann/agent")
    assert (await house.post("/money/budget/close", id="user:ann")).status_code == 400


@pytest.mark.parametrize("wallet", [OWNER.address, encode(bytes.fromhex(SOLANA.public_id[8:]))], ids=["evm", "solana"])
async def test_from_a_wallet_to_an_approval_to_its_uses_to_its_end(house: House, wallet: str) -> None:
    linked = await house.sign(await house.post("/money/wallets/proof", wallet=wallet))
    assert linked.headers["location"] == "/money/approvals"
    stored = _found(r'<option value="((?:evm|ed25519):[^"]+)"', await house.get("/money/approvals"))
    typed = {"wallet": stored, "total": "2", "per_payment": "0.5", "per_day": "", "hours": "24"}
    drafted = await house.post("/money/approvals/draft", **typed, capabilities="pdf.extract")
    assert "<dt>One payment</dt><dd>0.50 USDC</dd>" in drafted.text
    assert (await house.sign(drafted, "0x" + "11" * 65)).status_code == 403
    made = await house.sign(drafted)
    assert made.status_code == 303
    grant_id = made.headers["location"].partition("id=")[2]
    await house.books.budgets.create("workflow:wf_7", parent=grant_id)
    await house.pay("k", "0.25", "workflow:wf_7")
    page = await house.get(f"/money/approval?id={grant_id}")
    assert "1.75 USDC left of 2.00 USDC" in page
    assert 'href="/tasks/wf_7">pdf.extract</a>' in page
    assert (await house.post("/money/approval/revoke", id=grant_id)).status_code == 303
    assert "Closed" in await house.get("/money/approvals")
    with pytest.raises(BudgetExceeded):
        await house.pay("late", "0.1", "workflow:wf_7")


async def test_a_document_changed_on_the_way_is_refused(house: House) -> None:
    await house.sign(await house.post("/money/wallets/proof", wallet=OWNER.address))
    typed = {"wallet": OWNER_ID, "total": "2", "per_payment": "", "per_day": "", "hours": "24", "capabilities": ""}
    drafted = await house.post("/money/approvals/draft", **typed)
    document = json.loads(html.unescape(_found(r'name="document" value="([^"]*)"', drafted.text)))
    document["constraints"][0]["max"] = "2000"
    for changed in (json.dumps(document), "{}", "[]", "not json"):
        answer = await house.post("/money/approvals", document=changed, signature="0x" + "11" * 65)
        assert answer.status_code in (400, 403), changed
    assert "No approvals yet" in await house.get("/money/approvals")


async def test_a_proof_for_somebody_else_links_nothing(house: House) -> None:
    eve = Ed25519Signer.from_seed(b"\x09" * 32)
    shown = await house.post("/money/wallets/proof", wallet=encode(bytes.fromhex(eve.public_id[8:])))
    document = json.loads(html.unescape(_found(r'name="document" value="([^"]*)"', shown.text)))
    document["owner"] = "eve"
    answer = await house.post("/money/wallets", document=json.dumps(document), signature="x")
    assert (answer.status_code, "for somebody else" in answer.text) == (400, True)


async def test_the_overview_adds_up(house: House) -> None:
    await house.get("/money")
    await house.pay("a", "0.4")
    house.clock.advance(86_400)
    await house.pay("b", "0.2")
    week = await house.get("/money?days=7")
    assert "0.60 USDC" in week
    assert week.count("<title>") == 3  # the page's own, and two days with payments
    assert "2 payments, 0.30 USDC on average" in week
    house.clock.advance(86_400 * 7)
    assert "Nothing was spent in these days." in await house.get("/money?days=7")
    assert "0.60 USDC" in await house.get("/money?days=30")
