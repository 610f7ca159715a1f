"""Buying runs, following a purchase, what is left of it, and running with it: forms without scripts, every state."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from decimal import Decimal

import httpx
import pytest
from starlette.requests import Request

from agentnexus.core.errors import BudgetExceeded, Conflict, InsufficientFunds, NotAllowed
from agentnexus.identity.caller import SIGNED_OUT
from agentnexus.marketplace.purchases.model import QUANTITY_MAX, PurchaseState, Step
from agentnexus.web.app import pages_app
from agentnexus.web.doors import Doors
from agentnexus.web.pages.purchases import RUNS_MAX
from agentnexus.web.views.purchases import PURCHASE_STATES, Owned, purchase_state, steps_of, use_state
from agentnexus.web.views.runs import Problem
from tests.web.browsing import read_form
from tests.web.conftest import Site
from tests.web.purchases_preview import AGENT, NO_WALLET, SHORT, STATES, PreviewPurchases, purchase, use
from tests.web.wallet_preview import FAUCET, HOSTILE, TRANSACTION

BUY = f"/agents/{AGENT}/buy"


def purchases(site: Site) -> PreviewPurchases:
    found: PreviewPurchases = site.app.state.purchases
    return found


async def text(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


async def test_the_terms_say_in_one_sentence_what_is_paid_held_and_given_back(client: httpx.AsyncClient) -> None:
    shown = await text(client, BUY)
    for each in (
        "You pay 0.1 USDC for 5 runs",
        "It is held in escrow. Each run that succeeds pays the seller 0.02 USDC; a run that fails costs nothing.",
        "What you do not use comes back: when you ask for it, or by itself after 30 days.",
        "0.02 USDC</dt>",
        "paid by AgentNexus (0.19 ETH left today)",
        "the seller pays it, not you",
        "Your wallet holds",
        "24.8 USDC",
        "Next, your passkey signs it.",
    ):
        assert each in shown, each


async def test_runs_are_bought_once_per_form(site: Site, client: httpx.AsyncClient) -> None:
    sent = read_form((await client.get(f"{BUY}?runs=7")).text).sent
    assert sent["runs"] == ["7", "7"]  # the field for another number, and what is bought
    done = await client.post(BUY, data={"runs": "7", "key": sent["key"][0]})
    assert (done.status_code, done.headers["location"]) == (303, "/purchases/pur_signing")
    assert purchases(site).bought == [(AGENT, 7, sent["key"][0])]


async def test_what_was_shown_is_the_most_that_is_paid(site: Site, client: httpx.AsyncClient) -> None:
    sent = read_form((await client.get(BUY)).text).sent
    assert sent["at_most"] == ["0.1"]
    for told, most in (("0.1", Decimal("0.1")), ("", None), ("much", None)):
        await client.post(BUY, data={"runs": "5", "key": "k", "at_most": told})
        assert purchases(site).told[-1] == most


@pytest.mark.parametrize("runs", ["0", "-1", "1001", "1.5", "many", "9" * 20, "\u0661", HOSTILE[:20]])
async def test_what_is_no_number_of_runs_buys_nothing(site: Site, client: httpx.AsyncClient, runs: str) -> None:
    for answer in (
        await client.get(BUY, params={"runs": runs}),
        await client.post(BUY, data={"runs": runs, "key": "k"}),
    ):
        assert answer.status_code == 400
        assert "That is no number of runs." in answer.text
        assert 'aria-invalid="true"' in answer.text
        assert HOSTILE[:20] not in answer.text
    assert purchases(site).bought == []


def test_the_page_takes_as_many_runs_as_the_room_sells() -> None:
    assert RUNS_MAX == QUANTITY_MAX


@pytest.mark.parametrize(
    ("obstacle", "said", "link"),
    [
        (NO_WALLET, "You have no wallet yet.", 'href="/wallet"'),
        (SHORT, "The wallet holds 0.05 USDC, and this costs 0.1 USDC.", 'href="/wallet#receive"'),
    ],
)
async def test_what_stands_in_the_way_is_said_before_the_button(
    site: Site, client: httpx.AsyncClient, obstacle: Problem, said: str, link: str
) -> None:
    purchases(site).obstacle = obstacle
    shown = await text(client, BUY)
    assert said in shown
    assert link in shown
    assert (FAUCET in shown) is (obstacle is SHORT)
    assert "You pay 0.1 USDC for" not in shown
    assert f'action="{BUY}" method="post"' not in shown


async def test_without_contracts_nothing_is_sold_and_it_is_said(site: Site, client: httpx.AsyncClient) -> None:
    purchases(site).sold = False
    for path in (BUY, "/entitlements"):
        shown = await text(client, path)
        assert "sells no runs there" in shown
        assert "nexus contracts deploy" in shown
        assert f'action="{BUY}"' not in shown
    assert "You pay" not in await text(client, BUY)


@pytest.mark.parametrize(
    "refusal",
    [
        InsufficientFunds("the wallet holds too little", next_step="add USDC"),
        BudgetExceeded("your budget has 0.01 USDC left", next_step="raise it at /money/budget"),
        NotAllowed("AgentNexus does not pay the gas of this", next_step="try again tomorrow"),
        Conflict("the agent is not for sale any more", next_step="choose another one"),
    ],
)
async def test_a_refused_purchase_says_why_and_keeps_the_number(
    site: Site, client: httpx.AsyncClient, refusal: Conflict
) -> None:
    purchases(site).refuse = refusal
    answer = await client.post(BUY, data={"runs": "3", "key": "k"})
    assert answer.status_code == refusal.http_status
    assert html.escape(refusal.next_step[1:]) in answer.text
    assert read_form(answer.text).sent["runs"] == ["3", "3"]


async def test_an_agent_that_is_not_there_sells_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/agents/org.example.none/buy")).status_code == 404


@pytest.mark.parametrize("name", list(STATES))
async def test_a_purchase_says_how_far_it_is(client: httpx.AsyncClient, name: str) -> None:
    shown = await text(client, f"/purchases/pur_{name}")
    assert purchase(name).state.label in shown
    assert ("Sign with your passkey" in shown) is (name == "signing")
    assert ("hx-sse:connect" in shown) is (name not in ("completed", "failed", "refunded"))
    assert ("Give back what is left" in shown) is (name == "completed")
    assert ("Do not buy" in shown) is (name == "signing")
    assert ("Run it now" in shown) is (name == "completed")
    assert (TRANSACTION in shown) is (name in ("confirmed", "completed", "refunding", "refunded"))


async def test_what_ended_badly_says_where_the_money_is(client: httpx.AsyncClient) -> None:
    assert "Nothing was paid." in await text(client, "/purchases/pur_failed")
    refunded = await text(client, "/purchases/pur_refunded")
    assert "The agent is not for sale any more." in refunded
    assert "is in your wallet again" in refunded


async def test_a_signature_is_sent_and_a_wrong_one_is_refused(site: Site, client: httpx.AsyncClient) -> None:
    purchases(site).refuse = NotAllowed("this is not the wallet's passkey", next_step="sign again")
    data = {"signature": "c2ln", "authenticator_data": "YXV0aA", "client_data": "e30"}
    refused = await client.post("/purchases/pur_signing/signature", data=data)
    assert refused.status_code == 403
    assert "Sign with your passkey" in refused.text
    purchases(site).refuse = None
    done = await client.post("/purchases/pur_signing/signature", data=data)
    assert (done.status_code, done.headers["location"]) == (303, "/purchases/pur_signing")
    (signed,) = purchases(site).signed
    assert (signed.authenticator_data, signed.client_data) == ("YXV0aA", "e30")
    assert "On its way" in await text(client, "/purchases/pur_signing")


async def test_the_rest_is_given_back_or_it_is_said_why_not(site: Site, client: httpx.AsyncClient) -> None:
    purchases(site).refuse = Conflict("a run of it is under way", next_step="wait until it has ended")
    refused = await client.post("/purchases/pur_completed/refund")
    assert refused.status_code == 409
    assert "A run of it is under way." in refused.text
    purchases(site).refuse = None
    done = await client.post("/purchases/pur_completed/refund")
    assert done.headers["location"] == "/purchases/pur_completed"
    assert purchases(site).refunded == ["pur_completed"]


async def test_strangers_and_other_sites_find_nothing(site: Site, client: httpx.AsyncClient) -> None:
    for path in ("/purchases/pur_nobody", "/purchases/pur_nobody/live", "/uses/use_nobody", "/uses/use_nobody/live"):
        assert (await client.get(path)).status_code == 404, path
    for path in (BUY, "/purchases/pur_completed/refund", "/purchases/pur_signing/signature", f"/agents/{AGENT}/run"):
        answer = await client.post(path, data={"runs": "1"}, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403, path
    assert (purchases(site).bought, purchases(site).refunded, purchases(site).signed) == ([], [], [])


async def test_the_live_page_brings_every_panel_and_the_end(client: httpx.AsyncClient) -> None:
    answer = await client.get("/purchases/pur_completed/live")
    for panel in ("head", "problem", "signing", "way", "facts"):
        assert f'id="live-{panel}"' in answer.text
    assert answer.text.endswith("event: end\ndata: done\n\n")


async def test_texts_of_sellers_are_only_text(site: Site, client: httpx.AsyncClient) -> None:
    shown = replace(purchase("failed"), agent_name=HOSTILE, problem=Problem(HOSTILE, HOSTILE, ""), agent_id=HOSTILE)
    purchases(site).purchases["pur_failed"] = shown
    purchases(site).uses["use_failed"] = replace(use("failed"), agent_name=HOSTILE, agent_id=HOSTILE)
    for path in ("/purchases/pur_failed", "/uses/use_failed", "/purchases/pur_failed/live"):
        assert HOSTILE not in (await client.get(path)).text, path


async def test_entitlements_show_what_is_left_and_where_it_goes_back(site: Site, client: httpx.AsyncClient) -> None:
    shown = await text(client, "/entitlements")
    for each in ("3 runs left", "1 under way.", "0.06 USDC held in escrow until 21 Dec 2026", "Buy more"):
        assert each in shown, each
    gone = shown[shown.index("Gone agent") :]
    assert "Not for sale any more: give the runs back." in gone
    assert "/agents/org.example.gone" not in shown
    assert 'href="/entitlements?before=more#purchases"' in shown
    assert '<a href="/uses/use_completed">' in shown
    purchases(site).left = replace(purchases(site).left, entitlements=(), purchases=(), uses=(), older="")
    empty = await text(client, "/entitlements")
    assert "You have no runs yet." in empty
    assert "Nothing bought yet." in empty
    assert 'id="uses"' not in empty


async def test_an_agents_page_sells_runs_or_takes_the_ones_that_are_owned(
    site: Site, client: httpx.AsyncClient
) -> None:
    owned = await text(client, f"/agents/{AGENT}")
    assert "Run with your 3 runs left" in owned
    assert 'button-main button-large" name="_run" value="entitled">' in owned, "paying again is not the main way"
    assert owned.index('value="entitled"') < owned.index('name="_run" value="1"')
    purchases(site).has = Owned(sold=True)
    assert f'<a class="button" href="{BUY}">Buy runs</a>' in await text(client, f"/agents/{AGENT}")
    purchases(site).has = Owned()
    assert BUY not in await text(client, f"/agents/{AGENT}")


async def test_whoever_is_not_signed_in_sees_the_agent_and_is_asked_who_they_are_when_they_buy(site: Site) -> None:
    async def nobody(_request: Request) -> str:
        raise NotAllowed("sign in first", reason=SIGNED_OUT)

    purchases(site).has = Owned(sold=True)
    doors: Doors = site.app.routes[0].app.app.state.doors  # type: ignore[attr-defined]  # the one mount
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(pages_app(replace(doors, user=nobody))), base_url="http://node"
    ) as stranger:
        shown = await stranger.get(f"/agents/{AGENT}")
        assert shown.status_code == 200
        assert BUY in shown.text
        for path in (BUY, "/wallet", "/entitlements", "/purchases/pur_completed", "/uses/use_completed"):
            asked = await stranger.get(path, headers={"Accept": "text/html"})
            assert (asked.status_code, asked.headers["location"][:14]) == (303, "/connect?next="), path
            assert (await stranger.get(path, headers={"Accept": "application/json"})).status_code == 403, path


async def test_a_run_that_is_owned_starts_with_the_same_form(site: Site, client: httpx.AsyncClient) -> None:
    data = {"_key": "k", "_run": "entitled", "in/text": "A long text.", "_json": '{"text": "A long text."}'}
    agent = "org.agentnexus.content-summarizer"
    done = await client.post(f"/agents/{agent}/run", data=data)
    assert (done.status_code, done.headers["location"]) == (303, "/uses/use_running"), done.text
    assert purchases(site).ran == [(agent, {"text": "A long text."})]
    assert site.runs.ran == []
    purchases(site).refuse = Conflict("the 1 runs you have left are all under way", next_step="wait until one ended")
    refused = await client.post(f"/agents/{agent}/run", data=data)
    assert refused.status_code == 409
    assert "are all under way." in refused.text


async def test_a_run_shows_its_result_and_what_was_paid(client: httpx.AsyncClient) -> None:
    shown = await text(client, "/uses/use_completed")
    for each in ("Done", "0.02 USDC", "Runs left", TRANSACTION, "What the report says"):
        assert each in shown, each
    saved = await client.get("/uses/use_completed/result.json")
    assert saved.headers["content-disposition"] == 'attachment; filename="result.json"'
    (pointer, *_) = re.findall(r'href="/uses/use_completed/file\?at=([^"]+)"', shown)
    file = await client.get(f"/uses/use_completed/file?at={pointer}")
    assert file.status_code == 200
    assert file.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert (await client.get("/uses/use_running/result.json")).status_code == 404


async def test_a_run_that_failed_costs_nothing_and_says_so(client: httpx.AsyncClient) -> None:
    shown = await text(client, "/uses/use_failed")
    assert "The agent cannot read this file." in shown
    assert "Nothing was paid, and the run is still yours." in shown
    live = await client.get("/uses/use_failed/live")
    assert live.text.endswith("event: end\ndata: done\n\n")


def test_every_state_of_the_room_has_its_words() -> None:
    for state in PurchaseState:
        for step in Step:
            shown = purchase_state(str(state), str(step))
            assert shown.label in {label for label, _ in PURCHASE_STATES.values()}
            assert shown.tone
            way = steps_of(str(state), str(step), asks=True)
            assert len(way) >= 1
            assert sum(each.tone in ("busy", "wait") for each in way) <= 1
    assert use_state("running").tone == "busy"
    assert use_state("new kind").label == "New kind"


def test_the_way_of_a_purchase_is_walked_step_by_step() -> None:
    tones = {
        step: "".join(each.tone[:1] or "-" for each in steps_of("processing", step, asks=True))
        for step in ("", "reviewed", "signing", "sent", "confirmed")
    }
    assert tones == {"": "b----", "reviewed": "db---", "signing": "dw---", "sent": "dddb-", "confirmed": "ddddb"}
    assert [each.tone for each in steps_of("completed", "entitled", asks=True)] == ["done"] * 5
    assert steps_of("processing", "signing", asks=False)[1].tone == "busy"
    assert [each.label for each in steps_of("failed", "ended", asks=True)] == ["Failed"]
    assert steps_of("refunded", "ended", asks=True)[-1].label == "Refunded"
    assert steps_of("processing", "refunding", asks=True)[-1].label == "Coming back"
