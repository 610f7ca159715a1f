"""Buying runs and months, following a purchase, what is left, passing on, running: without scripts, in every state."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from decimal import Decimal

import httpx
import pytest
from starlette.requests import Request

from agentnexus.core.errors import BudgetExceeded, Conflict, InsufficientFunds, InvalidInput, NotAllowed
from agentnexus.identity.caller import COOKIE, SIGNED_OUT
from agentnexus.marketplace.entitlements.model import RightStatus
from agentnexus.marketplace.purchases.kinds import QUANTITY_MAX, Kind
from agentnexus.marketplace.purchases.model import PurchaseState, Step
from agentnexus.web.app import pages_app
from agentnexus.web.doors import Doors
from agentnexus.web.pages.purchases import RUNS_MAX
from agentnexus.web.views.purchases import (
    KINDS,
    PURCHASE_STATES,
    RIGHT_STATES,
    Order,
    Owned,
    Passing,
    bought,
    purchase_state,
    right_state,
    steps_of,
    use_state,
)
from agentnexus.web.views.runs import Problem
from tests.web.browsing import read_form
from tests.web.conftest import Site
from tests.web.purchases_preview import (
    AGENT,
    BEGINS,
    MONTH_STATES,
    NO_WALLET,
    SHORT,
    STATES,
    THIRD,
    PreviewPurchases,
    purchase,
    use,
)
from tests.web.wallet_preview import FAUCET, HOSTILE, TRANSACTION

BUY = f"/agents/{AGENT}/buy"
MONTH = f"{BUY}?kind=period"
SUMMARIZER = "org.agentnexus.content-summarizer"
BOB = "0x" + "b0" * 20


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
        "Pay ahead for PDF extractor. What you do not use comes back.",
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
    assert purchases(site).bought == [(AGENT, Order("runs", 7), sent["key"][0])]


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
    assert set(KINDS) == {str(each) for each in Kind}


async def test_a_month_says_what_is_paid_for_what_until_when_and_what_comes_back(client: httpx.AsyncClient) -> None:
    shown = await text(client, MONTH)
    for each in (
        "You pay 3.34 USDC for the rest of this month",
        "It is yours until 6 Dec 2026, 00:00 UTC, with up to 1,000 runs.",
        '<span class="price">3.34 USDC</span><span class="note">Until 6 Dec 2026, up to 1,000 runs',
        "paid to the seller at your first run that succeeds. Until then all of it comes back when you ask for it",
        "if you never run it, by itself",
        "Nothing renews by itself. Bought again, it is the next month, for 5 USDC.",
        "A whole month is 5 USDC.",
        "Give 3 unused runs back for 0.06 USDC",
        "Your other 1 run stays yours: others hold runs of the same purchase, a run of it is under way, or you",
    ):
        assert each in shown, each
    assert f'href="{MONTH}" aria-current="true"' in shown
    assert f'href="{BUY}" aria-current="true"' in await text(client, BUY)
    assert "How many?" not in shown


async def test_the_next_month_is_bought_while_the_present_one_is_there(site: Site, client: httpx.AsyncClient) -> None:
    purchases(site).renews = True
    shown = await text(client, MONTH)
    for each in (
        "You pay 5 USDC for the next month",
        "The next one is yours from 6 Dec 2026 until 5 Jan 2027, 00:00 UTC",
        "Your 4 runs stay yours: others hold",
        "Buy the next month for 5 USDC",
    ):
        assert each in shown, each
    assert "unused run" not in shown
    purchases(site).obstacle = THIRD
    shown = await text(client, MONTH)
    assert "You have this month and the next one of it." in shown
    assert 'method="post"' not in shown[shown.index("<main") : shown.index("</main>")]


@pytest.mark.parametrize(("path", "upgrade"), [(MONTH, False), (f"{MONTH}&upgrade=1", True)])
async def test_a_month_is_bought_with_unused_runs_given_back_or_not(
    site: Site, client: httpx.AsyncClient, path: str, upgrade: bool
) -> None:
    shown = await client.get(path)
    sent = read_form(shown.text).sent
    assert ("upgrade" in sent) is upgrade
    done = await client.post(BUY, data={name: values[-1] for name, values in sent.items()})
    assert (done.status_code, done.headers["location"]) == (303, "/purchases/pur_month_signing")
    assert purchases(site).bought == [(AGENT, Order("period", 1, upgrade=upgrade), sent["key"][0])]
    assert purchases(site).told == [Decimal("3.34")]
    purchases(site).refuse = Conflict("the price has changed", next_step="look at it again")
    refused = await client.post(BUY, data={"kind": "period", "key": "k"} | ({"upgrade": "1"} if upgrade else {}))
    assert refused.status_code == 409
    assert ('name="upgrade" value="1" checked' in refused.text) is upgrade


async def test_what_is_not_sold_is_not_bought(site: Site, client: httpx.AsyncClient) -> None:
    by_run = await client.get(f"/agents/{SUMMARIZER}/buy?kind=period")
    assert by_run.status_code == 400
    assert "sold by the run only" in by_run.text
    for kind in ("year", HOSTILE[:20]):
        answer = await client.post(BUY, data={"kind": kind, "runs": "5", "key": "k"})
        assert (answer.status_code, answer.text.count("That is nothing that is sold.")) == (400, 1)
    assert purchases(site).bought == []


def test_an_order_leads_back_to_its_terms() -> None:
    orders = [Order("runs", 7), Order("period"), Order("period", upgrade=True)]
    assert [each.query for each in orders] == ["runs=7", "kind=period", "kind=period&upgrade=1"]
    assert [bought(each.kind, each.quantity) for each in (*orders[:2], Order())] == ["7 runs", "a month", "1 run"]


@pytest.mark.parametrize(
    ("obstacle", "said", "link"),
    [
        (NO_WALLET, "You have no wallet yet.", f'href="/wallet?next={BUY}?runs=5"'),
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
    sent = read_form(answer.text).sent
    assert (sent["runs"], sent["kind"]) == (["3", "3"], ["runs"])


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


async def test_the_purchase_of_a_month_says_until_when_and_how_often_it_ran(client: httpx.AsyncClient) -> None:
    said = {
        "month": ("A month of PDF extractor", "is yours until 6 Dec 2026, 00:00 UTC", "0 of 1,000", "Give the month",
                  "With up to 1,000 runs. The seller is paid at your first run that succeeds", "Run it now", "Renew"),
        "month_used": ("12 of 1,000", "Paid to the seller", "988", "The unused runs that it replaces are given"),
        "month_given": ("Passed on</span>", "You passed it on", "may run it until 6 Dec 2026, 00:00 UTC.",
                        "Nothing can be given back now: it was passed on: what nobody uses comes back on 2026-12-07."),
        "month_next": ("is yours from 6 Dec 2026 until 5 Jan 2027", "Run it as often as you like.",
                       "It can be renewed from 6 Dec 2026, 00:00 UTC."),
        "month_signing": ("A month of PDF extractor", "Do not buy", "Sign with your passkey"),
        "month_refunded": ("Your money came back", f'href="{MONTH}">Buy again', "3.34 USDC"),
    }  # fmt: skip
    assert set(said) == set(MONTH_STATES)
    for name, words in said.items():
        shown = await text(client, f"/purchases/pur_{name}")
        for each in words:
            assert each in shown, (name, each)
    assert "Give the month back" not in await text(client, "/purchases/pur_month_used")
    for name in ("month_next", "month_given"):
        assert "Run it now" not in await text(client, f"/purchases/pur_{name}"), name
    for path in ("/purchases/pur_month_next", "/purchases/pur_runs"):
        assert ">Renew<" not in (await client.get(path)).text, "it would only be refused"


@pytest.mark.parametrize(
    ("right", "label", "said"),
    [
        ("used_up", "Used up", "All of its runs are used"),
        ("passed_on", "Passed on", "Nothing of it is left for you"),
        ("expired", "Over", "It was yours until 21 Dec 2026, 09:41 UTC."),
    ],
)
async def test_what_is_not_the_buyers_any_more_is_neither_ready_nor_to_run(
    site: Site, client: httpx.AsyncClient, right: str, label: str, said: str
) -> None:
    state = purchase_state("completed", "entitled", right)
    made = replace(purchase("completed"), right=right, state=state, runs_left=0, runs_used=3, passed_on=2)
    purchases(site).purchases["pur_completed"] = made
    shown = await text(client, "/purchases/pur_completed")
    for each in (f">{label}</span>", said, "Buy more"):
        assert each in shown, each
    for each in ("Run it now", "are yours", "is yours"):
        assert each not in shown, each
    assert ("3 runs used, 2 runs passed on." in shown) is (right == "passed_on")


async def test_money_that_cannot_be_given_back_says_why(site: Site, client: httpx.AsyncClient) -> None:
    made = replace(purchase("completed"), refundable=False, blocked="1 of its runs was passed on", passed_on=1)
    purchases(site).purchases["pur_completed"] = made
    shown = await text(client, "/purchases/pur_completed")
    assert "Nothing can be given back now: 1 of its runs was passed on." in shown
    assert "/refund" not in shown
    assert '<a href="/purchases/pur_locked">0.02 USDC</a> of it cannot be given back now' in await text(
        client, "/entitlements"
    )


async def test_who_has_runs_already_is_told_before_buying_more(site: Site, client: httpx.AsyncClient) -> None:
    assert "You have 3 runs of it already." in await text(client, BUY)
    purchases(site).has = Owned(sold=True)
    assert "of it already" not in await text(client, BUY)


async def test_a_visitor_without_a_wallet_may_sign_in_and_comes_back_to_the_terms(
    site: Site, client: httpx.AsyncClient
) -> None:
    purchases(site).obstacle = NO_WALLET
    shown = await text(client, f"{BUY}?runs=7")
    assert f'href="/connect?next={BUY}%3Fruns%3D7">Sign in</a>' in shown
    assert f'data-next="{BUY}?runs=7"' in await text(client, f"/connect?next={BUY}%3Fruns%3D7")
    known = await client.get(BUY, headers={"Cookie": f"{COOKIE}=some-session"})
    assert "Make a wallet" in known.text
    assert ">Sign in</a>" not in known.text[known.text.index("<main") :]


async def test_runs_that_were_passed_on_are_counted(site: Site, client: httpx.AsyncClient) -> None:
    purchases(site).purchases["pur_completed"] = replace(purchase("completed"), passed_on=2, runs_used=1)
    shown = await text(client, "/purchases/pur_completed")
    assert "<dt>Passed on</dt><dd>2 runs</dd>" in shown
    assert "<dt>Runs used</dt><dd>1</dd>" in shown


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
    places = ("/purchases/pur_completed/refund", "/purchases/pur_signing/signature", f"/entitlements/{AGENT}/pass-on")
    for path in (BUY, f"/agents/{AGENT}/run", *places):
        answer = await client.post(path, data={"runs": "1"}, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403, path
    assert (purchases(site).bought, purchases(site).refunded, purchases(site).signed) == ([], [], [])
    assert purchases(site).passed == []


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
    for each in (
        "What you bought",
        "3 runs left",
        "2 of 5 runs used.",
        "1 under way.",
        "0.06 USDC held in escrow until 21 Dec 2026",
        "Buy more",
        "Get money back",
        f'href="{BUY}?kind=period&upgrade=1">Upgrade to a month',
        "Until 6 Dec 2026",
        "A month, until 6 Dec 2026, 00:00 UTC.",
        "It can be renewed from 6 Dec 2026, 00:00 UTC.",
        "12 of 1,000 runs used.",
        "From 6 Dec 2026",
        "5 USDC held in escrow until 5 Jan 2027: not run yet, so all of it can come back.",
        "5 of 5 runs used",
        "A month until 21 Nov 2026: 1 run so far",
    ):
        assert each in shown, each
    assert shown.index('id="over"') < shown.index("Used up</span>")
    assert ">Renew<" not in shown, "the next month is theirs as well"
    assert shown.count("Run<span") == 2, "what has not begun, is over or not for sale cannot be run"
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
    for each in (
        f'<a class="button" href="{BUY}">Buy runs</a>',
        f'<a class="button" href="{BUY}?kind=period">Have it for a month: 5 USDC</a>',
    ):
        assert each in await text(client, f"/agents/{AGENT}")
    assert "kind=period" not in await text(client, f"/agents/{SUMMARIZER}"), "it is sold by the run only"
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
    done = await client.post(f"/agents/{SUMMARIZER}/run", data=data)
    assert (done.status_code, done.headers["location"]) == (303, "/uses/use_running"), done.text
    assert purchases(site).ran == [(SUMMARIZER, {"text": "A long text."})]
    assert site.runs.ran == []
    purchases(site).refuse = Conflict("the 1 runs you have left are all under way", next_step="wait until one ended")
    refused = await client.post(f"/agents/{SUMMARIZER}/run", data=data)
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


async def test_an_agent_that_is_ones_own_for_a_month_runs_without_a_price(
    site: Site, client: httpx.AsyncClient
) -> None:
    purchases(site).has = Owned(sold=True, until=BEGINS, month_runs_left=988, runs_left=1)
    shown = await text(client, f"/agents/{AGENT}")
    assert "Run: yours until 6 Dec 2026" in shown
    assert "988 runs left until then. Your 1 single run stays for later." in shown
    assert 'value="entitled">Run on what you bought' in shown, "for those who send JSON as well"
    assert '5 USDC<span class="note"> a month' in await text(client, "/marketplace")
    purchases(site).has = Owned(sold=True, until=BEGINS)
    assert "As many runs as you like." in await text(client, f"/agents/{AGENT}")
    used = await text(client, "/uses/use_month")
    for each in ("in your month", "Yours until</dt><dd>6 Dec 2026", "Runs left</dt><dd>987"):
        assert each in used, each
    purchases(site).uses["use_failed"] = replace(use("failed"), month=True)
    assert "Nothing was paid, and it does not count." in await text(client, "/uses/use_failed")


async def test_running_again_begins_with_what_was_sent_where_that_is_known(
    site: Site, client: httpx.AsyncClient
) -> None:
    assert f'href="/agents/{AGENT}?use=use_failed#run"' in await text(client, "/uses/use_failed")
    purchases(site).given["use_failed"] = {"text": "What I typed."}
    known = await text(client, f"/agents/{SUMMARIZER}?use=use_failed")
    assert "What I typed.</textarea>" in known
    assert "is not kept" not in known
    assert "What you sent with that run is not kept" in await text(client, f"/agents/{SUMMARIZER}?use=use_other")
    assert "is not kept" not in await text(client, f"/agents/{SUMMARIZER}")


async def test_runs_are_passed_on_by_an_operation_of_the_wallet(site: Site, client: httpx.AsyncClient) -> None:
    shown = await client.get("/entitlements")
    assert shown.text.count("/pass-on") == 3, "where the agent allows it"
    assert [re.findall(r'name="token_id" value="(\d+)"', shown.text)] == [["71", "72"]], "of that very month"
    place = f"/entitlements/{AGENT}/pass-on"
    asked = await client.post(place, data={"kind": "runs", "to": BOB, "count": "2", "key": "k"})
    assert asked.status_code == 200
    for each in (
        "Pass 2 runs of PDF extractor on?",
        "For good, to 0xb0b0…b0b0",
        BOB,
        "The rest of this purchase cannot be given back while others hold runs of it",
        "comes back to you by itself on 5 Jan 2027",
        "needs a wallet on this node with this address",
    ):
        assert each in html.unescape(asked.text), each
    assert purchases(site).passed == []
    sent = read_form(asked.text).sent
    done = await client.post(place, data={name: values[-1] for name, values in sent.items()})
    assert (done.status_code, done.headers["location"]) == (303, "/wallet/operations/op_unsigned")
    assert purchases(site).passed == [(AGENT, Passing("runs", BOB, 2, "k"))]
    month = {"kind": "period", "to": BOB, "count": "1", "key": "m", "token_id": "72"}
    assert "Its money cannot be given back then" in (await client.post(place, data=month)).text
    await client.post(place, data=month | {"sure": "1"})
    assert purchases(site).passed[1:] == [(AGENT, Passing("period", BOB, 1, "m", 72))]


@pytest.mark.parametrize(("to", "count", "said"), [("0xnobody", "2", "no address"), (BOB, "none", "no number of runs")])
async def test_passing_on_is_refused_beside_what_was_typed(
    site: Site, client: httpx.AsyncClient, to: str, count: str, said: str
) -> None:
    purchases(site).refuse = InvalidInput("that is no address", next_step="paste it again")
    answer = await client.post(
        f"/entitlements/{AGENT}/pass-on", data={"kind": "runs", "to": to, "count": count, "key": "k"}
    )
    assert answer.status_code == 400
    assert said in answer.text
    assert 'class="fold" open' in answer.text
    assert f'value="{to}"' in answer.text
    assert f'value="{count}"' in answer.text
    assert purchases(site).passed == []


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
    for status in RightStatus:
        assert right_state(str(status)).label in {label for label, _ in RIGHT_STATES.values()}
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
